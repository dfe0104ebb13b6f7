"""Reference engine against vectorbt and against a ledger that does nothing but book: same account, how much sooner.

Run `python benchmarks/bench_engine.py` in the project's folder. Daily target weights of 800 symbols over 3,500 bars by default; the calls
take turns, so that a busy machine slows all. Seconds of CPU are compared, of the best round: a process that waits for a core is
not slow. Ends with status 1 when curves differ or a ratio of `REQUIRED` is missed.

`--minutes` instead runs bars of a minute, 100 symbols x a year and half of one, each in a process of its own: peak memory beside the
input's, and whether time grows with rows.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.research.backtest import run_backtest, simulate
from hf_pipelines.research.costs import Costs

TOLERANCE = 1e-6
# Charged as a fee on both sides: vectorbt's own slippage moves the fill price instead.
COSTS = Costs(fee_bps=1.0, slippage_bps=2.0)
INITIAL_CASH = 1_000_000.0
# Half of the cash stays idle: vectorbt would cut orders that cash does not cover, the reference never does.
GROSS_EXPOSURE = 0.5
# Trading minutes of a year, and of a session.
MINUTES_OF_YEAR, MINUTES_OF_SESSION = 98_280, 390

VECTORBT, BARE, DENSE = "vectorbt from_orders", "bare ledger", "simulate"
SORTED, BY_TIME, SHUFFLED, GAPS, SPARSE = (
    "run_backtest, sorted and aligned",
    "run_backtest, sorted by time",
    "run_backtest, shuffled",
    "run_backtest, a bar in 50 missing",
    "run_backtest, weekly decisions",
)
# How many times as long as the first the second must take, at least.
REQUIRED = {
    (DENSE, BARE): 0.5,
    (DENSE, VECTORBT): 50.0,
    (SORTED, VECTORBT): 8.0,
    (BY_TIME, VECTORBT): 3.0,
    (SHUFFLED, VECTORBT): 3.0,
    (GAPS, VECTORBT): 3.0,
}

Market = dict[str, np.ndarray]


def random_market(*, n_bars: int, n_symbols: int, seed: int = 0) -> Market:
    """Prices without events (vectorbt knows none), and new weights for each symbol on each bar."""
    rng = np.random.default_rng(seed)
    shape = (n_bars, n_symbols)
    close = 50.0 * np.exp(np.cumsum(rng.normal(0.0, 0.015, shape), axis=0))
    open = np.vstack([close[:1], close[:-1]]) * np.exp(rng.normal(0.0, 0.005, shape))
    raw = rng.normal(size=shape)
    weights = GROSS_EXPOSURE * raw / np.abs(raw).sum(axis=1, keepdims=True)
    return {"weights": weights, "open": open, "close": close}


def to_frames(market: Market) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Weights and bars as long frames sorted by (symbol, ts)."""
    n_bars, n_symbols = market["close"].shape
    session = pl.date_range(date(2000, 1, 1), date(2000, 1, 1) + timedelta(days=n_bars - 1), eager=True)
    ts = (session.cast(pl.Datetime("us")) + timedelta(hours=21)).dt.replace_time_zone("UTC")
    symbol = pl.Series([f"S{j:04d}" for j in range(n_symbols)])
    row, column = (np.tile(np.arange(n_bars), n_symbols), np.repeat(np.arange(n_symbols), n_bars))
    keys = {"symbol": symbol.gather(column), "session": session.gather(row), "ts": ts.gather(row)}
    events = {"split_ratio": np.ones(n_bars * n_symbols), "dividend": np.zeros(n_bars * n_symbols)}
    values = {name: np.ravel(array.T) for name, array in market.items()} | events
    weights = pl.DataFrame({**keys, "weight": values.pop("weights")})
    return weights, pl.DataFrame({**keys, **values})


def vectorbt_portfolio(market: Market) -> Any:
    """Fill the orders; vectorbt makes the equity curve on request only."""
    import vectorbt

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


def equity_of(portfolio: Any) -> np.ndarray:
    return np.asarray(portfolio.value()).ravel()


