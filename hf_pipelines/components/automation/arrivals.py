"""Arrivals: new market data becomes bars, reference tables and features without an operator.

Lives here: the sensor of a market whose files land in a folder or bucket, or whose source is polled, and requests for
features that are out of date. Does not live here: what of a folder is new (`watched_folders`), when a source is polled
(`polled_source`), what makes a partition current (`resources.currency`), models and signals (`strategy_sensor`).

Dagster concept: sensor. A tick compares what has landed with what is stored, and requests what differs. The store decides:
the cursor only remembers which weeks were compared; a lost cursor costs one longer tick.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

import dagster as dg

from hf_pipelines.components.automation.polled_source import PolledSource
from hf_pipelines.components.automation.run_intents import (
    RequestState,
    RunHistory,
    RunIntent,
    digest,
)
from hf_pipelines.components.automation.ticks import Tick, read_cursor, recall
from hf_pipelines.components.automation.watched_folders import BarsFolder, ReferenceFolder, ScanState, WatchedFolder
from hf_pipelines.components.market_stages.feature_inputs import (
    calendar_manifests,
    feature_inputs,
    missing_bars,
    reads_calendar,
)
from hf_pipelines.components.market_stages.plan import MarketPlan
from hf_pipelines.components.stage import StageInput, window
from hf_pipelines.partitions import SURROUNDING_DAYS, shift_week
from hf_pipelines.resources import settings
from hf_pipelines.resources.currency import CurrencyChecker
from hf_pipelines.resources.dagster_internals import UnresolvedAssetJobDefinition
from hf_pipelines.resources.partition_store import PartitionStore

# A file that is rewritten all the time never settles: after so many ticks it is taken as it is.
PATIENCE_TICKS = 20

# Weeks before a week whose features may know of its days.
KNOWN_AHEAD_WEEKS = math.ceil(SURROUNDING_DAYS / 7) + 1

# Weeks of features compared in one tick: five years.
WEEKS_A_TICK = 260


def market_job(market: MarketPlan, assets: Sequence[str]) -> UnresolvedAssetJobDefinition:
    """Job `<market>_update`: bars and features of weeks."""
    keys = [dg.AssetKey(asset.split("/")) for asset in assets]
    return dg.define_asset_job(
        name=market.update_job,
        selection=dg.AssetSelection.assets(*keys),
        description=f"Bars of {market.name} from its source, and the features built on them.",
    )


def arrivals_sensor(market: MarketPlan, job: UnresolvedAssetJobDefinition) -> dg.SensorDefinition:
    """Request weeks whose files have changed or that lack sessions, then the features made from them."""
    folders = market.watched_folders.values()
    is_bucket = any(each.folder.is_bucket for each in folders)
    watched = ["the clock: a session that has closed is asked for"] if market.is_polled else []
    watched += [each.objects.uri for each in folders]

    @dg.sensor(
        name=f"{market.name}_arrivals",
        job=job,
        required_resource_keys={"clock", "storage"} | ({"s3"} if is_bucket else set()),
        minimum_interval_seconds=settings.tick_seconds(),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            f"Watches {', '.join(watched)}: new and revised files become bars and reference tables, and features that are out of date with "
            "these are made again. A broken file fails its own week and is tried again when it changes."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        resources = context.resources
        now, store = resources.clock.now(), resources.storage.store()
        s3 = resources.s3.get_client() if is_bucket else None
        found = Arrivals(market, store, RunHistory(context.instance, now), now, s3).tick(recall(context))
        return found.result(context, idle="nothing new has arrived")

    return sensor


@dataclass
class Arrivals:
    """One tick over the landing folders or the source, and the store of a market."""

    market: MarketPlan
    store: PartitionStore
    history: RunHistory
    now: datetime
    s3: Any = None
    notes: list[str] = field(default_factory=list)

    def tick(self, cursor: str | None) -> Tick:
        """Compare, request, remember.

        The cursor holds `places`: what is remembered of each asset's folder; `inputs`: of bars and reference
        tables, week to the tag that features were last compared with; `waited`: ticks in a row that found files still arriving.
        """
        known = read_cursor(cursor)
        inputs, waited = dict(known.get("inputs", {})), known.get("waited", 0)
        sources = self._sources()
        states = {each.asset: ScanState.of(known.get("places", {}).get(each.asset, {})) for each in sources}
        scans = {each.asset: each.scan(states[each.asset]) for each in sources}
        if any(scan.is_settling for scan in scans.values()) and waited < PATIENCE_TICKS:
            # The rest of the batch is seconds away; signals would be issued from half of it.
            return self._done([], "files are still arriving", sources, states, inputs, waited + 1)
        if (run_id := self.history.under_way(self.market.update_job)) is not None:
            return self._done([], f"run {run_id[:8]} is under way", sources, states, inputs)
        requests: list[dg.RunRequest] = []
        for each in sources:
            handled = dict(states[each.asset].weeks)
            requests = each.request(scans[each.asset].fingerprints, handled)
            states[each.asset] = ScanState(handled, scans[each.asset].next_key)
            if requests:
                # The run of the bars makes the tables of its weeks too; features wait for both.
                break
        return self._done(requests or self._request_features(inputs), None, sources, states, inputs)

    def _sources(self) -> list[WatchedFolder | PolledSource]:
        """The bars first, then the reference tables."""
        market, parts = self.market, (self.store, self.history, self.now)
        tables = {market.reference_asset(table): table for table in market.references}
        found: list[WatchedFolder | PolledSource] = [PolledSource(market, *parts)] if market.is_polled else []
        for asset, folder in market.watched_folders.items():
            source = replace(folder, s3=self.s3) if folder.folder.is_bucket else folder
            if asset == market.bars_asset:
                found.append(BarsFolder(market, source, *parts))
            else:
                found.append(ReferenceFolder(market, source, *parts, table=tables[asset]))
        return found

    def _done(
        self,
        requests: list[dg.RunRequest],
        note: str | None,
        sources: Sequence[WatchedFolder | PolledSource],
        states: Mapping[str, ScanState],
        inputs: Mapping[str, Mapping[str, str]],
        waited: int = 0,
    ) -> Tick:
        remembered = {asset: asdict(state) for asset, state in states.items()}
        cursor = json.dumps({"places": remembered, "inputs": inputs, "waited": waited}, sort_keys=True)
        of_sources = [each for source in sources for each in source.notes]
        return Tick(requests, cursor, (*of_sources, *self.notes, *([note] if note else [])))

    def _request_features(self, handled: dict[str, dict[str, str]]) -> list[dg.RunRequest]:
        """Request features of weeks whose bars or reference tables changed, and of later weeks that read these."""
        market = self.market
        inputs = {group: feature_inputs(market, group) for group in market.feature_groups}
        tags = self._tags({each.asset for of_group in inputs.values() for each in of_group})
        changed = {asset: self._changed(of_asset, handled.get(asset, {})) for asset, of_asset in tags.items()}
        if not any(changed.values()):
            return []
        manifests = {asset: partial(each, now=self.now) for asset, each in calendar_manifests(market).items()}
        checker = CurrencyChecker(self.store, {}, manifests)
        needed: dict[tuple[str, ...], list[str]] = {}
        for group, of_group in inputs.items():
            reached = {
                shift_week(week, ahead)
                for each in of_group
                for week in changed[each.asset]
                # Weeks before a change of the calendar know of it, too.
                for ahead in range(-KNOWN_AHEAD_WEEKS * reads_calendar(market, group), 1 - each.first_week)
            }
            stored = tags[market.bars_asset]
            ready = [week for week in sorted(reached & set(stored)) if not missing_bars(market, group, week, stored)]
            asset = market.features_asset(group)
            if stale := [week for week in ready if not checker.is_current(asset, week).is_current]:
                # One run for all groups that need the same weeks; a group with a longer lookback may need others.
                needed.setdefault(tuple(stale), []).append(group)
        intents = [
            self._features_intent(groups, weeks, [each for group in groups for each in inputs[group]], tags)
            for weeks, groups in needed.items()
        ]
        if any(self.history.state_of(intent)[0] is not RequestState.SETTLED for intent in intents):
            return self.history.due(intents)
        for intent in intents:
            self.notes.append(
                f"features of {', '.join(intent.partitions[:5])} failed and wait for their inputs to change"
            )
        for asset, weeks in changed.items():
            handled[asset] = {**handled.get(asset, {}), **{week: tags[asset][week] for week in weeks}}
        return []

    def _changed(self, tags: Mapping[str, str], handled: Mapping[str, str]) -> list[str]:
        return [week for week, tag in sorted(tags.items()) if handled.get(week) != tag][:WEEKS_A_TICK]

    def _features_intent(
        self,
        groups: Sequence[str],
        weeks: tuple[str, ...],
        inputs: Sequence[StageInput],
        tags: Mapping[str, Mapping[str, str]],
    ) -> RunIntent:
        market = self.market
        assets = tuple(market.features_asset(group) for group in groups)
        # Where several groups read an asset, the longest lookback comes last and wins.
        furthest = {each.asset: each for each in sorted(inputs, key=lambda each: -each.first_week)}
        read = {
            asset: {key: tags[asset].get(key) for week in weeks for key in window(market.partitions, each, week)}
            for asset, each in furthest.items()
        }
        made = {asset: {week: of_asset.get(week) for week in weeks} for asset, of_asset in self._tags(assets).items()}
        return RunIntent(
            job=market.update_job,
            assets=assets,
            partitions=weeks,
            state=digest(read, made),
            because="features are out of date with what they are made from",
        )

    def _tags(self, assets: Iterable[str]) -> dict[str, dict[str, str]]:
        return {asset: self.store.tags(asset) for asset in assets}
