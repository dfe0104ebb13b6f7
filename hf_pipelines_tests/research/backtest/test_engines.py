"""One contract over every registered engine."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hf_pipelines.research.backtest import (
    CAPABILITIES,
    ENGINES,
    BacktestResult,
    Execution,
    asked_of_engine,
    build_result,
    require_capable,
)
from hf_pipelines.research.costs import Costs
from hf_pipelines_tests.research.backtest.small_market import decisions, random_market, symbol_bars

# vectorbt takes seconds to import: once, on one worker.
OF_ENGINE = {"vectorbt": [pytest.mark.xdist_group("vectorbt")]}
each_engine = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=OF_ENGINE.get(name, [])) for name in sorted(ENGINES)]
)

# Engines of others keep shares in units of the last split, which the future changes: by rounding.
ROUNDING = {"vectorbt": 1e-12, "backtrader": 1e-12, "reference": 0.0}


@pytest.fixture(autouse=True)
def _installed(request: pytest.FixtureRequest) -> None:
    if name := getattr(request.node, "callspec", None) and request.node.callspec.params.get("name"):
        for module in ENGINES[name].needs:
            pytest.importorskip(module)


@each_engine
def test_engine_is_registered_under_its_name(name: str) -> None:
    assert ENGINES[name].name == name
    assert ENGINES[name].summary and ENGINES[name].capabilities <= set(CAPABILITIES)
    # Bars are raw: without these an account on them is wrong.
    assert {"splits", "dividends", "missing_bars"} <= ENGINES[name].capabilities


@each_engine
def test_engine_sizes_at_the_close_and_fills_at_the_next_open(name: str) -> None:
    bars = symbol_bars("A", open=[10, 11, 13, 12], close=[10, 12, 13, 14], split_ratio={3: 0.5}, dividend={2: 1})

    result = ENGINES[name].run(
        decisions({0: {"A": 0.5}}), bars, Costs(fee_bps=100), Execution(initial_cash=1000.0), periods_per_year=250
    )

    # 50 shares for 550 and 5.50; a dividend of 50; then 25 shares worth 14.
    assert result.equity["equity"].to_list() == pytest.approx([1000.0, 1044.5, 1144.5, 844.5])


@each_engine
def test_engine_cutting_off_the_future_changes_nothing_before(name: str) -> None:
    weights, bars = random_market(seed=8, missing=0.05)
    cut = sorted(bars["ts"].unique())[30]
    costs = Costs(fee_bps=5)

    whole = ENGINES[name].run(weights, bars, costs, Execution(), periods_per_year=250)
    past = ENGINES[name].run(
        weights.filter(pl.col("ts") <= cut), bars.filter(pl.col("ts") <= cut), costs, Execution(), periods_per_year=250
    )

    for table in ("equity", "trades"):
        before = getattr(whole, table).filter(pl.col("ts") <= cut)
        assert_frame_equal(
            getattr(past, table), before, check_exact=not ROUNDING[name], rel_tol=ROUNDING[name], abs_tol=1e-9
        )


@each_engine
def test_engine_fills_only_at_the_open_of_the_bar_after_the_decision(name: str) -> None:
    weights, bars = random_market(seed=4)
    next_session = (
        bars.select("session").unique().sort("session").with_columns(next_session=pl.col("session").shift(-1))
    )

    trades = ENGINES[name].run(weights, bars, Costs(), Execution(), periods_per_year=250).trades

    filled = trades.join(bars, on=["symbol", "session"], suffix="_bar").join(
        next_session, left_on="decision_session", right_on="session"
    )
    assert filled.height == trades.height > 100
    assert filled["price"].to_list() == pytest.approx(filled["open"].to_list(), rel=ROUNDING[name])
    assert filled["session"].equals(filled["next_session"])
    assert trades["decision_session"].is_in(weights["session"].unique().implode()).all()


@each_engine
@pytest.mark.parametrize("seed", range(3))
def test_engine_keeps_an_account_that_adds_up_fill_by_fill(name: str, seed: int) -> None:
    weights, bars = random_market(seed=seed, missing=0.05)
    charged = Costs(fee_bps=7, slippage_bps=3, borrow_bps_per_year=400)
    result = ENGINES[name].run(weights, bars, charged, Execution(), periods_per_year=250)
    account, panel, fills = result.account, result.panel, result.account.fills

    # Cash and shares, kept by hand from the fills alone.
    cash, held, last = np.empty(len(panel.ts)), np.zeros_like(panel.close), np.zeros(len(panel.symbols))
    shares, money, before = np.zeros(len(panel.symbols)), 1_000_000.0, np.zeros(len(panel.symbols))
    short = 0.0
    for bar in range(len(panel.ts)):
        money -= panel.elapsed_days[bar] * charged.borrow_rate_per_day * short
        shares = before * panel.split_ratio[bar]
        money += shares @ panel.dividend[bar]
        for fill in np.flatnonzero(fills.bar == bar):
            shares[fills.symbol[fill]] += fills.shares[fill]
            money -= fills.shares[fill] * fills.price[fill] + sum(paid[fill] for paid in fills.costs.values())
        last = np.where(np.isnan(panel.close[bar]), last, panel.close[bar])
        short = -np.minimum(shares * last, 0.0).sum()
        cash[bar], held[bar], before = money, shares, shares
    np.testing.assert_allclose(account.positions, held, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(account.cash, cash, rtol=1e-9)
    np.testing.assert_allclose(account.equity, account.cash + account.net_value, rtol=1e-12)
    assert (fills.decision_bar < fills.bar).all() and panel.is_decision[fills.decision_bar].all()

    # What the frames say is the engine's own.
    assert result.trades["price"].to_list() == fills.price.tolist()
    notional = np.zeros(len(panel.ts))
    np.add.at(notional, fills.bar, np.abs(fills.shares * fills.price))
    np.testing.assert_allclose(account.traded_value, notional, rtol=1e-9, atol=1e-9)
    for of_bar, of_fill in (("fees", "fee"), ("slippage", "slippage")):
        assert result.trades[of_fill].sum() == pytest.approx(account.costs[of_bar].sum())
    assert result.metrics["costs_total"] == pytest.approx(sum(paid.sum() for paid in account.costs.values()) / 1e6)


def fill_at_the_touch(*args, **options) -> BacktestResult:  # type: ignore[no-untyped-def]
    """An engine whose fills are no price of the bars, and which charges a tax."""
    result = ENGINES["reference"].run(*args, **options)
    fills = result.account.fills
    own = replace(fills, price=fills.price * 1.001, costs={**fills.costs, "tax": np.abs(fills.shares) * 0.5})
    tax = np.zeros(len(result.panel.ts))
    np.add.at(tax, fills.bar, own.costs["tax"])
    account = replace(
        result.account, costs={**result.account.costs, "taxes": tax}, make_fills=lambda: own, unfilled_orders=3
    )
    return build_result(account, result.panel, periods_per_year=options["periods_per_year"])


def test_result_of_an_engine_holds_its_own_fills_and_kinds_of_costs() -> None:
    weights, bars = random_market(seed=1)
    plain = ENGINES["reference"].run(weights, bars, Costs(fee_bps=1), Execution(), periods_per_year=250)
    own = fill_at_the_touch(weights, bars, Costs(fee_bps=1), Execution(), periods_per_year=250)
    assert own.trades["price"].to_list() == (plain.trades["price"] * 1.001).to_list()
    assert own.trades.columns == [*plain.trades.columns, "tax"] and own.equity.columns == [
        *plain.equity.columns,
        "taxes",
    ]
    assert own.equity["taxes"].sum() == pytest.approx(0.5 * plain.trades["shares"].abs().sum())
    assert own.metrics["taxes_total"] > 0 and own.metrics["unfilled_orders"] == 3
    assert own.metrics["costs_total"] == pytest.approx(plain.metrics["costs_total"] + own.metrics["taxes_total"])


def test_require_capable_names_what_lacks_what_asks_for_it_and_who_can(monkeypatch: pytest.MonkeyPatch) -> None:
    modest = frozenset(CAPABILITIES) - {"shorts", "borrow_fee", "next_close"}
    monkeypatch.setitem(ENGINES, "modest", replace(ENGINES["reference"], name="modest", capabilities=modest))
    require_capable("modest", asked_of_engine(Costs(fee_bps=1), Execution(), shorts=False, max_gross=2.0))
    asked = asked_of_engine(Costs(borrow_bps_per_year=1), Execution(fill="next_close"), shorts=True, max_gross=1.0)
    told = (
        r"`backtest.engine` must simulate borrow_fee \(borrow_bps_per_year\), next_close \(fill\), shorts \(the signal rule\), "
        "was modest, which does not; take reference or vectorbt or backtrader, or do not ask for it"
    )
    with pytest.raises(ValueError, match=told):
        require_capable("modest", asked)
    require_capable("reference", asked)
