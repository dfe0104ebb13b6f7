"""Cross-section: what a share returns beside others of the same session, all of them until the same close.

Each row looks at the next `horizon_bars` times at which any symbol has a bar, and at every member until the last of them. A
member that is halted or delisted on the way counts for the others with its last price. It has a label of its own only where it
has a bar at that last time: what a halted share is worth then, nobody knows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.params import Choice, Text
from hf_pipelines.research.targets.returns import bar_growth, require_possible
from hf_pipelines.research.targets.target import Params, TargetNeeds, label_rows
from hf_pipelines.research.targets.volatility import Floats

OVER = Choice(default="universe", names=("universe", "sector", "benchmark"), meaning="whose return is taken off")
BENCHMARK = Text(
    default="", pattern=r"[A-Z0-9^.=_-]{0,32}", meaning="symbol of the market that `over: benchmark` is measured by"
)

# Fewer have no place among each other.
LEAST_MEMBERS = 2


@dataclass(frozen=True, eq=False)
class _Grid:
    """Bars by symbol and time.

    Attributes
    ----------
    returned : array of shape (n_symbols, n_times - horizon)
        Total return of each symbol from its close at a time, to its last close at or before the time `horizon` later; NaN where
        it has no bar at the time or an event in between is unknown.
    is_labelled : bool array of the same shape
        Whether the symbol has a bar at both ends and a known return.
    row : int array of shape (n_symbols, n_times)
        Row of the sorted bars, -1 without one.
    """

    returned: Floats
    is_labelled: npt.NDArray[np.bool_]
    row: npt.NDArray[np.int64]


def _grid(bars: pl.DataFrame, n_ahead: int) -> _Grid:
    """Lay bars sorted by (symbol, ts) out by symbol and time."""
    require_possible(bars)
    symbol = bars["symbol"].rle_id().to_numpy()
    times, at = np.unique(bars["ts"].to_physical().to_numpy(), return_inverse=True)
    n_symbols = int(symbol[-1]) + 1 if len(symbol) else 0
    row = np.full((n_symbols, len(times)), -1)
    row[symbol, at] = np.arange(len(symbol))
    # A symbol without a bar is worth what it was; the growth of its next bar spans the gap.
    growth = np.ones((n_symbols, len(times)))
    is_next = symbol[1:] == symbol[:-1]
    growth[symbol[1:][is_next], at[1:][is_next]] = bar_growth(bars)[is_next]
    n_rows = max(len(times) - n_ahead, 0)
    returned = np.ones((n_symbols, n_rows))
    for step in range(1, n_ahead + 1):
        returned *= growth[:, step : step + n_rows]
    returned = np.where(row[:, :n_rows] >= 0, returned - 1.0, np.nan)
    return _Grid(returned, ~np.isnan(returned) & (row[:, n_ahead:][:, :n_rows] >= 0), row)


def label_rank(bars: pl.DataFrame, params: Params) -> pl.DataFrame:
    """Label rows by their place among the members of their time.

    `target` is the total return until the close `horizon_bars` times of the market later. `y` is its place among all members
    that have a bar at the row's time: (rank - 0.5) / members, above 0 and below 1, equal returns sharing their mean rank. With
    fewer than two members there is no label.
    """
    bars = bars.sort("symbol", "ts")
    grid = _grid(bars, params["horizon_bars"])
    place, n_known = _places(grid.returned)
    y = (place - 0.5) / np.maximum(n_known, 1)
    return _labels(
        bars, grid, y, is_labelled=grid.is_labelled & (n_known >= LEAST_MEMBERS), n_ahead=params["horizon_bars"]
    )


def needs_excess(params: Params) -> TargetNeeds:
    """Return the needs: sectors, or the bars of the benchmark."""
    return TargetNeeds(
        horizon_bars=params["horizon_bars"],
        references=params["over"] == "benchmark",
        symbols=(params["benchmark"],) if params["over"] == "benchmark" else (),
        sectors=params["over"] == "sector",
    )


def check_excess(params: Params) -> None:
    """Refuse a benchmark that is not named, or not looked at."""
    if (params["over"] == "benchmark") != bool(params["benchmark"]):
        raise ValueError(
            f"`benchmark` must be given with `over: benchmark` and with no other, was {params['benchmark']!r} with "
            f"{params['over']}; name the benchmark of the market."
        )


def label_excess(bars: pl.DataFrame, params: Params) -> pl.DataFrame:
    """Label rows by their return less that of the universe, of their sector or of the benchmark.

    `y` and `target` are the total return until the close `horizon_bars` times of the market later, less the mean of all members
    that have a bar at the row's time (the row's own symbol too), of those of its sector, or the return of the benchmark until
    the same close. A row without a sector, or alone in it, has no label, nor has one whose benchmark has no bar, nor the
    benchmark itself where it is a member.
    """
    bars = bars.sort("symbol", "ts")
    grid = _grid(bars, params["horizon_bars"])
    symbols = bars["symbol"].unique(maintain_order=True)
    is_member = np.ones(len(symbols), dtype=bool)
    if "role" in bars.columns:
        roles = bars.group_by("symbol", maintain_order=True).agg(pl.col("role").last())["role"]
        is_member = (roles == "member").to_numpy()
    if params["over"] == "benchmark":
        if params["benchmark"] not in symbols:
            raise ValueError(f"`benchmark` must have bars, was {params['benchmark']!r}, which has none.")
        # Its own excess is 0 by definition: nothing to learn.
        is_member &= (symbols != params["benchmark"]).to_numpy()
        base = np.broadcast_to(grid.returned[symbols.to_list().index(params["benchmark"])], grid.returned.shape)
    else:
        base = np.full_like(grid.returned, np.nan)
        for members in _groups(bars, symbols, by_sector=params["over"] == "sector"):
            known = ~np.isnan(grid.returned[members])
            total = np.where(known, grid.returned[members], 0.0).sum(axis=0)
            n_known = known.sum(axis=0)
            base[members] = np.where(n_known >= LEAST_MEMBERS, total / np.maximum(n_known, 1), np.nan)
    excess = grid.returned - base
    is_labelled = grid.is_labelled & ~np.isnan(excess) & is_member[:, None]
    labels = _labels(bars, grid, excess, is_labelled=is_labelled, n_ahead=params["horizon_bars"])
    return labels.with_columns(target="y")


def _groups(bars: pl.DataFrame, symbols: pl.Series, *, by_sector: bool) -> list[npt.NDArray[np.int64]]:
    if not by_sector:
        return [np.arange(len(symbols))]
    sectors = bars.group_by("symbol", maintain_order=True).agg(pl.col("sector").last())["sector"]
    return [np.flatnonzero((sectors == name).to_numpy()) for name in sectors.drop_nulls().unique().sort()]


def _places(values: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Mean rank of each value in its column, the lowest 1, NaN for NaN; and how many there are."""
    n_rows, n_columns = values.shape
    long = pl.DataFrame({"column": np.tile(np.arange(n_columns), n_rows), "value": values.reshape(-1)}).with_columns(
        pl.col("value").fill_nan(None)
    )
    ranked = long.select(
        place=pl.col("value").rank("average").over("column"), known=pl.col("value").count().over("column")
    )
    place = ranked["place"].fill_null(float("nan")).to_numpy().reshape(values.shape)
    return place, ranked["known"].to_numpy().reshape(values.shape).astype(np.int64)


def _labels(
    bars: pl.DataFrame, grid: _Grid, y: Floats, *, is_labelled: npt.NDArray[np.bool_], n_ahead: int
) -> pl.DataFrame:
    symbol, at = np.nonzero(is_labelled)
    labels = label_rows(bars, grid.row[symbol, at], grid.row[symbol, at + n_ahead], target=grid.returned[symbol, at])
    return labels.with_columns(y=pl.Series(y[symbol, at]))
