"""`<market>/bars`: raw prices and corporate-action events, checked at the edge.

Lives here: the stage, and its checks. Does not live here: reading its files (`bars_files`), judging their rows
(`settled_bars`), what is published of a week (`bars_content`), what a bar is (`research.bars`).
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial

import dagster as dg

from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.market_stages.bars_content import bars_content
from hf_pipelines.components.market_stages.bars_display import bars_metadata, faulty_rows
from hf_pipelines.components.market_stages.bars_files import describe_stray, read_files
from hf_pipelines.components.market_stages.plan import MarketPlan, WeekDates
from hf_pipelines.components.market_stages.settled_bars import follow_levels, settle
from hf_pipelines.components.stage import Stage, column_schema, weeks_to_make
from hf_pipelines.components.stage_checks import Finding, StageCheck, check_from_facts
from hf_pipelines.components.stage_run import Computed, StageRun
from hf_pipelines.partitions import MarketPartitions, week_key
from hf_pipelines.research.bars import (
    BARS_SCHEMA,
    check_structure,
    missing_bars,
    sound_bars,
    split_stray_events,
    stale_bars,
    stray_file_events,
    validate_bars,
    without_repeats,
)
from hf_pipelines.research.disputes import Dispute, follow_disputes, override_verdicts
from hf_pipelines.research.events import describe_carried, settle_events
from hf_pipelines.research.quality import RULES, judge_bars
from hf_pipelines.resources.footer import BARS, Footer
from hf_pipelines.resources.market_data.files import session_of_name
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content

COLUMN_DESCRIPTIONS = {
    "symbol": "member of the universe, or the benchmark",
    "session": "trading day of the calendar, in the market's time zone",
    "ts": "close of the bar, UTC: its values are known from then on",
    "open": "raw price as traded, never adjusted",
    "high": "raw price as traded, never adjusted",
    "low": "raw price as traded, never adjusted",
    "close": "raw price as traded, never adjusted",
    "volume": "units traded, never adjusted",
    "split_ratio": "new units for one old, effective on this session (on its first bar) or on those before it without a bar; 1 if none, NaN if unknown",
    "dividend": "cash a unit, effective on this session (on its first bar) or on those before it without a bar; 0 if none, NaN if unknown",
    "role": "member (traded) or reference (the benchmark and the volatility index: never in ranks, matrices or weights)",
}


def bars_stage(market: MarketPlan) -> Stage:
    """`<market>/bars`: raw prices and corporate-action events, checked."""
    rules = [(rule.name, rule.severity, rule.reason, rule.lookback_sessions) for rule in RULES]
    judges = (judge_bars, *(rule.judge for rule in RULES))
    return Stage(
        asset=market.bars_asset,
        kind=BARS,
        description=(
            f"Bars ({market.timeframe}) of {', '.join([*market.universe.members][:8])} and the benchmark {market.universe.benchmark}: raw prices as traded, with the "
            "splits and dividends effective on each session. Known at `ts`, tradable from the next bar."
        ),
        kinds=frozenset({"polars", "parquet"}),
        partitions=market.partitions.weekly,
        inputs=(),
        compute=partial(_compute_bars, market),
        code_version=code_version(
            check_structure,
            validate_bars,
            sound_bars,
            settle_events,
            describe_carried,
            override_verdicts,
            follow_disputes,
            split_stray_events,
            stray_file_events,
            without_repeats,
            missing_bars,
            stale_bars,
            type(market.bar_grid),
            *judges,
            fields={**market.bars_fields, "rules": rules},
        ),
        checks=(
            StageCheck("no_faulty_rows", "No symbol-session had to be quarantined.", faulty_rows(market)),
            StageCheck(
                "events_in_place",
                "Every split and dividend came with a sound bar of its session: none had to be carried to the symbol's next bar, "
                "or is unknown.",
                _judge("events"),
                severity=dg.AssetCheckSeverity.WARN,
            ),
            StageCheck(
                "complete",
                "Every session of the calendar, up to the last one that came, has all its bars of every member; but for `known_gaps`.",
                partial(_judge_complete, market.known_gaps),
                severity=dg.AssetCheckSeverity.WARN,
            ),
            StageCheck(
                "fresh_prices",
                "No symbol repeats the same four prices for three sessions.",
                _judge("stale"),
                severity=dg.AssetCheckSeverity.WARN,
            ),
            StageCheck(
                "no_stray_files",
                "No file is of a day that is no session: its rows are left out, its events count on the next bar, and a session that "
                "the calendar lacks belongs into `calendar_overrides` of the market.",
                _judge_strays,
                severity=dg.AssetCheckSeverity.WARN,
            ),
            StageCheck(
                "no_suspect_rows",
                "No symbol-session is unlike the symbol's bars before it: jumps, wrong prints, volume.",
                _judge("suspect"),
                severity=dg.AssetCheckSeverity.WARN,
            ),
        ),
        column_schema=column_schema(COLUMN_DESCRIPTIONS, BARS_SCHEMA),
        pool=market.name,
        manifest=market.bars_manifest,
        is_manifest_live=market.bars_asset in market.watched_folders,
        is_own=partial(_is_own, market.partitions),
        known_gaps=market.known_gaps,
    )


def _is_own(partitions: MarketPartitions, name: str, key: str) -> bool:
    """Whether rows of a week lie in a file of this name; those of a day that is no session count for nothing."""
    day = session_of_name(name)
    return day is not None and week_key(day) == key and partitions.is_session(day)


def _compute_bars(market: MarketPlan, run: StageRun, inputs: Mapping[str, Loaded]) -> Computed:
    weeks, skipped = weeks_to_make(market.partitions, run)
    dates = {key: market.week_dates(key, run.now) for key in weeks}
    read = read_files(market, dates.values(), run.now)
    settled = settle(market, read)
    contents, metadata = {}, {}
    faults = {key: "; ".join(read.faults[key]) for key in dates if key in read.faults}
    disputes: dict[str, list[Dispute]] = {}
    for key, of_week in sorted(dates.items()):
        if key in faults:
            continue
        warnings, disputes[key] = follow_levels(market, run, of_week, settled, disputes)
        content = bars_content(market, of_week, read.passed.get(key, []), settled, warnings)
        overrides = market.override_sources(key, of_week.weeks_before)
        content = replace(
            content,
            sources={**read.sources(of_week), **content.sources, **overrides},
            facts={
                **content.facts,
                "strays": [describe_stray(market, file) for file in read.strays.get(key, [])],
                "disputes": [each.to_json() for each in disputes[key]],
            },
        )
        if content.frame.is_empty() and key not in market.known_gaps:
            faults[key] = _explain_no_bars(market, of_week)
            continue
        contents[key], metadata[key] = content, bars_metadata(market, of_week, content)
    return Computed(contents, faults, metadata, skipped)


def incomplete_sessions(footer: Footer) -> set[str]:
    """Sessions of a stored week that lack bars of a symbol, the last of them at most the last that came."""
    return {line.split()[1] for line in footer.facts["missing"]}  # type: ignore[attr-defined]


def _explain_no_bars(market: MarketPlan, dates: WeekDates) -> str:
    if not dates.closed:
        return f"`bars` must have a closed session in week {dates.week}, had none yet; run it after the first close."
    if absent := market.absent_folder(market.bars_asset, field="source"):
        return absent
    folder = market.watched_folders.get(market.bars_asset)
    source, wait = ("the source", "ask again later")
    if folder is not None:
        source, wait = f"the source ({folder.objects.uri})", "wait for its files"
    return (
        f"`bars` must have rows for the {len(dates.closed)} sessions of week {dates.week}, {source} had none; {wait}, or name "
        "the week in `known_gaps` of the market."
    )


_judge = partial(check_from_facts, total="expected", unit="symbol-sessions")


def _judge_complete(
    known_gaps: Collection[str], run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content
) -> Finding:
    """A week of which the market says that it has nothing lacks nothing."""
    if key in known_gaps and content.frame.is_empty():
        return Finding(True, 0)
    return _judge("missing")(run, inputs, key, content)


def _judge_strays(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
    strays: list[str] = content.facts["strays"]  # type: ignore[assignment]
    return Finding(not strays, max(len(content.sources), 1), tuple(strays))
