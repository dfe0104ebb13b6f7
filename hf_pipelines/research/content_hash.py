"""Content hash: one SHA-256 for what a frame says, whatever file or library carries it.

Lives here: the canonical bytes of a frame. Does not live here: files, footers, versions (resources).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

ROWS_A_BLOCK = 512


def content_hash(
    frame: pl.DataFrame, *, without: Sequence[str] = (), attachments: Mapping[str, str] | None = None
) -> str:
    """SHA-256 over names, types, order and values of a frame.

    Parameters
    ----------
    frame : DataFrame
        Columns of numbers, booleans, strings, dates and timestamps.
    without : sequence of str
        Columns that say when and by whom a row was made, not what it says (such as created_at).
    attachments : mapping of name to sha256, optional
        Objects that belong to the frame, such as a fitted model.

    Returns
    -------
    str
        64 hexadecimal digits. All NaN are alike, -0.0 equals 0.0, a null differs from NaN.

    Raises
    ------
    TypeError
        If a column has a nested or opaque type.

    Examples
    --------
    >>> a = pl.DataFrame({"x": [1.0, None]})
    >>> content_hash(a) == content_hash(pl.concat([a[:1], a[1:]]))
    True
    """
    kept = frame.select(name for name in frame.columns if name not in without)
    return _Canonical.of(kept).digests([None], attachments)[0]


def session_hashes(frame: pl.DataFrame) -> dict[str, str]:
    """Content hash of each session's rows, by ISO date; empty for a frame without a `session`."""
    if "session" not in frame.columns:
        return {}
    by_session = _rows_by_session(frame)
    return dict(zip(by_session, _Canonical.of(frame).digests(list(by_session.values())), strict=True))


def content_and_session_hashes(
    frame: pl.DataFrame, *, without: Sequence[str] = (), attachments: Mapping[str, str] | None = None
) -> tuple[str, dict[str, str]]:
    """`content_hash` and `session_hashes` of a frame, in one pass over its values."""
    if "session" not in frame.columns or not set(without).isdisjoint(frame.columns):
        return content_hash(frame, without=without, attachments=attachments), session_hashes(frame)
    by_session = _rows_by_session(frame)
    whole, *parts = _Canonical.of(frame).digests([None, *by_session.values()], attachments)
    return whole, dict(zip(by_session, parts, strict=True))


def _rows_by_session(frame: pl.DataFrame) -> dict[str, np.ndarray]:
    days = frame["session"].to_numpy()
    return {str(day): np.flatnonzero(days == day) for day in np.unique(days)}


@dataclass(frozen=True)
class _Canonical:
    """A frame as it is hashed.

    Attributes
    ----------
    columns : str
        Names and types as JSON.
    height : int
    blocks : list of array or Series
        One row for each row of the frame, in an order fixed by the schema; texts are a Series. Floats of one type form
        one matrix, column after column as the frame holds them: they are hashed row after row.
    nullable : array of int
        Positions of the columns that hold a null.
    nulls : array of bool of shape (height, len(nullable))
    """

    columns: str
    height: int
    blocks: list[np.ndarray | pl.Series]
    nullable: np.ndarray
    nulls: np.ndarray

    @staticmethod
    def of(frame: pl.DataFrame) -> _Canonical:
        blocks: list[np.ndarray | pl.Series] = []
        for width in (pl.Float32(), pl.Float64()):
            names = [name for name, each in frame.schema.items() if each == width]
            if names:
                floats = frame.select(names)
                has_null = any(column.null_count() for column in floats.iter_columns())
                blocks.append((floats.fill_null(0.0) if has_null else floats).to_numpy())
        for name, dtype in frame.schema.items():
            if dtype not in (pl.Float32, pl.Float64):
                blocks.append(_plain_block(frame[name], dtype))
        nullable = [position for position, column in enumerate(frame.iter_columns()) if column.null_count()]
        nulls = frame.select(pl.nth(nullable).is_null()).to_numpy() if nullable else np.empty((frame.height, 0), bool)
        columns = json.dumps([[name, str(dtype)] for name, dtype in frame.schema.items()])
        return _Canonical(columns, frame.height, blocks, np.array(nullable, "<i8"), nulls)

    def digests(self, groups: Sequence[np.ndarray | None], attachments: Mapping[str, str] | None = None) -> list[str]:
        """SHA-256 of each group of rows (ascending positions; None means all), in one pass for all of them.

        `attachments` belong to the groups that are the whole.
        """
        hashing = [hashlib.sha256(self._header(rows, attachments if rows is None else None)) for rows in groups]
        for block in self.blocks:
            if isinstance(block, pl.Series):
                _add_texts(block, groups, hashing)
            elif block.ndim == 2:
                _add_floats(block, groups, hashing)
            else:
                for rows, digest in zip(groups, hashing, strict=True):
                    digest.update(np.ascontiguousarray(block if rows is None else block[rows]).data)
        for rows, digest in zip(groups, hashing, strict=True):
            # Only the columns with a null among these very rows: other rows must not change the hash of a session.
            nulls = self.nulls if rows is None else self.nulls[rows]
            if (has_null := nulls.any(axis=0)).any():
                digest.update(np.ascontiguousarray(nulls[:, has_null]).data)
                digest.update(self.nullable[has_null].data)
        return [digest.hexdigest() for digest in hashing]

    def _header(self, rows: np.ndarray | None, attachments: Mapping[str, str] | None) -> bytes:
        attached = json.dumps(sorted((attachments or {}).items()))
        height = self.height if rows is None else rows.size
        return f'{{"attachments": {attached}, "columns": {self.columns}, "rows": {height}}}'.encode()


def _add_texts(texts: pl.Series, groups: Sequence[np.ndarray | None], hashing: Sequence[hashlib._Hash]) -> None:
    for rows, digest in zip(groups, hashing, strict=True):
        part = texts if rows is None else texts.gather(rows)
        digest.update(part.str.len_bytes().cast(pl.UInt32).to_numpy().astype("<u4", copy=False).tobytes())
        digest.update("".join(part.to_list()).encode())


def _add_floats(columns: np.ndarray, groups: Sequence[np.ndarray | None], hashing: Sequence[hashlib._Hash]) -> None:
    """Add rows of floats: -0 is 0, every NaN is the same NaN.

    Turned and hashed by blocks that stay in the cache: in one go each value is a miss, and the matrix memory to ask for.
    """
    block = np.empty((min(ROWS_A_BLOCK, len(columns)), columns.shape[1]), columns.dtype)
    for first in range(0, len(columns), ROWS_A_BLOCK):
        part = block[: min(ROWS_A_BLOCK, len(columns) - first)]
        np.add(columns[first : first + ROWS_A_BLOCK], 0.0, out=part)
        is_nan = np.isnan(part)
        if is_nan.any():
            part[is_nan] = np.nan
        for rows, digest in zip(groups, hashing, strict=True):
            if rows is None:
                digest.update(part.data)
                continue
            begins, stops = np.searchsorted(rows, (first, first + len(part)))
            if begins < stops:
                digest.update(part.take(rows[begins:stops] - first, axis=0).data)


def _plain_block(column: pl.Series, dtype: pl.DataType) -> np.ndarray | pl.Series:
    if isinstance(dtype, pl.String):
        return column.fill_null("")
    if isinstance(dtype, pl.Boolean):
        return column.fill_null(False).to_numpy()
    if dtype.is_integer() or dtype.is_temporal():
        return column.to_physical().fill_null(0).to_numpy()
    raise TypeError(f"`{column.name}` must be of numbers, strings or times to be hashed, was {dtype}.")
