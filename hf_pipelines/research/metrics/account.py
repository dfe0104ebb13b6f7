"""Numbers that judge an equity curve: returns, risk, drawdown, turnover.

Lives here: one function per quantity, fractions in and out. Not here: predictions (`predictions`), tables and curves
(`backtest/result.py`).

References
----------
Bacon (2008), "Practical Portfolio Performance Measurement and Attribution", 2nd ed.: returns, annualising them, drawdowns. Pardo (1992),
"Design, Testing, and Optimization of Trading Systems": the profit factor.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

# A standard deviation this small, of a period, is the rounding of constant returns, not risk: an equity carries sixteen
# digits, of which the sums of an account lose three at most, and a return is a ratio near one less one.
ROUNDING_VOLATILITY = 1e-12

# Fewer sessions than this say nothing about a year: what is annualised of them is undefined.
ANNUAL_SESSIONS = 60


def returns_of(equity: ArrayLike) -> NDArray[np.float64]:
    """Return of each step of an equity curve.

    Parameters
    ----------
    equity : array of shape (n,)
        Account values, ascending in time, finite and above zero.

    Returns
    -------
    array of shape (n - 1,)
        Fractions: `equity[t + 1] / equity[t] - 1`.

    Raises
    ------
    ValueError
        If `equity` is empty, or holds a value that is not finite or not above zero.
    """
    values = _checked_equity(equity)
    return values[1:] / values[:-1] - 1.0


def total_return(equity: ArrayLike) -> float:
    """Return from the first to the last value of `equity`, a fraction; 0.0 for a single value.

    Parameters
    ----------
    equity : array of shape (n,)
        Values of the account in order of time, in quote currency, above zero.

    Returns
    -------
    float
        0.1 is a gain of 10 %.

    Raises
    ------
    ValueError
        As `returns_of`.

    Examples
    --------
    >>> round(total_return([100.0, 90.0, 121.0]), 6)
    0.21
    """
    values = _checked_equity(equity)
    return float(values[-1] / values[0] - 1.0)


def annual_return(equity: ArrayLike, *, periods_per_year: float) -> float:
    """Compound growth rate a year.

    Parameters
    ----------
    equity : array of shape (n,)
        Account values at the end of each period.
    periods_per_year : float
        Steps of `equity` in a year, e.g. the sessions in a year of the market's calendar.

    Returns
    -------
    float
        Fraction a year. NaN when `equity` has one value: no time has passed.

    Raises
    ------
    ValueError
        As `returns_of`, or if `periods_per_year` is not above zero.
    """
    values = _checked_equity(equity)
    check_periods(periods_per_year)
    if len(values) == 1:
        return math.nan
    years = (len(values) - 1) / periods_per_year
    # A few good days annualised may exceed the largest float: infinity is then the answer.
    with np.errstate(over="ignore"):
        return float(np.expm1(np.log(values[-1] / values[0]) / years))


def annual_volatility(returns: ArrayLike, *, periods_per_year: float) -> float:
    """Sample standard deviation (n - 1) of `returns`, times the root of `periods_per_year`.

    NaN for fewer than two returns.

    Parameters
    ----------
    returns : array of shape (n,)
        Fractions, one a period, finite.
    periods_per_year : float
        Above zero; 252 for the days of most exchanges.

    Returns
    -------
    float
        A fraction a year.

    Raises
    ------
    ValueError
        If a return is not finite or `periods_per_year` is not above zero.

    Examples
    --------
    >>> round(annual_volatility([0.01, -0.01], periods_per_year=252), 4)
    0.2245
    """
    values = checked_returns(returns)
    check_periods(periods_per_year)
    if len(values) < 2:
        return math.nan
    return float(np.std(values, ddof=1) * math.sqrt(periods_per_year))


def sharpe_ratio(returns: ArrayLike, *, periods_per_year: float) -> float:
    """Mean over standard deviation of `returns`, annualised.

    The risk-free rate is taken as zero: subtract it from `returns` to have Sharpe's excess returns.

    Parameters
    ----------
    returns : array of shape (n,)
        One fraction a period.
    periods_per_year : float
        Periods in a year; the ratio is scaled by its square root, which assumes returns that are not
        autocorrelated.

    Returns
    -------
    float
        NaN when undefined: fewer than two returns, or all of them equal up to rounding (a strategy that never trades,
        constant growth).

    Raises
    ------
    ValueError
        If a return is not finite or `periods_per_year` is not above zero.

    References
    ----------
    Sharpe (1994), "The Sharpe Ratio", J. Portfolio Management 21(1). Lo (2002), "The Statistics of Sharpe
    Ratios", Financial Analysts Journal 58(4), for the scaling.

    Examples
    --------
    >>> round(sharpe_ratio([0.01, 0.03], periods_per_year=4), 4)
    2.8284
    """
    values = checked_returns(returns)
    volatility = annual_volatility(values, periods_per_year=periods_per_year)
    mean = float(np.mean(values)) if len(values) else math.nan
    # Rounding scales with the ratio that a return is made of, however small the return.
    rounding = ROUNDING_VOLATILITY * math.sqrt(periods_per_year) * (1.0 + abs(mean))
    if math.isnan(volatility) or volatility <= rounding:
        return math.nan
    return mean * periods_per_year / volatility


def drawdown(equity: ArrayLike) -> NDArray[np.float64]:
    """Distance below the highest value so far.

    Parameters
    ----------
    equity : array of shape (n,)
        Account values, ascending in time, finite and above zero.

    Returns
    -------
    array of shape (n,)
        Positive fractions of the peak: 0.2 is 20 % below it, 0.0 is at a new high.

    Raises
    ------
    ValueError
        As `returns_of`.

    Examples
    --------
    >>> drawdown([100.0, 120.0, 90.0, 120.0]).tolist()
    [0.0, 0.0, 0.25, 0.0]
    """
    values = _checked_equity(equity)
    return 1.0 - values / np.maximum.accumulate(values)


def max_drawdown(equity: ArrayLike) -> float:
    """Largest `drawdown` of `equity`, a positive fraction; 0.0 when it never fell.

    Parameters
    ----------
    equity : array of shape (n,)
        Values of the account in order of time, in quote currency, above zero.

    Returns
    -------
    float
        A fraction of the highest equity before: 0.2 is 20 % below it.

    Raises
    ------
    ValueError
        As `returns_of`.

    Examples
    --------
    >>> max_drawdown([100.0, 120.0, 90.0, 130.0])
    0.25
    """
    return float(drawdown(equity).max())


def turnover(traded_value: ArrayLike, equity: ArrayLike) -> NDArray[np.float64]:
    """Traded notional of each period as a fraction of the equity it was decided on.

    Two-sided: replacing the whole of one position by another is 2.0.

    Parameters
    ----------
    traded_value : array of shape (n,)
        Sum of absolute notionals of the fills in each period, in currency. The first is zero: nothing was
        decided.
    equity : array of shape (n,)
        Account values at the end of each period.

    Returns
    -------
    array of shape (n,)
        `traded_value[t] / equity[t - 1]`, and 0.0 for the first.

    Raises
    ------
    ValueError
        If the shapes differ, a trade is in the first period, or as `returns_of`.
    """
    values = _checked_equity(equity)
    traded = np.asarray(traded_value, dtype=np.float64)
    if traded.shape != values.shape:
        raise ValueError(f"`traded_value` must match `equity` {values.shape}, had shape {traded.shape}.")
    if traded[0] != 0.0:
        raise ValueError(f"`traded_value` must be zero in the first period, was {traded[0]}.")
    fractions = np.zeros(len(values))
    fractions[1:] = traded[1:] / values[:-1]
    return fractions


def hit_rate(returns: ArrayLike) -> float:
    """Share of the returns other than zero that are above zero.

    Zero returns are sessions without a position, so they count for neither side. NaN when all are zero or
    there are none.

    Parameters
    ----------
    returns : array of shape (n,)
        Fractions, one a period, finite.

    Returns
    -------
    float
        A fraction from 0 to 1.

    Raises
    ------
    ValueError
        If a return is not finite.

    Examples
    --------
    >>> hit_rate([0.01, -0.01, 0.0, 0.02, 0.03])
    0.75
    """
    values = checked_returns(returns)
    moved = values[values != 0.0]
    return float(np.mean(moved > 0.0)) if len(moved) else math.nan


def profit_factor(returns: ArrayLike) -> float:
    """Sum of the returns above zero over the size of the sum of those below; above 1 the account gains.

    NaN where none is below zero: nothing was lost that gains could be a multiple of.

    Parameters
    ----------
    returns : array of shape (n,)
        Fractions, one a period, finite.

    Returns
    -------
    float
        A ratio, 0 or more.

    Raises
    ------
    ValueError
        If a return is not finite.

    Examples
    --------
    >>> round(profit_factor([0.02, -0.01, 0.01]), 6)
    3.0
    """
    values = checked_returns(returns)
    lost = float(-values[values < 0.0].sum())
    return float(values[values > 0.0].sum()) / lost if lost > 0.0 else math.nan


def _checked_equity(equity: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(equity, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"`equity` must be a non-empty series, had shape {values.shape}.")
    bad = np.flatnonzero(~np.isfinite(values) | (values <= 0.0))
    if len(bad):
        value = values[bad[0]]
        raise ValueError(f"`equity` must be finite and above zero, was {value} at position {bad[0]}.")
    return values


def checked_returns(returns: ArrayLike) -> NDArray[np.float64]:
    """Returns as floats; refuses one that is not finite."""
    values = np.asarray(returns, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise ValueError(f"`returns` must be finite, was {values[bad[0]]} at position {bad[0]}.")
    return values


def check_periods(periods_per_year: float) -> None:
    """Refuse a number of periods a year that is not finite and above zero."""
    if not (math.isfinite(periods_per_year) and periods_per_year > 0.0):
        raise ValueError(f"`periods_per_year` must be finite and above zero, was {periods_per_year}.")
