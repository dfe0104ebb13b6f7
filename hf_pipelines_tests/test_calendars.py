"""Calendars are those of exchange_calendars, whether worked out or read from what was kept."""

from datetime import date, timedelta
from pathlib import Path

import exchange_calendars
import pytest

from hf_pipelines import calendars
from hf_pipelines.calendars import LONGEST_CLOSURE, load_calendar, require_recorded

FIRST, LAST = date(2011, 12, 1), date(2013, 3, 31)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to keep calendars in, and a process that has loaded none."""
    monkeypatch.setattr(calendars, "KEPT_IN", tmp_path / "kept")
    load_calendar.cache_clear()
    yield tmp_path / "kept"
    load_calendar.cache_clear()


def _again(name: str) -> calendars.SessionCalendar:
    load_calendar.cache_clear()
    return load_calendar(name, FIRST, LAST)


@pytest.mark.parametrize("name", ["XNYS", "24/7", "24/5", "XLON", "XBOM", "XHKG", "XTKS"])
def test_calendar_worked_out_and_read_again_is_that_of_the_library(name, kept):
    first, second = _again(name), _again(name)
    theirs = exchange_calendars.get_calendar(name, start=str(FIRST), end=str(LAST))
    assert first == second and len(list(kept.glob("*.json"))) == 1
    assert list(first.days) == [ts.date() for ts in theirs.sessions]
    assert list(first.opens) == [ts.to_pydatetime() for ts in theirs.opens]
    assert list(first.closes) == [ts.to_pydatetime() for ts in theirs.closes]
    rests = theirs.schedule.dropna(subset="break_start")
    assert list(first.breaks) == [ts.date() for ts in rests.index]
    assert [begin for begin, _ in first.breaks.values()] == [ts.to_pydatetime() for ts in rests["break_start"]]
    assert [end for _, end in first.breaks.values()] == [ts.to_pydatetime() for ts in rests["break_end"]]
    assert bool(first.breaks) == (name in ("XHKG", "XTKS"))


def test_planned_holidays_hold_thanksgiving_and_not_the_hurricane(kept):
    planned = _again("XNYS").planned_holidays
    assert date(2012, 11, 22) in planned and date(2012, 12, 25) in planned
    assert date(2012, 10, 29) not in planned and date(2012, 10, 29) not in _again("XNYS").days


@pytest.mark.parametrize("damage", ["", "half", "\xff\xfe", "0\n{}", None])
def test_kept_calendar_that_is_damaged_or_gone_is_made_anew(damage, kept):
    whole = _again("XNYS")
    (path,) = kept.glob("*.json")
    text = path.read_text()
    if damage is None:
        path.unlink()
    else:
        path.write_text(text[: len(text) // 2] if damage == "half" else damage, encoding="latin-1")
    assert _again("XNYS") == whole
    assert path.read_text() == text


def test_calendar_is_asked_for_anew_for_other_days_and_another_version_of_the_library(kept, monkeypatch):
    _again("XNYS")
    load_calendar("XNYS", FIRST, date(2013, 4, 30))
    assert len(list(kept.glob("*.json"))) == 2
    monkeypatch.setattr(calendars, "version", lambda name: "0")
    _again("XNYS")
    assert len(list(kept.glob("*.json"))) == 3


def test_calendar_without_a_place_to_keep_it_is_worked_out(kept, tmp_path):
    kept.write_text("a file where the folder should be")
    assert len(_again("XNYS").days) == len(
        exchange_calendars.get_calendar("XNYS", start=str(FIRST), end=str(LAST)).sessions
    )


def test_unknown_calendar_is_refused_and_nothing_kept(kept):
    with pytest.raises(ValueError, match="`calendar` must be a name known to exchange_calendars, was 'XNYC'"):
        _again("XNYC")
    assert not kept.exists()


@pytest.mark.parametrize("name", ["XSHG", "XBOM", "XSES"])
def test_calendar_whose_holidays_are_announced_year_by_year_ends_with_what_is_on_record(name, kept):
    recorded = exchange_calendars.get_calendar(name).bound_max().date()
    first = recorded.replace(day=1)
    found = load_calendar(name, first, recorded.replace(year=recorded.year + 2))
    assert found.days == load_calendar(name, first, recorded).days
    assert first <= found.days[-1] <= recorded
    # Sessions that nobody knows are not taken for none: from then on it is refused.
    last_day = found.days[-1] + LONGEST_CLOSURE
    require_recorded(name, found, last_day)
    with pytest.raises(
        ValueError, match=f"`calendar` must know the sessions of today, {name} of .* install a newer one"
    ):
        require_recorded(name, found, last_day + timedelta(days=1))
    with pytest.raises(ValueError, match=name):
        load_calendar(name, recorded + timedelta(days=1), recorded + timedelta(days=9))


@pytest.mark.parametrize(
    ("name", "timezone", "day"),
    [
        ("XNYS", "America/New_York", None),
        # Other names of the same clock.
        ("XNYS", "US/Eastern", None),
        ("XPAR", "Europe/Berlin", None),
        ("XNYS", "Asia/Tokyo", date(2011, 12, 1)),
        # An hour apart, and no summer time: the first month in which New York has it begins on 2 April (1 April 2012 is a Sunday).
        ("XNYS", "America/Chicago", date(2011, 12, 1)),
        ("XNYS", "Etc/GMT+5", date(2012, 4, 2)),
        ("XTKS", "Asia/Shanghai", date(2011, 12, 1)),
    ],
)
def test_time_zone_that_shows_other_hours_is_found_on_the_first_session_of_a_month(name, timezone, day, kept):
    assert _again(name).clock_fault(timezone) == day
