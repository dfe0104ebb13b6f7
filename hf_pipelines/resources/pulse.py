"""Pulse: whether automation still works (daemon, sensors, schedules, queue), judged from outside of it.

Lives here: the one decision on what has stopped (daemon, sensors, schedules, the queue of runs, room on disk and in
memory), from the instance's database and the machine. Does not live here: who is notified (`serving.lookout`, `hfp status`),
and whether what should be there is there (`components.operations.lateness`).

No sensor can report that no sensor is evaluated: this is looked at by processes that are neither the code server nor the
daemon, and needs no code of the pipeline.
"""

import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from hf_pipelines.resources import settings
from hf_pipelines.resources.dagster_internals import (
    FINISHED_STATUSES,
    IN_PROGRESS_RUN_STATUSES,
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    TickStatus,
    get_latest_completed_cron_tick,
)
from hf_pipelines.resources.machine import memory_left
from hf_pipelines.resources.run_launcher import CheckedRunLauncher

# A tick that asks for nothing has succeeded too.
GOOD = (TickStatus.SUCCESS, TickStatus.SKIPPED)

# One slow tick, or a daemon that is busy with others, is no silence.
INTERVALS = 3

# At fifteen seconds a tick these are longer than the default patience.
TICKS_READ = 100

# The oldest of a queue: a backfill may queue hundreds.
MAX_WAITING = 100

# How soon the daemon takes the next run, with some to spare.
TURN = timedelta(minutes=1)

# A first line is enough to see what is wrong.
MAX_ERROR = 200

MB = 1_000_000


@dataclass(frozen=True)
class Ticking:
    """A sensor or schedule of the pipeline.

    Attributes
    ----------
    kind : str
        "sensor" or "schedule".
    is_on_by_default : bool
        Whether it runs by default: no user has started or stopped it.
    interval_s : float
        Seconds between two ticks of a sensor.
    crons : tuple of str
        When a schedule ticks.
    """

    kind: str
    name: str
    is_on_by_default: bool
    interval_s: float = 0.0
    crons: tuple[str, ...] = ()
    timezone: str | None = None

    @staticmethod
    def of_repository(repository: dg.RepositoryDefinition) -> "list[Ticking]":
        sensors = [
            Ticking(
                "sensor",
                each.name,
                each.default_status is dg.DefaultSensorStatus.RUNNING,
                interval_s=float(each.minimum_interval_seconds or 0),
            )
            for each in repository.sensor_defs
        ]
        schedules = [
            Ticking(
                "schedule",
                each.name,
                each.default_status is dg.DefaultScheduleStatus.RUNNING,
                crons=crons_of(each.cron_schedule),
                timezone=each.execution_timezone,
            )
            for each in repository.schedule_defs
        ]
        return [*sensors, *schedules]


@dataclass(frozen=True)
class Stopped:
    """A part of the automation that has stopped, or soon will.

    Attributes
    ----------
    what : str
        Such as "sensor us_tech_feed_arrivals", "daemon", "queue of runs", "disk", "memory".
    why : str
        Since when, and the last error.
    """

    what: str
    why: str
    remedy: str


