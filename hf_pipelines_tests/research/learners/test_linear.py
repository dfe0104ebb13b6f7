"""Linear learners: numbers that scikit-learn confirms on the same rows, weights as rows, labels of any size."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn import linear_model as sk
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

from hf_pipelines.research.learners import Pipeline, Setup, TrainingRows, build_pipeline, choose_learner, keyed
from hf_pipelines.research.learners.quantile_regression import solve_quantile
from hf_pipelines_tests.sample_matrix import plain_bars

SCIKIT = {
    "lasso": (sk.Lasso(alpha=0.05), {"alpha": 0.05}),
    "elastic_net": (sk.ElasticNet(alpha=0.05, l1_ratio=0.3), {"alpha": 0.05, "l1_ratio": 0.3}),
    "huber": (sk.HuberRegressor(epsilon=1.2, alpha=0.1, max_iter=2_000), {"epsilon": 1.2, "alpha": 0.1}),
    "logistic": (sk.LogisticRegression(C=0.01, max_iter=2_000), {"C": 0.01}),
    "quantile": (sk.QuantileRegressor(quantile=0.5, alpha=0.05), {"alpha": 0.05, "quantiles": [0.2, 0.5, 0.9]}),
}
VALUES = [name for name in sorted(SCIKIT) if name != "logistic"]


def rows_of(task: str = "regression", *, n: int = 300, seed: int = 0, size: float = 0.01) -> TrainingRows:
    """Five features of different scales, two of which say something about labels of a size like returns'."""
    rng = np.random.default_rng(seed)
    bars = plain_bars({"A": [1.0] * n}).with_columns(label_start="ts", label_end="ts")
    X = rng.normal(size=(n, 5))
    y = 0.5 + X[:, 0] - 0.5 * X[:, 1] + rng.standard_t(4, size=n)
    y = np.digitize(y, [0.0, 1.0]).astype(float) if task == "classification" else size * y
    X = (X * [1.0, 100.0, 0.01, 1.0, 1.0] + [0.0, 3.0, 0.0, 1.0, 50.0]).astype(np.float32)
    weight = rng.integers(1, 4, size=n).astype(float)
    return TrainingRows(keyed(bars, "label_start", "label_end"), X, tuple("abcde"), y=y, weight=weight)


def fitted(name: str, rows: TrainingRows, **params: Any) -> Pipeline:
    task = "classification" if name == "logistic" else "regression"
    return build_pipeline(choose_learner(name, {**SCIKIT[name][1], **params}), Setup(task, seed=3)).fit(rows)


def answer(pipeline: Pipeline, rows: TrainingRows) -> np.ndarray:
    found = pipeline.predict(rows)
    return found.point if found.probability is None else found.probability


@pytest.mark.parametrize("name", sorted(SCIKIT))
def test_a_linear_learner_agrees_with_scikit_learn_on_standardised_features_and_labels(name):
    rows = rows_of("classification" if name == "logistic" else "regression")
    later = rows_of(seed=1)
    scaler = StandardScaler().fit(rows.X.astype(np.float64), sample_weight=rows.weight)
    X, asked = (scaler.transform(each.X.astype(np.float64)) for each in (rows, later))
    estimator, _ = SCIKIT[name]
    if name == "logistic":
        expected = estimator.fit(X, rows.y, sample_weight=rows.weight).predict_proba(asked)
    else:
        size = np.sqrt(np.cov(rows.y, aweights=rows.weight, ddof=0))
        # Quantile regression takes off the mean too, which its intercept puts back.
        expected = size * estimator.fit(X, rows.y / size, sample_weight=rows.weight).predict(asked)
    ours = answer(fitted(name, rows), later)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", sorted(SCIKIT))
def test_a_row_of_weight_2_is_two_rows(name):
    rows = rows_of("classification" if name == "logistic" else "regression")
    repeated = rows.take(np.repeat(np.arange(len(rows)), rows.weight.astype(int)))
    repeated = replace(repeated, weight=np.ones(len(repeated)))
    one, other = answer(fitted(name, rows), rows), answer(fitted(name, repeated), rows)
    np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-3 * np.abs(one).max())


