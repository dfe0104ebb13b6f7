"""Reference tables (filings, insider trades, short interest, news) behind one small contract.

Lives here: `ReferenceSource`, and which days of a week count. Does not live here: what a row must look like
(`research.references`), its implementations (`files`, `http`).
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Protocol

from hf_pipelines.partitions import days_of_week
from hf_pipelines.resources.market_data import SourceFile


class ReferenceSource(Protocol):
    """Where the rows of a reference table come from."""

    def read(self, table: str, weeks: Sequence[str], now: datetime) -> dict[str, list[SourceFile]]:
        """Files with the rows that became available in each of `weeks` (their Sundays) up to `now`."""
        ...

    def listing(self, table: str, week: str, now: datetime) -> dict[str, str]:
        """Names and sha256 of the files of a week."""
        ...


def past_days(week: str, now: datetime) -> list[date]:
    """Days of a week whose files count at `now`."""
    return [day for day in days_of_week(week) if day <= now.date()]
