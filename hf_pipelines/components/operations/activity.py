"""Activity: the runs that are queued, under way or dead, and whether the daemon is alive.

Lives here: reading both from the instance. Does not live here: how they are shown (`status`), ended runs
(`ended_runs`), what a run has left (`outcomes`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster import RunRecord

from hf_pipelines.components.operations.outcomes import Outcomes
from hf_pipelines.components.run_tags import named_partitions
from hf_pipelines.resources.dagster_internals import IN_PROGRESS_RUN_STATUSES
from hf_pipelines.resources.incidents import span
from hf_pipelines.resources.pulse import deaths

# A daemon writes one every 30 seconds.
HEARTBEAT_PATIENCE = timedelta(minutes=2)

WAITING = (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.QUEUED)

# Longer than run monitoring gives a run to begin, where there is a daemon that monitors.
START_PATIENCE = timedelta(minutes=5)

# A backfill may queue hundreds of runs.
MAX_RUNS = 500


@dataclass(frozen=True)
class RunUnderWay:
    """A run that has not ended.

    Attributes
    ----------
    assets : tuple of str
        Asset paths that it makes; empty for a job that makes none.
    partitions : str
        In a few words.
    is_waiting : bool
        Queued rather than at work.
    death : str
        Why it will never end, "" while it may.
    is_made : bool
        Of a dead run whether all that it was to make was made since, or had nothing to make.
    """

    run_id: str
    job: str
    assets: tuple[str, ...]
    partitions: str
    is_waiting: bool
    death: str = ""
    is_made: bool = False


@dataclass(frozen=True)
class Activity:
    """Runs that have not ended, and when the daemon was last seen (None: never on this instance)."""

    runs: tuple[RunUnderWay, ...]
    daemon_seen: datetime | None
    now: datetime

    @property
    def is_daemon_alive(self) -> bool:
        return self.daemon_seen is not None and self.now - self.daemon_seen < HEARTBEAT_PATIENCE

    @staticmethod
    def read(
        instance: dg.DagsterInstance, now: datetime, repository: dg.RepositoryDefinition | None = None
    ) -> "Activity":
        """What the instance records; by the assets of a repository also whether what dead runs left was made since."""
        outcomes = None if repository is None else Outcomes(instance, repository)
        statuses = [*IN_PROGRESS_RUN_STATUSES, dg.DagsterRunStatus.NOT_STARTED]
        records = instance.get_run_records(dg.RunsFilter(statuses=statuses), limit=MAX_RUNS)
        dead = deaths(instance, [each.dagster_run for each in records])
        beats = [each.timestamp for each in instance.get_daemon_heartbeats().values()]
        return Activity(
            runs=tuple(_run(each, dead, now, outcomes) for each in reversed(records)),
            daemon_seen=datetime.fromtimestamp(max(beats), UTC) if beats else None,
            now=now,
        )

    def of(self, owner: str) -> list[RunUnderWay]:
        """Runs that make assets of a market or strategy, or wait to, the oldest first."""
        living = [each for each in self.runs if not each.death]
        return [each for each in living if any(asset.startswith(f"{owner}/") for asset in each.assets)]

    @property
    def dead(self) -> list[RunUnderWay]:
        """Runs that are recorded as under way, will never end and have left something to make, the oldest first."""
        return [each for each in self.runs if each.death and not each.is_made]


def _run(record: RunRecord, dead: Mapping[str, str], now: datetime, outcomes: Outcomes | None) -> RunUnderWay:
    run = record.dagster_run
    began = record.update_timestamp.astimezone(UTC)
    death = dead.get(run.run_id, "")
    if not death and run.status is dg.DagsterRunStatus.STARTING and now - began > START_PATIENCE:
        death = f"it was launched at {began:%Y-%m-%d %H:%M:%S} UTC and has not begun"
    assets = ("/".join(key.path) for key in run.asset_selection or ())
    return RunUnderWay(
        run_id=run.run_id,
        job=run.job_name,
        assets=tuple(sorted(assets)),
        partitions=_partitions(run.tags),
        is_waiting=run.status in WAITING,
        death=death,
        is_made=bool(death) and outcomes is not None and outcomes.is_made(run),
    )


def _partitions(tags: Mapping[str, str]) -> str:
    if named := named_partitions(tags):
        return span(named)
    ends = [tags.get(f"dagster/asset_partition_range_{each}") for each in ("start", "end")]
    return "..".join(each for each in ends if each)
