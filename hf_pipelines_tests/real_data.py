"""Real development data beside the project, for tests that skip where it is not.

Lives here: where it lies and how it is read. Does not live here: what it is (the SOURCES.md that lies with it).
"""

import os
from pathlib import Path

import polars as pl
import pytest

FOLDER = Path(os.environ.get("HF_DEVELOPMENT_DATA", Path(__file__).parents[2] / "shared" / "data"))


def real_table(name: str) -> pl.DataFrame:
    """The table `name`, such as `pystock/prices`; the test skips, saying so, where it is not there."""
    path = FOLDER / f"{name}.parquet"
    if not path.is_file():
        pytest.skip(f"no development data {name}.parquet beside the project: set HF_DEVELOPMENT_DATA to its folder")
    return pl.read_parquet(path)
