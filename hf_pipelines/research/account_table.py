"""Table of an account's scores: what out-of-fold predictions earned, fold by fold and pooled, with intervals.

Lives here: which bars' returns belong to which fold, and their scores. Not here: the account (`backtest`), what a score is
(`metrics`), scores of the predictions themselves (`score_table`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hf_pipelines.research import metrics
from hf_pipelines.research.backtest.result import BacktestResult
from hf_pipelines.research.blas import one_blas_thread
from hf_pipelines.research.metrics.bootstrap import default_block
from hf_pipelines.research.metrics.session_scores import SessionScores, account_scores
from hf_pipelines.research.score_rows import SCHEMA, draw_for_labels, over_folds, score_row, score_sets
from hf_pipelines.research.score_words import say_notes

STRATEGY = "strategy"

# Of the sessions drawn: the same for every strategy, so that two of them are compared on the same ones.
SEED = 0

NOTHING_EARNED = "No scores: there is no bar after the first decision, so nothing was earned."


@dataclass(frozen=True, eq=False)
class AccountTable:
    """Scores of what out-of-fold predictions earned.

    Attributes
    ----------
    scores : DataFrame
        As `ScoreTable.scores`, of the predictor "strategy": `sharpe_ratio`, `hit_rate` and `profit_factor` of the returns of
        bars, `total_return` and `max_drawdown`. Where there are paths, means over them. Null where undefined, the Sharpe ratio of fewer
        than `ANNUAL_SESSIONS` sessions among it.
    fold_metrics : DataFrame
        A row a fold: `fold`, `n_sessions` in which its decisions earned, and each score.
    notes : tuple of str
        What was resampled, and what is undefined.
    """

    scores: pl.DataFrame
    fold_metrics: pl.DataFrame
    notes: tuple[str, ...]


def tabulate_accounts(
    accounts: Mapping[int | None, BacktestResult],
    predictions: Mapping[int | None, pl.DataFrame],
    *,
    label_sessions: int,
    periods_per_year: float,
) -> AccountTable:
    """Score the accounts of a cross-validation.

    The return of a bar belongs to the fold that took the last decision before it: that decided what was held.

    Parameters
    ----------
    accounts : mapping of path to BacktestResult
        By path, None where there are none.
    predictions : mapping of path to DataFrame
        What they were decided on: `ts`, `fold`.
    label_sessions : int
        Sessions that a label spans: so does a block.
    periods_per_year : float
        Bars in a year.
    """
    returns = {path: returns_by_fold(each, predictions[path]) for path, each in accounts.items()}
    if any(each.is_empty() for each in returns.values()):
        return AccountTable(pl.DataFrame(schema=SCHEMA), pl.DataFrame(schema={"fold": pl.Int32}), (NOTHING_EARNED,))
    numbers = sorted({number for each in returns.values() for number in each["fold"].unique().to_list()})
    rows: list[dict[str, object]] = []
    values: dict[str, list[float]] = {}
    folds: list[dict[str, object]] = []
    for number in numbers:
        # A fold has its part of each path, at different times.
        of_fold = pl.concat([each.filter(fold=number) for each in returns.values()]).sort("ts")
        found, n_sessions = score_returns([of_fold], label_sessions, periods_per_year, seed=[SEED, number + 1])
        rows += [row | {"fold": number} for row in found]
        scores = {str(row["score"]): float(row["value"]) for row in found}  # type: ignore[arg-type]  # a score's value
        for name, value in scores.items():
            values.setdefault(name, []).append(value)
        folds.append({"fold": number, "n_sessions": n_sessions, **scores})
    found, n_sessions = score_returns(list(returns.values()), label_sessions, periods_per_year, seed=[SEED, 0])
    rows += [row | over_folds(values[str(row["score"])]) for row in found]
    table = pl.DataFrame(rows, schema=SCHEMA).with_columns(pl.col(pl.Float64).fill_nan(None))
    block = default_block(n_sessions, label_sessions=label_sessions)
    fold_metrics = pl.DataFrame(folds, schema_overrides={"fold": pl.Int32, **dict.fromkeys(values, pl.Float64)})
    return AccountTable(
        table,
        fold_metrics.with_columns(pl.col(pl.Float64).fill_nan(None)),
        tuple(say_notes(table, block=block, n_sessions=n_sessions, n_paths=len(returns))),
    )


def returns_by_fold(account: BacktestResult, predictions: pl.DataFrame) -> pl.DataFrame:
    """Return of each bar after the first, with the fold whose decision it comes from."""
    decided = predictions.group_by("ts").agg(pl.col("fold").max()).sort("ts")
    bars = account.equity.select("session", "ts", "equity")
    earned = bars[1:].with_columns(value=pl.Series(metrics.returns_of(bars["equity"].to_numpy()), dtype=pl.Float64))
    # A decision at a bar's close earns from the next bar on.
    return earned.sort("ts").join_asof(
        decided, on="ts", strategy="backward", allow_exact_matches=False, check_sortedness=False
    )


def score_returns(
    parts: Sequence[pl.DataFrame], label_sessions: int, periods_per_year: float, *, seed: Sequence[int]
) -> tuple[list[dict[str, object]], int]:
    """Rows of the scores of some returns, means over the parts, and how many sessions they are of."""
    days = pl.concat([each["session"] for each in parts]).unique().sort()
    sessions: NDArray[np.int32] = days.to_physical().to_numpy()
    draws = draw_for_labels(len(days), label_sessions=label_sessions, seed=seed)
    given = [
        SessionScores(
            len(days),
            account_scores(
                np.searchsorted(sessions, each["session"].to_physical().to_numpy()),
                n_sessions=len(days),
                returns=each["value"].to_numpy(),
                periods_per_year=periods_per_year,
            ),
        )
        for each in parts
    ]
    with one_blas_thread():
        scored = score_sets(given, draws)
    if len(days) < metrics.ANNUAL_SESSIONS:
        scored.observed["sharpe_ratio"] = math.nan
        if draws is not None:
            scored.resampled["sharpe_ratio"] = np.full(len(draws.order), math.nan)
    return [score_row(STRATEGY, name, value, scored, draws) for name, value in scored.observed.items()], len(days)
