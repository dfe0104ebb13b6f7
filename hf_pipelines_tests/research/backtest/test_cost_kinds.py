"""Kinds of costs: each by hand, and all of them against what the same trades would have left without them."""

import math
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.backtest import (
    CAPABILITIES,
    ENGINES,
    BacktestResult,
    Execution,
    asked_of_engine,
    require_capable,
    simulate,
)
from hf_pipelines.research.backtest.account_baselines import account_baselines
from hf_pipelines.research.backtest.panel import build_trading_panel, last_known
from hf_pipelines.research.backtest.reference import simulate_panel
from hf_pipelines.research.cost_kinds import COST_KINDS, OF_CASH, trailing_liquidity
from hf_pipelines.research.costs import Costs
from hf_pipelines_tests.research.backtest.scenarios import scenario
from hf_pipelines_tests.research.backtest.small_market import close_time, decisions, random_market, symbol_bars

# Numbers at which every kind charges something.
DEAR = {
    "commission": {"bps": 3.0, "per_share": 0.01, "minimum": 5.0},
    "spread": {"half_bps": 4.0},
    "impact": {"coefficient": 1.0},
    "sales_tax": {"bps": 50.0},
    "cash_interest": {"bps_per_year": 300.0},
    "margin_interest": {"bps_per_year": 700.0},
}
ALL = [{"type": name, "params": params} for name, params in DEAR.items()]


def run(
    weights: pl.DataFrame, bars: pl.DataFrame, *kinds: object, cash: float = 1000.0, **limits: object
) -> BacktestResult:
    execution = Execution(initial_cash=cash, **limits)  # type: ignore[arg-type]
    return ENGINES["reference"].run(weights, bars, Costs(kinds=kinds), execution, periods_per_year=250)


def left_without_costs(result: BacktestResult) -> np.ndarray:
    """Equity that the same fills would have left, booked anew: cash by fill, dividends by holding, shares at the last close."""
    panel, held = result.panel, result.account.positions
    before = np.vstack([np.zeros((1, held.shape[1])), held[:-1]]) * panel.split_ratio
    spent = np.zeros(len(held))
    for row in result.trades.with_row_index().iter_rows(named=True):
        fills = result.account.fills
        spent[fills.bar[row["index"]]] += row["shares"] * row["price"]
    dividends = (before * panel.dividend * ~np.isnan(panel.close)).sum(axis=1)
    worth = (held * np.nan_to_num(last_known(panel.close))).sum(axis=1)
    return np.asarray(result.equity["equity"][0] + np.cumsum(dividends - spent) + worth)


def test_every_kind_has_numbers_in_these_tests_and_is_a_capability() -> None:
    assert list(DEAR) == list(COST_KINDS)
    assert set(COST_KINDS) <= set(CAPABILITIES) and set(COST_KINDS) <= ENGINES["reference"].capabilities
    for name in ("vectorbt", "backtrader"):
        assert not set(COST_KINDS) & ENGINES[name].capabilities


@pytest.mark.parametrize("number", range(0, 60, 3))
def test_kinds_add_up_to_what_the_same_trades_would_have_left_without_them(number: int) -> None:
    given = scenario(number)
    execution = Execution(**{**vars(given.execution), "cash_limit": number % 2 == 0})
    costs = Costs(fee_bps=2.0, slippage_bps=1.0, borrow_bps_per_year=500.0, kinds=ALL)
    try:
        result = ENGINES["reference"].run(given.weights, given.bars, costs, execution, periods_per_year=250)
    except ValueError as e:
        # A symbol of the market that never trades, or an account that its costs ruin.
        assert "lot_size" in str(e) or "`equity`" in str(e)
        return
    account = result.account
    paid = sum(account.costs.values())
    net = result.equity["equity"].to_numpy()
    np.testing.assert_allclose(left_without_costs(result) - net, np.cumsum(paid), atol=1e-9 * net.max())
    # And each kind of fills by bar is the sum of what it charged each fill.
    for name in set(COST_KINDS) - OF_CASH:
        by_bar = np.bincount(account.fills.bar, account.fills.costs[name], minlength=len(net))
        np.testing.assert_allclose(by_bar, account.costs[name], rtol=1e-12)
        assert (account.costs[name] >= 0.0).all()
    assert (account.costs["cash_interest"] <= 0.0).all() and (account.costs["margin_interest"] >= 0.0).all()
    # Columns of tables are the same numbers.
    for name in COST_KINDS:
        assert result.equity[name].to_list() == account.costs[name].tolist()
        assert result.metrics[f"{name}_total"] == pytest.approx(account.costs[name].sum() / net[0])
    trips = result.round_trips
    interest = sum(account.costs[name].sum() for name in OF_CASH)
    assert trips["pnl"].sum() - interest == pytest.approx(net[-1] - net[0], abs=1e-6 * net[0])


