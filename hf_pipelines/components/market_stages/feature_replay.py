"""Replay of features: what is recomputed from what was known at its time, and compared.

Lives here: which rows of a run are replayed, in which process, and what is found. Does not live here: the comparison
(`research.replay`), when all rows are replayed (`automation.replaying`).
"""

import zlib
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from importlib import import_module

import numpy as np
import polars as pl

from hf_pipelines.components.market_stages.feature_inputs import Compute, feature_inputs, features_of
from hf_pipelines.components.market_stages.plan import MarketPlan
from hf_pipelines.components.stage_checks import N_CLOSE_TIMES, REPLAY_DESCRIPTION, Finding, StageCheck
from hf_pipelines.components.stage_run import StageRun
from hf_pipelines.partitions import week_of_session
from hf_pipelines.research.features.registry import FEATURES, compute_features, is_shipped
from hf_pipelines.research.replay import (
    CALENDAR_ENDS,
    WEEKS_A_YEAR,
    BoundaryTimes,
    boundary_times,
    compare_replay,
    instant,
    pick_replay_ts,
    plan_replays,
)
from hf_pipelines.resources.fresh_process import FreshFeatures
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content

# Members whose features are replayed each week, at least; fewer members than these are all replayed.
N_REPLAYED_SYMBOLS = 24

# Times of a week that are replayed where there are few members, at least.
N_TIMES = 3


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
    market: MarketPlan,
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
        return features_of(market, [key], inputs, group, read, compute)

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
    market: MarketPlan, group: str, keys: Sequence[str], inputs: Mapping[str, Loaded], compute: Compute
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
        return features_of(market, [*keys], cut, group, read, compute)

    chosen: Mapping[datetime, frozenset[str] | None]
    if len(market.universe.members) <= N_REPLAYED_SYMBOLS:
        chosen = dict.fromkeys(_times_of_weeks(_rows_of(market, keys, inputs["bars"]), run.boundaries), None)
        week_at = {at: run.week_at(at) for at in chosen}
    else:
        n_rows = len(market.universe.members) if _joint(market, group) == {"universe"} else N_REPLAYED_SYMBOLS
        plan = plan_replays(run.boundaries, seed=int(generator.integers(2**32)), rows_a_time=n_rows)
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
    boundaries: BoundaryTimes
    weeks: Sequence[str] = ()
    begins: Sequence[datetime] = ()

    def week_at(self, at: datetime) -> str:
        return self.weeks[bisect_right(self.begins, at) - 1]


# Of the latest bars looked at: all groups of a run are made from the same, and to look takes as long as to replay some.
_LATEST_RUN_ROWS: dict[tuple[object, ...], _RunRows] = {}


def _run_rows(market: MarketPlan, keys: Sequence[str], bars: Loaded) -> _RunRows:
    hashes = tuple((key, bars.parts[key].footer.content_hash) for key in keys)
    settings = (
        market.partitions.calendar_name,
        market.partitions.timezone,
        *market.overrides.days.values(),
        *market.universe.roles,
        *map(tuple, market.universe.spells),
    )
    of = (market.bars_asset, settings, hashes)
    if of not in _LATEST_RUN_ROWS:
        rows = _rows_of(market, keys, bars)
        days = [day for key in sorted(keys) for day in market.partitions.sessions_of_week(key)]
        weeks = sorted(key for key in keys if bars.parts[key].frame.height)
        found = _RunRows(
            rows.height,
            boundary_times(rows, market.partitions.sessions_around(days[0], days[-1])),
            weeks,
            [bars.parts[key].frame["ts"].min() for key in weeks],  # type: ignore[misc]
        )
        _LATEST_RUN_ROWS.clear()
        _LATEST_RUN_ROWS[of] = found
    return _LATEST_RUN_ROWS[of]


def _times_of_weeks(rows: pl.DataFrame, boundaries: BoundaryTimes) -> list[datetime]:
    """Times of each week: `N_TIMES` or more, and the last of each session that ends something."""
    times = {at for at, kinds in boundaries.kinds.items() if kinds & CALENDAR_ENDS}
    for (key,), of_week in rows.with_columns(week_of_session()).partition_by("week", as_dict=True).items():
        times |= {*pick_replay_ts(of_week, seed=_seed(str(key), of_week.height), n=N_TIMES)}
    return sorted(times)


def _batches(
    market: MarketPlan, group: str, chosen: Mapping[datetime, frozenset[str] | None]
) -> list[dict[datetime, frozenset[str] | None]]:
    """Times that are replayed in one computation, in the order of their first: each symbol known at one of them.

    So it can be where a value is made of nothing but rows of the symbol, or of its sector, of which all members are known at
    one time. Only of the project's own features is that known.
    """
    features = [FEATURES[name] for name in market.feature_groups[group]]
    is_alone = any({"benchmark", "volatility_index"} & {*each.inputs} or not is_shipped(each) for each in features)
    # What is announced of the calendar is known at a time, not to a symbol.
    is_alone |= bool(market.overrides.days)
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
            # Each time is recomputed by itself below, which shows the faulty one.
            pass
        else:
            for at, symbols in batch.items():
                is_known = (pl.col("ts") == instant(at)) & pl.col("symbol").is_in(symbols or ())
                yield Replay(at, symbols, frame.filter(is_known))
            return
    for at, symbols in batch.items():
        yield _replay(inputs, week_at[at], at, symbols, recompute)


