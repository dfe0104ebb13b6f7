"""Replay: does a stored value stay the same when everything after its time is cut off?

Here: the pure parts of the replay check, which picks times, cuts the inputs, and compares bit by bit. The
caller recomputes in between, through the very code that made the stored values. Not here: reading what is
stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Rows replayed of a year of weeks, at least: a leak on 5 % of independent rows passes all of them unseen with probability
# 0.95^135 = 9.8e-4. Leaks that cluster by session are found by the replay of everything that is stored.
ROWS_A_YEAR = 135
WEEKS_A_YEAR = 52

# Times that end nothing, be something begun or halted at them or not: with fewer a random one is added.
N_ORDINARY = 2

# What the calendar ends at a time; at the others something happens to a symbol, or nothing.
CALENDAR_ENDS = frozenset({"week", "holiday", "month", "quarter"})


@dataclass(frozen=True)
class Difference:
    """One value that replay does not confirm; None where a side has no such row, column or value."""

    feature: str
    symbol: str
    ts: datetime
    stored: object
    recomputed: object

    def __str__(self) -> str:
        return (
            f"{self.feature} of {self.symbol} at {self.ts.isoformat()}: "
            f"stored={_shown(self.stored)} recomputed={_shown(self.recomputed)}"
        )


def pick_replay_ts(frame: pl.DataFrame, *, seed: int, n: int) -> list[datetime]:
    """Choose the times at which to replay a partition.

    Parameters
    ----------
    frame : DataFrame
        The stored partition, with `symbol` and `ts`.
    seed : int
        Of the random choice.
    n : int
        How many times to return, at least 1. More come back if more are always included.

    Returns
    -------
    list of datetime
        Ascending. Always the first and the last `ts`, and the first `ts` of each symbol that starts inside
        the partition (a late listing: where a leak through a fill or a warm-up shows); the rest at random.

    Raises
    ------
    ValueError
        If `n` is below 1 or the frame is empty.
    """
    if n < 1:
        raise ValueError(f"`n` must be at least 1, was {n}.")
    if frame.is_empty():
        raise ValueError("`frame` must hold at least one row, was empty; there is nothing to replay.")
    times = frame["ts"].unique().sort()
    listings = frame.group_by("symbol").agg(pl.col("ts").min())["ts"]
    always = pl.concat([times.head(1), times.tail(1), listings]).unique()
    others = times.filter(~times.is_in(always.implode())).to_list()
    extra = min(max(n - always.len(), 0), len(others))
    chosen = np.random.default_rng(seed).permutation(len(others))[:extra]
    return sorted([*always.to_list(), *(others[at] for at in chosen)])


def boundary_sessions(days: Sequence[date], sessions: Sequence[date]) -> dict[date, frozenset[str]]:
    """Sessions at which a leak may show and at no other: where something ends that the calendar knows.

    Parameters
    ----------
    days : sequence of date
        The sessions to look at.
    sessions : sequence of date
        The calendar's, ascending.

    Returns
    -------
    dict of date to kinds
        "week", "holiday", "month" and "quarter": what the next session is beyond. A session that ends nothing is left out, as
        is the last of `sessions`.
    """
    following = dict(zip(sessions, sessions[1:], strict=False))
    found = {}
    for day in days:
        if (after := following.get(day)) is None:
            continue
        kinds = {
            "week": after.isocalendar()[:2] != day.isocalendar()[:2],
            "holiday": int(np.busday_count(day, after)) > 1,
            "month": (after.year, after.month) != (day.year, day.month),
            "quarter": (after.year, (after.month - 1) // 3) != (day.year, (day.month - 1) // 3),
        }
        if any(kinds.values()):
            found[day] = frozenset(kind for kind, ends in kinds.items() if ends)
    return found


@dataclass(frozen=True)
class BoundaryTimes:
    """The times of a run's rows, and at which of them a leak may show that shows at no other.

    Attributes
    ----------
    times : sequence of datetime
        All of them, ascending.
    kinds : mapping of datetime to str
        What a time is the end or the beginning of: "week", "holiday", "month", "quarter" (`boundary_sessions`), "first bar",
        "before a halt", "after a halt".
    symbols : mapping of datetime to symbols
        Those that begin, halt or trade again at it.
    """

    times: Sequence[datetime]
    kinds: Mapping[datetime, frozenset[str]]
    symbols: Mapping[datetime, frozenset[str]]


def plan_replays(boundaries: BoundaryTimes, *, seed: int, rows_a_time: int) -> dict[datetime, frozenset[str]]:
    """Choose the times at which a run of several partitions is replayed.

    Parameters
    ----------
    boundaries : BoundaryTimes
        Of what the run computes.
    seed : int
        Of the random choice.
    rows_a_time : int
        Rows that are compared at each time.

    Returns
    -------
    dict of datetime to symbols
        Ascending. Of each year of the run one time of each kind that it has: the last session of a week, before a holiday, of
        a month, of a quarter; the first bar of a symbol that begins later than others; the last bar before a halt and the first
        after it. Then random ones until `ROWS_A_YEAR` rows are compared, and at least one. The symbols are those that begin,
        halt or trade again at the time. The last time of all is left out where there is another: nothing later is known.
    """
    rng = np.random.default_rng(seed)
    times, kinds, symbols = boundaries.times[:-1] or boundaries.times, boundaries.kinds, boundaries.symbols
    n_years = max((times[-1] - times[0]).days / (7 * WEEKS_A_YEAR), 1 / WEEKS_A_YEAR)
    n_chunks = math.ceil(n_years)
    chosen: set[datetime] = set()
    chosen_for: set[str] = set()
    for chunk in np.array_split(np.arange(len(times)), min(n_chunks, len(times))):
        here = [times[at] for at in rng.permutation(chunk)]
        candidates = [at for at in here if at in kinds]
        missing = {kind for at in candidates for kind in kinds[at]}
        while missing:
            # Of equal times one for other symbols than before: each symbol is read at one time.
            best = max(
                candidates, key=lambda at: (len(kinds[at] & missing), chosen_for.isdisjoint(symbols.get(at, ())))
            )
            chosen.add(best)
            chosen_for |= symbols.get(best, frozenset())
            missing -= kinds[best]
        n_wanted = math.ceil(ROWS_A_YEAR * min(n_years, 1.0) / rows_a_time)
        chosen |= {*[at for at in here if at not in chosen][: max(n_wanted - len(chosen & {*here}), 0)]}
        ordinary = [at for at in here if CALENDAR_ENDS.isdisjoint(kinds.get(at, ()))]
        if len(chosen.intersection(ordinary)) < N_ORDINARY:
            chosen |= {*[at for at in ordinary if at not in chosen][:1]}
    return {at: symbols.get(at, frozenset()) for at in sorted(chosen)}


def boundary_times(rows: pl.DataFrame, sessions: Sequence[date]) -> BoundaryTimes:
    """Times of a run's rows at which something begins or ends.

    Parameters
    ----------
    rows : DataFrame
        `symbol`, `session` and `ts` of what the run computes.
    sessions : sequence of date
        The calendar's, ascending, with one after the last of `rows`.
    """
    if rows.is_empty():
        return BoundaryTimes([], {}, {})
    of_time = rows["ts"].unique().sort()
    times, stamps = of_time.to_list(), of_time.to_physical().to_numpy()
    place = np.searchsorted(stamps, rows["ts"].to_physical().to_numpy())
    row_at = np.empty(len(times), dtype=np.int64)
    row_at[place] = np.arange(rows.height)
    # Times ascend, so the last one of a session stays.
    last_of_session = dict(zip(rows["session"].gather(row_at).to_list(), times, strict=True))
    ends = boundary_sessions([*last_of_session], sessions)
    kinds = {last_of_session[day]: {*found} for day, found in ends.items()}
    # Names are compared once a run of equal ones.
    run = rows["symbol"].rle_id().to_numpy()
    heads = rows["symbol"].gather(np.flatnonzero(np.diff(run, prepend=-1)))
    names = heads.unique().sort()
    code = heads.cast(pl.Enum(names)).to_physical().to_numpy().astype(np.int64)[run]
    symbol, at = np.divmod(_ascending(code * len(times) + place, len(names) * len(times)), len(times))
    is_first = np.diff(symbol, prepend=-1) > 0
    is_after_halt = ~is_first & (np.diff(at, prepend=0) > 1)
    is_before_halt = np.append(is_after_halt[1:], False)
    symbols: dict[datetime, set[str]] = {}
    for kind, holds in {
        "first bar": is_first & (at > 0),
        "before a halt": is_before_halt,
        "after a halt": is_after_halt,
    }.items():
        for row in np.flatnonzero(holds):
            ts = times[at[row]]
            kinds.setdefault(ts, set()).add(kind)
            symbols.setdefault(ts, set()).add(names[int(symbol[row])])
    return BoundaryTimes(
        times,
        {ts: frozenset(each) for ts, each in kinds.items()},
        {ts: frozenset(each) for ts, each in symbols.items()},
    )


def _ascending(values: npt.NDArray[np.int64], below: int) -> npt.NDArray[np.int64]:
    """Values below a number, each there once, sorted: where most of the numbers are there, they are marked."""
    if below > 4 * values.size:
        return np.sort(values)
    is_there = np.zeros(below, dtype=bool)
    is_there[values] = True
    return np.flatnonzero(is_there)


def cut(frame: Frame, at: datetime) -> Frame:
    """Rows known at `at`: those with `available_at`, or `ts` if there is no such column, at or before it."""
    known_at = "available_at" if "available_at" in frame.collect_schema() else "ts"
    return frame.filter(pl.col(known_at) <= instant(at))


def cut_each(frame: Frame, known_by: Mapping[str, datetime]) -> Frame:
    """Rows of some symbols, each of them known at a time of its own, as `cut`."""
    known_at = "available_at" if "available_at" in frame.collect_schema() else "ts"
    known_until: dict[str, int] = {symbol: microseconds(at) for symbol, at in known_by.items()}
    of_symbol = pl.col("symbol").replace_strict(known_until, default=None, return_dtype=pl.Int64)
    return frame.filter(pl.col("symbol").is_in([*known_until])).filter(pl.col(known_at).to_physical() <= of_symbol)


def instant(at: datetime) -> pl.Expr:
    """A time-zone aware time as a literal; polars' own makes a query of its own for the time zone."""
    return pl.lit(microseconds(at)).cast(pl.Datetime("us", "UTC"))