def test_with_one_decision_the_account_without_costs_differs_by_exactly_what_was_paid() -> None:
    # Shares are fixed by the first decision alone: with and without costs they are the same.
    _, bars = random_market(seed=3)
    weights = bars.filter(pl.col("ts") == bars["ts"].min()).select("symbol", "session", "ts", weight=pl.lit(-0.2))
    dear, free = run(weights, bars, *ALL, cash=1e6), run(weights, bars, cash=1e6)
    paid = sum(dear.account.costs.values())
    np.testing.assert_allclose(free.account.equity - dear.account.equity, np.cumsum(paid), rtol=0, atol=1e-6)
    assert np.count_nonzero(paid) > 30


@pytest.mark.parametrize("name", COST_KINDS)
def test_kind_at_nothing_leaves_the_same_bits_as_no_kind(name: str) -> None:
    weights, bars = random_market(seed=5, missing=0.1)
    nothing = {each: 0.0 for each in ("half_bps", "bps", "coefficient", "unknown_bps", "bps_per_year")}
    params = {each: 0.0 for each in nothing if each in COST_KINDS[name].params}
    limits = {"cash_limit": False, "participation": 1.0}
    found = run(weights, bars, {"type": name, "params": params}, cash=1e6, **limits)
    plain = run(weights, bars, cash=1e6, **limits)
    assert found.account.equity.tobytes() == plain.account.equity.tobytes()


def test_commission_is_by_notional_and_share_and_at_least_the_minimum_a_fill() -> None:
    bars = symbol_bars("A", open=[10, 10, 10, 10], close=[10, 10, 10, 10])
    kind = {"type": "commission", "params": {"bps": 10.0, "per_share": 0.02, "minimum": 1.0}}
    result = run(decisions({0: {"A": 0.5}, 1: {"A": 0.52}}), bars, kind)
    # 50 shares: 0.5 + 1.0. Then 0.52 * 998.5 / 10 are 51.922: 1.922 more would pay 0.058.
    assert result.account.costs["commission"].tolist() == pytest.approx([0.0, 1.5, 1.0, 0.0])
    assert result.trades["commission"].to_list() == pytest.approx([1.5, 1.0])
    assert result.equity["equity"].to_list() == pytest.approx([1000.0, 998.5, 997.5, 997.5])


def test_commission_of_an_order_that_waits_is_at_least_the_minimum_on_each_bar() -> None:
    bars = symbol_bars("A", open=[10] * 4, close=[10] * 4, volume=300)
    kind = {"type": "commission", "params": {"minimum": 2.0}}
    result = run(decisions({0: {"A": 0.9}}), bars, kind, participation=0.1)
    assert result.trades["shares"].to_list() == pytest.approx([30.0, 30.0, 30.0])
    assert result.account.costs["commission"].tolist() == [0.0, 2.0, 2.0, 2.0]


def test_sales_tax_is_on_sells_and_short_sales_alone() -> None:
    bars = symbol_bars("A", open=[10, 10, 10, 10], close=[10, 10, 10, 10])
    result = run(
        decisions({0: {"A": 0.5}, 1: {"A": -0.1}, 2: {"A": 0.0}}), bars, {"type": "sales_tax", "params": {"bps": 50.0}}
    )
    # 50 bought free; 60 sold for 600 pay 3; 10 covered free.
    assert result.account.costs["sales_tax"].tolist() == pytest.approx([0.0, 0.0, 3.0, 0.0])


