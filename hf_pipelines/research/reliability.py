"""Reliability: whether a confidence of 0.8 is right four times in five.

Lives here: how often predicted classes occur by how sure the prediction was, how far both are apart, and what a calibration on folds
changed of it. Not here: bringing them together (`learners.calibration`, `fold_calibration`), the picture (`score_plots`).

References
----------
Guo et al. (2017), "On Calibration of Modern Neural Networks", ICML: the expected calibration error. Bröcker & Smith (2007), "Increasing
the Reliability of Reliability Diagrams", Weather and Forecasting 22(3): what a diagram shows by chance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hf_pipelines.research.blas import one_blas_thread
from hf_pipelines.research.fold_calibration import UNCALIBRATED
from hf_pipelines.research.metrics import brier_score, class_codes, log_loss
from hf_pipelines.research.metrics.bootstrap import interval
from hf_pipelines.research.predictions import latest_predictions
from hf_pipelines.research.score_rows import draw_for_labels
from hf_pipelines.research.targets import Target

Floats = NDArray[np.float64]

# Groups of as many rows each: of fewer the curve hides much, of more each point is chance.
GROUPS = 10

# Twice what chance makes: noise of calibrated probabilities is beyond it in less than a twentieth of the samples.
BEYOND_CHANCE = 2.0

SEED = 0

SCHEMA: dict[str, type[pl.DataType]] = {
    "group": pl.Int32,
    "confidence": pl.Float64,
    "share_right": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n_rows": pl.Int64,
}


@dataclass(frozen=True, eq=False)
class Reliability:
    """How confidence and hits of predicted classes compare.

    Attributes
    ----------
    groups : DataFrame
        Rows by their confidence, the probability of the predicted class, in groups of as many each: `confidence` (mean),
        `share_right`, `low` and `high` (interval of 95 % of `share_right` less `confidence`, drawn about it; null where there
        are too few sessions), `n_rows`.
    error : float
        Expected calibration error: the mean distance of both, weighed by rows.
    error_deviation : float
        Its standard deviation over sessions drawn in blocks; NaN of too few.
    by_chance : float
        What it would be on average of these rows if every confidence were right: never 0. NaN of too few sessions.
    over : float
        Mean confidence less share of hits: above 0 too sure.
    n_sessions : int
    """

    groups: pl.DataFrame
    error: float
    error_deviation: float
    by_chance: float
    over: float
    n_sessions: int


def measure_reliability(
    probability: Floats, y: Floats, session: NDArray[np.int64], *, label_sessions: int, is_drawn: bool = True
) -> Reliability:
    """Compare how sure predictions are with how often they are right.

    Parameters
    ----------
    probability : array of shape (n_rows, n_classes)
        Finite.
    y : array of shape (n_rows,)
        Class codes.
    session : int array of shape (n_rows,)
        Any number of each row's session, ascending in time: rows of a session are alike, and so are neighbours.
    label_sessions : int
        Sessions that a label spans.
    is_drawn : bool
        Whether sessions are drawn; else what comes of it is unknown, as of too few.

    Raises
    ------
    ValueError
        If there is no row.
    """
    if not len(y):
        raise ValueError("`probability` must have a row at least, was without.")
    days, place = np.unique(session, return_inverse=True)
    confidence = probability.max(axis=1).astype(np.float64)
    is_right = probability.argmax(axis=1) == class_codes(y)
    group, n_groups = _groups(confidence)
    sums = np.stack(
        [_by_session(place, group, weights, (len(days), n_groups)) for weights in (None, confidence, is_right)]
    )
    n, sure, right = sums.sum(axis=1)
    gap = (sure - right) / n.sum()
    low = high = np.full(n_groups, np.nan)
    deviation = by_chance = math.nan
    draws = draw_for_labels(len(days), label_sessions=label_sessions, seed=[SEED]) if is_drawn else None
    if draws is not None:
        with one_blas_thread():
            counts = draws.counts.astype(np.float64)
            drawn_n, drawn_sure, drawn_right = (counts @ each for each in sums)
        drawn_gap = (drawn_sure - drawn_right) / drawn_n.sum(axis=1, keepdims=True)
        deviation = float(np.abs(drawn_gap).sum(axis=1).std())
        by_chance = float(np.abs(drawn_gap - gap).sum(axis=1).mean())
        away = (drawn_right - drawn_sure) / np.where(drawn_n > 0.0, drawn_n, np.nan)
        bounds = np.array([interval(each, draws) for each in away.T])
        low, high = sure / n + bounds[:, 0], sure / n + bounds[:, 1]
    groups = pl.DataFrame(
        {
            "group": np.arange(n_groups),
            "confidence": sure / n,
            "share_right": right / n,
            "low": low,
            "high": high,
            "n_rows": n.astype(np.int64),
        },
        schema=SCHEMA,
    ).with_columns(pl.col(pl.Float64).fill_nan(None))
    return Reliability(
        groups, float(np.abs(gap).sum()), deviation, by_chance, float(confidence.mean() - is_right.mean()), len(days)
    )


def tabulate_reliability(predictions: pl.DataFrame, *, target: Target, label_sessions: int) -> Reliability:
    """Reliability of out-of-fold predictions of classes, all folds and paths together.

    Parameters
    ----------
    predictions : DataFrame
        As `CrossValidation.predictions`; a row without a prediction is left out.
    target : Target
    label_sessions : int
        Sessions that a label spans.

    Raises
    ------
    ValueError
        If no row is predicted.
    """
    known = latest_predictions(predictions).filter(pl.col("prediction").is_finite())
    return measure_reliability(
        known.select(f"probability_{name}" for name in target.classes).cast(pl.Float64).to_numpy(),
        known["y"].cast(pl.Float64).to_numpy(),
        known["session"].to_physical().cast(pl.Int64).to_numpy(),
        label_sessions=label_sessions,
    )


def calibrated_folds(fold_metrics: pl.DataFrame) -> list[int] | None:
    """Folds whose probabilities a calibration on folds changed; None without such a calibration."""
    if "n_calibration" not in fold_metrics.columns:
        return None
    return fold_metrics.filter(pl.col("n_calibration") > 0)["fold"].to_list()


def calibration_by_fold(
    predictions: pl.DataFrame, fold_metrics: pl.DataFrame, *, target: Target, label_sessions: int
) -> pl.DataFrame:
    """What a calibration on folds changed, on the test rows of each fold, which it was not fitted on.

    Parameters
    ----------
    predictions, fold_metrics : DataFrame
        Of a `CrossValidation`.
    target : Target
    label_sessions : int
        Sessions that a label spans.

    Returns
    -------
    DataFrame
        A row a fold: `fold`, `n_test` (rows with a prediction), `n_calibration` (rows that its calibration was fitted on, 0: left as
        it is), `brier`, `log_loss` and `calibration_error` before (`uncalibrated_...`) and after, `error_deviation` and `by_chance`
        (see `Reliability`) of the calibration error after. Null where undefined.
    """
    names = [f"probability_{each}" for each in target.classes]
    raw = [pl.coalesce(UNCALIBRATED + each, f"probability_{each}").alias(f"probability_{each}") for each in target.classes]  # fmt: skip
    rows = []
    for fold, n_calibration in fold_metrics.select("fold", "n_calibration").rows():
        known = predictions.filter(pl.col("fold") == fold, pl.col("prediction").is_finite())
        y, session = known["y"].to_numpy(), known["session"].to_physical().cast(pl.Int64).to_numpy()
        found: dict[str, object] = {"fold": fold, "n_test": known.height, "n_calibration": n_calibration}
        for prefix, columns in (("uncalibrated_", raw), ("", [pl.col(each) for each in names])):
            probability = known.select(columns).cast(pl.Float64).to_numpy()
            of_fold = measure_reliability(probability, y, session, label_sessions=label_sessions, is_drawn=not prefix)
            found |= {f"{prefix}brier": brier_score(y, probability), f"{prefix}log_loss": log_loss(y, probability)}
            found[f"{prefix}calibration_error"] = of_fold.error
            found |= {} if prefix else {"error_deviation": of_fold.error_deviation, "by_chance": of_fold.by_chance}
        rows.append(found)
    return pl.DataFrame(rows).with_columns(pl.col(pl.Float64).fill_nan(None))


def folds_in_words(fold_metrics: pl.DataFrame) -> str:
    """Which folds count where a calibration is fitted on folds, and why the others do not."""
    counted = calibrated_folds(fold_metrics) or []
    left = [fold for fold in fold_metrics["fold"].to_list() if fold not in counted]
    if not counted:
        return "No fold is calibrated: earlier folds hold too few rows; all count as they are."
    told = f"Folds {', '.join(map(str, counted))} count, calibrated by earlier ones"
    return f"{told}; not {', '.join(map(str, left))}, left as they are." if left else f"{told}."


def reliability_in_words(found: Reliability) -> str:
    """Whether confidence can be taken for what it says, in one sentence."""
    size = f"Confidence and hits are {found.error:.3f} apart on average"
    if math.isnan(found.by_chance):
        return f"{size}; {found.n_sessions} sessions are too few to say what of it is chance."
    size += (
        f" (standard deviation {found.error_deviation:.3f}); of right confidences chance makes {found.by_chance:.3f}"
    )
    if found.error <= BEYOND_CHANCE * found.by_chance:
        return f"{size}: no fault is seen."
    way = "too sure" if found.over > 0.0 else "not sure enough"
    return f"{size}: predictions are {way}, by {abs(found.over):.3f} on average; see `calibration` of the learner."


def _groups(confidence: Floats) -> tuple[NDArray[np.int64], int]:
    """The group of each row, equal confidences in one, and how many there are."""
    edges = np.unique(np.quantile(confidence, np.arange(1, GROUPS) / GROUPS))
    group = np.searchsorted(edges, confidence, side="right")
    used, numbers = np.unique(group, return_inverse=True)
    return numbers.astype(np.int64), len(used)


def _by_session(
    place: NDArray[np.int64], group: NDArray[np.int64], weights: NDArray[np.generic] | None, shape: tuple[int, int]
) -> Floats:
    cells = place * shape[1] + group
    summed = np.bincount(
        cells, weights=None if weights is None else weights.astype(np.float64), minlength=math.prod(shape)
    )
    return summed.astype(np.float64).reshape(shape)
