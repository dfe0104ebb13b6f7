"""Seconds, and symbols a second, of learners of one series a symbol: fits on one and on two processes, and predictions.

Wall seconds of the fit, and CPU seconds where one process does all of it, which a busy machine changes little; the prediction of every row
by its window; for some symbols of some bars. Exits 1 if two processes come to other bytes than one.

    python benchmarks/bench_statistical.py [symbols [bars [learner ...]]]
    python benchmarks/bench_statistical.py 500 500 garch arima
"""

from __future__ import annotations

import sys
import time
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.research.learners import Pipeline, Setup, TrainingRows, build_pipeline, choose_learner, keyed

SEED, HISTORY, AHEAD = 7, 120, 5
PROCESSES = 2
LEARNERS: dict[str, dict[str, Any]] = {
    "arima": {},
    "kalman": {},
    "garch": {},
    "gjr_garch": {},
    "egarch": {},
}


def synthetic_rows(symbols: int, bars: int) -> TrainingRows:
    """Returns with a little memory and with clusters of volatility."""
    rng = np.random.default_rng(SEED)
    variance, value = np.ones(symbols), np.zeros(symbols)
    found = np.zeros((bars, symbols))
    for bar in range(bars):
        shock = np.sqrt(variance) * rng.normal(size=symbols)
        value = 0.15 * value + 0.015 * shock
        variance = 0.05 + 0.1 * shock**2 + 0.85 * variance
        found[bar] = value
    days = pl.DataFrame({"session": [date(2010, 1, 1) + timedelta(days=day) for day in range(bars)]})
    keys = days.join(pl.DataFrame({"symbol": [f"S{number:04d}" for number in range(symbols)]}), how="cross")
    ts = pl.col("session").cast(pl.Datetime("us", "UTC"))
    keys = keys.select("symbol", "session", ts=ts, label_start=ts, label_end=ts)
    X = found.ravel().astype(np.float32)[:, None]
    y = rng.normal(size=len(X))
    return TrainingRows(keyed(keys, "label_start", "label_end"), X, ("return_1",), y=y, weight=np.ones(len(X)))


def fit(name: str, rows: TrainingRows, *, n_threads: int) -> tuple[Pipeline, float]:
    """A fitted learner and the wall seconds of the fit."""
    choice = choose_learner(name, {**LEARNERS[name], "history_bars": HISTORY, "horizon_bars": AHEAD})
    pipeline = build_pipeline(choice, Setup("regression", n_threads=n_threads))
    began = time.perf_counter()
    pipeline.fit(rows)
    return pipeline, time.perf_counter() - began


def main() -> int:
    """Print a line for each learner."""
    given = sys.argv[1:]
    symbols, bars = (int(each) for each in [*given[:2], *("500", "500")[len(given[:2]) :]])
    rows = synthetic_rows(symbols, bars)
    # Processes that are there already, as from the second fold on.
    warm = synthetic_rows(40, 150)
    failed = False
    print(
        f"{symbols} symbols of {bars} bars, windows of {HISTORY + 1}, {AHEAD} bars ahead, orders of arima by bic among (0..1, 0..1)"
    )
    print(
        "learner    | fit, 1 process: s (symbols a s), CPU s | fit, 2 processes: s (symbols a s) | predict: s, CPU s | kB | not fitted"
    )
    for name in given[2:] or LEARNERS:
        began_cpu = time.process_time()
        one, alone_s = fit(name, rows, n_threads=1)
        fit_cpu_s = time.process_time() - began_cpu
        fit(name, warm, n_threads=PROCESSES)
        two, both_s = fit(name, rows, n_threads=PROCESSES)
        began, began_cpu = time.perf_counter(), time.process_time()
        found = two.predict(rows).point
        predict_s, predict_cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
        same = one.save() == two.save()
        failed |= not same or found is None
        left_out = {key: each["symbols"] for key, each in two.report().items() if isinstance(each, dict)}
        print(
            f"{name:10} | {alone_s:6.1f} ({symbols / alone_s:5.1f}), {fit_cpu_s:5.1f} | {both_s:6.1f} ({symbols / both_s:5.1f}) | {predict_s:5.2f}, {predict_cpu_s:5.2f} "
            f"| {len(one.save()) / 1e3:.0f} | {left_out or 'none'}{'' if same else ' OTHER BYTES'}",
            flush=True,
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
