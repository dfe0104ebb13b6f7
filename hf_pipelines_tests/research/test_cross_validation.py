"""Cross-validation: everything fitted inside the fold, numbers that an independent library confirms."""

from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy.stats import spearmanr
from sklearn import metrics as sk
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from xgboost import XGBClassifier

from hf_pipelines.research.cross_validation import cross_validate, feature_importances, fit_final
from hf_pipelines.research.learners import LearnerChoice, Setup, build_pipeline, choose_learner
from hf_pipelines.research.matrix import build_matrix, feature_names
from hf_pipelines.research.predictions import (
    decided_predictions,
    latest_predictions,
    leaked_predictions,
    share_trained_on_later,
    split_by_path,
)
from hf_pipelines.research.splitters import PurgedKFold, PurgedWalkForward
from hf_pipelines.research.targets import TARGETS, build_labels, build_target
from hf_pipelines.research.validation_rows import VALIDATION_SHARE
from hf_pipelines.research.weights import choose_weightings
from hf_pipelines_tests.research.splitters.panels import Combinatorial, meets
from hf_pipelines_tests.sample_matrix import close_of, plain_bars, random_matrix

RETURN = build_target("forward_return", horizon_bars=3)
DIRECTION = build_target("direction", horizon_bars=3)
TARGET_OF = {"ridge": RETURN, "xgboost_classifier": DIRECTION, "nearest_neighbours": RETURN, "voting": DIRECTION}
TREES = {"n_estimators": 15, "max_depth": 3}
QUICK = {
    "ridge": {},
    "xgboost_classifier": TREES,
    "nearest_neighbours": {"n_neighbors": 20},
    "voting": {
        "members": [
            {"type": "xgboost", "params": TREES},
            {"type": "nearest_neighbours", "params": {"n_neighbors": 20}, "preprocessing": ["standard_scaling"]},
        ]
    },
}
SPLITTER = PurgedWalkForward(n_splits=3, test_sessions=12, embargo_sessions=1)
KEYS = ["symbol", "session", "ts"]

each_learner = pytest.mark.parametrize("learner", sorted(QUICK))


def chosen(learner: str) -> LearnerChoice:
    return choose_learner(learner, QUICK[learner])


def validate(matrix, learner, *, splitter=SPLITTER, weighting="none", n_jobs=1, target=None, share=VALIDATION_SHARE):
    return cross_validate(
        matrix,
        learner=chosen(learner) if isinstance(learner, str) else learner,
        splitter=splitter,
        target=target or TARGET_OF[learner],
        weightings=choose_weightings(weighting),
        seed=5,
        n_jobs=n_jobs,
        validation_share=share,
    )


def features_of(matrix: pl.DataFrame) -> np.ndarray:
    return np.ascontiguousarray(matrix.select(feature_names(matrix)).to_numpy())


def test_cross_validate_scaler_and_ridge_are_fitted_on_training_rows_alone():
    matrix = random_matrix(RETURN)
    predictions = validate(matrix, "ridge").predictions
    X, y = features_of(matrix), matrix["y"].to_numpy()
    for fold, (train, test) in enumerate(SPLITTER.split(matrix)):
        scaler = StandardScaler().fit(X[train])
        ridge = Ridge(alpha=1.0, solver="cholesky").fit(scaler.transform(X[train]), y[train])
        expected = ridge.predict(scaler.transform(X[test]))
        np.testing.assert_allclose(predictions.filter(fold=fold)["prediction"], expected, rtol=1e-5, atol=1e-8)


def test_cross_validate_class_weights_come_from_training_rows_alone():
    matrix = random_matrix(DIRECTION)
    predictions = validate(matrix, "xgboost_classifier", weighting="class_balance").predictions
    X, y = features_of(matrix), matrix["y"].to_numpy()
    params = chosen("xgboost_classifier").params
    for fold, (train, test) in enumerate(SPLITTER.split(matrix)):
        bare = XGBClassifier(**params, random_state=5, n_jobs=1)
        bare.fit(X[train], y[train], sample_weight=compute_sample_weight("balanced", y[train]))
        ours = predictions.filter(fold=fold).select("probability_down", "probability_flat", "probability_up")
        np.testing.assert_allclose(ours.to_numpy(), bare.predict_proba(X[test]), rtol=0, atol=1e-7)


