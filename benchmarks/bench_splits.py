"""Splits of combinatorial purged cross-validation: CPU seconds by rows, and how they grow.

    python -m benchmarks.bench_splits

Fifteen splits (6 blocks, 2 tested) of 500 to 8,000 symbols x 250 sessions, labels of 10 sessions. Fails if the growth exponent is above
1.1: linear.
"""

import sys
import time
from datetime import date, timedelta

import numpy as np
import polars as pl

from hf_pipelines.research.splitters import build_splitter

SESSIONS, LABEL_SESSIONS, ROUNDS = 250, 10, 3
SYMBOLS = (500, 1_000, 2_000, 4_000, 8_000)
MAX_EXPONENT = 1.1


def times(symbols: int) -> pl.DataFrame:
    """Keys and label intervals, sorted by time."""
    days = [date(2010, 1, 1) + timedelta(days=number) for number in range(SESSIONS + LABEL_SESSIONS)]
    session = np.repeat(np.array(days[:SESSIONS], dtype="datetime64[us]"), symbols)
    end = session + np.timedelta64(LABEL_SESSIONS, "D")
    return pl.DataFrame({"ts": session, "label_start": session, "label_end": end}).with_columns(
        session=pl.col("ts").dt.date()
    )


def main() -> int:
    """Measure each size; the least of some rounds."""
    splitter = build_splitter("combinatorial_purged", {"n_folds": 6, "n_test_folds": 2})
    rows, seconds = [], []
    for symbols in SYMBOLS:
        given = times(symbols)
        found = []
        for _ in range(ROUNDS):
            began = time.process_time()
            n_splits = sum(1 for _ in splitter.split(given))
            found.append(time.process_time() - began)
        rows.append(given.height)
        seconds.append(min(found))
        print(f"{given.height:10,} rows, {n_splits} splits: {min(found):7.3f} CPU s", flush=True)
    exponent = float(np.polyfit(np.log(rows), np.log(seconds), 1)[0])
    print(f"growth exponent {exponent:.3f} (limit {MAX_EXPONENT})")
    return int(exponent > MAX_EXPONENT)


if __name__ == "__main__":
    sys.exit(main())
