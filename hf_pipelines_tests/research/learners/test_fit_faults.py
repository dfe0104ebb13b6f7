"""What goes wrong in a fit is told in one line that begins with the fold, the learner and the part."""

import pickle
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.cross_validation import cross_validate, fit_final
from hf_pipelines.research.fan_out import side_by_side
from hf_pipelines.research.learners import LEARNERS, choose_learner
from hf_pipelines.research.learners.fit_faults import FitError, placed
from hf_pipelines.research.splitters import PurgedWalkForward
from hf_pipelines.research.targets import build_target
from hf_pipelines.research.weights import choose_weightings
from hf_pipelines_tests.research.learners.test_registry import PARAMS
from hf_pipelines_tests.sample_learners import sized_learner, target_of
from hf_pipelines_tests.sample_matrix import random_matrix

RETURN = build_target("forward_return", horizon_bars=3)
DIRECTION = build_target("direction", horizon_bars=3)
SPLITTER = PurgedWalkForward(n_splits=2, test_sessions=12, embargo_sessions=1)
TREES = {"type": "lightgbm", "params": PARAMS["lightgbm"]}
# No fold has as many rows.
GREEDY = {"type": "nearest_neighbours", "params": {"n_neighbors": 100_000}}
GREEDY_SAYS = "`n_neighbors` must be at most the "


def validate(learner, *, target=RETURN, matrix=None, splitter=SPLITTER, weighting="none", n_jobs=1):
    return cross_validate(
        random_matrix(target) if matrix is None else matrix,
        learner=learner,
        splitter=splitter,
        target=target,
        weightings=choose_weightings(weighting),
        seed=5,
        n_jobs=n_jobs,
    )


def bad_xgboost() -> None:
    import xgboost

    xgboost.train({"max_depth": -1}, xgboost.DMatrix(np.ones((2, 1)), label=[0.0, 1.0]), 1)


def bad_lightgbm() -> None:
    import lightgbm

    lightgbm.Dataset(np.ones((2, 1)), label=[0.0]).construct()


def bad_catboost() -> None:
    import catboost

    catboost.Pool(np.ones((2, 1)), label=[0.0])


def bad_torch() -> None:
    import torch

    torch.ones(2) @ torch.ones(3)


def torch_without_memory() -> None:
    import torch

    torch.empty(10**15)


def numpy_without_memory() -> None:
    np.empty(10**15)


@pytest.mark.parametrize(
    ("fails", "told"),
    [
        pytest.param(bad_xgboost, r"\[.*max_depth|max_depth|value -1", id="XGBoostError"),
        pytest.param(bad_lightgbm, r"LightGBMError: .*label", id="LightGBMError"),
        pytest.param(bad_catboost, r"CatBoostError: .*[Ll]abel", id="CatBoostError"),
        pytest.param(bad_torch, r"RuntimeError: .*size", id="torch"),
        pytest.param(lambda: np.linalg.inv(np.zeros((2, 2))), "Singular matrix", id="LinAlgError"),
        pytest.param(lambda: 1 / 0, "ZeroDivisionError: division by zero", id="ZeroDivisionError"),
        pytest.param(lambda: {}["a"], "KeyError: 'a'", id="KeyError"),
        pytest.param(lambda: pl.DataFrame().select("a"), "ColumnNotFoundError: .*a", id="polars"),
        pytest.param(numpy_without_memory, r"memory must suffice for the fit, was used up \(MemoryError: .*\); train on fewer weeks, .*: X=1\.", id="numpy memory"),
        pytest.param(torch_without_memory, r"memory must suffice for the fit, was used up \(RuntimeError: .*\); train on fewer weeks, .*: X=1\.", id="torch memory"),
    ],
)  # fmt: skip
def test_what_a_library_raises_has_its_place_before_its_own_words_and_stays_the_cause(fails, told):
    with (
        pytest.raises(ValueError, match=rf"^fold 1, learner x, members\.0 \(y\): (.*{told})") as caught,
        placed("fold 1", "learner x", when_out_of_memory="Fewer at a time: X=1."),
        placed("members.0 (y)"),
    ):
        fails()
    error = caught.value
    assert len(str(error).splitlines()) == 1
    with pytest.raises(Exception) as bare:  # noqa: PT011 - whatever it is
        fails()
    assert type(error.__cause__) is bare.type
    copied = pickle.loads(pickle.dumps(error))
    assert (str(copied), copied.places, copied.is_out_of_memory) == (
        str(error),
        error.places,
        "memory must" in str(error),
    )


