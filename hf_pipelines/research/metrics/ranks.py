"""Information coefficients: how well predictions rank the outcomes of each session.

Lives here: the coefficient by session, and what a series of them is worth. Not here: errors of single predictions
(`predictions`).

References
----------
Grinold & Kahn (2000), "Active Portfolio Management", 2nd ed., ch. 6.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

# A mean of a hundred thousand coefficients is exact to less: below it a number tells of the order of additions.
ROUNDING = 1e-12


def information_coefficient(
    predictions: pl.DataFrame, *, prediction: str = "prediction", target: str = "target", is_ranked: bool = True
) -> pl.DataFrame:
    """Correlation between predictions and outcomes across the symbols of each session.

    Of their ranks: Spearman's coefficient, ties share their average rank. Or of the values: Pearson's. Rows where either value is null or NaN are left
    out.

    Parameters
    ----------
    predictions : DataFrame
        Columns `session`, and the two named below.
    prediction, target : str
        Columns holding the predicted and the realised value.
    is_ranked : bool
        Correlate ranks, not values.

    Returns
    -------
    DataFrame
        `session`, `information_coefficient` (in [-1, 1]), `n_symbols`; sorted by session, one row per
        session that has usable rows. NaN where undefined: fewer than two symbols, or all predictions or all
        targets equal. Exactly 0 where it is 0 but for rounding, below `ROUNDING`.

    Raises
    ------
    ValueError
        If a column is missing.

    References
    ----------
    Grinold & Kahn (1999), Active Portfolio Management, ch. 6.
    """
    missing = sorted({"session", prediction, target} - set(predictions.columns))
    if missing:
        raise ValueError(f"`predictions` must have the columns {missing}, had {predictions.columns}.")
    pair = pl.col(prediction, target).cast(pl.Float64).fill_nan(None)
    usable = predictions.select("session", pair).drop_nulls()
    sides = [pl.col(name).rank("average") if is_ranked else pl.col(name) for name in (prediction, target)]
    coefficient = pl.corr(*sides)
    coefficient = pl.when(coefficient.abs() < ROUNDING).then(0.0).otherwise(coefficient)
    return (
        usable.group_by("session")
        .agg(coefficient.fill_null(math.nan).alias("information_coefficient"), pl.len().alias("n_symbols"))
        .sort("session")
    )


def mean_information_coefficient(
    predictions: pl.DataFrame, *, prediction: str = "prediction", target: str = "target", is_ranked: bool = True
) -> float:
    """Mean of `information_coefficient` over the sessions where it is defined; NaN if there are none.

    Parameters
    ----------
    predictions : DataFrame
        Columns `session`, the prediction and the target; one row a symbol and time.
    prediction, target : str
        Names of these columns.
    is_ranked : bool
        Correlate ranks (Spearman), else values (Pearson).

    Returns
    -------
    float
        From -1 to 1.

    Raises
    ------
    ValueError
        As `information_coefficient`.
    """
    by_session = information_coefficient(predictions, prediction=prediction, target=target, is_ranked=is_ranked)
    mean = by_session["information_coefficient"].fill_nan(None).mean()
    return math.nan if mean is None else float(without_rounding(mean))  # type: ignore[arg-type]  # a mean of floats


def without_rounding(coefficients: ArrayLike) -> NDArray[np.float64]:
    """Coefficients, or means of some, exactly 0 where they are 0 but for rounding, below `ROUNDING`.

    Examples
    --------
    >>> without_rounding([-8.67e-18, 1e-9]).tolist()
    [0.0, 1e-09]
    """
    values = np.asarray(coefficients, dtype=np.float64)
    return np.where(np.abs(values) < ROUNDING, 0.0, values)


def coefficient_summary(coefficients: ArrayLike) -> dict[str, float]:
    """What a series of information coefficients is worth.

    Parameters
    ----------
    coefficients : array of shape (n_sessions,)
        In order of time; NaN where undefined, left out.

    Returns
    -------
    dict
        `mean`; `ratio`, the mean over the sample standard deviation, NaN for fewer than two or equal ones; `t`, the mean over
        its standard error by Newey and West, which counts that neighbouring sessions are alike: their labels overlap. With
        a lag of the whole part of 4 * (n / 100) ** (2 / 9). NaN where `ratio` is.

    References
    ----------
    Newey & West (1987), "A Simple, Positive Semi-definite, Heteroskedasticity and Autocorrelation Consistent Covariance
    Matrix", Econometrica 55(3); (1994), Review of Economic Studies 61(4), for the lag.
    """
    values = np.asarray(coefficients, dtype=np.float64)
    values = values[~np.isnan(values)]
    n = len(values)
    if not n:
        return {"mean": math.nan, "ratio": math.nan, "t": math.nan}
    mean = float(without_rounding(values.mean()))
    # Written so that the rounding of equal values is none.
    deviation = float(values.std(ddof=1)) if n > 1 and (values != values[0]).any() else 0.0
    if deviation == 0.0:
        return {"mean": mean, "ratio": math.nan, "t": math.nan}
    error = values - mean
    variance = float(error @ error) / n
    lags = min(newey_west_lags(n), n - 1)
    for lag in range(1, lags + 1):
        variance += 2.0 * (1.0 - lag / (lags + 1.0)) * float(error[lag:] @ error[:-lag]) / n
    return {
        "mean": mean,
        "ratio": mean / deviation,
        "t": mean / math.sqrt(variance / n) if variance > 0.0 else math.nan,
    }


def newey_west_lags(n: int) -> int:
    """Lags that the error of a mean of `n` values in order counts; see `coefficient_summary`."""
    return int(4.0 * (n / 100.0) ** (2.0 / 9.0))
