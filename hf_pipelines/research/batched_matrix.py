"""Batched matrix: a training matrix whose features do not fit into memory, read batch after batch.

Lives here: its rows as learners are fitted on and asked about them. Not here: what a matrix is (`matrix`), where batches are
read from (`resources`), which learners take them (`learners`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from hf_pipelines.research.learners.learner import BatchedRows
from hf_pipelines.research.learners.prediction import feature_array
from hf_pipelines.research.matrix import feature_names


@dataclass(frozen=True, eq=False)
class BatchedMatrix:
    """A training matrix in two parts: what says of each row what it is, in memory; features, read when they are needed.

    Attributes
    ----------
    labels : DataFrame
        From `build_matrix`, without the features.
    names : tuple of str
        Features, in their order.
    read : callable
        `(first, stop) -> frames`: features of the rows `first` to before `stop`, in order; the same at every call.
    """

    labels: pl.DataFrame
    names: tuple[str, ...]
    read: Callable[[int, int], Iterator[pl.DataFrame]]

    def training_rows(self) -> BatchedRows:
        """All rows, to fit a learner on."""

        def arrays(first: int, stop: int) -> Iterator[np.ndarray]:
            return (feature_array(each, self.names) for each in self.read(first, stop))

        labels = self.labels
        return BatchedRows(
            labels.select("session", "ts", "label_end"),
            self.names,
            y=labels["y"].to_numpy(),
            weight=labels["weight"].to_numpy(),
            numbers=np.arange(labels.height),
            read=arrays,
        )

    def frames(self, numbers: np.ndarray) -> Iterator[pl.DataFrame]:
        """Whole rows of ascending row numbers, batch after batch; rows of one `ts` are never apart."""
        if not len(numbers):
            return
        # Rows are in the order of time.
        ts = self.labels["ts"].to_physical().to_numpy()
        begin, stop = int(numbers[0]), int(numbers[-1]) + 1
        held: list[pl.DataFrame] = []
        for features in self.read(begin, stop):
            end = begin + features.height
            low, high = np.searchsorted(numbers, (begin, end))
            rows = numbers[low:high]
            held.append(self.labels[rows].hstack(features[rows - begin]))
            begin = end
            if high == len(numbers) or not high:
                continue
            whole = pl.concat(held)
            is_whole = whole["ts"].to_physical().to_numpy() < ts[numbers[high]]
            n = int(is_whole.sum())
            if n:
                yield whole[:n]
            held = [whole[n:]]
        yield pl.concat(held)


def labels_of(matrix: pl.DataFrame | BatchedMatrix) -> pl.DataFrame:
    """What a matrix says of each row; of one in memory with its features."""
    return matrix.labels if isinstance(matrix, BatchedMatrix) else matrix


def features_of(matrix: pl.DataFrame | BatchedMatrix) -> list[str]:
    """Features of a matrix, in their order."""
    return list(matrix.names) if isinstance(matrix, BatchedMatrix) else feature_names(matrix)
