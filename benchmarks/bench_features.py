"""Time of each feature group for 500 symbols x 1,000 bars, and some features against pandas' rolling windows.

Run: `python -m benchmarks.bench_features [--symbols 500] [--bars 1000] [--rounds 3]`. Ours and pandas' runs
are interleaved; minimum and median wall seconds are printed. pandas is given prices that are already adjusted
for events, work that ours includes. Exits with 1 if the two disagree.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from functools import partial
from time import perf_counter

import numpy as np
import pandas as pd
import polars as pl

from hf_pipelines.research.bars import adjust
from hf_pipelines.research.features import FEATURES, build_panel, compute_features, feature_frame, group_names
from hf_pipelines_tests.sample_bars import random_bars, weekdays

Grouped = Callable[[pd.DataFrame], pd.Series]


def _grouped(frame: pd.DataFrame) -> "pd.api.typing.DataFrameGroupBy":
    return frame.groupby("symbol", sort=False, observed=True)


def _rolling(frame: pd.DataFrame, column: str, bars: int, statistic: str, **options: int) -> pd.Series:
    return getattr(_grouped(frame)[column].rolling(bars), statistic)(**options).droplevel(0)


def _stochastic_k(frame: pd.DataFrame) -> pd.Series:
    low, high = _rolling(frame, "low", 14, "min"), _rolling(frame, "high", 14, "max")
    return 100 * (frame.close - low) / (high - low)


def _volatility_60(frame: pd.DataFrame) -> pd.Series:
    frame = frame.assign(log_close=np.log(frame.close))
    frame["returns"] = _grouped(frame).log_close.diff()
    return _rolling(frame, "returns", 60, "std")


PANDAS: dict[str, Grouped] = {
    "roc_20": lambda frame: _grouped(frame).close.pct_change(20),
    "sma_gap_50": lambda frame: frame.close / _rolling(frame, "close", 50, "mean") - 1,
    "bollinger_width_20": lambda frame: (
        4 * _rolling(frame, "close", 20, "std", ddof=0) / _rolling(frame, "close", 20, "mean")
    ),
    "volatility_60": _volatility_60,
    "high_distance_60": lambda frame: frame.close / _rolling(frame, "high", 60, "max") - 1,
    "stochastic_k": _stochastic_k,
    "volume_ratio_20": lambda frame: frame.volume / _rolling(frame, "volume", 20, "mean"),
}


def _seconds(run: Callable[[], object]) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start


def _show(name: str, times: list[float], note: str = "") -> None:
    print(f"{name:<28} min {min(times):7.3f} s   median {statistics.median(times):7.3f} s   {note}")


def main() -> int:
    """Print the table; 1 if a value differs from pandas'."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--bars", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    bars = random_bars(symbols=options.symbols, sessions=options.bars)
    sessions = weekdays(options.bars + 1)
    compute_features(bars[:500], list(FEATURES), sessions=sessions)  # Compile or load from the cache.
    panel = build_panel(bars, sessions)
    print(f"{panel.close.size:,} rows, {int((panel.price_factor != 1).sum()):,} corporate actions")

    _show("build_panel", [_seconds(lambda: build_panel(bars, sessions)) for _ in range(options.rounds)])
    for group in ("technical", "cross_asset", "temporal"):
        features = [FEATURES[name] for name in group_names(group)]
        run = partial(feature_frame, panel, features)
        times = [_seconds(run) for _ in range(options.rounds)]
        each = min(times) / len(features)
        _show(group, times, f"{len(features)} features, {each:.3f} s each")
    times = [_seconds(lambda: compute_features(bars, list(FEATURES), sessions=sessions)) for _ in range(options.rounds)]
    _show("all, from bars", times)
    return _compare_with_pandas(bars, rounds=options.rounds)


def _compare_with_pandas(bars: pl.DataFrame, *, rounds: int) -> int:
    members = bars.filter(pl.col("role") == "member")
    adjusted = adjust(members, members["ts"].max())
    frame = adjusted.select("symbol", "open", "high", "low", "close", "volume").to_pandas()
    frame["symbol"] = frame["symbol"].astype("category")
    panel = build_panel(members, None)
    row = members.select(pl.int_range(pl.len()).over("symbol")).to_series().to_numpy()
    worst = 0.0
    for name, theirs in PANDAS.items():
        ours_s, theirs_s = [], []
        for _ in range(rounds):
            ours_s.append(_seconds(partial(feature_frame, panel, [FEATURES[name]])))
            theirs_s.append(_seconds(partial(theirs, frame)))
        difference = np.abs(FEATURES[name].compute(panel) - theirs(frame).to_numpy())
        worst = max(worst, float(np.max(difference[row >= FEATURES[name].lookback_bars - 1])))
        ratio = min(theirs_s) / min(ours_s)
        _show(name, ours_s, f"pandas {min(theirs_s):.3f} s, ours {ratio:.1f}x as fast")
    print(f"largest absolute difference from pandas: {worst:.1e}")
    return int(not worst < 1e-6)


if __name__ == "__main__":
    sys.exit(main())
