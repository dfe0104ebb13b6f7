"""Speed and memory of the features: groups, growth, and pandas beside them.

Run: `python -m benchmarks.bench_features [--symbols 500] [--bars 1000] [--rounds 3]`. Ours and pandas' runs
are interleaved; minimum and median wall seconds are printed. pandas is given prices that are already adjusted
for events, work that ours includes. Each figure with a limit says whether it is kept. Exits with 1 if ours and pandas
disagree.
"""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import date
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import polars as pl

from hf_pipelines.research.adjustment import adjust
from hf_pipelines.research.features import FEATURES, Feature, build_panel, compute_features, feature_frame
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


def _rolling_hurst(close: np.ndarray) -> float:
    """What is usually given to `rolling(120).apply`: the formula of `hurst_exponent_120` in numpy."""
    price, lags = np.log(close), np.array([1, 2, 4, 8, 16])
    drift = (price[-1] - price[0]) / (price.size - 1)
    squares = [np.mean((price[lag:] - price[:-lag] - lag * drift) ** 2) for lag in lags]
    return np.polyfit(np.log(lags), np.log(squares), 1)[0] / 2


def _rolling_regime(close: np.ndarray) -> float:
    """What is usually given to `rolling(272).apply`: the formula of `volatility_regime_252` in pandas."""
    volatility = np.log(pd.Series(close)).diff().rolling(20).std()
    return (volatility.rank(pct=True).iloc[-1] * 252 - 0.5) / 252


ROLLING_APPLY = {"hurst_exponent_120": _rolling_hurst, "volatility_regime_252": _rolling_regime}


def _kept(value: float, limit: float, *, at_least: bool = False) -> str:
    return f"limit {limit:g}: {'kept' if (value >= limit if at_least else value <= limit) else 'MISSED'}"


def main() -> int:
    """Print the table; 1 if a value differs from pandas'."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--bars", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--memory",
        type=int,
        nargs=2,
        metavar=("SYMBOLS", "BARS"),
        help="print the peak of one call over so many, and end",
    )
    options = parser.parse_args()
    if options.memory:
        _measure_memory(*options.memory)
        return 0

    bars = random_bars(symbols=options.symbols, sessions=options.bars)
    sessions = _calendar(options.bars)
    features = _fed_features()  # Compiled or loaded from the cache thereby.
    panel = build_panel(bars, sessions)
    print(f"{panel.close.size:,} rows, {int((panel.price_factor != 1).sum()):,} corporate actions")

    _show("build_panel", [_seconds(lambda: build_panel(bars, sessions)) for _ in range(options.rounds)])
    for group, own in features.items():
        times = [_seconds(partial(feature_frame, panel, own)) for _ in range(options.rounds)]
        each = min(times) / len(own) / panel.close.size
        _show(group, times, f"{len(own)} features, {each * 1e9:.1f} ns a value")
    times = [_seconds(lambda: compute_features(bars, sessions=sessions)) for _ in range(options.rounds)]
    _show("all, from bars", times)
    _show_growth(rounds=options.rounds)
    subprocess.run([sys.executable, "-m", "benchmarks.bench_features", "--memory", "1000", "1260"], check=True)
    return int(
        _compare_with_rolling_apply(bars, rounds=options.rounds) + _compare_with_pandas(bars, rounds=options.rounds)
    )


def _calendar(n_bars: int) -> list[date]:
    """The sessions of `random_bars`, a month before and one after."""
    return weekdays(n_bars + 25 + 1, start=date(2019, 12, 2))


def _fed_features() -> dict[str, list[Feature]]:
    """Features by group that bars, a benchmark and a calendar can feed."""
    columns = compute_features(random_bars(symbols=2, sessions=320), sessions=_calendar(320)).columns
    fed: dict[str, list[Feature]] = {}
    for name in columns[3:]:
        fed.setdefault(FEATURES[name].group, []).append(FEATURES[name])
    return fed


def _show_growth(*, rounds: int) -> None:
    """Exponent of time in symbols and in bars: 1 if twice the bars take twice the time."""
    shapes = {
        "symbols": [(symbols, 1260) for symbols in (50, 100, 200, 400)],
        "bars": [(50, bars) for bars in (1260, 2520, 5040, 10080)],
    }
    for what, sizes in shapes.items():
        runs = []
        for symbols, n_bars in sizes:
            bars, sessions = random_bars(symbols=symbols, sessions=n_bars), _calendar(n_bars)
            runs.append(partial(compute_features, bars, sessions=sessions))
        times = [[_seconds(run) for run in runs] for _ in range(rounds)]
        best = np.min(times, axis=0)
        exponent = np.polyfit(np.log([symbols * n_bars for symbols, n_bars in sizes]), np.log(best), 1)[0]
        shown = ", ".join(f"{seconds:.2f}" for seconds in best)
        print(f"{'growth in ' + what:<28} exponent {exponent:.3f}   ({shown} s)   {_kept(exponent, 1.05)}")


def _measure_memory(symbols: int, n_bars: int) -> None:
    bars, sessions = random_bars(symbols=symbols, sessions=n_bars), _calendar(n_bars)
    compute_features(bars[: 2 * n_bars], sessions=sessions)
    before = _held()
    Path("/proc/self/clear_refs").write_text("5")  # The peak starts anew.
    with ThreadPoolExecutor(1) as other:
        computing = other.submit(compute_features, bars, sessions=sessions)
        most = before
        while not wait([computing], timeout=0.05).done:
            most = max(most, _held())
        features = computing.result()
    # What the system has moved out counts; between two looks the resident part alone is known.
    peak, output = max(most, _status("VmHWM")) - before, features.estimated_size()
    ratio = peak / output
    shape = f"{symbols:,} x {n_bars:,}, {features.width} columns"
    print(
        f"{'peak memory':<28} {peak / 1e6:,.0f} MB for an output of {output / 1e6:,.0f} MB ({shape}): {ratio:.2f}   {_kept(ratio, 2.0)}"
    )


def _held() -> int:
    """Bytes of this process in memory and in swap."""
    return _status("VmRSS") + _status("VmSwap")


def _status(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def _compare_with_rolling_apply(bars: pl.DataFrame, *, rounds: int) -> int:
    """Ours over all rows, theirs over the first symbol's: microseconds a row."""
    members = bars.filter(pl.col("role") == "member")
    panel = build_panel(members, None)
    first = adjust(members, members["ts"].max()).filter(pl.col("symbol") == pl.col("symbol").first())
    close = first["close"].to_pandas()
    worst = 0.0
    for name, function in ROLLING_APPLY.items():
        window = FEATURES[name].lookback_bars
        rolling = close.rolling(window)
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(_seconds(partial(FEATURES[name].compute, panel)))
            theirs.append(_seconds(partial(rolling.apply, function, raw=True)))
        computed = [int((np.diff(panel.starts) - window + 1).clip(0).sum()), close.size - window + 1]
        ours_us, theirs_us = min(ours) / computed[0] * 1e6, min(theirs) / computed[1] * 1e6
        ratio = theirs_us / ours_us
        print(
            f"{name:<28} {ours_us:.3f} us a row, rolling.apply {theirs_us:.1f}: {ratio:,.0f}x   {_kept(ratio, 200, at_least=True)}"
        )
        difference = np.abs(FEATURES[name].compute(panel)[: close.size] - rolling.apply(function, raw=True).to_numpy())
        worst = max(worst, float(np.nanmax(difference)))
    print(f"largest absolute difference from rolling.apply: {worst:.1e}")
    return int(not worst < 1e-6)


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
