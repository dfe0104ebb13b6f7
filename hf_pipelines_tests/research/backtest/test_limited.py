"""Fills and limits, each against an account booked by hand; in every engine that declares it."""

import math

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.backtest import (
    ENGINES,
    BacktestResult,
    Execution,
    asked_of_engine,
    build_trading_panel,
    require_capable,
)
from hf_pipelines.research.backtest.limited import simulate_limited
from hf_pipelines.research.backtest.reference import simulate_panel
from hf_pipelines.research.costs import Costs
from hf_pipelines_tests.research.backtest.small_market import decisions, random_market, sessions, symbol_bars

FREE = Costs()


def run_in_all(
    weights: pl.DataFrame, bars: pl.DataFrame, execution: Execution, costs: Costs = FREE
) -> list[BacktestResult]:
    """The result of each engine that can, the reference first; backtrader is there wherever it is able."""
    asked = asked_of_engine(costs, execution, shorts=True, max_gross=1.0)
    able = [name for name in ("reference", "backtrader") if set(asked) <= ENGINES[name].capabilities]
    pytest.importorskip("backtrader")
    return [ENGINES[name].run(weights, bars, costs, execution, periods_per_year=250) for name in able]


def flat(symbol: str, price: float, n: int, **options: object) -> pl.DataFrame:
    return symbol_bars(symbol, open=[price] * n, close=[price] * n, **options)  # type: ignore[arg-type]


def test_vwap_proxy_is_the_mean_of_high_low_and_close_of_the_next_bar() -> None:
    bars = symbol_bars("A", open=[10, 11], close=[10, 12])
    execution = Execution(fill="next_vwap_proxy", initial_cash=1000.0)
    for result in run_in_all(decisions({0: {"A": 0.5}}), bars, execution):
        # High 13, low 10, close 12: 50 shares cost 583.33 and are worth 600.
        assert result.trades["price"].to_list() == pytest.approx([35 / 3])
        assert result.equity["equity"].to_list() == pytest.approx([1000.0, 1000.0 - 50 * 35 / 3 + 600.0])


def test_participation_fills_a_share_of_volume_and_carries_the_rest_over_a_split() -> None:
    price, opened = [10, 10, 10, 5, 5], [10, 10, 10, 5, 5]
    bars = symbol_bars("A", open=opened, close=price, split_ratio={3: 2.0}, volume=300)
    execution = Execution(initial_cash=1000.0, participation=0.1)
    for result in run_in_all(decisions({0: {"A": 1.0}}), bars, execution):
        # 100 were ordered. 30 a day: 70 are left, then 40, which the split makes 80.
        assert result.trades["shares"].to_list() == pytest.approx([30.0] * 4)
        assert result.account.positions[:, 0].tolist() == pytest.approx([0, 30, 60, 150, 180])
        assert result.equity["equity"].to_list() == pytest.approx([1000.0] * 5)
        assert result.metrics["unfilled_orders"] == 0.0
        # Filled for days, all by the one decision.
        assert result.trades["decision_session"].to_list() == [sessions(1)[0]] * 4


def test_participation_a_new_decision_replaces_what_is_left() -> None:
    bars = flat("A", 10.0, 4, volume=300)
    execution = Execution(initial_cash=1000.0, participation=0.1)
    for result in run_in_all(decisions({0: {"A": 1.0}, 2: {"A": 0.0}}), bars, execution):
        assert result.trades["shares"].to_list() == pytest.approx([30.0, 30.0, -30.0])
        assert result.metrics["unfilled_orders"] == 1.0


@pytest.mark.parametrize(("participation", "filled"), [(None, 0), (1.0, 1)], ids=["dropped", "waits"])
def test_order_of_a_halted_symbol_is_dropped_and_waits_under_participation(
    participation: float | None, filled: int
) -> None:
    bars = pl.concat([symbol_bars("A", open=[10, None, 12], close=[10, None, 12]), flat("B", 1.0, 3)])
    execution = Execution(initial_cash=1000.0, participation=participation)
    for result in run_in_all(decisions({0: {"A": 0.5, "B": 0.0}}), bars, execution):
        assert result.trades["price"].to_list() == pytest.approx([12.0] * filled)


def test_lots_round_positions_towards_zero() -> None:
    bars = pl.concat([flat("A", 10.0, 3), flat("B", 10.0, 3)])
    execution = Execution(initial_cash=1000.0, lot_size=10.0)
    for result in run_in_all(decisions({0: {"A": 0.59, "B": -0.39}}), bars, execution):
        assert result.trades["shares"].to_list() == pytest.approx([50.0, -30.0])


