"""Numbers that judge returns beside those of a benchmark.

Lives here: one function per quantity. Not here: whether a difference is luck (`significance`), which benchmark a market has
(`components`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_pipelines.research.metrics.account import ROUNDING_VOLATILITY, check_periods, checked_returns, sharpe_ratio


def beta(returns: ArrayLike, benchmark: ArrayLike) -> float:
    """Slope of the returns on those of a benchmark, by least squares.

    Parameters
    ----------
    returns, benchmark : array of shape (n,)
        Fractions of the same periods.

    Returns
    -------
    float
        NaN for fewer than two periods, and for a benchmark that does not move.

    Raises
    ------
    ValueError
        If a return is not finite or the shapes differ.

    Examples
    --------
    >>> round(beta([0.01, 0.03], [0.01, 0.02]), 6)
    2.0
    """
    values, others = _both(returns, benchmark)
    if len(values) < 2 or others.std() <= ROUNDING_VOLATILITY:
        return math.nan
    deviations = others - others.mean()
    return float((deviations * values).sum() / (deviations**2).sum())


def alpha(returns: ArrayLike, benchmark: ArrayLike, *, periods_per_year: float) -> float:
    """Mean return a year that `beta` times the benchmark's does not explain, a fraction, not compounded.

    Parameters
    ----------
    returns, benchmark : array of shape (n,)
        Fractions of the same periods.
    periods_per_year : float

    Returns
    -------
    float
        NaN where `beta` is.

    Raises
    ------
    ValueError
        As `beta`, or if `periods_per_year` is not above zero.

    References
    ----------
    Jensen (1968), "The Performance of Mutual Funds in the Period 1945-1964", J. Finance 23(2), with a risk-free rate of zero.
    """
    values, others = _both(returns, benchmark)
    check_periods(periods_per_year)
    slope = beta(values, others)
    return math.nan if math.isnan(slope) else float((values.mean() - slope * others.mean()) * periods_per_year)


def information_ratio(returns: ArrayLike, benchmark: ArrayLike, *, periods_per_year: float) -> float:
    """Mean over standard deviation of the difference to a benchmark, annualised: its `sharpe_ratio`, and NaN as that.

    Raises
    ------
    ValueError
        As `beta`, or if `periods_per_year` is not above zero.

    References
    ----------
    Grinold & Kahn (2000), "Active Portfolio Management".
    """
    values, others = _both(returns, benchmark)
    return sharpe_ratio(values - others, periods_per_year=periods_per_year)


def up_capture(returns: ArrayLike, benchmark: ArrayLike, *, periods_per_year: float) -> float:
    """Compound growth a year over the benchmark's, of the periods in which the benchmark rose; NaN where it never did.

    Parameters
    ----------
    returns, benchmark : array of shape (n,)
        Fractions of the same periods, above -1.
    periods_per_year : float

    Raises
    ------
    ValueError
        As `beta`, if a return is -1 or less, or if `periods_per_year` is not above zero.
    """
    return _capture(returns, benchmark, periods_per_year, up=True)


def down_capture(returns: ArrayLike, benchmark: ArrayLike, *, periods_per_year: float) -> float:
    """As `up_capture`, of the periods in which the benchmark fell: below 1 the account fell less.

    Raises
    ------
    ValueError
        As `up_capture`.
    """
    return _capture(returns, benchmark, periods_per_year, up=False)


def _capture(returns: ArrayLike, benchmark: ArrayLike, periods_per_year: float, *, up: bool) -> float:
    values, others = _both(returns, benchmark)
    check_periods(periods_per_year)
    if (values <= -1.0).any() or (others <= -1.0).any():
        raise ValueError("`returns` must be above -1, was not: nothing is left to grow after a loss of everything.")
    counted = others > 0.0 if up else others < 0.0
    if not counted.any():
        return math.nan
    grown, other = (math.expm1(float(np.log1p(each[counted]).mean()) * periods_per_year) for each in (values, others))
    return grown / other


def _both(returns: ArrayLike, benchmark: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values, others = checked_returns(returns), checked_returns(benchmark)
    if values.shape != others.shape:
        raise ValueError(f"`benchmark` must match `returns` {values.shape}, had shape {others.shape}.")
    return values, others
