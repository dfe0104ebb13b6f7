"""Training matrix: feature groups joined with labels, everything known before a cutoff.

Lives here: the join, the cutoff, which rows a model may use, sample weights, and the checks that make a matrix fit to
train on. Not here:
how features and labels are computed (`features`, `targets`), how rows are split into folds (`splitters`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, reduce
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.targets import HORIZON, Target, build_labels
from hf_pipelines.research.weights import Weightings, sample_weights

MATRIX_COLUMNS = [*KEY_COLUMNS, "label_start", "label_end", "target", "y", "weight"]
# Of all matrices these, and of one with several labels a row which is which.
RESERVED_COLUMNS = (*MATRIX_COLUMNS, HORIZON)
MISSING = ("drop", "keep")

# Of each labelled row its place in the features.
_ROW = "row"


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Labelled rows of feature groups, whose features are not copied: of a large universe that is most of the memory.

    Attributes
    ----------
    labels : DataFrame
        Keys, `label_start`, `label_end`, `target`, `y`, and `horizon` where the target gives several labels a row; `row`: the
        place of the row in `features`.
    features : DataFrame
        One column per feature, as they were read; rows without a label too.
    """

    labels: pl.DataFrame
    features: pl.DataFrame

    @property
    def height(self) -> int:
        """Labelled rows."""
        return self.labels.height

    @property
    def names(self) -> list[str]:
        """Features, in their order."""
        return self.features.columns

    def filter(self, is_kept: pl.Expr) -> LabelledRows:
        """Keep the rows where an expression over `labels` is true."""
        return replace(self, labels=self.labels.filter(is_kept))

    def feature(self, name: str) -> pl.Series:
        """Values of a feature, one a labelled row: Float32, NaN where unknown."""
        return self.features.select(_known(name))[name].gather(self.labels[_ROW])

    def is_known(self, name: str) -> np.ndarray:
        """Whether a feature is known, one a row of `features`: read in their order, which is many times faster."""
        return self.features.select(_known(name).is_finite())[name].to_numpy()

    @cached_property
    def n_known(self) -> np.ndarray:
        """Known features of each row of `features`."""
        counts = np.zeros(self.features.height, dtype=np.uint32)
        for name in self.names:
            counts += self.is_known(name)
        return counts

    def n_labels(self) -> np.ndarray:
        """Labelled rows of each row of `features`."""
        return np.bincount(self.labels[_ROW].to_numpy(), minlength=self.features.height)


def build_matrix(
    features: pl.DataFrame | Sequence[pl.DataFrame],
    *,
    bars: pl.DataFrame,
    target: Target,
    cutoff: datetime | None,
    minimum_rows: int,
    weightings: Weightings = (),
    missing: str = "drop",
) -> pl.DataFrame:
    """Join feature groups with labels and keep the rows a model may be trained on.

    `label_features`, then `select_rows`: see there.

    Parameters
    ----------
    features : DataFrame or sequence of DataFrame
        Keys `symbol`, `session`, `ts` and one column a feature, NaN where unknown; several groups are joined.
    bars : DataFrame
        Bars of the labels, as `validate_bars` leaves them.
    target : Target
        From `build_target`.
    cutoff : datetime, optional
        Labels that end at this time or later are left out; None: none is.
    minimum_rows : int
        Rows below which the matrix is refused.
    weightings : tuple of ChosenWeighting
        From `choose_weightings`; () gives every row the weight 1.
    missing : {"drop", "keep"}
        Rows with an unknown feature, see `usable_rows`.

    Returns
    -------
    DataFrame of shape (n_rows, 8 + n_features)
        Keys, `label_start`, `label_end`, `target`, `y`, `weight` and the features, sorted by (ts, symbol).

    Raises
    ------
    ValueError
        If too few rows are left, or the frames are none of the above.
    """
    labelled = label_features(features, bars=bars, target=target, cutoff=cutoff)
    return select_rows(labelled, target=target, minimum_rows=minimum_rows, weightings=weightings, missing=missing)


