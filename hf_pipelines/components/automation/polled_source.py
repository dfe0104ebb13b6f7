"""Polled source: a market whose source is polled for its bars, since it announces nothing.

Lives here: which weeks are requested after a session has closed, and when they are requested again. Does not live
here: the polling itself (`resources.market_data`), the tick and the features after it (`arrivals`), files that arrive (`watched_folders`).

A vendor publishes a session minutes or hours after its close, some symbols later than others, and corrects it later. So a week
that lacks a session is requested at the times of `ASKED_AFTER`; every week once more when it has ended, for corrections and
the rows of its weekend; and an older week again when a later week was made from corrected rows of it.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

import dagster as dg

from hf_pipelines.components.automation.run_intents import RequestState, RunHistory, RunIntent, digest
from hf_pipelines.components.automation.watched_folders import ScanState, bars_assets
from hf_pipelines.components.market_stages.bars import incomplete_sessions
from hf_pipelines.components.market_stages.plan import MarketPlan, is_override
from hf_pipelines.partitions import parse_key, shift_week, week_key
from hf_pipelines.resources.footer import Footer
from hf_pipelines.resources.market_data.files import Scan
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.storage_errors import StoredPartitionError

# After the close of the newest session that is lacking.
ASKED_AFTER = tuple(timedelta(minutes=each) for each in (15, 60, 240, 720, 1440, 2880, 5760))

# Weeks looked at, with the current one, besides those since the newest that is stored. Older holes are left to the operator.
LOOKED_AT_WEEKS = 8

# Weeks requested in one tick, the oldest first, one run each.
WEEKS_A_TICK = 20

# Weeks of a table requested in one run.
TABLE_WEEKS_A_RUN = 60


@dataclass
class PolledSource:
    """The bars of a market whose source is polled, in one tick; its tables are requested with them."""

    market: MarketPlan
    store: PartitionStore
    history: RunHistory
    now: datetime
    notes: list[str] = field(default_factory=list)

    @property
    def asset(self) -> str:
        return self.market.bars_asset

    @cached_property
    def _stored(self) -> dict[str, str]:
        """Weeks that have bars, with their tags: listed once a tick."""
        return self.store.tags(self.asset)

    def scan(self, known: ScanState) -> Scan:
        """What each of the last weeks should have by now, and each since the newest that is stored."""
        tags = self._stored
        # A session is a day of the market's own calendar.
        today = week_key(self.now.astimezone(ZoneInfo(self.market.partitions.timezone)).date())
        if not tags:
            self.notes.append(
                f"{self.asset} is empty: load its history once, later sessions follow by themselves: hfp materialise {self.asset} "
                f"--from {self.market.partitions.first_week} --to {today}"
            )
            return Scan({}, "", is_settling=False, n_objects=0, strays=())
        newest = max(tags)
        since = max(min(tags), min(newest, shift_week(today, 1 - LOOKED_AT_WEEKS)))
        weeks = self.market.partitions.weeks_between(parse_key(since), parse_key(today))
        # With the tag of the newest: its sources show which of the others were corrected.
        found = {week: self._print(week, tags.get(week), tags[newest]) for week in weeks}
        return Scan(found, "", is_settling=False, n_objects=0, strays=())

    def request(self, fingerprints: Mapping[str, str], handled: dict[str, str]) -> list[dg.RunRequest]:
        """Request weeks that lack a closed session, have ended, or were corrected, then the tables of weeks that have bars and no
        rows. Adds the other weeks to `handled`."""
        unsure = {week: print_ for week, print_ in sorted(fingerprints.items()) if handled.get(week) != print_}
        seen = self._sources(max(self._stored)) if unsure else {}
        intents = []
        for week, print_ in unsure.items():
            # Each week by itself: one that the source will never have must not be requested with each of the others.
            intent = self._intent(week, state) if (state := self._lacks(week, seen)) else None
            if intent is None or self.history.state_of(intent)[0] is RequestState.SETTLED:
                handled[week] = print_
            else:
                intents.append(intent)
        return self.history.due([*intents[:WEEKS_A_TICK], *self._tables()])

    def _tables(self) -> Iterator[RunIntent]:
        """Runs for polled tables of weeks whose bars were made without them."""
        for table in self.market.polled_tables:
            asset = self.market.reference_asset(table)
            if lacking := tuple(sorted({*self._stored} - {*self.store.tags(asset)})[:TABLE_WEEKS_A_RUN]):
                because = f"{asset} has no rows of {len(lacking)} week(s) that have bars"
                yield RunIntent(self.market.update_job, (asset,), lacking, digest(lacking), because)

    def _print(self, week: str, *tags: str | None) -> str:
        """Fingerprint of all that decides whether a week is requested."""
        closed, end = self._owed(week)
        since = self.now - self.market.partitions.session_close(closed[-1]) if closed else timedelta(0)
        overrides = self.market.override_sources(week)
        return digest(
            len(closed), bisect_right(ASKED_AFTER, since), end is not None, tags, *([overrides] if overrides else [])
        )

    def _owed(self, week: str) -> tuple[list[date], datetime | None]:
        """Sessions of a week that the source may have by now, and the end of the week once the source may have its rows."""
        partitions, known_by = self.market.partitions, self.now - ASKED_AFTER[0]
        closed = partitions.closed_sessions(week, known_by)
        end = partitions.week_begin(shift_week(week, 1))
        return closed, end if closed and end <= known_by else None

    def _lacks(self, week: str, seen: Mapping[str, str]) -> str | None:
        """Why a week is requested, as a digest that changes when it is time to request it again; None if it is complete.

        `seen`: sources of the newest week, those of earlier weeks among them.
        """
        closed, end = self._owed(week)
        if not closed or week in self.market.known_gaps:
            return None
        footer = self._footer(week)
        there = footer.session_hashes if footer else {}
        # Symbols missing from the newest session may come later; those missing from an older one are requested when the week ends.
        partial = closed[-1:] if footer and closed[-1].isoformat() in incomplete_sessions(footer) else []
        if lacking := [day for day in closed if day.isoformat() not in there] or partial:
            since = self.now - self.market.partitions.session_close(lacking[-1])
            return digest([day.isoformat() for day in lacking], bisect_right(ASKED_AFTER, since))
        # Without one all sessions are lacking.
        assert footer is not None
        if end is not None and datetime.fromisoformat(footer.created_at) < end:
            return digest("the week has ended")
        made_with = {name: sha for name, sha in footer.sources.items() if is_override(name)}
        if made_with != (wanted := self.market.override_sources(week)):
            return digest("overrides", made_with, wanted)
        corrected = sorted(
            (name, sha, seen[name])
            for name, sha in footer.sources.items()
            if seen.get(name, sha) != sha and not is_override(name)
        )
        return digest("corrected", corrected) if corrected else None

    def _footer(self, week: str) -> Footer | None:
        """Footer of a week; None if there is none or it cannot be read."""
        try:
            return self.store.footer(self.asset, week)
        except StoredPartitionError as e:
            self.notes.append(str(e))
            return None

    def _sources(self, week: str) -> Mapping[str, str]:
        footer = self._footer(week)
        return footer.sources if footer else {}

    def _intent(self, week: str, state: str) -> RunIntent:
        return RunIntent(
            job=self.market.update_job,
            assets=bars_assets(self.market, [week], self._stored),
            partitions=(week,),
            state=state,
            because=f"sessions of week {week} have closed or were corrected",
        )
