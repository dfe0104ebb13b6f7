"""Frames: numbers that figures of an account draw, made of its stored equity.

Lives here: what is drawn, as numbers, and how a long line is thinned. Not here: what is counted, which stays whole (`metrics`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl

from hf_pipelines.research.plots.account import NO_COSTS
from hf_pipelines.research.report.blocks import MOST_POINTS, Role, Series


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


def extremes(frame: pl.DataFrame, by: str, *, most: int) -> tuple[pl.DataFrame, str]:
    """The rows with the highest and the lowest values of a column, half of each, in their order; and what is left out, in words, "" of nothing."""
    if frame.height <= most:
        return frame, ""
    rows = frame.with_row_index("extremes_at")
    ordered = rows.sort(by, descending=True, nulls_last=True)
    kept = pl.concat([ordered.head(most - most // 2), ordered.tail(most // 2)]).sort("extremes_at")
    return kept.drop(
        "extremes_at"
    ), f"The {most - most // 2} highest and {most // 2} lowest of {frame.height:,}; all of them are stored."


def drawn(values: pl.Series | Sequence[float], digits: int = 6) -> tuple[float | None, ...]:
    """Values as figures hold them: few digits, and nothing where a value is undefined."""
    series = pl.Series(values, dtype=pl.Float64).fill_nan(None)
    return tuple(None if each is None else float(f"{each:.{digits}g}") for each in series.to_list())


def line_of(
    name: str,
    sessions: pl.Series,
    values: pl.Series,
    *,
    role: Role = "own",
    mark: Literal["line", "area"] = "line",
    is_dashed: bool = False,
    most: int = MOST_POINTS,
) -> Series:
    """A line over sessions, thinned to what is drawn."""
    x, y = thinned(sessions, values, most=most)
    return Series(name=name, x=tuple(x.to_list()), y=drawn(y), role=role, mark=mark, is_dashed=is_dashed)


def session_returns(account: pl.DataFrame) -> pl.DataFrame:
    """Return of each session after the first.

    Parameters
    ----------
    account : DataFrame
        `session`, `ts`, `equity`; a row a bar.

    Returns
    -------
    DataFrame
        `session`, `value`.
    """
    daily = by_session(account)
    return daily.select("session", value=pl.col("equity") / pl.col("equity").shift(1) - 1.0).slice(1)


def period_returns(account: pl.DataFrame, every: str) -> pl.DataFrame:
    """Return of each calendar month or year, from the last close before it.

    Parameters
    ----------
    account : DataFrame
    every : str
        "1mo" or "1y".

    Returns
    -------
    DataFrame
        `period` (its first day), `value`, `n_sessions`; the first one begins with the account.
    """
    grouped = session_returns(account).with_columns(period=pl.col("session").dt.truncate(every))
    return (
        grouped.group_by("period", maintain_order=True)
        .agg(value=(1.0 + pl.col("value")).product() - 1.0, n_sessions=pl.len())
        .sort("period")
    )


def rolling(returns: pl.DataFrame, benchmark: pl.DataFrame | None, *, sessions: int, a_year: float) -> pl.DataFrame:
    """Numbers of a year over the last sessions, as of each session.

    Parameters
    ----------
    returns, benchmark : DataFrame
        `session`, `value`; the benchmark's are None where it has none.
    sessions : int
        Of the window.
    a_year : float
        Sessions of a year.

    Returns
    -------
    DataFrame
        `session`, `sharpe` (no risk-free rate), `volatility`, `beta`; from the first full window on, null where the window does not move.
    """
    own = pl.col("value")
    mean, deviation = own.rolling_mean(sessions), own.rolling_std(sessions)
    known = returns
    if benchmark is not None:
        known = returns.join(benchmark.rename({"value": "other"}), on="session", how="left")
    other = pl.col("other") if benchmark is not None else pl.lit(None, dtype=pl.Float64)
    covariance = (own * other).rolling_mean(sessions) - mean * other.rolling_mean(sessions)
    spread = other.rolling_var(sessions, ddof=0)
    moves = deviation > 0.0
    return known.select(
        "session",
        sharpe=pl.when(moves).then(mean / deviation * a_year**0.5),
        volatility=deviation * a_year**0.5,
        beta=pl.when(spread > 0.0).then(covariance / spread),
    ).slice(sessions - 1)


def histogram(values: pl.Series, *, n_bins: int = 41) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Middles of equal bins between the extremes, and how many values lie in each."""
    known = values.drop_nulls().drop_nans().to_numpy()
    counts, edges = np.histogram(known, bins=n_bins)
    return tuple(float(each) for each in (edges[:-1] + edges[1:]) / 2), tuple(float(each) for each in counts)