def label_features(
    features: pl.DataFrame | Sequence[pl.DataFrame],
    *,
    bars: pl.DataFrame,
    target: Target,
    cutoff: datetime | None,
    sectors: Mapping[str, str] | None = None,
) -> LabelledRows:
    """Join feature groups with the labels that ended before a cutoff.

    Parameters
    ----------
    features : DataFrame or sequence of DataFrame
        Feature groups: `symbol`, `session`, `ts` and one column per feature. All groups hold the same rows.
    bars : DataFrame
        Bars of at least the rows of `features`, and of the `history_bars` before them that the target needs; those after a
        row give it its label.
    target : Target
        From `build_target`.
    cutoff : datetime or None
        Time-zone aware. Kept rows have `label_end < cutoff` strictly; None keeps every labelled row.
    sectors : mapping of symbol to sector, optional
        Where the target needs them.

    Returns
    -------
    LabelledRows
        Rows without a label before the cutoff and rows of reference symbols are left out.

    Raises
    ------
    ValueError
        As `join_features`; if the cutoff has no time zone, `bars` lack a column, repeat a key, or lack a row of
        `features`.
    """
    _check_cutoff(cutoff)
    joined = _side_by_side([features] if isinstance(features, pl.DataFrame) else features)
    labels = _member_labels(
        bars,
        joined=_clean(joined) if target.needs.features else joined.select(KEY_COLUMNS),
        target=target,
        sectors=sectors,
    )
    if cutoff is not None:
        labels = labels.filter(pl.col("label_end") < cutoff)
    placed = joined.select(KEY_COLUMNS).with_row_index(_ROW).join(labels, on=KEY_COLUMNS, how="inner")
    return LabelledRows(placed.select(pl.exclude(_ROW), _ROW), joined.drop(KEY_COLUMNS))


def select_rows(
    labelled: LabelledRows, *, target: Target, minimum_rows: int, weightings: Weightings = (), missing: str = "drop"
) -> pl.DataFrame:
    """Keep the labelled rows that a model may be trained on, and weigh them.

    Parameters
    ----------
    labelled : LabelledRows
        From `label_features`.
    target : Target
        What it was labelled with.
    minimum_rows : int
        Rows below which training is refused.
    weightings : tuple of ChosenWeighting
        See `sample_weights`.
    missing : {"drop", "keep"}
        What becomes of a row with an unknown feature: see `usable_rows`. `unknown_counts` tells which features
        are unknown how often.

    Returns
    -------
    DataFrame of shape (n_rows, 8 + n_features)
        Sorted by (ts, symbol): the columns of `MATRIX_COLUMNS`, `horizon` where there are several, then Float32 features in the order given.

    Raises
    ------
    ValueError
        If fewer than `minimum_rows` rows remain; the features that are unknown most often are named.
    """
    _check_missing(missing)
    is_usable = _is_usable(labelled.n_known, len(labelled.names), missing)[labelled.labels[_ROW].to_numpy()]
    n_usable = int(is_usable.sum())
    if n_usable < max(minimum_rows, 1):
        raise ValueError(
            f"`features` must give at least {max(minimum_rows, 1)} labelled rows before the cutoff with "
            f"{'every' if missing == 'drop' else 'a'} feature known, was {n_usable} of {labelled.height} labelled; "
            f"{_explain_unknown(labelled, missing=missing)}; or be content with fewer rows (`minimum_rows`)."
        )
    kept = labelled.filter(pl.lit(pl.Series(is_usable)))
    weight = pl.Series("weight", sample_weights(kept.labels, weightings=weightings, target=target))
    optional = [HORIZON] if HORIZON in kept.labels.columns else []
    kept = replace(kept, labels=kept.labels.with_columns(weight).sort("ts", "symbol", *optional))
    # One feature after the other: the matrix is the only copy of them.
    return pl.DataFrame([*kept.labels.select(*MATRIX_COLUMNS, *optional), *map(kept.feature, kept.names)])


