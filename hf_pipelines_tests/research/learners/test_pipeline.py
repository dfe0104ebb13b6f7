"""Pipelines of awkward learners: by symbol, over earlier rows, with validation rows, inside of one another."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import r2_score
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from hf_pipelines.research.cross_validation import cross_validate, fit_final
from hf_pipelines.research.learners import (
    LEARNERS,
    PREPROCESSING,
    LearnerChoice,
    Rows,
    Setup,
    TrainingRows,
    build_pipeline,
    choose_learner,
    keyed,
    predict_frame,
    skops_bytes,
)
from hf_pipelines.research.learners.archive import pack, unpack
from hf_pipelines.research.learners.fit_faults import FitError
from hf_pipelines.research.matrix import feature_names
from hf_pipelines.research.splitters import PurgedWalkForward
from hf_pipelines.research.targets import build_target
from hf_pipelines_tests import desk_entries
from hf_pipelines_tests.sample_matrix import plain_bars, random_matrix

RETURN = build_target("forward_return", horizon_bars=3)
DIRECTION = build_target("direction", horizon_bars=3)
SPLITTER = PurgedWalkForward(n_splits=2, test_sessions=12, embargo_sessions=1)


@pytest.fixture(autouse=True)
def desk(monkeypatch):
    for name, entry in desk_entries.LEARNERS.items():
        monkeypatch.setitem(LEARNERS, name, entry)
    for name, step in desk_entries.PREPROCESSING.items():
        monkeypatch.setitem(PREPROCESSING, name, step)


def validate(matrix: pl.DataFrame, learner: LearnerChoice, target=RETURN):
    return cross_validate(matrix, learner=learner, splitter=SPLITTER, target=target, weightings=(), seed=1)


def rows_of(matrix: pl.DataFrame) -> TrainingRows:
    names = feature_names(matrix)
    X = np.ascontiguousarray(matrix.select(names).to_numpy())
    y, weight = matrix["y"].to_numpy(), matrix["weight"].to_numpy()
    return TrainingRows(keyed(matrix, "label_start", "label_end"), X, tuple(names), y=y, weight=weight)


def test_a_learner_that_reads_the_symbol_predicts_the_mean_of_its_training_labels():
    matrix = random_matrix(RETURN)
    predicted = validate(matrix, choose_learner("symbol_mean")).predictions
    for fold, (train, _) in enumerate(SPLITTER.split(matrix)):
        means = dict(matrix[train].group_by("symbol").agg(pl.col("y").mean()).iter_rows())
        of_fold = predicted.filter(fold=fold)
        np.testing.assert_allclose(of_fold["prediction"], [means[each] for each in of_fold["symbol"]], rtol=1e-12)
    pipeline = fit_final(matrix, learner=choose_learner("symbol_mean"), target=RETURN, seed=1)
    stranger = matrix.head(1).with_columns(symbol=pl.lit("NEW"))
    shown = predict_frame(pipeline, stranger, features=feature_names(matrix), classes=())
    assert shown["prediction"].is_nan().all() and shown["confidence"].is_nan().all()


def test_a_learner_of_sequences_reads_the_bars_before_a_test_block_and_no_more_than_it_says():
    matrix, choice = random_matrix(RETURN), choose_learner("trailing_mean", {"bars": 4})
    assert choice.history_bars == 4
    predicted = validate(matrix, choice).predictions
    # By hand: five rows of the symbol, the first of a test block with four of the rows before it.
    by_symbol = matrix.sort("symbol", "ts").with_columns(
        expected=pl.col("feature_0").cast(pl.Float64).rolling_mean(5).over("symbol")
    )
    shown = predicted.join(by_symbol.select("symbol", "ts", "expected"), on=["symbol", "ts"], how="left")
    for fold in range(2):
        of_fold = shown.filter(fold=fold)
        slope = of_fold["prediction"] / of_fold["expected"]
        assert slope.std() / abs(slope.mean()) < 1e-5
    # More history changes no bit, less makes it unknown; a row that is missing is a gap.
    pipeline = build_pipeline(choice, Setup("regression")).fit(rows_of(matrix))
    ask = {"features": feature_names(matrix), "classes": ()}
    last = matrix.filter(pl.col("ts") == matrix["ts"].max())
    tails = {n: matrix.filter(pl.col("ts").rank("dense", descending=True) <= n) for n in (4, 5, 9)}
    answers = {
        n: predict_frame(pipeline, tail, wanted=(tail["ts"] == matrix["ts"].max()).to_numpy(), **ask)["prediction"]
        for n, tail in tails.items()
    }
    assert answers[5].to_list() == answers[9].to_list() and answers[5].is_finite().all()
    assert answers[4].is_nan().all() and len(answers[4]) == last.height
    holey = tails[9].filter(~((pl.col("symbol") == "S1") & (pl.col("ts") == tails[4]["ts"].min())))
    found = predict_frame(pipeline, holey, wanted=(holey["ts"] == matrix["ts"].max()).to_numpy(), **ask)
    assert found.filter(pl.col("prediction").is_nan())["symbol"].to_list() == ["S1"]


def test_rows_that_a_learner_cannot_predict_are_counted_and_not_scored():
    matrix = random_matrix(RETURN)
    # A symbol that is listed in the last test block: its first four bars have too little history.
    listed = matrix["session"].unique().sort()[-6]
    matrix = matrix.filter((pl.col("symbol") != "S2") | (pl.col("session") >= listed))
    result = validate(matrix, choose_learner("trailing_mean", {"bars": 4}))
    assert result.fold_metrics["n_unpredicted"].to_list() == [0, 4]
    known = result.predictions.filter(pl.col("prediction").is_finite())
    assert result.predictions.height - known.height == 4
    assert result.metrics["r2"] == pytest.approx(r2_score(known["y"], known["prediction"]))
    assert "n_unpredicted" not in validate(matrix, choose_learner("ridge")).fold_metrics.columns
    with pytest.raises(
        ValueError, match="`learner` must predict at least one test row of each fold, .* none of fold 0"
    ):
        validate(matrix, choose_learner("trailing_mean", {"bars": 60}))


def test_validation_rows_are_the_latest_of_the_fold_and_their_learner_reports():
    matrix = random_matrix(RETURN)
    seen: dict[str, list[int]] = {}

    class Progress:
        def __init__(self, place: str) -> None:
            self.steps = seen.setdefault(place, [])

        def restore(self, fit: str) -> bytes | None:
            return None

        def keep(self, fit: str, state: bytes) -> None: ...

        def log(self, step: int, values: dict[str, float]) -> None:
            self.steps.append(step)

    result = cross_validate(
        matrix,
        learner=choose_learner("stopped"),
        splitter=SPLITTER,
        target=RETURN,
        weightings=(),
        seed=1,
        progress=Progress,
    )
    assert sorted(result.reports) == ["fold 0", "fold 1"] == sorted(seen)
    for fold, (train, _) in enumerate(SPLITTER.split(matrix)):
        told, held = result.reports[f"fold {fold}"], matrix[train]
        assert told["known_until"] < told["judged_from"]
        sessions = held["session"].unique().sort()
        later = held.filter(pl.col("session") >= sessions[-round(0.2 * len(sessions))])
        assert told["judged"] == later.height and str(later["ts"].min()) == told["judged_from"]
        # Labels of three bars: as many sessions are purged.
        assert told["rows"] == held.height - later.height - 3 * 4
        assert seen[f"fold {fold}"][0] == 0


def test_preprocessing_is_fitted_on_the_training_rows_of_the_fold_alone():
    matrix = random_matrix(RETURN)
    choice = choose_learner("nearest_neighbours", {"n_neighbors": 5}, preprocessing=["standard_scaling"])
    predicted = validate(matrix, choice).predictions
    X, y = rows_of(matrix).X, matrix["y"].to_numpy()
    for fold, (train, test) in enumerate(SPLITTER.split(matrix)):
        scaler = StandardScaler().fit(X[train])
        own = build_pipeline(choose_learner("nearest_neighbours", {"n_neighbors": 5}), Setup("regression")).estimator
        expected = own.fit(scaler.transform(X[train]), y[train]).predict(scaler.transform(X[test]))
        np.testing.assert_allclose(predicted.filter(fold=fold)["prediction"], expected, rtol=1e-6)
    # Without validation rows the state is that of all rows, with them that of the earlier ones.
    rows = rows_of(matrix)
    held = fit_final(
        matrix, learner=choose_learner("stopped", preprocessing=["standard_scaling"]), target=RETURN, seed=1
    )
    assert held.steps[0].n_samples_seen_ == held.estimator.found["rows"] < len(rows)


def test_a_step_that_reads_the_time_ranks_within_each_session_and_its_columns_go_on():
    matrix = random_matrix(RETURN)
    choice = choose_learner("ridge", preprocessing=["session_rank", "standard_scaling"])
    pipeline = fit_final(matrix, learner=choice, target=RETURN, seed=1)
    # Four symbols a session: ranks 1 to 4 are -0.75, -0.25, 0.25 and 0.75, of mean 0 and variance 0.3125.
    np.testing.assert_allclose(pipeline.steps[1].mean_, 0.0, atol=1e-7)
    np.testing.assert_allclose(pipeline.steps[1].var_, 0.3125, rtol=1e-6)
    squeezed = matrix.with_columns(pl.col(feature_names(matrix)) ** 3)
    ask = {"features": feature_names(matrix), "classes": ()}
    assert predict_frame(pipeline, squeezed, **ask).equals(predict_frame(pipeline, matrix, **ask))


def test_a_vote_is_the_weighted_mean_of_its_members_each_with_its_own_preprocessing():
    matrix = random_matrix(RETURN)
    inner = [{"type": "ridge", "params": {"alpha": 10.0}}, "symbol_mean"]
    other = {"type": "nearest_neighbours", "params": {"n_neighbors": 9}, "preprocessing": ["standard_scaling"]}
    vote = choose_learner(
        "voting", {"members": [{"type": "voting", "params": {"members": inner}}, other], "weights": [3.0, 1.0]}
    )
    found = validate(matrix, vote).predictions["prediction"].to_numpy()
    alone = [
        validate(matrix, choose_learner("ridge", {"alpha": 10.0})).predictions["prediction"].to_numpy(),
        validate(matrix, choose_learner("symbol_mean")).predictions["prediction"].to_numpy(),
        validate(matrix, choose_learner("nearest_neighbours", {"n_neighbors": 9}, preprocessing=["standard_scaling"]))
        .predictions["prediction"]
        .to_numpy(),
    ]
    np.testing.assert_allclose(found, 0.375 * alone[0] + 0.375 * alone[1] + 0.25 * alone[2], rtol=1e-6, atol=1e-12)
    pipeline = fit_final(matrix, learner=vote, target=RETURN, seed=1)
    again = build_pipeline(vote, Setup("regression")).load(pipeline.save())
    ask = {"features": feature_names(matrix), "classes": ()}
    assert predict_frame(again, matrix, **ask).equals(predict_frame(pipeline, matrix, **ask))
    assert again.save() == pipeline.save()
    with pytest.raises(ValueError, match="must hold the files .*'member_2.skops'.* a model of another learner"):
        third = choose_learner("voting", {"members": [vote_of(vote), other, "ridge"]})
        build_pipeline(third, Setup("regression")).load(pipeline.save())


def test_every_part_of_a_stored_model_loads_by_its_own_list_of_types():
    matrix = random_matrix(RETURN)
    near = {"type": "nearest_neighbours", "params": {"n_neighbors": 5}}
    vote = choose_learner("voting", {"members": ["ridge", near]}, preprocessing=["standard_scaling"])
    saved = fit_final(matrix, learner=vote, target=RETURN, seed=1).save()
    parts = unpack(saved, ["learner.zip", "preprocessing_0.skops"])
    members = unpack(parts["learner.zip"], ["member_0.skops", "member_1.skops"])

    def load(parts: dict[str, bytes], members: dict[str, bytes]) -> None:
        build_pipeline(vote, Setup("regression")).load(pack({**parts, "learner.zip": pack(members)}))

    load(parts, members)
    calls_code = skops_bytes.dump(FunctionTransformer(np.exp))
    for foreign, told in ((calls_code, "FunctionTransformer"), (members["member_1.skops"], "KNeighborsRegressor")):
        with pytest.raises(ValueError, match=f"must hold trusted types only, was found to hold .*{told}"):
            load(parts, {**members, "member_0.skops": foreign})
        with pytest.raises(ValueError, match=f"must hold trusted types only, was found to hold .*{told}"):
            load({**parts, "preprocessing_0.skops": foreign}, members)


def vote_of(choice: LearnerChoice) -> dict:
    return choice.settings()["params"]["members"][0]


def test_what_a_vote_can_do_is_what_all_its_members_can_do():
    def members(*names: str) -> LearnerChoice:
        return choose_learner("voting", {"members": list(names)})

    assert members("ridge", "xgboost").tasks == {"regression"}
    assert members("xgboost", "xgboost_classifier").tasks == {"classification"}
    assert members("ridge", "xgboost_classifier").tasks == set()
    assert members("xgboost", "xgboost").handles_missing and not members("xgboost", "ridge").handles_missing
    assert members("ridge", "stopped").needs_validation and not members("ridge", "xgboost").needs_validation
    assert members("ridge", "trailing_mean").history_bars == 3
    assert not members("ridge", "nearest_neighbours").takes_weights
    assert choose_learner("xgboost", calibration="temperature").tasks == {"classification"}


def test_quantiles_and_horizons_have_a_column_each():
    matrix, choice = random_matrix(RETURN), choose_learner("spread", {"quantiles": [0.25, 0.5]})
    pipeline = build_pipeline(choice, Setup("regression")).fit(rows_of(matrix))
    shown = predict_frame(pipeline, matrix, features=feature_names(matrix), classes=())
    added = ["prediction", "confidence", "quantile_0.25", "quantile_0.5", "prediction_1", "prediction_5"]
    assert shown.columns[3:] == added == [*choice.prediction_columns(())]
    row = shown.row(0, named=True)
    assert (row["prediction"], row["prediction_1"], row["prediction_5"]) == (1.0, 1.0, 2.0)
    assert row["quantile_0.5"] == pytest.approx(float(np.median(matrix["y"])))
    # Labels of two horizons: each row is predicted for its own, and a learner of one is refused.
    two = pl.concat([matrix.with_columns(horizon=pl.lit(each)) for each in (1, 5)]).sort("ts", "symbol", "horizon")
    of_both = validate(two, choose_learner("spread")).predictions
    assert of_both.select((pl.col("prediction") == pl.when(horizon=5).then(2.0).otherwise(1.0)).all()).item()
    # All of a horizon are as large as each other, and the larger ones of the other horizon are not looked at.
    assert (
        of_both["confidence"].unique().to_list()
        == validate(matrix, choose_learner("spread")).predictions["confidence"].unique().to_list()
    )
    for learner, lacking in (
        (choose_learner("ridge"), r"\[1, 5\]"),
        (choose_learner("spread", {"horizons": [1, 9]}), r"\[5\]"),
    ):
        with pytest.raises(ValueError, match=f"`learner` must predict every horizon .*, was .* without {lacking}"):
            validate(two, learner)


def test_the_temperature_agrees_with_scikit_learns_and_is_fitted_on_rows_that_the_learner_never_saw():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(1200, 4)).astype(np.float32)
    y = np.digitize(X[:, 0] + rng.normal(scale=2.0, size=1200), [-1.0, 1.0]).astype(float)
    bars = plain_bars({"A": [1.0] * 1200}).with_columns(label_start="ts", label_end="ts")
    rows = TrainingRows(keyed(bars, "label_start", "label_end"), X, tuple("abcd"), y=y, weight=np.ones(1200))
    numbers = np.arange(1200)
    # Deep trees on noise are far too sure.
    choice = choose_learner(
        "xgboost", {"n_estimators": 60, "max_depth": 8, "min_child_weight": 0.0}, calibration="temperature"
    )
    pipeline = build_pipeline(choice, Setup("classification", seed=1))
    pipeline.fit(rows.take(numbers[:700]), rows.take(numbers[700:1000]))
    assert pipeline.calibrator.temperature > 1.2
    theirs = CalibratedClassifierCV(FrozenEstimator(pipeline.estimator), method="temperature").fit(
        X[700:1000], y[700:1000]
    )
    asked = Rows(rows.keys[1000:], X[1000:], rows.names)
    ours = pipeline.predict(asked).probability
    np.testing.assert_allclose(ours, theirs.predict_proba(X[1000:]), atol=2e-3)

    def loss(probability: np.ndarray) -> float:
        return float(-np.log(probability[np.arange(200), y[1000:].astype(int)]).mean())

    assert loss(ours) < loss(pipeline.estimator.predict_proba(X[1000:]))
    with pytest.raises(ValueError, match="`validation` must be given for a learner with a calibration"):
        build_pipeline(choice, Setup("classification")).fit(rows)


def test_a_calibrated_strategy_is_validated_on_rows_that_neither_learner_nor_calibration_saw():
    matrix = random_matrix(DIRECTION)
    choice = choose_learner("xgboost", {"n_estimators": 15}, calibration="temperature")
    whole = validate(matrix, choice, DIRECTION)
    for fold, (_, test) in enumerate(SPLITTER.split(matrix)):
        y = matrix["y"].to_numpy().copy()
        y[test] = 2.0 - y[test]
        again = validate(matrix.with_columns(y=pl.Series(y)), choice, DIRECTION).predictions.filter(fold=fold)
        assert again.drop("y").equals(whole.predictions.filter(fold=fold).drop("y"))


def test_a_vote_hands_validation_rows_to_the_member_that_needs_them():
    matrix = random_matrix(RETURN)
    vote = choose_learner("voting", {"members": ["ridge", "stopped"]})
    pipeline = fit_final(matrix, learner=vote, target=RETURN, seed=1)
    assert pipeline.estimator.members[1].report()["judged"] > 0
    rows = rows_of(matrix)
    silent = replace(rows, weight=np.ones(len(rows)))
    with pytest.raises(FitError, match=r"members.1 \(stopped\): AssertionError"):
        build_pipeline(vote, Setup("regression")).fit(silent)
