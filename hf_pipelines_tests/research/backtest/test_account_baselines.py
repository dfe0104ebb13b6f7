"""Accounts that take no skill: the benchmark by hand, equal weights by hand, random strategies of the same turnover."""

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.backtest import BacktestResult, Execution, run_backtest
from hf_pipelines.research.backtest.account_baselines import AccountBaselines, account_baselines
from hf_pipelines.research.costs import Costs
from hf_pipelines_tests.research.backtest.small_market import decisions, random_market, symbol_bars

FREE = Costs()


def held_to(result: BacktestResult, bars: pl.DataFrame, costs: Costs = FREE, seed: int = 0) -> AccountBaselines:
    execution = Execution(initial_cash=1000.0)
    return account_baselines(
        result, bars, benchmark="INDEX", costs=costs, execution=execution, periods_per_year=250, seed=seed
    )


def of(found: AccountBaselines, account: str, name: str) -> float | None:
    return found.table.filter(account=account)[name].item()


def test_benchmark_and_equal_weights_match_hand_ledgers() -> None:
    index = symbol_bars("INDEX", open=[100, 100, 100], close=[100, 110, 121]).with_columns(role=pl.lit("reference"))
    bars = pl.concat(
        [
            symbol_bars("A", open=[10, 10, 10], close=[10, 10, 12]),
            symbol_bars("B", open=[10, 10, 10], close=[10, 10, 10]),
            index,
        ]
    )
    result = run_backtest(decisions({0: {"A": 1.0, "B": 0.0}}), bars, FREE, periods_per_year=250, initial_cash=1000.0)
    found = held_to(result, bars)
    # Bought at the next open of 100: 10 shares, worth 121 each.
    assert of(found, "INDEX, bought and held", "total_return") == pytest.approx(0.21)
    # 50 A and 50 B: A gains 2 a share.
    assert of(found, "equal weight", "total_return") == pytest.approx(0.10)
    assert of(found, "strategy", "total_return") == pytest.approx(0.20)
    # Half of the draws hold A, half B: the strategy is above those of B and no better than those of A.
    assert 0.3 < found.beats_random < 0.7
    assert found.curves["INDEX, bought and held"]["equity"].to_list() == pytest.approx([1000.0, 1100.0, 1210.0])
    without = held_to(result, bars.filter(pl.col("symbol") != "INDEX"))
    assert without.table["account"].to_list()[:2] == ["strategy", "equal weight"]


def test_random_strategies_trade_as_much_as_the_strategy_and_repeat_by_their_seed() -> None:
    weights, bars = random_market(seed=2, n_sessions=250, n_symbols=5)
    costs = Costs(fee_bps=5)
    result = run_backtest(weights, bars, costs, periods_per_year=250, initial_cash=1000.0)
    found = held_to(result, bars, costs)
    own = result.metrics["turnover_per_year"]
    assert of(found, "random, median", "turnover_per_year") == pytest.approx(own, rel=0.1)
    low, high = (of(found, f"random, {level}", "total_return") for level in ("5 % quantile", "95 % quantile"))
    assert low is not None and high is not None and low < 0 < high
    assert found.table.equals(held_to(result, bars, costs).table)
    assert not found.table.equals(held_to(result, bars, costs, seed=1).table)
    assert (found.band["low"] <= found.band["high"]).all()


def test_a_strategy_that_knows_the_future_beats_every_random_one() -> None:
    weights, bars = random_market(seed=3, n_sessions=120, n_symbols=4, events=False)
    ahead = bars.sort("symbol", "ts").with_columns(
        gain=pl.col("close").shift(-2).over("symbol") / pl.col("open").shift(-1).over("symbol") - 1.0
    )
    known = ahead.with_columns(weight=pl.col("gain").fill_null(0.0).sign() * 0.25)
    result = run_backtest(
        known.select("symbol", "session", "ts", "weight"), bars, FREE, periods_per_year=250, initial_cash=1000.0
    )
    assert held_to(result, bars).beats_random == 1.0


def test_a_ruined_random_strategy_has_lost_everything() -> None:
    # Short B twice over ruins; the strategy is short A, which falls.
    bars = pl.concat(
        [
            symbol_bars("A", open=[10, 10, 9], close=[10, 10, 5]),
            symbol_bars("B", open=[10, 10, 10], close=[10, 10, 30]),
        ]
    )
    result = run_backtest(decisions({0: {"A": -2.0, "B": 0.0}}), bars, FREE, periods_per_year=250, initial_cash=1000.0)
    found = held_to(result, bars)
    assert of(found, "random, 5 % quantile", "total_return") == -1.0
    assert of(found, "random, 95 % quantile", "total_return") == pytest.approx(1.0)
    assert np.isfinite(found.beats_random)
