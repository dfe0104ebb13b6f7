"""`<strategy>/fitted_model`: the model that serves a week, its card, and its run in the experiment tracker."""

from collections.abc import Mapping
from functools import partial
from time import perf_counter
from typing import Any

import dagster as dg
import polars as pl

from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.display import SCORES_HEADLINE, in_words, numeric
from hf_pipelines.components.modules import CHOSEN_FROM
from hf_pipelines.components.stage import Stage, StageInput
from hf_pipelines.components.stage_checks import Finding, StageCheck
from hf_pipelines.components.stage_run import StageRun, each_partition
from hf_pipelines.components.strategy_stages.importance import COMPARING, importances_metadata, week_importance
from hf_pipelines.components.strategy_stages.interval_display import (
    SERVED_NAME,
    interval_fields,
    interval_stage_functions,
    served_intervals,
)
from hf_pipelines.components.strategy_stages.loss_display import loss_curves
from hf_pipelines.components.strategy_stages.model_tracking import track_model
from hf_pipelines.components.strategy_stages.plan import (
    StrategyPlan,
    holdout_fields,
    learner_fields,
    matrix_of,
    single,
)
from hf_pipelines.components.strategy_stages.serving import FITTED_WITH, fitted_with
from hf_pipelines.components.strategy_stages.trial_records import settings_of
from hf_pipelines.components.strategy_stages.tuned import (
    BEST,
    SELECTED,
    STUDY,
    TUNED,
    model_plan,
    point_in_words,
    study_facts,
    study_hashes,
    tuning_input,
)
from hf_pipelines.research.batched_matrix import features_of, labels_of
from hf_pipelines.research.cross_validation import feature_importances, fit_final
from hf_pipelines.research.intervals import ServedIntervals, serve_intervals
from hf_pipelines.research.learners import (
    LearnerChoice,
    Pipeline,
    Setup,
    build_pipeline,
    choose_learner,
    preprocessing_reports,
    report_fit,
)
from hf_pipelines.research.learners.choice import PartChoice
from hf_pipelines.research.learners.learner import LoggedProgress
from hf_pipelines.research.score_table import label_sessions
from hf_pipelines.research.targets import Target
from hf_pipelines.research.tuning.evaluation import with_features
from hf_pipelines.resources.footer import FITTED_MODEL
from hf_pipelines.resources.holdout import FINAL_REFIT_TAG
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content, Stored
from hf_pipelines.resources.settings import folds_at_a_time


def fitted_model(plan: StrategyPlan) -> Stage:
    """`<strategy>/fitted_model`: the model of a week, in its library's own format, with its card."""
    partitions = plan.market.partitions
    matrix = plan.matrix_input("training_matrix")
    cross_validation = StageInput("cv_results", plan.asset("cv_results"), guards=("out_of_fold",))
    # Read where its hold-out is open alone: in a final refit.
    refit = plan.matrix_input("refit_matrix", is_optional=True, fails_alone=True)
    reported = preprocessing_reports(plan.learner.choice)

    def compute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> tuple[Content, Mapping[str, Any]]:
        began = perf_counter()
        final_refit = run.final_refit if plan.holdout is not None else None
        rows = inputs["training_matrix" if final_refit is None else "refit_matrix"]
        at, train = model_plan(plan, inputs, key), matrix_of(rows, key)
        learner = at.learner.choice
        if plan.tuning is not None and isinstance(train, pl.DataFrame):
            train = with_features(train, at.base)
        labels = labels_of(train)
        out_of_fold = single(inputs["cv_results"], key).frame
        pipeline = fit_final(
            train,
            learner=learner,
            target=plan.target,
            seed=plan.learner.seed,
            n_threads=folds_at_a_time() if learner.is_divided else 1,
            validation_share=plan.learner.validation_share,
            times=plan.bar_times(labels["session"]),
            progress=run.progress(key, inputs=rows.hashes([key])),
            out_of_fold=out_of_fold if learner.calibrates_on_folds else None,
        )
        names = features_of(train)
        importances = feature_importances(pipeline, names)
        report = report_fit(pipeline, names)
        facts = single(inputs["cv_results"], key).footer.facts
        # By the matrix that cross-validation read: a final refit has another one.
        served = served_intervals(plan, out_of_fold, labels_of(matrix_of(inputs["training_matrix"], key)))
        card = pl.DataFrame(
            {
                "strategy": [plan.name],
                "week": [key],
                "learner": [learner.name],
                "as_of": [partitions.week_begin(key)],
                "created_at": [run.now],
                "trained_until": [labels["label_end"].max()],
                "n_rows": [labels.height],
                "features": [",".join(names)],
                "classes": [",".join(plan.target.classes)],
            },
            schema_overrides={name: pl.Datetime("us", "UTC") for name in ("as_of", "created_at", "trained_until")},
        )
        content = Content(
            card,
            attachments={
                model_name(pipeline): pipeline.save(),
                **({} if served is None else {SERVED_NAME: served.save()}),
            },
            inputs={**rows.hashes([key]), **inputs["cv_results"].hashes([key]), **study_hashes(plan, inputs, key)},
            facts={
                # What the model is built of anew where it is loaded.
                "learner": learner.settings(),
                "params": learner.settings()["params"],
                FITTED_WITH: fitted_with(settings_of(plan)),
                "metrics": facts["metrics"],
                **{name: facts[name] for name in (STUDY, SELECTED) if name in facts},
                **({} if plan.tuning is None else {TUNED: study_facts(plan, inputs, key)[BEST]}),
                # Of a walk-forward 0; absent in results stored before there were other splitters.
                "trained_on_later": facts.get("trained_on_later", 0.0),
                "importances": importances,
                "mlflow_run_id": run.tracked.get(key, ""),
                **({"report": report} if report else {}),
                **({} if served is None else {"intervals": served.report()}),
                **({} if final_refit is None else {"final_refit": final_refit}),
                **({"overrides": dict(plan.overrides)} if plan.overrides else {}),
            },
        )
        shown = _model_metadata(content, report, seconds=perf_counter() - began)
        drawn = importances_metadata(plan, run.store, key, importances)
        headline = {"headline": shown.pop("headline")}
        return content, {**headline, **drawn, **shown, **week_importance(plan, run.store, key, importances)}

    version = code_version(
        fit_final,
        feature_importances,
        features_of,
        report_fit,
        Target,
        LearnerChoice,
        LoggedProgress,
        PartChoice,
        *COMPARING,
        *plan.learner.choice.fitting_functions(),
        *([with_features] if plan.tuning is not None else []),
        *plan.history_functions,
        *plan.batch_functions,
        *reported,
        *interval_stage_functions(plan, serve_intervals, ServedIntervals, label_sessions),
        fields={
            **interval_fields(plan),
            **learner_fields(plan),
            "timezone": plan.market.partitions.timezone,
            **holdout_fields(plan),
        },
        chosen_from=CHOSEN_FROM,
    )

    return Stage(
        asset=plan.asset("fitted_model"),
        kind=FITTED_MODEL,
        description=(
            "The model that serves the week, fitted on the whole training matrix. The Parquet row is its card; the "
            "native artifact is attached and its sha256 checked before it is parsed."
            f"{'' if plan.holdout is None else f' A final refit (run tag {FINAL_REFIT_TAG}) is fitted on refit_matrix.'}"
        ),
        kinds=frozenset({plan.learner.choice.entry.family, "mlflow"}),
        partitions=plan.weekly,
        inputs=(matrix, cross_validation, *tuning_input(plan), *([] if plan.holdout is None else [refit])),
        compute=each_partition(compute),
        is_range_run=False,
        code_version=version,
        checks=(trained_before_week(),),
        track=partial(track_model, plan, version),
        keeps_fits=plan.learner.choice.keeps_progress,
        reads_holdout="final_refit",
    )


