"""Overfitting: gaps beside those of permuted labels, and curves, on the rows of the cross-validation and no others."""

from datetime import date
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hf_pipelines.research.cross_validation import cross_validate
from hf_pipelines.research.learners import choose_learner
from hf_pipelines.research.matrix import build_matrix
from hf_pipelines.research.overfitting import (
    CHOSEN,
    PERMUTED,
    Diagnostics,
    Overfitting,
    diagnose,
    gaps_by_fold,
    nearest_sessions,
    score_predictions,
    scores_of,
)
from hf_pipelines.research.overfitting.signs import (
    gap_in_words,
    judge_gap,
    learning_curve,
    stability,
    stability_in_words,
    validation_curve,
    validation_in_words,
)
from hf_pipelines.research.splitters import CombinatorialPurged, PurgedKFold, PurgedWalkForward
from hf_pipelines.research.splitters.past_blocks import SessionTimes
from hf_pipelines.research.targets import build_target
from hf_pipelines.research.weights import choose_weightings
from hf_pipelines_tests.noise_table import gap_of
from hf_pipelines_tests.sample_matrix import plain_bars, random_matrix

RETURN = build_target("forward_return", horizon_bars=3)
DIRECTION = build_target("direction", horizon_bars=3)
RIDGE = choose_learner("ridge", {})
TREES = choose_learner("xgboost_classifier", {"n_estimators": 8, "max_depth": 3})
SPLITTER = PurgedWalkForward(n_splits=2, test_sessions=15, embargo_sessions=1, min_train_sessions=20)
ONE_FOLD = PurgedWalkForward(n_splits=1, test_sessions=30, embargo_sessions=1, min_train_sessions=20)


def diagnosed(matrix, asked, *, learner=RIDGE, splitter=SPLITTER, target=RETURN, weighting="none", **others):
    settings = {"weightings": choose_weightings(weighting), "seed": 5, **others}
    return diagnose(matrix, asked=asked, learner=learner, splitter=splitter, target=target, **settings)


def alphas(*values: float) -> tuple[tuple[float, object], ...]:
    return tuple((value, choose_learner("ridge", {"alpha": value})) for value in values)


@pytest.mark.parametrize(
    ("target", "learner"),
    [
        (RETURN, RIDGE),
        (DIRECTION, TREES),
        (build_target("rank", horizon_bars=3), RIDGE),
        (build_target("realised_volatility", horizon_bars=3), RIDGE),
    ],
    ids=["return", "direction", "rank", "volatility"],
)
def test_score_predictions_every_score_is_that_of_the_fold_metrics(target, learner):
    result = cross_validate(
        random_matrix(target), learner=learner, splitter=SPLITTER, target=target, weightings=(), seed=5
    )
    for fold, predictions in enumerate(result.predictions.partition_by("fold", maintain_order=True)):
        for score in scores_of(target):
            expected = result.fold_metrics[score][fold]
            found = score_predictions(predictions, score=score, target=target)
            assert found == pytest.approx(expected, rel=1e-12), score


def test_diagnose_test_score_is_that_of_the_cross_validation_and_training_score_of_a_fit_by_hand():
    matrix = random_matrix(RETURN)
    found = diagnosed(matrix, Diagnostics("mse", train_shares=(0.5,))).scores.filter(kind=CHOSEN)
    result = cross_validate(matrix, learner=RIDGE, splitter=SPLITTER, target=RETURN, weightings=(), seed=5)
    assert found["test_score"].to_list() == pytest.approx(result.fold_metrics["mse"].to_list(), rel=1e-7)
    assert found["n_train"].to_list() == result.fold_metrics["n_train"].to_list()
    for at, (train, _) in enumerate(SPLITTER.split(matrix)):
        X = matrix[train].select(pl.col("^feature_.*$")).to_numpy().astype(np.float64)
        X = (X - X.mean(axis=0)) / X.std(axis=0)
        y = matrix["y"].to_numpy()[train]
        coefficients = np.linalg.solve(X.T @ X + np.eye(X.shape[1]), X.T @ (y - y.mean()))
        error = y - y.mean() - X @ coefficients
        assert found["train_score"][at] == pytest.approx((error**2).mean(), rel=1e-5)
    # Lower is better of a mean square: the gap is how much higher that of the test rows is.
    np.testing.assert_allclose(found["gap"], found["test_score"] - found["train_score"])


