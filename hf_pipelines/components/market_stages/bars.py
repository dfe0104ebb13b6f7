"""`<market>/bars`: raw prices and corporate-action events, checked at the edge.

Lives here: reading a market's source for weeks, what is published, quarantined or refused, and the checks on it. Does
not live here: what a bar is (`research.bars`), where files lie (`resources.market_data`).
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.stage import Stage, column_schema, weeks_to_make
from hf_pipelines.components.stage_checks import Finding, StageCheck, check_from_facts
from hf_pipelines.components.stage_run import Computed, StageRun
from hf_pipelines.partitions import MarketPartitions, parse_key, week_key, week_of_session
from hf_pipelines.research.bars import (
    BARS_SCHEMA,
    SOURCE_SCHEMA,
    CheckedBars,
    check_structure,
    has_bar_columns,
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
from hf_pipelines.research.wording import some_of
from hf_pipelines.resources.market_data import SourceFile
from hf_pipelines.resources.market_data.files import session_of_name
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_store import Content, Footer, StoredPartitionError

if TYPE_CHECKING:
    from hf_pipelines.components.market import Market

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

# Files are judged together up to so many rows, so that a copy of all of them is never held.
ROWS_AT_ONCE = 200_000

# The check `complete` names the missing session itself: one fault is one alarm.
GAP_RULE = "gap"

# Some vendors date an event on a day without a session, in a row without prices.
NO_SESSION = "event on a day without a session"

_NO_BARS = pl.DataFrame(schema=BARS_SCHEMA)
_NO_EVENTS = pl.DataFrame(schema=SOURCE_SCHEMA)


def bars_stage(market: "Market") -> Stage:
    """`<market>/bars`: raw prices and corporate-action events, checked."""
    of_bars = {"universe", "benchmark", "volatility_index", "timeframe", "bars_end", "calendar", "start"}
    fields = market.model_dump(include={*of_bars, "max_faulty_share"})
    rules = [(rule.name, rule.severity, rule.reason, rule.lookback_sessions) for rule in RULES]
    judges = (judge_bars, *(rule.judge for rule in RULES))
    return Stage(
        asset=market.bars_asset,
        description=(
            f"Bars ({market.timeframe}) of {', '.join([*market.members][:8])} and the benchmark {market.benchmark}: raw prices as traded, with the "
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
            fields={**fields, "rules": rules},
        ),
        checks=(
            StageCheck("no_faulty_rows", "No symbol-session had to be quarantined.", _judge("quarantined")),
            StageCheck(
                "events_in_place",
                "Every split and dividend came with a sound bar of its session: none had to be carried to the symbol's next bar, "
                "or is unknown.",
                _judge("events"),
                severity=dg.AssetCheckSeverity.WARN,
            ),
            StageCheck(
                "complete",
                "Every session of the calendar, up to the last one that came, has all its bars of every member.",
                _judge("missing"),
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
        manifest=market.bars_listing,
        is_manifest_live=market.is_fed,
        is_own=partial(_is_own, market.partitions),
        known_gaps=frozenset(market.known_gaps),
    )


def _is_own(partitions: MarketPartitions, name: str, key: str) -> bool:
    """Whether rows of a week lie in a file of this name; those of a day that is no session count for nothing."""
    day = session_of_name(name)
    return day is not None and week_key(day) == key and partitions.is_session(day)


def _compute_bars(market: "Market", run: StageRun, inputs: Mapping[str, Loaded]) -> Computed:
    weeks, skipped = weeks_to_make(market.partitions, run)
    closed = {key: market.partitions.closed_sessions(key, run.now) for key in weeks}
    before = {key: market.sessions_before(key, run.now) if days else [] for key, days in closed.items()}
    files = market.data_source.read(sorted({day for key, days in closed.items() for day in (*before[key], *days)}))
    strays = _stray_files(market, [key for key, days in closed.items() if days], run.now)
    stray_events = [stray_file_events(file.frame, market.roles) for each in strays.values() for file in each]
    # By week: a range of years has thousands of session files, of which a week needs five.
    passed: dict[str, list[tuple[SourceFile, CheckedBars]]] = {}
    faults: dict[str, list[str]] = {}
    # Files of each week by name: those that cannot be read are part of the history too, once they are mended.
    listed: dict[str, dict[str, str]] = {}
    for file, sound in zip(files, _sound_files(market, files, run.now), strict=True):
        of_file = {week_key(day) for day in file.sessions}
        try:
            checked = _check_file(market, file, run.now) if sound is None else sound
        except ValueError as e:
            for key in of_file:
                faults.setdefault(key, []).append(str(e))
                listed.setdefault(key, {})[file.name] = file.sha256
            continue
        for key in of_file:
            passed.setdefault(key, []).append((file, checked))
        for key in of_file if len(of_file) == 1 else _weeks_with_rows(checked):
            listed.setdefault(key, {})[file.name] = file.sha256
    settled = _settle(market, passed, pl.concat([_NO_EVENTS, *stray_events]))
    contents, metadata = {}, {}
    disputes: dict[str, list[Dispute]] = {}
    for key, days in sorted(closed.items()):
        if key in faults:
            continue
        weeks_before = market.weeks_before(key)
        told, disputes[key] = _follow(market, run, key, days, settled, disputes)
        content = _bars_content(market, key, days, passed.get(key, []), settled, told)
        looked_at = {name: sha256 for each in weeks_before for name, sha256 in listed.get(each, {}).items()}
        others = {file.name: file.sha256 for week in (*weeks_before, key) for file in strays.get(week, [])}
        content = replace(
            content,
            sources={**looked_at, **content.sources, **others, **market.override_sources(key)},
            facts={
                **content.facts,
                "strays": [_told_stray(market, file) for file in strays.get(key, [])],
                "disputes": [each.to_json() for each in disputes[key]],
            },
        )
        if content.frame.is_empty() and key not in market.known_gaps:
            faults[key] = [_explain_no_bars(market, key, days)]
            continue
        contents[key], metadata[key] = content, _bars_metadata(content)
    failures = {key: "; ".join(each) for key, each in faults.items() if key in closed}
    return Computed(contents, failures, metadata, skipped)


@dataclass(frozen=True)
class _Settled:
    """All rows that were read, judged together.

    Attributes
    ----------
    bars : mapping of week to DataFrame
        What is published.
    came : mapping of week to DataFrame
        What passed the row checks, faulty or not by the rules.
    quarantined : DataFrame
        Rows refused, as they came, with their `reason`.
    verdicts : DataFrame
        Of `judge_bars`, and of the market's `row_overrides`.
    carried : DataFrame
        Of `settle_events`.
    """

    bars: Mapping[str, pl.DataFrame]
    came: Mapping[str, pl.DataFrame]
    quarantined: pl.DataFrame
    verdicts: pl.DataFrame
    carried: pl.DataFrame


def _settle(
    market: "Market",
    passed: Mapping[str, list[tuple[SourceFile, CheckedBars]]],
    stray_events: pl.DataFrame = _NO_EVENTS,
) -> _Settled:
    files = {file.name: checked for of_week in passed.values() for file, checked in of_week}
    # Two files may carry the same symbol and session: nobody knows which is right, so both are quarantined.
    merged = validate_bars(
        pl.concat([_NO_BARS, *(each.bars for each in files.values())]).drop("role"),
        universe=market.roles,
        source=market.name,
        max_faulty_share=1.0,
        grid=market.bar_grid,
    )
    of_no_session = without_repeats(stray_events, merged.bars).with_columns(reason=pl.lit(NO_SESSION))
    refused = pl.concat(
        [
            merged.quarantined,
            *(each.quarantined for each in files.values() if each.quarantined.height),
            *([of_no_session] if of_no_session.height else []),
        ]
    )
    calendar, is_daily = market.partitions.sessions, market.bar_grid.is_daily
    # Judged with the events of refused rows in place: without them a sound bar after one looks like a missed split.
    known, _ = settle_events(merged.bars, refused, calendar=calendar, is_daily=is_daily)
    verdicts = override_verdicts(judge_bars(known, calendar=calendar), known, market.overridden_rows)
    # The first of several reasons; the others are no news of it.
    errors = verdicts.filter(pl.col("severity") == "error").unique(
        ["symbol", "session"], keep="first", maintain_order=True
    )
    bars, carried = settle_events(merged.bars, refused, errors=errors, calendar=calendar, is_daily=is_daily)
    judged = merged.bars.drop("role").join(errors.select("symbol", "session", "reason"), on=["symbol", "session"])
    return _Settled(
        bars=_by_week(bars),
        came=_by_week(merged.bars),
        quarantined=pl.concat([refused, judged.sort("symbol", "ts")]),
        verdicts=verdicts,
        carried=carried,
    )


def _follow(
    market: "Market",
    run: StageRun,
    key: str,
    days: Collection[date],
    settled: _Settled,
    made: Mapping[str, list[Dispute]],
) -> tuple[pl.DataFrame, list[Dispute]]:
    """Warnings of the levels in dispute in a week, and what is in dispute at its end: of the week before, of this run or
    stored.

    It changes no bar, so a week is not out of date when what was in dispute before it is another than it was.
    """
    weeks = market.weeks_before(key)
    came = [settled.came[each] for each in (*weeks, key) if each in settled.came]
    return follow_disputes(
        pl.concat([_NO_BARS, *came]),
        settled.verdicts,
        [each for each in _disputes_before(market, run, weeks, made) if each.symbol in market.roles],
        calendar=market.partitions.sessions,
        days=days,
        overrides=market.overridden_rows,
    )


def _disputes_before(
    market: "Market", run: StageRun, weeks: Sequence[str], made: Mapping[str, list[Dispute]]
) -> list[Dispute]:
    for week in reversed(weeks):
        if week in made:
            return made[week]
        try:
            footer = run.store.footer(market.bars_asset, week) if run.store is not None else None
        except StoredPartitionError:
            # A damaged week is made anew, and says so itself.
            continue
        if footer is not None:
            kept: list[dict[str, object]] = footer.facts.get("disputes", [])  # type: ignore[assignment]
            return [Dispute.from_json(each) for each in kept]
    return []


def _by_week(bars: pl.DataFrame) -> dict[str, pl.DataFrame]:
    weeks = bars.with_columns(week=week_of_session()).partition_by("week", as_dict=True, include_key=False)
    return {str(week): frame for (week,), frame in weeks.items()}


def _days_of(week: str) -> list[date]:
    return [parse_key(week) + timedelta(days=n) for n in range(7)]


def _stray_files(market: "Market", keys: Collection[str], now: datetime) -> dict[str, list[SourceFile]]:
    """Files of days that are no session, by week, in some weeks and those that these are judged by: of a holiday, a wrong date, a
    session that the calendar lacks."""
    found: dict[str, list[SourceFile]] = {}
    days = {day for key in keys for day in market.other_days(key, now)}
    for file in market.data_source.read(sorted(days)) if days else []:
        found.setdefault(week_key(file.sessions[0]), []).append(file)
    return found


def _told_stray(market: "Market", file: SourceFile) -> str:
    """A file of a day that is no session, with the events in it."""
    (day,) = file.sessions
    what = f"{file.name}: {day:%A} {day} is no session of {market.calendar}"
    if file.frame is None or not has_bar_columns(file.frame):
        return f"{what}; its rows cannot be read"
    rows = file.frame.filter(pl.col("symbol").cast(pl.String).is_in([*market.roles]))
    values = stray_file_events(file.frame, market.roles).select("symbol", "split_ratio", "dividend")
    events = values.with_columns(pl.col("split_ratio", "dividend").fill_null(math.nan))
    told = [f"{symbol} split {split:g} dividend {dividend:g}" for symbol, split, dividend in events.iter_rows()]
    return f"{what}; {rows.height} rows, events: {some_of(told) or 'none'}"


def _weeks_with_rows(checked: CheckedBars) -> set[str]:
    frames = (checked.bars, checked.quarantined)
    return {week_key(day) for frame in frames for day in frame["session"].unique().to_list()}


def _sound_files(market: "Market", files: Sequence[SourceFile], now: datetime) -> Iterator[CheckedBars | None]:
    """What `_check_file` gives of each file in which nothing is wrong, None of the others."""
    check = partial(sound_bars, universe=market.roles, hours=market.partitions.hours, now=now, grid=market.bar_grid)
    batch, n_rows = list[pl.DataFrame](), 0
    for file in files:
        batch.append(pl.DataFrame() if file.frame is None else file.frame)
        n_rows += batch[-1].height
        if n_rows > ROWS_AT_ONCE:
            yield from check(batch)
            batch, n_rows = [], 0
    yield from check(batch)


def _check_file(market: "Market", file: SourceFile, now: datetime) -> CheckedBars:
    if file.frame is None:
        raise ValueError(file.fault)
    rows, of_no_session = split_stray_events(file.frame, market.partitions.hours)
    raw = check_structure(rows, source=file.name, hours=market.partitions.hours, now=now, grid=market.bar_grid)
    checked = validate_bars(
        raw, universe=market.roles, source=file.name, max_faulty_share=market.max_faulty_share, grid=market.bar_grid
    )
    of_universe = of_no_session.filter(pl.col("symbol").is_in(list(market.roles))).with_columns(
        reason=pl.lit(NO_SESSION)
    )
    return replace(checked, quarantined=pl.concat([checked.quarantined, of_universe]))


def _bars_content(
    market: "Market",
    key: str,
    days: list[date],
    files: list[tuple[SourceFile, CheckedBars]],
    settled: "_Settled",
    told: pl.DataFrame,
) -> Content:
    """Of a week; `told`: warnings of its levels in dispute."""
    of_week = pl.col("session").is_in(days)
    used = [
        file
        for file, checked in files
        if set(file.sessions) <= set(days)
        or any(each.filter(of_week).height for each in (checked.bars, checked.quarantined))
    ]
    bars = settled.bars.get(key, _NO_BARS).filter(of_week)
    # A row of a day without a session belongs to the week all the same.
    all_days = [day for day in _days_of(key) if day in days or day not in market.partitions.hours]
    quarantined = settled.quarantined.filter(pl.col("session").is_in(all_days))
    verdicts = pl.concat([settled.verdicts.filter(of_week), told]).sort("symbol", "session", maintain_order=True)
    is_suspect = (pl.col("severity") == "warning") & (pl.col("rule") != GAP_RULE)
    suspect = verdicts.filter(is_suspect).select("symbol", "session", "rule", "reason")
    # A session after the last one that came is not missing but yet to come: the check `on_time` says when it is late.
    last = max(bars["session"].to_list(), default=None)
    # Symbol-sessions that should have bars.
    expected = market.member_sessions([day for day in days if last is None or day <= last], with_references=True)
    bars_expected = expected if market.bar_grid.is_daily else _each_bar(market, expected)
    missing = missing_bars(bars, bars_expected)
    weeks = (*market.weeks_before(key), key)
    stale = stale_bars(pl.concat([settled.came[each] for each in weeks if each in settled.came] or [_NO_BARS]))
    stale = stale.filter(of_week)
    return Content(
        frame=bars,
        attachments={"quarantine.csv": quarantined.write_csv().encode()} if quarantined.height else {},
        sources={file.name: file.sha256 for file in used},
        facts={
            "expected": expected.height,
            "quarantined": _named(quarantined.select("symbol", "session", "reason").unique(maintain_order=True)),
            "events": describe_carried(settled.carried, all_days),
            "missing": _named(missing) if market.bar_grid.is_daily else _counted(missing, bars_expected),
            "stale": _named(stale.select("symbol", "session")),
            "suspect": _named(suspect),
            "unknown_rows": sum(checked.n_unknown for file, checked in files if set(file.sessions) <= set(days)),
        },
        has_session_hashes=True,
    )


def _each_bar(market: "Market", expected: pl.DataFrame) -> pl.DataFrame:
    days = expected["session"].unique().to_list()
    ends = market.bar_grid.ends({day: market.partitions.hours[day] for day in days})
    return expected.join(ends, on="session", how="inner")


def _counted(missing: pl.DataFrame, expected: pl.DataFrame) -> list[str]:
    """One line a symbol-session: a session of minutes lacks hundreds of bars."""
    of_session = expected.group_by("symbol", "session").len("n_expected")
    counts = missing.group_by("symbol", "session").len("n_missing").join(of_session, on=["symbol", "session"])
    rows = counts.sort("session", "symbol").select("symbol", "session", "n_missing", "n_expected").iter_rows()
    return [f"{symbol} {session} ({n} of {n_all} bars)" for symbol, session, n, n_all in rows]


def is_override(source: str) -> bool:
    """Whether a name among a week's sources is of an override of the market's YAML, listed like a file."""
    return source.startswith(("calendar_overrides/", "row_overrides/"))


def incomplete_sessions(footer: Footer) -> set[str]:
    """Sessions of a stored week that lack bars of a symbol, the last of them at most the last that came."""
    return {line.split()[1] for line in footer.facts["missing"]}  # type: ignore[attr-defined]


def _explain_no_bars(market: "Market", key: str, days: list[date]) -> str:
    if not days:
        return f"`bars` must have a closed session in week {key}, had none yet; run it after the first close."
    looked_at = f"the source ({market.landing.objects.uri})" if market.is_fed else "the source"
    wait = "wait for its files" if market.is_fed else "ask again later"
    return (
        f"`bars` must have rows for the {len(days)} sessions of week {key}, {looked_at} had none; {wait}, or name the week in "
        "`known_gaps` of the market."
    )


_judge = partial(check_from_facts, total="expected", unit="symbol-sessions")


def _judge_strays(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
    strays: list[str] = content.facts["strays"]  # type: ignore[assignment]
    return Finding(not strays, max(len(content.sources), 1), tuple(strays))


def _named(rows: pl.DataFrame) -> list[str]:
    return [" ".join(str(value) for value in row) for row in rows.iter_rows()]


def _bars_metadata(content: Content) -> dict[str, Any]:
    frame = content.frame
    members = frame.filter(pl.col("role") == "member")
    return {
        "symbols": frame["symbol"].n_unique(),
        "sessions": frame["session"].n_unique(),
        "members_per_session": members.select("symbol", "session").n_unique() / max(members["session"].n_unique(), 1),
        "quarantined": len(content.facts["quarantined"]),  # type: ignore[arg-type]
        "events_out_of_place": len(content.facts["events"]),  # type: ignore[arg-type]
        "missing": len(content.facts["missing"]),  # type: ignore[arg-type]
        "suspect": len(content.facts["suspect"]),  # type: ignore[arg-type]
        "strays": len(content.facts["strays"]),  # type: ignore[arg-type]
        "unknown_rows": content.facts["unknown_rows"],
    }
