"""Relabelling: candidates of other targets on the folds of the strategy's own.

Lives here: the matrix with the labels of another target, and the folds with the rows that may be trained on by them. Does not live here:
labels (`targets`), the fits (`evaluating`).

Test rows are those of the outer folds, labelled or not: what is predicted of them is judged by the strategy's own target. Of the training rows
of a fold those stay that have a label of the other target, which shares no instant with a test row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from hf_pipelines.research.fold_by_fold import GivenFold, GivenFoldOfPath, folds_of
from hf_pipelines.research.splitters.intervals import label_intervals, overlaps
from hf_pipelines.research.splitters.splitter import Splitter
from hf_pipelines.research.targets import Target, build_labels

LABELS = ("label_start", "label_end", "target", "y")


@dataclass(frozen=True, eq=False)
class GivenFolds:
    """Folds as a splitter."""

    folds: Sequence[GivenFold]

    def split(self, X: object, y: object = None, groups: object = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the rows of each."""
        for each in self.folds:
            yield each.train, each.test


@dataclass(frozen=True, eq=False)
class GivenFoldsOfPaths(GivenFolds):
    """Folds with paths as a splitter."""

    def paths(self, X: object, y: object = None, groups: object = None) -> Iterator[np.ndarray]:
        """Yield the path of each test row."""
        for each in self.folds:
            assert isinstance(each, GivenFoldOfPath)
            yield each.path


@dataclass(frozen=True, eq=False)
class Relabelled:
    """A matrix with the labels of another target, and which of its rows have one.

    Attributes
    ----------
    target : Target
    matrix : DataFrame
        The same rows in the same order; those without a label have a placeholder.
    is_labelled : array of bool of shape (n_rows,)
    """

    target: Target
    matrix: pl.DataFrame
    is_labelled: np.ndarray


def relabel(
    matrix: pl.DataFrame,
    target: Target,
    *,
    bars: pl.DataFrame,
    cutoff: datetime | None,
    sectors: Mapping[str, str] | None = None,
) -> Relabelled:
    """Label the rows of a matrix by another target.

    Parameters
    ----------
    matrix : DataFrame
        From `build_matrix`, with one label a row.
    target : Target
        With one label a row.
    bars : DataFrame
        Of the rows, of the history that the target looks back on, and until the cutoff.
    cutoff : datetime or None
        Labels end before it.
    sectors : mapping of symbol to sector, optional
    """
    labels = build_labels(bars, target, sectors=sectors).select("symbol", "ts", *LABELS)
    if cutoff is not None:
        labels = labels.filter(pl.col("label_end") < cutoff)
    joined = matrix.drop(LABELS).join(labels, on=["symbol", "ts"], how="left", maintain_order="left")
    is_labelled = joined["y"].is_not_null().to_numpy()
    # Never trained on and never scored: where there is no label stands one that ends with its bar.
    filled = joined.with_columns(
        pl.col("label_start", "label_end").fill_null(pl.col("ts")), pl.col("target", "y").fill_null(0.0)
    )
    return Relabelled(target, filled.select(matrix.columns), is_labelled)


def folds_of_labels(splitter: Splitter, matrix: pl.DataFrame, relabelled: Relabelled) -> GivenFolds:
    """The folds of a splitter with the training rows whose other label is known and shares no instant with a test row.

    Raises
    ------
    ValueError
        If a fold keeps no training rows.
    """
    own, other = label_intervals(matrix), label_intervals(relabelled.matrix)
    folds: list[GivenFold] = []
    for fold in folds_of(splitter, matrix):
        train = fold.train[relabelled.is_labelled[fold.train]]
        train = train[~overlaps(other[train], own[fold.test])]
        if not len(train):
            raise ValueError(
                f"`target` must leave fold {fold.number} rows to train on, {relabelled.target.name!r} leaves none: its labels reach into "
                "the test rows; take a shorter horizon."
            )
        if isinstance(fold, GivenFoldOfPath):
            folds.append(GivenFoldOfPath(fold.number, train, fold.test, fold.path))
        else:
            folds.append(GivenFold(fold.number, train, fold.test))
    if any(isinstance(each, GivenFoldOfPath) for each in folds):
        return GivenFoldsOfPaths(folds)
    return GivenFolds(folds)


def judged_by(predictions: pl.DataFrame, matrix: pl.DataFrame) -> pl.DataFrame:
    """Predictions with the labels of a matrix: of another target the order that they give alone is judged."""
    own = matrix.select("symbol", "ts", "y", "target")
    kept = predictions.select(pl.exclude("y", "target", "^probability_.*$", "^quantile_.*$"))
    return kept.join(own, on=["symbol", "ts"], how="left", maintain_order="left")
