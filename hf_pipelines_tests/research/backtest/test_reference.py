from datetime import date

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.backtest import (
    BacktestResult,
    Fill,
    build_trading_panel,
    run_backtest,
    simulate,
)
from hf_pipelines.research.costs import Costs
from hf_pipelines_tests.research.backtest.small_market import (
    close_time,
    decisions,
    random_market,
    sessions,
    symbol_bars,
)

FREE = Costs()


def run(
    weights: pl.DataFrame,
    bars: pl.DataFrame,
    costs: Costs = FREE,
    *,
    fill: Fill = "next_open",
    cash: float = 1000.0,
) -> BacktestResult:
    return run_backtest(weights, bars, costs, periods_per_year=250, initial_cash=cash, fill=fill)


@pytest.fixture
def two_symbols() -> pl.DataFrame:
    return pl.concat(
        [
            symbol_bars("A", open=[10, 11, 12, 13], close=[10, 12, 11, 13]),
            symbol_bars("B", open=[20, 20, 21, 19], close=[20, 22, 20, 18]),
        ]
    )


def test_run_backtest_two_symbols_with_costs_matches_hand_ledger(two_symbols: pl.DataFrame) -> None:
    weights = decisions({0: {"A": 0.5, "B": 0.5}, 2: {"B": -0.5}})

    result = run(weights, two_symbols, Costs(fee_bps=10, slippage_bps=20))

    # Day 1: 50 A at 11 and 25 B at 20 cost 1,050 and 3.15. Day 3: 50 A at 13 and 49.92125 B at 19 bring
    # 1,598.50375 less 4.79551125; the short is -0.5 * 996.85 / 20 shares, worth 18 each.
    expected = {
        "equity": [1000.0, 1096.85, 996.85, 1091.97573875],
        "cash": [1000.0, -53.15, -53.15, 1540.55823875],
        "fees": [0.0, 1.05, 0.0, 1.59850375],
        "slippage": [0.0, 2.10, 0.0, 3.1970075],
        "turnover": [0.0, 1.05, 0.0, 1598.50375 / 996.85],
        "gross_exposure": [0.0, 1150 / 1096.85, 1050 / 996.85, 448.5825 / 1091.97573875],
        "net_exposure": [0.0, 1150 / 1096.85, 1050 / 996.85, -448.5825 / 1091.97573875],
    }
    for column, values in expected.items():
        assert result.equity[column].to_list() == pytest.approx(values, rel=1e-12), column
    days = sessions(4)
    assert result.trades.select("symbol", "session", "decision_session").rows() == [
        ("A", days[1], days[0]),
        ("B", days[1], days[0]),
        ("A", days[3], days[2]),
        ("B", days[3], days[2]),
    ]
    assert result.trades["shares"].to_list() == pytest.approx([50.0, 25.0, -50.0, -49.92125])
    assert result.trades["price"].to_list() == [11.0, 20.0, 13.0, 19.0]


def test_run_backtest_next_close_fills_at_close_of_next_bar(two_symbols: pl.DataFrame) -> None:
    result = run(decisions({0: {"A": 0.5, "B": -0.25}}), two_symbols, fill="next_close")

    # 50 A at 12 and -12.5 B at 22, decided at 10 and 20.
    assert result.trades["price"].to_list() == [12.0, 22.0]
    assert result.equity["cash"].to_list() == [1000.0, 675.0, 675.0, 675.0]
    assert result.equity["equity"].to_list() == pytest.approx([1000.0, 1000.0, 975.0, 1100.0])


def test_run_backtest_without_decision_holds_shares_and_zero_weights_go_flat(
    two_symbols: pl.DataFrame,
) -> None:
    result = run(decisions({0: {"A": 1.0}, 2: {"A": 0.0, "B": 0.0}}), two_symbols)

    assert result.trades["shares"].to_list() == [100.0, -100.0]
    # Bought at 11, sold at 13.
    assert result.equity["equity"].to_list() == pytest.approx([1000.0, 1100.0, 1000.0, 1200.0])
    assert result.equity["gross_exposure"][-1] == 0.0


def test_run_backtest_split_on_fill_day_multiplies_order() -> None:
    bars = symbol_bars("A", open=[100, 51, 52], close=[100, 50, 53], split_ratio={1: 2.0})

    result = run(decisions({0: {"A": 1.0}}), bars)

    # Ten shares of 100 were ordered: twenty of the new ones are bought.
    assert result.trades.select("shares", "price").rows() == [(20.0, 51.0)]
    assert result.equity["equity"].to_list() == pytest.approx([1000.0, 980.0, 1040.0])


