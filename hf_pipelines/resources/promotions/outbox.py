"""Outbox: the payloads of each strategy for a portfolio layer, as objects of the store, and their delivery to a webhook.

Lives here: writing payloads, sending them in order, and what was sent. Does not live here: what a payload says
(`research.promotion.payload`), when that is done (`following`).

Objects below the store's root, each put create-only; `<strategy>-drift` in place of the strategy holds what is told of its drift::

    _outbox/<strategy>/<number>.json       a payload, from 1 on, without a hole
    _delivered/<strategy>/<number>.json    that the webhook has taken it: its id, and when

Payloads follow from the history of promotions alone: whoever finds one missing writes the same bytes. One is sent when all before it were
taken, and noted after it was taken: a process that dies in between leaves it to be sent again under the same id.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hf_pipelines.research.promotion.payload import payloads_of
from hf_pipelines.resources import settings
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.promotions.history import History, PromotionHistoryError
from hf_pipelines.resources.storage_errors import ObjectExistsError
from hf_pipelines.resources.trial_ledger.records import MOST_RECORD_BYTES
from hf_pipelines.resources.webhook import post_json

OUTBOX, DELIVERED = "_outbox", "_delivered"


class OutboxError(ValueError):
    """An outbox that holds something else than what follows from the history."""


@dataclass(frozen=True)
class Delivery:
    """How far the payloads of a strategy have come.

    Attributes
    ----------
    n_payloads, n_waiting : int
        All, and those that no webhook has taken yet.
    has_webhook : bool
        Whether there is one to take them.
    """

    n_payloads: int
    n_waiting: int
    has_webhook: bool

    @property
    def is_behind(self) -> bool:
        """Whether there is a webhook that has not taken all of them."""
        return self.has_webhook and self.n_waiting > 0

    @property
    def in_words(self) -> str:
        """A line for people; "" where nothing was ever promoted."""
        if not self.n_payloads:
            return ""
        told = f"{self.n_payloads} payload(s) in {OUTBOX}"
        if not self.has_webhook and self.n_waiting:
            return f"{told}; HF_PORTFOLIO_URL is not set: none is sent"
        return f"{told}, {self.n_waiting} not taken yet" if self.n_waiting else f"{told}, all taken"


def fill_outbox(objects: ObjectStore, history: History) -> list[bytes]:
    """Write the payloads that are not there yet; returns all of them, in order.

    Raises
    ------
    OutboxError
        If another payload lies in the place of one: the history was taken back to an earlier state, or the object was changed.
    StorageUnavailableError
    """
    payloads = [_bytes(each) for each in payloads_of(history.strategy, history.records, history.hashes)]
    there = {*objects.keys(f"{OUTBOX}/{history.strategy}")}
    for number, payload in enumerate(payloads, 1):
        key = _key(OUTBOX, history.strategy, number)
        if key not in there:
            try:
                objects.put_durably(key, payload)
                continue
            except ObjectExistsError:
                # Of two processes at once the other one was first.
                pass
        if objects.get(key, max_bytes=MOST_RECORD_BYTES) != payload:
            raise _foreign(objects, key, history.strategy)
    if beyond := _beyond(there, history.strategy, len(payloads)):
        raise _foreign(objects, beyond[0], history.strategy)
    return payloads


def send_outbox(objects: ObjectStore, history: History, payloads: list[bytes], now: datetime) -> Delivery:
    """Post the payloads that no webhook has taken, in order, until one is not taken.

    Raises
    ------
    NotDeliveredError
        If the webhook did not take one; it and those behind it wait.
    StorageUnavailableError
        If it is not known what was taken, or could not be noted; it may be sent twice then.
    """
    return _send(objects, history.strategy, payloads, now)


def deliveries_of(
    objects: ObjectStore, histories: Mapping[str, History | PromotionHistoryError]
) -> dict[str, Delivery | OutboxError]:
    """How far the payloads of strategies have come, events of drift among them, by the names of objects alone; nothing is written or sent.

    Of an outbox that holds more than follows from its history, which was cut off at its end then, what is wrong with it.
    """
    found: dict[str, Delivery | OutboxError] = {}
    for strategy, history in histories.items():
        if isinstance(history, PromotionHistoryError):
            continue
        n_payloads = len(payloads_of(strategy, history.records, history.hashes))
        if beyond := _beyond({*objects.keys(f"{OUTBOX}/{strategy}")}, strategy, n_payloads):
            found[strategy] = _foreign(objects, beyond[0], strategy)
            continue
        streams = {strategy: n_payloads, events_of(strategy): len(objects.keys(f"{OUTBOX}/{events_of(strategy)}"))}
        parts = [_delivery(objects, stream, n)[0] for stream, n in streams.items()]
        found[strategy] = Delivery(
            sum(each.n_payloads for each in parts), sum(each.n_waiting for each in parts), parts[0].has_webhook
        )
    return found


def note_event(objects: ObjectStore, strategy: str, event: Mapping[str, Any]) -> bool:
    """Write an event of drift behind those that are there; whether it was new, by its id.

    Raises
    ------
    OutboxError
        If another process has taken its place just now; it is written by the next look.
    StorageUnavailableError
    """
    held = _events(objects, strategy)
    if any(json.loads(each)["id"] == event["id"] for each in held):
        return False
    number = len(held) + 1
    try:
        objects.put_durably(_key(OUTBOX, events_of(strategy), number), _bytes({**event, "n": number}))
    except ObjectExistsError as e:
        raise OutboxError(
            f"`event` {number} of {strategy} must be the only one written, was another's; look again."
        ) from e
    return True


def send_events(objects: ObjectStore, strategy: str, now: datetime) -> Delivery:
    """Post the events of drift that no webhook has taken, in order, as `send_outbox`.

    Raises
    ------
    NotDeliveredError, StorageUnavailableError
    """
    if settings.portfolio_url() is None:
        return Delivery(0, 0, has_webhook=False)
    return _send(objects, events_of(strategy), _events(objects, strategy), now)


def events_of(strategy: str) -> str:
    """Folder of a strategy's events of drift: no strategy has a hyphen in its name."""
    return f"{strategy}-drift"


