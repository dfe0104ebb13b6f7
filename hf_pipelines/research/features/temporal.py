"""Temporal features: what the calendar says about a row's session, known before the session opens.

Here: whole-column functions of a panel's `session`, its calendar and its planned holidays. Not here: anything
read from prices.

A holiday is a weekday (Monday to Friday) without a session; a market that trades round the clock has none. The
days TO a holiday count only closures that were planned years ahead: on 10 September 2001 nobody knew of the
four days to come, on 26 October 2012 nobody knew that a storm would close the exchange on Monday. A closure that was
announced (`Panel.changes`) counts from that day on. The days
SINCE count every closure, for by then it is known.

How far the given calendar reaches must not show in a value: distances end at `MAX_HOLIDAY_DISTANCE`, and a
calendar that cannot tell them up to there is refused. The month and quarter flags need the calendar's next
session, or one before.

References
----------
Ariel (1990), "High Stock Returns before Holidays", J. Finance 45(5); Ariel (1987), "A Monthly Effect in Stock
Returns", J. Financial Economics 18(1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from hf_pipelines.research.features.feature import Feature, Input
from hf_pipelines.research.features.panel import Panel
from hf_pipelines.research.features.panel_columns import DateArray, FloatArray

# 1970-01-01, day 0 of datetime64[D], was a Thursday: weekday 3 counted from Monday.
_EPOCH_WEEKDAY = 3

# Weekdays. What is known of holidays shows within days of them; four weeks are "far" on every exchange.
MAX_HOLIDAY_DISTANCE = 20
_REACH_DAYS = MAX_HOLIDAY_DISTANCE // 5 * 7


def day_of_week(panel: Panel) -> FloatArray:
    """Weekday of the session, 0 (Monday) to 6 (Sunday)."""
    return ((panel.session.astype(np.int64) + _EPOCH_WEEKDAY) % 7).astype(np.float64)


def month(panel: Panel) -> FloatArray:
    """Month of the session, 1 to 12."""
    return (_months(panel.session) % 12 + 1).astype(np.float64)


def quarter(panel: Panel) -> FloatArray:
    """Quarter of the session, 1 to 4."""
    return (_months(panel.session) % 12 // 3 + 1).astype(np.float64)


def day_of_year(panel: Panel) -> FloatArray:
    """Day of the session in its year, 1 (1 January) to 366."""
    new_year = panel.session.astype("datetime64[Y]").astype("datetime64[D]")
    return np.asarray((panel.session - new_year).astype(np.int64) + 1, dtype=np.float64)


def day_of_month(panel: Panel) -> FloatArray:
    """Day of the session in its month, 1 to 31."""
    first = panel.session.astype("datetime64[M]").astype("datetime64[D]")
    return np.asarray((panel.session - first).astype(np.int64) + 1, dtype=np.float64)


def week_of_month(panel: Panel) -> FloatArray:
    """Week of the session in its month, 1 (days 1 to 7) to 5."""
    return np.asarray((day_of_month(panel) - 1) // 7 + 1)


def is_month_end(panel: Panel) -> FloatArray:
    """1 if the calendar's next session lies in another month, else 0; NaN if the panel has no calendar."""
    return _differ(_months(panel.session), _months(panel.next_session), panel.next_session)


def is_quarter_end(panel: Panel) -> FloatArray:
    """1 if the calendar's next session lies in another quarter, else 0; NaN if the panel has no calendar."""
    return _differ(_quarters(panel.session), _quarters(panel.next_session), panel.next_session)


def is_month_start(panel: Panel) -> FloatArray:
    """1 if the calendar's session before lies in another month, else 0; NaN if the panel has no calendar."""
    before = _session_before(panel)
    return _differ(_months(panel.session), _months(before), before)


def is_quarter_start(panel: Panel) -> FloatArray:
    """1 if the calendar's session before lies in another quarter, else 0; NaN if the panel has no calendar."""
    before = _session_before(panel)
    return _differ(_quarters(panel.session), _quarters(before), before)


