"""Batched columns: a stored partition of which some columns are in memory, the others read batch after batch.

Lives here: verifying such a file without having it in memory, and its batches. Does not live here: partitions that are read
whole (`partition_codec`), where files lie (`partition_store`).
"""

from collections.abc import Collection, Iterator
from typing import Any

import polars as pl

from hf_pipelines.research.content_hash import content_hash_of_columns
from hf_pipelines.resources.limits import Limits, parquet_fault
from hf_pipelines.resources.partition_codec import (
    MAX_CELLS,
    VOLATILE_COLUMNS,
    BatchedColumns,
    Stored,
    footer_bytes,
    not_ours,
    parse_footer,
)
from hf_pipelines.resources.seals import is_sealed_file

# 60 features of as many rows are 16 MB.
BATCH_ROWS = 65_536


def decode_in_batches(source: Any, *, asset: str, partition: str, whole: Collection[str]) -> Stored:
    """Footer and some columns of a Parquet file, seal and content hash checked as by `decode`; the others can be read.

    The content hash takes one column after the other, so that no more than one of them is in memory beside `whole`.

    Parameters
    ----------
    source : file of pyarrow's
        Kept open as long as the columns can be read.
    whole : collection of str
        Columns that are read at once, where they are there.

    Raises
    ------
    StoredPartitionError
        If the bytes are truncated, foreign, edited or too large.
    ValueError
        If the content has a hash for each session: those are of whole rows.
    """
    from pyarrow import parquet

    size = source.size()
    n_bytes = min(max(footer_bytes(source.read_at(min(size, 8), max(size - 8, 0))), 8), size)
    end = source.read_at(n_bytes, size - n_bytes)
    footer = parse_footer(end, asset=asset, partition=partition, size=size)
    # Before the file is parsed: an edited one can end the process.
    if not is_sealed_file(source.read_at, size, end):
        raise not_ours(asset, partition, "a file whose bytes were changed after it was written")
    if footer.session_hashes:
        raise ValueError(
            f"`{asset}` must be without hashes of its sessions to be read in batches, was with them; read it whole."
        )
    file = parquet.ParquetFile(source, pre_buffer=False)
    names = file.schema_arrow.names
    at_once = [name for name in names if name in whole]
    fault = parquet_fault(source, Limits.of_objects(), at_once) or _cells_fault(file.metadata)
    if fault:
        raise not_ours(asset, partition, f"a table of {fault}", footer.kind)
    kept: dict[str, pl.Series] = {}
    hashed = [name for name in names if name not in VOLATILE_COLUMNS]

    def columns() -> Iterator[pl.Series]:
        for name in hashed:
            column = _column(file, name)
            if name in whole:
                kept[name] = column
            yield column

    schema = pl.DataFrame(pl.from_arrow(file.schema_arrow.empty_table())).schema
    found = content_hash_of_columns(
        columns(),
        schema={name: schema[name] for name in hashed},
        rows=file.metadata.num_rows,
        attachments=footer.attachments,
    )
    if found != footer.content_hash:
        raise not_ours(
            asset, partition, f"content {found[:12]} under a footer for {footer.content_hash[:12]}", footer.kind
        )
    frame = pl.DataFrame([kept[name] if name in kept else _column(file, name) for name in at_once])
    return Stored(
        frame, footer, BatchedColumns(tuple(name for name in names if name not in whole), _reader(source, whole))
    )


def _reader(source: Any, whole: Collection[str]) -> Any:
    from pyarrow import parquet

    def read(first: int, stop: int) -> Iterator[pl.DataFrame]:
        """Rows of the groups that hold some of them."""
        file = parquet.ParquetFile(source, pre_buffer=False)
        names = [name for name in file.schema_arrow.names if name not in whole]
        begin = 0
        for number in range(file.num_row_groups):
            n_rows = file.metadata.row_group(number).num_rows
            if begin < stop and begin + n_rows > first:
                batches = file.iter_batches(BATCH_ROWS, row_groups=[number], columns=names, use_threads=False)
                at = begin
                for batch in batches:
                    low, high = max(first - at, 0), min(stop - at, batch.num_rows)
                    at += batch.num_rows
                    if high > low:
                        yield pl.DataFrame(pl.from_arrow(batch.slice(low, high - low)))
            begin += n_rows

    return read


def _column(file: Any, name: str) -> pl.Series:
    return pl.DataFrame(pl.from_arrow(file.read([name], use_threads=False))).to_series()


def _cells_fault(metadata: Any) -> str:
    """Whether a column, or a batch of rows, is too large."""
    widest = min(metadata.num_rows, BATCH_ROWS) * metadata.num_columns
    if max(metadata.num_rows, widest) > MAX_CELLS:
        return f"{metadata.num_rows} rows, more than {MAX_CELLS} cells at a time"
    return ""
