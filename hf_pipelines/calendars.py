"""Calendars: the sessions, hours and planned holidays of an exchange over a stretch of days.

Lives here: asking exchange_calendars, and keeping its answers beside the compiled code. Does not live here: weeks and
partitions (`partitions`).

Working out the sessions of 13 years and importing pandas for it takes longer than the rest of a code location that
loads, and every run is a process of its own. The answer depends on the name, the days and the library's version alone,
so it is kept as compiled code is: in `__pycache__`, made anew when it is missing, damaged or of another version, and
not at all where that folder cannot be written.
"""

import json
import os
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

# Longer than any holiday that closes an exchange.
LONGEST_CLOSURE = timedelta(days=21)

# Version of the file format of what is kept.
FORM = 3

KEPT_IN = Path(__file__).parent / "__pycache__"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class SessionCalendar:
    """Sessions of an exchange.

    Attributes
    ----------
    days : tuple of date
        Ascending.
    opens, closes : tuple of datetime
        Of each session, UTC.
    breaks : mapping of date to (begin, end)
        When a session rests at noon, UTC; sessions without a break are not in it.
    planned_holidays : tuple of date
        Weekdays that are no session by a rule known years ahead. A closure announced later (a hurricane, a day of
        mourning) is none of them; neither is a moving feast that exchange_calendars lists day by day.
    timezone : str
        The exchange's own; "UTC" of one that never rests.
    """

    days: tuple[date, ...]
    opens: tuple[datetime, ...]
    closes: tuple[datetime, ...]
    breaks: Mapping[date, tuple[datetime, datetime]]
    planned_holidays: tuple[date, ...]
    timezone: str

    def clock_fault(self, timezone: str) -> date | None:
        """The first session whose hours another time zone shows otherwise than the exchange's own; None if there is none."""
        own, other = ZoneInfo(self.timezone), ZoneInfo(timezone)
        # Summer and winter of each year: what agrees in both agrees.
        looked_at = {(each.year, each.month): each for each in reversed(self.opens)}.values()
        apart = [each for each in looked_at if each.astimezone(own).utcoffset() != each.astimezone(other).utcoffset()]
        return min(apart).astimezone(own).date() if apart else None


@dataclass(frozen=True)
class SessionOverride:
    """What the calendar of the library does not know of a day, or has wrong.

    Attributes
    ----------
    opens, closes : datetime or None
        UTC; None for a day on which the exchange is closed.
    announced : date
        From this day on it was known.
    """

    day: date
    opens: datetime | None
    closes: datetime | None
    announced: date

    @property
    def is_session(self) -> bool:
        return self.opens is not None


def overridden(calendar: SessionCalendar, overrides: Collection[SessionOverride]) -> SessionCalendar:
    """The calendar with other sessions, closures and hours."""
    hours = {day: times for day, *times in zip(calendar.days, calendar.opens, calendar.closes, strict=True)}
    breaks = dict(calendar.breaks)
    for each in overrides:
        hours.pop(each.day, None)
        rest = breaks.pop(each.day, None)
        if each.opens is not None and each.closes is not None:
            hours[each.day] = [each.opens, each.closes]
            if rest is not None and each.opens < rest[0] and rest[1] < each.closes:
                breaks[each.day] = rest
    days = sorted(hours)
    return SessionCalendar(
        days=tuple(days),
        opens=tuple(hours[day][0] for day in days),
        closes=tuple(hours[day][1] for day in days),
        breaks=breaks,
        planned_holidays=tuple(day for day in calendar.planned_holidays if day not in hours),
        timezone=calendar.timezone,
    )


