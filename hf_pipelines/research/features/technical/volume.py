"""Volume: what was traded, against what is usual and against the move of the price.

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
    _means,
    _sums,
    _typical,
)
from hf_pipelines.research.features.windows import Window


@window_kernel
def obv_slope(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Least-squares slope of on-balance volume per bar, over the mean volume; NaN if nothing was traded."""
    n = values.shape[1]
    signed = np.zeros(close.size)
    for bar in range(1, close.size):
        change = close[bar] - close[bar - 1]
        signed[bar] = math.copysign(volume[bar], change) if abs(change) > _FLAT * close[bar] else 0.0
    balance, moment, square = np.zeros(n), np.zeros(n), 0.0
    middle = (bars - 1) / 2.0
    for bar in range(bars):
        square += (bar - middle) ** 2
        if bar > 0:
            here, weight = signed[bar : bar + n], bar - middle
            for row in range(n):
                balance[row] = balance[row] + here[row]
                moment[row] = moment[row] + weight * balance[row]
    mean = _means(volume, bars)
    for row in range(n):
        values[0, row] = moment[row] / square / mean[row] if mean[row] > 0.0 else math.nan


@window_kernel
def volume_ratio(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Volume over the window's mean volume, at least 0; NaN if nothing was traded."""
    mean = _means(volume, bars)
    for row in range(mean.size):
        values[0, row] = volume[row + bars - 1] / mean[row] if mean[row] > 0.0 else math.nan


@window_kernel
def volume_zscore(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Volume above its mean in population deviations; 0 if it never changed, NaN if nothing was traded."""
    mean = _means(volume, bars)
    deviation = _deviations(volume, mean, bars)
    for row in range(mean.size):
        if mean[row] <= 0.0:
            values[0, row] = math.nan
        elif deviation[row] <= _FLAT * mean[row]:
            values[0, row] = 0.0
        else:
            values[0, row] = (volume[row + bars - 1] - mean[row]) / deviation[row]


@window_kernel
def vwap_gap(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Close above the typical price weighted by volume, as a fraction of that; NaN if nothing was traded."""
    typical = _typical(high, low, close)
    money = typical * volume
    paid, traded = _sums(money, bars), _sums(volume, bars)
    for row in range(paid.size):
        values[0, row] = close[row + bars - 1] / (paid[row] / traded[row]) - 1.0 if traded[row] > 0.0 else math.nan


@window_kernel
def amihud(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Mean of |total return| / (dollar volume / mean dollar volume) over the bars with volume; NaN if none has any.

    Amihud's price move a dollar traded, in units of the symbol's usual dollar volume: the move that trading its usual
    amount would make.
    """
    n = values.shape[1]
    money, impact, is_traded = np.zeros(close.size), np.zeros(close.size), np.zeros(close.size)
    for bar in range(1, close.size):
        money[bar] = close[bar] * volume[bar]
        if money[bar] > 0.0:
            impact[bar] = abs(close[bar] / close[bar - 1] - 1.0) / money[bar]
            is_traded[bar] = 1.0
    impacts, moneys = _sums(impact[1:], bars - 1), _sums(money[1:], bars - 1)
    counts = _sums(is_traded[1:], bars - 1)
    for row in range(n):
        if counts[row] > 0.0:
            values[0, row] = impacts[row] / counts[row] * (moneys[row] / counts[row])
        else:
            values[0, row] = math.nan
