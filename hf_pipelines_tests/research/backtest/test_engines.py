"""One contract over every registered engine."""

import polars as pl
import pytest

from hf_pipelines.research.backtest import ENGINES
from hf_pipelines.research.costs import Costs
from hf_pipelines_tests.research.backtest.small_market import decisions, random_market, symbol_bars

each_engine = pytest.mark.parametrize("name", sorted(ENGINES))


@each_engine
def test_engine_is_registered_under_its_name(name: str) -> None:
    assert ENGINES[name].name == name
    assert ENGINES[name].summary


@each_engine
def test_engine_sizes_at_the_close_and_fills_at_the_next_open(name: str) -> None:
    bars = symbol_bars("A", open=[10, 11, 13, 12], close=[10, 12, 13, 14], split_ratio={3: 0.5}, dividend={2: 1})

    result = ENGINES[name].run(
        decisions({0: {"A": 0.5}}), bars, Costs(fee_bps=100), periods_per_year=250, initial_cash=1000.0
    )

    # 50 shares for 550 and 5.50; a dividend of 50; then 25 shares worth 14.
    assert result.equity["equity"].to_list() == pytest.approx([1000.0, 1044.5, 1144.5, 844.5])


@each_engine
def test_engine_cutting_off_the_future_changes_nothing_before(name: str) -> None:
    weights, bars = random_market(seed=8, missing=0.05)
    cut = sorted(bars["ts"].unique())[30]
    costs = Costs(fee_bps=5)

    whole = ENGINES[name].run(weights, bars, costs, periods_per_year=250)
    past = ENGINES[name].run(
        weights.filter(pl.col("ts") <= cut), bars.filter(pl.col("ts") <= cut), costs, periods_per_year=250
    )

    assert past.equity.equals(whole.equity.filter(pl.col("ts") <= cut))
    assert past.trades.equals(whole.trades.filter(pl.col("ts") <= cut))


@each_engine
def test_engine_fills_only_at_the_open_of_the_bar_after_the_decision(name: str) -> None:
    weights, bars = random_market(seed=4)
    next_session = (
        bars.select("session").unique().sort("session").with_columns(next_session=pl.col("session").shift(-1))
    )

    trades = ENGINES[name].run(weights, bars, Costs(), periods_per_year=250).trades

    filled = trades.join(bars, on=["symbol", "session"], suffix="_bar").join(
        next_session, left_on="decision_session", right_on="session"
    )
    assert filled.height == trades.height > 100
    assert filled["price"].equals(filled["open"])
    assert filled["session"].equals(filled["next_session"])
    assert trades["decision_session"].is_in(weights["session"].unique().implode()).all()
