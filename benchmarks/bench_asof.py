"""As-of join of filings: ours against polars' `join_asof`, 800 symbols x 3,500 bars, interleaved.

    python benchmarks/bench_asof.py [--rounds 9]

Prints the least and the median seconds of each and the ratio of the least; fails if they differ in one row or if ours
takes more than 1.5 times as long. Polars joins prepared frames with categorical keys, its fastest way; ours starts from
the panel and the table as a feature does, without (the join) and with (all of it) matching symbols and sorting.
"""

import argparse
import sys
import time
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl

from hf_pipelines.research.bars import BARS_SCHEMA
from hf_pipelines.research.features.panel import build_panel
from hf_pipelines.research.features.point_in_time import known_table, latest_known

SYMBOLS, SESSIONS, FILINGS = 800, 3_500, 56
MAX_RATIO = 1.5


def main() -> int:
    """Time both and compare them row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    days = [date(2010, 1, 4) + timedelta(days=number) for number in range(SESSIONS)]
    opens = {day: datetime(day.year, day.month, day.day, 14, 30, tzinfo=UTC) for day in days}
    filings = _filings(days[0])
    panel = build_panel(_bars(days), None, opens=opens, references={"fundamentals": filings})
    table = known_table(panel, "fundamentals")
    categories = pl.Categories("bench_asof")
    left = panel.keys.select(
        pl.col("symbol").cast(pl.Categorical(categories)), at=pl.Series(panel.session_open).dt.replace_time_zone("UTC")
    )
    right = filings.select(
        pl.col("symbol").cast(pl.Categorical(categories)), pl.col("available_at").alias("at"), "revenue"
    ).sort("symbol", "at")
    revenue = table.figure("revenue")

    def ours() -> np.ndarray:
        return revenue[latest_known(panel, table)]

    def whole() -> np.ndarray:
        fresh = known_table(panel, "fundamentals")
        return fresh.figure("revenue")[latest_known(panel, fresh)]

    def polars() -> np.ndarray:
        joined = left.join_asof(
            right, on="at", by="symbol", strategy="backward", allow_exact_matches=False, check_sortedness=False
        )
        return joined["revenue"].to_numpy()

    ways = {"ours, the join": ours, "ours, all of it": whole, "polars join_asof": polars}
    reference = polars()
    for name, way in ways.items():
        if not np.array_equal(way(), reference, equal_nan=True):
            print(f"{name} differs from polars")
            return 1
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - begun)
    least = {name: min(taken) for name, taken in seconds.items()}
    print(f"{panel.close.size:,} rows, {filings.height:,} filings, {rounds} rounds, equal in every row")
    for name, taken in seconds.items():
        ratio = least[name] / least["polars join_asof"]
        print(f"{name:18} least {least[name]:.4f} s  median {np.median(taken):.4f} s  {ratio:.2f} x polars")
    return int(least["ours, all of it"] > MAX_RATIO * least["polars join_asof"])


def _bars(days: list[date]) -> pl.DataFrame:
    frame = pl.DataFrame({"symbol": [f"S{number:04d}" for number in range(SYMBOLS)]}).join(
        pl.DataFrame({"session": days}), how="cross", maintain_order="left_right"
    )
    ts = (pl.col("session").cast(pl.Datetime("us")) + pl.duration(hours=21)).dt.replace_time_zone("UTC")
    prices = {name: pl.lit(1.0) for name in ("open", "high", "low", "close", "volume", "split_ratio")}
    return frame.with_columns(ts=ts, **prices, dividend=pl.lit(0.0), role=pl.lit("member")).select(*BARS_SCHEMA)


def _filings(first: date) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    minutes = np.sort(rng.integers(0, SESSIONS * 1_440, (SYMBOLS, FILINGS)), axis=1).ravel()
    at = pl.lit(datetime(first.year, first.month, first.day)) + pl.duration(minutes=pl.col("minute"))
    return pl.DataFrame(
        {"symbol": np.repeat([f"S{number:04d}" for number in range(SYMBOLS)], FILINGS), "minute": minutes,
         "revenue": np.arange(minutes.size, dtype=np.float64)}
    ).unique(["symbol", "minute"], keep="last", maintain_order=True).select(
        "symbol", available_at=at.cast(pl.Datetime("us")).dt.replace_time_zone("UTC"), revenue="revenue"
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
