"""Weeks, days and sessions: the only place where partitions are defined.

Lives here: the weekly and the daily partitions definition of a market, its trading sessions, and the
arithmetic between a session, its week and the weeks around it. Does not live here: assets, data, clocks.

Dagster concept: partitions definitions and partition mappings. A **week** runs from Sunday to Sunday in the
market's time zone and is named by its first Sunday. A bar belongs to the week of its `session`, never of its
`ts` (the Saturday bar of a 24/7 market closes on Sunday 00:00).
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, lru_cache
from zoneinfo import ZoneInfo

import dagster as dg
import polars as pl

from hf_pipelines.calendars import SessionCalendar, SessionOverride, load_calendar, overridden, require_recorded

KEY_FORMAT = "%Y-%m-%d"
SATURDAY_CRON = "0 0 * * 6"

# A market without an end needs holidays known ahead of time: exchanges publish about two years of them.
CALENDAR_YEARS_AHEAD = 2

# How far a value may look around its session in the calendar: the distance to a holiday, the month before.
SURROUNDING_DAYS = 42

# Years by which a calendar's usual year and session are measured: the same for a market of three weeks and of 30 years.
USUAL_YEARS = (2015, 2019)

# Further time zones of a calendar: Bogotá trades by the clock of New York, as the library has it, and keeps its own.
SAME_EXCHANGE = {"XBOG": ("America/Bogota",)}


def week_start(session: date) -> date:
    """First day (Sunday) of the week that `session` lies in.

    Examples
    --------
    >>> week_start(date(2013, 3, 1)), week_start(date(2013, 2, 24))
    (datetime.date(2013, 2, 24), datetime.date(2013, 2, 24))
    """
    return session - timedelta(days=(session.weekday() + 1) % 7)


def week_end(session: date) -> date:
    """Last day (Saturday) of the week that `session` lies in."""
    return week_start(session) + timedelta(days=6)


def week_of_session() -> pl.Expr:
    """Key of the week of each row's `session`, as a column `week`."""
    session = pl.col("session")
    sunday = session - pl.duration(days=session.dt.weekday() % 7)
    return sunday.dt.strftime(KEY_FORMAT).alias("week")


def week_key(session: date) -> str:
    """Partition key of the week that `session` lies in."""
    return week_start(session).strftime(KEY_FORMAT)


@lru_cache(maxsize=16_384)
def parse_key(key: str) -> date:
    """Date that a weekly or daily partition key names.

    Raises
    ------
    ValueError
        If `key` is not of the form YYYY-MM-DD.
    """
    try:
        parsed = datetime.strptime(key, KEY_FORMAT).date()
    except ValueError as e:
        raise ValueError(f"`partition key` must be a date YYYY-MM-DD, was {key[:40]!r}.") from e
    if parsed.strftime(KEY_FORMAT) != key:
        raise ValueError(f"`partition key` must be a date YYYY-MM-DD, was {key[:40]!r}.")
    return parsed


def shift_week(key: str, weeks: int) -> str:
    """Key of the week `weeks` after (or, if negative, before) the week `key`."""
    return (parse_key(key) + timedelta(weeks=weeks)).strftime(KEY_FORMAT)


def days_of_week(key: str) -> list[date]:
    """The seven days of the week `key`, Sunday first."""
    return [parse_key(key) + timedelta(days=offset) for offset in range(7)]


@lru_cache(maxsize=32)
def usual_sessions(calendar_name: str) -> tuple[int, tuple[date, datetime, datetime]]:
    """Sessions a year of a calendar, rounded, and its newest session of usual length: day, open and close (UTC).

    Examples
    --------
    >>> usual_sessions("XNYS")[0], usual_sessions("24/7")[0]
    (252, 365)
    """
    first, last = USUAL_YEARS
    calendar = _usual_calendar(calendar_name)
    hours = list(zip(calendar.days, calendar.opens, calendar.closes, strict=True))
    counts = Counter(closed - opened for _, opened, closed in hours)
    usual = min(length for length, n in counts.items() if n == max(counts.values()))
    newest = [each for each in hours if each[2] - each[1] == usual][-1]
    return round(len(hours) / (last - first + 1)), newest


def usual_breaks(calendar_name: str) -> Mapping[date, tuple[datetime, datetime]]:
    """Breaks of the years that `usual_sessions` is measured on."""
    return _usual_calendar(calendar_name).breaks


def _usual_calendar(calendar_name: str) -> SessionCalendar:
    first, last = USUAL_YEARS
    return load_calendar(calendar_name, date(first, 1, 1), date(last, 12, 31))


