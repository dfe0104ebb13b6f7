"""Content hash: one SHA-256 for what a frame says, whatever file or library carries it.

Lives here: the canonical bytes of a frame. Does not live here: files, footers, versions (resources).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl


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
    return _digest(kept.schema, _blocks(kept), _nulls(kept), slice(None), attachments or {})


def session_hashes(frame: pl.DataFrame) -> dict[str, str]:
    """Content hash of each session's rows, by ISO date; empty for a frame without a `session`."""
    if "session" not in frame.columns:
        return {}
    blocks, nulls = _blocks(frame), _nulls(frame)
    days = frame["session"].to_numpy()
    hashes = {}
    for day in np.unique(days):
        rows = np.flatnonzero(days == day)
        hashes[str(day)] = _digest(frame.schema, blocks, nulls, rows, {})
    return hashes


def _digest(
    schema: pl.Schema,
    blocks: list[np.ndarray],
    nulls: np.ndarray,
    rows: slice | np.ndarray,
    attachments: Mapping[str, str],
) -> str:
    nulls = nulls[rows]
    header = {
        "columns": [[name, str(dtype)] for name, dtype in schema.items()],
        "rows": nulls.shape[0],
        "attachments": sorted(attachments.items()),
    }
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for block in blocks:
        part = block[rows]
        if part.dtype == object:
            digest.update(np.fromiter((len(text) for text in part), "<u4", part.size).tobytes())
            digest.update(b"".join(part))
        else:
            digest.update(np.ascontiguousarray(part).tobytes())
    # Only the columns with a null among these very rows: other rows must not change the hash of a session.
    nullable = np.flatnonzero(nulls.any(axis=0))
    if nullable.size:
        digest.update(np.ascontiguousarray(nulls[:, nullable]).tobytes())
        digest.update(nullable.astype("<i8").tobytes())
    return digest.hexdigest()


def _blocks(frame: pl.DataFrame) -> list[np.ndarray]:
    """Arrays with one row for each row of the frame, in an order fixed by the schema.

    Floats of one type form one matrix: a frame of 200 features is hashed in one pass, not in 200.
    """
    blocks = []
    for width in (pl.Float32(), pl.Float64()):
        names = [name for name, each in frame.schema.items() if each == width]
        if names:
            values = frame.select(names).fill_null(0.0).to_numpy() + 0.0
            blocks.append(np.where(np.isnan(values), np.nan, values).astype(values.dtype))
    for name, dtype in frame.schema.items():
        if dtype not in (pl.Float32, pl.Float64):
            blocks.append(_plain_block(frame[name], dtype))
    return blocks


def _nulls(frame: pl.DataFrame) -> np.ndarray:
    """Matrix like the frame, true where a value is null."""
    return frame.select(pl.all().is_null()).to_numpy()


def _plain_block(column: pl.Series, dtype: pl.DataType) -> np.ndarray:
    if isinstance(dtype, pl.String):
        return np.array([(text or "").encode() for text in column.to_list()], dtype=object)
    if isinstance(dtype, pl.Boolean):
        return column.fill_null(False).to_numpy()
    if dtype.is_integer() or dtype.is_temporal():
        return column.to_physical().fill_null(0).to_numpy()
    raise TypeError(f"`{column.name}` must be of numbers, strings or times to be hashed, was {dtype}.")