def crons_of(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def find_stopped(
    instance: dg.DagsterInstance, ticking: Collection[Ticking], now: datetime, *, folders: Collection[Path]
) -> list[Stopped]:
    """Everything that has stopped.

    Parameters
    ----------
    ticking : collection of Ticking
        All sensors and schedules, running or not.
    now : datetime
        Wall clock, UTC.
    folders : collection of Path
        Where the project writes: there must be room on their disks.
    """
    dead = _stopped_daemon(instance, now)
    # Without the daemon nothing ticks and no run is launched: reported once.
    running = [] if dead else [*_silent(instance, ticking, now), *_stuck_queue(instance, now)]
    return [*dead, *running, *machine_faults(folders)]


def never_looked_at(instance: dg.DagsterInstance, ticking: Collection[Ticking]) -> list[str]:
    """Sensors that are on by default and that the daemon does not know, though it knows others: their YAML was added while it ran.

    Of an instance on which no daemon has looked at any there are none.
    """
    states = {(_KINDS.get(each.instigator_type), each.name) for each in instance.all_instigator_state()}
    sensors = [each for each in ticking if each.kind == "sensor" and each.is_on_by_default]
    unknown = sorted(each.name for each in sensors if ("sensor", each.name) not in states)
    return unknown if len(unknown) < len(sensors) else []


def machine_faults(folders: Collection[Path]) -> list[Stopped]:
    """Room on disk and in memory that runs out."""
    return [*_full_disks(folders), *_little_memory()]


def deaths(instance: dg.DagsterInstance, runs: Collection[dg.DagsterRun]) -> dict[str, str]:
    """Why runs under way will never end by themselves, by run id: their processes are gone."""
    launcher = instance.run_launcher
    if not isinstance(launcher, CheckedRunLauncher):
        return {}
    found = {each.run_id: launcher.death(each) for each in runs if each.status in IN_PROGRESS_RUN_STATUSES}
    return {run_id: why for run_id, why in found.items() if why is not None}


def _stopped_daemon(instance: dg.DagsterInstance, now: datetime) -> list[Stopped]:
    beats = instance.get_daemon_heartbeats()
    required = [beats[kind] for kind in instance.get_required_daemon_types() if kind in beats]
    # Where none has ever run, everything is made by hand.
    seen = [datetime.fromtimestamp(each.timestamp, UTC) for each in required]
    if not seen or now - min(seen) <= settings.silent_after():
        return []
    return [
        Stopped(
            "daemon",
            f"it was seen last at {_shown(min(seen))}: nothing is made, trained or noticed by itself",
            "start it again (hfp ui, hfp stack, or docker compose up --detach daemon); its log says why it ended",
        )
    ]


def _silent(instance: dg.DagsterInstance, ticking: Collection[Ticking], now: datetime) -> Iterator[Stopped]:
    states = {(_KINDS.get(each.instigator_type), each.name): each for each in instance.all_instigator_state()}
    for each in sorted(ticking, key=lambda each: (each.kind, each.name)):
        state = states.get((each.kind, each.name))
        # The daemon stores a state at the first tick.
        if state is None or not _is_on(each, state):
            continue
        due = _due(instance, each, state, now)
        since = _last_good(instance, state)
        if due is None or (since is not None and since >= due):
            continue
        last = "none has succeeded" if since is None else f"the last one that succeeded was at {_shown(since)}"
        yield Stopped(
            f"{each.kind} {each.name}",
            f"it must have ticked since {_shown(due)}, {last}{_last_error(instance, state, since)}",
            "look at its ticks under Automation in the web UI; where all have stopped, restart the code server",
        )


_KINDS = {InstigatorType.SENSOR: "sensor", InstigatorType.SCHEDULE: "schedule"}


def _is_on(ticking: Ticking, state: InstigatorState) -> bool:
    if state.status is InstigatorStatus.DECLARED_IN_CODE:
        return ticking.is_on_by_default
    return state.status is InstigatorStatus.RUNNING


def _due(instance: dg.DagsterInstance, ticking: Ticking, state: InstigatorState, now: datetime) -> datetime | None:
    """Since when a tick must have succeeded; None if none had to yet."""
    latest = now - settings.silent_after() - timedelta(seconds=INTERVALS * ticking.interval_s)
    began = _began(instance, state)
    if ticking.kind == "sensor":
        return latest if began is not None and began <= latest else None
    ticks = [get_latest_completed_cron_tick(cron, latest, ticking.timezone) for cron in ticking.crons]
    due = max((each.astimezone(UTC) for each in ticks), default=None)
    return due if due is not None and began is not None and began <= due else None


def _began(instance: dg.DagsterInstance, state: InstigatorState) -> datetime | None:
    """When it was started, or had its first tick that is on record; None if neither is known."""
    names = ("last_sensor_start_timestamp", "start_timestamp")
    started = [getattr(state.instigator_data, name, None) for name in names]
    ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=TICKS_READ)
    found = [each for each in [*started, *(tick.timestamp for tick in ticks[-1:])] if each]
    return datetime.fromtimestamp(found[0], UTC) if found else None


