"""The panel: bars of the market's members as read-only numpy columns, the one input of every feature.

Here: `Panel` and `build_panel`, which checks the bars, lines up the benchmark and looks up the next session.
Not here: any feature, any adjustment of prices (`windows.py` adjusts inside each window).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.bars import BARS_SCHEMA, KEY_COLUMNS, price_factor

FloatArray = npt.NDArray[np.float64]
OffsetArray = npt.NDArray[np.int64]
CodeArray = npt.NDArray[np.int32]
DateArray = npt.NDArray[np.datetime64]
BoolArray = npt.NDArray[np.bool_]

_COLUMNS = ("open", "high", "low", "close", "volume", "split_ratio", "dividend")

# What is laid out only for those that read it.
SELECTED_INPUTS = frozenset({"benchmark", "volatility_index", "sector", "session_open"})


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
        Events effective on the row's session: new shares an old one (1 if none), cash a share (0 if none).
    price_factor : float64 array of shape (n_rows,)
        What prices BEFORE the row are multiplied with when seen from the row or later; 1 without an event.
    first_readable : int64 array of shape (n_rows,)
        The first row that a window ending in the row may begin with: the symbol's first, or the first of the
        sessions that the row's partition reads.
    session, next_session : datetime64[D] arrays of shape (n_rows,)
        The row's session and the calendar's next one, which is known in advance. NaT if no calendar was
        given.
    calendar : datetime64[D] array
        The calendar's sessions, ascending; empty if none was given.
    planned_holidays : datetime64[D] array
        Weekdays without a session that were known years ahead, ascending; empty if none were given. Other
        closures (a storm, a state funeral) show only as days that `calendar` lacks, known once they are past.
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
    session_open: npt.NDArray[np.datetime64]
    is_member: BoolArray
    sector: CodeArray
    benchmark_close: FloatArray
    benchmark_factor: FloatArray
    volatility_close: FloatArray
    references: Mapping[str, pl.DataFrame]
    is_wanted: BoolArray


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
    inputs: Collection[str] | None = None,
) -> Panel:
    """Lay out the member rows of `bars` for feature functions.

    Parameters
    ----------
    bars : DataFrame
        Contract `BARS_SCHEMA`, sorted by (symbol, ts), members and references, values passed by
        `validate_bars`.
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
        cover the bars; if a planned holiday is a session; if it is not clear which reference is the benchmark.
    """
    _check_bars(bars)
    members = bars.filter(pl.col("role") == "member")
    column = {name: _column(members, name) for name in _COLUMNS}
    starts = np.append(np.flatnonzero(_is_first(members)), members.height).astype(np.int64)
    session = members["session"].to_numpy().astype("datetime64[D]")
    calendar = None if sessions is None else _checked_calendar(sessions)
    read = SELECTED_INPUTS if inputs is None else {*inputs}
    compared = _benchmark_bars(bars, benchmark, volatility_index)
    close, factor = _align_benchmark(members, compared if "benchmark" in read else compared.clear())
    index = volatility_index if "volatility_index" in read else None
    is_member = _is_member(members, membership)
    is_wanted = np.full(session.shape, True) if wanted is None else members["session"].is_in([*wanted]).to_numpy()
    panel = Panel(
        keys=members.select(KEY_COLUMNS),
        starts=starts,
        price_factor=_price_factor(members),
        session=session,
        first_readable=_first_readable(starts, session, earliest),
        next_session=_next_session(session, calendar),
        calendar=np.array([], dtype="datetime64[D]") if calendar is None else calendar,
        planned_holidays=_planned_holidays(planned_holidays, calendar),
        session_open=_session_open(members, opens if "session_open" in read else None),
        is_member=is_member,
        sector=_sector_codes(members, sectors if "sector" in read else None),
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


def _column(bars: pl.DataFrame, name: str) -> FloatArray:
    return bars[name].cast(pl.Float64).to_numpy(writable=True)


def _is_first(bars: pl.DataFrame) -> npt.NDArray[np.bool_]:
    return (bars["symbol"] != bars["symbol"].shift()).fill_null(True).to_numpy()


def _price_factor(bars: pl.DataFrame) -> FloatArray:
    return bars.select(price_factor())["price_factor"].to_numpy(writable=True)


def _checked_calendar(sessions: Iterable[date]) -> DateArray:
    calendar = np.array(list(sessions), dtype="datetime64[D]")
    if (np.diff(calendar).astype(np.int64) <= 0).any():
        raise ValueError("`sessions` must be ascending without repeats, was not; sort the sessions.")
    return calendar


def _planned_holidays(holidays: Iterable[date] | None, calendar: DateArray | None) -> DateArray:
    days = np.unique(np.array(list(holidays or ()), dtype="datetime64[D]"))
    if calendar is not None and (wrong := np.intersect1d(days, calendar)).size:
        shown = [str(day) for day in wrong[:5]]
        raise ValueError(f"`planned_holidays` must not be sessions, was so for {shown}; take them from one calendar.")
    return np.asarray(days[np.is_busday(days)])


def _next_session(session: DateArray, calendar: DateArray | None) -> DateArray:
    if calendar is None:
        return np.full(session.shape, np.datetime64("NaT", "D"))
    after = np.searchsorted(calendar, session, side="right")
    outside = session[~np.isin(session, calendar) | (after == calendar.size)]
    if outside.size:
        shown = [str(day) for day in np.unique(outside)[:5]]
        raise ValueError(
            f"`sessions` must hold every session of the bars and one after the last, was not so for {shown}; "
            "build the calendar around the bars."
        )
    return np.asarray(calendar[after])


def _first_readable(starts: OffsetArray, session: DateArray, earliest: Mapping[date, date] | None) -> OffsetArray:
    first = np.repeat(starts[:-1], np.diff(starts))
    if earliest is None:
        return first
    days, at = np.unique(session, return_inverse=True)
    if missing := [day for day in days.tolist() if day not in earliest]:
        raise ValueError(f"`earliest` must name every session of the bars, was without {missing[:5]}.")
    readable_from = np.array([earliest[day] for day in days.tolist()], dtype="datetime64[D]")[at]
    for begin, end in zip(starts[:-1], starts[1:], strict=True):
        here = slice(begin, end)
        first[here] = begin + np.searchsorted(session[here], readable_from[here])
    return first


def _session_open(members: pl.DataFrame, opens: Mapping[date, datetime] | None) -> npt.NDArray[np.datetime64]:
    """NaT where the open is not known."""
    if opens is None:
        return np.full(members.height, np.datetime64("NaT", "us"))
    days = members["session"].unique().to_list()
    known = pl.DataFrame(
        {"session": days, "open_at": [opens.get(day) for day in days]},
        schema={"session": pl.Date, "open_at": pl.Datetime("us", "UTC")},
    )
    at = members.select("session").join(known, on="session", how="left", maintain_order="left")["open_at"]
    return at.dt.replace_time_zone(None).to_numpy(writable=True).astype("datetime64[us]")


def _is_member(members: pl.DataFrame, membership: pl.DataFrame | None) -> BoolArray:
    if membership is None:
        return np.full(members.height, True)
    spells = members.select("symbol", "session").with_row_index("row").join(membership, on="symbol", how="inner")
    inside = (pl.col("session") >= pl.col("since")) & (pl.col("session") <= pl.col("until")).fill_null(True)
    is_member = np.full(members.height, False)
    is_member[spells.filter(inside)["row"].to_numpy()] = True
    return is_member


def _sector_codes(members: pl.DataFrame, sectors: Mapping[str, str] | None) -> CodeArray:
    if not sectors:
        return np.full(members.height, -1, dtype=np.int32)
    # In the order of all sectors of the market, so that a code does not depend on which symbols are loaded.
    codes = {sector: code for code, sector in enumerate(sorted(set(sectors.values())))}
    of_symbol = {symbol: codes[sector] for symbol, sector in sectors.items()}
    return members["symbol"].replace_strict(of_symbol, default=-1, return_dtype=pl.Int32).to_numpy(writable=True)


def _benchmark_bars(bars: pl.DataFrame, benchmark: str | None, volatility_index: str | None) -> pl.DataFrame:
    references = bars.filter(pl.col("role") == "reference")
    if volatility_index is not None:
        references = references.filter(pl.col("symbol") != volatility_index)
    known = references["symbol"].unique().sort().to_list()
    if benchmark is None and len(known) > 1:
        raise ValueError(f"`benchmark` must be one of the reference symbols {known}, was None.")
    # A named benchmark without bars is no error: a week before its first bar must come out the same, NaN,
    # alone or in a range of weeks.
    return references if benchmark is None else references.filter(pl.col("symbol") == benchmark)


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
    steps = np.where(_is_first(members), 1, np.diff(at, prepend=0))
    back = 1
    while (rows := np.flatnonzero(known & (steps > back))).size:
        factor[rows] *= own[at[rows] - back]
        back += 1
    # Two bars of a symbol within one bar of the benchmark: nothing happened to it in between.
    factor[known & (steps == 0)] = 1.0
    return close, factor
