"""Reference tables (filings, insider trades, short interest, news) behind one small contract.

Lives here: `ReferenceSource` and reading a table out of files that are named by day. Does not live here: what a row must
look like (`research.references`), the service (`http`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from hf_pipelines.partitions import days_of_week, parse_key
from hf_pipelines.resources.market_data import SourceFile
from hf_pipelines.resources.market_data.files import FilesSource, session_of_name
from hf_pipelines.resources.market_data.http import HttpSource


class ReferenceSource(Protocol):
    """Where the rows of a reference table come from."""

    def read(self, table: str, weeks: Sequence[str], now: datetime) -> dict[str, list[SourceFile]]:
        """Files with the rows that became available in each of `weeks` (their Sundays) up to `now`."""
        ...

    def listing(self, table: str, week: str, now: datetime) -> dict[str, str]:
        """Names and sha256 of the files of a week."""
        ...


@dataclass(frozen=True)
class ReferenceFiles:
    """A folder or prefix with files named by the day on which their rows became available, any day of the week."""

    files: FilesSource

    def read(self, table: str, weeks: Sequence[str], now: datetime) -> dict[str, list[SourceFile]]:
        found: dict[str, list[SourceFile]] = {week: [] for week in weeks}
        days = {day: week for week in weeks for day in past_days(week, now)}
        for file in self.files.read(list(days)):
            day = session_of_name(file.name)
            if day is not None:
                found[days[day]].append(file)
        return found

    def listing(self, table: str, week: str, now: datetime) -> dict[str, str]:
        return self.files.listing(past_days(week, now))


@dataclass(frozen=True)
class ReferenceService:
    """A market data service."""

    service: HttpSource

    def read(self, table: str, weeks: Sequence[str], now: datetime) -> dict[str, list[SourceFile]]:
        begun = [week for week in weeks if parse_key(week) <= now.date()]
        files = self.service.read_reference(table, begun)
        return {week: [] for week in weeks} | {week: [file] for week, file in zip(begun, files, strict=True)}

    def listing(self, table: str, week: str, now: datetime) -> dict[str, str]:
        return {file.name: file.sha256 for file in self.read(table, [week], now)[week]}


def past_days(week: str, now: datetime) -> list[date]:
    """Days of a week whose files count at `now`."""
    return [day for day in days_of_week(week) if day <= now.date()]
