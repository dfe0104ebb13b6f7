"""Contributions by the learners' own methods: they add up to what is predicted, and are those of shap's TreeExplainer."""

import sys
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from hf_pipelines.components import extras
from hf_pipelines.research.explanations import own_contributions, permutation_contributions
from hf_pipelines.research.learners import (
    LEARNERS,
    Rows,
    Setup,
    TrainingRows,
    build_pipeline,
    choose_learner,
    predict_frame,
)
from hf_pipelines.research.learners.preprocessing import apply_step

N_ROWS, N_SYMBOLS, N_FEATURES = 600, 5, 6
NAMES = tuple(f"f{at}" for at in range(N_FEATURES))
CLASSES = {"regression": (), "two": ("down", "up"), "three": ("down", "flat", "up")}
ABLE = [name for name, entry in LEARNERS.items() if entry.contributions is not None]
BOOSTERS = ["xgboost", "xgboost_early_stopping", "lightgbm", "catboost"]


def rows_of(kind: str, *, unknown: float = 0.05, seed: int = 0) -> TrainingRows:
    random = np.random.default_rng(seed)
    X = random.normal(size=(N_ROWS, N_FEATURES)).astype(np.float32)
    # The last is nearly the first.
    X[:, -1] = X[:, 0] + 0.1 * X[:, -1]
    value = X[:, 0] + 0.7 * X[:, 1] * (X[:, 2] > 0) + 0.3 * random.normal(size=N_ROWS)
    X[random.random(X.shape) < unknown] = np.nan
    y = {"regression": value, "two": value > 0, "three": np.digitize(value, [-0.5, 0.5])}[kind].astype(np.float64)
    session = np.arange(N_ROWS) // N_SYMBOLS
    begin = datetime(2020, 1, 1, tzinfo=UTC)
    time = pl.Series([begin + timedelta(days=int(day)) for day in session]).cast(pl.Datetime("us", "UTC"))
    keys = pl.DataFrame(
        {
            "symbol": [f"S{at % N_SYMBOLS}" for at in range(N_ROWS)],
            "session": [date(2020, 1, 1) + timedelta(days=int(day)) for day in session],
            "ts": time,
            "bar": session.astype(np.int32),
            "label_start": time,
            "label_end": time + timedelta(hours=1),
        }
    )
    return TrainingRows(keys, X, NAMES, y=y, weight=np.ones(N_ROWS))


def fitted(name: str, kind: str, params: dict[str, Any] | None = None, **parts: Any) -> tuple[Any, Rows]:
    """A pipeline, and rows that it was not fitted on."""
    known = LEARNERS[name].params
    small = {key: value for key, value in {"n_estimators": 20}.items() if key in known}
    choice = choose_learner(name, {**small, **(params or {})}, **parts)
    rows = rows_of(kind, unknown=0.05 if choice.handles_missing else 0.0)
    task = "classification" if CLASSES[kind] else "regression"
    pipeline = build_pipeline(choice, Setup(task, classes=CLASSES[kind]))
    order = np.arange(N_ROWS)
    pipeline.fit(rows.take(order < 400), rows.take((order >= 400) & (order < 500)))
    test = rows.take(order >= 500)
    return pipeline, Rows(test.keys, test.X, test.names)


def outputs_of(pipeline: Any, rows: Rows, space: str) -> np.ndarray:
    """What the learner gives, in a space, without its calibration."""
    pipeline.calibrator = None
    given = pipeline.predict(rows)
    if given.point is not None:
        return np.asarray(given.point, dtype=np.float64)[:, None]
    probability = np.asarray(given.probability, dtype=np.float64)
    if space == "prediction":
        return probability
    odds = np.log(probability)
    return odds[:, 1:] - odds[:, :1]


def sums_of(found: Any) -> np.ndarray:
    sums = found.base + found.values.sum(axis=2)
    # Scores before softmax are known but for a number that all classes share.
    return sums[:, 1:] - sums[:, :1] if found.space == "log_odds" and sums.shape[1] > 1 else sums


MEMBERS = {"members": [{"type": "ridge"}, {"type": "lightgbm", "params": {"n_estimators": 20}}], "weights": [1, 3]}


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("name", [each for each in ABLE if "members" not in LEARNERS[each].params])
def test_contributions_of_every_learner_that_has_them_add_up_to_what_it_gives(name, kind):
    if ("classification" if CLASSES[kind] else "regression") not in LEARNERS[name].tasks:
        pytest.skip("not of this task")
    pipeline, rows = fitted(name, kind)
    found = pipeline.contributions(rows)
    n_outputs = len(CLASSES[kind]) if len(CLASSES[kind]) > 2 or found.space == "prediction" else 1
    assert found.values.shape == (len(rows), max(n_outputs, 1), N_FEATURES)
    assert sums_of(found) == pytest.approx(outputs_of(pipeline, rows, found.space), rel=1e-4, abs=1e-5)
    assert np.ptp(found.values[:, :, 0]) > 0


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("name", BOOSTERS)
def test_contributions_of_boosters_are_those_of_shap(name, kind):
    shap = pytest.importorskip("shap")
    pipeline, rows = fitted(name, kind)
    estimator = pipeline.estimator
    model = estimator if name == "xgboost" else estimator.models["point"]
    explained = shap.TreeExplainer(model).shap_values(rows.X)
    explained = explained[:, None, :] if explained.ndim == 2 else explained.transpose(0, 2, 1)
    assert pipeline.contributions(rows).values == pytest.approx(explained, abs=1e-5)


