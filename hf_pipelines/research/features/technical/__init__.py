"""Technical features: indicators of one symbol's own bars.

Here: the table of the group; in `trend.py`, `oscillators.py`, `volatility.py` and `volume.py` its sweep kernels
`(open, high, low, close, volume, bars, span, values)`, see `swept` in `windows.py`: loops run over the bars of a window
outside and over neighbouring windows inside, so that the machine walks several windows at once. Not here: sliding and adjusting (`windows.py`), statistics of returns (`statistical.py`), several symbols
(`cross_asset.py`).

All results are dimensionless. Nothing gives inf. Where prices do not move at all an oscillator gives its middle; a
feature of volume is NaN if nothing was traded in its window, but MFI gives 50.

Where a charting tool (TA-Lib) differs
--------------------------------------
Every value starts at the edge of its window, so recursive averages differ by the weight of what came before it. What
is left of that weight: 0.01 % at most for EMA of spans 5 to 50, MACD and Keltner; 0.2 % for RSI and ATR; 0.25 % for
EMA of span 100 and 5 % for 200, whose windows end at `MAX_LOOKBACK_BARS`. TA-Lib over the same window differs by:
EMA starts at the first close, TA-Lib's at the mean of the first `span`; RSI and ATR start alike; MACD's signal starts
at the first bar, TA-Lib's once the slow average is there; ADX and DI start at the mean of the first 14 changes,
TA-Lib's at the sum of the first 13 carried one step on; a change up and one down that are equal but for rounding
count as no direction. Where there is no range TA-Lib gives 0, we the middle: Williams' %R -50, MFI 50 (TA-Lib
gives 0 also where the flow of money is below 1). MACD and ATR are shares of the close, bands give width and place.

References
----------
Wilder (1978), New Concepts in Technical Trading Systems (RSI, ATR, ADX, DI); Appel (2005), Technical Analysis:
Power Tools for Active Investors (MACD); Bollinger (2001), Bollinger on Bollinger Bands; Granville (1963), New
Key to Stock Market Profits (OBV); Lane (1984), "Lane's Stochastics", Stocks & Commodities 2(3); Williams (1979), How I
Made One Million Dollars (%R); Lambert (1980), "Commodity Channel Index", Commodities 9(10); Quong & Soudack (1989),
"Volume-Weighted RSI: Money Flow", Stocks & Commodities 7(3); Chande (1995), "A Time Price Oscillator", Stocks &
Commodities 13(9) (Aroon); Raschke & Connors (1996), Street Smarts (Keltner channels over the true range);
Parkinson (1980), "The Extreme Value Method", J. Business 53(1); Garman & Klass (1980), "On the Estimation of
Security Price Volatilities", J. Business 53(1); Yang & Zhang (2000), "Drift-Independent Volatility Estimation",
J. Business 73(3); Amihud (2002), "Illiquidity and Stock Returns", J. Financial Markets 5(1); Berkowitz, Logue
& Noser (1988), "The Total Cost of Transactions on the NYSE", J. Finance 43(1) (VWAP); Gervais, Kaniel & Mingelgrin
(2001), "The High-Volume Return Premium", J. Finance 56(3); George & Hwang (2004), "The 52-Week High and Momentum
Investing", J. Finance 59(5); Lou, Polk & Skouras (2019), "A Tug of War: Overnight versus Intraday Expected Returns",
J. Financial Economics 134(1); Nison (1991), Japanese Candlestick Charting Techniques.
"""

from __future__ import annotations

from collections.abc import Callable

from hf_pipelines.research.features.feature import Feature, Input
from hf_pipelines.research.features.technical.oscillators import cci, mfi, rsi, stochastic_d, stochastic_k, williams_r
from hf_pipelines.research.features.technical.trend import (
    aroon,
    directional,
    ema_gap,
    high_distance,
    low_distance,
    macd,
    rate_of_change,
    sma_gap,
)
from hf_pipelines.research.features.technical.volatility import (
    atr,
    bollinger,
    candle,
    garman_klass,
    keltner,
    overnight_gap,
    parkinson,
    volatility,
    yang_zhang,
)
from hf_pipelines.research.features.technical.volume import amihud, obv_slope, volume_ratio, volume_zscore, vwap_gap
from hf_pipelines.research.features.windows import alone, swept

