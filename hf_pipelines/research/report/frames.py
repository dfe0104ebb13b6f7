"""Frames: numbers that figures of an account draw, made of its stored equity.

Lives here: what is drawn, as numbers, and how a long line is thinned. Not here: what is counted, which stays whole (`metrics`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from hf_pipelines.research.plots.account import NO_COSTS
from hf_pipelines.research.report.blocks import MOST_POINTS


def by_session(equity: pl.DataFrame) -> pl.DataFrame:
    """The last bar of each session of an account, in order."""
    return equity.sort("ts").group_by("session", maintain_order=True).last()


def before_costs(equity: pl.DataFrame) -> pl.Series:
    """Equity with all costs paid so far added back, without what that money would have earned.

    Parameters
    ----------
    equity : DataFrame
        A row a bar, with a column of each kind of cost in currency.

    Returns
    -------
    Series
        In currency, on the same bars.
    """
    kinds = [name for name, kind in equity.schema.items() if name not in (*NO_COSTS, "path") and kind.is_numeric()]
    paid = equity.select(pl.sum_horizontal(pl.col(kinds).cum_sum())).to_series() if kinds else 0.0
    return equity["equity"] + paid


def thinned(*columns: pl.Series, most: int = MOST_POINTS) -> list[pl.Series]:
    """A line of few enough points to be drawn: of each stretch the first, the lowest and the highest, of the first column after x.

    Parameters
    ----------
    *columns : Series
        The x axis, then values at it; of equal length.
    most : int
        Points that are kept at most, about.

    Returns
    -------
    list of Series
        The same rows of each.
    """
    x, y = columns[0], columns[1]
    if len(x) <= most:
        return list(columns)
    stretch = (np.arange(len(x)) * (most // 3)) // len(x)
    rows = pl.DataFrame({"at": np.arange(len(x)), "stretch": stretch, "y": y.cast(pl.Float64)})
    kept = rows.group_by("stretch").agg(
        pl.col("at").first().alias("first"),
        pl.col("at").sort_by("y").drop_nulls().first().alias("low"),
        pl.col("at").sort_by("y").drop_nulls().last().alias("high"),
    )
    ends = pl.concat([kept["first"], kept["low"], kept["high"], pl.Series([len(x) - 1])]).drop_nulls().unique().sort()
    return [each.gather(ends) for each in columns]


def drawn(values: pl.Series | Sequence[float], digits: int = 6) -> tuple[float | None, ...]:
    """Values as figures hold them: few digits, and nothing where a value is undefined."""
    series = pl.Series(values, dtype=pl.Float64).fill_nan(None)
    return tuple(None if each is None else float(f"{each:.{digits}g}") for each in series.to_list())
