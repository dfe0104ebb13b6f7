"""Tuned strategies: the strategy as a study has set it, for the stages after it.

Lives here: which point a week is made with, and saying that a result was selected. Does not live here: the study (`tuning`).
"""

from collections.abc import Mapping
from typing import Any

from hf_pipelines.components.stage import StageInput
from hf_pipelines.components.strategy_stages.plan import StrategyPlan, single
from hf_pipelines.resources.parquet_io_manager import Loaded

# Facts in footers.
STUDY, BEST, BEST_BY_FOLD, VALUES = "study", "best", "best_by_fold", "values"
TUNED, TUNED_BY_FOLD, SELECTED, TRIALS = "tuned", "tuned_by_fold", "selected", "trials_tuned"

NOT_OUT_OF_SAMPLE = (
    "Selected, not out of sample: these folds chose the best of {n} trials, and their scores flatter it. No gate may use them; for "
    "outer scores write tuning: {{nested: true}}"
)
OUTER = "Outer scores: each fold was predicted with the best of {n} trials on its own training rows"


def tuning_input(plan: StrategyPlan) -> tuple[StageInput, ...]:
    """The study of the same week, for a strategy that has one."""
    return () if plan.tuning is None else (StageInput("tuning", plan.asset("tuning")),)


def study_hashes(plan: StrategyPlan, inputs: Mapping[str, Loaded], key: str) -> dict[str, Mapping[str, str]]:
    """The study among the inputs of what takes its best."""
    return {} if plan.tuning is None else dict(inputs["tuning"].hashes([key]))


def study_facts(plan: StrategyPlan, inputs: Mapping[str, Loaded], key: str) -> Mapping[str, Any]:
    """What the study of a week has found; empty of a strategy without one."""
    return {} if plan.tuning is None else single(inputs["tuning"], key).footer.facts


def model_plan(plan: StrategyPlan, inputs: Mapping[str, Loaded], key: str) -> StrategyPlan:
    """The strategy that a week's model is made by."""
    return plan if plan.tuning is None else plan.tuned(study_facts(plan, inputs, key)[BEST])


def results_plan(plan: StrategyPlan, inputs: Mapping[str, Loaded], key: str) -> StrategyPlan:
    """The strategy that a week's out-of-fold predictions are made by: itself if each fold has a study."""
    return plan if plan.tuning is None or plan.tuning.is_nested else model_plan(plan, inputs, key)


def plan_of_results(plan: StrategyPlan, facts: Mapping[str, Any]) -> StrategyPlan:
    """The strategy that stored predictions, or a stored model, were made by, from its footer."""
    point = facts.get(TUNED)
    return plan.tuned(point) if isinstance(point, Mapping) else plan


def tuned_facts(plan: StrategyPlan, study: Mapping[str, Any]) -> dict[str, Any]:
    """What `cv_results` note of the study."""
    if plan.tuning is None:
        return {}
    if plan.tuning.is_nested:
        return {STUDY: study[STUDY], TRIALS: study[TRIALS], TUNED_BY_FOLD: study[BEST_BY_FOLD], SELECTED: False}
    return {STUDY: study[STUDY], TRIALS: study[TRIALS], TUNED: study[BEST], SELECTED: True}


def tuned_metadata(plan: StrategyPlan, study: Mapping[str, Any]) -> dict[str, Any]:
    """The same for people; the first line of what is shown."""
    if plan.tuning is None:
        return {}
    told = (OUTER if plan.tuning.is_nested else NOT_OUT_OF_SAMPLE).format(n=study[TRIALS])
    points = study[BEST_BY_FOLD] if plan.tuning.is_nested else {"": study[BEST]}
    shown = [f"{f'fold {fold}: ' if fold else ''}{point_in_words(point)}" for fold, point in points.items()]
    return {"tuning": told, "tuned_to": "\n".join(shown)}


def point_in_words(point: Mapping[str, Any]) -> str:
    """`learner.max_depth 4, learner.subsample 0.8125`."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in point.items()
    )


def selection_note(facts: Mapping[str, Any]) -> str:
    """What stands over everything that is made of predictions which were selected; "" of others."""
    return NOT_OUT_OF_SAMPLE.format(n=facts[TRIALS]) if facts.get(SELECTED) else ""


def selection_in_words(plan: StrategyPlan) -> str:
    """The same in the description of `cv_results`."""
    if plan.tuning is None:
        return ""
    if plan.tuning.is_nested:
        return " Parameters of each fold were chosen by a study on its training rows alone: these are outer scores."
    return " Parameters were chosen by these very folds: selected, not out of sample."
