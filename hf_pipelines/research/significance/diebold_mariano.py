"""Diebold-Mariano: whether the mean of a series of differences is zero, where neighbours are alike.

Lives here: one pair. Not here: many candidates at once (`superiority`, `confidence_set`, `holm`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hf_pipelines.research.significance.losses import Floats, as_losses, is_constant
from hf_pipelines.research.significance.rotations import cosine_waves, n_cosines

COSINE, TRUNCATED = "cosine", "truncated"


@dataclass(frozen=True)
class DieboldMariano:
    """Test of a mean difference.

    Attributes
    ----------
    mean : float
        Of the differences.
    error : float
        Its standard error.
    statistic : float
        Student's t with `degrees` degrees of freedom if there is no difference.
    p : float
        Probability of a mean as far from 0, on either side, if there is none. 1 of differences that are all 0; NaN, as the
        statistic, of others that are all equal: they say nothing of how far they vary.
    degrees : float
    """

    mean: float
    error: float
    statistic: float
    p: float
    degrees: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Bounds of the mean; NaN where the statistic is."""
        from scipy.stats import t

        if math.isnan(self.p):
            return math.nan, math.nan
        reach = float(t.ppf((1.0 + level) / 2.0, self.degrees)) * self.error
        return self.mean - reach, self.mean + reach


def diebold_mariano(difference: ArrayLike, *, horizon: int = 1, variance: str = COSINE) -> DieboldMariano:
    """Test whether two predictors lose equally much.

    Parameters
    ----------
    difference : array of shape (n_sessions,)
        Loss of one less that of the other, session by session in order of time, finite.
    horizon : int
        Sessions that a label spans: losses of fewer sessions between them share days.
    variance : str
        How the error of the mean counts that neighbours are alike. `"cosine"`: by averages with cosines, as many as
        0.4 n^(2/3), at most n / (2 horizon); holds also where errors persist beyond the labels. `"truncated"`: by the autocovariances
        below `horizon` alone with the small-sample correction, the textbook's test, which takes what persists beyond for
        evidence; Bartlett's weights where they add up to no variance.

    Returns
    -------
    DieboldMariano
        Mean difference, its error, statistic and two-sided p-value; NaN where losses differ by the same in every session.

    Raises
    ------
    ValueError
        If `difference` is not finite or shorter than two horizons, `horizon` below 1 or `variance` unknown.

    References
    ----------
    Diebold & Mariano (1995), "Comparing Predictive Accuracy", J. Business & Economic Statistics 13(3). Harvey, Leybourne & Newbold
    (1997), "Testing the Equality of Prediction Mean Squared Errors", International J. Forecasting 13(2): the correction.
    Lazarus, Lewis, Stock & Watson (2018), "HAR Inference: Recommendations for Practice", J. Business & Economic Statistics 36(4), and
    Coroneo & Iacone (2020), "Comparing Predictive Accuracy in Small Samples Using Fixed-Smoothing Asymptotics", J. Applied
    Econometrics 35(4): the cosines.

    Examples
    --------
    >>> found = diebold_mariano([1.0, 2.0, 3.0, 2.0], variance="truncated")
    >>> round(found.statistic, 4), round(found.p, 4)
    (4.899, 0.0163)
    """
    from scipy.stats import t

    values = as_losses(difference, name="difference", n_dimensions=1)
    n = len(values)
    if horizon < 1:
        raise ValueError(f"`horizon` must be at least 1, was {horizon}.")
    if n < 2 * horizon:
        raise ValueError(
            f"`difference` must span two horizons of {horizon} sessions at least, was of {n}; test more sessions."
        )
    if variance not in (COSINE, TRUNCATED):
        raise ValueError(f"`variance` must be {COSINE!r} or {TRUNCATED!r}, was {variance!r}.")
    mean = float(values.mean())
    centred = values - mean
    count = n_cosines(n, horizon)
    degrees = float(count if variance == COSINE else n - 1)
    if is_constant(values.std(), np.abs(values).max()):
        is_zero = not values.any()
        none = 0.0 if is_zero else math.nan
        return DieboldMariano(mean, 0.0, none, 1.0 if is_zero else math.nan, degrees)
    error = _cosine_error(centred, count) if variance == COSINE else _truncated_error(centred, horizon)
    # Differences that cosines see nothing of: a statistic beyond all bounds.
    statistic = mean / error if error > 0.0 else math.copysign(math.inf, mean)
    return DieboldMariano(mean, error, statistic, float(2.0 * t.sf(abs(statistic), degrees)), degrees)


def _cosine_error(centred: Floats, count: int) -> float:
    weights = cosine_waves(len(centred), count) @ centred
    return math.sqrt(float(weights @ weights) / count / len(centred))


def _truncated_error(centred: Floats, horizon: int) -> float:
    n = len(centred)
    covariance = np.array([float(centred[lag:] @ centred[: n - lag]) / n for lag in range(horizon)])
    variance = covariance[0] + 2.0 * covariance[1:].sum()
    if variance <= 0.0:
        variance = covariance[0] + 2.0 * float((1.0 - np.arange(1, horizon) / horizon) @ covariance[1:])
    corrected = (n + 1.0 - 2.0 * horizon + horizon * (horizon - 1.0) / n) / n
    return math.sqrt(max(variance, 0.0) / n / corrected)