@pytest.mark.parametrize("weight", [1.0, -0.5], ids=["long", "short"])
def test_run_backtest_split_of_held_position_changes_no_equity(weight: float) -> None:
    whole = symbol_bars("A", open=[100, 100, 104, 110], close=[100, 102, 106, 108])
    split = symbol_bars("A", open=[100, 100, 26, 27.5], close=[100, 102, 26.5, 27], split_ratio={2: 4.0})
    targets = decisions({0: {"A": weight}, 2: {"A": weight / 2}})

    assert run(targets, split).equity.equals(run(targets, whole).equity)


def test_run_backtest_dividend_goes_to_overnight_holder_and_is_paid_by_short() -> None:
    bars = pl.concat(
        [
            symbol_bars("HELD", open=[10, 10, 10], close=[10, 10, 10], dividend={2: 1.0}),
            symbol_bars("LATE", open=[10, 10, 10], close=[10, 10, 10], dividend={2: 1.0}),
            symbol_bars("SHORT", open=[10, 10, 10], close=[10, 10, 10], dividend={2: 2.0}),
        ]
    )
    weights = decisions({0: {"HELD": 0.5, "SHORT": -0.1}, 1: {"HELD": 0.5, "LATE": 0.3, "SHORT": -0.1}})

    result = run(weights, bars)

    # 50 HELD receive 50; 30 LATE, bought at the open of the ex-date, nothing; 10 SHORT pay 20.
    assert result.equity["dividends"].to_list() == [0.0, 0.0, 30.0]
    assert result.equity["equity"].to_list() == [1000.0, 1000.0, 1030.0]


def test_run_backtest_dividend_on_split_day_is_per_new_share() -> None:
    bars = symbol_bars("A", open=[100, 100, 49], close=[100, 100, 49], split_ratio={2: 2.0}, dividend={2: 1.0})

    result = run(decisions({0: {"A": 1.0}}), bars)

    # Ten shares become twenty, each paying 1.0: 20 * (49 + 1) is what ten at 100 were worth.
    assert result.equity["equity"].to_list() == [1000.0, 1000.0, 1000.0]


def test_run_backtest_short_pays_borrow_on_calendar_days() -> None:
    # Bought on Friday's open, held over the weekend: three days to Monday, one to Tuesday.
    bars = symbol_bars("A", open=[10, 10, 11, 12], close=[10, 10, 11, 12])

    result = run(decisions({0: {"A": -1.0}}), bars, Costs(borrow_bps_per_year=365))

    # 1 bp a day on 100 shares at the last close.
    assert result.equity["borrow"].to_list() == pytest.approx([0.0, 0.0, 0.3, 0.11])
    assert result.equity["equity"].to_list() == pytest.approx([1000.0, 1000.0, 899.7, 799.59])


def test_run_backtest_gap_between_decision_and_fill_overdraws_cash() -> None:
    bars = symbol_bars("A", open=[10, 15, 15], close=[10, 15, 18])

    result = run(decisions({0: {"A": 1.0}}), bars)

    # 100 shares were decided at 10 and cost 15 each: the account owes 500, no share is left out.
    assert result.equity["cash"].to_list() == [1000.0, -500.0, -500.0]
    assert result.equity["equity"].to_list() == [1000.0, 1000.0, 1300.0]
    assert result.metrics["min_cash"] == -0.5


def test_run_backtest_missing_bar_drops_order_and_keeps_position() -> None:
    bars = pl.concat(
        [
            symbol_bars("A", open=[10, 10, None, 14, 14], close=[10, 12, None, 14, 15]),
            symbol_bars("B", open=[20, 20, 20, 20, 20], close=[20, 20, 20, 20, 20]),
        ]
    )
    weights = decisions({0: {"A": 0.5}, 1: {"B": 0.5}, 3: {"B": 0.5}})

    result = run(weights, bars)

    # A cannot be sold on day 2: it stays, worth its last close, until the decision of day 3 sells it at 14.
    assert result.metrics["unfilled_orders"] == 1
    assert result.equity["equity"].to_list() == pytest.approx([1000.0, 1100.0, 1100.0, 1200.0, 1200.0])
    sold = result.trades.filter(symbol="A", session=sessions(5)[4])
    assert sold.select("shares", "price").rows() == [(-50.0, 14.0)]


def test_run_backtest_constant_full_weight_without_costs_trades_once() -> None:
    close = (30.0 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.02, 100)))).tolist()
    bars = symbol_bars("A", open=[close[0], *close[:-1]], close=close)

    result = run(decisions({i: {"A": 1.0} for i in range(100)}), bars, cash=1234.56)

    # weight * equity / close is off by rounding each day, which is no order.
    assert result.trades.height == 1


