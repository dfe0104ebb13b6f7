"""Noticing: what is wrong with what is stored, and what was decided, beside failed runs, what is late and what drifts.

Lives here: one registry of what holds as long as it is found (`SOURCES`), and the decisions on strategies, told once each. Does not live
here: failed runs and checks (`ended_runs`), what is late (`lateness`), drift (`drifting`), what has stopped (`resources.pulse`), the book.

Add a source = a function from a `View` to what it finds, and one line of the registry: the book opens an incident for what is new and heals
what is no longer found. Its kind is one of `research.alerts.kinds.KINDS`.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from hf_pipelines.components.operations.inventory import Watched
from hf_pipelines.components.operations.lateness import find_holes
from hf_pipelines.research.promotion.lifecycle import REFUSED, ROLLED_BACK, ROLLOUT_STOPPED, WITHDRAWN
from hf_pipelines.research.wording import printable
from hf_pipelines.resources.incidents import Book, span
from hf_pipelines.resources.notifier import asset_link
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.promotions.history import (
    FOLDER,
    PASSING,
    PromotionHistoryError,
    history_of,
    strategies_with_history,
)
from hf_pipelines.resources.storage_errors import StoredPartitionError

# Each look lists the bars of each market and the decisions on each strategy.
EVERY = timedelta(minutes=5)

OF_DECISION = {REFUSED: "refusal", ROLLOUT_STOPPED: "refusal", ROLLED_BACK: "rollback", WITHDRAWN: "rollback"}


@dataclass(frozen=True)
class View:
    """What a source may look at."""

    watched: Watched
    store: PartitionStore
    now: datetime
    late_after: timedelta


@dataclass(frozen=True)
class Found:
    """Partitions of an asset that something is wrong with, as long as it is."""

    asset: str
    partitions: tuple[str, ...]
    cause: str
    remedy: str
    severity: str = "WARN"


@dataclass(frozen=True)
class Noticed:
    """How far was looked: when last, and how many decisions of each strategy were told; the cursor of the sensor."""

    looked_at: datetime | None = None
    decided: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def of_cursor(cursor: str | None) -> "Noticed":
        found = json.loads(cursor) if cursor else {}
        at = found.get("looked_at")
        return Noticed(None if at is None else datetime.fromisoformat(at), found.get("decided", {}))

    @property
    def cursor(self) -> str:
        at = None if self.looked_at is None else self.looked_at.isoformat()
        return json.dumps({"looked_at": at, "decided": dict(self.decided)}, sort_keys=True)

    def is_due(self, now: datetime) -> bool:
        """Whether it is time to look again; after a clock that went back it is."""
        return self.looked_at is None or not timedelta() <= now - self.looked_at < EVERY


def notice(view: View, book: Book, before: Noticed) -> Noticed:
    """Look at every source and at the decisions, if it is time.

    Raises
    ------
    StorageUnavailableError
        If the store does not answer.
    """
    if not before.is_due(view.now):
        return before
    for kind, find in SOURCES.items():
        _open_and_heal(kind, [*find(view)], book, view.now)
    return Noticed(view.now, _tell_decisions(view, book, before))


def find_gaps_of_sources(view: View) -> Iterator[Found]:
    """Weeks without bars between weeks that have some, since the later ones have been there for as long as what is late may take."""
    for market in view.watched.markets:
        asset = market.bars_asset
        weeks = sorted(view.store.partitions(asset))
        holes = [each.partition for each in find_holes(asset, weeks, market.partitions, market.known_gaps)]
        due = [each for each in holes if _made_before(view, asset, min(week for week in weeks if week > each))]
        if due:
            words = "week has" if len(due) == 1 else "weeks have"
            yield Found(
                asset,
                tuple(due),
                f"{len(due)} {words} no bars, between weeks that have some: {span(due)}; what reads them lacks it",
                "hfp status names what brings them; name weeks that will never have any in `known_gaps` of the market",
            )


def _made_before(view: View, asset: str, week: str) -> bool:
    """Whether a week has been there for a while: a backfill may just be under way."""
    try:
        footer = view.store.footer(asset, week)
    except StoredPartitionError:
        return True
    return footer is not None and datetime.fromisoformat(footer.created_at) + view.late_after <= view.now


def _open_and_heal(kind: str, found: list[Found], book: Book, now: datetime) -> None:
    pairs = {(each.asset, key) for each in found for key in each.partitions}
    for pair in sorted(book.waiting(kind) - pairs):
        book.heal(kind, [pair], cause=f"{pair[0]} {pair[1]} is found no longer", now=now)
    for each in found:
        book.open_incident(
            kind,
            [(each.asset, key) for key in each.partitions],
            cause=each.cause,
            remedy=each.remedy,
            url=asset_link(each.asset),
            now=now,
            severity=each.severity,
        )


def _tell_decisions(view: View, book: Book, before: Noticed) -> dict[str, int]:
    """Tell decisions that have come since the last look; at the first look all that there are count as told."""
    told = {}
    for strategy in strategies_with_history(view.store.objects):
        n_before = before.decided.get(strategy, 0)
        n_now = len(view.store.objects.keys(f"{FOLDER}/{strategy}"))
        told[strategy] = n_now
        if before.looked_at is None or n_now <= n_before:
            continue
        try:
            records = history_of(view.store.objects, strategy).records
        except PromotionHistoryError:
            # `hfp status` and the asset `promotion` name what is damaged.
            told[strategy] = n_before
            continue
        for record in records[n_before:]:
            _note(strategy, record, book, view.now)
        told[strategy] = len(records)
    return told


def _note(strategy: str, record: Mapping[str, Any], book: Book, now: datetime) -> None:
    decided = str(record["kind"]).replace("_", " ")
    override = f", in the name of {record['override']}" if record["override"] else ""
    share = f"; {record['rollout']['share']:.0%} of the capital" if record["rollout"] else ""
    failed = [str(each["gate"]) for each in record["gates"] if each["verdict"] not in PASSING]
    gates = f"; gates that stood in the way: {', '.join(failed)}" if failed else ""
    book.note(
        OF_DECISION.get(str(record["kind"]), "promotion"),
        strategy,
        partition=str(record["week"]),
        cause=printable(f"{decided} by {record['actor']}{override}: {record['reason']}{share}{gates}"),
        remedy=f"hfp history {strategy} has every decision",
        url=asset_link(f"{strategy}/promotion"),
        now=now,
        seed=str(record["id"]),
    )


SOURCES: dict[str, Callable[[View], Iterator[Found]]] = {
    "gap": find_gaps_of_sources,
}