def days_to_holiday(panel: Panel) -> FloatArray:
    """Weekdays to the next planned holiday: 1 on the last session before it, at most 20; NaN if not wanted."""
    days, at = _wanted_sessions(panel)
    _require_reach(panel, days, is_ahead=True)
    holidays = panel.planned_holidays
    after = np.searchsorted(holidays, days, side="right")
    # Far enough to count as far, where no holiday is planned any more.
    upcoming = np.append(holidays, days[-1:] + 2 * _REACH_DAYS)[after]
    for each in panel.changes:
        # A closure counts once it is announced; a holiday on which there will be a session, until that is.
        closed, announced = np.datetime64(each.day, "D"), np.datetime64(each.announced, "D")
        is_known = (days < announced) if each.is_session else (days >= announced)
        if np.is_busday(closed):
            upcoming = np.where((days < closed) & is_known, np.minimum(upcoming, closed), upcoming)
    return _of_rows(panel, np.busday_count(days + 1, upcoming + 1), at)


def days_since_holiday(panel: Panel) -> FloatArray:
    """Weekdays since the latest holiday, planned or not: 1 right after it, at most 20; NaN if not wanted."""
    days, at = _wanted_sessions(panel)
    _require_reach(panel, days, is_ahead=False)
    known = np.arange(panel.calendar[0], days[-1]) if days.size else days
    holidays = known[np.is_busday(known) & ~np.isin(known, panel.calendar)]
    before = np.searchsorted(holidays, days)
    latest = np.append(days[:1] - 2 * _REACH_DAYS, holidays)[before]
    return _of_rows(panel, np.busday_count(latest, days), at)


def _wanted_sessions(panel: Panel) -> tuple[DateArray, npt.NDArray[np.int64]]:
    """The distinct sessions that are asked for, and the place of each wanted row's among them."""
    days, at = np.unique(panel.session[panel.is_wanted], return_inverse=True)
    return days, at


def _of_rows(panel: Panel, distance: npt.NDArray[np.int64], at: npt.NDArray[np.int64]) -> FloatArray:
    values = np.full(panel.session.shape, np.nan)
    values[panel.is_wanted] = np.minimum(distance, MAX_HOLIDAY_DISTANCE)[at]
    return values


def _require_reach(panel: Panel, days: DateArray, *, is_ahead: bool) -> None:
    if not days.size:
        return
    end = days[-1] + _REACH_DAYS if is_ahead else days[0] - _REACH_DAYS
    if not panel.calendar.size or (panel.calendar[-1] < end if is_ahead else panel.calendar[0] > end):
        rule = f"reach to {end} or later" if is_ahead else f"begin on {end} or before"
        given = f"{panel.calendar[0]} to {panel.calendar[-1]}" if panel.calendar.size else "empty"
        raise ValueError(
            f"`sessions` must {rule} for the distance to holidays around {days[-1] if is_ahead else days[0]}, "
            f"was {given}; give sessions that are {_REACH_DAYS} days before and after what is wanted."
        )


def _session_before(panel: Panel) -> DateArray:
    """The calendar's session before each row's; NaT without a calendar, and in rows that are not wanted."""
    before = np.full(panel.session.shape, np.datetime64("NaT", "D"))
    if panel.calendar.size:
        at = np.searchsorted(panel.calendar, panel.session[panel.is_wanted]) - 1
        if (at < 0).any():
            raise ValueError(
                f"`sessions` must hold a session before each that is wanted, was beginning with {panel.calendar[0]}; "
                "begin the calendar earlier."
            )
        before[panel.is_wanted] = panel.calendar[at]
    return before


def _differ(own: npt.NDArray[np.int64], other: npt.NDArray[np.int64], days: DateArray) -> FloatArray:
    return np.where(np.isnat(days), np.nan, own != other)


def _months(days: DateArray) -> npt.NDArray[np.int64]:
    """Months since January 1970."""
    return np.asarray(days.astype("datetime64[M]"), dtype=np.int64)


