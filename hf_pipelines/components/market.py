"""Market: one universe, timeframe, calendar and source; owns `bars` and the feature datasets built on them.

Lives here: the YAML of a market and its assets `<market>/bars` and `<market>/features/<group>`. Does not live here:
what a bar or a feature is (`research`), where bars come from (`resources.market_data`).
"""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import cached_property
from time import perf_counter
from typing import Any, Literal

import dagster as dg
import polars as pl
from pydantic import Field, field_validator, model_validator

from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.stage import (
    Computed,
    Finding,
    Stage,
    StageCheck,
    StageInput,
    StageRun,
    replay_guard,
    window,
)
from hf_pipelines.partitions import MarketPartitions, parse_key, week_key, week_start
from hf_pipelines.research.bars import (
    BARS_SCHEMA,
    SYMBOL_PATTERN,
    CheckedBars,
    check_structure,
    missing_bars,
    stale_bars,
    validate_bars,
)
from hf_pipelines.research.features.registry import FEATURES, compute_features, group_names
from hf_pipelines.resources import settings
from hf_pipelines.resources.market_data import MarketDataSource, SourceFile
from hf_pipelines.resources.market_data.files import FilesSource
from hf_pipelines.resources.market_data.sample import SampleSource
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_store import Content

NAME_PATTERN = r"^[a-z][a-z0-9_]{0,62}$"

