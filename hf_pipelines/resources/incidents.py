"""Incidents: what went wrong, reported once when it opens and once when it has healed.

Lives here: the book of open incidents and of messages still to be delivered, and the rules by which one is opened or
healed. Does not live here: noticing (`components.operations`, `pulse`), delivering (`delivery`), when (the sensor
`watch`, `serving.lookout`).

An incident waits for pairs of (asset, partition). What is already waited for opens no second one: a run over 500 weeks
is one incident, and so is the run that fails again after it. It has healed when nothing is waited for any more.

The book is one value in the instance's own database, beside the runs it is about: it can be read whenever a sensor can
be evaluated, also while the store is away, and a restart finds it. A message is written there before it is sent and
crossed out after: a crash in between sends it again under the same id, none is lost (at least once).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from hf_pipelines.resources.notifier import KIND_WORDS, Notification

BOOK_KEY = "hf_pipelines/incidents"
# Of what is noticed from outside the code server. Two writers of one book would lose each other's lines.
STOPPED_KEY = "hf_pipelines/stopped"
# Who writes a book takes what people have put aside from here, a value for each incident: nobody else writes in a book.
DISMISSED_KEY = "hf_pipelines/dismissed/"
BOOK_VERSION = 1

# An incident that has not healed in a quarter is dropped; its runs are still in the web UI.
FORGOTTEN_AFTER = timedelta(days=90)

# A message is read on a phone.
MAX_CAUSE = 700

# Of a cause with a line for each partition the first ones are enough, beside the address of all.
SHOWN_LINES = 5

# If a receiver is away for so long, the oldest of more messages than this are dropped (the log has them).
MAX_PENDING = 500

Pair = tuple[str, str]


@dataclass(frozen=True)
class Incident:
    """Something that went wrong and has not healed.

    Attributes
    ----------
    kind : str
        A name of `notifier.KIND_WORDS`.
    check : str
        Name of the check, "" for other kinds.
    waiting : tuple of (asset, partition)
        What has to be made (or pass) before it has healed.
    dismissed : str
        Who has put it aside, and why; "" while nobody has. It is kept, so that the same does not open another one.
    """

    id: str
    kind: str
    asset: str
    partition: str
    check: str
    severity: str
    cause: str
    remedy: str
    url: str
    opened_at: str
    waiting: tuple[Pair, ...]
    dismissed: str = ""

    def lines(self) -> list[str]:
        """For a person: what it is and the id by which it is dismissed, the cause, what to do, where to look."""
        warning = " (warning)" if self.severity == "WARN" else ""
        return [
            f"{self.id} {KIND_WORDS.get(self.kind, self.kind)}{warning}: {self.asset} {self.partition}".rstrip()
            + f", since {self.opened_at}",
            *(f"  {line}" for line in self.cause.splitlines()[:SHOWN_LINES]),
            f"  do: {self.remedy}",
            *([f"  {self.url}"] if self.url else []),
        ]

    def message(self, event: str, cause: str, at: datetime) -> Notification:
        return Notification(
            id=self.id,
            event=event,
            kind=self.kind,
            asset=self.asset,
            partition=self.partition,
            severity=self.severity,
            cause=cause,
            # A healed or dismissed incident has no remedy.
            remedy=self.remedy if event == "opened" else "",
            url=self.url,
            at=_stamp(at),
        )


@dataclass(frozen=True)
class Pending:
    """A message that was not delivered to every place yet."""

    message: Notification
    is_logged: bool = False


@dataclass
class Book:
    """Open incidents, messages to deliver, and which ended runs have been looked at.

    Attributes
    ----------
    runs_until : str
        Time (ISO 8601) up to which every ended run has been looked at; "" before the first tick.
    seen_runs : mapping of run id to time
        Runs looked at that ended shortly before `runs_until`.
    awaited_runs : list of run id
        Failed runs that Dagster will run again.
    refusals : int
        How often in a row the webhook took nothing.
    retry_at : str
        Before then it is not tried again.
    """

    open: list[Incident] = field(default_factory=list)
    pending: list[Pending] = field(default_factory=list)
    runs_until: str = ""
    seen_runs: dict[str, str] = field(default_factory=dict)
    awaited_runs: list[str] = field(default_factory=list)
    refusals: int = 0
    retry_at: str = ""

    def waiting(self, kind: str, check: str = "") -> set[Pair]:
        """Everything that open incidents of a kind wait for."""
        return {pair for each in self.open if (each.kind, each.check) == (kind, check) for pair in each.waiting}

    def open_incident(
        self,
        kind: str,
        pairs: Sequence[Pair],
        *,
        cause: str,
        remedy: str,
        url: str,
        now: datetime,
        check: str = "",
        partition: str | None = None,
        severity: str = "ERROR",
        can_heal: bool = True,
        seed: str = "",
    ) -> Incident | None:
        """Open an incident for those pairs that no open one of its kind waits for; None if there are none.

        Parameters
        ----------
        partition : str, optional
            What is shown; default the partitions of the first asset.
        can_heal : bool
            Whether what is waited for can ever come; if not, it is reported once and not kept.
        seed : str
            What makes its id differ from that of an earlier incident of the same pairs, such as the run.
        """
        known = self.waiting(kind, check)
        new = [pair for pair in pairs if pair not in known]
        if not new:
            return None
        asset = new[0][0]
        text = json.dumps([kind, check, new, seed or _stamp(now)])
        incident = Incident(
            id=hashlib.sha256(text.encode()).hexdigest()[:16],
            kind=kind,
            asset=asset,
            partition=span([key for each, key in new if each == asset]) if partition is None else partition,
            check=check,
            severity=severity,
            cause=cause[:MAX_CAUSE],
            remedy=remedy,
            url=url,
            opened_at=_stamp(now),
            waiting=tuple(new),
        )
        if can_heal:
            self.open.append(incident)
        self._tell(incident.message("opened", incident.cause, now))
        return incident

    def note(
        self, kind: str, asset: str, *, partition: str, cause: str, remedy: str, url: str, now: datetime, seed: str
    ) -> None:
        """Tell once of something that has happened and is no fault, such as a promotion; `seed` makes its id."""
        text = json.dumps([kind, asset, partition, seed])
        self._tell(
            Notification(
                id=hashlib.sha256(text.encode()).hexdigest()[:16],
                event="noted",
                kind=kind,
                asset=asset,
                partition=partition,
                severity="INFO",
                cause=cause[:MAX_CAUSE],
                remedy=remedy,
                url=url,
                at=_stamp(now),
            )
        )

    def heal(self, kind: str, pairs: Iterable[Pair], *, cause: str, now: datetime, check: str = "") -> None:
        """Wait no longer for pairs; incidents that wait for nothing have healed."""
        done = set(pairs)
        if not done:
            return
        remaining = []
        for each in self.open:
            if (each.kind, each.check) != (kind, check) or not done.intersection(each.waiting):
                remaining.append(each)
                continue
            left = tuple(pair for pair in each.waiting if pair not in done)
            if left:
                remaining.append(replace(each, waiting=left))
            elif not each.dismissed:
                self._tell(each.message("healed", cause, now))
        self.open = remaining

    def dismiss(self, dismissals: Mapping[str, str], now: datetime) -> None:
        """Put incidents aside, by their ids, with who has done it and why: told once, and silent from then on."""
        for at, each in enumerate(self.open):
            if each.id in dismissals and not each.dismissed:
                self.open[at] = replace(each, dismissed=dismissals[each.id])
                self._tell(each.message("dismissed", dismissals[each.id], now))

    def forget_old(self, now: datetime) -> None:
        """Drop incidents that have not healed for a quarter."""
        oldest = _stamp(now - FORGOTTEN_AFTER)
        self.open = [each for each in self.open if each.opened_at >= oldest]

    def _tell(self, message: Notification) -> None:
        self.pending = [*self.pending, Pending(message)][-MAX_PENDING:]

    def to_json(self) -> str:
        return json.dumps({"version": BOOK_VERSION, **asdict(self)}, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "Book":
        fields: dict[str, Any] = json.loads(text)
        fields.pop("version")
        incidents = [
            Incident(**{**each, "waiting": tuple((asset, key) for asset, key in each["waiting"])})
            for each in fields.pop("open")
        ]
        pending = [Pending(Notification(**each["message"]), each["is_logged"]) for each in fields.pop("pending")]
        return Book(open=incidents, pending=pending, **fields)


def load_book(instance: dg.DagsterInstance, key: str = BOOK_KEY) -> Book:
    """The book as it was written last; an empty one at first. Each writer has a book of its own."""
    text = instance.daemon_cursor_storage.get_cursor_values({key}).get(key)
    return Book.from_json(text) if text else Book()


def save_book(instance: dg.DagsterInstance, book: Book, key: str = BOOK_KEY) -> None:
    instance.daemon_cursor_storage.set_cursor_values({key: book.to_json()})


def ask_dismissal(instance: dg.DagsterInstance, incident: Incident, words: str) -> None:
    """Ask whoever writes the incident's book to put it aside."""
    instance.daemon_cursor_storage.set_cursor_values({f"{DISMISSED_KEY}{incident.id}": words})