def test_contributions_of_a_vote_are_the_mean_of_its_members_and_of_probabilities_it_has_none():
    pipeline, rows = fitted("voting", "regression", MEMBERS)
    found = pipeline.contributions(rows)
    parts = [each.contributions(rows) for each in pipeline.estimator.members]
    assert found.values == pytest.approx(0.25 * parts[0].values + 0.75 * parts[1].values)
    assert sums_of(found)[:, 0] == pytest.approx(pipeline.predict(rows).point, abs=1e-5)
    members = [{"type": "logistic"}, {"type": "lightgbm", "params": {"n_estimators": 5}}]
    pipeline, rows = fitted("voting", "two", {"members": members})
    assert pipeline.contributions(rows) is None


def test_contributions_of_a_discrete_super_learner_are_those_of_the_member_that_it_gives():
    pipeline, rows = fitted("discrete_super_learner", "regression", {"members": MEMBERS["members"], "n_splits": 2})
    chosen = pipeline.estimator.members[pipeline.estimator.chosen]
    found = pipeline.contributions(rows)
    assert np.array_equal(found.values, chosen.contributions(rows).values)
    assert sums_of(found)[:, 0] == pytest.approx(pipeline.predict(rows).point, abs=1e-5)


@pytest.mark.parametrize(
    "steps",
    [
        ["imputation", "standard_scaling", {"type": "k_best", "params": {"k": 2}}],
        [{"type": "imputation", "params": {"indicator": False}}, "decorrelation"],
        ["cross_sectional_rank", "imputation", {"type": "pca", "params": {"most": 3}}],
    ],
    ids=["selected", "decorrelated", "components"],
)
def test_contributions_through_preprocessing_belong_to_the_features(steps):
    pipeline, rows = fitted("lightgbm", "regression", preprocessing=steps)
    found = pipeline.contributions(rows)
    assert found.values.shape == (len(rows), 1, N_FEATURES)
    assert sums_of(found)[:, 0] == pytest.approx(pipeline.predict(rows).point, abs=1e-6)
    if "pca" not in str(steps):
        selector = pipeline.steps[-1]
        # Columns that come after the features say where one is unknown.
        kept = {at if at < N_FEATURES else int(pipeline.steps[0].indicated_[at - N_FEATURES]) for at in selector.kept_}
        dropped = sorted(set(range(N_FEATURES)) - kept)
        assert dropped and (found.values[:, :, dropped] == 0).all()


def test_components_are_divided_by_the_squares_of_their_weights():
    pipeline, rows = fitted("ridge", "regression", preprocessing=["imputation", "pca"])
    found = pipeline.contributions(rows).values[:, 0]
    column = rows
    for step, part in zip(pipeline.choice.steps, pipeline.steps, strict=True):
        column = apply_step(step, part, column)
    scaler, line = pipeline.estimator[0], pipeline.estimator[-1]
    of_component = scaler.transform(column.X.astype(np.float64)) * line.coef_
    squares = pipeline.steps[1].components_ ** 2
    n_columns = squares.shape[1]
    by_column = of_component @ (squares / squares.sum(axis=1, keepdims=True))
    origin = [*range(N_FEATURES), *pipeline.steps[0].indicated_.tolist()]
    expected = np.zeros((len(rows), N_FEATURES))
    for at in range(n_columns):
        expected[:, origin[at]] += by_column[:, at]
    assert found == pytest.approx(expected)


def test_contributions_to_a_direction_are_log_odds_before_calibration():
    pipeline, rows = fitted("xgboost", "three", calibration="temperature")
    frame = rows.frame.drop("bar")
    found = own_contributions(pipeline, frame, features=NAMES, classes=CLASSES["three"], missing="keep")
    assert found is not None and found.space == "log_odds"
    sums = found.contributions.base + found.contributions.values.sum(axis=1)
    pipeline.calibrator = None
    told = predict_frame(pipeline, frame, features=NAMES, classes=CLASSES["three"], missing="keep")
    odds = np.log(told["probability_up"].to_numpy() / told["probability_down"].to_numpy())
    assert sums == pytest.approx(odds, abs=1e-5)
    # Of three classes it has the sign of the prediction.
    assert (np.sign(sums) == np.sign(told["prediction"].to_numpy())).all()


def test_contributions_of_a_line_are_those_of_permutations():
    pipeline, rows = fitted("ridge", "regression")
    own = pipeline.contributions(rows).values[:5, 0]
    train = rows_of("regression", unknown=0.0).X[:400]

    def ask(X: np.ndarray) -> np.ndarray:
        return np.asarray(pipeline.estimator.predict(X), dtype=np.float64)

    sampled = permutation_contributions(ask, rows.X[:5], train, n_permutations=400)
    assert own == pytest.approx(sampled.values, abs=1e-4)


def test_own_contributions_leave_rows_out_that_would_not_be_predicted():
    pipeline, rows = fitted("lightgbm", "regression")
    frame = rows.frame.drop("bar")
    found = own_contributions(pipeline, frame, features=NAMES, classes=(), missing="drop")
    assert found is not None
    assert found.is_known.tolist() == (~np.isnan(rows.X).any(axis=1)).tolist() and not found.is_known.all()
    assert len(found.contributions.base) == found.is_known.sum()


def test_trees_without_shap_say_which_extra_brings_it(monkeypatch):
    pipeline, rows = fitted("random_forest", "regression")
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(ValueError, match=r'install the extra: pip install "hf_pipelines\[explain\]"'):
        pipeline.contributions(rows)
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "shap" else True)
    assert extras.lacks_shap(pipeline.choice) and not extras.lacks_shap(choose_learner("xgboost"))
    assert extras.lacks_shap(choose_learner("voting", {"members": ["ridge", "extra_trees"]}))
