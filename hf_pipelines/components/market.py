"""Market: one universe, timeframe, calendar and source; owns `bars` and the feature datasets built on them.

Lives here: the YAML of a market and the definitions made of it. Does not live here: its assets (`market_stages`), what they
need of it (`market_stages.plan`), and where bars come from (`resources.market_data`).
"""

import re
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import dagster as dg
from pydantic import BaseModel, Field, ValidationInfo, field_validator, model_validator

from hf_pipelines.components.asset_facts import owners_field
from hf_pipelines.components.automation.arrivals import arrivals_sensor, market_job
from hf_pipelines.components.automation.replaying import replay_job, replay_schedule
from hf_pipelines.components.automation.reporting import report_job, report_schedule
from hf_pipelines.components.market_fields import (
    AnySource,
    CalendarOverride,
    ReferenceSpec,
    RowOverride,
    UniverseMember,
    checked_name,
    require_dates,
)
from hf_pipelines.components.market_stages import build_report_stages, build_stages, code_versions
from hf_pipelines.components.market_stages.plan import LEXICON, MarketPlan, Overrides
from hf_pipelines.components.market_stages.universe import Universe
from hf_pipelines.components.modules import feature_modules, register_modules
from hf_pipelines.components.scaffolders import MarketScaffolder
from hf_pipelines.components.stage_asset import build_asset, build_currency_check
from hf_pipelines.components.yaml_components import component_of
from hf_pipelines.components.yaml_schema import YamlSchema
from hf_pipelines.partitions import (
    MarketPartitions,
    parse_key,
    week_key,
)
from hf_pipelines.research.bar_grid import BarsEnd, Timeframe
from hf_pipelines.research.bars import SYMBOL_PATTERN
from hf_pipelines.research.features.registry import FEATURES, names_by_group
from hf_pipelines.research.references import REFERENCES
from hf_pipelines.resources.market_data.registry import ConfiguredSource, parse_source
from hf_pipelines.resources.market_data.source_entry import SourceSpec
from hf_pipelines.resources.ranges import ranged

# Of a model: its owner and its name.
HUB_NAME = r"[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95}"


