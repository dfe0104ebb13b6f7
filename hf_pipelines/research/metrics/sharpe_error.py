"""How far a Sharpe ratio may lie from the truth.

Lives here: its standard error and interval. Not here: the ratio (`account`), what many trials make of it (`overfitting.sharpe`), the
interval of a block bootstrap (`bootstrap`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from hf_pipelines.research.metrics.account import check_periods, checked_returns, sharpe_ratio
from hf_pipelines.research.metrics.bootstrap import LEVEL


def sharpe_standard_error(returns: ArrayLike, *, periods_per_year: float, lags: int | None = None) -> float:
    """Standard error of `sharpe_ratio`, for returns that need be neither normal nor independent.

    Parameters
    ----------
    returns : array of shape (n,)
        One fraction a period.
    periods_per_year : float
        The ratio is annualised by its root, and so is its error.
    lags : int or None
        Autocovariances that count, with weights that fall in a straight line (Newey-West); 0 for independent returns; None for
        `floor(4 * (n / 100) ** (2 / 9))`.

    Returns
    -------
    float
        NaN where the ratio is.

    Raises
    ------
    ValueError
        As `sharpe_ratio`, or if `lags` is negative.

    References
    ----------
    Lo (2002), "The Statistics of Sharpe Ratios", Financial Analysts Journal 58(4), appendix: the delta method on the mean and the
    variance, by the generalised method of moments. Newey & West (1994), "Automatic Lag Selection in Covariance Matrix
    Estimation", Review of Economic Studies 61(4), for the lags.
    """
    values = checked_returns(returns)
    check_periods(periods_per_year)
    n = len(values)
    if lags is not None and lags < 0:
        raise ValueError(f"`lags` must be at least 0, was {lags}.")
    if math.isnan(sharpe_ratio(values, periods_per_year=periods_per_year)):
        return math.nan
    mean, variance = float(values.mean()), float(values.var())
    moments = np.stack([values - mean, (values - mean) ** 2 - variance])
    covariance = moments @ moments.T / n
    counted = _default_lags(n) if lags is None else lags
    for lag in range(1, min(counted, n - 1) + 1):
        shifted = moments[:, lag:] @ moments[:, :-lag].T / n
        covariance += (1.0 - lag / (counted + 1.0)) * (shifted + shifted.T)
    deviation = math.sqrt(variance)
    gradient = np.array([1.0 / deviation, -mean / (2.0 * deviation**3)])
    return math.sqrt(max(float(gradient @ covariance @ gradient), 0.0) / n * periods_per_year)


def sharpe_interval(returns: ArrayLike, *, periods_per_year: float, lags: int | None = None) -> tuple[float, float]:
    """Bounds between which the true Sharpe ratio lies with a confidence of `LEVEL`, in large samples; NaN where the ratio is.

    Parameters
    ----------
    returns, periods_per_year, lags
        As `sharpe_standard_error`.

    Raises
    ------
    ValueError
        As `sharpe_standard_error`.
    """
    from scipy.special import ndtri

    ratio = sharpe_ratio(returns, periods_per_year=periods_per_year)
    reach = float(ndtri((1.0 + LEVEL) / 2.0)) * sharpe_standard_error(
        returns, periods_per_year=periods_per_year, lags=lags
    )
    return ratio - reach, ratio + reach


def _default_lags(n: int) -> int:
    return int(4.0 * (n / 100.0) ** (2.0 / 9.0))
