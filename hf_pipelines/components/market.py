"""Market: one universe, timeframe, calendar and source; owns `bars` and the feature datasets built on them.

Lives here: the YAML of a market and the definitions made of it. Does not live here: its assets (`market_stages`,
`market_stages.features`), and where bars come from (`resources.market_data`).
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time
from functools import cached_property, partial
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import dagster as dg
import polars as pl
from pydantic import BaseModel, Field, field_validator, model_validator

from hf_pipelines.calendars import SessionOverride
from hf_pipelines.components.automation.arrivals import arrivals_sensor, market_job
from hf_pipelines.components.automation.replaying import replay_job, replay_schedule
from hf_pipelines.components.automation.reporting import report_job, report_schedule
from hf_pipelines.components.market_stages.bars import bars_stage
from hf_pipelines.components.market_stages.features import calendar_listing, features_stage, reads_calendar
from hf_pipelines.components.market_stages.features_report import features_report_stage
from hf_pipelines.components.market_stages.reference import reference_stage
from hf_pipelines.components.ranges import ranged
from hf_pipelines.components.stage import SourceManifest, Stage
from hf_pipelines.components.stage_asset import build_asset, build_currency_check
from hf_pipelines.components.yaml_files import component_of
from hf_pipelines.partitions import (
    MarketPartitions,
    parse_key,
    shift_week,
    usual_breaks,
    usual_sessions,
    week_end,
    week_key,
)
from hf_pipelines.research.bars import (
    SYMBOL_PATTERN,
    BarGrid,
    BarsEnd,
    Timeframe,
)
from hf_pipelines.research.disputes import Override
from hf_pipelines.research.events import CARRY_SESSIONS
from hf_pipelines.research.features.feature import Feature
from hf_pipelines.research.features.registry import FEATURES, names_by_group, register
from hf_pipelines.research.references import REFERENCES
from hf_pipelines.research.sentiment import Scorer, lexicon_scores
from hf_pipelines.resources import settings
from hf_pipelines.resources.market_data import MarketDataSource
from hf_pipelines.resources.market_data.files import FilesSource
from hf_pipelines.resources.market_data.http import HttpSource
from hf_pipelines.resources.market_data.lean import LeanSource
from hf_pipelines.resources.market_data.references import ReferenceFiles, ReferenceService, ReferenceSource
from hf_pipelines.resources.market_data.sample import SampleSource
from hf_pipelines.resources.market_data.yfinance import YFinanceSource
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.sentiment import FinbertScorer

LEXICON = "lexicon"
# Of a model: its owner and its name.
HUB_NAME = r"[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95}"
# No market has bars before, and no calendar is planned so far.
FIRST_DAY, LAST_DAY = "1900-01-01", "2100-12-31"
NAME_PATTERN = r"^[a-z][a-z0-9_]{0,62}$"


def checked_name(name: str) -> str:
    """Refuse a name that cannot be the first part of asset keys, of a market or a strategy."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise ValueError(f"`name` must match {NAME_PATTERN}, was {name[:80]!r}.")
    return name


def checked_place(uri: str) -> str:
    """Refuse an address that is neither a folder nor a prefix of a bucket."""
    if not uri or "\0" in uri or (re.match(r"\w+:", uri) and not re.match(r"s3://[^/]", uri)):
        raise ValueError(f"must be a folder or s3://bucket/prefix, was {uri[:80]!r}.")
    return uri


def checked_endpoint(endpoint: str | None) -> str | None:
    """Refuse an endpoint of an S3 service that is no address."""
    if endpoint is not None and not re.match(r"https?://[^/]", endpoint):
        raise ValueError("must be an address such as http://127.0.0.1:9000, was none.")
    return endpoint


class UniverseMember(dg.Model, dg.Resolvable):
    """A symbol and the sessions on which it belongs to the universe, both ends included.

    A symbol that left and came back stands there once for each spell. It names one security for ever, under whatever
    tickers that was traded: the source knows those (`lean` has map files). A ticker that passed to another company
    is another member (`FB.1` until 2003, `FB` since 2012).
    """

    symbol: str
    since: str | None = None
    until: str | None = None
    sector: str | None = None


class SampleSourceSpec(dg.Model, dg.Resolvable):
    """Real bars out of installed packages."""

    type: Literal["sample"]


