"""Numbers that judge the losses among returns: downside, tails, shape.

Lives here: one function per quantity of a series of returns. Not here: falls from a peak (`underwater`), gains against a benchmark
(`relative`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_pipelines.research.metrics.account import ROUNDING_VOLATILITY, check_periods, checked_returns

# Share of the periods that are no worse than the loss named: the customary levels.
LEVELS = (0.95, 0.99)

# Standard deviations out to which an expansion must be a distribution: one period in 30,000 lies beyond.
FAR_QUANTILE = 4.0


def sortino_ratio(returns: ArrayLike, *, periods_per_year: float, target: float = 0.0) -> float:
    """Mean return above a target over the downside deviation, annualised.

    The downside deviation is the root mean square of what falls short of the target, over all returns, those above it counting 0.

    Parameters
    ----------
    returns : array of shape (n,)
        One fraction a period.
    periods_per_year : float
        The ratio is scaled by its root.
    target : float
        Fraction a period.

    Returns
    -------
    float
        NaN for fewer than two returns, and where none falls short of the target.

    Raises
    ------
    ValueError
        If a return is not finite or `periods_per_year` is not above zero.

    References
    ----------
    Sortino & Price (1994), "Performance Measurement in a Downside Risk Framework", J. Investing 3(3).

    Examples
    --------
    >>> round(sortino_ratio([0.03, -0.01], periods_per_year=1), 4)
    1.4142
    """
    values = checked_returns(returns) - target
    check_periods(periods_per_year)
    if len(values) < 2:
        return math.nan
    downside = math.sqrt(float(np.mean(np.minimum(values, 0.0) ** 2)))
    if downside <= ROUNDING_VOLATILITY:
        return math.nan
    return float(values.mean() / downside * math.sqrt(periods_per_year))


def omega_ratio(returns: ArrayLike, *, target: float = 0.0) -> float:
    """What exceeds a target, summed, over what falls short of it.

    With a target of 0 it is the `profit_factor`.

    Parameters
    ----------
    returns : array of shape (n,)
        One fraction a period.
    target : float
        Fraction a period.

    Returns
    -------
    float
        NaN where none falls short of the target.

    Raises
    ------
    ValueError
        If a return is not finite.

    References
    ----------
    Keating & Shadwick (2002), "A Universal Performance Measure", J. Performance Measurement 6(3).

    Examples
    --------
    >>> round(omega_ratio([0.03, -0.01, 0.02], target=0.01), 6)
    1.5
    """
    values = checked_returns(returns) - target
    short = float(-values[values < 0.0].sum())
    return float(values[values > 0.0].sum()) / short if short > 0.0 else math.nan


def skewness(returns: ArrayLike) -> float:
    """Third standardised moment, not adjusted for the size of the sample; NaN for fewer than two returns and constant ones.

    Raises
    ------
    ValueError
        If a return is not finite.
    """
    return _moment(checked_returns(returns), 3)


def kurtosis(returns: ArrayLike) -> float:
    """Fourth standardised moment, 3 for normal returns, not adjusted; NaN for fewer than two returns and constant ones.

    Raises
    ------
    ValueError
        If a return is not finite.
    """
    return _moment(checked_returns(returns), 4)


def value_at_risk(returns: ArrayLike, *, level: float = 0.95) -> float:
    """Loss that a share `level` of the periods stays below: a quantile of the returns themselves.

    Parameters
    ----------
    returns : array of shape (n,)
        One fraction a period.
    level : float
        Between 0 and 1.

    Returns
    -------
    float
        A fraction, positive for a loss; between two returns linear. NaN where fewer than one return in expectation lies
        beyond: 20 are needed for 0.95, 100 for 0.99.

    Raises
    ------
    ValueError
        If a return is not finite or `level` is not between 0 and 1.

    Examples
    --------
    >>> round(value_at_risk(np.arange(-5, 16) / 100, level=0.95), 6)
    0.04
    """
    values = checked_returns(returns)
    if not _reaches(values, level):
        return math.nan
    return float(-np.quantile(values, 1.0 - level))


def expected_shortfall(returns: ArrayLike, *, level: float = 0.95) -> float:
    """Mean loss of the worst share `1 - level` of the periods (conditional value at risk); the last one counts in part.

    Parameters
    ----------
    returns : array of shape (n,)
        One fraction a period.
    level : float
        Between 0 and 1.

    Returns
    -------
    float
        A fraction, positive for a loss. NaN as `value_at_risk`.

    Raises
    ------
    ValueError
        If a return is not finite or `level` is not between 0 and 1.

    References
    ----------
    Acerbi & Tasche (2002), "On the Coherence of Expected Shortfall", J. Banking & Finance 26(7), definition 3.2: the mean of the
    returns beyond the quantile, as others have it, counts more or fewer than the share where `n * (1 - level)` is no whole number.

    Examples
    --------
    >>> round(expected_shortfall([-0.04, -0.02, 0.01, 0.03], level=0.625), 6)
    0.033333
    """
    values = checked_returns(returns)
    if not _reaches(values, level):
        return math.nan
    share = (1.0 - level) * len(values)
    # The share itself is rounded: 0.05 * 100 is 5.000000000000004.
    whole = int(share + 1e-9)
    worst = np.sort(values)[: whole + 1]
    part = max(share - whole, 0.0)
    rest = part * worst[whole] if whole < len(worst) else 0.0
    return float(-(worst[:whole].sum() + rest) / share)


def cornish_fisher_value_at_risk(returns: ArrayLike, *, level: float = 0.95) -> float:
    """Value at risk of a normal distribution that is bent by the skewness and kurtosis of the returns.

    Parameters
    ----------
    returns : array of shape (n,)
        One fraction a period.
    level : float
        Between 0 and 1.

    Returns
    -------
    float
        A fraction, positive for a loss. NaN for fewer than two returns, constant ones, and moments for which the expansion is no
        distribution: its quantiles would not rise with their level.

    Raises
    ------
    ValueError
        If a return is not finite or `level` is not between 0 and 1.

    References
    ----------
    Cornish & Fisher (1938), "Moments and Cumulants in the Specification of Distributions". Maillard (2012), "A User's Guide to the
    Cornish Fisher Expansion", for where it holds.
    """
    from scipy.special import ndtri

    values = checked_returns(returns)
    _check_level(level)
    z = float(ndtri(1.0 - level))
    return _cornish_fisher(values, z, z**2, z**3)


def cornish_fisher_expected_shortfall(returns: ArrayLike, *, level: float = 0.95) -> float:
    """Mean of `cornish_fisher_value_at_risk` over all levels beyond `level`.

    Parameters
    ----------
    returns : array of shape (n,)
        One fraction a period.
    level : float
        Between 0 and 1.

    Returns
    -------
    float
        A fraction, positive for a loss. NaN as `cornish_fisher_value_at_risk`.

    Raises
    ------
    ValueError
        If a return is not finite or `level` is not between 0 and 1.

    References
    ----------
    As `cornish_fisher_value_at_risk`. Boudt, Peterson & Croux (2008), "Estimation and Decomposition of Downside Risk for
    Portfolios with Non-Normal Returns", J. Risk 11(2), differ: they expand the density, not the quantiles.
    """
    from scipy.special import ndtri

    values = checked_returns(returns)
    _check_level(level)
    z = float(ndtri(1.0 - level))
    # Moments of a normal variable below z.
    mills = math.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi) / (1.0 - level)
    return _cornish_fisher(values, -mills, 1.0 - z * mills, -(z**2 + 2.0) * mills)


def rises_with_its_level(skew: float, excess: float) -> bool:
    """Whether a Cornish-Fisher expansion is a distribution: its quantiles rise with their level, out to `FAR_QUANTILE`.

    Parameters
    ----------
    skew, excess : float
        Skewness, and kurtosis less 3.

    References
    ----------
    Maillard (2012), "A User's Guide to the Cornish Fisher Expansion": its derivative in the normal quantile is a parabola.
    """
    square, linear, constant = excess / 8.0 - skew**2 / 6.0, skew / 3.0, 1.0 - excess / 8.0 + 5.0 * skew**2 / 36.0
    turn = -linear / (2.0 * square) if square != 0.0 else 0.0
    places = np.clip([-FAR_QUANTILE, turn, FAR_QUANTILE], -FAR_QUANTILE, FAR_QUANTILE)
    return bool((square * places**2 + linear * places + constant >= 0.0).all())


def tail_ratio(returns: ArrayLike) -> float:
    """Gain that one period in 20 exceeds, over the loss that one in 20 exceeds: above 1 the good days are the larger ones.

    Returns
    -------
    float
        NaN for fewer than 20 returns, and where one of the two is no gain, or no loss.

    Raises
    ------
    ValueError
        If a return is not finite.
    """
    values = checked_returns(returns)
    if not _reaches(values, LEVELS[0]):
        return math.nan
    loss, gain = np.quantile(values, [1.0 - LEVELS[0], LEVELS[0]])
    return float(gain / -loss) if gain > 0.0 > loss else math.nan


def average_win(returns: ArrayLike) -> float:
    """Mean of the returns, or of the profits of trades, above zero; NaN where there is none.

    Raises
    ------
    ValueError
        If a value is not finite.
    """
    values = checked_returns(returns)
    won = values[values > 0.0]
    return float(won.mean()) if len(won) else math.nan


def average_loss(returns: ArrayLike) -> float:
    """Size of the mean of the returns, or of the profits of trades, below zero, positive; NaN where there is none.

    Raises
    ------
    ValueError
        If a value is not finite.
    """
    values = checked_returns(returns)
    lost = values[values < 0.0]
    return float(-lost.mean()) if len(lost) else math.nan


def payoff_ratio(returns: ArrayLike) -> float:
    """Average win over average loss; NaN where there is no win or no loss.

    Raises
    ------
    ValueError
        If a value is not finite.

    Examples
    --------
    >>> round(payoff_ratio([0.03, 0.01, -0.01]), 6)
    2.0
    """
    return average_win(returns) / average_loss(returns)


def expectancy(returns: ArrayLike) -> float:
    """Mean of what a period that moved, or a trade, earned: zeros are left out as `hit_rate` does; NaN where nothing moved.

    It is `hit_rate * average_win - (1 - hit_rate) * average_loss`.

    Raises
    ------
    ValueError
        If a value is not finite.
    """
    values = checked_returns(returns)
    moved = values[values != 0.0]
    return float(moved.mean()) if len(moved) else math.nan


def _moment(values: NDArray[np.float64], power: int) -> float:
    if len(values) < 2:
        return math.nan
    deviations = values - values.mean()
    spread = math.sqrt(float((deviations**2).mean()))
    return float(((deviations / spread) ** power).mean()) if spread > ROUNDING_VOLATILITY else math.nan


def _cornish_fisher(values: NDArray[np.float64], z: float, z2: float, z3: float) -> float:
    """Loss at a quantile of the expansion, whose normal quantile has the powers `z`, `z2`, `z3`."""
    skew, excess = _moment(values, 3), _moment(values, 4) - 3.0
    if math.isnan(skew) or not rises_with_its_level(skew, excess):
        return math.nan
    bent = z + (z2 - 1.0) * skew / 6.0 + (z3 - 3.0 * z) * excess / 24.0 - (2.0 * z3 - 5.0 * z) * skew**2 / 36.0
    return float(-(values.mean() + bent * values.std()))


def _reaches(values: NDArray[np.float64], level: float) -> bool:
    """Whether one of the values lies beyond `level` in expectation."""
    _check_level(level)
    return len(values) * (1.0 - level) >= 1.0 - 1e-9


def _check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise ValueError(f"`level` must be between 0 and 1, was {level}.")
