"""Fields of a strategy's YAML for what cross-validation does beside its own fits: each costs more of them.

Lives here: the form of `diagnostics`, and research's own type made of it. Does not live here: the fits (`research.overfitting`).
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg
from pydantic import Field, field_validator

from hf_pipelines.components.extras import EXPLAIN, lacks_shap
from hf_pipelines.components.strategy_fields import LearnerSpec
from hf_pipelines.research.explanations.importance import Importance
from hf_pipelines.research.overfitting import Diagnostics, default_score, scores_of
from hf_pipelines.research.overfitting.signs import LEAST_PERMUTATIONS
from hf_pipelines.research.targets import Target
from hf_pipelines.resources.ranges import ranged

MOST_PERMUTATIONS = 1_000
MOST_POINTS = 50


class ValidationCurveSpec(dg.Model, dg.Resolvable):
    """A parameter of the learner, and the values to try beside its own."""

    parameter: str = Field(description="Name of a parameter of the learner.")
    values: Sequence[Any] = Field(description="1 to 50 different values, tried beside the learner's own.")

    @field_validator("values")
    @classmethod
    def _check_values(cls, values: Sequence[Any]) -> Sequence[Any]:
        if not 1 <= len(values) <= MOST_POINTS or any(each in values[:at] for at, each in enumerate(values)):
            raise ValueError(f"must be 1 to {MOST_POINTS} different ones, was {list(values)!r:.60}.")
        return values


class ImportanceSpec(dg.Model, dg.Resolvable):
    """What features are worth to the predictions of test folds, beside gains, which cost nothing."""

    repeats: int = Field(
        default=5, description="Permutations of each feature, and of each cluster of correlated features; 0: none."
    )
    correlation: float = Field(
        default=0.7, description="Size of Spearman's correlation from which features are permuted together too."
    )
    rows: int = Field(
        default=1_000,
        description="Test rows of each fold whose contributions are averaged, at most, 40 where they are sampled; 0: none.",
    )

    _repeats = ranged("repeats", low=0, high=1_000)
    _correlation = ranged("correlation", low=0.0, high=1.0)
    _rows = ranged("rows", low=0, high=1_000_000)


class DiagnosticsSpec(dg.Model, dg.Resolvable):
    """What is asked for beside the scores of the folds; nothing by default."""

    score: str | None = Field(
        default=None,
        description="Score of the gaps and curves; left out: accuracy, or information_coefficient of a return.",
    )
    permutations: int = Field(
        default=0,
        description="Fits of each fold on permuted labels, beside which the gap is judged; 0, or 19 to 1,000.",
    )
    learning_curve: Sequence[float] = Field(
        default_factory=list,
        description="Shares of each fold's training sessions, above 0 and below 1; all of them are a point anyhow.",
    )
    validation_curve: ValidationCurveSpec | None = Field(
        default=None, description="Scores over values of a parameter of the learner."
    )
    importance: ImportanceSpec | None = Field(
        default=None, description="What features are worth to the predictions of test folds; predictions, and no fits."
    )

    @field_validator("permutations")
    @classmethod
    def _check_permutations(cls, permutations: int) -> int:
        if permutations and not LEAST_PERMUTATIONS <= permutations <= MOST_PERMUTATIONS:
            raise ValueError(
                f"must be 0, or from {LEAST_PERMUTATIONS} to {MOST_PERMUTATIONS:,}, was {permutations}; of fewer no gap is "
                "among the 5 % largest."
            )
        return permutations

    @field_validator("learning_curve")
    @classmethod
    def _check_shares(cls, shares: Sequence[float]) -> Sequence[float]:
        is_right = all(0.0 < each < 1.0 for each in shares) and len(set(shares)) == len(shares) <= MOST_POINTS
        if not is_right:
            raise ValueError(
                f"must be at most {MOST_POINTS} different shares above 0 and below 1, was {list(shares)!r:.60}; all sessions are a "
                "point anyhow."
            )
        return shares

    def plan(self, learner: LearnerSpec, target: Target) -> Diagnostics:
        """What it asks for, checked against the learner and the target.

        Raises
        ------
        ValueError
            If the target has no such score, the learner no such parameter, or not such a value of it.
        """
        scores = scores_of(target)
        if self.score is not None and self.score not in scores:
            raise ValueError(
                f"`diagnostics.score` must be one of {', '.join(scores)} for target {target.name!r}, was {self.score}."
            )
        asked = Diagnostics(
            score=self.score or default_score(target),
            permutations=self.permutations,
            train_shares=tuple(sorted(self.learning_curve)),
        )
        return self._with_curve(asked, learner)

    def plan_importance(self, learner: LearnerSpec, target: Target, *, read: str) -> Importance | None:
        """What it asks for beside gains.

        Raises
        ------
        ValueError
            If features are read in batches, or contributions need a library that is not installed.
        """
        asked = self.importance
        if asked is None:
            return None
        if read == "batches":
            raise ValueError(
                "`training.read` must be whole for `diagnostics.importance`, which needs all features in memory, was batches; leave it "
                "out, or read the matrix whole."
            )
        if asked.rows and lacks_shap(learner.choice()):
            raise ValueError(
                f"`diagnostics.importance.rows` must be 0 where shap is not installed, was {asked.rows}: contributions of "
                f'{learner.type} need it; install the extra: pip install "hf_pipelines[{EXPLAIN.name}]".'
            )
        score = self.score or default_score(target)
        return Importance(score, repeats=asked.repeats, correlation=asked.correlation, rows=asked.rows)

    def _with_curve(self, asked: Diagnostics, learner: LearnerSpec) -> Diagnostics:
        curve, choice = self.validation_curve, learner.choice()
        if curve is None:
            return asked
        if curve.parameter not in choice.params:
            raise ValueError(
                f"`diagnostics.validation_curve.parameter` must be among {', '.join(sorted(choice.params))} of learner "
                f"{learner.type!r}, was {curve.parameter}."
            )
        own = choice.params[curve.parameter]
        candidates = []
        for value in curve.values:
            try:
                tried = learner.with_params({curve.parameter: value}).choice()
            except (ValueError, TypeError) as e:
                raise ValueError(
                    f"`diagnostics.validation_curve.values` must be right for the learner, was {value}: {e}"
                ) from e
            if tried != choice:
                candidates.append((tried.params[curve.parameter], tried))
        if not candidates:
            raise ValueError(
                f"`diagnostics.validation_curve.values` must hold another than the learner's own {own}, was {curve.values[0]} "
                "alone; add values."
            )
        return Diagnostics(
            score=asked.score,
            permutations=asked.permutations,
            train_shares=asked.train_shares,
            parameter=curve.parameter,
            candidates=tuple(candidates),
            chosen_value=own,
        )
