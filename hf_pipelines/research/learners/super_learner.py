"""Discrete super learner: of several members the one that predicts best rows that it was not fitted on.

The choice is a part of the fit: in a cross-validation each fold chooses by its own training rows, so that no test row has chosen anything.

References
----------
van der Laan, Polley & Hubbard (2007), "Super Learner", Statistical Applications in Genetics and Molecular Biology 6(1): the discrete one.
Breiman, Friedman, Olshen & Stone (1984), "Classification and Regression Trees", ch. 3: the simplest within one standard error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_pipelines.research.learners.attribution import Attribution
from hf_pipelines.research.learners.learner import Rows, TrainingRows
from hf_pipelines.research.learners.members import (
    N_SPLITS,
    Floats,
    Members,
    by_session,
    classes_of,
    ensemble,
    losses,
    out_of_fold,
)
from hf_pipelines.research.params import Choice
from hf_pipelines.research.significance.diebold_mariano import diebold_mariano
from hf_pipelines.research.splitters.purged_kfold import PurgedKFold

BEST, SIMPLEST = "best", "simplest"


class DiscreteSuperLearner(Members):
    """Fits all members, and gives what one of them predicts: the one with the least loss in folds of the training rows."""

    has_state = True
    judges_members = True
    chosen: int
    mean_losses: Floats

    @property
    def state(self) -> dict[str, Any]:
        """The member that was chosen, and what all have lost."""
        return {"chosen": self.chosen, "losses": self.mean_losses.tolist()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self.chosen, self.mean_losses = int(state["chosen"]), np.array(state["losses"], dtype=np.float64)
        if not 0 <= self.chosen < len(self.members):
            raise ValueError(f"`chosen` must be a member, was {self.chosen}.")

    def report(self) -> dict[str, Any]:
        """Which member was chosen, by which losses, and what the members tell."""
        return {**super().report(), **self.state, "chosen_learner": self.members[self.chosen].choice.name}

    def fit(self, rows: TrainingRows, validation: TrainingRows | None) -> DiscreteSuperLearner:
        """Choose a member by the other folds, and fit all of them on all rows."""
        folds = PurgedKFold(n_splits=self.params["n_splits"]).split(rows.keys)
        tested, answers = out_of_fold(self.members, rows, folds, classes=classes_of(rows, self.setup))
        part = rows.take(tested)
        of_sessions = by_session(losses(answers, part.y), part.weight, part)
        self.mean_losses = of_sessions.mean(axis=0)
        self.chosen = choose_member(of_sessions, rule=self.params["rule"])
        self.fit_members(rows, validation)
        return self

    def predict(self, rows: Rows, wanted: npt.NDArray[np.bool_]) -> Floats:
        """Numbers of a regression."""
        return np.asarray(self.members[self.chosen].predict(rows, wanted).point, dtype=np.float64)

    def predict_proba(self, rows: Rows, wanted: npt.NDArray[np.bool_]) -> Floats:
        """Probabilities of classes."""
        return np.asarray(self.members[self.chosen].predict(rows, wanted).probability, dtype=np.float64)


def choose_member(losses_of_sessions: Floats, *, rule: str) -> int:
    """Place of the member to take.

    Parameters
    ----------
    losses_of_sessions : array of shape (n_sessions, n_members)
        In order of time.
    rule : {"best", "simplest"}
        `simplest`: members stand in the order from the simplest on, and the first is taken that is behind the best one by no more than
        the standard error of the difference, session by session.

    Examples
    --------
    >>> close = np.array([[1.0, 0.9], [1.0, 1.1], [1.2, 1.0], [1.0, 1.0]])
    >>> choose_member(close, rule="best"), choose_member(close, rule="simplest")
    (1, 0)
    """
    best = int(losses_of_sessions.mean(axis=0).argmin())
    if rule == BEST or len(losses_of_sessions) < 2:
        return best
    for at in range(best):
        found = diebold_mariano(losses_of_sessions[:, at] - losses_of_sessions[:, best])
        if found.mean <= found.error:
            return at
    return best


def _importances(estimator: DiscreteSuperLearner, names: Sequence[str]) -> dict[str, float]:
    """Those of the member that was chosen."""
    found: dict[str, float] = dict(estimator.members[estimator.chosen].importances(names))
    return found


def _contributions(estimator: DiscreteSuperLearner, rows: Rows) -> Attribution | None:
    """Those of the member that was chosen."""
    found: Attribution | None = estimator.members[estimator.chosen].contributions(rows)
    return found


DISCRETE_SUPER_LEARNER = ensemble(
    "discrete_super_learner",
    kind=DiscreteSuperLearner,
    params={
        "rule": Choice(
            default=BEST,
            names=(BEST, SIMPLEST),
            meaning="the member with the least loss, or the first one within one standard error of it",
        ),
        "n_splits": N_SPLITS,
    },
    importances=_importances,
    contributions=_contributions,
)
