"""`<strategy>/cv_results`: out-of-fold predictions by purged, embargoed walk-forward."""

from collections.abc import Mapping
from time import perf_counter
from typing import Any

import dagster as dg
import polars as pl

from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.display import markdown_table, parquet_bytes
from hf_pipelines.components.stage import Stage, StageInput
from hf_pipelines.components.stage_checks import Finding, StageCheck
from hf_pipelines.components.stage_run import StageRun, each_partition
from hf_pipelines.components.strategy_stages.plan import (
    REGISTRIES,
    StrategyPlan,
    learner_fields,
    learner_functions,
    single,
)
from hf_pipelines.research.cross_validation import cross_validate, latest_predictions
from hf_pipelines.research.learners import LEARNERS
from hf_pipelines.research.splitters import PurgedWalkForward
from hf_pipelines.research.targets import Target
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_store import Content

# Folds run side by side, one thread each, and so does the final fit: on a quiet machine that is as fast, on a busy
# one two threads that wait for each other were 14 times slower.
FOLDS_AT_A_TIME = 2


def cv_results(plan: StrategyPlan) -> Stage:
    """`<strategy>/cv_results`: out-of-fold predictions and fold metrics."""
    matrix = StageInput("training_matrix", plan.asset("training_matrix"), guards=("replay",))

    def compute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> tuple[Content, Mapping[str, Any]]:
        began = perf_counter()
        result = cross_validate(
            single(inputs["training_matrix"], key).frame,
            learner=plan.learner.name,
            params=plan.learner.params,
            splitter=plan.splitter,
            target=plan.target,
            weighting=plan.training.weighting,
            seed=plan.learner.seed,
            n_jobs=FOLDS_AT_A_TIME,
            missing=plan.training.missing,
        )
        metadata = {
            "fold_metrics": dg.MetadataValue.md(markdown_table(result.fold_metrics)),
            **result.metrics,
            "folds": result.fold_metrics.height,
            "fit_s": perf_counter() - began,
        }
        content = Content(
            result.predictions,
            attachments={"fold_metrics.parquet": parquet_bytes(result.fold_metrics)},
            inputs=inputs["training_matrix"].hashes([key]),
            facts={"metrics": result.metrics},
        )
        return content, metadata

    def latest_is_unique(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
        latest = latest_predictions(content.frame)
        repeated = latest.filter(pl.struct("symbol", "ts").is_duplicated())
        leaked = content.frame.filter(pl.col("trained_until") >= pl.col("ts"))
        faults = [f"{row['symbol']} {row['ts']} is predicted twice" for row in repeated.head(2).to_dicts()]
        faults += [
            f"fold {row['fold']} predicts {row['symbol']} {row['ts']} but knew labels until {row['trained_until']}"
            for row in leaked.head(3).to_dicts()
        ]
        return Finding(not faults, content.frame.height, tuple(faults))

    return Stage(
        asset=plan.asset("cv_results"),
        description=(
            "Out-of-fold predictions by purged, embargoed walk-forward over sessions: each row is predicted by a model "
            "that knew only labels that had ended before it."
        ),
        kinds=frozenset({LEARNERS[plan.learner.name].family, "parquet"}),
        partitions=plan.market.partitions.weekly,
        inputs=(matrix,),
        compute=each_partition(compute),
        is_range_run=False,
        code_version=code_version(
            cross_validate,
            PurgedWalkForward,
            Target,
            *learner_functions(plan),
            fields={
                **learner_fields(plan),
                "splitter": str(plan.splitter),
                "weighting": plan.training.weighting,
                "missing": plan.training.missing,
            },
            chosen_from=REGISTRIES,
        ),
        checks=(
            StageCheck(
                "out_of_fold",
                "Every prediction was made by a model that knew no label ending at or after it; (symbol, ts) is unique "
                "in the latest-trained folds.",
                latest_is_unique,
                is_guard=True,
            ),
        ),
    )
