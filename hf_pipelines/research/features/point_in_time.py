"""Point in time: which rows of a reference table count for a row of the panel.

Here: the as-of join by (symbol, session open), the versions known at each arrival, and the splits between a report
and a bar. Not here: the tables' contracts (`references.py`) and any feature.

A reference row counts for the sessions that OPEN after its `available_at`. A correction is a row of its own: it
counts from its own `available_at`, and what was known before stays known for the sessions before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.features.lazy_kernel import window_kernel
from hf_pipelines.research.features.panel import Panel
from hf_pipelines.research.features.panel_columns import BoolArray, FloatArray, OffsetArray

TimeArray = npt.NDArray[np.datetime64]

DAY = np.timedelta64(86_400_000_000, "us")
NEVER = np.datetime64("NaT", "us")

# Beyond this a feature would be infinite in float32.
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class KnownTable:
    """Rows of a reference table of the panel's symbols, sorted by (symbol, available_at, ...).

    Attributes
    ----------
    frame : DataFrame
        The rows, with `owner`: the number of the symbol in the panel.
    offsets : int64 array of shape (n_symbols + 1,)
        Symbol `i` has the rows `offsets[i]` up to, not including, `offsets[i + 1]`.
    available_at : datetime64[us] array of shape (n,)
    """

    frame: pl.DataFrame
    offsets: OffsetArray
    available_at: TimeArray

    def figure(self, name: str) -> FloatArray:
        """A column as float64, with a NaN at its end: position -1 is an unknown row."""
        return np.append(self.frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy(), np.nan)

    def time(self, name: str) -> TimeArray:
        """A column of times, with a NaT at its end."""
        return np.append(_times(self.frame[name]), NEVER)


def known_table(
    panel: Panel, name: str, *, by: str = "available_at", columns: Sequence[str] | None = None
) -> KnownTable:
    """Rows of `panel.references[name]` that belong to the panel's symbols, in an order of their content alone.

    Parameters
    ----------
    panel : Panel
    name : str
        Of the table.
    by : str
        Column of times that comes first in each symbol's order.
    columns : sequence of str, optional
        What is needed besides `available_at`. Default: all.

    Raises
    ------
    ValueError
        If the panel has no such table.
    """
    if name not in panel.references:
        raise ValueError(f"`references` must hold {name!r}, was without it; give the table to `compute_features`.")
    symbols = panel.keys["symbol"].gather(panel.starts[:-1])
    owners = pl.DataFrame({"symbol": symbols, "owner": pl.int_range(symbols.len(), dtype=pl.Int64, eager=True)})
    table = panel.references[name]
    table = table.select(dict.fromkeys(["symbol", "available_at", *(columns or table.columns)]).keys())
    table = table.join(owners, on="symbol", how="inner")
    rest = sorted(set(table.columns) - {"symbol", "owner", by, "available_at"})
    # Whatever order the rows came in: sums over them must not depend on it.
    return _table(table.sort("owner", by, *({"available_at"} - {by}), *rest), symbols.len())


def _table(frame: pl.DataFrame, n_symbols: int) -> KnownTable:
    offsets = np.searchsorted(frame["owner"].to_numpy(), np.arange(n_symbols + 1)).astype(np.int64)
    return KnownTable(frame, offsets, _times(frame["available_at"]))


def _times(column: pl.Series) -> TimeArray:
    return column.to_numpy().astype("datetime64[us]")


def latest_known(panel: Panel, table: KnownTable) -> OffsetArray:
    """As-of join: for each row of the panel, the table's last row available before its session opened.

    Returns
    -------
    int64 array of shape (n_rows,)
        Positions in `table`, -1 where nothing of the symbol was known yet or the session's open is not known.
    """
    at = np.empty(panel.session_open.size, dtype=np.int64)
    _merge(panel.starts, _ticks(panel.session_open), table.offsets, _ticks(table.available_at), at)
    return at


def first_rows_after(panel: Panel, table: KnownTable) -> OffsetArray:
    """For each row of the table, the symbol's first panel row whose session opened after it; -1 if there is none."""
    at = np.empty(table.available_at.size, dtype=np.int64)
    _merge_back(panel.starts, _ticks(panel.session_open), table.offsets, _ticks(table.available_at), at)
    return at


