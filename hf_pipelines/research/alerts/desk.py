"""Desk: what is open, what each channel was told of it, and so what is to be told now.

Lives here: one state and its steps, pure functions of the time. Does not live here: the words (`wording`), sending and keeping the state
(`resources.alert_desk`).

An alert is one thing: a kind and a subject. Further incidents of the same are counted, not told. A channel hears of it when it opens, when
it becomes more serious, once a day while it is open, and when it has ended; what opened and ended before the channel could be told comes as
one line. Whatever is due goes into one message, and that waits until nothing new has come for a while (`gather`): 500 failures in a minute
are one message. In quiet hours only what is critical is told; the rest waits, and is one digest after them.

An end is told after it has lasted (`settle`): what fails and heals in turns is one alert. What was never told to a channel because it was
away for a week is given up, and counted.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from hf_pipelines.research.alerts.kinds import CRITICAL, SEVERITIES
from hf_pipelines.research.alerts.quiet_hours import QuietHours

# What one thing may have to be told for.
NEW, WORSE, STILL, ENDED, PASSED, NOTED = EVENTS = ("new", "worse", "still open", "ended", "came and went", "noted")

# As often as so many `gather` may a storm put its message off.
MOST_GATHERS = 5

# A channel that is away for longer is not told of what ended meanwhile.
GIVEN_UP_AFTER = timedelta(days=7)

# Open things beyond these are counted and not kept; a project has some ten assets a strategy.
MOST_ALERTS = 2000
MOST_CAUSE = 300
FORGOTTEN = "it is no longer watched"

# A channel that takes nothing is tried at the next look, then ever more rarely.
LONGEST_PAUSE = timedelta(minutes=10)


@dataclass(frozen=True)
class Policy:
    """How patient a desk is.

    Attributes
    ----------
    gather : timedelta
        Without anything new for so long, what waits is told.
    remind : timedelta
        What is open is told again after so long.
    quiet : QuietHours, optional
    """

    gather: timedelta = timedelta(minutes=1)
    remind: timedelta = timedelta(days=1)
    quiet: QuietHours | None = None

    @property
    def settle(self) -> timedelta:
        """An end that has lasted for so long is one."""
        return MOST_GATHERS * self.gather

    def is_quiet(self, at: datetime) -> bool:
        return self.quiet is not None and self.quiet.covers(at)


@dataclass(frozen=True)
class Alert:
    """One thing that went wrong, or that happened.

    Attributes
    ----------
    kind : str
        One of KINDS.
    subject : str
        What it is about: an asset, a check of an asset, a part of the automation.
    owner : str
        Strategy or market, "" of none.
    severity : str
    what, cause, remedy, url : str
        For a person.
    noted_at : datetime
        When the desk heard of it first.
    open_ids : tuple of str
        Incidents that have not healed; of what has ended none.
    n_incidents : int
        Since it opened.
    moment : str
        Id of something that has happened and does not last, such as a promotion; "" of what is open or has ended.
    ended_at : datetime, optional
        None while it is open.
    ending : str
        Why it has ended.
    """

    kind: str
    subject: str
    owner: str
    severity: str
    what: str
    cause: str
    remedy: str
    url: str
    noted_at: datetime
    open_ids: tuple[str, ...] = ()
    n_incidents: int = 1
    moment: str = ""
    ended_at: datetime | None = None
    ending: str = ""

    @property
    def key(self) -> str:
        return " ".join(filter(None, (self.kind, self.subject, self.moment)))

    @property
    def is_critical(self) -> bool:
        return self.severity == CRITICAL


@dataclass(frozen=True)
class Told:
    """What a channel knows of an alert: since when, how serious, and whether that it has ended."""

    at: datetime
    severity: str
    is_ended: bool = False


@dataclass(frozen=True)
class Item:
    """One alert in a message, and why it is in it."""

    event: str
    alert: Alert


@dataclass(frozen=True)
class Due:
    """A message to one channel.

    Attributes
    ----------
    is_digest : bool
        Whether some of it has waited for the end of the quiet hours.
    """

    items: tuple[Item, ...]
    is_digest: bool = False

    @property
    def is_critical(self) -> bool:
        return any(_is_loud(each) for each in self.items)


@dataclass
class Channel:
    """How a channel is, and what it knows.

    Attributes
    ----------
    n_sent, n_lost : int
        Messages that it took, and alerts that were given up.
    refusals, n_refused : int
        How often in a row, and in all, it took nothing.
    retry_at : datetime, optional
        Before then it is not tried again.
    fault : str
        Why it took nothing the last time, "" if it did.
    """

    told: dict[str, Told] = field(default_factory=dict)
    n_sent: int = 0
    n_lost: int = 0
    refusals: int = 0
    n_refused: int = 0
    retry_at: datetime | None = None
    sent_at: datetime | None = None
    fault: str = ""


Takes = Callable[[str, Alert], bool]


@dataclass
class Desk:
    """Alerts by key, and channels by name."""

    alerts: dict[str, Alert] = field(default_factory=dict)
    channels: dict[str, Channel] = field(default_factory=dict)
    # Beyond MOST_ALERTS.
    n_unkept: int = 0

    def take(
        self, noted: Iterable[Alert], *, endings: Mapping[str, str], open_incidents: Collection[str], now: datetime
    ) -> None:
        """Take what has come, and what has ended, since the last look.

        Parameters
        ----------
        noted : iterable of Alert
            Incidents that have opened or are open (of what is known already nothing changes), and moments.
        endings : mapping of incident id to str
            What has healed or was put aside, and why.
        open_incidents : collection of str
            Ids of all incidents that are open; what is none of them has ended.
        """
        self.n_unkept = 0
        for each in noted:
            self._note(each)
        known = set(open_incidents)
        for key, each in self.alerts.items():
            gone = {incident for incident in each.open_ids if incident not in known or incident in endings}
            if gone:
                ending = next((endings[incident] for incident in each.open_ids if incident in endings), FORGOTTEN)
                left = tuple(incident for incident in each.open_ids if incident not in gone)
                ended = replace(each, open_ids=(), ended_at=now, ending=ending[:MOST_CAUSE])
                self.alerts[key] = replace(each, open_ids=left) if left else ended

    def _note(self, alert: Alert) -> None:
        known = self.alerts.get(alert.key)
        cut = replace(alert, cause=alert.cause[:MOST_CAUSE])
        if known is None:
            if len(self.alerts) < MOST_ALERTS:
                self.alerts[alert.key] = cut
            else:
                self.n_unkept += 1
        elif not alert.moment and not set(alert.open_ids) <= set(known.open_ids):
            # What is open again after it had ended is described as it is now.
            latest = cut if known.ended_at is not None else known
            self.alerts[alert.key] = replace(
                latest,
                noted_at=known.noted_at,
                # It never falls: a channel of what is critical must hear the end of what it was told of.
                severity=max(known.severity, alert.severity, key=SEVERITIES.index),
                open_ids=tuple(dict.fromkeys((*known.open_ids, *alert.open_ids))),
                n_incidents=known.n_incidents + 1,
            )

    @property
    def known_incidents(self) -> set[str]:
        """Ids of incidents that are open as far as the desk knows."""
        return {incident for each in self.alerts.values() for incident in each.open_ids}

    def due(self, channel: str, takes: Takes, policy: Policy, now: datetime) -> Due | None:
        """What a channel is to be told now; None if nothing, or not yet.

        Parameters
        ----------
        takes : callable of (channel, alert) to bool
            Whether an alert is routed to a channel.
        """
        told = self.channel(channel).told
        found = [
            (item, since)
            for each in self.alerts.values()
            if takes(channel, each)
            for item, since in _due_of(each, told.get(each.key), policy, now)
        ]
        if policy.is_quiet(now):
            found = [(item, since) for item, since in found if _is_loud(item)]
        ages = [now - since for _, since in found]
        if not found or (min(ages) < policy.gather and max(ages) < MOST_GATHERS * policy.gather):
            return None
        # Nothing waits in quiet hours but what is no digest.
        is_digest = not policy.is_quiet(now) and any(
            policy.is_quiet(since) and not _is_loud(item) and item.event != STILL for item, since in found
        )
        return Due(tuple(sorted((item for item, _ in found), key=_rank)), is_digest)

    def record(self, channel: str, due: Due, now: datetime) -> None:
        """A channel has taken a message."""
        state = self.channel(channel)
        for each in due.items:
            is_ended = each.event in (ENDED, PASSED)
            state.told[each.alert.key] = Told(now, each.alert.severity, is_ended)
        state.n_sent += 1
        state.refusals, state.retry_at, state.fault, state.sent_at = 0, None, "", now

    def refuse(self, channel: str, fault: str, pause: timedelta, now: datetime) -> None:
        """A channel has taken nothing, and is left alone for a while."""
        state = self.channel(channel)
        state.refusals += 1
        state.n_refused += 1
        state.retry_at, state.fault = now + pause, fault

    def forget(self, channels: Iterable[str], takes: Takes, now: datetime) -> None:
        """Drop channels that are gone, and alerts that have ended and that every channel knows of, or was away for too long."""
        names = [*channels]
        self.channels = {name: self.channel(name) for name in names}
        for key, each in [*self.alerts.items()]:
            if each.open_ids:
                continue
            waiting = [name for name in names if takes(name, each) and not self._knows_end(name, each)]
            since = each.ended_at or each.noted_at
            if waiting and now - since < GIVEN_UP_AFTER:
                continue
            for name in waiting:
                self.channel(name).n_lost += 1
            del self.alerts[key]
        for state in self.channels.values():
            state.told = {key: each for key, each in state.told.items() if key in self.alerts}

    def set_clock(self, now: datetime) -> None:
        """After a clock that went back nothing lies ahead: else what is due would wait for as long."""
        for state in self.channels.values():
            state.told = {key: replace(each, at=min(each.at, now)) for key, each in state.told.items()}
            if state.retry_at is not None:
                state.retry_at = min(state.retry_at, now + LONGEST_PAUSE)
        for key, each in self.alerts.items():
            if each.noted_at > now or (each.ended_at is not None and each.ended_at > now):
                ended = None if each.ended_at is None else min(each.ended_at, now)
                self.alerts[key] = replace(each, noted_at=min(each.noted_at, now), ended_at=ended)

    def waiting(self, channel: str, takes: Takes, policy: Policy, now: datetime) -> int:
        """Alerts that a channel has still to be told of, in quiet hours as well."""
        told = self.channel(channel).told
        return sum(
            bool(_due_of(each, told.get(each.key), policy, now))
            for each in self.alerts.values()
            if takes(channel, each)
        )

    def channel(self, name: str) -> Channel:
        return self.channels.setdefault(name, Channel())

    def _knows_end(self, name: str, alert: Alert) -> bool:
        told = self.channel(name).told.get(alert.key)
        return told is not None and (told.is_ended or bool(alert.moment))

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "alerts": {key: _plain(vars(each)) for key, each in self.alerts.items()},
            "channels": {
                name: {**_plain(vars(each)), "told": {key: _plain(vars(told)) for key, told in each.told.items()}}
                for name, each in self.channels.items()
            },
            "n_unkept": self.n_unkept,
        }

    @staticmethod
    def from_dict(given: Mapping[str, Any]) -> "Desk":
        alerts = {key: _alert_of(each) for key, each in given["alerts"].items()}
        channels = {name: _channel_of(each) for name, each in given["channels"].items()}
        return Desk(alerts, channels, given["n_unkept"])


def _due_of(alert: Alert, told: Told | None, policy: Policy, now: datetime) -> list[tuple[Item, datetime]]:
    """Why a channel is to be told of an alert, and since when; at most one item."""
    if alert.moment:
        return [] if told is not None else [(Item(NOTED, alert), alert.noted_at)]
    if alert.ended_at is not None:
        settled = alert.ended_at + policy.settle
        if (told is not None and told.is_ended) or now < settled:
            return []
        return [(Item(PASSED if told is None else ENDED, alert), settled)]
    if told is None or told.is_ended:
        return [(Item(NEW, alert), alert.noted_at)]
    if SEVERITIES.index(alert.severity) > SEVERITIES.index(told.severity):
        return [(Item(WORSE, alert), told.at)]
    reminder = told.at + policy.remind
    return [(Item(STILL, alert), reminder)] if now >= reminder else []


def _is_loud(item: Item) -> bool:
    """Whether it is told in quiet hours."""
    return item.alert.is_critical


def _rank(item: Item) -> tuple[int, int, datetime, str]:
    """Order within a message: what is new first, the most serious first."""
    order = (NEW, WORSE, NOTED, STILL, ENDED, PASSED)
    return (order.index(item.event), -SEVERITIES.index(item.alert.severity), item.alert.noted_at, item.alert.key)


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as JSON values."""
    return {name: each.isoformat() if isinstance(each, datetime) else each for name, each in fields.items()}


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _alert_of(given: Mapping[str, Any]) -> Alert:
    times = {"noted_at": datetime.fromisoformat(given["noted_at"]), "ended_at": _time(given["ended_at"])}
    return Alert(**{**given, **times, "open_ids": tuple(given["open_ids"])})


def _channel_of(given: Mapping[str, Any]) -> Channel:
    told = {key: Told(**{**each, "at": datetime.fromisoformat(each["at"])}) for key, each in given["told"].items()}
    times = {name: _time(given[name]) for name in ("retry_at", "sent_at")}
    return Channel(**{**given, **times, "told": told})
