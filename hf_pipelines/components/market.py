"""Market: one universe, timeframe, calendar and source; owns `bars` and the feature datasets built on them.

Lives here: the YAML of a market and the definitions made of it. Does not live here: its assets (`bars_stage`,
`features_stage`), and where bars come from (`resources.market_data`).
"""

import re
from collections.abc import Sequence
from datetime import date, datetime
from functools import cached_property
from typing import Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import dagster as dg
from pydantic import BaseModel, Field, field_validator, model_validator

from hf_pipelines.components.automation.arrivals import arrivals_sensor, market_job
from hf_pipelines.components.bars_stage import bars_stage
from hf_pipelines.components.features_stage import features_stage
from hf_pipelines.components.stage import (
    Stage,
)
from hf_pipelines.components.yaml_lines import naming_lines
from hf_pipelines.partitions import MarketPartitions, parse_key, week_key
from hf_pipelines.research.bars import (
    SYMBOL_PATTERN,
)
from hf_pipelines.research.features.registry import names_by_group
from hf_pipelines.resources import settings
from hf_pipelines.resources.market_data import MarketDataSource
from hf_pipelines.resources.market_data.files import FilesSource
from hf_pipelines.resources.market_data.sample import SampleSource
from hf_pipelines.resources.object_store import ObjectStore

NAME_PATTERN = r"^[a-z][a-z0-9_]{0,62}$"