_CLOSE: tuple[Input, ...] = ("close",)
_RANGE: tuple[Input, ...] = ("high", "low", "close")
_FLOW: tuple[Input, ...] = ("close", "volume")
_BAR: tuple[Input, ...] = ("open", "high", "low", "close")

# Wilder's average of span 14 forgets to 0.2 % in 85 bars after its first 14; ADX takes such an average twice.
_RSI_BARS, _ATR_BARS, _ADX_BARS = 100, 100, 120
# An exponential average forgets to 0.01 % in 4.6 times its span; those of 100 and 200 keep 0.25 % and 5 %.
_EMA_BARS = {5: 24, 10: 47, 12: 60, 20: 94, 26: 120, 50: 232, 100: 300, 200: 300}
_MACD_BARS = 120
# EMA(20) needs 94 bars, ATR(10) 11 and then 88.
_KELTNER_BARS = 100


def _family(
    kernel: Callable[..., None],
    *formulas: tuple[str, str],
    bars: int,
    inputs: tuple[Input, ...],
    source: str,
    span: int = 0,
) -> tuple[Feature, ...]:
    """Features (name, formula) that one kernel computes, in the order of its values."""
    together = swept(kernel, bars, [name for name, _ in formulas], inputs=inputs, span=span)
    return tuple(
        Feature(name, "technical", alone(together, name), bars, inputs, formula, source, together=together)
        for name, formula in formulas
    )


