"""Arrivals: market data that arrives becomes bars and features, with no hand on it.

Lives here: the sensor of a market whose files land in a folder or bucket. Does not live here: reading files
(`resources.market_data`), what makes a partition current (`resources.currency`), models and signals (`following`).

Dagster concept: sensor. A tick compares what has landed and what is stored, and asks for what differs: it holds no
truth of its own. Its cursor only says which weeks were compared already; a lost cursor costs one longer tick.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from hf_pipelines.components.automation.work import Ledger, Standing, Tick, Work, digest, read_cursor
from hf_pipelines.components.features_stage import feature_weeks
from hf_pipelines.partitions import parse_key, shift_week
from hf_pipelines.resources import settings
from hf_pipelines.resources.currency import CurrencyChecker
from hf_pipelines.resources.market_data.files import FilesSource, week_of_name
from hf_pipelines.resources.partition_store import PartitionStore, StoredPartitionError

if TYPE_CHECKING:
    from hf_pipelines.components.market import Market

# Objects looked at in one tick, besides those of the last weeks, which every tick looks at.
# A bucket answers for a thousand at a time, a good tenth of a second each: a large one is looked through in several ticks.
SCAN_LIMIT = 5_000
BUCKET_SCAN_LIMIT = 2_000
RECENT = timedelta(weeks=3)

# A file that is written again and again settles never: after so many ticks it is taken as it is.
PATIENCE_TICKS = 20

# Weeks of features compared in one tick: five years. Weeks whose files are read and compared in one tick, besides the
# weeks that those are judged by: each file is a request to a bucket.
WEEKS_A_TICK = 260
WEEKS_READ_A_TICK = 60


def market_job(market: "Market") -> UnresolvedAssetJobDefinition:
    """Job `<market>_update`: bars and features of weeks."""
    keys = [dg.AssetKey(stage.asset.split("/")) for stage in market.stages]
    return dg.define_asset_job(
        name=market.update_job,
        selection=dg.AssetSelection.assets(*keys),
        description=f"Bars of {market.name} from its source, and the features built on them.",
    )


def arrivals_sensor(market: "Market", job: UnresolvedAssetJobDefinition) -> dg.SensorDefinition:
    """Ask for the weeks whose files are not those that their bars were made from, and for the features after them."""
    is_bucket = market.landing.folder.is_bucket

    @dg.sensor(
        name=f"{market.name}_arrivals",
        job=job,
        required_resource_keys={"clock", "storage"} | ({"s3"} if is_bucket else set()),
        minimum_interval_seconds=settings.tick_seconds(),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            f"Watches {market.landing.objects.uri}: new and revised session files become bars, and features that are out of date "
            "with their bars are made again. A broken file fails its own week and is tried again when it changes."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        resources = context.resources
        now, store = resources.clock.now(), resources.storage.store()
        source = replace(market.landing, s3=resources.s3.get_client()) if is_bucket else market.landing
        found = Arrivals(market, source, store, Ledger(context.instance, now), now).tick(context.cursor)
        return found.result(context, idle="nothing new has arrived")

    return sensor


@dataclass
class Arrivals:
    """One tick over the landing folder and the store of a market."""

    market: "Market"
    source: FilesSource
    store: PartitionStore
    ledger: Ledger
    now: datetime
    notes: list[str] = field(default_factory=list)
    _listed: dict[str, dict[str, str]] = field(default_factory=dict)
    _made_from: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def tick(self, cursor: str | None) -> Tick:
        """Compare, ask, remember.

        The cursor holds `files`: week to fingerprint of its files when bars were last found to be made from them (or
        to be refused), `bars`: week to the tag of the bars that features were last compared with, and `next`: where
        the scan of the folder goes on; `waited`: ticks in a row that found files still arriving.
        """
        known = read_cursor(cursor)
        files, bars = dict(known.get("files", {})), dict(known.get("bars", {}))
        recent = max(files, default=None)
        scan = self.source.scan(
            start_after=known.get("next", ""),
            limit=BUCKET_SCAN_LIMIT if self.source.folder.is_bucket else SCAN_LIMIT,
            recent_from=parse_key(recent) - RECENT if recent else None,
            now=self.now,
        )
        if scan.strays:
            self.notes.append(f"no session file, left alone: {', '.join(scan.strays)}")
        waited = known.get("waited", 0)
        if scan.is_settling and waited < PATIENCE_TICKS:
            # Half a batch would be issued as if it were all: the rest is seconds away.
            return self._done([], "files are still arriving", files, bars, known.get("next", ""), waited + 1)
        if (run_id := self.ledger.under_way(self.market.update_job)) is not None:
            return self._done([], f"run {run_id[:8]} is under way", files, bars, known.get("next", ""))
        requests = self._request_bars(scan.fingerprints, files)
        # Features wait for the bars that are about to change.
        requests = requests or self._request_features(bars)
        return self._done(requests, None, files, bars, scan.next_key)

    def _done(
        self,
        requests: list[dg.RunRequest],
        note: str | None,
        files: Mapping[str, str],
        bars: Mapping[str, str],
        next_key: str,
        waited: int = 0,
    ) -> Tick:
        cursor = json.dumps({"files": files, "bars": bars, "next": next_key, "waited": waited}, sort_keys=True)
        return Tick(requests, cursor, (*self.notes, *([note] if note else [])))

    def _request_bars(self, fingerprints: Mapping[str, str], handled: dict[str, str]) -> list[dg.RunRequest]:
        """Ask for weeks whose files changed and for the later weeks judged by them.

        Notes in `handled` the weeks that need nothing, and those for which all that is needed is settled.
        """
        market = self.market
        changed = [week for week, print_ in sorted(fingerprints.items()) if handled.get(week) != print_]
        stored = self.store.tags(market.bars_asset)
        # A week without bars is asked for as it lies there, unread, once all its sessions have closed.
        unread: dict[str, Any] = {
            week: {"files": fingerprints[week]}
            for week in changed
            if week not in stored and len(self._closed(week)) == len(market.partitions.sessions_of_week(week)) > 0
        }
        compared = [week for week in changed if week not in unread][-WEEKS_READ_A_TICK:]
        needed = {week: {week, *self._never_saw(week, stored)} for week in unread}
        self._look_at(compared)
        refused = self.ledger.refused(market.update_job, market.bars_asset, set(compared) & set(stored))
        again: dict[str, str] = {}
        for week in compared:
            needed[week] = {later for later in market.weeks_after(week) if later in stored and self._lacks(later, week)}
            if self._lacks(week, week, *market.weeks_before(week)):
                needed[week].add(week)
            elif gone := sorted(set(self._own_sources(week)) - set(self._listed[week])):
                self.notes.append(f"files of week {week} are gone, its bars stay: {', '.join(gone[:5])}")
            elif week in refused:
                # A file that was refused is gone, or is as it was before: whoever waits for the week hears that it is well.
                needed[week].add(week)
                again[week] = refused[week]
            # A file that came before the close of its session is taken after it, though it does not change.
            if not needed[week] and not market.early_files(week, self.now):
                handled[week] = fingerprints[week]
        asked = sorted(set().union(*needed.values()))
        if not asked:
            return []
        for week, of_week in needed.items():
            if of_week:
                # Compared once more after the run, also if its files are by then as they were before.
                handled.pop(week, None)
        unequal = {**unread, **self._states([week for week in asked if week not in unread])}
        works = [self._bars_work(unequal, stored, again)]
        if self.ledger.standing(works[0])[0] is Standing.SETTLED:
            # It was tried and failed: one by one, so that no broken week holds back another.
            works = [self._bars_work({week: unequal[week]}, stored, again) for week in asked]
        settled = {
            week for work in works if self.ledger.standing(work)[0] is Standing.SETTLED for week in work.partitions
        }
        if settled:
            handled.update(
                {week: fingerprints[week] for week, of_week in needed.items() if of_week and of_week <= settled}
            )
            self.notes.append(f"bars of {', '.join(sorted(settled)[:5])} failed and wait for their files to change")
        return self.ledger.due(works)

    def _lacks(self, made: str, *weeks: str) -> bool:
        """Whether the bars of a week were made without a file of `weeks` that lies there now."""
        if not self._closed(made) or (made in weeks and not self._listed[made]):
            return False
        return any(not self._sources(made).items() >= self._listed[week].items() for week in weeks)

    def _never_saw(self, week: str, stored: Mapping[str, str]) -> set[str]:
        """Later weeks whose bars were made when there was no file of `week`."""
        later = [each for each in self.market.weeks_after(week) if each in stored]
        return {each for each in later if week not in {week_of_name(name) for name in self._sources(each)}}

    def _states(self, weeks: Sequence[str]) -> dict[str, Any]:
        """All the files that each week would be made from."""
        self._look_at(weeks)
        return {week: [self._listed[each] for each in (*self.market.weeks_before(week), week)] for week in weeks}

    def _own_sources(self, week: str) -> list[str]:
        return [name for name in self._sources(week) if week_of_name(name) == week]

    def _closed(self, week: str) -> list[date]:
        return self.market.partitions.closed_sessions(week, self.now)

    def _look_at(self, weeks: Sequence[str]) -> None:
        """Note the files of weeks, and of those that they are judged by, with their hashes; each is read once a tick."""
        wanted = {each for week in weeks for each in (*self.market.weeks_before(week), week)}
        new = {week: dict[str, str]() for week in sorted(wanted - set(self._listed))}
        self._listed.update(new)
        for name, sha256 in self.source.listing([day for week in new for day in self._closed(week)]).items():
            if (week := week_of_name(name)) is not None:
                self._listed[week][name] = sha256

    def _sources(self, week: str) -> Mapping[str, str]:
        """What the bars of a week were made from; nothing if there are none, or none that can be read."""
        if week not in self._made_from:
            try:
                footer = self.store.footer(self.market.bars_asset, week)
            except StoredPartitionError as e:
                self.notes.append(f"{e} It is made anew.")
                footer = None
            self._made_from[week] = footer.sources if footer else {}
        return self._made_from[week]

    def _bars_work(self, listings: Mapping[str, Any], stored: Mapping[str, str], again: Mapping[str, str]) -> Work:
        """One run: a single week with its features, several weeks of bars alone (a broken one must not stop the rest).

        `again`: week to the run that refused files of it which it has no longer.
        """
        market, weeks = self.market, tuple(sorted(listings))
        groups: list[str] = []
        if len(weeks) == 1:
            groups = [
                market.features_asset(group)
                for group in market.feature_groups
                if not self._missing_bars(group, weeks[0], {*stored, weeks[0]})
            ]
        return Work(
            job=market.update_job,
            assets=(market.bars_asset, *(market.reference_asset(table) for table in market.reference_tables), *groups),
            partitions=weeks,
            state=digest(listings, {week: [stored.get(week), again.get(week)] for week in weeks}),
            because=f"new or revised files in {len(weeks)} week(s), the last {weeks[-1]}",
        )

    def _request_features(self, handled: dict[str, str]) -> list[dg.RunRequest]:
        """Ask for features of weeks whose bars changed, and of the later weeks that look back on them."""
        market = self.market
        tags = self.store.tags(market.bars_asset)
        changed = [week for week, tag in sorted(tags.items()) if handled.get(week) != tag][:WEEKS_A_TICK]
        if not changed:
            return []
        checker = CurrencyChecker(self.store, {})
        needed: dict[str, list[str]] = {}
        for group in market.feature_groups:
            asset, lookback = market.features_asset(group), feature_weeks(market, group)
            reached = {shift_week(week, ahead) for week in changed for ahead in range(lookback + 1)} & set(tags)
            ready = [week for week in sorted(reached) if not self._missing_bars(group, week, set(tags))]
            if stale := [week for week in ready if not checker.is_current(asset, week).is_current]:
                needed[asset] = stale
        works = self._features_works(needed, checker)
        if any(self.ledger.standing(work)[0] is not Standing.SETTLED for work in works):
            return self.ledger.due(works)
        for work in works:
            self.notes.append(f"features of {', '.join(work.partitions[:5])} failed and wait for their bars to change")
        handled.update({week: tags[week] for week in changed})
        return []

    def _features_works(self, needed: Mapping[str, list[str]], checker: CurrencyChecker) -> list[Work]:
        """One run for all groups that need the same weeks: one that looks back further may not be ready as early."""
        by_weeks: dict[tuple[str, ...], list[str]] = {}
        for asset, weeks in needed.items():
            by_weeks.setdefault(tuple(weeks), []).append(asset)
        return [self._features_work(tuple(assets), weeks, checker) for weeks, assets in by_weeks.items()]

    def _features_work(self, assets: tuple[str, ...], weeks: tuple[str, ...], checker: CurrencyChecker) -> Work:
        market = self.market
        longest = max(feature_weeks(market, group) for group in market.feature_groups)
        read = sorted({each for week in weeks for each in market.partitions.weeks_around(week, first=-longest, last=0)})
        footers = {week: checker.footer(market.bars_asset, week) for week in read}
        return Work(
            job=market.update_job,
            assets=assets,
            partitions=weeks,
            state=digest(
                {week: footer.content_hash for week, footer in footers.items() if footer},
                {asset: {week: tags.get(week) for week in weeks} for asset, tags in self._tags(assets).items()},
            ),
            because="features are out of date with their bars",
        )

    def _tags(self, assets: Sequence[str]) -> dict[str, dict[str, str]]:
        return {asset: self.store.tags(asset) for asset in assets}

    def _missing_bars(self, group: str, week: str, stored: set[str]) -> list[str]:
        """Weeks of bars that features of a week need and that are not there."""
        read = self.market.partitions.weeks_around(week, first=-feature_weeks(self.market, group), last=0)
        return [each for each in read if each not in stored]