@each_learner
@pytest.mark.parametrize("weighting", ["none", "class_balance"])
def test_cross_validate_later_rows_changed_same_bits_in_earlier_folds(learner, weighting):
    target = TARGET_OF[learner]
    if weighting != "none" and not target.is_classification:
        weighting = "none"
    matrix = random_matrix(target)
    whole = validate(matrix, learner, weighting=weighting)
    # From the last bar of the first test block on: other labels, other features.
    after = whole.fold_metrics["test_end"][0]
    is_later = pl.col("ts") > after
    changed = matrix.with_columns(
        y=pl.when(is_later).then(2.0 - pl.col("y")).otherwise("y"),
        **{name: pl.when(is_later).then(-3 * pl.col(name)).otherwise(name) for name in feature_names(matrix)},
    )
    again = validate(changed, learner, weighting=weighting)
    assert_frame_equal(again.predictions.filter(fold=0), whole.predictions.filter(fold=0), check_exact=True)
    assert not again.predictions.filter(fold=2).equals(whole.predictions.filter(fold=2))


@each_learner
def test_cross_validate_labels_of_test_rows_never_reach_their_predictions(learner):
    matrix = random_matrix(TARGET_OF[learner])
    whole = validate(matrix, learner)
    for fold, (_, test) in enumerate(SPLITTER.split(matrix)):
        y = matrix["y"].to_numpy().copy()
        y[test] = 2.0 - y[test]
        again = validate(matrix.with_columns(y=pl.Series(y)), learner).predictions.filter(fold=fold)
        expected = whole.predictions.filter(fold=fold)
        assert_frame_equal(again.drop("y"), expected.drop("y"), check_exact=True)


@each_learner
def test_cross_validate_any_number_of_jobs_gives_the_same_bits(learner):
    matrix = random_matrix(TARGET_OF[learner])
    one, three = validate(matrix, learner, n_jobs=1), validate(matrix, learner, n_jobs=3)
    assert_frame_equal(one.predictions, three.predictions, check_exact=True)
    assert_frame_equal(one.fold_metrics, three.fold_metrics, check_exact=True)
    assert one.metrics == three.metrics


def memory_of_neighbours(*, is_purged: bool) -> float:
    """Skill on pure random walks of a model whose only features are the symbol and the date.

    Such a model can only repeat the labels of the neighbouring days: with labels of 20 days, those overlap.
    """
    target = build_target("direction", horizon_bars=20, params={"lower": 0.0, "upper": 0.0})
    rng = np.random.default_rng(1)
    walks = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.02, size=(8, 260)), axis=1))
    bars = plain_bars({f"S{number}": walk.tolist() for number, walk in enumerate(walks)})
    place = {"is_" + symbol: (pl.col("symbol") == symbol).cast(pl.Float32) for symbol in bars["symbol"].unique().sort()}
    day = (pl.col("session") - date(2024, 1, 1)).dt.total_days().cast(pl.Float32)
    features = bars.select(*KEYS, day=day, **place)
    matrix = build_matrix(features, bars=bars, target=target, cutoff=None, minimum_rows=100)
    # Two classes: a random walk never stands still.
    matrix = matrix.with_columns(y=pl.col("y") / 2.0)
    two_sided = replace(target, classes=("down", "up"))
    if not is_purged:
        matrix = matrix.with_columns(label_start="ts", label_end="ts")
    result = cross_validate(
        matrix,
        learner=choose_learner(
            "xgboost",
            {"n_estimators": 40, "max_depth": 6, "subsample": 1.0, "colsample_bytree": 1.0, "min_child_weight": 1},
        ),
        splitter=PurgedWalkForward(n_splits=30, test_sessions=1, step_sessions=4),
        target=two_sided,
        weightings=(),
        seed=0,
        n_jobs=2,
    )
    return result.metrics["accuracy"]


def test_cross_validate_overlapping_labels_show_skill_only_when_not_purged():
    assert memory_of_neighbours(is_purged=False) > 0.75
    assert abs(memory_of_neighbours(is_purged=True) - 0.5) < 0.12