def test_spread_is_half_of_the_last_one_known_before_the_bar_of_the_fill() -> None:
    bars = symbol_bars("A", open=[10] * 5, close=[10] * 5)
    bars = bars.with_columns(spread=pl.Series([math.nan, 0.004, math.nan, 0.9, 0.9]))
    kind = {"type": "spread", "params": {"half_bps": 7.0, "column": "spread"}}
    each_day = decisions({0: {"A": 0.5}, 1: {"A": 0.0}, 2: {"A": 0.5}, 3: {"A": 0.5}})
    result = run(each_day, bars, kind)
    # Nothing known: 7 bps of 500. Then half of 0.004 twice, never the 0.9 of the bar itself.
    assert result.trades["spread"].to_list()[:3] == pytest.approx(
        [0.35, 500.0 * 0.002, result.trades["notional"][2] * 0.002]
    )
    constant = run(each_day, bars, {"type": "spread", "params": {"half_bps": 7.0}})
    assert constant.trades["spread"].to_list() == pytest.approx((constant.trades["notional"].abs() * 7e-4).to_list())


def test_spread_of_a_column_that_is_not_there_or_is_negative_is_refused() -> None:
    bars = symbol_bars("A", open=[10] * 3, close=[10] * 3)
    kind = {"type": "spread", "params": {"column": "spread"}}
    with pytest.raises(ValueError, match=r"`bars` must have the columns .*lacked \['spread'\]"):
        run(decisions({0: {"A": 0.5}}), bars, kind)
    with pytest.raises(ValueError, match="`column` of 'spread' must name a column of spreads, was close"):
        run(decisions({0: {"A": 0.5}}), bars, {"type": "spread", "params": {"column": "close"}})
    told = "`spread` must hold spreads as fractions of the price, not negative, NaN where unknown, was -0.1 for A on 2024-01-05"
    with pytest.raises(ValueError, match=told):
        run(decisions({0: {"A": 0.5}}), bars.with_columns(spread=pl.Series([0.1, -0.1, 0.1])), kind)


def test_impact_is_volatility_times_the_root_of_the_share_of_volume_by_hand() -> None:
    close = [100, 102, 101, 103, 102, 104, 105, 104, 106, 107]
    split = {8: 2.0}
    halved = [c / 2 if i >= 8 else c for i, c in enumerate(close)]
    bars = symbol_bars("A", open=halved, close=halved, split_ratio=split).with_columns(
        volume=pl.Series([1e5, 2e5, 1e5, 3e5, 2e5, 1e5, 2e5, 2e5, 4e5, 4e5])
    )
    kind = {"type": "impact", "params": {"coefficient": 2.0, "sessions": 6, "unknown_bps": 30.0}}
    given = {0: {"A": 0.5}, 8: {"A": 0.0}}
    result = run(decisions(given), bars, kind, cash=1e6)
    bought, sold = result.trades.to_dicts()
    assert bought["impact"] == pytest.approx(bought["notional"] * 30e-4)
    # Sessions 3 to 8, shares as they are on session 9: 6e5, 4e5, 2e5, 4e5, 4e5, 4e5.
    returns = np.array([103 / 101, 102 / 103, 104 / 102, 105 / 104, 104 / 105, 106 / 104]) - 1
    expected = 2.0 * returns.std(ddof=1) * math.sqrt(-sold["shares"] / 4e5) * -sold["notional"]
    assert sold["impact"] == pytest.approx(expected, rel=1e-9)


def test_impact_of_a_symbol_without_any_volume_is_refused_and_of_silent_sessions_is_the_unknown_rate() -> None:
    bars = symbol_bars("EURUSD", open=[1.1] * 12, close=[1.1] * 12, volume=0.0)
    told = "`impact` must have the volume of what is traded, no bar of EURUSD .1 symbols. has one; leave `impact` out"
    with pytest.raises(ValueError, match=told):
        run(decisions({0: {"EURUSD": 0.5}}), bars, "impact")
    late = bars.with_columns(volume=pl.Series([0.0] * 11 + [5.0]))
    found = run(decisions({9: {"EURUSD": 0.5}}), late, "impact")
    assert found.trades["impact"].to_list() == pytest.approx([500.0 * 50e-4])
    with pytest.raises(ValueError, match="`volume` must be finite and not negative, was not in 12 rows"):
        run(decisions({0: {"EURUSD": 0.5}}), bars.with_columns(volume=pl.lit(None, pl.Float64)), "impact")


