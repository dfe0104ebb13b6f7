"""Every kernel as plain Python against the same compiled: what is counted as covered, mutated and read is what runs."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl

from hf_pipelines_tests.research.features.test_registry import (
    GIVEN,
    NAMES,
    SESSIONS,
    compute_features,
    members_and_references,
)

ROOT = Path(__file__).resolve().parents[3]

# With a split and dividends of a member in the windows, and members that lack bars.
WANTED = SESSIONS[420:450]


def compute() -> pl.DataFrame:
    return compute_features(members_and_references(), NAMES, wanted=WANTED, **GIVEN)


def main(path: str) -> None:
    """Compute in a process in which numba compiles nothing; there a division by zero warns, and gives the same."""
    with np.errstate(all="ignore"):
        compute().write_parquet(path)


def test_every_feature_interpreted_equals_the_compiled_one(tmp_path):
    path = tmp_path / "interpreted.parquet"
    subprocess.run(
        [sys.executable, "-c", f"from {__name__} import main; main({str(path)!r})"],
        cwd=ROOT,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        timeout=600,
        check=True,
    )
    interpreted, compiled = pl.read_parquet(path), compute()
    assert interpreted.columns == compiled.columns and interpreted.height == compiled.height > 50
    for name in NAMES:
        np.testing.assert_allclose(interpreted[name], compiled[name], rtol=1e-6, atol=1e-9, err_msg=name)
