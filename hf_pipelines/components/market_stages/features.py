"""`<market>/features/<group>`: one float32 column a feature, replayed before it is published.

Lives here: which weeks of bars a group reads, and cutting a range into weeks. Does not live here: the features
(`research.features`).
"""

import math
import re
import zlib
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from importlib import import_module
from time import perf_counter
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import dagster as dg
import numpy as np
import polars as pl

from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.display import markdown_table
from hf_pipelines.components.stage import Stage, StageInput, column_schema, weeks_to_make, window
from hf_pipelines.components.stage_checks import N_CLOSE_TIMES, REPLAY_DESCRIPTION, Finding, StageCheck
from hf_pipelines.components.stage_run import Computed, StageRun
from hf_pipelines.partitions import SURROUNDING_DAYS, MarketPartitions, parse_key, week_end, week_of_session, week_start
from hf_pipelines.research.features.feature import Feature
from hf_pipelines.research.features.panel import CalendarChange
from hf_pipelines.research.features.registry import FEATURES, compute_features, is_shipped
from hf_pipelines.research.references import MIN_FISCAL_YEARS, REFERENCES, doubtful_periods
from hf_pipelines.research.replay import (
    CALENDAR_ENDS,
    WEEKS_A_YEAR,
    TellingTimes,
    compare_replay,
    instant,
    pick_replay_ts,
    plan_replays,
    telling_times,
)
from hf_pipelines.research.wording import some_of
from hf_pipelines.resources.fresh_process import FreshFeatures
from hf_pipelines.resources.parquet_io_manager import Loaded, require_all
from hf_pipelines.resources.partition_store import Content
from hf_pipelines.resources.replay_record import read_record

if TYPE_CHECKING:
    from hf_pipelines.components.market import Market

# A usual year has 252 sessions in 52.18 weeks; fewer a week are assumed so that holidays do not shorten a window.
SESSIONS_PER_WEEK = 4.5
USUAL_SESSIONS = 252

# Members whose features are replayed each week, at least; fewer members than these are all replayed.
N_REPLAYED_SYMBOLS = 24

# Times of a week that are replayed where there are few members, at least.
N_TIMES = 3

# What recomputes: `compute_features`, here or in another process.
Compute = Callable[..., pl.DataFrame]

# What says which days are sessions.
CALENDAR_INPUTS = {"calendar", "next_session", "planned_holidays"}

# What Dagster takes as the name of a tag.
TAG_NAME = re.compile(r"[A-Za-z0-9_.-]{1,63}")


def feature_weeks(market: "Market", group: str) -> int:
    """Weeks before a week that its features read."""
    features = [FEATURES[name] for name in market.feature_groups[group]]
    longest = max(each.lookback_bars for each in features)
    bars_per_week = market.usual_bars_per_year / USUAL_SESSIONS * SESSIONS_PER_WEEK
    of_bars = 0 if longest == 1 else math.ceil(longest / bars_per_week) + 1
    return max(of_bars, _weeks_of(max(each.lookback_days for each in features)))


def missing_bars(market: "Market", group: str, week: str, stored: Collection[str]) -> list[str]:
    """Weeks of bars that features of a week need and that are not among those `stored`."""
    return [each for each in bars_read(market, group, week) if each not in stored]


def bars_read(market: "Market", group: str, week: str) -> list[str]:
    """Weeks of bars that features of a week are made from."""
    return window(market.partitions, feature_inputs(market, group)[0], week)


def reads_calendar(market: "Market", group: str) -> bool:
    """Whether values of a group are made of which days are sessions."""
    return any(CALENDAR_INPUTS & {*FEATURES[name].inputs} for name in market.feature_groups[group])


def calendar_listing(market: "Market", group: str, key: str, now: datetime) -> dict[str, str]:
    """Overrides of the days that the features of a week may know of: of another group they come with the bars."""
    around = timedelta(days=SURROUNDING_DAYS)
    first, last = parse_key(min([key, *bars_read(market, group, key)])), week_end(parse_key(key))
    return market.calendar_sources(first - around, last + around)


def reference_weeks(market: "Market", group: str) -> int:
    """Weeks before a week whose reference tables its features read."""
    return _weeks_of(max(FEATURES[name].reference_days for name in market.feature_groups[group]))


def _weeks_of(days: int) -> int:
    """Weeks before a week that hold so many days before each of its days."""
    return math.ceil(days / 7) + 1 if days else 0


