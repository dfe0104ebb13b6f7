"""Frames: the tables that figures of predictions, weights and bars draw.

Lives here: what is drawn, as numbers. Not here: drawing it (`predictions`, `weights`, `bars` beside it).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from hf_pipelines.research.metrics import information_coefficient
from hf_pipelines.research.predictions import latest_predictions, split_by_path
from hf_pipelines.research.targets import HORIZON

# Groups of predictions, the lowest first: tenths where each then has five symbols of a time and more.
FIFTHS, TENTHS = 5, 10
SYMBOLS_OF_TENTHS = 50

# Sessions that a point of the smooth curve is the mean of.
ROLLING_SESSIONS = 60


def drawn_predictions(predictions: pl.DataFrame) -> pl.DataFrame:
    """One prediction of each symbol and bar that has a number and an outcome: of the first horizon and path where there are several.

    Parameters
    ----------
    predictions : DataFrame
        Out-of-fold predictions: `symbol`, `session`, `ts`, `fold`, `trained_until`, `prediction`, `target`.

    Returns
    -------
    DataFrame
        The same columns, sorted by (ts, symbol).
    """
    one = predictions
    if HORIZON in one.columns:
        one = one.filter(pl.col(HORIZON) == one[HORIZON][0])
    first = next(iter(split_by_path(latest_predictions(one)).values()))
    pair = pl.col("prediction", "target").cast(pl.Float64)
    return first.filter(pl.all_horizontal(pair.is_finite().fill_null(False)))


def coefficients_by_session(predictions: pl.DataFrame) -> pl.DataFrame:
    """Information coefficient of each session, its mean over the last `ROLLING_SESSIONS`, and its sum so far.

    Parameters
    ----------
    predictions : DataFrame
        From `drawn_predictions`.

    Returns
    -------
    DataFrame
        `session`, `coefficient`, `rolling` (null before as many sessions as it is the mean of), `so_far`; a row each session that
        has a coefficient.
    """
    found = information_coefficient(predictions).rename({"information_coefficient": "coefficient"})
    defined = found.select("session", pl.col("coefficient").fill_nan(None)).drop_nulls()
    return defined.with_columns(
        rolling=pl.col("coefficient").rolling_mean(ROLLING_SESSIONS), so_far=pl.col("coefficient").cum_sum()
    )


def outcomes_by_quantile(predictions: pl.DataFrame) -> pl.DataFrame:
    """Mean outcome of the predictions in groups of equal size, from the lowest to the highest, by rank over all rows.

    Ten groups where half of the times have `SYMBOLS_OF_TENTHS` symbols and more, else five.

    Parameters
    ----------
    predictions : DataFrame
        From `drawn_predictions`.

    Returns
    -------
    DataFrame
        `quantile` from 1, `low` and `high` of the predictions in it, `outcome` (mean of `target`), `error` (its standard error, as if rows
        were independent: null of one row), `n_rows`; fewer groups where there are fewer rows. Rows of equal predictions are of one group.
    """
    at_a_time: float | None = predictions.group_by("ts").len()["len"].median()  # type: ignore[assignment]  # of a column of counts
    most = TENTHS if (at_a_time or 0.0) >= SYMBOLS_OF_TENTHS else FIFTHS
    n_groups = min(most, max(predictions.height, 1))
    rank = (pl.col("prediction").rank("average") - 0.5) / pl.len()
    return (
        predictions.select("prediction", "target", quantile=(rank * n_groups).floor().cast(pl.Int32) + 1)
        .group_by("quantile")
        .agg(
            low=pl.col("prediction").min(),
            high=pl.col("prediction").max(),
            outcome=pl.col("target").mean(),
            error=pl.col("target").std() / pl.len().sqrt(),
            n_rows=pl.len(),
        )
        .sort("quantile")
    )


def hits_by_fold(predictions: pl.DataFrame, *, neutral: float = 0.0) -> pl.DataFrame:
    """Share of predictions on the same side of `neutral` as the outcome, by fold.

    Parameters
    ----------
    predictions : DataFrame
        From `drawn_predictions`.
    neutral : float
        What says neither up nor down; rows whose prediction or outcome is exactly that are left out.

    Returns
    -------
    DataFrame
        `fold`, `first_session`, `hit_rate`, `n_rows`, by fold; null of a fold without a row that is counted.
    """
    sided = predictions.select(
        "fold",
        "session",
        predicted=(pl.col("prediction") - neutral).sign(),
        occurred=(pl.col("target") - neutral).sign(),
    )
    counted = (pl.col("predicted") != 0.0) & (pl.col("occurred") != 0.0)
    return (
        sided.group_by("fold")
        .agg(
            first_session=pl.col("session").min(),
            hit_rate=(pl.col("predicted") == pl.col("occurred")).filter(counted).mean(),
            n_rows=counted.sum(),
        )
        .sort("fold")
    )


def weight_changes(issue: pl.DataFrame, before: pl.DataFrame | None) -> pl.DataFrame:
    """Weights of an issue beside those of the issue before it.

    Parameters
    ----------
    issue : DataFrame
        `symbol`, `weight`; one row a symbol.
    before : DataFrame or None
        The same of the issue before; None where there is none.

    Returns
    -------
    DataFrame
        `symbol`, `weight`, `before`, `change`, by symbol; null where there is no issue before. A symbol that only one of them has
        weighs 0 in the other.
    """
    own = issue.select("symbol", "weight")
    if before is None:
        unknown = pl.lit(None, dtype=pl.Float64)
        return own.sort("symbol").with_columns(before=unknown, change=unknown)
    both = own.join(before.select("symbol", before="weight"), on="symbol", how="full", coalesce=True)
    return (
        both.with_columns(pl.col("weight", "before").fill_null(0.0))
        .with_columns(change=pl.col("weight") - pl.col("before"))
        .sort("symbol")
    )


def turned_over(changes: pl.DataFrame) -> float:
    """Share of the equity that moves from one holding to another: half the sum of all changes, cash among them.

    Parameters
    ----------
    changes : DataFrame
        From `weight_changes`, of two issues.

    Returns
    -------
    float
        A fraction of the equity, one way; what is bought from cash counts once.
    """
    cash = -float(changes["change"].sum())
    return 0.5 * (float(changes["change"].abs().sum()) + abs(cash))


# What a symbol-session of a week of bars can be, best first.
BAR_STATES = ("there", "suspect", "quarantined", "missing")


def bar_states(
    expected: pl.DataFrame, bars: pl.DataFrame, *, quarantined: Sequence[str], suspect: Sequence[str]
) -> pl.DataFrame:
    """What became of each bar that a week should have.

    Parameters
    ----------
    expected : DataFrame
        `symbol`, `session` that should have bars.
    bars : DataFrame
        `symbol`, `session` of those that are there.
    quarantined, suspect : sequence of str
        Lines that begin with a symbol and a session, as the facts of bars note them.

    Returns
    -------
    DataFrame
        `symbol`, `session`, `state` of `BAR_STATES`: the worst that is so, a quarantined bar being one that is not there. By
        (symbol, session).
    """
    keys = ["symbol", "session"]
    there = bars.select(keys).unique().with_columns(is_there=pl.lit(True))
    marked = expected.select(keys).join(there, on=keys, how="left")
    for name, lines in (("is_suspect", suspect), ("is_quarantined", quarantined)):
        named = pl.DataFrame(_keys_of(lines), schema={"symbol": pl.String, "session": pl.Date}, orient="row").unique()
        marked = marked.join(named.with_columns(pl.lit(True).alias(name)), on=keys, how="left")
    state = (
        pl.when(pl.col("is_quarantined").is_not_null())
        .then(pl.lit("quarantined"))
        .when(pl.col("is_there").is_null())
        .then(pl.lit("missing"))
        .when(pl.col("is_suspect").is_not_null())
        .then(pl.lit("suspect"))
        .otherwise(pl.lit("there"))
    )
    return marked.select(*keys, state=state).sort(keys)


def _keys_of(lines: Sequence[str]) -> list[tuple[str, date]]:
    return [(line.split()[0], date.fromisoformat(line.split()[1])) for line in lines]
