"""`<strategy>/cv_results`: out-of-fold predictions by the folds of a splitter."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from time import perf_counter
from typing import Any

import dagster as dg
import polars as pl

from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.display import in_a_window, markdown_table, parquet_bytes
from hf_pipelines.components.modules import CHOSEN_FROM
from hf_pipelines.components.stage import Stage
from hf_pipelines.components.stage_checks import Finding, StageCheck
from hf_pipelines.components.stage_run import StageRun, each_partition
from hf_pipelines.components.strategy_stages.diagnostics import (
    diagnose_week,
    diagnosing_functions,
    diagnostics_fields,
)
from hf_pipelines.components.strategy_stages.importance import (
    examiner,
    examining_functions,
    fold_importance,
    importance_fields,
)
from hf_pipelines.components.strategy_stages.interval_display import (
    interval_fields,
    interval_results,
    interval_stage_functions,
)
from hf_pipelines.components.strategy_stages.loss_display import loss_curves
from hf_pipelines.components.strategy_stages.plan import (
    StrategyPlan,
    holdout_fields,
    learner_fields,
    matrix_of,
    single,
)
from hf_pipelines.components.strategy_stages.score_display import (
    calibration_metadata,
    reliability_metadata,
    score_metadata,
)
from hf_pipelines.components.strategy_stages.trial_records import recording_cross_validation
from hf_pipelines.components.strategy_stages.tuned import (
    BEST_BY_FOLD,
    results_plan,
    selection_in_words,
    selection_note,
    study_facts,
    study_hashes,
    tuned_facts,
    tuned_metadata,
    tuning_input,
)
from hf_pipelines.research.batched_matrix import labels_of
from hf_pipelines.research.cross_validation import CrossValidation, cross_validate
from hf_pipelines.research.fold_by_fold import folds_of, join_folds
from hf_pipelines.research.intervals import add_intervals
from hf_pipelines.research.intervals.coverage import coverage_in_words, measure_coverage
from hf_pipelines.research.learners import Progress, preprocessing_reports
from hf_pipelines.research.predictions import latest_predictions, leaked_predictions, share_trained_on_later
from hf_pipelines.research.reliability import (
    calibrated_folds,
    calibration_by_fold,
    folds_in_words,
    reliability_in_words,
    tabulate_reliability,
)
from hf_pipelines.research.score_table import label_sessions, tabulate_scores
from hf_pipelines.research.splitters import SPLITTERS, build_splitter
from hf_pipelines.research.targets import Target, neutral_value
from hf_pipelines.research.tuning.evaluation import with_features
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.settings import folds_at_a_time


def cv_results(plan: StrategyPlan) -> Stage:
    """`<strategy>/cv_results`: out-of-fold predictions and fold metrics."""
    matrix = plan.matrix_input("training_matrix")

    def compute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> tuple[Content, Mapping[str, Any]]:
        # Folds run side by side, one thread each, and so does the final fit: on a quiet machine that is as fast, on a busy
        # one two threads that wait for each other were 14 times slower.
        n_jobs = folds_at_a_time()
        began = perf_counter()
        matrix, splitter = matrix_of(inputs["training_matrix"], key), plan.splitter.build()
        train = labels_of(matrix)
        study, at = study_facts(plan, inputs, key), results_plan(plan, inputs, key)

        def validate(used: Any, **configured: Any) -> CrossValidation:
            return cross_validate(
                used,
                target=plan.target,
                weightings=plan.training.weightings,
                seed=plan.learner.seed,
                n_jobs=1 if plan.reads_in_batches else n_jobs,
                missing=plan.training.missing,
                validation_share=plan.learner.validation_share,
                times=plan.bar_times(train["session"]),
                progress=partial(_progress, run, key, inputs["training_matrix"].hashes([key])),
                **configured,
            )

        if study and at.tuning is not None:
            result = _fold_by_fold(at, matrix, study, validate)
        else:
            used = with_features(matrix, at.base) if study and isinstance(matrix, pl.DataFrame) else matrix
            result = validate(used, learner=at.learner.choice, splitter=splitter, examine=examiner(plan, used))
        fit_s = perf_counter() - began
        heading = f"{plan.name}, week {key}"
        importance, importance_shown = fold_importance(plan, result.examined, heading=heading)
        diagnosed = diagnose_week(at, run, train, result.fold_metrics, n_jobs=n_jobs)
        began_scores = perf_counter()
        intervals = interval_results(plan, result.predictions, train, heading=heading)
        table = tabulate_scores(
            replace(result, fold_metrics=diagnosed.fold_metrics),
            train,
            splitter=splitter,
            target=plan.target,
            seed=plan.learner.seed,
        )
        counted = calibrated_folds(result.fold_metrics) if plan.learner.choice.calibrates_on_folds else None
        judged = result.predictions.filter(pl.col("fold").is_in(counted)) if counted else result.predictions
        reliability = (
            tabulate_reliability(judged, target=plan.target, label_sessions=label_sessions(train))
            if plan.target.is_classification
            else None
        )
        by_fold = (
            None
            if counted is None
            else calibration_by_fold(
                result.predictions, result.fold_metrics, target=plan.target, label_sessions=label_sessions(train)
            )
        )
        metadata = {
            **score_metadata(table, plan.target, result.predictions, result.metrics, heading=heading),
            **tuned_metadata(plan, study),
            **({} if reliability is None else reliability_metadata(reliability, heading=heading)),
            **({} if by_fold is None else calibration_metadata(by_fold)),
            "fold_metrics": in_a_window(markdown_table(diagnosed.fold_metrics)),
            **intervals.metadata,
            **importance_shown,
            **diagnosed.metadata,
            **loss_curves(result.reports),
            **({"reports": dg.MetadataValue.json(result.reports)} if result.reports else {}),
            "folds": result.fold_metrics.height,
            "trained_on_later": share_trained_on_later(result.predictions),
            **result.metrics,
            "fit_s": fit_s,
            "score_s": perf_counter() - began_scores,
        }
        content = Content(
            intervals.predictions,
            attachments={
                "fold_metrics.parquet": parquet_bytes(table.fold_metrics),
                "scores.parquet": parquet_bytes(table.scores),
                **({} if reliability is None else {"reliability.parquet": parquet_bytes(reliability.groups)}),
                **({} if by_fold is None else {"calibration.parquet": parquet_bytes(by_fold)}),
                **intervals.attachments,
                **importance,
                **diagnosed.attachments,
            },
            inputs={**inputs["training_matrix"].hashes([key]), **study_hashes(plan, inputs, key)},
            facts={
                **tuned_facts(plan, study),
                "metrics": result.metrics,
                "verdict": table.verdict,
                **({} if reliability is None else {"confidence": metadata["confidence"]}),
                "label_sessions": label_sessions(train),
                "training_intervals": _as_facts(result.training_intervals),
                "trained_on_later": metadata["trained_on_later"],
                **({"reports": result.reports} if result.reports else {}),
                **intervals.facts,
                **diagnosed.facts,
            },
        )
        return content, metadata

    def is_out_of_fold(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
        train = single(inputs["training_matrix"], key).frame
        known = _read_intervals(content.facts["training_intervals"])
        faults = [
            f"fold {row['fold']} predicts {row['symbol']} {row['ts']}, label until {row['label_end']}, but was trained on rows "
            "that reach into that time"
            for row in leaked_predictions(content.frame, matrix=train, training_intervals=known).head(3).to_dicts()
        ]
        faults += _wrong_times(content.frame, known, trains_on_later=plan.splitter.trains_on_later)
        try:
            latest_predictions(content.frame)
        except ValueError as e:
            faults.append(str(e))
        return Finding(not faults, content.frame.height, tuple(faults))

    def is_outer(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
        told = selection_note(content.facts)
        return Finding(not told, content.frame.height, (told,) if told else ())

    return Stage(
        asset=plan.asset("cv_results"),
        kind="cv_results",
        description=(
            f"Out-of-fold predictions ({plan.splitter.name}: {SPLITTERS[plan.splitter.name].summary}): no row is predicted by a "
            "model trained on a row that shares an instant with it, from the bar to the label's end of both."
            + selection_in_words(plan)
        ),
        kinds=frozenset({plan.learner.choice.entry.family, "parquet"}),
        partitions=plan.weekly,
        inputs=(matrix, *tuning_input(plan)),
        compute=each_partition(recording_cross_validation(plan, compute, resolve=partial(results_plan, plan))),
        is_range_run=False,
        code_version=code_version(
            cross_validate,
            tabulate_scores,
            *([tabulate_reliability, reliability_in_words, calibrated_folds] if plan.target.is_classification else []),
            *([calibration_by_fold, folds_in_words] if plan.learner.choice.calibrates_on_folds else []),
            share_trained_on_later,
            leaked_predictions,
            build_splitter,
            SPLITTERS[plan.splitter.name].build,
            Target,
            *plan.learner.choice.fitting_functions(),
            *plan.history_functions,
            *plan.batch_functions,
            *preprocessing_reports(plan.learner.choice),
            *plan.training.weighting_functions,
            *diagnosing_functions(plan),
            *interval_stage_functions(plan, add_intervals, measure_coverage, coverage_in_words),
            *([with_features, folds_of, join_folds] if plan.tuning is not None else []),
            *examining_functions(plan),
            fields={
                **learner_fields(plan),
                "splitter": [plan.splitter.name, dict(plan.splitter.params)],
                "weighting": plan.training.weighting_fields,
                "missing": plan.training.missing,
                "neutral": neutral_value(plan.target),
                **holdout_fields(plan),
                **diagnostics_fields(plan),
                **interval_fields(plan),
                **importance_fields(plan),
            },
            chosen_from=CHOSEN_FROM,
        ),
        checks=(
            StageCheck(
                "out_of_fold",
                "No prediction was made by a model trained on a row that shares an instant with its own, from the bar to the "
                "label's end of both; of several predictions of a row one is the latest-trained, or each has its path.",
                is_out_of_fold,
                is_guard=True,
            ),
            *(
                []
                if plan.tuning is None
                else [
                    StageCheck(
                        "outer_scores",
                        "The folds that are scored did not choose the parameters: with `tuning` that is so if it is nested.",
                        is_outer,
                    )
                ]
            ),
        ),
        keeps_fits=plan.learner.choice.keeps_progress,
    )


def _fold_by_fold(
    plan: StrategyPlan, matrix: Any, study: Mapping[str, Any], validate: Callable[..., CrossValidation]
) -> CrossValidation:
    """Each fold with the configuration that its own training rows chose."""
    folds = folds_of(plan.splitter.build(), matrix)
    if len(folds) != len(study[BEST_BY_FOLD]):
        raise ValueError(
            f"`{plan.asset('tuning')}` must hold a study for each of {len(folds)} folds, had {len(study[BEST_BY_FOLD])}; make it again."
        )
    parts = []
    for fold in folds:
        at = plan.base.at(study[BEST_BY_FOLD][str(fold.number)])
        used = with_features(matrix, at)
        parts.append(validate(used, learner=at.learner, splitter=fold, examine=examiner(plan, used)))
    return join_folds(parts, folds, matrix, target=plan.target)


def _progress(run: StageRun, key: str, inputs: Mapping[str, Any], place: str) -> Progress:
    return run.progress(key, inputs=inputs, place=place)


def _as_facts(intervals: pl.DataFrame) -> list[list[object]]:
    return [[fold, start.isoformat(), end.isoformat()] for fold, start, end in intervals.rows()]


def _read_intervals(facts: Any) -> pl.DataFrame:
    rows = [(fold, datetime.fromisoformat(start), datetime.fromisoformat(end)) for fold, start, end in facts]
    time = pl.Datetime("us", "UTC")
    return pl.DataFrame(rows, schema={"fold": pl.Int32, "start": time, "end": time}, orient="row")


def _wrong_times(predictions: pl.DataFrame, known: pl.DataFrame, *, trains_on_later: bool) -> Sequence[str]:
    """What is wrong with `trained_until`: later than a walk-forward may be, or not the end of the fold's training rows."""
    faults = []
    if not trains_on_later:
        later = predictions.filter(pl.col("trained_until") >= pl.col("ts"))
        faults += [
            f"fold {row['fold']} predicts {row['symbol']} {row['ts']} but knew labels until {row['trained_until']}"
            for row in later.head(3).to_dicts()
        ]
    last = known.group_by("fold").agg(pl.col("end").max())
    noted = predictions.select("fold", "trained_until").unique().join(last, on="fold", how="left")
    differing = noted.filter(pl.col("trained_until").ne_missing(pl.col("end"))).sort("fold")
    faults += [
        f"fold {fold} says that it was trained until {noted_as}, its training rows end at {end}"
        for fold, noted_as, end in differing.head(3).rows()
    ]
    return faults
