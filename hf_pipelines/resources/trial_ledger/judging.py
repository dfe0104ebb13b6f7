"""Judging: a chosen trial beside all that count.

Lives here: what the ledger knows of the trials, as the deflation takes it. Does not live here: the statistics
(`research.overfitting`).
"""

from collections import defaultdict

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hf_pipelines.research.metrics.bootstrap import draw_stationary, politis_white_block
from hf_pipelines.research.overfitting import (
    ChoiceOverfitting,
    Deflation,
    SharpeEstimate,
    deflate,
    probability_of_backtest_overfitting,
)
from hf_pipelines.research.significance import reality_check, superior_ability
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.trial_ledger.records import RETURNS
from hf_pipelines.resources.trial_ledger.returns import read_returns, side_by_side
from hf_pipelines.resources.trial_ledger.segments import Unreadable

# Of time, for the probability of backtest overfitting: 12,870 splits.
N_BLOCKS = 16

# Of returns in standard deviations, by which copies are known.
COPY_DIGITS = 6


def sharpes_of(counted: pl.DataFrame) -> NDArray[np.float64]:
    """Sharpe ratio per period of each trial, NaN where it has none."""
    return counted["estimate"].struct.field("sharpe").fill_null(float("nan")).to_numpy()


def best_of(counted: pl.DataFrame) -> pl.DataFrame:
    """The trial with the highest Sharpe ratio, one row; none where none has one."""
    ordered = counted.sort(pl.col("estimate").struct.field("sharpe"), nulls_last=False, maintain_order=True)
    return _estimated(ordered).tail(1)


def estimate_of(trials: pl.DataFrame) -> SharpeEstimate | None:
    """Sharpe ratio per session of the last of some trials that has one; None where none has."""
    known = _estimated(trials).select(pl.col("estimate").struct.unnest())
    if known.is_empty():
        return None
    sharpe, n, skew, kurtosis = known.select("sharpe", "n", "skew", "kurtosis").row(-1)
    return SharpeEstimate(sharpe, int(n), skew, kurtosis)


def _estimated(trials: pl.DataFrame) -> pl.DataFrame:
    """Trials with an estimate: the ledger may hold what others have written, and moments that no distribution has are none."""
    field = pl.col("estimate").struct.field
    numbers = [field(each) for each in ("sharpe", "n", "skew", "kurtosis")]
    is_known = [each.is_not_null() & each.is_finite() for each in numbers]
    least = 1.0 + field("skew") ** 2
    return trials.filter(*is_known, field("n") >= 2, field("kurtosis") >= least * (1.0 - 1e-9))


def judge(objects: ObjectStore, counted: pl.DataFrame, chosen: SharpeEstimate) -> tuple[Deflation, list[Unreadable]]:
    """Deflate a Sharpe ratio by the trials that count, itself among them; also return series that are gone or were changed.

    A trial without its series counts as independent of all others.
    """
    named = counted["returns"].drop_nulls().unique(maintain_order=True)
    read = {digest: read_returns(objects, digest) for digest in named}
    series = [each for each in read.values() if each is not None]
    lacking = [
        Unreadable(objects.address(f"{RETURNS}/{digest}"), "gone, or not the return series that was stored")
        for digest, each in read.items()
        if each is None
    ]
    deflation = deflate(
        chosen, sharpes=sharpes_of(counted), returns=side_by_side(series), n_trials=max(counted.height, len(series), 1)
    )
    return deflation, lacking


def judge_choice(table: NDArray[np.float64]) -> tuple[ChoiceOverfitting | None, int]:
    """What becomes of choosing the best of the trials that share their sessions (`sharing_sessions`); also how many do.

    None where there is one trial, or fewer sessions than blocks need.
    """
    n_periods, n_trials = table.shape
    if n_trials < 2 or n_periods < 2 * N_BLOCKS:
        return None, n_trials
    return probability_of_backtest_overfitting(table, N_BLOCKS), n_trials


def judge_superiority(table: NDArray[np.float64]) -> tuple[float, float] | None:
    """Whether the best of the trials that share their sessions (`sharing_sessions`) earns more than nothing, given that it is the best of
    so many.

    Returns
    -------
    tuple of float or None
        p-values: Hansen's of superior predictive ability (the consistent one), and White's of his reality check. None where no trials
        share sessions enough for blocks.
    """
    n_periods, n_trials = table.shape
    draws = (
        draw_stationary(n_periods, block_sessions=politis_white_block(table), seed=0)
        if n_trials and n_periods
        else None
    )
    if draws is None:
        return None
    nothing = np.zeros(n_periods)
    return superior_ability(nothing, -table, draws).consistent, reality_check(nothing, -table, draws)


def sharing_sessions(objects: ObjectStore, counted: pl.DataFrame) -> NDArray[np.float64]:
    """Returns of the trials that share their sessions, a column each.

    Trials of other weeks have other sessions: the largest group is taken, of several as large the one that ends last. Of copies the first is
    taken.
    """
    groups: dict[bytes, list[NDArray[np.float64]]] = defaultdict(list)
    last: dict[bytes, int] = {}
    for digest in counted["returns"].drop_nulls().unique(maintain_order=True):
        if (read := read_returns(objects, digest)) is not None and len(read[0]):
            days, returns = read
            groups[days.tobytes()].append(returns)
            last[days.tobytes()] = int(days[-1])
    if not groups:
        return np.empty((0, 0))
    chosen = max(groups, key=lambda each: (len(groups[each]), last[each]))
    table = np.stack(groups[chosen], axis=1)
    deviation = table.std(axis=0)
    # A trial that never held anything has no Sharpe ratio.
    moved = table[:, deviation > 0.0]
    # The same bets in another size, or with other rounding, are no other choice: copies of a bad trial would move the middle below the best.
    _, first = np.unique((moved / deviation[deviation > 0.0]).round(COPY_DIGITS), axis=1, return_index=True)
    return np.asarray(moved[:, np.sort(first)])
