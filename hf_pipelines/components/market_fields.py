"""Market fields: the parts of a market's YAML that are mappings of their own.

Lives here: members of the universe, reference tables, overrides, and the rules of dates, names and sources in them. Does not
live here: the market itself (`market`), the fields of each source (`resources.market_data`).
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, time
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import dagster as dg
from pydantic import Field, field_validator, model_validator

from hf_pipelines.calendars import SessionOverride
from hf_pipelines.partitions import parse_key
from hf_pipelines.research.disputes import Override
from hf_pipelines.resources.market_data.registry import parse_table_source
from hf_pipelines.resources.market_data.source_entry import SourceSpec

# No market has bars before, and no calendar is planned so far.
FIRST_DAY, LAST_DAY = "1900-01-01", "2100-12-31"
NAME_PATTERN = r"^[a-z][a-z0-9_]{0,62}$"


def _as_written(context: dg.ResolutionContext, values: Any) -> Any:
    return values


# A mapping with the `type` of a registered source: its other fields are those of that entry.
AnySource = Annotated[SourceSpec, dg.Resolver(_as_written, model_field_type=dict[str, Any])]


def checked_name(name: str) -> str:
    """Refuse a name that cannot be the first part of asset keys, of a market or a strategy."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise ValueError(f"`name` must match {NAME_PATTERN}, was {name[:80]!r}.")
    return name


class UniverseMember(dg.Model, dg.Resolvable):
    """A symbol and the sessions on which it belongs to the universe, both ends included.

    A symbol that left and came back is listed once for each spell. It always names the same security, under whatever
    tickers that was traded: the source knows those (`lean` has map files). A ticker that passed to another company
    is another member (`FB.1` until 2003, `FB` since 2012).
    """

    symbol: str = Field(
        description="Ticker: capital letters, digits and `.^_-`; in quotes where YAML would read a number."
    )
    since: str | None = Field(
        default=None, description="First session as a member, YYYY-MM-DD; left out: the market's `start`."
    )
    until: str | None = Field(
        default=None, description="Last session as a member, YYYY-MM-DD; left out: still a member."
    )
    sector: str | None = Field(
        default=None, description="Sector, for features, targets and rules that compare within one."
    )


class ReferenceSpec(dg.Model, dg.Resolvable):
    """Where the rows of a reference table come from."""

    table: str = Field(description="Name of the table, a key of REFERENCES.")
    source: AnySource = Field(description="Where its rows come from: an entry of SOURCES that has tables.")

    @field_validator("source", mode="before")
    @classmethod
    def _parse_source(cls, source: Any) -> SourceSpec:
        return parse_table_source(source)


class CalendarOverride(dg.Model, dg.Resolvable):
    """A day on which the library's calendar is wrong: a session, a closure, other hours (of the market's clock)."""

    day: str = Field(description="The day that the calendar has wrong, YYYY-MM-DD.")
    closed: bool = Field(default=False, description="true: no session on that day.")
    open: str | None = Field(
        default=None, description='Opening time on the market\'s clock, such as "09:30" in quotes; with `close`.'
    )
    close: str | None = Field(
        default=None, description='Closing time on the market\'s clock, such as "13:00" in quotes; with `open`.'
    )
    announced: str | None = Field(
        default=None, description="Day from which on it was known, YYYY-MM-DD; left out: the day itself."
    )

    @model_validator(mode="after")
    def _check_hours(self) -> "CalendarOverride":
        require_dates("calendar_overrides", [self.day, *([self.announced] if self.announced else [])])
        if (self.announced or self.day) > self.day:
            raise ValueError(f"`announced` must not be after `day` {self.day}, was {self.announced}.")
        hours = [each for each in (self.open, self.close) if each is not None]
        if len(hours) != (0 if self.closed else 2):
            raise ValueError(
                f"`calendar_overrides` must say `closed: true`, or give `open` and `close`, was neither for {self.day}."
            )
        if bad := [each for each in hours if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", each)]:
            raise ValueError(f'`open` and `close` must be times such as "09:15" in quotes, was {bad[0][:20]!r}.')
        if hours and hours[0] >= hours[1]:
            raise ValueError(f"`close` must be after `open` {hours[0]}, was {hours[1]}.")
        return self

    def session_override(self, timezone: str) -> SessionOverride:
        day = parse_key(self.day)
        announced = parse_key(self.announced or self.day)
        if self.open is None or self.close is None:
            return SessionOverride(day, None, None, announced)
        opens, closes = (
            datetime.combine(day, time.fromisoformat(each), ZoneInfo(timezone)).astimezone(UTC)
            for each in (self.open, self.close)
        )
        return SessionOverride(day, opens, closes, announced)


class RowOverride(dg.Model, dg.Resolvable):
    """A person's verdict on rows that the rules judge wrongly, from `since` to `until`, both included."""

    symbol: str = Field(description="Symbol of the market whose rows are meant.")
    verdict: Literal["refused", "accepted"] = Field(description="What the rows are, whatever the rules say.")
    since: str = Field(description="First session of the rows, YYYY-MM-DD.")
    until: str | None = Field(
        default=None, description="Last session of the rows, YYYY-MM-DD; left out: all later ones."
    )

    @model_validator(mode="after")
    def _check_days(self) -> "RowOverride":
        require_dates("row_overrides", [self.since, *([self.until] if self.until else [])])
        if self.until is not None and self.until < self.since:
            raise ValueError(f"`until` must not be before `since` {self.since}, was {self.until}.")
        return self

    def override(self) -> Override:
        return (self.symbol, parse_key(self.since), parse_key(self.until) if self.until else None, self.verdict)


def require_dates(field: str, days: Sequence[str]) -> None:
    for day in days:
        try:
            parse_key(day)
        except ValueError as e:
            raise ValueError(f"`{field}` must be a date YYYY-MM-DD, was {day[:40]!r}.") from e
        if not FIRST_DAY <= day <= LAST_DAY:
            raise ValueError(f"`{field}` must be a date from {FIRST_DAY} to {LAST_DAY}, was {day}.")
