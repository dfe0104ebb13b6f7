"""The panel: bars of the market's members as read-only numpy columns, the one input of every feature.

Here: `Panel` and `build_panel`, which checks the bars, lines up the benchmark and looks up the next session.
Not here: any feature, any adjustment of prices (`windows.py` adjusts inside each window).
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.bars import BARS_SCHEMA, KEY_COLUMNS
from hf_pipelines.research.features.panel_columns import (
    BoolArray,
    CodeArray,
    DateArray,
    FloatArray,
    OffsetArray,
    _align_benchmark,
    _benchmark_bars,
    _column,
    _first_rows,
    _price_factor,
    _volatility_close,
)

_COLUMNS = ("open", "high", "low", "close", "volume", "split_ratio", "dividend")

# What is laid out only for those that read it.
SELECTED_INPUTS = frozenset({"benchmark", "volatility_index", "sector", "session_open"})


@dataclass(frozen=True)
class CalendarChange:
    """A day that became a session, or none, by an announcement: known from the day `announced` on."""

    day: date
    is_session: bool
    announced: date


@dataclass(frozen=True, eq=False)
class Panel:
    """Columns of the member rows, sorted by (symbol, ts); all arrays are read-only.

    Attributes
    ----------
    keys : DataFrame of n_rows rows
        `symbol`, `session`, `ts` of each row.
    starts : int64 array of shape (n_symbols + 1,)
        Symbol `i` owns the rows `starts[i]` up to, not including, `starts[i + 1]`.
    open, high, low, close : float64 arrays of shape (n_rows,)
        Raw prices in quote currency, as traded.
    volume : float64 array of shape (n_rows,)
        Raw volume in units traded.
    split_ratio, dividend : float64 arrays of shape (n_rows,)
        Events effective on the row's session: new shares an old one (1 if none), cash a share (0 if none). None
        as well where the event is unknown: no window reaches across it, see `first_readable`.
    price_factor : float64 array of shape (n_rows,)
        What prices BEFORE the row are multiplied with when seen from the row or later; 1 without an event.
    first_readable : int64 array of shape (n_rows,)
        The first row that a window ending in the row may begin with: the symbol's first, or the first of the
        sessions that the row's partition reads, or the last with an unknown event: the bars before it cannot be
        compared with those after it.
    session, next_session : datetime64[D] arrays of shape (n_rows,)
        The row's session and the calendar's next one, as it was known on the row's session. NaT if no calendar was
        given.
    calendar : datetime64[D] array
        The calendar's sessions, ascending; empty if none was given.
    planned_holidays : datetime64[D] array
        Weekdays without a session that were known years ahead, ascending; empty if none were given. Other
        closures (a storm, a state funeral) show only as days that `calendar` lacks, known once they are past.
    changes : tuple of CalendarChange
        Days of `calendar` and closures that were announced, with the day from which they were known.
    session_open : datetime64[us] array of shape (n_rows,)
        When the row's session opened, UTC: what was available before counts for it. NaT if not given.
    is_member : bool array of shape (n_rows,)
        Whether the symbol belongs to the universe on the session; the bars of others are only history.
    sector : int32 array of shape (n_rows,)
        Code of the symbol's sector, -1 if it has none.
    benchmark_close : float64 array of shape (n_rows,)
        Close of the benchmark's latest bar of the same session known at the row's `ts`, NaN if there is none.
    benchmark_factor : float64 array of shape (n_rows,)
        The benchmark's `price_factor` since the symbol's bar before: closes of the benchmark before the row
        are multiplied with it. NaN where `benchmark_close` is NaN.
    volatility_close : float64 array of shape (n_rows,)
        Close of the volatility index, like `benchmark_close`.
    references : mapping of name to DataFrame
        Point-in-time tables (`fundamentals`, `insider_trades`, `short_interest`, `news`) with `symbol` and
        `available_at`: a row counts for sessions that open after it.
    is_wanted : bool array of shape (n_rows,)
        Rows whose values are asked for; the others are only read, and a feature may leave them NaN.
    """

    keys: pl.DataFrame
    starts: OffsetArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    split_ratio: FloatArray
    dividend: FloatArray
    price_factor: FloatArray
    first_readable: OffsetArray
    session: DateArray
    next_session: DateArray
    calendar: DateArray
    planned_holidays: DateArray
    changes: tuple[CalendarChange, ...]
    session_open: npt.NDArray[np.datetime64]
    is_member: BoolArray
    sector: CodeArray
    benchmark_close: FloatArray
    benchmark_factor: FloatArray
    volatility_close: FloatArray
    references: Mapping[str, pl.DataFrame]
    is_wanted: BoolArray

    @functools.cached_property
    def time(self) -> OffsetArray:
        """Place of each row's `ts` among all times of the panel: int64 array of shape (n_rows,)."""
        ts = self.keys["ts"]
        # There are few times: finding them and then their places is twice as fast as ranking all rows.
        place = np.searchsorted(ts.unique().sort().to_numpy(), ts.to_numpy()).astype(np.int64)
        place.setflags(write=False)
        return place


