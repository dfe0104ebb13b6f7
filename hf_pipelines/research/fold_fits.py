"""Fits of folds: rows of a matrix to a fitted pipeline, and rows to its predictions.

Lives here: what cross-validation, the final fit and an inner walk-forward share. Not here: which rows make a fold (`splitters`), what
is made of the predictions (`cross_validation`, `fold_calibration`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import polars as pl

from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.batched_matrix import BatchedMatrix, features_of, labels_of
from hf_pipelines.research.blas import one_blas_thread
from hf_pipelines.research.learners import (
    LearnerChoice,
    Pipeline,
    Setup,
    TrainingRows,
    build_pipeline,
    feature_array,
    keyed,
    predict_frame,
)
from hf_pipelines.research.learners.learner import BatchedRows
from hf_pipelines.research.learners.prediction import with_history
from hf_pipelines.research.matrix import feature_names
from hf_pipelines.research.prediction_replay import check_replay, reads_keys
from hf_pipelines.research.targets import HORIZON, Target
from hf_pipelines.research.validation_rows import cut_validation

_AnyRows = TypeVar("_AnyRows", TrainingRows, BatchedRows)


@dataclass(frozen=True)
class Fold:
    """A fold: places of its rows in the matrix, and of each test row its path where there are any."""

    number: int
    train: np.ndarray
    test: np.ndarray
    path: np.ndarray | None = None

    @property
    def place(self) -> str:
        """Its name in messages."""
        return f"fold {self.number}"


def training_rows(matrix: pl.DataFrame | BatchedMatrix, times: pl.Series | None) -> TrainingRows | BatchedRows:
    if isinstance(matrix, BatchedMatrix):
        return matrix.training_rows()
    names = feature_names(matrix)
    return TrainingRows(
        keyed(matrix, "label_start", "label_end", times=times),
        feature_array(matrix, names),
        tuple(names),
        y=matrix["y"].to_numpy(),
        weight=matrix["weight"].to_numpy(),
    )


def fit_rows(
    learner: LearnerChoice,
    rows: TrainingRows | BatchedRows,
    setup: Setup,
    *,
    place: str,
    target: Target,
    validation_share: float,
) -> Pipeline:
    """Fit a pipeline on training rows, of which it gets the latest apart if it needs validation rows."""
    pipeline = build_pipeline(learner, setup)
    fit = held = None
    if learner.needs_validation:
        fit, held = cut_validation(rows.keys, share=validation_share)
        check_labels({f"{place} without its validation rows": rows.y[fit]}, target)
    with one_blas_thread():
        if isinstance(rows, BatchedRows):
            return pipeline.fit_batches(_taken(rows, fit), None if held is None else rows.take(held))
        validation = None if held is None else rows.take_with_history(held, bars=learner.history_bars)
        return pipeline.fit(_taken(rows, fit), validation)


def _taken(rows: _AnyRows, which: np.ndarray | None) -> _AnyRows:
    return rows if which is None else rows.take(which)


def predict_fold(
    pipeline: Pipeline,
    matrix: pl.DataFrame | BatchedMatrix,
    *,
    fold: Fold,
    target: Target,
    missing: str,
    times: pl.Series | None,
) -> pl.DataFrame:
    labels = labels_of(matrix)
    rows = labels[fold.test]
    names = features_of(matrix)
    ask = partial(predict_frame, pipeline, features=names, classes=target.classes, missing=missing, times=times)
    if isinstance(matrix, BatchedMatrix):
        predicted = pl.concat(ask(each) for each in matrix.frames(fold.test))
    else:
        shown, wanted = with_history(matrix, fold.test, bars=pipeline.choice.history_bars, times=times)
        predicted = ask(shown, wanted=wanted)
        if reads_keys(pipeline.choice):
            check_replay(ask, shown, wanted, predicted, name=pipeline.choice.name)
    trained_until = labels["label_end"][fold.train].max()
    parts = {HORIZON: rows[HORIZON]} if HORIZON in rows.columns else {}
    parts |= {} if fold.path is None else {"path": pl.Series(fold.path, dtype=pl.Int32)}
    return predicted.with_columns(y=rows["y"], target=rows["target"], **parts).select(
        *KEY_COLUMNS,
        pl.lit(fold.number, dtype=pl.Int32).alias("fold"),
        *parts,
        pl.lit(trained_until, dtype=labels.schema["label_end"]).alias("trained_until"),
        pl.exclude(*KEY_COLUMNS, *parts),
    )


def check_labels(y_by_place: Mapping[str, np.ndarray], target: Target) -> None:
    if not target.is_classification:
        constant = [f"{y[0]:g} in all of {place}" for place, y in y_by_place.items() if len(y) and (y == y[0]).all()]
        if constant:
            raise ValueError(
                f"`target` must give training rows more than one value, was {target.name!r} with {'; '.join(constant[:5])}; look at "
                "the bars, which may not move, or take another target."
            )
        return
    lacking = [
        f"{place} lacks {[name for code, name in enumerate(target.classes) if code not in y]}"
        for place, y in y_by_place.items()
        if set(range(len(target.classes))) - set(y.tolist())
    ]
    if lacking:
        raise ValueError(
            f"`target` must give training rows of every class, was {target.name!r} where {'; '.join(lacking[:5])}; bring its "
            "thresholds closer to the returns or widen the window."
        )