@dg.scaffold_with(MarketScaffolder)
class Market(YamlSchema, dg.Component, dg.Model, dg.Resolvable):
    """One universe + timeframe + calendar + source, with its bars and feature datasets."""

    name: str = Field(description="Name of the component's folder, first part of its asset keys, and its group.")
    description: str = Field(default="", description="A sentence for people.")
    universe: Sequence[UniverseMember] = Field(
        description="Members: a symbol, and since when and until when it is one."
    )
    universe_chosen: Literal["hindsight", "index_history", "all_listed"] | None = Field(
        default=None,
        description="How members were chosen: known today to have lasted (hindsight), an index as it was on each day, or all that were listed.",
    )
    benchmark: str = Field(description="Symbol stored with role `reference`; never in ranks, matrices or weights.")
    volatility_index: str | None = Field(
        default=None, description="Symbol of a volatility index such as the VIX, stored with role `reference` too."
    )
    timeframe: Timeframe = Field(default="1d", description="How long a bar lasts.")
    bars_end: BarsEnd = Field(
        default="clock",
        description="Bars below a day end at full steps of the market's clock, or whole steps after the open.",
    )
    calendar: str = Field(description="Name of the calendar in exchange_calendars, such as XNYS, XSHG or 24/7.")
    timezone: str = Field(description="IANA name of the market's clock, such as America/New_York.")
    # Before what may name an entry of theirs.
    modules: Sequence[str] = Field(
        default_factory=list,
        description="Importable modules with entries of your own, in tables named like the registries: `FEATURES`, `SOURCES`...",
    )
    feature_modules: Sequence[str] = Field(default_factory=list, description="The old name of `modules`.")
    source: AnySource = Field(description="Where bars come from: `type` is a key of SOURCES, beside what that needs.")
    start: str = Field(description="First session, YYYY-MM-DD.")
    end: str | None = Field(default=None, description="Last session, YYYY-MM-DD; left out: the market goes on.")
    features: Sequence[str] = Field(
        description="What is computed and stored: groups (`technical`), single features (`technical/rsi_14`); `-technical/rsi_14` "
        "leaves one of a group out."
    )
    references: Sequence[ReferenceSpec] = Field(
        default_factory=list, description="Reference tables beside the bars, each with the source of its rows."
    )
    news_scorer: str = Field(
        default=LEXICON, description="`lexicon`, or the folder or hub name of a FinBERT checkpoint (extra `finbert`)."
    )
    calendar_overrides: Sequence[CalendarOverride] = Field(
        default_factory=list, description="Sessions, closures and hours that the calendar does not know."
    )
    row_overrides: Sequence[RowOverride] = Field(
        default_factory=list, description="Rows that the rules on bars judge wrongly, with a person's verdict."
    )
    known_gaps: Sequence[str] = Field(
        default_factory=list, description="Weeks without data, by their Sundays, in which an empty `bars` is right."
    )
    max_faulty_share: float = Field(
        default=0.2, description="Share of faulty symbol-sessions above which a file is refused whole."
    )
    owners: Sequence[str] = Field(
        default_factory=list, description="Who its assets belong to: addresses of mail, or teams such as team:data."
    )
    currency: str = Field(
        default="",
        pattern=r"^([A-Z]{3,5})?$",
        description="Of the prices, such as USD: for titles and amounts that are shown.",
    )
    periods_per_year: float | None = Field(
        default=None, description="Bars a year, to annualise by; left out: those of the calendar and the timeframe."
    )

    _owners = owners_field()
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

    @field_validator("source", mode="before")
    @classmethod
    def _parse_source(cls, source: Any) -> SourceSpec:
        return parse_source(source)

    @field_validator("news_scorer")
    @classmethod
    def _check_scorer(cls, scorer: str) -> str:
        if scorer != LEXICON and not re.fullmatch(HUB_NAME, scorer) and not Path(scorer).is_dir():
            raise ValueError(
                f"`news_scorer` must be {LEXICON}, the folder of a FinBERT checkpoint, or its name on the hub such as "
                f"ProsusAI/finbert, was {scorer[:80]!r}."
            )
        return scorer

    @field_validator("modules", "feature_modules")
    @classmethod
    def _register_modules(cls, modules: Sequence[str], info: ValidationInfo) -> Sequence[str]:
        if modules and info.field_name == "feature_modules":
            warnings.warn(
                f"`feature_modules` is the old name of `modules`, which brings entries of every kind; rename it, was {', '.join(modules)}.",
                FutureWarning,
                stacklevel=2,
            )
        register_modules(modules, str(info.field_name))
        return modules

    @field_validator("features")
    @classmethod
    def _check_features(cls, features: Sequence[str]) -> Sequence[str]:
        names_by_group(features)
        return features

    @model_validator(mode="after")
    def _check_all(self) -> "Market":
        self._check_universe_symbols()
        self._check_days()
        self._check_repetitions()
        self._check_row_overrides()
        self._require_inputs()
        # Built later anyway: here an unknown name is reported with its file and line.
        self.plan.partitions.require_weeks()
        self.plan.partitions.require_clock()
        if self.plan.source.entry.is_checked:
            self.plan.data_source  # noqa: B018
        return self

    @property
    def _references(self) -> list[str]:
        return [self.benchmark, *([self.volatility_index] if self.volatility_index else [])]

    def _check_universe_symbols(self) -> None:
        symbols = [*(each.symbol for each in self.universe), *self._references]
        if bad := sorted(repr(each[:80]) for each in symbols if not re.fullmatch(SYMBOL_PATTERN, each)):
            raise ValueError(f"`universe` must hold symbols like {SYMBOL_PATTERN}, was {', '.join(bad[:5])}.")

    def _check_days(self) -> None:
        for field, days in (
            ("start", [self.start]),
            ("end", [self.end]),
            ("known_gaps", self.known_gaps),
            ("universe", [day for each in self.universe for day in (each.since, each.until)]),
        ):
            require_dates(field, [day for day in days if day is not None])
        if strays := sorted(day for day in self.known_gaps if week_key(parse_key(day)) != day):
            raise ValueError(f"`known_gaps` must name weeks by their Sundays, was {', '.join(strays[:5])}.")

    def _check_repetitions(self) -> None:
        universe = self.plan.universe
        symbols = [*(each.symbol for each in self.universe), *self._references]
        if repeated := sorted(
            {*universe.overlapping(), *(each for each in self._references if symbols.count(each) > 1)}
        ):
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
        sectors = {(each.symbol, each.sector) for each in self.universe if each.sector is not None}
        if len(sectors) > len(universe.sectors):
            raise ValueError("`universe` must give a symbol one `sector` in all its spells, was with several.")

    def _check_row_overrides(self) -> None:
        if strangers := sorted({each.symbol for each in self.row_overrides} - {*self.plan.universe.roles}):
            raise ValueError(
                f"`row_overrides` must name symbols of the market, was {', '.join(each[:80] for each in strangers[:5])}."
            )
        ordered = sorted(self.plan.overrides.rows)
        for (symbol, _, until, _), (other, since, _, _) in zip(ordered, ordered[1:], strict=False):
            if symbol == other and (until is None or since <= until):
                raise ValueError(
                    f"`row_overrides` must name each row once, was with {symbol} on {since} again; give the earlier an `until`."
                )

    def _require_inputs(self) -> None:
        """Refuse features whose inputs the market does not have."""
        for group, names in self.plan.feature_groups.items():
            for name in names:
                if lacking := self.plan.lacking_of(FEATURES[name]):
                    item, remedy = lacking
                    raise ValueError(
                        f"`features` must have their inputs in the market, was {group}/{name} without {item}; add {remedy} or leave it out."
                    )

    @cached_property
    def plan(self) -> MarketPlan:
        """What stages and sensors need, in research's own types."""
        start = parse_key(self.start)
        spells = tuple(
            (each.symbol, parse_key(each.since) if each.since else start, parse_key(each.until) if each.until else None)
            for each in self.universe
        )
        of_bars = {"universe", "benchmark", "volatility_index", "timeframe", "bars_end", "calendar", "start"}
        return MarketPlan(
            name=self.name,
            universe=Universe(
                spells,
                {each.symbol: each.sector for each in self.universe if each.sector is not None},
                self.benchmark,
                self.volatility_index,
                start,
                self.universe_chosen,
            ),
            partitions=MarketPartitions(
                calendar_name=self.calendar,
                timezone=self.timezone,
                start=start,
                end=parse_key(self.end) if self.end else None,
                overrides=tuple(each.session_override(self.timezone) for each in self.calendar_overrides),
            ),
            timeframe=self.timeframe,
            bars_end=self.bars_end,
            source=ConfiguredSource(self.source),
            references={each.table: ConfiguredSource(each.source) for each in self.references},
            feature_groups=names_by_group(self.features),
            feature_modules=feature_modules([*self.modules, *self.feature_modules]),
            overrides=Overrides(
                {parse_key(each.day): str(each.model_dump()) for each in self.calendar_overrides},
                tuple(each.override() for each in self.row_overrides),
            ),
            known_gaps=frozenset(self.known_gaps),
            max_faulty_share=self.max_faulty_share,
            news_scorer=self.news_scorer,
            bars_fields=self.model_dump(include={*of_bars, "max_faulty_share"}),
            periods_per_year=self.periods_per_year,
            currency=self.currency,
            owners=tuple(self.owners),
        )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        plan = self.plan
        updated, reported = build_stages(plan), build_report_stages(plan)
        stages = (*updated, *reported)
        versions = code_versions(plan)
        job = market_job(plan, [stage.asset for stage in updated])
        reports = [report_job(plan) for _ in reported]
        replays = [replay_job(plan)] if plan.feature_groups else []
        return dg.Definitions(
            assets=[build_asset(stage, owners=self.owners, tags={"market": self.name}) for stage in stages],
            asset_checks=[build_currency_check(stage, versions) for stage in stages],
            jobs=[job, *reports, *replays],
            schedules=[
                *(report_schedule(plan, each, versions) for each in reports),
                *(replay_schedule(plan, each) for each in replays),
            ],
            sensors=[arrivals_sensor(plan, job)] if plan.has_sensor else [],
        )
