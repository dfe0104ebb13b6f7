import math

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.backtest import run_backtest
from hf_pipelines.research.backtest.result import drawdowns_frame
from hf_pipelines.research.costs import Costs
from hf_pipelines.research.metrics import ANNUAL_SESSIONS, drawdown
from hf_pipelines_tests.research.backtest.small_market import decisions, random_market, sessions, symbol_bars


def curve(equity: list[float]) -> pl.DataFrame:
    return pl.DataFrame({"session": sessions(len(equity)), "drawdown": drawdown(equity)})


def test_drawdowns_frame_lists_each_episode_and_leaves_the_last_open() -> None:
    days = sessions(8)

    episodes = drawdowns_frame(curve([100, 80, 90, 100, 120, 90, 60, 90]))

    assert episodes.rows() == [
        (days[0], days[1], days[3], pytest.approx(0.2), 3),
        (days[4], days[6], None, pytest.approx(0.5), 3),
    ]


def test_drawdowns_frame_of_rising_equity_is_empty() -> None:
    assert drawdowns_frame(curve([1, 2, 3])).is_empty()


def test_run_backtest_frames_have_the_contract_columns() -> None:
    weights, bars = random_market(seed=0)
    result = run_backtest(weights, bars, Costs(), periods_per_year=250)

    assert result.equity.columns == (
        ["session", "ts", "equity", "cash", "gross_exposure", "net_exposure", "turnover", "fees", "slippage"]
        + ["borrow", "dividends", "drawdown"]
    )
    assert result.trades.columns == (
        ["symbol", "session", "ts", "decision_session", "decision_ts", "shares", "price", "notional", "fee", "slippage"]
    )
    assert result.drawdowns.columns == ["start", "trough", "end", "depth", "sessions"]
    assert result.equity["session"].null_count() == 0


def test_run_backtest_metrics_match_hand_computation() -> None:
    # Half of the cash buys 50 shares of 10; the price then goes 10, 12, 9, 12.
    bars = symbol_bars("A", open=[10, 10, 12, 9, 12], close=[10, 10, 12, 9, 12], dividend={4: 1.0})

    result = run_backtest(decisions({0: {"A": 0.5}}), bars, Costs(fee_bps=100), periods_per_year=4, initial_cash=1000.0)

    equity = np.array([1000.0, 995.0, 1095.0, 945.0, 1145.0])
    expected = {
        "total_return": 0.145,
        # Five sessions say nothing about a year.
        "annual_return": math.nan,
        "annual_volatility": math.nan,
        "sharpe_ratio": math.nan,
        "max_drawdown": 150 / 1095,
        "hit_rate": 0.5,
        "turnover_per_year": math.nan,
        "mean_gross_exposure": np.mean([0, 500, 600, 450, 600] / equity),
        "costs_total": 0.005,
        "fees_total": 0.005,
        "slippage_total": 0.0,
        "borrow_total": 0.0,
        "dividends_total": 0.05,
        "min_cash": 0.495,
        "n_sessions": 5,
        "n_bars": 5,
        "n_trades": 1,
        "unfilled_orders": 0,
    }
    assert dict(result.metrics) == pytest.approx(expected, nan_ok=True)


def test_run_backtest_of_a_quarter_is_annualised_and_of_a_session_less_is_not() -> None:
    price = [10.0 + (i % 3) for i in range(ANNUAL_SESSIONS)]
    ratios = {"annual_return", "annual_volatility", "sharpe_ratio", "turnover_per_year"}
    for n in (ANNUAL_SESSIONS, ANNUAL_SESSIONS - 1):
        bars = symbol_bars("A", open=price[:n], close=price[:n])
        result = run_backtest(decisions({0: {"A": 0.5}}), bars, Costs(), periods_per_year=4, initial_cash=1000.0)
        undefined = {name for name, value in result.metrics.items() if math.isnan(value)}
        assert undefined == (set() if n == ANNUAL_SESSIONS else ratios)
        if n == ANNUAL_SESSIONS:
            # 50 shares, decided at 10 and filled at 11.
            equity = np.array([1000.0, *(450.0 + 50.0 * np.array(price[1:]))])
            returns = equity[1:] / equity[:-1] - 1
            years = (n - 1) / 4
            expected = (equity[-1] / 1000.0) ** (1 / years) - 1, returns.std(ddof=1) * 2, 0.55 / years
            names = "annual_return", "annual_volatility", "turnover_per_year"
            assert [result.metrics[name] for name in names] == pytest.approx(list(expected))
            assert result.metrics["sharpe_ratio"] == pytest.approx(returns.mean() / returns.std(ddof=1) * 2)


def test_run_backtest_that_never_trades_has_no_sharpe_ratio() -> None:
    bars = symbol_bars("A", open=[10, 11, 12], close=[10, 11, 12])

    result = run_backtest(decisions({0: {"A": 0.0}}), bars, Costs(), periods_per_year=250)

    assert result.trades.is_empty()
    assert result.metrics["total_return"] == 0.0
    assert math.isnan(result.metrics["sharpe_ratio"])
    assert math.isnan(result.metrics["hit_rate"])


def test_run_backtest_with_single_bar_has_no_annual_return() -> None:
    result = run_backtest(
        decisions({0: {"A": 1.0}}), symbol_bars("A", open=[10], close=[10]), Costs(), periods_per_year=250
    )

    assert result.equity.height == 1
    assert math.isnan(result.metrics["annual_return"])


@pytest.mark.parametrize("seed", range(4))
def test_run_backtest_equity_is_explained_by_its_trades(seed: int) -> None:
    weights, bars = random_market(seed=seed, missing=0.1)

    result = run_backtest(
        weights, bars, Costs(fee_bps=5, slippage_bps=10, borrow_bps_per_year=90), periods_per_year=250
    )

    by_day = result.trades.group_by("ts").agg(pl.col("notional", "fee", "slippage").sum())
    account = result.equity.join(by_day, on="ts", how="left").with_columns(
        pl.col("notional", "fee", "slippage_right").fill_null(0.0)
    )
    flow = account["dividends"] - account["notional"] - account["fee"] - account["slippage_right"]
    assert (1e6 + (flow - account["borrow"]).cum_sum()).to_list() == pytest.approx(account["cash"].to_list())
    held = account["equity"] - account["cash"]
    assert (account["net_exposure"] * account["equity"]).to_list() == pytest.approx(held.to_list(), abs=1e-6)
    assert account["fees"].to_list() == pytest.approx(account["fee"].to_list())
    assert account["slippage"].to_list() == pytest.approx(account["slippage_right"].to_list())
