"""Housekeeping: what is old and needed by nothing is removed every week.

Lives here: the job and its schedule. Does not live here: what may be removed (`resources.retention`).

Dagster concept: op job and schedule. dagster.yaml purges ticks; runs with their events and versions are ours.
"""

from datetime import timedelta

import dagster as dg

from hf_pipelines.resources import settings
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.fit_states import prune_fits
from hf_pipelines.resources.lineage import current_footers
from hf_pipelines.resources.parquet_io_manager import Storage
from hf_pipelines.resources.retention import Policy, prune_runs, prune_versions
from hf_pipelines.resources.trial_ledger.segments import seal_loose

CRON = "30 4 * * 6"

# A file that has been written for longer belongs to a process that was killed.
LONGEST_WRITE = timedelta(days=1)


@dg.op(description="Remove old versions that nothing refers to, and old runs that made nothing that is current.")
def remove_old(context: dg.OpExecutionContext, storage: Storage, clock: Clock) -> None:
    """Versions and runs by age and count (HF_KEEP_DAYS, HF_KEEP_VERSIONS)."""
    policy = Policy(days=settings.keep_days(), versions=settings.keep_versions())
    store, now = storage.store(), clock.now()
    # What is stored, not what Dagster remembers: a lost database must not unlock what a model was made from.
    footers = current_footers(store)
    versions = prune_versions(store, footers, policy, now)
    runs = prune_runs(context.instance, footers, policy, now)
    fits = prune_fits(store.objects, before=now - timedelta(days=policy.days))
    left = store.objects.sweep(before=now - LONGEST_WRITE)
    # Nothing of the ledger is ever removed: single records of writers that are gone are packed together.
    sealed = seal_loose(store.objects)
    context.log.info(f"sealed {sealed} records of the trial ledger")
    context.log.info(
        f"removed {len(versions)} versions, {len(runs)} runs and the states of {len(fits)} fits that were never ended, older than "
        f"{policy.days} days, and {len(left)} files that were never finished"
    )
    for each in [*versions, *runs, *fits, *left][:50]:
        context.log.info(f"removed {each}")


@dg.job(description="Remove what is old and needed by nothing: earlier versions of partitions, finished runs.")
def housekeeping() -> None:
    """Once a week."""
    remove_old()


housekeeping_schedule = dg.ScheduleDefinition(
    name="weekly_housekeeping",
    job=housekeeping,
    description="Every Saturday: versions and runs older than HF_KEEP_DAYS that nothing refers to, and unfinished files.",
    cron_schedule=CRON,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
