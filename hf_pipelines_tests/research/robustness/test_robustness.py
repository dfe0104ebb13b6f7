"""Robustness: numbers worked out by hand, regimes that know nothing later, and planted strategies that are each called by name."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from hf_pipelines.research.backtest import Execution, TradingPanel
from hf_pipelines.research.backtest.reference import simulate_panel
from hf_pipelines.research.costs import Costs
from hf_pipelines.research.robustness import TESTS, Tested, robustness_table, signs_of, untested_in_words
from hf_pipelines.research.robustness.slices import above_its_past, trailing_correlation, trailing_volatility

Floats = NDArray[np.float64]
N, SYMBOLS = 750, 30


def panel_of(weights: Floats, opened: Floats, close: Floats, *, first: date = date(2010, 1, 4)) -> TradingPanel:
    n_bars, n_symbols = close.shape
    days = pl.Series([day for at in range(2 * n_bars) if (day := first + timedelta(days=at)).weekday() < 5][:n_bars])
    return TradingPanel(
        symbols=pl.Series([f"S{at:02d}" for at in range(n_symbols)]),
        session=days,
        ts=days.cast(pl.Datetime("us", "UTC")) + timedelta(hours=21),
        is_decision=np.ones(n_bars, np.bool_),
        weights=weights,
        open=opened,
        close=close,
        split_ratio=np.ones(close.shape),
        dividend=np.zeros(close.shape),
    )


def account_of(panel: TradingPanel, *, costs: Costs = Costs(), sectors: dict[str, str] | None = None) -> Tested:  # noqa: B008
    return Tested(panel=panel, costs=costs, execution=Execution(), sessions_per_year=252, sectors=sectors or {})


def walk(rng: np.random.Generator, n: int = N, symbols: int = SYMBOLS, *, gap: float = 0.2) -> tuple[Floats, Floats]:
    """Opens and closes of independent shares; `gap` is the share of a session's variance that happens overnight."""
    moves = rng.normal(0.0, 0.015, (n, symbols))
    overnight = rng.normal(0.0, 0.015 * np.sqrt(gap), (n, symbols))
    close = 50.0 * np.exp(np.cumsum(np.sqrt(1.0 - gap) * moves + overnight, axis=0))
    opened = np.vstack([close[:1], close[:-1]]) * np.exp(overnight)
    return opened, close


def gross_one(raw: Floats) -> Floats:
    total = np.abs(raw).sum(axis=1, keepdims=True)
    return np.divide(raw, total, out=np.zeros_like(raw), where=total > 0.0)


def ahead(close: Floats, bars: int) -> Floats:
    """Log return over some bars from the close after each bar's: what a fill on the next bar may still earn."""
    logs = np.log(close)
    found = np.zeros_like(close)
    found[: -bars - 1] = logs[bars + 1 :] - logs[1:-bars]
    return found


def skilled(rng: np.random.Generator, *, ic: float = 0.12, symbols: int = SYMBOLS, horizon: int = 5) -> TradingPanel:
    """A forecast of the next sessions with noise, held over as many."""
    opened, close = walk(rng, symbols=symbols)
    signal = ahead(close, horizon)
    score = ic * signal / signal.std() + np.sqrt(1.0 - ic**2) * rng.normal(size=close.shape)
    smooth = np.stack(
        [np.convolve(score[:, at], np.ones(horizon) / horizon)[: len(score)] for at in range(symbols)], axis=1
    )
    return panel_of(gross_one(smooth - smooth.mean(axis=1, keepdims=True)), opened, close)


def names_of(panel: TradingPanel, **options: object) -> list[str]:
    tested = account_of(panel, **options)  # type: ignore[arg-type]
    return [each.name for each in signs_of(tested, robustness_table(tested))]