def test_baselines_of_an_account_with_impact_take_an_index_without_volume_and_a_member_that_never_trades() -> None:
    bars = pl.concat(
        [
            symbol_bars("A", open=[10] * 70, close=[10 + i % 3 for i in range(70)], volume=1e4),
            symbol_bars("B", open=[10] * 70, close=[10 + i % 2 for i in range(70)], volume=0.0),
            symbol_bars("INDEX", open=[10] * 70, close=[10] * 70, volume=0.0).with_columns(role=pl.lit("reference")),
        ]
    )
    costs = Costs(kinds=["impact", "sales_tax"])
    weights = decisions({i: {"A": 0.5 * (i % 2), "B": 0.0} for i in range(60)})
    result = ENGINES["reference"].run(weights, bars, costs, Execution(), periods_per_year=250)
    found = account_baselines(
        result, bars, benchmark="INDEX", costs=costs, execution=Execution(), periods_per_year=250, seed=0
    )
    paid = dict(found.table.select("account", "costs_total").iter_rows())
    assert paid["INDEX, bought and held"] == 0.0 and paid["equal weight"] > 0.0 and result.metrics["impact_total"] > 0.0


@pytest.mark.parametrize("cut", [12, 25])
def test_liquidity_of_a_session_is_what_was_known_before_it(cut: int) -> None:
    weights, bars = random_market(seed=8, missing=0.1, n_sessions=40)
    rng = np.random.default_rng(1)
    bars = bars.with_columns(volume=pl.Series(rng.uniform(1e3, 1e5, bars.height)))
    whole = build_trading_panel(weights, bars, extra=("volume",))
    until = whole.ts[cut]
    part = build_trading_panel(
        weights.filter(pl.col("ts") <= until), bars.filter(pl.col("ts") <= until), extra=("volume",)
    )
    for long, short in zip(trailing_liquidity(whole, 10), trailing_liquidity(part, 10), strict=True):
        # The last share is another one: as it is on the row, the numbers are the same up to rounding.
        np.testing.assert_allclose(long[: cut + 1], short, rtol=1e-9)
    changed = bars.with_columns(volume=pl.when(pl.col("ts") == until).then(7e9).otherwise("volume"))
    other = trailing_liquidity(build_trading_panel(weights, changed, extra=("volume",)), 10)
    np.testing.assert_array_equal(trailing_liquidity(whole, 10)[1][cut], other[1][cut])


def test_interest_is_by_calendar_day_on_cash_beyond_the_shorts_and_on_debt() -> None:
    # Thursday, Friday, Monday, Tuesday.
    bars = symbol_bars("A", open=[10] * 4, close=[10] * 4)
    kinds = [
        {"type": "cash_interest", "params": {"bps_per_year": 365.0}},
        {"type": "margin_interest", "params": {"bps_per_year": 730.0}},
    ]
    short = run(decisions({0: {"A": -0.5}}), bars, *kinds)
    # 1,000 for a day; then 1,500.1 in cash of which the lender keeps 500.
    first = 1000.0 * 1e-4
    weekend = (1000.0 + first) * 1e-4 * 3
    assert short.account.costs["cash_interest"][:3] == pytest.approx([0.0, -first, -weekend])
    assert not short.account.costs["margin_interest"].any()
    levered = run(decisions({0: {"A": 1.5}}), bars, *kinds)
    # 150 shares for 1,500 out of 1,000.1: 499.9 are owed over the weekend, then their interest too.
    assert levered.account.costs["margin_interest"] == pytest.approx(
        [0.0, 0.0, 499.9 * 2e-4 * 3, (499.9 + 499.9 * 6e-4) * 2e-4]
    )
    assert levered.account.costs["cash_interest"].tolist() == pytest.approx([0.0, -0.1, 0.0, 0.0])


