"""Tables: bytes of a Parquet file that somebody else wrote, as a frame.

Lives here: the guarded reader that the sources share. Does not live here: what the columns must be (`research`).
"""

import io

import polars as pl

# One session of 5,000 symbols has 5,000 daily bars: more cells than this are no session of bars.
MAX_FILE_CELLS = 50_000_000


def parse_parquet(payload: bytes, *, max_cells: int | None = None) -> pl.DataFrame:
    """Read with pyarrow, which refuses damaged bytes where polars' own reader can abort the process."""
    from pyarrow import parquet

    file = parquet.ParquetFile(io.BytesIO(payload))
    check_cells(file.metadata.num_rows, file.metadata.num_columns, max_cells=max_cells)
    table = file.read()
    table.validate(full=True)
    # Metadata say nothing that the contract needs, and polars does not take all that pyarrow takes.
    return pl.DataFrame(table.replace_schema_metadata())


def check_cells(n_rows: int, n_columns: int, *, max_cells: int | None = None) -> None:
    """Refuse a table before it is decoded: a megabyte of Parquet can hold gigabytes."""
    limit = MAX_FILE_CELLS if max_cells is None else max_cells
    if n_rows * n_columns > limit:
        raise ValueError(f"`file` must hold at most {limit} cells, was {n_rows} rows x {n_columns} columns")
