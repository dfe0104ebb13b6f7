"""Retraining: the weekly retrain job of a strategy and its schedule, and what follows a run that was killed.

Lives here: which assets are retrained together, and when. Does not live here: the assets (`strategy_stages`).

Dagster concept: partitioned job and schedule. On Sunday 02:00 in the market's time zone the week that begins is
requested. Missed ticks are not caught up by Dagster: the sensor on data time does that (`strategy_sensor`).
"""

from datetime import datetime
from zoneinfo import ZoneInfo

import dagster as dg

from hf_pipelines.components.automation.run_intents import RunHistory
from hf_pipelines.components.automation.strategy_sensor import input_tags, retrain_intent
from hf_pipelines.components.strategy_stages import StrategyPlan, retrained
from hf_pipelines.partitions import week_key
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.currency import CurrencyChecker
from hf_pipelines.resources.dagster_internals import UnresolvedAssetJobDefinition
from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines.resources.parquet_io_manager import Storage
from hf_pipelines.resources.partition_store import PartitionStore

RETRAIN_CRON = "0 2 * * 0"


def retrain_job(plan: StrategyPlan) -> UnresolvedAssetJobDefinition:
    """Job `<strategy>_retrain`: everything of a week from the training matrix to the fitted model and its backtest."""
    keys = [dg.AssetKey([plan.name, stage]) for stage in retrained(plan)]
    return dg.define_asset_job(
        name=f"{plan.name}_retrain",
        selection=dg.AssetSelection.assets(*keys),
        description=f"Train, test and backtest {plan.name} for one week, from data strictly before it.",
    )


def retrain_schedule(plan: StrategyPlan, job: UnresolvedAssetJobDefinition) -> dg.ScheduleDefinition:
    """Request the week that begins, every Sunday 02:00 in the market's time zone."""
    partitions = plan.market.partitions

    @dg.schedule(
        name=f"{plan.name}_weekly_retrain",
        job=job,
        cron_schedule=RETRAIN_CRON,
        execution_timezone=partitions.timezone,
        default_status=dg.DefaultScheduleStatus.STOPPED if partitions.end else dg.DefaultScheduleStatus.RUNNING,
        description="Retrain for the week that begins. Off by default for a market whose data have an end.",
    )
    def schedule(
        context: dg.ScheduleEvaluationContext, storage: Storage, clock: Clock
    ) -> dg.RunRequest | dg.SkipReason:
        local = context.scheduled_execution_time.astimezone(ZoneInfo(partitions.timezone))
        return request_week(plan, local, storage.store(), RunHistory(context.instance, clock.now()))

    return schedule


def request_week(
    plan: StrategyPlan, local: datetime, store: PartitionStore, history: RunHistory
) -> dg.RunRequest | dg.SkipReason:
    """Run request for the week that `local` (in the market's time zone) lies in, unless it is made or being made."""
    key = week_key(local.date())
    end = plan.market.partitions.end_sunday
    if plan.start is not None and key < plan.start.isoformat():
        return dg.SkipReason(f"{plan.name} begins in week {plan.start} (`start`): there is no week {key}.")
    if key < plan.market.partitions.first_week.isoformat() or (end is not None and key >= end.isoformat()):
        return dg.SkipReason(
            f"{plan.market.name} has sessions from {plan.market.partitions.start} to {plan.market.partitions.end}: there is no week {key}."
        )
    if not plan.market.partitions.sessions_of_week(key):
        return dg.SkipReason(
            f"{plan.market.partitions.calendar_name} has no session in week {key}: no model serves it."
        )
    intent = retrain_intent(plan, input_tags(plan, store), key)
    if (run_id := history.under_way(intent.job)) is not None:
        return dg.SkipReason(f"run {run_id[:8]} of {intent.job} is under way.")
    if CurrencyChecker(store, {}).is_current(plan.asset("fitted_model"), key).is_current:
        return dg.SkipReason(f"the model of week {key} is made from what is stored now.")
    return dg.RunRequest(run_key=f"{plan.name}:{key}", partition_key=key, tags=intent.request(1).tags)


@dg.run_failure_sensor(
    name="end_tracker_runs",
    # Runs of `hfp` belong to no code location.
    monitor_all_code_locations=True,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="End as FAILED the MLflow runs that a killed run left RUNNING; a run that fails ends its own.",
)
def end_tracker_runs(context: dg.RunFailureSensorContext, mlflow: MLflowTracking) -> None:
    """After every failed run; a retry attaches to the tracker run again and ends it."""
    run = context.dagster_run
    reason = context.failure_event.message or "its process ended without a word"
    for run_id in mlflow.end_runs_of(run.root_run_id or run.run_id, reason=reason):
        context.log.info(f"MLflow run {run_id} of {run.run_id} was left RUNNING: ended as FAILED")