def test_run_backtest_of_less_than_a_unit_of_money_earns_the_same_share(two_symbols: pl.DataFrame) -> None:
    weights, costs = decisions({0: {"A": 0.5}}), Costs(fee_bps=10)
    small, large = (run(weights, two_symbols, costs, cash=cash) for cash in (0.5, 1000.0))
    assert small.equity["equity"].to_numpy() * 2000.0 == pytest.approx(large.equity["equity"].to_numpy())


def test_run_backtest_ruined_account_raises() -> None:
    bars = symbol_bars("A", open=[10, 10, 10], close=[10, 10, 25])

    with pytest.raises(ValueError, match="`equity` must stay above zero, was -500.00 after 2024-01-08"):
        run(decisions({0: {"A": -1.0}}), bars)


def test_run_backtest_clairvoyant_weight_does_not_earn_the_move_it_knows() -> None:
    # All moves are overnight and alternate. Filled on its own bar, the weight would win every night; filled
    # one bar later, it stands on the wrong side of the next move each time.
    close = [100.0 if i % 2 else 102.0 for i in range(20)]
    bars = symbol_bars("A", open=close, close=close)
    knows = {i: {"A": 0.5 if close[i + 1] > close[i] else -0.5} for i in range(19)}

    change = run(decisions(knows), bars).equity["equity"].diff().to_list()

    assert change[1] == 0.0
    assert all(step < 0.0 for step in change[2:])


@pytest.mark.parametrize("fill", ["next_open", "next_close"])
@pytest.mark.parametrize("cut", [1, 17, 40, 59])
def test_run_backtest_cutting_off_the_future_changes_nothing_before(cut: int, fill: Fill) -> None:
    weights, bars = random_market(seed=3, missing=0.1)
    last = sorted(bars["ts"].unique())[cut]
    costs = Costs(fee_bps=2, slippage_bps=5, borrow_bps_per_year=100)

    whole = run(weights, bars, costs, fill=fill)
    past = run(weights.filter(pl.col("ts") <= last), bars.filter(pl.col("ts") <= last), costs, fill=fill)

    assert past.equity.equals(whole.equity.filter(pl.col("ts") <= last))
    assert past.trades.equals(whole.trades.filter(pl.col("ts") <= last))


def test_run_backtest_buy_and_hold_earns_price_change_and_every_dividend() -> None:
    _, bars = random_market(seed=11, n_sessions=200, n_symbols=1)
    bars = bars.with_columns(split_ratio=1.0)

    result = run(decisions({0: {"S0": 1.0}}), bars)

    shares = 1000.0 / bars["close"][0]
    gain = bars["close"][-1] - bars["open"][1] + bars["dividend"][2:].sum()
    assert result.equity["equity"][-1] == pytest.approx(1000.0 + shares * gain, rel=1e-12)


def test_run_backtest_fully_invested_follows_total_return_product() -> None:
    close = [100.0, 101.0, 99.0, 103.0, 102.0, 52.0, 53.0]
    # No gaps, no moves between decision and fill: what is left is the total return of each bar.
    bars = symbol_bars("A", open=close, close=close, split_ratio={5: 2.0}, dividend={3: 2.0, 6: 0.5})

    result = run(decisions({i: {"A": 1.0} for i in range(7)}), bars)

    returns = [bars["split_ratio"][i] * (close[i] + bars["dividend"][i]) / close[i - 1] - 1 for i in range(2, 7)]
    # Cash from a dividend is invested one bar later: it misses one return, a hundredth of a percent here.
    assert result.metrics["total_return"] == pytest.approx(np.prod(1 + np.array(returns)) - 1, abs=5e-4)


def test_run_backtest_real_apple_split_makes_no_jump() -> None:
    stocks = pytest.importorskip("bokeh_sampledata.stocks")
    raw = pl.DataFrame({name: list(stocks.AAPL[name]) for name in ("date", "open", "close")})
    bars = raw.select(
        pl.lit("AAPL").alias("symbol"),
        pl.col("date").cast(pl.String).str.slice(0, 10).str.to_date().alias("session"),
        pl.col("open", "close").cast(pl.Float64),
        pl.lit(0.0).alias("dividend"),
    ).filter(pl.col("session").is_between(date(2005, 1, 3), date(2005, 4, 1)))
    split_day = date(2005, 2, 28)
    bars = bars.with_columns(
        pl.col("session").map_elements(close_time, return_dtype=pl.Datetime("us", "UTC")).alias("ts"),
        pl.when(pl.col("session") == split_day).then(2.0).otherwise(1.0).alias("split_ratio"),
    )
    weights = bars.head(1).select("symbol", "session", "ts", weight=pl.lit(1.0))

    equity = run(weights, bars).equity.with_columns(pl.col("equity").pct_change().alias("return"))

    on_split_day = equity.filter(session=split_day)["return"].item()
    assert on_split_day == pytest.approx(2 * 44.86 / 88.99 - 1, abs=1e-3)
    assert np.nanmax(np.abs(equity["return"].to_numpy())) < 0.12


