"""Delivery: messages of a book of incidents to the log, the webhook and the desk of alerts, at least once, without blocking the caller.

Lives here: the order, and retries while a receiver is away. Does not live here: what is sent (`incidents`), the
channel (`notifier`), what alert channels are told of it (`alert_desk`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic
from typing import Any

from hf_pipelines.research.alerts.desk import LONGEST_PAUSE, Alert
from hf_pipelines.resources.alert_desk import DeskKeeper, alert_of, pause_after
from hf_pipelines.resources.incidents import Book, Incident, Pending
from hf_pipelines.resources.notifier import Notifier
from hf_pipelines.resources.webhook import NotDeliveredError

# A tick has a minute; what is not sent within this part of it is sent by the next one.
DELIVERY_S = 20.0


@dataclass
class Delivery:
    """Sends what is pending, and removes from the book what was delivered.

    Parameters
    ----------
    save : callable
        Writes the book down, after each step.
    desk : DeskKeeper, optional
        Tells the alert channels.
    """

    save: Callable[[Book], None]
    book: Book
    notifier: Notifier
    log: Any
    now: datetime
    desk: DeskKeeper | None = None

    def run(self) -> None:
        # Before the log, which says that they are noted; a moment is in no book.
        if new := [each for each in self.book.pending if not each.is_logged]:
            self._alert(new, tells=False)
        self._log()
        self._post()
        self._alert([], tells=True)

    def _alert(self, new: Sequence[Pending], *, tells: bool) -> None:
        if self.desk is None:
            return
        live = [each for each in self.book.open if not each.dismissed]
        ids = {each.id for each in self.book.open}
        endings = {each.message.id: each.message.cause for each in new if each.message.event in ("healed", "dismissed")}
        # In no book any more: what has healed by now was open, the rest was never to be kept.
        gone = [
            each.message for each in new if each.message.event in ("opened", "noted") and each.message.id not in ids
        ]

        def noted(known: set[str]) -> list[Alert]:
            passed = [alert_of(each, check="", now=self.now, is_open=each.id in endings) for each in gone]
            return [*(_alert_of(each, self.now) for each in live if each.id not in known), *passed]

        self.desk.round(noted, endings, [each.id for each in live], self.now, tells=tells)

    def _post(self) -> None:
        deadline = monotonic() + DELIVERY_S
        if not self.notifier.has_webhook():
            self._cross_out(len(self.book.pending))
            return
        # After a clock that went back it does not lie far ahead.
        if self.now.isoformat() < self.book.retry_at <= (self.now + LONGEST_PAUSE).isoformat():
            return
        while self.book.pending and monotonic() < deadline:
            try:
                self.notifier.post(self.book.pending[0].message)
            except NotDeliveredError as e:
                self._pause(e)
                return
            self.book.refusals, self.book.retry_at = 0, ""
            self._cross_out(1)

    def _log(self) -> None:
        new = [index for index, each in enumerate(self.book.pending) if not each.is_logged]
        for index in new:
            self.notifier.log(self.book.pending[index].message, self.log)
            self.book.pending[index] = replace(self.book.pending[index], is_logged=True)
        if new:
            self.save(self.book)

    def _cross_out(self, n_first: int) -> None:
        if n_first:
            self.book.pending = self.book.pending[n_first:]
            self.save(self.book)

    def _pause(self, refused: NotDeliveredError) -> None:
        self.book.refusals += 1
        wait = pause_after(self.book.refusals)
        self.book.retry_at = (self.now + wait).isoformat() if wait else ""
        self.save(self.book)
        self.log.warning(f"{refused}; {len(self.book.pending)} messages wait, and are sent again later")


def _alert_of(incident: Incident, now: datetime) -> Alert:
    message = incident.message("opened", incident.cause, datetime.fromisoformat(incident.opened_at))
    return alert_of(
        message, check=incident.check, now=min(now, datetime.fromisoformat(incident.opened_at)), is_open=True
    )
