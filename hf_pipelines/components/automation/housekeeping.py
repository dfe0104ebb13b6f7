"""Housekeeping: what is old and needed by nothing is removed every week.

Lives here: the job and its schedule. Does not live here: what may be removed (`resources.retention`).

Dagster concept: op job and schedule. dagster.yaml purges ticks; the rest is ours.
"""

from datetime import timedelta

import dagster as dg

from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines.resources.parquet_io_manager import Storage
from hf_pipelines.resources.retention import COLLECTORS, Holdings, Policy, judge_old, remove_judged
from hf_pipelines.resources.trial_ledger.segments import seal_loose

CRON = "30 4 * * 6"

# A file that has been written for longer belongs to a process that was killed.
LONGEST_WRITE = timedelta(days=1)


@dg.op(description="Remove what is old and needed by nothing.")
def remove_old(context: dg.OpExecutionContext, storage: Storage, clock: Clock, mlflow: MLflowTracking) -> None:
    """What `hfp gc --yes` removes, and files that were never finished; the ledger's single records are packed."""
    store, now = storage.store(), clock.now()
    holdings = Holdings(store, context.instance, mlflow, Policy.from_environment(), now)
    removed = [*remove_judged(holdings, judge_old(holdings))]
    for kind, reason in holdings.unseen.items():
        context.log.warning(f"{COLLECTORS[kind].many} were not looked at: {reason}")
    left = store.objects.sweep(before=now - LONGEST_WRITE)
    # Nothing of the ledger is ever removed: single records of writers that are gone are packed together.
    sealed = seal_loose(store.objects)
    context.log.info(f"sealed {sealed} records of the trial ledger")
    counts = [f"{sum(each.kind == kind for each in removed)} {of.many}" for kind, of in COLLECTORS.items()]
    context.log.info(f"removed {', '.join(counts)} and {len(left)} files that were never finished")
    told = [f"{each.kind} {each.name}: {each.why}" for each in removed]
    for line in [*told, *(f"file {each}" for each in left)][:50]:
        context.log.info(f"removed {line}")


@dg.job(
    description="Remove what is old and needed by nothing: versions of partitions, runs and their logs, runs of MLflow, shown studies."
)
def housekeeping() -> None:
    """Once a week."""
    remove_old()


housekeeping_schedule = dg.ScheduleDefinition(
    name="weekly_housekeeping",
    job=housekeeping,
    description="Every Saturday: what is older than HF_KEEP_DAYS and needed by nothing, and unfinished files.",
    cron_schedule=CRON,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
