"""Files of bars: what came from the source of a market for some weeks, file by file.

Lives here: reading and checking each file, and files of days that are no session. Does not live here: judging the rows of all
files together (`settled_bars`), what a bar is (`research.bars`), where files lie (`resources.market_data`).
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import polars as pl

from hf_pipelines.components.market_stages.plan import MarketPlan, WeekDates
from hf_pipelines.partitions import week_key
from hf_pipelines.research.bars import (
    CheckedBars,
    check_structure,
    has_bar_columns,
    sound_bars,
    split_stray_events,
    stray_file_events,
    validate_bars,
)
from hf_pipelines.research.wording import some_of
from hf_pipelines.resources.market_data import SourceFile

# Files are checked together up to so many rows: a copy of all of them would take twice the memory.
ROWS_AT_ONCE = 200_000

# Some vendors date an event on a day without a session, in a row without prices.
NO_SESSION = "event on a day without a session"


@dataclass(frozen=True)
class BarsFiles:
    """The files of some weeks, checked.

    Attributes
    ----------
    passed : mapping of week to list of (SourceFile, CheckedBars)
        Files that could be read. By week: a range of years has thousands of session files, of which a week needs five.
    faults : mapping of week to list of str
        What is wrong with the others.
    listed : mapping of week to (name to sha256)
        All files with rows of a week; those that cannot be read are part of the history too, once they are mended.
    strays : mapping of week to list of SourceFile
        Files of days that are no session: of a holiday, a wrong date, a session that the calendar lacks.
    """

    passed: Mapping[str, list[tuple[SourceFile, CheckedBars]]]
    faults: Mapping[str, list[str]]
    listed: Mapping[str, Mapping[str, str]]
    strays: Mapping[str, list[SourceFile]]

    def sources(self, dates: WeekDates) -> dict[str, str]:
        """Files of earlier weeks and of days without a session that decide on a week."""
        looked_at = {name: sha256 for each in dates.weeks_before for name, sha256 in self.listed.get(each, {}).items()}
        weeks = (*dates.weeks_before, dates.week)
        return {**looked_at, **{file.name: file.sha256 for week in weeks for file in self.strays.get(week, [])}}


def read_files(market: MarketPlan, dates: Collection[WeekDates], now: datetime) -> BarsFiles:
    """The files of some weeks and of the weeks before them."""
    files = market.data_source.read(sorted({day for each in dates for day in each.sessions}))
    passed: dict[str, list[tuple[SourceFile, CheckedBars]]] = {}
    faults: dict[str, list[str]] = {}
    listed: dict[str, dict[str, str]] = {}
    for file, sound in zip(files, _sound_files(market, files, now), strict=True):
        of_file = {week_key(day) for day in file.sessions}
        try:
            checked = check_file(market, file, now) if sound is None else sound
        except ValueError as e:
            for key in of_file:
                faults.setdefault(key, []).append(str(e))
                listed.setdefault(key, {})[file.name] = file.sha256
            continue
        for key in of_file:
            passed.setdefault(key, []).append((file, checked))
        for key in of_file if len(of_file) == 1 else _weeks_with_rows(checked):
            listed.setdefault(key, {})[file.name] = file.sha256
    strays: dict[str, list[SourceFile]] = {}
    days = sorted({day for each in dates for day in each.other_days})
    for file in market.data_source.read(days) if days else []:
        strays.setdefault(week_key(file.sessions[0]), []).append(file)
    return BarsFiles(passed, faults, listed, strays)


def describe_stray(market: MarketPlan, file: SourceFile) -> str:
    """A file of a day that is no session, with the events in it."""
    (day,) = file.sessions
    what = f"{file.name}: {day:%A} {day} is no session of {market.partitions.calendar_name}"
    if file.frame is None or not has_bar_columns(file.frame):
        return f"{what}; its rows cannot be read"
    rows = file.frame.filter(pl.col("symbol").cast(pl.String).is_in([*market.universe.roles]))
    values = stray_file_events(file.frame, market.universe.roles).select("symbol", "split_ratio", "dividend")
    events = values.with_columns(pl.col("split_ratio", "dividend").fill_null(math.nan))
    shown = [f"{symbol} split {split:g} dividend {dividend:g}" for symbol, split, dividend in events.iter_rows()]
    return f"{what}; {rows.height} rows, events: {some_of(shown) or 'none'}"


def _weeks_with_rows(checked: CheckedBars) -> set[str]:
    frames = (checked.bars, checked.quarantined)
    return {week_key(day) for frame in frames for day in frame["session"].unique().to_list()}


def _sound_files(market: MarketPlan, files: Sequence[SourceFile], now: datetime) -> Iterator[CheckedBars | None]:
    """What `check_file` gives of each file in which nothing is wrong, None of the others."""
    check = partial(
        sound_bars, universe=market.universe.roles, hours=market.partitions.hours, now=now, grid=market.bar_grid
    )
    batch, n_rows = list[pl.DataFrame](), 0
    for file in files:
        batch.append(pl.DataFrame() if file.frame is None else file.frame)
        n_rows += batch[-1].height
        if n_rows > ROWS_AT_ONCE:
            yield from check(batch)
            batch, n_rows = [], 0
    yield from check(batch)


def check_file(market: MarketPlan, file: SourceFile, now: datetime) -> CheckedBars:
    if file.frame is None:
        raise ValueError(file.fault)
    rows, of_no_session = split_stray_events(file.frame, market.partitions.hours)
    raw = check_structure(rows, source=file.name, hours=market.partitions.hours, now=now, grid=market.bar_grid)
    checked = validate_bars(
        raw,
        universe=market.universe.roles,
        source=file.name,
        max_faulty_share=market.max_faulty_share,
        grid=market.bar_grid,
    )
    of_universe = of_no_session.filter(pl.col("symbol").is_in(list(market.universe.roles))).with_columns(
        reason=pl.lit(NO_SESSION)
    )
    return replace(checked, quarantined=pl.concat([checked.quarantined, of_universe]))
