"""Triggers: an alarm asks once, after a rest, and not too often in a quarter."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from hf_pipelines.research.drift.standing import Standing
from hf_pipelines.research.drift.triggers import Asked, Triggers, alarm_of, next_refit

NOW = datetime(2026, 5, 20, 12, tzinfo=UTC)
KINDS = ("drift", "decay", "accuracy", "age")
QUIET = dict.fromkeys(KINDS, Standing())
RAISED = Standing(True, 3, 0, date(2026, 5, 18))


def asks(triggers=None, *, standing=None, answered=(), asked_at=(), now=NOW):
    triggers = Triggers(KINDS) if triggers is None else triggers
    return next_refit(triggers, standing or QUIET | {"drift": RAISED}, answered=answered, asked_at=asked_at, now=now)


def test_nothing_asks_by_default_nor_an_alarm_that_is_not_named_nor_one_that_does_not_stand():
    assert asks(Triggers()) is None
    assert asks(Triggers(("decay", "age"))) is None
    assert asks(standing=QUIET) is None
    assert asks(standing=QUIET | {"drift": Standing(n_called=2)}) is None


def test_alarm_that_lasts_asks_once_and_the_next_one_again():
    found = asks()
    assert found == Asked("drift", "drift 2026-05-18") and found.alarm == alarm_of("drift", RAISED)
    assert asks(answered=[found.alarm]) is None
    later = Standing(True, 3, 0, date(2026, 5, 19))
    assert asks(standing=QUIET | {"drift": later}, answered=[found.alarm]) == Asked("drift", "drift 2026-05-19")


def test_two_alarms_ask_in_the_order_of_the_triggers_the_second_after_the_rest():
    both = QUIET | {"drift": RAISED, "age": RAISED}
    assert asks(Triggers(("age", "drift")), standing=both) == Asked("age", "age 2026-05-18")
    answered = ["age 2026-05-18"]
    rests = asks(
        Triggers(("age", "drift")), standing=both, answered=answered, asked_at=[NOW - timedelta(days=6, hours=23)]
    )
    assert rests == (
        "alarm drift 2026-05-18 asks for a refit after 2026-05-20 13:00: the last one was asked for at 2026-05-13 13:00"
    )
    asked = asks(Triggers(("age", "drift")), standing=both, answered=answered, asked_at=[NOW - timedelta(days=7)])
    assert asked == Asked("drift", "drift 2026-05-18")


@pytest.mark.parametrize(
    ("asked_at", "is_asked"),
    [
        ([datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 4, 20, tzinfo=UTC)], False),
        # The last moment of the quarter before does not count.
        ([datetime(2026, 3, 31, 23, 59, tzinfo=UTC), datetime(2026, 4, 20, tzinfo=UTC)], True),
    ],
)
def test_no_more_are_asked_for_in_a_quarter_than_allowed(asked_at, is_asked):
    found = asks(Triggers(KINDS, most_a_quarter=2), asked_at=asked_at)
    assert isinstance(found, Asked) is is_asked
    if not is_asked:
        assert found == "alarm drift 2026-05-18 asks for no refit: 2 were asked for in this quarter, 2 are allowed"


@pytest.mark.parametrize("seed", range(20))
def test_any_life_of_alarms_asks_once_each_apart_by_the_rest_and_within_the_quarter(seed):
    rng = np.random.default_rng(seed)
    triggers = Triggers(KINDS, cooldown_days=int(rng.integers(1, 20)), most_a_quarter=int(rng.integers(1, 5)))
    answered, asked_at = [], []
    standing = dict(QUIET)
    for day in range(400):
        now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day, hours=float(rng.uniform(0, 23)))
        for kind in KINDS:
            if rng.uniform() < 0.1:
                standing[kind] = Standing() if standing[kind].is_raised else Standing(True, 3, 0, now.date())
        if isinstance(found := asks(triggers, standing=standing, answered=answered, asked_at=asked_at, now=now), Asked):
            answered.append(found.alarm)
            asked_at.append(now)
    assert len(answered) == len({*answered}) > 3
    assert min(np.diff(asked_at)) >= timedelta(days=triggers.cooldown_days)
    quarters = [(each.year, (each.month - 1) // 3) for each in asked_at]
    assert max(map(quarters.count, quarters)) <= triggers.most_a_quarter