def bare_ledger() -> Callable[..., np.ndarray]:
    """Cash, shares and equity of prices without gaps, events or records: the least that such a loop can do."""
    from numba import njit

    def book(weights, opened, close, cost_rate, cash):  # type: ignore[no-untyped-def]  # compiled
        n_bars, n_symbols = weights.shape
        equity, shares = np.empty(n_bars), np.zeros(n_symbols)
        equity[0] = cash
        for t in range(1, n_bars):
            traded = value = 0.0
            for j in range(n_symbols):
                target = weights[t - 1, j] * equity[t - 1] / close[t - 1, j]
                notional = (target - shares[j]) * opened[t, j]
                cash -= notional
                traded += abs(notional)
                shares[j] = target
                value += target * close[t, j]
            cash -= cost_rate * traded
            equity[t] = cash + value
        return equity

    compiled: Callable[..., np.ndarray] = njit(book)
    return compiled


def timed(call: Callable[[], object]) -> tuple[float, float]:
    wall, used = time.perf_counter(), time.process_time()
    call()
    return time.process_time() - used, time.perf_counter() - wall


def compare(n_bars: int, n_symbols: int, rounds: int) -> int:
    market: dict[str, Any] = random_market(n_bars=n_bars, n_symbols=n_symbols)
    weights, bars = to_frames(market)
    rate = COSTS.fee_rate + COSTS.slippage_rate
    bare = bare_ledger()
    rng = np.random.default_rng(1)
    mixed = bars[rng.permutation(bars.height)], weights[rng.permutation(weights.height)]
    turned = bars.sort("ts", "symbol"), weights.sort("ts", "symbol")
    is_there = pl.Series(rng.random(bars.height) > 0.02)
    gaps = bars.filter(is_there), weights.filter(is_there)
    weekly = weights.filter(pl.Series(np.tile(np.arange(n_bars) % 5 == 0, n_symbols)))

    def by_frames(bars: pl.DataFrame, weights: pl.DataFrame) -> Callable[[], Any]:
        def call() -> Any:
            result = run_backtest(weights, bars, COSTS, periods_per_year=252, initial_cash=INITIAL_CASH)
            return result.equity, result.metrics

        return call

    calls: dict[str, Callable[[], Any]] = {
        VECTORBT: lambda: vectorbt_portfolio(market),
        BARE: lambda: bare(market["weights"], market["open"], market["close"], rate, INITIAL_CASH),
        DENSE: lambda: simulate(**market, costs=COSTS, initial_cash=INITIAL_CASH),
        SORTED: by_frames(bars, weights),
        BY_TIME: by_frames(*turned),
        SHUFFLED: by_frames(*mixed),
        GAPS: by_frames(*gaps),
        SPARSE: by_frames(bars, weekly),
    }
    # The first calls compile: they are checked, not timed.
    expected = equity_of(calls[VECTORBT]())
    curves = {
        BARE: calls[BARE](),
        DENSE: calls[DENSE]().equity,
        **{name: calls[name]()[0]["equity"].to_numpy() for name in (SORTED, BY_TIME, SHUFFLED)},
    }
    difference = max(np.abs(curve / expected - 1.0).max() for curve in curves.values())
    for name in (GAPS, SPARSE):
        calls[name]()

    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            seconds[name].append(timed(call))

    print(f"{n_symbols} symbols x {n_bars} bars, best of {rounds} rounds, ms of CPU (wall)")
    best = {name: min(cpu for cpu, _ in runs) for name, runs in seconds.items()}
    for name, runs in seconds.items():
        middle = statistics.median(cpu for cpu, _ in runs)
        wall = min(each for _, each in runs)
        print(f"  {name:36s} {best[name] * 1e3:8.1f} ({wall * 1e3:8.1f}), median {middle * 1e3:8.1f}")
    ratios = {(one, other): best[other] / best[one] for one, other in REQUIRED}
    for (one, other), ratio in ratios.items():
        print(f"  {other} takes {ratio:.2f}x as long as {one} (at least {REQUIRED[one, other]:g})")
    print(f"  largest relative difference of equity: {difference:.2e}")
    missed = [f"{one} beside {other}" for (one, other), ratio in ratios.items() if ratio < REQUIRED[one, other]]
    if not difference <= TOLERANCE:
        missed.append(f"curves differ by more than {TOLERANCE:.0e}")
    for each in missed:
        print(f"FAILED: {each}", file=sys.stderr)
    return 1 if missed else 0