# A year has 252 sessions in 52.18 weeks; fewer a week are assumed so that holidays do not shorten a window.
SESSIONS_PER_WEEK = 4.5


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
    feature_groups : list of str
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
    feature_groups: Sequence[str]
    known_gaps: Sequence[str] = Field(default_factory=list)
    max_faulty_share: float = 0.2
    periods_per_year: float = 252.0

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not re.match(NAME_PATTERN, name):
            raise ValueError(f"`name` must match {NAME_PATTERN}, was {name[:80]!r}.")
        return name

    @field_validator("feature_groups")
    @classmethod
    def _check_groups(cls, groups: Sequence[str]) -> Sequence[str]:
        known = sorted({feature.group for feature in FEATURES.values()})
        if unknown := sorted(set(groups) - set(known)):
            raise ValueError(f"`feature_groups` must be among {', '.join(known)}, was {', '.join(unknown)}.")
        return groups

    @model_validator(mode="after")
    def _check_symbols(self) -> "Market":
        symbols = [*self.members, self.benchmark]
        if bad := sorted(repr(each[:80]) for each in symbols if not re.match(SYMBOL_PATTERN, each)):
            raise ValueError(f"`universe` must hold symbols like {SYMBOL_PATTERN}, was {', '.join(bad[:5])}.")
        if len(set(symbols)) < len(symbols):
            raise ValueError("`universe` must hold each symbol once and not the benchmark, was with a repetition.")
        for day in (self.start, self.end, *self.known_gaps):
            if day is not None:
                parse_key(day)
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

    @cached_property
    def data_source(self) -> MarketDataSource:
        if isinstance(self.source, SampleSourceSpec):
            return SampleSource((*self.members, self.benchmark), self.partitions.hours)
        uri = self.source.uri
        # A relative folder lies in the data folder, wherever a command was started.
        if "://" not in uri and not uri.startswith("/"):
            uri = str(settings.data_dir() / uri)
        return FilesSource(ObjectStore(uri, self.source.endpoint or settings.s3_endpoint()))

    def bars_listing(self, key: str) -> dict[str, str]:
        """Source files of a week as the source shows them now."""
        return self.data_source.listing(self.partitions.sessions_of_week(key))

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """Every asset of the market, in flow order."""
        return (self.bars_stage(), *(self.features_stage(group) for group in self.feature_groups))

    @cached_property
    def code_versions(self) -> dict[str, str]:
        return {stage.asset: stage.code_version for stage in self.stages}

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return dg.Definitions(
            assets=[stage.build_asset() for stage in self.stages],
            asset_checks=[stage.build_currency_check(self.code_versions) for stage in self.stages],
        )

    def bars_stage(self) -> Stage:
        """`<market>/bars`: raw prices and corporate-action events, checked."""
        fields = self.model_dump(
            include={"universe", "benchmark", "calendar", "start", "known_gaps", "max_faulty_share"}
        )
        return Stage(
            asset=self.bars_asset,
            description=(
                f"Bars of {', '.join([*self.members][:8])} and the benchmark {self.benchmark}: raw prices as traded, with the "
                "splits and dividends effective on each session. Known at `ts`, tradable from the next bar."
            ),
            kinds=frozenset({"polars", "parquet"}),
            partitions=self.partitions.weekly,
            inputs=(),
            compute=self._compute_bars,
            code_version=code_version(check_structure, validate_bars, fields=fields),
            checks=(
                StageCheck("no_faulty_rows", "No symbol-session had to be quarantined.", _judge("quarantined")),
                StageCheck(
                    "complete",
                    "Every session of the calendar has a bar of every member.",
                    _judge("missing"),
                    severity=dg.AssetCheckSeverity.WARN,
                ),
                StageCheck(
                    "fresh_prices",
                    "No symbol repeats the same four prices for three sessions.",
                    _judge("stale"),
                    severity=dg.AssetCheckSeverity.WARN,
                ),
            ),
            column_schema=_column_schema({name: "" for name in BARS_SCHEMA}, BARS_SCHEMA),
            listing=self.bars_listing,
        )

    def _compute_bars(self, run: StageRun, inputs: Mapping[str, Loaded]) -> Computed:
        closed = {
            key: [day for day in self.partitions.sessions_of_week(key) if self.partitions.hours[day][1] <= run.now]
            for key in run.partitions
        }
        files = self.data_source.read([day for days in closed.values() for day in days])
        passed: list[tuple[SourceFile, CheckedBars]] = []
        faults: dict[str, list[str]] = {}
        for file in files:
            try:
                passed.append((file, self._check_file(file, run.now)))
            except ValueError as e:
                for key in {week_key(day) for day in file.sessions}:
                    faults.setdefault(key, []).append(str(e))
        contents, metadata = {}, {}
        for key, days in closed.items():
            if key in faults:
                continue
            content = self._bars_content(key, days, passed)
            if content.frame.is_empty() and key not in self.known_gaps:
                faults[key] = [self._explain_no_bars(key, days)]
                continue
            contents[key], metadata[key] = content, _bars_metadata(content)
        return Computed(contents, {key: "; ".join(each) for key, each in faults.items()}, metadata)

    def _check_file(self, file: SourceFile, now: datetime) -> CheckedBars:
        if file.frame is None:
            raise ValueError(file.fault)
        raw = check_structure(file.frame, source=file.name, hours=self.partitions.hours, now=now)
        return validate_bars(raw, universe=self.roles, source=file.name, max_faulty_share=self.max_faulty_share)

    def _bars_content(self, key: str, days: list[date], files: list[tuple[SourceFile, CheckedBars]]) -> Content:
        of_week = pl.col("session").is_in(days)
        used = [(file, checked.bars.filter(of_week), checked.quarantined.filter(of_week)) for file, checked in files]
        used = [each for each in used if each[1].height or each[2].height or set(each[0].sessions) <= set(days)]
        empty = pl.DataFrame(schema=BARS_SCHEMA)
        # Two files may carry the same symbol and session: nobody knows which is right, so both are quarantined.
        merged = validate_bars(
            pl.concat([empty, *(bars for _, bars, _ in used)]).drop("role"),
            universe=self.roles,
            source=key,
            max_faulty_share=1.0,
        )
        quarantined = pl.concat([*(q for _, _, q in used if q.height), merged.quarantined])
        expected = self._expected(days)
        missing = missing_bars(merged.bars, expected)
        stale = stale_bars(merged.bars)
        return Content(
            frame=merged.bars,
            attachments={"quarantine.csv": quarantined.write_csv().encode()} if quarantined.height else {},
            sources={file.name: file.sha256 for file, _, _ in used},
            facts={
                "expected": expected.height,
                "quarantined": _named(quarantined.select("symbol", "session", "reason").unique(maintain_order=True)),
                "missing": _named(missing),
                "stale": _named(stale.select("symbol", "session")),
            },
            has_session_hashes=True,
        )

    def _expected(self, days: list[date]) -> pl.DataFrame:
        rows = [
            (symbol, day)
            for day in days
            for symbol, (since, until) in self.members.items()
            if since <= day and (until is None or day <= until)
        ]
        rows += [(self.benchmark, day) for day in days]
        return pl.DataFrame(rows, schema={"symbol": pl.String, "session": pl.Date}, orient="row")

    def _explain_no_bars(self, key: str, days: list[date]) -> str:
        if not days:
            return f"`bars` must have a closed session in week {key}, had none yet; run it after the first close."
        return (
            f"`bars` must have rows for the {len(days)} sessions of week {key}, the source had none; wait for its "
            "files, or name the week in `known_gaps` of the market."
        )

    def feature_weeks(self, group: str) -> int:
        """Weeks before a week that its features read."""
        longest = max(FEATURES[name].lookback_bars for name in group_names(group))
        return 0 if longest == 1 else math.ceil(longest / SESSIONS_PER_WEEK) + 1

    def features_stage(self, group: str) -> Stage:
        """`<market>/features/<group>`: one float32 column a feature."""
        features = [FEATURES[name] for name in group_names(group)]
        bars = StageInput("bars", self.bars_asset, first_week=-self.feature_weeks(group), is_optional=True)

        def compute(run: StageRun, inputs: Mapping[str, Loaded]) -> Computed:
            return self._compute_features(run, inputs["bars"], group, bars)

        def recompute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> pl.DataFrame:
            return self._features_of([key], inputs["bars"], group, bars)

        return Stage(
            asset=self.features_asset(group),
            description=(
                f"Features of group {group}, one float32 column each, over the members of {self.name}. Each value is a "
                "function of exactly its last lookback bars; NaN until a symbol has them."
            ),
            kinds=frozenset({"polars", "numba", "parquet"}),
            partitions=self.partitions.weekly,
            inputs=(bars,),
            compute=compute,
            code_version=code_version(
                compute_features,
                *(feature.compute for feature in features),
                fields={
                    "features": [(each.name, each.lookback_bars, each.inputs) for each in features],
                    "benchmark": self.benchmark,
                    "calendar": self.calendar,
                },
            ),
            checks=(replay_guard(recompute),),
            column_schema=_column_schema(
                {each.name: f"{each.formula} ({each.lookback_bars} bars)" for each in features},
                {each.name: pl.Float32() for each in features},
            ),
        )

    def _compute_features(self, run: StageRun, bars: Loaded, group: str, bars_input: StageInput) -> Computed:
        began = perf_counter()
        ready, failures = [], {}
        for key in run.partitions:
            try:
                bars.require(window(self.partitions, bars_input, key))
                ready.append(key)
            except ValueError as e:
                failures[key] = str(e)
        if not ready:
            return Computed({}, failures)
        frame = self._features_of(ready, bars, group, bars_input)
        by_week = frame.with_columns(_week_expr()).partition_by("week", as_dict=True, include_key=False)
        empty = frame.clear()
        seconds = (perf_counter() - began) / len(ready)
        contents = {
            key: Content(
                by_week.get((key,), empty),
                inputs=bars.hashes(window(self.partitions, bars_input, key)),
                has_session_hashes=True,
            )
            for key in ready
        }
        metadata = {key: {**_features_metadata(each.frame), "compute_s": seconds} for key, each in contents.items()}
        return Computed(contents, failures, metadata)

    def _features_of(self, keys: list[str], bars: Loaded, group: str, bars_input: StageInput) -> pl.DataFrame:
        """Features of the given weeks, each week computed from its own window of weeks whatever else is loaded."""
        needed = sorted({week for key in keys for week in window(self.partitions, bars_input, key)})
        frame = bars.frame(needed)
        first_day = parse_key(needed[0])
        earliest = {
            day: week_start(day) + timedelta(weeks=bars_input.first_week) for day in frame["session"].unique().to_list()
        }
        last_day = max(parse_key(keys[-1]), parse_key(needed[-1]))
        last_session = self.partitions.sessions_between(first_day, shift_date(last_day))[-1]
        sessions = [
            *self.partitions.sessions_between(first_day, last_session), self.partitions.next_session(last_session)
        ]  # fmt: skip
        features = compute_features(
            frame, group_names(group), sessions=sessions, earliest=earliest, benchmark=self.benchmark
        )
        return features.filter(_week_expr().is_in(keys))


