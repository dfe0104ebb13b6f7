"""Numbers that judge the falls of an equity curve: how deep, how long, how soon made good.

Lives here: one function per quantity. Not here: the depth itself (`account.drawdown`), the episodes as a table
(`backtest/result.py`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from hf_pipelines.research.metrics.account import annual_return, drawdown


def calmar_ratio(equity: ArrayLike, *, periods_per_year: float) -> float:
    """Compound growth a year over the largest drawdown; NaN where it never fell or no time has passed.

    Raises
    ------
    ValueError
        As `annual_return`.

    References
    ----------
    Young (1991), "Calmar Ratio: A Smoother Tool", Futures 20(1): he takes the last 36 months, here it is the whole curve.
    """
    depth = float(drawdown(equity).max())
    return annual_return(equity, periods_per_year=periods_per_year) / depth if depth > 0.0 else math.nan


def ulcer_index(equity: ArrayLike) -> float:
    """Root mean square of the drawdown over all values: deep and long falls count most. A positive fraction.

    Raises
    ------
    ValueError
        As `drawdown`.

    References
    ----------
    Martin & McCann (1989), "The Investor's Guide to Fidelity Funds".

    Examples
    --------
    >>> round(ulcer_index([100.0, 80.0, 100.0, 100.0]), 6)
    0.1
    """
    return math.sqrt(float(np.mean(drawdown(equity) ** 2)))


def time_under_water(equity: ArrayLike) -> float:
    """Share of the values that lie below an earlier one, 0 to 1.

    Raises
    ------
    ValueError
        As `drawdown`.
    """
    return float(np.mean(drawdown(equity) > 0.0))


def longest_drawdown(equity: ArrayLike) -> int:
    """Steps of the longest way from a peak to the first value at or above it again, or to the end; 0 where it never fell.

    Raises
    ------
    ValueError
        As `drawdown`.

    Examples
    --------
    >>> longest_drawdown([100.0, 90.0, 95.0, 100.0, 99.0])
    3
    """
    below = drawdown(equity) > 0.0
    peaks = np.flatnonzero(~below)
    # From each value that is a peak to the next one; the last to the end, where it fell after it.
    ends = np.append(peaks[1:], len(below) - 1)
    ways = np.where(ends - peaks > 1, ends - peaks, 0)
    ways[-1] = ends[-1] - peaks[-1]
    return int(ways.max())


def recovery_of_max_drawdown(equity: ArrayLike) -> float:
    """Steps from the bottom of the deepest drawdown to the first value at or above its peak again.

    NaN where it never fell, and while it is not made good.

    Raises
    ------
    ValueError
        As `drawdown`.

    Examples
    --------
    >>> recovery_of_max_drawdown([100.0, 90.0, 80.0, 95.0, 100.0])
    2.0
    """
    fall = drawdown(equity)
    bottom = int(fall.argmax())
    again = np.flatnonzero(fall[bottom:] == 0.0)
    return float(again[0]) if fall[bottom] > 0.0 and len(again) else math.nan