@dataclass(frozen=True)
class MarketPartitions:
    """Sessions, weeks and days of one market, shared by its strategies.

    Parameters
    ----------
    calendar_name : str
        Name in `exchange_calendars`, such as "XNYS".
    timezone : str
        IANA name of the market's time zone; weeks and days begin at its midnight.
    start : date
        First day with data. Rounded down to its Sunday.
    end : date or None
        Last session with data, None for a market that goes on. Rounded up to the Sunday after it.
    overrides : tuple of SessionOverride
        Sessions, closures and hours that the calendar does not know.
    """

    calendar_name: str
    timezone: str
    start: date
    end: date | None = None
    overrides: tuple[SessionOverride, ...] = ()

    def __post_init__(self) -> None:
        if self.end is not None and self.end < self.start:
            raise ValueError(f"`end` must not be before `start` {self.start}, was {self.end}.")

    @cached_property
    def first_week(self) -> date:
        return week_start(self.start)

    @cached_property
    def end_sunday(self) -> date | None:
        """Sunday after the last session, None for a market that goes on."""
        return None if self.end is None else week_start(self.end) + timedelta(weeks=1)

    @cached_property
    def calendar(self) -> SessionCalendar:
        """Sessions from before the first week to after the last: weeks that begin on Sundays reach past the last one."""
        return overridden(self._library_calendar, self.overrides) if self.overrides else self._library_calendar

    @cached_property
    def _library_calendar(self) -> SessionCalendar:
        around = timedelta(days=SURROUNDING_DAYS)
        found = load_calendar(self.calendar_name, self.first_week - around, self._last_known_day + around)
        if self.end is None:
            require_recorded(self.calendar_name, found, date.today())
        return found

    @cached_property
    def changes(self) -> tuple[SessionOverride, ...]:
        """Overrides that make a day a session, or no session, against the library's calendar."""
        days = set(self._library_calendar.days)
        return tuple(each for each in self.overrides if each.is_session != (each.day in days))

    def known_on(self, day: date) -> "MarketPartitions":
        """The same market as its calendar was known on a day."""
        known = tuple(each for each in self.overrides if each.announced <= day)
        return self if known == self.overrides else replace(self, overrides=known)

    @cached_property
    def _last_known_day(self) -> date:
        last = self.end or date(date.today().year + CALENDAR_YEARS_AHEAD, 1, 1)
        return last + timedelta(days=31)

    @cached_property
    def sessions(self) -> tuple[date, ...]:
        """Every session of the calendar from the first week on, a month past the end included."""
        return tuple(day for day in self.calendar.days if self.first_week <= day <= self._last_known_day)

    @cached_property
    def _session_set(self) -> frozenset[date]:
        return frozenset(self.sessions)

    @cached_property
    def weekly(self) -> dg.WeeklyPartitionsDefinition:
        """One partition a week; the week under way exists (a model must serve it)."""
        return self.weekly_from(self.first_week)

    def weekly_from(self, sunday: date) -> dg.WeeklyPartitionsDefinition:
        """Weeks from a Sunday on."""
        return dg.WeeklyPartitionsDefinition(
            start_date=sunday.isoformat(),
            end_date=self.end_sunday.isoformat() if self.end_sunday else None,
            timezone=self.timezone,
            end_offset=1,
        )

    @cached_property
    def daily(self) -> dg.TimeWindowPartitionsDefinition:
        """One partition a session, and one a Sunday.

        A market that never closes has a session every day, Sundays too. Elsewhere Saturdays and holidays are excluded unless they trade. Sundays stay: with the first day of a week
        excluded, Dagster 1.13 maps every week also to the previous Friday. A run for a Sunday without a
        session fails naming the next session.
        """
        return self.daily_from(self.first_week)

    def daily_from(self, sunday: date) -> dg.TimeWindowPartitionsDefinition:
        """Days from a Sunday on."""
        trades_on_saturdays = any(day.weekday() == 5 for day in self.sessions)
        holidays = [
            datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(self.timezone))
            for day in self._holidays(sunday, n_weekdays=6 if trades_on_saturdays else 5)
        ]
        saturdays: list[str] = [] if trades_on_saturdays else [SATURDAY_CRON]
        return dg.TimeWindowPartitionsDefinition(
            start=sunday.isoformat(),
            end=self.end_sunday.isoformat() if self.end_sunday else None,
            fmt=KEY_FORMAT,
            timezone=self.timezone,
            cron_schedule="0 0 * * *",
            end_offset=1,
            exclusions=[*saturdays, *holidays] or None,
        )

    def _holidays(self, first: date, *, n_weekdays: int) -> list[date]:
        """Days without a session among the first weekdays, from Monday on."""
        last = self.sessions[-1]
        days = (first + timedelta(days=i) for i in range((last - first).days + 1))
        return [day for day in days if day.weekday() < n_weekdays and day not in self._session_set]

    def is_session(self, day: date) -> bool:
        return day in self._session_set

    def sessions_between(self, first: date, last: date) -> list[date]:
        """Sessions in [first, last]."""
        return list(self.sessions[bisect_left(self.sessions, first) : bisect_right(self.sessions, last)])

    def sessions_around(self, first: date, last: date) -> list[date]:
        """Sessions in [first, last] and `SURROUNDING_DAYS` before and after, also those before the market's start."""
        around, days = timedelta(days=SURROUNDING_DAYS), self.calendar.days
        return list(days[bisect_left(days, first - around) : bisect_right(days, last + around)])

    def sessions_of_week(self, key: str) -> list[date]:
        """Sessions of the week `key` that the market has (none after its end)."""
        sunday = parse_key(key)
        last = week_end(sunday)
        return self.sessions_between(sunday, min(last, self.end) if self.end else last)

    def has_week(self, key: str) -> bool:
        """Whether the market has a partition of the week `key`, or will have one."""
        sunday = parse_key(key)
        return self.first_week <= sunday and (self.end_sunday is None or sunday < self.end_sunday)

    def closed_sessions(self, key: str, now: datetime) -> list[date]:
        """Sessions of the week `key` that have closed at `now`."""
        return [day for day in self.sessions_of_week(key) if self.hours[day][1] <= now]

    def rests_before(self, day: str) -> list[str]:
        """The Sunday before the first session of a week, where it is none itself: its partition stays empty.

        Examples
        --------
        >>> nyse = MarketPartitions("XNYS", "America/New_York", date(2013, 1, 2), date(2013, 3, 1))
        >>> nyse.rests_before("2013-02-19"), nyse.rests_before("2013-02-20")
        (['2013-02-17'], [])
        """
        week = week_key(parse_key(day))
        is_first = self.sessions_of_week(week)[:1] == [parse_key(day)]
        return [week] if is_first and not self.is_session(parse_key(week)) else []

    def closed_days(self, now: datetime) -> list[str]:
        """Keys of all sessions that have closed at `now`, ascending."""
        return [day.isoformat() for day in self.sessions_between(self.start, now.date()) if self.hours[day][1] <= now]

    def trading_weeks(self, keys: Iterable[str]) -> list[str]:
        """Those of some weeks that have sessions: an exchange may rest for more than a week (the Golden Weeks of China)."""
        return [key for key in keys if self.sessions_of_week(key)]

    def week_before(self, key: str) -> str:
        """Last week with sessions before the week `key`; the week before it where the calendar knows none."""
        before = bisect_left(self.sessions, parse_key(key))
        return week_key(self.sessions[before - 1]) if before else shift_week(key, -1)

    def other_days(self, key: str, now: datetime) -> list[date]:
        """Days of the week `key` that are no session and have begun in the market's time zone: none should have a file."""
        today = now.astimezone(ZoneInfo(self.timezone)).date()
        return [day for day in days_of_week(key) if day <= today and not self.is_session(day)]

    def newest_week(self, last_session: date) -> str | None:
        """Week that has begun once `last_session` is over: its own, or the next with sessions after its week's last one.

        None after the market's end: no week is left to be served.

        Examples
        --------
        >>> nyse = MarketPartitions("XNYS", "America/New_York", date(2013, 1, 2), date(2013, 3, 1))
        >>> [nyse.newest_week(date(*day)) for day in ((2013, 1, 10), (2013, 1, 11), (2013, 3, 1))]
        ['2013-01-06', '2013-01-13', None]
        """
        week = week_key(last_session)
        sessions = self.sessions_of_week(week)
        if sessions and last_session >= sessions[-1]:
            after = bisect_right(self.sessions, last_session)
            # A week in which nothing trades is served by no model.
            week = week_key(self.sessions[after]) if after < len(self.sessions) else shift_week(week, 1)
        newest = week
        return None if self.end_sunday is not None and parse_key(newest) >= self.end_sunday else newest

    def next_session(self, day: date) -> date:
        """First session after `day`.

        Raises
        ------
        ValueError
            If the calendar ends before it.
        """
        after = bisect_right(self.sessions, day)
        if after == len(self.sessions):
            raise ValueError(
                f"`day` must be before the last known session of {self.calendar_name}, {self.sessions[-1]}, was {day}."
            )
        return self.sessions[after]

    def session_open(self, day: date) -> datetime:
        """Opening time of the session, UTC."""
        self.require_session(day)
        return self.hours[day][0]

    def session_close(self, day: date) -> datetime:
        """Closing time of the session, UTC."""
        self.require_session(day)
        return self.hours[day][1]

    @cached_property
    def hours(self) -> dict[date, tuple[datetime, datetime]]:
        """Opening and closing time (UTC) of every session."""
        known = zip(self.calendar.days, self.calendar.opens, self.calendar.closes, strict=True)
        return {day: (opened, closed) for day, opened, closed in known if self.is_session(day)}

    @property
    def breaks(self) -> Mapping[date, tuple[datetime, datetime]]:
        """Begin and end (UTC) of the break at noon of each session that has one."""
        return self.calendar.breaks

    def opens_between(self, first: date, last: date) -> dict[date, datetime]:
        """Opening time (UTC) of each session in [first, last]."""
        return {day: self.hours[day][0] for day in self.sessions_between(first, last)}

    def planned_holidays_between(self, first: date, last: date) -> list[date]:
        """Weekdays in [first, last] on which the market is closed by a rule known years ahead."""
        return [day for day in self.calendar.planned_holidays if first <= day <= last]

    def require_weeks(self) -> None:
        """Refuse a time zone in which a week begins while a session of the week before still trades.

        The model of a week is trained on all sessions of the weeks before it: a Saturday that ends after the Sunday
        began would be known too early.

        Raises
        ------
        ValueError
            Naming the session.
        """
        day = next((day for day in self.sessions if day.weekday() == 5), None)
        if day is not None and self.hours[day][1] > (begins := self.week_begin(shift_week(week_key(day), 1))):
            raise ValueError(
                f"`timezone` must be one in which Saturday's session has closed when Sunday begins, was {self.timezone}: "
                f"the session {day} of {self.calendar_name} closes at {self.hours[day][1]:%Y-%m-%d %H:%M} UTC, the next week "
                f"begins at {begins:%Y-%m-%d %H:%M} UTC; use UTC."
            )

    def require_clock(self) -> None:
        """Refuse a time zone in which the exchange does not trade: the hours of a session would be those of another day or hour.

        A market that never rests has no clock of its own.

        Raises
        ------
        ValueError
            Naming the exchange's time zone.
        """
        calendar = self._library_calendar
        if calendar.timezone == "UTC" or self.timezone in SAME_EXCHANGE.get(self.calendar_name, ()):
            return
        if (day := calendar.clock_fault(self.timezone)) is not None:
            raise ValueError(
                f"`timezone` must show the hours of {self.calendar_name}, {calendar.timezone}, was {self.timezone}, whose clock "
                f"shows others on {day}; write {calendar.timezone}."
            )

    def require_session(self, day: date) -> None:
        """Refuse a day on which the market does not trade.

        Raises
        ------
        ValueError
            Naming the next session.
        """
        if not self.is_session(day):
            raise ValueError(
                f"`day` must be a session of {self.calendar_name}, was {day} ({day:%A}); "
                f"the next session is {self.next_session(day)}."
            )

    def week_begin(self, key: str) -> datetime:
        """Instant (UTC) at which the week `key` begins: midnight of its Sunday in the market's time zone."""
        sunday = parse_key(key)
        return datetime(sunday.year, sunday.month, sunday.day, tzinfo=ZoneInfo(self.timezone)).astimezone(UTC)

    def weeks_around(self, key: str, *, first: int, last: int) -> list[str]:
        """Keys of the weeks `first`..`last` relative to `key` (both inclusive), those that exist.

        The window is clipped at the market's first week, as Dagster's mapping does: a caller that needs all
        of it compares the length with `last - first + 1`.
        """
        keys = [shift_week(key, offset) for offset in range(first, last + 1)]
        return [each for each in keys if self.first_week <= parse_key(each)]

    def weeks_between(self, first: date, last: date) -> list[str]:
        """Keys of all weeks from the one of `first` to the one of `last`."""
        count = (week_start(last) - week_start(first)).days // 7
        return [shift_week(week_key(first), offset) for offset in range(count + 1)]