def test_cross_validate_classification_metrics_agree_with_sklearn_and_scipy():
    result = validate(random_matrix(DIRECTION, skill=0.8), "xgboost_classifier")
    predictions = result.predictions
    probability = predictions.select("probability_down", "probability_flat", "probability_up").to_numpy()
    y = predictions["y"].to_numpy()
    assert result.metrics["log_loss"] == pytest.approx(sk.log_loss(y, probability, labels=[0, 1, 2]))
    assert result.metrics["accuracy"] == pytest.approx(sk.accuracy_score(y, probability.argmax(axis=1)))
    expected = sk.balanced_accuracy_score(y, probability.argmax(axis=1))
    assert result.metrics["balanced_accuracy"] == pytest.approx(expected)
    by_session = [spearmanr(part["prediction"], part["target"])[0] for _, part in predictions.group_by("session")]
    assert result.metrics["information_coefficient"] == pytest.approx(np.mean(by_session))
    # The planted signal is found, and the baseline is what it is measured against.
    assert result.metrics["log_loss"] < result.metrics["baseline_log_loss"]
    assert result.metrics["information_coefficient"] > 0.2


def test_cross_validate_baseline_is_the_entropy_of_constant_training_shares():
    matrix = random_matrix(DIRECTION)
    result = validate(matrix, "xgboost_classifier")
    y = matrix["y"].to_numpy().astype(int)
    for fold, (train, test) in enumerate(SPLITTER.split(matrix)):
        shares = np.array([(y[train] == code).mean() for code in range(3)])
        expected = -np.log(shares[y[test]]).mean()
        assert result.fold_metrics["baseline_log_loss"][fold] == pytest.approx(expected)


def test_cross_validate_regression_metrics_agree_with_sklearn():
    result = validate(random_matrix(RETURN), "ridge")
    y, prediction = result.predictions["y"].to_numpy(), result.predictions["prediction"].to_numpy()
    assert result.metrics["r2"] == pytest.approx(sk.r2_score(y, prediction))
    assert result.metrics["rmse"] == pytest.approx(sk.root_mean_squared_error(y, prediction))
    assert set(result.metrics) == {
        *("r2", "rmse", "mse", "mae", "mape", "directional_accuracy"),
        *("information_coefficient", "information_coefficient_ratio", "information_coefficient_t"),
        "linear_information_coefficient",
    }


def test_cross_validate_fold_metrics_describe_the_rows_of_each_fold():
    # 90 sessions of 4 symbols leave 87 with a label; blocks are the last three times 12.
    folds = validate(random_matrix(RETURN), "ridge").fold_metrics
    assert folds["fold"].to_list() == [0, 1, 2]
    assert folds["n_test"].to_list() == [48, 48, 48]
    # First block starts at session 51: less one of embargo and three of label, strictly before: 0..46.
    assert folds["n_train"].to_list() == [4 * 47, 4 * 59, 4 * 71]
    assert folds["train_start"][0] == close_of(1)
    assert folds["train_end"][0] == close_of(16, month=2)
    assert folds["trained_until"][0] == close_of(19, month=2)
    assert folds["test_start"][0] == close_of(21, month=2)
    assert folds["test_end"][0] == close_of(3, month=3)


def test_cross_validate_predictions_hold_each_test_row_with_its_outcome():
    matrix = random_matrix(RETURN)
    predictions = validate(matrix, "ridge").predictions
    expected = ["fold", "trained_until", "prediction", "confidence", "y", "target"]
    assert predictions.columns == [*KEYS, *expected]
    assert predictions.schema["fold"] == pl.Int32
    assert (predictions["trained_until"] < predictions["ts"]).all()
    outcome = predictions.select(*KEYS, "y", "target").join(matrix, on=[*KEYS, "y", "target"], how="semi")
    assert outcome.height == predictions.height == 3 * 48


def test_latest_predictions_overlapping_blocks_keeps_the_latest_trained():
    splitter = PurgedWalkForward(n_splits=3, test_sessions=12, step_sessions=5)
    predictions = validate(random_matrix(RETURN), "ridge", splitter=splitter).predictions
    latest = latest_predictions(predictions)
    assert predictions.height == 3 * 48 and latest.height == 4 * (12 + 5 + 5)
    assert latest.n_unique(["symbol", "ts"]) == latest.height
    by_fold = latest.group_by("fold").agg(pl.col("session").n_unique()).sort("fold").rows()
    assert by_fold == [(0, 5), (1, 5), (2, 12)]
    assert latest.join(predictions, on=latest.columns, how="semi").height == latest.height


