"""Voting: the weighted mean of what several learners predict, each with its own preprocessing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_pipelines.research.learners.attribution import Attribution, weighted_sum
from hf_pipelines.research.learners.learner import Rows, TrainingRows
from hf_pipelines.research.learners.members import (
    Floats,
    Members,
    ensemble,
    shared_importances,
    weighted_mean,
)
from hf_pipelines.research.params import Listing, Number


class Voting(Members):
    """Weighted mean of its members' predictions or probabilities; without weights all count the same."""

    @property
    def shares(self) -> Floats:
        """Weights that add up to 1."""
        given = self.params["weights"]
        weights = np.ones(len(self.members)) if given is None else np.asarray(given, dtype=np.float64)
        return np.asarray(weights / weights.sum())

    def fit(self, rows: TrainingRows, validation: TrainingRows | None) -> Voting:
        """Fit every member on the same rows."""
        self.fit_members(rows, validation)
        return self

    def combine(self, answers: Floats, rows: Rows, wanted: npt.NDArray[np.bool_]) -> Floats:
        """Weighted mean."""
        return weighted_mean(answers, np.tile(self.shares, (len(answers), 1)))


def _mean_importances(estimator: Voting, names: Sequence[str]) -> dict[str, float]:
    """Weighted mean of the members' shares; members that tell none are left out."""
    return shared_importances(estimator.members, estimator.shares, names)


def _mean_contributions(estimator: Voting, rows: Rows) -> Attribution | None:
    """Weighted mean of the members' contributions; None if one of them has none, or they do not add up to what is averaged."""
    parts = [each.contributions(rows) for each in estimator.members]
    known = [each for each in parts if each is not None]
    return weighted_sum(known, estimator.shares.tolist()) if len(known) == len(parts) else None


def _check_voting(params: Mapping[str, Any]) -> None:
    weights = params["weights"]
    if weights is not None and len(weights) != len(params["members"]):
        raise ValueError(f"`weights` must be one for each of {len(params['members'])} members, was {len(weights)}.")
    if weights is not None and not sum(weights) > 0:
        raise ValueError("`weights` must hold one above zero, was 0 for every member.")


VOTING = ensemble(
    "voting",
    kind=Voting,
    params={
        "weights": Listing(
            item=Number(default=1.0, low=0.0, high=1e9), default=None, least=2, most=20, meaning="one a member"
        ),
    },
    check=_check_voting,
    importances=_mean_importances,
    contributions=_mean_contributions,
)
