"""Cost of a day's judgement of drift, beside scipy's Kolmogorov-Smirnov distances of the same windows.

    python benchmarks/bench_drift.py [rounds]

60 features, 500 symbols, 63 sessions held to 756: the reference's windows (a thousand at most) take the place of resamples. Prints the least
CPU seconds of the histograms of all sessions, which a run makes once, of the judgement, and of `scipy.stats.ks_2samp` of the 60 columns in
one window, interleaved; and what scipy would take for as many windows. Fails above 3 seconds.
"""

import sys
from collections.abc import Callable
from time import process_time

import numpy as np
import polars as pl

from hf_pipelines.research.drift import judge_drift, reference_bins, session_histograms

N_FEATURES, N_SYMBOLS, N_REFERENCE, N_WINDOW = 60, 500, 756, 63
N_WINDOWS = 1_000
LIMIT_S = 3.0


def drawn(n_sessions: int, *, seed: int) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    columns = {f"f{at}": random.normal(size=n_sessions * N_SYMBOLS).astype(np.float32) for at in range(N_FEATURES)}
    days = pl.date_range(pl.date(2020, 1, 1), pl.date(2025, 1, 1), eager=True).head(n_sessions)
    return pl.DataFrame({"session": np.repeat(days.to_numpy(), N_SYMBOLS), **columns})


def main() -> int:
    from scipy.stats import ks_2samp

    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    training, newest = drawn(N_REFERENCE, seed=0), drawn(N_WINDOW, seed=1)
    names = [name for name in training.columns if name != "session"]
    bins = reference_bins(training, names)
    of_training, of_newest = session_histograms(training, bins), session_histograms(newest, bins)
    calls: dict[str, Callable[[], object]] = {
        "histograms": lambda: (session_histograms(training, bins), session_histograms(newest, bins)),
        "judgement": lambda: judge_drift(of_training, of_newest),
        "scipy": lambda: [ks_2samp(training[name], newest[name], method="asymp") for name in names],
    }
    took = dict.fromkeys(calls, np.inf)
    for _ in range(rounds):
        for name, call in calls.items():
            began = process_time()
            call()
            took[name] = min(took[name], process_time() - began)
    print(f"{N_FEATURES} features, {N_SYMBOLS} symbols, {N_WINDOW} sessions held to {N_REFERENCE}; CPU seconds")
    print(f"histograms of all sessions {took['histograms']:.2f}; judgement {took['judgement']:.2f}")
    print(f"scipy's KS of one window {took['scipy']:.2f}, of {N_WINDOWS:,} {N_WINDOWS * took['scipy']:,.0f}")
    return int(took["judgement"] > LIMIT_S)


if __name__ == "__main__":
    sys.exit(main())
