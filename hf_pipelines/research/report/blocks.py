"""Blocks: what a section of a report consists of, before anything is drawn or written.

Lives here: tables, charts and sentences as plain values, and how a number is written. Not here: which sections there are (`registry`),
HTML (`page`), figures (`interactive`, `pictures`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Literal

import polars as pl

# How a value is written. A fraction is shown in percent, a ratio with two digits, an amount without digits.
Unit = Literal["text", "date", "count", "fraction", "ratio", "number", "amount"]

Value = str | float | int | bool | date | None

# Stands where a number is undefined; the reason is beside it.
DASH = "–"

# Below it a percentage has a second digit, and a ratio a third.
SMALL = 0.01

# Points of a line that are drawn: twice what a wide screen has columns of pixels for a chart.
MOST_POINTS = 1_200


# Rows of a table, names along an axis, and lines of a chart: more of them nobody reads, and the page is to be mailed. What is cut is counted.
MOST_ROWS, MOST_NAMES, MOST_LINES = 100, 60, 24

# Characters from which on a text of a table is a sentence.
LONG_TEXT = 24

# Characters of a text, such as a message.
MOST_LETTERS = 2_000


@dataclass(frozen=True)
class Cell:
    """A value of a table.

    Attributes
    ----------
    value : str, float, int, bool, date or None
        As stored; None and NaN: undefined.
    unit : {"text", "date", "count", "fraction", "ratio", "number", "amount"}
    reason : str
        Why it is undefined; needed of those that are.
    key : str
        Name of the stored number, such as `backtest/summary/sharpe_ratio`; "" of a text.
    """

    value: Value
    unit: Unit = "text"
    reason: str = ""
    key: str = ""

    @property
    def is_number(self) -> bool:
        """Whether its column is one of numbers."""
        return self.unit not in ("text", "date")

    @property
    def is_defined(self) -> bool:
        """Whether there is a value."""
        return self.value is not None and not (isinstance(self.value, float) and not math.isfinite(self.value))

    @property
    def text(self) -> str:
        """What a reader sees.

        Examples
        --------
        >>> [Cell(each, "fraction").text for each in (-0.2313, 0.00021, -0.00002)], Cell(1234, "count").text, Cell(None, "ratio").text
        (['-23.1%', '0.02%', '0.00%'], '1,234', '–')
        """
        if not self.is_defined:
            return DASH
        return written(self.value, self.unit)

    @property
    def raw(self) -> str:
        """The stored value, in full; "" of an undefined one."""
        if not self.is_defined:
            return ""
        if isinstance(self.value, bool):
            return str(self.value).lower()
        return repr(self.value) if isinstance(self.value, float) else str(self.value)


def written(value: Value, unit: Unit) -> str:
    """A defined value as a reader sees it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, date | str) or value is None:
        return str(value)
    if unit == "count":
        return f"{value:,.0f}"
    if unit == "fraction":
        return _signed(f"{value:.2%}" if 0.0 < abs(value) < SMALL else f"{value:.1%}")
    if unit == "ratio":
        return _signed(f"{value:.3f}" if 0.0 < abs(value) < SMALL else f"{value:,.2f}")
    if unit == "amount":
        return f"{value:,.0f}"
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _signed(text: str) -> str:
    """A number without the sign of what is rounded to nothing."""
    return text if any(each in "123456789" for each in text) else text.removeprefix("-")


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, and how its values are written."""

    title: str
    unit: Unit = "text"


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table that a reader sorts.

    Attributes
    ----------
    name : str
        Of the page, once.
    title : str
    columns : tuple of Column
    rows : tuple of tuple of Cell
    note : str
        Below it.
    shown_rows : int or None
        More are folded away; None: all are shown.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    shown_rows: int | None = None

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why numbers are undefined, each reason once; not those that the row itself tells in its last cell."""
        undefined = ((cell.reason, row[-1].text) for row in self.rows for cell in row if not cell.is_defined)
        return tuple(dict.fromkeys(reason for reason, told in undefined if reason not in told))

    @property
    def ends_in_words(self) -> bool:
        """Whether its last column holds sentences, for which a telephone has no room beside the others."""
        longest = max((len(row[-1].text) for row in self.rows), default=0)
        return len(self.columns) > 2 and self.columns[-1].unit == "text" and longest > LONG_TEXT


