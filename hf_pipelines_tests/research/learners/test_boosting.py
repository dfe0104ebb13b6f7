"""What all boosters share, for each of them: early stopping, devices, categories, quantiles, classes, what is left of rows."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hf_pipelines.research.learners import (
    LEARNERS,
    Pipeline,
    Rows,
    Setup,
    TrainingRows,
    build_pipeline,
    choose_learner,
    keyed,
    predict_frame,
)
from hf_pipelines.research.learners.archive import pack, unpack
from hf_pipelines.research.learners.boosting import _SHARED, SHARED_PARAMS, Boosted
from hf_pipelines.research.learners.devices import count_cuda_devices
from hf_pipelines_tests.sample_matrix import plain_bars

SIZE: dict[str, dict[str, Any]] = {
    "xgboost_early_stopping": {"max_depth": 3, "min_child_weight": 1.0, "subsample": 1.0, "colsample_bytree": 1.0},
    "hist_gradient_boosting": {"max_leaf_nodes": 7, "min_samples_leaf": 5, "max_features": 1.0},
    "catboost": {"depth": 3},
    "lightgbm": {"num_leaves": 7, "min_child_samples": 5, "subsample": 1.0, "colsample_bytree": 1.0},
}
BOOSTERS = sorted(name for name, entry in LEARNERS.items() if "early_stopping_rounds" in entry.params)
each_booster = pytest.mark.parametrize("name", BOOSTERS)


def rows_of(n: int = 600, *, seed: int = 0, task: str = "regression") -> TrainingRows:
    """Three features and a category of five, whose effect does not follow its number; `y` needs the category and the first."""
    rng = np.random.default_rng(seed)
    bars = plain_bars({f"S{number}": [1.0] * (n // 4) for number in range(4)}).sort("ts", "symbol")
    bars = bars.with_columns(label_start="ts", label_end="ts")
    X = rng.normal(size=(bars.height, 4)).astype(np.float32)
    sector = rng.integers(0, 5, size=len(X))
    X[:, 2] = 10 * sector
    y = np.array([2.0, -2.0, 2.0, -2.0, 2.0])[sector] + X[:, 0] + rng.normal(size=len(X))
    y = np.digitize(y, [-1.0, 1.0]).astype(float) if task == "classification" else y
    return TrainingRows(
        keyed(bars, "label_start", "label_end"), X, ("a", "b", "sector", "d"), y=y, weight=rng.uniform(0.5, 1.5, len(X))
    )


def pipeline_of(name: str, task: str = "regression", **params: Any) -> Pipeline:
    given = {"n_estimators": 40, "learning_rate": 0.1, "early_stopping_rounds": 5, **SIZE.get(name, {}), **params}
    return build_pipeline(choose_learner(name, given), Setup(task, seed=5))


def fitted(name: str, rows: TrainingRows | None = None, task: str = "regression", **params: Any) -> Pipeline:
    rows = rows_of(task=task) if rows is None else rows
    numbers, cut = np.arange(len(rows)), (3 * len(rows)) // 4
    return pipeline_of(name, task, **params).fit(rows.take(numbers[:cut]), rows.take(numbers[cut:]))


@each_booster
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_training_stops_where_the_validation_rows_get_no_better_and_keeps_the_best_round(name, task):
    stopped = fitted(name, task=task, learning_rate=0.5)
    best = stopped.report()["best_round"]
    assert 1 <= best <= 35 and stopped.report()["validation_loss"] > 0
    # As many rounds as were best, and never stopped: the same trees.
    plain = fitted(name, task=task, learning_rate=0.5, n_estimators=best, early_stopping_rounds=1_000)
    rows = rows_of(seed=1, task=task)
    for one, other in zip(answers(stopped, rows), answers(plain, rows), strict=True):
        np.testing.assert_array_equal(one, other)
    assert plain.report() == stopped.report()
    # Rounds after the best one are cut off, where it did not stop too.
    more = fitted(name, task=task, learning_rate=0.5, n_estimators=best + 3, early_stopping_rounds=1_000)
    assert more.report() == stopped.report()
    np.testing.assert_array_equal(answers(more, rows)[0], answers(stopped, rows)[0])
    # It is judged by the validation rows: by labels without a meaning it stops at once.
    noise = rows_of(task=task)
    later = np.arange(len(noise)) >= (3 * len(noise)) // 4
    noise = replace(noise, y=np.where(later, np.random.default_rng(2).permutation(noise.y), noise.y))
    assert fitted(name, noise, task=task, learning_rate=0.5).report()["best_round"] < best


def answers(pipeline: Pipeline, rows: Rows) -> list[np.ndarray]:
    found = pipeline.predict(rows)
    return [each for each in (found.point, found.probability, found.quantiles) if each is not None]


@each_booster
def test_without_validation_rows_it_does_not_fit(name):
    with pytest.raises(ValueError, match="`validation` must be given for a learner that stops early"):
        pipeline_of(name).fit(rows_of())


@each_booster
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_categories_are_told_apart_whatever_their_numbers_and_one_never_seen_counts_as_unknown(name, task):
    # One split: of a number it parts low from high, of a category any from any.
    tree = {key: 2 for key in ("num_leaves", "max_leaf_nodes") if key in LEARNERS[name].params}
    tree |= {key: 1 for key in ("max_depth", "depth") if key in LEARNERS[name].params}
    small = {**tree, "n_estimators": 1, "learning_rate": 1.0, **({"one_hot_max_size": 2} if name == "catboost" else {})}
    as_category = fitted(name, task=task, categories=["sector"], **small)
    as_number = fitted(name, task=task, **small)
    assert as_category.report()["validation_loss"] < as_number.report()["validation_loss"] - 0.05
    pipeline = fitted(name, task=task, categories=["sector"], n_estimators=20)
    rows = rows_of(seed=3, task=task)
    unseen, unknown = (rows.with_features(np.array(rows.X), rows.names) for _ in range(2))
    unseen.X[:, 2], unknown.X[:, 2] = 70.0, np.nan
    for one, other in zip(answers(pipeline, unseen), answers(pipeline, unknown), strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_array_equal(one, other)
    # Other numbers for the same categories are the same fit.
    renamed = rows_of(task=task)
    renamed.X[:, 2] = renamed.X[:, 2] / 10 + 100
    asked = rows.with_features(np.array(rows.X), rows.names)
    asked.X[:, 2] = asked.X[:, 2] / 10 + 100
    again = fitted(name, renamed, task=task, categories=["sector"], n_estimators=20)
    np.testing.assert_array_equal(answers(again, asked)[0], answers(pipeline, rows)[0])


@each_booster
def test_unknown_categories_in_training_are_fitted_and_are_none_of_the_known_ones(name):
    rows = rows_of()
    is_unknown = np.arange(len(rows)) % 5 == 0
    rows.X[is_unknown, 2] = np.nan
    shifted = replace(rows, y=rows.y + 10.0 * is_unknown)
    found = answers(fitted(name, shifted, categories=["sector"], learning_rate=0.3), rows)[0]
    assert found[is_unknown].mean() > 8.0 and found[~is_unknown].mean() < 2.0
    rows.X[:, 2] = np.nan
    assert np.isfinite(answers(fitted(name, rows, categories=["sector"]), rows_of())[0]).all()


@each_booster
def test_categories_that_are_not_there_or_not_whole_are_refused_by_name(name):
    with pytest.raises(
        ValueError, match=r"`categories` must name features of the learner \(a, b, sector.*was 'region'"
    ):
        fitted(name, categories=["region"])
    with pytest.raises(ValueError, match=r"`categories` must name features of whole numbers, was 'b' with \["):
        fitted(name, categories=["b"])
    with pytest.raises(ValueError, match="`categories` must be ascending and without repetition, was \\['d', 'a'\\]"):
        pipeline_of(name, categories=["d", "a"])


@each_booster
def test_quantiles_hold_their_share_of_labels_never_cross_and_leave_the_mean_as_it_is(name):
    levels = [0.1, 0.5, 0.9]
    rows = rows_of(1_200)
    pipeline = fitted(name, rows, quantiles=levels, n_estimators=80, early_stopping_rounds=20)
    later = rows_of(1_200, seed=8)
    found = pipeline.predict(later)
    assert found.quantiles is not None and found.quantiles.shape == (len(later), 3)
    assert (np.diff(found.quantiles, axis=1) >= 0).all()
    shares = (later.y[:, None] <= found.quantiles).mean(axis=0)
    np.testing.assert_allclose(shares, levels, atol=0.12)
    plain = fitted(name, rows, n_estimators=80, early_stopping_rounds=20)
    np.testing.assert_array_equal(answers(plain, later)[0], found.point)
    assert pipeline.report()["quantile_0.1"]["best_round"] >= 1
    frame = later.keys.with_columns(later.frame.select(later.names))
    shown = predict_frame(pipeline, frame, features=later.names, classes=())
    assert shown.columns[-3:] == ["quantile_0.1", "quantile_0.5", "quantile_0.9"]
    with pytest.raises(ValueError, match="`quantiles` must be ascending"):
        pipeline_of(name, quantiles=[0.9, 0.1])


@each_booster
def test_the_cpu_is_taken_where_no_other_device_is_and_a_device_that_is_not_there_is_one_line(name):
    if count_cuda_devices():
        pytest.skip("this machine has a CUDA device")
    rows = rows_of(seed=1)
    np.testing.assert_array_equal(
        answers(fitted(name, device="auto"), rows)[0], answers(fitted(name, device="cpu"), rows)[0]
    )
    with pytest.raises(ValueError, match="`device` .*must be .*was 'cuda'") as caught:
        fitted(name, device="cuda")
    assert "\n" not in str(caught.value)


@each_booster
def test_a_constant_label_is_predicted_and_two_rows_are_fitted_but_not_one(name):
    rows = rows_of(200)
    constant = replace(rows, y=np.full(len(rows), 0.25))
    np.testing.assert_allclose(answers(fitted(name, constant), rows)[0], 0.25, rtol=1e-5)
    quantiles = fitted(name, constant, quantiles=[0.1, 0.9]).predict(rows).quantiles
    np.testing.assert_allclose(quantiles, 0.25, rtol=1e-3)
    two, one = rows.take(np.arange(2)), rows.take(np.arange(2, 3))
    assert np.isfinite(answers(pipeline_of(name).fit(two, one), rows)[0]).all()
    classes = replace(two, y=np.array([0.0, 1.0])), replace(one, y=np.array([1.0]))
    assert answers(pipeline_of(name, "classification").fit(*classes), rows)[0].shape == (200, 2)
    for alike in (two.take(np.arange(1)), two.take(np.array([0, 0]))):
        with pytest.raises(ValueError, match="`X` must have a feature that varies among the training rows"):
            pipeline_of(name).fit(alike, one)


@each_booster
@pytest.mark.parametrize(
    ("y", "lacking"), [([0.0, 0.0, 0.0], r"\[1\]"), ([1.0, 1.0, 1.0], r"\[0\]"), ([0.0, 2.0, 0.0], r"\[1\]")]
)
def test_a_class_without_training_rows_is_refused(name, y, lacking):
    rows = replace(rows_of(task="classification").take(np.arange(3)), y=np.array(y))
    with pytest.raises(
        ValueError, match=f"`y` must hold every class in its training rows, was without the codes {lacking}"
    ):
        pipeline_of(name, "classification").fit(rows, rows)


@each_booster
@pytest.mark.parametrize("part", ["training", "validation"])
def test_rows_of_weight_0_are_left_out_of_both_parts(name, part):
    rows = rows_of()
    numbers, cut = np.arange(len(rows)), (3 * len(rows)) // 4
    fit, held = rows.take(numbers[:cut]), rows.take(numbers[cut:])
    of_part = fit if part == "training" else held
    odd = np.arange(len(of_part)) % 2 == 1
    silent = replace(of_part, weight=np.where(odd, of_part.weight, 0.0))
    parts = (
        [(silent, held), (of_part.take(odd), held)] if part == "training" else [(fit, silent), (fit, held.take(odd))]
    )
    one, other = (pipeline_of(name).fit(*each) for each in parts)
    assert one.save() == other.save() and one.report() == other.report()


@each_booster
def test_what_was_saved_holds_categories_and_quantiles_and_anything_else_is_refused(name):
    pipeline = fitted(name, categories=["sector"], quantiles=[0.25, 0.75])
    data = pipeline.save()
    loaded = pipeline_of(name, categories=["sector"], quantiles=[0.25, 0.75]).load(data)
    rows = rows_of(seed=4)
    rows.X[::9, 2] = 70.0
    for one, other in zip(answers(loaded, rows), answers(pipeline, rows), strict=True):
        np.testing.assert_array_equal(one, other)
    assert loaded.save() == data
    with pytest.raises(ValueError, match="it is a model of another learner"):
        pipeline_of(name).load(data)
    extension = pipeline.estimator.library.extension
    names = [f"{each}.{extension}" for each in pipeline.estimator.models]
    files = unpack(data, [*names, "trained_on.json"])
    for state in (b"[]", b"{}", b'{"categories": {"sector": ["x"]}, "n_classes": 0}', b"\xff"):
        with pytest.raises(ValueError, match="`data` must say in JSON what it was trained on"):
            pipeline_of(name, categories=["sector"], quantiles=[0.25, 0.75]).load(
                pack({**files, "trained_on.json": state})
            )
    with pytest.raises(ValueError, match="`data` must be a"):
        pipeline_of(name, categories=["sector"], quantiles=[0.25, 0.75]).load(
            pack({**files, names[0]: b"something else"})
        )


@each_booster
def test_members_of_a_vote_stop_by_the_same_rows_and_a_calibration_by_them_too(name):
    rows = rows_of(task="classification")
    numbers, cut = np.arange(len(rows)), (3 * len(rows)) // 4
    member = {"type": name, "params": dict(pipeline_of(name).choice.params)}
    vote = choose_learner("voting", {"members": [member, "random_forest"]}, calibration="temperature")
    assert vote.needs_validation
    fit, held = rows.take(numbers[:cut]), rows.take(numbers[cut:])
    pipeline = build_pipeline(vote, Setup("classification", seed=5)).fit(fit, held)
    alone = pipeline_of(name, "classification").fit(fit, held)
    (first, _) = pipeline.estimator.members
    np.testing.assert_array_equal(answers(first, rows)[0], answers(alone, rows)[0])
    assert first.report() == alone.report()
    np.testing.assert_allclose(answers(pipeline, rows)[0].sum(axis=1), 1.0)


@pytest.mark.parametrize("method", ["approx", "exact"])
def test_xgboost_looks_for_splits_by_other_methods_and_refuses_one_that_takes_no_categories(method):
    report = fitted("xgboost_early_stopping", tree_method=method).report()
    assert (
        report["best_round"] > 1
        and report["validation_loss"] < fitted("xgboost_early_stopping").report()["validation_loss"] * 1.2
    )
    if method == "exact":
        with pytest.raises(ValueError, match="must be able to fit these rows, was xgboost, which refuses: ") as caught:
            fitted("xgboost_early_stopping", tree_method=method, categories=["sector"])
        assert "\n" not in str(caught.value)


def test_every_booster_is_one_of_the_shared_kind():
    assert tuple(SHARED_PARAMS) == _SHARED
    assert {"lightgbm"} <= {*BOOSTERS}
    assert all(isinstance(pipeline_of(name).estimator, Boosted) for name in BOOSTERS)
    with pytest.raises(ValueError, match="`num_leaves` must be at most 8, the leaves of a tree of 3 levels, was 31"):
        choose_learner("lightgbm", {"max_depth": 3})
