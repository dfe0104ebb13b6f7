"""Market plan: a market in research's own types, for its stages and sensors.

Lives here: `MarketPlan`, its names, its sources, and which days and weeks belong together. Does not live here: the YAML
(`market`), sessions and weeks themselves (`partitions`), the sources (`resources.market_data`).
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cached_property
from hashlib import sha256
from typing import Any

from hf_pipelines.components.market_stages.universe import Universe
from hf_pipelines.partitions import (
    MarketPartitions,
    parse_key,
    shift_week,
    usual_breaks,
    usual_sessions,
    week_end,
    week_key,
)
from hf_pipelines.research.bar_grid import BarGrid, BarsEnd, Timeframe
from hf_pipelines.research.disputes import Override
from hf_pipelines.research.events import CARRY_SESSIONS
from hf_pipelines.research.features.feature import Feature
from hf_pipelines.research.references import REFERENCES
from hf_pipelines.research.sentiment import Scorer, lexicon_scores
from hf_pipelines.resources.market_data import MarketDataSource
from hf_pipelines.resources.market_data.files import FilesSource, ReferenceFiles
from hf_pipelines.resources.market_data.references import ReferenceSource
from hf_pipelines.resources.market_data.registry import ConfiguredSource
from hf_pipelines.resources.market_data.source_entry import SourceMarket
from hf_pipelines.resources.sentiment import FinbertScorer

LEXICON = "lexicon"


@dataclass(frozen=True)
class WeekDates:
    """Which days the bars of a week are made from, at a time.

    Attributes
    ----------
    week : str
    closed : list of date
        Its sessions that have closed.
    weeks_before : list of str
        Whole weeks before it whose rows decide on its bars.
    sessions_before : list of date
        Their sessions; none while the week has no closed session.
    other_days : list of date
        Days of all these weeks that are no session and may have a file all the same.
    """

    week: str
    closed: list[date]
    weeks_before: list[str]
    sessions_before: list[date]
    other_days: list[date]

    @property
    def sessions(self) -> list[date]:
        """Sessions whose bars are read, ascending."""
        return sorted({*self.sessions_before, *self.closed})


@dataclass(frozen=True)
class Overrides:
    """A person's corrections of the calendar and of verdicts on rows.

    Attributes
    ----------
    days : mapping of date to str
        Each override of the calendar, as its YAML gives it.
    rows : tuple of (symbol, since, until, verdict)
        Rows that the rules on bars judge wrongly.
    """

    days: Mapping[date, str]
    rows: tuple[Override, ...] = ()

    def of_days(self, first: date, last: date) -> dict[str, str]:
        """Overrides of the calendar in [first, last], listed like files."""
        return {f"calendar_overrides/{day}": _digest(text) for day, text in self.days.items() if first <= day <= last}

    def of_rows(self, first: date, last: date) -> dict[str, str]:
        """Overrides of rows in [first, last], listed like files."""
        return {
            f"row_overrides/{symbol}/{since}": _digest(verdict, max(since, first), min(until or last, last))
            for symbol, since, until, verdict in self.rows
            if since <= last and (until is None or until >= first)
        }


@dataclass(frozen=True, eq=False)
class MarketPlan:
    """A market in research's own types; made by `Market.plan`.

    Attributes
    ----------
    source : ConfiguredSource
        Of the bars.
    references : mapping of table to ConfiguredSource
    feature_groups : mapping of group to tuple of str
        Names of the features that the market stores.
    feature_modules : tuple of str
        Modules that registered features, by name.
    bars_fields : mapping
        Fields of the YAML that the bars depend on, as they enter the code version.
    periods_per_year : float or None
        Bars a year, if the YAML gives them.
    currency : str
        Of the prices; "" where the YAML does not say.
    owners : tuple of str
        Of its assets.
    """

    name: str
    universe: Universe
    partitions: MarketPartitions
    timeframe: Timeframe
    bars_end: BarsEnd
    source: ConfiguredSource
    references: Mapping[str, ConfiguredSource]
    feature_groups: Mapping[str, tuple[str, ...]]
    feature_modules: tuple[str, ...]
    overrides: Overrides
    known_gaps: frozenset[str]
    max_faulty_share: float
    news_scorer: str
    bars_fields: Mapping[str, Any]
    periods_per_year: float | None = None
    currency: str = ""
    owners: tuple[str, ...] = ()

    @property
    def bars_asset(self) -> str:
        return f"{self.name}/bars"

    def features_asset(self, group: str) -> str:
        return f"{self.name}/features/{group}"

    @property
    def report_asset(self) -> str:
        return f"{self.name}/features_report"

    def reference_asset(self, table: str) -> str:
        return f"{self.name}/{table}"

    @property
    def update_job(self) -> str:
        """Name of the job that makes bars and features."""
        return f"{self.name}_update"

    @cached_property
    def bar_grid(self) -> BarGrid:
        return BarGrid(self.timeframe, self.partitions.timezone, self.bars_end, self.partitions.breaks)

    @property
    def bars_per_year(self) -> float:
        """Bars by which returns are annualised."""
        return self.usual_bars_per_year if self.periods_per_year is None else self.periods_per_year

    @cached_property
    def usual_bars_per_year(self) -> float:
        """Bars of a symbol in a year by calendar and timeframe, half days counted as whole ones, breaks left out."""
        calendar = self.partitions.calendar_name
        n_sessions, (day, opened, closed) = usual_sessions(calendar)
        grid = replace(self.bar_grid, breaks=usual_breaks(calendar))
        return float(n_sessions * grid.ends({day: (opened, closed)}).height)

    def lacking_of(self, feature: Feature) -> tuple[str, str] | None:
        """An input of a feature that the market does not have, and what would bring it; None if it has them all."""
        lacking: dict[str, str] = {table: f"a source of `{table}` in `references`" for table in REFERENCES}
        lacking = {table: remedy for table, remedy in lacking.items() if table not in self.references}
        if not self.universe.sectors:
            lacking["sector"] = "a `sector` of its members in `universe`"
        if self.universe.volatility_index is None:
            lacking["volatility_index"] = "a `volatility_index`"
        return next(((item, lacking[item]) for item in sorted(feature.inputs) if item in lacking), None)

    @cached_property
    def source_market(self) -> SourceMarket:
        """What its sources may know of it."""
        return SourceMarket(self.universe.symbols, self.bar_grid, self.partitions)

    @cached_property
    def data_source(self) -> MarketDataSource:
        """Where bars come from."""
        return self.source.build(self.source_market)

    @cached_property
    def reference_sources(self) -> dict[str, ReferenceSource]:
        """Where the rows of each reference table come from."""
        return {table: each.build_table(self.source_market, table) for table, each in self.references.items()}

    @cached_property
    def watched_folders(self) -> dict[str, FilesSource]:
        """Folder of each asset whose files arrive while the pipeline runs, by asset path."""
        found = {}
        if self.source.delivery == "files" and isinstance(self.data_source, FilesSource):
            found[self.bars_asset] = self.data_source
        for table, each in self.reference_sources.items():
            if isinstance(each, ReferenceFiles):
                found[self.reference_asset(table)] = each.files
        return found

    def absent_folder(self, asset: str, *, field: str) -> str | None:
        """What is wrong with the folder of an asset's files that does not exist; `field` of the market's YAML names it."""
        folder = self.watched_folders.get(asset)
        if folder is None or folder.folder.is_there():
            return None
        return (
            f"`uri` of {asset.removeprefix(f'{self.name}/')} in {self.name} must be a folder that exists, was {folder.objects.uri}; "
            f"make the folder, or correct `{field}` of the market."
        )

    @property
    def is_polled(self) -> bool:
        """Whether the source of bars is polled, since it announces nothing."""
        return self.source.delivery == "polled"

    @property
    def polled_tables(self) -> list[str]:
        """Reference tables whose source is polled."""
        return [table for table, each in self.references.items() if each.delivery == "polled"]

    @property
    def has_sensor(self) -> bool:
        """Whether a sensor requests what is new."""
        return self.is_polled or bool(self.watched_folders)

    @cached_property
    def scorer(self) -> Scorer:
        """What reads the sentiment of news."""
        return lexicon_scores if self.news_scorer == LEXICON else FinbertScorer(self.news_scorer)

    def week_dates(self, key: str, now: datetime) -> WeekDates:
        """Which days the bars of a week are made from."""
        closed = self.partitions.closed_sessions(key, now)
        before = self.weeks_before(key)
        return WeekDates(
            key,
            closed,
            before,
            [day for week in before for day in self.partitions.closed_sessions(week, now)] if closed else [],
            [day for week in (*before, key) for day in self.partitions.other_days(week, now)]
            if closed and self.bars_asset in self.watched_folders
            else [],
        )

    def bars_manifest(self, key: str, now: datetime) -> dict[str, str]:
        """Source files of the closed sessions of a week, of the sessions before it that decide on its bars, and of days between
        them that are no session: these are named, and their events count on the next bar."""
        dates = self.week_dates(key, now)
        if not dates.closed:
            return {}
        days = sorted({*dates.sessions, *dates.other_days})
        return {**self.data_source.listing(days), **self.override_sources(key, dates.weeks_before)}

    def reference_manifest(self, table: str, key: str, now: datetime) -> dict[str, str]:
        """Source files of a reference table with the rows that became available in a week, up to `now`."""
        return self.reference_sources[table].listing(table, key, now)

    def override_sources(self, key: str, weeks_before: list[str] | None = None) -> dict[str, str]:
        """Overrides on which a week depends, listed like files: of its own days and of the weeks before it."""
        if not (self.overrides.days or self.overrides.rows):
            return {}
        before = self.weeks_before(key) if weeks_before is None else weeks_before
        first, last = parse_key(min([key, *before])), week_end(parse_key(key))
        return {**self.overrides.of_days(first, last), **self.overrides.of_rows(first, last)}

    def weeks_before(self, key: str) -> list[str]:
        """Whole weeks before the week `key` that hold the sessions which its bars depend on: `research.events`."""
        sessions = self.partitions.sessions
        end = bisect_left(sessions, parse_key(key))
        if end == 0:
            return []
        first = week_key(sessions[max(end - CARRY_SESSIONS, 0)])
        return self.partitions.weeks_between(parse_key(first), parse_key(shift_week(key, -1)))

    def weeks_after(self, key: str) -> list[str]:
        """Weeks whose `weeks_before` hold the week `key`."""
        later = []
        week = shift_week(key, 1)
        while parse_key(week) <= self.partitions.sessions[-1] and key in self.weeks_before(week):
            later.append(week)
            week = shift_week(week, 1)
        return later


def _digest(*parts: object) -> str:
    return sha256(" ".join(map(str, parts)).encode()).hexdigest()


def is_override(source: str) -> bool:
    """Whether a name among a week's sources is of an override of the market's YAML, listed like a file."""
    return source.startswith(("calendar_overrides/", "row_overrides/"))
