"""Settled bars: the rows of all files of a run, judged together.

Lives here: which rows are published, refused or carried, and levels that are in dispute over weeks. Does not live here: the
rules (`research.quality`, `research.events`, `research.disputes`), the files (`bars_files`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from hf_pipelines.components.market_stages.bars_files import NO_SESSION, BarsFiles
from hf_pipelines.components.market_stages.plan import MarketPlan, WeekDates
from hf_pipelines.components.stage_run import StageRun
from hf_pipelines.partitions import week_of_session
from hf_pipelines.research.bars import BARS_SCHEMA, SOURCE_SCHEMA, stray_file_events, validate_bars, without_repeats
from hf_pipelines.research.disputes import Dispute, follow_disputes, override_verdicts
from hf_pipelines.research.events import settle_events
from hf_pipelines.research.quality import judge_bars
from hf_pipelines.resources.storage_errors import StoredPartitionError

NO_BARS = pl.DataFrame(schema=BARS_SCHEMA)
NO_EVENTS = pl.DataFrame(schema=SOURCE_SCHEMA)


@dataclass(frozen=True)
class SettledBars:
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


def settle(market: MarketPlan, read: BarsFiles) -> SettledBars:
    """Judge the rows of all files of a run together."""
    files = {file.name: checked for of_week in read.passed.values() for file, checked in of_week}
    strays = [stray_file_events(file.frame, market.universe.roles) for each in read.strays.values() for file in each]
    stray_events = pl.concat([NO_EVENTS, *strays])
    # Two files may hold the same symbol and session: either may be wrong, so both are quarantined.
    merged = validate_bars(
        pl.concat([NO_BARS, *(each.bars for each in files.values())]).drop("role"),
        universe=market.universe.roles,
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
    verdicts = override_verdicts(judge_bars(known, calendar=calendar), known, market.overrides.rows)
    # One reason a row is enough: the first.
    errors = verdicts.filter(pl.col("severity") == "error").unique(
        ["symbol", "session"], keep="first", maintain_order=True
    )
    bars, carried = settle_events(merged.bars, refused, errors=errors, calendar=calendar, is_daily=is_daily)
    judged = merged.bars.drop("role").join(errors.select("symbol", "session", "reason"), on=["symbol", "session"])
    return SettledBars(
        bars=_by_week(bars),
        came=_by_week(merged.bars),
        quarantined=pl.concat([refused, judged.sort("symbol", "ts")]),
        verdicts=verdicts,
        carried=carried,
    )


def follow_levels(
    market: MarketPlan,
    run: StageRun,
    dates: WeekDates,
    settled: SettledBars,
    made: Mapping[str, list[Dispute]],
) -> tuple[pl.DataFrame, list[Dispute]]:
    """Warnings of the levels in dispute in a week, and the disputes at its end.

    They go on from those of the week before, in `made` by this run or stored. They change no bar, so a week is not out of date
    when the disputes before it have changed.
    """
    weeks = dates.weeks_before
    came = [settled.came[each] for each in (*weeks, dates.week) if each in settled.came]
    return follow_disputes(
        pl.concat([NO_BARS, *came]),
        settled.verdicts,
        [each for each in _disputes_before(market, run, weeks, made) if each.symbol in market.universe.roles],
        calendar=market.partitions.sessions,
        days=dates.closed,
        overrides=market.overrides.rows,
    )


def _disputes_before(
    market: MarketPlan, run: StageRun, weeks: Sequence[str], made: Mapping[str, list[Dispute]]
) -> list[Dispute]:
    for week in reversed(weeks):
        if week in made:
            return made[week]
        try:
            footer = run.store.footer(market.bars_asset, week) if run.store is not None else None
        except StoredPartitionError:
            # A damaged week is made anew and reported by itself.
            continue
        if footer is not None:
            kept: list[dict[str, object]] = footer.facts.get("disputes", [])  # type: ignore[assignment]
            return [Dispute.from_json(each) for each in kept]
    return []


def _by_week(bars: pl.DataFrame) -> dict[str, pl.DataFrame]:
    weeks = bars.with_columns(week=week_of_session()).partition_by("week", as_dict=True, include_key=False)
    return {str(week): frame for (week,), frame in weeks.items()}