@pytest.mark.parametrize("name", VALUES)
def test_a_penalty_means_the_same_for_labels_of_any_size(name):
    small, large = rows_of(size=1e-5), rows_of(size=1e4)
    one, other = answer(fitted(name, small), small), answer(fitted(name, large), large)
    np.testing.assert_allclose(one * 1e9, other, rtol=1e-3, atol=1e-3 * np.abs(other).max())


@pytest.mark.parametrize("quantile", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("penalty", [1e-6, 1e-3, 0.1])
@pytest.mark.parametrize("shape", [(200, 4), (6, 8)])
def test_the_solver_of_quantiles_is_as_near_as_a_linear_program(quantile, penalty, shape):
    rng = np.random.default_rng(5)
    X, weight = rng.normal(size=shape), rng.uniform(0.5, 2.0, size=shape[0])
    y = X[:, 0] + rng.standard_t(3, size=shape[0])
    theirs = sk.QuantileRegressor(quantile=quantile, alpha=penalty).fit(X, y, sample_weight=weight)

    def loss(coefficients: np.ndarray, intercept: float) -> float:
        rest = y - X @ coefficients - intercept
        each = np.maximum(quantile * rest, (quantile - 1.0) * rest)
        return float(np.average(each, weights=weight) + penalty * np.abs(coefficients).sum())

    found = solve_quantile(np.column_stack([X, np.ones(shape[0])]), y, weight, quantile=quantile, penalty=penalty)
    assert loss(found[:-1], found[-1]) <= loss(theirs.coef_, theirs.intercept_) + 1e-8


def test_quantiles_hold_their_share_of_training_labels_never_cross_and_the_point_is_the_median():
    rows = rows_of(n=2_000)
    even = replace(rows, weight=np.ones(len(rows)))
    found = fitted("quantile", even, alpha=1e-4).predict(even)
    assert found.quantiles is not None and found.point is not None and (np.diff(found.quantiles, axis=1) >= 0).all()
    np.testing.assert_allclose((even.y[:, None] <= found.quantiles).mean(axis=0), [0.2, 0.5, 0.9], atol=0.005)
    np.testing.assert_array_equal(found.quantiles[:, 1], found.point)
    # A row has the same bits alone.
    for at in (0, 1_999):
        alone = fitted("quantile", even, alpha=1e-4).predict(even.take(np.array([at])))
        np.testing.assert_array_equal(alone.quantiles[0], found.quantiles[at])
    # Far from the training rows the lines cross, the predicted quantiles do not.
    far = even.with_features(even.X * 1e4, even.names)
    assert (np.diff(fitted("quantile", even).predict(far).quantiles, axis=1) >= 0).all()
    with pytest.raises(ValueError, match="`quantiles` must be ascending and without repetition, was \\[0.9, 0.1\\]"):
        choose_learner("quantile", {"quantiles": [0.9, 0.1]})


def test_a_lasso_leaves_features_out_and_reports_how_many_and_whether_it_converged():
    rows = rows_of(n=2_000)
    pipeline = fitted("lasso", rows, alpha=0.2)
    told = pipeline.importances(rows.names)
    assert [name for name, size in told.items() if size > 0] == ["a", "b"] and told["a"] > told["b"]
    assert pipeline.report() == {"iterations": pipeline.report()["iterations"], "converged": True, "features_used": 2}
    assert fitted("lasso", rows, alpha=1.0).report()["features_used"] == 0
    classes = rows_of("classification")
    with pytest.warns(ConvergenceWarning):
        stopped = fitted("logistic", classes, max_iter=1).report()
    assert stopped["iterations"] == 1 and not stopped["converged"]
    assert fitted("logistic", classes).report()["converged"]


def test_hubers_loss_bears_wild_labels_and_its_model_holds_nothing_of_the_training_rows():
    rows = rows_of(n=1_000)
    spoilt = replace(rows, y=np.where(np.arange(1_000) % 50 == 0, 100.0, rows.y))
    clean, wild = answer(fitted("huber", rows), rows), answer(fitted("huber", spoilt), rows)
    assert np.abs(clean - wild).max() < 0.3 * rows.y.std()
    assert not hasattr(fitted("huber", rows).estimator[-1], "outliers_")
    assert abs(len(fitted("huber", rows).save()) - len(fitted("huber", rows_of(n=300)).save())) < 50
