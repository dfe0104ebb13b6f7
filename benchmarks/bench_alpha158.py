"""Alpha158, all 158 features: ours against Qlib itself on the same bars.

Run: `python -m benchmarks.bench_alpha158 [--symbols 800] [--bars 3500] [--rounds 3] [--threads 2]`. The two run in turn
on as many cores, each from bars in memory to one float32 table: ours through `feature_frame`, Qlib through its own
dataset processor, one process a core, its caches emptied before. Qlib is given prices that are already adjusted for
events, work that ours includes. Prints wall seconds, the ratio, the time of one week of all symbols, and peak memory;
exits with 1 if values or NaN masks differ.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from time import perf_counter

import numpy as np
import pandas as pd
import polars as pl

from hf_pipelines.research.features import build_panel, feature_frame
from hf_pipelines.research.features.alpha158 import FEATURES, alpha158
from hf_pipelines_tests.qlib_reference import as_qlib_reads, qlib_features
from hf_pipelines_tests.sample_bars import random_bars

NAMES = [feature.name for feature in FEATURES]
# Symbols that are drawn; the others are these at other prices and volumes, which is as much work.
DRAWN = 40
# Timed in a fresh process: what its first call costs.
FIRST_CALL = """
import time
from hf_pipelines.research.features import build_panel, feature_frame
from hf_pipelines.research.features.alpha158 import FEATURES
from hf_pipelines_tests.sample_bars import random_bars
panel = build_panel(random_bars(symbols=1, sessions=100), None)
start = time.perf_counter()
feature_frame(panel, FEATURES)
print(f"{time.perf_counter() - start:.2f}")
"""


def _bars(n_symbols: int, n_bars: int) -> pl.DataFrame:
    drawn = random_bars(symbols=min(DRAWN, n_symbols), sessions=n_bars, seed=5, has_events=False, has_reference=False)
    rng = np.random.default_rng(6)
    # A dividend a quarter and a split in eight years. Prices off the grid of cents: adjusted by two roads, they would
    # meet in one and not in the other.
    pays = pl.Series(rng.random(drawn.height) < 0.016)
    splits = pl.Series(np.where(rng.random(drawn.height) < 0.0005, 2.0, 1.0))
    shares = splits.to_frame("by").select(pl.col("by").cum_prod().over(drawn["symbol"])).to_series()
    noise = pl.Series(1 + 1e-4 * rng.random(drawn.height))
    drawn = drawn.with_columns(
        pl.col("open", "high", "low", "close") * noise / shares, pl.col("volume") * shares, split_ratio=splits
    ).with_columns(dividend=pl.col("close") * 0.005 * pays)
    copies = [
        drawn.with_columns(pl.col("symbol") + f"X{copy:03d}", pl.col("volume") * (1 + copy))
        for copy in range(-(-n_symbols // DRAWN))
    ]
    kept = pl.concat(copies).sort("symbol", "ts")
    return kept.filter(pl.col("symbol").is_in(kept["symbol"].unique().sort()[:n_symbols].to_list()))


def _first_call(folder: str) -> float:
    environment = os.environ | {"NUMBA_CACHE_DIR": folder}
    done = subprocess.run(
        [sys.executable, "-c", FIRST_CALL], capture_output=True, text=True, check=True, env=environment
    )
    return float(done.stdout)


def _seconds_of(run) -> tuple[float, object]:
    start = perf_counter()
    result = run()
    return perf_counter() - start, result


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _largest_error(ours: pl.DataFrame, theirs: pd.DataFrame) -> float:
    """Largest error as a share of 1e-3 of the value and 1e-6; infinite if a NaN mask differs."""
    worst = 0.0
    for name in NAMES:
        a, b = ours[name].to_numpy(), theirs[name].to_numpy()
        if not np.array_equal(np.isnan(a), np.isnan(b)):
            print(f"{name}: NaN in {np.isnan(a).sum()} of our rows, {np.isnan(b).sum()} of Qlib's")
            return np.inf
        worst = max(worst, float(np.nanmax(np.abs(a - b) / (1e-3 * np.abs(b) + 1e-6))))
    return worst


def main() -> int:
    """Print the table; 1 if a value differs from Qlib's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=800)
    parser.add_argument("--bars", type=int, default=3500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="threads of ours, processes of Qlib")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        cold, warm = (_first_call(folder) for _ in range(2))
    print(f"first call of a process: {cold:.1f} s when it compiles, {warm:.2f} s with compiled kernels on disk")

    bars = _bars(options.symbols, options.bars)
    panel = build_panel(bars, None)
    frames = as_qlib_reads(bars)
    n_rows = panel.close.size
    print(f"{n_rows:,} rows, {int((panel.price_factor != 1).sum()):,} corporate actions, {options.threads} threads")
    alpha158(panel, NAMES[:1])

    before = _peak_gib()
    ours_s, kernels_s, theirs_s = [], [], []
    ours, theirs = pl.DataFrame(), pd.DataFrame()
    for turn in range(options.rounds):
        ours = pl.DataFrame()
        seconds, computed = _seconds_of(lambda: alpha158(panel, NAMES, n_threads=options.threads))
        kernels_s.append(seconds)
        del computed
        seconds, ours = _seconds_of(lambda: feature_frame(panel, FEATURES))
        ours_s.append(seconds)
        if turn == 0:
            output = ours.select(NAMES).estimated_size() / 2**30
            print(f"peak memory of ours: {_peak_gib() - before:.2f} GiB above the bars, output {output:.2f} GiB")
        del theirs
        seconds, theirs = _seconds_of(lambda: qlib_features(frames, processes=options.threads))
        theirs_s.append(seconds)
        print(f"round {turn + 1}: ours {ours_s[-1]:.2f} s (kernels {kernels_s[-1]:.2f} s), Qlib {theirs_s[-1]:.2f} s")
    for name, times in (("ours", ours_s), ("ours, kernels", kernels_s), ("Qlib", theirs_s)):
        print(f"{name:<16} min {min(times):7.2f} s   median {statistics.median(times):7.2f} s")
    ratio, median = min(theirs_s) / min(ours_s), statistics.median(theirs_s) / statistics.median(ours_s)
    print(f"ours is {ratio:.1f}x as fast as Qlib (least of each), {median:.1f}x (medians)")

    week = build_panel(bars, None, wanted=bars["session"].unique().sort()[-5:].to_list())
    times = [_seconds_of(lambda: feature_frame(week, FEATURES))[0] for _ in range(5)]
    print(f"one week of all symbols, {int(week.is_wanted.sum()):,} rows: min {min(times) * 1e3:.1f} ms")
    worst = _largest_error(ours, theirs)
    print(f"largest error: {worst:.2g} of the tolerance (1e-3 of the value and 1e-6), NaN masks the same")
    return int(not worst < 1.0)


if __name__ == "__main__":
    sys.exit(main())