@dataclass(frozen=True, eq=False)
class Arrivals:
    """The moments at which something became known of a symbol, and what was known at each.

    Attributes
    ----------
    moments : KnownTable
        One row a symbol and moment.
    versions : DataFrame
        `arrival` (position in `moments`), `row` (position in the table it was made of), `event_time`,
        `latest_event` (the newest event known at the arrival): for each event the version known at the arrival.
        Sorted by (arrival, event_time).
    """

    moments: KnownTable
    versions: pl.DataFrame


def versions_known(table: KnownTable, *, reach_days: int) -> Arrivals:
    """At each arrival, the latest version of each event among the rows of the `reach_days` before it.

    Parameters
    ----------
    table : KnownTable
        With `event_time`; a later row of the same symbol and `event_time` is a correction.
    reach_days : int
        Rows that became available this many days before an arrival, or earlier, play no part in it: so an older
        table changes nothing.

    Returns
    -------
    Arrivals
    """
    same = pl.struct("owner", "available_at")
    is_last = table.frame.select((same != same.shift(-1)).fill_null(True)).to_series()
    moments = table.frame.filter(is_last).select("owner", "available_at")
    last = np.flatnonzero(is_last.to_numpy())
    first = np.empty(table.available_at.size, dtype=np.int64)
    _reach_back(table.offsets, _ticks(table.available_at), days_in_ticks(reach_days), first)
    n_rows = last - first[last] + 1
    # The rows of each arrival are neighbours: from the first within reach to the last of the moment.
    begins = np.cumsum(n_rows) - n_rows
    row = np.arange(n_rows.sum()) - np.repeat(begins - first[last], n_rows)
    known = (
        pl.DataFrame({"arrival": np.repeat(np.arange(last.size), n_rows), "row": row})
        .with_columns(table.frame["event_time"].gather(row))
        .sort("arrival", "event_time", "row")
        .unique(["arrival", "event_time"], keep="last", maintain_order=True)
        .with_columns(latest_event=pl.col("event_time").last().over("arrival"))
    )
    return Arrivals(_table(moments, table.offsets.size - 1), known)


def fill_slots(versions: pl.DataFrame, slot: pl.Expr, *, n_arrivals: int, n_slots: int) -> OffsetArray:
    """Lay out the versions known at each arrival in numbered slots.

    Parameters
    ----------
    versions : DataFrame
        Of `Arrivals`.
    slot : Expr of integer
        Number of each version's slot; others than 0 to `n_slots` - 1, and null, are left out. Of several versions
        in a slot the one with the latest `event_time` counts.

    Returns
    -------
    int64 array of shape (n_arrivals, n_slots)
        Positions in the table, -1 for an empty slot.
    """
    chosen = (
        versions.with_columns(slot=slot)
        .filter(pl.col("slot").is_between(0, n_slots - 1))
        .unique(["arrival", "slot"], keep="last", maintain_order=True)
    )
    slots = np.full((n_arrivals, n_slots), -1, dtype=np.int64)
    slots[chosen["arrival"].to_numpy(), chosen["slot"].to_numpy()] = chosen["row"].to_numpy()
    return slots


def split_growth(panel: Panel, after: TimeArray, *, lookback_days: int, until: TimeArray | None = None) -> FloatArray:
    """What one share of then has become: product of the splits effective between a moment and a row of the panel.

    Parameters
    ----------
    panel : Panel
    after : datetime64[us] array of shape (n_rows,)
        The moment, for each row; splits of sessions that opened after it count.
    lookback_days : int
        Bars of sessions that opened so many days before the row's, or later, are read.
    until : datetime64[us] array of shape (n_rows,), optional
        Splits of sessions that opened after this do not count. Default: up to the row.

    Returns
    -------
    float64 array of shape (n_rows,)
        1 without a split. NaN where `after` is NaT, where the row is not wanted, where the symbol's bars do not reach back
        `lookback_days`, and where the moment lies before that: a split before it would not be seen.
    """
    ends = panel.session_open if until is None else until
    values = np.full(panel.close.size, np.nan)
    _multiply_splits(
        panel.starts, panel.first_readable, _ticks(panel.session_open), panel.split_ratio, panel.is_wanted,
        _ticks(after), _ticks(ends), days_in_ticks(lookback_days), values,
    )  # fmt: skip
    return values


