"""Folds one by one: a cross-validation in parts, each with a configuration of its own or given up in between, and its parts as one.

Lives here: the folds of a splitter as values, and putting results together. Does not live here: fitting a fold (`cross_validation`), choosing a
configuration for it (`tuning`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from hf_pipelines.research.cross_validation import CrossValidation
from hf_pipelines.research.prediction_metrics import class_shares_of, pooled_metrics
from hf_pipelines.research.predictions import latest_predictions
from hf_pipelines.research.splitters.splitter import Splitter, has_paths
from hf_pipelines.research.targets import Target


@dataclass(frozen=True, eq=False)
class GivenFold:
    """One fold of a splitter, which is a splitter of this fold alone."""

    number: int
    train: np.ndarray
    test: np.ndarray

    def split(self, X: object, y: object = None, groups: object = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield its rows."""
        yield self.train, self.test


@dataclass(frozen=True, eq=False)
class GivenFoldOfPath(GivenFold):
    """One fold of a splitter with paths."""

    path: np.ndarray

    def paths(self, X: object, y: object = None, groups: object = None) -> Iterator[np.ndarray]:
        """Yield the path of each test row."""
        yield self.path


def folds_of(splitter: Splitter, matrix: pl.DataFrame) -> list[GivenFold]:
    """The folds that a splitter makes of a matrix.

    Raises
    ------
    ValueError
        As the splitter, for a matrix that is too short.
    """
    found = [GivenFold(number, train, test) for number, (train, test) in enumerate(splitter.split(matrix))]
    if not has_paths(splitter):
        return found
    paths = splitter.paths(matrix)
    return [GivenFoldOfPath(each.number, each.train, each.test, path) for each, path in zip(found, paths, strict=True)]


def join_folds(
    parts: Sequence[CrossValidation], folds: Sequence[GivenFold], matrix: pl.DataFrame, *, target: Target
) -> CrossValidation:
    """Cross-validations of one fold each as that of all folds: the same as if they had been made together.

    Parameters
    ----------
    parts : sequence of CrossValidation
        Of each of `folds`, in order; each may be of another configuration.
    folds : sequence of GivenFold
    matrix : DataFrame
        The labels of the rows that `folds` count.
    target : Target
    """
    y = matrix["y"].to_numpy()
    shares = np.array([class_shares_of(y[each.train], target) for each in folds])
    # Class shares are looked up by the place of a fold.
    at = {fold.number: place for place, fold in enumerate(folds)}
    predictions = pl.concat(
        [_numbered(part.predictions, at[fold.number]) for part, fold in zip(parts, folds, strict=True)]
    )
    return CrossValidation(
        predictions=predictions,
        training_intervals=pl.concat(
            [_numbered(part.training_intervals, at[fold.number]) for part, fold in zip(parts, folds, strict=True)]
        ),
        # A learner may leave out rows of some folds alone: then the others left out none.
        fold_metrics=pl.concat(
            [_numbered(part.fold_metrics, at[fold.number]) for part, fold in zip(parts, folds, strict=True)],
            how="diagonal",
        ),
        metrics=pooled_metrics(latest_predictions(predictions), target=target, class_shares=shares),
        reports={
            f"fold {at[fold.number]}": report
            for part, fold in zip(parts, folds, strict=True)
            for report in part.reports.values()
        },
        examined=[
            _numbered(each, at[fold.number])
            for part, fold in zip(parts, folds, strict=True)
            for each in part.examined
            # Where nothing was looked at.
            if each is not None
        ],
    )


def _numbered(frame: pl.DataFrame, number: int) -> pl.DataFrame:
    return frame.with_columns(fold=pl.lit(number, dtype=pl.Int32))