def _quarters(days: DateArray) -> npt.NDArray[np.int64]:
    """Quarters since January 1970."""
    return np.asarray(_months(days) // 3)


def _days_in_month(panel: Panel) -> FloatArray:
    months = panel.session.astype("datetime64[M]")
    return np.asarray(((months + 1).astype("datetime64[D]") - months.astype("datetime64[D]")).astype(np.float64))


def _days_in_year(panel: Panel) -> FloatArray:
    years = panel.session.astype("datetime64[Y]")
    return np.asarray(((years + 1).astype("datetime64[D]") - years.astype("datetime64[D]")).astype(np.float64))


def _day_of_week_turn(panel: Panel) -> FloatArray:
    return day_of_week(panel) / 7.0


def _day_of_month_turn(panel: Panel) -> FloatArray:
    return (day_of_month(panel) - 1.0) / _days_in_month(panel)


def _month_turn(panel: Panel) -> FloatArray:
    return (month(panel) - 1.0) / 12.0


def _day_of_year_turn(panel: Panel) -> FloatArray:
    return (day_of_year(panel) - 1.0) / _days_in_year(panel)


def sine(turn: Callable[[Panel], FloatArray]) -> Callable[[Panel], FloatArray]:
    """Make a feature of a share of a cycle: 0 at its start, 1 after a quarter."""

    def compute(panel: Panel) -> FloatArray:
        """Sine of the share of the cycle that has passed, -1 to 1."""
        return np.asarray(np.sin(2.0 * np.pi * turn(panel)))

    return compute


def cosine(turn: Callable[[Panel], FloatArray]) -> Callable[[Panel], FloatArray]:
    """Make a feature of a share of a cycle: 1 at its start, 0 after a quarter."""

    def compute(panel: Panel) -> FloatArray:
        """Cosine of the share of the cycle that has passed, -1 to 1."""
        return np.asarray(np.cos(2.0 * np.pi * turn(panel)))

    return compute


def _feature(
    name: str, compute: Callable[[Panel], FloatArray], *, inputs: Sequence[Input], formula: str, source: str = ""
) -> Feature:
    return Feature(name, "temporal", compute, 1, tuple(inputs), formula, source)


_SESSION: tuple[Input, ...] = ("session",)
_NEXT: tuple[Input, ...] = ("session", "next_session")
_CALENDAR: tuple[Input, ...] = ("session", "calendar")
_HOLIDAYS: tuple[Input, ...] = ("session", "calendar", "planned_holidays")

FEATURES = (
    _feature("day_of_week", day_of_week, inputs=_SESSION,
              formula="0 Monday to 6 Sunday"),
    _feature("month", month, inputs=_SESSION,
              formula="1 to 12"),
    _feature("quarter", quarter, inputs=_SESSION,
              formula="1 to 4"),
    _feature("is_month_end", is_month_end, inputs=_NEXT,
              formula="1 if the next session is in another month", source="Ariel (1987)"),
    _feature("day_of_year", day_of_year, inputs=_SESSION,
              formula="1 to 366"),
    _feature("day_of_month", day_of_month, inputs=_SESSION,
              formula="1 to 31"),
    _feature("week_of_month", week_of_month, inputs=_SESSION,
              formula="1 for days 1 to 7, up to 5"),
    _feature("is_month_start", is_month_start, inputs=_CALENDAR,
              formula="1 if the session before is in another month", source="Ariel (1987)"),
    _feature("is_quarter_end", is_quarter_end, inputs=_NEXT,
              formula="1 if the next session is in another quarter"),
    _feature("is_quarter_start", is_quarter_start, inputs=_CALENDAR,
              formula="1 if the session before is in another quarter"),
    _feature("days_to_holiday", days_to_holiday, inputs=_HOLIDAYS,
              formula="weekdays to the next planned holiday, at most 20", source="Ariel (1990)"),
    _feature("days_since_holiday", days_since_holiday, inputs=_HOLIDAYS,
              formula="weekdays since the latest weekday without a session, at most 20", source="Ariel (1990)"),
    _feature("day_of_week_sin", sine(_day_of_week_turn), inputs=_SESSION,
              formula="sin(2 pi day_of_week / 7)"),
    _feature("day_of_week_cos", cosine(_day_of_week_turn), inputs=_SESSION,
              formula="cos(2 pi day_of_week / 7)"),
    _feature("day_of_month_sin", sine(_day_of_month_turn), inputs=_SESSION,
              formula="sin(2 pi (day_of_month - 1) / days in the month)"),
    _feature("day_of_month_cos", cosine(_day_of_month_turn), inputs=_SESSION,
              formula="cos(2 pi (day_of_month - 1) / days in the month)"),
    _feature("month_sin", sine(_month_turn), inputs=_SESSION,
              formula="sin(2 pi (month - 1) / 12)"),
    _feature("month_cos", cosine(_month_turn), inputs=_SESSION,
              formula="cos(2 pi (month - 1) / 12)"),
    _feature("day_of_year_sin", sine(_day_of_year_turn), inputs=_SESSION,
              formula="sin(2 pi (day_of_year - 1) / days in the year)"),
    _feature("day_of_year_cos", cosine(_day_of_year_turn), inputs=_SESSION,
              formula="cos(2 pi (day_of_year - 1) / days in the year)"),
)  # fmt: skip
