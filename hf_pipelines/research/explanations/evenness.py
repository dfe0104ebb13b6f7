"""Evenness of importances: whether folds, or weeks, agree on what counts and on its direction.

Lives here: rank correlations and signs that change, in numbers and words. Not here: the importances (`importance`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

# Below this size a direction is none.
LEAST_DIRECTION = 0.1

# What a direction means: of a contribution, and of a permutation.
UP_DOWN = ("up", "down")
HELP_HARM = ("of use", "harmful")


@dataclass(frozen=True)
class Evenness:
    """How alike importances of folds or weeks are.

    Attributes
    ----------
    table : DataFrame
        `name`, `mean`, `lowest`, `highest`, `n_up`, `n_down` (in how many the direction is above or below 0) and `changes_sign`; the
        largest mean first.
    rank_correlation : float
        Mean of Spearman's correlation of each two; NaN of fewer than two, or of one feature.
    n_changed : int
        Features whose direction has both signs.
    n_compared : int
        Folds or weeks.
    """

    table: pl.DataFrame
    rank_correlation: float
    n_changed: int
    n_compared: int


def evenness(rows: pl.DataFrame, *, by: str = "fold") -> Evenness:
    """Compare importances of one kind.

    Parameters
    ----------
    rows : DataFrame
        `by`, `name`, `value` and `direction`; where there is none, the sign of the value is the direction. A feature that one lacks
        is 0 there.
    by : str
        What is compared.
    """
    groups = rows[by].unique(maintain_order=True).to_list()
    way = pl.coalesce("direction", pl.col("value").sign())
    table = (
        rows.with_columns(way=way)
        .group_by("name")
        .agg(
            mean=pl.col("value").sum() / len(groups),
            lowest=pl.col("value").min(),
            highest=pl.col("value").max(),
            n_up=(pl.col("way") >= LEAST_DIRECTION).sum(),
            n_down=(pl.col("way") <= -LEAST_DIRECTION).sum(),
        )
        .with_columns(changes_sign=(pl.col("n_up") > 0) & (pl.col("n_down") > 0))
        .sort("mean", "name", descending=[True, False])
    )
    wide = (
        rows.pivot(on=by, index="name", values="value", aggregate_function="first").fill_null(0.0).drop("name")
        if rows.height
        else pl.DataFrame()
    )
    return Evenness(table, _mean_correlation(wide), int(table["changes_sign"].sum()), len(groups))


def evenness_in_words(found: Evenness, *, what: str = "folds", ways: tuple[str, str] | None = UP_DOWN) -> str:
    """One or two sentences; `ways` are what both signs mean, None where there is one alone."""
    if found.n_compared < 2 or np.isnan(found.rank_correlation):
        return f"Fewer than two {what} to compare."
    words = f"Order of the features: rank correlation of two {what} {found.rank_correlation:.2f} on average, over {found.n_compared} {what}."
    if ways is None:
        return words
    changed = found.table.filter("changes_sign")["name"].to_list()
    if not changed:
        return f"{words} For no feature are some {what} {ways[0]} and others {ways[1]}."
    shown = ", ".join(changed[:3]) + (f" and {len(changed) - 3} others" if len(changed) > 3 else "")
    return f"{words} {len(changed)} of {found.table.height} features are {ways[0]} in some and {ways[1]} in others: {shown}."


def weekly(importances: Mapping[str, Mapping[str, float]]) -> pl.DataFrame:
    """Importances by week as rows of `evenness`."""
    rows = [(week, name, value, None) for week, of_week in importances.items() for name, value in of_week.items()]
    schema = {"week": pl.String, "name": pl.String, "value": pl.Float64, "direction": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _mean_correlation(wide: pl.DataFrame) -> float:
    if wide.width < 2 or wide.height < 2:
        return float("nan")
    ranks = wide.select(pl.all().rank()).to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.corrcoef(ranks, rowvar=False)[np.triu_indices(wide.width, 1)]
    return float(np.nanmean(found)) if np.isfinite(found).any() else float("nan")