def _events(objects: ObjectStore, strategy: str) -> list[bytes]:
    return [objects.get(key, max_bytes=MOST_RECORD_BYTES) for key in objects.keys(f"{OUTBOX}/{events_of(strategy)}")]


def _send(objects: ObjectStore, stream: str, payloads: list[bytes], now: datetime) -> Delivery:
    delivery, waiting = _delivery(objects, stream, len(payloads))
    if not delivery.has_webhook:
        return delivery
    for number in waiting:
        payload = json.loads(payloads[number - 1])
        post_json(
            settings.portfolio_url() or "",
            payloads[number - 1],
            key=payload["id"],
            variable="HF_PORTFOLIO_URL",
            what=f"payload {number} of {stream}",
        )
        noted = {"id": payload["id"], "at": now.isoformat(timespec="seconds")}
        try:
            objects.put_durably(_key(DELIVERED, stream, number), _bytes(noted))
        except ObjectExistsError:
            # Another process has sent it too.
            continue
    return Delivery(len(payloads), 0, has_webhook=True)


def _delivery(objects: ObjectStore, stream: str, n_payloads: int) -> tuple[Delivery, list[int]]:
    taken = {*objects.keys(f"{DELIVERED}/{stream}")}
    waiting = [number for number in range(1, n_payloads + 1) if _key(DELIVERED, stream, number) not in taken]
    return Delivery(n_payloads, len(waiting), settings.portfolio_url() is not None), waiting


def _beyond(there: set[str], strategy: str, n_payloads: int) -> list[str]:
    """Objects of an outbox that no payload of its history belongs to."""
    return sorted(there - {_key(OUTBOX, strategy, number + 1) for number in range(n_payloads)})


def _key(folder: str, strategy: str, number: int) -> str:
    return f"{folder}/{strategy}/{number:08d}.json"


def _bytes(payload: Mapping[str, Any]) -> bytes:
    return json.dumps(payload, indent=1, allow_nan=False, ensure_ascii=False).encode() + b"\n"


def _foreign(objects: ObjectStore, key: str, strategy: str) -> OutboxError:
    return OutboxError(
        f"`{objects.address(key)}` must be the payload that follows from the history of {strategy}, was another; restore the history from the "
        "newest copy of the store, or move the object away if nobody has read it."
    )