def asked_dismissals(instance: dg.DagsterInstance, incidents: Iterable[Incident]) -> dict[str, str]:
    """What people have asked to put aside of some incidents: id, with who and why."""
    keys = {f"{DISMISSED_KEY}{each.id}" for each in incidents if not each.dismissed}
    if not keys:
        return {}
    found = instance.daemon_cursor_storage.get_cursor_values(keys)
    return {key.removeprefix(DISMISSED_KEY): words for key, words in found.items()}


def live_incidents(instance: dg.DagsterInstance, books: Sequence[str] = (BOOK_KEY, STOPPED_KEY)) -> list[Incident]:
    """Open incidents of some books that nobody has put aside, the oldest first."""
    found = [each for key in books for each in load_book(instance, key).open if not each.dismissed]
    asked = asked_dismissals(instance, found)
    return sorted((each for each in found if each.id not in asked), key=lambda each: each.opened_at)


def span(partitions: Sequence[str]) -> str:
    """Partitions in a few words.

    Examples
    --------
    >>> span(["2013-02-24"]), span(["2013-01-06", "2013-02-24", "2013-02-17"])
    ('2013-02-24', '2013-01-06..2013-02-24 (3)')
    """
    keys = sorted(set(partitions))
    return keys[0] if len(keys) == 1 else f"{keys[0]}..{keys[-1]} ({len(keys)})"


def _stamp(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
