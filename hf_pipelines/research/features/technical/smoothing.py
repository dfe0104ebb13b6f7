"""Sums, averages and extremes of windows: what the technical indicators are made of.

Here: functions of one series that give a value for each window, oldest bar first, for the modules of this group alone.
Not here: the indicators. A name is part of the code version of what uses it: another name would make all stored values
of the group out of date.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from hf_pipelines.research.features.lazy_kernel import window_kernel
from hf_pipelines.research.features.windows import Window

Values = npt.NDArray[np.float64]

# A price difference below this share of the price is rounding of the adjustment, not movement.
_FLAT = 1e-10


@window_kernel
def _sums(series: Window, bars: int) -> Window:
    """Sum of each window, from its oldest bar on."""
    n = series.size - bars + 1
    total = np.zeros(n)
    for bar in range(bars):
        here = series[bar : bar + n]
        for row in range(n):
            total[row] = total[row] + here[row]
    return total


@window_kernel
def _means(series: Window, bars: int) -> Window:
    total = _sums(series, bars)
    for row in range(total.size):
        total[row] = total[row] / bars
    return total


@window_kernel
def _deviations(series: Window, mean: Window, bars: int) -> Window:
    """Population standard deviation of each window around its mean."""
    n = mean.size
    squares = np.zeros(n)
    for bar in range(bars):
        here = series[bar : bar + n]
        for row in range(n):
            squares[row] = squares[row] + (here[row] - mean[row]) * (here[row] - mean[row])
    for row in range(n):
        squares[row] = math.sqrt(squares[row] / bars)
    return squares


@window_kernel
def _exponential(series: Window, bars: int, span: int) -> Window:
    """Exponential average with weight 2 / (span + 1) for the newest value, starting at each window's first."""
    n = series.size - bars + 1
    average, weight = series[:n].copy(), 2.0 / (span + 1.0)
    for bar in range(1, bars):
        here = series[bar : bar + n]
        for row in range(n):
            average[row] = average[row] + (here[row] - average[row]) * weight
    return average


@window_kernel
def _wilder(series: Window, bars: int, span: int) -> Window:
    """Wilder's average with weight 1 / span, starting with the mean of each window's first `span` values."""
    n = series.size - bars + 1
    average = _means(series[: n + span - 1], span)
    for bar in range(span, bars):
        here = series[bar : bar + n]
        for row in range(n):
            average[row] = average[row] + (here[row] - average[row]) / span
    return average


@window_kernel
def _highest(series: Window, bars: int) -> Window:
    """Largest value of each window: of two overlapping stretches, doubled until they cover it."""
    widest, width = series.copy(), 1
    while 2 * width <= bars:
        n = widest.size - width
        joined, later = np.empty(n), widest[width:]
        for row in range(n):
            joined[row] = max(widest[row], later[row])
        widest, width = joined, 2 * width
    n, later = series.size - bars + 1, widest[bars - width :]
    highest = np.empty(n)
    for row in range(n):
        highest[row] = max(widest[row], later[row])
    return highest


@window_kernel
def _lowest(series: Window, bars: int) -> Window:
    return -_highest(-series, bars)


@window_kernel
def _typical(high: Window, low: Window, close: Window) -> Window:
    return (high + low + close) / 3.0


@window_kernel
def _true_range(high: Window, low: Window, close: Window) -> Window:
    """True range of every bar but the first."""
    moved = np.empty(close.size - 1)
    for bar in range(moved.size):
        moved[bar] = max(high[bar + 1], close[bar]) - min(low[bar + 1], close[bar])
    return moved


@window_kernel
def _stochastic(high: Window, low: Window, close: Window, bars: int) -> Window:
    highest, lowest = _highest(high, bars), _lowest(low, bars)
    for row in range(highest.size):
        last = close[row + bars - 1]
        spread = highest[row] - lowest[row]
        is_flat = spread <= _FLAT * last
        highest[row] = 50.0 if is_flat else 100.0 * (last - lowest[row]) / spread
    return highest
