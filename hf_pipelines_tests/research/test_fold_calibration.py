"""Calibration on folds: which rows it is fitted on, what it mends on later ones, and agreement with scikit-learn on the same rows."""

import numpy as np
import polars as pl
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from hf_pipelines.research.cross_validation import cross_validate, fit_final
from hf_pipelines.research.fold_calibration import (
    FoldCalibration,
    inner_walk_forward,
    out_of_fold_rows,
)
from hf_pipelines.research.fold_fits import Fold
from hf_pipelines.research.learners import Setup, choose_learner, predict_frame
from hf_pipelines.research.reliability import calibration_by_fold, folds_in_words, measure_reliability
from hf_pipelines.research.splitters import PurgedWalkForward, build_splitter
from hf_pipelines.research.targets import build_target
from hf_pipelines.research.weights import choose_weightings
from hf_pipelines_tests.research.learners.test_calibration import LogOdds, Probabilities, rows
from hf_pipelines_tests.sample_matrix import random_matrix

DIRECTION = build_target("direction", horizon_bars=3)
SPLITTER = PurgedWalkForward(n_splits=3, test_sessions=20)
each_kind = pytest.mark.parametrize("name", ["temperature", "sigmoid", "isotonic"])


def on_folds(name: str = "temperature", *, min_rows: int = 5, learner: str = "logistic", params: dict | None = None):
    calibration = {"type": name, "params": {"min_rows": min_rows, "fitted_on": "folds"}}
    return choose_learner(learner, params, calibration=calibration)


def options(**others):
    return {"splitter": SPLITTER, "target": DIRECTION, "weightings": (), "seed": 1, **others}


def planted(sharper: float, *, n_classes: int = 3, sessions: int = 600):
    """A matrix without features, four folds of it, and their predictions: drawn by honest probabilities, then made surer."""
    target = (
        DIRECTION if n_classes == 3 else build_target("direction", horizon_bars=3, params={"upper": 0.0, "lower": 0.0})
    )
    probability, y = rows(sessions * 20, n_classes, sharper=sharper)
    session = np.repeat(np.arange(sessions), 20)
    day = pl.datetime_range(pl.datetime(2015, 1, 1), pl.datetime(2019, 1, 1), "1d", time_zone="UTC", eager=True)
    ts = day.gather(session)
    matrix = pl.DataFrame(
        {
            "symbol": np.tile([f"S{each}" for each in range(20)], sessions),
            "session": ts.dt.date(),
            "ts": ts,
            "label_start": day.gather(session + 1),
            "label_end": day.gather(session + 1),
            "y": y,
            "target": y,
        }
    )
    blocks = np.array_split(np.arange(sessions), 5)
    folds = [
        Fold(at, np.flatnonzero(session < block[0] - 1), np.flatnonzero(np.isin(session, block)))
        for at, block in enumerate(blocks[1:])
    ]
    names = [f"probability_{each}" for each in target.classes]
    results = []
    for fold in folds:
        of_fold = pl.DataFrame(probability[fold.test], schema=names)
        results.append(
            matrix[fold.test]
            .select("symbol", "session", "ts", "y", "target")
            .with_columns(
                of_fold,
                fold=pl.lit(fold.number, dtype=pl.Int32),
                trained_until=matrix["label_end"][fold.train].max(),
                prediction=pl.Series(probability[fold.test] @ np.linspace(-1, 1, n_classes)),
                confidence=of_fold.max_horizontal(),
            )
        )
    return matrix, target, folds, results


def applied(name: str, sharper: float, weightings=()):
    matrix, target, folds, results = planted(sharper)
    calibration = FoldCalibration(
        on_folds(name), matrix, target, weightings, Setup("classification", classes=tuple(target.classes))
    )
    frames, reports = calibration.apply(folds, results, [None] * len(folds))
    return pl.concat(frames), reports, target


def error(frame: pl.DataFrame, prefix: str, target) -> float:
    probability = frame.select(f"{prefix}{each}" for each in target.classes).to_numpy()
    session = frame["session"].to_physical().cast(pl.Int64).to_numpy()
    return measure_reliability(probability, frame["y"].to_numpy(), session, label_sessions=1).error