def minute_bars(n_bars: int, n_symbols: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Bars of a minute as the contract has them, and a decision on each; made column by column, so that the peak is the input's."""
    rng = np.random.default_rng(0)
    minute = np.arange(n_bars)
    day = minute // MINUTES_OF_SESSION
    first = int(datetime(2024, 1, 2, 14, 31, tzinfo=UTC).timestamp() * 1e6)
    ts = first + day * 86_400_000_000 + (minute % MINUTES_OF_SESSION) * 60_000_000
    session = (np.datetime64("2024-01-02") + day).astype("datetime64[D]")
    names = pl.Series([f"S{j:04d}" for j in range(n_symbols)])
    keys = {
        "symbol": names.gather(np.repeat(np.arange(n_symbols), n_bars)),
        "session": pl.Series(np.tile(session, n_symbols)),
        "ts": pl.Series(np.tile(ts, n_symbols)).cast(pl.Datetime("us", "UTC")),
    }
    close = np.empty(n_bars * n_symbols)
    for j in range(n_symbols):
        close[j * n_bars : (j + 1) * n_bars] = 50.0 * np.exp(np.cumsum(rng.normal(0.0, 0.0005, n_bars)))
    prices = {name: close * factor for name, factor in (("open", 1.0), ("high", 1.001), ("low", 0.999), ("close", 1.0))}
    ones = np.ones(len(close))
    bars = pl.DataFrame({**keys, **prices, "volume": ones, "split_ratio": ones, "dividend": ones - 1.0})
    weight = rng.normal(0.0, GROSS_EXPOSURE / n_symbols, len(close))
    return pl.DataFrame({**keys, "weight": weight}), bars


def one_of_minutes(n_bars: int, n_symbols: int) -> None:
    """Print rows, MB of the input, MB of the peak beyond it, and seconds of CPU."""
    # What is compiled and imported is there before it is measured.
    small = minute_bars(50, 2)
    run_backtest(*small, COSTS, periods_per_year=MINUTES_OF_YEAR).metrics  # noqa: B018  # made when it is first asked for
    before = _resident()
    weights, bars = minute_bars(n_bars, n_symbols)
    given = weights.estimated_size() + bars.estimated_size()
    held, used = _resident(), time.process_time()
    _reset_peak()
    result = run_backtest(weights, bars, COSTS, periods_per_year=MINUTES_OF_YEAR)
    result.equity, result.metrics  # noqa: B018
    seconds = time.process_time() - used
    print(
        f"{bars.height} {given / 2**20:.0f} {(held - before) / 2**20:.0f} {(_peak() - held) / 2**20:.0f} {seconds:.3f}"
    )


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _reset_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _peak() -> int:
    with open("/proc/self/status") as file:
        line = next(each for each in file if each.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def minutes() -> int:
    print(
        "bars of a minute, 100 symbols: rows, MB of the frames, MB held before, MB of the peak beside them, seconds of CPU"
    )
    found = []
    for n_bars in (MINUTES_OF_YEAR // 2, MINUTES_OF_YEAR):
        command = [sys.executable, __file__, "--one-of-minutes", str(n_bars)]
        lines = [
            subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ).stdout.split()
            for _ in range(2)
        ]
        best = min(lines, key=lambda each: float(each[4]))
        found.append([float(each) for each in best])
        print("  " + " ".join(best))
    (rows, _, _, _, half), (more, given, _, peak, whole) = found
    growth = (whole / half) / (more / rows)
    print(
        f"  peak beside the input: {peak / given:.2f}x of it (at most 2); time of a row: {growth:.2f}x of that of half as many"
    )
    return 0 if peak <= 2.0 * given and growth < 1.5 else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bars", type=int, default=3_500)
    parser.add_argument("--symbols", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", action="store_true")
    parser.add_argument("--one-of-minutes", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one_of_minutes:
        one_of_minutes(arguments.one_of_minutes, 100)
        return 0
    return minutes() if arguments.minutes else compare(arguments.bars, arguments.symbols, arguments.rounds)


if __name__ == "__main__":
    sys.exit(main())