FEATURES = (
    *_family(rsi, ("rsi_14", "100 * gain / (gain + loss), Wilder averages of 14"),
             bars=_RSI_BARS, span=14, inputs=_CLOSE, source="Wilder (1978)"),
    *_family(macd, ("macd_line", "(ema(12) - ema(26)) / close"),
             ("macd_signal", "ema(ema(12) - ema(26), 9) / close"),
             ("macd_histogram", "macd_line - macd_signal"),
             bars=_MACD_BARS, inputs=_CLOSE, source="Appel (2005)"),
    *(each for n in (5, 10, 20) for each in _family(
        rate_of_change, (f"roc_{n}", f"close / close[{n} bars ago] - 1"),
        bars=n + 1, inputs=_CLOSE, source="Appel (2005)")),
    *_family(stochastic_k, ("stochastic_k", "100 * (close - min(low, 14)) / (max(high, 14) - min(low, 14))"),
             bars=14, inputs=_RANGE, source="Lane (1984)"),
    *_family(stochastic_d, ("stochastic_d", "mean(stochastic_k, 3)"),
             bars=16, inputs=_RANGE, source="Lane (1984)"),
    *_family(williams_r, ("williams_r_14", "-100 * (max(high, 14) - close) / (max(high, 14) - min(low, 14))"),
             bars=14, inputs=_RANGE, source="Williams (1979)"),
    *_family(cci, ("cci_20", "(typical - mean(typical, 20)) / (0.015 * mean absolute deviation), typical (h + l + c) / 3"),
             bars=20, inputs=_RANGE, source="Lambert (1980)"),
    *_family(mfi, ("mfi_14", "100 * rising flow / flow, flow typical price * volume over 14 changes"),
             bars=15, inputs=(*_RANGE, "volume"), source="Quong & Soudack (1989)"),
    *(each for n in (5, 10, 20, 50, 100, 200) for each in _family(
        sma_gap, (f"sma_gap_{n}", f"close / mean(close, {n}) - 1"),
        bars=n, inputs=_CLOSE, source="Appel (2005)")),
    *(each for n, bars in _EMA_BARS.items() for each in _family(
        ema_gap, (f"ema_gap_{n}", f"close / ema(close, {n}) - 1"),
        bars=bars, span=n, inputs=_CLOSE, source="Appel (2005)")),
    *_family(directional, ("adx_14", "wilder(100 * |+DI - -DI| / (+DI + -DI), 14)"),
             ("plus_di_14", "100 * wilder(rise of the high, 14) / wilder(true range, 14)"),
             ("minus_di_14", "100 * wilder(fall of the low, 14) / wilder(true range, 14)"),
             bars=_ADX_BARS, span=14, inputs=_RANGE, source="Wilder (1978)"),
    *_family(aroon, ("aroon_up_25", "100 * (25 - bars since the highest high) / 25"),
             ("aroon_down_25", "100 * (25 - bars since the lowest low) / 25"),
             ("aroon_oscillator_25", "aroon_up_25 - aroon_down_25"),
             bars=26, inputs=("high", "low"), source="Chande (1995)"),
    *_family(atr, ("atr_14", "wilder(true range, 14) / close"),
             bars=_ATR_BARS, span=14, inputs=_RANGE, source="Wilder (1978)"),
    *_family(bollinger, ("bollinger_width_20", "4 * std(close, 20) / mean(close, 20)"),
             ("bollinger_position_20", "0.5 + (close - mean(close, 20)) / (4 * std(close, 20))"),
             bars=20, inputs=_CLOSE, source="Bollinger (2001)"),
    *_family(keltner, ("keltner_position_20", "0.5 + (close - ema(close, 20)) / (4 * wilder(true range, 10))"),
             bars=_KELTNER_BARS, span=20, inputs=_RANGE, source="Raschke & Connors (1996)"),
    *(each for n in (10, 20, 60) for each in _family(
        volatility, (f"volatility_{n}", f"sample std of {n} log returns, per bar"),
        bars=n + 1, inputs=_CLOSE, source="Parkinson (1980), the classical estimator")),
    *_family(parkinson, ("parkinson_volatility_20", "sqrt(mean(ln(high / low)^2, 20) / (4 ln 2)), per bar"),
             bars=20, inputs=("high", "low"), source="Parkinson (1980)"),
    *_family(garman_klass, ("garman_klass_volatility_20",
                            "sqrt(mean(ln(high / low)^2 / 2 - (2 ln 2 - 1) ln(close / open)^2, 20)), per bar"),
             bars=20, inputs=_BAR, source="Garman & Klass (1980)"),
    *_family(yang_zhang, ("yang_zhang_volatility_20",
                          "sqrt(var(nights) + k var(bodies) + (1 - k) mean(Rogers-Satchell)), k = 0.34 / (1.34 + 21 / 19)"),
             bars=21, inputs=_BAR, source="Yang & Zhang (2000)"),
    *_family(obv_slope, ("obv_slope_20", "slope(on-balance volume, 20) / mean(volume, 20)"),
             bars=20, inputs=_FLOW, source="Granville (1963)"),
    *_family(vwap_gap, ("vwap_gap_20", "close / (sum(typical * volume, 20) / sum(volume, 20)) - 1"),
             bars=20, inputs=(*_RANGE, "volume"), source="Berkowitz, Logue & Noser (1988), over 20 bars"),
    *_family(volume_ratio, ("volume_ratio_20", "volume / mean(volume, 20)"),
             bars=20, inputs=("volume",), source="Granville (1963)"),
    *_family(volume_zscore, ("volume_zscore_20", "(volume - mean(volume, 20)) / std(volume, 20)"),
             bars=20, inputs=("volume",), source="Gervais, Kaniel & Mingelgrin (2001), as a z-score"),
    *_family(amihud, ("amihud_illiquidity_20", "mean(|return| / (dollar volume / mean dollar volume)), 20 bars"),
             bars=21, inputs=_FLOW, source="Amihud (2002), relative to the usual dollar volume"),
    *(each for n in (20, 60, 252) for each in _family(
        high_distance, (f"high_distance_{n}", f"close / max(high, {n}) - 1"),
        bars=n, inputs=("high", "close"), source="George & Hwang (2004)")),
    *(each for n in (20, 60, 252) for each in _family(
        low_distance, (f"low_distance_{n}", f"close / min(low, {n}) - 1"),
        bars=n, inputs=("low", "close"), source="George & Hwang (2004)")),
    *_family(overnight_gap, ("overnight_gap", "open / close[1 bar ago] - 1"),
             bars=2, inputs=("open", "close"), source="Lou, Polk & Skouras (2019)"),
    *_family(candle, ("bar_range", "(high - low) / close"),
             ("candle_body", "(close - open) / (high - low)"),
             ("candle_upper_shadow", "(high - max(open, close)) / (high - low)"),
             ("candle_lower_shadow", "(min(open, close) - low) / (high - low)"),
             bars=1, inputs=_BAR, source="Nison (1991)"),
)  # fmt: skip
