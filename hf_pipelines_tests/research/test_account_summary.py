"""The summary of an account: numbers worked out by hand, those beside a benchmark, and what is undefined."""

import math

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research import metrics
from hf_pipelines.research.account_summary import (
    ACCOUNT_METRICS,
    HEADLINE,
    benchmark_index,
    summarise_account,
    values_of,
)
from hf_pipelines.research.account_table import tabulate_accounts
from hf_pipelines.research.backtest import BacktestResult, run_backtest
from hf_pipelines.research.costs import Costs
from hf_pipelines_tests.research.backtest.small_market import decisions, random_market, symbol_bars

PERIODS = 250.0


def long_account(n_sessions: int = 90) -> tuple[BacktestResult, pl.DataFrame, pl.DataFrame]:
    weights, bars = random_market(seed=3, n_sessions=n_sessions)
    rng = np.random.default_rng(0)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, n_sessions)))
    index = symbol_bars("^I", open=close, close=close).with_columns(role=pl.lit("reference"))
    bars = pl.concat([bars, index]).sort("symbol", "ts")
    return run_backtest(weights, bars, Costs(fee_bps=3), periods_per_year=PERIODS), bars, weights


def test_numbers_of_an_account_are_those_of_the_metrics_and_annual_ones_by_its_calendar() -> None:
    result, bars, weights = long_account()
    index = benchmark_index(result, bars, "^I")
    assert index is not None
    found = values_of(summarise_account(result, benchmark=index))
    equity = result.account.equity
    returns = metrics.returns_of(equity)
    other = metrics.returns_of(bars.filter(pl.col("symbol") == "^I").sort("ts")["close"])[-len(returns) :]
    a_year = {"periods_per_year": PERIODS}
    assert {name: found[name] for name in result.metrics} == dict(result.metrics)
    expected = {
        "sharpe_standard_error": metrics.sharpe_standard_error(returns, **a_year),
        "sortino_ratio": metrics.sortino_ratio(returns, **a_year),
        "calmar_ratio": result.metrics["annual_return"] / result.metrics["max_drawdown"],
        "omega_ratio": metrics.profit_factor(returns),
        "profit_factor": metrics.profit_factor(returns),
        "value_at_risk_95": metrics.value_at_risk(returns, level=0.95),
        "expected_shortfall_95": metrics.expected_shortfall(returns, level=0.95),
        "skewness": metrics.skewness(returns),
        "kurtosis": metrics.kurtosis(returns),
        "tail_ratio": metrics.tail_ratio(returns),
        "longest_drawdown_bars": metrics.longest_drawdown(equity),
        "ulcer_index": metrics.ulcer_index(equity),
        "time_under_water": (result.equity["drawdown"] > 0).mean(),
        "payoff_ratio": metrics.payoff_ratio(returns),
        "expectancy": metrics.expectancy(returns),
        "average_win": metrics.average_win(returns),
        "average_loss": metrics.average_loss(returns),
        "benchmark_return": np.prod(1.0 + other) - 1.0,
        "beta": np.cov(returns, other)[0, 1] / other.var(ddof=1),
        "alpha": metrics.alpha(returns, other, **a_year),
        "information_ratio": metrics.information_ratio(returns, other, **a_year),
        "up_capture": metrics.up_capture(returns, other, **a_year),
        "down_capture": metrics.down_capture(returns, other, **a_year),
        "mean_net_exposure": result.equity["net_exposure"].mean(),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-12)


def test_sharpe_ratio_has_the_interval_of_the_scores_and_its_error_that_of_lo() -> None:
    result, _, weights = long_account()
    predictions = weights.select("symbol", "session", "ts", fold=pl.lit(0, dtype=pl.Int32))
    table = tabulate_accounts({None: result}, {None: predictions}, label_sessions=3, periods_per_year=PERIODS)
    scored = table.scores.filter(pl.col("fold").is_null(), score="sharpe_ratio").row(0, named=True)
    summary = summarise_account(result, label_sessions=3)
    ratio = summary.row(by_predicate=pl.col("metric") == "sharpe_ratio", named=True)
    assert [ratio[each] for each in ("value", "low", "high")] == pytest.approx(
        [scored[each] for each in ("value", "low", "high")]
    )
    error = summary.row(by_predicate=pl.col("metric") == "sharpe_standard_error", named=True)
    assert (error["low"] + error["high"]) / 2.0 == pytest.approx(ratio["value"])
    assert (error["high"] - error["low"]) / 2.0 == pytest.approx(1.959964 * error["value"], rel=1e-6)
    assert summary.filter(pl.col("low").is_not_null())["metric"].to_list() == ["sharpe_ratio", "sharpe_standard_error"]


