"""Matured predictions: how often the last ones were right whose labels have ended, beside how often they were expected to be.

Lives here: the count. Not here: labels (`targets`), how sure a prediction is (`reliability`), a score by session (`session_values`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hf_pipelines.research.metrics.bootstrap import interval
from hf_pipelines.research.metrics.predictions import is_off
from hf_pipelines.research.score_rows import draw_for_labels

# Predictions that a rolling accuracy is of.
LAST = 100

SEED = 0


@dataclass(frozen=True)
class Matured:
    """The last predictions that have matured; what is undefined is NaN.

    Attributes
    ----------
    n, n_sessions : int
        Predictions that can be right or wrong, and sessions that they are of.
    accuracy : float
        Share of them that were right, a fraction.
    low, high : float
        Its 95 % interval, sessions drawn in blocks; NaN of too few.
    expected : float
        Mean of their confidence; NaN if one has none.
    brier : float
        Mean of (probability of having been right - whether it was)^2; NaN if one has no confidence.
    ended : datetime or None
        When the last label ended.
    """

    n: int
    n_sessions: int
    accuracy: float
    low: float
    high: float
    expected: float
    brier: float
    ended: datetime | None


def right_or_wrong(rows: pl.DataFrame, *, neutral: float | None = 0.0) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """Rows that can be right or wrong, and whether each was right.

    Parameters
    ----------
    rows : DataFrame
        `prediction` and `realised`, both finite, beside anything else.
    neutral : float or None
        As of `matured_accuracy`.
    """
    said, came = (rows[name].cast(pl.Float64).to_numpy() for name in ("prediction", "realised"))
    if neutral is None:
        return rows, said == came
    moved = is_off(came, neutral)
    return rows.filter(moved), np.sign(said[moved] - neutral) == np.sign(came[moved] - neutral)


def matured_accuracy(
    rows: pl.DataFrame, *, as_of: datetime, label_sessions: int, neutral: float | None = 0.0, last: int = LAST
) -> Matured:
    """Accuracy of the last predictions whose labels had ended.

    Parameters
    ----------
    rows : DataFrame
        `symbol`, `session`, `ts`, `label_end`, `prediction`, `realised`, and `confidence`, the calibrated probability that a prediction
        is right, null or NaN of one that has none. Where `neutral` is None, `prediction` and `realised` are class codes.
    as_of : datetime
        A label that ends later is not known yet.
    label_sessions : int
        Sessions that a label spans.
    neutral : float or None
        What is neither up nor down: a realised value there is left out, of others the side counts, as in the directional accuracy of
        `regression_metrics`.
    last : int
        Predictions that are counted at most: those whose labels ended last, of these those that were made last.

    Returns
    -------
    Matured
        Of 0 predictions where none has matured.

    Raises
    ------
    ValueError
        If `last` or `label_sessions` is below 1.
    """
    for name, value in (("last", last), ("label_sessions", label_sessions)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, was {value}.")
    known = rows.filter(
        pl.col("label_end") <= as_of, pl.col("prediction").is_finite(), pl.col("realised").is_finite()
    ).sort("label_end", "ts", "symbol")
    known, is_right = right_or_wrong(known, neutral=neutral)
    counted, right = known.tail(last), is_right[-last:].astype(np.float64)
    if counted.is_empty():
        return Matured(0, 0, math.nan, math.nan, math.nan, math.nan, math.nan, None)
    sure = counted["confidence"].cast(pl.Float64).fill_null(math.nan).to_numpy()
    sessions, place = np.unique(counted["session"].to_physical().to_numpy(), return_inverse=True)
    low = high = math.nan
    draws = draw_for_labels(len(sessions), label_sessions=label_sessions, seed=[SEED])
    if draws is not None:
        hits, n = (np.bincount(place, weights=each, minlength=len(sessions)) for each in (right, np.ones(len(right))))
        low, high = interval((draws.counts @ hits) / (draws.counts @ n), draws)
    return Matured(
        n=counted.height,
        n_sessions=len(sessions),
        accuracy=float(right.mean()),
        low=low,
        high=high,
        expected=float(sure.mean()),
        brier=float(((sure - right) ** 2).mean()),
        ended=counted["label_end"][-1],
    )
