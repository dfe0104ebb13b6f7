"""The panel: bars of the market's members as read-only numpy columns, the one input of every feature.

Here: `Panel` and `build_panel`, which checks the bars, lines up the benchmark and looks up the next session.
Not here: any feature, any adjustment of prices (`windows.py` adjusts inside each window).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.bars import BARS_SCHEMA, KEY_COLUMNS, price_factor

FloatArray = npt.NDArray[np.float64]
OffsetArray = npt.NDArray[np.int64]
DateArray = npt.NDArray[np.datetime64]
BoolArray = npt.NDArray[np.bool_]

_COLUMNS = ("open", "high", "low", "close", "volume", "split_ratio", "dividend")


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
    session, next_session : datetime64[D] arrays of shape (n_rows,)
        The row's session and the calendar's next one, which is known in advance. NaT if no calendar was
        given.
    benchmark_close : float64 array of shape (n_rows,)
        Close of the benchmark's latest bar of the same session known at the row's `ts`, NaN if there is none.
    benchmark_factor : float64 array of shape (n_rows,)
        The benchmark's `price_factor` since the symbol's bar before: closes of the benchmark before the row
        are multiplied with it. NaN where `benchmark_close` is NaN.
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
    session: DateArray
    next_session: DateArray
    benchmark_close: FloatArray
    benchmark_factor: FloatArray
    is_wanted: BoolArray


def build_panel(
    bars: pl.DataFrame,
    sessions: Iterable[date] | None,
    *,
    benchmark: str | None = None,
    wanted: Iterable[date] | None = None,
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

    Returns
    -------
    Panel

    Raises
    ------
    ValueError
        If `bars` lack a column, are not sorted or repeat a key; if `sessions` are not ascending or do not
        cover the bars; if it is not clear which reference is the benchmark.
    """
    _check_bars(bars)
    members = bars.filter(pl.col("role") == "member")
    column = {name: _column(members, name) for name in _COLUMNS}
    starts = np.append(np.flatnonzero(_is_first(members)), members.height).astype(np.int64)
    session = members["session"].to_numpy().astype("datetime64[D]")
    close, factor = _align_benchmark(members, _benchmark_bars(bars, benchmark))
    panel = Panel(
        keys=members.select(KEY_COLUMNS),
        starts=starts,
        price_factor=_price_factor(members),
        session=session,
        next_session=_next_session(session, sessions),
        benchmark_close=close,
        benchmark_factor=factor,
        is_wanted=np.full(session.shape, True) if wanted is None else members["session"].is_in([*wanted]).to_numpy(),
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


def _next_session(session: DateArray, sessions: Iterable[date] | None) -> DateArray:
    if sessions is None:
        return np.full(session.shape, np.datetime64("NaT", "D"))
    calendar = np.array(list(sessions), dtype="datetime64[D]")
    if (np.diff(calendar).astype(np.int64) <= 0).any():
        raise ValueError("`sessions` must be ascending without repeats, was not; sort the sessions.")
    after = np.searchsorted(calendar, session, side="right")
    outside = session[~np.isin(session, calendar) | (after == calendar.size)]
    if outside.size:
        shown = [str(day) for day in np.unique(outside)[:5]]
        raise ValueError(
            f"`sessions` must hold every session of the bars and one after the last, was not so for {shown}; "
            "build the calendar around the bars."
        )
    return np.asarray(calendar[after])


def _benchmark_bars(bars: pl.DataFrame, benchmark: str | None) -> pl.DataFrame:
    references = bars.filter(pl.col("role") == "reference")
    known = references["symbol"].unique().sort().to_list()
    if benchmark is None and len(known) > 1:
        raise ValueError(f"`benchmark` must be one of the reference symbols {known}, was None.")
    # A named benchmark without bars is no error: a week before its first bar must come out the same, NaN,
    # alone or in a range of weeks.
    return references if benchmark is None else references.filter(pl.col("symbol") == benchmark)


def _align_benchmark(members: pl.DataFrame, benchmark: pl.DataFrame) -> tuple[FloatArray, FloatArray]:
    """Closes and factors of the benchmark at the members' rows, NaN where its session has no bar yet."""
    close = np.full(members.height, np.nan)
    factor = np.full(members.height, np.nan)
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
