"""Memory and seconds of XGBoost on a matrix that is read in batches from its file, against the same matrix in memory.

Each way in a process of its own: reading, verifying, a final fit, and a cross-validation of two folds. Exits 1 if the two models or
metrics differ, or if batches take more than FIXED_MB and BYTES_A_CELL for each value of the matrix beside what the imports take.
A matrix of more than WHOLE_ROWS rows is trained in batches alone.

    python benchmarks/bench_batches.py [rows [features [trees]]]
    python benchmarks/bench_batches.py 6000000 60 10
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.research.batched_matrix import BatchedMatrix
from hf_pipelines.research.cross_validation import cross_validate, fit_final
from hf_pipelines.research.learners import choose_learner
from hf_pipelines.research.matrix import RESERVED_COLUMNS
from hf_pipelines.research.splitters import PurgedWalkForward
from hf_pipelines.research.targets import build_target
from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import PartitionStore

ASSET, WEEK = "large/training_matrix", "2020-01-05"
SYMBOLS, SEED = 2_000, 7
TARGET = build_target("forward_return", horizon_bars=5)
WHOLE_ROWS = 2_000_000
# XGBoost keeps two bytes of a value, by rows and by columns. The rest are keys, labels and gradients, of 60 features; what is fixed
# are the sketches of its bins, and one batch.
BYTES_A_CELL, FIXED_MB = 6.0, 300


def publish(folder: str, rows: int, features: int) -> None:
    """A matrix of noise, the first feature of which says a little about the label."""
    rng = np.random.default_rng(SEED)
    sessions = -(-rows // SYMBOLS)
    day = np.repeat(np.arange(sessions, dtype=np.int32), SYMBOLS)[:rows]
    begin = datetime(2000, 1, 3, 21, tzinfo=UTC)
    ts = pl.Series(day).cast(pl.Int64) * 86_400_000_000 + int(begin.timestamp()) * 1_000_000
    values = {f"feature_{at:03d}": rng.standard_normal(rows, dtype=np.float32) for at in range(features)}
    y = 0.002 * values["feature_000"] + rng.normal(0.0, 0.02, rows)
    time_of = pl.col("ts").cast(pl.Datetime("us", "UTC"))
    frame = pl.DataFrame({"symbol": np.arange(rows) % SYMBOLS, "ts": ts, "y": y}).select(
        pl.format("S{}", "symbol").alias("symbol"),
        time_of.dt.date().alias("session"),
        time_of,
        (time_of + timedelta(days=1)).alias("label_start"),
        (time_of + timedelta(days=5)).alias("label_end"),
        pl.col("y").alias("target"),
        "y",
        pl.lit(1.0).alias("weight"),
    )
    matrix = frame.hstack([pl.Series(name, each) for name, each in values.items()])
    PartitionStore(ObjectStore(folder)).publish(ASSET, WEEK, Content(matrix), Stamp("bench", "bench", "2020-01-12"))


def train(folder: str, way: str, trees: int) -> dict[str, Any]:
    """Read the matrix one way, fit and cross-validate; the largest memory of the process until then, in MB."""
    import xgboost  # noqa: F401  Not what is measured.

    imported = peak_mb()
    store = PartitionStore(ObjectStore(folder))
    seconds: dict[str, float] = {}

    def timed(what: str, work: Callable[[], Any]) -> Any:
        start = time.process_time()
        found = work()
        seconds[what] = round(time.process_time() - start, 1)
        return found

    def read() -> pl.DataFrame | BatchedMatrix:
        if way == "whole":
            return store.read(ASSET, WEEK).frame
        stored = store.read_in_batches(ASSET, WEEK, whole=RESERVED_COLUMNS)
        assert stored.batched is not None
        return BatchedMatrix(stored.frame, stored.batched.names, stored.batched.read)

    matrix = timed("read", read)
    read_mb = peak_mb()
    options: dict[str, Any] = {
        "learner": choose_learner("xgboost", {"n_estimators": trees}),
        "target": TARGET,
        "seed": SEED,
    }
    model = timed("fit", lambda: fit_final(matrix, **options).save())
    fit_mb = peak_mb()
    splitter = PurgedWalkForward(n_splits=2, test_sessions=max(3, matrix_sessions(matrix) // 5), embargo_sessions=5)
    result = timed("cross-validation", lambda: cross_validate(matrix, **options, splitter=splitter, weightings=()))
    return {
        "model": sha256(model).hexdigest(),
        "rmse": result.metrics["rmse"],
        "seconds": seconds,
        "peak_mb": {"imports": imported, "read": read_mb, "fit": fit_mb, "cross-validation": peak_mb()},
    }


def matrix_sessions(matrix: pl.DataFrame | BatchedMatrix) -> int:
    """Number of its sessions."""
    labels = matrix.labels if isinstance(matrix, BatchedMatrix) else matrix
    return int(labels["session"].n_unique())


def peak_mb() -> int:
    """Largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def apart(*args: object) -> dict[str, Any]:
    """What a call of this module in a process of its own prints."""
    printed = subprocess.check_output([sys.executable, __file__, *map(str, args)]).decode()
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def main() -> int:
    """Compare; 0 if all holds."""
    if sys.argv[1:2] == ["publish"]:
        publish(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
        print("{}")
        return 0
    if sys.argv[1:2] == ["train"]:
        print(json.dumps(train(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
        return 0
    rows, features, trees = ([int(each) for each in sys.argv[1:4]] + [1_000_000, 60, 10][len(sys.argv[1:4]) :])[:3]
    with tempfile.TemporaryDirectory() as folder:
        apart("publish", folder, rows, features)
        ways = ("batches", "whole") if rows <= WHOLE_ROWS else ("batches",)
        found = {way: apart("train", folder, way, trees) for way in ways}
    print(f"{rows:,} x {features}, {rows * features * 4 / 1e6:,.0f} MB of float32; xgboost, {trees} trees, one thread")
    for way, each in found.items():
        peaks = ", ".join(f"{what} {mb:,}" for what, mb in each["peak_mb"].items())
        print(f"{way}: peak MB {peaks}; CPU s {each['seconds']}; rmse {each['rmse']:.9f}; model {each['model'][:12]}")
    peaks_mb = found["batches"]["peak_mb"]
    used = peaks_mb["cross-validation"] - peaks_mb["imports"]
    limit = FIXED_MB + BYTES_A_CELL * rows * features / 2**20
    print(f"batches: {used:,} MB beside the imports (limit {limit:,.0f})")
    if len(found) == 1:
        print("in memory it was not trained: too large")
    is_same = len({(each["model"], each["rmse"]) for each in found.values()}) == 1
    print("" if len(found) == 1 else "the same model and score, to the bit" if is_same else "models or scores DIFFER")
    return 0 if is_same and used <= limit else 1


if __name__ == "__main__":
    raise SystemExit(main())