def test_interest_of_a_market_that_never_closes_counts_its_saturdays() -> None:
    days = [date(2024, 1, 4) + timedelta(days=i) for i in range(6)]
    bars = pl.DataFrame(
        {
            "symbol": "BTC", "session": days, "ts": [close_time(day) for day in days],
            "open": 10.0, "high": 11.0, "low": 9.0, "close": 10.0, "volume": 1e6, "split_ratio": 1.0, "dividend": 0.0,
            "role": "member",
        },
        schema_overrides={"ts": pl.Datetime("us", "UTC")},
    )  # fmt: skip
    found = run(decisions({0: {"BTC": 0.0}}), bars, {"type": "cash_interest", "params": {"bps_per_year": 365.0}})
    assert found.account.equity == pytest.approx(1000.0 * 1.0001 ** np.arange(6))


def hourly(symbol: str, n_sessions: int, a_session: int = 3) -> pl.DataFrame:
    """Bars at 10, a few an hour apart each session."""
    days = [date(2024, 1, 8) + timedelta(days=i) for i in range(n_sessions)]
    ts = [
        datetime.combine(day, close_time(day).timetz()) - timedelta(hours=h)
        for day in days
        for h in range(a_session)[::-1]
    ]
    frame = pl.DataFrame({"ts": ts}, schema={"ts": pl.Datetime("us", "UTC")})
    return frame.select(
        pl.lit(symbol).alias("symbol"), pl.col("ts").dt.date().alias("session"), "ts",
        *(pl.lit(10.0).alias(name) for name in ("open", "high", "low", "close")),
        volume=pl.lit(1e6), split_ratio=pl.lit(1.0), dividend=pl.lit(0.0), role=pl.lit("member"),
    )  # fmt: skip


def decided(bars: pl.DataFrame, targets: dict[int, float]) -> pl.DataFrame:
    return (
        bars.with_row_index("i")
        .filter(pl.col("i").is_in(list(targets)))
        .select("symbol", "session", "ts", weight=pl.col("i").replace_strict(targets, return_dtype=pl.Float64))
    )


def test_t_plus_one_sells_only_what_was_held_into_the_session() -> None:
    bars = hourly("A", 3)
    # Bought on bar 2, the last of the first session, 30 are sold on bar 3, of the next one. 30 of bar 4 are not sold on bar 5.
    targets = {1: 0.4, 2: 0.1, 3: 0.4, 4: 0.0}
    freely, bound = (run(decided(bars, targets), bars, t_plus_one=each) for each in (False, True))
    assert freely.account.positions[:, 0] == pytest.approx([0, 40, 10, 40, 0, 0, 0, 0])
    assert bound.account.positions[:, 0] == pytest.approx([0, 40, 10, 40, 30, 30, 30, 30])
    assert bound.metrics["unfilled_orders"] == 1.0
    # What waits is sold on the first bar of the next session.
    waits = run(decided(bars, targets), bars, t_plus_one=True, participation=1.0)
    assert waits.account.positions[:, 0] == pytest.approx([0, 40, 10, 40, 30, 0, 0, 0])


def test_t_plus_one_lets_short_sales_be_and_changes_no_daily_account() -> None:
    bars = hourly("A", 1)
    short = run(decided(bars, {0: -0.4}), bars, t_plus_one=True)
    assert short.account.positions[:, 0] == pytest.approx([0, -40, -40])
    weights, daily = random_market(seed=2)
    free, bound = (run(weights, daily, t_plus_one=each, participation=1.0, cash=1e6) for each in (False, True))
    assert free.account.equity.tobytes() == bound.account.equity.tobytes()


def test_cash_limit_leaves_enough_for_every_kind() -> None:
    bars = pl.concat([symbol_bars(name, open=[10] * 4, close=[10] * 4, volume=1e3) for name in "AB"])
    kinds = [each for each in ALL if each["type"] not in OF_CASH]
    result = run(decisions({0: {"A": 0.7, "B": 0.7}}), bars, *kinds, cash_limit=True)
    assert result.account.cash.min() >= 0.0
    assert result.account.cash[1] < 10.0


