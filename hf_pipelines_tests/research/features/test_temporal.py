"""Temporal features: agreement with pandas, holidays of a real exchange, and what was known of them when."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import exchange_calendars
import numpy as np
import pandas as pd
import polars as pl
import pytest

from hf_pipelines.research.features import Feature, build_panel, compute_features, feature_frame, group_names
from hf_pipelines.research.features.panel import CalendarChange
from hf_pipelines_tests.sample_bars import bars_of, random_bars, weekdays

HOLIDAYS = ["days_to_holiday", "days_since_holiday"]
STARTS_AND_ENDS = ["is_month_start", "is_month_end", "is_quarter_start", "is_quarter_end"]


def _exchange(name: str, first: str, last: str) -> dict[str, Any]:
    """Sessions and planned holidays as a market would give them."""
    calendar = exchange_calendars.get_calendar(name, start=first, end=last)
    planned = calendar.regular_holidays.holidays(first, last) if calendar.regular_holidays is not None else []
    return {
        "sessions": [ts.date() for ts in calendar.sessions],
        "planned_holidays": [ts.date() for ts in planned],
    }


@pytest.fixture(scope="module")
def new_york() -> dict[str, Any]:
    return _exchange("XNYS", "1990-01-01", "2025-12-31")


def _temporal(days: Sequence[date], names: Sequence[str], **given: Any) -> pl.DataFrame:
    return compute_features(bars_of("A", [1.0] * len(days), days=list(days)), names, **given)


def test_temporal_agrees_with_pandas_over_leap_years_and_before_1970():
    days = weekdays(1300, start=date(2019, 12, 30)) + weekdays(5, start=date(2030, 12, 30))
    days = weekdays(300, start=date(1968, 1, 1)) + days
    names = {name: name for name in ("day_of_week", "month", "quarter", "day_of_year")} | {"day_of_month": "day"}
    features = _temporal(days, list(names))
    expected = pd.DatetimeIndex(pd.to_datetime(days))
    for name, attribute in names.items():
        np.testing.assert_array_equal(features[name], getattr(expected, attribute), err_msg=name)


def test_cycles_agree_with_pandas_and_have_radius_one():
    days = [date(1999, 12, 27) + timedelta(days=offset) for offset in range(2000)]
    index = pd.DatetimeIndex(pd.to_datetime(days))
    turns = {
        "day_of_week": index.dayofweek / 7,
        "day_of_month": (index.day - 1) / index.days_in_month,
        "month": (index.month - 1) / 12,
        "day_of_year": (index.dayofyear - 1) / np.where(index.is_leap_year, 366, 365),
    }
    features = _temporal(days, [f"{name}_{side}" for name in turns for side in ("sin", "cos")])
    for name, turn in turns.items():
        np.testing.assert_allclose(features[f"{name}_sin"], np.sin(2 * np.pi * turn), atol=1e-7, err_msg=name)
        np.testing.assert_allclose(features[f"{name}_cos"], np.cos(2 * np.pi * turn), atol=1e-7, err_msg=name)
        np.testing.assert_allclose(features[f"{name}_sin"] ** 2 + features[f"{name}_cos"] ** 2, 1.0, atol=1e-6)


def test_cycles_by_hand_start_at_the_top_and_turn_a_quarter_by_april():
    features = _temporal([date(2024, 1, 1), date(2024, 4, 1)], ["month_sin", "month_cos"])
    np.testing.assert_allclose(features["month_sin"], [0.0, 1.0], atol=1e-7)
    np.testing.assert_allclose(features["month_cos"], [1.0, 0.0], atol=1e-7)


def test_week_of_month_by_hand():
    days = [date(2024, 1, day) for day in (1, 7, 8, 28, 29, 31)]
    assert _temporal(days, ["week_of_month"])["week_of_month"].to_list() == [1.0, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_is_month_end_follows_the_calendar_over_a_holiday_by_hand():
    # Good Friday, 29 March 2024: the month's last session is Thursday the 28th.
    days = [date(2024, 3, 27), date(2024, 3, 28), date(2024, 4, 1)]
    features = _temporal(days, ["is_month_end", "is_quarter_end"], sessions=[*days, date(2024, 4, 2)])
    assert features["is_month_end"].to_list() == [0.0, 1.0, 0.0]
    assert features["is_quarter_end"].to_list() == [0.0, 1.0, 0.0]


def test_is_month_end_counts_december_against_january():
    days = [date(2024, 12, 31)]
    features = _temporal(days, ["is_month_end", "is_quarter_end"], sessions=[*days, date(2025, 1, 2)])
    assert features.row(0)[3:] == (1.0, 1.0)


def test_month_start_follows_the_calendar_over_a_closed_first_day_by_hand():
    # New Year's Day and, in 2007, a state funeral on the 2nd: the year's first session is the 3rd.
    days = [date(2006, 12, 29), date(2007, 1, 3), date(2007, 1, 4), date(2007, 2, 1)]
    sessions = [date(2006, 12, 28), *days, date(2007, 2, 2)]
    features = _temporal(days, ["is_month_start", "is_quarter_start"], sessions=sessions)
    assert features["is_month_start"].to_list() == [0.0, 1.0, 0.0, 1.0]
    assert features["is_quarter_start"].to_list() == [0.0, 1.0, 0.0, 0.0]


def test_starts_and_ends_agree_with_pandas_over_36_years_of_new_york(new_york):
    days = new_york["sessions"][1:-1]
    features = _temporal(days, STARTS_AND_ENDS, sessions=new_york["sessions"])
    sessions = pd.Series(pd.to_datetime(new_york["sessions"]))
    for unit, period in (("month", "M"), ("quarter", "Q")):
        grouped = sessions.groupby(sessions.dt.to_period(period))
        for side, expected in (("start", grouped.transform("min")), ("end", grouped.transform("max"))):
            expected = (expected == sessions).astype(float)[1:-1]
            np.testing.assert_array_equal(features[f"is_{unit}_{side}"], expected, err_msg=f"{unit} {side}")


def test_holidays_around_thanksgiving_2023_by_hand(new_york):
    # Thanksgiving is Thursday the 23rd; Friday the 24th is a half day, and so a session.
    days = [date(2023, 11, day) for day in (20, 21, 22, 24, 27, 28)]
    features = _temporal(days, HOLIDAYS, **new_york)
    # From the 24th Christmas is 21 weekdays away, from the 27th 20, from the 28th 19.
    assert features["days_to_holiday"].to_list() == [3.0, 2.0, 1.0, 20.0, 20.0, 19.0]
    # Labour Day, 4 September, is more than 20 weekdays ago.
    assert features["days_since_holiday"].to_list() == [20.0, 20.0, 20.0, 1.0, 2.0, 3.0]


def test_holidays_do_not_foresee_the_closures_of_2001_and_2012_by_hand(new_york):
    days = [date(2001, 9, 10), date(2001, 9, 17), date(2012, 10, 26), date(2012, 10, 31), date(2012, 11, 1)]
    features = _temporal(days, HOLIDAYS, **new_york)
    # The next planned holidays were Thanksgiving: 53 weekdays from 10 September 2001, 19 from 26 October 2012.
    assert features["days_to_holiday"].to_list() == [20.0, 20.0, 19.0, 16.0, 15.0]
    # After the fact they count: Labour Day 2001 was five sessions before the 10th.
    assert features["days_since_holiday"].to_list() == [5.0, 1.0, 20.0, 1.0, 2.0]


def test_holidays_agree_with_a_count_by_pandas_over_36_years_of_new_york(new_york):
    days = new_york["sessions"][60:-60]
    features = _temporal(days, HOLIDAYS, **new_york)
    every = pd.Series(pd.bdate_range(new_york["sessions"][0], new_york["sessions"][-1]))
    is_closed = ~every.isin(pd.to_datetime(new_york["sessions"]))
    is_planned = every.isin(pd.to_datetime(new_york["planned_holidays"]))
    assert is_closed.sum() > is_planned.sum() + 9
    since = is_closed.groupby(is_closed.cumsum()).cumcount()
    backwards = is_planned[::-1]
    until = backwards.groupby(backwards.cumsum()).cumcount()[::-1]
    kept = every.isin(pd.to_datetime(days))
    np.testing.assert_array_equal(features["days_since_holiday"], np.minimum(since, 20)[kept])
    np.testing.assert_array_equal(features["days_to_holiday"], np.minimum(until, 20)[kept])


def _as_known_on(day: date, given: dict[str, Any]) -> dict[str, Any]:
    """The calendar without what nobody foresaw on `day`: later closures that were not planned are sessions."""
    planned = set(given["planned_holidays"])
    ahead = (day + timedelta(days=n) for n in range(1, 60))
    return given | {
        "sessions": [each for each in given["sessions"] if each <= day]
        + [each for each in ahead if each.weekday() < 5 and each not in planned]
    }


def _before_surprises(given: dict[str, Any]) -> list[date]:
    """The three sessions before each closure that was not planned."""
    closed = set(pd.bdate_range(given["sessions"][0], given["sessions"][-1]).date) - set(given["sessions"])
    surprises = sorted(closed - set(given["planned_holidays"]))
    at = {int(np.searchsorted(given["sessions"], day)) for day in surprises}
    return [given["sessions"][first - back] for first in sorted(at) for back in (3, 2, 1)]


def test_temporal_with_the_calendar_as_known_on_the_day_keeps_its_values(new_york):
    names, days = group_names("temporal"), _before_surprises(new_york)
    assert len(days) == 21
    for day in days:
        stored, replayed = (_temporal([day], names, **given) for given in (new_york, _as_known_on(day, new_york)))
        assert stored.equals(replayed), day


def test_a_planted_distance_to_the_calendars_next_closure_is_caught(new_york):
    def leaking(panel):
        days = np.arange(panel.session[0], panel.calendar[-1])
        closed = days[np.is_busday(days) & ~np.isin(days, panel.calendar)]
        following = np.append(closed, panel.calendar[-1])[:1]
        return np.minimum(np.busday_count(panel.session + 1, following + 1), 20).astype(float)

    planted = Feature("days_to_closure", "planted", leaking, 1, ("calendar",), "weekdays to the next closure")
    caught = []
    for day in _before_surprises(new_york):
        bars = bars_of("A", [1.0], days=[day])
        stored, replayed = (
            feature_frame(build_panel(bars, **given), [planted]) for given in (new_york, _as_known_on(day, new_york))
        )
        caught += [day] * (not stored.equals(replayed))
    # In the last days of 2006 New Year's Day came first, and hid the funeral on the day after.
    assert len(caught) == 18 and date(2012, 10, 26) in caught


@pytest.mark.parametrize(("before", "after"), [(32, 32), (33, 400), (900, 34)])
def test_temporal_does_not_depend_on_how_far_the_calendar_reaches(new_york, before, after):
    days = [day for day in new_york["sessions"] if date(2012, 10, 1) <= day <= date(2013, 1, 31)]
    first, last = days[0] - timedelta(days=before), days[-1] + timedelta(days=after)
    cut = {name: [day for day in each if first <= day <= last] for name, each in new_york.items()}
    names = group_names("temporal")
    assert _temporal(days, names, **cut).equals(_temporal(days, names, **new_york))


def test_holidays_of_a_market_round_the_clock_are_always_far():
    given = _exchange("24/7", "2024-01-01", "2024-12-31")
    days = given["sessions"][40:-40]
    features = _temporal(days, HOLIDAYS, **given)
    assert {day.weekday() for day in days} == set(range(7))
    assert all(set(features[name].to_list()) == {20.0} for name in HOLIDAYS)


@pytest.mark.parametrize(
    ("names", "first", "last", "message"),
    [
        pytest.param(["is_month_start"], 0, 40, "a session before each that is wanted", id="no session before"),
        pytest.param(["days_since_holiday"], -10, 40, "begin on 2019-12-09 or before", id="too short before"),
        pytest.param(["days_to_holiday"], -40, 10, "reach to 2020-02-07 or later", id="too short after"),
    ],
)
def test_temporal_refuses_a_calendar_that_does_not_reach(names, first, last, message):
    days = weekdays(5)
    around = weekdays(200, start=days[0] - timedelta(days=98))
    at = around.index(days[0])
    sessions = around[at + first : at + 5 + last]
    with pytest.raises(ValueError, match=f"`sessions` must .*{message}"):
        _temporal(days, names, sessions=sessions, planned_holidays=[])


def test_temporal_is_known_from_the_first_bar():
    names = group_names("temporal")
    sessions = weekdays(80, start=date(2019, 11, 4))
    features = compute_features(random_bars(sessions=3), names, sessions=sessions, planned_holidays=[])
    assert not any(features[name].is_nan().any() for name in names)


# --- days that were announced

WEEKDAYS = weekdays(110, start=date(2023, 7, 3))
SHOWN = ["is_month_end", "days_to_holiday", "days_since_holiday"]


def announced(
    sessions: list[date], holidays: list[date], changes: list[CalendarChange]
) -> dict[date, dict[str, float]]:
    days = [day for day in sessions if date(2023, 8, 24) <= day <= date(2023, 9, 8)]
    found = compute_features(
        bars_of("AAA", [10.0] * len(days), days=days).with_columns(role=pl.lit("member")),
        SHOWN, sessions=sessions, planned_holidays=holidays, changes=changes,
    )  # fmt: skip
    return {row["session"]: {name: row[name] for name in SHOWN} for row in found.to_dicts()}


def test_an_announced_closure_is_known_from_its_announcement_on():
    # The last session of August is closed, which becomes known on Wednesday the 30th.
    closed = date(2023, 8, 31)
    change = CalendarChange(closed, False, date(2023, 8, 30))
    sessions = [day for day in WEEKDAYS if day != closed]
    found = announced(sessions, [], [change])
    expected = announced(WEEKDAYS, [], [])
    # Before, it is a session like any other.
    for day in (date(2023, 8, 28), date(2023, 8, 29)):
        assert found[day] == expected[day]
    assert found[date(2023, 8, 30)] == {"is_month_end": 1.0, "days_to_holiday": 1.0, "days_since_holiday": 20.0}
    assert found[date(2023, 9, 1)] == {"is_month_end": 0.0, "days_to_holiday": 20.0, "days_since_holiday": 1.0}
    # Without a word of when, as in the library's calendar, it is known to the session before that it is the last.
    assert announced(sessions, [], [])[date(2023, 8, 30)]["is_month_end"] == 1.0


def test_an_announced_session_on_a_holiday_is_known_from_its_announcement_on():
    # Friday the 1st was a holiday, Thursday the last session before it; on Wednesday the exchange decides to open.
    extra = date(2023, 9, 1)
    change = CalendarChange(extra, True, date(2023, 8, 30))
    found = announced(WEEKDAYS, [], [change])
    unaware = announced([day for day in WEEKDAYS if day != extra], [extra], [])
    assert found[date(2023, 8, 29)] == unaware[date(2023, 8, 29)]
    assert found[date(2023, 8, 29)]["days_to_holiday"] == 3.0
    assert found[date(2023, 8, 30)]["days_to_holiday"] == 20.0
    # A Saturday in the next month, announced on the day itself: the Thursday and Friday before end the month all the same.
    saturday = date(2023, 9, 2)
    days = sorted([*WEEKDAYS, saturday])
    late = announced([day for day in days if day != extra], [extra], [CalendarChange(saturday, True, saturday)])
    assert late[date(2023, 8, 31)]["is_month_end"] == 1.0 and late[saturday]["is_month_end"] == 0.0


@pytest.mark.parametrize("notice", range(6))
def test_values_with_announced_days_are_those_of_the_calendar_as_it_was_known(notice):
    """Whatever was announced later is cut off and nothing before it changes."""
    days = {date(2023, 8, 31): False, date(2023, 9, 2): True, date(2023, 9, 5): False}
    changes = [CalendarChange(day, opens, day - timedelta(days=notice)) for day, opens in days.items()]
    truth = sorted([*(day for day in WEEKDAYS if days.get(day, True)), date(2023, 9, 2)])
    whole = announced(truth, [], changes)
    for at in whole:
        known = [each for each in changes if each.announced <= at]
        unknown = {each.day: each.is_session for each in changes if each.announced > at}
        as_known = sorted(
            {
                *(day for day in truth if not unknown.get(day, False)),
                *(day for day, opens in unknown.items() if not opens),
            }
        )
        if at in as_known:
            assert announced(as_known, [], known)[at] == whole[at], at