def test_a_lot_larger_than_the_account_is_refused_with_its_symbol_and_day() -> None:
    execution = Execution(initial_cash=1000.0, lot_size=200.0)
    told = (
        r"`lot_size` must be worth no more than the account, was 200 shares of A at 10.00 on 2024-01-04, 2,000.00 of 1,000.00; "
        "take smaller lots or more initial cash"
    )
    for name in ("reference", "backtrader"):
        with pytest.raises(ValueError, match=told):
            ENGINES[name].run(decisions({0: {"A": 0.5}}), flat("A", 10.0, 3), FREE, execution, periods_per_year=250)


def test_cash_limit_sells_first_and_scales_buys() -> None:
    bars = pl.concat(
        [
            symbol_bars("A", open=[10, 10, 9], close=[10, 10, 9]),
            symbol_bars("B", open=[20, 20, 25], close=[20, 20, 25]),
        ]
    )
    execution = Execution(initial_cash=1000.0, cash_limit=True)
    (result,) = run_in_all(decisions({0: {"A": 1.0}, 1: {"B": 1.0}}), bars, execution)
    # 100 A bring 900; 50 B at 25 would cost 1,250: 36 are bought.
    assert result.trades["shares"].to_list() == pytest.approx([100.0, -100.0, 36.0])
    assert result.equity["cash"].to_list() == pytest.approx([1000.0, 0.0, 0.0])
    assert result.metrics["unfilled_orders"] == 1.0

    (charged,) = run_in_all(decisions({0: {"A": 1.0}}), bars, execution, Costs(fee_bps=100))
    # Fees are part of what a buy costs: 1,000 buy 1,000 / 10.10 shares.
    assert charged.trades["shares"].to_list() == pytest.approx([1000 / 10.1])
    assert charged.equity["cash"][1] == pytest.approx(0.0, abs=1e-9)


def test_cash_limit_with_lots_buys_whole_ones() -> None:
    execution = Execution(initial_cash=1000.0, cash_limit=True, lot_size=10.0)
    bars = symbol_bars("A", open=[10, 12], close=[10, 12])
    (result,) = run_in_all(decisions({0: {"A": 1.0}}), bars, execution)
    # 83.3 shares could be paid.
    assert result.trades["shares"].to_list() == [80.0]


@pytest.mark.parametrize(("weight", "equity"), [(0.5, 800.0), (-0.5, 1200.0)], ids=["long", "short"])
def test_delisted_symbol_is_paid_out_less_the_haircut(weight: float, equity: float) -> None:
    gone = symbol_bars("A", open=[10, 10, 8, None, None, None], close=[10, 10, 8, None, None, None])
    execution = Execution(initial_cash=1000.0, delisted_after_bars=2, delisting_haircut=0.25)
    bars, weights = pl.concat([gone, flat("B", 1.0, 6)]), decisions({0: {"A": weight, "B": 0.0}})
    (result,) = run_in_all(weights, bars, execution, Costs(fee_bps=0))
    sign = math.copysign(50.0, weight)
    # 50 at 10, worth 8 for two days without a bar, then paid out at 6, which a short gains by.
    held = [1000.0, 1000.0, 1000.0 - 2 * sign, 1000.0 - 2 * sign, equity, equity]
    assert result.equity["equity"].to_list() == pytest.approx(held)
    assert result.trades["price"].to_list() == [10.0, 6.0]
    assert result.equity["gross_exposure"][-1] == 0.0
    assert result.round_trips["pnl"].sum() == pytest.approx(equity - 1000.0)


def test_delisting_knows_nothing_of_the_future() -> None:
    halted = symbol_bars("A", open=[10, 10, None, None, None, 7], close=[10, 10, None, None, None, 7])
    bars, weights = pl.concat([halted, flat("B", 1.0, 6)]), decisions({0: {"A": 0.5, "B": 0.0}})
    execution = Execution(initial_cash=1000.0, delisted_after_bars=3)
    (result,) = run_in_all(weights, bars, execution)
    # It was paid out at 10 before anyone knew that it would come back at 7.
    assert result.equity["equity"].to_list() == pytest.approx([1000.0] * 6)


