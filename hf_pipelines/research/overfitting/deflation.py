"""Deflation: a chosen trial beside all that it was chosen from.

Lives here: putting the number of trials, their variance and how many are independent together. Not here: each of these (`sharpe`,
`independent_trials`), which trials were made (`resources.trial_ledger`).

References
----------
Bailey & López de Prado (2014), "The Deflated Sharpe Ratio: Correcting for Selection Bias, Backtest Overfitting, and Non-Normality", J. Portfolio
Management 40(5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_pipelines.research.overfitting.independent_trials import count_independent_trials
from hf_pipelines.research.overfitting.sharpe import (
    SharpeEstimate,
    deflated_sharpe_ratio,
    expected_maximum_sharpe,
    probabilistic_sharpe_ratio,
    variance_of_trials,
)


@dataclass(frozen=True)
class Deflation:
    """What a Sharpe ratio is worth after the trials that it was chosen from; ratios per period.

    Attributes
    ----------
    n_trials : int
    n_independent : int
        Effective number of them; those without a return series count one each.
    trials_variance : float
    expected_maximum : float
        That the best of `n_independent` trials without skill is expected to show.
    probabilistic, deflated : float
        Probability that the true ratio is above 0, as if it were the only trial, and beside `n_independent`.
    deflated_by_all : float
        As if all trials were independent.
    """

    n_trials: int
    n_independent: int
    trials_variance: float
    expected_maximum: float
    probabilistic: float
    deflated: float
    deflated_by_all: float


def deflate(chosen: SharpeEstimate, *, sharpes: ArrayLike, returns: NDArray[np.float64], n_trials: int) -> Deflation:
    """Judge a trial by all trials that it was chosen from, itself among them.

    Parameters
    ----------
    chosen : SharpeEstimate
        Of at least 2 returns.
    sharpes : array
        Of the trials, per period; NaN or left out where it is not known.
    returns : array of shape (n_periods, n_known)
        Return series of those that have one, as in `count_independent_trials`.
    n_trials : int
        All of them, at least 1 and at least those with returns.

    Returns
    -------
    Deflation
        Counts of trials, the Sharpe ratio that chance would reach, and the probabilities before and after deflation.

    Raises
    ------
    ValueError
        If `n_trials` is too small, or `chosen` has fewer than 2 returns.
    """
    n_known = returns.shape[1]
    if n_trials < max(n_known, 1):
        raise ValueError(f"`n_trials` must be at least the {max(n_known, 1)} trials that are known, was {n_trials}.")
    n_independent = max(count_independent_trials(returns) + n_trials - n_known, 1)
    variance = variance_of_trials(sharpes, n=chosen.n)
    moments = (chosen.sharpe, chosen.n, chosen.skew, chosen.kurtosis)
    return Deflation(
        n_trials=n_trials,
        n_independent=n_independent,
        trials_variance=variance,
        expected_maximum=float(expected_maximum_sharpe(variance, n_independent)),
        probabilistic=float(probabilistic_sharpe_ratio(*moments)),
        deflated=float(deflated_sharpe_ratio(*moments, trials_variance=variance, n_trials=n_independent)),
        deflated_by_all=float(deflated_sharpe_ratio(*moments, trials_variance=variance, n_trials=n_trials)),
    )
