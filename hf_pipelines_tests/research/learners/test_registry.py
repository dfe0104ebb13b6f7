"""The contract that every learner keeps, and what the registry refuses."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone, is_classifier, is_regressor

from hf_pipelines.research.learners import LEARNERS, build_estimator, resolve_params

# Small enough for a test, and only where the learner has the parameter.
QUICK = {"n_estimators": 12, "max_depth": 3}

each_learner = pytest.mark.parametrize("name", sorted(LEARNERS))


def quick_params(name: str) -> dict[str, int]:
    return {key: value for key, value in QUICK.items() if key in LEARNERS[name].defaults}


def rows_for(name: str, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(300, 6)).astype(np.float32)
    signal = X[:, 0] - 0.5 * X[:, 1] + rng.normal(size=300)
    y = signal if LEARNERS[name].task == "regression" else np.digitize(signal, [-0.5, 0.5]).astype(float)
    return X, y, rng.uniform(0.5, 2.0, size=300)


def fitted(name: str, *, seed: int = 3, n_threads: int = 1):
    X, y, weight = rows_for(name)
    estimator = build_estimator(name, params=quick_params(name), seed=seed, n_threads=n_threads)
    return estimator.fit(X, y, **{LEARNERS[name].weight_argument: weight})


def outputs(estimator, X: np.ndarray) -> np.ndarray:
    return estimator.predict_proba(X) if is_classifier(estimator) else estimator.predict(X)


@each_learner
def test_learner_is_an_estimator_of_its_task_that_clones(name):
    estimator = build_estimator(name, params=quick_params(name), seed=3)
    assert is_classifier(estimator) == (LEARNERS[name].task == "classification")
    assert is_regressor(estimator) == (LEARNERS[name].task == "regression")
    X, y, weight = rows_for(name)
    copy = clone(estimator).fit(X, y, **{LEARNERS[name].weight_argument: weight})
    np.testing.assert_array_equal(outputs(copy, X), outputs(fitted(name), X))


@each_learner
def test_learner_every_parameter_reaches_the_estimator(name):
    params = build_estimator(name, seed=11).get_params()
    reached = {key.split("__")[-1]: value for key, value in params.items()}
    assert LEARNERS[name].defaults.items() <= reached.items()
    assert reached["random_state"] == 11


@each_learner
def test_learner_search_space_lies_around_the_defaults(name):
    entry = LEARNERS[name]
    assert entry.name == name and entry.search_space
    for param, interval in entry.search_space.items():
        assert interval.low <= entry.defaults[param] <= interval.high
        assert interval.is_integer == isinstance(entry.defaults[param], int)


@each_learner
def test_learner_saved_and_loaded_predicts_the_same_bits(name):
    X, _, _ = rows_for(name, seed=9)
    estimator, entry = fitted(name), LEARNERS[name]
    loaded = entry.load(entry.save(estimator))
    np.testing.assert_array_equal(outputs(loaded, X), outputs(estimator, X))
    assert entry.save(loaded) == entry.save(estimator)


@each_learner
def test_learner_same_seed_saves_the_same_bytes_on_any_threads(name):
    save = LEARNERS[name].save
    assert save(fitted(name, n_threads=1)) == save(fitted(name, n_threads=1)) == save(fitted(name, n_threads=2))


@each_learner
def test_learner_weights_change_the_fit(name):
    X, y, _ = rows_for(name)
    unweighted = build_estimator(name, params=quick_params(name), seed=3).fit(X, y)
    assert not np.array_equal(outputs(unweighted, X), outputs(fitted(name), X))


@each_learner
def test_learner_that_takes_unknown_features_fits_and_predicts_them_and_no_other_does(name):
    entry = LEARNERS[name]
    X, y = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32), np.arange(60) % 2
    X[::5, 0] = np.nan
    estimator = build_estimator(name, seed=0)
    if entry.takes_nan:
        assert np.isfinite(estimator.fit(X, y).predict(X)).all()
    else:
        with pytest.raises(ValueError, match="NaN"):
            estimator.fit(X, y)


@each_learner
def test_build_estimator_unknown_parameter_raises_naming_the_known(name):
    known = sorted(LEARNERS[name].defaults)
    with pytest.raises(ValueError, match=rf"`params` of '{name}' must be among .*{known[0]}.*was \['depht', 'x'\]"):
        build_estimator(name, params={"x": 1, "depht": 4}, seed=0)


def test_xgboost_other_seed_gives_other_trees():
    save = LEARNERS["xgboost_classifier"].save
    assert save(fitted("xgboost_classifier", seed=3)) != save(fitted("xgboost_classifier", seed=4))


def test_resolve_params_unknown_learner_raises_naming_the_known():
    with pytest.raises(ValueError, match=r"`learner` must be one of \['ridge', 'xgboost_classifier'\], was 'forest'"):
        resolve_params("forest")


@pytest.mark.parametrize(
    ("learner", "params"),
    [
        pytest.param("ridge", {"alpha": "1"}, id="text for a number"),
        pytest.param("ridge", {"fit_intercept": 1}, id="number for a flag"),
        pytest.param("xgboost_classifier", {"n_estimators": 30.5}, id="fraction for a count"),
        pytest.param("xgboost_classifier", {"n_estimators": True}, id="flag for a count"),
    ],
)
def test_resolve_params_wrong_type_raises(learner, params):
    with pytest.raises(TypeError, match=f"`{next(iter(params))}` of '{learner}' must be"):
        resolve_params(learner, params)


def test_resolve_params_whole_number_stands_for_a_float():
    assert repr(resolve_params("ridge", {"alpha": 3})["alpha"]) == "3.0"


def test_importing_everything_that_learns_loads_no_heavy_library():
    code = (
        "import sys, hf_pipelines.research.cross_validation, hf_pipelines.research.signals\n"
        "print(sorted({'xgboost', 'sklearn', 'scipy', 'skops', 'joblib', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