def trained_before_week() -> StageCheck:
    """The guard of every model: nothing that it learned from lies in the week that it serves."""
    told = "Every label the model learned from ended before the week it serves."
    return StageCheck("trained_before_week", told, _serves_its_week, is_guard=True)


def _serves_its_week(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
    row = content.frame.row(0, named=True)
    is_past = row["trained_until"] < row["as_of"]
    fault = () if is_past else (f"trained until {row['trained_until']}, serves from {row['as_of']}",)
    return Finding(is_past, 1, fault)


def model_name(pipeline: Pipeline) -> str:
    """Name of a model's artifact among the attachments."""
    return f"model.{pipeline.extension}"


def _artifact_name(content: Content) -> str:
    (name,) = (each for each in content.attachments if each != SERVED_NAME)
    return name


def load_model(models: Loaded, model: Stored) -> Pipeline:
    """The pipeline of a stored week, built of what its footer says that it was fitted with.

    Raises
    ------
    ValueError
        If its artifact is not what the footer says, or of a learner that is not registered any more.
    """
    row, facts = model.frame.row(0, named=True), model.footer.facts
    # Models of before a learner had parts tell its name and its parameters apart.
    settings: Any = facts.get("learner") or {"type": row["learner"], "params": facts["params"]}
    choice = choose_learner(
        settings["type"],
        settings["params"],
        preprocessing=settings.get("preprocessing", ()),
        calibration=settings.get("calibration"),
    )
    pipeline = build_pipeline(choice, Setup("classification" if row["classes"] else "regression"))
    return pipeline.load(models.attachment(model.footer.partition, model_name(pipeline)))


def _model_metadata(content: Content, report: Mapping[str, Any], *, seconds: float) -> dict[str, Any]:
    row = content.frame.row(0, named=True)
    facts: Mapping[str, Any] = content.facts
    artifact = content.attachments[_artifact_name(content)]
    return {
        "headline": in_words(facts["metrics"], SCORES_HEADLINE),
        **({"preprocessing": dg.MetadataValue.json(columns)} if (columns := report.get("preprocessing")) else {}),
        **({"tuned_to": point_in_words(point)} if isinstance(point := content.facts.get(TUNED), dict) else {}),
        **({"trained_on_later": share} if (share := content.facts["trained_on_later"]) else {}),
        **({"final_refit": name} if (name := content.facts.get("final_refit")) else {}),
        **({"intervals": dg.MetadataValue.json(facts["intervals"])} if "intervals" in facts else {}),
        **loss_curves({"the model": report}),
        "train_rows": row["n_rows"],
        "fit_s": seconds,
        "artifact_kb": len(artifact) / 1024,
        "as_of": dg.MetadataValue.timestamp(row["as_of"]),
        "trained_until": dg.MetadataValue.timestamp(row["trained_until"]),
        **numeric(facts["metrics"]),
        "mlflow_run_id": content.facts["mlflow_run_id"],
    }