@pytest.mark.parametrize("splitter", [ONE_FOLD, PurgedKFold(n_splits=2, embargo_sessions=2, min_train_sessions=20)],
                         ids=["walk_forward", "kfold"])  # fmt: skip
def test_diagnose_rows_that_the_purge_removed_are_never_trained_on(splitter):
    matrix = random_matrix(RETURN, sessions=80)
    folds = list(splitter.split(matrix))
    asked = Diagnostics("mse", permutations=1, train_shares=(0.5,), candidates=alphas(9.0))
    for fold, (train, test) in enumerate(folds):
        purged = np.setdiff1d(np.arange(matrix.height), np.union1d(train, test))
        assert len(purged)
        # Labels so large that one of them in any fit moves every prediction.
        y = matrix["y"].to_numpy().copy()
        y[purged] = 1e6
        planted = matrix.with_columns(y=pl.Series(y), target=pl.Series(y))
        clean, leaky = (
            diagnosed(each, asked, splitter=splitter).scores.filter(fold=fold) for each in (matrix, planted)
        )
        assert_frame_equal(clean, leaky, check_exact=True)


def test_diagnose_labels_of_test_rows_reach_no_fit():
    matrix = random_matrix(RETURN)
    asked = Diagnostics("mse", permutations=2, train_shares=(0.5,), candidates=alphas(9.0))
    (_, test), *_ = ONE_FOLD.split(matrix)
    y = matrix["y"].to_numpy().copy()
    y[test] = 1e6
    planted = matrix.with_columns(y=pl.Series(y), target=pl.Series(y))
    clean, leaky = (diagnosed(each, asked, splitter=ONE_FOLD).scores for each in (matrix, planted))
    assert clean["train_score"].to_list() == leaky["train_score"].to_list()
    assert (clean["test_score"] != leaky["test_score"]).all()


def test_diagnose_overlapping_labels_teach_a_memoriser_nothing_of_the_test_rows():
    """A model whose only features are the symbol and the date can only repeat labels of the days nearby."""
    target = build_target("up_or_down", horizon_bars=20)
    rng = np.random.default_rng(1)
    walks = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.02, size=(8, 160)), axis=1))
    bars = plain_bars({f"S{number}": walk.tolist() for number, walk in enumerate(walks)})

    place = {f"is_{at}": (pl.col("symbol") == f"S{at}").cast(pl.Float32) for at in range(8)}
    day = (pl.col("session") - date(2024, 1, 1)).dt.total_days().cast(pl.Float32)
    features = bars.select("symbol", "session", "ts", day=day, **place)
    matrix = build_matrix(features, bars=bars, target=target, cutoff=None, minimum_rows=1)
    curious = choose_learner("nearest_neighbours", {"n_neighbors": 1})
    found = diagnosed(
        matrix, Diagnostics("accuracy", train_shares=(0.3, 0.7)), learner=curious, target=target,
        splitter=PurgedKFold(n_splits=8, embargo_sessions=0, min_train_sessions=20),
    )  # fmt: skip
    curve = learning_curve(found)
    assert (curve["train_score"] == 1.0).all()
    # With the purged rows it repeats three of four labels.
    print(curve)
    assert (curve["test_score"] < 0.62).all()


def test_diagnose_any_number_of_jobs_gives_the_same_bits_and_counts_its_fits():
    matrix = random_matrix(RETURN)
    asked = Diagnostics(
        "information_coefficient", permutations=2, train_shares=(0.4, 0.7), parameter="alpha", candidates=alphas(9.0),
        chosen_value=1.0,
    )  # fmt: skip
    seen: list[tuple[int, int]] = []
    one = diagnosed(matrix, asked, on_fits=lambda *made: seen.append(made))
    three = diagnosed(matrix, asked, n_jobs=3)
    assert_frame_equal(one.scores, three.scores, check_exact=True)
    assert one.n_fits == one.scores.height == asked.count_fits(2) == 2 * (1 + 2 + 2 + 1)
    assert one.n_configurations == 2
    assert seen[-1] == (12, 12)
    assert all(before[0] < after[0] for before, after in pairwise(seen))