def microseconds(at: datetime) -> int:
    """Since 1970 began, as polars stores a time."""
    return (at - EPOCH) // timedelta(microseconds=1)


def compare_replay(
    stored: pl.DataFrame,
    recomputed: pl.DataFrame,
    *,
    at: datetime,
    keys: Sequence[str] = ("symbol", "ts"),
) -> list[Difference]:
    """Compare two frames bit by bit at one time.

    Parameters
    ----------
    stored, recomputed : DataFrame
        What was published, and what comes out with the inputs cut at `at`. Only rows with `ts` equal to `at`
        count.
    at : datetime
        Time-zone aware.
    keys : sequence of str
        Columns that identify a row, with "symbol" and "ts" among them.

    Returns
    -------
    list of Difference
        Sorted by symbol, then by column; empty if replay confirms every value. Floats must agree in every
        bit, as in a content hash: NaN agrees with NaN, -0.0 with 0.0. A row or column that only one frame has is a difference in each of its
        values.

    Raises
    ------
    ValueError
        If a column has another type in `recomputed`, or, of frames that differ, one repeats a key.
    """
    left, right = (frame.filter(pl.col("ts") == instant(at)) for frame in (stored, recomputed))
    # Nearly every replay confirms: polars says so at once of the frames in whole. NaN equals NaN there, -0.0 equals 0.0.
    if left.schema == right.schema and left.equals(right):
        return []
    _check_comparable(left, right, keys=keys)
    names = sorted((set(left.columns) | set(right.columns)) - set(keys))
    both = _mark(left, "stored", keys=keys).join(
        _mark(right, "recomputed", keys=keys), on=list(keys), how="full", coalesce=True
    )
    both = both.sort(keys)
    differences = [found for name in names for found in _compare_column(both, name)]
    return sorted(differences, key=lambda found: (found.symbol, found.feature))


