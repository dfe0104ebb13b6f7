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
    return _digest(kept.schema, _blocks(kept), slice(None), kept.height, attachments or {})


def session_hashes(frame: pl.DataFrame) -> dict[str, str]:
    """Content hash of each session's rows, by ISO date; empty for a frame without a `session`."""
    if "session" not in frame.columns:
        return {}
    blocks = _blocks(frame)
    days = frame["session"].to_numpy()
    hashes = {}
    for day in np.unique(days):
        rows = np.flatnonzero(days == day)
        hashes[str(day)] = _digest(frame.schema, blocks, rows, rows.size, {})
    return hashes


def _digest(
    schema: pl.Schema,
    blocks: list[np.ndarray],
    rows: slice | np.ndarray,
    n_rows: int,
    attachments: Mapping[str, str],
) -> str:
    header = {
        "columns": [[name, str(dtype)] for name, dtype in schema.items()],
        "rows": n_rows,
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
        if not dtype.is_float():
            blocks.append(_plain_block(frame[name], dtype))
    nullable = [name for name in frame.columns if frame[name].null_count()]
    if nullable:
        blocks.append(frame.select(pl.col(nullable).is_null()).to_numpy())
        blocks.append(np.tile(np.array([frame.columns.index(name) for name in nullable]), (frame.height, 1)))
    return blocks


def _plain_block(column: pl.Series, dtype: pl.DataType) -> np.ndarray:
    if isinstance(dtype, pl.String):
        return np.array([(text or "").encode() for text in column.to_list()], dtype=object)
    if isinstance(dtype, pl.Boolean):
        return column.fill_null(False).to_numpy()
    if dtype.is_integer() or dtype.is_temporal():
        return column.to_physical().fill_null(0).to_numpy()
    raise TypeError(f"`{column.name}` must be of numbers, strings or times to be hashed, was {dtype}.")
