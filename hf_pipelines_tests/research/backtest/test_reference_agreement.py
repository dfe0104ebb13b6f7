"""The reference engine against two accounts kept by others: a naive event loop, and vectorbt."""

from datetime import date

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.backtest import run_backtest, simulate
from hf_pipelines.research.costs import Costs
from hf_pipelines_tests.research.backtest.small_market import random_market


def naive_equity(weights: pl.DataFrame, bars: pl.DataFrame, costs: Costs, *, cash: float) -> list[float]:
    """Book the account from the written rules with dicts, one event at a time; next open only."""
    bar_at = {(row["symbol"], row["ts"]): row for row in bars.iter_rows(named=True)}
    target_at: dict[object, dict[str, float]] = {}
    for row in weights.iter_rows(named=True):
        target_at.setdefault(row["ts"], {})[row["symbol"]] = row["weight"]
    shares: dict[str, float] = {}
    last_close: dict[str, float] = {}
    orders: dict[str, float] | None = None
    curve: list[float] = []
    yesterday: date | None = None
    for session, ts in bars.select("session", "ts").unique().sort("ts").rows():
        shorts = sum(-n * last_close[s] for s, n in shares.items() if n < 0)
        days = (session - yesterday).days if yesterday else 0
        cash -= shorts * costs.borrow_bps_per_year / 10_000 * days / 365
        for symbol in sorted(bars["symbol"].unique()):
            bar = bar_at.get((symbol, ts))
            if bar is None:
                continue
            held = shares.get(symbol, 0.0) * bar["split_ratio"]
            cash += held * bar["dividend"]
            if orders is not None:
                wanted = orders.get(symbol, 0.0) * bar["split_ratio"]
                traded = (wanted - held) * bar["open"]
                cash -= traded + abs(traded) * (costs.fee_bps + costs.slippage_bps) / 10_000
                held = wanted
            shares[symbol], last_close[symbol] = held, bar["close"]
        equity = cash + sum(n * last_close[s] for s, n in shares.items())
        curve.append(equity)
        target = target_at.get(ts)
        orders = None if target is None else {s: w * equity / last_close[s] for s, w in target.items()}
        yesterday = session
    return curve


@pytest.mark.parametrize("seed", range(5))
def test_run_backtest_agrees_with_naive_event_loop(seed: int) -> None:
    weights, bars = random_market(seed=seed, missing=0.15)
    costs = Costs(fee_bps=3, slippage_bps=7, borrow_bps_per_year=250)

    result = run_backtest(weights, bars, costs, periods_per_year=250, initial_cash=1000.0)

    assert result.equity["equity"].to_list() == pytest.approx(
        naive_equity(weights, bars, costs, cash=1000.0), rel=1e-12
    )


# vectorbt compiles for 25 CPU seconds in each process that calls it.
@pytest.mark.xdist_group("vectorbt")
@pytest.mark.parametrize("seed", range(3))
def test_simulate_agrees_with_vectorbt_where_cash_never_binds(seed: int) -> None:
    vectorbt = pytest.importorskip("vectorbt")
    rng = np.random.default_rng(seed)
    shape = (80, 5)
    close = 50.0 * np.exp(np.cumsum(rng.normal(0, 0.02, shape), axis=0))
    open = np.vstack([close[:1], close[:-1]]) * np.exp(rng.normal(0, 0.01, shape))
    weights = rng.uniform(-0.08, 0.08, shape)

    account = simulate(
        weights=weights,
        open=open,
        close=close,
        split_ratio=np.ones(shape),
        dividend=np.zeros(shape),
        costs=Costs(fee_bps=6, slippage_bps=4),
        initial_cash=1e5,
    )
    # vectorbt's slippage moves the price; charged as a fee it is ours. NaN: no order on the first bar.
    unfilled = np.full((1, shape[1]), np.nan)
    portfolio = vectorbt.Portfolio.from_orders(
        close=close,
        size=np.vstack([unfilled, weights[:-1]]),
        size_type="targetpercent",
        direction="both",
        price=open,
        val_price=np.vstack([close[:1], close[:-1]]),
        fees=0.001,
        init_cash=1e5,
        cash_sharing=True,
        group_by=True,
        freq="1D",
    )

    np.testing.assert_allclose(account.equity, np.asarray(portfolio.value()).ravel(), rtol=1e-9)
