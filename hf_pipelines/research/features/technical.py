"""Technical features: indicators of one symbol's own bars.

Here: sweep kernels `(open, high, low, close, volume, bars, span, values)`, see `swept` in `windows.py`: loops run over
the bars of a window outside and over neighbouring windows inside, so that the machine walks several windows at once.
Not here: sliding and adjusting (`windows.py`), statistics of returns (`statistical.py`), several symbols
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

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hf_pipelines.research.features.feature import Feature, Input
from hf_pipelines.research.features.windows import Window, alone, swept, window_kernel

Values = npt.NDArray[np.float64]

# A price difference below this share of the price is rounding of the adjustment, not movement.
_FLAT = 1e-10


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


@window_kernel
def atr(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Wilder's average true range over `span` bars, as a fraction of the close."""
    average = _wilder(_true_range(high, low, close), bars - 1, span)
    for row in range(average.size):
        values[0, row] = average[row] / close[row + bars - 1]


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
