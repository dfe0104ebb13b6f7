"""Weighted ensembles: members count by how well they have predicted lately, or in a regime of volatility.

Scores are those of a walk-forward over the later half of the training sessions, whose labels have all ended: nothing that is not known when the
ensemble is fitted.

References
----------
Cesa-Bianchi, Lugosi (2006), "Prediction, Learning, and Games", ch. 2 (exponentially weighted average forecaster), 2.11
(discounted losses).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

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
    shared_importances,
    weighted_mean,
)
from hf_pipelines.research.params import Number, Text
from hf_pipelines.research.splitters.purged_walk_forward import PurgedWalkForward

# Regimes: quiet and rough.
N_REGIMES = 2

HALF_LIFE = Number(default=20.0, low=1.0, high=10_000.0, meaning="sessions after which a score counts half")
SHARPNESS = Number(
    default=1.0,
    low=0.0,
    high=100.0,
    meaning="how far weights follow the scores: 0 not at all, the higher the more the best",
)


def shares_of(
    session_losses: Floats, presence: Floats, *, half_life: float, sharpness: float
) -> npt.NDArray[np.float64]:
    """Share of each member: the exponential of minus its discounted loss, all adding up to 1.

    Parameters
    ----------
    session_losses : array of shape (n_sessions, n_members)
        In order of time; only their ratios count.
    presence : array of shape (n_sessions,)
        How much each session counts, besides its age.
    half_life : float
        Sessions.
    sharpness : float
    """
    age = np.arange(len(session_losses))[::-1]
    counted = presence * 0.5 ** (age / half_life)
    scale = session_losses.mean()
    total = counted @ session_losses / scale if scale > 0.0 else np.zeros(session_losses.shape[1])
    sizes = np.exp(-sharpness * (total - total.min()))
    return np.asarray(sizes / sizes.sum())


class DynamicWeighting(Members):
    """Mean of members weighted by their recent out-of-sample losses."""

    has_state = True
    judges_members = True
    shares: Floats

    @property
    def state(self) -> dict[str, Any]:
        """The share of each member."""
        return {"shares": self.shares.tolist()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self.shares = np.array(state["shares"], dtype=np.float64).reshape(len(self.members))

    def report(self) -> dict[str, Any]:
        """The weights of the members, and what these tell."""
        return {**self.state, **super().report()}

    def fit(self, rows: TrainingRows, validation: TrainingRows | None) -> DynamicWeighting:
        """Score the members by a walk-forward over the training rows, then fit them on all of these."""
        tested, found = self._score(rows)
        self.shares = shares_of(
            by_session(found, tested.weight, tested),
            np.ones(tested.keys["session"].n_unique()),
            half_life=self.params["half_life"],
            sharpness=self.params["sharpness"],
        )
        self.fit_members(rows, validation)
        return self

    def combine(self, answers: Floats, rows: Rows, wanted: npt.NDArray[np.bool_]) -> Floats:
        """Weighted mean."""
        return weighted_mean(answers, np.tile(self.shares, (len(answers), 1)))

    def _score(self, rows: TrainingRows) -> tuple[TrainingRows, Floats]:
        """Rows that the walk-forward has predicted, and the loss of each member for each of them."""
        # The later half is judged: the first fold has the earlier half to train on.
        n_splits, n_sessions = self.params["n_splits"], rows.keys["session"].n_unique()
        splitter = PurgedWalkForward(n_splits=n_splits, test_sessions=max(n_sessions // (2 * n_splits), 1))
        folds = splitter.split(rows.keys)
        numbers, answers = out_of_fold(self.members, rows, folds, classes=classes_of(rows, self.setup))
        tested = rows.take(numbers)
        return tested, losses(answers, tested.y)


class RegimeExperts(DynamicWeighting):
    """Members weighted by how they have predicted in quiet and in rough times, by the probability of each.

    A mixture of two normal distributions is fitted to the logarithm of a feature of volatility in the training rows (to the
    feature itself, where it is not above zero everywhere); a row's own value gives the probability that it is in the one with
    the higher mean, so nothing of later rows is read.
    """

    mixture: dict[str, list[float]]
    is_logarithm: bool

    @property
    def state(self) -> dict[str, Any]:
        """Shares by regime, and the mixture."""
        return {"shares": self.shares.tolist(), "mixture": self.mixture, "is_logarithm": self.is_logarithm}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self.shares = np.array(state["shares"], dtype=np.float64).reshape(N_REGIMES, len(self.members))
        self.mixture = {
            name: [float(each) for each in state["mixture"][name]] for name in ("weight", "mean", "variance")
        }
        self.is_logarithm = bool(state["is_logarithm"])

    def fit(self, rows: TrainingRows, validation: TrainingRows | None) -> RegimeExperts:
        """Fit the mixture and the shares in each regime, then the members on all rows."""
        self._fit_mixture(self._feature(rows))
        tested, found = self._score(rows)
        session_losses = by_session(found, tested.weight, tested)
        presence = by_session(self.regimes(tested), tested.weight, tested)
        given = {"half_life": self.params["half_life"], "sharpness": self.params["sharpness"]}
        self.shares = np.stack([shares_of(session_losses, each, **given) for each in presence.T])
        self.fit_members(rows, validation)
        return self

    def regimes(self, rows: Rows) -> Floats:
        """Probability of the quiet and of the rough regime, by row; where the feature is unknown, how frequent they are."""
        value = self._feature(rows)
        weight, mean, variance = (np.array(self.mixture[name]) for name in ("weight", "mean", "variance"))
        if self.is_logarithm:
            value = np.log(np.where(value > 0.0, value, np.nan))
        logs = np.log(weight) - 0.5 * np.log(variance) - 0.5 * (value[:, None] - mean) ** 2 / variance
        density = np.exp(logs - logs.max(axis=1, keepdims=True))
        found = density / density.sum(axis=1, keepdims=True)
        return np.where(np.isfinite(value)[:, None], found, weight)

    def combine(self, answers: Floats, rows: Rows, wanted: npt.NDArray[np.bool_]) -> Floats:
        """Weighted mean, by the regimes of each row."""
        return weighted_mean(answers, self.regimes(rows.take(wanted)) @ self.shares)

    def _feature(self, rows: Rows) -> Floats:
        name = self.params["feature"]
        if name not in rows.names:
            raise ValueError(
                f"`feature` of regime_experts must be a feature of the strategy, was {name}; add it, or take another."
            )
        return rows.X[:, rows.names.index(name)].astype(np.float64)

    def _fit_mixture(self, value: Floats) -> None:
        from sklearn.mixture import GaussianMixture

        known = value[np.isfinite(value)]
        self.is_logarithm = bool((known > 0.0).all())
        known = np.log(known) if self.is_logarithm else known
        if len(np.unique(known)) < N_REGIMES:
            raise ValueError(
                f"`feature` of regime_experts must vary over the training rows, was {self.params['feature']}, which does not; take "
                "another."
            )
        ends = np.quantile(known, [0.25, 0.75])[:, None]
        mixture = GaussianMixture(N_REGIMES, means_init=ends, random_state=0, max_iter=500).fit(known[:, None])
        order = np.argsort(mixture.means_.ravel(), kind="stable")
        self.mixture = {
            "weight": mixture.weights_[order].tolist(),
            "mean": mixture.means_.ravel()[order].tolist(),
            "variance": mixture.covariances_.ravel()[order].tolist(),
        }


def _importances(estimator: DynamicWeighting, names: Sequence[str]) -> dict[str, float]:
    """Means of the members' shares by their weights; of several regimes by how frequent they are."""
    shares = estimator.shares
    if isinstance(estimator, RegimeExperts):
        shares = np.array(estimator.mixture["weight"]) @ shares
    return shared_importances(estimator.members, shares, names)


DYNAMIC_WEIGHTING = ensemble(
    "dynamic_weighting",
    kind=DynamicWeighting,
    params={"n_splits": N_SPLITS, "half_life": HALF_LIFE, "sharpness": SHARPNESS},
    importances=_importances,
)

REGIME_EXPERTS = ensemble(
    "regime_experts",
    kind=RegimeExperts,
    params={
        "feature": Text(
            pattern=r"[a-z][a-z0-9_]{0,62}", meaning="feature of volatility that tells quiet times from rough ones"
        ),
        "n_splits": N_SPLITS,
        "half_life": Number(default=250.0, low=1.0, high=10_000.0, meaning="sessions after which a score counts half"),
        "sharpness": SHARPNESS,
    },
    importances=_importances,
)