def usable_rows(frame: pl.DataFrame, names: Sequence[str], *, missing: str) -> pl.DataFrame:
    """Rows that a model may be fitted on, or asked about.

    Parameters
    ----------
    frame : DataFrame
        Holds the features `names`, NaN where unknown.
    names : sequence of str
        Features of the model.
    missing : {"drop", "keep"}
        "drop": rows with every feature known. "keep": rows with any feature known, for learners that take NaN.

    Returns
    -------
    DataFrame
        Those rows of `frame`, with all its columns.

    Raises
    ------
    ValueError
        If `missing` is neither.
    """
    _check_missing(missing)
    return frame.filter(_is_usable(pl.sum_horizontal(pl.col(list(names)).is_finite()), len(names), missing))


def unknown_counts(labelled: LabelledRows) -> pl.DataFrame:
    """How often each feature is unknown.

    Parameters
    ----------
    labelled : LabelledRows
        From `label_features`.

    Returns
    -------
    DataFrame
        `feature`, `unknown` (rows where it is NaN), `alone` (rows where nothing else is: they would be complete
        without the feature); features that are always known are left out, most unknown first, then by name.
    """
    n_labels = labelled.n_labels()
    n_alone = np.where(labelled.n_known == len(labelled.names) - 1, n_labels, 0)
    is_complete = bool((labelled.n_known == len(labelled.names)).all())
    unknown = ((name, ~labelled.is_known(name)) for name in ([] if is_complete else labelled.names))
    counts = pl.DataFrame(
        [(name, int(n_labels[each].sum()), int(n_alone[each].sum())) for name, each in unknown],
        schema={"feature": pl.String, "unknown": pl.Int64, "alone": pl.Int64},
        orient="row",
    )
    return counts.filter(pl.col("unknown") > 0).sort("unknown", "feature", descending=[True, False])


def constant_features(matrix: pl.DataFrame) -> list[str]:
    """Features that take one value, or none, over the rows: nothing can be learned from them."""
    names = feature_names(matrix)
    known = pl.col(names).fill_nan(None)
    spread = matrix.select(known.min() == known.max()).row(0)
    return [name for name, is_one in zip(names, spread, strict=True) if is_one is None or is_one]


def rows_without_label(
    features: pl.DataFrame,
    *,
    bars: pl.DataFrame,
    target: Target,
    cutoff: datetime | None,
    sectors: Mapping[str, str] | None = None,
) -> pl.DataFrame:
    """Keys of rows that a matrix rightly lacks: their label is not known before the cutoff, or never.

    A halt, a delisting, a refused bar or a late vendor leaves a symbol without the bars that would end its labels.

    Parameters
    ----------
    features, bars, target, cutoff, sectors
        As in `label_features`; with the features that the target needs.

    Returns
    -------
    DataFrame
        Keys, in the order of `features`.
    """
    labels = _member_labels(bars, joined=features, target=target, sectors=sectors)
    known = labels if cutoff is None else labels.filter(pl.col("label_end") < cutoff)
    return features.select(KEY_COLUMNS).join(known, on=KEY_COLUMNS, how="anti", maintain_order="left")