def test_what_a_disk_or_a_server_raises_passes_so_that_its_caller_can_wait_for_it():
    with pytest.raises(ConnectionError, match="^gone$"), placed("fold 0"):
        raise ConnectionError("gone")


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_error_of_a_thread_keeps_its_type_and_its_cause(n_jobs):
    def fail(number: int) -> int:
        if number == 2:
            raise TypeError("two") from KeyError("cause")
        return number

    made = side_by_side([lambda at=at: fail(at) for at in range(3)], n_jobs=n_jobs)
    with pytest.raises(TypeError, match="^two$") as caught:
        list(made)
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("learner", "place"),
    [
        pytest.param(choose_learner("voting", {"members": ["ridge", GREEDY]}), "learner voting, members.1 (nearest_neighbours)", id="member"),
        pytest.param(choose_learner("voting", {"members": ["ridge", {"type": "voting", "params": {"members": [GREEDY, "ridge"]}}]}),
                     "learner voting, members.1 (voting), members.0 (nearest_neighbours)", id="member of a member"),
        pytest.param(choose_learner("stacking", {"members": ["ridge", GREEDY], "final": "ridge", "n_splits": 2}),
                     "learner stacking, inner fold 0, members.1 (nearest_neighbours)", id="inner fold"),
        pytest.param(choose_learner("dynamic_weighting", {"members": ["ridge", GREEDY], "n_splits": 2}),
                     "learner dynamic_weighting, inner fold 0, members.1 (nearest_neighbours)", id="inner walk-forward"),
        pytest.param(choose_learner("blending", {"members": ["ridge", "ridge"], "final": GREEDY}),
                     "learner blending, final (nearest_neighbours)", id="final learner"),
    ],
)  # fmt: skip
def test_a_fault_inside_an_ensemble_names_the_member_and_the_inner_fold(learner, place):
    for outer, fit in (
        ("fold 0", lambda: validate(learner)),
        ("the matrix", lambda: fit_final(random_matrix(RETURN), learner=learner, target=RETURN, seed=0)),
    ):
        with pytest.raises(FitError) as caught:
            fit()
        assert str(caught.value).startswith(f"{outer}, {place}: {GREEDY_SAYS}")


def test_a_fault_of_preprocessing_names_the_step():
    matrix = random_matrix(RETURN)
    matrix = matrix.with_columns(feature_1=pl.when(pl.col("symbol") == "S1").then(None).otherwise("feature_1"))
    learner = choose_learner("ridge", preprocessing=["standard_scaling", "pca"])
    with pytest.raises(FitError, match=r"^fold 0, learner ridge, preprocessing\.1 \(pca\): .*NaN"):
        validate(learner, matrix=matrix)


@pytest.mark.parametrize(
    "learner",
    [
        pytest.param(choose_learner("xgboost", PARAMS["xgboost"]), id="plain"),
        pytest.param(choose_learner("lightgbm", PARAMS["lightgbm"]), id="early stopping"),
        pytest.param(choose_learner("voting", {"members": [TREES, TREES]}), id="members"),
        pytest.param(choose_learner("logistic", calibration="temperature"), id="calibration"),
    ],
)
def test_a_class_that_loses_all_weight_in_a_fold_is_named_with_the_fold(learner):
    """By any learner: before the fit its rows of weight 0 are left out, and to libraries a class fewer means nothing."""
    matrix = random_matrix(DIRECTION, sessions=150)
    unweighted = pl.when(pl.col("y") == 2).then(0.0).otherwise(1.0).alias("weight")
    with pytest.raises(
        ValueError,
        match=rf"^the matrix, learner {learner.name}: `target` .* a weight above zero, was without \['up'\] in \d+ rows; ",
    ):
        fit_final(matrix.with_columns(unweighted), learner=learner, target=DIRECTION, seed=0)


