"""The contract that every learner and every step of preprocessing keeps, for each of its tasks."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.utils.estimator_checks import check_estimator

from hf_pipelines.research.learners import (
    ALIASES,
    CALIBRATIONS,
    LEARNERS,
    PREPROCESSING,
    LearnerChoice,
    Pipeline,
    Predicted,
    Setup,
    TrainingRows,
    build_pipeline,
    choose_learner,
    keyed,
)
from hf_pipelines.research.params import Number, searched_params
from hf_pipelines_tests.sample_matrix import plain_bars

# What a learner cannot do without, and what makes it small enough for a test.
PARAMS: dict[str, dict[str, Any]] = {
    "xgboost": {"n_estimators": 12, "max_depth": 3},
    "xgboost_early_stopping": {"n_estimators": 12, "max_depth": 3, "early_stopping_rounds": 5},
    "hist_gradient_boosting": {"n_estimators": 12, "max_leaf_nodes": 5, "early_stopping_rounds": 5},
    "random_forest": {"n_estimators": 6, "min_samples_leaf": 5},
    "extra_trees": {"n_estimators": 6, "min_samples_leaf": 5},
    "catboost": {"n_estimators": 12, "depth": 3, "early_stopping_rounds": 5},
    "lightgbm": {"n_estimators": 4, "num_leaves": 4, "early_stopping_rounds": 5},
    "nearest_neighbours": {"n_neighbors": 2},
    "last_value": {"feature": "feature_0"},
    "momentum_sign": {"feature": "feature_0"},
    "lstm": {"window": 3, "hidden": 4, "epochs": 2},
    "gru": {"window": 3, "hidden": 4, "epochs": 2, "layers": 2},
    "transformer": {"window": 3, "hidden": 4, "heads": 2, "epochs": 2, "pooling": "attention"},
    "tcn": {"window": 3, "hidden": 4, "layers": 1, "epochs": 2},
    "mlp": {"hidden": 4, "epochs": 2},
    "arima": {"history_bars": 8, "minimum_bars": 20, "order": [1, 0]},
    "kalman": {"history_bars": 8, "minimum_bars": 20, "model": "local_level", "ar_lags": 0},
    **{name: {"history_bars": 8, "minimum_bars": 20} for name in ("garch", "gjr_garch", "egarch")},
}
# Of six features some stay and some go.
STEP_PARAMS: dict[str, dict[str, Any]] = {
    "k_best": {"k": 3},
    "mutual_information": {"k": 3},
    "recursive_elimination": {"k": 3},
    "pca": {"most": 4},
}
# Members of an ensemble, by task.
MEMBERS = {
    "regression": ["ridge", {"type": "xgboost", "params": PARAMS["xgboost"], "preprocessing": ["standard_scaling"]}],
    "classification": [
        {"type": "nearest_neighbours", "params": PARAMS["nearest_neighbours"], "preprocessing": ["standard_scaling"]},
        {"type": "xgboost", "params": PARAMS["xgboost"]},
    ],
}
# Ensembles that need several sessions.
JUDGING = {"stacking", "blending", "dynamic_weighting", "regime_experts", "discrete_super_learner"}
SYMBOLS, SESSIONS, FEATURES = 4, 75, 6


def choice_of(name: str, task: str, **options: Any) -> LearnerChoice:
    final = {"regression": "ridge", "classification": MEMBERS["classification"][1]}
    required = {"members": MEMBERS[task], "final": final[task], "feature": "feature_0"}
    spec = LEARNERS[name].params
    given = {**PARAMS.get(name, {}), **{each: value for each, value in required.items() if each in spec}}
    return choose_learner(name, given, **options)


def step_of(name: str) -> dict[str, Any]:
    return {"type": name, "params": STEP_PARAMS.get(name, {})}


CASES = [(choice_of(name, task), task) for name, entry in sorted(LEARNERS.items()) for task in sorted(entry.tasks)]
CASES += [
    (choice_of(learner, task, preprocessing=[step_of(step)]), task)
    for step in sorted(PREPROCESSING)
    for learner, task in (("ridge", "regression"), ("xgboost", "classification"))
]
CASES += [
    (choice_of("xgboost", "classification", calibration={"type": name, "params": {"min_rows": 2}}), "classification")
    for name in sorted(CALIBRATIONS)
]

each_case = pytest.mark.parametrize(
    ("choice", "task"),
    [
        pytest.param(
            choice,
            task,
            id="-".join(
                [choice.name, task, *(each.name for each in (*choice.preprocessing, choice.calibration) if each)]
            ),
        )
        for choice, task in CASES
    ],
)


def rows_for(task: str, *, seed: int = 0, sessions: int = SESSIONS) -> TrainingRows:
    """Rows in which the first two of six features tell something about `y`; scales differ."""
    rng = np.random.default_rng(seed)
    bars = plain_bars({f"S{number}": [1.0] * sessions for number in range(SYMBOLS)}).sort("ts", "symbol")
    X = rng.normal(size=(bars.height, FEATURES)).astype(np.float32)
    signal = X[:, 0] - 0.5 * X[:, 1] + rng.normal(size=len(X))
    y = signal if task == "regression" else np.digitize(signal, [-0.5, 0.5]).astype(float)
    # Neighbouring labels do not overlap.
    labelled = bars.with_columns(label_start="ts", label_end="ts")
    names = tuple(f"feature_{number}" for number in range(FEATURES))
    scales = 10.0 ** np.arange(FEATURES, dtype=np.float32)
    return TrainingRows(
        keyed(labelled, "label_start", "label_end"), X * scales, names, y=y, weight=rng.uniform(0.5, 2.0, size=len(X))
    )


def fitted(choice: LearnerChoice, task: str, rows: TrainingRows | None = None, **options: Any) -> Pipeline:
    rows = rows_for(task) if rows is None else rows
    cut = (3 * len(rows)) // 4
    numbers = np.arange(len(rows))
    validation = rows.take(numbers[cut:]) if choice.needs_validation else None
    rows = rows.take(numbers[:cut]) if choice.needs_validation else rows
    return build_pipeline(choice, Setup(task, **{"seed": 3, **options})).fit(rows, validation)


def values(predicted: Predicted) -> np.ndarray:
    found = predicted.point if predicted.probability is None else predicted.probability
    assert found is not None
    return found


def all_known(predicted: Predicted, choice: LearnerChoice, rows: TrainingRows) -> bool:
    """Whether exactly the rows with the history that the learner reads are predicted; every symbol has every bar."""
    known = np.isfinite(values(predicted)).reshape(len(rows), -1).all(axis=1)
    has_history = rows.keys["bar"].to_numpy() >= choice.history_bars
    if "minimum_bars" not in choice.params:
        return np.array_equal(known, has_history)
    # A filter forward needs half of its history, and some symbols are noise that it cannot be fitted to.
    symbol = rows.keys["symbol"].to_numpy()
    is_fitted = np.isin(symbol, symbol[known])
    return bool(is_fitted.any() and known[has_history & is_fitted].all())


def same_bits(a: Predicted, b: Predicted) -> None:
    np.testing.assert_array_equal(values(a), values(b))


@each_case
def test_predictions_have_a_row_for_each_that_is_wanted_and_a_column_for_each_class(choice, task):
    rows = rows_for(task, seed=9)
    pipeline = fitted(choice, task)
    wanted = np.arange(len(rows)) % 3 == 0
    whole, some = values(pipeline.predict(rows)), values(pipeline.predict(rows, wanted))
    assert whole.shape == ((len(rows), 3) if task == "classification" else (len(rows),))
    assert all_known(pipeline.predict(rows), choice, rows)
    if task == "classification":
        assert pipeline.classes_.tolist() == [0, 1, 2]
        np.testing.assert_allclose(np.nansum(whole, axis=1)[np.isfinite(whole[:, 0])], 1.0, atol=1e-6)
    np.testing.assert_allclose(some, whole[wanted], rtol=1e-5, atol=1e-7)


@each_case
def test_what_is_declared_of_weights_holds_and_a_row_of_weight_0_counts_as_dropped(choice, task):
    rows = rows_for(task)
    even = replace(rows, weight=np.ones(len(rows)))
    changed = not np.array_equal(
        values(fitted(choice, task, rows).predict(rows)),
        values(fitted(choice, task, even).predict(rows)),
        equal_nan=True,
    )
    # Members that read no weights do not make their vote blind to them.
    assert changed == choice.takes_weights or choice.nested
    odd = np.arange(len(rows)) % 2 == 1
    silent = replace(even, weight=odd.astype(float))
    if not choice.needs_validation:
        same_bits(fitted(choice, task, silent).predict(rows), fitted(choice, task, even.take(odd)).predict(rows))
    with pytest.raises(ValueError, match="`weight` must be above zero in at least one training row, was in none"):
        fitted(choice, task, replace(rows, weight=np.zeros(len(rows))))


@each_case
def test_a_learner_that_takes_unknown_features_fits_and_predicts_them_and_no_other_does(choice, task):
    rows = rows_for(task)
    X = rows.X.copy()
    X[::5, 0] = np.nan
    rows = replace(rows, X=X)
    if choice.handles_missing:
        assert all_known(fitted(choice, task, rows).predict(rows), choice, rows)
    else:
        with pytest.raises(ValueError, match="NaN"):
            fitted(choice, task, rows)


@each_case
def test_a_constant_feature_and_two_rows_are_fitted(choice, task):
    rows = rows_for(task)
    X = rows.X.copy()
    X[:, 2] = 5.0
    constant = replace(rows, X=X)
    assert all_known(fitted(choice, task, constant).predict(constant), choice, constant)
    if choice.needs_validation:
        return
    two = replace(rows.take(np.arange(2)), y=np.array([0.0, 1.0]))
    if "minimum_bars" in choice.params:
        with pytest.raises(ValueError, match="`feature_0` must have at least one symbol .*, was too short for 2; "):
            fitted(choice, task, two)
        return
    if choice.name in JUDGING:
        # Members are judged on sessions that they were not fitted on, and there is one.
        with pytest.raises(ValueError, match="`(n_splits|share)` .*must .*was .*; "):
            fitted(choice, task, two)
        return
    assert np.isfinite(values(fitted(choice, task, two).predict(two))).all()


@each_case
def test_the_same_seed_gives_the_same_bytes_on_any_number_of_threads(choice, task):
    rows = rows_for(task)
    before = (rows.X.tobytes(), rows.y.tobytes(), rows.weight.tobytes())
    saved = {fitted(choice, task, rows, n_threads=n_threads).save() for n_threads in (1, 1, 2)}
    assert len(saved) == 1
    assert (rows.X.tobytes(), rows.y.tobytes(), rows.weight.tobytes()) == before


@each_case
def test_columns_in_another_order_are_another_fit_of_the_same_rows(choice, task):
    rows = rows_for(task)
    order = np.arange(FEATURES)[::-1]
    turned = rows.with_features(rows.X[:, order], [rows.names[at] for at in order])
    turned = replace(turned, y=rows.y, weight=rows.weight)
    one, other = fitted(choice, task, rows), fitted(choice, task, turned)
    # Sums in another order, and trees and first weights that are drawn by the places of columns.
    drawn = {"n_estimators", "epochs"}
    exact = not any(drawn & set(each.entry.params) for each in (choice, *choice.nested))
    if exact:
        np.testing.assert_allclose(values(other.predict(turned)), values(one.predict(rows)), rtol=1e-3, atol=1e-4)
    told = one.importances(rows.names)
    if all(step.keeps_columns for step in choice.steps):
        assert set(told) == set(rows.names) if told else choice.entry.importances is None
    else:
        # Names that say which features they are about.
        assert told and all(any(name in each for name in rows.names) for each in told)
    assert not told or sum(told.values()) == pytest.approx(1.0)


@each_case
def test_a_pipeline_is_built_anew_from_its_settings_and_its_estimator_is_what_it_claims(choice, task):
    again = choose_learner(
        choice.name,
        choice.settings()["params"],
        preprocessing=choice.settings().get("preprocessing", ()),
        calibration=choice.settings().get("calibration"),
    )
    assert again == choice and json.loads(json.dumps(choice.settings())) == choice.settings()
    pipeline = build_pipeline(choice, Setup(task, seed=3))
    copy = clone(pipeline.estimator)
    assert type(copy) is type(pipeline.estimator) and copy is not pipeline.estimator
    if not choice.entry.is_keyed:
        assert is_classifier(copy) == (task == "classification") and is_regressor(copy) == (task == "regression")
    outputs = choice.outputs(task)
    assert set(outputs) <= {"point", "classes", "quantiles", "horizons"} and outputs
    assert choice.prediction_columns(("a", "b"))[:2] == ("prediction", "confidence")


@pytest.mark.parametrize("step", sorted(PREPROCESSING))
def test_every_learner_is_fitted_behind_every_step(step):
    for name, entry in LEARNERS.items():
        task = sorted(entry.tasks)[-1]
        choice = choice_of(name, task, preprocessing=["imputation", step_of(step)])
        rows = rows_for(task, sessions=36)
        rows.X[::7, 1] = np.nan
        # A selector may drop the feature that a baseline reads.
        if "feature" in choice.params and not PREPROCESSING[step].keeps_columns:
            continue
        # Short noise has nothing that its filter is stable by.
        if name == "egarch":
            continue
        assert choice.handles_missing
        assert all_known(fitted(choice, task, rows).predict(rows), choice, rows), name


@pytest.mark.parametrize(
    ("name", "task"), [(name, task) for name in sorted(LEARNERS) for task in sorted(LEARNERS[name].tasks)]
)
def test_a_constant_label_and_fewer_rows_than_features_are_fitted_or_refused_in_one_line(name, task):
    choice, rows = choice_of(name, task), rows_for(task)
    few = rows.take(np.array([0, 1, 2, 3]) if task == "regression" else np.unique(rows.y, return_index=True)[1])
    constant = replace(rows, y=np.full(len(rows), 1.0 if task == "classification" else 0.02))
    for each in (few, constant):
        try:
            predicted = build_pipeline(choice, Setup(task, seed=3)).fit(each, each).predict(rows)
        except ValueError as e:
            assert len(str(e).splitlines()) == 1 and str(e), name
            too_short = each is few and choice.history_bars
            assert (each is constant and task == "classification") or name in JUDGING or too_short
        else:
            assert all_known(predicted, choice, rows)
            # What a feature says does not hang on the labels.
            if each is constant and task == "regression" and "feature" not in choice.params:
                found = values(predicted)
                np.testing.assert_allclose(found[np.isfinite(found)], 0.02, atol=1e-6, err_msg=name)


# A pipeline of scikit-learn fits its steps where they are.
OF_A_PIPELINE = {
    each: "a pipeline fits its steps in place"
    for each in ("check_estimators_overwrite_params", "check_dont_overwrite_parameters")
}

# Leaves and draws of a forest are counted in rows, whatever their weights.
OF_A_FOREST = {
    f"check_sample_weight_equivalence_on_{each}_data": "a forest counts rows" for each in ("dense", "sparse")
}


@pytest.mark.parametrize(
    ("name", "task"),
    [
        (name, task)
        for name, entry in sorted(LEARNERS.items())
        for task in sorted(entry.tasks)
        if not entry.is_keyed and entry.family == "sklearn"
    ],
)
def test_an_estimator_of_scikit_learn_keeps_its_interface(name, task):
    estimator = build_pipeline(choice_of(name, task), Setup(task, seed=1)).estimator
    expected = OF_A_PIPELINE if hasattr(estimator, "steps") else OF_A_FOREST if hasattr(estimator, "bootstrap") else {}
    results = check_estimator(estimator, expected_failed_checks=expected, on_fail=None, on_skip=None)
    assert len(results) > 40
    assert [(each["check_name"], each["exception"]) for each in results if each["status"] == "failed"] == []


READER = """
import io, json, sys, zipfile
import numpy as np, polars as pl
from hf_pipelines.research.learners import Rows, Setup, build_pipeline, choose_learner
with zipfile.ZipFile(sys.argv[1]) as given:
    answers = {}
    keys, X = pl.read_parquet(io.BytesIO(given.read("keys"))), np.load(io.BytesIO(given.read("X")))
    for number, (settings, task) in enumerate(json.loads(given.read("cases"))):
        choice = choose_learner(settings["type"], settings["params"], preprocessing=settings.get("preprocessing", ()),
                                calibration=settings.get("calibration"))
        pipeline = build_pipeline(choice, Setup(task)).load(given.read(str(number)))
        found = pipeline.predict(Rows(keys, X, tuple(f"feature_{at}" for at in range(X.shape[1]))))
        answers[str(number)] = found.point if found.probability is None else found.probability
        answers[f"bytes {number}"] = np.array([pipeline.save() == given.read(str(number))])
    assert "pickle" not in str(given.namelist())
    np.savez(sys.argv[2], **answers)