@pytest.mark.parametrize(("weight", "traded"), [(1e-12, 0.0), (2e-12, 2e-12)], ids=["at the rounding", "above"])
def test_simulate_order_no_larger_than_the_rounding_is_not_filled(weight: float, traded: float) -> None:
    ones = np.ones((2, 1))
    prices = {"open": ones, "close": ones, "split_ratio": ones, "dividend": 0.0 * ones}
    account = simulate(weights=weight * ones, **prices, costs=FREE, initial_cash=1.0)
    assert account.positions.tolist() == [[0.0], [traded]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"initial_cash": 0.0}, "`initial_cash` must be finite and above zero, was 0.0"),
        ({"fill": "same_close"}, "`fill` must be one of .* was 'same_close'"),
        ({"open": np.ones((2, 2))}, r"`open` must have the shape of `weights` \(3, 1\), was \(2, 2\)"),
        ({"costs": Costs(borrow_bps_per_year=5)}, "`elapsed_days` must be given"),
        (
            {"close": np.array([[np.nan], [1.0], [1.0]])},
            "`weights` must be finite, and zero where .* 1 orders",
        ),
        ({"weights": np.array([[np.nan], [0.0], [0.0]])}, "`weights` must be finite, and zero where"),
    ],
    ids=["cash", "fill", "shape", "borrow_days", "weight_without_close", "weight_nan"],
)
def test_simulate_with_bad_argument_raises(change: dict[str, object], message: str) -> None:
    ones = np.ones((3, 1))
    arguments: dict[str, object] = {
        "weights": ones,
        "open": ones,
        "close": ones,
        "split_ratio": ones,
        "dividend": 0 * ones,
        "costs": FREE,
    }
    with pytest.raises(ValueError, match=message):
        simulate(**{**arguments, **change})  # type: ignore[arg-type]


def test_fills_of_arrays_that_were_changed_since_are_refused() -> None:
    prices = np.array([[10.0], [11.0], [12.0]])
    weights = np.array([[0.5], [0.2], [0.0]])
    account = simulate(weights=weights, open=prices, close=prices, costs=Costs(), initial_cash=1000.0)
    changed = simulate(weights=weights, open=prices, close=prices, costs=Costs(), initial_cash=1000.0)
    assert account.n_fills == 2 and account.fills.shares.tolist() == pytest.approx([50.0, 0.2 * 1000.0 / 11.0 - 50.0])
    weights[0] = 0.4
    # Those that were read are kept.
    assert account.positions[1].tolist() == [50.0]
    with pytest.raises(ValueError, match="must stay as they were until the fills of the account are read"):
        changed.fills  # noqa: B018  # made when it is first asked for
    with pytest.raises(ValueError, match="must stay as they were"):
        changed.positions  # noqa: B018


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_events_that_are_none_change_no_bit(missing: float) -> None:
    weights, bars = random_market(seed=1, missing=missing, events=False)
    panel = build_trading_panel(weights, bars)
    found = [
        simulate(
            weights=panel.weights,
            open=panel.open,
            close=panel.close,
            costs=Costs(fee_bps=3),
            is_decision=panel.is_decision,
            **events,
        )
        for events in ({}, {"split_ratio": np.ones(panel.close.shape), "dividend": np.zeros(panel.close.shape)})
    ]
    for name in ("equity", "cash", "net_value", "gross_value", "traded_value", "positions"):
        assert getattr(found[0], name).tobytes() == getattr(found[1], name).tobytes()
    assert (
        found[0].n_fills == found[1].n_fills == len(found[0].fills.bar)
        and found[0].unfilled_orders == found[1].unfilled_orders
    )


def test_an_order_of_rounding_on_a_halt_is_no_order() -> None:
    # All in one symbol, wanted again at the close before a halt: what is held but for the last digits.
    counted = []
    for price in np.linspace(2.7, 3.7, 40):
        close = np.array([[price], [price * 1.1], [np.nan], [price * 1.3]])
        # Filled at the close that sized it: no cash is left.
        opened = np.array([[price], [price], [np.nan], [price]])
        account = simulate(
            weights=np.ones((4, 1)),
            open=opened,
            close=close,
            costs=FREE,
            is_decision=np.array([True, True, False, False]),
            initial_cash=1000.0,
        )
        held = account.positions[1, 0]
        counted.append((account.equity[1] / close[1, 0] != held, account.unfilled_orders, account.n_fills))
    assert any(differs for differs, _, _ in counted)
    assert {(unfilled, fills) for _, unfilled, fills in counted} == {(0, 1)}
