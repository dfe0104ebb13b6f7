"""Technical features: indicators of one symbol's own bars.

Here: window kernels `(open, high, low, close, volume) -> float`. A kernel's parameter is the length of the
window it is given (`registry.py`), except where the indicator has spans of its own. Not here: sliding and
adjusting (`windows.py`), several symbols (`cross_asset.py`).

All results are dimensionless. Recursive averages (EMA, Wilder) start at the window's first bar, so a value
differs from a charting tool's by the weight of what came before the window: the windows in `registry.py`
leave that a small fraction of a percent. Where prices do not move at all an oscillator gives its middle;
nothing gives inf.

References
----------
Wilder (1978), New Concepts in Technical Trading Systems (RSI, ATR, ADX); Appel (2005), Technical Analysis:
Power Tools for Active Investors (MACD); Bollinger (2001), Bollinger on Bollinger Bands; Granville (1963), New
Key to Stock Market Profits (OBV); Lane (1984), "Lane's Stochastics", Stocks & Commodities 2(3).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from hf_pipelines.research.features.feature import Feature, Input
from hf_pipelines.research.features.windows import Window, window_kernel, windowed

# A price difference below this share of the price is rounding of the adjustment, not movement.
_FLAT = 1e-10


@window_kernel
def rate_of_change(open_: Window, high: Window, low: Window, close: Window, volume: Window) -> float:
    """Total return from the window's first close to its last, a fraction."""
    return float(close[-1] / close[0] - 1.0)


@window_kernel
def sma_gap(open_: Window, high: Window, low: Window, close: Window, volume: Window) -> float:
    """Close above the mean close of the window, as a fraction of that mean."""
    return float(close[-1] / np.mean(close) - 1.0)


@window_kernel
def ema_gap_12(open_: Window, high: Window, low: Window, close: Window, volume: Window) -> float:
    """Close above its exponential average of span 12, as a fraction of that average."""
    return float(close[-1] / _ema(close, 12)[-1] - 1.0)


@window_kernel
def ema_gap_26(open_: Window, high: Window, low: Window, close: Window, volume: Window) -> float:
    """Close above its exponential average of span 26, as a fraction of that average."""
    return float(close[-1] / _ema(close, 26)[-1] - 1.0)


@window_kernel
def macd_line(open_: Window, high: Window, low: Window, close: Window, volume: Window) -> float:
    """Exponential average of span 12 minus that of span 26, as a fraction of the close."""
    return float(_macd(close)[-1] / close[-1])


@window_kernel
def macd_signal(open_: Window, high: Window, low: Window, close: Window, volume: Window) -> float:
    """Exponential average of span 9 of the MACD line, as a fraction of the last close."""
    return float(_ema(_macd(close), 9)[-1] / close[-1])


@window_kernel
def macd_histogram(open_: Window, high: Window, low: Window, close: Window, volume: Window) -> float:
    """MACD line minus its signal, as a fraction of the last close."""
    line = _macd(close)
    return float((line[-1] - _ema(line, 9)[-1]) / close[-1])


@window_kernel
def rsi_14(open_: Window, high: Window, low: Window, close: Window, volume: Window) -> float:
    """Wilder's relative strength index over 14 bars, 0 to 100; 50 if the price never moved."""
    change = close[1:] - close[:-1]
    gain = _wilder(np.maximum(change, 0.0), 14)
    loss = _wilder(np.maximum(-change, 0.0), 14)
    if gain + loss <= _FLAT * close[-1]:
        return 50.0
    return float(100.0 * gain / (gain + loss))


@window_kernel
def stochastic_k(open_: Window, high: Window, low: Window, close: Window, volume: Window) -> float:
    """Place of the close between the window's lowest low and highest high, 0 to 100; 50 if those agree."""
    return _stochastic(high, low, close)


@window_kernel
def stochastic_d(open_: Window, high: Window, low: Window, close: Window, volume: Window) -> float:
    """Mean of %K on the last 3 bars, 0 to 100; each %K spans the window's length less 2 bars."""
    bars = close.size - 2
    total = 0.0
    for first in range(3):
        here = slice(first, first + bars)
        total += _stochastic(high[here], low[here], close[here])
    return total / 3.0


@window_kernel
def atr_14(open_: Window, high: Window, low: Window, close: Window, volume: Window) -> float:
    """Wilder's average true range over 14 bars, as a fraction of the close."""
    return float(_wilder(_true_range(high, low, close), 14) / close[-1])


