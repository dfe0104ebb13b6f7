"""A matrix whose features are read in batches: the same folds, fits and predictions as in memory, to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.batched_matrix import BatchedMatrix, features_of, labels_of
from hf_pipelines.research.cross_validation import CrossValidation, cross_validate, fit_final
from hf_pipelines.research.learners import LEARNERS, LearnerChoice, choose_learner
from hf_pipelines.research.matrix import feature_names
from hf_pipelines.research.splitters import PurgedKFold, PurgedWalkForward
from hf_pipelines.research.targets import Target, build_target
from hf_pipelines.research.weights import choose_weightings
from hf_pipelines_tests.sample_matrix import random_matrix

RETURN = build_target("forward_return", horizon_bars=3)
CLASSES = build_target("direction", horizon_bars=3)
WEEKDAY = "feature_4"
ABLE = sorted(name for name, entry in LEARNERS.items() if entry.fit_batches is not None)
SIZE = {"n_estimators": 5, "max_depth": 3, "learning_rate": 0.2, "subsample": 0.8, "colsample_bytree": 0.8}


def matrix_of(target: Target) -> pl.DataFrame:
    """7 symbols, so that no batch of rows ends where a session does; a category, and unknown values."""
    matrix = random_matrix(target, symbols=7, sessions=90)
    rng = np.random.default_rng(4)
    unknown = rng.random(matrix.height) < 0.1
    return matrix.with_columns(
        pl.Series(WEEKDAY, rng.integers(0, 5, matrix.height).astype(np.float32)),
        feature_1=pl.when(pl.Series(~unknown)).then("feature_1").otherwise(float("nan")),
    )


def in_batches(matrix: pl.DataFrame, n_rows: int, largest: list[int] | None = None) -> BatchedMatrix:
    names = feature_names(matrix)

    def read(first: int, stop: int) -> Iterator[pl.DataFrame]:
        for begin in range(first, stop, n_rows):
            batch = matrix.select(names)[begin : min(begin + n_rows, stop)]
            if largest is not None:
                largest.append(batch.height)
            yield batch

    return BatchedMatrix(matrix.drop(names), tuple(names), read)


def fits(matrix: pl.DataFrame | BatchedMatrix, learner: LearnerChoice, target: Target) -> tuple[CrossValidation, bytes]:
    found = cross_validate(
        matrix,
        learner=learner,
        splitter=PurgedWalkForward(n_splits=1, test_sessions=12, embargo_sessions=2),
        target=target,
        weightings=choose_weightings("uniqueness"),
        seed=3,
        missing="keep",
    )
    return found, fit_final(matrix, learner=learner, target=target, seed=3).save()


def assert_same(one: CrossValidation, other: CrossValidation) -> None:
    for name in ("predictions", "training_intervals", "fold_metrics"):
        assert getattr(one, name).equals(getattr(other, name), null_equal=True), name
    assert one.metrics == other.metrics and one.reports == other.reports


@pytest.mark.parametrize("name", ABLE)
@pytest.mark.parametrize("target", [RETURN, CLASSES], ids=["return", "classes"])
def test_fits_and_predictions_are_those_of_the_matrix_in_memory_however_large_its_batches(name, target):
    params: dict[str, Any] = dict(SIZE)
    if "categories" in LEARNERS[name].params:
        params |= {"categories": [WEEKDAY], "early_stopping_rounds": 3}
        params |= {} if target.classes else {"quantiles": [0.2, 0.8]}
    learner = choose_learner(name, params)
    matrix = matrix_of(target)
    whole, model = fits(matrix, learner, target)
    for n_rows in (100, 9):
        found, batched_model = fits(in_batches(matrix, n_rows), learner, target)
        assert_same(found, whole)
        assert batched_model == model


def test_folds_that_train_on_later_rows_too_read_what_is_theirs():
    learner, matrix = choose_learner("xgboost", SIZE), matrix_of(RETURN)
    run = partial(
        cross_validate,
        learner=learner,
        splitter=PurgedKFold(n_splits=3, embargo_sessions=2),
        target=RETURN,
        weightings=(),
        seed=3,
        missing="keep",
    )
    assert_same(run(in_batches(matrix, 50)), run(matrix))


@pytest.mark.parametrize("name", ABLE)
def test_what_fails_while_batches_are_read_is_told_as_it_is(name):
    matrix = in_batches(matrix_of(RETURN), 50)
    passes = []

    def read(first: int, stop: int) -> Iterator[pl.DataFrame]:
        passes.append(first)
        for at, batch in enumerate(matrix.read(first, stop)):
            if len(passes) > 2 and at == 2:
                raise OSError("the disk is gone")
            yield batch

    with pytest.raises(OSError, match="the disk is gone"):
        fit_final(replace(matrix, read=read), learner=choose_learner(name, SIZE), target=RETURN, seed=3)


def test_no_row_is_read_that_no_fold_needs_and_never_more_than_a_batch_at_a_time():
    matrix = matrix_of(RETURN)
    rows = in_batches(matrix, 64, read := []).training_rows()
    some = rows.take(np.arange(100, 150)).take(np.array([3, 40]))
    np.testing.assert_array_equal(
        np.concatenate(list(some.batches())), matrix.select(feature_names(matrix))[[103, 140]]
    )
    assert read == [38]
    assert max(len(each) for each in rows.batches()) == 64
    assert list(rows.take(np.zeros(len(rows), dtype=bool)).batches()) == []


def test_frames_hold_the_rows_wanted_in_order_and_never_part_rows_of_one_time():
    matrix = matrix_of(RETURN)
    wanted = np.flatnonzero(np.random.default_rng(0).random(matrix.height) < 0.6)
    frames = list(in_batches(matrix, 50).frames(wanted))
    assert len(frames) > 5 and pl.concat(frames).select(matrix.columns).equals(matrix[wanted])
    times = [set(each["ts"]) for each in frames]
    assert not any(one & other for at, one in enumerate(times) for other in times[:at])
    assert list(in_batches(matrix, 50).frames(wanted[:0])) == []
    assert features_of(in_batches(matrix, 50)) == features_of(matrix)
    assert labels_of(in_batches(matrix, 50)).columns == [name for name in matrix.columns if "feature" not in name]


@pytest.mark.parametrize(
    ("learner", "fault"),
    [
        (
            choose_learner("lightgbm"),
            "`learner` must be able to read its rows in batches, was 'lightgbm'; take one of xgb",
        ),
        (
            choose_learner("voting", {"members": ["xgboost", "logistic"]}),
            "must be able to read its rows in batches, was 'voting'",
        ),
        (
            choose_learner("xgboost", preprocessing=["standard_scaling"]),
            "must be without preprocessing to read its rows",
        ),
        (
            choose_learner("xgboost", calibration="temperature"),
            "must be without calibration to read its rows in batches",
        ),
        (
            choose_learner("xgboost", {"tree_method": "exact"}),
            "`tree_method` must be hist to read rows in batches, was 'ex",
        ),
    ],
    ids=["learner", "members", "preprocessing", "calibration", "method"],
)
def test_what_needs_all_rows_at_once_is_refused_before_any_is_read(learner, fault):
    with pytest.raises(ValueError, match=fault):
        fits(in_batches(matrix_of(CLASSES), 50), learner, CLASSES)
