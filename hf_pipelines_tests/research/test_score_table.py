"""The table of scores: agreement with scikit-learn for every predictor, paired probabilities, and what is said where it cannot tell."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sklearn import metrics as sk
from threadpoolctl import threadpool_limits

from hf_pipelines.research.baselines import predict_baselines
from hf_pipelines.research.cross_validation import CrossValidation, cross_validate
from hf_pipelines.research.learners import choose_learner
from hf_pipelines.research.metrics.bootstrap import N_RESAMPLES, default_block, draw_sessions, probability_above_zero
from hf_pipelines.research.predictions import latest_predictions
from hf_pipelines.research.score_table import label_sessions, tabulate_scores
from hf_pipelines.research.score_words import shown_scores
from hf_pipelines.research.splitters import PurgedWalkForward
from hf_pipelines.research.targets import HORIZON, build_target
from hf_pipelines_tests.research.splitters.panels import Combinatorial
from hf_pipelines_tests.sample_matrix import plain_bars, random_matrix

RETURN = build_target("forward_return", horizon_bars=3)
DIRECTION = build_target("direction", horizon_bars=3)
SPLITTER = PurgedWalkForward(n_splits=3, test_sessions=50)
LEARNER = {
    RETURN.name: choose_learner("ridge"),
    DIRECTION.name: choose_learner("xgboost", {"n_estimators": 8, "max_depth": 2}),
}


def validated(target, matrix, splitter=SPLITTER) -> CrossValidation:
    return cross_validate(matrix, learner=LEARNER[target.name], splitter=splitter, target=target, weightings=(), seed=5)


def tabulated(target, matrix, splitter=SPLITTER, *, result=None, seed=1):
    result = result or validated(target, matrix, splitter)
    return tabulate_scores(result, matrix, splitter=splitter, target=target, seed=seed)


def pooled(table, predictor="model") -> dict[str, dict[str, float]]:
    rows = table.scores.filter(pl.col("fold").is_null(), predictor=predictor).to_dicts()
    return {row["score"]: row for row in rows}


@pytest.fixture(scope="module")
def classes():
    matrix = random_matrix(DIRECTION, sessions=210, skill=0.6)
    result = validated(DIRECTION, matrix)
    return matrix, result, tabulated(DIRECTION, matrix, result=result)


@pytest.fixture(scope="module")
def values():
    matrix = random_matrix(RETURN, sessions=210, skill=0.6)
    result = validated(RETURN, matrix)
    return matrix, result, tabulated(RETURN, matrix, result=result)


def test_scores_of_the_model_are_those_of_the_cross_validation(classes, values):
    for _, result, table in (classes, values):
        found = pooled(table)
        told = {name: value for name, value in result.metrics.items() if name != "baseline_log_loss"}
        assert {name: row["value"] for name, row in found.items()} == told
        for name, row in found.items():
            of_folds = result.fold_metrics[name].to_numpy()
            assert row["mean"] == pytest.approx(of_folds.mean())
            assert row["deviation"] == pytest.approx(of_folds.std(ddof=1))
            assert row["low"] < row["value"] < row["high"]
            in_folds = table.scores.filter(pl.col("fold").is_not_null(), predictor="model", score=name)
            assert in_folds["value"].to_list() == of_folds.tolist() and in_folds["fold"].to_list() == [0, 1, 2]


def test_scores_of_baselines_agree_with_sklearn(classes, values):
    matrix, result, table = classes
    baselines = predict_baselines(matrix, SPLITTER.split(matrix), target=DIRECTION, seed=1)
    y, fold = result.predictions["y"].to_numpy(), result.predictions["fold"].to_numpy()
    for name, predicted in baselines.items():
        codes = predicted.probability.argmax(axis=1)
        found = pooled(table, name)
        assert found["accuracy"]["value"] == pytest.approx(sk.accuracy_score(y, codes))
        assert found["balanced_accuracy"]["value"] == pytest.approx(sk.balanced_accuracy_score(y, codes))
        expected = sk.f1_score(y, codes, average="macro", zero_division=0)
        assert found["f1"]["value"] == pytest.approx(expected)
        expected = [sk.accuracy_score(y[fold == number], codes[fold == number]) for number in range(3)]
        assert table.fold_metrics[f"{name}_accuracy"].to_list() == pytest.approx(expected)
        assert ("log_loss" in found) == (name == "majority")
    shares = result.metrics["baseline_log_loss"]
    assert pooled(table, "majority")["log_loss"]["value"] == pytest.approx(shares)
    assert pooled(table, "majority")["information_coefficient"]["value"] is None

    matrix, result, table = values
    y = result.predictions["y"].to_numpy()
    for name, predicted in predict_baselines(matrix, SPLITTER.split(matrix), target=RETURN, seed=1).items():
        found = pooled(table, name)
        assert found["rmse"]["value"] == pytest.approx(sk.root_mean_squared_error(y, predicted.value))
        assert found["r2"]["value"] == pytest.approx(sk.r2_score(y, predicted.value))


def test_confusion_of_folds_agrees_with_sklearn(classes):
    _, result, table = classes
    names = DIRECTION.classes
    for number in range(3):
        part = result.predictions.filter(fold=number)
        predicted = part.select(f"probability_{name}" for name in names).to_numpy().argmax(axis=1)
        expected = sk.confusion_matrix(part["y"], predicted, labels=[0, 1, 2])
        row = table.fold_metrics.row(number, named=True)
        assert [[row[f"{a}_as_{b}"] for b in names] for a in names] == expected.tolist()


def test_probability_is_of_the_paired_difference_over_sessions():
    # So little skill that the probability is far from certain.
    matrix = random_matrix(DIRECTION, sessions=210, skill=0.25)
    result = validated(DIRECTION, matrix)
    table = tabulated(DIRECTION, matrix, result=result)
    latest = latest_predictions(result.predictions)
    row = pooled(table)["accuracy"]
    baselines = predict_baselines(matrix, SPLITTER.split(matrix), target=DIRECTION, seed=1)
    accuracy = {
        name: np.mean(each.probability.argmax(axis=1) == result.predictions["y"].to_numpy())
        for name, each in baselines.items()
    }
    best = baselines[row["best_baseline"]]
    assert accuracy[row["best_baseline"]] == max(accuracy.values())
    codes = latest.select(f"probability_{name}" for name in DIRECTION.classes).to_numpy().argmax(axis=1)
    right = (codes == latest["y"].to_numpy()).astype(float)
    usual = (best.probability.argmax(axis=1) == result.predictions["y"].to_numpy()).astype(float)
    both = latest.select("session", by=pl.Series(right)).with_columns(theirs=pl.Series(usual))
    by_session = both.group_by("session").agg(pl.col("by", "theirs").sum()).sort("session")
    n = by_session.height
    draws = draw_sessions(n, block_sessions=default_block(n, label_sessions=3), seed=[1, 0])
    drawn = draws.counts @ (by_session["by"] - by_session["theirs"]).to_numpy()
    assert len(drawn) == N_RESAMPLES and 0.05 < row["probability"] < 0.95
    assert row["better_by"] == pytest.approx(right.mean() - usual.mean())
    assert row["probability"] == pytest.approx(probability_above_zero(drawn, draws))


def test_verdict_of_skill_and_of_noise(values):
    _, _, table = values
    assert table.verdict.startswith("The model beats the best baseline (mean) in rmse by ")
    assert table.verdict.endswith("with a probability of over 99 %.")
    noise = tabulated(RETURN, random_matrix(RETURN, sessions=210, skill=0.0))
    row = pooled(noise)["rmse"]
    # Better by a hair, as a coin is: not beaten.
    assert 0.0 < row["better_by"] < 1e-4 and 0.4 < row["probability"] < 0.7
    told = f"it is better by {row['better_by']:.4g}, but that it is better at all has a probability of only {row['probability']:.0%}"
    told = told.replace("%", " %")
    assert noise.verdict == f"The model is not shown to beat the best baseline (mean) in rmse: {told}."


def test_same_seed_same_table_for_any_number_of_threads(classes):
    matrix, result, table = classes
    with threadpool_limits(limits=4):
        again = tabulated(DIRECTION, matrix, result=result)
    assert_frame_equal(again.scores, table.scores, check_exact=True)
    assert_frame_equal(again.fold_metrics, table.fold_metrics, check_exact=True)
    other = tabulated(DIRECTION, matrix, result=result, seed=2)
    assert other.scores["low"].to_list() != table.scores["low"].to_list()


def test_rows_of_a_session_stay_together():
    # Every symbol of a session is right or wrong at once: 20 symbols tell no more than one.
    one, many = (agreeing(n_symbols) for n_symbols in (1, 20))
    width_of_one, width_of_many = (
        pooled(each)["accuracy"]["high"] - pooled(each)["accuracy"]["low"] for each in (one, many)
    )
    assert width_of_many == pytest.approx(width_of_one)
    assert width_of_one > 0.1


def agreeing(n_symbols: int):
    """Table of a cross-validation in which all symbols have the outcome and the prediction of the first."""
    matrix = random_matrix(DIRECTION, symbols=1, sessions=210)
    result = validated(DIRECTION, matrix)
    names = pl.DataFrame({"other": [f"S{number}" for number in range(n_symbols)]})
    matrix, predictions = (
        frame.join(names, how="cross").with_columns(symbol=pl.col("other")).drop("other").sort(*by, "symbol")
        for frame, by in ((matrix, ["ts"]), (result.predictions, ["fold", "ts"]))
    )
    folds = result.fold_metrics.select("fold")
    return tabulated(DIRECTION, matrix, result=replace(result, predictions=predictions, metrics={}, fold_metrics=folds))


def test_few_sessions_have_no_interval_and_say_so():
    splitter = PurgedWalkForward(n_splits=2, test_sessions=8)
    table = tabulated(DIRECTION, random_matrix(DIRECTION), splitter)
    row = pooled(table)["accuracy"]
    assert row["low"] is None and row["probability"] is None and row["value"] is not None
    assert "16 sessions make fewer than 8 blocks of 3" in table.notes[0]
    assert table.notes[1].startswith("Of 2 folds no intervals")
    assert table.verdict.endswith("in accuracy; too few sessions to say how sure that is.")
    assert (table.scores["low"].is_null() & table.scores["high"].is_null()).all()


def test_one_fold_has_no_deviation():
    table = tabulated(RETURN, random_matrix(RETURN, sessions=210), PurgedWalkForward(n_splits=1, test_sessions=100))
    row = pooled(table)["rmse"]
    assert row["mean"] == row["value"] and row["deviation"] is None and row["low"] is not None


def test_rows_without_a_prediction_are_left_out_for_all_predictors(values):
    matrix, result, _ = values
    is_gone = pl.col("symbol") == "S1"
    gaps = result.predictions.with_columns(prediction=pl.when(is_gone).then(float("nan")).otherwise("prediction"))
    bare = replace(result, predictions=gaps, metrics={}, fold_metrics=result.fold_metrics.select("fold"))
    table = tabulated(RETURN, matrix, result=bare)
    rest = result.predictions.filter(~is_gone)
    expected = sk.root_mean_squared_error(rest["y"], rest["prediction"])
    assert pooled(table)["rmse"]["value"] == pytest.approx(expected)
    is_kept = (result.predictions["symbol"] != "S1").to_numpy()
    mean = predict_baselines(matrix, SPLITTER.split(matrix), target=RETURN, seed=1)["mean"].value
    expected = sk.root_mean_squared_error(rest["y"], mean[is_kept])
    assert pooled(table, "mean")["rmse"]["value"] == pytest.approx(expected)


def test_sessions_of_one_symbol_have_no_rank_scores_and_say_so():
    table = tabulated(RETURN, random_matrix(RETURN, symbols=1, sessions=210))
    row = pooled(table)["information_coefficient"]
    assert row["value"] is None and row["low"] is None and row["better_by"] is None
    assert any(each.startswith("information_coefficient is undefined in fold 0, fold 1") for each in table.notes)


def test_a_fold_of_one_class_has_no_area_and_says_so(classes):
    matrix, result, _ = classes
    is_last = pl.col("fold") == 2
    same = result.predictions.with_columns(y=pl.when(is_last).then(0.0).otherwise("y"))
    bare = replace(result, predictions=same, metrics={}, fold_metrics=result.fold_metrics.select("fold"))
    table = tabulated(DIRECTION, matrix, result=bare)
    areas = table.scores.filter(predictor="model", score="auc").sort("fold", nulls_last=True)
    assert areas["value"].is_null().to_list() == [False, False, True, False]
    assert "auc is undefined in fold 2." in table.notes
    # Mean over the folds that have one.
    assert areas["mean"][3] == pytest.approx(areas["value"][:2].mean())


def test_targets_that_never_change_have_no_r2(values):
    matrix, result, _ = values
    still = replace(
        result,
        predictions=result.predictions.with_columns(y=0.0, target=0.0),
        metrics={},
        fold_metrics=result.fold_metrics.select("fold"),
    )
    found = pooled(tabulated(RETURN, matrix, result=still))
    assert found["r2"]["value"] is None and found["mape"]["value"] is None and found["rmse"]["low"] is not None


def test_paths_are_averaged_over_the_same_sessions():
    matrix, splitter = random_matrix(RETURN, sessions=210), Combinatorial()
    result = validated(RETURN, matrix, splitter)
    table = tabulated(RETURN, matrix, splitter, result=result)
    row = pooled(table)["mse"]
    # Each path scores every session once: their mean is that of all rows, and so it is of sessions drawn.
    by_session = (
        result.predictions.group_by("session")
        .agg(((pl.col("y") - pl.col("prediction")) ** 2).sum(), n=pl.len())
        .sort("session")
    )
    n = by_session.height
    draws = draw_sessions(n, block_sessions=default_block(n, label_sessions=3), seed=[1, 0])
    drawn = (draws.counts @ by_session["y"].to_numpy()) / (draws.counts @ by_session["n"].to_numpy())
    assert row["value"] == pytest.approx(result.metrics["mse"])
    low, high = np.quantile(drawn, [0.01, 0.99])
    assert low < row["low"] < row["value"] < row["high"] < high
    assert "of each of the 3 paths the same sessions" in table.notes[0]
    assert table.scores.filter(predictor="model", score="mse").height == 6 + 1


def test_rows_of_overlapping_blocks_count_once_pooled_and_in_each_fold():
    matrix, splitter = (
        random_matrix(RETURN, sessions=210),
        PurgedWalkForward(n_splits=3, test_sessions=50, step_sessions=30),
    )
    result = validated(RETURN, matrix, splitter)
    bare = replace(result, metrics={}, fold_metrics=result.fold_metrics.select("fold"))
    table = tabulated(RETURN, matrix, splitter, result=bare)
    latest = latest_predictions(result.predictions)
    assert latest.height < result.predictions.height
    for name, rows in (("all", latest), *((fold, result.predictions.filter(fold=fold)) for fold in range(3))):
        found = table.scores.filter(predictor="model", score="rmse")
        found = found.filter(pl.col("fold").is_null() if name == "all" else pl.col("fold") == name)
        expected = sk.root_mean_squared_error(rows["y"], rows["prediction"])
        assert found["value"].item() == pytest.approx(expected)


def test_quantiles_are_scored_beside_those_of_the_training_rows(values):
    matrix, result, _ = values
    rng = np.random.default_rng(0)
    guess = result.predictions["prediction"] - 0.02 + pl.Series(rng.normal(0.0, 0.001, result.predictions.height))
    with_quantile = replace(result, predictions=result.predictions.with_columns(guess.alias("quantile_0.1")))
    table = tabulated(RETURN, matrix, result=with_quantile)
    y = result.predictions["y"].to_numpy()
    row = pooled(table)["quantile_loss_0.1"]
    assert row["value"] == pytest.approx(sk.mean_pinball_loss(y, guess.to_numpy(), alpha=0.1))
    trained = np.concatenate(
        [np.full(len(test), np.quantile(matrix["y"].to_numpy()[train], 0.1)) for train, test in SPLITTER.split(matrix)]
    )
    assert row["best_baseline"] == "mean"
    assert row["better_by"] == pytest.approx(sk.mean_pinball_loss(y, trained, alpha=0.1) - row["value"])


def test_several_horizons_have_a_table_and_a_verdict_each():
    target = build_target("forward_returns", params={"horizons": (1, 5)})
    one, five = (
        random_matrix(build_target("forward_return", horizon_bars=bars), sessions=210).with_columns(
            pl.lit(bars, dtype=pl.Int32).alias(HORIZON)
        )
        for bars in (1, 5)
    )
    matrix = pl.concat([one, five]).sort("ts", "symbol", HORIZON)
    parts = [
        matrix[test].select("symbol", "session", "ts", "y", "target", HORIZON, fold=pl.lit(fold, dtype=pl.Int32),
                            trained_until=pl.lit(matrix["label_end"][train].max()), prediction=pl.col("y") / 2.0)
        for fold, (train, test) in enumerate(SPLITTER.split(matrix))
    ]  # fmt: skip
    folds = pl.DataFrame({"fold": [0, 1, 2]}, schema={"fold": pl.Int32})
    result = CrossValidation(pl.concat(parts), pl.DataFrame(), folds, {})
    table = tabulate_scores(result, matrix, splitter=SPLITTER, target=target, seed=0)
    first, second = table.verdict.split("\n")
    assert first.startswith("Horizon 1: The model beats") and second.startswith("Horizon 5: The model beats")
    assert table.scores[HORIZON].unique().sort().to_list() == [1, 5]
    for horizon in (1, 5):
        part = result.predictions.filter(pl.col(HORIZON) == horizon)
        row = table.scores.filter(pl.col("fold").is_null(), horizon=horizon, predictor="model", score="rmse")
        assert row["value"].item() == pytest.approx(sk.root_mean_squared_error(part["y"], part["prediction"]))
    assert shown_scores(table.scores).columns[0] == HORIZON


def test_label_sessions_are_those_of_nearly_all_labels():
    assert label_sessions(random_matrix(RETURN)) == 3
    matrix = random_matrix(build_target("forward_return", horizon_bars=1))
    assert label_sessions(matrix) == 1
    # One of four hundred ends half a year later: a halt.
    halted = matrix.with_columns(
        label_end=pl.when(pl.int_range(pl.len()) == 7).then(pl.col("ts") + timedelta(days=180)).otherwise("label_end")
    )
    assert label_sessions(halted) == 1
    # Labels within a session span one.
    bars = plain_bars({"A": [1.0] * 4}).with_columns(label_end=pl.col("ts"))
    assert label_sessions(bars) == 1


def test_shown_scores_hold_every_score_in_words(classes):
    shown = shown_scores(classes[2].scores)
    assert shown["score"].to_list() == list(pooled(classes[2]))
    row = shown.filter(score="information_coefficient").row(0, named=True)
    assert row["majority"] == "" and row["probability"] == "over 99 %" and " to " in row["interval of 95%"]


def test_shown_mean_over_folds_is_the_model_s_not_the_baseline_of_that_name(values):
    table = values[2]
    shown = shown_scores(table.scores).filter(score="rmse").row(0, named=True)
    of_model = table.scores.filter(pl.col("fold").is_null(), predictor="model", score="rmse").row(0, named=True)
    assert shown["mean and deviation over folds"] == f"{of_model['mean']:.4g} \u00b1 {of_model['deviation']:.4g}"
    assert shown["mean"] != f"{of_model['mean']:.4g}"