class FilesSourceSpec(dg.Model, dg.Resolvable):
    """A folder or S3 prefix into which one Parquet or CSV file a session arrives."""

    type: Literal["files"]
    uri: str
    endpoint: str | None = None

    _uri = field_validator("uri")(checked_place)
    _endpoint = field_validator("endpoint")(checked_endpoint)


class HttpSourceSpec(dg.Model, dg.Resolvable):
    """A market data service; `api_key_env` names the environment variable that holds its key."""

    type: Literal["http"]
    base_url: str
    api_key_env: str | None = None
    timeout_s: float = 30.0

    _timeout = ranged("timeout_s", low=0, high=3_600, above=True)


class YFinanceSourceSpec(dg.Model, dg.Resolvable):
    """Yahoo Finance through the package yfinance (extra `yfinance`)."""

    type: Literal["yfinance"]


class LeanSourceSpec(dg.Model, dg.Resolvable):
    """A folder or S3 prefix of Lean's raw prices, with the tables of its factor files and map files."""

    type: Literal["lean"]
    uri: str
    prices: str
    factors: str | None = None
    maps: str | None = None
    endpoint: str | None = None

    _uri = field_validator("uri")(checked_place)
    _endpoint = field_validator("endpoint")(checked_endpoint)


class ReferenceSpec(dg.Model, dg.Resolvable):
    """Where the rows of a reference table come from."""

    table: str
    source: FilesSourceSpec | HttpSourceSpec


