"""Sweeps: accounts of many points, beside vectorbt's broadcast.

500 thresholds on one symbol x 3,500 bars: from predictions and thresholds to the equity of every point. Ours is what
`<strategy>/sweep` keeps accounts by (`simulate_many`), for its equity alone; vectorbt's is `Portfolio.from_orders` with a column for each point, sized at the
close of the decision and filled at the next open, and its `value()`. Either with the weights made of the predictions, ours in float32, which holds them exactly. The ways take turns; CPU seconds, the least of the rounds. Exits with
1 if the accounts differ by more than 1e-9, or ours is not 50 times as fast. Then 100 points x 500 symbols x 3,500 bars, ours alone.

    python -m benchmarks.bench_sweep [--rounds 7] [--large]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from time import process_time

import numpy as np
import polars as pl

from hf_pipelines.research.backtest import Execution, TradingPanel
from hf_pipelines.research.backtest.many import simulate_many
from hf_pipelines.research.costs import Costs

N_BARS = 3_500
WANTED = 50.0
FEE_BPS, CASH = 1.0, 1_000_000.0
# Beside cash for fees and gaps: vectorbt refuses what cash does not cover.
INVESTED = 0.5


def market(n_symbols: int, seed: int = 0) -> TradingPanel:
    """Daily bars of random walks, a decision on each."""
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, (N_BARS, n_symbols)), axis=0))
    opened = close * np.exp(rng.normal(0.0, 0.003, close.shape))
    begin = pl.datetime(2010, 1, 1, 21)
    ts = pl.datetime_range(begin, begin + pl.duration(days=N_BARS - 1), "1d", eager=True, time_zone="UTC")
    return TradingPanel(
        symbols=pl.Series([f"S{j}" for j in range(n_symbols)]),
        session=ts.dt.date(),
        ts=ts,
        is_decision=np.ones(N_BARS, np.bool_),
        weights=np.zeros(close.shape),
        open=opened,
        close=close,
        split_ratio=np.broadcast_to(np.float64(1.0), close.shape),
        dividend=np.broadcast_to(np.float64(0.0), close.shape),
    )


def least(ways: dict[str, Callable[[], np.ndarray]], rounds: int) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """CPU seconds of each way, taken in turns, the first round left out: it compiles."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    found = {}
    for _ in range(rounds + 1):
        for name, run in ways.items():
            began = process_time()
            found[name] = run()
            times[name].append(process_time() - began)
    return {name: min(each[1:]) for name, each in times.items()}, found


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--large", action="store_true", help="100 points x 500 symbols too")
    given = parser.parse_args()
    import vectorbt as vbt

    panel = market(1)
    prediction = np.random.default_rng(1).normal(size=N_BARS)
    thresholds = np.linspace(0.0, 1.5, 500)
    costs, execution = [Costs(fee_bps=FEE_BPS)], Execution(initial_cash=CASH)

    def weights(kind: type = np.float64) -> np.ndarray:
        found = (prediction[:, None] > thresholds[None, :]).astype(kind)
        found *= INVESTED
        return found

    def ours() -> np.ndarray:
        return simulate_many(panel, weights(np.float32)[:, None, :], costs, execution, has_activity=False).equity

    def broadcast() -> np.ndarray:
        nothing = np.full((1, len(thresholds)), np.nan)
        portfolio = vbt.Portfolio.from_orders(
            close=panel.close,
            size=np.vstack([nothing, weights()[:-1]]),
            size_type="targetpercent",
            price=panel.open,
            val_price=np.vstack([[[np.nan]], panel.close[:-1]]),
            fees=FEE_BPS * 1e-4,
            init_cash=CASH,
            freq="1D",
        )
        return np.asarray(portfolio.value())

    given_weights = np.ascontiguousarray(weights(np.float32)[:, None, :])
    ledger = {"ledger": lambda: simulate_many(panel, given_weights, costs, execution, has_activity=False).equity}
    seconds, found = least({"ours": ours, "vectorbt": broadcast, **ledger}, given.rounds)
    apart = float(np.abs(found["ours"] / found["vectorbt"] - 1.0).max())
    ratio = seconds["vectorbt"] / seconds["ours"]
    print(
        f"500 points, 1 symbol x {N_BARS:,} bars: ours {seconds['ours'] * 1e3:.1f} ms, vectorbt {seconds['vectorbt'] * 1e3:.0f} ms CPU"
    )
    print(
        f"of ours {seconds['ledger'] * 1e3:.1f} ms are the ledger, the rest the weights, which vectorbt is timed with too"
    )
    print(f"{ratio:.0f}x as fast; equity differs by {apart:.1e} at most")
    if given.large:
        panel = market(500)
        signal = np.random.default_rng(2).normal(size=panel.close.shape)
        levels = np.linspace(0.0, 1.5, 100)
        took = 0.0
        # A few points at a time: weights of all of them are 1.4 GB.
        for part in np.array_split(levels, 10):
            began = process_time()
            own = np.where(signal[:, :, None] > part, INVESTED / 500, 0.0)
            simulate_many(panel, own, costs, execution)
            took += process_time() - began
        print(f"100 points, 500 symbols x {N_BARS:,} bars: ours {took:.1f} s CPU")
    return 0 if ratio >= WANTED and apart <= 1e-9 else 1


if __name__ == "__main__":
    sys.exit(main())