def days_in_ticks(days: int) -> int:
    """Microseconds of so many days."""
    return days * int(DAY.astype(np.int64))


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """`numerator / denominator`; NaN where the denominator is not positive or the result is beyond float32."""
    positive = np.where(denominator > 0.0, denominator, np.nan)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return finite(numerator / positive)


def finite(values: FloatArray) -> FloatArray:
    """`values` with NaN for what float32 cannot hold."""
    return np.where(np.abs(values) < _LARGEST, values, np.nan)


def over_rows(panel: Panel, rows: OffsetArray, values: FloatArray) -> FloatArray:
    """Values of some rows laid out over all rows of the panel, NaN elsewhere."""
    whole = np.full(panel.close.size, np.nan)
    whole[rows] = values
    return whole


def _ticks(times: TimeArray) -> OffsetArray:
    """Microseconds since 1970; NaT is the smallest number, so it is after nothing."""
    return times.astype("datetime64[us]").view(np.int64)


@window_kernel
def _merge(
    starts: OffsetArray, opens: OffsetArray, offsets: OffsetArray, available: OffsetArray, at: OffsetArray
) -> None:
    unknown = np.iinfo(np.int64).min
    for symbol in range(starts.size - 1):
        begin, end = offsets[symbol], offsets[symbol + 1]
        position = begin
        for row in range(starts[symbol], starts[symbol + 1]):
            moment = opens[row]
            if moment == unknown:
                at[row] = -1
                continue
            while position < end and available[position] < moment:
                position += 1
            while position > begin and available[position - 1] >= moment:
                position -= 1
            at[row] = position - 1 if position > begin else -1


@window_kernel
def _merge_back(
    starts: OffsetArray, opens: OffsetArray, offsets: OffsetArray, available: OffsetArray, at: OffsetArray
) -> None:
    for symbol in range(starts.size - 1):
        row, end = starts[symbol], starts[symbol + 1]
        for position in range(offsets[symbol], offsets[symbol + 1]):
            while row < end and opens[row] <= available[position]:
                row += 1
            at[position] = row if row < end else -1


@window_kernel
def _reach_back(offsets: OffsetArray, available: OffsetArray, reach: int, first: OffsetArray) -> None:
    for symbol in range(offsets.size - 1):
        begin = offsets[symbol]
        for position in range(offsets[symbol], offsets[symbol + 1]):
            while available[begin] <= available[position] - reach:
                begin += 1
            first[position] = begin


@window_kernel
def _multiply_splits(
    starts: OffsetArray, first_readable: OffsetArray, opens: OffsetArray, split_ratio: FloatArray, is_wanted: BoolArray,
    after: OffsetArray, until: OffsetArray, lookback: int, values: FloatArray,
) -> None:  # fmt: skip
    unknown = np.iinfo(np.int64).min
    # Of each split, the symbol's split before: few of many bars have one.
    before = np.empty(split_ratio.size, dtype=np.int64)
    for symbol in range(starts.size - 1):
        event = starts[symbol] - 1  # The symbol's latest split.
        since = starts[symbol]  # The first row from which on all opens are known.
        for row in range(starts[symbol], starts[symbol + 1]):
            if split_ratio[row] != 1.0:
                before[row] = event
                event = row
            if opens[row] == unknown:
                since = row + 1
            if not is_wanted[row] or after[row] == unknown or until[row] == unknown or since > row:
                continue
            begin = opens[row] - lookback
            if opens[max(first_readable[row], since)] > begin or after[row] < begin:
                continue
            growth, bar = 1.0, event
            while bar >= starts[symbol] and opens[bar] > after[row]:
                if opens[bar] <= until[row]:
                    growth *= split_ratio[bar]
                bar = before[bar]
            values[row] = growth
