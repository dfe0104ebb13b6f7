"""Predictions of estimators whose output is known by hand."""

import math

import numpy as np
import polars as pl
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression

from hf_pipelines.research.learners import Pipeline, Setup, choose_learner, predict_frame
from hf_pipelines_tests.sample_matrix import plain_bars

FRAME = plain_bars({"A": [1.0, 1.0], "B": [1.0, 1.0], "C": [1.0, 1.0]}).select(
    "symbol", "session", "ts", a=pl.Series([1.0, -8.0, 2.0, 1.0, -4.0, None]), b=pl.lit(0.0)
)
CLASSES = ("down", "flat", "up")


def pipeline_of(estimator, task: str) -> Pipeline:
    """An estimator that was fitted elsewhere."""
    return Pipeline(choose_learner("nearest_neighbours"), Setup(task), steps=(), estimator=estimator, calibrator=None)


def prior(*codes: int) -> Pipeline:
    fitted = DummyClassifier(strategy="prior").fit(np.zeros((len(codes), 2)), codes)
    return pipeline_of(fitted, "classification")


def slope_of_one() -> Pipeline:
    fitted = LinearRegression().fit(np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 1.0]]), [0.0, 1.0, 2.0])
    return pipeline_of(fitted, "regression")


def predict(estimator, classes, features=("a", "b"), frame=FRAME):
    return predict_frame(estimator, frame, features=features, classes=classes)


def test_predict_frame_classes_gives_expected_direction_and_largest_probability():
    predicted = predict(prior(0, 1, 2, 2), CLASSES).row(0, named=True)
    assert predicted["prediction"] == pytest.approx(0.5 - 0.25)
    assert predicted["confidence"] == pytest.approx(0.5)
    assert [predicted[f"probability_{name}"] for name in CLASSES] == pytest.approx([0.25, 0.25, 0.5])


def test_predict_frame_two_classes_is_the_difference_of_probabilities():
    predicted = predict(prior(0, 1, 1, 1), ("down", "up")).row(0, named=True)
    assert predicted["prediction"] == pytest.approx(0.75 - 0.25)


def test_predict_frame_regression_ranks_size_within_each_ts():
    predicted = predict(slope_of_one(), ())
    assert predicted["prediction"].to_list()[:5] == pytest.approx([1.0, -8.0, 2.0, 1.0, -4.0])
    # First ts holds sizes 1, 2, 4; at the second C is unknown, which leaves 8 and 1.
    assert predicted["confidence"].to_list()[:5] == pytest.approx([1 / 3, 1.0, 2 / 3, 1 / 2, 1.0])


@pytest.mark.parametrize(
    ("estimator", "classes"), [(prior(0, 1, 2), CLASSES), (slope_of_one(), ())], ids=["classes", "returns"]
)
def test_predict_frame_unknown_feature_gives_nan_and_keeps_the_row(estimator, classes):
    predicted = predict(estimator, classes)
    assert predicted.select("symbol", "session", "ts").equals(FRAME.select("symbol", "session", "ts"))
    values = predicted.drop("symbol", "session", "ts")
    assert all(math.isnan(value) for value in values.row(5))
    assert values[:5].select(pl.all().is_finite().all()).row(0) == (True,) * values.width


def test_predict_frame_infinite_feature_is_unknown_and_keep_asks_about_rows_with_any_known():
    frame = FRAME.with_columns(a=pl.Series([math.inf, None, math.nan, 1.0, -math.inf, 2.0], dtype=pl.Float32))
    frame = frame.with_columns(b=pl.Series([1.0, 1.0, math.inf, 1.0, math.nan, 1.0], dtype=pl.Float32))
    known = [predict(prior(0, 1, 2), CLASSES, frame=frame)["prediction"].is_finite().to_list()]
    kept = predict_frame(prior(0, 1, 2), frame, features=("a", "b"), classes=CLASSES, missing="keep")
    known.append(kept["prediction"].is_finite().to_list())
    assert known == [[False, False, False, True, False, True], [True, True, False, True, False, True]]


@pytest.mark.parametrize(
    ("estimator", "classes"), [(prior(0, 1, 2), CLASSES), (slope_of_one(), ())], ids=["classes", "returns"]
)
def test_predict_frame_all_unknown_or_empty_is_no_error(estimator, classes):
    nothing_known = predict(estimator, classes, frame=FRAME.with_columns(a=pl.lit(None, pl.Float32)))
    assert nothing_known["prediction"].is_nan().all() and nothing_known["confidence"].is_nan().all()
    assert predict(estimator, classes, frame=FRAME[:0]).schema == nothing_known.schema


def test_predict_frame_columns_in_other_order_are_taken_by_name():
    fitted = slope_of_one()
    swapped = FRAME.select("b", "ts", "a", "symbol", "session")
    assert predict(fitted, (), frame=swapped).equals(predict(fitted, ()))


def test_predict_frame_one_row_depends_on_its_own_ts_alone():
    whole, fitted = predict(slope_of_one(), ()), slope_of_one()
    for (ts,), part in FRAME.group_by("ts"):
        assert predict(fitted, (), frame=part).equals(whole.filter(pl.col("ts") == ts))


def test_predict_frame_missing_feature_raises():
    with pytest.raises(ValueError, match=r"was without \['z'\]"):
        predict(slope_of_one(), (), features=("a", "z"))


def test_predict_frame_other_classes_than_fitted_raises():
    with pytest.raises(ValueError, match=r"must name the codes \[0, 2\] of the estimator"):
        predict(prior(0, 2), CLASSES)
