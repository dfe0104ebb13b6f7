"""Times of rows for tests of splitters: ragged panels with labels of any length, and a slow oracle of overlap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations

import numpy as np
import polars as pl

from hf_pipelines.research.splitters.intervals import check_times, label_intervals, overlaps

MIDNIGHT = datetime(2024, 1, 1)


def daily(n_sessions: int, *, label_days: int) -> pl.DataFrame:
    """One row a day, each label so many days long."""
    ts = pl.Series([MIDNIGHT + timedelta(days=day) for day in range(n_sessions)])
    end = ts + timedelta(days=label_days)
    return pl.DataFrame({"session": ts.dt.date(), "ts": ts, "label_start": end, "label_end": end})


def ragged_times(*, sessions: int, symbols: int, longest: int, seed: int) -> pl.DataFrame:
    """Rows of a calendar with holes: symbols that list late or halt, each label of 1 to `longest` bars of its own symbol."""
    rng = np.random.default_rng(seed)
    days = np.sort(rng.choice(2 * sessions, size=sessions, replace=False))
    frames = []
    for _ in range(symbols):
        own = days[int(rng.integers(0, max(sessions // 3, 1))) :]
        # Every symbol keeps its last bar: labels end at a bar of their own.
        own = own[(rng.random(len(own)) < 0.9) | (np.arange(len(own)) == len(own) - 1)]
        ahead = rng.integers(1, longest + 1, size=len(own))
        kept = np.flatnonzero(np.arange(len(own)) + ahead < len(own))
        frames.append((own[kept], own[kept + 1], own[kept + ahead[kept]]))
    day, first, last = (np.concatenate(parts) for parts in zip(*frames, strict=True))
    shuffled = rng.permutation(len(day))
    start = pl.Series([MIDNIGHT + timedelta(hours=21)] * len(day))
    at = {
        name: start + pl.Series(values[shuffled].astype(np.int64)) * timedelta(days=1)
        for name, values in (("ts", day), ("label_start", first), ("label_end", last))
    }
    return pl.DataFrame({"session": at["ts"].dt.date(), **at}).with_columns(
        pl.col("ts", "label_start", "label_end").dt.replace_time_zone("UTC")
    )


def meets(times: pl.DataFrame, test: np.ndarray) -> np.ndarray:
    """Whether each row's interval meets one of the test rows', pair by pair."""
    ts, end = times["ts"].to_numpy(), times["label_end"].to_numpy()
    return ((ts[:, None] <= end[test][None, :]) & (end[:, None] >= ts[test][None, :])).any(axis=1)


@dataclass(frozen=True)
class Combinatorial:
    """Every two of some blocks are tested by the others: a splitter with paths, written outside of the project."""

    n_blocks: int = 4
    purges: bool = True

    def _blocks(self, times: pl.DataFrame) -> np.ndarray:
        _, code = np.unique(times["session"].to_numpy(), return_inverse=True)
        return code * self.n_blocks // (code.max() + 1)

    def split(self, X: object, y: object = None, groups: object = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        times = check_times(X if groups is None else groups)
        block, rows = self._blocks(times), label_intervals(times)
        for pair in combinations(range(self.n_blocks), 2):
            is_test = np.isin(block, pair)
            test = np.flatnonzero(is_test)
            is_kept = ~overlaps(rows, rows[test]) if self.purges else True
            yield np.flatnonzero(~is_test & is_kept), test

    def paths(self, X: object, y: object = None, groups: object = None) -> Iterator[np.ndarray]:
        block = self._blocks(check_times(X if groups is None else groups))
        # The first split that tests a block is its part of the first path.
        n_tested = np.zeros(self.n_blocks, dtype=np.int64)
        for pair in combinations(range(self.n_blocks), 2):
            yield n_tested[block[np.isin(block, pair)]]
            n_tested[list(pair)] += 1