def test_trades_are_counted_after_costs_and_open_ones_with_them() -> None:
    # 10 shares of A bought at 10 and sold at 12, a profit of 20 on 100; 10 of B at 10 are worth 9 at the end, a loss of 10 on 100.
    bars = pl.concat(
        [
            symbol_bars("A", open=[10, 10, 12, 12], close=[10, 10, 12, 12]),
            symbol_bars("B", open=[10, 10, 10, 9], close=[10, 10, 10, 9]),
        ]
    )
    held = decisions({0: {"A": 0.1, "B": 0.1}, 1: {"A": 0.0, "B": 0.1}})
    result = run_backtest(held, bars, Costs(), periods_per_year=PERIODS, initial_cash=1000.0)
    found = values_of(summarise_account(result))
    expected = {
        "n_round_trips": 2, "trade_win_rate": 0.5, "trade_profit_factor": 2.0, "trade_average_win": 0.2, "trade_average_loss": 0.1,
        "trade_payoff_ratio": 2.0, "trade_expectancy": 0.05, "mean_holding_bars": 1.5,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_benchmark_grows_by_its_dividends_and_splits_on_its_own_bars() -> None:
    # 100, then 51 after a split of 2 for 1 with a dividend of 1 on each new share: 104 of 100; a day without a bar; then 52.
    bars = pl.concat(
        [
            symbol_bars("A", open=[10] * 4, close=[10, 11, 12, 13]),
            symbol_bars(
                "^I", open=[100, 51, None, 52], close=[100, 51, None, 52], split_ratio={1: 2.0}, dividend={1: 1.0}
            ).with_columns(role=pl.lit("reference")),
        ]
    )
    result = run_backtest(decisions({0: {"A": 1.0}}), bars, Costs(), periods_per_year=PERIODS, initial_cash=100.0)
    index = benchmark_index(result, bars, "^I")
    assert index is not None and index["value"].to_list() == pytest.approx([1.0, 1.04, 1.04 * 52 / 51])
    assert benchmark_index(result, bars, "^J") is None
    # 10 shares bought at 10 are worth 110, and 130 two days later: the returns of the spans that the benchmark has.
    own, other = np.array([0.1, 130 / 110 - 1]), np.array([0.04, 52 / 51 - 1])
    found = values_of(summarise_account(result, benchmark=index))
    assert found["beta"] == pytest.approx(np.cov(own, other)[0, 1] / other.var(ddof=1))
    assert found["benchmark_return"] == pytest.approx(1.04 * 52 / 51 - 1)


def test_a_quarter_is_annualised_and_a_session_less_is_not() -> None:
    a_year = {name for name, each in ACCOUNT_METRICS.items() if each.is_annual or each.unit.endswith("a year")}
    assert {"sortino_ratio", "alpha", "up_capture", "sharpe_ratio", "turnover_per_year"} <= a_year
    for n in (metrics.ANNUAL_SESSIONS, metrics.ANNUAL_SESSIONS - 1):
        result, bars, _ = long_account(n)
        found = summarise_account(result, benchmark=benchmark_index(result, bars, "^I"))
        undefined = set(found.filter(pl.col("value").is_null())["metric"])
        # Not for want of a year: of 100 bars, of a peak reached again, of moments that are those of a distribution.
        rare = {name for name in ACCOUNT_METRICS if name.endswith("_99") or name.startswith("cornish")} | {
            "recovery_bars"
        }
        assert undefined - rare == (set() if n == metrics.ANNUAL_SESSIONS else a_year)


def test_an_account_of_one_bar_has_no_number_made_up() -> None:
    bars = symbol_bars("A", open=[10.0], close=[10.0])
    result = run_backtest(decisions({0: {"A": 1.0}}), bars, Costs(), periods_per_year=PERIODS)
    found = values_of(summarise_account(result, benchmark=benchmark_index(result, bars, "A")))
    assert {name for name, value in found.items() if value} <= {"n_sessions", "n_bars", "min_cash"}
    assert not {"hit_rate", "profit_factor", "sharpe_ratio", "beta", "benchmark_return", "calmar_ratio"} & {*found}
    assert all(math.isfinite(value) for value in found.values())


def test_a_table_begins_with_the_headline_and_each_group_stands_together() -> None:
    summary = summarise_account(long_account()[0])
    groups = summary["group"].to_list()
    changes = [each for each, before in zip(groups, [None, *groups], strict=False) if each != before]
    assert len(changes) == len({*groups}) and changes[0] == HEADLINE
    assert summary["metric"].is_unique().all()
