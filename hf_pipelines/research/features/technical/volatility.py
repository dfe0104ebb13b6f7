"""Volatility: how far prices move, in a bar, over a night and over a window; and bands of that width.

Here: kernels of the group. Not here: its table (`__init__.py`), averages and extremes (`smoothing.py`).
"""

from __future__ import annotations

import math

import numpy as np

from hf_pipelines.research.features.lazy_kernel import window_kernel
from hf_pipelines.research.features.technical.smoothing import (
    _FLAT,
    Values,
    _deviations,
    _exponential,
    _means,
    _true_range,
    _wilder,
)
from hf_pipelines.research.features.windows import Window


@window_kernel
def atr(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Wilder's average true range over `span` bars, as a fraction of the close."""
    average = _wilder(_true_range(high, low, close), bars - 1, span)
    for row in range(average.size):
        values[0, row] = average[row] / close[row + bars - 1]


@window_kernel
def bollinger(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Distance of the bands, 2 population deviations around the mean, over the mean; place of the close in them.

    The place is 0 at the lower band, 1 at the upper, beyond them outside; 0.5 if the price never moved.
    """
    n = values.shape[1]
    mean = _means(close, bars)
    deviation = _deviations(close, mean, bars)
    for row in range(n):
        last = close[row + bars - 1]
        is_flat = deviation[row] <= _FLAT * last
        values[0, row] = 4.0 * deviation[row] / mean[row]
        values[1, row] = 0.5 if is_flat else 0.5 + (last - mean[row]) / (4.0 * deviation[row])


@window_kernel
def keltner(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Place of the close between exponential average of `span` less and plus 2 ATR(10), 0 to 1; 0.5 if flat."""
    average = _exponential(close, bars, span)
    moved = _wilder(_true_range(high, low, close), bars - 1, 10)
    for row in range(average.size):
        last = close[row + bars - 1]
        is_flat = moved[row] <= _FLAT * last
        values[0, row] = 0.5 if is_flat else 0.5 + (last - average[row]) / (4.0 * moved[row])


@window_kernel
def volatility(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Sample standard deviation (n - 1) of the log total returns, a fraction per bar, not annualised."""
    n_returns = bars - 1
    returns = np.empty(close.size - 1)
    for bar in range(returns.size):
        returns[bar] = math.log(close[bar + 1] / close[bar])
    deviation = _deviations(returns, _means(returns, n_returns), n_returns)
    for row in range(deviation.size):
        values[0, row] = deviation[row] * math.sqrt(n_returns / (n_returns - 1))


@window_kernel
def parkinson(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Volatility from the bars' ranges, ln(high / low)^2 / (4 ln 2): a fraction per bar."""
    squares = np.empty(close.size)
    for bar in range(close.size):
        squares[bar] = math.log(high[bar] / low[bar]) ** 2 / (4.0 * math.log(2.0))
    mean = _means(squares, bars)
    for row in range(mean.size):
        values[0, row] = math.sqrt(mean[row])


@window_kernel
def garman_klass(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Volatility from range and body, ln(high / low)^2 / 2 - (2 ln 2 - 1) ln(close / open)^2: a fraction per bar."""
    squares = np.empty(close.size)
    for bar in range(close.size):
        spread, body = math.log(high[bar] / low[bar]), math.log(close[bar] / open_[bar])
        squares[bar] = 0.5 * spread * spread - (2.0 * math.log(2.0) - 1.0) * body * body
    mean = _means(squares, bars)
    for row in range(mean.size):
        values[0, row] = math.sqrt(max(mean[row], 0.0))


@window_kernel
def yang_zhang(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Volatility from nights, bodies and ranges, free of drift and of opening jumps: a fraction per bar."""
    n_moves = bars - 1
    night, body, inside = np.empty(close.size - 1), np.empty(close.size - 1), np.empty(close.size - 1)
    for bar in range(close.size - 1):
        opened = open_[bar + 1]
        up, down = math.log(high[bar + 1] / opened), math.log(low[bar + 1] / opened)
        night[bar] = math.log(opened / close[bar])
        body[bar] = math.log(close[bar + 1] / opened)
        inside[bar] = up * (up - body[bar]) + down * (down - body[bar])
    nights = _deviations(night, _means(night, n_moves), n_moves)
    bodies = _deviations(body, _means(body, n_moves), n_moves)
    insides = _means(inside, n_moves)
    sample = n_moves / (n_moves - 1.0)
    share = 0.34 / (1.34 + (n_moves + 1.0) / (n_moves - 1.0))
    for row in range(insides.size):
        variance = nights[row] ** 2 * sample + share * bodies[row] ** 2 * sample + (1.0 - share) * insides[row]
        values[0, row] = math.sqrt(max(variance, 0.0))


@window_kernel
def overnight_gap(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Open above the close before, as a fraction of that close: a total return."""
    for row in range(values.shape[1]):
        values[0, row] = open_[row + 1] / close[row] - 1.0


@window_kernel
def candle(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Range over the close; body, upper and lower shadow over the range, all 0 if the bar has no range.

    The body is positive if the bar closed above its open; its size and the shadows add up to 1.
    """
    for row in range(values.shape[1]):
        spread, top, bottom = high[row] - low[row], max(open_[row], close[row]), min(open_[row], close[row])
        is_flat = spread <= _FLAT * close[row]
        values[0, row] = spread / close[row]
        values[1, row] = 0.0 if is_flat else (close[row] - open_[row]) / spread
        values[2, row] = 0.0 if is_flat else (high[row] - top) / spread
        values[3, row] = 0.0 if is_flat else (bottom - low[row]) / spread