def table_of(
    frame: pl.DataFrame,
    columns: Mapping[str, Column],
    *,
    name: str,
    title: str,
    reason: str,
    key: str = "",
    note: str = "",
    shown_rows: int | None = None,
    at: Sequence[int] | None = None,
) -> Table:
    """A stored table as it is shown.

    Parameters
    ----------
    frame : DataFrame
    columns : mapping of str to Column
        Columns of the frame, in the order in which they are shown.
    name, title, note, shown_rows
        See `Table`.
    reason : str
        Why a value of it may be undefined.
    key : str
        Where it is stored, such as `backtest/baselines`; numbers are named by it, their row and their column.
    at : sequence of int, optional
        Rows of the stored table that these are; default its first ones.

    Returns
    -------
    Table
    """
    rows = []
    for stored_row, row in zip(
        range(frame.height) if at is None else at, frame.select(*columns).iter_rows(), strict=True
    ):
        cells = []
        for (column, shown), value in zip(columns.items(), row, strict=True):
            named = f"{key}/{stored_row}/{column}" if key and shown.unit not in ("text", "date") else ""
            why = "" if shown.unit == "text" and value == "" else reason
            cells.append(Cell(value, shown.unit, why, named))
        rows.append(tuple(cells))
    return Table(
        name=name, title=title, columns=tuple(columns.values()), rows=tuple(rows), note=note, shown_rows=shown_rows
    )


# What a line, bar or point stands for: its colour in figures, light and dark.
Role = Literal["own", "before", "benchmark", "equal", "random", "bad", "other", "muted"]

AxisUnit = Literal["date", "category", "fraction", "ratio", "number", "amount", "count"]

CellUnit = Literal["fraction", "ratio", "count"]

Number = float | None


@dataclass(frozen=True)
class Axis:
    """An axis: what it shows with its unit in words, and how ticks are written."""

    title: str
    unit: AxisUnit
    is_log: bool = False


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line, group of bars or points.

    Attributes
    ----------
    name : str
        In the legend.
    x : sequence of date, str or float
    y : sequence of float or None
    mark : {"line", "area", "bar", "points"}
        An area reaches down or up to 0.
    role : str
        What it stands for.
    low, high : sequence of float or None, optional
        Of a line a band, of bars and points an interval.
    is_dashed : bool
    """

    name: str
    x: Sequence[date | str | float]
    y: Sequence[Number]
    mark: Literal["line", "area", "bar", "points"] = "line"
    role: Role = "own"
    low: Sequence[Number] | None = None
    high: Sequence[Number] | None = None
    is_dashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A figure of series on two axes.

    Attributes
    ----------
    name : str
        Of the page, once.
    title : str
    about : str
        What is seen, for who cannot see it.
    x, y : Axis
    series : tuple of Series
    height : int
        Pixels.
    level : float or None
        A line across, such as 0 or what noise gives.
    """

    name: str
    title: str
    about: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    height: int = 280
    level: float | None = None


@dataclass(frozen=True, kw_only=True)
class Heatmap:
    """A figure of a value in each cell of a grid; None where there is none.

    Attributes
    ----------
    name, title, about : str
    columns, rows : tuple of str
        The first row is drawn on top.
    values : tuple of tuple of float or None
    unit : {"fraction", "ratio", "count"}
    is_diverging : bool
        Whether 0 has a colour of its own, losses and gains two others.
    """

    name: str
    title: str
    about: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    values: tuple[tuple[Number, ...], ...]
    unit: CellUnit = "fraction"
    is_diverging: bool = True
    x_title: str = ""
    y_title: str = ""


@dataclass(frozen=True)
class Text:
    """Sentences, a line each; `tone` marks what a reader must not miss."""

    lines: tuple[str, ...]
    tone: Literal["plain", "good", "bad", "note"] = "plain"


@dataclass(frozen=True)
class Missing:
    """What a section lacks, and the command that makes it."""

    what: str
    command: str


Block = Table | Chart | Heatmap | Text | Missing


def bounded(block: Block) -> Block:
    """A block of a size that a page has room for: a longer table, axis of names or set of lines is cut, and says of how many."""
    match block:
        case Table() if len(block.rows) > MOST_ROWS:
            cut = f"The first {MOST_ROWS} of {len(block.rows):,} rows; all of them are stored."
            return replace(block, rows=block.rows[:MOST_ROWS], note=" ".join(filter(None, (block.note, cut))))
        case Chart() if len(block.series) > MOST_LINES or any(_is_long(block, each) for each in block.series):
            kept = tuple(_cut(each) if _is_long(block, each) else each for each in block.series[:MOST_LINES])
            most = max(len(each.x) for each in block.series) if block.x.unit == "category" else 0
            names = f", the first {MOST_NAMES} of {most:,}" if most > MOST_NAMES else ""
            lines = f", {MOST_LINES} of {len(block.series):,} lines" if len(block.series) > MOST_LINES else ""
            return replace(block, series=kept, title=f"{block.title}{names}{lines}")
        case Text() if any(len(each) > MOST_LETTERS for each in block.lines):
            return replace(
                block,
                lines=tuple(each if len(each) <= MOST_LETTERS else f"{each[:MOST_LETTERS]}…" for each in block.lines),
            )
    return block


def _is_long(chart: Chart, series: Series) -> bool:
    return chart.x.unit == "category" and len(series.x) > MOST_NAMES


def _cut(series: Series) -> Series:
    low, high = (None if each is None else each[:MOST_NAMES] for each in (series.low, series.high))
    return replace(series, x=series.x[:MOST_NAMES], y=series.y[:MOST_NAMES], low=low, high=high)