def test_every_number_of_a_short_account_by_hand():
    # One share bought with everything at the open of the second bar and held: 100, 110, 99, 108.9.
    close = np.array([[100.0], [110.0], [99.0], [108.9]])
    opened = np.array([[100.0], [100.0], [110.0], [99.0]])
    tested = account_of(panel_of(np.ones((4, 1)), opened, close, first=date(2020, 12, 30)), costs=Costs(fee_bps=0.0))
    rows = {row["name"]: row for row in robustness_table(tested).iter_rows(named=True)}
    np.testing.assert_allclose(tested.returns, [0.1, -0.1, 0.1], rtol=1e-12)
    whole = rows["as traded"]
    assert whole["n_sessions"] == 3 and whole["sharpe"] is None
    assert whole["total_return"] == pytest.approx(0.089) and whole["max_drawdown"] == pytest.approx(0.1)
    # 30 and 31 December, then 1 January, a Friday, and Monday the 4th: the first return is of the 31st.
    assert rows["2020"]["total_return"] == pytest.approx(0.1) and rows["2021"]["total_return"] == pytest.approx(-0.01)
    # Bought a bar later it misses the first tenth.
    assert rows["1 bar later"]["total_return"] == pytest.approx(0.99 - 1.0)
    # Filled at the close of the decision, at 100, as at that open.
    assert rows["filled at the close of its decision"]["total_return"] == pytest.approx(0.089)
    assert rows["every position 10 % against it"]["total_return"] == pytest.approx(-0.1)
    assert rows["every price 20 % lower"]["total_return"] == pytest.approx(-0.2)
    assert rows["S00"]["total_return"] == pytest.approx(0.089)


# Long 5,000 shares of A at 110, short 10,000 of B at 50, of 1,000,000 less 1,000 of fees and with 50,000 gained: at that close all is sold, or turned.
# A fell 10 % overnight once, B rose 8 %: what is held loses 55,000 and 40,000, and orders are filled at 99 and 54, with 10 bps of that.
@pytest.mark.parametrize(
    ("decided", "notional"),
    [
        ((0.0, 0.0), 5_000 * 99 + 10_000 * 54),
        ((-0.5, 0.5), (5_000 + 524_500 / 110) * 99 + (10_000 + 524_500 / 50) * 54),
    ],
    ids=["all is sold", "all is turned"],
)
def test_gap_is_met_by_what_is_held_and_orders_of_that_close_are_filled_after_it(decided, notional):
    close = np.array([[100.0, 50.0], [100.0, 50.0], [110.0, 50.0], [110.0, 40.0]])
    opened = np.array([[100.0, 50.0], [100.0, 50.0], [90.0, 54.0], [121.0, 50.0]])
    weights = np.array([[0.5, -0.5], [0.0, 0.0], decided, [0.0, 0.0]])
    panel = replace(panel_of(weights, opened, close), is_decision=np.array([True, False, True, False]))
    rows = robustness_table(account_of(panel, costs=Costs(fee_bps=10.0))).filter(pl.col("test") == "shock")
    shocks = dict(rows.select("name", "total_return").iter_rows())
    (gap,) = (value for name, value in shocks.items() if "opens" in name)
    assert gap == pytest.approx(-(55_000 + 40_000 + 0.001 * notional) / 1_049_000, rel=1e-9)
    # A price shock is of what is held alone, whatever was ordered, and worst after the first fills: of 1,000,000 with 999,000 left.
    assert shocks["every position 10 % against it"] == pytest.approx(-100_000 / 999_000, rel=1e-9)


@pytest.mark.parametrize(
    ("opened", "split", "dividend", "loss"),
    [
        pytest.param([100.0, 95.0, 100.0, 98.0], 1.0, 0.0, 0.05, id="moves within a session are none, and least of all is 5 %"),
        pytest.param([100.0, 95.0, 80.0, 98.0], 1.0, 0.0, 0.20, id="widest fall"),
        pytest.param([100.0, 95.0, 120.0, 98.0], 1.0, 0.0, 0.05, id="a rise is none against a long position"),
        pytest.param([100.0, 95.0, 49.0, 49.0], 2.0, 1.0, 0.05 * 98 / 100, id="a split and a dividend are none"),
    ],
)  # fmt: skip
def test_gap_is_of_the_night_and_of_the_share(opened, split, dividend, loss):
    factor = np.array([[1.0], [1.0], [split], [1.0]])
    close = np.array([[70.0], [100.0], [100.0 / split], [100.0 / split]])
    panel = panel_of(np.ones((4, 1)), np.array(opened)[:, None], close)
    days = [date(2020, 1, 6), date(2020, 1, 6), date(2020, 1, 7), date(2020, 1, 7)]
    paid = np.array([[0.0], [0.0], [dividend], [0.0]])
    panel = replace(panel, session=pl.Series(days), split_ratio=factor, dividend=paid)
    costless = account_of(panel, costs=Costs(fee_bps=0.0))
    table = robustness_table(costless).filter(pl.col("name").str.contains("opens"))
    # Sized at 70 and bought at 95 with 1,000,000: it owes a part of what it holds.
    held = costless.account.net_value[1] / costless.account.equity[1]
    assert table["total_return"].item() == pytest.approx(-loss * held, rel=1e-9)