def _check_comparable(left: pl.DataFrame, right: pl.DataFrame, *, keys: Sequence[str]) -> None:
    # Polars makes a schema anew each time it is asked for.
    stored, recomputed = left.schema, right.schema
    for name in sorted(set(stored) & set(recomputed)):
        if stored[name] != recomputed[name]:
            raise ValueError(f"`recomputed` must hold {name} as {stored[name]}, was {recomputed[name]}.")
    for frame in (left, right):
        if frame.select(keys).is_duplicated().any():
            raise ValueError(f"`stored` and `recomputed` must hold each {tuple(keys)} once, one has repeats.")


def _mark(frame: pl.DataFrame, side: str, *, keys: Sequence[str]) -> pl.DataFrame:
    renamed = {name: f"{side}.{name}" for name in frame.columns if name not in keys}
    return frame.rename(renamed).with_columns(pl.lit(True).alias(f"{side}."))


def _compare_column(both: pl.DataFrame, name: str) -> list[Difference]:
    left, right = (
        both[f"{side}.{name}"] if f"{side}.{name}" in both.columns else pl.Series([None] * both.height)
        for side in ("stored", "recomputed")
    )
    same_presence = both["stored."].is_not_null() == both["recomputed."].is_not_null()
    is_same = _is_same(left, right) & same_presence.to_numpy()
    return [
        Difference(name, both["symbol"][row], both["ts"][row], stored=left[row], recomputed=right[row])
        for row in np.flatnonzero(~is_same).tolist()
    ]


def _is_same(left: pl.Series, right: pl.Series) -> npt.NDArray[np.bool_]:
    if left.dtype != right.dtype or not left.dtype.is_float():
        return left.eq_missing(right).to_numpy()
    ours, theirs = left.to_numpy(), right.to_numpy()
    is_equal = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    return np.asarray(is_equal & (left.is_null() == right.is_null()).to_numpy())


def _shown(value: object) -> str:
    return "(none)" if value is None else repr(value)
