"""Controls of `<strategy>/validation`: whether the code that made a week's predictions finds what is there, and nothing else.

Lives here: which matrix and learner the controls of a week have, what a check and people are told of them. Does not live here: the twins
and their verdict (`research.robustness.controls`).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from hf_pipelines.components.stage import StageInput
from hf_pipelines.components.stage_checks import Finding
from hf_pipelines.components.stage_run import StageRun
from hf_pipelines.components.strategy_stages.plan import StrategyPlan, learner_fields, matrix_of, single
from hf_pipelines.components.strategy_stages.tuned import plan_of_results
from hf_pipelines.research.batched_matrix import labels_of
from hf_pipelines.research.robustness import Controls, controls_in_words, run_controls
from hf_pipelines.research.robustness.controls import CANNOT_BE_JUDGED, NOT_TRUSTED
from hf_pipelines.research.splitters import SPLITTERS, build_splitter
from hf_pipelines.research.tuning.evaluation import with_features
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import PartitionStore

# Fact of the footer of `validation`.
CONTROLS = "controls"


def control_inputs(plan: StrategyPlan) -> tuple[StageInput, ...]:
    """What controls read beside the predictions."""
    return (plan.matrix_input("training_matrix"),)


def control_week(plan: StrategyPlan, inputs: Mapping[str, Loaded], key: str) -> Controls:
    """Controls of the learner that made the predictions of a week."""
    at = plan_of_results(plan, single(inputs["cv_results"], key).footer.facts)
    matrix = matrix_of(inputs["training_matrix"], key)
    if at is not plan and isinstance(matrix, pl.DataFrame):
        # A study may have left out features.
        matrix = with_features(matrix, at.base)
    return run_controls(
        matrix,
        learner=at.learner.choice,
        splitter=plan.splitter.build(),
        target=plan.target,
        weightings=plan.training.weightings,
        seed=plan.learner.seed,
        missing=plan.training.missing,
        validation_share=plan.learner.validation_share,
        times=plan.bar_times(labels_of(matrix)["session"]),
    )


def controlling_functions(plan: StrategyPlan) -> tuple[Any, ...]:
    """What controls call; for code versions."""
    return (
        run_controls,
        controls_in_words,
        with_features,
        build_splitter,
        SPLITTERS[plan.splitter.name].build,
        *plan.learner.choice.fitting_functions(),
        *plan.history_functions,
        *plan.batch_functions,
        *plan.training.weighting_functions,
    )


def control_fields(plan: StrategyPlan) -> dict[str, Any]:
    """The same of the YAML."""
    return {
        **learner_fields(plan),
        "splitter": [plan.splitter.name, dict(plan.splitter.params)],
        "weighting": plan.training.weighting_fields,
        "missing": plan.training.missing,
    }


def is_trusted(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
    """Nothing was found where nothing is, and what was planted."""
    found: Any = content.facts[CONTROLS]
    return Finding(found["verdict"] != NOT_TRUSTED, len(found["twins"]), tuple(found["reasons"]))


def is_judged(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
    """There were rows enough to say either."""
    found: Any = content.facts[CONTROLS]
    return Finding(found["verdict"] != CANNOT_BE_JUDGED, len(found["twins"]), tuple(found["reasons"]))


def verdict_of(store: PartitionStore, strategy: str, week: str) -> str | None:
    """What the controls of a stored week say: "trusted", "not trusted", "cannot be judged"; None where it has none."""
    footer = store.footer(f"{strategy}/validation", week)
    found = None if footer is None else footer.facts.get(CONTROLS)
    return str(found["verdict"]) if isinstance(found, Mapping) else None


def untrusted_weeks(store: PartitionStore, strategies: Iterable[str]) -> dict[str, str]:
    """Strategies whose newest validated week failed its controls, and that week."""
    newest = {name: max(store.partitions(f"{name}/validation"), default=None) for name in strategies}
    return {
        name: week for name, week in newest.items() if week is not None and verdict_of(store, name, week) == NOT_TRUSTED
    }
