"""Market data sources behind one small contract.

Lives here: `MarketDataSource` and its implementations, one module each. Does not live here: what a bar must look
like (`research.bars`), who asks for which week (`components.market`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Protocol

import polars as pl


@dataclass(frozen=True)
class SourceFile:
    """Rows that came together: one file, or one table of a package.

    Attributes
    ----------
    name : str
        What a person would look for.
    sha256 : str
        Of the bytes as they came.
    frame : DataFrame or None
        The rows as read, unchecked; None if the bytes cannot be read as a table.
    fault : str or None
        Why they cannot be read.
    sessions : tuple of date
        Sessions the file is asked for; a file that cannot be read fails the weeks of these.
    """

    name: str
    sha256: str
    frame: pl.DataFrame | None
    sessions: tuple[date, ...]
    fault: str | None = None


class MarketDataOutageError(OSError):
    """A service did not answer as it should, and may in a minute: it is away, busy or broken.

    Attributes
    ----------
    retry_after_s : float
        How long it asked to be left alone.
    """

    retry_after_s: float = 0.0


class MarketDataRefusedError(ValueError):
    """A service refused what it was asked for, and will again: a wrong key, address or symbol."""


class MarketDataSource(Protocol):
    """Where bars come from."""

    def listing(self, sessions: Sequence[date]) -> dict[str, str]:
        """Names and sha256 of the files that hold bars of these sessions."""
        ...

    def read(self, sessions: Sequence[date]) -> list[SourceFile]:
        """The files that hold bars of these sessions; rows of other sessions are left out."""
        ...


def by_week(sessions: Sequence[date]) -> dict[str, list[date]]:
    """Sessions of each week, ascending.

    Parameters
    ----------
    sessions : sequence of date
        Trading days in any order.

    Returns
    -------
    dict of str to list of date
        By the Sunday of the week, YYYY-MM-DD.
    """
    # With it comes Dagster, which the process that only parses does not need.
    from hf_pipelines.partitions import week_key

    return {key: list(days) for key, days in groupby(sorted(set(sessions)), key=week_key)}
