"""Alert desk: what was noticed goes to channels, and what they were told is remembered over restarts.

Lives here: keeping the desk's state, one process at a time, and the rounds of sending. Does not live here: what is due
(`research.alerts.desk`), how a message is sent (`alert_channels`).

The state is one value in the instance's own database, beside the book of incidents. A message is sent first and recorded then: a process
that dies in between sends it again (at least once). Of two daemons that look at once the second one waits, and finds what the first has told.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

import dagster as dg
from filelock import FileLock, Timeout

from hf_pipelines.research.alerts.desk import LONGEST_PAUSE, NEW, Alert, Desk, Due, Item
from hf_pipelines.research.alerts.kinds import CRITICAL, INFO, WARNING, kind_of
from hf_pipelines.research.alerts.wording import message_of
from hf_pipelines.resources import settings
from hf_pipelines.resources.alert_channels import UnusableChannelError, limit_of, send
from hf_pipelines.resources.alert_settings import AlertChannel, AlertSettings, alert_settings
from hf_pipelines.resources.notifier import Notification
from hf_pipelines.resources.redaction import redacted
from hf_pipelines.resources.webhook import NotDeliveredError

# Added to the key of a book.
DESK_SUFFIX = "/alerts"

# A tick has a minute; channels that are not reached within this part of it are by the next one.
ROUND_S = 10.0
# Another process may be in such a round, with its last channel to come.
LOCK_S = 22.0

Noted = Callable[[set[str]], Sequence[Alert]]

SEVERITY_OF = {"ERROR": CRITICAL, "WARN": WARNING, "INFO": INFO}


def alert_of(message: Notification, *, check: str, now: datetime, is_open: bool) -> Alert:
    """What a person is to be told of an incident, or of what has happened and does not last."""
    subject = f"{message.asset} {check}".strip()
    kind = kind_of(message.kind, message.asset, check)
    return Alert(
        kind=kind,
        subject=subject,
        # A part of the automation belongs to no strategy.
        owner="" if message.kind == "stopped" else message.asset.partition("/")[0],
        severity=SEVERITY_OF.get(message.severity, CRITICAL),
        what=redacted(f"{f'{check} of ' if check else ''}{message.asset} {message.partition}".strip()),
        cause=redacted(message.cause),
        remedy=redacted(message.remedy),
        url=redacted(message.url),
        noted_at=now,
        open_ids=(message.id,) if is_open else (),
        moment="" if is_open else message.id,
    )


@dataclass
class DeskKeeper:
    """Looks after the desk of one book.

    Parameters
    ----------
    key : str
        Of the book.
    away : tuple of exception types
        Raised while the database is away, and waited out: what was told is then kept in memory.
    """

    instance: dg.DagsterInstance
    key: str
    log: Any
    away: tuple[type[Exception], ...] = ()
    _kept: str = field(default="", repr=False)

    def round(
        self,
        noted: Noted,
        endings: Mapping[str, str],
        open_incidents: Sequence[str],
        now: datetime,
        *,
        tells: bool = True,
    ) -> None:
        """Take what has come, tell each channel what is due, and remember it; a failing channel fails nothing.

        Parameters
        ----------
        noted : callable of set of str
            Alerts that have come, given the ids of the incidents that are known.
        endings, open_incidents
            As `Desk.take` has them.
        tells : bool
            Without, nothing is sent.
        """
        found: AlertSettings | None = None
        try:
            found = alert_settings()
        except ValueError as e:
            self.log.warning(f"alerts are not sent: {e}")
        with ExitStack() as held:
            try:
                lock = settings.data_dir() / f"{self.key.replace('/', '_')}.lock"
                lock.parent.mkdir(parents=True, exist_ok=True)
                held.enter_context(FileLock(lock, timeout=LOCK_S))
            except Timeout:
                self.log.warning("another process sends alerts; these are sent at the next look")
                return
            except OSError as e:
                # A full or lost disk is itself an alert.
                self.log.warning(f"alerts are sent without a lock: {e.strerror}")
            self._round(found, noted, endings, open_incidents, now, tells=tells)

    def _round(
        self,
        found: AlertSettings | None,
        noted: Noted,
        endings: Mapping[str, str],
        open_incidents: Sequence[str],
        now: datetime,
        *,
        tells: bool,
    ) -> None:
        before = self._load()
        desk = Desk.from_dict(json.loads(before)) if before else Desk()
        desk.set_clock(now)
        desk.take(noted(desk.known_incidents), endings=endings, open_incidents=open_incidents, now=now)
        # Settings that cannot be used say nothing of which channels are gone.
        if found is not None:
            if tells:
                self._tell_all(desk, found, now)
            desk.forget(found.names, found.takes, now)
        if _text(desk) != before:
            self._save(desk)

    def _tell_all(self, desk: Desk, found: AlertSettings, now: datetime) -> None:
        deadline = monotonic() + ROUND_S
        # Those that do not answer come last: they may take the time of the others.
        for channel in sorted(found.channels, key=lambda each: desk.channel(each.name).refusals):
            retry_at = desk.channel(channel.name).retry_at
            if monotonic() < deadline and (retry_at is None or retry_at <= now):
                self._tell(desk, channel, found, now)

    def _tell(self, desk: Desk, channel: AlertChannel, found: AlertSettings, now: datetime) -> None:
        due = desk.due(channel.name, found.takes, found.policy, now)
        if due is None:
            return
        try:
            send(channel, message_of(due, zone=found.zone, limit=limit_of(channel)))
        except (NotDeliveredError, UnusableChannelError) as e:
            desk.refuse(channel.name, redacted(str(e)), pause_after(desk.channel(channel.name).refusals + 1), now)
            self.log.warning(f"{e}; {len(due.items)} alerts wait, and are sent again later")
        else:
            desk.record(channel.name, due, now)
        self._save(desk)

    def _load(self) -> str:
        with suppress(*self.away):
            self._kept = _stored_text(self.instance, self.key)
        return self._kept

    def _save(self, desk: Desk) -> None:
        self._kept = _text(desk)
        with suppress(*self.away):
            self.instance.daemon_cursor_storage.set_cursor_values({self.key + DESK_SUFFIX: self._kept})


def _text(desk: Desk) -> str:
    return json.dumps(desk.to_dict(), sort_keys=True)


def _stored_text(instance: dg.DagsterInstance, key: str) -> str:
    found: str | None = instance.daemon_cursor_storage.get_cursor_values({key + DESK_SUFFIX}).get(key + DESK_SUFFIX)
    return found or ""


def load_desk(instance: dg.DagsterInstance, key: str) -> Desk:
    """The desk of a book as it was kept last; an empty one at first."""
    text = _stored_text(instance, key)
    return Desk.from_dict(json.loads(text)) if text else Desk()


@dataclass(frozen=True)
class ChannelStatus:
    """How a channel has fared, over all books.

    Attributes
    ----------
    n_sent, n_refused, n_lost : int
        Messages that it took, tries that it refused, and alerts that were given up.
    waiting : int
        Alerts that it has still to be told of.
    fault : str
        Why it took nothing the last time, "" if it did.
    """

    name: str
    n_sent: int
    n_refused: int
    n_lost: int
    waiting: int
    fault: str


def channel_statuses(instance: dg.DagsterInstance, keys: Sequence[str], now: datetime) -> list[ChannelStatus]:
    """Every channel of the environment, and how it has fared by the desks of some books."""
    found = alert_settings()
    desks = [load_desk(instance, key) for key in keys]
    statuses = []
    for name in found.names:
        states = [desk.channel(name) for desk in desks]
        statuses.append(
            ChannelStatus(
                name,
                n_sent=sum(each.n_sent for each in states),
                n_refused=sum(each.n_refused for each in states),
                n_lost=sum(each.n_lost for each in states),
                waiting=sum(desk.waiting(name, found.takes, found.policy, now) for desk in desks),
                fault=next((each.fault for each in states if each.fault), ""),
            )
        )
    return statuses


def send_now(alert: Alert) -> list[str]:
    """Send one alert to each channel that it is routed to, at once, whatever the hour, and remember nothing.

    Returns
    -------
    list of str
        Why channels did not take it.
    """
    found, faults = alert_settings(), []
    for channel in found.channels:
        if found.takes(channel.name, alert):
            try:
                send(channel, message_of(Due((Item(NEW, alert),)), zone=found.zone, limit=limit_of(channel)))
            except (NotDeliveredError, UnusableChannelError) as e:
                faults.append(str(e))
    return faults


def pause_after(refusals: int) -> timedelta:
    """How long who takes nothing is left alone: until the next look, then ever longer."""
    if refusals <= 1:
        return timedelta()
    pause: timedelta = settings.tick_seconds() * 2 ** min(refusals, 16) * timedelta(seconds=1)
    return min(pause, LONGEST_PAUSE)
