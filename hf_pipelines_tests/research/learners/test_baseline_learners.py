"""Baselines as learners: what `research.baselines` predicts, from labels and features, a row by itself."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hf_pipelines.research.baselines import BASELINES, BaselineRows
from hf_pipelines.research.learners import LEARNERS, Pipeline, Rows, Setup, TrainingRows, build_pipeline, choose_learner
from hf_pipelines_tests.research.learners.test_registry import rows_for

NAMES = sorted(name for name, entry in LEARNERS.items() if entry.family == "baseline")


def fitted(name: str, rows: TrainingRows, task: str, *, seed: int = 3, **params: Any) -> Pipeline:
    return build_pipeline(choose_learner(name, params), Setup(task, seed=seed)).fit(rows)  # type: ignore[arg-type]


def expected(name: str, rows: TrainingRows, task: str, **known: Any) -> Any:
    nothing = np.full(len(rows), np.nan)
    given = {"last_label": nothing, "momentum": nothing, "neutral": 0.0, "rng": np.random.default_rng(0), **known}
    n_classes = 3 if task == "classification" else 0
    return BASELINES[name].predict(BaselineRows(trained=rows.y, n_classes=n_classes, n_rows=len(rows), **given))


def test_every_baseline_of_the_scores_is_a_learner_under_its_name():
    assert {*NAMES} == {*BASELINES}


def test_majority_and_mean_are_those_of_the_training_rows():
    classes, values = rows_for("classification"), rows_for("regression")
    found = fitted("majority", classes, "classification").predict(classes).probability
    np.testing.assert_array_equal(found, expected("majority", classes, "classification").probability)
    assert found[0] == pytest.approx(np.bincount(classes.y.astype(int)) / len(classes))
    told = fitted("mean", values, "regression", quantiles=[0.1, 0.5]).predict(values)
    assert told.point == pytest.approx(np.full(len(values), values.y.mean()))
    assert told.quantiles[0] == pytest.approx(np.quantile(values.y, [0.1, 0.5]))


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_momentum_follows_the_sign_of_its_feature(task):
    rows = rows_for(task)
    rows.X[5, 1], rows.X[6, 1] = np.nan, 0.0
    found = fitted("momentum_sign", rows, task, feature="feature_1").predict(rows)
    theirs = expected("momentum_sign", rows, task, momentum=rows.X[:, 1].astype(np.float64))
    if task == "classification":
        np.testing.assert_array_equal(found.probability, theirs.probability)
        assert found.probability[0].argmax() == (2 if rows.X[0, 1] > 0 else 0)
    else:
        np.testing.assert_allclose(found.point, theirs.value, rtol=1e-12)
        assert np.sign(found.point[0]) == np.sign(rows.X[0, 1]) and found.point[5] == pytest.approx(rows.y.mean())
    # Nothing is up or down of a price: what is neutral is given.
    centred = fitted("momentum_sign", rows, "regression", feature="feature_1", neutral=2.0).predict(rows).point
    assert ((centred > 2.0) == (rows.X[:, 1] > 2.0))[[0, 1, 2, 3, 4]].all()


def test_the_last_value_is_its_feature_and_the_mean_where_it_is_unknown():
    rows = rows_for("regression")
    rows.X[5, 0] = np.nan
    found = fitted("last_value", rows, "regression", feature="feature_0").predict(rows).point
    np.testing.assert_array_equal(found[:5], rows.X[:5, 0].astype(np.float64))
    assert found[5] == pytest.approx(rows.y.mean())
    with pytest.raises(
        ValueError, match="`feature` of 'last_value' must be among the features .*, was 'gone'; take one"
    ):
        fitted("last_value", rows, "regression", feature="gone")


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_random_draws_labels_as_often_as_they_occur_by_seed_symbol_and_time_alone(task):
    rows = rows_for(task, sessions=1_000)
    pipeline = fitted("random", rows, task)
    found = pipeline.predict(rows)
    whole = found.point if found.point is not None else found.probability.argmax(axis=1)
    assert np.isin(whole, rows.y).all()
    if task == "classification":
        shares = np.bincount(rows.y.astype(int)) / len(rows)
        np.testing.assert_allclose(np.bincount(whole, minlength=3) / len(rows), shares, atol=0.03)
    else:
        np.testing.assert_allclose(np.quantile(whole, [0.1, 0.5, 0.9]), np.quantile(rows.y, [0.1, 0.5, 0.9]), atol=0.1)
    # Neighbours in time and symbols have nothing to do with each other.
    assert abs(np.corrcoef(whole[:-4], whole[4:])[0, 1]) < 0.06 and abs(np.corrcoef(whole[:-1], whole[1:])[0, 1]) < 0.06
    for at in (0, 17, 3_999):
        alone = pipeline.predict(Rows(rows.keys[[at]], rows.X[[at]], rows.names))
        assert (alone.point if alone.point is not None else alone.probability.argmax(axis=1))[0] == whole[at]
    other = fitted("random", rows, task, seed=4).predict(rows)
    assert ((other.point if other.point is not None else other.probability.argmax(axis=1)) != whole).any()
    # The seed is stored: where it is loaded nobody gives it.
    again = build_pipeline(pipeline.choice, Setup(task)).load(pipeline.save())  # type: ignore[arg-type]
    np.testing.assert_array_equal(
        again.predict(rows).point if task == "regression" else again.predict(rows).probability,
        found.point if task == "regression" else found.probability,
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_baseline_reads_no_feature_but_its_own(name):
    params = {"feature": "feature_0"} if "feature" in LEARNERS[name].params else {}
    task = sorted(LEARNERS[name].tasks)[0]
    rows = rows_for(task)
    other = replace(rows.with_features(rows.X * [1, 9, 9, 9, 9, 9], rows.names), y=rows.y, weight=rows.weight)
    one, again = fitted(name, rows, task, **params), fitted(name, other, task, **params)
    assert one.save() == again.save()
    np.testing.assert_array_equal(
        *(
            np.asarray(each.point if each.probability is None else each.probability)
            for each in (one.predict(rows), again.predict(other))
        )
    )
