"""Block bootstrap over whole sessions: what a score could have been, had other sessions come.

Lives here: which sessions are drawn, and what an interval and a probability are made of. Not here: the scores of drawn sessions
(`session_scores`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

N_RESAMPLES = 1_000

# Share of the resamples inside an interval.
LEVEL = 0.95

# On noise with overlapping labels an interval of 95 % holds the truth in 89 to 95 of 100 samples from 8 blocks on, of 5 in
# 86 to 93, of 3 in 75.
MIN_BLOCKS = 8

# A score that more resamples leave undefined than this has no interval: the rest are not a sample of it.
MAX_UNDEFINED = 0.05


@dataclass(frozen=True, eq=False)
class Draws:
    """Sessions drawn with replacement, in blocks of neighbours.

    Attributes
    ----------
    order : int array of shape (n_resamples, n_sessions)
        Places of the sessions that each resample is made of, in its order.
    block_sessions : int
        Sessions of a block.
    """

    order: NDArray[np.int32]
    block_sessions: int

    @cached_property
    def counts(self) -> NDArray[np.float32]:
        """How often each resample holds each session, shape (n_resamples, n_sessions)."""
        n_resamples, n_sessions = self.order.shape
        cells = self.order + np.arange(n_resamples, dtype=np.int64)[:, None] * n_sessions
        counted = np.bincount(cells.ravel(), minlength=n_resamples * n_sessions)
        return counted.astype(np.float32).reshape(n_resamples, n_sessions)

    @cached_property
    def expansion(self) -> float:
        """How much further out than a normal quantile the bounds of an interval lie, above 1."""
        from scipy.stats import norm, t

        n_blocks = self.order.shape[1] / self.block_sessions
        tail = (1.0 + LEVEL) / 2.0
        return float(t.ppf(tail, n_blocks - 1.0) / norm.ppf(tail) * math.sqrt(n_blocks / (n_blocks - 1.0)))


def default_block(n_sessions: int, *, label_sessions: int) -> int:
    """Sessions of a block: as many as a label spans at least, more where there are many sessions.

    Scores of neighbouring sessions are alike because their labels overlap; the likeness falls to none over the label. For a
    correlation that falls in a straight line over h sessions the best length of a circular block is
    `(h ** 2 * n / 6) ** (1 / 3)`.

    Parameters
    ----------
    n_sessions : int
        Sessions that are drawn from.
    label_sessions : int
        Sessions that a label spans after its own, at least 1.

    References
    ----------
    Politis & White (2004), "Automatic Block-Length Selection for the Dependent Bootstrap", Econometric Reviews 23(1).

    Examples
    --------
    >>> default_block(500, label_sessions=5), default_block(60, label_sessions=20)
    (13, 20)
    """
    best = math.cbrt(label_sessions**2 * n_sessions / 6.0)
    return max(label_sessions, math.ceil(best), 1)


def draw_sessions(
    n_sessions: int, *, block_sessions: int, seed: int | Sequence[int], n_resamples: int = N_RESAMPLES
) -> Draws | None:
    """Draw blocks of whole sessions, by the circular block bootstrap: after the last session comes the first.

    Parameters
    ----------
    n_sessions : int
    block_sessions : int
        Sessions of a block; the last block of a resample is cut so that each has `n_sessions`.
    seed : int or sequence of int
    n_resamples : int

    Returns
    -------
    Draws or None
        None where the sessions make fewer than `MIN_BLOCKS` blocks.

    Raises
    ------
    ValueError
        If `block_sessions` or `n_resamples` is below 1.

    References
    ----------
    Politis & Romano (1992), "A Circular Block-Resampling Procedure for Stationary Data", in Exploring the Limits of Bootstrap.
    """
    if not _has_enough_blocks(n_sessions, block_sessions=block_sessions, n_resamples=n_resamples):
        return None
    n_blocks = -(-n_sessions // block_sessions)
    starts = np.random.default_rng(seed).integers(0, n_sessions, size=(n_resamples, n_blocks), dtype=np.int32)
    order = (starts[:, :, None] + np.arange(block_sessions, dtype=np.int32)) % np.int32(n_sessions)
    return Draws(order.reshape(n_resamples, -1)[:, :n_sessions].astype(np.int32), block_sessions)


def _has_enough_blocks(n_sessions: int, *, block_sessions: int, n_resamples: int) -> bool:
    """Whether sessions make `MIN_BLOCKS` blocks; refuses numbers that draw nothing."""
    for name, value in (("block_sessions", block_sessions), ("n_resamples", n_resamples)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, was {value}.")
    return n_sessions >= MIN_BLOCKS * block_sessions


def politis_white_block(series: ArrayLike, *, label_sessions: int = 1) -> int:
    """Sessions of a block on average, for `draw_stationary`, by the autocorrelations of some series themselves.

    Parameters
    ----------
    series : array of shape (n_sessions,) or (n_sessions, n_series)
        In order of time, finite. Of several the median counts: of many the longest is chance. One that is constant asks for none.
    label_sessions : int
        Sessions that a label spans after its own: blocks are as long at least. Longer ones are not so long that fewer than `MIN_BLOCKS`
        are left.

    References
    ----------
    Politis & White (2004), "Automatic Block-Length Selection for the Dependent Bootstrap", Econometric Reviews 23(1); Patton,
    Politis & White (2009), its correction, Econometric Reviews 28(4).
    """
    from arch.bootstrap import optimal_block_length

    values = np.asarray(series, dtype=np.float64)
    columns = values.reshape(len(values), -1)
    deviation = columns.std(axis=0)
    # What is left of equal values is rounding.
    varying = columns[:, deviation > 1e-12 * (1.0 + np.abs(columns).max(axis=0, initial=0.0))]
    if not varying.size or len(values) < MIN_BLOCKS:
        return max(label_sessions, 1)
    best = optimal_block_length(varying / varying.std(axis=0))["stationary"].to_numpy()
    return max(label_sessions, min(math.ceil(float(np.median(best))), len(values) // MIN_BLOCKS), 1)


def draw_stationary(
    n_sessions: int, *, block_sessions: int, seed: int | Sequence[int], n_resamples: int = N_RESAMPLES
) -> Draws | None:
    """Draw blocks of random length of whole sessions, by the stationary bootstrap: after the last session comes the first.

    Parameters
    ----------
    n_sessions : int
    block_sessions : int
        Sessions of a block on average.
    seed : int or sequence of int
    n_resamples : int

    Returns
    -------
    Draws or None
        None where the sessions make fewer than `MIN_BLOCKS` blocks.

    Raises
    ------
    ValueError
        If `block_sessions` or `n_resamples` is below 1.

    References
    ----------
    Politis & Romano (1994), "The Stationary Bootstrap", J. American Statistical Association 89(428).
    """
    if not _has_enough_blocks(n_sessions, block_sessions=block_sessions, n_resamples=n_resamples):
        return None
    rng = np.random.default_rng(seed)
    place = np.arange(n_sessions, dtype=np.int32)
    begins = rng.random((n_resamples, n_sessions), dtype=np.float32) < 1.0 / block_sessions
    starts = rng.integers(0, n_sessions, size=(n_resamples, n_sessions), dtype=np.int32)
    # The first session of a resample begins a block, too: of itself `begun` is 0 there.
    begun = np.maximum.accumulate(np.where(begins, place, np.int32(0)), axis=1)
    order = (np.take_along_axis(starts, begun, axis=1) + place - begun) % np.int32(n_sessions)
    return Draws(order.astype(np.int32), block_sessions)


def interval(resampled: ArrayLike, draws: Draws) -> tuple[float, float]:
    """Bounds between which a score lies with a confidence of `LEVEL`; NaN where too many resamples are undefined.

    Percentiles of the resamples, further out the fewer blocks there are: a bootstrap of n blocks spreads by the root of
    (n - 1) / n too little, and knows its spread as badly as Student's t with n - 1 degrees of freedom.

    References
    ----------
    Hesterberg (2015), "What Teachers Should Know About the Bootstrap", The American Statistician 69(4): the expanded percentile
    interval.
    """
    from scipy.stats import norm

    known = _known(resampled)
    if known is None:
        return math.nan, math.nan
    outside = float(norm.sf(draws.expansion * norm.ppf((1.0 + LEVEL) / 2.0)))
    low, high = np.quantile(known, [outside, 1.0 - outside])
    return float(low), float(high)


def probability_above_zero(resampled: ArrayLike, draws: Draws) -> float:
    """How sure a difference is above zero, between 0 and 1; NaN where too many resamples are undefined.

    The share of the resamples above zero, those of zero counting half, drawn towards one half as `interval` is widened. Never 0 or
    1: so many resamples cannot tell.
    """
    from scipy.stats import norm

    known = _known(resampled)
    if known is None:
        return math.nan
    above = float(np.sum((known > 0.0) + 0.5 * (known == 0.0)))
    return float(norm.cdf(norm.ppf((above + 0.5) / (len(known) + 1.0)) / draws.expansion))


def _known(resampled: ArrayLike) -> NDArray[np.float64] | None:
    values = np.asarray(resampled, dtype=np.float64)
    known = values[~np.isnan(values)]
    return known if len(known) and len(known) >= (1.0 - MAX_UNDEFINED) * len(values) else None
