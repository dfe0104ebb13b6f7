"""Inputs of features: what a group's values of a week are made from.

Lives here: which weeks of bars and of reference tables a group reads, whether they are stored, and handing them to the
features. Does not live here: the stage (`features`), its replay (`feature_replay`), the features (`research.features`).
"""

import math
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

import polars as pl

from hf_pipelines.components.market_stages.plan import MarketPlan
from hf_pipelines.components.stage import SourceManifest, StageInput, window
from hf_pipelines.partitions import SURROUNDING_DAYS, MarketPartitions, parse_key, week_end, week_start
from hf_pipelines.research.features.panel import CalendarChange
from hf_pipelines.research.features.registry import FEATURES
from hf_pipelines.research.references import REFERENCES
from hf_pipelines.research.replay import (
    instant,
)
from hf_pipelines.resources.parquet_io_manager import Loaded

# What recomputes: `compute_features`, here or in another process.
Compute = Callable[..., pl.DataFrame]

# A usual year has 252 sessions in 52.18 weeks; fewer a week are assumed so that holidays do not shorten a window.
SESSIONS_PER_WEEK = 4.5
USUAL_SESSIONS = 252

# Inputs by which features know which days are sessions.
CALENDAR_INPUTS = {"calendar", "next_session", "planned_holidays"}


def weeks_of_bars(market: MarketPlan, n_bars: int) -> int:
    """Weeks that hold so many bars of a symbol, holidays counted, and one more for the week under way."""
    bars_per_week = market.usual_bars_per_year / USUAL_SESSIONS * SESSIONS_PER_WEEK
    return math.ceil(n_bars / bars_per_week) + 1


def feature_weeks(market: MarketPlan, group: str) -> int:
    """Weeks before a week that its features read."""
    features = [FEATURES[name] for name in market.feature_groups[group]]
    longest = max(each.lookback_bars for each in features)
    of_bars = 0 if longest == 1 else weeks_of_bars(market, longest)
    return max(of_bars, _weeks_of(max(each.lookback_days for each in features)))


def missing_bars(market: MarketPlan, group: str, week: str, stored: Collection[str]) -> list[str]:
    """Weeks of bars that features of a week need and that are not among those `stored`."""
    return [each for each in bars_read(market, group, week) if each not in stored]


def bars_read(market: MarketPlan, group: str, week: str) -> list[str]:
    """Weeks of bars that features of a week are made from."""
    return window(market.partitions, feature_inputs(market, group)[0], week)


def reads_calendar(market: MarketPlan, group: str) -> bool:
    """Whether values of a group are made of which days are sessions."""
    return any(CALENDAR_INPUTS & {*FEATURES[name].inputs} for name in market.feature_groups[group])


def calendar_manifest(market: MarketPlan, group: str, key: str, now: datetime) -> dict[str, str]:
    """Overrides of the days that the features of a week may know of: of another group they come with the bars."""
    around = timedelta(days=SURROUNDING_DAYS)
    first, last = parse_key(min([key, *bars_read(market, group, key)])), week_end(parse_key(key))
    return market.overrides.of_days(first - around, last + around)


def calendar_manifests(market: MarketPlan) -> dict[str, SourceManifest]:
    """What lists the overrides of the calendar that features may know of, by asset."""
    return {
        market.features_asset(group): partial(calendar_manifest, market, group)
        for group in market.feature_groups
        if reads_calendar(market, group)
    }


def reference_weeks(market: MarketPlan, group: str) -> int:
    """Weeks before a week whose reference tables its features read."""
    return _weeks_of(max(FEATURES[name].reference_days for name in market.feature_groups[group]))


def _weeks_of(days: int) -> int:
    """Weeks before a week that hold so many days before each of its days."""
    return math.ceil(days / 7) + 1 if days else 0


def feature_inputs(market: MarketPlan, group: str) -> tuple[StageInput, ...]:
    """What the features of a week are made of: the bars first, then the reference tables."""
    inputs = {item for name in market.feature_groups[group] for item in FEATURES[name].inputs}
    weeks = reference_weeks(market, group)
    of_bars = StageInput(
        "bars", market.bars_asset, first_week=-feature_weeks(market, group), is_optional=True, fails_alone=True
    )
    of_tables = (
        StageInput(
            table,
            market.reference_asset(table),
            first_week=-weeks,
            is_optional=True,
            fails_alone=True,
            is_by_session=False,
        )
        for table in REFERENCES
        if table in inputs
    )
    return (of_bars, *of_tables)


def features_of(
    market: MarketPlan,
    keys: list[str],
    inputs: Mapping[str, Loaded],
    group: str,
    read: tuple[StageInput, ...],
    compute: Compute,
) -> pl.DataFrame:
    """Features of the given weeks, each week computed from its own window of weeks whatever else is loaded."""
    weeks = {
        each.name: sorted({week for key in keys for week in window(market.partitions, each, key)}) for each in read
    }
    bars, needed = read[0], weeks["bars"]
    frame = inputs["bars"].frame(needed)
    first_day = parse_key(needed[0])
    last_day = week_end(parse_key(needed[-1]))
    opens = market.partitions.opens_between(first_day, last_day)
    earliest = {day: week_start(day) + timedelta(weeks=bars.first_week) for day in opens}
    wanted = [day for key in keys for day in market.partitions.sessions_of_week(key)]
    at, known_by = inputs["bars"].known_at, inputs["bars"].known_by
    if at is not None or known_by is not None:
        times = {*(known_by or {}).values(), *([] if at is None else [at])}
        of_times = pl.any_horizontal(pl.col("ts") == instant(each) for each in times)
        wanted = frame.select("session", "ts").filter(of_times)["session"].unique().to_list()
    # The calendar is known ahead of time, but for what is announced, and holds days before the market's first.
    known = (
        market.partitions
        if at is None
        else market.partitions.known_on(at.astimezone(ZoneInfo(market.partitions.timezone)).date())
    )
    sessions = known.sessions_around(first_day, last_day)
    return compute(
        frame,
        market.feature_groups[group],
        sessions=sessions,
        planned_holidays=known.planned_holidays_between(sessions[0], sessions[-1]),
        changes=calendar_changes(known),
        earliest=earliest,
        opens=opens,
        benchmark=market.universe.benchmark,
        volatility_index=market.universe.volatility_index,
        membership=market.universe.membership,
        sectors=market.universe.sectors,
        references={each.name: inputs[each.name].frame(weeks[each.name]) for each in read[1:]},
        wanted=wanted,
    )


def calendar_changes(partitions: MarketPartitions) -> list[CalendarChange]:
    """The announced changes of a market's calendar, as features take them."""
    return [CalendarChange(each.day, each.is_session, each.announced) for each in partitions.changes]
