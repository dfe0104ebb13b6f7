"""Statistical features: how one symbol's returns behave, and what is left of them beside the benchmark's.

Here: sweep kernels (see `swept` in `windows.py`, and `technical` for how they are written) over closes, and one pair
kernel. Not here: charting indicators (`technical`), correlation and beta themselves (`cross_asset.py`).

All results are dimensionless and finite. Where prices do not move at all (returns below 1e-12 are rounding) a value is
what a price without memory or tendency would give: z-scores, autocorrelations, skewness, kurtosis and entropy 0, Hurst
exponent 0.5, volatility regime 0.5. NaN only for residual momentum, if the benchmark never moved.

Hurst exponent: the structure function of second order (Di Matteo 2007, the generalised Hurst exponent for q = 2): half
the least-squares slope, on ln(lag), of the logarithm of the mean squared change of the log price over 1, 2, 4, 8
and 16 bars, the window's own drift removed. 0.5 for a random walk, above for a trend, below for reversion; no bounds are imposed. In windows as
short as this it is low on average: 0.28, 0.46 and 0.62 for fractional Brownian motion of 0.3, 0.5 and 0.7.

References
----------
Jegadeesh & Titman (1993), "Returns to Buying Winners and Selling Losers", J. Finance 48(1) (momentum, skipping the last
month); Poterba & Summers (1988), "Mean Reversion in Stock Prices", J. Financial Economics 22(1); Di Matteo (2007),
"Multi-scaling in Finance", Quantitative Finance 7(1); Bandt & Pompe (2002), "Permutation Entropy", Physical Review
Letters 88; Blitz, Huij & Martens (2011), "Residual Momentum", J. Empirical Finance 18(3); López de Prado (2018),
Advances in Financial Machine Learning, ch. 5; Joanes & Gill (1998), "Comparing Measures of Sample Skewness and
Kurtosis", The Statistician 47(1); Box & Jenkins (1976), Time Series Analysis (autocorrelation).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hf_pipelines.research.features.feature import Feature
from hf_pipelines.research.features.lazy_kernel import window_kernel
from hf_pipelines.research.features.windows import Window, alone, paired, swept

Values = npt.NDArray[np.float64]

# A price difference below this share of the price, and a return below this, are rounding, not movement.
_FLAT = 1e-10
_FLAT_RETURN = 1e-12

# Lags of the Hurst exponent, 1 to 16: a longer one has too few changes in a window that do not overlap.
_HURST_LAGS = 5
# Bars that a momentum leaves out before today: the reversal of the last month.
_SKIPPED_BARS = 21
# Order of fractional differencing, the one of ch. 5 at which most prices pass as stationary.
_ORDER = 0.4


@window_kernel
def momentum(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Total return from the window's first close to the close `span` bars before its last, a fraction."""
    for row in range(values.shape[1]):
        values[0, row] = close[row + bars - 1 - span] / close[row] - 1.0


