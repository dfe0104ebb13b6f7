"""Predictions of a fitted pipeline as a frame, the same way out of fold and live.

Lives here: the rows of a frame as a pipeline takes them, class probabilities to one number with a sign, and a confidence.
Not here: fitting (`cross_validation`), turning predictions into positions (`signals`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.learners.learner import Rows, bars_up_to
from hf_pipelines.research.learners.pipeline import Pipeline
from hf_pipelines.research.targets import HORIZON


def predict_frame(
    pipeline: Pipeline,
    frame: pl.DataFrame,
    *,
    features: Sequence[str],
    classes: Sequence[str],
    missing: str = "drop",
    wanted: np.ndarray | None = None,
    times: pl.Series | None = None,
) -> pl.DataFrame:
    """Predict rows of a frame.

    Classification: `prediction` is the expected direction, the mean of the classes' places on [-1, 1] (for
    down, flat and up: P(up) - P(down)); `confidence` is the largest class probability. Regression:
    `prediction` is the predicted return; `confidence` is the percentile, in (0, 1], of its size among the
    rows of the same `ts` (and `horizon`): a ridge gives no probability, so it says only which of today's predictions are the
    larger ones.

    Parameters
    ----------
    pipeline : fitted Pipeline
        Fitted on the columns `features` in this order, classes coded 0 .. n_classes - 1.
    frame : DataFrame
        `symbol`, `session`, `ts` and the features; may hold other columns.
    features : sequence of str
        Names the pipeline was fitted on, in order.
    classes : sequence of str
        Names of the classes in order of code; empty for regression.
    missing : {"drop", "keep"}
        As the pipeline's training rows were selected.
    wanted : ndarray of bool of shape (n_rows,), optional
        Rows to predict; the others are the history of a learner of sequences. Default: all.
    times : Series of datetime, optional
        When bars should have ended, see `keyed`.

    Returns
    -------
    DataFrame
        One row per row that is wanted, in their order: `symbol`, `session`, `ts` and the columns of
        `LearnerChoice.prediction_columns` (Float64; probabilities add up to 1). All NaN on a row that would not have
        been trained on: any feature unknown, or all of them with `missing` "keep"; and where the learner gives none.

    Raises
    ------
    ValueError
        If a feature is missing, or the learner's classes are not those named.
    """
    lacking = sorted({*KEY_COLUMNS, *features} - set(frame.columns))
    if lacking:
        raise ValueError(f"`frame` must have every feature the estimator was fitted on, was without {lacking[:5]}.")
    X = feature_array(frame, features)
    wanted = np.ones(len(X), dtype=bool) if wanted is None else wanted
    is_known = ~(np.isnan(X).all(axis=1) if missing == "keep" else np.isnan(X).any(axis=1))
    rows = Rows(keyed(frame, times=times), X, tuple(features))
    rows = rows if is_known.all() else rows.take(is_known)
    found = _columns(pipeline, rows, wanted[is_known], classes=classes)
    optional = [HORIZON] if HORIZON in frame.columns else []
    keys = frame.select(*KEY_COLUMNS, *optional).filter(pl.Series(wanted))
    spread = {}
    for name, values in found.items():
        column = np.full(keys.height, np.nan)
        column[is_known[wanted]] = values
        spread[name] = pl.Series(column)
    predicted = keys.with_columns(**spread)
    if not classes:
        size = pl.col("prediction").fill_nan(None).abs()
        # Beside those of its own horizon alone, as in an issue.
        among = ["ts", *optional]
        percentile = (size.rank("average") / size.count()).over(among).fill_null(float("nan"))
        predicted = predicted.with_columns(confidence=percentile)
    return predicted.select(*KEY_COLUMNS, *pipeline.choice.prediction_columns(classes))


def keyed(frame: pl.DataFrame, *others: str, times: pl.Series | None = None) -> pl.DataFrame:
    """Keys of rows, with the number of their `ts`, `horizon` where there is one, and others.

    Parameters
    ----------
    frame : DataFrame
    *others : str
        More columns of it that are kept.
    times : Series of datetime, optional
        When bars of the market should have ended, at least between the first and the last row: a time at which no symbol has a row
        is a gap then. Without them the times of the frame are numbered.
    """
    optional = [HORIZON] if HORIZON in frame.columns else []
    bar = (pl.col("ts").rank("dense").cast(pl.Int32) - 1).alias("bar")
    if times is not None:
        known = pl.concat([times.cast(frame.schema["ts"]), frame["ts"]]).unique().sort()
        bar = pl.Series("bar", known.search_sorted(frame["ts"]).cast(pl.Int32))  # type: ignore[assignment]
    return frame.select(*KEY_COLUMNS, bar, *optional, *others)


def with_history(
    matrix: pl.DataFrame, test: np.ndarray, *, bars: int, times: pl.Series | None
) -> tuple[pl.DataFrame, np.ndarray]:
    """Rows of a test block and of the bars before each of them that a prediction reads, and which are of the block.

    Features of rows before a test row were known by then, whether a fold trains on them or not.
    """
    if not bars:
        return matrix[test], np.ones(len(test), dtype=bool)
    is_shown = bars_up_to(keyed(matrix, times=times)["bar"].to_numpy(), test, bars=bars)
    is_test = np.zeros(matrix.height, dtype=bool)
    is_test[test] = True
    return matrix.filter(pl.Series(is_shown)), is_test[is_shown]


def feature_array(frame: pl.DataFrame, features: Sequence[str]) -> np.ndarray:
    """Return the feature columns as a C-ordered float32 array of shape (n_rows, n_features), NaN where unknown.

    Nulls and infinite values are unknown.

    Parameters
    ----------
    frame : DataFrame
        Holds the features as numbers.
    features : sequence of str
        Columns of the result, in this order.

    Returns
    -------
    ndarray of shape (n_rows, n_features), float32
        C-ordered.
    """
    value = pl.col(list(features)).cast(pl.Float32)
    columns = frame.select(pl.when(value.is_finite()).then(value).otherwise(float("nan")).cast(pl.Float32))
    return np.ascontiguousarray(columns.to_numpy())


def probability_columns(probability: np.ndarray, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns that follow from probabilities of shape (n_rows, n_classes): direction, confidence, and one for each class."""
    # float32 probabilities add up to 1 only to about 1e-7.
    whole = np.asarray(probability, dtype=np.float64)
    whole = whole / whole.sum(axis=1, keepdims=True)
    return {
        "prediction": whole @ np.linspace(-1.0, 1.0, len(classes)),
        "confidence": whole.max(axis=1),
        **{f"probability_{name}": whole[:, code] for code, name in enumerate(classes)},
    }


