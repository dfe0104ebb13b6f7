"""Decay: whether a score of live sessions has fallen below what it was out of fold.

Lives here: a one-sided cumulative sum with a stated run length. Not here: the score of a session.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import ArrayLike

# Standard deviations of a block's mean that the sum forgives each time: half of the fall that is to be found soonest.
ALLOWANCE = 0.5

# Blocks of a score that has not decayed between two false alarms, on average: at five sessions each, ten years.
RUN_LENGTH = 500.0

# How far above its threshold the sum grows at most, in standard deviations: a score that has come back is told in some blocks, however long
# it was away. Until the threshold is passed nothing is changed by it.
MOST_ABOVE = 1.0

# Out-of-fold blocks from which on their mean and deviation are taken as known.
LEAST_BLOCKS = 20


@dataclass(frozen=True)
class Decay:
    """What became of a score.

    Attributes
    ----------
    is_decayed : bool
        Whether the sum has passed its threshold and has not come back to half of it.
    statistic, threshold : float
        Sum at the end, and what it must not pass, in standard deviations of a block's mean.
    since : date or None
        First session of the block from which on the sum has grown without touching 0; None if it is 0.
    path : tuple of float
        Sum after each block.
    n_blocks : int
        Whole blocks of live sessions.
    expected : float
        Mean of the score out of fold.
    """

    is_decayed: bool
    statistic: float
    threshold: float
    since: date | None
    path: tuple[float, ...]
    n_blocks: int
    expected: float


def threshold_for(run_length: float = RUN_LENGTH, allowance: float = ALLOWANCE) -> float:
    """Threshold of a one-sided cumulative sum of standard normal values that are forgiven `allowance` each.

    Parameters
    ----------
    run_length : float
        Values, one a block of sessions, between two false alarms on average, above 2.
    allowance : float
        Standard deviations, above 0.

    Returns
    -------
    float
        Standard deviations; 0 of a run length that even this exceeds.

    Raises
    ------
    ValueError
        If one of them is outside its range.

    References
    ----------
    Siegmund (1985), "Sequential Analysis", chapter 2: the average run length is (exp(2 k b) - 2 k b - 1) / (2 k^2) of b = h + 1.166.

    Examples
    --------
    >>> round(threshold_for(930.0, 0.5), 1)
    5.0
    """
    if run_length <= 2.0 or allowance <= 0.0:
        raise ValueError(f"`run_length` must be above 2 and `allowance` above 0, were {run_length} and {allowance}.")
    # Heavy: definitions load without it.
    from scipy.optimize import brentq

    k = allowance

    def excess(h: float) -> float:
        b = h + 1.166
        return (math.exp(2.0 * k * b) - 2.0 * k * b - 1.0) / (2.0 * k * k) - run_length

    return float(brentq(excess, -1.0, 700.0 / (2.0 * k) - 2.0)) if excess(0.0) < 0.0 else 0.0


def decayed(
    out_of_fold: ArrayLike,
    live: ArrayLike,
    sessions: Sequence[date],
    *,
    block_sessions: int,
    run_length: float = RUN_LENGTH,
) -> Decay | None:
    """Hold the score of live sessions to the score out of fold.

    Both are cut into blocks of whole sessions, so that labels which overlap are counted once, and a block's mean is measured in standard
    deviations of out-of-fold blocks, larger where a block is like the one before. The uncertainty of their own mean is forgiven beside
    the allowance.

    Parameters
    ----------
    out_of_fold, live : array
        Score of each session, such as its information coefficient, in order; NaN where undefined, which is left out.
    sessions : sequence of date
        Of `live`.
    block_sessions : int
        Sessions that a label spans, or more.
    run_length : float
        Blocks between two false alarms on average.

    Returns
    -------
    Decay or None
        None if there is not a whole live block, or out of fold fewer than `LEAST_BLOCKS`, or these are all alike.

    Raises
    ------
    ValueError
        If `sessions` is of another length than `live`, or `block_sessions` is below 1.

    References
    ----------
    Page (1954), "Continuous Inspection Schemes", Biometrika 41(1/2).
    """
    values, days = np.asarray(live, dtype=np.float64), list(sessions)
    if len(values) != len(days):
        raise ValueError(f"`sessions` must be as many as `live`, were {len(days)} of {len(values)}.")
    if block_sessions < 1:
        raise ValueError(f"`block_sessions` must be at least 1, was {block_sessions}.")
    is_known = np.isfinite(values)
    values, days = values[is_known], [day for day, known in zip(days, is_known, strict=True) if known]
    past = np.asarray(out_of_fold, dtype=np.float64)
    before, now = (_block_means(each, block_sessions) for each in (past[np.isfinite(past)], values))
    deviation = _long_deviation(before) if len(before) >= LEAST_BLOCKS else 0.0
    if not len(now) or deviation <= 1e-12:
        return None
    expected = float(before.mean())
    forgiven = ALLOWANCE + 1.0 / math.sqrt(len(before))
    threshold = threshold_for(run_length)
    path, begun, is_decayed = [0.0], 0, False
    for place, mean in enumerate(now):
        grown = path[-1] + (expected - mean) / deviation - forgiven
        path.append(min(max(0.0, grown), threshold + MOST_ABOVE))
        is_decayed = path[-1] > threshold / 2.0 if is_decayed else path[-1] > threshold
        if path[-1] == 0.0:
            begun = place + 1
    since = days[begun * block_sessions] if path[-1] > 0.0 else None
    return Decay(is_decayed, path[-1], threshold, since, tuple(path[1:]), len(now), expected)


def _long_deviation(means: np.ndarray) -> float:
    """Standard deviation of block means by which their sum grows: neighbours that are alike count for more than one block each."""
    deviation = float(means.std(ddof=1))
    if deviation <= 1e-12:
        return 0.0
    centred = means - means.mean()
    alike = max(float((centred[1:] * centred[:-1]).sum() / (centred**2).sum()), 0.0)
    return deviation * math.sqrt(1.0 + 2.0 * alike)


def _block_means(values: np.ndarray, block_sessions: int) -> np.ndarray:
    """Means of whole blocks, the first ones; the rest is not a block yet."""
    n = len(values) // block_sessions
    return np.asarray(values[: n * block_sessions].reshape(n, block_sessions).mean(axis=1))