def build_panel(
    bars: pl.DataFrame,
    sessions: Iterable[date] | None,
    *,
    benchmark: str | None = None,
    wanted: Iterable[date] | None = None,
    earliest: Mapping[date, date] | None = None,
    opens: Mapping[date, datetime] | None = None,
    volatility_index: str | None = None,
    membership: pl.DataFrame | None = None,
    sectors: Mapping[str, str] | None = None,
    references: Mapping[str, pl.DataFrame] | None = None,
    planned_holidays: Iterable[date] | None = None,
    changes: Sequence[CalendarChange] = (),
    inputs: Collection[str] | None = None,
) -> Panel:
    """Lay out the member rows of `bars` for feature functions.

    Parameters
    ----------
    bars : DataFrame
        Contract `BARS_SCHEMA`, sorted by (symbol, ts), members and references, values passed by
        `validate_bars`. Without `role` every symbol is a member but the `benchmark` and the `volatility_index`.
    sessions : iterable of date, or None
        The calendar's sessions, ascending: every session of `bars` and at least one after the last. None if
        no feature needs the calendar: `next_session` is then NaT.
    benchmark : str, optional
        The reference symbol to line up with the members. Needed only if `bars` hold more than one.
    wanted : iterable of date, optional
        Sessions whose values are asked for. Default: all.
    earliest : mapping of date to date, optional
        For each session, the first session that its values may read. Default: all that is loaded.
    opens : mapping of date to datetime, optional
        When each session opened, UTC. Needed by features of point-in-time tables.
    volatility_index : str, optional
        The reference symbol of the volatility index.
    membership : DataFrame of `symbol`, `since`, `until`, optional
        Sessions on which a symbol belongs to the universe, both ends included, `until` null while it does;
        a symbol may have several rows. Default: every member, always.
    sectors : mapping of symbol to sector, optional
    references : mapping of name to DataFrame, optional
        Point-in-time tables with `symbol` and `available_at` (UTC).
    planned_holidays : iterable of date, optional
        Every day between the first and the last of `sessions` on which the market is closed by a rule known
        years ahead, in any order; days of a weekend are left out. Never a closure announced later.
    changes : sequence of CalendarChange, optional
        Sessions and closures of the calendar that were announced: before, a row does not know of them.
    inputs : collection of str, optional
        What is read (`Feature.inputs`): of `SELECTED_INPUTS`, the columns of the others are laid out as if they had not been
        given. Default: all.

    Returns
    -------
    Panel

    Raises
    ------
    ValueError
        If `bars` lack a column, are not sorted or repeat a key; if `sessions` are not ascending or do not
        cover the bars; if a planned holiday is a session; if the benchmark is read and it is not clear which reference
        that is.
    """
    bars = with_roles(bars, benchmark=benchmark, volatility_index=volatility_index)
    _check_bars(bars)
    members = bars.filter(pl.col("role") == "member")
    rows = _Rows.of(members)
    is_unknown = members.select(pl.any_horizontal(pl.col("split_ratio", "dividend").is_nan())).to_series()
    first_readable = _first_readable(rows, earliest)
    if is_unknown.any():
        first_readable = _after_unknown_events(first_readable, rows, is_unknown.to_numpy())
        members = _without_unknown_events(members)
    column = {name: _column(members, name) for name in _COLUMNS}
    calendar = None if sessions is None else _checked_calendar(sessions)
    read = SELECTED_INPUTS if inputs is None else {*inputs}
    compared = _benchmark_bars(bars, benchmark, volatility_index) if "benchmark" in read else bars.clear()
    close, factor = _align_benchmark(members, compared)
    index = volatility_index if "volatility_index" in read else None
    is_member = _is_member(rows, membership)
    is_wanted = True if wanted is None else np.isin(rows.days, _as_days(wanted))[rows.day]
    panel = Panel(
        keys=members.select(KEY_COLUMNS),
        starts=rows.starts,
        price_factor=_price_factor(members),
        session=rows.days[rows.day],
        first_readable=first_readable,
        next_session=_next_session(rows, calendar, changes),
        changes=tuple(changes),
        calendar=np.array([], dtype="datetime64[D]") if calendar is None else calendar,
        planned_holidays=_planned_holidays(planned_holidays, calendar),
        session_open=_session_open(rows, opens if "session_open" in read else None),
        is_member=is_member,
        sector=_sector_codes(rows, sectors if "sector" in read else None),
        benchmark_close=close,
        benchmark_factor=factor,
        volatility_close=_volatility_close(members, bars, index),
        references=dict(references or {}),
        is_wanted=is_wanted & is_member,
        **column,
    )
    for value in vars(panel).values():
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
    return panel


