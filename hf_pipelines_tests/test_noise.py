"""Noise, the short form of `make noise`: chance where there is nothing, and what is planted is found."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hf_pipelines.research.learners import choose_learner
from hf_pipelines.research.significance import adjust_holm
from hf_pipelines.research.splitters import SPLITTERS, PurgedKFold, build_splitter
from hf_pipelines_tests.noise_table import (
    FAMILY_ERROR,
    SHIPPED,
    coefficient_t,
    excess_scores,
    noise_matrix,
    noise_tests,
    shipped_recipe,
    shuffled_apart,
    skilled_matrix,
    validate,
    with_permuted_labels,
)

TREES, RIDGE = (shipped_recipe(name) for name in SHIPPED)
FEW_TREES = shipped_recipe(SHIPPED[0], params={"n_estimators": 5, "max_depth": 2})


class _Fixed:
    """The folds of a splitter on one matrix, whatever it is given."""

    def __init__(self, folds):
        self.folds = folds

    def split(self, X, y=None, groups=None):
        yield from self.folds


def test_the_learners_are_those_of_the_shipped_strategies():
    assert (TREES.name, RIDGE.name) == ("xgboost_classifier", "ridge")
    assert TREES.learner.params["n_estimators"] == 300


def test_noise_by_every_splitter_is_chance():
    """Two seeds a recipe; of a splitter all scores together."""
    tested = noise_tests(
        [FEW_TREES], seeds=range(2), splitters={"purged_walk_forward": build_splitter("purged_walk_forward")}
    )
    tested += noise_tests([RIDGE], seeds=range(3))
    assert {each.splitter for each in tested} == {*SPLITTERS}
    assert {each.score for each in tested} == {"information coefficient", "accuracy"}
    assert min(adjust_holm([each.p for each in tested])) > FAMILY_ERROR


def test_excess_scores_by_hand():
    """Of classes 0, 0, 1, 1 the first three are right: 3/4, and with half and a quarter of each class chance gives a half."""
    start = pl.datetime(2024, 1, 1, time_zone="UTC")
    predictions = pl.DataFrame({"symbol": list("abcd"), "fold": 0, "y": [-1.0, -1.0, 1.0, 1.0]}).with_columns(
        session=pl.date(2024, 1, 2), ts=start + pl.duration(days=1), trained_until=start, target="y",
        prediction=pl.Series([-2.0, -1.0, 1.0, -1.5]),
    )  # fmt: skip
    found = excess_scores(predictions, RIDGE.target)
    # Chance: down 3/4 * 1/2, up 1/4 * 1/2.
    assert found["accuracy"] == pytest.approx(0.75 - (0.75 * 0.5 + 0.25 * 0.5))
    # Ranks 1, 3, 4, 2 against 1.5, 1.5, 3.5, 3.5.
    assert found["information coefficient"] == pytest.approx(np.corrcoef([1, 3, 4, 2], [1.5, 1.5, 3.5, 3.5])[0, 1])


def test_folds_without_purge_are_found_out_by_the_same_scores():
    """What knows the sessions beside a row, whose labels overlap its own, is above chance: the table can fail."""
    matrix = noise_matrix(RIDGE.target, seed=0, symbols=6, sessions=200)
    day = (pl.col("session") - pl.col("session").min()).dt.total_days().cast(pl.Float32)
    symbol = [(pl.col("symbol") == name).cast(pl.Float32).alias(name) for name in matrix["symbol"].unique().sort()]
    placed = matrix.select(pl.exclude("^feature_.*$"), day.alias("day"), *symbol)

    curious = replace(RIDGE, learner=choose_learner("nearest_neighbours", {"n_neighbors": 1}))
    every = np.arange(placed.height)
    tests = [np.flatnonzero((placed["session"].rank("dense").to_numpy().astype(int) // 5) % 8 == at) for at in range(8)]
    leaking = _Fixed([(np.setdiff1d(every, test), test) for test in tests])
    purged = PurgedKFold(n_splits=8, embargo_sessions=1, min_train_sessions=20)
    leaked, honest = (
        np.mean(
            [
                *excess_scores(
                    validate(placed, curious, each).predictions.with_columns(
                        trained_until=pl.col("ts").dt.offset_by("-1d")
                    ),
                    RIDGE.target,
                ).values()
            ]
        )
        for each in (leaking, purged)
    )
    assert leaked > 0.2
    assert abs(honest) < 0.1


def test_a_planted_coefficient_is_found_and_killed_by_permuted_labels():
    """0.1 in 40 symbols here; 0.05 in 100 symbols and 750 sessions by the command."""
    matrix = skilled_matrix(RIDGE.target, seed=1, symbols=40, sessions=300, skill=0.1)
    splitter = build_splitter("purged_walk_forward", {"n_splits": 3})
    mean, t = coefficient_t(matrix, RIDGE, splitter)
    assert t > 5.0 and mean == pytest.approx(0.1, abs=0.04)
    assert abs(coefficient_t(with_permuted_labels(matrix, seed=2), RIDGE, splitter)[1]) < 2.58


@pytest.mark.parametrize("name", sorted(SPLITTERS))
def test_rows_that_a_fold_neither_trains_on_nor_tests_may_be_shuffled(name):
    """Those after its test block among them, for every splitter that trains on the past alone."""
    matrix = noise_matrix(RIDGE.target, seed=0, symbols=3)
    folds = list(build_splitter(name).split(matrix))
    train, test = folds[0]
    unused = np.setdiff1d(np.arange(matrix.height), np.union1d(train, test))
    after = np.flatnonzero((matrix["ts"] > matrix["ts"][test].max()).to_numpy())
    if not SPLITTERS[name].trains_on_later:
        assert len(after) and set(after) <= set(unused)
    shuffled = shuffled_apart(matrix, unused, seed=3)
    assert not shuffled.equals(matrix)
    # The splitter lays out the folds of the shuffled matrix anew.
    again = list(build_splitter(name).split(shuffled))[0]
    before, now = (
        validate(each, RIDGE, _Fixed([fold]), n_jobs=1) for each, fold in ((matrix, folds[0]), (shuffled, again))
    )
    assert_frame_equal(before.predictions, now.predictions, check_exact=True)
