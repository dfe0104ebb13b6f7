"""Feature commands: what `hfp replay` and `hfp feature test` print.

Lives here: replaying stored weeks in full, and judging one feature by the contract. Does not live here: the command line
(`cli`), how a replay compares (`components.stage_checks`), the contract (`research.features.contract`).
"""

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import polars as pl

from hf_pipelines.components.automation.replaying import replay_published
from hf_pipelines.components.market_stages.feature_inputs import calendar_changes, feature_inputs
from hf_pipelines.components.market_stages.feature_replay import feature_replay, recomputing
from hf_pipelines.components.market_stages.plan import MarketPlan
from hf_pipelines.components.stage import window
from hf_pipelines.components.stage_checks import StageCheck
from hf_pipelines.components.stage_run import StageRun
from hf_pipelines.partitions import MarketPartitions, parse_key, week_key
from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.features.contract import contract_breaches, is_judged_over_events, sessions_needed
from hf_pipelines.research.features.feature import Feature
from hf_pipelines.research.features.guarded import FeatureFunctionError
from hf_pipelines.research.features.registry import FEATURES
from hf_pipelines.research.references import REFERENCES
from hf_pipelines.research.wording import some_of
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.footer import Footer
from hf_pipelines.resources.market_data.sample import SampleSource
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.storage_errors import StoredPartitionError

# More times than any week has: all of them are replayed.
ALL_TIMES = 1_000_000

SAMPLE_BENCHMARK = "SPX"

# Suggestions in the message for an unknown name.
N_NEAR = 8


def recorded_replay_lines(store: PartitionStore, market: MarketPlan) -> Iterator[tuple[str, bool]]:
    """Replay every stored week whose content was not replayed yet, as the nightly job does, and record it; each line with its verdict."""
    told: list[str] = []
    faults = [*replay_published(market, store, Clock().now(), told.append, most_weeks=None)]
    yield from ((line, True) for line in told)
    yield from ((f"looks ahead, now rejected: {each}", False) for each in faults)


def replay_lines(
    store: PartitionStore,
    market: MarketPlan,
    group: str,
    first: str | None = None,
    last: str | None = None,
    *,
    weeks: Collection[str] | None = None,
) -> Iterator[tuple[str, bool]]:
    """Recompute stored weeks of a group with every input cut at each row's time; each line with its verdict.

    Parameters
    ----------
    first, last : str, optional
        Weeks between which all that are stored are replayed. Default: the first and the last stored.
    weeks : collection of str, optional
        These weeks alone, all of which must be stored.

    Raises
    ------
    ValueError
        If there is no such market or group, no week that is asked for is stored, or one is no week's Sunday.
    """
    if weeks and (first or last):
        raise ValueError(f"`weeks` must come without `from` and `to`, was with {first or last}; name weeks or a range.")
    for name, key in (("from", first), ("to", last), *(("weeks", each) for each in weeks or ())):
        if key is not None and key != (sunday := week_key(parse_key(key))):
            raise ValueError(
                f"`{name}` must be the Sunday that a week begins with, was {key}; that of its week is {sunday}."
            )
    if group not in market.feature_groups:
        known = ", ".join(f"{market.name}/{each}" for each in market.feature_groups)
        raise ValueError(f"`group` must be one of {known}, was {market.name}/{group[:80]}.")
    features = market.features_asset(group)
    there_are = store.partitions(features)
    if lost := sorted({*(weeks or ())} - {*there_are}):
        bounds = f"from {there_are[0]} to {there_are[-1]}" if there_are else "none"
        raise ValueError(
            f"`weeks` of {features} must be stored to be replayed, was {some_of(lost)}; those stored are {bounds}."
        )
    stored = sorted({*weeks}) if weeks else [key for key in there_are if (first or key) <= key <= (last or key)]
    if not stored:
        asked = f" from {first or there_are[0]} to {last or there_are[-1]}" if there_are else ""
        raise ValueError(
            f"`weeks` of {features} must be stored to be replayed, none is{asked}"
            f"{f'; those stored are from {there_are[0]} to {there_are[-1]}' if there_are else ''}."
        )
    with recomputing(market, group) as compute:
        check = feature_replay(market, group, n_times=ALL_TIMES, is_sampled=False, compute=compute)
        yield from _replayed_lines(store, market, group, stored, check)


