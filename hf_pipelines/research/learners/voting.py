"""Voting: the weighted mean of what several learners predict, each with its own preprocessing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hf_pipelines.research.learners.archive import pack, unpack
from hf_pipelines.research.learners.learner import Learner, ModelFormat, Rows, Setup, TrainingRows
from hf_pipelines.research.params import Listing, Nested, Number


class Voting:
    """Weighted mean of its members' predictions or probabilities.

    Parameters
    ----------
    members : sequence of pipelines
        Not fitted.
    weights : sequence of float, optional
        One a member; left out, all count the same.
    """

    def __init__(self, members: Sequence[Any], weights: Sequence[float] | None = None) -> None:
        self.members = members
        self.weights = weights

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """As scikit-learn's, so that it can be cloned."""
        return {"members": self.members, "weights": self.weights}

    @property
    def shares(self) -> np.ndarray:
        """Weights that add up to 1."""
        weights = np.ones(len(self.members)) if self.weights is None else np.asarray(self.weights, dtype=np.float64)
        return np.asarray(weights / weights.sum())

    @property
    def classes_(self) -> np.ndarray:
        """Codes of the classes; all members are fitted on the same rows."""
        return np.asarray(self.members[0].classes_)

    def fit(self, rows: TrainingRows, validation: TrainingRows | None) -> Voting:
        """Fit every member on the same rows."""
        for each in self.members:
            each.fit(rows, validation)
        return self

    def predict(self, rows: Rows, wanted: np.ndarray) -> np.ndarray:
        """Weighted mean of the members' numbers."""
        return self._mean([each.predict(rows, wanted).point for each in self.members])

    def predict_proba(self, rows: Rows, wanted: np.ndarray) -> np.ndarray:
        """Weighted mean of the members' probabilities."""
        return self._mean([each.predict(rows, wanted).probability for each in self.members])

    def _mean(self, predicted: Sequence[np.ndarray]) -> np.ndarray:
        # One addition a member, in their order: the bits do not depend on how numpy sums.
        total = np.zeros_like(predicted[0], dtype=np.float64)
        for share, each in zip(self.shares, predicted, strict=True):
            total += share * each
        return total


def build_voting(params: Mapping[str, Any], setup: Setup) -> Voting:
    """Make an unfitted vote of pipelines."""
    return Voting(params["members"], params["weights"])


def save_voting(estimator: Voting) -> bytes:
    """Every member in its own format, as one archive."""
    return pack({_file_name(at, each): each.save() for at, each in enumerate(estimator.members)})


def load_voting(data: bytes, unfitted: Voting) -> Voting:
    """Return the vote; every member loads by its own format and its own list of types.

    Raises
    ------
    ValueError
        If the archive does not hold these members.
    """
    names = [_file_name(at, each) for at, each in enumerate(unfitted.members)]
    files = unpack(data, names)
    for name, each in zip(names, unfitted.members, strict=True):
        each.load(files[name])
    return unfitted


def _file_name(at: int, member: Any) -> str:
    return f"member_{at}.{member.extension}"


def _mean_importances(estimator: Voting, names: Sequence[str]) -> dict[str, float]:
    """Weighted mean of the members' shares; members that tell none are left out."""
    found: dict[str, float] = dict.fromkeys(names, 0.0)
    for share, each in zip(estimator.shares, estimator.members, strict=True):
        for name, size in each.importances(names).items():
            found[name] = found.get(name, 0.0) + float(share) * size
    return found


def _check_voting(params: Mapping[str, Any]) -> None:
    weights = params["weights"]
    if weights is not None and len(weights) != len(params["members"]):
        raise ValueError(f"`weights` must be one for each of {len(params['members'])} members, was {len(weights)}.")
    if weights is not None and not sum(weights) > 0:
        raise ValueError("`weights` must hold one above zero, was 0 for every member.")


VOTING = Learner(
    name="voting",
    family="ensemble",
    tasks=frozenset({"regression", "classification"}),
    build=build_voting,
    params={
        "members": Listing(item=Nested(), is_required=True, least=2, most=20, meaning="the learners whose mean it is"),
        "weights": Listing(
            item=Number(default=1.0, low=0.0, high=1e9), default=None, least=2, most=20, meaning="one a member"
        ),
    },
    format=ModelFormat("zip", save_voting, load_voting),
    check=_check_voting,
    is_keyed=True,
    importances=_mean_importances,
)
