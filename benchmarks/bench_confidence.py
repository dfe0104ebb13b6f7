"""Cost of saying how sure predictions are, against the retrain that they are part of.

A matrix as large as that of `tech_direction` on the market of the demo, its learner and its folds. In every round, so that a busy machine
slows both: a retrain (folds, scores, final fit) of it, and what calibration on folds and class sets add to it, figures too; the same of a
regression with adaptive intervals, by a ridge, whose retrain costs least. Prints CPU seconds, the least of each, and the
shares; exits 1 if those of `tech_direction` are above `MAX_SHARE`.

    python benchmarks/bench_confidence.py [rounds]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import date, timedelta

import numpy as np
import polars as pl

from hf_pipelines.research.cross_validation import CrossValidation, cross_validate, fit_final
from hf_pipelines.research.fold_calibration import FoldCalibration, calibrate_final
from hf_pipelines.research.fold_fits import Fold
from hf_pipelines.research.intervals import add_intervals, choose_intervals, serve_intervals
from hf_pipelines.research.intervals.coverage import coverage_in_words, measure_coverage
from hf_pipelines.research.intervals.plots import coverage_png
from hf_pipelines.research.learners import LearnerChoice, Setup, choose_learner
from hf_pipelines.research.reliability import calibration_by_fold, tabulate_reliability
from hf_pipelines.research.score_plots import confusion_png, reliability_png, scores_png
from hf_pipelines.research.score_table import label_sessions, tabulate_scores
from hf_pipelines.research.splitters import PurgedWalkForward
from hf_pipelines.research.targets import Target, build_target
from hf_pipelines.research.weights import choose_weightings, sample_weights

SYMBOLS, SESSIONS, FEATURES, SEED = 5, 740, 33, 7
MAX_SHARE = 0.03
TREES = {"n_estimators": 300, "max_depth": 6, "learning_rate": 0.05, "subsample": 0.8, "colsample_bytree": 0.8, "min_child_weight": 5.0}  # fmt: skip
BALANCED = choose_weightings("class_balance")
SPLITTER = PurgedWalkForward(n_splits=5, embargo_sessions=1)
DIRECTION = build_target("direction", horizon_bars=5, params={"upper": 0.01, "lower": -0.01})
RETURN = build_target("forward_return", horizon_bars=5)


def matrix_of(target: Target) -> pl.DataFrame:
    """Rows of noise features; labels of five days."""
    rng = np.random.default_rng(SEED)
    days = pl.DataFrame({"session": [date(2010, 1, 1) + timedelta(days=day) for day in range(SESSIONS)]})
    keys = days.join(pl.DataFrame({"symbol": [f"S{number}" for number in range(SYMBOLS)]}), how="cross")
    returns = rng.normal(0.0, 0.02, keys.height)
    y = np.digitize(returns, [-0.01, 0.01]).astype(np.float64) if target.is_classification else returns
    ts = pl.col("session").cast(pl.Datetime("us", "UTC"))
    matrix = keys.select(
        "symbol",
        "session",
        ts=ts,
        label_start=ts + timedelta(days=1),
        label_end=ts + timedelta(days=5),
        target=pl.Series(returns),
        y=pl.Series(y),
        **{
            f"feature_{number:02d}": pl.Series(rng.normal(size=keys.height).astype(np.float32))
            for number in range(FEATURES)
        },
    )
    weightings = BALANCED if target.is_classification else ()
    return matrix.with_columns(weight=pl.Series(sample_weights(matrix, weightings=weightings, target=target)))


def retrain(matrix: pl.DataFrame, learner: LearnerChoice, target: Target) -> CrossValidation:
    """Folds, scores with their figures, final fit."""
    weightings = BALANCED if target.is_classification else ()
    found = cross_validate(
        matrix, learner=learner, splitter=SPLITTER, target=target, weightings=weightings, seed=SEED, n_jobs=1
    )
    table = tabulate_scores(found, matrix, splitter=SPLITTER, target=target, seed=SEED)
    scores_png(table.scores)
    if target.is_classification:
        confusion_png(table.fold_metrics, classes=target.classes)
        reliability = tabulate_reliability(found.predictions, target=target, label_sessions=label_sessions(matrix))
        reliability_png(reliability.groups)
    fit_final(matrix, learner=learner, target=target, seed=SEED)
    return found


def calibrations(matrix: pl.DataFrame, found: CrossValidation) -> Callable[[], None]:
    """What a calibration on folds adds to a retrain."""
    chosen = choose_learner(
        "xgboost_classifier", TREES, calibration={"type": "sigmoid", "params": {"fitted_on": "folds"}}
    )
    setup = Setup("classification", seed=SEED, classes=tuple(DIRECTION.classes))
    folds = [Fold(number, train, test) for number, (train, test) in enumerate(SPLITTER.split(matrix))]
    results = found.predictions.partition_by("fold", maintain_order=True)
    calibration = FoldCalibration(chosen, matrix, DIRECTION, BALANCED, setup)
    pipeline = fit_final(
        matrix, learner=choose_learner("xgboost_classifier", {"n_estimators": 2}), target=DIRECTION, seed=SEED
    )
    pipeline.choice, pipeline.calibrator = chosen, chosen.calibrator.build(chosen.calibration.params, setup)

    def run() -> None:
        frames, reports = calibration.apply(folds, results, [None] * len(folds))
        metrics = pl.DataFrame({"fold": range(len(folds)), "n_calibration": [each["rows"] for each in reports]})
        calibration_by_fold(pl.concat(frames), metrics, target=DIRECTION, label_sessions=label_sessions(matrix))
        calibrate_final(pipeline, matrix, pl.concat(frames), target=DIRECTION)

    return run


def intervals(matrix: pl.DataFrame, found: CrossValidation, target: Target, method: str) -> Callable[[], None]:
    """What intervals add to a retrain."""
    shared = {"classes": target.classes, "label_sessions": label_sessions(matrix)}
    chosen = choose_intervals(method)

    def run() -> None:
        ranged = add_intervals(found.predictions, matrix, chosen, **shared)
        measured = measure_coverage(ranged, matrix, nominal=chosen.coverage, **shared)
        coverage_png(measured.groups, measured.sessions, note=coverage_in_words(measured))
        serve_intervals(ranged, matrix, chosen, **shared).save()

    return run


def main() -> None:
    """Run every part `rounds` times."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    of_classes, of_returns = matrix_of(DIRECTION), matrix_of(RETURN)
    trees, ridge = choose_learner("xgboost_classifier", TREES), choose_learner("ridge")
    classes, returns = retrain(of_classes, trees, DIRECTION), retrain(of_returns, ridge, RETURN)
    parts: dict[str, Callable[[], object]] = {
        "retrain of tech_direction": lambda: retrain(of_classes, trees, DIRECTION),
        "calibration on folds": calibrations(of_classes, classes),
        "class sets (aps)": intervals(of_classes, classes, DIRECTION, "aps"),
        "retrain of a ridge": lambda: retrain(of_returns, ridge, RETURN),
        "adaptive intervals": intervals(of_returns, returns, RETURN, "adaptive"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, run in parts.items():
            began = time.process_time()
            run()
            seconds[name].append(time.process_time() - began)
    least = {name: min(each) for name, each in seconds.items()}
    for name, each in least.items():
        print(f"{name:28s} {each:8.3f} s CPU")
    added = least["calibration on folds"] + least["class sets (aps)"]
    share = added / least["retrain of tech_direction"]
    print(f"added to tech_direction: {share:.1%} of its retrain (limit {MAX_SHARE:.0%})")
    print(f"added to a ridge: {least['adaptive intervals'] / least['retrain of a ridge']:.1%} of its retrain")
    sys.exit(share > MAX_SHARE)


if __name__ == "__main__":
    main()
