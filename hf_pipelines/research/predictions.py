"""Out-of-fold predictions: what is kept of each row, by path, and whether a row's model knew too much.

Lives here: the frames that cross-validation gives. Does not live here: making them (`cross_validation`), turning them into weights
(`signals`).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.splitters.intervals import (
    Intervals,
    as_times,
    label_intervals,
    overlaps,
)
from hf_pipelines.research.targets import HORIZON

# What tells predictions of one symbol and bar apart, where a splitter or a target gives several.
ROW_PARTS = (HORIZON, "path")


def latest_predictions(predictions: pl.DataFrame) -> pl.DataFrame:
    """One prediction per symbol and bar: where test blocks overlap, that of the model trained the latest.

    Only models that were trained on the past of a row are older or younger than each other: where folds are trained on later
    data, predictions of one row are told apart by their `path`.

    Parameters
    ----------
    predictions : DataFrame
        Out-of-fold predictions: `symbol`, `ts`, `fold`, `trained_until`, `path` and `horizon` where they have them, and
        anything else.

    Returns
    -------
    DataFrame
        The same columns, sorted by (ts, symbol), each (symbol, ts) once; once a path and horizon where there are any.

    Raises
    ------
    ValueError
        If a fold predicts the same (symbol, ts) twice, or of several predictions of one (symbol, ts) and path any was made
        by a fold that was trained on later data.
    """
    keys = ["symbol", "ts", *(name for name in ROW_PARTS if name in predictions.columns)]
    by_age = predictions.sort("ts", "symbol", *keys[2:], "trained_until", "fold")
    # In that order equal rows are neighbours. Mostly there are none, and to look for them among all takes three times as long as to sort.
    if not by_age.select(pl.all_horizontal(pl.col(keys).eq_missing(pl.col(keys).shift())).any()).item():
        return by_age
    repeated = predictions.filter(pl.struct(*keys, "fold").is_duplicated())
    if repeated.height:
        folds = repeated["fold"].unique().sort().to_list()
        raise ValueError(f"`predictions` must hold a symbol and ts once per fold, was repeated in folds {folds[:5]}.")
    is_later = pl.col("trained_until") >= pl.col("ts")
    ambiguous = predictions.filter(pl.struct(keys).is_duplicated() & is_later)
    if ambiguous.height:
        folds = ambiguous["fold"].unique().sort().to_list()
        raise ValueError(
            "`predictions` must hold a symbol and ts once a path where folds are trained on later data, was repeated in "
            f"folds {folds[:5]}; let the splitter say which path a test row belongs to."
        )
    return by_age.unique(keys, keep="last", maintain_order=True)


def decided_predictions(predictions: pl.DataFrame, *, horizon: int) -> pl.DataFrame:
    """One prediction per symbol, bar and path, as an issue has it: of several horizons `prediction` is that of one.

    Parameters
    ----------
    predictions : DataFrame
        From `latest_predictions`, of a target with several horizons.
    horizon : int
        The learner's first, which is the `prediction` of an issue.

    Returns
    -------
    DataFrame
        Without the column `horizon`, in order.
    """
    return predictions.filter(pl.col(HORIZON) == horizon).drop(HORIZON)


def split_by_path(predictions: pl.DataFrame) -> dict[int | None, pl.DataFrame]:
    """The predictions of each path, without the column; {None: all} where there are no paths."""
    if "path" not in predictions.columns:
        return {None: predictions}
    parts = predictions.partition_by("path", as_dict=True)
    return {path: parts[(path,)].drop("path") for path in sorted(each for (each,) in parts)}


def share_trained_on_later(predictions: pl.DataFrame) -> float:
    """Share of out-of-fold predictions whose model knew labels that end at or after the row: 0 for a walk-forward."""
    return float((predictions["trained_until"] >= predictions["ts"]).mean() or 0.0)  # type: ignore[arg-type]


def leaked_predictions(
    predictions: pl.DataFrame, *, matrix: pl.DataFrame, training_intervals: pl.DataFrame
) -> pl.DataFrame:
    """Predictions whose row shares an instant with a training row of its fold: from the bar to the label's end of both.

    Parameters
    ----------
    predictions : DataFrame
        Out-of-fold predictions.
    matrix : DataFrame
        The training matrix they were made from, which has the label intervals.
    training_intervals : DataFrame
        As in `CrossValidation`.

    Returns
    -------
    DataFrame
        The rows of `predictions` that leak, in order, with `label_end`. A row that the matrix lacks leaks, `label_end` null:
        what it shares is not known. So does one of a fold without training intervals.
    """
    keys = [*KEY_COLUMNS, *(name for name in (HORIZON,) if name in predictions.columns)]
    known = predictions.join(matrix.select(*keys, "label_end"), on=keys, how="left", maintain_order="left")
    fold, of_row = (
        known["fold"].to_numpy(),
        label_intervals(known.with_columns(pl.col("label_end").fill_null(pl.col("ts")))),
    )
    is_leak = known["label_end"].is_null().to_numpy().copy()
    learned = training_intervals["fold"].to_numpy()
    trained = Intervals(as_times(training_intervals["start"]), as_times(training_intervals["end"]))
    for number in np.unique(fold):
        rows, parts = np.flatnonzero(fold == number), np.flatnonzero(learned == number)
        is_leak[rows] |= overlaps(of_row[rows], trained[parts]) if len(parts) else True
    return known.filter(pl.Series(is_leak))
