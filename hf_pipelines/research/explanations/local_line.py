"""A line fitted to a model around one row (LIME's idea for numbers).

References
----------
Ribeiro, Singh & Guestrin (2016), "'Why Should I Trust You?': Explaining the Predictions of Any Classifier", KDD.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hf_pipelines.research.explanations.contributions import Ask, Floats

# Deviations of the training rows within which the row is moved, and the width of the kernel that weighs how near a moved row is.
SPREAD = 0.5
WIDTH = 0.75

PENALTY = 1e-3


@dataclass(frozen=True, eq=False)
class LocalLine:
    """A line through the predictions around a row.

    Attributes
    ----------
    slopes : array of shape (n_features,)
        Change of the prediction for a change of each feature by one; NaN of a feature that is unknown or does not vary.
    effects : array of shape (n_features,)
        Change for one deviation of the training rows.
    r2 : float
        Share of the variance of the predictions around the row that the line explains: near 1 the model is a line there, near 0
        the slopes say nothing. NaN where the predictions do not vary.
    """

    slopes: Floats
    effects: Floats
    r2: float


def fit_local_line(
    ask: Ask, row: npt.NDArray[np.float32], training: npt.NDArray[np.float32], *, n_samples: int = 2_000, seed: int = 0
) -> LocalLine:
    """Fit a ridge to predictions of rows that are moved a little from `row`, the nearer ones weighing more.

    Parameters
    ----------
    ask : callable
        As for `permutation_contributions`.
    row : float32 array of shape (n_features,)
    training : float32 array of shape (n_training, n_features)
        Whose deviations say how much a feature is moved.
    n_samples : int
    seed : int

    Returns
    -------
    LocalLine
        Slopes of shape (n_features,), NaN of features that are unknown or do not vary, and the share that the line explains.

    Raises
    ------
    ValueError
        If there are fewer samples than ten a feature.
    """
    row, training = np.asarray(row, dtype=np.float64), np.asarray(training, dtype=np.float64)
    deviation = np.nanstd(training, axis=0)
    moved = np.flatnonzero(np.isfinite(row) & (deviation > 0))
    if n_samples < 10 * len(moved):
        raise ValueError(f"`n_samples` must be at least {10 * len(moved)}, ten a feature, was {n_samples}; take more.")
    slopes = np.full(len(row), np.nan)
    if not len(moved):
        return LocalLine(slopes, slopes.copy(), float("nan"))
    steps = np.random.default_rng(seed).standard_normal((n_samples, len(moved))) * SPREAD
    near = np.repeat(row[None, :], n_samples, axis=0)
    near[:, moved] += steps * deviation[moved]
    near = near.astype(np.float32)
    # As they were asked: float32 rounds.
    steps = (near[:, moved].astype(np.float64) - row[moved]) / deviation[moved]
    predicted = np.asarray(ask(near), dtype=np.float64)
    if np.ptp(predicted) == 0.0:
        slopes[moved] = 0.0
        return LocalLine(slopes, slopes.copy(), float("nan"))
    weight = np.exp(-(steps**2).mean(axis=1) / WIDTH**2)
    share = weight / weight.sum()
    centred = steps - share @ steps
    target = predicted - share @ predicted
    gram = (centred * share[:, None]).T @ centred
    found = np.linalg.solve(gram + PENALTY * SPREAD**2 * np.eye(len(moved)), (centred * share[:, None]).T @ target)
    slopes[moved] = found / deviation[moved]
    total = share @ target**2
    left = share @ (target - centred @ found) ** 2
    return LocalLine(slopes, slopes * np.where(deviation > 0, deviation, np.nan), float(1.0 - left / total))