def test_costs_that_double_take_what_an_account_with_such_costs_lacks():
    panel = skilled(np.random.default_rng(0))
    costs = Costs(fee_bps=1.0, slippage_bps=2.0, borrow_bps_per_year=50.0)
    table = robustness_table(account_of(panel, costs=costs))
    for factor in (2.0, 4.0):
        more = Costs(fee_bps=factor, slippage_bps=2.0 * factor, borrow_bps_per_year=50.0 * factor)
        equity = simulate_panel(panel, more, Execution()).equity
        row = table.row(by_predicate=pl.col("name") == f"costs x {factor:g}", named=True)
        assert row["total_return"] == pytest.approx(equity[-1] / equity[0] - 1.0, rel=1e-9)


def test_window_of_a_decline_is_there_when_the_bars_hold_all_of_it_and_loses_what_prices_did():
    rng = np.random.default_rng(1)
    opened, close = walk(rng, n=300, symbols=1)
    panel = panel_of(np.ones((300, 1)), opened, close, first=date(2019, 6, 3))
    row = robustness_table(account_of(panel)).filter(pl.col("test") == "window")
    assert row["name"].to_list() == ["pandemic (2020-02-19 to 2020-03-23)"]
    days = panel.session.to_list()
    first, last = days.index(date(2020, 2, 19)), days.index(date(2020, 3, 23))
    # All equity follows the one share, but for rounding where it is adjusted at the open.
    assert row["total_return"].item() == pytest.approx(close[last, 0] / close[first, 0] - 1.0, rel=1e-6)
    later = panel_of(np.ones((300, 1)), opened, close, first=date(2020, 2, 24))
    assert robustness_table(account_of(later)).filter(pl.col("test") == "window").is_empty()


def test_sectors_and_symbols_alone_hold_nothing_of_others():
    panel = skilled(np.random.default_rng(2), symbols=4)
    sectors = {"S00": "a", "S01": "a", "S02": "b"}
    table = robustness_table(account_of(panel, sectors=sectors))
    assert table.filter(pl.col("test") == "sector")["name"].to_list() == ["a", "b"]
    of_b = table.row(by_predicate=(pl.col("test") == "sector") & (pl.col("name") == "b"), named=True)
    of_symbol = table.row(by_predicate=(pl.col("test") == "symbol") & (pl.col("name") == "S02"), named=True)
    assert of_b["total_return"] == of_symbol["total_return"]
    alone = replace(panel, weights=panel.weights * (np.arange(4) == 2))
    equity = simulate_panel(alone, Costs(), Execution()).equity
    assert of_b["total_return"] == pytest.approx(equity[-1] / equity[0] - 1.0, rel=1e-12)


@pytest.mark.parametrize("at", [100, 200, 299])
def test_regimes_know_nothing_of_a_session_or_later_ones(at):
    rng = np.random.default_rng(3)
    opened, close = walk(rng, n=300, symbols=6)
    other = close.copy()
    # Returns that begin with row `at` are other ones: those of places from `at - 1` on.
    other[at:] = 50.0 * np.exp(np.cumsum(rng.normal(0.0, 0.1, close[at:].shape), axis=0))
    tests = [account_of(panel_of(np.ones(close.shape) / 6, opened, each)) for each in (close, other)]
    volatility = [above_its_past(trailing_volatility(each.market)) for each in tests]
    correlation = [trailing_correlation(each) for each in tests]
    for one, two in (volatility, correlation):
        np.testing.assert_array_equal(one[:at], two[:at])
    assert np.isfinite(correlation[0]).sum() == 299 - 63


