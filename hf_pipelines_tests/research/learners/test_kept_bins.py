"""Bins that are kept for fits on the same rows: the same bits as made anew, and never those of other rows."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hf_pipelines.research.cross_validation import cross_validate
from hf_pipelines.research.learners import LEARNERS, Pipeline, Setup, TrainingRows, build_pipeline, choose_learner
from hf_pipelines.research.learners.kept_bins import KeptBins, rows_key
from hf_pipelines.research.splitters import PurgedWalkForward
from hf_pipelines.research.targets import build_target
from hf_pipelines_tests.research.learners.test_boosting import BOOSTERS, SIZE, rows_of
from hf_pipelines_tests.sample_matrix import random_matrix

# Parameters of trials that need the same bins, and some that need others.
SAME: dict[str, list[dict[str, Any]]] = {
    "xgboost_early_stopping": [{}, {"max_depth": 2, "learning_rate": 0.3}, {"min_child_weight": 9.0, "subsample": 0.6}],
    "lightgbm": [{}, {"num_leaves": 4, "learning_rate": 0.3}, {"reg_lambda": 3.0, "subsample": 0.6}],
    "catboost": [{}, {"depth": 2, "learning_rate": 0.3}, {"l2_leaf_reg": 9.0, "subsample": 0.6}],
}
OTHER: dict[str, list[dict[str, Any]]] = {
    "xgboost_early_stopping": [{"max_bin": 16}, {"tree_method": "approx"}, {"categories": ["sector"]}],
    "lightgbm": [{"max_bin": 16}, {"min_child_samples": 40}, {"categories": ["sector"]}],
    "catboost": [{"border_count": 16}, {"categories": ["sector"]}],
}
each_keeping = pytest.mark.parametrize("name", sorted(SAME))


def fit(name: str, rows: TrainingRows, bins: KeptBins | None, *, seed: int = 5, **params: Any) -> Pipeline:
    given = {"n_estimators": 5, "learning_rate": 0.1, "early_stopping_rounds": 5, **SIZE.get(name, {}), **params}
    task = "regression" if len(np.unique(rows.y)) > 3 else "classification"
    numbers, cut = np.arange(len(rows)), (3 * len(rows)) // 4
    pipeline = build_pipeline(choose_learner(name, given), Setup(task, seed=seed, bins=bins))
    return pipeline.fit(rows.take(numbers[:cut]), rows.take(numbers[cut:]))


def test_every_booster_keeps_its_bins_or_has_no_way_to():
    assert {*SAME} == {*BOOSTERS} - {"hist_gradient_boosting"}
    rows, bins = rows_of(), KeptBins()
    fit("hist_gradient_boosting", rows, bins)
    assert (bins.n_made, bins.n_reused) == (0, 0)


@each_keeping
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_fits_on_the_same_rows_share_bins_and_are_those_without(name, task):
    rows, bins = rows_of(task=task), KeptBins()
    for params in (*SAME[name], {"n_estimators": 9}):
        shared, alone = fit(name, rows, bins, **params), fit(name, rows, None, **params)
        assert shared.save() == alone.save() and shared.report() == alone.report()
    assert (bins.n_made, bins.n_reused) == (1, len(SAME[name]))


@each_keeping
def test_fits_whose_bins_differ_make_their_own(name):
    rows, bins = rows_of(), KeptBins(most=10)
    others = OTHER[name]
    for params in ({}, *others):
        assert fit(name, rows, bins, **params).save() == fit(name, rows, None, **params).save()
    assert (bins.n_made, bins.n_reused) == (1 + len(others), 0)
    # Another seed draws other rows for LightGBM's edges, where there are many.
    assert fit(name, rows, bins, seed=6).save() == fit(name, rows, None, seed=6).save()
    assert bins.n_reused == (name != "lightgbm")


@each_keeping
def test_bins_of_other_rows_never_serve_whatever_differs(name):
    rows, bins = rows_of(), KeptBins(most=20)
    fit(name, rows, bins)
    changed = rows.X.copy()
    # A test row's features, in a planted leak, would move the edges.
    changed[3, 1] = 50.0
    last = changed.copy()
    last[-1, 1] = 50.0
    others = (
        replace(rows, X=changed),
        replace(rows, X=last),
        replace(rows, y=rows.y + np.eye(1, len(rows), 3)[0]),
        replace(rows, weight=rows.weight + np.eye(1, len(rows), 3)[0]),
        rows.take(np.arange(len(rows) - 40)),
        rows.with_features(rows.X[:, ::-1], rows.names),
    )
    for number, each in enumerate(others):
        assert fit(name, each, bins).save() == fit(name, each, None).save()
        assert (bins.n_made, bins.n_reused) == (2 + number, 0)


def test_quantiles_of_one_fit_share_its_bins_and_are_those_of_fits_of_their_own():
    rows = rows_of()
    for name in sorted(SAME):
        both, one = fit(name, rows, bins := KeptBins(), quantiles=[0.2, 0.8]), fit(name, rows, None, quantiles=[0.8])
        assert (bins.n_made, bins.n_reused) == (1, 2)
        save = both.estimator.library.save
        for model in ("point", "quantile_0.8"):
            assert save(both.estimator.models[model]) == save(one.estimator.models[model])
        assert save(both.estimator.models["point"]) == save(fit(name, rows, None).estimator.models["point"])


def test_trials_on_the_same_folds_share_each_folds_bins_alone_and_score_as_without():
    target = build_target("forward_return", horizon_bars=3)
    matrix = random_matrix(target, symbols=5, sessions=90)
    splitter = PurgedWalkForward(n_splits=3, test_sessions=12, embargo_sessions=2)
    bins = KeptBins(most=3)
    for trial, rate in enumerate((0.1, 0.3)):
        params = {"n_estimators": 5, "learning_rate": rate}
        options: dict[str, Any] = {
            "learner": choose_learner("lightgbm", params),
            "splitter": splitter,
            "target": target,
        }
        found, alone = (
            cross_validate(matrix, **options, weightings=(), seed=1, n_jobs=2, bins=each) for each in (bins, None)
        )
        assert found.predictions.equals(alone.predictions) and found.metrics == alone.metrics
        assert (bins.n_made, bins.n_reused) == (3, 3 * trial)


def test_bins_are_lent_to_one_at_a_time_the_oldest_go_first_and_a_failed_fit_leaves_none():
    bins = KeptBins(most=2)
    with bins.lent("a", list) as first, bins.lent("a", list) as second:
        assert first is not second
    with bins.lent("b", list), pytest.raises(RuntimeError), bins.lent("c", list):
        raise RuntimeError
    with bins.lent("a", list) as again:
        assert again is first or again is second
    assert (bins.n_made, bins.n_reused) == (4, 1)
    with bins.lent("c", list):
        pass
    with bins.lent("d", list), bins.lent("a", list):
        pass
    assert (bins.n_made, bins.n_reused) == (6, 2)
    with bins.lent("b", list):
        assert bins.n_made == 7
    with pytest.raises(ValueError, match="`most` must be at least 1, was 0"):
        KeptBins(most=0)
    held: list[list[int]] = []

    def hold() -> None:
        for _ in range(200):
            with bins.lent("e", list) as lent:
                lent.append(threading.get_ident())
                assert lent[-1] == threading.get_ident()
                held.append(lent)

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 800
    assert rows_key(np.zeros(2)) != rows_key(np.zeros(2, dtype=np.float32)) != rows_key(np.zeros((2, 1)))


def test_no_other_learner_heeds_bins():
    assert [name for name, entry in LEARNERS.items() if "early_stopping_rounds" in entry.params] != []
    rows, bins = rows_of(200), KeptBins()
    for name in ("ridge", "xgboost"):
        params = {"n_estimators": 3} if name == "xgboost" else {}
        build_pipeline(choose_learner(name, params), Setup("regression", bins=bins)).fit(rows)
    assert bins.n_made == 0