class CalendarOverride(dg.Model, dg.Resolvable):
    """What the library's calendar does not know of a day: a session, a closure, other hours (of the market's clock)."""

    day: str
    closed: bool = False
    open: str | None = None
    close: str | None = None
    announced: str | None = None

    @model_validator(mode="after")
    def _check_hours(self) -> "CalendarOverride":
        _require_dates("calendar_overrides", [self.day, *([self.announced] if self.announced else [])])
        if (self.announced or self.day) > self.day:
            raise ValueError(f"`announced` must not be after `day` {self.day}, was {self.announced}.")
        hours = [each for each in (self.open, self.close) if each is not None]
        if len(hours) != (0 if self.closed else 2):
            raise ValueError(
                f"`calendar_overrides` must say `closed: true`, or give `open` and `close`, was otherwise for {self.day}."
            )
        if bad := [each for each in hours if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", each)]:
            raise ValueError(f'`open` and `close` must be times such as "09:15" in quotes, was {bad[0][:20]!r}.')
        if hours and hours[0] >= hours[1]:
            raise ValueError(f"`close` must be after `open` {hours[0]}, was {hours[1]}.")
        return self


class RowOverride(dg.Model, dg.Resolvable):
    """What a person has found out about rows that the rules judge wrongly: `since` and `until` included."""

    symbol: str
    verdict: Literal["refused", "accepted"]
    since: str
    until: str | None = None

    @model_validator(mode="after")
    def _check_days(self) -> "RowOverride":
        _require_dates("row_overrides", [self.since, *([self.until] if self.until else [])])
        if self.until is not None and self.until < self.since:
            raise ValueError(f"`until` must not be before `since` {self.since}, was {self.until}.")
        return self


class Market(dg.Component, dg.Model, dg.Resolvable):
    """One universe + timeframe + calendar + source, with its bars and feature datasets.

    Attributes
    ----------
    name : str
        First part of its asset keys, and its group.
    universe : list
        Members: `symbol`, and `since` and `until` where it is not always one; `sector` if known.
    benchmark : str
        Stored with role `reference`; never in ranks, matrices or weights.
    volatility_index : str
        Symbol of a volatility index such as the VIX, stored with role `reference` too.
    timeframe : 1m, 5m, 1h or 1d
        How long a bar lasts.
    bars_end : clock or open
        Whether bars below a day end at full steps of the market's clock, or whole steps after the open.
    source : mapping
        `type` is sample, files, http, yfinance or lean, with what that needs.
    periods_per_year : float
        Bars a year, to annualise by; by default those of the calendar and the timeframe.
    start, end : str
        ISO dates of the first and last session; without `end` the market goes on.
    feature_modules : list of str
        Importable modules with features of your own: a table `FEATURES` each, like that of the project's groups.
    features : list of str
        Groups, such as `technical`, and single features, such as `technical/rsi_14`: what is computed and stored;
        `-technical/rsi_14` leaves one of a group out.
    references : list
        `table` (fundamentals, insider_trades, short_interest or news) and its `source`, `type: files` or `type: http`.
    news_scorer : str
        `lexicon`, or the folder or hub name of a FinBERT checkpoint (extra `finbert`).
    calendar_overrides : list
        Sessions, closures and hours that the calendar does not know: `day`, and `closed: true` or `open` and `close` on the
        market's clock; `announced`, from which day on it was known, by default the day itself.
    row_overrides : list
        Rows that the rules on bars judge wrongly: `symbol`, `since`, `until`, and `verdict`, refused or accepted.
    known_gaps : list of str
        Weeks (their Sundays) without data, in which an empty `bars` is right.
    max_faulty_share : float
        Share of faulty symbol-sessions above which a file is refused.
    """

    name: str
    description: str = ""
    universe: Sequence[UniverseMember]
    benchmark: str
    volatility_index: str | None = None
    timeframe: Timeframe = "1d"
    bars_end: BarsEnd = "clock"
    calendar: str
    timezone: str
    source: SampleSourceSpec | FilesSourceSpec | HttpSourceSpec | YFinanceSourceSpec | LeanSourceSpec
    start: str
    end: str | None = None
    feature_modules: Sequence[str] = Field(default_factory=list)
    features: Sequence[str]
    references: Sequence[ReferenceSpec] = Field(default_factory=list)
    news_scorer: str = LEXICON
    calendar_overrides: Sequence[CalendarOverride] = Field(default_factory=list)
    row_overrides: Sequence[RowOverride] = Field(default_factory=list)
    known_gaps: Sequence[str] = Field(default_factory=list)
    max_faulty_share: float = 0.2
    periods_per_year: float | None = None

    _share = ranged("max_faulty_share", low=0, high=1, above=True)
    # Bars of a minute around the clock are 525,600 a year.
    _periods = ranged("periods_per_year", low=0, high=1_000_000, above=True)

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        return component_of(cls, context.path)

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        return checked_name(name)

    @field_validator("universe")
    @classmethod
    def _check_universe(cls, universe: Sequence[UniverseMember]) -> Sequence[UniverseMember]:
        if not universe:
            raise ValueError("`universe` must name at least one symbol, was empty.")
        return universe

    @field_validator("timezone")
    @classmethod
    def _check_timezone(cls, timezone: str) -> str:
        try:
            ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as e:
            # OSError: a folder of time zones, such as America.
            raise ValueError(
                f"`timezone` must be an IANA name such as America/New_York or UTC, was {timezone[:80]!r}."
            ) from e
        return timezone

    @field_validator("news_scorer")
    @classmethod
    def _check_scorer(cls, scorer: str) -> str:
        if scorer != LEXICON and not re.fullmatch(HUB_NAME, scorer) and not Path(scorer).is_dir():
            raise ValueError(
                f"`news_scorer` must be {LEXICON}, the folder of a FinBERT checkpoint, or its name on the hub such as "
                f"ProsusAI/finbert, was {scorer[:80]!r}."
            )
        return scorer

    @field_validator("feature_modules")
    @classmethod
    def _register_features(cls, modules: Sequence[str]) -> Sequence[str]:
        for name in modules:
            if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", name):
                raise ValueError(f"`feature_modules` must name modules such as desk_features, was {name[:80]!r}.")
            try:
                table = import_module(name).FEATURES
                if not all(isinstance(each, Feature) for each in table):
                    raise ValueError(f"`FEATURES` of {name} must hold features only, was {table!r:.200}.")
                register(table)
            except ValueError as e:
                raise ValueError(
                    f"`feature_modules` must name modules whose features can be registered, was {name[:80]!r}: {e}"
                ) from e
            except Exception as e:  # noqa: BLE001  A module of somebody else's may raise anything when it is imported.
                raise ValueError(
                    f"`feature_modules` must name importable modules with a table `FEATURES`, was {name[:80]!r} ({e}); install "
                    "its package into this environment or put its folder on PYTHONPATH, or mend the module."
                ) from e
        return modules

    @field_validator("features")
    @classmethod
    def _check_features(cls, features: Sequence[str]) -> Sequence[str]:
        names_by_group(features)
        return features

    @model_validator(mode="after")
    def _check_symbols(self) -> "Market":
        references = [self.benchmark, *([self.volatility_index] if self.volatility_index else [])]
        symbols = [*(each.symbol for each in self.universe), *references]
        if bad := sorted(repr(each[:80]) for each in symbols if not re.fullmatch(SYMBOL_PATTERN, each)):
            raise ValueError(f"`universe` must hold symbols like {SYMBOL_PATTERN}, was {', '.join(bad[:5])}.")
        if isinstance(self.source, SampleSourceSpec):
            # The packages' symbols are known; a file may bring any.
            SampleSource(tuple(symbols), {})
        for field, days in (
            ("start", [self.start]),
            ("end", [self.end]),
            ("known_gaps", self.known_gaps),
            ("universe", [day for each in self.universe for day in (each.since, each.until)]),
        ):
            _require_dates(field, [day for day in days if day is not None])
        if strays := sorted(day for day in self.known_gaps if week_key(parse_key(day)) != day):
            raise ValueError(f"`known_gaps` must name weeks by their Sundays, was {', '.join(strays[:5])}.")
        if repeated := sorted({*self._overlapping(), *(each for each in references if symbols.count(each) > 1)}):
            raise ValueError(
                "`universe` must hold each symbol once and not the benchmark, or in spells that do not overlap, was with a "
                f"repetition of {', '.join(repeated[:5])}."
            )
        tables = [each.table for each in self.references]
        if wrong := sorted({each for each in tables if each not in REFERENCES or tables.count(each) > 1}):
            raise ValueError(
                f"`references` must name each of {', '.join(REFERENCES)} at most once, was {', '.join(wrong)}."
            )
        overridden = [each.day for each in self.calendar_overrides]
        if repeated := sorted({day for day in overridden if overridden.count(day) > 1}):
            raise ValueError(f"`calendar_overrides` must name each day once, was with {', '.join(repeated[:5])} again.")
        self._check_row_overrides()
        self._require_fed()
        sectors = {(each.symbol, each.sector) for each in self.universe if each.sector is not None}
        if len(sectors) > len(self.sectors):
            raise ValueError("`universe` must give a symbol one `sector` in all its spells, was with several.")
        # Built by the partitions anyway: an unknown name is told where it was written.
        self.partitions.require_weeks()
        if isinstance(self.source, HttpSourceSpec):
            # Built now for the same reason.
            self.data_source  # noqa: B018
        return self

    def _check_row_overrides(self) -> None:
        if strangers := sorted({each.symbol for each in self.row_overrides} - {*self.roles}):
            raise ValueError(
                f"`row_overrides` must name symbols of the market, was {', '.join(each[:80] for each in strangers[:5])}."
            )
        ordered = sorted(self.overridden_rows)
        for (symbol, _, until, _), (other, since, _, _) in zip(ordered, ordered[1:], strict=False):
            if symbol == other and (until is None or since <= until):
                raise ValueError(
                    f"`row_overrides` must name each row once, was with {symbol} on {since} again; give the earlier an `until`."
                )

    def _require_fed(self) -> None:
        """Refuse features whose inputs the market does not have."""
        for group, names in self.feature_groups.items():
            for name in names:
                if lacking := self.lacking_of(FEATURES[name]):
                    item, remedy = lacking
                    raise ValueError(
                        f"`features` must be fed by the market, was {group}/{name} without {item}; add {remedy} or leave it out."
                    )

    def lacking_of(self, feature: Feature) -> tuple[str, str] | None:
        """An input of a feature that the market does not have, and what would bring it; None if it has them all."""
        lacking: dict[str, str] = {table: f"a source of `{table}` in `references`" for table in REFERENCES}
        lacking = {table: remedy for table, remedy in lacking.items() if table not in self.reference_tables}
        if not self.sectors:
            lacking["sector"] = "a `sector` of its members in `universe`"
        if self.volatility_index is None:
            lacking["volatility_index"] = "a `volatility_index`"
        return next(((item, lacking[item]) for item in sorted(feature.inputs) if item in lacking), None)

    def _overlapping(self) -> set[str]:
        spells = self.membership.sort("symbol", "since")
        ends_before = pl.col("until").shift().over("symbol") < pl.col("since")
        is_first = pl.col("since").shift().over("symbol").is_null()
        backwards = pl.col("until") < pl.col("since")
        wrong = spells.filter((~is_first & ~ends_before.fill_null(False)) | backwards.fill_null(False))
        return set(wrong["symbol"].to_list())

    @property
    def bars_per_year(self) -> float:
        """What returns are annualised by."""
        return self.usual_bars_per_year if self.periods_per_year is None else self.periods_per_year

    @cached_property
    def usual_bars_per_year(self) -> float:
        """Bars of a symbol in a year by calendar and timeframe, half days counted as whole ones, breaks left out."""
        n_sessions, (day, opened, closed) = usual_sessions(self.calendar)
        grid = replace(self.bar_grid, breaks=usual_breaks(self.calendar))
        return float(n_sessions * grid.ends({day: (opened, closed)}).height)

    @cached_property
    def members(self) -> dict[str, tuple[date, date | None]]:
        """First and last day of each member of the universe, from its first spell to its last."""
        spells = self.membership.sort("symbol", "since").group_by("symbol", maintain_order=True)
        spans = {
            symbol: (since, until) for symbol, since, until in spells.agg(pl.first("since"), pl.last("until")).rows()
        }
        return {each.symbol: spans[each.symbol] for each in self.universe}

    @cached_property
    def membership(self) -> pl.DataFrame:
        """Spells in the universe: columns symbol, since, until; both ends included, `until` null while it lasts."""
        rows = [
            (each.symbol, parse_key(each.since or self.start), parse_key(each.until) if each.until else None)
            for each in self.universe
        ]
        return pl.DataFrame(rows, schema={"symbol": pl.String, "since": pl.Date, "until": pl.Date}, orient="row")

    @cached_property
    def spells(self) -> list[list[str]]:
        """`membership` as it enters the code versions of what depends on it."""
        return [[str(value) for value in spell] for spell in self.membership.rows()]

    def member_sessions(self, days: Sequence[date], *, with_references: bool = False) -> pl.DataFrame:
        """Columns symbol, session: members on those of `days` on which they are members, references from the start on."""
        spells = self.membership
        if with_references:
            start = parse_key(self.start)
            always = [(symbol, start, None) for symbol, role in self.roles.items() if role == "reference"]
            spells = spells.vstack(pl.DataFrame(always, schema=spells.schema, orient="row"))
        sessions = pl.DataFrame({"session": days}, schema={"session": pl.Date})
        inside = (pl.col("session") >= pl.col("since")) & (pl.col("session") <= pl.col("until")).fill_null(True)
        return spells.join(sessions, how="cross").filter(inside).select("symbol", "session")

    @cached_property
    def sectors(self) -> dict[str, str]:
        """Sector of each member that has one."""
        return {each.symbol: each.sector for each in self.universe if each.sector is not None}

    @cached_property
    def bar_grid(self) -> BarGrid:
        return BarGrid(self.timeframe, self.timezone, self.bars_end, self.partitions.breaks)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Members and references."""
        return tuple(self.roles)

    @cached_property
    def roles(self) -> dict[str, str]:
        references = [self.benchmark, *([self.volatility_index] if self.volatility_index else [])]
        return {**dict.fromkeys(self.members, "member"), **dict.fromkeys(references, "reference")}

    @cached_property
    def feature_groups(self) -> dict[str, tuple[str, ...]]:
        """Names of the features of each group that the market stores."""
        return names_by_group(self.features)

    @cached_property
    def partitions(self) -> MarketPartitions:
        return MarketPartitions(
            calendar_name=self.calendar,
            timezone=self.timezone,
            start=parse_key(self.start),
            end=parse_key(self.end) if self.end else None,
            overrides=tuple(self._override(each) for each in self.calendar_overrides),
        )

    def _override(self, given: CalendarOverride) -> SessionOverride:
        day = parse_key(given.day)
        announced = parse_key(given.announced or given.day)
        if given.open is None or given.close is None:
            return SessionOverride(day, None, None, announced)
        opens, closes = (
            datetime.combine(day, time.fromisoformat(each), ZoneInfo(self.timezone)).astimezone(UTC)
            for each in (given.open, given.close)
        )
        return SessionOverride(day, opens, closes, announced)

    @property
    def override_texts(self) -> list[str]:
        """The overrides of the calendar, as they enter versions and listings."""
        return [str(each.model_dump()) for each in sorted(self.calendar_overrides, key=lambda each: each.day)]

    @cached_property
    def overridden_rows(self) -> list[Override]:
        """Rows that a person has judged."""
        return [
            (each.symbol, parse_key(each.since), parse_key(each.until) if each.until else None, each.verdict)
            for each in self.row_overrides
        ]

    def override_sources(self, key: str) -> dict[str, str]:
        """Overrides that a week hangs on, listed like files: of its own days and of those that it is judged by."""
        if not (self.calendar_overrides or self.row_overrides):
            return {}
        first, last = parse_key(min([key, *self.weeks_before(key)])), week_end(parse_key(key))
        rows = {
            f"row_overrides/{symbol}/{since}": _digest(verdict, max(since, first), min(until or last, last))
            for symbol, since, until, verdict in self.overridden_rows
            if since <= last and (until is None or until >= first)
        }
        return {**self.calendar_sources(first, last), **rows}

    def calendar_sources(self, first: date, last: date) -> dict[str, str]:
        """Overrides of the calendar in [first, last], listed like files."""
        return {
            f"calendar_overrides/{each.day}": _digest(each.model_dump())
            for each in self.calendar_overrides
            if first <= parse_key(each.day) <= last
        }

    @property
    def bars_asset(self) -> str:
        return f"{self.name}/bars"

    def features_asset(self, group: str) -> str:
        return f"{self.name}/features/{group}"

    @property
    def report_asset(self) -> str:
        return f"{self.name}/features_report"

    @cached_property
    def reference_tables(self) -> dict[str, FilesSourceSpec | HttpSourceSpec]:
        """Source of each reference table of the market."""
        return {each.table: each.source for each in self.references}

    def reference_asset(self, table: str) -> str:
        return f"{self.name}/{table}"

    @property
    def update_job(self) -> str:
        """Name of the job that makes bars and features."""
        return f"{self.name}_update"

    @cached_property
    def data_source(self) -> MarketDataSource:
        source = self.source
        match source:
            case SampleSourceSpec():
                return SampleSource(self.symbols, self.partitions.hours)
            case HttpSourceSpec():
                return self._service(source)
            case YFinanceSourceSpec():
                return YFinanceSource(self.symbols, self.partitions.hours, self.bar_grid)
            case LeanSourceSpec():
                objects = ObjectStore(self._address(source.uri), source.endpoint or settings.s3_endpoint())
                return LeanSource(
                    objects,
                    self.symbols,
                    self.partitions.hours,
                    self.bar_grid,
                    prices=source.prices,
                    factors=source.factors,
                    maps=source.maps,
                )
        return self.landing

    @cached_property
    def landing(self) -> FilesSource:
        """Where the session files of a market that is fed arrive."""
        if not isinstance(self.source, FilesSourceSpec):
            raise ValueError(f"`source` of {self.name} must be of type files, was {self.source.type}.")
        return FilesSource(ObjectStore(self._address(self.source.uri), self.source.endpoint or settings.s3_endpoint()))

    def reference_source(self, table: str) -> ReferenceSource:
        """Where the rows of a reference table come from."""
        source = self.reference_tables[table]
        if isinstance(source, HttpSourceSpec):
            return ReferenceService(self._service(source))
        return ReferenceFiles(self.reference_landings[table])

    @cached_property
    def reference_landings(self) -> dict[str, FilesSource]:
        """Where files of reference tables arrive while the pipeline runs, by table."""
        return {
            table: FilesSource(
                ObjectStore(self._address(source.uri), source.endpoint or settings.s3_endpoint()),
                schema=REFERENCES[table].schema,
            )
            for table, source in self.reference_tables.items()
            if isinstance(source, FilesSourceSpec)
        }

    @cached_property
    def scorer(self) -> Scorer:
        """What reads the sentiment of news."""
        return lexicon_scores if self.news_scorer == LEXICON else FinbertScorer(self.news_scorer)

    def _service(self, source: HttpSourceSpec) -> HttpSource:
        return HttpSource(
            source.base_url,
            self.symbols,
            timeframe=self.timeframe,
            api_key_env=source.api_key_env,
            timeout_s=source.timeout_s,
        )

    def _address(self, uri: str) -> str:
        # A relative folder lies in the data folder or where the deployment says, wherever a command was started.
        return uri if "://" in uri or uri.startswith("/") else f"{settings.landing_uri()}/{uri}"

    @property
    def is_fed(self) -> bool:
        """Whether files arrive in a landing folder while the pipeline runs."""
        return isinstance(self.source, FilesSourceSpec)

    @property
    def is_pulled(self) -> bool:
        """Whether the source is asked for what there is: nothing says by itself that there is more."""
        return isinstance(self.source, HttpSourceSpec | YFinanceSourceSpec)

    @property
    def pulled_tables(self) -> list[str]:
        """Reference tables whose source is asked."""
        return [table for table, source in self.reference_tables.items() if isinstance(source, HttpSourceSpec)]

    @property
    def is_watched(self) -> bool:
        """Whether a sensor makes what is new."""
        return self.is_fed or self.is_pulled or bool(self.reference_landings)

    @property
    def fed_stages(self) -> tuple[str, ...]:
        """Stages whose files are watched: the bars of a market that is fed, and its reference tables."""
        return (*(["bars"] if self.is_fed else []), *self.reference_landings)

    def bars_listing(self, key: str, now: datetime) -> dict[str, str]:
        """Source files of the sessions of a week that have closed at `now` and of those that they are judged by, and files of
        days between them that are no session: they are named, and their events count on the next bar."""
        closed = self.partitions.closed_sessions(key, now)
        if not closed:
            return {}
        days = [*self.sessions_before(key, now), *closed, *self.other_days(key, now)]
        return {**self.data_source.listing(sorted(days)), **self.override_sources(key)}

    def other_days(self, key: str, now: datetime) -> list[date]:
        """Days of a week, and of those that it is judged by, that are no session and may have a file all the same."""
        weeks = [*self.weeks_before(key), key] if self.is_fed else []
        return [day for week in weeks for day in self.partitions.other_days(week, now)]

    def reference_listing(self, table: str, key: str, now: datetime) -> dict[str, str]:
        """Source files of a reference table with the rows that became available in a week, up to `now`."""
        return self.reference_source(table).listing(table, key, now)

    @property
    def listings(self) -> dict[str, SourceManifest]:
        """What lists the source files of each asset that is fed from outside, and `calendar_listings`."""
        tables = {
            self.reference_asset(table): partial(self.reference_listing, table) for table in self.reference_tables
        }
        return {self.bars_asset: self.bars_listing, **tables, **self.calendar_listings}

    @property
    def calendar_listings(self) -> dict[str, SourceManifest]:
        """What lists the overrides of the calendar that features may know of."""
        return {
            self.features_asset(group): partial(calendar_listing, self, group)
            for group in self.feature_groups
            if reads_calendar(self, group)
        }

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

    def sessions_before(self, key: str, now: datetime) -> list[date]:
        """Sessions of `weeks_before` that have closed at `now`."""
        return [day for week in self.weeks_before(key) for day in self.partitions.closed_sessions(week, now)]

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """What `update_job` makes, in flow order."""
        return (
            bars_stage(self),
            *(reference_stage(self, table) for table in self.reference_tables),
            *(features_stage(self, group) for group in self.feature_groups),
        )

    @cached_property
    def report_stages(self) -> tuple[Stage, ...]:
        """What looks at the features and feeds nothing: not made with every session."""
        return (features_report_stage(self),) if self.feature_groups else ()

    @cached_property
    def code_versions(self) -> dict[str, str]:
        return {stage.asset: stage.code_version for stage in (*self.stages, *self.report_stages)}

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        job = market_job(self)
        stages = (*self.stages, *self.report_stages)
        reports = [report_job(self) for _ in self.report_stages]
        replays = [replay_job(self)] if self.feature_groups else []
        return dg.Definitions(
            assets=[build_asset(stage) for stage in stages],
            asset_checks=[build_currency_check(stage, self.code_versions) for stage in stages],
            jobs=[job, *reports, *replays],
            schedules=[
                *(report_schedule(self, each) for each in reports),
                *(replay_schedule(self, each) for each in replays),
            ],
            sensors=[arrivals_sensor(self, job)] if self.is_watched else [],
        )


def _digest(*parts: object) -> str:
    return sha256(" ".join(map(str, parts)).encode()).hexdigest()


def _require_dates(field: str, days: Sequence[str]) -> None:
    for day in days:
        try:
            parse_key(day)
        except ValueError as e:
            raise ValueError(f"`{field}` must be a date YYYY-MM-DD, was {day[:40]!r}.") from e
        if not FIRST_DAY <= day <= LAST_DAY:
            raise ValueError(f"`{field}` must be a date from {FIRST_DAY} to {LAST_DAY}, was {day}.")