def feature_inputs(market: "Market", group: str) -> tuple[StageInput, ...]:
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


@dataclass(frozen=True)
class Replay:
    """A group's features of a time, recomputed from what was known then.

    Attributes
    ----------
    symbols : frozenset of str or None
        What was read; None: all.
    frame : DataFrame or None
        None if nothing could be computed, for `fault`.
    """

    at: datetime
    symbols: frozenset[str] | None
    frame: pl.DataFrame | None
    fault: str = ""


def feature_replay(
    market: "Market",
    group: str,
    *,
    n_times: int = N_TIMES,
    is_sampled: bool = True,
    compute: Compute = compute_features,
) -> StageCheck:
    """The look-ahead guard of a group: a sample, or at least `n_times` times of each week.

    What a run of weeks recomputes is `replays_of`. If one differs, every other week is judged by itself, over all members
    and in a process of its own. If not `is_sampled` every week and member at every time, by `compute` (see `recomputing`).
    """
    read = feature_inputs(market, group)
    # Nothing is started before something differs.
    another = _recomputer(market, group, is_after_all=True)

    def recompute(compute: Compute, inputs: Mapping[str, Loaded], key: str) -> pl.DataFrame:
        return _features_of(market, [key], inputs, group, read, compute)

    def evaluate(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
        if is_sampled:
            replays = content.replays or replays_of(market, group, [key], inputs, compute_features)[key]
            return _confirmed(content.frame, replays)
        return _in_full(content.frame, inputs, key, n_times, partial(recompute, compute))

    def full_evaluate(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
        return _in_full(content.frame, inputs, key, N_CLOSE_TIMES, partial(recompute, another), stop=True)

    return StageCheck(
        name="replay",
        description=REPLAY_DESCRIPTION,
        evaluate=evaluate,
        is_guard=True,
        sample=(lambda contents: [key for key, each in contents.items() if each.replays]) if is_sampled else None,
        full_evaluate=full_evaluate,
    )


def _confirmed(stored: pl.DataFrame, replays: Sequence[Replay]) -> Finding:
    """Whether what was recomputed is what is stored."""
    differences: list[str] = []
    n_compared = 0
    for each in replays:
        if each.frame is None:
            differences.append(f"nothing can be recomputed at {each.at.isoformat()}: {each.fault}")
            continue
        known = stored.filter(pl.col("ts") == instant(each.at))
        known = known if each.symbols is None else known.filter(pl.col("symbol").is_in(each.symbols))
        differences += [str(found) for found in compare_replay(known, each.frame, at=each.at)]
        n_compared += known.height * (known.width - 3)
    return Finding(not differences, n_compared, tuple(differences[:5]))


def _in_full(
    stored: pl.DataFrame,
    inputs: Mapping[str, Loaded],
    key: str,
    n_times: int,
    recompute: Callable[[Mapping[str, Loaded], str], pl.DataFrame],
    *,
    stop: bool = False,
) -> Finding:
    """All members at `n_times` times or more, up to the first that differs if `stop`."""
    if not stored.height:
        return Finding(True, 0)
    n_compared, findings = 0, list[str]()
    for at in pick_replay_ts(stored, seed=_seed(key, stored.height), n=n_times):
        found = _confirmed(stored, [_replay(inputs, key, at, None, recompute)])
        n_compared += found.n_compared
        findings += found.findings
        if findings and stop:
            break
    return Finding(not findings, n_compared, tuple(findings[:5]))


def _replay(
    inputs: Mapping[str, Loaded],
    key: str,
    at: datetime,
    symbols: frozenset[str] | None,
    recompute: Callable[[Mapping[str, Loaded], str], pl.DataFrame],
) -> Replay:
    try:
        return Replay(at, symbols, recompute({name: each.cut(at, symbols) for name, each in inputs.items()}, key))
    except ValueError as e:
        # What was known then is not enough to make it: look-ahead, and no reason to lose the other partitions.
        return Replay(at, symbols, None, str(e))


def replays_of(
    market: "Market", group: str, keys: Sequence[str], inputs: Mapping[str, Loaded], compute: Compute
) -> dict[str, tuple[Replay, ...]]:
    """What a sample of a run's rows is made of what was known at their times, in the order of time.

    It is made before anything is computed of all that is there: a function that keeps what it has seen knows nothing later.
    To replay all of a week is more work than to make it. So a few times of a year are replayed (`plan_replays`), of features of
    single symbols some members, others at each time (of the project's own all times of a year at once, each symbol cut at its
    time); of features that compare the members of a sector some sectors; of those that compare all members all of them. Where
    there are few members, every week at `N_TIMES` times or more.
    """
    read = feature_inputs(market, group)
    replays: dict[str, tuple[Replay, ...]] = {key: () for key in keys}
    run = _run_rows(market, keys, inputs["bars"])
    if not run.n_rows:
        return replays
    generator = np.random.default_rng(_seed(",".join(keys), run.n_rows))

    def recompute(cut: Mapping[str, Loaded], *keys: str) -> pl.DataFrame:
        return _features_of(market, [*keys], cut, group, read, compute)

    chosen: Mapping[datetime, frozenset[str] | None]
    if len(market.members) <= N_REPLAYED_SYMBOLS:
        chosen = dict.fromkeys(_times_of_weeks(_rows_of(market, keys, inputs["bars"]), run.telling), None)
        week_at = {at: run.week_at(at) for at in chosen}
    else:
        n_rows = len(market.members) if _joint(market, group) == {"universe"} else N_REPLAYED_SYMBOLS
        plan = plan_replays(run.telling, seed=int(generator.integers(2**32)), rows_a_time=n_rows)
        week_at = {at: run.week_at(at) for at in plan}
        chosen = _some_symbols(market, group, inputs["bars"], plan, week_at, generator)
    batches = _batches(market, group, chosen)
    if len(batches) > 1:
        wanted = [each for each in chosen.values() if each is not None]
        symbols = frozenset[str]().union(*wanted) if len(wanted) == len(chosen) else None
        inputs = {name: each.gathered(symbols) for name, each in inputs.items()}
    for batch in batches:
        for replay in _replay_batch(inputs, batch, week_at, recompute):
            key = week_at[replay.at]
            replays[key] = tuple(sorted((*replays[key], replay), key=lambda each: each.at))
    return replays


@dataclass(frozen=True)
class _RunRows:
    """What of a run's bars decides what is replayed.

    Attributes
    ----------
    weeks : sequence of str
        Those that have bars, ascending.
    begins : sequence of datetime
        The first time of each.
    """

    n_rows: int
    telling: TellingTimes
    weeks: Sequence[str] = ()
    begins: Sequence[datetime] = ()

    def week_at(self, at: datetime) -> str:
        return self.weeks[bisect_right(self.begins, at) - 1]


# Of the latest bars looked at: all groups of a run are made from the same, and to look takes as long as to replay some.
_LATEST_RUN_ROWS: dict[tuple[object, ...], _RunRows] = {}


def _run_rows(market: "Market", keys: Sequence[str], bars: Loaded) -> _RunRows:
    hashes = tuple((key, bars.parts[key].footer.content_hash) for key in keys)
    settings = (market.calendar, market.timezone, *market.override_texts, *market.roles, *map(tuple, market.spells))
    of = (market.bars_asset, settings, hashes)
    if of not in _LATEST_RUN_ROWS:
        rows = _rows_of(market, keys, bars)
        days = [day for key in sorted(keys) for day in market.partitions.sessions_of_week(key)]
        weeks = sorted(key for key in keys if bars.parts[key].frame.height)
        found = _RunRows(
            rows.height,
            telling_times(rows, market.partitions.sessions_around(days[0], days[-1])),
            weeks,
            [bars.parts[key].frame["ts"].min() for key in weeks],  # type: ignore[misc]
        )
        _LATEST_RUN_ROWS.clear()
        _LATEST_RUN_ROWS[of] = found
    return _LATEST_RUN_ROWS[of]


def _times_of_weeks(rows: pl.DataFrame, telling: TellingTimes) -> list[datetime]:
    """Times of each week: `N_TIMES` or more, and the last of each session that ends something."""
    times = {at for at, kinds in telling.kinds.items() if kinds & CALENDAR_ENDS}
    for (key,), of_week in rows.with_columns(week_of_session()).partition_by("week", as_dict=True).items():
        times |= {*pick_replay_ts(of_week, seed=_seed(str(key), of_week.height), n=N_TIMES)}
    return sorted(times)


def _batches(
    market: "Market", group: str, chosen: Mapping[datetime, frozenset[str] | None]
) -> list[dict[datetime, frozenset[str] | None]]:
    """Times that are replayed in one computation, in the order of their first: each symbol known at one of them.

    So it can be where a value is made of nothing but rows of the symbol, or of its sector, of which all members are known at
    one time. Only of the project's own features is that known.
    """
    features = [FEATURES[name] for name in market.feature_groups[group]]
    is_alone = any({"benchmark", "volatility_index"} & {*each.inputs} or not is_shipped(each) for each in features)
    # What is announced of the calendar is known at a time, not to a symbol.
    is_alone |= bool(market.calendar_overrides)
    batches: list[dict[datetime, frozenset[str] | None]] = []
    for at in sorted(chosen):
        symbols = chosen[at]
        for batch in batches:
            taken = frozenset[str]().union(*(each or () for each in batch.values()))
            is_near = at - min(batch) <= timedelta(weeks=WEEKS_A_YEAR)
            if not is_alone and symbols is not None and is_near and taken.isdisjoint(symbols):
                batch[at] = symbols
                break
        else:
            batches.append({at: symbols})
    return batches


def _replay_batch(
    inputs: Mapping[str, Loaded],
    batch: Mapping[datetime, frozenset[str] | None],
    week_at: Mapping[datetime, str],
    recompute: Callable[..., pl.DataFrame],
) -> Iterator[Replay]:
    known_by = {symbol: at for at, symbols in batch.items() for symbol in symbols or ()}
    if len(batch) > 1:
        try:
            cut = {name: each.cut_each(known_by) for name, each in inputs.items()}
            frame = recompute(cut, *sorted({week_at[at] for at in batch}))
        except ValueError:
            # Of which time it is tells each by itself.
            pass
        else:
            for at, symbols in batch.items():
                is_known = (pl.col("ts") == instant(at)) & pl.col("symbol").is_in(symbols or ())
                yield Replay(at, symbols, frame.filter(is_known))
            return
    for at, symbols in batch.items():
        yield _replay(inputs, week_at[at], at, symbols, recompute)


def _rows_of(market: "Market", keys: Sequence[str], bars: Loaded) -> pl.DataFrame:
    """`symbol`, `session` and `ts` of the rows that the features of some weeks have."""
    frames = [bars.parts[key].frame for key in keys]
    # Column by column: to select three of a frame takes as long as to lay a hundred thousand rows side by side.
    names = ("symbol", "session", "ts")
    rows = pl.DataFrame([pl.concat([each[name] for each in frames], rechunk=True) for name in names])
    if not rows.height:
        return rows
    first, last = rows["session"].min(), rows["session"].max()
    spells = market.membership.filter((pl.col("since") <= last) & (pl.col("until") >= first).fill_null(True))
    is_whole = (pl.col("since") <= first) & (pl.col("until") >= last).fill_null(True)
    if spells.filter(is_whole)["symbol"].n_unique() == len(market.members):
        # Nobody comes or goes: all but the references.
        references = [symbol for symbol, role in market.roles.items() if role == "reference"]
        return rows.filter(pl.all_horizontal(pl.col("symbol") != each for each in references))
    days = rows["session"].unique().to_list()
    return rows.join(market.member_sessions(days), on=["symbol", "session"], how="semi", maintain_order="left")


def _joint(market: "Market", group: str) -> set[str]:
    """Of which others a group's values are made: "universe" if of all members, "sector" if of a sector's."""
    joint = [{"universe", "sector"} & {*FEATURES[name].inputs} for name in market.feature_groups[group]]
    return {"universe"} if {"universe"} in joint else {"sector"} if any(joint) else set()


def _some_symbols(
    market: "Market",
    group: str,
    bars: Loaded,
    plan: Mapping[datetime, frozenset[str]],
    week_at: Mapping[datetime, str],
    generator: np.random.Generator,
) -> dict[datetime, frozenset[str] | None]:
    """What is read at each time, None for all: some members of its week, whether they have rows or not, and those that it tells of.

    Of single symbols' features others at each time, as long as there are any.
    """
    joint = _joint(market, group)
    if joint == {"universe"}:
        return dict.fromkeys(plan)
    read = {item for name in market.feature_groups[group] for item in FEATURES[name].inputs}
    references = {market.benchmark} if "benchmark" in read else set[str]()
    if "volatility_index" in read and market.volatility_index is not None:
        references.add(market.volatility_index)
    spells = market.membership.rows()
    chosen: dict[datetime, frozenset[str] | None] = {}
    # What a time tells of is kept for it; sectors are taken as they come.
    taken = set[str]() if joint else {name for telling in plan.values() for name in telling}
    for at, telling in plan.items():
        week = week_at[at]
        days = market.partitions.sessions_of_week(week)
        # Members whether they have bars or not: features of survivors alone lack some.
        of_week = sorted({name for name, since, until in spells if since <= days[-1] and (until or days[0]) >= days[0]})
        if joint:
            of_sectors = _some_sectors(market, of_week, taken, generator)
            taken |= of_sectors
            chosen[at] = frozenset({*of_sectors, *references})
            continue
        found = {*sorted(telling)[:N_REPLAYED_SYMBOLS]}
        with_bars = sorted({*bars.parts[week].frame["symbol"].unique().to_list()} & {*of_week})
        for names in (of_week, with_bars):
            found |= {*_drawn(names, N_REPLAYED_SYMBOLS // 2, found | taken, generator)}
        # Where there are few others, a time has to compare as many rows as it counts for.
        found |= {*_drawn(of_week, max(N_REPLAYED_SYMBOLS - len(found), 0), found | taken, generator)}
        taken |= found
        chosen[at] = frozenset({*found, *references})
    return chosen


def _drawn(names: Sequence[str], n: int, taken: Collection[str], generator: np.random.Generator) -> list[str]:
    """So many of some names at random; those that are taken only where there are no others."""
    fresh, rest = ([name for name in names if (name in taken) == is_taken] for is_taken in (False, True))
    found = [fresh[at] for at in generator.permutation(len(fresh))[:n]]
    return [*found, *(rest[at] for at in generator.permutation(len(rest))[: n - len(found)])]


@contextmanager
def recomputing(market: "Market", group: str) -> Iterator[Compute]:
    """What recomputes a group as of a time: for functions of `feature_modules` a process of its own, one for all calls."""
    compute = _recomputer(market, group)
    try:
        yield compute
    finally:
        if isinstance(compute, FreshFeatures):
            compute.close()


def _recomputer(market: "Market", group: str, *, is_after_all: bool = False) -> Compute:
    """Shipped features are recomputed here before anything else is, and if `is_after_all` in another process too."""
    names = {*market.feature_groups[group]}
    named = {each.name for name in market.feature_modules for each in import_module(name).FEATURES}
    by_hand = {name for name in names - named if not is_shipped(FEATURES[name])}
    # What was registered by hand is in this process alone.
    if by_hand or not (is_after_all or names & named):
        return compute_features
    return FreshFeatures(market.feature_modules)


def _seed(text: str, height: int) -> int:
    return zlib.crc32(f"{text}:{height}".encode())


def _some_sectors(
    market: "Market", members: Sequence[str], taken: Collection[str], generator: np.random.Generator
) -> set[str]:
    """All symbols of so many sectors that enough members are among them, and some members without a sector.

    Others than those that are taken, where there are any.
    """
    without = sorted({*members} - {*market.sectors})
    chosen = {*_drawn(without, N_REPLAYED_SYMBOLS // 4, taken, generator)}
    of_sector: dict[str, set[str]] = {}
    for symbol, sector in market.sectors.items():
        of_sector.setdefault(sector, set()).add(symbol)
    used = {sector for sector, symbols in of_sector.items() if not symbols.isdisjoint(taken)}
    for sector in _drawn(sorted(of_sector), len(of_sector), used, generator):
        if len(chosen & {*members}) >= N_REPLAYED_SYMBOLS:
            break
        chosen |= of_sector[sector]
    return chosen


def features_stage(market: "Market", group: str) -> Stage:
    """`<market>/features/<group>`: one float32 column a feature."""
    features = [FEATURES[name] for name in market.feature_groups[group]]
    read = feature_inputs(market, group)

    def compute(run: StageRun, inputs: Mapping[str, Loaded]) -> Computed:
        return _compute_features(market, run, inputs, group, read)

    return Stage(
        asset=market.features_asset(group),
        description=(
            f"Features of group {group}, one float32 column each, over the members of {market.name}. Each value is a "
            "function of exactly its last lookback bars; NaN until a symbol has them."
        ),
        kinds=frozenset({"polars", "numba", "parquet"}),
        partitions=market.partitions.weekly,
        inputs=read,
        compute=compute,
        code_version=code_version(
            compute_features,
            Feature,
            CalendarChange,
            *(feature.compute for feature in features),
            *(feature.together for feature in features if feature.together is not None),
            fields={
                "features": [(each.name, each.lookback_bars, each.lookback_days, each.inputs) for each in features],
                **_fields(market, {item for each in features for item in each.inputs}),
            },
            chosen_from=(FEATURES,),
        ),
        checks=(
            feature_replay(market, group),
            StageCheck(
                "finite",
                "No feature is infinite in any row: NaN is what is not known. Run before publishing.",
                _infinite_values,
                is_guard=True,
            ),
            *_filing_checks(read),
            *_column_checks(market, group, read),
        ),
        pool=market.name,
        manifest=partial(calendar_listing, market, group) if reads_calendar(market, group) else None,
        column_schema=column_schema(
            {each.name: f"{each.formula} ({each.window})" for each in features},
            {each.name: pl.Float32() for each in features},
        ),
        # The search of Dagster's open-source web UI looks at tags, not at columns.
        tags={f"feature/{each.name}": "" for each in features if TAG_NAME.fullmatch(each.name)},
    )


def _infinite_values(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
    frame = content.frame
    names = [name for name, dtype in frame.schema.items() if dtype == pl.Float32]
    is_infinite = frame.select(pl.col(names).is_infinite().any())
    found = []
    for name in (name for name in names if is_infinite[name].item()):
        row = frame.filter(pl.col(name).is_infinite()).row(0, named=True)
        found.append(f"`{name}` must be finite or NaN, was {row[name]} for {row['symbol']} on {row['session']}")
    return Finding(not found, frame.height * len(names), tuple(found[:5]))


def _filing_checks(read: tuple[StageInput, ...]) -> tuple[StageCheck, ...]:
    """Where filings are read: whether their figures cover the periods that TTM and growth take them for.

    A week of filings cannot tell, the two years that a week of features reads can.
    """
    if "fundamentals" not in {each.name for each in read}:
        return ()

    def evaluate(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
        found, n_years = doubtful_periods(inputs["fundamentals"].frame())
        return Finding(not found, n_years, tuple(found))

    return (
        StageCheck(
            "filings_cover_their_periods",
            "Over all companies, three quarters of income are about three quarters of the year's, and cash flow is the year to "
            "date: looked at once a run, over all filings that its weeks read, if "
            f"they hold {MIN_FISCAL_YEARS} whole fiscal years of a company or more (`values_compared`).",
            evaluate,
            severity=dg.AssetCheckSeverity.WARN,
            sample=lambda contents: [max(contents)] if contents else [],
        ),
    )


def _column_checks(market: "Market", group: str, read: tuple[StageInput, ...]) -> tuple[StageCheck, ...]:
    """Where tables are read: whether they hold the figures that the features of the group are made of.

    A column may be left out, and what would read it is NaN: without a word a strategy of the whole group cannot be trained.
    """
    tables = [each.name for each in read[1:]]
    if not tables:
        return ()

    def evaluate(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
        found, n_columns = [], 0
        for table in tables:
            rows, figures = inputs[table].frame(), REFERENCES[table].figures
            n_columns += len(figures)
            empty = [name for name in figures if rows.height and rows[name].is_nan().all()]
            readers = [name for name in market.feature_groups[group] if table in FEATURES[name].inputs]
            unknown = [name for name in readers if content.frame.height and content.frame[name].is_nan().all()]
            if empty and unknown:
                left_out = ", ".join(f"-{group}/{name}" for name in unknown)
                found.append(
                    f"`{table}` must hold the columns that its features read, was without a value of {', '.join(empty)} in "
                    f"{rows.height} rows; features without a value: {some_of(unknown)}; deliver the columns, or leave the "
                    f"features out: features: [{group}, {left_out}]"
                )
        return Finding(not found, n_columns, tuple(found))

    return (
        StageCheck(
            "tables_hold_their_columns",
            "Every column of the reference tables that features of the group are made of has a value somewhere: looked at once a "
            "run, over all rows that its weeks read.",
            evaluate,
            severity=dg.AssetCheckSeverity.WARN,
            sample=lambda contents: [max(contents)] if contents else [],
        ),
    )


def _compute_features(
    market: "Market", run: StageRun, inputs: Mapping[str, Loaded], group: str, read: tuple[StageInput, ...]
) -> Computed:
    ready, failures = [], {}
    weeks, skipped = weeks_to_make(market.partitions, run)
    for key in weeks:
        try:
            require_all(*(partial(inputs[each.name].require, window(market.partitions, each, key)) for each in read))
            ready.append(key)
        except ValueError as e:
            failures[key] = str(e)
    if not ready:
        return Computed({}, failures, skipped=skipped)
    began = perf_counter()
    with recomputing(market, group) as recompute:
        replays = replays_of(market, group, ready, inputs, recompute)
    n_times = sum(map(len, replays.values()))
    where = "here" if recompute is compute_features else "in a process of its own"
    run.log.info(f"{group}: replayed {n_times} time(s) {where} in {perf_counter() - began:.1f} s, before computing")
    frame = _features_of(market, ready, inputs, group, read, compute_features)
    by_week = frame.with_columns(week_of_session()).partition_by("week", as_dict=True, include_key=False)
    empty = frame.clear()
    contents = {
        key: Content(
            by_week.get((key,), empty),
            inputs={
                asset: hashes
                for each in read
                for asset, hashes in inputs[each.name].hashes(window(market.partitions, each, key)).items()
            },
            sources=calendar_listing(market, group, key, run.now) if reads_calendar(market, group) else {},
            has_session_hashes=True,
            replays=replays[key],
        )
        for key in ready
    }
    rejected = read_record(inputs["bars"].store, market.features_asset(group)).rejected
    for key in [each for each in ready if each in rejected]:
        digest, found = rejected[key]
        if contents[key].content_hash() == digest:
            del contents[key]
            failures[key] = (
                f"`{market.features_asset(group)}` must not be published with what the replay of every row has rejected, was "
                f"the same again ({digest[:12]}): {found}; correct the feature."
            )
    metadata = {key: _features_metadata(each.frame) for key, each in contents.items()}
    return Computed(contents, failures, metadata, skipped)


def _features_of(
    market: "Market",
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
        market.partitions if at is None else market.partitions.known_on(at.astimezone(ZoneInfo(market.timezone)).date())
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
        benchmark=market.benchmark,
        volatility_index=market.volatility_index,
        membership=market.membership,
        sectors=market.sectors,
        references={each.name: inputs[each.name].frame(weeks[each.name]) for each in read[1:]},
        wanted=wanted,
    )


def calendar_changes(partitions: MarketPartitions) -> list[CalendarChange]:
    """The announced changes of a market's calendar, as features take them."""
    return [CalendarChange(each.day, each.is_session, each.announced) for each in partitions.changes]


def _fields(market: "Market", inputs: set[str]) -> dict[str, Any]:
    """What else of the market's YAML a group's values depend on."""
    return {
        "benchmark": market.benchmark,
        "calendar": market.calendar,
        "universe": market.spells,
        **({"volatility_index": market.volatility_index} if "volatility_index" in inputs else {}),
        **({"sectors": sorted(market.sectors.items())} if "sector" in inputs else {}),
    }


def _features_metadata(frame: pl.DataFrame) -> dict[str, Any]:
    names = [name for name, dtype in frame.schema.items() if dtype == pl.Float32]
    if not frame.height:
        return {"symbols": 0, "members_per_session": 0.0}
    is_complete = ~pl.any_horizontal(pl.col(names).is_nan())
    nulls = frame.select(pl.col(names).is_nan().mean()).row(0, named=True)
    return {
        "symbols": frame["symbol"].n_unique(),
        "members_per_session": frame.filter(is_complete).height / frame["session"].n_unique(),
        "null_share": sum(nulls.values()) / len(nulls),
        "latest_ts": str(frame["ts"].max()),
        "null_shares": dg.MetadataValue.md(markdown_table(_null_shares(nulls))),
    }


def _null_shares(nulls: Mapping[str, float]) -> pl.DataFrame:
    """Every feature that lacks values, the worst first, and how many lack none."""
    rows = sorted(((name, share) for name, share in nulls.items() if share), key=lambda each: -each[1])
    if whole := len(nulls) - len(rows):
        rows.append((f"{whole} more, each" if rows else f"all {whole}", 0.0))
    return pl.DataFrame(rows, schema=["feature", "null share"], orient="row")