def join_features(groups: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Join feature groups side by side on symbol, session and ts; values Float32.

    Nulls and infinite values become NaN: unknown. No model can be fitted on infinity, and a price that made it is wrong.

    Raises
    ------
    ValueError
        If there is no group or no feature, a key column is missing, a feature occurs twice, a key is
        duplicated, or the groups do not hold the same rows (one of them is half loaded).
    """
    return _clean(_side_by_side(groups))


def _side_by_side(groups: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Feature groups joined on their keys, values as they are; without a copy where all have the same rows in the same order."""
    names = [name for group in groups for name in group.columns if name not in KEY_COLUMNS]
    if not names:
        raise ValueError("`features` must hold at least one feature column, was empty.")
    repeated = sorted({name for name in names if names.count(name) > 1 or name in RESERVED_COLUMNS})
    if repeated:
        raise ValueError(f"`features` must name each feature once and none like a matrix column, was {repeated[:5]}.")
    first, *others = groups
    _check_keys(first, "features")
    for other in others:
        _require_columns(other, KEY_COLUMNS, "features")
    others_in_order = [other.select(KEY_COLUMNS).equals(first.select(KEY_COLUMNS)) for other in others]
    if all(others_in_order):
        return first.hstack([column for other in others for column in other.drop(KEY_COLUMNS)])
    for other, is_in_order in zip(others, others_in_order, strict=True):
        if not is_in_order:
            _check_keys(other, "features")
    joined = reduce(lambda left, right: left.join(right, on=KEY_COLUMNS, how="inner"), groups)
    heights = [group.height for group in groups]
    if any(height != joined.height for height in heights):
        raise ValueError(
            f"`features` must hold the same rows in every group, was {heights} rows with {joined.height} in "
            "common; recompute the group that is short."
        )
    return joined


def _clean(joined: pl.DataFrame) -> pl.DataFrame:
    return joined.with_columns(_known(*(name for name in joined.columns if name not in KEY_COLUMNS)))


def _known(*names: str) -> pl.Expr:
    """Features as Float32, NaN for all that is no number."""
    # Cast first: 1e39 is infinite as a Float32.
    value = pl.col(names).cast(pl.Float32)
    return pl.when(value.is_finite()).then(value).otherwise(float("nan")).cast(pl.Float32)


def feature_names(matrix: pl.DataFrame) -> list[str]:
    """Feature columns of a training matrix, in their order.

    Parameters
    ----------
    matrix : DataFrame of shape (n_rows, n_columns)
        From `build_matrix`.

    Returns
    -------
    list of str
        Of length n_features.
    """
    return [name for name in matrix.columns if name not in RESERVED_COLUMNS]


def _member_labels(
    bars: pl.DataFrame, *, joined: pl.DataFrame, target: Target, sectors: Mapping[str, str] | None
) -> pl.DataFrame:
    _require_columns(bars, [*KEY_COLUMNS, *target.needs.columns, "role"], "bars")
    _check_keys(bars, "bars")
    n_barless = joined.join(bars, on=KEY_COLUMNS, how="anti").height
    if n_barless:
        raise ValueError(f"`bars` must cover every row of `features`, was short of {n_barless}; read the same weeks.")
    given = bars if target.needs.references else bars.filter(pl.col("role") == "member")
    return build_labels(given, target, sectors=sectors, features=joined)


def _check_keys(frame: pl.DataFrame, label: str) -> None:
    _require_columns(frame, KEY_COLUMNS, label)
    repeated = frame.filter(pl.struct("symbol", "ts").is_duplicated())["symbol"].unique().sort().to_list()
    if repeated:
        raise ValueError(f"`{label}` must hold one row per symbol and ts, was duplicated for {repeated[:5]}.")


def _require_columns(frame: pl.DataFrame, needed: Sequence[str], label: str) -> None:
    missing = sorted(set(needed) - set(frame.columns))
    if missing:
        raise ValueError(f"`{label}` must have the columns {list(needed)}, was without {missing}.")


def _is_usable(n_known: Any, n_features: int, missing: str) -> Any:
    """Whether a row with so many known features may be used; of an array or of an expression."""
    return n_known == n_features if missing == "drop" else n_known > 0


def _check_missing(missing: str) -> None:
    if missing not in MISSING:
        raise ValueError(f"`missing` must be one of {list(MISSING)}, was {missing!r}.")


def _check_cutoff(cutoff: datetime | None) -> None:
    if cutoff is not None and cutoff.tzinfo is None:
        raise ValueError(f"`cutoff` must carry a time zone, was {cutoff}; use UTC.")


def _explain_unknown(labelled: LabelledRows, *, missing: str) -> str:
    """Which features cost the rows, and what can be done."""
    counts = unknown_counts(labelled)
    if not labelled.height or counts.is_empty():
        return "widen the window of weeks"
    shown = ", ".join(f"{name} ({n} of {labelled.height})" for name, n, _ in counts.head(5).rows())
    more = f" and {counts.height - 5} more" if counts.height > 5 else ""
    keep = ", or keep such rows (`missing: keep`) with a learner that takes NaN" if missing == "drop" else ""
    return f"unknown are {shown}{more}; widen the window of weeks, leave out what is never known{keep}"
