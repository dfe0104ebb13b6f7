"""Where the rows of a long frame lie on a grid of timestamps by symbols, and their values there.

Lives here: `Cells`, and the two ways to it: a frame in which every symbol has the same timestamps is a grid already, of any other each
row is looked up. Not here: which grid (`panel.py`), what values are allowed (`panel.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

# Timestamps are looked up in a table of their common step, unless it had more entries than this.
MOST_STEPS = 1 << 24

# Rows that are worked on at once, where what is made of them on the way should stay in the processor's cache.
CHUNK = 1 << 16

# Symbols of a frame that is sorted by time: of more its rows are looked up one by one.
MOST_SYMBOLS = 1 << 16

# Rows that are looked at to tell whether those of a symbol follow each other.
SAMPLE = 4096


def dense(values: Floats) -> Floats:
    """Values in one layout and dtype: numba would compile a loop again for each other one."""
    return np.ascontiguousarray(values, dtype=np.float64)


@dataclass(frozen=True, eq=False, kw_only=True)
class Cells:
    """Where each row of a frame lies.

    Attributes
    ----------
    shape : tuple of int
        Of the grid: timestamps, symbols.
    row, column : int array
        Of each row of the frame. Of a block, whose rows are sorted and are there for every pair: of each of its timestamps, and of
        each of its symbols. A column of -1: the symbol is not on the grid.
    is_block : bool
    is_by_time : bool
        Of a block: sorted by time, then symbol; else by symbol, then time.
    is_grouped : bool
        Whether rows of a symbol follow each other.
    """

    shape: tuple[int, int]
    row: Integers
    column: Integers
    is_block: bool
    is_by_time: bool
    is_grouped: bool

    @property
    def is_whole(self) -> bool:
        """Whether every row lies on the grid."""
        return bool((self.column >= 0).all())

    def is_on_grid(self) -> pl.Series:
        """Of each row of the frame, whether it lies on the grid."""
        found = self.column >= 0
        if not self.is_block:
            return pl.Series(found)
        return pl.Series(np.tile(found, len(self.row)) if self.is_by_time else np.repeat(found, len(self.row)))

    def without_strangers(self) -> Cells:
        """Of the frame that has only the rows on the grid."""
        found = self.column >= 0
        row = self.row if self.is_block else self.row[found]
        return replace(self, row=row, column=self.column[found])

    def first_of_each_row(self) -> Integers:
        """First row of the frame on each row of the grid; that of a row without one is -1."""
        first = np.full(self.shape[0], -1, np.int64)
        for start, row in _chunks(self.row):
            new = np.flatnonzero(first[row] < 0)
            # The last one written stays.
            first[row[new[::-1]]] = start + new[::-1]
            if (first >= 0).all():
                break
        return first * len(self.column) if self.is_by_time else first

    @cached_property
    def flat(self) -> Integers:
        """Place of each row of a frame that is no block; grouped ones go down the symbols first."""
        n_rows, n_symbols = self.shape
        return self.column * n_rows + self.row if self.is_grouped else self.row * n_symbols + self.column

    def scatter(self, values: pl.Series, *, empty: float) -> Floats:
        """Values on the grid, `empty` where the frame has no row."""
        given = values.cast(pl.Float64).to_numpy()
        n_rows, n_symbols = self.shape
        if self.is_block:
            n_times, n_columns = len(self.row), len(self.column)
            block = given.reshape(n_times, n_columns) if self.is_by_time else given.reshape(n_columns, n_times).T
            if block.shape == self.shape and (self.column[1:] > self.column[:-1]).all():
                return np.array(block, order="C")
            found = np.full(self.shape, empty)
            found[np.ix_(self.row, self.column)] = block
            return found
        line = np.full(n_rows * n_symbols, empty)
        line[self.flat] = given
        # Grouped ones are written in the order of memory, then turned: the next row of the grid is further away than a page.
        return dense(line.reshape(n_symbols, n_rows).T) if self.is_grouped else line.reshape(self.shape)

    def scatter_events(self, values: pl.Series, *, empty: float) -> Floats:
        """As `scatter`, of values that are `empty` on most rows; of none that is not, one number in the place of all, read-only."""
        happened = (values != empty).arg_true().to_numpy()
        if not len(happened):
            return np.broadcast_to(np.float64(empty), self.shape)
        found = np.full(self.shape, empty)
        given = values.gather(happened).cast(pl.Float64).to_numpy()
        if self.is_block:
            outer, inner = np.divmod(happened, len(self.column) if self.is_by_time else len(self.row))
            row, column = (outer, inner) if self.is_by_time else (inner, outer)
            found[self.row[row], self.column[column]] = given
        else:
            found[self.row[happened], self.column[happened]] = given
        return found

    def has_duplicates(self) -> bool:
        """Whether two rows lie in one cell."""
        if self.is_block:
            return False
        is_taken = np.zeros(self.shape[0] * self.shape[1], np.bool_)
        is_taken[self.flat] = True
        return int(is_taken.sum()) != len(self.row)

    def rows_with_any(self) -> NDArray[np.bool_]:
        """Rows of the grid that hold a row of the frame."""
        found = np.zeros(self.shape[0], np.bool_)
        for _, row in _chunks(self.row):
            found[row] = True
            if found.all():
                break
        return found


@dataclass(frozen=True, eq=False)
class Clock:
    """Timestamps of a grid, and the way to the place of one.

    Attributes
    ----------
    times : int array
        Ascending, physical.
    step : int
        All are whole multiples of it from the first one; 0: too many would be, they are searched for.
    table : int array
        Place of each multiple among `times`, -1 where it is none of them.
    """

    times: Integers
    step: int
    table: Integers

    @classmethod
    def of(cls, ts: Integers) -> tuple[Clock, Integers]:
        """The clock of some timestamps, in any order, each any number of times, and the place of each."""
        if not len(ts):
            return cls(ts, 0, ts), ts
        first, last = int(ts.min()), int(ts.max())
        step = int(np.gcd.reduce(np.abs(np.diff(ts[:SAMPLE], prepend=first)), initial=last - first)) or 1
        while (last - first) // step < MOST_STEPS:
            is_there, places = np.zeros((last - first) // step + 1, np.bool_), np.empty(len(ts), np.int64)
            for start, each in _chunks(ts):
                place, is_multiple = _multiples(each - first, step)
                if not is_multiple:
                    step = int(np.gcd.reduce(each - first, initial=step))
                    break
                is_there[place] = True
                places[start : start + len(each)] = place
            else:
                found = np.flatnonzero(is_there)
                table = np.full(len(is_there), -1, np.int64)
                table[found] = np.arange(len(found))
                return cls(first + step * found, step, table), table[places]
        times, places = np.unique(ts, return_inverse=True)
        return cls(times, 0, np.empty(0, np.int64)), places

    def rows(self, ts: Integers) -> Integers:
        """Place of each timestamp; -1 where the grid has none."""
        if not self.step:
            place = np.minimum(np.searchsorted(self.times, ts), max(len(self.times) - 1, 0))
            is_known = self.times[place] == ts if len(self.times) else np.zeros(len(ts), np.bool_)
            return np.where(is_known, place, -1)
        found = np.full(len(ts), -1, np.int64)
        for start, each in _chunks(ts):
            offset = each - self.times[0]
            place, is_multiple = _multiples(offset, self.step)
            if is_multiple and int(place.min()) >= 0 and int(place.max()) < len(self.table):
                found[start : start + len(each)] = self.table[place]
            else:
                is_known = (place * self.step == offset) & (place >= 0) & (place < len(self.table))
                found[start : start + len(each)][is_known] = self.table[place[is_known]]
        return found


@dataclass(frozen=True, eq=False)
class Keys:
    """Keys of a frame.

    Attributes
    ----------
    symbol : Series
        Of each run of rows of one symbol; of each row where such runs are short; of a block each once.
    length : int array or None
        Of each run; None where `symbol` is of each row.
    ts : int array
        Of each row, physical; of a block each once, ascending.
    is_block, is_by_time : bool
        As `Cells`.
    """

    symbol: pl.Series
    length: Integers | None
    ts: Integers
    is_block: bool = False
    is_by_time: bool = False

    @classmethod
    def of(cls, name: str, frame: pl.DataFrame) -> Keys:
        """Read the keys of a frame with `symbol` and `ts`.

        Raises
        ------
        ValueError
            If a key is null.
        """
        if missing := [each for each in ("symbol", "ts") if frame[each].has_nulls()]:
            raise ValueError(f"`{name}` must have a key in every row, lacked {', '.join(missing)} in some.")
        symbol, ts = frame["symbol"], frame["ts"].to_physical().to_numpy()
        if len(_starts(symbol.head(SAMPLE))) > SAMPLE // 2:
            return _block_by_time(symbol, ts) or cls(symbol, None, ts)
        start = _starts(symbol)
        heads, length = symbol.gather(start), np.diff(start, append=len(ts))
        is_even = len(start) > 0 and (length == length[0]).all() and heads.n_unique() == len(heads)
        size = int(length[0]) if is_even else 0
        first = ts[:size]
        is_block = is_even and (first[1:] > first[:-1]).all() and (ts.reshape(-1, size) == first).all()
        return cls(heads, length, first, is_block=True) if is_block else cls(heads, length, ts)

    def symbols(self) -> pl.Series:
        """Each symbol once, sorted."""
        of_sample, places = self._sampled
        if not places.null_count():
            return of_sample
        return pl.concat([of_sample, self.symbol.filter(places.is_null()).unique()]).sort()

    @cached_property
    def _sampled(self) -> tuple[pl.Series, pl.Series]:
        """Symbols of the first rows, sorted, and the place of each row's among them, null for others.

        Where rows of a symbol lie apart, the first ones hold nearly all.
        """
        found = self.symbol.head(SAMPLE).unique().sort()
        return found, self._places(found)

    def _places(self, symbols: pl.Series) -> pl.Series:
        return self.symbol.cast(pl.Enum(symbols), strict=False).to_physical()

    def locate(self, row: Integers, clock: Clock, symbols: pl.Series) -> Cells:
        """The rows of the frame on a grid, given the place of each of `ts`."""
        is_sampled = "_sampled" in vars(self) and self._sampled[0].equals(symbols)
        places = self._sampled[1] if is_sampled else self._places(symbols)
        found = places.cast(pl.Int64).fill_null(-1).to_numpy()
        shape = (len(clock.times), len(symbols))
        if self.is_block:
            return Cells(
                shape=shape,
                row=row,
                column=found,
                is_block=True,
                is_by_time=self.is_by_time,
                is_grouped=not self.is_by_time,
            )
        column = found if self.length is None else np.repeat(found, self.length)
        is_grouped = self.length is not None and len(self.length) <= 2 * len(symbols)
        return Cells(shape=shape, row=row, column=column, is_block=False, is_by_time=False, is_grouped=is_grouped)


def _block_by_time(symbol: pl.Series, ts: Integers) -> Keys | None:
    """Keys of a frame sorted by time in which every time has the same symbols in the same order; None of any other."""
    width = int((ts[:MOST_SYMBOLS] != ts[0]).argmax())
    if not width or len(ts) % width:
        return None
    times, heads = ts[::width], symbol.head(width)
    is_block = (times[1:] > times[:-1]).all() and (ts.reshape(-1, width) == times[:, None]).all()
    if (
        not is_block
        or heads.n_unique() < width
        or (symbol != heads.gather(np.tile(np.arange(width), len(times)))).any()
    ):
        return None
    return Keys(heads, None, np.ascontiguousarray(times), is_block=True, is_by_time=True)


def _starts(symbol: pl.Series) -> Integers:
    """Rows whose symbol is not that of the row before, the first one among them."""
    changes = symbol.slice(1) != symbol.head(max(len(symbol) - 1, 0))
    return np.concatenate([np.zeros(min(len(symbol), 1), np.int64), changes.arg_true().to_numpy().astype(np.int64) + 1])


def _chunks(values: Integers) -> Iterator[tuple[int, Integers]]:
    """Parts of an array with the place of their first value."""
    for start in range(0, len(values), CHUNK):
        yield start, values[start : start + CHUNK]


def _multiples(offset: Integers, step: int) -> tuple[Integers, bool]:
    """The nearest multiple of a step, and whether all offsets are one: by a product, a division takes six times as long."""
    place = np.rint(offset * (1.0 / step)).astype(np.int64)
    return place, bool((place * step == offset).all())