def test_latest_predictions_repeated_in_a_fold_raises():
    predictions = validate(random_matrix(RETURN), "ridge").predictions
    with pytest.raises(ValueError, match=r"once per fold, was repeated in folds \[0\]"):
        latest_predictions(pl.concat([predictions, predictions[:1]]))


def test_cross_validate_overlapping_blocks_count_each_row_once_in_the_metrics():
    splitter = PurgedWalkForward(n_splits=3, test_sessions=12, step_sessions=5)
    result = validate(random_matrix(RETURN), "ridge", splitter=splitter)
    latest = latest_predictions(result.predictions)
    assert result.metrics["r2"] == pytest.approx(sk.r2_score(latest["y"], latest["prediction"]))


def test_cross_validate_fold_without_a_class_raises_naming_it():
    matrix = random_matrix(DIRECTION)
    early = pl.col("session") < date(2024, 2, 20)
    matrix = matrix.with_columns(y=pl.when(early & (pl.col("y") == 1)).then(0.0).otherwise("y"))
    with pytest.raises(ValueError, match=r"every class.*fold 0 lacks \['flat'\]; bring its thresholds closer"):
        validate(matrix, "xgboost_classifier")


def test_labels_that_are_all_equal_are_refused_naming_the_fold_and_the_value():
    matrix = random_matrix(RETURN)
    still = matrix.with_columns(y=pl.when(pl.col("ts") < matrix["ts"][210]).then(0.0).otherwise("y"))
    with pytest.raises(
        ValueError, match=r"`target` must give .* more than one value, was 'forward_return' with 0 in all of fold 0; "
    ):
        validate(still, "ridge")
    with pytest.raises(ValueError, match="with 0 in all of the matrix; look at the bars"):
        fit_final(matrix.with_columns(y=pl.lit(0.0)), learner=chosen("ridge"), target=RETURN, seed=0)


def test_cross_validate_fault_in_a_fold_is_one_line_for_any_number_of_jobs():
    greedy = choose_learner("nearest_neighbours", {"n_neighbors": 100_000})
    for n_jobs in (1, 2):
        with pytest.raises(
            ValueError,
            match=r"^fold \d, learner nearest_neighbours: `n_neighbors` must be at most the .* training rows, was 100000",
        ) as caught:
            validate(random_matrix(RETURN), greedy, target=RETURN, n_jobs=n_jobs)
        # The learner's own error; of another thread joblib would show its traceback in the place of it.
        assert type(caught.value.__cause__) is ValueError


def test_fit_final_matrix_without_a_class_raises_naming_it():
    matrix = random_matrix(DIRECTION).filter(pl.col("y") != 2)
    with pytest.raises(ValueError, match=r"the matrix lacks \['up'\]"):
        fit_final(matrix, learner=chosen("xgboost_classifier"), target=DIRECTION, seed=0)


@pytest.mark.parametrize(
    ("learner", "target", "known"),
    [("ridge", DIRECTION, "xgboost"), ("xgboost_classifier", RETURN, "ridge")],
    ids=["regressor on classes", "classifier on returns"],
)
def test_cross_validate_learner_of_other_task_raises_naming_one_that_fits(learner, target, known):
    matrix = random_matrix(target)
    message = f"`learner` must be for .*was '{learner}'; use .*{known}"
    with pytest.raises(ValueError, match=message):
        validate(matrix, learner, target=target)
    with pytest.raises(ValueError, match=message):
        fit_final(matrix, learner=chosen(learner), target=target, seed=0)


def test_fit_final_uses_all_rows_and_the_weights_of_the_matrix():
    matrix = random_matrix(DIRECTION)
    weight = compute_sample_weight("balanced", matrix["y"])
    params = chosen("xgboost_classifier").params
    bare = XGBClassifier(**params, random_state=5, n_jobs=1)
    bare.fit(features_of(matrix), matrix["y"].to_numpy(), sample_weight=weight)
    ours = fit_final(
        matrix.with_columns(weight=pl.Series(weight)),
        learner=chosen("xgboost_classifier"),
        target=DIRECTION,
        seed=5,
    )
    np.testing.assert_array_equal(
        ours.estimator.predict_proba(features_of(matrix)), bare.predict_proba(features_of(matrix))
    )


