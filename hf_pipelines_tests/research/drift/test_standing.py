"""Standing: an alarm is raised once, after three clear sessions, and is over after five quiet ones."""

from datetime import date, timedelta

import pytest

from hf_pipelines.research.drift.standing import Standing, next_standing

FIRST = date(2024, 1, 1)


def played(calls: str) -> list[Standing]:
    """Where a call stands after each session: `+` clear, `~` called, `-` not, `?` cannot be judged."""
    state, found = Standing(), []
    for place, each in enumerate(calls):
        day = FIRST + timedelta(days=place)
        state = next_standing(state, {"-": False, "?": None}.get(each, True), day, since=day, is_clear=each == "+")
        found.append(state)
    return found


@pytest.mark.parametrize(
    ("calls", "raised"),
    [
        pytest.param("++-++-++", "........", id="never three in a row"),
        pytest.param("+++++", "..###", id="raised by the third"),
        pytest.param("+++----+----+", "..###########", id="four quiet ones are not the end"),
        pytest.param("+++~----~----~", "..############", id="kept by any call"),
        pytest.param("+++-----+++", "..#####...#"[:7] + "...#", id="over after five, raised anew"),
        pytest.param("~~~~++~+~", ".........", id="never clear three times in a row"),
        pytest.param("~~~~-~~~~~~~~~+~", "..............##", id="raised by ten calls, clear or not"),
        pytest.param("++?+", "...#", id="what cannot be judged changes nothing"),
    ],
)
def test_alarm_lasts_as_calls_do(calls, raised):
    found = "".join("#" if each.is_raised else "." for each in played(calls))
    assert found == raised


def test_alarm_keeps_who_raised_it_and_since_when():
    state = played("+++-+")[-1]
    assert state.raised_on == state.since == FIRST + timedelta(days=2)
    assert played("+++-----")[-1] == Standing(n_quiet=5)
    # By default each call is clear.
    assert next_standing(Standing(n_called=2, n_clear=2), True, FIRST).is_raised