def shift_date(sunday: date) -> date:
    """Saturday of the week that begins on `sunday`."""
    return date.fromordinal(week_start(sunday).toordinal() + 6)


def _week_expr() -> pl.Expr:
    """Key of the week of each row's session."""
    session = pl.col("session")
    sunday = session - pl.duration(days=session.dt.weekday() % 7)
    return sunday.dt.strftime("%Y-%m-%d").alias("week")


def _judge(fact: str) -> Any:
    """A check that reports what the validator noted under `fact`."""

    def evaluate(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
        noted: list[str] = content.facts[fact]  # type: ignore[assignment]
        expected: int = content.facts["expected"]  # type: ignore[assignment]
        summary = (f"{len(noted)} of {expected} symbol-sessions: {', '.join(noted[:5])}",) if noted else ()
        return Finding(not noted, expected, summary)

    return evaluate


def _named(rows: pl.DataFrame) -> list[str]:
    return [" ".join(str(value) for value in row) for row in rows.iter_rows()]


def _bars_metadata(content: Content) -> dict[str, Any]:
    frame = content.frame
    members = frame.filter(pl.col("role") == "member")
    return {
        "symbols": frame["symbol"].n_unique(),
        "sessions": frame["session"].n_unique(),
        "members_per_session": members.height / max(members["session"].n_unique(), 1),
        "quarantined": len(content.facts["quarantined"]),  # type: ignore[arg-type]
        "missing": len(content.facts["missing"]),  # type: ignore[arg-type]
    }


def _features_metadata(frame: pl.DataFrame) -> dict[str, Any]:
    names = [name for name, dtype in frame.schema.items() if dtype == pl.Float32]
    if not frame.height:
        return {"symbols": 0, "members_per_session": 0.0, "null_share": 0.0}
    is_complete = ~pl.any_horizontal(pl.col(names).is_nan())
    nulls = frame.select(pl.col(names).is_nan().mean()).row(0)
    return {
        "symbols": frame["symbol"].n_unique(),
        "members_per_session": frame.filter(is_complete).height / frame["session"].n_unique(),
        "null_share": sum(nulls) / len(nulls),
    }


def _column_schema(descriptions: Mapping[str, str], types: Mapping[str, Any]) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name, type=str(types[name]), description=description or None)
            for name, description in descriptions.items()
        ]
    )
