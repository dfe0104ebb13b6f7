"""Random markets that have all that a ledger can be wrong about, by number: gaps, halts, reversals, splits, dividends, shorts,
leverage, costs, late listings, delistings; every fill, and limits where an engine knows them."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from hf_pipelines.research.backtest import ENGINES, Execution, asked_of_engine
from hf_pipelines.research.costs import Costs
from hf_pipelines_tests.research.backtest.small_market import close_time, sessions

N_SCENARIOS = 200


@dataclass(frozen=True)
class Scenario:
    weights: pl.DataFrame
    bars: pl.DataFrame
    costs: Costs
    execution: Execution

    def able(self) -> list[str]:
        """Engines that can simulate it."""
        asked = asked_of_engine(self.costs, self.execution, shorts=True, max_gross=2.0)
        return [name for name, engine in ENGINES.items() if engine.keeps_contract and set(asked) <= engine.capabilities]


def scenario(number: int) -> Scenario:
    """The same one for the same number."""
    rng = np.random.default_rng([7, number])
    n, m = int(rng.integers(25, 50)), int(rng.integers(1, 5))
    close = rng.uniform(5, 300, m) * np.exp(np.cumsum(rng.normal(0, 0.03, (n, m)), axis=0))
    # Every tenth night is a gap.
    opened = close * np.exp(rng.normal(0, 0.01, (n, m)) + rng.normal(0, 0.08, (n, m)) * (rng.random((n, m)) < 0.1))
    has_bar = rng.random((n, m)) > rng.choice([0.0, 0.05, 0.2])
    for j in range(m):
        if rng.random() < 0.25:
            has_bar[: int(rng.integers(1, n // 2)), j] = False
        if rng.random() < 0.25:
            has_bar[int(rng.integers(n // 2, n)) :, j] = False
    split, dividend = np.ones((n, m)), np.zeros((n, m))
    happens = rng.random((n, m)) < 0.06
    split[happens] = rng.choice([2.0, 0.5, 1.5, 4.0, 0.1], happens.sum())
    dividend[rng.random((n, m)) < 0.06] = 0.5
    level = np.cumprod(split, axis=0)
    close, opened = close / level, opened / level
    high, low = np.maximum(opened, close) * 1.01, np.minimum(opened, close) * 0.99
    # Some weights reverse a position, some decisions name nobody.
    weight = rng.normal(0, 1, (n, m)) * (rng.random((n, m)) < 0.8)
    if number % 3 == 0:
        weight = np.abs(weight)
    gross = rng.choice([0.5, 1.0, 1.9])
    weight = gross * weight / np.maximum(np.abs(weight).sum(axis=1, keepdims=True), 1e-9)
    decides = rng.random(n) < rng.choice([0.2, 0.6, 1.0])
    decides[0] = True
    days, rows = sessions(n), []
    keep = []
    for i in range(n):
        for j in range(m):
            if has_bar[i, j]:
                rows.append((f"S{j}", days[i], close_time(days[i]), opened[i, j], high[i, j], low[i, j], close[i, j],
                             float(rng.integers(500, 100_000)), split[i, j], dividend[i, j]))  # fmt: skip
            if decides[i] and has_bar[i].any():
                keep.append((f"S{j}", days[i], close_time(days[i]), weight[i, j] if has_bar[i, j] else 0.0))
    ts = {"ts": pl.Datetime("us", "UTC")}
    columns = ["symbol", "session", "ts", "open", "high", "low", "close", "volume", "split_ratio", "dividend"]
    bars = pl.DataFrame(rows, schema=columns, orient="row", schema_overrides=ts).with_columns(role=pl.lit("member"))
    weights = pl.DataFrame(keep, schema=["symbol", "session", "ts", "weight"], orient="row", schema_overrides=ts)
    some = rng.random(4) < 0.25
    execution = Execution(
        fill=("next_open", "next_close", "next_vwap_proxy")[number % 3],
        initial_cash=float(rng.choice([1e4, 1e6])),
        participation=0.1 if some[0] else None,
        lot_size=1.0 if some[1] else None,
        delisted_after_bars=3 if some[2] else None,
        delisting_haircut=0.3 if some[2] else 0.0,
    )
    costs = Costs(
        fee_bps=float(rng.choice([0, 5])),
        slippage_bps=float(rng.choice([0, 10])),
        borrow_bps_per_year=float(rng.choice([0, 400])),
    )
    return Scenario(weights, bars.sort("symbol", "ts"), costs, execution)