def _replayed_lines(
    store: PartitionStore, market: MarketPlan, group: str, stored: Sequence[str], check: StageCheck
) -> Iterator[tuple[str, bool]]:
    features, inputs = market.features_asset(group), feature_inputs(market, group)
    read = cache(store.read)
    there = {each.asset: set(store.partitions(each.asset)) for each in inputs}
    n_values = n_failed = 0
    differing: list[str] = []
    for key in stored:
        loaded = {}
        for each in inputs:
            weeks = [week for week in window(market.partitions, each, key) if week in there[each.asset]]
            loaded[each.name] = Loaded(each.asset, {week: read(each.asset, week) for week in weeks}, store)
        content = read(features, key)
        if odd := sorted(({*content.frame.columns} - {*KEY_COLUMNS}) ^ {*market.feature_groups[group]}):
            n_failed += 1
            yield (
                f"{features} {key}: stored with another list of features ({some_of(odd)}); make it again: "
                f"hfp materialise {features} --from {key}",
                False,
            )
            continue
        if stale := sorted(_others_than(content.footer, loaded.values())):
            # What differs then is no fault of the feature.
            n_failed += 1
            yield (
                f"{features} {key}: made from other contents than those that are current ({some_of(stale)}); make it again: "
                f"hfp materialise {features} --from {key}",
                False,
            )
            continue
        finding = check.evaluate(StageRun((key,), Clock().now(), None), loaded, key, content)  # type: ignore[arg-type]
        n_values += finding.n_compared
        n_failed += not finding.passed
        differing += [] if finding.passed else [key]
        yield (
            f"{features} {key}: {finding.n_compared:,} values {'confirmed' if finding.passed else 'DIFFER'}",
            finding.passed,
        )
        for difference in finding.findings:
            yield f"    {difference}", False
    if differing:
        yield (
            "what differs stays readable until it is made again: correct the feature, then "
            f"hfp materialise {features} --from {differing[0]} --to {differing[-1]}",
            False,
        )
    yield f"{len(stored) - n_failed} of {len(stored)} weeks confirmed, {n_values:,} values replayed", not n_failed


def feature_test_lines(store: PartitionStore, market: MarketPlan, name: str) -> Iterator[tuple[str, bool]]:
    """Judge a feature by the contract, on the stored bars of a market or, without any, on those of the sample."""
    feature = _named(name, market)
    if lacking := market.lacking_of(feature):
        item, remedy = lacking
        raise ValueError(
            f"`market` must feed the feature that is judged, was {market.name} for {feature.group}/{feature.name}, without {item}; "
            f"add to its YAML {remedy}, or name another market by --market."
        )
    yield f"{feature.group}/{feature.name}: {feature.formula}", True
    yield f"  reads {', '.join(feature.inputs)} over {feature.window}", True
    found, damaged = _stored_evidence(store, market, feature)
    for fault in damaged:
        yield f"  skipped: {fault}", True
    evidence = found or _sample_evidence(market, feature)
    bars = evidence.bars
    yield (
        f"  judged on {bars['symbol'].n_unique()} symbols, {bars['session'].n_unique()} sessions of {evidence.origin}",
        True,
    )
    days = bars["session"].unique().sort().to_list()
    partitions = evidence.partitions
    sessions = partitions.sessions_around(days[0], days[-1])
    try:
        breaches = contract_breaches(
            feature,
            bars,
            sessions=sessions,
            planned_holidays=partitions.planned_holidays_between(sessions[0], sessions[-1]),
            changes=calendar_changes(partitions),
            opens=partitions.opens_between(days[0], days[-1]),
            **evidence.given,
        )
    except FeatureFunctionError as e:
        breaches = [str(e)]
    for breach in breaches:
        yield f"  BROKEN: {breach}", False
    if not breaches:
        events = ", independent of splits and dividends" if is_judged_over_events(feature) else ""
        yield (
            f"  sound: no look-ahead, its own window only, dimensionless{events}, its own inputs only, never infinite, "
            "the same twice",
            True,
        )
        yield (
            "  on this sample: the future was cut off at the end of every week, month and quarter, before holidays, at first bars "
            "and halts, and at random sessions; a leak on rare rows may escape that, and the samples that a run replays; all is "
            f"replayed every night, and by: hfp replay {market.name}/{feature.group}",
            True,
        )