@each_kind
def test_over_confidence_falls_by_seventy_percent_on_later_folds_and_honesty_does_not_rise(name):
    sure, reports, target = applied(name, 3.0, choose_weightings("class_balance"))
    later = sure.filter(pl.col("fold") > 0)
    before, after = error(later, "uncalibrated_", target), error(later, "probability_", target)
    assert before > 0.15 and after <= 0.3 * before
    assert [each["is_calibrated"] for each in reports] == [False, True, True, True]
    honest, _, target = applied(name, 1.0)
    later = honest.filter(pl.col("fold") > 0)
    found = measure_reliability(
        later.select(f"uncalibrated_{each}" for each in target.classes).to_numpy(),
        later["y"].to_numpy(),
        later["session"].to_physical().cast(pl.Int64).to_numpy(),
        label_sessions=1,
    )
    assert error(later, "probability_", target) <= found.error + found.by_chance


def test_the_first_fold_is_left_as_it_is_and_says_so():
    found, reports, target = applied("temperature", 3.0)
    first = found.filter(fold=0)
    assert first["uncalibrated_up"].null_count() == first.height
    assert reports[0]["calibration"] == "left as it is: no earlier fold predicts rows whose labels ended in time"
    metrics = pl.DataFrame({"fold": range(4), "n_calibration": [each["rows"] for each in reports]})
    table = calibration_by_fold(found, metrics, target=target, label_sessions=1)
    assert table["n_calibration"].to_list()[0] == 0 and (table["n_calibration"][1:] > 2_000).all()
    assert (table["calibration_error"][1:] < 0.3 * table["uncalibrated_calibration_error"][1:]).all()
    assert (table["log_loss"][1:] < table["uncalibrated_log_loss"][1:]).all() and table[
        "error_deviation"
    ].null_count() == 0
    assert folds_in_words(table) == "Folds 1, 2, 3 count, calibrated by earlier ones; not 0, left as they are."


@pytest.mark.parametrize("name", ["sigmoid", "isotonic"])
def test_scikit_learn_agrees_on_the_rows_of_earlier_folds(name):
    matrix, target, folds, results = planted(2.0)
    raw = pl.concat(results).filter(pl.col("fold") < 3)
    # By hand: a label that ends after the last one that the fold knew tells of the fold's time.
    known = raw.join(matrix.select("symbol", "ts", "label_end"), on=["symbol", "ts"])
    known = known.filter(pl.col("label_end") <= results[3]["trained_until"][0])
    names = [f"probability_{each}" for each in target.classes]
    probability, asked = known.select(names).to_numpy(), results[3].select(names).to_numpy()
    if name == "sigmoid":
        probability, asked = (np.log(each / (1.0 - each)) for each in (probability, asked))
    kind = LogOdds if name == "sigmoid" else Probabilities
    theirs = CalibratedClassifierCV(FrozenEstimator(kind().fit(probability, known["y"].to_numpy())), method=name)
    expected = theirs.fit(probability, known["y"].to_numpy()).predict_proba(asked)
    ours = applied(name, 2.0)[0].filter(fold=3).select(names).to_numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-3)


def test_labels_that_end_after_the_models_own_do_not_reach_it():
    matrix, target, folds, results = planted(3.0)
    calibration = FoldCalibration(
        on_folds(), matrix, target, (), Setup("classification", classes=tuple(target.classes))
    )
    plain, _ = calibration.apply(folds, results, [None] * 4)
    late = matrix["label_end"] > results[2]["trained_until"][0]
    changed = matrix.with_columns(y=pl.when(late).then(2.0 - pl.col("y")).otherwise(pl.col("y")))
    other, _ = FoldCalibration(on_folds(), changed, target, (), calibration.setup).apply(folds, results, [None] * 4)
    assert other[2].equals(plain[2]) and not other[3].equals(plain[3])


def test_rows_of_weight_zero_and_without_a_prediction_do_not_count():
    matrix = random_matrix(DIRECTION, sessions=120)
    found = cross_validate(matrix, learner=on_folds(), **options())
    final = {"learner": on_folds(), "target": DIRECTION, "seed": 1}
    plain = fit_final(matrix, out_of_fold=found.predictions, **final)
    judged = out_of_fold_rows(found.predictions, matrix, classes=DIRECTION.classes)
    # The learner is the same: it does not see the rows that only the calibration loses.
    half = pl.int_range(pl.len()) % 2 == 0
    lost = found.predictions.with_columns(
        pl.when(half).then(pl.col(name)).otherwise(float("nan"))
        for name in found.predictions.columns
        if name.startswith(("probability_", "uncalibrated_")) or name == "prediction"
    )
    fewer = fit_final(matrix, out_of_fold=lost, **final)
    assert plain.calibrator.n_rows == len(judged.row) and fewer.calibrator.n_rows == len(judged.row) // 2
    names = [name for name in matrix.columns if name.startswith("feature_")]
    asked = predict_frame(plain, matrix, features=names, classes=DIRECTION.classes)
    assert not predict_frame(fewer, matrix, features=names, classes=DIRECTION.classes).equals(asked)
    with pytest.raises(ValueError, match="`out_of_fold` must be given for a calibration that is fitted on folds"):
        fit_final(matrix, **final)


