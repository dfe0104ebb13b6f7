"""Symmetric cross-validation of a choice: how often the best trial of one half of time is among the worse in the other.

Lives here: the probability of backtest overfitting. Not here: the Sharpe ratio of the chosen trial beside their number (`deflation`).

References
----------
Bailey, Borwein, López de Prado & Zhu (2017), "The Probability of Backtest Overfitting", J. Computational Finance 20(4): combinatorially
symmetric cross-validation (CSCV).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_pipelines.research.metrics.account import ROUNDING_VOLATILITY
from hf_pipelines.research.wording import some_of

Floats = NDArray[np.float64]

# 16 blocks make 12,870 splits, 20 make 184,756: no more is learned from those, and it takes 14 times as long.
MOST_BLOCKS = 20

# A block of fewer periods is no sample of anything.
LEAST_BLOCK = 2

# Splits whose ratios are looked at together: of 1,000 trials some 16 MB.
_SPLITS_AT_A_TIME = 1_024


@dataclass(frozen=True, eq=False)
class ChoiceOverfitting:
    """What becomes of the best trial of one half of time in the other half.

    Attributes
    ----------
    probability : float
        Probability of backtest overfitting: share of the splits in which the best trial of the one half is not above the middle of all
        trials in the other. Around 0.5 for trials without skill, 0 where the best is so everywhere.
    logits : array of shape (n_splits,)
        `log(w / (1 - w))` of the chosen trial's relative rank w in the other half, 0 < w < 1; not above 0 is overfitted.
    chosen : array of shape (n_splits,)
        Sharpe ratio per period of the chosen trial in the half that it was chosen by.
    tested : array of shape (n_splits,)
        In the other half.
    probability_of_loss : float
        Share of the splits in which `tested` is below zero.
    degradation : float
        Slope of `tested` on `chosen` over the splits: below zero, the better the one half the worse the other. NaN where `chosen` is
        the same in all splits.
    n_trials, n_blocks : int
    """

    probability: float
    logits: Floats
    chosen: Floats
    tested: Floats
    probability_of_loss: float
    degradation: float
    n_trials: int
    n_blocks: int


def probability_of_backtest_overfitting(returns: ArrayLike, n_blocks: int = 16) -> ChoiceOverfitting:
    """Choose the trial with the best Sharpe ratio by each half of the blocks of time, and rank it in the other half.

    Parameters
    ----------
    returns : array of shape (n_periods, n_trials)
        Return of each trial in each period, in order of time, all finite: fractions after costs.
    n_blocks : int
        Even; the periods are cut into so many blocks of the same length, the first ones one period longer where it does not divide.
        Labels and positions that reach over the edge of a block are not purged, as in the paper.

    Returns
    -------
    ChoiceOverfitting
        Of trials that are equally good the first is chosen; equal ratios share their middle rank. A trial that did nothing in
        a half has a ratio of 0 there.

    Raises
    ------
    ValueError
        If there are fewer than two trials, two of them are the same, one is constant, a return is not finite, or there are too few
        periods for the blocks.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(480, 50))
    >>> 0.3 < probability_of_backtest_overfitting(noise, n_blocks=8).probability < 0.7
    True
    """
    values = _checked(returns, n_blocks)
    n_trials = values.shape[1]
    sums, squares, lengths = _by_block(values, n_blocks)
    halves = np.array([*itertools.combinations(range(n_blocks), n_blocks // 2)])
    n_splits = len(halves)
    is_in = np.zeros((n_splits, n_blocks))
    np.put_along_axis(is_in, halves, 1.0, axis=1)
    chosen, tested, ranks = np.empty(n_splits), np.empty(n_splits), np.empty(n_splits)
    # In the order of `combinations` the other half of split i is split n - 1 - i: each ratio serves both ways.
    for start in range(0, n_splits // 2, _SPLITS_AT_A_TIME):
        first = np.arange(start, min(start + _SPLITS_AT_A_TIME, n_splits // 2))
        second = n_splits - 1 - first
        ratios = tuple(_ratios(is_in[each], sums, squares, lengths) for each in (first, second))
        for at, ours, others in ((first, *ratios), (second, *ratios[::-1])):
            best = ours.argmax(axis=1)
            rows = np.arange(len(at))
            chosen[at], tested[at] = ours[rows, best], others[rows, best]
            below = (others < tested[at, None]).sum(axis=1)
            equal = (others == tested[at, None]).sum(axis=1)
            ranks[at] = below + (equal + 1) / 2
    relative = ranks / (n_trials + 1)
    logits = np.log(relative / (1.0 - relative))
    spread = chosen - chosen.mean()
    is_flat = float(np.abs(spread).max()) <= ROUNDING_VOLATILITY
    return ChoiceOverfitting(
        probability=float(np.mean(relative <= 0.5)),
        logits=logits,
        chosen=chosen,
        tested=tested,
        probability_of_loss=float(np.mean(tested < 0.0)),
        degradation=math.nan if is_flat else float(spread @ tested / (spread @ spread)),
        n_trials=n_trials,
        n_blocks=n_blocks,
    )


def _checked(returns: ArrayLike, n_blocks: int) -> Floats:
    values = np.asarray(returns, dtype=np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError(
            "`returns` must be finite, a row a period and a column a trial, were not; leave out periods that a trial lacks."
        )
    n_periods, n_trials = values.shape
    if n_blocks % 2 or not 2 <= n_blocks <= MOST_BLOCKS:
        raise ValueError(f"`n_blocks` must be even, from 2 to {MOST_BLOCKS}, was {n_blocks}.")
    if n_periods < LEAST_BLOCK * n_blocks:
        raise ValueError(
            f"`returns` must have at least {LEAST_BLOCK * n_blocks} periods for {n_blocks} blocks, had {n_periods}; take fewer blocks."
        )
    if n_trials < 2:
        raise ValueError(f"`returns` must have at least two trials, had {n_trials}: of one nothing is chosen.")
    if len(still := np.flatnonzero(np.ptp(values, axis=0) <= ROUNDING_VOLATILITY)):
        raise ValueError(
            f"`returns` must move in every trial, were constant in {_named(still)}; leave out trials that never held anything."
        )
    _, first = np.unique(values, axis=1, return_index=True)
    if len(first) < n_trials:
        copies = np.setdiff1d(np.arange(n_trials), first)
        raise ValueError(
            f"`returns` must be of different trials, were equal to those of another in {_named(copies)}; give each trial once."
        )
    return values


def _named(columns: NDArray[np.int64]) -> str:
    return f"column{'s' * (len(columns) > 1)} {some_of([str(each) for each in columns])}"


def _by_block(values: Floats, n_blocks: int) -> tuple[Floats, Floats, Floats]:
    """Sums and sums of squares of each trial in each block, less its mean over all so that no digits are lost; block lengths."""
    blocks = np.array_split(values, n_blocks)
    mean = values.mean(axis=0)
    return (
        np.stack([block.sum(axis=0) for block in blocks]),
        np.stack([((block - mean) ** 2).sum(axis=0) for block in blocks]),
        np.array([float(len(block)) for block in blocks]),
    )


def _ratios(is_in: Floats, sums: Floats, squares: Floats, lengths: Floats) -> Floats:
    """Sharpe ratio per period of each trial in the blocks of each split."""
    n = (is_in @ lengths)[:, None]
    mean = is_in @ sums / n
    overall = sums.sum(axis=0) / lengths.sum()
    variance = (is_in @ squares - n * (mean - overall) ** 2) / (n - 1.0)
    is_risky = variance > ROUNDING_VOLATILITY**2
    # What did nothing has a mean of 0, whatever it is divided by.
    return np.asarray(np.where(is_risky, mean, 0.0) / np.sqrt(np.where(is_risky, variance, 1.0)))
