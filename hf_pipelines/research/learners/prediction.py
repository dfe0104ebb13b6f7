"""Predictions of a fitted estimator as a frame, the same way out of fold and live.

Lives here: class probabilities to one number with a sign, and a confidence. Not here: fitting
(`cross_validation`), turning predictions into positions (`signals`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.learners.learner import Estimator


def predict_frame(
    estimator: Estimator, frame: pl.DataFrame, *, features: Sequence[str], classes: Sequence[str], missing: str = "drop"
) -> pl.DataFrame:
    """Predict each row of a frame.

    Classification: `prediction` is the expected direction, the mean of the classes' places on [-1, 1] (for
    down, flat and up: P(up) - P(down)); `confidence` is the largest class probability. Regression:
    `prediction` is the predicted return; `confidence` is the percentile, in (0, 1], of its size among the
    rows of the same `ts`: a ridge gives no probability, so it says only which of today's predictions are the
    larger ones.

    Parameters
    ----------
    estimator : fitted scikit-learn estimator
        Fitted on the columns `features` in this order, classes coded 0 .. n_classes - 1.
    frame : DataFrame
        `symbol`, `session`, `ts` and the features; may hold other columns.
    features : sequence of str
        Names the estimator was fitted on, in order.
    classes : sequence of str
        Names of the classes in order of code; empty for regression.
    missing : {"drop", "keep"}
        As the estimator's training rows were selected.

    Returns
    -------
    DataFrame
        One row per row of `frame`, in its order: `symbol`, `session`, `ts`, `prediction`, `confidence` and,
        for classification, `probability_<class>` (Float64, adding up to 1). All NaN on a row that would not have
        been trained on: any feature unknown, or all of them with `missing` "keep".

    Raises
    ------
    ValueError
        If a feature is missing, or the estimator's classes are not those named.
    """
    lacking = sorted({*KEY_COLUMNS, *features} - set(frame.columns))
    if lacking:
        raise ValueError(f"`frame` must have every feature the estimator was fitted on, was without {lacking[:5]}.")
    X = feature_array(frame, features)
    is_known = ~(np.isnan(X).all(axis=1) if missing == "keep" else np.isnan(X).any(axis=1))
    keys = frame.select(KEY_COLUMNS)
    if classes:
        return keys.with_columns(**_class_columns(estimator, X, is_known=is_known, classes=classes))
    return _with_regression_columns(keys, estimator, X, is_known=is_known)


def feature_array(frame: pl.DataFrame, features: Sequence[str]) -> np.ndarray:
    """Return the feature columns as a C-ordered float32 array of shape (n_rows, n_features), NaN where unknown.

    Nulls and infinite values are unknown.
    """
    value = pl.col(list(features)).cast(pl.Float32)
    columns = frame.select(pl.when(value.is_finite()).then(value).otherwise(float("nan")).cast(pl.Float32))
    return np.ascontiguousarray(columns.to_numpy())


def _class_columns(
    estimator: Estimator, X: np.ndarray, *, is_known: np.ndarray, classes: Sequence[str]
) -> dict[str, pl.Series]:
    codes = np.asarray(estimator.classes_).tolist()
    if codes != list(range(len(classes))):
        raise ValueError(f"`classes` must name the codes {codes} of the estimator, was {list(classes)}.")
    probability = np.full((len(X), len(classes)), np.nan)
    if is_known.any():
        known = np.asarray(estimator.predict_proba(X[is_known]), dtype=np.float64)
        # float32 probabilities add up to 1 only to about 1e-7.
        probability[is_known] = known / known.sum(axis=1, keepdims=True)
    columns = {
        "prediction": probability @ np.linspace(-1.0, 1.0, len(classes)),
        "confidence": probability.max(axis=1),
        **{f"probability_{name}": probability[:, code] for code, name in enumerate(classes)},
    }
    return {name: pl.Series(values) for name, values in columns.items()}


def _with_regression_columns(
    keys: pl.DataFrame, estimator: Estimator, X: np.ndarray, *, is_known: np.ndarray
) -> pl.DataFrame:
    prediction = np.full(len(X), np.nan)
    if is_known.any():
        prediction[is_known] = estimator.predict(X[is_known])
    size = pl.col("prediction").fill_nan(None).abs()
    percentile = (size.rank("average") / size.count()).over("ts").fill_null(float("nan"))
    return keys.with_columns(prediction=pl.Series(prediction)).with_columns(confidence=percentile)