def with_roles(bars: pl.DataFrame, *, benchmark: str | None, volatility_index: str | None) -> pl.DataFrame:
    """Bars with their `role`: where they have none, every symbol is a member but the two that are named."""
    if "role" in bars.columns or "symbol" not in bars.columns:
        return bars
    named = [each for each in (benchmark, volatility_index) if each is not None]
    is_reference = pl.col("symbol").is_in(named)
    return bars.with_columns(role=pl.when(is_reference).then(pl.lit("reference")).otherwise(pl.lit("member")))


@dataclass(frozen=True, eq=False)
class _Rows:
    """Where the symbols and sessions of the rows are: what holds for a session is found once a day and laid out.

    Attributes
    ----------
    symbols : Series of shape (n_symbols,)
        Ascending.
    starts : int64 array of shape (n_symbols + 1,)
        As in `Panel`.
    days : datetime64[D] array of shape (n_days,)
        The sessions of the rows, ascending.
    day : int64 array of shape (n_rows,)
        The place of the row's session among `days`.
    symbol : int64 array of shape (n_rows,)
        The place of the row's symbol among `symbols`.
    """

    symbols: pl.Series
    starts: OffsetArray
    symbol: OffsetArray
    days: DateArray
    day: OffsetArray

    @functools.cached_property
    def _first_rows_from(self) -> OffsetArray:
        """By (symbol, day): the symbol's first row of that day or later, else the row after its last. Where many are asked for,
        to look them up is several times faster than to seek them."""
        n_days = self.days.size + 1
        first = np.broadcast_to(self.starts[1:, None], (self.symbols.len(), n_days)).copy()
        # Backwards, so that the first row of a day stays.
        first[self.symbol[::-1], self.day[::-1]] = np.arange(self.day.size - 1, -1, -1)
        ahead = np.minimum.accumulate(first[:, ::-1], axis=1)[:, ::-1]
        return np.ascontiguousarray(ahead).ravel()

    @staticmethod
    def of(members: pl.DataFrame) -> _Rows:
        starts = np.append(_first_rows(members), members.height)
        session = members["session"].to_physical().to_numpy().astype(np.int64)
        base = int(session.min()) if session.size else 0
        # Days lie close together: marking them is several times faster than sorting.
        is_session = np.zeros(int(session.max(initial=base)) - base + 1, dtype=bool)
        is_session[session - base] = True
        return _Rows(
            members["symbol"][starts[:-1]],
            starts,
            np.repeat(np.arange(starts.size - 1), np.diff(starts)),
            (np.flatnonzero(is_session) + base).astype("datetime64[D]"),
            (np.cumsum(is_session) - 1)[session - base],
        )

    def first_from(self, symbols: OffsetArray, days: OffsetArray) -> OffsetArray:
        """For places of symbols and of days: the symbol's first row of that day or later, else the row after its last."""
        # Rows are in the order of (symbol, day), so one sorted key does for all of them.
        n_days = self.days.size + 1
        keys = self.symbol * n_days + self.day
        if 4 * symbols.size < keys.size or n_days * self.symbols.len() > 4 * keys.size:
            return np.asarray(np.searchsorted(keys, symbols * n_days + days), dtype=np.int64)
        found: OffsetArray = self._first_rows_from[symbols * n_days + days]
        return found


def _as_days(days: Iterable[date]) -> DateArray:
    return np.array(list(days), dtype="datetime64[D]")


def _check_bars(bars: pl.DataFrame) -> None:
    missing = sorted(set(BARS_SCHEMA) - set(bars.columns))
    if missing:
        raise ValueError(f"`bars` must have the columns {list(BARS_SCHEMA)}, was without {missing}.")
    symbol, ts = pl.col("symbol"), pl.col("ts")
    follows = (symbol > symbol.shift()) | ((symbol == symbol.shift()) & (ts > ts.shift()))
    wrong = bars.filter(~follows.fill_null(True))
    if wrong.height:
        shown = [f"{row[0]} {row[1]:%Y-%m-%d %H:%M}" for row in wrong.select("symbol", "ts").head(5).rows()]
        raise ValueError(f"`bars` must be sorted by (symbol, ts) without repeats, was not at {shown}.")


def _checked_calendar(sessions: Iterable[date]) -> DateArray:
    calendar = _as_days(sessions)
    if (np.diff(calendar).astype(np.int64) <= 0).any():
        raise ValueError("`sessions` must be ascending without repeats, was not; sort the sessions.")
    return calendar


