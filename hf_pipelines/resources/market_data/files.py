"""Source `files`: a folder or S3 prefix into which one Parquet or CSV file a session arrives.

A file is named by its session, `2013-02-25.parquet` or `2013-02-25-late.csv`, holds any number of symbols and the
columns of the bars contract. Times of a CSV are ISO 8601 with an offset (`2013-02-25T21:00:00Z`).
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from hashlib import sha256

import polars as pl

from hf_pipelines.research.bars import SOURCE_SCHEMA
from hf_pipelines.resources.market_data import SourceFile
from hf_pipelines.resources.object_store import ObjectStore

FILE_PATTERN = re.compile(r"(\d{4}-\d{2}-\d{2})(?!.*\.\.)[A-Za-z0-9_.-]{0,100}\.(parquet|csv)")

# One session of 5,000 symbols has 5,000 daily bars: more cells than this are no session of bars.
MAX_FILE_CELLS = 50_000_000


@dataclass(frozen=True)
class FilesSource:
    """Session files below one folder or prefix.

    Parameters
    ----------
    objects : ObjectStore
        The folder or prefix.
    """

    objects: ObjectStore

    def listing(self, sessions: Sequence[date]) -> dict[str, str]:
        return {name: sha256(self.objects.get(name)).hexdigest() for name, _ in self._names(sessions)}

    def read(self, sessions: Sequence[date]) -> list[SourceFile]:
        return [self._read(name, day) for name, day in self._names(sessions)]

    def _names(self, sessions: Sequence[date]) -> list[tuple[str, date]]:
        wanted = {day.isoformat(): day for day in sessions}
        matches = ((name, FILE_PATTERN.fullmatch(name)) for name in self.objects.all_keys())
        return sorted((name, wanted[match[1]]) for name, match in matches if match and match[1] in wanted)

    def _read(self, name: str, day: date) -> SourceFile:
        payload = self.objects.get(name)
        digest = sha256(payload).hexdigest()
        address = self.objects.address(name)
        try:
            frame = _parse_csv(payload) if name.endswith(".csv") else _parse_parquet(payload)
            _check_session(frame, day)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError, TypeError) as e:
            reason = " ".join(str(e).split())[:300]
            return SourceFile(name, digest, None, (day,), f"`{address}` must be a table of bars, was not: {reason}")
        return SourceFile(name, digest, frame, (day,))


def _parse_parquet(payload: bytes) -> pl.DataFrame:
    """Read with pyarrow, which refuses damaged bytes where polars' own reader can abort the process."""
    from pyarrow import parquet

    file = parquet.ParquetFile(io.BytesIO(payload))
    _check_cells(file.metadata.num_rows, file.metadata.num_columns)
    table = file.read()
    table.validate(full=True)
    # Metadata say nothing that the contract needs, and polars does not take all that pyarrow takes.
    return pl.DataFrame(table.replace_schema_metadata())


def _parse_csv(payload: bytes) -> pl.DataFrame:
    """Parse every column by the contract; a value that does not parse names its row."""
    raw = pl.read_csv(payload, infer_schema_length=0)
    _check_cells(raw.height, raw.width)
    for name, dtype in SOURCE_SCHEMA.items():
        if name not in raw.columns or dtype == pl.String:
            continue
        parsed = _parse_column(raw[name], dtype)
        bad = raw.select(row=pl.int_range(2, pl.len() + 2), was=pl.col(name)).filter(
            parsed.is_null() & raw[name].is_not_null()
        )
        if bad.height:
            row, was = bad.row(0)
            raise ValueError(f"row {row}: `{name}` must be of type {dtype}, was {was!r}")
        raw = raw.with_columns(parsed.alias(name))
    return raw


def _parse_column(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    if isinstance(dtype, pl.Date):
        return column.str.to_date("%Y-%m-%d", strict=False)
    if isinstance(dtype, pl.Datetime):
        if not column.str.contains(r"(Z|[+-]\d\d:?\d\d)$").all():
            # Kept naive: the validator refuses it in its own words.
            return column.str.replace(r"(Z|[+-]\d\d:?\d\d)$", "").str.to_datetime(strict=False)
        return column.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    return column.cast(dtype, strict=False)


def _check_cells(n_rows: int, n_columns: int) -> None:
    if n_rows * n_columns > MAX_FILE_CELLS:
        raise ValueError(f"`file` must hold at most {MAX_FILE_CELLS} cells, was {n_rows} rows x {n_columns} columns")


def _check_session(frame: pl.DataFrame, day: date) -> None:
    """A file holds the session in its name and no other: that is how it is found again."""
    if frame.schema.get("session") != pl.Date:
        return
    others = sorted(set(frame["session"].drop_nulls().to_list()) - {day})
    if others:
        raise ValueError(f"`session` must be {day} as in the file's name, was {others[0]}")