def test_correlation_of_symbols_is_the_mean_of_all_pairs():
    rng = np.random.default_rng(4)
    common = rng.normal(0.0, 0.01, (200, 1))
    close = 50.0 * np.exp(np.cumsum(common + rng.normal(0.0, 0.01, (200, 5)), axis=0))
    tested = account_of(panel_of(np.ones(close.shape) / 5, close, close))
    window = tested.growth[1:][100 - 63 : 100]
    pairs = np.corrcoef(window.T)[np.triu_indices(5, 1)]
    assert trailing_correlation(tested)[100] == pytest.approx(pairs.mean(), rel=1e-9)


def test_years_and_regimes_hold_each_session_once():
    tested = account_of(skilled(np.random.default_rng(5)))
    table = robustness_table(tested)
    counts = dict(table.group_by("test").agg(pl.col("n_sessions").sum()).iter_rows())
    assert counts["year"] == counts["as traded"] == N - 1
    # A trend looks back on 63 sessions, a regime of volatility on 21, and on 63 such values before it.
    assert counts["trend"] == N - 1 - 63 and counts["volatility"] == N - 1 - 21 - 63
    assert {*table["test"]} | {"sector", "window"} == {*TESTS}


def on_one_symbol(rng: np.random.Generator) -> TradingPanel:
    panel = skilled(rng, ic=0.0)
    close, opened = np.array(panel.close), np.array(panel.open)
    growth = np.exp(np.cumsum(np.full(N, 0.004)))
    close[:, 7] *= growth
    opened[:, 7] *= growth
    weights = 0.5 * panel.weights
    weights[:, 7] = 0.5
    return replace(panel, weights=weights, open=opened, close=close)


def in_one_week(rng: np.random.Generator) -> TradingPanel:
    panel = skilled(rng, ic=0.0)
    weights = 0.05 * panel.weights
    # Five sessions on which it knows where every share goes.
    weights[400:405] = 4.0 * gross_one(np.sign(np.log(panel.close[401:406] / panel.open[401:406])))
    return replace(panel, weights=weights)


def sells_insurance(rng: np.random.Generator) -> TradingPanel:
    # The second symbol is a short straddle on the first: a little each session, less the square of its move.
    moves = rng.standard_t(6, N) * 0.01
    gain = 0.0042 - 0.0028 * (moves / moves.std()) ** 2
    close = 50.0 * np.exp(np.cumsum(np.stack([moves, gain], axis=1), axis=0))
    opened = np.vstack([close[:1], close[:-1]])
    weights = np.tile([0.0, 1.0], (N, 1))
    return panel_of(weights, opened, close)


def on_the_gap(rng: np.random.Generator) -> TradingPanel:
    # It knows what happens between the close and the next open, when its orders are filled.
    opened, close = walk(rng, gap=0.5)
    overnight = np.zeros_like(close)
    overnight[:-1] = np.log(opened[1:] / close[:-1])
    score = 0.3 * overnight / overnight.std() + rng.normal(size=close.shape)
    return panel_of(gross_one(score), opened, close)


def for_one_bar(rng: np.random.Generator) -> TradingPanel:
    opened, close = walk(rng)
    session = np.zeros_like(close)
    session[:-1] = np.log(close[1:] / opened[1:])
    score = 0.2 * session / session.std() + rng.normal(size=close.shape)
    return panel_of(gross_one(score), opened, close)