def _named(asked: str, market: MarketPlan) -> Feature:
    """Registered feature of a name, or of a group and a name as `hfp list features` prints them."""
    group, _, name = asked.rpartition("/")
    if name in FEATURES and group in ("", FEATURES[name].group):
        return FEATURES[name]
    full = {each.name: f"{each.group}/{each.name}" for each in FEATURES.values()}
    near = sorted(full[each] for each in full if name.split("_")[0] in each.split("_"))
    near = near or [full[each] for each in difflib.get_close_matches(name, full, n=N_NEAR)]
    such = f" such as {', '.join(near[:N_NEAR])}" if near else ""
    raise ValueError(
        f"`name` must be a registered feature{such}, was {asked[:80]!r}; hfp list features lists them, those of a module of your own "
        f"once `modules` of the market {market.name} names it."
    )


@dataclass(frozen=True)
class _Evidence:
    """What a feature is judged by.

    Attributes
    ----------
    given : mapping
        Further arguments of `build_panel`.
    """

    bars: pl.DataFrame
    origin: str
    partitions: MarketPartitions
    given: Mapping[str, Any]


def _stored_evidence(store: PartitionStore, market: MarketPlan, feature: Feature) -> tuple[_Evidence | None, list[str]]:
    """What the market stores, None if it is not enough to judge by, and what is wrong with the weeks that were skipped."""
    n_weeks = max(feature.lookback_bars, feature.lookback_days) // 2 + 30
    bars, damaged = _sound(store, market.bars_asset, store.partitions(market.bars_asset)[-n_weeks:])
    days = [] if bars is None else bars["session"].unique().sort().to_list()
    if bars is None or len(days) < sessions_needed(feature, days):
        return None, damaged
    references = {}
    # As a run gives them: those that it declares.
    for table in sorted({*market.references} & {*feature.inputs}):
        references[table], faults = _references(store, market, table)
        damaged += faults
    given = {
        "benchmark": market.universe.benchmark,
        "volatility_index": market.universe.volatility_index,
        "sectors": market.universe.sectors,
        "references": references,
    }
    return _Evidence(bars.sort("symbol", "ts"), market.bars_asset, market.partitions, given), damaged


def _sample_evidence(market: MarketPlan, feature: Feature) -> _Evidence:
    """The sample of real bars, for a market that stores too few of its own."""
    n_sessions = 2 * max(feature.lookback_bars, feature.lookback_days) + 120
    if lacking := sorted({*feature.inputs} & {"sector", "volatility_index", *REFERENCES}):
        raise ValueError(
            f"`{market.bars_asset}` must hold some {n_sessions // 2} sessions to judge {feature.group}/{feature.name}, has fewer, "
            f"and the sample has no {lacking[0]}; run: hfp materialise {market.bars_asset} --from ... --to ..."
        )
    partitions = MarketPartitions("XNYS", "America/New_York", parse_key("2000-03-01"), parse_key("2013-03-01"))
    source = SampleSource(("AAPL", "IBM", "MSFT", SAMPLE_BENCHMARK), partitions.hours)
    files = source.read(partitions.sessions[-n_sessions:])
    roles = pl.when(pl.col("symbol") == SAMPLE_BENCHMARK).then(pl.lit("reference")).otherwise(pl.lit("member"))
    bars = pl.concat([file.frame for file in files if file.frame is not None]).with_columns(role=roles)
    origin = f"the sample of real bars (too few are stored in {market.bars_asset})"
    return _Evidence(bars.sort("symbol", "ts"), origin, partitions, {"benchmark": SAMPLE_BENCHMARK})


def _references(store: PartitionStore, market: MarketPlan, table: str) -> tuple[pl.DataFrame, list[str]]:
    asset = market.reference_asset(table)
    found, faults = _sound(store, asset, store.partitions(asset))
    if found is None:
        raise ValueError(
            f"`{table}` must be stored to judge by, was not; run: hfp materialise {asset} --from ... --to ..."
        )
    return found, faults


def _sound(store: PartitionStore, asset: str, weeks: Sequence[str]) -> tuple[pl.DataFrame | None, list[str]]:
    """Rows of the weeks that can be read, None if there are none, and what is wrong with the others."""
    frames, faults = [], []
    for week in weeks:
        try:
            frames.append(store.read(asset, week).frame)
        except StoredPartitionError as e:
            faults.append(str(e))
    return (pl.concat(frames) if frames else None), faults


def _others_than(footer: Footer, inputs: Iterable[Loaded]) -> set[str]:
    """Partitions of the inputs of which another content is current than the one that something was made from."""
    return {
        f"{each.asset} {key}"
        for each in inputs
        for key, digest in each.hashes(sorted(each.parts))[each.asset].items()
        if footer.inputs.get(each.asset, {}).get(key, digest) != digest
    }
