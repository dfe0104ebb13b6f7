"""Replaying: every row that was published since the last time is replayed, every night.

Lives here: the job, its schedule, and what follows from a finding. Does not live here: how a week is replayed (`market_stages.features`),
the record of what was (`resources.replay_record`).

Dagster concept: op job and schedule. What a run replays before publishing is a sample: a leak at few sessions may escape it.
A stored week that differs is marked as rejected, so that every reader refuses it, and the run fails: an incident like any
failed run.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from time import process_time

import dagster as dg

from hf_pipelines.components.market_stages.feature_inputs import feature_inputs
from hf_pipelines.components.market_stages.feature_replay import feature_replay, recomputing
from hf_pipelines.components.market_stages.plan import MarketPlan
from hf_pipelines.components.stage import window
from hf_pipelines.components.stage_run import StageRun
from hf_pipelines.research.wording import some_of
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.footer import Footer, Verdict
from hf_pipelines.resources.parquet_io_manager import Loaded, Storage
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.replay_record import read_record, write_record
from hf_pipelines.resources.storage_errors import ObjectMissingError, StoredPartitionError

# Between the close of America and the open of Asia, in the market's own night.
REPLAY_CRON = "30 2 * * *"

# More times than any week has: all are replayed.
ALL_TIMES = 1_000_000

# Weeks of a group in one night, the newest first: a backfilled market takes several nights.
WEEKS_A_NIGHT = 60


def replay_job(market: MarketPlan) -> dg.JobDefinition:
    """Job `<market>_replay`: everything published since the last time, row by row."""

    @dg.op(
        name=f"replay_{market.name}",
        description="Recompute every row published since the last time from what was known at its time; mark what differs as rejected.",
    )
    def replay(context: dg.OpExecutionContext, storage: Storage, clock: Clock) -> None:
        faults = list(replay_published(market, storage.store(), clock.now(), context.log.info))
        if faults:
            raise dg.Failure(
                f"`features` of {market.name} must not look ahead, did in {len(faults)} week(s), now rejected: {some_of(faults)}; correct the "
                "feature and make them again.",
                allow_retries=False,
            )

    @dg.job(
        name=f"{market.name}_replay",
        description=f"Replay every row of the features of {market.name} that was published since the last time.",
    )
    def job() -> None:
        replay()

    return job


def replay_schedule(market: MarketPlan, job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Every night 02:30 in the market's time zone."""
    return dg.ScheduleDefinition(
        name=f"{market.name}_nightly_replay",
        job=job,
        cron_schedule=REPLAY_CRON,
        execution_timezone=market.partitions.timezone,
        default_status=dg.DefaultScheduleStatus.STOPPED if market.partitions.end else dg.DefaultScheduleStatus.RUNNING,
        description=(
            "Every row of features published since the last time, recomputed from what was known then. Off by default for a "
            "market whose data have an end."
        ),
    )


def replay_published(
    market: MarketPlan,
    store: PartitionStore,
    now: datetime,
    log: Callable[[str], None],
    *,
    most_weeks: int | None = WEEKS_A_NIGHT,
) -> Iterator[str]:
    """Replay the weeks of every group whose content was not replayed yet; mark those that differ, and yield a line for each.

    `most_weeks` of a group, the newest first; None: all of them.

    Each week is recorded when it is done: a stopped run resumes there.
    """
    for group in market.feature_groups:
        asset, began = market.features_asset(group), process_time()
        record, waiting = read_record(store, asset), []
        for key in reversed(store.partitions(asset)):
            footer = _footer(store, asset, key)
            if footer is not None and not record.is_known(key, footer.content_hash):
                waiting.append(key)
        chosen = sorted(waiting[:most_weeks])
        with recomputing(market, group) as compute:
            check = feature_replay(market, group, n_times=ALL_TIMES, is_sampled=False, compute=compute)
            n_values = 0
            for key in chosen:
                try:
                    content, inputs = store.read(asset, key), stored_inputs(market, store, group, key)
                except (ObjectMissingError, StoredPartitionError) as e:
                    log(f"{asset} {key}: not replayed: {e}")
                    continue
                found = check.evaluate(StageRun((key,), now, None), inputs, key, content)  # type: ignore[arg-type]
                n_values += found.n_compared
                digest = content.footer.content_hash
                if found.passed:
                    record.confirmed[key] = digest
                else:
                    finding = "; ".join(found.findings[:1])
                    record.rejected[key] = (digest, finding)
                    if store.condemn(asset, key, "replay", Verdict(False, digest, found.n_compared, found.findings)):
                        yield f"{asset} {key} ({finding})"
                write_record(store, asset, record)
        left = f", {len(waiting) - len(chosen)} left for the next night" if len(waiting) > len(chosen) else ""
        log(f"{asset}: {len(chosen)} week(s), {n_values:,} values replayed in {process_time() - began:.0f} CPU s{left}")


def _footer(store: PartitionStore, asset: str, key: str) -> Footer | None:
    try:
        return store.footer(asset, key)
    except StoredPartitionError:
        # Damaged: everything that reads it reports it.
        return None


def stored_inputs(market: MarketPlan, store: PartitionStore, group: str, key: str) -> dict[str, Loaded]:
    """Stored inputs of a week of features."""
    loaded = {}
    for each in feature_inputs(market, group):
        there = {*store.partitions(each.asset)}
        weeks = [week for week in window(market.partitions, each, key) if week in there]
        loaded[each.name] = Loaded(each.asset, {week: store.read(each.asset, week) for week in weeks}, store)
    return loaded
