"""Training matrix: memory above its inputs in floats of the matrix, and how memory and CPU time grow with the rows.

Each size is a process of its own: what an allocator keeps of one is not counted for the next. Limits: a peak of 2 times the
matrix' floats above the inputs, growth exponents of 1.05 (5,000 symbols x 2,520 bars x 60 features; about 14 GB of memory).

    python -m benchmarks.bench_matrix [--symbols 5000] [--bars 2520]
"""

import argparse
import math
import subprocess
import sys
import threading
import time
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import psutil

from hf_pipelines.research.matrix import build_matrix
from hf_pipelines.research.targets import build_target

N_FEATURES, N_GROUPS = 60, 4
WARM_UP_BARS = 20
LOOK_EVERY_S = 0.005
LIMIT_FLOATS, LIMIT_EXPONENT = 2.0, 1.05
SHARES = (8, 4, 2, 1)


def inputs(symbols: int, bars: int) -> tuple[list[pl.DataFrame], pl.DataFrame]:
    """Feature groups with unknown values in each symbol's first bars, and bars."""
    rng = np.random.default_rng(0)
    sessions = pl.date_range(date(2010, 1, 1), date(2010, 1, 1) + timedelta(days=bars - 1), eager=True)
    closes = sessions.cast(pl.Datetime("us", "UTC")) + timedelta(hours=21)
    names = np.repeat([f"S{number:05d}" for number in range(symbols)], bars)
    keys = pl.DataFrame(
        {"symbol": names, "session": pl.concat([sessions] * symbols), "ts": pl.concat([closes] * symbols)}
    )
    groups = []
    for group in range(N_GROUPS):
        values = rng.standard_normal((N_FEATURES // N_GROUPS, symbols, bars), dtype=np.float32)
        values[:, :, :WARM_UP_BARS] = np.nan
        groups.append(
            keys.hstack([pl.Series(f"f{group}_{number}", each.ravel()) for number, each in enumerate(values)])
        )
    close = 100.0 * np.exp(np.cumsum(0.01 * rng.standard_normal((symbols, bars)), axis=1)).ravel()
    prices = {name: pl.Series(close) for name in ("open", "high", "low", "close")}
    extras = {"volume": pl.lit(1e6), "dividend": pl.lit(0.0), "split_ratio": pl.lit(1.0), "role": pl.lit("member")}
    return groups, keys.with_columns(**prices, **extras)


def measure(symbols: int, bars: int) -> tuple[int, float, float]:
    """Rows of a matrix, its peak above the inputs in floats of the matrix, CPU seconds."""
    groups, prices = inputs(symbols, bars)
    process, is_over = psutil.Process(), threading.Event()
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not is_over.wait(LOOK_EVERY_S):
            peak = max(peak, process.memory_info().rss)

    watching = threading.Thread(target=watch)
    watching.start()
    began = time.process_time()
    target, end = build_target("forward_return", horizon_bars=5), datetime(2100, 1, 1, tzinfo=UTC)
    matrix = build_matrix(groups, bars=prices, target=target, cutoff=end, minimum_rows=1)
    seconds = time.process_time() - began
    is_over.set()
    watching.join()
    return matrix.height, (peak - before) / (4.0 * N_FEATURES * matrix.height), seconds


def exponent(pairs: list[tuple[float, float]]) -> float:
    """Slope of the logarithms, by least squares."""
    x, y = (np.array([math.log(pair[place]) for pair in pairs]) for place in (0, 1))
    return float(np.polyfit(x, y, 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=5_000)
    parser.add_argument("--bars", type=int, default=2_520)
    parser.add_argument("--one", action="store_true", help="this size alone, in this process")
    given = parser.parse_args()
    if given.one:
        print(*measure(given.symbols, given.bars))
        return
    found = []
    for share in SHARES:
        size = ["--symbols", str(given.symbols // share), "--bars", str(given.bars)]
        command = [sys.executable, "-m", "benchmarks.bench_matrix", "--one", *size]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows, floats, seconds = (float(word) for word in done.stdout.split())
        print(
            f"{rows:12,.0f} rows x {N_FEATURES}: peak {floats:.2f} x the floats above the inputs, {seconds:6.1f} CPU s"
        )
        found.append((rows, floats, seconds))
    memory = exponent([(rows, floats * rows) for rows, floats, _ in found])
    cpu = exponent([(rows, seconds) for rows, _, seconds in found])
    print(
        f"growth exponents: memory {memory:.3f}, CPU seconds {cpu:.3f} (limit {LIMIT_EXPONENT}); floats limit {LIMIT_FLOATS}"
    )


if __name__ == "__main__":
    main()
