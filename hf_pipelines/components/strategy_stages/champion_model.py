"""`<strategy>/champion_model`: the champion's refit of a week in which the YAML says another configuration."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any

import polars as pl

from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.modules import CHOSEN_FROM
from hf_pipelines.components.stage import Stage, StageInput, kept_out
from hf_pipelines.components.stage_run import Computed, StageRun, each_partition
from hf_pipelines.components.strategy_stages.controls import CONTROLS, control_inputs, control_week
from hf_pipelines.components.strategy_stages.cv_results import cv_results
from hf_pipelines.components.strategy_stages.fitted_model import fitted_model, trained_before_week
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.components.strategy_stages.serving import (
    CHAMPION_MODEL,
    FITTED_WITH,
    fitted_with,
    serving_plan,
)
from hf_pipelines.components.strategy_stages.training_matrix import training_matrix
from hf_pipelines.components.strategy_stages.trial_records import settings_of
from hf_pipelines.components.strategy_stages.trying import Trying
from hf_pipelines.components.strategy_stages.tuning import tuning
from hf_pipelines.research.cross_validation import fit_final
from hf_pipelines.research.robustness import run_controls
from hf_pipelines.resources.footer import FITTED_MODEL
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.scratch import scratch_folder
from hf_pipelines.resources.trial_ledger import TrialLedger, actor_of

TUNING = "tuning"

# What a refit is made of, in flow order; a study where its configuration has one.
KINDS = ("training_matrix", TUNING, "cv_results", FITTED_MODEL)


def champion_model(plan: StrategyPlan) -> Stage:
    """`<strategy>/champion_model`: the champion's refit of a week in which the YAML says another configuration."""

    def compute(run: StageRun, inputs: Mapping[str, Loaded]) -> Computed:
        at = champion_beside(plan, run.store)
        if at is None:
            run.log.info("The YAML's own refit is the champion's, or nothing serves: there is nothing to make.")
            return Computed({}, skipped=run.partitions)
        refit = each_partition(
            partial(_refit, at), is_needed=lambda key: bool(plan.market.partitions.sessions_of_week(key))
        )
        return refit(run, inputs)

    return Stage(
        asset=plan.asset(CHAMPION_MODEL),
        kind=FITTED_MODEL,
        description=(
            "The champion's refit of the week, where the YAML says another configuration than the champion's: as `fitted_model`, by the YAML "
            "that the record of its promotion holds, with the verdict of its controls. Nothing where the YAML's own refit is the champion's."
        ),
        kinds=frozenset({"parquet"}),
        partitions=plan.weekly,
        inputs=(),
        compute=compute,
        is_range_run=False,
        # What a champion's own learner calls is in the version of its configuration, which is refused if the code is another one.
        code_version=code_version(fit_final, run_controls, fields={"stages": KINDS}, chosen_from=CHOSEN_FROM),
        checks=(trained_before_week(),),
        # Its parts keep themselves out of the hold-out.
        reads_holdout="always",
    )


def champion_beside(plan: StrategyPlan, store: PartitionStore | None) -> StrategyPlan | None:
    """The champion's configuration where its models are not those of the YAML; None: there is nothing to refit beside these.

    Raises
    ------
    ValueError
        If the champion cannot be made of its record, or the history is damaged.
    """
    at = serving_plan(plan, store)
    return None if at is None or fitted_with(settings_of(at)) == fitted_with(settings_of(plan)) else at


def champion_rows(at: StrategyPlan, store: PartitionStore, week: str, now: datetime) -> pl.DataFrame:
    """Training rows of the champion's refit of a week, which are kept nowhere, made again of what is stored now.

    Parameters
    ----------
    at : StrategyPlan
        The champion's configuration.

    Raises
    ------
    ValueError
        If features or bars of its window are not stored.
    """
    # No row of a matrix is a trial: nothing is recorded.
    ledger = TrialLedger(store.objects, actor_of({}))
    with _beside(at, store, ledger, now, kinds=KINDS[:1]) as trying:
        matrix, _ = trying.contents(week)[KINDS[0]]
        return matrix.frame


@contextmanager
def _beside(
    at: StrategyPlan,
    store: PartitionStore,
    ledger: TrialLedger,
    now: datetime,
    tell: Callable[[str], None] = lambda line: None,
    kinds: tuple[str, ...] = KINDS,
) -> Iterator[Trying]:
    """A place of its own in which stages of another configuration are made."""
    made = [training_matrix(at), *([] if at.tuning is None else [tuning(at)]), cv_results(at), fitted_model(at)]
    stages = made if at.holdout is None else [kept_out(each, at.holdout) for each in made]
    with scratch_folder("hf-champion-") as folder:
        work = PartitionStore(ObjectStore(str(folder)))
        own = tuple(kind for kind in kinds if kind != TUNING or at.tuning is not None)
        yield Trying(at, stages, at.market, store, work, ledger, None, now, tell, own)


def _refit(
    at: StrategyPlan, run: StageRun, inputs: Mapping[str, Loaded], key: str
) -> tuple[Content, Mapping[str, Any]]:
    """The model of a week by another configuration, everything before it made in a place of its own."""
    if run.store is None or run.trials is None:
        raise ValueError("`run` must have a store and a ledger to refit the champion, had none.")
    with _beside(at, run.store, run.trials, run.now, run.log.info) as trying:
        contents = trying.contents(key)
        model, _ = contents[FITTED_MODEL]
        _, matrix = contents["training_matrix"]
        facts = dict(model.facts)
        read = (*control_inputs(at), StageInput("cv_results", at.asset("cv_results")))
        facts[CONTROLS] = control_week(at, {each.name: trying.load(each, key) for each in read}, key).verdict
    notes = {FITTED_WITH: str(facts[FITTED_WITH]), "controls": str(facts[CONTROLS])}
    return Content(model.frame, model.attachments, matrix.inputs, facts=facts), notes
