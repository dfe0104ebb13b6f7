"""Model confidence set: which candidates cannot be told from the best one.

Lives here: the set by pairs (Hansen, Lunde and Nason's T_R). Not here: whether a benchmark is beaten (`superiority`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hf_pipelines.research.metrics.bootstrap import Draws
from hf_pipelines.research.significance.drawn import drawn_means
from hf_pipelines.research.significance.losses import Floats, as_losses, is_constant, share_beyond
from hf_pipelines.research.significance.rotations import Rotations


@dataclass(frozen=True, eq=False)
class ConfidenceSet:
    """Which candidates may be the best.

    Attributes
    ----------
    p : array of shape (n_candidates,)
        Of each candidate: the sets of confidence 1 - a hold those of p above a. 1 of the last one left.
    removed : tuple of int
        Places of the candidates as they were removed, the worst first, the last one left at the end.
    """

    p: Floats
    removed: tuple[int, ...]

    def members(self, level: float = 0.95) -> list[int]:
        """Places of the candidates that hold the best with a probability of `level`."""
        return np.flatnonzero(self.p > 1.0 - level).tolist()


def model_confidence_set(losses: ArrayLike, draws: Draws | Rotations) -> ConfidenceSet:
    """Remove the worst candidate as long as the candidates left are not equally good.

    Parameters
    ----------
    losses : array of shape (n_sessions, n_candidates)
        In order of time, finite.
    draws : Draws or Rotations
        As in `superior_ability`.

    Returns
    -------
    ConfidenceSet
        p-value of each candidate, shape (n_candidates,), and the order in which they were removed.

    Raises
    ------
    ValueError
        If losses are not finite or other sessions were drawn.

    References
    ----------
    Hansen, Lunde & Nason (2011), "The Model Confidence Set", Econometrica 79(2).
    """
    values = as_losses(losses, name="losses", n_dimensions=2)
    drawn = drawn_means(values, draws)
    statistic, drawn_statistic = _pairs(values, drawn)
    left = list(range(values.shape[1]))
    p, removed, so_far = np.ones(values.shape[1]), [], 0.0
    while len(left) > 1:
        of_left = statistic[np.ix_(left, left)]
        worst, observed = int(of_left.max(axis=1).argmax()), float(of_left.max())
        largest = drawn_statistic[:, left][:, :, left].max(axis=(1, 2))
        so_far = max(so_far, share_beyond(largest, observed))
        removed.append(left.pop(worst))
        p[removed[-1]] = so_far
    return ConfidenceSet(p, (*removed, *left))


def _pairs(losses: Floats, drawn: Floats) -> tuple[Floats, Floats]:
    """Difference of each pair over its error, and in each resample; a pair of equal losses differs by nothing."""
    mean = losses.mean(axis=0)
    difference = mean[:, None] - mean[None, :]
    drawn_difference = drawn[:, :, None] - drawn[:, None, :]
    error = np.sqrt(np.mean(drawn_difference**2, axis=0))
    size = np.abs(losses).max(axis=0)
    larger = np.maximum(size[:, None], size[None, :])
    is_same = is_constant(error, larger)
    scale = np.where(is_same, 1.0, error)
    # A pair that differs by the same in every session differs beyond all bounds.
    is_apart = is_same & ~is_constant(np.abs(difference), larger)
    statistic = np.where(is_apart, np.copysign(np.inf, difference), np.where(is_same, 0.0, difference / scale))
    return statistic, np.where(is_same, 0.0, drawn_difference / scale)
