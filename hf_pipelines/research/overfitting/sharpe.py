"""Sharpe ratios beside luck: how sure one is, how long it takes to be sure, and what the best of many trials is worth.

Lives here: the probabilistic and the deflated Sharpe ratio, the minimum track record length, the expected maximum of trials without
skill. Not here: the annualised ratio of an account (`metrics`), how many trials were made (`resources.trial_ledger`), how many of
them are independent (`independent_trials`).

All ratios are per period of the returns, not annualised: an annual ratio is divided by the root of the periods in a year first, and
an annual variance of trials by the periods. Kurtosis is that of the distribution, 3 for normal returns, not the excess. Returns are
taken to be independent over time, as in the papers.

References
----------
Bailey & López de Prado (2012), "The Sharpe Ratio Efficient Frontier", J. Risk 15(2).
Bailey & López de Prado (2014), "The Deflated Sharpe Ratio: Correcting for Selection Bias, Backtest Overfitting, and
Non-Normality", J. Portfolio Management 40(5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_pipelines.research.metrics.account import ROUNDING_VOLATILITY

Floats = NDArray[np.float64]

# Rounding in moments that were computed of returns: kurtosis is at least 1 + skew^2 of any distribution.
_MOMENT_ROUNDING = 1e-9


@dataclass(frozen=True)
class SharpeEstimate:
    """What is known of a series of returns, for the functions below.

    Attributes
    ----------
    sharpe : float
        Per period: mean over sample standard deviation; NaN of fewer than two returns, or of returns without risk.
    n : int
        Returns.
    skew, kurtosis : float
        Of the sample, not adjusted for its size; kurtosis is 3 for normal returns. 0 and 3 where `sharpe` is NaN.
    """

    sharpe: float
    n: int
    skew: float
    kurtosis: float


def estimate_sharpe(returns: ArrayLike) -> SharpeEstimate:
    """Sharpe ratio per period of some returns, with the moments that its error depends on.

    Parameters
    ----------
    returns : array of shape (n,)
        Fractions, one a period, finite.

    Returns
    -------
    SharpeEstimate
        `sharpe` is NaN for fewer than two returns or returns that do not vary.

    Raises
    ------
    ValueError
        If a return is not finite.
    """
    values = np.asarray(returns, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(
            "`returns` must be one finite fraction a period, were not; leave out periods without a return."
        )
    n = len(values)
    deviations = values - values.mean() if n else values
    spread = math.sqrt(float((deviations**2).mean())) if n else 0.0
    if n < 2 or spread <= ROUNDING_VOLATILITY:
        return SharpeEstimate(math.nan, n, 0.0, 3.0)
    scaled = deviations / spread
    return SharpeEstimate(
        sharpe=float(values.mean() / (spread * math.sqrt(n / (n - 1)))),
        n=n,
        skew=float((scaled**3).mean()),
        kurtosis=float((scaled**4).mean()),
    )


def probabilistic_sharpe_ratio(
    sharpe: ArrayLike, n: ArrayLike, skew: ArrayLike, kurtosis: ArrayLike, benchmark: ArrayLike = 0.0
) -> Floats | float:
    """Probability that the true Sharpe ratio is above `benchmark`, of one strategy that was not chosen among others.

    Parameters
    ----------
    sharpe : float or array
        Estimated, per period.
    n : int or array
        Returns that it was estimated from, at least 2.
    skew, kurtosis : float or array
        Of these returns; kurtosis is 3 for normal ones.
    benchmark : float or array
        Per period.

    Returns
    -------
    float or array
        As the arguments broadcast; NaN where `sharpe` is.

    Raises
    ------
    ValueError
        If `n` is below 2, or no distribution has such a skew and kurtosis.

    Examples
    --------
    >>> round(probabilistic_sharpe_ratio(0.458, 24, -2.448, 10.164), 3)
    0.913
    """
    from scipy.special import ndtr

    ratio, length = _floats(sharpe), _floats(n)
    if (length < 2).any():
        raise ValueError(f"`n` must be at least 2 returns, was {length.min():g}.")
    spread = np.sqrt(_unit_variance(ratio, skew, kurtosis))
    return _plain(ndtr((ratio - _floats(benchmark)) * np.sqrt(length - 1.0) / spread))


def minimum_track_record_length(
    sharpe: ArrayLike, skew: ArrayLike, kurtosis: ArrayLike, benchmark: ArrayLike = 0.0, confidence: float = 0.95
) -> Floats | float:
    """Returns that are needed until the probabilistic Sharpe ratio exceeds `confidence`.

    Parameters
    ----------
    sharpe : float or array
        Per period, not annualised.
    skew, kurtosis : float or array
        Of the returns; 0 and 3 for a normal distribution.
    benchmark : float or array
        Sharpe ratio to exceed, per period.
    confidence : float
        Above 0.5 and below 1.

    Returns
    -------
    float or array
        A number of periods, not rounded; infinite where `sharpe` is not above `benchmark`, NaN where it is NaN.

    Raises
    ------
    ValueError
        If `confidence` is not above 0.5 and below 1, or no distribution has such a skew and kurtosis.

    References
    ----------
    Bailey & López de Prado (2012), "The Sharpe Ratio Efficient Frontier", J. Risk 15(2).

    Examples
    --------
    >>> round(minimum_track_record_length(2 / 250**0.5, 0, 3, benchmark=1 / 250**0.5) / 250, 2)
    2.73
    """
    from scipy.special import ndtri

    if not 0.5 < confidence < 1.0:
        raise ValueError(f"`confidence` must be above 0.5 and below 1, was {confidence}.")
    ratio, level = _floats(sharpe), _floats(benchmark)
    with np.errstate(divide="ignore"):
        length = 1.0 + _unit_variance(ratio, skew, kurtosis) * (ndtri(confidence) / (ratio - level)) ** 2
    return _plain(np.where(ratio <= level, np.inf, length))


def expected_maximum_sharpe(trials_variance: ArrayLike, n_trials: ArrayLike) -> Floats | float:
    """Sharpe ratio that the best of some independent trials without skill is expected to show.

    Parameters
    ----------
    trials_variance : float or array
        Variance of the trials' Sharpe ratios, per period squared.
    n_trials : float or array
        At least 1, an effective number need not be whole.

    Returns
    -------
    float or array
        Per period; 0 for a single trial.

    Raises
    ------
    ValueError
        If a variance is below 0 or not finite, or a number of trials below 1.

    Examples
    --------
    >>> round(expected_maximum_sharpe(0.5 / 250, 100), 4)
    0.1132
    """
    from scipy.special import ndtri

    variance, trials = _floats(trials_variance), _floats(n_trials)
    if not (np.isfinite(variance).all() and (variance >= 0.0).all()):
        raise ValueError(f"`trials_variance` must be finite and at least 0, was {variance.tolist()}.")
    if not (np.isfinite(trials).all() and (trials >= 1.0).all()):
        raise ValueError(f"`n_trials` must be at least 1, was {trials.tolist()}.")
    with np.errstate(divide="ignore"):
        largest = (1.0 - np.euler_gamma) * ndtri(1.0 - 1.0 / trials) + np.euler_gamma * ndtri(
            1.0 - 1.0 / (trials * math.e)
        )
    # The approximation is for many trials: just above one it would be below the mean of a single one.
    return _plain(np.sqrt(variance) * np.maximum(largest, 0.0))


def deflated_sharpe_ratio(
    sharpe: ArrayLike,
    n: ArrayLike,
    skew: ArrayLike,
    kurtosis: ArrayLike,
    *,
    trials_variance: ArrayLike,
    n_trials: ArrayLike,
) -> Floats | float:
    """Probability that the true Sharpe ratio of the best of some trials is above 0, the choice taken into account.

    The probabilistic Sharpe ratio whose benchmark is what the best of so many trials without skill is expected to show.

    Parameters
    ----------
    sharpe, n, skew, kurtosis : float or array
        Of the chosen trial, as in `probabilistic_sharpe_ratio`: per period, over `n` periods.
    trials_variance, n_trials : float or array
        Of all trials that it was chosen from, as in `expected_maximum_sharpe`; the trials are taken to be independent.

    Returns
    -------
    float or array
        NaN where `sharpe` is.

    Raises
    ------
    ValueError
        As the two functions.

    Examples
    --------
    >>> chosen = {"sharpe": 2.5 / 250**0.5, "n": 1250, "skew": -3, "kurtosis": 10}
    >>> round(deflated_sharpe_ratio(**chosen, trials_variance=0.5 / 250, n_trials=100), 4)
    0.9004
    """
    return probabilistic_sharpe_ratio(sharpe, n, skew, kurtosis, expected_maximum_sharpe(trials_variance, n_trials))


def variance_of_trials(sharpes: ArrayLike, *, n: int) -> float:
    """Variance of trials' Sharpe ratios for `expected_maximum_sharpe`, no less than chance alone gives.

    Ratios of strategies without skill that are estimated from `n` returns vary by 1 / (n - 1), whatever was tried. A sample
    variance below it says that the trials are few or alike, of which the number of independent ones already tells: it would
    deflate too little. The paper takes the sample variance alone.

    Parameters
    ----------
    sharpes : array of shape (n_trials,)
        Per period; NaN ones are left out.
    n : int
        Returns that the judged ratio was estimated from.

    Returns
    -------
    float
        Of ratios per period, above zero.

    Raises
    ------
    ValueError
        If `n` is below 2.

    Examples
    --------
    >>> variance_of_trials([0.1, 0.1], n=101)
    0.01
    """
    if n < 2:
        raise ValueError(f"`n` must be at least 2 returns, was {n}.")
    values = _floats(sharpes)
    known = values[np.isfinite(values)]
    of_sample = float(np.var(known, ddof=1)) if len(known) > 1 else 0.0
    return max(of_sample, 1.0 / (n - 1))


def _unit_variance(sharpe: Floats, skew: ArrayLike, kurtosis: ArrayLike) -> Floats:
    """Variance of an estimated Sharpe ratio, times the number of returns less one."""
    asymmetry, tails = _floats(skew), _floats(kurtosis)
    least = 1.0 + asymmetry**2
    if not (tails >= least - _MOMENT_ROUNDING * least).all():
        raise ValueError(
            f"`kurtosis` must be at least 1 + skew^2, as of any distribution, was {tails.tolist()} with skew {asymmetry.tolist()}; it is 3 for normal "
            "returns: give it, not its excess."
        )
    # 0 of returns that take two values alone, at one ratio: rounding may lie below it.
    return np.maximum(1.0 - asymmetry * sharpe + (tails - 1.0) / 4.0 * sharpe**2, np.finfo(np.float64).tiny)


def _floats(value: ArrayLike) -> Floats:
    return np.asarray(value, dtype=np.float64)


def _plain(value: Floats) -> Floats | float:
    """A number where all arguments were numbers."""
    return float(value) if np.ndim(value) == 0 else value
