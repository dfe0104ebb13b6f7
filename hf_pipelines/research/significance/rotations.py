"""Rotations: what means of series could have been if all were zero, where neighbours are alike and sessions are few.

Lives here: the cosines of the Diebold-Mariano test for many candidates at once. Not here: blocks of sessions
(`metrics.bootstrap`), which find too much in a few hundred sessions of dependent losses: they know too little of how far each
candidate varies, and the largest of many statistics takes what varies too little.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hf_pipelines.research.metrics.bootstrap import N_RESAMPLES
from hf_pipelines.research.significance.losses import Floats

# Averages over this many cosines, or fewer where labels are long: the size of a test stays near its nominal one up to an
# autocorrelation of 0.5, of labels of up to an eighth of the sessions too.
LEAST_COSINES = 4


@dataclass(frozen=True, eq=False)
class Rotations:
    """Rotated means.

    Attributes
    ----------
    waves : array of shape (1 + n_cosines, n_sessions)
        Orthonormal: a constant, then slow cosines. Applied to losses the first gives their mean, the others as many numbers that are
        as large as it by chance alone: they vary with the losses' slow ups and downs.
    weights : array of shape (n_resamples, 1 + n_cosines)
        Directions, any as likely as another.
    """

    waves: Floats
    weights: Floats

    @property
    def n_sessions(self) -> int:
        return int(self.waves.shape[1])

    def means(self, losses: Floats) -> Floats:
        """Means of each candidate as they could have been, shape (n_resamples, n_candidates)."""
        return np.asarray(self.weights @ (self.waves @ losses) / math.sqrt(self.n_sessions))


def n_cosines(n_sessions: int, horizon: int) -> int:
    """Cosines by which the error of a mean is known, of labels that span some sessions.

    References
    ----------
    Lazarus, Lewis, Stock & Watson (2018), "HAR Inference: Recommendations for Practice", J. Business & Economic Statistics 36(4).

    Examples
    --------
    >>> n_cosines(500, 1), n_cosines(500, 20), n_cosines(60, 20)
    (25, 12, 4)
    """
    wanted = min(int(0.4 * n_sessions ** (2.0 / 3.0)), n_sessions // (2 * horizon))
    return min(max(wanted, LEAST_COSINES), n_sessions - 1)


def cosine_waves(n_sessions: int, count: int) -> Floats:
    """The first cosines over some sessions, orthonormal, of mean 0; shape (count, n_sessions)."""
    angles = np.outer(np.arange(1, count + 1), (np.arange(n_sessions) + 0.5) / n_sessions)
    return np.asarray(math.sqrt(2.0 / n_sessions) * np.cos(np.pi * angles))


def draw_rotations(
    n_sessions: int, *, horizon: int = 1, seed: int | Sequence[int] = 0, n_resamples: int = N_RESAMPLES
) -> Rotations:
    """Draw rotations for tests of many candidates; of one pair the test is that of Diebold and Mariano.

    Parameters
    ----------
    n_sessions : int
        Two horizons at least.
    horizon : int
        Sessions that a label spans.
    seed : int or sequence of int
    n_resamples : int

    Returns
    -------
    Rotations
        Waves of shape (n_waves, n_sessions) and draws of shape (n_resamples, n_waves).

    Raises
    ------
    ValueError
        If there are fewer sessions, or `horizon` is below 1.

    References
    ----------
    Langsrud (2005), "Rotation Tests", Statistics and Computing 15(1).
    """
    if horizon < 1:
        raise ValueError(f"`horizon` must be at least 1, was {horizon}.")
    if n_sessions < 2 * horizon or n_sessions < 2:
        raise ValueError(
            f"`n_sessions` must be two horizons of {horizon} sessions at least, was {n_sessions}; test more sessions."
        )
    cosines = cosine_waves(n_sessions, n_cosines(n_sessions, horizon))
    waves = np.vstack([np.full((1, n_sessions), 1.0 / math.sqrt(n_sessions)), cosines])
    drawn = np.random.default_rng(seed).normal(size=(n_resamples, len(waves)))
    return Rotations(waves, drawn / np.linalg.norm(drawn, axis=1, keepdims=True))
