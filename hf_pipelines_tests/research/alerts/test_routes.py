"""Routes and quiet hours: what is written, what it takes, and what is refused by name."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_pipelines.research.alerts.quiet_hours import parse_quiet_hours, parse_zone
from hf_pipelines.research.alerts.routes import parse_routes, takes, unmatched

BERLIN = ZoneInfo("Europe/Berlin")


def test_channel_takes_what_any_of_its_routes_takes_and_everything_if_it_has_none():
    routes = parse_routes(
        "oncall: severity=critical; desk: strategy=momentum_* kind=drift,decay; desk: kind=promotion",
        ["oncall", "desk", "log"],
    )
    cases = {
        ("critical", "daemon", ""): ["oncall", "log"],
        ("warning", "drift", "momentum_xgb"): ["desk", "log"],
        ("warning", "drift", "ranking"): ["log"],
        ("critical", "decay", "momentum_xgb"): ["oncall", "desk", "log"],
        ("info", "promotion", "ranking"): ["desk", "log"],
    }
    for (severity, kind, owner), expected in cases.items():
        found = [
            each for each in ("oncall", "desk", "log") if takes(routes, each, severity=severity, kind=kind, owner=owner)
        ]
        assert found == expected, (severity, kind, owner)
    assert unmatched(routes, ["ranking", "us_tech"]) == [
        "route `desk: strategy=momentum_* kind=drift,decay`: no strategy or market is named momentum_*"
    ]
    assert unmatched(routes, ["momentum_xgb"]) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("desk severity=critical", "route 1, must be like `desk: severity=critical"),
        ("pager: kind=run", "route 1, must name a channel of HF_ALERT_URLS, one of desk, was pager"),
        ("desk: kind=run; desk: kind=runs", "route 2, `kind` must be among run, check, late"),
        ("desk: severity=fatal", "`severity` must be among info, warning, critical, was fatal"),
        ("desk: kind=run kind=late", "at most once each, had kind?late"),
        ("desk: strategy=a/b", "`strategy` must be a name"),
        ("desk: team=x", "at most once each, had team?x"),
        ("desk: kind=", "`kind` must be among"),
        (";".join(["desk: kind=run"] * 101), "at most 100 routes, held 101"),
    ],
)
def test_route_that_names_nothing_there_is_is_refused(text, said):
    with pytest.raises(ValueError) as refused:
        parse_routes(text, ["desk"])
    assert "HF_ALERT_ROUTES" in str(refused.value) and said in str(refused.value)


def test_quiet_hours_are_those_of_the_clock_on_the_wall_over_midnight_and_where_clocks_are_set():
    night = parse_quiet_hours("22:00-07:00", BERLIN)
    first = datetime(2026, 1, 1, tzinfo=UTC)
    quiet: dict[str, int] = {}
    for quarter in range(365 * 96):
        at = first + quarter * timedelta(minutes=15)
        local = at.astimezone(BERLIN)
        assert night.covers(at) == (local.hour >= 22 or local.hour < 7)
        if night.covers(at):
            # The night that begins on an evening.
            evening = (local - timedelta(hours=12)).date().isoformat()
            quiet[evening] = quiet.get(evening, 0) + 1
    hours = {evening: n / 4 for evening, n in quiet.items() if n > 28}
    assert hours.pop("2026-03-28") == 8.0 and hours.pop("2026-10-24") == 10.0
    assert set(hours.values()) == {9.0} and len(hours) == 362


@given(
    begin=st.times(),
    end=st.times(),
    at=st.datetimes(datetime(2000, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC)),
)
def test_each_moment_is_in_one_of_two_complementary_quiet_hours(begin, end, at):
    first, second = f"{begin:%H:%M}", f"{end:%H:%M}"
    if first == second:
        return
    zone = ZoneInfo("America/New_York")
    covers = [parse_quiet_hours(each, zone).covers(at) for each in (f"{first}-{second}", f"{second}-{first}")]
    assert sorted(covers) == [False, True]


@pytest.mark.parametrize("text", ["22-7", "22:00-22:00", "24:00-07:00", "22:00 07:00", "\u0662\u0662:00-07:00"])
def test_quiet_hours_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match="`HF_ALERT_QUIET` must be from one time to another"):
        parse_quiet_hours(text, BERLIN)


@pytest.mark.parametrize("name", ["Europe/Berlyn", "../../etc/passwd", "", "\0"])
def test_zone_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match="`HF_ALERT_TIMEZONE` must be a time zone"):
        parse_zone(name)