"""


def test_every_model_that_was_saved_predicts_the_same_bits_in_a_new_process_and_saves_the_same_bytes(tmp_path: Path):
    import zipfile

    rows = rows_for("regression", seed=9)
    keys, X = io.BytesIO(), io.BytesIO()
    rows.keys.write_parquet(keys)
    np.save(X, rows.X)
    pipelines = [fitted(choice, task) for choice, task in CASES]
    with zipfile.ZipFile(tmp_path / "given.zip", "w") as given:
        given.writestr("keys", keys.getvalue())
        given.writestr("X", X.getvalue())
        given.writestr("cases", json.dumps([(choice.settings(), task) for choice, task in CASES]))
        for number, pipeline in enumerate(pipelines):
            given.writestr(str(number), pipeline.save())
    subprocess.run(
        [sys.executable, "-c", READER, tmp_path / "given.zip", tmp_path / "answers.npz"], check=True, timeout=300
    )
    answers = np.load(tmp_path / "answers.npz")
    for number, pipeline in enumerate(pipelines):
        np.testing.assert_array_equal(answers[str(number)], values(pipeline.predict(rows)), str(pipeline.choice))
        assert answers[f"bytes {number}"].all(), pipeline.choice


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_an_entry_stands_under_its_name_and_is_tuned_around_its_defaults(name):
    entry = LEARNERS[name]
    assert entry.name == name and entry.tasks and all(param.meaning for param in entry.params.values())
    for param in searched_params(entry.params).values():
        if isinstance(param, Number):
            assert param.search[0] <= param.default <= param.search[1]
    assert all(alias.name in LEARNERS and alias.tasks <= LEARNERS[alias.name].tasks for alias in ALIASES.values())


@pytest.mark.parametrize("name", ["ridge", "xgboost", "nearest_neighbours"])
def test_every_parameter_reaches_the_estimator(name):
    choice = choose_learner(name)
    (task, *_) = sorted(choice.tasks)
    reached = {key.split("__")[-1]: value for key, value in _params_of(choice, task, seed=11).items()}
    assert choice.params.items() <= reached.items()
    assert reached.get("random_state", 11) == 11


def _params_of(choice: LearnerChoice, task: str, *, seed: int) -> dict[str, Any]:
    return build_pipeline(choice, Setup(task, seed=seed)).estimator.get_params()


def test_xgboost_other_seed_gives_other_trees():
    choice = choice_of("xgboost", "classification")
    assert fitted(choice, "classification", seed=3).save() != fitted(choice, "classification", seed=4).save()


def test_the_ridge_standardises_by_itself_and_is_stored_as_before():
    import zipfile

    rows = rows_for("regression")
    saved = fitted(choose_learner("ridge"), "regression", rows)
    assert saved.extension == "skops"
    with zipfile.ZipFile(io.BytesIO(saved.save())) as archive:
        assert "sklearn.pipeline" in archive.read("schema.json").decode()
    assert fitted(choose_learner("xgboost_classifier"), "classification").extension == "ubj"


def test_importing_everything_that_learns_loads_no_heavy_library():
    code = (
        "import sys, hf_pipelines.research.cross_validation, hf_pipelines.research.signals\n"
        "print(sorted({'xgboost', 'lightgbm', 'catboost', 'sklearn', 'scipy', 'skops', 'joblib', 'pandas', 'torch', 'skorch', 'safetensors', 'statsmodels', 'arch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_rows_hand_out_keys_and_features_side_by_side_and_number_the_bars():
    rows = rows_for("regression", sessions=3)
    assert rows.frame.columns == ["symbol", "session", "ts", "bar", "label_start", "label_end", *rows.names]
    assert rows.frame["feature_1"].to_numpy().tolist() == rows.X[:, 1].tolist()
    assert rows.keys["bar"].to_list() == [0] * SYMBOLS + [1] * SYMBOLS + [2] * SYMBOLS
    taken = rows.take(rows.keys["bar"].to_numpy() == 2)
    assert len(taken) == SYMBOLS and taken.y.tolist() == rows.y[-SYMBOLS:].tolist()
    assert taken.keys.select(pl.all().exclude("bar")).equals(rows.keys.select(pl.all().exclude("bar"))[-SYMBOLS:])
