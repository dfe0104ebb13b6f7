"""Drifting: what the newest session of each strategy says of its model becomes incidents, and messages for a portfolio layer.

Lives here: one look over the newest partitions of `<strategy>/drift`. Does not live here: whether an alarm stands (`research.drift.standing`),
the book (`resources.incidents`), the messages' store (`resources.promotions.outbox`).

An alarm opens one incident and leaves one message, however many sessions it lasts; once it is over the incident has healed.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from hf_pipelines.components.strategy_stages.drift import SENTENCE, newest_drift, standing_of
from hf_pipelines.research.drift.day import ACCURACY, DECAY, DRIFT
from hf_pipelines.research.drift.event import drift_event
from hf_pipelines.resources.footer import Footer
from hf_pipelines.resources.incidents import Book
from hf_pipelines.resources.notifier import asset_link
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.promotions.outbox import OutboxError, note_event, send_events
from hf_pipelines.resources.storage_errors import StoredPartitionError
from hf_pipelines.resources.webhook import NotDeliveredError

# What is told of, as which kind of incident and how bad: an old model is late by itself.
KINDS = {DRIFT: ("drift", "WARN"), DECAY: ("decay", "ERROR"), ACCURACY: ("decay", "ERROR")}


def look_for_drift(strategies: Iterable[str], store: PartitionStore, book: Book, now: datetime) -> list[str]:
    """Open and heal incidents of strategies; returns what could not be delivered, in words.

    Raises
    ------
    StorageUnavailableError
        If the store does not answer.
    """
    faults = []
    for strategy in strategies:
        asset = f"{strategy}/drift"
        footer = newest_drift(store, asset)
        if footer is None:
            continue
        for kind, standing in standing_of(footer.facts).items():
            if kind not in KINDS:
                continue
            told, severity = KINDS[kind]
            if not standing.is_raised:
                book.heal(told, [(asset, kind)], cause=f"over by {footer.partition}: {footer.facts[SENTENCE]}", now=now)
                continue
            book.open_incident(
                told,
                [(asset, kind)],
                cause=str(footer.facts[SENTENCE]),
                remedy=f"look at it: hfp drift {strategy}",
                url=asset_link(asset),
                now=now,
                partition=f"{standing.raised_on}",
                severity=severity,
            )
            try:
                note_event(store.objects, strategy, _event(store, strategy, kind, footer))
            except (OutboxError, StoredPartitionError) as e:
                faults.append(str(e))
        try:
            send_events(store.objects, strategy, now)
        except NotDeliveredError as e:
            faults.append(str(e))
    return faults


def _event(store: PartitionStore, strategy: str, kind: str, footer: Footer) -> Mapping[str, Any]:
    """The message of an alarm, by the session that raised it: the same whenever it is made."""
    raised_on = f"{standing_of(footer.facts)[kind].raised_on}"
    stored = store.read(footer.asset, raised_on)
    return drift_event(
        strategy,
        kind,
        stored.frame,
        facts=stored.footer.facts,
        session=raised_on,
        content_hash=stored.footer.content_hash,
    )
