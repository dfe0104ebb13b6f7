"""Trend: where the close stands against its averages, its extremes and the direction of its moves.

Here: kernels of the group. Not here: its table (`__init__.py`), averages and extremes (`smoothing.py`).
"""

from __future__ import annotations

import numpy as np

from hf_pipelines.research.features.lazy_kernel import window_kernel
from hf_pipelines.research.features.technical.smoothing import (
    _FLAT,
    Values,
    _exponential,
    _highest,
    _lowest,
    _means,
    _true_range,
    _wilder,
)
from hf_pipelines.research.features.windows import Window


@window_kernel
def rate_of_change(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Total return from the window's first close to its last, a fraction."""
    for row in range(values.shape[1]):
        values[0, row] = close[row + bars - 1] / close[row] - 1.0


@window_kernel
def sma_gap(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Close above the mean close of the window, as a fraction of that mean."""
    mean = _means(close, bars)
    for row in range(mean.size):
        values[0, row] = close[row + bars - 1] / mean[row] - 1.0


@window_kernel
def ema_gap(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Close above its exponential average of `span`, as a fraction of that average."""
    average = _exponential(close, bars, span)
    for row in range(average.size):
        values[0, row] = close[row + bars - 1] / average[row] - 1.0


@window_kernel
def macd(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Line (exponential average of span 12 less that of 26), its average of span 9, and the line less that.

    Fractions of the last close.
    """
    n = values.shape[1]
    fast, slow, signal = close[:n].copy(), close[:n].copy(), np.zeros(n)
    for bar in range(1, bars):
        here = close[bar : bar + n]
        for row in range(n):
            fast[row] = fast[row] + (here[row] - fast[row]) * (2.0 / 13.0)
            slow[row] = slow[row] + (here[row] - slow[row]) * (2.0 / 27.0)
            signal[row] = signal[row] + ((fast[row] - slow[row]) - signal[row]) * (2.0 / 10.0)
    for row in range(n):
        line, last = fast[row] - slow[row], close[row + bars - 1]
        values[0, row] = line / last
        values[1, row] = signal[row] / last
        values[2, row] = (line - signal[row]) / last


@window_kernel
def directional(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """ADX, +DI and -DI, Wilder's, over `span` bars, 0 to 100; a bar without direction counts as 0."""
    n, n_changes = values.shape[1], bars - 1
    up, down = high[1:] - high[:-1], low[:-1] - low[1:]
    # Prices come in ticks, so up and down are often the same: a tie is no direction, however it is rounded.
    tie = _FLAT * close[bars - 1 :]
    rise, fall, adx = np.zeros(n), np.zeros(n), np.zeros(n)
    for bar in range(n_changes):
        upward, downward = up[bar : bar + n], down[bar : bar + n]
        is_first, is_seeding = bar == span - 1, bar < span
        n_strengths = bar - span + 2
        for row in range(n):
            one = upward[row] if upward[row] - downward[row] > tie[row] and upward[row] > 0.0 else 0.0
            other = downward[row] if downward[row] - upward[row] > tie[row] and downward[row] > 0.0 else 0.0
            if is_seeding:
                rise[row] = rise[row] + one
                fall[row] = fall[row] + other
                if is_first:
                    rise[row] = rise[row] / span
                    fall[row] = fall[row] / span
            else:
                rise[row] = rise[row] + (one - rise[row]) / span
                fall[row] = fall[row] + (other - fall[row]) / span
        if n_strengths < 1:
            continue
        for row in range(n):
            # The true range scales both directions alike and cancels in their contrast.
            total = rise[row] + fall[row]
            strength = 100.0 * abs(rise[row] - fall[row]) / total if total > tie[row] else 0.0
            if n_strengths <= span:
                adx[row] = adx[row] + strength
                if n_strengths == span:
                    adx[row] = adx[row] / span
            else:
                adx[row] = adx[row] + (strength - adx[row]) / span
    moved = _wilder(_true_range(high, low, close), n_changes, span)
    for row in range(n):
        is_flat = moved[row] <= tie[row]
        values[0, row] = adx[row]
        values[1, row] = 0.0 if is_flat else 100.0 * rise[row] / moved[row]
        values[2, row] = 0.0 if is_flat else 100.0 * fall[row] / moved[row]


@window_kernel
def aroon(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Place in time of the highest high (up) and lowest low (down) and up less down; the latest of equals.

    100 if it is the last bar, 0 if it is the first; so constant prices give 100, 100 and 0.
    """
    n = values.shape[1]
    highest, lowest = high[:n].copy(), low[:n].copy()
    high_at, low_at = np.zeros(n), np.zeros(n)
    for bar in range(1, bars):
        highs, lows, at = high[bar : bar + n], low[bar : bar + n], float(bar)
        for row in range(n):
            is_high = highs[row] >= highest[row] * (1.0 - _FLAT)
            is_low = lows[row] <= lowest[row] * (1.0 + _FLAT)
            highest[row] = highs[row] if is_high else highest[row]
            lowest[row] = lows[row] if is_low else lowest[row]
            high_at[row] = at if is_high else high_at[row]
            low_at[row] = at if is_low else low_at[row]
    for row in range(n):
        values[0, row] = 100.0 * high_at[row] / (bars - 1)
        values[1, row] = 100.0 * low_at[row] / (bars - 1)
        values[2, row] = 100.0 * (high_at[row] - low_at[row]) / (bars - 1)


@window_kernel
def high_distance(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Close below the window's highest high, as a fraction of that high: 0 or negative."""
    highest = _highest(high, bars)
    for row in range(highest.size):
        values[0, row] = close[row + bars - 1] / highest[row] - 1.0


@window_kernel
def low_distance(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Close above the window's lowest low, as a fraction of that low: 0 or positive."""
    lowest = _lowest(low, bars)
    for row in range(lowest.size):
        values[0, row] = close[row + bars - 1] / lowest[row] - 1.0