@window_kernel
def zscore(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Close above its mean in population deviations; 0 if the price never moved. Times `span`, 1 or -1."""
    mean = _means(close, bars)
    squares = _squares(close, mean, bars)
    for row in range(mean.size):
        last, deviation = close[row + bars - 1], math.sqrt(squares[row] / bars)
        values[0, row] = 0.0 if deviation <= _FLAT * last else span * ((last - mean[row]) / deviation)


@window_kernel
def hurst_exponent(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Half the slope of ln(mean squared change over k bars) on ln(k), k = 1, 2, 4 ... (`span` of them); 0.5 if flat."""
    n = values.shape[1]
    # Whole groups of 32 rows, which the machine walks without a rest; the rows added stay 0 and are thrown away.
    n_wide = (n + 31) // 32 * 32
    price = _logarithms(close)
    drift, moment, flat = np.zeros(n_wide), np.zeros(n_wide), np.zeros(n_wide)
    for row in range(n):
        drift[row] = (price[row + bars - 1] - price[row]) / (bars - 1)
    middle, spread = (span - 1) / 2.0 * math.log(2.0), 0.0
    squares, changes = np.empty(n_wide), np.zeros(bars + n_wide)
    for doubling in range(span):
        lag = 2**doubling
        later = price[lag:]
        for bar in range(later.size):
            changes[bar] = later[bar] - price[bar]
        squares[:] = 0.0
        for bar in range(bars - lag):
            here = changes[bar : bar + n_wide]
            for row in range(n_wide):
                change = here[row] - lag * drift[row]
                squares[row] = squares[row] + change * change
        distance = math.log(lag) - middle
        spread += distance * distance
        for row in range(n):
            mean = squares[row] / (bars - lag)
            # A price that only grows, or moves to and fro in step with a lag, has nothing left to compare.
            if mean <= _FLAT_RETURN * _FLAT_RETURN:
                flat[row] = 1.0
            else:
                moment[row] = moment[row] + distance * math.log(mean)
    for row in range(n):
        values[0, row] = 0.5 if flat[row] > 0.0 else 0.5 * moment[row] / spread


@window_kernel
def volatility_regime(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Share of the window's volatilities of `span` returns below the latest, equal ones (itself too) half, 0 to 1."""
    n, n_ranked = values.shape[1], bars - span
    returns = _returns(close)
    # A volatility is made of its own bars alone: windows that share those share the number.
    level = _squares(returns, _means(returns, span), span)
    for bar in range(level.size):
        level[bar] = math.sqrt(level[bar] / span)
        if level[bar] <= _FLAT_RETURN:
            level[bar] = 0.0
    below, equal = np.zeros(n), np.zeros(n)
    upper, lower = np.empty(n), np.empty(n)
    for row in range(n):
        # The same returns at another price differ by rounding.
        upper[row] = level[row + n_ranked - 1] * (1.0 + 1e-9)
        lower[row] = level[row + n_ranked - 1] * (1.0 - 1e-9)
    for bar in range(n_ranked):
        here = level[bar : bar + n]
        for row in range(n):
            is_below = 1.0 if here[row] < lower[row] else 0.0
            is_above = 1.0 if here[row] > upper[row] else 0.0
            below[row] = below[row] + is_below
            equal[row] = equal[row] + (1.0 - is_below - is_above)
    for row in range(n):
        values[0, row] = (below[row] + 0.5 * equal[row]) / n_ranked


@window_kernel
def autocorrelation(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Autocorrelation of the log returns at lag `span`, -1 to 1: lagged products over all squares; 0 if flat."""
    n, n_returns = values.shape[1], bars - 1
    returns = _returns(close)
    mean = _means(returns, n_returns)
    squares = _squares(returns, mean, n_returns)
    products = np.zeros(n)
    for bar in range(n_returns - span):
        here, later = returns[bar : bar + n], returns[bar + span : bar + span + n]
        for row in range(n):
            products[row] = products[row] + (here[row] - mean[row]) * (later[row] - mean[row])
    for row in range(n):
        values[0, row] = 0.0 if _is_flat(squares[row], n_returns) else products[row] / squares[row]


@window_kernel
def shape(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Skewness and excess kurtosis of the log returns, adjusted for the sample (G1, G2); 0 if flat."""
    n, m = values.shape[1], bars - 1
    returns = _returns(close)
    mean = _means(returns, m)
    squares = _squares(returns, mean, m)
    cubes, fourths = np.zeros(n), np.zeros(n)
    for bar in range(m):
        here = returns[bar : bar + n]
        for row in range(n):
            away = here[row] - mean[row]
            cubes[row] = cubes[row] + away * away * away
            fourths[row] = fourths[row] + (away * away) * (away * away)
    for row in range(n):
        if _is_flat(squares[row], m):
            values[0, row] = values[1, row] = 0.0
            continue
        variance = squares[row] / m
        skewness = cubes[row] / m / (variance * math.sqrt(variance))
        kurtosis = fourths[row] / m / (variance * variance) - 3.0
        values[0, row] = skewness * math.sqrt(m * (m - 1.0)) / (m - 2.0)
        values[1, row] = ((m + 1.0) * kurtosis + 6.0) * (m - 1.0) / ((m - 2.0) * (m - 3.0))


@window_kernel
def permutation_entropy(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Entropy of the orders in which 3 neighbouring log returns stand, over ln 6: 0 (one order) to 1 (all alike)."""
    returns = _returns(close)
    order = np.empty(returns.size - 2, dtype=np.int64)
    for bar in range(order.size):
        first, second, third = returns[bar], returns[bar + 1], returns[bar + 2]
        is_rising, is_rising_on = first <= second + _FLAT_RETURN, second <= third + _FLAT_RETURN
        is_higher = first <= third + _FLAT_RETURN
        if is_rising == is_rising_on:
            order[bar] = 0 if is_rising else 1
        else:
            order[bar] = 2 + 2 * int(is_rising) + int(is_higher)
    n_orders = bars - 3
    # Counts are exact, so the count of one window may come from that of the window before.
    counts = np.zeros(6)
    for bar in range(order.size):
        counts[order[bar]] += 1.0
        if bar >= n_orders:
            counts[order[bar - n_orders]] -= 1.0
        if bar >= n_orders - 1:
            entropy = 0.0
            for count in counts:
                if count > 0.0:
                    entropy -= count / n_orders * math.log(count / n_orders)
            values[0, bar - n_orders + 1] = entropy / math.log(6.0)


@window_kernel
def fractional_difference(
    open_: Window, high: Window, low: Window, close: Window, volume: Window, bars: int, span: int, values: Values
) -> None:
    """Fractional difference of order 0.4 of the log price above the window's first, over all its bars."""
    n = values.shape[1]
    price = _logarithms(close)
    total = np.zeros(n)
    weight = 1.0
    for back in range(bars):
        if back > 0:
            weight *= -(_ORDER - back + 1.0) / back
        here = price[bars - 1 - back : bars - 1 - back + n]
        for row in range(n):
            total[row] = total[row] + weight * (here[row] - price[row])
    for row in range(n):
        values[0, row] = total[row]


@window_kernel
def residual_momentum(close: Window, benchmark: Window) -> float:
    """Mean residual return over its deviation, times the root of the number of returns: a t-value.

    Residuals are what beta times the benchmark's return leaves, beta from all returns of the window; the last 21
    are left out of the mean. 0 if beta times the benchmark is all there is; NaN if the benchmark never moved.
    """
    n = close.size - 1
    n_kept = n - _SKIPPED_BARS
    own, other = np.empty(n), np.empty(n)
    for bar in range(n):
        own[bar] = close[bar + 1] / close[bar] - 1.0
        other[bar] = benchmark[bar + 1] / benchmark[bar] - 1.0
    own_mean, other_mean = np.mean(own), np.mean(other)
    covariance, variance = 0.0, 0.0
    for bar in range(n):
        away = other[bar] - other_mean
        covariance += away * (own[bar] - own_mean)
        variance += away * away
    if variance <= n * _FLAT_RETURN * _FLAT_RETURN:
        return math.nan
    beta = covariance / variance
    residual = own[:n_kept] - beta * other[:n_kept]
    mean, squares = np.mean(residual), 0.0
    for bar in range(n_kept):
        squares += (residual[bar] - mean) ** 2
    deviation = math.sqrt(squares / (n_kept - 1))
    return 0.0 if deviation <= _FLAT_RETURN else float(mean / deviation * math.sqrt(n_kept))


@window_kernel
def _means(series: Window, bars: int) -> Window:
    """Mean of each window, summed from its oldest bar on."""
    n = series.size - bars + 1
    mean = np.zeros(n)
    for bar in range(bars):
        here = series[bar : bar + n]
        for row in range(n):
            mean[row] = mean[row] + here[row]
    for row in range(n):
        mean[row] = mean[row] / bars
    return mean


@window_kernel
def _squares(series: Window, mean: Window, bars: int) -> Window:
    """Sum of each window's squared distances from its mean."""
    n = mean.size
    squares = np.zeros(n)
    for bar in range(bars):
        here = series[bar : bar + n]
        for row in range(n):
            squares[row] = squares[row] + (here[row] - mean[row]) * (here[row] - mean[row])
    return squares


@window_kernel
def _is_flat(squares: float, n: int) -> bool:
    return squares <= n * _FLAT_RETURN * _FLAT_RETURN


@window_kernel
def _returns(close: Window) -> Window:
    returns = np.empty(close.size - 1)
    for bar in range(returns.size):
        returns[bar] = math.log(close[bar + 1] / close[bar])
    return returns


@window_kernel
def _logarithms(close: Window) -> Window:
    price = np.empty(close.size)
    for bar in range(close.size):
        price[bar] = math.log(close[bar])
    return price


def _family(
    kernel: Callable[..., None], *formulas: tuple[str, str], bars: int, source: str, span: int = 0
) -> tuple[Feature, ...]:
    """Features (name, formula) of the close that one kernel computes, in the order of its values."""
    together = swept(kernel, bars, [name for name, _ in formulas], inputs=["close"], span=span)
    return tuple(
        Feature(name, "statistical", alone(together, name), bars, ("close",), formula, source, together=together)
        for name, formula in formulas
    )


FEATURES = (
    *_family(momentum, ("return_1", "close / close[1 bar ago] - 1"),
             bars=2, source="the return of one bar, for learners of time series"),
    *(each for n in (5, 20, 60, 120) for each in _family(
        momentum, (f"momentum_{n}", f"close / close[{n} bars ago] - 1"),
        bars=n + 1, source="Jegadeesh & Titman (1993)")),
    *_family(momentum, ("momentum_252_21", "close[21 bars ago] / close[252 bars ago] - 1"),
             bars=253, span=_SKIPPED_BARS, source="Jegadeesh & Titman (1993)"),
    Feature("residual_momentum_252_21", "statistical", paired(residual_momentum, 253), 253, ("close", "benchmark"),
            "t-value of returns - beta * benchmark returns, from 252 to 21 bars ago, beta of 252 returns",
            "Blitz, Huij & Martens (2011), with one factor, 252 bars and the intercept kept"),
    *_family(zscore, ("mean_reversion_10", "-(close - mean(close, 10)) / std(close, 10)"),
             bars=10, span=-1, source="Poterba & Summers (1988), as a z-score"),
    *(each for n in (20, 60) for each in _family(
        zscore, (f"zscore_{n}", f"(close - mean(close, {n})) / std(close, {n})"),
        bars=n, span=1, source="Bollinger (2001), in deviations")),
    *_family(hurst_exponent, ("hurst_exponent_120", "slope of ln(mean squared change over k bars) on 2 ln(k), k = 1, 2, 4, 8, 16"),
             bars=120, span=_HURST_LAGS, source="Di Matteo (2007), q = 2"),
    *_family(volatility_regime, ("volatility_regime_252", "rank of volatility_20 among the last 252, 0 to 1"),
             bars=272, span=20, source="percentile rank, equal values half"),
    *(each for lag in (1, 5) for each in _family(
        autocorrelation, (f"autocorrelation_{lag}_60", f"autocorrelation of 60 log returns at lag {lag}"),
        bars=61, span=lag, source="Box & Jenkins (1976)")),
    *_family(shape, ("skewness_60", "adjusted sample skewness of 60 log returns"),
             ("kurtosis_60", "adjusted sample excess kurtosis of 60 log returns"),
             bars=61, source="Joanes & Gill (1998), G1 and G2"),
    *_family(permutation_entropy, ("entropy_60", "permutation entropy of order 3 of 60 log returns, over ln 6"),
             bars=61, source="Bandt & Pompe (2002)"),
    *_family(fractional_difference,
             ("fractional_difference_100", "sum of weights(0.4) * ln(close / close[99 bars ago]) over 100 bars"),
             bars=100, source="López de Prado (2018), ch. 5, fixed width"),
)  # fmt: skip
