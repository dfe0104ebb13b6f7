"""Cross-validation and the final fit: what is fitted sees its fold's training rows and nothing else.

Lives here: out-of-fold predictions, their metrics, the fit on the whole matrix, importances. Not here: which
rows make a fold (`splitters`), what an estimator is (`learners`), what a metric means (`metrics`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.research.batched_matrix import BatchedMatrix, features_of, labels_of
from hf_pipelines.research.blas import one_blas_thread
from hf_pipelines.research.fan_out import side_by_side
from hf_pipelines.research.fold_calibration import (
    FoldCalibration,
    JudgedRows,
    calibrate_final,
    inner_walk_forward,
    is_trained_on_later,
)
from hf_pipelines.research.fold_fits import Fold, check_labels, fit_rows, predict_fold, training_rows
from hf_pipelines.research.learners import (
    LEARNERS,
    LearnerChoice,
    Pipeline,
    Progress,
    Setup,
    Task,
    report_fit,
)
from hf_pipelines.research.learners.fit_faults import placed
from hf_pipelines.research.learners.kept_bins import KeptBins
from hf_pipelines.research.learners.learner import NO_PROGRESS
from hf_pipelines.research.prediction_metrics import class_shares_of, pooled_metrics, prediction_metrics
from hf_pipelines.research.predictions import latest_predictions
from hf_pipelines.research.splitters.intervals import (
    label_intervals,
    training_intervals,
)
from hf_pipelines.research.splitters.past_blocks import MORE_SESSIONS
from hf_pipelines.research.splitters.splitter import Splitter, has_paths
from hf_pipelines.research.targets import HORIZON, Target
from hf_pipelines.research.validation_rows import VALIDATION_SHARE
from hf_pipelines.research.weights import WEIGHED_COLUMNS, Weightings, sample_weights

# What helps where the memory of one fold would suffice.
FEWER_AT_A_TIME = "Or fit one fold at a time: HF_FOLDS_AT_A_TIME=1."


@dataclass(frozen=True)
class CrossValidation:
    """Out-of-fold predictions of one configuration and what they are worth.

    Attributes
    ----------
    predictions : DataFrame
        Sorted by (fold, ts, symbol): `symbol`, `session`, `ts`, `fold` (Int32), `path` (Int32, where the splitter has
        paths), `trained_until` (largest `label_end` of the fold's training rows), the columns of `predict_frame`, `y`,
        `target`. A (symbol, ts) occurs once per test block that holds it.
    training_intervals : DataFrame
        `fold`, `start`, `end`: times that the training rows of each fold know about, as `training_intervals` joins them.
    fold_metrics : DataFrame
        One row per fold: `fold`, `n_train`, `n_test`, `train_start`, `train_end`, `trained_until`,
        `test_start`, `test_end` (ts of first and last rows), `n_unpredicted` if a learner could not predict some test rows
        of any fold, then the metrics.
    metrics : dict of str to float
        The same metrics over `latest_predictions`, all folds pooled; where there are paths, the mean over them.
        Classification: those of `classification_metrics`, and `baseline_log_loss` (always predicting the training shares
        of the classes: what the model has to beat). Regression: those of `regression_metrics`, and `quantile_loss_<level>` of a learner that predicts quantiles. Both:
        `information_coefficient`, of ranks, the mean over sessions; its `_ratio` and `_t`, see `coefficient_summary`;
        `linear_information_coefficient`, of the values.
        (of a calibration on folds `n_calibration`, rows that it was fitted on, 0 where it was not, stands before the metrics).
    reports : dict of str to dict
        What learners and preprocessing tell of their fits, by fold (`fold 0`); without those that tell nothing.
    examined : list
        What `examine` gave, fold by fold.
    """

    predictions: pl.DataFrame
    training_intervals: pl.DataFrame
    fold_metrics: pl.DataFrame
    metrics: dict[str, float]
    reports: dict[str, dict[str, object]] = field(default_factory=dict)
    examined: list[Any] = field(default_factory=list)


def cross_validate(
    matrix: pl.DataFrame | BatchedMatrix,
    *,
    learner: LearnerChoice,
    splitter: Splitter,
    target: Target,
    weightings: Weightings,
    seed: int,
    n_jobs: int = 1,
    missing: str = "drop",
    validation_share: float = VALIDATION_SHARE,
    progress: Callable[[str], Progress] | None = None,
    times: pl.Series | None = None,
    bins: KeptBins | None = None,
    examine: Callable[[Pipeline, Fold], Any] | None = None,
) -> CrossValidation:
    """Fit and test a learner fold by fold.

    Folds run side by side on `n_jobs` threads and each fit uses one thread, so a loaded machine slows it down
    no more than its share; of a learner whose fit is many small ones, folds come one after the other and these run side by side.
    The result is the same for any `n_jobs`.

    Parameters
    ----------
    matrix : DataFrame or BatchedMatrix
        From `build_matrix`; of one whose features are read in batches the result is the same, to the bit.
    learner : LearnerChoice
        From `choose_learner`, able to do the target's task.
    splitter : Splitter
        Yields the folds, e.g. `PurgedWalkForward`; a `PathSplitter` also the path of each test row.
    target : Target
        What the matrix was built for.
    weightings : tuple of ChosenWeighting
        Sample weights, estimated anew from each fold's training rows. The matrix's own `weight` column is not
        read: class shares over the whole matrix know the labels of the test rows.
    seed : int
        Seed of every fit.
    n_jobs : int
        Folds at a time.
    missing : {"drop", "keep"}
        As the rows of the matrix were selected.
    validation_share : float
        Share of a fold's training sessions that is kept apart for learners that need validation rows: the latest ones,
        purged from the rest, see `cut_validation`.
    progress : callable, optional
        `place -> Progress` for each fit, by `fold 0`, `fold 1`...
    times : Series of datetime, optional
        When bars should have ended, for learners of sequences: see `keyed`.
    bins : KeptBins, optional
        Where other calls with the same folds keep what boosters make of a fold's training rows; the result does not depend on it.
    examine : callable, optional
        `(fitted pipeline, fold) -> anything` after each fit; before any calibration on folds.

    Returns
    -------
    CrossValidation
        Out-of-fold predictions, one row for each test row of each fold, with the scores and the intervals of training.

    Raises
    ------
    ValueError
        If learner and target do not fit, or training rows of a fold lack a class or have one value alone; a `FitError`, which names
        the fold and the part, if a fold cannot be fitted or predicted.
    """
    rows_of_all = labels_of(matrix)
    task = _check_task(learner, target, rows_of_all)
    folds = _folds(splitter, rows_of_all)
    y = rows_of_all["y"].to_numpy()
    check_labels({fold.place: y[fold.train] for fold in folds}, target)
    rows = training_rows(matrix, times)
    labels = rows_of_all.select(name for name in WEIGHED_COLUMNS if name in rows_of_all.columns)
    n_at_a_time, n_threads = (1, n_jobs) if learner.is_divided else (n_jobs, 1)

    def run(fold: Fold) -> tuple[pl.DataFrame, dict[str, Any], JudgedRows | None, Any]:
        weight = sample_weights(labels[fold.train], weightings=weightings, target=target)
        progress_of_fold = progress(fold.place) if progress else NO_PROGRESS
        setup = Setup(
            task,
            seed=seed,
            n_threads=n_threads,
            progress=progress_of_fold,
            classes=tuple(target.classes),
            bins=bins,
        )
        with placed(fold.place, f"learner {learner.name}", when_out_of_memory=FEWER_AT_A_TIME if n_jobs > 1 else ""):
            of_fold = replace(rows.take(fold.train), weight=weight)
            pipeline = fit_rows(
                learner, of_fold, setup, place=fold.place, target=target, validation_share=validation_share
            )
            report = report_fit(pipeline, features_of(matrix))
            inner = None
            if learner.calibrates_on_folds and is_trained_on_later(rows_of_all, fold):
                inner = inner_walk_forward(
                    matrix,  # type: ignore[arg-type]  # A matrix that is read in batches takes no calibration.
                    fold.train,
                    learner=learner,
                    setup=setup,
                    target=target,
                    weight=weight,
                    validation_share=validation_share,
                    times=times,
                )
            return (
                predict_fold(pipeline, matrix, fold=fold, target=target, missing=missing, times=times),
                report,
                inner,
                None if examine is None else examine(pipeline, fold),
            )

    with one_blas_thread():
        done = list(side_by_side([partial(run, fold) for fold in folds], n_jobs=n_at_a_time))
    results, reports = [each[0] for each in done], [each[1] for each in done]
    calibrated: list[dict[str, int]] = [{}] * len(folds)
    if learner.calibrates_on_folds:
        calibration = FoldCalibration(
            learner, rows_of_all, target, weightings, Setup(task, seed=seed, classes=tuple(target.classes))
        )
        results, told = calibration.apply(folds, results, [each[2] for each in done])
        reports = [
            report | {"calibration": {**report.get("calibration", {}), "calibration": each}}
            for report, each in zip(reports, told, strict=True)
        ]
        calibrated = [{"n_calibration": each["rows"] if each["is_calibrated"] else 0} for each in told]
    unpredicted = _count_unpredicted(folds, results, learner=learner)
    predictions = pl.concat(results)
    shares = np.array([class_shares_of(y[fold.train], target) for fold in folds])
    return CrossValidation(
        predictions=predictions,
        training_intervals=_training_intervals(rows_of_all, folds),
        fold_metrics=pl.DataFrame(
            [
                {
                    **_describe(rows_of_all, fold),
                    **counted,
                    **calibrations,
                    **prediction_metrics(of_fold, target=target, class_shares=shares),
                }
                for fold, of_fold, counted, calibrations in zip(folds, results, unpredicted, calibrated, strict=True)
            ],
            schema_overrides={"fold": pl.Int32},
        ),
        metrics=pooled_metrics(latest_predictions(predictions), target=target, class_shares=shares),
        reports={fold.place: report for fold, report in zip(folds, reports, strict=True) if report},
        examined=[each[3] for each in done],
    )


def fit_final(
    matrix: pl.DataFrame | BatchedMatrix,
    *,
    learner: LearnerChoice,
    target: Target,
    seed: int,
    n_threads: int = 1,
    validation_share: float = VALIDATION_SHARE,
    progress: Progress = NO_PROGRESS,
    times: pl.Series | None = None,
    out_of_fold: pl.DataFrame | None = None,
) -> Pipeline:
    """Fit a learner on the whole training matrix with the matrix's own weights.

    Parameters
    ----------
    matrix : DataFrame or BatchedMatrix
        From `build_matrix`. The pipeline takes features in the order of `features_of(matrix)`: keep that
        list.
    learner : LearnerChoice
        As in `cross_validate`, and so are `target`, `seed`, `validation_share` and `times`.
    target : Target
    seed : int
    n_threads : int
        Threads of the fit; the result does not depend on it.
    validation_share : float
        A fraction of the training sessions.
    progress : Progress
        Where a long fit keeps its state.
    times : Series of datetime, optional
    out_of_fold : DataFrame, optional
        As `CrossValidation.predictions` of the matrix: what a calibration on folds is fitted on. Where its folds were trained on later
        data, an inner walk-forward over the matrix stands for it.

    Returns
    -------
    Pipeline
        Fitted; its `save` makes bytes of it.

    Raises
    ------
    ValueError
        As `cross_validate`.
    """
    task = _check_task(learner, target, labels_of(matrix))
    rows = training_rows(matrix, times)
    check_labels({"the matrix": rows.y}, target)
    setup = Setup(task, seed=seed, n_threads=n_threads, progress=progress, classes=tuple(target.classes))
    with placed("the matrix", f"learner {learner.name}"):
        pipeline = fit_rows(learner, rows, setup, place="the matrix", target=target, validation_share=validation_share)
        if learner.calibrates_on_folds:
            calibrate_final(
                pipeline,
                matrix,  # type: ignore[arg-type]  # A matrix that is read in batches takes no calibration.
                out_of_fold,
                learner=learner,
                setup=setup,
                target=target,
                validation_share=validation_share,
                times=times,
            )
        return pipeline


def feature_importances(pipeline: Pipeline, names: Sequence[str]) -> dict[str, float]:
    """How much a fitted pipeline uses each feature, largest first, adding up to 1 (all 0 if it uses none).

    Trees: average gain of the splits on the feature. Linear: size of the coefficient on the standardised
    feature. Both describe the fit, not skill out of sample. Empty of a learner that does not tell.

    Raises
    ------
    ValueError
        If `names` are not as many as the features fitted.
    """
    # Equal shares in alphabetical order, so that a chart does not change from run to run.
    return dict(sorted(pipeline.importances(names).items(), key=lambda item: (-item[1], item[0])))


def _folds(splitter: Splitter, matrix: pl.DataFrame) -> list[Fold]:
    folds = [Fold(number, train, test) for number, (train, test) in enumerate(splitter.split(matrix))]
    if has_paths(splitter):
        paths = list(splitter.paths(matrix))
        if [len(each) for each in paths] != [len(fold.test) for fold in folds]:
            raise ValueError(
                f"`paths` of {type(splitter).__name__} must give each test row of its folds a path, was not so; see its contract."
            )
        folds = [replace(fold, path=path) for fold, path in zip(folds, paths, strict=True)]
    empty = [str(fold.number) for fold in folds if not (len(fold.train) and len(fold.test))]
    if empty or not folds:
        raise ValueError(
            f"`split` of {type(splitter).__name__} must give each fold rows to train on and rows to test, was without in "
            f"{'every fold' if not folds else 'fold ' + ', '.join(empty[:5])}; {MORE_SESSIONS}, or ask for fewer folds."
        )
    return folds


def _training_intervals(matrix: pl.DataFrame, folds: Sequence[Fold]) -> pl.DataFrame:
    rows = label_intervals(matrix)
    found = [training_intervals(rows, fold.train, fold.test) for fold in folds]
    return pl.DataFrame(
        {
            "fold": np.repeat([fold.number for fold in folds], [len(each.start) for each in found]).astype(np.int32),
            "start": np.concatenate([each.start for each in found]),
            "end": np.concatenate([each.end for each in found]),
        }
    ).with_columns(pl.col("start", "end").cast(matrix.schema["ts"]))


def _count_unpredicted(
    folds: Sequence[Fold], results: Sequence[pl.DataFrame], *, learner: LearnerChoice
) -> list[dict[str, int]]:
    """Test rows of each fold without a prediction; nothing where each has one."""
    counts = [each.height - int(each["prediction"].is_finite().sum()) for each in results]
    if empty := [fold.place for fold, each, n in zip(folds, results, counts, strict=True) if n == each.height]:
        raise ValueError(
            f"`learner` must predict at least one test row of each fold, was {learner.name!r}, which predicted none of "
            f"{', '.join(empty[:5])}; it may need more history, or symbols that it was fitted on."
        )
    return [{"n_unpredicted": n} if any(counts) else {} for n in counts]


def _describe(matrix: pl.DataFrame, fold: Fold) -> dict[str, object]:
    train_ts, test_ts = matrix["ts"][fold.train], matrix["ts"][fold.test]
    return {
        "fold": fold.number,
        "n_train": len(fold.train),
        "n_test": len(fold.test),
        "train_start": train_ts.min(),
        "train_end": train_ts.max(),
        "trained_until": matrix["label_end"][fold.train].max(),
        "test_start": test_ts.min(),
        "test_end": test_ts.max(),
    }


def _check_task(learner: LearnerChoice, target: Target, matrix: pl.DataFrame) -> Task:
    task: Task = "classification" if target.is_classification else "regression"
    if task not in learner.tasks:
        fitting = sorted(name for name, entry in LEARNERS.items() if task in entry.tasks)
        raise ValueError(
            f"`learner` must be for {task} with target {target.name!r}, was {learner.name!r}; use {fitting}."
        )
    learner.require_target(target)
    labelled = matrix[HORIZON].unique().sort().to_list() if HORIZON in matrix.columns else []
    if lacking := sorted(set(labelled) - set(learner.horizons(task))):
        raise ValueError(
            f"`learner` must predict every horizon of target {target.name!r}, was {learner.name!r} without {lacking[:5]}; take one "
            "with the output horizons and the same `horizons`."
        )
    return task