@each_learner
def test_fit_final_any_number_of_threads_saves_the_same_bytes(learner):
    matrix = random_matrix(TARGET_OF[learner])
    fits = [
        fit_final(
            matrix,
            learner=chosen(learner),
            target=TARGET_OF[learner],
            seed=5,
            n_threads=n_threads,
        )
        for n_threads in (1, 2, 4)
    ]
    assert len({pipeline.save() for pipeline in fits}) == 1


@each_learner
def test_feature_importances_find_the_planted_feature_and_survive_saving(learner):
    matrix = random_matrix(TARGET_OF[learner], sessions=250, skill=0.8)
    pipeline = fit_final(matrix, learner=chosen(learner), target=TARGET_OF[learner], seed=5)
    names = feature_names(matrix)
    importances = feature_importances(pipeline, names)
    if chosen(learner).entry.importances is None:
        assert importances == {}
        return
    assert next(iter(importances)) == "feature_0" and sorted(importances) == names
    assert sum(importances.values()) == pytest.approx(1.0)
    assert list(importances.values()) == sorted(importances.values(), reverse=True)
    task = "classification" if TARGET_OF[learner].is_classification else "regression"
    loaded = build_pipeline(chosen(learner), Setup(task)).load(pipeline.save())
    assert feature_importances(loaded, names) == importances


def test_feature_importances_wrong_number_of_names_raises():
    estimator = fit_final(random_matrix(RETURN), learner=chosen("ridge"), target=RETURN, seed=0)
    with pytest.raises(ValueError, match="`names` must be the 5 features fitted, was 2"):
        feature_importances(estimator, ["a", "b"])


def leaks_of(matrix, result):
    return leaked_predictions(result.predictions, matrix=matrix, training_intervals=result.training_intervals)


@pytest.mark.parametrize("splitter", [PurgedKFold(n_splits=4, embargo_sessions=2), Combinatorial(), SPLITTER], ids=repr)
def test_leaked_predictions_of_purged_folds_are_none_and_of_the_folds_next_to_them_many(splitter):
    matrix = random_matrix(RETURN)
    result = validate(matrix, "ridge", splitter=splitter)
    assert leaks_of(matrix, result).is_empty()
    # The training rows of the fold after it hold what a fold tests.
    n_folds = result.fold_metrics.height
    moved = result.training_intervals.with_columns(
        pl.col("fold").replace_strict({n: (n + 1) % n_folds for n in range(n_folds)})
    )
    assert leaked_predictions(result.predictions, matrix=matrix, training_intervals=moved).height > 10


def test_leaked_predictions_of_folds_without_purge_are_those_next_to_the_blocks():
    matrix = random_matrix(RETURN)
    splitter = Combinatorial(purges=False)
    result = validate(matrix, "ridge", splitter=splitter)
    expected = [
        (number, *row)
        for number, (train, test) in enumerate(splitter.split(matrix))
        for row in matrix[test].filter(pl.Series(meets(matrix, train)[test])).select("ts", "symbol").rows()
    ]
    found = leaks_of(matrix, result).select("fold", "ts", "symbol").rows()
    # Labels of three bars: three tested sessions at each of the 1 + 3 + 2 + 2 + 3 + 1 borders of the six pairs, four symbols.
    assert sorted(found) == sorted(expected) and len(found) == 4 * 3 * 12


def test_leaked_predictions_of_rows_and_folds_that_are_not_known_are_all():
    matrix = random_matrix(RETURN)
    result = validate(matrix, "ridge")
    gone = leaked_predictions(result.predictions, matrix=matrix[:-5], training_intervals=result.training_intervals)
    assert gone.height == 5 and gone["label_end"].null_count() == 5
    known = result.training_intervals.filter(pl.col("fold") != 1)
    unknown = leaked_predictions(result.predictions, matrix=matrix, training_intervals=known)
    assert unknown["fold"].unique().to_list() == [1]