def _planned_holidays(holidays: Iterable[date] | None, calendar: DateArray | None) -> DateArray:
    days = np.unique(_as_days(holidays or ()))
    if calendar is not None and (wrong := np.intersect1d(days, calendar)).size:
        shown = [str(day) for day in wrong[:5]]
        raise ValueError(f"`planned_holidays` must not be sessions, was so for {shown}; take them from one calendar.")
    return np.asarray(days[np.is_busday(days)])


def _next_session(rows: _Rows, calendar: DateArray | None, changes: Sequence[CalendarChange]) -> DateArray:
    if calendar is None:
        return np.full(rows.day.shape, np.datetime64("NaT", "D"))
    after = np.searchsorted(calendar, rows.days, side="right")
    outside = rows.days[~np.isin(rows.days, calendar) | (after == calendar.size)]
    if outside.size:
        shown = [str(day) for day in outside[:5]]
        raise ValueError(
            f"`sessions` must hold every session of the bars and one after the last, was not so for {shown}; "
            "build the calendar around the bars."
        )
    following = calendar[after]
    for at, day in enumerate(rows.days.tolist()):
        unknown = [each for each in changes if day < each.day <= following[at].astype(date) and each.announced > day]
        if unknown:
            extra = np.array([each.day for each in unknown if each.is_session], dtype="datetime64[D]")
            closed = [np.datetime64(each.day, "D") for each in unknown if not each.is_session]
            planned = calendar[after[at] :][~np.isin(calendar[after[at] :], extra)]
            following[at] = min([*planned[:1], *closed])
    return np.asarray(following[rows.day])


def _first_readable(rows: _Rows, earliest: Mapping[date, date] | None) -> OffsetArray:
    if earliest is None:
        return rows.starts[rows.symbol]
    days = rows.days.tolist()
    if missing := [day for day in days if day not in earliest]:
        raise ValueError(f"`earliest` must name every session of the bars, was without {missing[:5]}.")
    readable_from = np.searchsorted(rows.days, _as_days(earliest[day] for day in days))
    return rows.first_from(rows.symbol, readable_from[rows.day])


def _after_unknown_events(first_readable: OffsetArray, rows: _Rows, is_unknown: BoolArray) -> OffsetArray:
    """`first_readable`, no earlier than the symbol's latest row with an unknown event."""
    latest = np.maximum.accumulate(np.where(is_unknown, np.arange(is_unknown.size), 0))
    # Of another symbol: before the first row of its own.
    return np.maximum(first_readable, np.maximum(latest, rows.starts[rows.symbol]))


def _without_unknown_events(members: pl.DataFrame) -> pl.DataFrame:
    is_unknown = pl.any_horizontal(pl.col("split_ratio", "dividend").is_nan())
    return members.with_columns(
        split_ratio=pl.when(is_unknown).then(1.0).otherwise("split_ratio"),
        dividend=pl.when(is_unknown).then(0.0).otherwise("dividend"),
    )


def _session_open(rows: _Rows, opens: Mapping[date, datetime] | None) -> npt.NDArray[np.datetime64]:
    """NaT where the open is not known."""
    known = {} if opens is None else opens
    of_day = pl.Series([known.get(day) for day in rows.days.tolist()], dtype=pl.Datetime("us", "UTC"))
    return of_day.to_numpy().astype("datetime64[us]")[rows.day]


def _is_member(rows: _Rows, membership: pl.DataFrame | None) -> BoolArray:
    if membership is None:
        return np.full(rows.day.shape, True)
    place = {symbol: at for at, symbol in enumerate(rows.symbols.to_list())}
    at = np.array([place.get(symbol, -1) for symbol in membership["symbol"].to_list()], dtype=np.int64)
    spells, at = membership.filter(at >= 0), at[at >= 0]
    since, until = (spells[name].to_numpy().astype("datetime64[D]") for name in ("since", "until"))
    first_out = np.where(np.isnat(until), rows.days.size, np.searchsorted(rows.days, until, side="right"))
    begin, end = rows.first_from(at, np.searchsorted(rows.days, since)), rows.first_from(at, first_out)
    # A spell that ends before it begins holds nothing.
    steps = np.zeros(rows.day.size + 1, dtype=np.int64)
    np.add.at(steps, begin, begin < end)
    np.subtract.at(steps, end, begin < end)
    return np.asarray(np.cumsum(steps[:-1]) > 0)


def _sector_codes(rows: _Rows, sectors: Mapping[str, str] | None) -> CodeArray:
    if not sectors:
        return np.full(rows.symbol.size, -1, dtype=np.int32)
    # In the order of all sectors of the market, so that a code does not depend on which symbols are loaded.
    codes = {sector: code for code, sector in enumerate(sorted(set(sectors.values())))}
    of_symbol = [codes[sectors[each]] if each in sectors else -1 for each in rows.symbols.to_list()]
    return np.array(of_symbol, dtype=np.int32)[rows.symbol]
