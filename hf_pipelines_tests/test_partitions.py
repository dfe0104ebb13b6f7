"""Weeks, days and sessions: hand-computed dates, and both directions of Dagster's mapping over 13 years."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context

from hf_pipelines.calendars import SessionOverride
from hf_pipelines.partitions import MarketPartitions, parse_key, shift_week, usual_sessions, week_key, week_start

NEW_YORK = "America/New_York"
US = MarketPartitions("XNYS", NEW_YORK, date(2000, 3, 1), date(2013, 3, 1))


@pytest.mark.parametrize(
    ("day", "sunday"),
    [
        pytest.param(date(2013, 2, 24), date(2013, 2, 24), id="sunday"),
        pytest.param(date(2013, 2, 25), date(2013, 2, 24), id="monday"),
        pytest.param(date(2013, 3, 2), date(2013, 2, 24), id="saturday"),
        pytest.param(date(2013, 3, 3), date(2013, 3, 3), id="next-sunday"),
        pytest.param(date(2013, 1, 1), date(2012, 12, 30), id="new-year"),
        pytest.param(date(2012, 2, 29), date(2012, 2, 26), id="leap-day"),
    ],
)
def test_week_start_of_each_weekday_is_its_sunday(day, sunday):
    assert week_start(day) == sunday
    assert week_key(day) == sunday.isoformat()


@pytest.mark.parametrize(
    "key", ["2013-2-24", "2013-02-30", "20130224", "../../x", "", "2013-02-24\n", "2013-02-24\0", "2" * 300]
)
def test_parse_key_of_foreign_text_names_the_form(key):
    with pytest.raises(ValueError, match="`partition key` must be a date YYYY-MM-DD, was") as caught:
        parse_key(key)
    assert len(str(caught.value)) < 150


def test_shift_week_across_year_and_dst_moves_whole_weeks():
    assert shift_week("2013-01-06", -1) == "2012-12-30"
    assert shift_week("2013-03-03", 1) == "2013-03-10"


@pytest.mark.parametrize(
    ("calendar", "start", "end", "weeks"),
    [
        pytest.param("XNYS", date(2013, 2, 20), date(2013, 3, 1), ["2013-02-17", "2013-02-24"], id="mid-week"),
        pytest.param("XNYS", date(2013, 2, 17), date(2013, 2, 24), ["2013-02-17", "2013-02-24"], id="both-sunday"),
        pytest.param("XNYS", date(2013, 2, 23), date(2013, 3, 2), ["2013-02-17", "2013-02-24"], id="both-saturday"),
        pytest.param("XNYS", date(2013, 2, 25), date(2013, 2, 25), ["2013-02-24"], id="one-monday"),
        pytest.param("24/7", date(2013, 2, 23), date(2013, 3, 2), ["2013-02-17", "2013-02-24"], id="always-saturday"),
        pytest.param("24/7", date(2013, 2, 24), date(2013, 3, 3), ["2013-02-24", "2013-03-03"], id="always-sunday"),
    ],
)
def test_weekly_of_any_start_and_end_holds_first_and_last_session(calendar, start, end, weeks):
    market = MarketPartitions(calendar, NEW_YORK if calendar == "XNYS" else "UTC", start, end)
    assert market.weekly.get_partition_keys() == weeks
    sessions = market.sessions_between(start, end)
    days = set(market.daily.get_partition_keys())
    assert {week_key(day) for day in sessions} <= set(weeks)
    assert {day.isoformat() for day in sessions} <= days
    assert sessions[-1] in market.sessions_of_week(week_key(sessions[-1]))


def test_weekly_of_the_sample_market_runs_from_its_sunday_to_its_last_week():
    weeks = US.weekly.get_partition_keys()
    # 2000-02-27 to 2013-02-24 are 4,746 days: 678 weeks and the first.
    assert (weeks[0], weeks[-1], len(weeks)) == ("2000-02-27", "2013-02-24", 679)


def test_end_before_start_is_refused():
    with pytest.raises(ValueError, match="`end` must not be before `start` 2013-03-01, was 2013-02-28"):
        MarketPartitions("XNYS", NEW_YORK, date(2013, 3, 1), date(2013, 2, 28))


def test_sessions_of_last_week_stop_at_the_end():
    market = MarketPartitions("XNYS", NEW_YORK, date(2013, 2, 20), date(2013, 2, 27))
    assert market.sessions_of_week("2013-02-24") == [date(2013, 2, 25), date(2013, 2, 26), date(2013, 2, 27)]


def test_saturday_session_of_always_open_market_belongs_to_its_own_week():
    market = MarketPartitions("24/7", "UTC", date(2013, 2, 20), date(2013, 3, 2))
    saturday = date(2013, 3, 2)
    # Its bar closes on the Sunday that begins the next week.
    assert market.session_close(saturday) == datetime(2013, 3, 3, tzinfo=UTC)
    assert week_key(saturday) == "2013-02-24"
    assert saturday in market.sessions_of_week("2013-02-24")
    assert "2013-03-02" in market.daily.get_partition_keys()


def test_daily_leaves_out_saturdays_and_holidays_but_keeps_sundays():
    days = US.daily.get_partition_keys()
    weekdays = {date.fromisoformat(day).weekday() for day in days}
    assert weekdays == {0, 1, 2, 3, 4, 6}
    # Christmas, New Year, Good Friday, and the hurricane of 2012.
    for holiday in ("2012-12-25", "2013-01-01", "2012-04-06", "2012-10-29", "2012-10-30"):
        assert holiday not in days
    sundays = [day for day in days if date.fromisoformat(day).weekday() == 6]
    assert sundays == US.weekly.get_partition_keys()
    sessions = [day.isoformat() for day in US.sessions if date(2000, 2, 27) <= day <= date(2013, 3, 1)]
    assert sorted({*sessions, *sundays}) == days


def test_daily_and_weekly_mapping_agree_in_both_directions_for_13_years():
    mapping = dg.TimeWindowPartitionMapping()
    days = US.daily.get_partition_keys()
    by_week: dict[str, set[str]] = {}
    for day in days:
        by_week.setdefault(week_key(date.fromisoformat(day)), set()).add(day)
    for week in US.weekly.get_partition_keys():
        ours = by_week[week]
        up = mapping.get_upstream_mapped_partitions_result_for_partitions(
            US.daily.subset_with_partition_keys(ours), US.daily, US.weekly
        )
        assert set(up.partitions_subset.get_partition_keys()) == {week}
        down = mapping.get_downstream_partitions_for_partitions(
            US.weekly.subset_with_partition_keys([week]), US.weekly, US.daily
        )
        assert set(down.get_partition_keys()) == ours


@pytest.mark.parametrize(
    ("day", "week"),
    [("2013-01-04", "2012-12-30"), ("2013-01-06", "2013-01-06"), ("2013-01-07", "2013-01-06")],
)
def test_mapping_of_one_day_reads_the_model_of_its_week(day, week):
    up = dg.TimeWindowPartitionMapping().get_upstream_mapped_partitions_result_for_partitions(
        US.daily.subset_with_partition_keys([day]), US.daily, US.weekly
    )
    assert list(up.partitions_subset.get_partition_keys()) == [week]


def test_saturday_of_always_open_market_reads_the_model_of_its_week():
    market = MarketPartitions("24/7", "UTC", date(2012, 12, 1), date(2013, 1, 31))
    up = dg.TimeWindowPartitionMapping().get_upstream_mapped_partitions_result_for_partitions(
        market.daily.subset_with_partition_keys(["2013-01-05"]), market.daily, market.weekly
    )
    assert list(up.partitions_subset.get_partition_keys()) == ["2012-12-30"]


def test_training_window_of_three_weeks_ends_before_its_week():
    window = dg.TimeWindowPartitionMapping(start_offset=-3, end_offset=-1, allow_nonexistent_upstream_partitions=True)
    up = window.get_upstream_mapped_partitions_result_for_partitions(
        US.weekly.subset_with_partition_keys(["2013-01-06"]), US.weekly, US.weekly
    )
    assert list(up.partitions_subset.get_partition_keys()) == ["2012-12-16", "2012-12-23", "2012-12-30"]
    assert US.weeks_around("2013-01-06", first=-3, last=-1) == ["2012-12-16", "2012-12-23", "2012-12-30"]


def test_weeks_around_the_first_week_is_clipped_as_the_mapping_is():
    window = dg.TimeWindowPartitionMapping(start_offset=-3, end_offset=-1, allow_nonexistent_upstream_partitions=True)
    up = window.get_upstream_mapped_partitions_result_for_partitions(
        US.weekly.subset_with_partition_keys(["2000-03-12"]), US.weekly, US.weekly
    )
    assert list(up.partitions_subset.get_partition_keys()) == ["2000-02-27", "2000-03-05"]
    assert US.weeks_around("2000-03-12", first=-3, last=-1) == ["2000-02-27", "2000-03-05"]


@pytest.mark.parametrize(
    ("now", "week", "day"),
    [
        pytest.param("2013-01-06T00:30", "2013-01-06", "2013-01-06", id="sunday-just-begun"),
        pytest.param("2013-01-05T23:30", "2012-12-30", "2013-01-06", id="saturday-night"),
        pytest.param("2013-01-09T12:00", "2013-01-06", "2013-01-09", id="wednesday"),
    ],
)
def test_weekly_and_daily_without_end_hold_the_week_and_day_under_way(now, week, day):
    # On a Saturday, which has no partition, Dagster counts the Sunday to come as the day under way.
    market = MarketPartitions("XNYS", NEW_YORK, date(2012, 12, 3))
    instant = datetime.fromisoformat(now).replace(tzinfo=ZoneInfo(NEW_YORK))
    with partition_loading_context(instant):
        assert market.weekly.get_partition_keys()[-1] == week
        assert market.daily.get_partition_keys()[-1] == day


@pytest.mark.parametrize(
    ("week", "hours_utc", "n_hours"),
    [
        pytest.param("2013-03-03", 5, 168, id="before-dst"),
        pytest.param("2013-03-10", 5, 167, id="dst-begins"),
        pytest.param("2013-03-17", 4, 168, id="after-dst"),
        pytest.param("2012-11-04", 4, 169, id="dst-ends"),
    ],
)
def test_week_begin_around_dst_is_local_midnight(week, hours_utc, n_hours):
    market = MarketPartitions("XNYS", NEW_YORK, date(2012, 1, 3), date(2013, 12, 31))
    begin = market.week_begin(week)
    assert begin == datetime.fromisoformat(f"{week}T0{hours_utc}:00:00+00:00")
    assert (market.week_begin(shift_week(week, 1)) - begin) == timedelta(hours=n_hours)
    assert market.weekly.time_window_for_partition_key(week).start == begin


def test_session_close_of_half_day_is_one_in_the_afternoon():
    closed = US.session_close(date(2012, 11, 23))
    assert closed == datetime(2012, 11, 23, 18, tzinfo=UTC)
    assert closed.astimezone(ZoneInfo(NEW_YORK)).hour == 13
    assert US.hours[date(2012, 11, 23)] == (datetime(2012, 11, 23, 14, 30, tzinfo=UTC), closed)


def test_session_close_in_summer_and_winter_follows_new_york():
    assert US.session_close(date(2012, 7, 2)) == datetime(2012, 7, 2, 20, tzinfo=UTC)
    assert US.session_close(date(2012, 12, 3)) == datetime(2012, 12, 3, 21, tzinfo=UTC)
    assert US.session_open(date(2012, 7, 2)) == datetime(2012, 7, 2, 13, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("day", "name", "next_session"),
    [
        (date(2013, 1, 6), "Sunday", "2013-01-07"),
        (date(2012, 12, 30), "Sunday", "2012-12-31"),
        (date(2013, 1, 20), "Sunday", "2013-01-22"),
        (date(2013, 1, 1), "Tuesday", "2013-01-02"),
    ],
)
def test_require_session_on_a_day_without_trading_names_the_next_session(day, name, next_session):
    message = rf"`day` must be a session of XNYS, was {day} \({name}\); the next session is {next_session}"
    with pytest.raises(ValueError, match=message):
        US.require_session(day)


def test_next_session_past_the_known_calendar_is_refused():
    with pytest.raises(ValueError, match="`day` must be before the last known session of XNYS"):
        US.next_session(date(2030, 1, 1))


def test_calendar_of_unknown_name_is_refused():
    with pytest.raises(ValueError, match="`calendar` must be a name known to exchange_calendars, was 'NOWHERE'"):
        _ = MarketPartitions("NOWHERE", "UTC", date(2013, 1, 1), date(2013, 1, 31)).sessions


def test_calendar_reaches_back_to_the_first_week_of_a_long_market():
    # The library's own default begins 20 years before today.
    assert US.sessions[0] == date(2000, 2, 28)
    assert US.next_session(date(2013, 3, 1)) == date(2013, 3, 4)


# --- markets that are open at other times


ALWAYS = MarketPartitions("24/7", "UTC", date(2012, 1, 1), date(2013, 12, 31))
FX = MarketPartitions("24/5", "UTC", date(2012, 1, 2), date(2013, 12, 31))


@pytest.mark.parametrize(
    ("market", "n_days"), [pytest.param(ALWAYS, 7, id="24/7"), pytest.param(FX, 6, id="24/5 and its Sundays")]
)
def test_daily_and_weekly_mapping_of_other_calendars_agree_in_both_directions(market, n_days):
    mapping = dg.TimeWindowPartitionMapping()
    days = market.daily.get_partition_keys()
    by_week: dict[str, set[str]] = {}
    for day in days:
        by_week.setdefault(week_key(date.fromisoformat(day)), set()).add(day)
    weeks = market.weekly.get_partition_keys()
    assert sorted(by_week) == weeks
    for week in weeks:
        assert len(by_week[week]) == n_days
        up = mapping.get_upstream_mapped_partitions_result_for_partitions(
            market.daily.subset_with_partition_keys(by_week[week]), market.daily, market.weekly
        )
        assert set(up.partitions_subset.get_partition_keys()) == {week}
        down = mapping.get_downstream_partitions_for_partitions(
            market.weekly.subset_with_partition_keys([week]), market.weekly, market.daily
        )
        assert set(down.get_partition_keys()) == by_week[week]


def test_sessions_of_a_week_that_never_closes_are_its_seven_days_sunday_first():
    sessions = ALWAYS.sessions_of_week("2013-02-24")
    assert [day.weekday() for day in sessions] == [6, 0, 1, 2, 3, 4, 5]
    # All of them close before the next week's Sunday has begun to trade: the last one at that very moment.
    assert ALWAYS.hours[sessions[-1]][1] == ALWAYS.week_begin("2013-03-03") == datetime(2013, 3, 3, tzinfo=UTC)
    assert FX.sessions_of_week("2013-02-24") == [date(2013, 2, 25) + timedelta(days=each) for each in range(5)]


@pytest.mark.parametrize(
    ("calendar", "zone", "is_right"),
    [
        ("24/7", "UTC", True),
        ("24/7", "America/New_York", True),
        ("24/7", "Europe/Berlin", False),
        ("24/5", "Asia/Tokyo", True),
        ("XTKS", "Asia/Tokyo", True),
    ],
)
def test_require_weeks_refuses_a_zone_in_which_sunday_begins_before_saturday_closed(calendar, zone, is_right):
    market = MarketPartitions(calendar, zone, date(2013, 1, 1), date(2013, 6, 30))
    if is_right:
        market.require_weeks()
    else:
        with pytest.raises(ValueError, match="`timezone` must be one in which Saturday's session has closed"):
            market.require_weeks()


def test_opens_between_follow_summer_time():
    # New York set its clocks forward on Sunday 2013-03-10.
    market = MarketPartitions("XNYS", NEW_YORK, date(2013, 1, 2), date(2013, 6, 30))
    assert market.opens_between(date(2013, 3, 8), date(2013, 3, 11)) == {
        date(2013, 3, 8): datetime(2013, 3, 8, 14, 30, tzinfo=UTC),
        date(2013, 3, 11): datetime(2013, 3, 11, 13, 30, tzinfo=UTC),
    }


def test_planned_holidays_of_2012_are_the_exchanges_nine_and_not_the_hurricane():
    found = US.planned_holidays_between(date(2012, 1, 1), date(2012, 12, 31))
    # New Year's Day 2012 fell on a Sunday: kept on Monday.
    days = ["01-02", "01-16", "02-20", "04-06", "05-28", "07-04", "09-03", "11-22", "12-25"]
    assert [day.isoformat() for day in found] == [f"2012-{day}" for day in days]
    assert not US.is_session(date(2012, 10, 29)) and date(2012, 10, 29) not in found
    assert ALWAYS.planned_holidays_between(date(2012, 1, 1), date(2012, 12, 31)) == []


@pytest.mark.parametrize(
    ("name", "sessions", "hours"), [("XNYS", 252, 6.5), ("24/7", 365, 24.0), ("24/5", 261, 24.0), ("XLON", 253, 8.5)]
)
def test_usual_sessions_are_those_of_five_years(name, sessions, hours):
    n_sessions, (_, opened, closed) = usual_sessions(name)
    assert (n_sessions, (closed - opened).total_seconds() / 3600) == (sessions, hours)


# --- what the library's calendar does not know


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# Bombay traded on a Saturday, announced two weeks before; New York's Good Friday is made a session; a Wednesday closes.
BOMBAY_SATURDAY = SessionOverride(date(2024, 3, 2), utc("2024-03-02 03:45"), utc("2024-03-02 07:00"), date(2024, 2, 14))
BOMBAY = MarketPartitions("XBOM", "Asia/Kolkata", date(2024, 2, 1), date(2024, 3, 31), (BOMBAY_SATURDAY,))
TYPHOON = SessionOverride(date(2023, 9, 1), None, None, date(2023, 8, 31))
HONG_KONG = MarketPartitions("XHKG", "Asia/Hong_Kong", date(2023, 8, 21), date(2023, 9, 15), (TYPHOON,))


def test_an_extra_session_is_a_day_of_its_week_with_its_hours_and_has_a_partition():
    saturday = BOMBAY_SATURDAY.day
    assert BOMBAY.sessions_of_week("2024-02-25")[-1] == saturday
    assert BOMBAY.hours[saturday] == (BOMBAY_SATURDAY.opens, BOMBAY_SATURDAY.closes)
    assert BOMBAY.next_session(date(2024, 3, 1)) == saturday
    assert BOMBAY.newest_week(date(2024, 3, 1)) == "2024-02-25" and BOMBAY.newest_week(saturday) == "2024-03-03"
    days = set(BOMBAY.daily.get_partition_keys(current_time=datetime(2024, 4, 30)))
    # That Saturday and no other: no run is asked for a day without a session.
    assert {each for each in days if date.fromisoformat(each).weekday() == 5} == {"2024-03-02"}


def test_a_closure_is_no_session_and_an_override_that_says_nothing_new_is_no_change():
    assert not HONG_KONG.is_session(TYPHOON.day) and HONG_KONG.changes == (TYPHOON,)
    assert HONG_KONG.sessions_of_week("2023-08-27")[-1] == date(2023, 8, 31)
    assert TYPHOON.day not in HONG_KONG.breaks and TYPHOON.day in replace(HONG_KONG, overrides=()).breaks
    # It was no holiday planned years ahead.
    assert TYPHOON.day not in HONG_KONG.calendar.planned_holidays
    sunday = SessionOverride(date(2023, 9, 3), None, None, date(2023, 9, 3))
    assert replace(HONG_KONG, overrides=(sunday,)).changes == ()


def test_other_hours_keep_a_break_inside_them_alone():
    day = date(2023, 8, 30)
    short = SessionOverride(day, utc("2023-08-30 01:30"), utc("2023-08-30 04:00"), day)
    whole = SessionOverride(day, utc("2023-08-30 01:00"), utc("2023-08-30 08:30"), day)
    assert day not in replace(HONG_KONG, overrides=(short,)).breaks
    long_day = replace(HONG_KONG, overrides=(whole,))
    assert long_day.breaks[day] == replace(HONG_KONG, overrides=()).breaks[day]
    assert long_day.changes == () and long_day.hours[day] == (whole.opens, whole.closes)


def test_a_calendar_is_known_as_it_was_announced():
    assert BOMBAY.known_on(date(2024, 2, 13)).next_session(date(2024, 3, 1)) == date(2024, 3, 4)
    assert BOMBAY.known_on(date(2024, 2, 14)) is BOMBAY
    assert HONG_KONG.known_on(date(2023, 8, 30)).is_session(TYPHOON.day)


def test_days_without_a_session_are_looked_at_once_they_have_begun():
    week, saturday = "2024-03-03", date(2024, 3, 9)
    # Midnight in Bombay is half past six in the evening before, UTC; Friday 2024-03-08 is a holiday.
    assert BOMBAY.other_days(week, utc("2024-03-08 18:29")) == [date(2024, 3, 3), date(2024, 3, 8)]
    assert BOMBAY.other_days(week, utc("2024-03-08 18:30")) == [date(2024, 3, 3), date(2024, 3, 8), saturday]
    assert BOMBAY.other_days("2024-02-25", utc("2024-03-08 18:29")) == [date(2024, 2, 25)]