def test_cash_limit_goes_on_where_a_fee_has_taken_cash_below_zero() -> None:
    bars = pl.concat([symbol_bars(name, open=[10] * 6, close=[10] * 6) for name in "AB"])
    weights = decisions({0: {"A": 0.5, "B": -0.5}, 1: {"A": 1.5, "B": -0.5}})
    costs = Costs(borrow_bps_per_year=36_500.0)
    result = ENGINES["reference"].run(
        weights, bars, costs, Execution(initial_cash=1000.0, cash_limit=True), periods_per_year=250
    )
    # 50 short of 10 pay 1 % a day, three days over the weekend; nothing is left for it once A is bought.
    assert np.diff(result.account.cash[2:]) == pytest.approx([-5.0, -5.0, -5.0])
    assert result.account.cash[2] == pytest.approx(0.0, abs=1e-9)


def test_engine_that_does_not_book_a_kind_is_refused_by_its_name() -> None:
    asked = asked_of_engine(Costs(kinds=["impact"]), Execution(t_plus_one=True), shorts=False, max_gross=1.0)
    for name in ("vectorbt", "backtrader"):
        told = rf"must simulate impact \(costs.impact\), t_plus_one \(t_plus_one\), was {name}, which does not; take reference"
        with pytest.raises(ValueError, match=told):
            require_capable(name, asked)
    require_capable("reference", asked)
    ones = np.ones((3, 1))
    with pytest.raises(ValueError, match="`costs` must be flat for arrays alone, had impact"):
        simulate(weights=ones, open=ones, close=ones, costs=Costs(kinds=["impact"]))


def test_texts_of_costs_and_execution_without_new_fields_are_as_they_were() -> None:
    # They are in code versions and in the ledger of trials.
    assert str(Costs(fee_bps=1.0)) == "Costs(fee_bps=1.0, slippage_bps=0.0, borrow_bps_per_year=0.0)"
    assert str(Execution()) == (
        "Execution(fill='next_open', initial_cash=1000000.0, participation=None, lot_size=None, cash_limit=False, "
        "delisted_after_bars=None, delisting_haircut=0.0)"
    )
    assert "t_plus_one=True" in str(Execution(t_plus_one=True))
    assert str(Costs(kinds=["sales_tax"])).endswith("borrow_bps_per_year=0.0, sales_tax.bps=10.0)")


def test_costs_twice_as_high_cost_twice_as_much_on_the_same_shares() -> None:
    bars = symbol_bars("A", open=[10] * 12, close=[10 + i % 2 for i in range(12)])
    costs = Costs(
        fee_bps=1,
        slippage_bps=2,
        borrow_bps_per_year=300,
        kinds=[each for each in ALL if each["type"] != "cash_interest"],
    )
    panel = build_trading_panel(decisions({8: {"A": -0.5}}), bars, extra=costs.columns)
    once, twice = (simulate_panel(panel, each, Execution()).costs for each in (costs, costs.times(2.0)))
    for kind, paid in once.items():
        np.testing.assert_allclose(twice[kind], 2.0 * paid, rtol=1e-12)


@pytest.mark.parametrize(
    ("kinds", "told"),
    [
        (["tax"], "`costs.0` must be one of commission, spread, impact"),
        (
            [{"type": "impact", "params": {"coefficient": -1}}],
            "`costs.0.params.coefficient` of 'impact' must be from 0 to 100",
        ),
        ([{"type": "impact", "params": {"power": 1}}], "of 'impact' must be among"),
        (["impact", "impact"], "`costs.1` must be of a kind given once, was impact again"),
        ([3], "`costs.0` must be a name, or a mapping"),
        ([{"type": ["impact"]}], "`costs.0` must be one of"),
        ([{"type": "impact", "params": [1]}], "`costs.0.params` must be a mapping"),
    ],
)
def test_kinds_that_are_none_are_refused(kinds: list[object], told: str) -> None:
    with pytest.raises((ValueError, TypeError), match=told):
        Costs(kinds=kinds)
