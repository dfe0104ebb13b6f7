"""Watched folders: the files of an asset in a folder or bucket, compared with what the asset was made from.

Lives here: which weeks of bars and of reference tables were made from other files than are there now, and the runs that
are requested for them. Does not live here: when a tick looks, and the features after them (`arrivals`), reading files (`resources.market_data`).
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

import dagster as dg

from hf_pipelines.components.automation.run_intents import RequestState, RunHistory, RunIntent, digest
from hf_pipelines.components.market_stages.feature_inputs import missing_bars
from hf_pipelines.components.market_stages.plan import MarketPlan, is_override
from hf_pipelines.partitions import days_of_week, parse_key
from hf_pipelines.resources.market_data.files import FilesSource, Scan, week_of_name
from hf_pipelines.resources.market_data.references import past_days
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.storage_errors import StoredPartitionError

# Objects looked at in one tick, besides those of the last weeks, which every tick looks at.
# A bucket lists a thousand objects in some 0.1 s: a large one is scanned over several ticks.
SCAN_LIMIT = 5_000
BUCKET_SCAN_LIMIT = 2_000
RECENT = timedelta(weeks=3)

# Weeks whose files are read and compared in one tick, besides those before them: each file is one request to a bucket.
WEEKS_READ_A_TICK = 60


@dataclass(frozen=True)
class ScanState:
    """What a sensor's cursor remembers of a folder.

    Attributes
    ----------
    weeks : mapping of week to fingerprint
        Of its files when the week was last found to be made from them, or they were refused.
    next_key : str
        Where the scan goes on.
    """

    weeks: Mapping[str, str] = field(default_factory=dict)
    next_key: str = ""

    @staticmethod
    def of(remembered: Mapping[str, Any]) -> "ScanState":
        """From a cursor; fields of another release are ignored."""
        return ScanState(remembered.get("weeks", {}), remembered.get("next_key", ""))


@dataclass
class WatchedFolder(ABC):
    """The files of one asset, and the partitions made from them, in one tick."""

    market: MarketPlan
    source: FilesSource
    store: PartitionStore
    history: RunHistory
    now: datetime
    notes: list[str] = field(default_factory=list)
    _listed: dict[str, dict[str, str]] = field(default_factory=dict)
    _made_from: dict[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    @abstractmethod
    def asset(self) -> str:
        """Asset path."""

    @abstractmethod
    def days(self, week: str) -> list[date]:
        """Days of a week that may have a file; none for a week outside of the market."""

    @abstractmethod
    def past_days(self, week: str) -> list[date]:
        """Those of `days` whose files count by now."""

    def looked_at_days(self, week: str) -> list[date]:
        """Days whose files are compared with what a week was made from."""
        return self.past_days(week)

    def other_sources(self, week: str) -> Mapping[str, str]:
        """Overrides that a week is made from, beside its files."""
        return {}

    @abstractmethod
    def before(self, week: str) -> list[str]:
        """Earlier weeks whose files decide on the bars of a week."""

    @abstractmethod
    def after(self, week: str) -> list[str]:
        """Later weeks on whose bars the files of a week decide."""

    @abstractmethod
    def assets(self, weeks: Sequence[str], stored: Mapping[str, str]) -> tuple[str, ...]:
        """Assets that one run for `weeks` makes; `stored`: the tags of stored weeks."""

    def scan(self, known: ScanState) -> Scan:
        """Look at a part of the folder, and at the last weeks."""
        recent = max(known.weeks, default=None)
        scan = self.source.scan(
            start_after=known.next_key,
            limit=BUCKET_SCAN_LIMIT if self.source.folder.is_bucket else SCAN_LIMIT,
            recent_from=parse_key(recent) - RECENT if recent else None,
            now=self.now,
        )
        if scan.strays:
            self.notes.append(f"no file of {self.asset}, left alone: {', '.join(scan.strays)}")
        return replace(scan, fingerprints={week: self._print(week, each) for week, each in scan.fingerprints.items()})

    def _print(self, week: str, of_files: str) -> str:
        """Fingerprint of all that a week is made from; that of its files alone where there is nothing else."""
        others = self.other_sources(week)
        return digest(of_files, others) if others else of_files

    def request(self, fingerprints: Mapping[str, str], handled: dict[str, str]) -> list[dg.RunRequest]:
        """Request weeks whose files changed, and the later weeks that depend on them.

        Adds to `handled` the weeks that need nothing, and those whose requests are settled.
        """
        changed = [week for week, print_ in sorted(fingerprints.items()) if handled.get(week) != print_]
        stored = self.store.tags(self.asset)
        # A week that was never made is requested without reading its files, once all its days have passed.
        unread: dict[str, Any] = {
            week: {"files": fingerprints[week]}
            for week in changed
            if week not in stored and len(self.past_days(week)) == len(self.days(week)) > 0
        }
        compared = [week for week in changed if week not in unread][-WEEKS_READ_A_TICK:]
        needed = {week: {week, *self._never_saw(week, stored)} for week in unread}
        self._look_at(compared)
        refused = self.history.refused(self.market.update_job, self.asset, set(compared) & set(stored))
        again: dict[str, str] = {}
        for week in compared:
            needed[week] = {later for later in self.after(week) if later in stored and self._lacks(later, week)}
            if self._lacks(week, week, *self.before(week)):
                needed[week].add(week)
            elif gone := sorted(set(self._own_sources(week)) - set(self._listed[week])):
                self.notes.append(f"files of {self.asset} {week} are gone, it stays as it is: {', '.join(gone[:5])}")
            elif week in refused:
                # A refused file is gone or restored: the week is made again, which heals its incident.
                needed[week].add(week)
                again[week] = refused[week]
            # A file that came before the end of its day counts only after it, without changing.
            if not needed[week] and not self._early_files(week):
                handled[week] = fingerprints[week]
        asked = sorted(set().union(*needed.values()))
        if not asked:
            return []
        for week, of_week in needed.items():
            if of_week:
                # Compared once more after the run, even if its files are then as they were before.
                handled.pop(week, None)
        unequal = {**unread, **self._states([week for week in asked if week not in unread])}
        intents = [self._intent(unequal, stored, again)]
        if self.history.state_of(intents[0])[0] is RequestState.SETTLED:
            # Tried together and failed: now one by one, so that a broken week does not hold back the others.
            intents = [self._intent({week: unequal[week]}, stored, again) for week in asked]
        settled = {
            week
            for intent in intents
            if self.history.state_of(intent)[0] is RequestState.SETTLED
            for week in intent.partitions
        }
        if settled:
            handled.update(
                {week: fingerprints[week] for week, of_week in needed.items() if of_week and of_week <= settled}
            )
            self.notes.append(f"{self.asset} {', '.join(sorted(settled)[:5])} failed and waits for its files to change")
        return self.history.due(intents)

    def _lacks(self, made: str, *weeks: str) -> bool:
        """Whether a week was made without a file of `weeks` that is there now, or from other overrides."""
        if not self.past_days(made) or (made in weeks and not self._listed[made]):
            return False
        if made in weeks and self._other_sources_of(made) != self.other_sources(made):
            return True
        return any(not self._sources(made).items() >= self._listed[week].items() for week in weeks)

    def _never_saw(self, week: str, stored: Mapping[str, str]) -> set[str]:
        """Later weeks that were made while `week` had no file."""
        later = [each for each in self.after(week) if each in stored]
        return {each for each in later if week not in {week_of_name(name) for name in self._sources(each)}}

    def _states(self, weeks: Sequence[str]) -> dict[str, Any]:
        """All that each week would be made from."""
        self._look_at(weeks)
        return {
            week: [*(self._listed[each] for each in (*self.before(week), week)), dict(self.other_sources(week))]
            for week in weeks
        }

    def _own_sources(self, week: str) -> list[str]:
        return [name for name in self._sources(week) if week_of_name(name) == week]

    def _other_sources_of(self, week: str) -> dict[str, str]:
        """Overrides that a week was made from; one that was removed must be removed from the week, too."""
        return {name: sha256 for name, sha256 in self._sources(week).items() if is_override(name)}

    def _early_files(self, week: str) -> bool:
        past = set(self.past_days(week))
        return bool(self.source.listing([day for day in self.days(week) if day not in past]))

    def _look_at(self, weeks: Sequence[str]) -> None:
        """List the files of weeks and of the weeks before them, with their hashes; each is read once a tick."""
        wanted = {each for week in weeks for each in (*self.before(week), week)}
        new = {week: dict[str, str]() for week in sorted(wanted - set(self._listed))}
        self._listed.update(new)
        for name, sha256 in self.source.listing([day for week in new for day in self.looked_at_days(week)]).items():
            if (week := week_of_name(name)) is not None:
                self._listed[week][name] = sha256

    def _sources(self, week: str) -> Mapping[str, str]:
        """Sources of a stored week; none if it is not stored or cannot be read."""
        if week not in self._made_from:
            try:
                footer = self.store.footer(self.asset, week)
            except StoredPartitionError as e:
                self.notes.append(f"{e} It is made again.")
                footer = None
            self._made_from[week] = footer.sources if footer else {}
        return self._made_from[week]

    def _intent(self, states: Mapping[str, Any], stored: Mapping[str, str], again: Mapping[str, str]) -> RunIntent:
        """One run for the weeks of `states`; `again`: week to the run that refused files which are gone since."""
        weeks = tuple(sorted(states))
        return RunIntent(
            job=self.market.update_job,
            assets=self.assets(weeks, stored),
            partitions=weeks,
            state=digest(states, {week: [stored.get(week), again.get(week)] for week in weeks}),
            because=f"new or revised files in {len(weeks)} week(s), the last {weeks[-1]}",
        )


@dataclass
class BarsFolder(WatchedFolder):
    """Session files; the files of earlier weeks decide on a week, too."""

    @property
    def asset(self) -> str:
        return self.market.bars_asset

    def days(self, week: str) -> list[date]:
        return self.market.partitions.sessions_of_week(week)

    def past_days(self, week: str) -> list[date]:
        return self.market.partitions.closed_sessions(week, self.now)

    def looked_at_days(self, week: str) -> list[date]:
        past = self.past_days(week)
        # The bars of a week name its files of days without a session.
        return sorted({*past, *self.market.partitions.other_days(week, self.now)}) if past else []

    def other_sources(self, week: str) -> Mapping[str, str]:
        return self.market.override_sources(week)

    def request(self, fingerprints: Mapping[str, str], handled: dict[str, str]) -> list[dg.RunRequest]:
        partitions = self.market.partitions
        # Such a week has no bars that could name its files.
        if resting := [week for week in fingerprints if partitions.has_week(week) and not self.days(week)]:
            self.notes.append(
                f"{partitions.calendar_name} has no session in the weeks of these files: {', '.join(resting[:5])}"
            )
        return super().request(fingerprints, handled)

    def before(self, week: str) -> list[str]:
        return self.market.weeks_before(week)

    def after(self, week: str) -> list[str]:
        return self.market.weeks_after(week)

    def assets(self, weeks: Sequence[str], stored: Mapping[str, str]) -> tuple[str, ...]:
        return bars_assets(self.market, weeks, stored)


def bars_assets(market: MarketPlan, weeks: Sequence[str], stored: Collection[str]) -> tuple[str, ...]:
    """Assets that one run for bars makes: for a single week all that depend on it; for several weeks no features, since one
    broken week must not stop the features of the others."""
    groups = []
    if len(weeks) == 1:
        ready = [each for each in market.feature_groups if not missing_bars(market, each, weeks[0], {*stored, *weeks})]
        groups = [market.features_asset(group) for group in ready]
    return (market.bars_asset, *(market.reference_asset(table) for table in market.references), *groups)


@dataclass
class ReferenceFolder(WatchedFolder):
    """Files of a reference table: any day of the week, each week by itself."""

    table: str = ""

    @property
    def asset(self) -> str:
        return self.market.reference_asset(self.table)

    def days(self, week: str) -> list[date]:
        return days_of_week(week) if self.market.partitions.has_week(week) else []

    def past_days(self, week: str) -> list[date]:
        return past_days(week, self.now) if self.market.partitions.has_week(week) else []

    def before(self, week: str) -> list[str]:
        return []

    def after(self, week: str) -> list[str]:
        return []

    def assets(self, weeks: Sequence[str], stored: Mapping[str, str]) -> tuple[str, ...]:
        return (self.asset,)
