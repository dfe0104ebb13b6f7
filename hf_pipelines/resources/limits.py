"""Limits: how large a table may be before anything decodes it.

Lives here: what a Parquet file would take in memory, by its types and the lengths of its texts. Does not live here: the
figures (`settings`), who refuses what (`market_data.tables`, `partition_store`).

The sizes in a Parquet footer say nothing of that: 100,000 times one text of a megabyte are 5 kB of file and 100 kB of
"uncompressed" pages, since a text that repeats is stored once. Rows times widths say it, and for texts the lengths of those
that are there, each as often as it is named.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from hf_pipelines.resources import settings

# What a text takes besides its bytes, in polars and in Arrow.
TEXT_OVERHEAD_BYTES = 16


@dataclass(frozen=True)
class Limits:
    """What is refused unread or undecoded.

    Attributes
    ----------
    n_bytes : int
        Of the file as it is.
    n_rows, n_columns : int
    decoded_bytes : int
        Of the table in memory.
    """

    n_bytes: int
    n_rows: int
    n_columns: int
    decoded_bytes: int

    @staticmethod
    def of_arrivals() -> "Limits":
        """For a file or an answer that arrives."""
        return Limits(
            settings.max_file_bytes(), settings.max_rows(), settings.max_columns(), settings.max_table_bytes()
        )

    @staticmethod
    def of_objects() -> "Limits":
        """For an object that is read back, and for a table that holds a market's whole history."""
        largest = settings.max_object_bytes()
        return Limits(largest, settings.max_rows(), settings.max_columns(), largest)

    def shape_fault(self, n_rows: int, n_columns: int) -> str:
        """Which limit a table exceeds, in words; "" if none."""
        if n_columns > self.n_columns:
            return f"{n_columns:,} columns, above {self.n_columns:,} (HF_MAX_COLUMNS)"
        if n_rows > self.n_rows:
            return f"{n_rows:,} rows, above {self.n_rows:,} (HF_MAX_ROWS)"
        return ""


def parquet_fault(payload: Any, limits: Limits, columns: Collection[str] | None = None) -> str:
    """Which limit a Parquet file exceeds, in words; "" if none. None of its numbers is decoded.

    Texts are looked at one by one only where the sizes of their pages leave it open whether they are too long together.

    Parameters
    ----------
    payload : bytes, or a file of pyarrow's
    limits : Limits
    columns : collection of str, optional
        Columns that will be in memory; default: all.

    Raises
    ------
    ArrowException, OSError
        If the bytes are no Parquet file.
    """
    import pyarrow
    from pyarrow import parquet

    found = parquet.read_metadata(pyarrow.BufferReader(payload) if isinstance(payload, bytes) else payload)
    if fault := limits.shape_fault(found.num_rows, found.num_columns):
        return fault
    groups = [found.row_group(each) for each in range(found.num_row_groups)]
    texts: list[str] = []
    fixed = of_texts = 0
    for number in range(found.num_columns):
        column = found.schema.column(number)
        if columns is not None and column.path not in columns:
            continue
        chunks = [group.column(number) for group in groups]
        n_values = [max(group.num_rows, chunk.num_values) for group, chunk in zip(groups, chunks, strict=True)]
        if column.physical_type == "BYTE_ARRAY":
            texts.append(column.path)
            # No value is longer than the pages that hold it.
            longest = (TEXT_OVERHEAD_BYTES + chunk.total_uncompressed_size for chunk in chunks)
            of_texts += sum(n * length for n, length in zip(n_values, longest, strict=True))
        else:
            is_wide = column.physical_type == "FIXED_LEN_BYTE_ARRAY"
            fixed += sum(n_values) * (TEXT_OVERHEAD_BYTES + int(column.length) if is_wide else 8)
    n_bytes = fixed + of_texts
    if fixed <= limits.decoded_bytes < n_bytes:
        n_bytes = fixed + _text_bytes(payload, texts, limits.decoded_bytes - fixed)
    if n_bytes > limits.decoded_bytes:
        return f"{n_bytes:,} bytes or more when decoded, above {limits.decoded_bytes:,}"
    return ""


def _text_bytes(payload: Any, names: list[str], enough: int) -> int:
    """Bytes of all texts of a file, counted up to what is too much: each is decoded once, however often it is there."""
    import pyarrow
    from pyarrow import compute, parquet

    source = pyarrow.BufferReader(payload) if isinstance(payload, bytes) else payload
    file = parquet.ParquetFile(source, read_dictionary=names)
    total = 0
    for group in range(file.num_row_groups):
        for name in names:
            for chunk in file.read_row_group(group, columns=[name]).column(0).chunks:
                total += TEXT_OVERHEAD_BYTES * len(chunk)
                if isinstance(chunk, pyarrow.DictionaryArray):
                    lengths = compute.binary_length(chunk.dictionary).cast(pyarrow.int64())
                    total += compute.sum(compute.take(lengths, chunk.indices)).as_py() or 0
                else:
                    total += chunk.nbytes
            if total > enough:
                return total
    return total