def _last_good(instance: dg.DagsterInstance, state: InstigatorState) -> datetime | None:
    ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1, statuses=[*GOOD])
    return datetime.fromtimestamp(ticks[0].timestamp, UTC) if ticks else None


def _last_error(instance: dg.DagsterInstance, state: InstigatorState, since: datetime | None) -> str:
    after = None if since is None else since.timestamp()
    failed = instance.get_ticks(
        state.instigator_origin_id, state.selector_id, after=after, limit=1, statuses=[TickStatus.FAILURE]
    )
    if not failed or failed[0].error is None:
        return ""
    error = failed[0].error
    while error.cause is not None:
        error = error.cause
    return f" (the last one that failed: {' '.join(error.message.split())[:MAX_ERROR]})"


def _stuck_queue(instance: dg.DagsterInstance, now: datetime) -> Iterator[Stopped]:
    queued = instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]),
        limit=MAX_WAITING,
        ascending=True,
        order_by="create_timestamp",
    )
    waiting = [each for each in queued if now - each.create_timestamp.astimezone(UTC) > settings.silent_after()]
    if not waiting:
        return
    under_way = instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS_RUN_STATUSES))
    dead = deaths(instance, under_way)
    # What has just ended has held up others until now.
    ended = dg.RunsFilter(statuses=[*FINISHED_STATUSES], updated_after=now - TURN)
    holding = [*(run for run in under_way if run.run_id not in dead), *instance.get_runs(ended, limit=MAX_WAITING)]
    queue = instance.get_concurrency_config().run_queue_config
    if queue is not None and 0 <= queue.max_concurrent_runs <= len(holding):
        return
    taken = {pool for run in holding for pool in _pools(run)}
    # Behind a run of its pool it waits rightly.
    for record in waiting:
        run, since = record.dagster_run, _shown(record.create_timestamp.astimezone(UTC))
        if not taken & _pools(run):
            yield Stopped(
                "queue of runs",
                f"run {run.run_id[:8]} waits since {since}, and nothing that it has to wait for is at work",
                "look at it under Runs in the web UI (it says what it waits for); restart the daemon",
            )
            return


def _pools(run: dg.DagsterRun) -> set[str]:
    """What a run holds, so that another one of the same waits: those of its market or strategy."""
    return {*(run.run_op_concurrency.all_pools or ())} if run.run_op_concurrency else set()


def _full_disks(folders: Collection[Path]) -> Iterator[Stopped]:
    least = settings.least_disk_bytes()
    reported: set[int] = set()
    for folder in folders:
        there = next(each for each in (folder, *folder.parents) if each.exists())
        free, device = shutil.disk_usage(there).free, there.stat().st_dev
        if free < least and device not in reported:
            reported.add(device)
            yield Stopped(
                "disk",
                f"{free // MB} MB are free in {there}, fewer than {least // MB} (HF_LEAST_DISK_MB): runs will fail to write",
                f"remove what is not needed from the disk of {there}, or enlarge it",
            )


def _little_memory() -> Iterator[Stopped]:
    least, left = settings.least_memory_bytes(), memory_left()
    if left < least:
        yield Stopped(
            "memory",
            f"{left // MB} MB are left, fewer than {least // MB} (HF_LEAST_MEMORY_MB): the system will kill processes",
            "end what takes it, or run fewer runs at a time (max_concurrent_runs in dagster.yaml)",
        )


def _shown(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
