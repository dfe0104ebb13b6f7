"""Delivery: messages of a book of incidents to the log and the webhook, at least once, without blocking the caller.

Lives here: the order, and retries while a receiver is away. Does not live here: what is sent (`incidents`), the
channel (`notifier`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

from hf_pipelines.resources import settings
from hf_pipelines.resources.incidents import Book
from hf_pipelines.resources.notifier import Notifier
from hf_pipelines.resources.webhook import NotDeliveredError

# A tick has a minute; what is not sent within this part of it is sent by the next one.
DELIVERY_S = 20.0

# The webhook is tried at the next tick after a failure, then ever more rarely.
LONGEST_PAUSE = timedelta(minutes=10)


@dataclass
class Delivery:
    """Sends what is pending, and removes from the book what was delivered.

    Parameters
    ----------
    save : callable
        Writes the book down, after each step.
    """

    save: Callable[[Book], None]
    book: Book
    notifier: Notifier
    log: Any
    now: datetime

    def run(self) -> None:
        deadline = monotonic() + DELIVERY_S
        self._log()
        if not self.notifier.has_webhook():
            self._cross_out(len(self.book.pending))
            return
        if self.book.retry_at > self.now.isoformat():
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
        wait = min(timedelta(seconds=settings.tick_seconds()) * 2 ** min(self.book.refusals, 16), LONGEST_PAUSE)
        # The first retry is at the next tick.
        self.book.retry_at = "" if self.book.refusals == 1 else (self.now + wait).isoformat()
        self.save(self.book)
        self.log.warning(f"{refused}; {len(self.book.pending)} messages wait, and are sent again later")