@pytest.mark.parametrize("name", ["stacking", "dynamic_weighting"])
@pytest.mark.parametrize("member", ["nearest_neighbours", TREES], ids=["plain", "early stopping"])
def test_a_class_that_an_inner_fold_lacks_is_named_with_both_folds(name, member):
    """The class is there in the first quarter or the last alone: in an inner fold, or after its cut of validation rows, it is not."""
    matrix = random_matrix(DIRECTION, sessions=150)
    day = pl.col("session").rank("dense")
    is_late = day > 45 if name == "stacking" else day > 35
    matrix = matrix.with_columns(y=pl.when(~is_late & (pl.col("y") == 2)).then(1.0).otherwise("y"))
    params = {"members": [member, member], "n_splits": 2}
    learner = choose_learner(name, {**params, **({"final": TREES} if name == "stacking" else {})})
    splitter = PurgedWalkForward(n_splits=1, test_sessions=80, embargo_sessions=1)
    with pytest.raises(
        FitError, match=rf"^fold 0, learner {name}, inner fold \d(, members\.0 \(\w+\))?: .*was without \['up'\]"
    ):
        validate(learner, target=DIRECTION, matrix=matrix, splitter=splitter)


OUT_OF_MEMORY = """
import re, resource
import numpy as np
from hf_pipelines.research.learners import Setup, build_pipeline, choose_learner
from hf_pipelines.research.learners.fit_faults import placed
from hf_pipelines_tests.research.learners.test_registry import PARAMS, rows_for

rows = rows_for("regression", sessions=3_000)
wide = rows.with_features(np.random.default_rng(0).normal(size=(len(rows), 1_200)), [f"feature_{n}" for n in range(1_200)])
few, held = wide.take(np.arange(400)), wide.take(np.arange(1_000))
names = ("ridge", "xgboost", "lightgbm")
pipelines = {name: build_pipeline(choose_learner(name, PARAMS.get(name)), Setup("regression")) for name in names}
for each in pipelines.values():
    each.unfitted().fit(few, few)
used = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
# Less than one more copy of the rows.
resource.setrlimit(resource.RLIMIT_AS, (used + 30 * 2**20,) * 2)
for name, each in pipelines.items():
    try:
        with placed("fold 3", f"learner {name}", when_out_of_memory="And so on."):
            each.fit(wide, held)
    except ValueError as e:
        print(e, type(e.__cause__).__name__)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")
def test_libraries_that_run_out_of_memory_are_told_apart_and_the_process_goes_on():
    done = subprocess.run([sys.executable, "-c", OUT_OF_MEMORY], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    for line, name in zip(lines, ("ridge", "xgboost", "lightgbm"), strict=True):
        assert line.startswith(f"fold 3, learner {name}: memory must suffice for the fit, was used up ("), line
        assert "train on fewer weeks, symbols or features. And so on." in line


# Those that take unknown features: a column may be unknown in all rows of a fold, and known in others.
OF_UNKNOWN = sorted(name for name, entry in LEARNERS.items() if entry.handles_missing and not entry.is_divided)


@pytest.mark.parametrize("name", OF_UNKNOWN)
def test_a_column_that_is_unknown_in_all_rows_of_a_fold_stops_no_learner_that_takes_unknown_features(name):
    task = sorted(LEARNERS[name].tasks)[-1]
    target = target_of(name, task, horizon_bars=3)
    matrix = random_matrix(target)
    is_early = pl.col("session").rank("dense") < 65
    matrix = matrix.with_columns(feature_1=pl.when(is_early).then(None).otherwise("feature_1"))
    found = cross_validate(
        matrix,
        learner=sized_learner(name, target),
        splitter=SPLITTER,
        target=target,
        weightings=(),
        seed=1,
        missing="keep",
    )
    assert found.fold_metrics.height == 2 and found.predictions["prediction"].is_finite().all()


def test_a_stack_of_trees_takes_unknown_features_though_its_final_learner_takes_none():
    matrix = random_matrix(RETURN)
    matrix = matrix.with_columns(feature_1=pl.when(pl.col("symbol") == "S1").then(None).otherwise("feature_1"))
    stack = choose_learner("stacking", {"members": [TREES, TREES], "final": "ridge", "n_splits": 2})
    assert stack.handles_missing
    found = cross_validate(
        matrix, learner=stack, splitter=SPLITTER, target=RETURN, weightings=(), seed=1, missing="keep"
    )
    assert found.predictions["prediction"].is_finite().all()
