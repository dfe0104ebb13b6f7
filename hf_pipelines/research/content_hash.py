"""Content hash: one SHA-256 for what a frame says, whatever file or library carries it.

Lives here: the canonical bytes of a frame. Does not live here: files, footers, versions (resources).

Where the sessions have hashes of their own, the frame's is made of these: values are the most of the work and are hashed
once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby

import numpy as np
import polars as pl

# Columns are made plain and hashed by blocks that stay in the cache.
BLOCK_BYTES = 256 * 1024


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
    kept = frame.drop(without, strict=False) if without else frame
    columns = _columns(kept)
    return _digests(kept, [(0, kept.height)], columns, attachments)[0].hexdigest()


def content_hash_of_columns(
    columns: Iterable[pl.Series],
    *,
    schema: Mapping[str, pl.DataType],
    rows: int,
    attachments: Mapping[str, str] | None = None,
) -> str:
    """`content_hash` of a frame whose columns are not in memory together.

    Parameters
    ----------
    columns : iterable of Series
        One after the other, in the order of the frame.
    schema : mapping of str to DataType
        Names and types of the columns.
    rows : int
        Length of each.
    attachments : mapping of name to sha256, optional
        As in `content_hash`.
    """
    digest = hashlib.sha256(_header(_described(schema), rows, attachments))
    nulls: list[bytes] = []
    for position, column in enumerate(columns):
        if _kind(column) == pl.String:
            lengths, text = _texts(column)
            digest.update(lengths.data)
            digest.update(text)
        else:
            for block in _blocks([_numbers(column)]):
                digest.update(np.ascontiguousarray(block).data)
        if column.null_count():
            nulls.append(position.to_bytes(8, "little") + column.is_null().to_numpy().tobytes())
    for each in nulls:
        digest.update(each)
    return digest.hexdigest()


def session_hashes(frame: pl.DataFrame) -> dict[str, str]:
    """Content hash of each session's rows, by ISO date; empty for a frame without a `session` of dates."""
    return content_and_session_hashes(frame)[1]


def content_and_session_hashes(
    frame: pl.DataFrame, *, without: Sequence[str] = (), attachments: Mapping[str, str] | None = None
) -> tuple[str, dict[str, str]]:
    """A hash of a frame that is made of those of its sessions, and these: `session_hashes`, in one pass over the values.

    The first is SHA-256 over names, types, which row is of which session, and the sessions' hashes: it says the same as
    `content_hash`, which it is for a frame without sessions, but is another number.
    """
    kept = frame.drop(without, strict=False) if without else frame
    if not session_days(kept):
        return content_hash(kept, attachments=attachments), {}
    of_rows = _day_numbers(kept)
    days = np.unique(of_rows)
    codes = np.searchsorted(days, of_rows).astype(np.min_scalar_type(len(days)))
    # Stable: rows of a session stay in their order.
    ordered = kept if (codes[:-1] <= codes[1:]).all() else kept[np.argsort(codes, kind="stable")]
    stops = np.cumsum(np.bincount(codes)).tolist()
    columns = _columns(kept)
    digests = _digests(ordered, list(zip([0, *stops], stops, strict=False)), columns)
    whole = hashlib.sha256(_header(columns, kept.height, attachments, n_sessions=len(days)))
    whole.update(codes.astype("<u4").data)
    for digest in digests:
        whole.update(digest.digest())
    return whole.hexdigest(), {day: digest.hexdigest() for day, digest in zip(_iso(days), digests, strict=True)}


def session_days(frame: pl.DataFrame) -> list[str]:
    """Sessions of a frame as ISO dates, ascending; empty for a frame without a `session` of dates."""
    return _iso(np.unique(_day_numbers(frame))) if frame.schema.get("session") == pl.Date else []


def _day_numbers(frame: pl.DataFrame) -> np.ndarray:
    """Sessions of the rows as whole numbers; a null is the least of all."""
    return frame["session"].to_numpy().view(np.int64)


def _iso(days: np.ndarray) -> list[str]:
    return [str(day) for day in days.view("datetime64[D]")]


def _columns(frame: pl.DataFrame) -> str:
    return _described(frame.schema)


