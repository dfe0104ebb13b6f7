"""Stacking and blending: a final learner combines what members predict of rows that they were not fitted on.

References
----------
Wolpert (1992), "Stacked Generalization", Neural Networks 5.
Breiman (1996), "Stacked Regressions", Machine Learning 24.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_pipelines.research.learners.fit_faults import placed
from hf_pipelines.research.learners.learner import Rows, TrainingRows
from hf_pipelines.research.learners.members import (
    N_SPLITS,
    Floats,
    Members,
    classes_of,
    ensemble,
    fitted_apart,
    out_of_fold,
    shared_importances,
    with_answers,
)
from hf_pipelines.research.params import Nested, Number
from hf_pipelines.research.splitters.purged_kfold import PurgedKFold
from hf_pipelines.research.validation_rows import cut_validation

Folds = Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]


class Stacking(Members):
    """A final learner on the members' out-of-fold predictions; then the members are fitted on all training rows.

    The final learner is asked about nothing far from what it was fitted on: a member that predicts a constant in the inner folds (it
    stopped at once) and something else afterwards would be a difference of thousands of its standard deviations. What members
    give is held within the range of their out-of-fold predictions, widened by its own width on both sides.
    """

    has_state = True
    judges_members = True
    low: Floats
    high: Floats

    @property
    def final(self) -> Any:
        """Pipeline of the final learner."""
        return self.params["final"]

    @property
    def parts(self) -> list[Any]:
        """The members and the final learner."""
        return [*self.members, self.final]

    @property
    def state(self) -> dict[str, Any]:
        """The range of each member's answers."""
        return {"low": self.low.tolist(), "high": self.high.tolist()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        shape = (len(self.members), -1)
        self.low, self.high = (np.array(state[each], dtype=np.float64).reshape(shape) for each in ("low", "high"))

    def folds(self, rows: TrainingRows) -> Folds:
        """Blocks of sessions, each predicted by what is fitted before and after it, purged on both sides."""
        return PurgedKFold(n_splits=self.params["n_splits"]).split(rows.keys)

    def fit(self, rows: TrainingRows, validation: TrainingRows | None) -> Stacking:
        """Fit the final learner on what the members predict of the other folds, and the members on all rows."""
        tested, answers = out_of_fold(self.members, rows, self.folds(rows), classes=classes_of(rows, self.setup))
        with placed(f"final ({self.final.choice.name})"):
            fitted_apart(self.final, with_answers(rows.take(tested), answers))
        low, high = answers.min(axis=0), answers.max(axis=0)
        self.low, self.high = low - (high - low), high + (high - low)
        self.fit_members(rows, validation)
        return self

    def combine(self, answers: Floats, rows: Rows, wanted: npt.NDArray[np.bool_]) -> Floats:
        """What the final learner makes of the answers."""
        # A member that looks back may know too little of a row: then nothing is said of it.
        is_known = np.isfinite(answers).all(axis=(1, 2))
        combined = np.full((len(answers), answers.shape[2]), np.nan)
        if is_known.any():
            held = np.clip(answers[is_known], self.low, self.high)
            asked = with_answers(rows.take(np.flatnonzero(wanted)[is_known]), held)
            with placed(f"final ({self.final.choice.name})"):
                found = self.final.predict(asked)
            combined[is_known] = found.point[:, None] if found.probability is None else found.probability
        return combined


class Blending(Stacking):
    """Stacking on one block: the final learner sees what members predict of the latest training rows."""

    def folds(self, rows: TrainingRows) -> Folds:
        """The latest share of the sessions, predicted by what is fitted before it, purged."""
        yield cut_validation(rows.keys, share=self.params["share"], name="share")


def _importances(estimator: Stacking, names: Sequence[str]) -> dict[str, float]:
    """Means of the members' shares, by how much the final learner uses each member; where it does not tell, plain ones."""
    n_members, n_columns = len(estimator.members), 1
    if estimator.is_classification:
        n_columns = len(estimator.classes_) - 1
    columns = [f"member_{member}_{column}" for member in range(n_members) for column in range(n_columns)]
    sizes = estimator.final.importances(columns)
    shares = np.array([sizes.get(name, 0.0) for name in columns]).reshape(n_members, n_columns).sum(axis=1)
    even = np.full(n_members, 1.0 / n_members)
    return shared_importances(estimator.members, shares if shares.sum() > 0.0 else even, names)


def _check_final(params: Mapping[str, Any]) -> None:
    if bars := params["final"].history_bars:
        raise ValueError(
            f"`final` must read the row's own answers alone, was {params['final'].name}, which reads {bars} bars before it; take it "
            "as a member."
        )


_FINAL = Nested(meaning="the learner that combines what the members predict")

STACKING = ensemble(
    "stacking",
    kind=Stacking,
    params={"final": _FINAL, "n_splits": N_SPLITS},
    importances=_importances,
    check=_check_final,
)

BLENDING = ensemble(
    "blending",
    kind=Blending,
    params={
        "final": _FINAL,
        "share": Number(
            default=0.3, low=0.05, high=0.9, meaning="share of the sessions, the latest, that the final learner sees"
        ),
    },
    importances=_importances,
    check=_check_final,
)
