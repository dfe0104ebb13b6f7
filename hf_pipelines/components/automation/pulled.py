"""Pulled: a market whose source is asked for its bars, since nothing arrives by itself.

Lives here: which weeks are asked for after a session has closed, and when they are asked for again. Does not live here:
asking (`resources.market_data`), the tick and the features after it (`arrivals`), files that arrive (`feeds`).

A vendor has a session minutes or hours after its close, some symbols later than others, and corrects it later. So a week that
lacks one is asked for at the times of `ASKED_AFTER`, and every week once more when it has ended, for what was corrected and
what tables hold of its weekend.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import dagster as dg

from hf_pipelines.components.automation.feeds import Place, bars_assets
from hf_pipelines.components.automation.work import Ledger, Standing, Work, digest
from hf_pipelines.components.bars_stage import incomplete_sessions
from hf_pipelines.partitions import shift_week, week_key
from hf_pipelines.resources.market_data.files import Scan
from hf_pipelines.resources.partition_store import PartitionStore, StoredPartitionError

if TYPE_CHECKING:
    from hf_pipelines.components.market import Market

# After the close of the newest session that is lacking.
ASKED_AFTER = tuple(timedelta(minutes=each) for each in (15, 60, 240, 720, 1440, 2880, 5760))

# Weeks looked at, the one that runs included. What is older and lacks sessions is for a person to ask for.
LOOKED_AT_WEEKS = 8


@dataclass
class Pulled:
    """The bars of a market whose source is asked, in one tick; its tables are asked for with them."""

    market: "Market"
    store: PartitionStore
    ledger: Ledger
    now: datetime
    notes: list[str] = field(default_factory=list)

    @property
    def asset(self) -> str:
        return self.market.bars_asset

    def scan(self, known: Place) -> Scan:
        """What each of the last weeks should have by now, from the first that is stored on."""
        tags = self.store.tags(self.asset)
        # A session is a day of the market's own calendar.
        today = week_key(self.now.astimezone(ZoneInfo(self.market.timezone)).date())
        if not tags:
            self.notes.append(
                f"{self.asset} is empty: ask for its history once, it is followed from there on: hfp materialise {self.asset} "
                f"--from {self.market.partitions.first_week} --to {today}"
            )
        weeks = [shift_week(today, -ago) for ago in range(LOOKED_AT_WEEKS)]
        found = {week: self._print(week, tags.get(week)) for week in weeks if tags and week >= min(tags)}
        return Scan(found, "", is_settling=False, n_objects=0, strays=())

    def request(self, fingerprints: Mapping[str, str], handled: dict[str, str]) -> list[dg.RunRequest]:
        """Ask for weeks that lack a session that has closed, or that have ended; notes the others in `handled`."""
        stored = self.store.tags(self.asset)
        asked = {}
        for week, print_ in sorted(fingerprints.items()):
            if handled.get(week) == print_:
                continue
            if (state := self._lacks(week)) is None:
                handled[week] = print_
            else:
                asked[week] = state
        works = {week: self._work(week, state, stored) for week, state in asked.items()}
        for week, work in works.items():
            if self.ledger.standing(work)[0] is Standing.SETTLED:
                handled[week] = fingerprints[week]
        return self.ledger.due([*works.values()])

    def _print(self, week: str, tag: str | None) -> str:
        """Fingerprint of what decides whether a week is asked for."""
        closed, end = self._owed(week)
        since = self.now - self.market.partitions.session_close(closed[-1]) if closed else timedelta(0)
        return digest(len(closed), bisect_right(ASKED_AFTER, since), end is not None, tag)

    def _owed(self, week: str) -> tuple[list[date], datetime | None]:
        """Sessions of a week that its source may have by now, and the end of the week once that is as long ago."""
        partitions, known_by = self.market.partitions, self.now - ASKED_AFTER[0]
        closed = partitions.closed_sessions(week, known_by)
        end = partitions.week_begin(shift_week(week, 1))
        return closed, end if closed and end <= known_by else None

    def _lacks(self, week: str) -> str | None:
        """What a week is asked for, as a digest that changes when it is time to ask again; None for nothing."""
        closed, end = self._owed(week)
        if not closed or week in self.market.known_gaps:
            return None
        try:
            footer = self.store.footer(self.asset, week)
        except StoredPartitionError as e:
            self.notes.append(str(e))
            footer = None
        there = footer.session_hashes if footer else {}
        # Of the newest session some symbols may come later; what is missing of an older one is asked for as the week ends.
        partial = closed[-1:] if footer and closed[-1].isoformat() in incomplete_sessions(footer) else []
        if lacking := [day for day in closed if day.isoformat() not in there] or partial:
            since = self.now - self.market.partitions.session_close(lacking[-1])
            return digest([day.isoformat() for day in lacking], bisect_right(ASKED_AFTER, since))
        is_final = end is None or footer is None or datetime.fromisoformat(footer.created_at) >= end
        return None if is_final else digest("the week has ended")

    def _work(self, week: str, state: str, stored: Mapping[str, str]) -> Work:
        return Work(
            job=self.market.update_job,
            assets=bars_assets(self.market, [week], stored),
            partitions=(week,),
            state=state,
            because=f"sessions of week {week} have closed",
        )
