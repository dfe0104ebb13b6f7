"""Columns of a panel: bars as arrays, symbol after symbol.

Here: types of the arrays, columns of checked bars, and the index beside each symbol's bars. Not here: the panel itself
(`panel.py`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.adjustment import price_factor

FloatArray = npt.NDArray[np.float64]

OffsetArray = npt.NDArray[np.int64]

CodeArray = npt.NDArray[np.int32]

DateArray = npt.NDArray[np.datetime64]

BoolArray = npt.NDArray[np.bool_]


def _column(bars: pl.DataFrame, name: str) -> FloatArray:
    return bars[name].cast(pl.Float64).to_numpy(writable=True)


def _first_rows(bars: pl.DataFrame) -> OffsetArray:
    """Number of the first row of each symbol."""
    return np.flatnonzero(np.diff(bars["symbol"].rle_id().to_numpy().astype(np.int64), prepend=-1))


def _price_factor(bars: pl.DataFrame) -> FloatArray:
    return bars.select(price_factor())["price_factor"].to_numpy(writable=True)


def _benchmark_bars(bars: pl.DataFrame, benchmark: str | None, volatility_index: str | None) -> pl.DataFrame:
    references = bars.filter(pl.col("role") == "reference")
    # A named benchmark without bars is no error: a week before its first bar must come out the same, NaN,
    # alone or in a range of weeks.
    if benchmark is not None:
        return references.filter((pl.col("symbol") == benchmark) & (pl.col("symbol") != (volatility_index or "")))
    references = references.filter(pl.col("symbol") != (volatility_index or ""))
    if len(known := references["symbol"].unique().sort().to_list()) > 1:
        raise ValueError(f"`benchmark` must be one of the reference symbols {known}, was None.")
    return references


def _volatility_close(members: pl.DataFrame, bars: pl.DataFrame, volatility_index: str | None) -> FloatArray:
    if volatility_index is None:
        return np.full(members.height, np.nan)
    return _align_benchmark(members, bars.filter(pl.col("symbol") == volatility_index))[0]


def _align_benchmark(members: pl.DataFrame, benchmark: pl.DataFrame) -> tuple[FloatArray, FloatArray]:
    """Closes and factors of the benchmark at the members' rows, NaN where its session has no bar yet."""
    close = np.full(members.height, np.nan)
    factor = np.full(members.height, np.nan)
    if benchmark.is_empty():
        return close, factor
    # Its latest bar by the row's `ts`: a benchmark that closes later on the same day is not known yet.
    at = np.searchsorted(benchmark["ts"].to_numpy(), members["ts"].to_numpy(), side="right") - 1
    known = at >= 0
    known[known] = benchmark["session"].to_numpy()[at[known]] == members["session"].to_numpy()[known]
    own = _price_factor(benchmark)
    close[known] = _column(benchmark, "close")[at[known]]
    factor[known] = own[at[known]]
    # Where the symbol skipped sessions, the benchmark's events of those sessions count as well.
    steps = np.diff(at, prepend=0)
    steps[_first_rows(members)] = 1
    back = 1
    while (rows := np.flatnonzero(known & (steps > back))).size:
        factor[rows] *= own[at[rows] - back]
        back += 1
    # Two bars of a symbol within one bar of the benchmark: nothing happened to it in between.
    factor[known & (steps == 0)] = 1.0
    return close, factor
