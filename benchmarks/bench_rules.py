"""Rules over 800 symbols and 3,500 sessions (2.8 M rows), against sorting them and the same expression of polars.

A rule sorts its rows, checks them and its weights; the peer sorts and computes. Stateful rules replay what was held.

    PYTHONPATH=. python benchmarks/bench_rules.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from time import process_time
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.research.signals import apply_rule

SYMBOLS, SESSIONS, ROUNDS = 800, 3_500, 3
# What a rule may cost, as a multiple of its peer.
STATELESS, STATEFUL = 1.5, 6.0


def predictions(seed: int = 0) -> pl.DataFrame:
    """Rows in random order, as a shuffled store would give them."""
    rng = np.random.default_rng(seed)
    days = [date(2010, 1, 3) + timedelta(days=at) for at in range(2 * SESSIONS)]
    days = [day for day in days if day.weekday() < 5][:SESSIONS]
    frame = pl.DataFrame({"session": days}).join(
        pl.DataFrame({"symbol": [f"S{at:03d}" for at in range(SYMBOLS)]}), how="cross"
    )
    up = rng.random(frame.height)
    return frame.select(
        "symbol", "session", ts=pl.col("session").cast(pl.Datetime("us", "UTC")),
        prediction=pl.Series(rng.normal(size=frame.height)), probability_up=pl.Series(up), probability_down=pl.Series(1.0 - up),
    ).sample(fraction=1.0, shuffle=True, seed=seed)  # fmt: skip


def by_threshold(rows: pl.DataFrame) -> pl.DataFrame:
    """Sort, and the expression of `threshold`."""
    side = (pl.col("prediction") >= 1.0).cast(pl.Float64) - (pl.col("prediction") <= -1.0).cast(pl.Float64)
    return rows.sort("ts", "symbol").select("symbol", "session", "ts", weight=side / pl.len().over("ts"))


def by_probability(rows: pl.DataFrame) -> pl.DataFrame:
    """Sort, and the expression of `probability_threshold`."""
    up, down = pl.col("probability_up"), pl.col("probability_down")
    side = ((up >= 0.55) & (up > down)).cast(pl.Float64) - ((down >= 0.55) & (down > up)).cast(pl.Float64)
    return rows.sort("ts", "symbol").select("symbol", "session", "ts", weight=side / pl.len().over("ts"))


def by_rank(rows: pl.DataFrame) -> pl.DataFrame:
    """Sort, and the expression of `rank_long_short`."""
    place = pl.col("prediction").rank("ordinal", descending=True).over("ts").cast(pl.Int64)
    known = pl.col("prediction").count().over("ts").cast(pl.Int64)
    side = pl.when(place <= 50).then(0.01).when(place > known - 50).then(-0.01).otherwise(0.0)
    return rows.sort("ts", "symbol").select("symbol", "session", "ts", weight=side)


def by_softmax(rows: pl.DataFrame) -> pl.DataFrame:
    """Sort, and the expression of `portfolio`."""
    score = pl.col("prediction")
    share = ((score - score.max().over("ts")) / score.std(ddof=0).over("ts")).exp()
    return rows.sort("ts", "symbol").with_columns(share=share).select(
        "symbol", "session", "ts", weight=pl.col("share") / pl.col("share").sum().over("ts")
    )  # fmt: skip


CHAIN = {
    "rule": {"type": "rank_long_short", "params": {"n_long": 50, "n_short": 50}},
    "limits": [
        {"type": "symbol_cap", "params": {"most": 0.05}},
        {"type": "net_cap", "params": {"most": 0.1}},
        {"type": "holding", "params": {"sessions": 3}},
        {"type": "band", "params": {"least": 0.001}},
        {"type": "turnover_cap", "params": {"most": 0.3}},
    ],
}

CASES: list[tuple[str, str, Mapping[str, Any], Callable[[pl.DataFrame], pl.DataFrame], float]] = [
    ("threshold", "threshold", {"buy": 1.0, "sell": -1.0}, by_threshold, STATELESS),
    ("probability_threshold", "probability_threshold", {}, by_probability, STATELESS),
    ("rank_long_short", "rank_long_short", {"n_long": 50, "n_short": 50}, by_rank, STATELESS),
    ("portfolio, softmax", "portfolio", {}, by_softmax, STATELESS),
    ("threshold with hysteresis", "threshold", {"buy": 1.0, "sell": -1.0, "hysteresis": 1.0, "sessions": 20}, by_threshold, STATEFUL),
    ("long_short, rolling z-score", "long_short", {"standardise": "own", "sessions": 20}, by_threshold, STATEFUL),
    ("rank_buffer", "rank_buffer", {"n_long": 50, "n_short": 50, "buffer": 25}, by_rank, STATEFUL),
    ("chain of five limits", "chain", CHAIN, by_rank, STATEFUL),
]  # fmt: skip


def least_seconds(*calls: Callable[[], Any]) -> list[float]:
    """CPU seconds of the quickest round of each call, in turns, after one that compiles: a busy machine slows all alike."""
    found = [[float("inf")] for _ in calls]
    for number in range(ROUNDS + 1):
        for call, seconds in zip(calls, found, strict=True):
            began = process_time()
            call()
            if number:
                seconds.append(process_time() - began)
    return [min(each) for each in found]


def main() -> int:
    """Print a line a rule; 1 if one takes longer than it may."""
    is_slow = False
    rows = predictions()
    sessions = rows["session"].unique().sort().to_list()
    print(f"{rows.height:,} rows; CPU seconds, the least of {ROUNDS}")
    for told, rule, params, peer, most in CASES:
        own, of_peer = least_seconds(
            lambda: apply_rule(rows, rule=rule, params=params, sessions=sessions),  # noqa: B023  called at once
            lambda: peer(rows),  # noqa: B023
        )
        is_slow |= own > most * of_peer
        print(f"{told:30} {own:6.2f}   polars {of_peer:6.2f}   {own / of_peer:5.2f}x   at most {most:g}x")
    for method, seconds in optimise().items():
        is_slow |= not seconds <= 1.0
        print(f"{method:30} {seconds:6.2f}   CPU seconds a session of 500 members   at most 1")
    return int(is_slow)


def optimise(n_symbols: int = 500, n_bars: int = 252) -> dict[str, float]:
    """CPU seconds of a session by each optimiser."""
    from hf_pipelines.research.signals import fill_rule_params
    from hf_pipelines.research.signals.optimised import METHODS, optimised_weights

    rng = np.random.default_rng(0)
    market = 0.008 * rng.normal(size=(n_bars, 1))
    returns = 0.01 * rng.normal(size=(n_bars, n_symbols)) * (1 + rng.random(n_symbols)) + market
    found = {}
    for method in METHODS:
        params = fill_rule_params("optimised_portfolio", {"method": method, "max_weight": 0.1, "risk_aversion": 5.0})
        optimised_weights(returns, returns[0], params)
        began = process_time()
        _, is_solved = optimised_weights(returns, returns[0], params)
        found[method] = process_time() - began if is_solved else float("nan")
    return found


if __name__ == "__main__":
    sys.exit(main())
