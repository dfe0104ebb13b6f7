"""Barriers: which of a profit, a stop and the time a position meets first, and whether a primary rule's side was right.

References
----------
López de Prado (2018), "Advances in Financial Machine Learning", ch. 3.4 (triple barrier) and 3.6 (meta-labels). There the
barriers are met by closes; here by the high and the low of a bar, as an order in the market would be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.params import Number, Text
from hf_pipelines.research.targets.returns import bar_growth, require_possible
from hf_pipelines.research.targets.target import RETURN_COLUMNS, ROUNDING_RETURN, Params, TargetNeeds, label_rows
from hf_pipelines.research.targets.volatility import Floats, trailing_volatility

BARRIER_COLUMNS = ("open", "high", "low", *RETURN_COLUMNS)

# Code of what ended a row, as `y` of the triple barrier.
STOP, TIME, PROFIT = 0.0, 1.0, 2.0

PRIMARY = Text(
    pattern=r"[a-z][a-z0-9_]{0,62}", meaning="feature of the strategy whose sign is the side of the primary rule"
)


def barrier(default: float, *, of: str) -> Number:
    """Width of a barrier."""
    return Number(default=default, low=0.01, high=100, meaning=f"{of}, in trailing volatilities of a bar")


@dataclass(frozen=True, eq=False)
class Ends:
    """What ended each row of sorted bars; rows without an end are not over, or not known.

    Attributes
    ----------
    rows : int array
        Rows of the bars that have ended.
    end : int array
        Bar that ended each.
    met : float array
        `STOP`, `TIME` or `PROFIT`.
    gain : float array
        Total return of the share to the price at which it ended: the barrier, the open where that lies beyond it already,
        or the close where the time was up.
    """

    rows: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    met: Floats
    gain: Floats


def first_barriers(bars: pl.DataFrame, side: Floats, params: Params) -> Ends:
    """Which barrier the next `horizon_bars` bars meet first.

    A bar whose open lies beyond a barrier has met that one. Else, where its high and low meet both, the stop counts: what came
    first is not known, and the worse is assumed. Splits and dividends count on their day.

    Parameters
    ----------
    bars : DataFrame
        Sorted by (symbol, ts), with `BARRIER_COLUMNS`.
    side : array of shape (n_bars,)
        1 for a long, -1 for a short position; NaN or 0: none.
    params : mapping
        `horizon_bars`, `volatility_bars`; `profit` and `stop`, in volatilities.
    """
    require_possible(bars, prices=("open", "high", "low", "close"))
    growth, n_bars = bar_growth(bars), bars.height
    symbol = bars["symbol"].rle_id().to_numpy()
    volatility = trailing_volatility(growth, symbol, n_returns=params["volatility_bars"])
    opens, high, low, close, split, dividend = (bars[name].to_numpy() for name in BARRIER_COLUMNS)
    profit, stop = params["profit"] * volatility, params["stop"] * volatility
    way = np.sign(np.nan_to_num(side))
    rows = np.flatnonzero((np.nan_to_num(volatility) > ROUNDING_RETURN) & (way != 0.0))
    end, met, gain = np.full(n_bars, -1), np.full(n_bars, TIME), np.full(n_bars, np.nan)
    worth = np.ones(n_bars)
    for step in range(1, params["horizon_bars"] + 1):
        rows = rows[rows + step < n_bars]
        rows = rows[symbol[rows + step] == symbol[rows]]
        at, sign = rows + step, way[rows]
        # What a price of this bar is worth, as a multiple of the close of the row.
        unit = worth[rows] * split[at] / close[at - 1]
        first, highest, lowest, last = (unit * (price[at] + dividend[at]) - 1.0 for price in (opens, high, low, close))
        best, worst = np.maximum(sign * highest, sign * lowest), np.minimum(sign * highest, sign * lowest)
        upper, lower = profit[rows] - ROUNDING_RETURN, ROUNDING_RETURN - stop[rows]
        is_opened = (sign * first >= upper) | (sign * first <= lower)
        is_stop = np.where(is_opened, sign * first <= lower, worst <= lower)
        is_profit = ~is_stop & (best >= upper)
        is_known = ~np.isnan(last)
        is_over = is_known & (is_stop | is_profit | (step == params["horizon_bars"]))
        at_barrier = sign * np.where(is_profit, profit[rows], -stop[rows])
        reached = np.where(is_stop | is_profit, np.where(is_opened, first, at_barrier), last)
        ended = rows[is_over]
        end[ended], gain[ended] = at[is_over], reached[is_over]
        met[ended] = np.where(is_profit, PROFIT, np.where(is_stop, STOP, TIME))[is_over]
        worth[rows] = 1.0 + last
        rows = rows[is_known & ~is_over]
    found = np.flatnonzero(end >= 0)
    return Ends(found, end[found], met[found], gain[found])


def needs_barriers(params: Params) -> TargetNeeds:
    """Return the needs: opens, highs and lows of at most `horizon_bars` bars, and the bars of the volatility."""
    return TargetNeeds(
        horizon_bars=params["horizon_bars"], history_bars=params["volatility_bars"], columns=BARRIER_COLUMNS
    )


def label_triple_barrier(bars: pl.DataFrame, params: Params) -> pl.DataFrame:
    """Label rows by the barrier that a long position meets first.

    `y` is 2 (up) where the profit of `profit` trailing volatilities above the row's close is met first, 0 (down) where the
    stop of `stop` below it is, 1 (flat) where neither is within `horizon_bars`. The label ends with the bar that meets it;
    `target` is the total return until then, at the barrier or the price beyond it that the bar opens with.

    A row has no label where its volatility is unknown or zero, an event before its end is unknown, or the bars end first:
    of a halted symbol its own later bars count, and of one that is delisted the last rows are not known.
    """
    bars = bars.sort("symbol", "ts")
    ends = first_barriers(bars, np.ones(bars.height), params)
    return label_rows(bars, ends.rows, ends.end, target=ends.gain).with_columns(y=pl.Series(ends.met))


def needs_meta_label(params: Params) -> TargetNeeds:
    """Return the needs: those of the barriers, and the feature that the primary rule takes its side from."""
    return TargetNeeds(
        horizon_bars=params["horizon_bars"],
        history_bars=params["volatility_bars"],
        columns=BARRIER_COLUMNS,
        features=(params["primary"],),
    )


def label_meta_label(bars: pl.DataFrame, params: Params) -> pl.DataFrame:
    """Label rows by whether the side of a primary rule was right.

    The primary rule is long where the feature `primary` is above zero and short where it is below; where it is zero or unknown
    there is no label. Barriers are those of its side: the profit of a short position lies below the close. `y` is 1 (right)
    where the position gains until the first of them or the end of the time, else 0 (wrong); `target` is what it gains.
    """
    bars = bars.sort("symbol", "ts")
    side = bars[params["primary"]].cast(pl.Float64).to_numpy()
    ends = first_barriers(bars, side, params)
    gain = np.sign(side[ends.rows]) * ends.gain
    y = (gain > ROUNDING_RETURN).astype(np.float64)
    return label_rows(bars, ends.rows, ends.end, target=gain).with_columns(y=pl.Series(y))