def test_nearest_sessions_of_a_middle_block_lie_on_both_sides():
    matrix = random_matrix(RETURN, symbols=2, sessions=60)
    times = SessionTimes.of(matrix)
    train = np.flatnonzero((times.code < 20) | (times.code >= 40))
    test = np.flatnonzero((times.code >= 25) & (times.code < 35))
    kept = nearest_sessions(times, train, test, share=10 / 37)
    # 15 to 19 are 6 to 10 before the block, 40 to 44 are 6 to 10 after it.
    assert np.unique(times.code[kept]).tolist() == [15, 16, 17, 18, 19, 40, 41, 42, 43, 44]
    assert set(kept) <= set(train)


def test_learning_curve_of_a_walk_forward_grows_from_the_latest_sessions():
    found = diagnosed(random_matrix(RETURN), Diagnostics("mse", train_shares=(0.25, 0.5)))
    curve = learning_curve(found)
    assert curve["point"].to_list() == ["0.25", "0.5", "1.0"]
    whole = found.scores.filter(kind=CHOSEN)["n_train_sessions"].to_numpy()
    expected = [np.round(share * whole).mean() for share in (0.25, 0.5, 1.0)]
    assert curve["n_train_sessions"].to_list() == expected
    of_folds = found.scores.filter(kind="learning_curve", point="0.5")["test_score"]
    assert curve.row(1, named=True)["test_score"] == pytest.approx(of_folds.mean())
    assert (curve["test_low"][1], curve["test_high"][1]) == (of_folds.min(), of_folds.max())


def test_validation_curve_is_in_order_of_the_numbers_and_equals_cross_validations_of_each():
    matrix = random_matrix(RETURN)
    asked = Diagnostics("mse", parameter="alpha", candidates=alphas(100.0, 0.01), chosen_value=1.0)
    curve = validation_curve(diagnosed(matrix, asked))
    words = validation_in_words(curve, parameter="alpha", score="mse")
    best = min(curve.select("test_score", "point").rows())
    assert words.startswith("mse on test rows with alpha 1.0, the learner's own, is ")
    found = "is the best of 3" if best[1] == "1.0" else f"is not the best of 3: {best[1]} has {best[0]:.3g}"
    assert f"which {found}. 3 configurations were tried" in words
    assert curve["point"].to_list() == ["0.01", "1.0", "100.0"]
    assert curve["is_chosen"].to_list() == [False, True, False]
    for value, score in curve.select("point", "test_score").rows():
        result = cross_validate(
            matrix, learner=choose_learner("ridge", {"alpha": float(value)}), splitter=SPLITTER, target=RETURN,
            weightings=(), seed=5,
        )  # fmt: skip
        assert score == pytest.approx(result.fold_metrics["mse"].mean(), rel=1e-12)


ASKED = Diagnostics("information_coefficient", permutations=19)


def test_judge_gap_feature_that_knows_its_training_labels_is_flagged():
    """In 20 of 20 seeds by `make noise`."""
    for seed in range(2):
        gap = gap_of("overfit", seed=seed)
        assert gap.is_flagged
        assert not gap.is_memorising
        assert "OVERFIT" in gap_in_words(gap, score=ASKED.score)


def test_judge_gap_honest_model_is_not_flagged():
    """In 3 of 100 seeds by `make noise`."""
    gap = gap_of("honest", seed=0)
    assert not gap.is_flagged
    assert not gap.is_memorising
    assert "No larger than chance makes it" in gap_in_words(gap, score=ASKED.score)


def test_judge_gap_learner_that_knows_its_rows_by_heart_is_memorising():
    matrix = random_matrix(RETURN, symbols=8, sessions=120, skill=0.0)
    by_heart = choose_learner("nearest_neighbours", {"n_neighbors": 1})
    gap = judge_gap(diagnosed(matrix, ASKED, learner=by_heart, splitter=ONE_FOLD))
    assert gap.is_memorising
    assert "neither the training score nor the gap says" in gap_in_words(gap, score=ASKED.score)
    assert gap.memorised_share == pytest.approx(1.0)
    assert gap.train_score == pytest.approx(1.0)


