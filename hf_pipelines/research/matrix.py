"""Training matrix: feature groups joined with labels, complete rows only, everything known before a cutoff.

Lives here: the join, the cutoff, sample weights, and the checks that make a matrix fit to train on. Not here:
how features and labels are computed (`features`, `targets`), how rows are split into folds (`splitters`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import reduce

import numpy as np
import polars as pl

from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.targets import Target, build_labels

MATRIX_COLUMNS = [*KEY_COLUMNS, "label_start", "label_end", "target", "y", "weight"]
WEIGHTINGS = ("none", "class_balance")


def build_matrix(
    features: pl.DataFrame | Sequence[pl.DataFrame],
    *,
    bars: pl.DataFrame,
    target: Target,
    cutoff: datetime | None,
    minimum_rows: int,
    weighting: str = "none",
) -> pl.DataFrame:
    """Join feature groups with labels and keep the rows a model may be trained on.

    Dropped without complaint: rows without a label yet, rows whose label ends at or after `cutoff`, rows with
    any feature unknown (NaN or null: the symbol's history is still shorter than a lookback), reference
    symbols. Everything else that does not fit together raises.

    Parameters
    ----------
    features : DataFrame or sequence of DataFrame
        Feature groups: `symbol`, `session`, `ts` and one column per feature. All groups hold the same rows.
    bars : DataFrame
        Bars of at least the rows of `features`; those after a row give it its label.
    target : Target
        From `build_target`.
    cutoff : datetime or None
        Time-zone aware. Kept rows have `label_end < cutoff` strictly; None keeps every labelled row.
    minimum_rows : int
        Rows below which training is refused.
    weighting : {"none", "class_balance"}
        See `sample_weights`.

    Returns
    -------
    DataFrame
        Sorted by (ts, symbol): the columns of `MATRIX_COLUMNS`, then Float32 features in the order given.

    Raises
    ------
    ValueError
        If columns are missing or occur twice, keys are duplicated, groups hold different rows or rows without
        a bar, fewer than `minimum_rows` rows remain, or a feature is all NaN, infinite or constant over the
        rows.
    """
    _check_cutoff(cutoff)
    joined = join_features([features] if isinstance(features, pl.DataFrame) else features)
    names = [name for name in joined.columns if name not in KEY_COLUMNS]
    labelled = joined.join(_member_labels(bars, joined=joined, target=target), on=KEY_COLUMNS, how="inner")
    if cutoff is not None:
        labelled = labelled.filter(pl.col("label_end") < cutoff)
    _refuse(labelled, names, pl.all().is_nan().all(), "have a value in some row", "compute it on longer bars")
    complete = labelled.filter(~pl.any_horizontal(pl.col(names).is_nan()))
    if complete.height < max(minimum_rows, 1):
        raise ValueError(
            f"`features` must give at least {max(minimum_rows, 1)} labelled rows before {cutoff} with every "
            f"feature known, was {complete.height} (of {joined.height} rows, {labelled.height} labelled); "
            "widen the window of weeks."
        )
    _refuse(complete, names, pl.all().is_infinite().any(), "be finite", "repair its formula")
    _refuse(complete, names, pl.all().min() == pl.all().max(), "vary over the rows", "leave it out")
    weight = sample_weights(complete["y"].to_numpy(), weighting=weighting, target=target)
    return complete.with_columns(weight=pl.Series(weight)).select(*MATRIX_COLUMNS, *names).sort("ts", "symbol")


def join_features(groups: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Join feature groups side by side on symbol, session and ts; nulls become NaN, values Float32.

    Raises
    ------
    ValueError
        If there is no group or no feature, a key column is missing, a feature occurs twice, a key is
        duplicated, or the groups do not hold the same rows (one of them is half loaded).
    """
    names = [name for group in groups for name in group.columns if name not in KEY_COLUMNS]
    if not names:
        raise ValueError("`features` must hold at least one feature column, was empty.")
    repeated = sorted({name for name in names if names.count(name) > 1 or name in MATRIX_COLUMNS})
    if repeated:
        raise ValueError(f"`features` must name each feature once and none like a matrix column, was {repeated[:5]}.")
    for group in groups:
        _check_keys(group, "features")
    joined = reduce(lambda left, right: left.join(right, on=KEY_COLUMNS, how="inner"), groups)
    heights = [group.height for group in groups]
    if any(height != joined.height for height in heights):
        raise ValueError(
            f"`features` must hold the same rows in every group, was {heights} rows with {joined.height} in "
            "common; recompute the group that is short."
        )
    return joined.with_columns(pl.col(names).cast(pl.Float32).fill_null(float("nan")))


def sample_weights(y: np.ndarray, *, weighting: str, target: Target) -> np.ndarray:
    """Weight of each training row, of mean 1.

    Class weights are estimated from the rows given: a fold passes only its training rows.

    Parameters
    ----------
    y : ndarray of shape (n_rows,)
        Class codes or returns.
    weighting : {"none", "class_balance"}
        "none": 1 for all. "class_balance": n_rows / (number of classes present * rows of the row's class).
    target : Target
        What `y` encodes.

    Raises
    ------
    ValueError
        If the weighting is unknown, or asks for classes of a regression target.
    """
    if weighting not in WEIGHTINGS:
        raise ValueError(f"`weighting` must be one of {list(WEIGHTINGS)}, was {weighting!r}.")
    if weighting == "none":
        return np.ones(len(y))
    if not target.is_classification:
        raise ValueError(
            f"`weighting` must be 'none' for target {target.name!r}, was {weighting!r}; it has no classes."
        )
    _, code, n_of_class = np.unique(y, return_inverse=True, return_counts=True)
    return np.asarray(len(y) / (len(n_of_class) * n_of_class[code]), dtype=np.float64)


def feature_names(matrix: pl.DataFrame) -> list[str]:
    """Feature columns of a training matrix, in their order."""
    return [name for name in matrix.columns if name not in MATRIX_COLUMNS]


def _member_labels(bars: pl.DataFrame, *, joined: pl.DataFrame, target: Target) -> pl.DataFrame:
    needed = [*KEY_COLUMNS, "close", "split_ratio", "dividend", "role"]
    _require_columns(bars, needed, "bars")
    _check_keys(bars, "bars")
    n_barless = joined.join(bars, on=KEY_COLUMNS, how="anti").height
    if n_barless:
        raise ValueError(f"`bars` must cover every row of `features`, was short of {n_barless}; read the same weeks.")
    return build_labels(bars.filter(pl.col("role") == "member"), target)


def _check_keys(frame: pl.DataFrame, label: str) -> None:
    _require_columns(frame, KEY_COLUMNS, label)
    repeated = frame.filter(pl.struct("symbol", "ts").is_duplicated())["symbol"].unique().sort().to_list()
    if repeated:
        raise ValueError(f"`{label}` must hold one row per symbol and ts, was duplicated for {repeated[:5]}.")


def _require_columns(frame: pl.DataFrame, needed: Sequence[str], label: str) -> None:
    missing = sorted(set(needed) - set(frame.columns))
    if missing:
        raise ValueError(f"`{label}` must have the columns {list(needed)}, was without {missing}.")


def _check_cutoff(cutoff: datetime | None) -> None:
    if cutoff is not None and cutoff.tzinfo is None:
        raise ValueError(f"`cutoff` must carry a time zone, was {cutoff}; use UTC.")


def _refuse(frame: pl.DataFrame, names: list[str], is_bad: pl.Expr, rule: str, remedy: str) -> None:
    if frame.is_empty():
        return
    verdict = frame.select(names).select(is_bad).row(0, named=True)
    offenders = sorted(name for name, bad in verdict.items() if bad)
    if offenders:
        raise ValueError(f"each feature must {rule}, was not so for {len(offenders)}: {offenders[:5]}; {remedy}.")