@pytest.mark.parametrize("seed", range(3))
def test_ledger_with_limits_that_do_not_bind_equals_the_ledger_without(seed: int) -> None:
    weights, bars = random_market(seed=seed, missing=0.1)
    panel = build_trading_panel(weights, bars)
    costs = Costs(fee_bps=4, slippage_bps=2, borrow_bps_per_year=300)
    plain = simulate_panel(panel, costs, Execution())
    limited = simulate_limited(panel, costs, Execution())
    np.testing.assert_allclose(limited.equity, plain.equity, rtol=1e-13)
    np.testing.assert_allclose(limited.positions, plain.positions, rtol=1e-12, atol=1e-9)
    assert limited.unfilled_orders == plain.unfilled_orders > 0
    assert limited.fills.decision_bar.tolist() == plain.fills.decision_bar.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"participation": 0.0}, "`participation` must be above 0 and at most 1, was 0.0"),
        ({"participation": math.nan}, "`participation` must be above 0 and at most 1, was nan"),
        ({"lot_size": -1.0}, "`lot_size` must be finite and above zero"),
        ({"delisted_after_bars": 0}, "`delisted_after_bars` must be at least 1"),
        ({"delisted_after_bars": 5, "delisting_haircut": 1.5}, "`delisting_haircut` must be from 0 to 1"),
        ({"delisting_haircut": 0.3}, "`delisted_after_bars` must be given with a haircut"),
    ],
)
def test_execution_refuses_what_no_account_can_be_kept_with(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Execution(**options)  # type: ignore[arg-type]


def test_engine_that_cannot_limit_cash_is_refused_with_those_that_can() -> None:
    asked = asked_of_engine(FREE, Execution(cash_limit=True), shorts=False, max_gross=1.0)
    told = (
        r"must simulate cash_limit \(cash_limit\), was backtrader, which does not; take reference, or do not ask for it"
    )
    with pytest.raises(ValueError, match=told):
        require_capable("backtrader", asked)


def test_ruin_names_the_day_the_equity_and_the_position() -> None:
    bars = pl.concat([symbol_bars("A", open=[10, 10, 10], close=[10, 10, 16]), flat("B", 10.0, 3)])
    told = (
        r"`equity` must stay above zero, was -220.00 after 2024-01-08 \(bar 2 of 3\); A lost most that day: -1,320.00 with -220 "
        r"shares held into it; lower the leverage"
    )
    for name in ("reference", "backtrader"):
        with pytest.raises(ValueError, match=told):
            ENGINES[name].run(
                decisions({0: {"A": -2.0, "B": 0.5}}), bars, FREE, Execution(initial_cash=1100.0), periods_per_year=250
            )


def test_weights_of_a_symbol_of_which_the_bars_hold_nothing_are_refused_by_its_name() -> None:
    with pytest.raises(ValueError, match="The bars hold nothing of ZZZ: load them, or leave them out of the weights"):
        build_trading_panel(decisions({0: {"A": 0.5, "ZZZ": 0.5}}), flat("A", 10.0, 3))


def test_round_trips_match_hand_ledger_and_add_up_to_the_account() -> None:
    bars = pl.concat(
        [
            symbol_bars("A", open=[10, 11, 12, 13], close=[10, 12, 11, 13]),
            symbol_bars("B", open=[20, 20, 21, 19], close=[20, 22, 20, 18]),
        ]
    )
    weights = decisions({0: {"A": 0.5, "B": 0.5}, 2: {"B": -0.5}})
    result = ENGINES["reference"].run(
        weights, bars, Costs(fee_bps=10, slippage_bps=20), Execution(initial_cash=1000.0), periods_per_year=250
    )
    trips = result.round_trips
    # The fill of B on the last day closes 25 and opens a short of 24.92125.
    assert trips["symbol"].to_list() == ["A", "B", "B"]
    assert trips["shares"].to_list() == pytest.approx([50.0, 25.0, -24.92125])
    assert trips["entry_price"].to_list() == [11.0, 20.0, 19.0]
    assert trips["exit_price"].to_list() == [13.0, 19.0, 18.0]
    assert trips["exit_session"].to_list() == [*([sessions(4)[3]] * 2), None]
    assert trips["pnl"].to_list() == pytest.approx([96.4, -27.925, 23.50073875])
    assert trips["return"].to_list() == pytest.approx([96.4 / 550, -27.925 / 500, 23.50073875 / 473.50375])
    assert trips["holding_bars"].to_list() == [2, 2, 0]
    assert trips["pnl"].sum() == pytest.approx(result.account.equity[-1] - 1000.0)


@pytest.mark.parametrize("seed", range(4))
def test_round_trips_of_a_random_account_add_up_with_dividends_and_borrow(seed: int) -> None:
    weights, bars = random_market(seed=seed, missing=0.1)
    costs = Costs(fee_bps=4, borrow_bps_per_year=900)
    result = ENGINES["reference"].run(weights, bars, costs, Execution(), periods_per_year=250)
    trips = result.round_trips
    assert trips["pnl"].sum() == pytest.approx(result.account.equity[-1] - 1e6, rel=1e-9)
    assert trips["dividends"].sum() == pytest.approx(result.account.dividends.sum())
    assert trips["costs"].sum() == pytest.approx(sum(each.sum() for each in result.account.costs.values()))
    assert trips.height > 10 and trips["exit_session"].null_count() <= 4