def test_cross_validation_keeps_no_rows_apart_and_counts_calibrated_folds():
    matrix = random_matrix(DIRECTION, sessions=120)
    found = cross_validate(matrix, learner=on_folds(), **options())
    plain = cross_validate(matrix, learner=choose_learner("logistic"), **options())
    names = [f"probability_{each}" for each in DIRECTION.classes]
    raw = found.predictions.select(
        pl.coalesce(f"uncalibrated_{each}", f"probability_{each}").alias(f"probability_{each}")
        for each in DIRECTION.classes
    )
    assert raw.equals(plain.predictions.select(names))
    assert found.fold_metrics["n_calibration"].to_list()[0] == 0 < found.fold_metrics["n_calibration"][1]
    assert found.predictions.filter(fold=0).select(names).equals(plain.predictions.filter(fold=0).select(names))
    assert not found.predictions.filter(fold=2).select(names).equals(plain.predictions.filter(fold=2).select(names))
    total = found.predictions.select(pl.sum_horizontal(names))
    np.testing.assert_allclose(total.to_numpy(), 1.0)
    told = found.reports["fold 2"]["calibration"]["calibration"]
    assert told["calibration"] == "fitted" and told["rows"] == found.fold_metrics["n_calibration"][2]
    few = cross_validate(matrix, learner=on_folds("isotonic", min_rows=1_000), **options())
    assert few.fold_metrics["n_calibration"].to_list() == [0, 0, 0]
    assert few.predictions.select(names).equals(plain.predictions.select(names))


def test_folds_trained_on_later_data_are_calibrated_by_an_inner_walk_forward():
    matrix = random_matrix(DIRECTION, sessions=120)
    splitter = build_splitter("purged_kfold", {"n_splits": 3})
    found = cross_validate(matrix, learner=on_folds(), **options(splitter=splitter))
    assert (found.fold_metrics["n_calibration"] > 50).all()
    # What is tested plays no part: other labels of the test rows change nothing of their own fold.
    (train, test), *_ = splitter.split(matrix)
    labels = matrix["y"].to_numpy().copy()
    labels[test] = 2.0 - labels[test]
    turned = matrix.with_columns(y=pl.Series(labels))
    names = [f"probability_{each}" for each in DIRECTION.classes]
    other = cross_validate(turned, learner=on_folds(), **options(splitter=splitter)).predictions
    assert other.filter(fold=0).select(names).equals(found.predictions.filter(fold=0).select(names))
    inner = {"learner": on_folds(), "setup": Setup("classification", seed=1, classes=tuple(DIRECTION.classes)), "target": DIRECTION,
             "validation_share": 0.2, "times": None}  # fmt: skip
    judged = inner_walk_forward(matrix, train, weight=np.ones(len(train)), **inner)
    assert found.fold_metrics["n_calibration"][0] == len(judged.row) and set(judged.row) < set(train)
    pipeline = fit_final(matrix, learner=on_folds(), target=DIRECTION, seed=1, out_of_fold=found.predictions)
    everything = inner_walk_forward(matrix, np.arange(matrix.height), weight=np.ones(matrix.height), **inner)
    assert pipeline.is_calibrated and pipeline.calibrator.n_rows == len(everything.row)


def test_it_is_for_the_outermost_learner_alone():
    member = {"type": "logistic", "calibration": {"type": "sigmoid", "params": {"fitted_on": "folds"}}}
    with pytest.raises(
        ValueError, match=r"`members.0.calibration.params.fitted_on` must be validation for a learner inside"
    ):
        choose_learner("voting", {"members": [member, "majority"]})
    ensemble = choose_learner(
        "voting", {"members": ["logistic", "majority"]}, calibration={"type": "sigmoid", "params": {"fitted_on": "folds", "min_rows": 5}}
    )  # fmt: skip
    assert not ensemble.needs_validation
    found = cross_validate(random_matrix(DIRECTION, sessions=120), learner=ensemble, **options())
    assert found.fold_metrics["n_calibration"][2] > 0
