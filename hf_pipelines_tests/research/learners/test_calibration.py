"""Calibrations: agreement with scikit-learn on the same rows, what they mend and leave alone, and what is kept of them."""

import json

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from hf_pipelines.research.cross_validation import cross_validate
from hf_pipelines.research.learners import CALIBRATIONS, Setup, choose_learner
from hf_pipelines.research.reliability import measure_reliability
from hf_pipelines.research.splitters import PurgedWalkForward
from hf_pipelines.research.targets import build_target
from hf_pipelines_tests.sample_matrix import random_matrix

DIRECTION = build_target("direction", horizon_bars=5)
each_calibration = pytest.mark.parametrize("name", sorted(CALIBRATIONS))


class LogOdds(ClassifierMixin, BaseEstimator):
    """Whose features are its log odds of each class against the others."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> "LogOdds":
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classes_[X.argmax(axis=1)]

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        return X[:, 1] if len(self.classes_) == 2 else X


class Probabilities(LogOdds):
    """Whose features are its probabilities."""

    decision_function = None  # type: ignore[assignment]

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return X


def rows(n: int, n_classes: int, *, sharper: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and outcomes drawn by them; then the former are made so much surer in the logarithm."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.0, 1.0, (n, n_classes))
    honest = softmax(logits, axis=1)
    y = (rng.random((n, 1)) > honest.cumsum(axis=1)).sum(axis=1)
    return softmax(sharper * logits, axis=1), y.astype(float)


def fitted(name: str, probability: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None, **params: int):
    choice = choose_learner("xgboost", calibration={"type": name, "params": params})
    calibrator = CALIBRATIONS[name].build(choice.calibration.params, Setup("classification"))
    calibrator.fit(probability, y, np.ones(len(y)) if weight is None else weight)
    return calibrator


def error_of(probability: np.ndarray, y: np.ndarray) -> float:
    return measure_reliability(probability, y, np.arange(len(y)) // 50, label_sessions=1).error


@pytest.mark.parametrize("n_classes", [2, 3])
def test_sigmoid_agrees_with_scikit_learns_on_log_odds(n_classes):
    probability, y = rows(1500, n_classes, sharper=2.0)
    asked, _ = rows(500, n_classes, sharper=2.0, seed=1)
    odds, asked_odds = (np.log(each / (1.0 - each)) for each in (probability, asked))
    theirs = CalibratedClassifierCV(FrozenEstimator(LogOdds().fit(odds, y)), method="sigmoid").fit(odds, y)
    ours = fitted("sigmoid", probability, y).transform(asked)
    np.testing.assert_allclose(ours, theirs.predict_proba(asked_odds), atol=1e-4)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_isotonic_agrees_with_scikit_learns_but_for_certainty(n_classes):
    probability, y = rows(1500, n_classes, sharper=2.0)
    asked, _ = rows(500, n_classes, sharper=2.0, seed=1)
    theirs = CalibratedClassifierCV(FrozenEstimator(Probabilities().fit(probability, y)), method="isotonic").fit(
        probability, y
    )
    expected = theirs.predict_proba(asked)
    ours = fitted("isotonic", probability, y).transform(asked)
    # A share of 0 or 1 of 1,500 rows is taken for 1 / 1,502 off.
    np.testing.assert_allclose(ours, expected, atol=2e-3)
    assert ours.min() > 0.0 == expected.min()


@each_calibration
@pytest.mark.parametrize("n_classes", [2, 3])
def test_over_confidence_falls_by_seventy_percent_and_honesty_does_not_rise(name, n_classes):
    # Fitted on earlier rows, judged on later ones.
    sure, y = rows(20_000, n_classes, sharper=3.0)
    calibrator = fitted(name, sure[:8_000], y[:8_000])
    before, after = error_of(sure[8_000:], y[8_000:]), error_of(calibrator.transform(sure[8_000:]), y[8_000:])
    assert before > 0.1 and after <= 0.3 * before
    honest, y = rows(20_000, n_classes, seed=2)
    before = measure_reliability(honest[8_000:], y[8_000:], np.arange(12_000) // 50, label_sessions=1)
    after = error_of(fitted(name, honest[:8_000], y[:8_000]).transform(honest[8_000:]), y[8_000:])
    # What chance makes of so many rows, both when it is fitted and when it is judged.
    assert after <= before.error + 1.5 * before.by_chance


@each_calibration
def test_probabilities_add_up_and_no_class_falls_where_its_probability_rises(name):
    for n_classes in (2, 3):
        probability, y = rows(2_000, n_classes, sharper=2.0)
        asked = np.vstack([probability, np.eye(n_classes)])
        ours = fitted(name, probability, y).transform(asked)
        assert np.isfinite(ours).all() and (ours >= 0.0).all() and ours.shape == asked.shape
        np.testing.assert_allclose(ours.sum(axis=1), 1.0)
    order = np.argsort(rows(2_000, 2, sharper=2.0)[0][:, 1])
    pair, y = rows(2_000, 2, sharper=2.0)
    assert (np.diff(fitted(name, pair, y).transform(pair)[order, 1]) >= -1e-12).all()


@each_calibration
def test_a_learner_that_is_wrong_is_not_turned_upside_down(name):
    probability, y = rows(3_000, 2)
    ours = fitted(name, probability[:, ::-1], y).transform(probability[:, ::-1])
    # As likely as the classes occur, whatever was said.
    assert np.abs(ours[:, 1] - y.mean()).max() < 0.12


@each_calibration
def test_weights_that_balance_classes_do_not_change_what_is_likely(name):
    probability, y = rows(2_000, 2, sharper=2.0)
    kept = (y == 0.0) | (np.arange(2_000) % 4 == 0)
    probability, y = probability[kept], y[kept]
    balanced = np.where(y == 1.0, 4.0, 1.0)
    plain, weighed = (fitted(name, probability, y, each).transform(probability) for each in (None, balanced))
    np.testing.assert_allclose(weighed, plain, atol=1e-6)
    # One temperature for all classes cannot say that one is rare.
    assert name == "temperature" or plain[:, 1].mean() == pytest.approx(y.mean(), abs=0.03)


@each_calibration
def test_too_few_rows_or_classes_leave_probabilities_as_they_are_and_say_so(name):
    probability, y = rows(400, 3, sharper=2.0)
    few = fitted(name, probability, y, min_rows=401)
    np.testing.assert_array_equal(few.transform(probability), probability)
    report = CALIBRATIONS[name].report(few)
    assert report["calibration"] == "left as it is: 400 rows to fit it on are fewer than `min_rows` 401"
    lacking = y != 1.0
    one = fitted(name, probability[lacking], y[lacking], min_rows=2)
    np.testing.assert_array_equal(one.transform(probability), probability)
    assert CALIBRATIONS[name].report(one)["calibration"] == "left as it is: the rows to fit it on hold 2 of 3 classes"
    enough = fitted(name, probability, y, min_rows=400)
    assert (enough.transform(probability) != probability).any()
    assert CALIBRATIONS[name].report(enough)["calibration"] == "fitted" and report["rows"] == 400


@each_calibration
def test_bytes_give_the_same_calibration_back(name):
    probability, y = rows(500, 3, sharper=2.0)
    form, setup = CALIBRATIONS[name].format, Setup("classification")
    for min_rows in (2, 10_000):
        calibrator = fitted(name, probability, y, min_rows=min_rows)
        data = form.save(calibrator)
        again = form.load(data, CALIBRATIONS[name].build({"min_rows": 2}, setup))
        np.testing.assert_array_equal(again.transform(probability), calibrator.transform(probability))
        assert form.save(again) == data
    for hostile in (
        b"[]",
        b"{}",
        b"\xff",
        b'{"temperature": "x", "slopes": [1e999], "offsets": [], "curves": [[[1], []]]}',
    ):
        with pytest.raises(ValueError, match=f"`data` must be a calibration of type {name} in JSON"):
            form.load(hostile, CALIBRATIONS[name].build({"min_rows": 2}, setup))


def test_a_temperature_of_before_there_were_reasons_is_read():
    probability, _ = rows(10, 3)
    empty = CALIBRATIONS["temperature"].build({"min_rows": 50}, Setup("classification"))
    old = CALIBRATIONS["temperature"].format.load(json.dumps({"temperature": 2.0}).encode(), empty)
    logits = np.log(probability) / 2.0
    np.testing.assert_allclose(old.transform(probability), softmax(logits, axis=1))


def test_cross_validation_tells_of_each_fold_what_became_of_its_calibration():
    matrix = random_matrix(DIRECTION)
    member = {"type": "logistic", "calibration": {"type": "sigmoid", "params": {"min_rows": 5}}}
    choice = choose_learner("voting", {"members": [member, "majority"]}, calibration="isotonic")
    splitter = PurgedWalkForward(n_splits=2, test_sessions=20)
    options = {"splitter": splitter, "target": DIRECTION, "weightings": (), "seed": 1}
    reports = cross_validate(matrix, learner=choice, **options).reports
    for fold in ("fold 0", "fold 1"):
        told = reports[fold]["calibration"]
        assert (
            told["calibration"]["type"] == "isotonic"
            and "fewer than `min_rows` 1000" in told["calibration"]["calibration"]
        )
        assert told["members.0.calibration"]["calibration"] == "fitted"
        assert len(told["members.0.calibration"]["slopes"]) == len(DIRECTION.classes)
