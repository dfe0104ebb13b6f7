"""Bars: the contract every price enters by, and corporate actions.

Lives here: the columns of a bars frame, its one validator, and the adjustment for splits and dividends.
Does not live here: reading files (resources) and anything computed from several bars (features).

A **bar** is one symbol's OHLCV ending at `ts` (close time, UTC), raw as traded. `split_ratio` and `dividend`
are the events effective on that very session, never a cumulative factor: a cumulative factor embeds the future
and rewrites history at each dividend. Of several bars of a session the first one carries them.

A session of a timeframe below a day has one bar for each step of the market's clock and one that ends at the close:
hourly bars of a session from 9:30 to 16:00 end at 10:00, 11:00, ..., 16:00, the first after half an hour (`BarGrid`).
A break at noon parts a session in two, each with bars of its own: no bar lies in it, and one ends where it begins.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import polars as pl

from hf_pipelines.research.bar_grid import DAILY, BarGrid, SessionHours, _hours_table
from hf_pipelines.research.wording import excerpt, excerpts, type_words

SYMBOL_PATTERN = r"^[A-Z0-9^][A-Z0-9.^_-]{0,31}$"
PRICE_COLUMNS = ("open", "high", "low", "close")
SOURCE_SCHEMA: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "session": pl.Date(),
    "ts": pl.Datetime("us", "UTC"),
    "open": pl.Float64(),
    "high": pl.Float64(),
    "low": pl.Float64(),
    "close": pl.Float64(),
    "volume": pl.Float64(),
    "split_ratio": pl.Float64(),
    "dividend": pl.Float64(),
}
NUMBER_COLUMNS = (*PRICE_COLUMNS, "volume", "split_ratio", "dividend")
BARS_SCHEMA: dict[str, pl.DataType] = {**SOURCE_SCHEMA, "role": pl.String()}
KEY_COLUMNS = ("symbol", "session", "ts")


# Consecutive sessions with the very same open, high, low, close: a feed that repeats itself.
STALE_SESSIONS = 3


@dataclass(frozen=True)
class CheckedBars:
    """Bars that passed the edge, and what did not.

    Attributes
    ----------
    bars : DataFrame
        Contract `BARS_SCHEMA`, sorted by (symbol, ts).
    quarantined : DataFrame
        The refused rows as they came, with a column `reason`.
    n_unknown : int
        Rows of symbols outside the universe, left out.
    """

    bars: pl.DataFrame
    quarantined: pl.DataFrame
    n_unknown: int


def has_bar_columns(raw: pl.DataFrame, numbers: Collection[str] = NUMBER_COLUMNS) -> bool:
    """Whether an unchecked frame has the columns of the contract, names as names or numbers, days as days, and numbers or
    nothing in `numbers`."""
    types = raw.schema
    return (
        set(SOURCE_SCHEMA) <= set(types)
        and (isinstance(types["symbol"], (pl.String, pl.Categorical, pl.Enum)) or types["symbol"].is_numeric())
        and types["session"] == pl.Date
        and all(types[name].is_numeric() or types[name] == pl.Null for name in numbers)
    )


def is_stray_event(raw: pl.DataFrame, sessions: Collection[date]) -> pl.Series:
    """Rows without prices on days that are no session: some vendors write events so.

    Parameters
    ----------
    raw : DataFrame
        As read from a source, unchecked. Where its columns are none of the contract, no row is a stray.
    sessions : collection of date

    Returns
    -------
    Series of bool of shape (n_rows,)
    """
    numbers = (*PRICE_COLUMNS, "split_ratio", "dividend")
    if not (has_bar_columns(raw, numbers) and raw.schema["symbol"] == pl.String):
        return pl.repeat(False, raw.height, eager=True)
    has_price = pl.any_horizontal(pl.col(*PRICE_COLUMNS).cast(pl.Float64).is_finite().fill_null(False))
    is_session = pl.col("session").is_in(list(sessions)) | pl.col("session").is_null()
    return raw.select(~is_session & ~has_price).to_series()


def split_stray_events(raw: pl.DataFrame, sessions: Collection[date]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """All rows but those of `is_stray_event`, and those, in the columns and types of `SOURCE_SCHEMA`."""
    is_stray = is_stray_event(raw, sessions)
    if not is_stray.any():
        return raw, pl.DataFrame(schema=SOURCE_SCHEMA)
    # The time of such a row is that of no bar.
    strays = raw.filter(is_stray).with_columns(ts=pl.col("session").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))
    return raw.filter(~is_stray), strays.select(pl.col(name).cast(dtype) for name, dtype in SOURCE_SCHEMA.items())


def stray_file_events(raw: pl.DataFrame | None, symbols: Collection[str]) -> pl.DataFrame:
    """Rows with an event out of a file of a day that is no session.

    Parameters
    ----------
    raw : DataFrame or None
        As read from a source, unchecked; None if it could not be.
    symbols : collection of str
        Rows of others are left out.

    Returns
    -------
    DataFrame
        Columns and types of `SOURCE_SCHEMA`; no rows where the columns are none of the contract.
    """
    if raw is None or not has_bar_columns(raw):
        return pl.DataFrame(schema=SOURCE_SCHEMA)
    # Where the time of such a row says nothing that can be read, it is that of no bar.
    at_midnight = pl.col("session").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    is_timed = isinstance(raw.schema["ts"], pl.Datetime) and raw.schema["ts"].time_zone is not None
    ts = pl.coalesce(pl.col("ts").dt.convert_time_zone("UTC"), at_midnight) if is_timed else at_midnight
    values = (("split_ratio", 1.0), ("dividend", 0.0))
    is_event = pl.any_horizontal(
        pl.col(name).cast(pl.Float64).is_finite() & (pl.col(name) != usual) for name, usual in values
    )
    rows = raw.with_columns(pl.col("symbol").cast(pl.String), ts=ts).filter(
        pl.col("symbol").is_in(list(symbols)), is_event
    )
    return rows.select(pl.col(name).cast(dtype) for name, dtype in SOURCE_SCHEMA.items())


def without_repeats(rows: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    """Rows without those that repeat the symbol's bar before: a file of a holiday that is a copy tells no event again.

    Parameters
    ----------
    rows, bars : DataFrame
        Columns of `SOURCE_SCHEMA`.
    """
    if rows.is_empty() or bars.is_empty():
        return rows
    before = bars.sort("ts").select("symbol", "ts", *(pl.col(name).alias(f"_{name}") for name in NUMBER_COLUMNS))
    joined = rows.sort("ts").join_asof(
        before, on="ts", by="symbol", strategy="backward", allow_exact_matches=False, check_sortedness=False
    )
    is_repeat = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"_{name}")) for name in NUMBER_COLUMNS)
    return joined.filter(~is_repeat).select(rows.columns)


def check_structure(
    raw: pl.DataFrame, *, source: str, hours: SessionHours, now: datetime, grid: BarGrid = DAILY
) -> pl.DataFrame:
    """Refuse a frame that cannot be bars at all; every fault of structure is reported at once.

    Parameters
    ----------
    raw : DataFrame
        As read from a source.
    source : str
        Name of the file or package, for the message.
    hours : mapping of date to (open, close)
        Sessions of the calendar with their opening and closing times in UTC.
    now : datetime
        Wall clock, time-zone aware.
    grid : BarGrid
        When bars end. A daily bar may end before the close of its session; other bars end on the grid.

    Returns
    -------
    DataFrame
        The columns of `SOURCE_SCHEMA` in its order and types.

    Raises
    ------
    ValueError
        Missing or extra columns, wrong types, time-zone-naive or future timestamps, sessions not in the
        calendar, timestamps outside their session or off the grid, symbols outside the allow-list.
    """
    faults = _column_faults(raw)
    if not faults:
        raw = raw.select(pl.col(name).cast(dtype) for name, dtype in SOURCE_SCHEMA.items())
        faults = _value_faults(raw, hours=hours, now=now, grid=grid)
    if faults:
        raise ValueError(f"`bars` must follow the bars contract, {source} does not: {'; '.join(faults)}.")
    return raw


def _column_faults(raw: pl.DataFrame) -> list[str]:
    faults = []
    if missing := sorted(set(SOURCE_SCHEMA) - set(raw.columns)):
        faults.append(f"missing columns {_shown(missing)}")
    if extra := sorted(set(raw.columns) - set(SOURCE_SCHEMA)):
        faults.append(f"unknown columns {excerpts(extra)}")
    for name, dtype in SOURCE_SCHEMA.items():
        if name not in raw.columns:
            continue
        was = raw.schema[name]
        if name == "ts":
            if not isinstance(was, pl.Datetime) or was.time_zone is None:
                faults.append(f"`ts` must be a timestamp with a time zone, was {type_words(was)}")
        elif not (was.is_numeric() if dtype.is_numeric() else was == dtype):
            hint = " (as a number 0700 is 700: write tickers as text)" if name == "symbol" and was.is_numeric() else ""
            faults.append(f"`{name}` must be of type {dtype}, was {type_words(was)}{hint}")
    return faults


def _value_faults(raw: pl.DataFrame, *, hours: SessionHours, now: datetime, grid: BarGrid) -> list[str]:
    faults = []
    keyless = raw.with_row_index("row", 1).filter(pl.any_horizontal(pl.col(*KEY_COLUMNS).is_null()))
    if keyless.height:
        faults.append(f"row {keyless['row'][0]} has no symbol, session or ts ({keyless.height} rows)")
    symbols = raw.filter(~pl.col("symbol").str.contains(SYMBOL_PATTERN))["symbol"].unique().to_list()
    if symbols:
        faults.append(
            f"symbols must match {SYMBOL_PATTERN}, were {_shown(sorted(repr(excerpt(each)) for each in symbols))}"
        )
    days = raw["session"].drop_nulls().unique().to_list()
    if strangers := sorted(day for day in days if day not in hours):
        faults.append(f"sessions must be in the market's calendar, were {_shown(strangers)}")
    known = {day: hours[day] for day in days if day in hours}
    timed = raw.join(_hours_table(known), on="session", how="inner", maintain_order="left")
    outside = timed.filter((pl.col("ts") <= pl.col("opens")) | (pl.col("ts") > pl.col("closes")))
    if outside.height:
        first = outside.row(0, named=True)
        faults.append(
            f"`ts` must lie in its session (after the open, not after the close), was {first['ts']} "
            f"for {excerpt(first['symbol'])} {first['session']} ({outside.height} rows)"
        )
    elif (
        not grid.is_daily
        and (off := timed.join(grid.ends(known), on=["session", "ts"], how="anti", maintain_order="left")).height
    ):
        first = off.row(0, named=True)
        faults.append(
            f"`ts` must be the end of a bar of {grid.timeframe} (by the {grid.bars_end}, `bars_end` of the market), "
            f"was {first['ts']} for {excerpt(first['symbol'])} {first['session']} ({off.height} rows)"
        )
    if (future := raw.filter(pl.col("ts") > now)).height:
        first = future.row(0, named=True)
        faults.append(
            f"`ts` must not be after now ({now:%Y-%m-%d %H:%M} UTC), was {first['ts']} for {excerpt(first['symbol'])} "
            f"{first['session']} ({future.height} rows)"
        )
    return faults


def validate_bars(
    raw: pl.DataFrame,
    *,
    universe: Mapping[str, str],
    source: str,
    max_faulty_share: float = 0.2,
    grid: BarGrid = DAILY,
) -> CheckedBars:
    """Quarantine faulty symbol-sessions and keep the rest.

    Parameters
    ----------
    raw : DataFrame
        Passed by `check_structure`.
    universe : mapping of symbol to role
        "member" or "reference". Other symbols are counted and left out.
    source : str
        Name of the file or package, for the message.
    max_faulty_share : float
        Above this share of faulty symbol-sessions the whole source is refused.
    grid : BarGrid
        Daily bars: one a symbol-session. Others: several, of which the first alone may carry an event.

    Returns
    -------
    CheckedBars
        Sound rows sorted by (symbol, ts), the quarantined ones, and how many were of unknown symbols.

    Raises
    ------
    ValueError
        If the share of faulty symbol-sessions is above `max_faulty_share`.
    """
    known = raw.filter(pl.col("symbol").is_in(list(universe)))
    reasons = known.with_columns(reason=_row_fault(grid)).filter(pl.col("reason").is_not_null())
    faulty = reasons.group_by("symbol", "session").agg(pl.col("reason").first())
    n_total = known.select("symbol", "session").unique().height
    if n_total and faulty.height / n_total > max_faulty_share:
        worst = faulty.sort("symbol", "session").row(0, named=True)
        raise ValueError(
            f"`bars` must have at most {max_faulty_share:.0%} faulty symbol-sessions, {source} has {faulty.height} of "
            f"{n_total} (first: {worst['symbol']} {worst['session']}: {worst['reason']}); mend the file."
        )
    roles = pl.DataFrame(
        {"symbol": list(universe), "role": list(universe.values())}, schema_overrides={"role": pl.String}
    )
    bars = known.join(faulty, on=["symbol", "session"], how="anti").join(roles, on="symbol", how="left")
    return CheckedBars(
        bars=bars.select(*BARS_SCHEMA).sort("symbol", "ts"),
        quarantined=known.join(faulty, on=["symbol", "session"], how="inner").sort("symbol", "ts"),
        n_unknown=raw.height - known.height,
    )


def sound_bars(
    frames: Sequence[pl.DataFrame],
    *,
    universe: Mapping[str, str],
    hours: SessionHours,
    now: datetime,
    grid: BarGrid = DAILY,
) -> list[CheckedBars | None]:
    """What `check_structure` and then `validate_bars` give of each frame without any fault, all judged at once.

    Sources have a file a session, and judging hundreds of small frames together takes as long as judging two.

    Parameters
    ----------
    frames : sequence of DataFrame
        As read from a source, unchecked; rows of different frames are never compared.
    universe : mapping of symbol to role
        See `validate_bars`.
    hours : mapping of date to (open, close)
        See `check_structure`, as `now` and `grid`; times in UTC.
    now : datetime
    grid : BarGrid

    Returns
    -------
    list of CheckedBars or None
        None for a frame in which anything is wrong: those two say what.
    """
    found: list[CheckedBars | None] = [None] * len(frames)
    parts = [
        frame.select(*(pl.col(name).cast(dtype) for name, dtype in SOURCE_SCHEMA.items()), frame=pl.lit(at, pl.UInt32))
        for at, frame in enumerate(frames)
        if not _column_faults(frame)
    ]
    if not parts:
        return found
    rows = pl.concat(parts)
    known = {day: hours[day] for day in rows["session"].unique().to_list() if day in hours}
    rows = rows.join(_hours_table(known), on="session", how="left")
    is_right = (
        pl.all_horizontal(pl.col(*KEY_COLUMNS).is_not_null())
        & pl.col("symbol").str.contains(SYMBOL_PATTERN)
        & pl.col("ts").is_between(pl.col("opens"), pl.col("closes"), closed="right")
        & (pl.col("ts") <= now)
    )
    if not grid.is_daily:
        ends = grid.ends(known).with_columns(is_end=True)
        rows = rows.join(ends, on=["session", "ts"], how="left")
        is_right &= pl.col("is_end")
    is_known = pl.col("symbol").is_in(list(universe))
    rows = rows.with_columns(is_right=is_right.fill_null(False), is_known=is_known.fill_null(False))
    faults = rows.filter("is_known").filter(_row_fault(grid, within=("frame",)).is_not_null())
    faulty = {*faults["frame"].to_list(), *rows.filter(~pl.col("is_right"))["frame"].to_list()}
    of_universe = rows.filter("is_known").with_columns(
        role=pl.col("symbol").replace_strict(universe, return_dtype=pl.String)
    )
    in_order = of_universe.select("frame", *BARS_SCHEMA).sort("frame", "symbol", "ts")
    by_frame = {at: frame for (at,), frame in in_order.partition_by("frame", as_dict=True, include_key=False).items()}
    for part in parts:
        at = part["frame"][0] if part.height else None
        if at is None or at in faulty:
            continue
        bars = by_frame.get(at, in_order.clear().drop("frame"))
        nothing = pl.DataFrame(schema={**SOURCE_SCHEMA, "reason": pl.String()})
        found[at] = CheckedBars(bars=bars, quarantined=nothing, n_unknown=part.height - bars.height)
    return found


def _row_fault(grid: BarGrid, *, within: tuple[str, ...] = ()) -> pl.Expr:
    """First fault of a row in words, null for a sound row; rows are compared where the columns `within` are equal."""
    one_bar = (*within, "symbol", "session") if grid.is_daily else (*within, "symbol", "session", "ts")
    has_event = (pl.col("split_ratio") != 1.0) | (pl.col("dividend") != 0.0)
    is_later_bar = pl.col("ts") > pl.col("ts").min().over(*within, "symbol", "session")
    low, high = pl.col("low"), pl.col("high")
    is_outside = pl.any_horizontal((pl.col(name) < low) | (pl.col(name) > high) for name in ("open", "close"))
    return (
        pl.when(pl.struct(one_bar).is_duplicated()).then(pl.lit("duplicate"))
        .when(pl.any_horizontal(~pl.col(name).is_finite().fill_null(False) for name in NUMBER_COLUMNS))
        .then(pl.lit("missing, NaN or infinite value"))
        .when(pl.any_horizontal(pl.col(name) <= 0.0 for name in PRICE_COLUMNS)).then(pl.lit("price not positive"))
        .when(high < low).then(pl.lit("high below low"))
        .when(is_outside).then(pl.lit("open or close outside [low, high]"))
        .when(pl.col("volume") < 0.0).then(pl.lit("negative volume"))
        .when(pl.col("split_ratio") <= 0.0).then(pl.lit("split ratio not positive"))
        .when(pl.col("dividend") < 0.0).then(pl.lit("negative dividend"))
        .when(has_event & is_later_bar & (not grid.is_daily)).then(pl.lit("event not on the first bar of its session"))
    )  # fmt: skip


def missing_bars(bars: pl.DataFrame, expected: pl.DataFrame) -> pl.DataFrame:
    """Rows of `expected` (columns symbol, session, and ts where a session has several bars) that have no bar.

    Sorted by session, then by symbol.

    Parameters
    ----------
    bars : DataFrame
        Columns `symbol`, `session`, `ts`, one row a bar.
    expected : DataFrame
        Columns `symbol`, `session`, and `ts` where a session has several bars: one row for each that should be there.

    Returns
    -------
    DataFrame
        The rows of `expected` without a bar.
    """
    return expected.join(bars, on=expected.columns, how="anti").sort("session", "symbol")


def stale_bars(bars: pl.DataFrame) -> pl.DataFrame:
    """Last bars of sessions by which a symbol has shown the same four prices for `STALE_SESSIONS` in a row.

    Several bars of a session count as one: within an hour of little trade prices do repeat.

    Parameters
    ----------
    bars : DataFrame
        Bars of any order, prices in quote currency.

    Returns
    -------
    DataFrame
        Columns `symbol`, `session`, `ts` of these bars, sorted by (symbol, ts).
    """
    bars = bars.sort("symbol", "ts").group_by("symbol", "session", maintain_order=True).agg(
        pl.col("ts", "close").last(), pl.col("open").first(), pl.col("high").max(), pl.col("low").min()
    )  # fmt: skip
    same = pl.all_horizontal(pl.col(name) == pl.col(name).shift(1).over("symbol") for name in PRICE_COLUMNS)
    streak = same.cast(pl.Int32).rolling_sum(STALE_SESSIONS - 1).over("symbol")
    return bars.sort("symbol", "ts").filter(streak.fill_null(0) >= STALE_SESSIONS - 1).select(*KEY_COLUMNS)


def _shown(values: list[object] | list[str] | list[date]) -> str:
    """At most five offenders, in words."""
    more = f" and {len(values) - 5} more" if len(values) > 5 else ""
    return ", ".join(str(value) for value in values[:5]) + more