def test_cross_validate_with_paths_predicts_each_row_once_a_path_and_scores_each_path():
    matrix = random_matrix(RETURN)
    result = validate(matrix, "ridge", splitter=Combinatorial())
    assert result.predictions.columns[:5] == [*KEYS, "fold", "path"] and result.predictions["path"].dtype == pl.Int32
    paths = split_by_path(latest_predictions(result.predictions))
    assert sorted(paths) == [0, 1, 2] and result.fold_metrics.height == 6
    for each in paths.values():
        assert each.columns == [name for name in result.predictions.columns if name != "path"]
        assert_frame_equal(each.select(KEYS), matrix.select(KEYS))
    pooled = [sk.r2_score(each["y"], each["prediction"]) for each in paths.values()]
    assert result.metrics["r2"] == pytest.approx(np.mean(pooled)) and len({*pooled}) == 3
    assert 0.5 < share_trained_on_later(result.predictions) < 1.0


def test_latest_predictions_of_folds_trained_on_later_data_are_not_taken_for_the_latest():
    matrix = random_matrix(RETURN)
    result = validate(matrix, "ridge", splitter=Combinatorial())
    with pytest.raises(
        ValueError, match=r"once a path where folds are trained on later data, was repeated in folds \[0, 1, 2"
    ):
        latest_predictions(result.predictions.drop("path"))
    once = validate(matrix, "ridge", splitter=PurgedKFold(n_splits=3)).predictions
    assert_frame_equal(latest_predictions(once).select(KEYS), matrix.select(KEYS))
    assert "path" not in once.columns and share_trained_on_later(validate(matrix, "ridge").predictions) == 0.0


def test_several_labels_a_row_are_rows_of_the_matrix_told_apart_by_their_horizon(monkeypatch):
    def label(bars, params):
        parts = [build_labels(bars, build_target("forward_return", horizon_bars=ahead)) for ahead in (1, 3)]
        return pl.concat(
            [each.with_columns(horizon=pl.lit(n, dtype=pl.Int32)) for each, n in zip(parts, (1, 3), strict=True)]
        )

    monkeypatch.setitem(TARGETS, "both", replace(TARGETS["forward_return"], name="both", label=label))
    matrix = random_matrix(build_target("both", horizon_bars=3))
    assert matrix["horizon"].unique().to_list() == [1, 3] and "horizon" not in feature_names(matrix)
    assert matrix.select("ts", "symbol", "horizon").rows() == sorted(matrix.select("ts", "symbol", "horizon").rows())
    # Two folds: of each label of a row the latest-trained prediction is left.
    times = {"trained_until": close_of(1, year=2023), "prediction": 0.0}
    older = matrix.select(*KEYS, "horizon").with_columns(fold=pl.lit(0), **times)
    newer = older.with_columns(fold=pl.lit(1), trained_until=close_of(2, year=2023))
    latest = latest_predictions(pl.concat([newer, older]))
    assert latest["fold"].unique().to_list() == [1] and latest.height == matrix.height
    # What is traded is one prediction a row, that of one horizon.
    decided = decided_predictions(latest.with_columns(prediction=pl.col("horizon")), horizon=3)
    assert decided.select(KEYS).is_unique().all() and decided["prediction"].unique().to_list() == [3]
    assert decided.columns == [each for each in latest.columns if each != "horizon"]


class Planted:
    """Folds given as they are."""

    def __init__(self, *folds, paths=None):
        self.folds = [(np.array(train, dtype=np.int64), np.array(test, dtype=np.int64)) for train, test in folds]
        if paths is not None:
            self.paths = lambda X: iter(paths)

    def split(self, X, y=None, groups=None):
        return iter(self.folds)


@pytest.mark.parametrize(
    ("splitter", "message"),
    [
        pytest.param(Planted(), "`split` of Planted must give each fold rows .* was without in every fold", id="none"),
        pytest.param(
            Planted(([0], [9]), ([], [10])),
            "was without in fold 1; raise `training.weeks`, load more history",
            id="nothing to train on",
        ),
        pytest.param(Planted(([0], [])), "was without in fold 0", id="nothing to test"),
        pytest.param(
            Planted(([0], [9]), paths=[np.zeros(2)]), "`paths` of Planted must give each test row", id="paths"
        ),
    ],
)
def test_cross_validate_with_a_splitter_that_gives_no_folds_says_which(splitter, message):
    with pytest.raises(ValueError, match=message):
        validate(random_matrix(RETURN), "ridge", splitter=splitter)