def checked_name(name: str) -> str:
    """Refuse a name that cannot be the first part of asset keys, of a market or a strategy."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise ValueError(f"`name` must match {NAME_PATTERN}, was {name[:80]!r}.")
    return name


class UniverseMember(dg.Model, dg.Resolvable):
    """A symbol and the sessions on which it belongs to the universe."""

    symbol: str
    since: str | None = None
    until: str | None = None


class SampleSourceSpec(dg.Model, dg.Resolvable):
    """Real bars out of installed packages."""

    type: Literal["sample"]


class FilesSourceSpec(dg.Model, dg.Resolvable):
    """A folder or S3 prefix into which one Parquet or CSV file a session arrives."""

    type: Literal["files"]
    uri: str
    endpoint: str | None = None


class Market(dg.Component, dg.Model, dg.Resolvable):
    """One universe + timeframe + calendar + source, with its bars and feature datasets.

    Attributes
    ----------
    name : str
        First part of its asset keys, and its group.
    universe : list
        Members: `symbol`, and `since` and `until` where it is not always one.
    benchmark : str
        Stored with role `reference`; never in ranks, matrices or weights.
    source : `type: sample` or `type: files` with `uri`
    start, end : str
        ISO dates of the first and last session; without `end` the market goes on.
    features : list of str
        Groups, such as `technical`, and single features, such as `technical/rsi_14`: what is computed and stored.
    known_gaps : list of str
        Weeks (their Sundays) without data, in which an empty `bars` is right.
    max_faulty_share : float
        Share of faulty symbol-sessions above which a file is refused.
    """

    name: str
    description: str = ""
    universe: Sequence[UniverseMember]
    benchmark: str
    timeframe: Literal["1d"] = "1d"
    calendar: str
    timezone: str
    source: SampleSourceSpec | FilesSourceSpec
    start: str
    end: str | None = None
    features: Sequence[str]
    known_gaps: Sequence[str] = Field(default_factory=list)
    max_faulty_share: float = 0.2
    periods_per_year: float = 252.0

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        with naming_lines(context.path):
            return super().load(attributes, context)

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        return checked_name(name)

    @field_validator("timezone")
    @classmethod
    def _check_timezone(cls, timezone: str) -> str:
        try:
            ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError) as e:
            raise ValueError(
                f"`timezone` must be an IANA name such as America/New_York or UTC, was {timezone[:80]!r}."
            ) from e
        return timezone

    @field_validator("features")
    @classmethod
    def _check_features(cls, features: Sequence[str]) -> Sequence[str]:
        names_by_group(features)
        return features

    @model_validator(mode="after")
    def _check_symbols(self) -> "Market":
        symbols = [*(each.symbol for each in self.universe), self.benchmark]
        if bad := sorted(repr(each[:80]) for each in symbols if not re.fullmatch(SYMBOL_PATTERN, each)):
            raise ValueError(f"`universe` must hold symbols like {SYMBOL_PATTERN}, was {', '.join(bad[:5])}.")
        if len(set(symbols)) < len(symbols):
            repeated = sorted({each for each in symbols if symbols.count(each) > 1})
            raise ValueError(
                f"`universe` must hold each symbol once and not the benchmark, was with a repetition of {', '.join(repeated[:5])}."
            )
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
        # Built by the partitions anyway: an unknown name is told where it was written.
        self.partitions.calendar  # noqa: B018
        return self

    @cached_property
    def members(self) -> dict[str, tuple[date, date | None]]:
        """First and last day of each member of the universe."""
        return {
            each.symbol: (parse_key(each.since or self.start), parse_key(each.until) if each.until else None)
            for each in self.universe
        }

    @cached_property
    def roles(self) -> dict[str, str]:
        return {**dict.fromkeys(self.members, "member"), self.benchmark: "reference"}

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
        )

    @property
    def bars_asset(self) -> str:
        return f"{self.name}/bars"

    def features_asset(self, group: str) -> str:
        return f"{self.name}/features/{group}"

    @property
    def update_job(self) -> str:
        """Name of the job that makes bars and features."""
        return f"{self.name}_update"

    @cached_property
    def data_source(self) -> MarketDataSource:
        if isinstance(self.source, SampleSourceSpec):
            return SampleSource((*self.members, self.benchmark), self.partitions.hours)
        return self.landing

    @cached_property
    def landing(self) -> FilesSource:
        """Where the session files of a market that is fed arrive."""
        if not isinstance(self.source, FilesSourceSpec):
            raise ValueError(f"`source` of {self.name} must be of type files, was {self.source.type}.")
        uri = self.source.uri
        # A relative folder lies in the data folder or where the deployment says, wherever a command was started.
        if "://" not in uri and not uri.startswith("/"):
            uri = f"{settings.landing_uri()}/{uri}"
        return FilesSource(ObjectStore(uri, self.source.endpoint or settings.s3_endpoint()))

    @property
    def is_fed(self) -> bool:
        """Whether files arrive in a landing folder while the pipeline runs."""
        return isinstance(self.source, FilesSourceSpec)

    def bars_listing(self, key: str, now: datetime) -> dict[str, str]:
        """Source files of the sessions of a week that have closed at `now`, as the source shows them."""
        return self.data_source.listing(self.partitions.closed_sessions(key, now))

    def early_files(self, key: str, now: datetime) -> dict[str, str]:
        """Source files of sessions of a week that have not closed at `now`."""
        closed = set(self.partitions.closed_sessions(key, now))
        return self.data_source.listing([day for day in self.partitions.sessions_of_week(key) if day not in closed])

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """Every asset of the market, in flow order."""
        return (bars_stage(self), *(features_stage(self, group) for group in self.feature_groups))

    @cached_property
    def code_versions(self) -> dict[str, str]:
        return {stage.asset: stage.code_version for stage in self.stages}

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        job = market_job(self)
        return dg.Definitions(
            assets=[stage.build_asset() for stage in self.stages],
            asset_checks=[stage.build_currency_check(self.code_versions) for stage in self.stages],
            jobs=[job],
            sensors=[arrivals_sensor(self, job)] if self.is_fed else [],
        )


def _require_dates(field: str, days: Sequence[str]) -> None:
    for day in days:
        try:
            parse_key(day)
        except ValueError as e:
            raise ValueError(f"`{field}` must be a date YYYY-MM-DD, was {day[:40]!r}.") from e
