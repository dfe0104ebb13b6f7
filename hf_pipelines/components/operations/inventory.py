"""Inventory: what markets and strategies have in the store, read for the decision on what is late.

Lives here: listings and footers, read once for each content. Does not live here: the decision (`lateness`).

A tick of the watch costs one listing a market and two a strategy: footers are kept in memory by the tag that the store
gives each object, and change with it.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

import dagster as dg

from hf_pipelines.components.market import Market
from hf_pipelines.components.market_stages.plan import MarketPlan
from hf_pipelines.components.operations.lateness import (
    Gap,
    Late,
    MarketInventory,
    StrategyInventory,
    find_holes,
    find_late,
    judged_sessions,
)
from hf_pipelines.components.strategy import Strategy
from hf_pipelines.components.strategy_stages import LEADERBOARD, RETRAINED, SWEEP, TUNING
from hf_pipelines.partitions import parse_key, week_key
from hf_pipelines.resources.footer import BARS, Footer
from hf_pipelines.resources.holdout import Holdout
from hf_pipelines.resources.issues import latest_fault, named_day
from hf_pipelines.resources.market_data.files import FilesSource
from hf_pipelines.resources.market_data.landing import Landing
from hf_pipelines.resources.partition_codec import read_footer
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.storage_errors import ObjectMissingError, StorageUnavailableError, StoredPartitionError

# Twenty sessions span six weeks at most, holidays included; two more for calendars with longer ones.
READ_WEEKS = 8

# A file of a session, whole: what is still being written has another name.
SESSION_FILE = re.compile(r"(\d{4}-\d\d-\d\d)\.(parquet|csv)")


@dataclass(frozen=True)
class WatchedStrategy:
    """A strategy, as far as lateness is concerned."""

    name: str
    market: MarketPlan
    max_model_age_weeks: int
    train_weeks: int = 0
    feature_groups: tuple[str, ...] = ()
    holdout: Holdout | None = None


@dataclass(frozen=True)
class Watched:
    """Every market and strategy of the project."""

    markets: tuple[MarketPlan, ...]
    strategies: tuple[WatchedStrategy, ...]

    @staticmethod
    def of(tree: dg.ComponentTree) -> "Watched":
        """Those of a component tree, by name."""
        markets = sorted((each.plan for each in tree.get_all_components(of_type=Market)), key=lambda each: each.name)
        strategies = [_watched(tree, each) for each in tree.get_all_components(of_type=Strategy)]
        return Watched(tuple(markets), tuple(sorted(strategies, key=lambda each: each.name)))

    def read(self, store: PartitionStore, now: datetime) -> "Inventory":
        """What is stored of them now.

        Raises
        ------
        StorageUnavailableError
            If the store does not answer.
        """
        markets = {each.name: read_market(store, each) for each in self.markets}
        strategies = [read_strategy(store, each, markets[each.market.name], now) for each in self.strategies]
        return Inventory(tuple(markets.values()), tuple(strategies))

    def holes(self, store: PartitionStore) -> list[Gap]:
        """Weeks without bars, or without features of a group, between weeks that have some; not read in every tick."""
        found = []
        for market in self.markets:
            for asset in (market.bars_asset, *map(market.features_asset, market.feature_groups)):
                holes = find_holes(asset, store.partitions(asset), market.partitions, market.known_gaps)
                rejected = _rejected(store, asset) if holes else set()
                told = [replace(hole, is_rejected=hole.partition in rejected) for hole in holes]
                found += _without_files(told, market) if asset == market.bars_asset else told
        return found

    def outdated(self, store: PartitionStore, inventory: "Inventory", versions: Mapping[str, str]) -> list[str]:
        """Assets whose newest partition was made by other code or settings than those of now: a footer an asset is read.

        A symbol that was added to a market, or a changed parameter, is late for nobody; without this nothing would say that what is
        stored does not know of it.
        """
        newest = {each.name: max(each.bars_weeks, default=None) for each in inventory.markets}
        models = {each.name: max(each.models, default=None) for each in inventory.strategies}
        named = [
            (asset, newest[market.name])
            for market in self.markets
            for asset in (market.bars_asset, *map(market.features_asset, market.feature_groups))
        ]
        named += [(f"{each.name}/{stage}", models[each.name]) for each in self.strategies for stage in RETRAINED]
        found = []
        for asset, week in named:
            if week is None or asset not in versions:
                continue
            try:
                footer = store.peek(store.key(asset, week), asset=asset, partition=week)
            except (ObjectMissingError, StoredPartitionError):
                # What is missing has its own lines, and `hfp verify` names what is damaged.
                continue
            if footer.code_version != versions[asset]:
                found.append(asset)
        return found

    def strays(self, store: PartitionStore) -> list[str]:
        """Objects among the partitions that are no partition, a line each."""
        assets = [
            asset
            for market in self.markets
            for asset in (market.bars_asset, *map(market.features_asset, market.feature_groups))
        ]
        assets += [f"{each.name}/{stage}" for each in self.strategies for stage in ("fitted_model", "signals")]
        found = {key: what for each in assets for key, what in store.strays(each).items()}
        return [f"{store.objects.address(key)} is {what}" for key, what in found.items()]

    def issue_faults(self, store: PartitionStore, now: datetime) -> list[str]:
        """Faults of the stored issues and of `latest.json`, a line each."""
        found = []
        for strategy in self.strategies:
            asset, days = f"{strategy.name}/signals", strategy.market.partitions.closed_days(now)
            found += [
                f"`{store.objects.address(store.key(asset, day))}` must be of a session that has closed, was not; remove it"
                for day in sorted({*store.partitions(asset)} - {*days})
            ]
            if fault := latest_fault(store, asset, days, now):
                found.append(fault)
        return found


@dataclass(frozen=True)
class Inventory:
    """What is stored of all markets and strategies."""

    markets: tuple[MarketInventory, ...]
    strategies: tuple[StrategyInventory, ...]

    def late(self, now: datetime, late_after: timedelta) -> list[Late]:
        return find_late(self.markets, self.strategies, now=now, late_after=late_after)


def _without_files(holes: Sequence[Gap], market: MarketPlan) -> list[Gap]:
    """Those of bars, with the folder in which their files lack."""
    folder = market.watched_folders.get(market.bars_asset)
    if folder is None or not holes:
        return [*holes]
    try:
        weeks = {week_key(day) for day in folder.sessions()}
    except StorageUnavailableError:
        # The arrivals sensor fails on it and is reported.
        return [*holes]
    return [each if each.partition in weeks else replace(each, landing=folder.objects.uri) for each in holes]


def _watched(tree: dg.ComponentTree, strategy: Strategy) -> WatchedStrategy:
    market = tree.load_component(f"markets/{strategy.market}", expected_type=Market).plan
    return WatchedStrategy(
        name=strategy.name,
        market=market,
        max_model_age_weeks=strategy.max_model_age_weeks,
        train_weeks=strategy.training.weeks,
        feature_groups=tuple(dict.fromkeys(name.partition("/")[0] for name in strategy.features)),
        holdout=None if strategy.holdout is None else strategy.holdout.build(strategy.name, market),
    )


def read_market(store: PartitionStore, market: MarketPlan) -> MarketInventory:
    """Bars of a market."""
    tags = store.tags(market.bars_asset)
    weeks = tuple(sorted(tags))
    folder = market.watched_folders.get(market.bars_asset)
    bars: dict[date, datetime] = {}
    for week in weeks[-READ_WEEKS:]:
        bars |= _first_published(store, market.bars_asset, week, tags[week])
    return MarketInventory(
        name=market.name,
        bars_asset=market.bars_asset,
        partitions=market.partitions,
        first_session=_first_session(store, market, weeks, tags),
        bars=bars,
        bars_weeks=weeks,
        known_gaps=market.known_gaps,
        landing=folder.objects.uri if folder else None,
        arrived=_arrived(market, folder, weeks[-READ_WEEKS:]) if folder else {},
    )


def _arrived(market: MarketPlan, folder: FilesSource, weeks: Sequence[str]) -> dict[date, datetime]:
    """Sessions of the newest weeks, and after them, whose files lie in the landing folder, and since when."""
    objects, found = folder.objects, dict[date, datetime]()
    try:
        # A name sorts after the key of its session's week.
        for each in Landing(objects.uri, objects.endpoint).each(start_after=weeks[0] if weeks else ""):
            session = _session_of(each.name)
            if session is not None and market.partitions.is_session(session):
                found.setdefault(session, each.modified)
    except StorageUnavailableError:
        # The arrivals sensor fails on it and is reported; what is stored is judged all the same.
        return {}
    return found


def _session_of(name: str) -> date | None:
    """Session of a file by its name, None if it names none."""
    named = SESSION_FILE.fullmatch(name)
    try:
        return date.fromisoformat(named[1]) if named else None
    except ValueError:
        return None


def read_strategy(
    store: PartitionStore, strategy: WatchedStrategy, market: MarketInventory, now: datetime
) -> StrategyInventory:
    """Models and signals of a strategy."""
    model_asset, signals_asset = f"{strategy.name}/fitted_model", f"{strategy.name}/signals"
    tags = store.tags(model_asset)
    judged = judged_sessions(market, now)
    # Only models that may serve a judged session matter.
    oldest = week_key(judged[0] - timedelta(weeks=strategy.max_model_age_weeks)) if judged else None
    lacking = {*market.bars_weeks, market.newest_week} - {*tags, None}
    models = {
        week: _created(store, model_asset, week, tag) if oldest is not None and week >= oldest else None
        for week, tag in tags.items()
    }
    issued = _issued_from(store, signals_asset, judged)
    return StrategyInventory(
        name=strategy.name,
        market=market,
        models=models,
        issued=frozenset(issued),
        last_issued=max(issued, default=None) or _latest_issue(store, signals_asset),
        max_model_age_weeks=strategy.max_model_age_weeks,
        holdout=None if strategy.holdout is None else strategy.holdout.week,
        missing=_missing_inputs(store, strategy, market, models),
        rejected=_rejected_stages(store, strategy.name, {week for week in lacking if week and week > min(tags)})
        if tags
        else {},
    )


def _rejected_stages(store: PartitionStore, strategy: str, weeks: Collection[str]) -> dict[str, str]:
    """The stage of each week without a model that a guard has rejected, the first one of them."""
    found: dict[str, str] = {}
    for stage in (*RETRAINED, TUNING, LEADERBOARD, SWEEP) if weeks else ():
        asset = f"{strategy}/{stage}"
        if rejected := _rejected(store, asset).intersection(weeks) - found.keys():
            # What has been made since was not rejected again.
            found |= dict.fromkeys(rejected.difference(store.partitions(asset)), asset)
    return found


def _missing_inputs(
    store: PartitionStore, strategy: WatchedStrategy, market: MarketInventory, models: Collection[str]
) -> tuple[tuple[str, str, str], ...]:
    """What the model of the newest week is trained on and is not there: asset, first and last week of it."""
    week = market.newest_week
    if week is None or week in models or not strategy.train_weeks:
        return ()
    window = market.partitions.weeks_around(week, first=-strategy.train_weeks, last=-1)
    if strategy.holdout is not None:
        window = strategy.holdout.before(window)
    # Before the first bars there is nothing to be made from.
    first = market.bars_weeks[0]
    due = [
        each
        for each in window
        if each >= first and each not in market.known_gaps and market.partitions.sessions_of_week(each)
    ]
    groups = [strategy.market.features_asset(group) for group in strategy.feature_groups]
    found = []
    for asset in (market.bars_asset, *groups):
        stored = set(store.partitions(asset))
        if lacking := [each for each in due if each not in stored]:
            found.append((asset, lacking[0], lacking[-1]))
    return tuple(found)


def _rejected(store: PartitionStore, asset: str) -> set[str]:
    """Weeks of an asset of which something was refused by a guard."""
    return set(store.objects.folders(f"_rejected/{asset}"))


def is_there(store: PartitionStore, asset: str, partition: str) -> bool:
    """Whether what was late has come: bars of a session, a model of a week, signals of a session."""
    if store.kind(asset) != BARS:
        return store.objects.exists(store.key(asset, partition))
    week = week_key(parse_key(partition))
    try:
        footer = store.footer(asset, week)
    except StoredPartitionError:
        return False
    return footer is not None and partition in footer.session_hashes


def _first_session(
    store: PartitionStore, market: MarketPlan, weeks: Sequence[str], tags: dict[str, str]
) -> date | None:
    for week in weeks:
        if sessions := _first_published(store, market.bars_asset, week, tags[week]):
            return min(sessions)
    return None


def _issued_from(store: PartitionStore, asset: str, judged: Sequence[date]) -> list[date]:
    """Sessions with an issue among those that are judged: one listing, however long the history is."""
    if not judged:
        return []
    before = judged[0] - timedelta(days=1)
    keys = set(store.objects.keys(asset, after=store.key(asset, before.isoformat())))
    return [day for day in judged if store.key(asset, day.isoformat()) in keys]


def _latest_issue(store: PartitionStore, asset: str) -> date | None:
    day = named_day(store, asset)
    return None if day is None else parse_key(day)


@lru_cache(maxsize=4096)
def _first_published(store: PartitionStore, asset: str, week: str, tag: str) -> dict[date, datetime]:
    """When each session of a week first had bars: Friday's file publishes Monday again, but does not make it new."""
    current = _current(store, asset, week)
    if current is None:
        return {}
    earlier = [_earlier(store, asset, week, digest) for digest in store.versions(asset, week)]
    footers = [current, *(each for each in earlier if each is not None)]
    return {
        parse_key(session): min(_time(each) for each in footers if session in each.session_hashes)
        for session in current.session_hashes
    }


def _earlier(store: PartitionStore, asset: str, partition: str, digest: str) -> Footer | None:
    """Footer of an earlier content, None if retention took it or it cannot be read."""
    try:
        payload = store.objects.get(f"_versions/{asset}/{partition}/{digest}.parquet")
        return read_footer(payload, asset=asset, partition=partition)
    except (StoredPartitionError, ObjectMissingError):
        return None


def _current(store: PartitionStore, asset: str, partition: str) -> Footer | None:
    try:
        return store.footer(asset, partition)
    except StoredPartitionError:
        # Damaged counts as missing: readers refuse it, and it must be made again.
        return None


@lru_cache(maxsize=4096)
def _created(store: PartitionStore, asset: str, partition: str, tag: str) -> datetime | None:
    footer = _current(store, asset, partition)
    return None if footer is None else _time(footer)


def _time(footer: Footer) -> datetime:
    return datetime.fromisoformat(footer.created_at).astimezone(UTC)
