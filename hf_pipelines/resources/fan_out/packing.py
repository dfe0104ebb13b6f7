"""Packing: a value as one row of bytes, whose arrays and frames are read where they lie.

Lives here: packing and unpacking. Does not live here: where the bytes lie, a file that is mapped or an object store.

Arrays are not copied when they are unpacked, and cannot be written to. Frames of polars go as Arrow, piece by piece: pickle joins the
pieces of a column, and a sum over them would then round differently in a worker.
"""

import io
import pickle
import struct
from collections.abc import Iterator
from typing import Any

import cloudpickle
import polars as pl

# Where arrays may begin: a cache line.
ALIGNED = 64

_END = struct.Struct("<Q")


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, pl.DataFrame):
            # Column by column: each has pieces of its own.
            return pl.DataFrame, (value.get_columns(),)
        if isinstance(value, pl.Series) and value.dtype != pl.Object:
            return _series_of, (value.name, pickle.PickleBuffer(_arrow_bytes(value)))
        return super().reducer_override(value)


def pack(value: Any) -> Iterator[bytes | memoryview]:
    """A value in pieces, to be written one after the other.

    Raises
    ------
    pickle.PicklingError, TypeError
        If it, or something that it holds, cannot be sent to another process.
    """
    buffers: list[pickle.PickleBuffer] = []
    body = io.BytesIO()
    _Pickler(body, protocol=5, buffer_callback=buffers.append).dump(value)
    at, index = 0, []
    for piece in (*(each.raw() for each in buffers), body.getbuffer()):
        yield piece
        index.append((at, piece.nbytes))
        at += piece.nbytes
        yield bytes(-at % ALIGNED)
        at += -at % ALIGNED
    table = pickle.dumps(index)
    yield table
    yield _END.pack(len(table))


def packed(value: Any) -> bytes:
    """All pieces of `pack` in one."""
    return b"".join(pack(value))


def unpack(whole: Any) -> Any:
    """The value again; its arrays are views of the bytes given."""
    view = memoryview(whole).toreadonly()
    (n_table,) = _END.unpack(view[-_END.size :])
    index = pickle.loads(view[-_END.size - n_table : -_END.size])
    *buffers, body = (view[at : at + n] for at, n in index)
    return pickle.loads(body, buffers=buffers)


def _arrow_bytes(series: pl.Series) -> bytes:
    import pyarrow as pa

    table = series.to_frame("x").to_arrow(compat_level=pl.CompatLevel.newest())
    file = io.BytesIO()
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def _series_of(name: str, arrow: Any) -> pl.Series:
    import pyarrow as pa

    with pa.ipc.open_file(pa.py_buffer(arrow)) as file:
        frame = pl.from_arrow(file.read_all(), rechunk=False)
    assert isinstance(frame, pl.DataFrame)
    return frame["x"].rename(name)
