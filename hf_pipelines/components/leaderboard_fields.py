"""Fields of the block `leaderboard` of a strategy's YAML.

Lives here: their form, and what they make in research's own types. Does not live here: candidates and ranks (`research.leaderboard`), the asset
(`strategy_stages.leaderboard`).
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import dagster as dg
from pydantic import Field, ValidationError

from hf_pipelines.components.extras import require_extra, require_installed
from hf_pipelines.components.learner_rules import (
    refuser_of_unknown,
    require_horizons,
    require_unseen_labels,
    tasks_in_words,
)
from hf_pipelines.components.strategy_fields import CrossValidationSpec, LearnerSpec, TargetSpec, TrainingSpec
from hf_pipelines.components.strategy_stages.leaderboard_plan import LeaderboardPlan, TunedCandidates, compared
from hf_pipelines.components.strategy_stages.plan import LearnerPlan
from hf_pipelines.components.strategy_stages.tuning_plan import SplitterPlan
from hf_pipelines.research.leaderboard import Candidate, auto_candidates, metric_of
from hf_pipelines.research.leaderboard.candidates import candidate_name, preset_params, require_distinct
from hf_pipelines.research.learners import choose_learner
from hf_pipelines.research.session_values import COEFFICIENT
from hf_pipelines.research.targets import TARGETS, Target
from hf_pipelines.research.tuning import default_space
from hf_pipelines.research.tuning.samplers import sampler_of
from hf_pipelines.resources.ranges import ranged

AUTO = "auto"

# The strategy's own learner, which every leaderboard holds.
OWN = "as the strategy is"

MOST_CANDIDATES = 100

MANY_ROWS = 1_000_000_000

# Metrics that order candidates as the losses do by which one is chosen within a fit.
CHOSEN_BY = ("rmse", "mse", "log_loss")


class CandidateSpec(dg.Model):
    """Candidates of a leaderboard: of lists every combination is one."""

    learner: str | Sequence[str] = Field(description="A key of LEARNERS, or a list of them.")
    preset: str | Sequence[str] = Field(default="default", description="A preset of the learner, or a list of them.")
    params: Mapping[str, Any] = Field(default_factory=dict, description="Parameters that stand over the preset's.")
    preprocessing: Sequence[Any] = Field(
        default_factory=list, description="As of `learner`; a list of lists is several of them."
    )
    target: TargetSpec | Sequence[TargetSpec] | None = Field(
        default=None, description="What is learned, if not the strategy's target; or a list."
    )
    tuned: bool | Sequence[bool] = Field(
        default=False, description="Whether parameters are chosen anew within each outer fold."
    )
    name: str | None = Field(default=None, description="Of one candidate alone; left out: made of the other fields.")

    def candidates(self) -> Iterator[Candidate]:
        """Every combination."""
        steps = self.preprocessing if self.preprocessing and isinstance(self.preprocessing[0], list | tuple) else [self.preprocessing]  # fmt: skip
        targets = self.target if isinstance(self.target, list | tuple) else [self.target]
        combined = list(
            itertools.product(_listed(self.learner), _listed(self.preset), steps, targets, _listed(self.tuned))
        )
        if self.name is not None and len(combined) != 1:
            raise ValueError(f"`name` must be left out of {len(combined)} candidates, was {self.name[:40]!r}.")
        for learner, preset, preprocessing, target, is_tuned in combined:
            # An unknown learner is told before its preset.
            choose_learner(learner)
            choice = choose_learner(
                learner, {**preset_params(learner, preset), **self.params}, preprocessing=preprocessing
            )
            built = None if target is None else target.build()
            made = candidate_name(
                learner,
                preset,
                [each if isinstance(each, str) else str(each.get("type")) for each in preprocessing],
                target="" if built is None else _target_in_words(built),
                is_tuned=is_tuned,
            )
            yield Candidate(self.name or made, choice, built, is_tuned)


class TunedCandidatesSpec(dg.Model, dg.Resolvable):
    """How candidates that are tuned choose their parameters, on the training rows of each outer fold."""

    trials: int = Field(default=10, description="Trials of a fold's study.")
    sampler: str = Field(default="random", description="A key of SAMPLERS.")
    cross_validation: Annotated[
        CrossValidationSpec | None,
        dg.Resolver(
            lambda context, given: None if given is None else CrossValidationSpec.model_validate(given),
            model_field_type=dict | None,
        ),
    ] = Field(default=None, description="Inner folds; left out: as those of the strategy.")

    _trials = ranged("trials", low=1, high=10_000)


class LeaderboardSpec(dg.Model, dg.Resolvable):
    """Candidates that are compared each week on the outer folds, and the rule that takes one."""

    candidates: Any = Field(
        default=AUTO,
        description="`auto`, or a list of candidates (`learner`, `preset`, `params`, `preprocessing`, `target`, `tuned`, `name`), of "
        "which one may be `auto`.",
    )
    metric: str | None = Field(
        default=None,
        description="What they are ranked by; left out: log_loss of classes, information_coefficient of ranks and excess returns, "
        "else rmse.",
    )
    choice: Literal["best", "simplest"] = Field(
        default="best", description="The candidate taken: the best, or the simplest within one standard error of it."
    )
    feeds: Literal["fitted_model"] | None = Field(
        default=None,
        description="fitted_model: the strategy's learner is the candidate that `choice` takes, chosen anew in each fit by folds of its own "
        "training rows; left out: nothing is made of the leaderboard.",
    )
    deadline_s: float | None = Field(
        default=None,
        description="Seconds after which no candidate begins and those under way are ended; left out: none.",
    )
    tuning: TunedCandidatesSpec = Field(
        default_factory=TunedCandidatesSpec, description="How candidates that are tuned choose their parameters."
    )

    _deadline = ranged("deadline_s", low=1, high=10_000_000)

    def plan(
        self, learner: LearnerSpec, *, target: Target, splitter: SplitterPlan, training: TrainingSpec
    ) -> LeaderboardPlan:
        """What it asks for, checked against the strategy.

        Raises
        ------
        ValueError
            Naming the field.
        """
        if training.read != "whole":
            raise ValueError(
                f"`training.read` must be whole for `leaderboard`, whose candidates share one matrix in memory, was {training.read}; "
                "leave one of them out."
            )
        try:
            return self._plan(learner, target, splitter, training)
        except (TypeError, ValueError) as e:
            # Fields are named within their block.
            raise ValueError(str(e).replace("`", "`leaderboard.", 1)) from e

    def _plan(
        self, learner: LearnerSpec, target: Target, splitter: SplitterPlan, training: TrainingSpec
    ) -> LeaderboardPlan:
        given = [self.candidates] if self.candidates == AUTO else self.candidates
        if isinstance(given, str) or not isinstance(given, list | tuple):
            raise ValueError(f"`candidates` must be auto or a list of candidates, was {str(given)[:40]!r}.")
        listed: list[Candidate] = []
        for at, each in enumerate(given):
            if each == AUTO:
                # Whether there are any for the target.
                auto_candidates(target, n_rows=None, has_missing=training.missing == "keep")
            else:
                listed += _candidates(each, at, target, training)
        if not given:
            require_distinct([])
        metric = metric_of(self.metric, target)
        if others := [each for each in listed if each.target is not None]:
            _require_comparable(metric.name, target, others)
        if any(each.is_tuned for each in listed):
            require_extra("tuning", "`candidates.tuned`", ("optuna",))
            sampler_of(self.tuning.sampler)
        inner = self.tuning.cross_validation
        folds = splitter if inner is None else inner.plan()
        own = Candidate(OWN, learner.choice())
        is_written = any(each.learner == own.learner and each.target is None and not each.is_tuned for each in listed)
        found = [*([] if is_written else [own]), *listed]
        require_distinct(found)
        if len(found) > MOST_CANDIDATES:
            raise ValueError(f"`candidates` must be at most {MOST_CANDIDATES}, were {len(found)}; leave some out.")
        return LeaderboardPlan(
            tuple(found),
            AUTO in given,
            metric.name,
            self.choice,
            self.deadline_s,
            TunedCandidates(self.tuning.trials, self.tuning.sampler, folds.name, folds.params),
        )


def plan_leaderboard(
    spec: LeaderboardSpec | None,
    learner: LearnerSpec,
    *,
    target: Target,
    splitter: SplitterPlan,
    training: TrainingSpec,
) -> LeaderboardPlan | None:
    """What a strategy with the block asks for: see `LeaderboardSpec.plan`."""
    return None if spec is None else spec.plan(learner, target=target, splitter=splitter, training=training)


def plan_learner(
    spec: LeaderboardSpec | None,
    learner: LearnerSpec,
    *,
    target: Target,
    splitter: SplitterPlan,
    training: TrainingSpec,
) -> LearnerPlan:
    """The learner of a strategy: what it names, or where its leaderboard feeds the model the choice among the candidates.

    Raises
    ------
    ValueError
        If the candidates are none that can be chosen among within a fit.
    """
    own = learner.plan()
    if spec is None or spec.feeds is None:
        return own
    board = spec.plan(learner, target=target, splitter=splitter, training=training)
    if other := [each.name for each in board.listed if each.target is not None or each.is_tuned]:
        raise ValueError(
            f"`leaderboard.feeds` must be left out where candidates are tuned or learn another target, was given with {other[0]}: within a "
            "fit there is one target, and no study."
        )
    if board.metric not in CHOSEN_BY:
        raise ValueError(
            f"`leaderboard.feeds` must be left out for metric {board.metric}, was given: within a fit candidates are chosen by their squared "
            f"error, or by their log loss; take one of {', '.join(CHOSEN_BY)}."
        )
    # How many rows a fold has is not known here: of auto those that do with any.
    few, many = (
        compared(board, target, training.weightings, training.missing, n_rows=n_rows) for n_rows in (0, MANY_ROWS)
    )
    members = [each.learner.settings() for each in few if each in many]
    try:
        choice = choose_learner("discrete_super_learner", {"members": members, "rule": board.choice})
    except ValueError as e:
        raise ValueError(
            f"`leaderboard.feeds` must have candidates to choose among, was with {len(members)}: {e}"
        ) from e
    require_unseen_labels(choice)
    return LearnerPlan(choice, own.seed, own.validation_share)


def _candidates(given: Any, at: int, target: Target, training: TrainingSpec) -> list[Candidate]:
    """Candidates of one entry of the list, checked against the strategy."""
    where = f"candidates.{at}"
    if not isinstance(given, Mapping):
        raise ValueError(f"`{where}` must be auto or a mapping with a `learner`, was {str(given)[:40]!r}.")
    try:
        found = list(CandidateSpec.model_validate(given).candidates())
        for each in found:
            _require_fitting(each, each.target or target, training)
    except ValidationError as e:
        first = e.errors()[0]
        field = ".".join(str(part) for part in first["loc"][:1])
        raise ValueError(f"`{where}.{field}` {_rule(first)}.") from e
    except (TypeError, ValueError) as e:
        raise ValueError(str(e).replace("`", f"`{where}.", 1)) from e
    return found


def _rule(error: Any) -> str:
    if error["type"] == "missing":
        return "must be given, was missing"
    if error["type"] == "extra_forbidden":
        return f"must be left out: candidates have the fields {', '.join(CandidateSpec.model_fields)}"
    return f"must be as the reference says ({error['msg'].lower()}), was {str(error['input'])[:40]!r}"


def _require_fitting(candidate: Candidate, target: Target, training: TrainingSpec) -> None:
    """Refuse a candidate that could be fitted in no week."""
    choice = candidate.learner
    require_installed(choice)
    task = "classification" if target.is_classification else "regression"
    if task not in choice.tasks:
        raise ValueError(
            f"`learner` must fit the target {target.name!r}, was {choice.name!r} for {tasks_in_words(choice)}."
        )
    choice.require_target(target)
    require_unseen_labels(choice)
    require_horizons(choice, target)
    if training.missing == "keep" and not choice.handles_missing:
        raise ValueError(
            f"`learner` must take unknown features, since `training.missing` is keep, was {refuser_of_unknown(choice)}; let its "
            "preprocessing begin with imputation."
        )
    if training.weightings and not choice.takes_weights:
        raise ValueError(
            f"`learner` must read the weights of `training.weighting`, was {choice.name!r}; take another, or no weighting."
        )
    if candidate.is_tuned and not default_space(choice.entry.params, prefix="learner.").dimensions:
        raise ValueError(
            f"`tuned` must be false for learner {choice.name!r}, whose specification names nothing to search."
        )


def _require_comparable(metric: str, target: Target, others: Sequence[Candidate]) -> None:
    """Refuse candidates of other targets where what they predict is no guess of the strategy's own, or is not ranked by order."""
    if metric != COEFFICIENT:
        raise ValueError(
            f"`metric` must be {COEFFICIENT} where candidates learn other targets ({others[0].name}), was {metric}: their errors are of "
            "different quantities, the order that they give compares."
        )
    for each in (target, *(each.target for each in others)):
        if each is not None and (not TARGETS[each.name].is_directional or each.horizons):
            raise ValueError(
                f"`candidates` must learn targets of one direction and one horizon where they learn others than the strategy's, was "
                f"{each.name!r}; leave `target` out."
            )


def _target_in_words(target: Target) -> str:
    given = ", ".join(f"{name} {value}" for name, value in target.params.items() if value is not None)
    return f"{target.name} ({given})"


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