@window_kernel
def adx_14(open_: Window, high: Window, low: Window, close: Window, volume: Window) -> float:
    """Wilder's average directional index over 14 bars, 0 to 100; a bar without direction counts as 0."""
    up = high[1:] - high[:-1]
    down = low[:-1] - low[1:]
    # Prices come in ticks, so up and down are often the same: a tie is no direction, however it is rounded.
    tie = _FLAT * close[-1]
    rise = _wilder_path(np.where((up - down > tie) & (up > 0.0), up, 0.0), 14)
    fall = _wilder_path(np.where((down - up > tie) & (down > 0.0), down, 0.0), 14)
    strength = np.zeros(rise.size)
    for bar in range(rise.size):
        # The true range scales both directions alike and cancels in their contrast.
        total = rise[bar] + fall[bar]
        if total > tie:
            strength[bar] = 100.0 * abs(rise[bar] - fall[bar]) / total
    return _wilder(strength, 14)


@window_kernel
def bollinger_width(open_: Window, high: Window, low: Window, close: Window, volume: Window) -> float:
    """Distance of the bands, 2 population standard deviations around the mean, as a fraction of it."""
    return float(4.0 * np.std(close) / np.mean(close))


@window_kernel
def bollinger_position(open_: Window, high: Window, low: Window, close: Window, volume: Window) -> float:
    """Place of the close between the lower band (0) and the upper (1), beyond them outside; 0.5 if flat."""
    deviation = np.std(close)
    if deviation <= _FLAT * close[-1]:
        return 0.5
    return float(0.5 + (close[-1] - np.mean(close)) / (4.0 * deviation))


@window_kernel
def volatility(open_: Window, high: Window, low: Window, close: Window, volume: Window) -> float:
    """Sample standard deviation (n - 1) of the log total returns, a fraction per bar, not annualised."""
    returns = np.log(close[1:] / close[:-1])
    return float(np.std(returns) * math.sqrt(returns.size / (returns.size - 1)))


@window_kernel
def obv_slope(open_: Window, high: Window, low: Window, close: Window, volume: Window) -> float:
    """Least-squares slope of on-balance volume per bar, over the mean volume; NaN if nothing was traded."""
    mean_volume = np.mean(volume)
    if mean_volume == 0.0:
        return math.nan
    balance, moment, square = 0.0, 0.0, 0.0
    middle = (close.size - 1) / 2.0
    for bar in range(close.size):
        if bar > 0:
            change = close[bar] - close[bar - 1]
            if abs(change) > _FLAT * close[bar]:
                balance += math.copysign(volume[bar], change)
        moment += (bar - middle) * balance
        square += (bar - middle) ** 2
    return float(moment / square / mean_volume)


@window_kernel
def volume_ratio(open_: Window, high: Window, low: Window, close: Window, volume: Window) -> float:
    """Volume over the window's mean volume, at least 0; NaN if nothing was traded."""
    mean_volume = np.mean(volume)
    return float(volume[-1] / mean_volume) if mean_volume > 0.0 else math.nan


@window_kernel
def high_distance(open_: Window, high: Window, low: Window, close: Window, volume: Window) -> float:
    """Close below the window's highest high, as a fraction of that high: 0 or negative."""
    return float(close[-1] / np.max(high) - 1.0)


@window_kernel
def low_distance(open_: Window, high: Window, low: Window, close: Window, volume: Window) -> float:
    """Close above the window's lowest low, as a fraction of that low: 0 or positive."""
    return float(close[-1] / np.min(low) - 1.0)


@window_kernel
def _ema(values: Window, span: int) -> Window:
    """Exponential average with weight 2 / (span + 1) for the newest value, starting at the first."""
    path = np.empty(values.size)
    path[0] = values[0]
    for bar in range(1, values.size):
        path[bar] = path[bar - 1] + (values[bar] - path[bar - 1]) * (2.0 / (span + 1.0))
    return path


@window_kernel
def _macd(close: Window) -> Window:
    return _ema(close, 12) - _ema(close, 26)


@window_kernel
def _wilder_path(values: Window, span: int) -> Window:
    """Wilder's average with weight 1 / span, starting with the mean of the first `span` values."""
    path = np.empty(values.size - span + 1)
    path[0] = np.mean(values[:span])
    for bar in range(1, path.size):
        path[bar] = path[bar - 1] + (values[bar + span - 1] - path[bar - 1]) / span
    return path


@window_kernel
def _wilder(values: Window, span: int) -> float:
    return float(_wilder_path(values, span)[-1])


@window_kernel
def _true_range(high: Window, low: Window, close: Window) -> Window:
    return np.maximum(high[1:], close[:-1]) - np.minimum(low[1:], close[:-1])


@window_kernel
def _stochastic(high: Window, low: Window, close: Window) -> float:
    lowest, highest = np.min(low), np.max(high)
    if highest - lowest <= _FLAT * close[-1]:
        return 50.0
    return float(100.0 * (close[-1] - lowest) / (highest - lowest))


_CLOSE: tuple[Input, ...] = ("close",)
_RANGE: tuple[Input, ...] = ("high", "low", "close")
_FLOW: tuple[Input, ...] = ("close", "volume")

