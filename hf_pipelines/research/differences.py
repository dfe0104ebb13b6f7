"""Differences: what changed between two contents of a partition.

Lives here: `compare_frames`. Does not live here: where the contents come from (resources), words about them (the command).
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

# What may name a row, the clearest first.
KEYS = (
    ("symbol", "session", "ts"),
    ("symbol", "ts"),
    ("symbol", "session"),
    ("symbol",),
    ("session",),
    ("ts",),
)
ROW = "row"


@dataclass(frozen=True)
class FrameDifference:
    """Two frames compared row by row.

    Attributes
    ----------
    keys : tuple of str
        Columns that name a row; ("row",) where nothing does: then rows are compared by their place.
    added, removed : DataFrame
        Rows that only the new, and only the old frame has.
    changed : DataFrame
        The keys, `column`, `old` and `new` (as text), one row a value that changed.
    counts : mapping of column to int
        Values changed in each column, those without a change left out.
    columns_added, columns_removed : tuple of str
    """

    keys: tuple[str, ...]
    added: pl.DataFrame
    removed: pl.DataFrame
    changed: pl.DataFrame
    counts: dict[str, int]
    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        tables = (self.added, self.removed, self.changed)
        return all(table.is_empty() for table in tables) and not (self.columns_added or self.columns_removed)


def compare_frames(old: pl.DataFrame, new: pl.DataFrame) -> FrameDifference:
    """Rows added, removed and changed.

    A NaN equals a NaN, a null equals a null, and the two differ. A column whose type changed is a changed column where the
    values as text differ.

    Examples
    --------
    >>> old = pl.DataFrame({"symbol": ["A", "B"], "close": [1.0, 2.0]})
    >>> new = pl.DataFrame({"symbol": ["B", "C"], "close": [2.5, 3.0]})
    >>> found = compare_frames(old, new)
    >>> found.added["symbol"].to_list(), found.removed["symbol"].to_list(), found.changed.rows()
    (['C'], ['A'], [('B', 'close', '2.0', '2.5')])
    """
    keys = next((each for each in KEYS if _names_rows(old, each) and _names_rows(new, each)), (ROW,))
    if keys == (ROW,):
        old, new = old.with_row_index(ROW), new.with_row_index(ROW)
    shared = [name for name in new.columns if name in old.columns and name not in keys]
    both = old.select(*keys, *shared).join(
        new.select(*keys, *shared), on=keys, how="inner", suffix="\0new", nulls_equal=True
    )
    found = []
    for name in shared:
        before, after = pl.col(name), pl.col(f"{name}\0new")
        if old.schema[name] != new.schema[name]:
            before, after = before.cast(pl.String), after.cast(pl.String)
        rows = both.filter(before.ne_missing(after))
        found.append(
            rows.select(
                *keys, column=pl.lit(name), old=pl.col(name).cast(pl.String), new=pl.col(f"{name}\0new").cast(pl.String)
            )
        )
    empty = old.select(*keys, column=pl.lit(""), old=pl.lit(""), new=pl.lit("")).clear()
    return FrameDifference(
        keys=keys,
        added=new.join(old, on=keys, how="anti", nulls_equal=True),
        removed=old.join(new, on=keys, how="anti", nulls_equal=True),
        changed=pl.concat([empty, *found]),
        counts={name: rows.height for name, rows in zip(shared, found, strict=True) if rows.height},
        columns_added=tuple(name for name in new.columns if name not in old.columns),
        columns_removed=tuple(name for name in old.columns if name not in new.columns),
    )


def _names_rows(frame: pl.DataFrame, keys: tuple[str, ...]) -> bool:
    return set(keys) <= set(frame.columns) and not frame.select(keys).is_duplicated().any()