def _described(schema: Mapping[str, pl.DataType]) -> str:
    return json.dumps([[name, str(dtype)] for name, dtype in schema.items()])


def _header(columns: str, rows: int, attachments: Mapping[str, str] | None, *, n_sessions: int | None = None) -> bytes:
    attached = json.dumps(sorted((attachments or {}).items()))
    sessions = "" if n_sessions is None else f', "sessions": {n_sessions}'
    return f'{{"attachments": {attached}, "columns": {columns}, "rows": {rows}{sessions}}}'.encode()


def _digests(
    frame: pl.DataFrame,
    parts: Sequence[tuple[int, int]],
    columns: str,
    attachments: Mapping[str, str] | None = None,
) -> list[hashlib._Hash]:
    """SHA-256 of each part of a frame's rows (first, stop): header, column after column, then where nulls stand."""
    digests = [hashlib.sha256(_header(columns, stop - first, attachments)) for first, stop in parts]
    each = list(zip(digests, parts, strict=True))
    series = frame.get_columns()
    for kind, run in groupby(series, _kind):
        if kind == pl.String:
            for texts in run:
                lengths, text = _texts(texts)
                ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
                for digest, (first, stop) in each:
                    digest.update(lengths[first:stop].data)
                    digest.update(text[ends[first] : ends[stop]])
            continue
        for block in _blocks([_numbers(column) for column in run]):
            for digest, (first, stop) in each:
                digest.update(np.ascontiguousarray(block[:, first:stop]).data)
    for position, column in enumerate(series):
        if column.null_count():
            nulls = column.is_null().to_numpy()
            # Only where a null stands among these very rows: other rows must not change the hash of a session.
            for digest, (first, stop) in each:
                if nulls[first:stop].any():
                    digest.update(position.to_bytes(8, "little"))
                    digest.update(nulls[first:stop].data)
    return digests


def _kind(column: pl.Series) -> pl.DataType:
    """Which columns are hashed in one block: those whose plain values are of one type."""
    kind = _plain_type(column.dtype)
    if kind is None:
        raise TypeError(f"`{column.name}` must be of numbers, strings or times to be hashed, was {column.dtype}.")
    return kind


@cache
def _plain_type(dtype: pl.DataType) -> pl.DataType | None:
    """Type of a column's plain values, None if it has none."""
    if dtype.is_temporal():
        return pl.Series(dtype=dtype).to_physical().dtype
    return dtype if dtype in (pl.Float32, pl.Float64, pl.Boolean, pl.String) or dtype.is_integer() else None


def _blocks(columns: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Columns of one type as matrices, a column a row; -0 is 0, every NaN is the same NaN."""
    step = max(1, BLOCK_BYTES // max(1, columns[0].nbytes))
    is_float = columns[0].dtype.kind == "f"
    filled = np.empty((min(step, len(columns)), len(columns[0])), columns[0].dtype)
    bits = np.dtype(f"u{columns[0].itemsize}")
    plain_nan = np.full(1, np.nan if is_float else 0, columns[0].dtype).view(bits)
    for first in range(0, len(columns), step):
        block = filled[: len(columns) - first]
        for values, column in zip(block, columns[first : first + step], strict=True):
            if is_float:
                np.add(column, 0.0, out=values)
            else:
                values[:] = column
        if is_float:
            is_odd = np.isnan(block)
            is_odd &= block.view(bits) != plain_nan
            if is_odd.any():
                block[is_odd] = np.nan
        yield block


def _numbers(column: pl.Series) -> np.ndarray:
    plain = column.to_physical() if column.dtype.is_temporal() else column
    if plain.null_count():
        plain = plain.fill_null(False if plain.dtype == pl.Boolean else 0)
    return plain.to_numpy()


def _texts(column: pl.Series) -> tuple[np.ndarray, bytes]:
    """Lengths in bytes, and all texts one after the other; a null is an empty text."""
    plain = column.fill_null("") if column.null_count() else column
    lengths = plain.str.len_bytes().to_numpy().astype("<u4", copy=False)
    return lengths, (plain.str.join().item() or "").encode()
