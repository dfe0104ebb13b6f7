"""Scores of an account by fold: whose decision earned what, and agreement with the backtest's own metrics."""

import math
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research import metrics
from hf_pipelines.research.account_table import NOTHING_EARNED, STRATEGY, tabulate_accounts
from hf_pipelines.research.backtest import BacktestResult, run_backtest
from hf_pipelines.research.costs import Costs
from hf_pipelines.research.score_words import shown_scores
from hf_pipelines_tests.sample_matrix import close_of, plain_bars


def traded(n_bars: int, *, seed: int = 0, decisions: int | None = None) -> tuple[BacktestResult, pl.DataFrame]:
    """An account that holds one random symbol, and its decisions: fold 0 until the middle, fold 1 after it."""
    rng = np.random.default_rng(seed)
    closes = {name: (100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.02, n_bars)))).tolist() for name in "AB"}
    bars = plain_bars(closes).with_columns(open=pl.col("close") * 1.001, high=pl.col("close"), low=pl.col("close"))
    n_decisions = decisions or n_bars
    weights = (
        bars.filter(pl.col("ts") < close_of(1) + timedelta(days=n_decisions))
        .sort("ts", "symbol")
        .select("symbol", "session", "ts", weight=pl.when(pl.col("symbol") == "A").then(1.0).otherwise(0.0))
    )
    middle = close_of(1) + timedelta(days=n_decisions // 2)
    predictions = weights.select("symbol", "session", "ts", fold=(pl.col("ts") >= middle).cast(pl.Int32))
    account = run_backtest(weights, bars, Costs(fee_bps=5.0, slippage_bps=5.0), periods_per_year=252)
    return account, predictions


def pooled(table) -> dict[str, dict[str, float]]:
    return {row["score"]: row for row in table.scores.filter(pl.col("fold").is_null()).to_dicts()}


def tabulated(account, predictions):
    return tabulate_accounts({None: account}, {None: predictions}, label_sessions=3, periods_per_year=252)


def test_pooled_scores_are_those_of_the_backtest():
    account, predictions = traded(200)
    found = pooled(tabulated(account, predictions))
    for name in ("sharpe_ratio", "hit_rate", "max_drawdown", "total_return"):
        assert found[name]["value"] == pytest.approx(account.metrics[name], rel=1e-9)
        assert found[name]["low"] <= found[name]["value"] <= found[name]["high"] or name == "max_drawdown"
    returns = metrics.returns_of(account.equity["equity"])
    assert found["profit_factor"]["value"] == pytest.approx(metrics.profit_factor(returns))
    assert {row["predictor"] for row in found.values()} == {STRATEGY}


def test_returns_belong_to_the_fold_whose_decision_was_held():
    account, predictions = traded(200)
    table = tabulated(account, predictions)
    returns = metrics.returns_of(account.equity["equity"])
    # Fold 0 decides at bars 0 to 99 and earns on bars 1 to 100, which are returns 0 to 99.
    assert table.fold_metrics["fold"].to_list() == [0, 1]
    assert table.fold_metrics["n_sessions"].to_list() == [100, 99]
    for fold, part in ((0, returns[:100]), (1, returns[100:])):
        row = table.fold_metrics.row(fold, named=True)
        assert row["sharpe_ratio"] == pytest.approx(metrics.sharpe_ratio(part, periods_per_year=252))
        assert row["hit_rate"] == pytest.approx(metrics.hit_rate(part))
        assert row["total_return"] == pytest.approx(np.prod(1.0 + part) - 1.0)
    both = table.fold_metrics["hit_rate"].to_numpy()
    row = pooled(table)["hit_rate"]
    assert row["mean"] == pytest.approx(both.mean()) and row["deviation"] == pytest.approx(both.std(ddof=1))


def test_what_is_held_after_the_last_decision_is_the_last_folds():
    account, predictions = traded(200, decisions=150)
    assert tabulated(account, predictions).fold_metrics["n_sessions"].to_list() == [75, 124]


def test_few_sessions_have_no_sharpe_ratio_as_in_the_backtest():
    account, predictions = traded(70)
    table = tabulated(account, predictions)
    assert table.fold_metrics["sharpe_ratio"].is_null().all() and table.fold_metrics["hit_rate"].is_not_null().all()
    assert pooled(table)["sharpe_ratio"]["value"] == pytest.approx(account.metrics["sharpe_ratio"])
    assert "sharpe_ratio is undefined in fold 0, fold 1." in table.notes


def test_an_account_of_one_bar_says_that_nothing_was_earned():
    account, predictions = traded(1)
    assert tabulated(account, predictions).notes == (NOTHING_EARNED,)


def test_paths_are_averaged():
    (one, its), (two, others) = traded(150, seed=1), traded(150, seed=2)
    table = tabulate_accounts({0: one, 1: two}, {0: its, 1: others}, label_sessions=3, periods_per_year=252)
    expected = np.mean([each.metrics["sharpe_ratio"] for each in (one, two)])
    assert pooled(table)["sharpe_ratio"]["value"] == pytest.approx(expected)
    assert "2 paths" in table.notes[0] and "of blocks of" in table.notes[0]
    shown = shown_scores(table.scores, predictor=STRATEGY)
    assert shown.columns == ["score", STRATEGY, "interval of 95%", "mean and deviation over folds"]


def test_interval_of_a_random_account_holds_zero():
    account, predictions = traded(400, seed=3)
    row = pooled(tabulated(account, predictions))["sharpe_ratio"]
    # A year of noise: the error of an annual Sharpe ratio of n years is about 1 / sqrt(n).
    width = row["high"] - row["low"]
    assert width == pytest.approx(2 * 1.96 / math.sqrt(399 / 252), rel=0.3)