@lru_cache(maxsize=32)
def load_calendar(name: str, first: date, last: date) -> SessionCalendar:
    """Calendar `name` of exchange_calendars over exactly [first, last]; the library's default begins 20 years ago.

    Of an exchange whose holidays are announced year by year it ends with the last year that the library has on record.

    Raises
    ------
    ValueError
        If no calendar has that name, or if it has none of the days on record.
    """
    key = json.dumps([FORM, name, str(first), str(last), version("exchange_calendars")])
    path = KEPT_IN / f"calendar-{sha256(key.encode()).hexdigest()[:32]}.json"
    numbers = _read(path)
    if numbers is None:
        numbers = _ask(name, first, last)
        _keep(path, numbers)
    return SessionCalendar(
        days=tuple(date.fromordinal(day) for day in numbers["days"]),
        opens=tuple(_EPOCH + timedelta(minutes=minutes) for minutes in numbers["opens"]),
        closes=tuple(_EPOCH + timedelta(minutes=minutes) for minutes in numbers["closes"]),
        breaks={
            date.fromordinal(day): (_EPOCH + timedelta(minutes=begin), _EPOCH + timedelta(minutes=end))
            for day, begin, end in zip(
                numbers["break_days"], numbers["break_begins"], numbers["break_ends"], strict=True
            )
        },
        planned_holidays=tuple(date.fromordinal(day) for day in numbers["planned_holidays"]),
        timezone=numbers["timezone"],
    )


def require_recorded(name: str, calendar: SessionCalendar, today: date) -> None:
    """Refuse a calendar that ends too early: it would report no session after its last.

    Raises
    ------
    ValueError
        If its last session is more than `LONGEST_CLOSURE` ago.
    """
    if calendar.days[-1] + LONGEST_CLOSURE < today:
        raise ValueError(
            f"`calendar` must know the sessions of today, {name} of exchange_calendars {version('exchange_calendars')} ends on "
            f"{calendar.days[-1]}; install a newer one."
        )


def _ask(name: str, first: date, last: date) -> dict[str, Any]:
    import exchange_calendars

    if name not in exchange_calendars.get_calendar_names():
        raise ValueError(
            f"`calendar` must be a name known to exchange_calendars, was {name!r}; for example XNYS, XLON or 24/7."
        )
    try:
        calendar = exchange_calendars.get_calendar(name, start=first.isoformat(), end=last.isoformat())
    except ValueError:
        # It makes none beyond what it has on record, and says how far that is of one that is made.
        recorded = exchange_calendars.get_calendar(name).bound_max()
        if recorded is None or not first <= recorded.date() < last:
            raise
        last = recorded.date()
        calendar = exchange_calendars.get_calendar(name, start=first.isoformat(), end=last.isoformat())
    days = [ts.date().toordinal() for ts in calendar.sessions]
    rules = calendar.regular_holidays
    holidays = [] if rules is None else [ts.date() for ts in rules.holidays(first.isoformat(), last.isoformat())]
    sessions = set(days)
    # NaT where a session has none, such as a half day.
    breaks = [
        (day, begin, end)
        for day, begin, end in zip(days, calendar.break_starts, calendar.break_ends, strict=True)
        if begin == begin
    ]
    return {
        "days": days,
        "opens": [_minutes(ts.to_pydatetime()) for ts in calendar.opens],
        "closes": [_minutes(ts.to_pydatetime()) for ts in calendar.closes],
        "break_days": [day for day, _, _ in breaks],
        "break_begins": [_minutes(begin.to_pydatetime()) for _, begin, _ in breaks],
        "break_ends": [_minutes(end.to_pydatetime()) for _, _, end in breaks],
        "planned_holidays": sorted(
            {day.toordinal() for day in holidays if day.weekday() < 5 and day.toordinal() not in sessions}
        ),
        "timezone": str(calendar.tz),
    }


def _minutes(instant: datetime) -> int:
    return round((instant - _EPOCH).total_seconds() / 60.0)


def _read(path: Path) -> dict[str, Any] | None:
    """What is kept, None if nothing is or not what was written."""
    try:
        text = path.read_text()
        digest, _, body = text.partition("\n")
        if sha256(body.encode()).hexdigest() != digest:
            return None
        kept: dict[str, Any] = json.loads(body)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return None
    return kept


def _keep(path: Path, numbers: dict[str, Any]) -> None:
    body = json.dumps(numbers)
    try:
        path.parent.mkdir(exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem)
        with os.fdopen(handle, "w") as file:
            file.write(f"{sha256(body.encode()).hexdigest()}\n{body}")
        os.replace(name, path)
    except OSError:
        # An installation that cannot be written, or a full disk: it is worked out again next time.
        return