# Wilder's average of span 14 forgets to 0.2 % in 85 bars after its first 14; ADX takes such an average twice.
_RSI_BARS, _ATR_BARS, _ADX_BARS = 100, 100, 120
# An exponential average forgets to 0.01 % in 4.6 times its span.
_EMA_12_BARS, _EMA_26_BARS = 60, 120


def _feature(
    name: str, kernel: Callable[..., float], *, bars: int, inputs: tuple[Input, ...], formula: str, source: str = ""
) -> Feature:
    return Feature(name, "technical", windowed(kernel, bars), bars, inputs, formula, source)


FEATURES = (
    _feature("rsi_14", rsi_14, bars=_RSI_BARS, inputs=_CLOSE,
               formula="100 * gain / (gain + loss), Wilder averages of 14"),
    _feature("macd_line", macd_line, bars=_EMA_26_BARS, inputs=_CLOSE,
               formula="(ema(12) - ema(26)) / close"),
    _feature("macd_signal", macd_signal, bars=_EMA_26_BARS, inputs=_CLOSE,
               formula="ema(ema(12) - ema(26), 9) / close"),
    _feature("macd_histogram", macd_histogram, bars=_EMA_26_BARS, inputs=_CLOSE,
               formula="macd_line - macd_signal"),
    _feature("roc_5", rate_of_change, bars=6, inputs=_CLOSE,
               formula="close / close[5 bars ago] - 1"),
    _feature("roc_10", rate_of_change, bars=11, inputs=_CLOSE,
               formula="close / close[10 bars ago] - 1"),
    _feature("roc_20", rate_of_change, bars=21, inputs=_CLOSE,
               formula="close / close[20 bars ago] - 1"),
    _feature("stochastic_k", stochastic_k, bars=14, inputs=_RANGE,
               formula="100 * (close - min(low, 14)) / (max(high, 14) - min(low, 14))"),
    _feature("stochastic_d", stochastic_d, bars=16, inputs=_RANGE,
               formula="mean(stochastic_k, 3)"),
    _feature("sma_gap_5", sma_gap, bars=5, inputs=_CLOSE,
               formula="close / mean(close, 5) - 1"),
    _feature("sma_gap_10", sma_gap, bars=10, inputs=_CLOSE,
               formula="close / mean(close, 10) - 1"),
    _feature("sma_gap_20", sma_gap, bars=20, inputs=_CLOSE,
               formula="close / mean(close, 20) - 1"),
    _feature("sma_gap_50", sma_gap, bars=50, inputs=_CLOSE,
               formula="close / mean(close, 50) - 1"),
    _feature("ema_gap_12", ema_gap_12, bars=_EMA_12_BARS, inputs=_CLOSE,
               formula="close / ema(close, 12) - 1"),
    _feature("ema_gap_26", ema_gap_26, bars=_EMA_26_BARS, inputs=_CLOSE,
               formula="close / ema(close, 26) - 1"),
    _feature("adx_14", adx_14, bars=_ADX_BARS, inputs=_RANGE,
               formula="wilder(100 * |+DI - -DI| / (+DI + -DI), 14)"),
    _feature("atr_14", atr_14, bars=_ATR_BARS, inputs=_RANGE,
               formula="wilder(true range, 14) / close"),
    _feature("bollinger_width_20", bollinger_width, bars=20, inputs=_CLOSE,
               formula="4 * std(close, 20) / mean(close, 20)"),
    _feature("bollinger_position_20", bollinger_position, bars=20, inputs=_CLOSE,
               formula="0.5 + (close - mean(close, 20)) / (4 * std(close, 20))"),
    _feature("volatility_10", volatility, bars=11, inputs=_CLOSE,
               formula="sample std of 10 log returns, per bar"),
    _feature("volatility_20", volatility, bars=21, inputs=_CLOSE,
               formula="sample std of 20 log returns, per bar"),
    _feature("volatility_60", volatility, bars=61, inputs=_CLOSE,
               formula="sample std of 60 log returns, per bar"),
    _feature("obv_slope_20", obv_slope, bars=20, inputs=_FLOW,
               formula="slope(on-balance volume, 20) / mean(volume, 20)"),
    _feature("volume_ratio_20", volume_ratio, bars=20, inputs=("volume",),
               formula="volume / mean(volume, 20)"),
    _feature("high_distance_20", high_distance, bars=20, inputs=("high", "close"),
               formula="close / max(high, 20) - 1"),
    _feature("high_distance_60", high_distance, bars=60, inputs=("high", "close"),
               formula="close / max(high, 60) - 1"),
    _feature("low_distance_20", low_distance, bars=20, inputs=("low", "close"),
               formula="close / min(low, 20) - 1"),
    _feature("low_distance_60", low_distance, bars=60, inputs=("low", "close"),
               formula="close / min(low, 60) - 1"),
)  # fmt: skip
