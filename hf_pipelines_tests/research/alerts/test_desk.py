"""Desk: one message for a storm, one for what lasts, nothing lost, through any order of what happens and any clock."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_pipelines.research.alerts.desk import (
    ENDED,
    MOST_ALERTS,
    NEW,
    NOTED,
    PASSED,
    STILL,
    WORSE,
    Alert,
    Desk,
    Due,
    Policy,
)
from hf_pipelines.research.alerts.quiet_hours import parse_quiet_hours

NOON = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
TICK = timedelta(seconds=30)
NIGHT = Policy(quiet=parse_quiet_hours("22:00-07:00", ZoneInfo("UTC")))


def alert(subject: str, *incidents: str, severity: str = "critical", kind: str = "run", moment: str = "") -> Alert:
    owner = subject.split("/")[0]
    ids = incidents or (() if moment else (f"{kind}-{subject}",))
    return Alert(kind, subject, owner, severity, subject, "cause", "remedy", "url", NOON, ids, moment=moment)


@dataclass
class Watched:
    """A desk, looked at every half minute."""

    policy: Policy = field(default_factory=Policy)
    now: datetime = NOON
    desk: Desk = field(default_factory=Desk)
    open: dict[str, Alert] = field(default_factory=dict)
    # Messages of each channel, the time among them.
    sent: list[tuple[str, datetime, Due]] = field(default_factory=list)
    dead: set[str] = field(default_factory=set)
    channels: tuple[str, ...] = ("desk",)

    def takes(self, channel: str, each: Alert) -> bool:
        return channel != "critical-only" or each.is_critical

    def look(self, *opened: Alert, healed: Sequence[str] = (), moments: Sequence[Alert] = ()) -> list[list[str]]:
        """One look; returns what was sent, an event and a subject for each item."""
        n_before = len(self.sent)
        self.open |= {each.open_ids[0]: each for each in opened}
        noted = [self.at_now(each) for each in (*self.open.values(), *moments)]
        for each in healed:
            self.open.pop(each, None)
        # As a restart finds it.
        self.desk = Desk.from_dict(json.loads(json.dumps(self.desk.to_dict())))
        self.desk.set_clock(self.now)
        self.desk.take(
            noted, endings=dict.fromkeys(healed, "it was mended"), open_incidents=self.open.keys(), now=self.now
        )
        for channel in self.channels:
            due = self.desk.due(channel, self.takes, self.policy, self.now)
            if due is not None and channel in self.dead:
                self.desk.refuse(channel, "no answer", MINUTE, self.now)
            elif due is not None:
                self.desk.record(channel, due, self.now)
                self.sent.append((channel, self.now, due))
        self.desk.forget(self.channels, self.takes, self.now)
        self.now += TICK
        return [[f"{item.event} {item.alert.subject}" for item in due.items] for _, _, due in self.sent[n_before:]]

    def wait(self, length: timedelta) -> list[list[str]]:
        """Looks of half a minute, in a longer time of ten."""
        found = []
        until, pause = self.now + length, timedelta() if length <= timedelta(minutes=30) else 10 * MINUTE - TICK
        while self.now < until:
            found += self.look()
            self.now += pause
        return found

    def at_now(self, each: Alert) -> Alert:
        return Alert(**{**each.__dict__, "noted_at": self.now})


def test_one_failure_is_told_after_a_minute_and_its_end_after_five():
    watched = Watched()
    assert watched.look(alert("a/bars")) == [] == watched.look()
    assert watched.look() == [["new a/bars"]]
    assert watched.wait(timedelta(hours=3)) == []
    assert watched.look(healed=["run-a/bars"]) == []
    # Five minutes after it has ended, and a minute in which nothing else came.
    assert watched.wait(6 * MINUTE - TICK) == [] and watched.look() == [["ended a/bars"]]
    assert watched.desk.alerts == {} and watched.desk.channel("desk").told == {}


def test_500_failures_in_a_minute_are_one_message_also_where_they_are_seen_over_five_looks():
    watched = Watched()
    for look in range(5):
        assert watched.look(*(alert(f"s{100 * look + at:03}/bars") for at in range(100))) == []
    (message,) = watched.wait(5 * MINUTE) + watched.wait(timedelta(hours=3))
    assert len(message) == 500 and all(each.startswith(NEW) for each in message)
    # Of one strategy's asset it is one item, counted.
    watched = Watched()
    watched.look(*(alert("a/bars", f"id{at}") for at in range(500)))
    (message,) = watched.wait(5 * MINUTE) + watched.wait(timedelta(hours=3))
    assert message == ["new a/bars"] and watched.desk.alerts["run a/bars"].n_incidents == 500


def test_storm_that_does_not_end_is_told_every_five_minutes():
    watched = Watched()
    sent = []
    for look in range(80):
        sent += watched.look(alert(f"s{look}/bars"))
    # Forty minutes of one new failure each half a minute.
    assert 7 <= len(sent) <= 8 and sum(map(len, sent)) >= 70


def test_what_is_open_is_told_once_a_day_and_again_if_it_becomes_more_serious():
    watched = Watched()
    watched.look(alert("a/bars", "first", severity="warning"))
    sent = watched.wait(timedelta(days=2, hours=12))
    assert sent == [["new a/bars"], ["still open a/bars"], ["still open a/bars"]]
    # A second incident of the same is no news; a more serious one is.
    watched.look(alert("a/bars", "second", severity="warning"))
    assert watched.wait(10 * MINUTE) == []
    assert watched.look(alert("a/bars", "third")) == [["worse a/bars"]]
    assert watched.wait(10 * MINUTE) == []
    # All must heal.
    assert watched.look(healed=["first", "third"]) == [] == watched.wait(10 * MINUTE)
    watched.look(healed=["second"])
    assert watched.wait(10 * MINUTE) == [["ended a/bars"]]


def test_what_fails_and_heals_in_turns_is_one_alert():
    watched, sent = Watched(), []
    for at in range(60):
        sent += watched.look(alert("a/bars", f"id{at}")) + watched.look() + watched.look(healed=[f"id{at}"])
    assert sent == [["new a/bars"]]
    assert watched.wait(timedelta(hours=1)) == [["ended a/bars"]]


def test_quiet_hours_keep_warnings_for_one_digest_and_never_what_is_critical():
    watched = Watched(NIGHT, datetime(2026, 11, 30, 21, 59, tzinfo=UTC))
    watched.look(alert("a/bars", severity="warning"))
    watched.wait(timedelta(hours=1))
    watched.look(
        alert("b/bars", severity="warning"), moments=[alert("m", severity="info", kind="promotion", moment="1")]
    )
    watched.look(alert("c/bars"))
    watched.look(healed=["run-a/bars"])
    assert watched.wait(timedelta(hours=4)) == [["new c/bars"]]
    watched.look(healed=["run-c/bars"])
    # Who was woken hears that it is over.
    assert watched.wait(timedelta(hours=1)) == [["ended c/bars"]]
    assert watched.wait(timedelta(hours=4)) == [["new b/bars", "noted m", "came and went a/bars"]]
    _, at, due = watched.sent[-1]
    # The first of these looks after seven.
    assert due.is_digest and not due.is_critical and f"{at:%H:%M}" == "07:01"
    assert watched.wait(timedelta(hours=12)) == []


def test_channel_that_is_away_is_told_all_when_it_is_back_and_given_up_what_ended_a_week_ago():
    watched = Watched(channels=("desk", "pager"), dead={"pager"})
    watched.look(alert("a/bars"), alert("b/bars"), moments=[alert("m", kind="promotion", moment="1")])
    watched.wait(timedelta(hours=1))
    watched.look(healed=["run-a/bars"])
    watched.wait(timedelta(hours=1))
    state = watched.desk.channel("pager")
    assert (state.n_sent, state.fault) == (0, "no answer") and state.refusals == state.n_refused > 0
    assert watched.desk.waiting("pager", watched.takes, watched.policy, watched.now) == 3
    watched.dead.clear()
    assert watched.look() == [["new b/bars", "noted m", "came and went a/bars"]]
    assert (watched.desk.channel("pager").fault, watched.desk.channel("pager").refusals) == ("", 0)
    watched.dead.add("pager")
    watched.look(alert("c/bars"))
    watched.look(healed=["run-c/bars"])
    watched.now += timedelta(days=8)
    watched.look(), watched.look()
    assert watched.desk.channel("pager").n_lost == 1 and "run c/bars" not in watched.desk.alerts


@pytest.mark.parametrize("back", [timedelta(hours=1), timedelta(days=400)], ids=["an hour", "a year"])
def test_clock_that_goes_back_delays_nothing_and_repeats_nothing(back):
    watched = Watched()
    watched.look(alert("a/bars")), watched.wait(5 * MINUTE)
    watched.look(alert("b/bars"))
    watched.now -= back
    assert watched.wait(3 * MINUTE) == [["new b/bars"]]
    assert watched.wait(timedelta(hours=25)) == [["still open a/bars", "still open b/bars"]]


def test_what_is_open_again_as_less_ends_for_a_channel_that_was_told_of_more():
    watched = Watched(channels=("desk", "critical-only"))
    watched.look(alert("a/bars", "first"))
    assert watched.wait(3 * MINUTE) == [["new a/bars"], ["new a/bars"]]
    watched.look(healed=["first"])
    watched.look(alert("a/bars", "second", severity="warning"))
    assert watched.wait(10 * MINUTE) == []
    watched.look(healed=["second"])
    assert watched.wait(10 * MINUTE) == [["ended a/bars"], ["ended a/bars"]]


def test_more_alerts_than_are_kept_are_counted():
    watched = Watched()
    watched.look(*(alert(f"s{at}/bars") for at in range(MOST_ALERTS + 7)))
    watched.look()
    assert (len(watched.desk.alerts), watched.desk.n_unkept) == (MOST_ALERTS, 7)


SUBJECTS = ("a/bars", "b/bars", "momentum/signals")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["open", "heal", "note", "kill", "revive", "back", "wait"]),
        st.sampled_from(SUBJECTS),
        st.sampled_from(["warning", "critical"]),
        st.integers(1, 900),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, hour=st.integers(0, 23))
def test_any_order_of_events_tells_each_channel_once_in_turn_and_in_the_end_everything(steps, hour):
    watched = Watched(NIGHT, NOON.replace(hour=hour), channels=("desk", "critical-only"))
    for at, (what, subject, severity, minutes) in enumerate(steps):
        if what == "open":
            watched.look(alert(subject, f"{subject}-{at}", severity=severity))
        elif what == "heal":
            watched.look(healed=[each for each in watched.open if each.startswith(subject)])
        elif what == "note":
            watched.look(moments=[alert(subject, severity=severity, kind="promotion", moment=str(at))])
        elif what in ("kill", "revive"):
            (watched.dead.add if what == "kill" else watched.dead.discard)("desk")
        elif what == "back":
            watched.now -= minutes * MINUTE
        else:
            watched.now += minutes * MINUTE
        watched.look()
    watched.dead.clear()
    watched.wait(timedelta(hours=20)), watched.wait(10 * MINUTE)
    for channel, at, due in watched.sent:
        assert due.items and (channel != "critical-only" or all(each.alert.is_critical for each in due.items))
        # Nothing but what is critical in quiet hours.
        assert not NIGHT.is_quiet(at) or all(each.alert.is_critical for each in due.items)
    for channel in watched.channels:
        state: dict[str, str] = {}
        for item in (item for name, _, due in watched.sent if name == channel for item in due.items):
            before = state.get(item.alert.key)
            # Dedupe: nothing is new twice without an end in between; only what was told can go on, get worse or end.
            assert (item.event in (NEW, NOTED, PASSED)) == (before is None), (item, before)
            assert item.event in (NEW, NOTED, PASSED, STILL, WORSE, ENDED)
            if item.event in (ENDED, PASSED):
                state.pop(item.alert.key, None)
            else:
                state[item.alert.key] = item.event
        # In the end it knows what is open, and of nothing else.
        is_open = {each.key for each in watched.desk.alerts.values() if each.open_ids and watched.takes(channel, each)}
        assert {key for key, event in state.items() if event != NOTED} == is_open