def _columns(pipeline: Pipeline, rows: Rows, wanted: np.ndarray, *, classes: Sequence[str]) -> Mapping[str, np.ndarray]:
    """Columns of the predictions of the rows `wanted`; of a regression without the confidence."""
    if classes and (codes := pipeline.classes_.tolist()) != list(range(len(classes))):
        raise ValueError(f"`classes` must name the codes {codes} of the estimator, was {list(classes)}.")
    names = [each for each in pipeline.choice.prediction_columns(classes) if classes or each != "confidence"]
    if not wanted.any():
        # Nothing is known of any row.
        return {name: np.empty(0) for name in names}
    predicted = pipeline.predict(rows, wanted)
    found: dict[str, np.ndarray] = {}
    if predicted.probability is not None:
        found |= probability_columns(predicted.probability, classes)
    else:
        assert predicted.point is not None
        found["prediction"] = np.asarray(predicted.point, dtype=np.float64)
    params = pipeline.choice.params
    for values, levels, prefix in (
        (predicted.quantiles, params.get("quantiles", ()), "quantile"),
        (predicted.horizons, params.get("horizons", ()), "prediction"),
    ):
        if values is not None:
            found |= {f"{prefix}_{level:g}": values[:, at] for at, level in enumerate(levels)}
    if predicted.horizons is not None and HORIZON in rows.keys.columns:
        # Of a row with a label of its own horizon, that one is its prediction.
        asked = rows.keys[HORIZON].to_numpy()[wanted]
        at = [list(params["horizons"]).index(each) for each in asked]
        found["prediction"] = np.asarray(predicted.horizons, dtype=np.float64)[np.arange(len(at)), at]
    return found
