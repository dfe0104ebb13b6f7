"""Reference engine against vectorbt: same account, how much sooner.

Run `python benchmarks/bench_engine.py` in the project's folder. Daily target weights of 800 symbols over
3,500 bars by default; the two engines take turns, so that a busy machine slows both. Ends with status 1 when
the curves differ, or when the dense call is not 20 times as fast as `Portfolio.from_orders`.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import vectorbt

from hf_pipelines.research.backtest import run_backtest, simulate
from hf_pipelines.research.costs import Costs

TOLERANCE = 1e-6
REQUIRED_RATIO = 20.0
# Charged as a fee on both sides: vectorbt's own slippage moves the fill price instead.
COSTS = Costs(fee_bps=1.0, slippage_bps=2.0)
INITIAL_CASH = 1_000_000.0
# Half of the cash stays idle: vectorbt would cut orders that cash does not cover, the reference never does.
GROSS_EXPOSURE = 0.5

Market = dict[str, np.ndarray]


def random_market(*, n_bars: int, n_symbols: int, seed: int = 0) -> Market:
    """Prices without events (vectorbt knows none), and new weights for each symbol on each bar."""
    rng = np.random.default_rng(seed)
    shape = (n_bars, n_symbols)
    close = 50.0 * np.exp(np.cumsum(rng.normal(0.0, 0.015, shape), axis=0))
    open = np.vstack([close[:1], close[:-1]]) * np.exp(rng.normal(0.0, 0.005, shape))
    raw = rng.normal(size=shape)
    weights = GROSS_EXPOSURE * raw / np.abs(raw).sum(axis=1, keepdims=True)
    return {
        "weights": weights,
        "open": open,
        "close": close,
        "split_ratio": np.ones(shape),
        "dividend": np.zeros(shape),
    }


def to_frames(market: Market) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Weights and bars as long frames sorted by (symbol, ts)."""
    n_bars, n_symbols = market["close"].shape
    session = pl.date_range(date(2000, 1, 1), date(2000, 1, 1) + timedelta(days=n_bars - 1), eager=True)
    ts = (session.cast(pl.Datetime("us")) + timedelta(hours=21)).dt.replace_time_zone("UTC")
    symbol = pl.Series([f"S{j:04d}" for j in range(n_symbols)])
    row, column = (np.tile(np.arange(n_bars), n_symbols), np.repeat(np.arange(n_symbols), n_bars))
    keys = {"symbol": symbol.gather(column), "session": session.gather(row), "ts": ts.gather(row)}
    values = {name: np.ravel(array.T) for name, array in market.items()}
    weights = pl.DataFrame({**keys, "weight": values.pop("weights")})
    return weights, pl.DataFrame({**keys, **values})


def vectorbt_portfolio(market: Market) -> vectorbt.Portfolio:
    """Fill the orders; vectorbt makes the equity curve on request only."""
    close = market["close"]
    # A decision acts one bar later, valued at the decision's close; NaN is no order.
    no_order = np.full((1, close.shape[1]), np.nan)
    return vectorbt.Portfolio.from_orders(
        close=close,
        size=np.vstack([no_order, market["weights"][:-1]]),
        size_type="targetpercent",
        direction="both",
        price=market["open"],
        val_price=np.vstack([close[:1], close[:-1]]),
        fees=COSTS.fee_rate + COSTS.slippage_rate,
        init_cash=INITIAL_CASH,
        cash_sharing=True,
        group_by=True,
        freq="1D",
    )


def equity_of(portfolio: vectorbt.Portfolio) -> np.ndarray:
    return np.asarray(portfolio.value()).ravel()


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bars", type=int, default=3_500)
    parser.add_argument("--symbols", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    market: dict[str, Any] = random_market(n_bars=arguments.bars, n_symbols=arguments.symbols)
    weights, bars = to_frames(market)
    calls: dict[str, Callable[[], object]] = {
        "vectorbt from_orders": lambda: vectorbt_portfolio(market),
        "vectorbt with equity": lambda: equity_of(vectorbt_portfolio(market)),
        "reference, dense": lambda: simulate(**market, costs=COSTS, initial_cash=INITIAL_CASH),
        "reference, frames": lambda: run_backtest(
            weights, bars, COSTS, periods_per_year=252, initial_cash=INITIAL_CASH
        ),
    }
    # The first calls compile: they are checked, not timed.
    expected = equity_of(vectorbt_portfolio(market))
    dense = simulate(**market, costs=COSTS, initial_cash=INITIAL_CASH).equity
    frames = run_backtest(weights, bars, COSTS, periods_per_year=252, initial_cash=INITIAL_CASH).equity
    difference = max(np.abs(dense / expected - 1.0).max(), np.abs(frames["equity"].to_numpy() / expected - 1.0).max())

    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(arguments.rounds):
        for name, call in calls.items():
            seconds[name].append(timed(call))

    print(f"{arguments.symbols} symbols x {arguments.bars} bars, {arguments.rounds} rounds, seconds")
    for name, runs in seconds.items():
        print(f"  {name:22s} min {min(runs):7.4f}   median {statistics.median(runs):7.4f}")
    ratios = {name: min(seconds["vectorbt from_orders"]) / min(runs) for name, runs in seconds.items()}
    medians = {name: statistics.median(runs) for name, runs in seconds.items()}
    for name in ("reference, dense", "reference, frames"):
        by_median = medians["vectorbt from_orders"] / medians[name]
        print(f"  {name}: from_orders takes {ratios[name]:.1f}x (min), {by_median:.1f}x (median)")
    print(f"  largest relative difference of equity: {difference:.2e}")

    if not difference <= TOLERANCE:
        print(f"FAILED: the curves differ by more than {TOLERANCE:.0e}", file=sys.stderr)
        return 1
    if ratios["reference, dense"] < REQUIRED_RATIO:
        print(f"FAILED: the dense call is less than {REQUIRED_RATIO:.0f}x as fast", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