PLANTED = {
    "lives on one symbol": on_one_symbol,
    "lives on few sessions": in_one_week,
    "sells volatility": sells_insurance,
    "needs the price of the close": on_the_gap,
    "decays within a bar": for_one_bar,
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", PLANTED)
def test_planted_strategy_is_called_by_its_name(name, seed):
    # A straddle is one symbol: without it nothing is left. What knows five sessions knows nothing a bar later.
    also = {"sells volatility": {"lives on one symbol"}, "lives on few sessions": {"decays within a bar"}}
    others = also.get(name, set())
    found = set(names_of(PLANTED[name](np.random.default_rng([seed, 1]))))
    assert name in found and found - {name} <= others


def test_costs_that_eat_a_strategy_are_said():
    panel = skilled(np.random.default_rng(6))
    assert names_of(panel) == []
    assert names_of(panel, costs=Costs(fee_bps=15.0)) in ([], ["dies of costs"])


def test_sound_strategies_and_noise_have_no_sign():
    sound = [names_of(skilled(np.random.default_rng([seed, 2]))) for seed in range(15)]
    noise = [names_of(skilled(np.random.default_rng([seed, 3]), ic=0.0)) for seed in range(15)]
    assert sum(map(bool, sound)) == 0 and sum(map(bool, noise)) == 0


def test_account_that_is_ruined_and_a_market_of_one_symbol_and_few_sessions_are_stated_not_invented():
    close = np.array([[100.0], [100.0], [300.0], [300.0]])
    table = robustness_table(account_of(panel_of(-np.ones((4, 1)), close, close)))
    whole = table.row(by_predicate=pl.col("name") == "as traded", named=True)
    assert whole["total_return"] == -1.0 and whole["sharpe"] is None
    assert table.filter(pl.col("test").is_in(["correlation", "paths", "window", "shock"])).is_empty()
    assert not table["name"].str.contains("without S").any()


def test_account_of_two_symbols_one_of_which_is_delisted_says_what_it_still_holds():
    opened, close = walk(np.random.default_rng(8), symbols=2)
    opened[400:, 1], close[400:, 1] = np.nan, np.nan
    weights = np.where(np.isnan(close), 0.0, 0.5)
    tested = account_of(panel_of(weights, opened, close))
    table = robustness_table(tested)
    held = tested.account.positions[-1, 1] * close[399, 1] / tested.account.equity[-1]
    (sign,) = (each for each in signs_of(tested, table) if each.name == "holds what trades no more")
    assert f"{held:.1%} of its equity is in S01, without a bar for 5 bars and more" in sign.told
    # No regime of two symbols after it, and a gap of what still opens.
    together = table.filter(pl.col("test") == "correlation")["n_sessions"].sum()
    assert together == 399 - 63 - 63 + 1
    assert table.filter(pl.col("name").str.contains("opens"))["total_return"].is_between(-0.2, -0.02).all()
    # Where it is said what becomes of them nothing is left.
    settled = replace(tested, execution=Execution(delisted_after_bars=3, delisting_haircut=0.5))
    assert "holds what trades no more" not in {each.name for each in signs_of(settled, robustness_table(settled))}
    # A halt of four bars is none.
    halted = account_of(panel_of(weights[:404], opened[:404], close[:404]))
    assert "holds what trades no more" not in {each.name for each in signs_of(halted, robustness_table(halted))}


def test_tests_without_a_row_are_named_with_what_they_need():
    close = 50.0 + np.arange(4.0)[:, None]
    table = robustness_table(account_of(panel_of(np.ones((4, 1)), close, close)))
    assert untested_in_words({*table["test"]}) == (
        "not tested: volatility (needs more than 84 sessions), trend (needs more than 63 sessions), correlation (needs two symbols with a "
        "bar a session, over more than 126 sessions), sector (needs members with a sector), paths (needs sessions enough for blocks), window (needs bars that hold one of the known declines whole)"
    )


@pytest.mark.parametrize(
    ("n", "weight", "is_moving"),
    [(1, 1.0, True), (2, 1.0, True), (200, 0.0, True), (200, 1.0, False)],
    ids=["one bar", "two bars", "nothing held", "prices that stand still"],
)
def test_accounts_of_nothing_have_rows_without_ratios_and_at_most_the_sign_of_that(n, weight, is_moving):
    opened, close = walk(np.random.default_rng(7), n=200, symbols=3)
    if not is_moving:
        opened, close = np.full_like(opened, 50.0), np.full_like(close, 50.0)
    tested = account_of(panel_of(np.full((n, 3), weight / 3.0), opened[:n], close[:n]), sectors={"S00": "a"})
    table = robustness_table(tested)
    names = [each.name for each in signs_of(tested, table)]
    assert table["sharpe"].is_null().all() and names == (["holds nothing"] if weight == 0.0 else [])
    assert table.filter(pl.col("test") == "as traded")["n_sessions"].item() == n - 1