def _rows_of(market: MarketPlan, keys: Sequence[str], bars: Loaded) -> pl.DataFrame:
    """`symbol`, `session` and `ts` of the rows that the features of some weeks have."""
    frames = [bars.parts[key].frame for key in keys]
    # Column by column: to select three of a frame takes as long as to lay a hundred thousand rows side by side.
    names = ("symbol", "session", "ts")
    rows = pl.DataFrame([pl.concat([each[name] for each in frames], rechunk=True) for name in names])
    if not rows.height:
        return rows
    first, last = rows["session"].min(), rows["session"].max()
    spells = market.universe.membership.filter((pl.col("since") <= last) & (pl.col("until") >= first).fill_null(True))
    is_whole = (pl.col("since") <= first) & (pl.col("until") >= last).fill_null(True)
    if spells.filter(is_whole)["symbol"].n_unique() == len(market.universe.members):
        # Nobody comes or goes: all but the references.
        references = [symbol for symbol, role in market.universe.roles.items() if role == "reference"]
        return rows.filter(pl.all_horizontal(pl.col("symbol") != each for each in references))
    days = rows["session"].unique().to_list()
    return rows.join(market.universe.member_sessions(days), on=["symbol", "session"], how="semi", maintain_order="left")


def _joint(market: MarketPlan, group: str) -> set[str]:
    """Of which others a group's values are made: "universe" if of all members, "sector" if of a sector's."""
    joint = [{"universe", "sector"} & {*FEATURES[name].inputs} for name in market.feature_groups[group]]
    return {"universe"} if {"universe"} in joint else {"sector"} if any(joint) else set()


def _some_symbols(
    market: MarketPlan,
    group: str,
    bars: Loaded,
    plan: Mapping[datetime, frozenset[str]],
    week_at: Mapping[datetime, str],
    generator: np.random.Generator,
) -> dict[datetime, frozenset[str] | None]:
    """Symbols that are read at each time, None for all: some members of its week, with rows or without, and those for which the
    time is of interest.

    Of single symbols' features others at each time, as long as there are any.
    """
    joint = _joint(market, group)
    if joint == {"universe"}:
        return dict.fromkeys(plan)
    read = {item for name in market.feature_groups[group] for item in FEATURES[name].inputs}
    references = {market.universe.benchmark} if "benchmark" in read else set[str]()
    if "volatility_index" in read and market.universe.volatility_index is not None:
        references.add(market.universe.volatility_index)
    spells = market.universe.membership.rows()
    chosen: dict[datetime, frozenset[str] | None] = {}
    # Symbols of interest at a time are kept for it; sectors are taken in any order.
    taken = set[str]() if joint else {name for of_time in plan.values() for name in of_time}
    for at, of_time in plan.items():
        week = week_at[at]
        days = market.partitions.sessions_of_week(week)
        # Members whether they have bars or not: features of survivors alone lack some.
        of_week = sorted({name for name, since, until in spells if since <= days[-1] and (until or days[0]) >= days[0]})
        if joint:
            of_sectors = _some_sectors(market, of_week, taken, generator)
            taken |= of_sectors
            chosen[at] = frozenset({*of_sectors, *references})
            continue
        found = {*sorted(of_time)[:N_REPLAYED_SYMBOLS]}
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
def recomputing(market: MarketPlan, group: str) -> Iterator[Compute]:
    """What recomputes a group as of a time: for functions of a module of one's own a process of its own, one for all calls."""
    compute = _recomputer(market, group)
    try:
        yield compute
    finally:
        if isinstance(compute, FreshFeatures):
            compute.close()


def _recomputer(market: MarketPlan, group: str, *, is_after_all: bool = False) -> Compute:
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
    market: MarketPlan, members: Sequence[str], taken: Collection[str], generator: np.random.Generator
) -> set[str]:
    """All symbols of so many sectors that enough members are among them, and some members without a sector.

    Others than those that are taken, where there are any.
    """
    without = sorted({*members} - {*market.universe.sectors})
    chosen = {*_drawn(without, N_REPLAYED_SYMBOLS // 4, taken, generator)}
    of_sector: dict[str, set[str]] = {}
    for symbol, sector in market.universe.sectors.items():
        of_sector.setdefault(sector, set()).add(symbol)
    used = {sector for sector, symbols in of_sector.items() if not symbols.isdisjoint(taken)}
    for sector in _drawn(sorted(of_sector), len(of_sector), used, generator):
        if len(chosen & {*members}) >= N_REPLAYED_SYMBOLS:
            break
        chosen |= of_sector[sector]
    return chosen