def test_judge_gap_limit_is_the_largest_of_19_and_the_second_largest_of_39():
    scores = pl.DataFrame(
        [
            {"kind": CHOSEN, "point": "", "fold": 0, "train_score": 0.5, "test_score": 0.1, "gap": 0.4},
            *(
                {"kind": PERMUTED, "point": str(at), "fold": 0, "train_score": 0.0, "test_score": 0.0, "gap": at / 100}
                for at in range(39)
            ),
        ]
    )

    assert judge_gap(Overfitting(scores, ASKED, n_fits=40, n_configurations=1)).gap_limit == 0.37
    fewer = scores.filter(~pl.col("point").is_in([str(at) for at in range(19, 39)]))
    found = Overfitting(fewer, ASKED, n_fits=20, n_configurations=1)
    assert judge_gap(found).gap_limit == 0.18
    assert gaps_by_fold(found).to_dicts() == [
        {"fold": 0, "train_information_coefficient": 0.5, "gap": 0.4, "permuted_gap_95": 0.18}
    ]
    with pytest.raises(ValueError, match=r"`permutations` must be at least 19 to judge a gap, was 18\."):
        judge_gap(Overfitting(fewer.head(19), ASKED, n_fits=20, n_configurations=1))


def test_diagnose_score_that_a_fold_does_not_have_is_refused():
    matrix = random_matrix(RETURN, symbols=1, sessions=120)
    with pytest.raises(
        ValueError, match=r"`diagnostics.score` must be defined in every fold, was not in fold 0 for inf"
    ):
        diagnosed(matrix, ASKED, splitter=ONE_FOLD)
    assert diagnosed(matrix, Diagnostics("mae", train_shares=(0.5,)), splitter=ONE_FOLD).n_fits == 2


def test_diagnose_point_that_a_fold_cannot_be_fitted_with_is_named():
    matrix = random_matrix(DIRECTION, sessions=80)
    with pytest.raises(
        ValueError, match=r"`diagnostics.learning_curve` must .* was 0.02: `target` must give .* lacks \['"
    ):
        diagnosed(matrix, Diagnostics("accuracy", train_shares=(0.02,)), learner=TREES, target=DIRECTION)
    greedy = choose_learner("nearest_neighbours", {"n_neighbors": 100_000})
    asked = Diagnostics("mse", parameter="n_neighbors", candidates=((100_000, greedy),), chosen_value=5)
    with pytest.raises(
        ValueError, match="`diagnostics.validation_curve` must .* was 100000: fold .*: `n_neighbors` must be at most"
    ):
        diagnosed(matrix, asked, learner=choose_learner("nearest_neighbours", {"n_neighbors": 5}))


def test_diagnose_folds_with_paths_are_scored_each():
    matrix = random_matrix(RETURN, symbols=3, sessions=60)
    splitter = CombinatorialPurged(n_folds=4, n_test_folds=2, min_train_sessions=5)
    found = diagnosed(matrix, Diagnostics("mse", train_shares=(0.5,)), splitter=splitter).scores.filter(kind=CHOSEN)
    result = cross_validate(matrix, learner=RIDGE, splitter=splitter, target=RETURN, weightings=(), seed=5)
    assert found["test_score"].to_list() == pytest.approx(result.fold_metrics["mse"].to_list(), rel=1e-7)


def test_stability_by_hand():
    metrics = pl.DataFrame({"fold": [0, 1, 2, 3], "information_coefficient": [0.1, -0.02, float("nan"), 0.04]})
    found = stability(metrics, score="information_coefficient")
    assert found["mean"] == pytest.approx(0.04)
    assert found["std"] == pytest.approx(0.06)
    assert (found["lowest"], found["highest"]) == (-0.02, 0.1)
    assert (found["n_folds"], found["n_undefined"], found["n_positive"]) == (4, 1, 2)
    assert stability_in_words(found, score="information_coefficient") == (
        "information_coefficient from -0.02 to 0.1 over 3 folds (1 more without), mean 0.04, standard deviation 0.06, above 0 in 2 "
        "of 3."
    )
    assert stability_in_words(
        stability(metrics[2:3], score="information_coefficient"), score="information_coefficient"
    ) == ("information_coefficient is defined in none of 1 folds.")
