"""Tables: bytes of a Parquet or CSV file from outside, as a frame.

Lives here: the guarded parsers that the sources share, and what a message may say of what they refuse. Does not live here:
the process that runs them (`reader`), what the columns must be (`research`).
"""

from collections.abc import Mapping
from typing import Any

import polars as pl

from hf_pipelines.research.wording import excerpt
from hf_pipelines.resources.limits import Limits, parquet_fault

# Of a cell in memory while a CSV is parsed: every one is a text first.
CSV_CELL_BYTES = 16

# What parsers say that helps, and that quotes nothing of the file: a message may go to a log, a webhook and the web UI.
PARSER_WORDS = (
    "found more fields than defined",
    "could not parse",
    "invalid utf-8",
    "empty CSV",
    "no data",
    "magic bytes not found",
    "file size is",
    "Couldn't deserialize thrift",
    "Invalid: Column",
    "Corrupt",
    "decompress",
    "Unexpected end of stream",
    "malloc of size",
    "realloc of size",
    "non-UTF8",
    "Invalid UTF8",
    "duplicate",
    "out of bounds",
    "not supported",
    "not implemented",
)


class RefusedTableError(ValueError):
    """Bytes that are no table, or too large a one; the message quotes nothing of them but bounded excerpts."""


def parser_words(error: BaseException) -> str:
    """What a parser's error says, without a word of what it read."""
    text = str(error).lower()
    words = [each for each in PARSER_WORDS if each.lower() in text]
    kind = type(error).__name__
    return f"the parser refused it: {', '.join(words[:2])} ({kind})" if words else f"the parser refused it ({kind})"


def parse_parquet(payload: bytes, limits: Limits) -> pl.DataFrame:
    """Read with pyarrow, which refuses damaged bytes where polars' own reader can abort the process."""
    import pyarrow
    from pyarrow import parquet

    if fault := parquet_fault(payload, limits):
        raise RefusedTableError(f"it holds {fault}")
    table = parquet.read_table(pyarrow.BufferReader(payload))
    table.validate(full=True)
    # A dictionary is one way to store text, as pandas' categories are: what it says is the text.
    for at, field in enumerate(table.schema):
        if pyarrow.types.is_dictionary(field.type):
            table = table.set_column(at, field.name, table.column(at).cast(field.type.value_type))
    # Metadata say nothing that the contract needs, and polars does not take all that pyarrow takes.
    return pl.DataFrame(table.replace_schema_metadata())


def parse_csv(payload: bytes, limits: Limits, schema: Mapping[str, Any]) -> pl.DataFrame:
    """Parse every column by the contract; a value that does not parse names its row."""
    check_csv(payload, limits)
    raw = pl.read_csv(payload, infer_schema_length=0)
    for name, dtype in schema.items():
        if name not in raw.columns or dtype == pl.String:
            continue
        parsed = _parse_column(raw[name], dtype)
        bad = raw.select(row=pl.int_range(2, pl.len() + 2), was=pl.col(name)).filter(
            parsed.is_null() & raw[name].is_not_null()
        )
        if bad.height:
            row, was = bad.row(0)
            raise RefusedTableError(f"row {row}: `{name}` must be of type {dtype}, was '{excerpt(was)}'")
        raw = raw.with_columns(parsed.alias(name))
    return raw


def check_csv(payload: bytes, limits: Limits) -> None:
    """Refuse a CSV before it is parsed, by its lines and the columns of the first one.

    One whose last line does not end was cut off: inside its last number it would still parse, 765 for 7654321.
    """
    if payload and not payload.endswith((b"\n", b"\r")):
        raise RefusedTableError("its last line must end with a newline, the file was cut off; write it whole")
    header = payload[: payload.find(b"\n") + 1] or payload
    n_columns, n_rows = header.count(b",") + 1, payload.count(b"\n") - payload.endswith(b"\n")
    if fault := limits.shape_fault(n_rows, n_columns):
        raise RefusedTableError(f"it holds {fault}")
    n_bytes = len(payload) + CSV_CELL_BYTES * n_rows * n_columns
    if n_bytes > limits.decoded_bytes:
        raise RefusedTableError(f"it holds {n_bytes:,} bytes when decoded, above {limits.decoded_bytes:,}")


def _parse_column(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    if isinstance(dtype, pl.Date):
        return column.str.to_date("%Y-%m-%d", strict=False)
    if isinstance(dtype, pl.Datetime):
        if not column.str.contains(r"(Z|[+-]\d\d:?\d\d)$").all():
            # Kept naive: the validator refuses it in its own words.
            return column.str.replace(r"(Z|[+-]\d\d:?\d\d)$", "").str.to_datetime(strict=False)
        return column.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    return column.cast(dtype, strict=False)
