"""Oscillators: where the close stands in the range or the flow of its window, between two fixed ends.

Here: kernels of the group. Not here: its table (`__init__.py`), averages and extremes (`smoothing.py`).
"""

from __future__ import annotations

import numpy as np

from hf_pipelines.research.features.lazy_kernel import window_kernel
from hf_pipelines.research.features.technical.smoothing import (
    _FLAT,
    Values,
    _means,
    _stochastic,
    _sums,
    _typical,
    _wilder,
)
from hf_pipelines.research.features.windows import Window


@window_kernel
def rsi(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Wilder's relative strength index over `span` bars, 0 to 100; 50 if the price never moved."""
    n_changes = close.size - 1
    gain, loss = np.empty(n_changes), np.empty(n_changes)
    for bar in range(n_changes):
        change = close[bar + 1] - close[bar]
        gain[bar] = max(change, 0.0)
        loss[bar] = max(-change, 0.0)
    gains, losses = _wilder(gain, bars - 1, span), _wilder(loss, bars - 1, span)
    for row in range(gains.size):
        total = gains[row] + losses[row]
        is_flat = total <= _FLAT * close[row + bars - 1]
        values[0, row] = 50.0 if is_flat else 100.0 * gains[row] / total


@window_kernel
def stochastic_k(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Place of the close between the window's lowest low and highest high, 0 to 100; 50 if those agree."""
    place = _stochastic(high, low, close, bars)
    for row in range(place.size):
        values[0, row] = place[row]


@window_kernel
def stochastic_d(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Mean of %K on the last 3 bars, 0 to 100; each %K spans the window's length less 2 bars."""
    place = _stochastic(high, low, close, bars - 2)
    for row in range(values.shape[1]):
        values[0, row] = (0.0 + place[row] + place[row + 1] + place[row + 2]) / 3.0


@window_kernel
def williams_r(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Place of the close below the window's highest high, -100 (lowest low) to 0; -50 if those agree."""
    place = _stochastic(high, low, close, bars)
    for row in range(place.size):
        values[0, row] = place[row] - 100.0


@window_kernel
def cci(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Typical price above its mean, in 0.015 mean absolute deviations of it; 0 if it never moved."""
    n = values.shape[1]
    typical = _typical(high, low, close)
    mean, deviation = _means(typical, bars), np.zeros(n)
    for bar in range(bars):
        here = typical[bar : bar + n]
        for row in range(n):
            deviation[row] = deviation[row] + abs(here[row] - mean[row])
    for row in range(n):
        last = typical[row + bars - 1]
        spread = deviation[row] / bars
        values[0, row] = 0.0 if spread <= _FLAT * last else (last - mean[row]) / (0.015 * spread)


@window_kernel
def mfi(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Share of the money that flowed on bars with a rising typical price, 0 to 100; 50 if none flowed."""
    n = values.shape[1]
    typical = _typical(high, low, close)
    up, down = np.zeros(close.size), np.zeros(close.size)
    for bar in range(1, close.size):
        change, flow = typical[bar] - typical[bar - 1], typical[bar] * volume[bar]
        tie = _FLAT * typical[bar]
        up[bar] = flow if change > tie else 0.0
        down[bar] = flow if change < -tie else 0.0
    # The first bar of a window has no bar before it.
    risen, fallen = _sums(up[1:], bars - 1), _sums(down[1:], bars - 1)
    for row in range(n):
        total = risen[row] + fallen[row]
        values[0, row] = 100.0 * risen[row] / total if total > 0.0 else 50.0
