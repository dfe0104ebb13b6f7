"""Pulse: what has stopped, on an instance with ticks, heartbeats and runs as Dagster stores them."""

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.storage.dagster_run import RunOpConcurrency
from dagster._core.test_utils import create_run_for_test
from dagster._core.utils import make_new_run_id
from dagster._daemon.types import DaemonHeartbeat
from dagster._utils.error import SerializableErrorInfo

from hf_pipelines.resources.pulse import Stopped, Ticking, find_stopped, never_looked_at
from hf_pipelines.resources.run_launcher import WORKER_TAG, CheckedRunLauncher, Worker, boot_name

# A Sunday, noon.
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
WATCH = Ticking("sensor", "watch", True, interval_s=30.0)
RETRAIN = Ticking("schedule", "retrain", False, crons=("0 2 * * 0",), timezone="UTC")
ORIGIN = RemoteRepositoryOrigin(GrpcServerCodeLocationOrigin(host="127.0.0.1", port=1, location_name="hf"), "hf")


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    # What is tested elsewhere must not depend on the machine that tests.
    monkeypatch.setenv("HF_LEAST_DISK_MB", "0")
    monkeypatch.setenv("HF_LEAST_MEMORY_MB", "0")
    monkeypatch.setenv("HF_SILENT_MINUTES", "10")
    runs = {"concurrency": {"runs": {"max_concurrent_runs": 3}}}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides=runs) as made:
        launcher = CheckedRunLauncher()
        launcher.register_instance(made)
        made._run_launcher = launcher
        beat(made, timedelta(seconds=20))
        yield made


def beat(instance: dg.DagsterInstance, age: timedelta) -> None:
    for kind in instance.get_required_daemon_types():
        instance.add_daemon_heartbeat(DaemonHeartbeat((NOW - age).timestamp(), kind, None, None))


def state(
    instance: dg.DagsterInstance, ticking: Ticking, status: InstigatorStatus, began: datetime | None = None
) -> InstigatorState:
    at = None if began is None else began.timestamp()
    is_sensor = ticking.kind == "sensor"
    made = InstigatorState(
        RemoteInstigatorOrigin(ORIGIN, ticking.name),
        InstigatorType.SENSOR if is_sensor else InstigatorType.SCHEDULE,
        status,
        SensorInstigatorData(last_sensor_start_timestamp=at) if is_sensor else ScheduleInstigatorData("0 2 * * 0", at),
    )
    instance.add_instigator_state(made)
    return made


def tick(
    instance: dg.DagsterInstance, of: InstigatorState, status: TickStatus, age: timedelta, error: str | None = None
) -> None:
    instance.create_tick(
        TickData(
            of.instigator_origin_id,
            of.name,
            of.instigator_type,
            status,
            (NOW - age).timestamp(),
            selector_id=of.selector_id,
            run_ids=[],
            end_timestamp=(NOW - age).timestamp(),
            error=None if error is None else SerializableErrorInfo(error, [], None),
        )
    )


def stopped(instance: dg.DagsterInstance, *ticking: Ticking, folder: Path = Path("/tmp")) -> dict[str, Stopped]:
    return {each.what: each for each in find_stopped(instance, ticking, NOW, folders=[folder])}


def test_sensor_without_a_successful_tick_for_longer_than_stated_has_stopped_whatever_the_daemon_says(
    instance: dg.DagsterInstance,
) -> None:
    of = state(instance, WATCH, InstigatorStatus.DECLARED_IN_CODE)
    # Ten minutes and three intervals are no silence.
    tick(instance, of, TickStatus.SKIPPED, timedelta(minutes=11))
    assert stopped(instance, WATCH) == {}
    # It ticks, and every tick fails.
    later = NOW + timedelta(minutes=5)
    tick(instance, of, TickStatus.FAILURE, timedelta(seconds=-60), "Could not reach user code server\n")
    for kind in instance.get_required_daemon_types():
        instance.add_daemon_heartbeat(DaemonHeartbeat(later.timestamp(), kind, None, None))
    (found,) = find_stopped(instance, [WATCH], later, folders=[])
    assert found.what == "sensor watch"
    assert found.why == (
        "it must have ticked since 2026-11-22 11:53:30 UTC, the last one that succeeded was at 2026-11-22 11:49:00 UTC "
        "(the last one that failed: Could not reach user code server)"
    )


@pytest.mark.parametrize(
    ("status", "is_default", "is_silent"),
    [
        pytest.param(InstigatorStatus.RUNNING, False, True, id="started"),
        pytest.param(InstigatorStatus.STOPPED, True, False, id="turned off"),
        pytest.param(InstigatorStatus.DECLARED_IN_CODE, True, True, id="on by default"),
        pytest.param(InstigatorStatus.DECLARED_IN_CODE, False, False, id="off by default"),
    ],
)
def test_only_what_runs_is_missed(
    instance: dg.DagsterInstance, status: InstigatorStatus, is_default: bool, is_silent: bool
) -> None:
    ticking = Ticking("sensor", "watch", is_default, interval_s=30.0)
    tick(instance, state(instance, ticking, status), TickStatus.SUCCESS, timedelta(hours=1))
    assert ("sensor watch" in stopped(instance, ticking)) is is_silent
    # Its market was removed from the code.
    assert stopped(instance) == {}


def test_sensor_that_was_just_started_is_given_its_time(instance: dg.DagsterInstance) -> None:
    state(instance, WATCH, InstigatorStatus.RUNNING, began=NOW - timedelta(minutes=5))
    assert stopped(instance, WATCH) == {}
    # Its first tick is under way.
    first = Ticking("sensor", "first", True, interval_s=30.0)
    tick(instance, state(instance, first, InstigatorStatus.DECLARED_IN_CODE), TickStatus.STARTED, timedelta(seconds=9))
    assert stopped(instance, first) == {}


def test_schedule_that_missed_its_time_has_stopped_and_one_whose_time_has_not_come_has_not(
    instance: dg.DagsterInstance,
) -> None:
    of = state(instance, RETRAIN, InstigatorStatus.RUNNING, began=NOW - timedelta(days=30))
    tick(instance, of, TickStatus.SUCCESS, timedelta(days=7, hours=10))
    assert stopped(instance, RETRAIN)["schedule retrain"].why == (
        "it must have ticked since 2026-11-22 02:00:00 UTC, the last one that succeeded was at 2026-11-15 02:00:00 UTC"
    )
    tick(instance, of, TickStatus.SUCCESS, timedelta(hours=10))
    assert stopped(instance, RETRAIN) == {}
    # Started after its time: the next Sunday is its first.
    late = Ticking("schedule", "late", False, crons=("0 2 * * 0",), timezone="UTC")
    state(instance, late, InstigatorStatus.RUNNING, began=NOW - timedelta(hours=1))
    assert stopped(instance, late) == {}


def test_daemon_that_is_gone_is_told_once_and_one_that_never_ran_is_not_missed(instance: dg.DagsterInstance) -> None:
    tick(instance, state(instance, WATCH, InstigatorStatus.DECLARED_IN_CODE), TickStatus.SUCCESS, timedelta(hours=1))
    beat(instance, timedelta(minutes=11))
    found = stopped(instance, WATCH)
    assert list(found) == ["daemon"]
    assert "seen last at 2026-11-22 11:49:00 UTC" in found["daemon"].why
    instance.wipe_daemon_heartbeats()
    assert list(stopped(instance, WATCH)) == ["sensor watch"]


def test_one_thread_of_the_daemon_that_hangs_is_a_daemon_that_is_gone(instance: dg.DagsterInstance) -> None:
    hanging = sorted(instance.get_required_daemon_types())[0]
    instance.add_daemon_heartbeat(DaemonHeartbeat((NOW - timedelta(hours=1)).timestamp(), hanging, None, None))
    assert list(stopped(instance)) == ["daemon"]


def test_queue_that_does_not_move_has_stopped_also_behind_a_dead_run(instance: dg.DagsterInstance) -> None:
    def queue() -> dict[str, Stopped]:
        # Records of runs are stamped by the wall clock.
        later = datetime.now(UTC) + timedelta(minutes=11)
        for kind in instance.get_required_daemon_types():
            instance.add_daemon_heartbeat(DaemonHeartbeat(later.timestamp(), kind, None, None))
        return {each.what: each for each in find_stopped(instance, [], later, folders=[])}

    assert queue() == {}
    job = RemoteJobOrigin(ORIGIN, "nothing")
    waiting = create_run_for_test(instance, "nothing", status=dg.DagsterRunStatus.QUEUED, remote_job_origin=job)
    assert f"run {waiting.run_id[:8]} waits since" in queue()["queue of runs"].why
    instance.delete_run(waiting.run_id)

    def run(market: str, boot: str = "") -> None:
        """One that waits, or with the name of a start of the machine one that is at work since then."""
        pools = RunOpConcurrency(root_key_counts={}, has_unconstrained_root_nodes=False, all_pools={market})
        run_id, tags = make_new_run_id(), {}
        if boot:
            tags = {WORKER_TAG: dataclasses.replace(Worker.of(run_id), boot=boot).to_tag()}
        status = dg.DagsterRunStatus.STARTED if boot else dg.DagsterRunStatus.QUEUED
        instance.add_run(
            dg.DagsterRun("nothing", run_id, status=status, tags=tags, remote_job_origin=job, run_op_concurrency=pools)
        )

    run("one")
    # At work is what has a process: one of before the machine's last start has none; another market's is in nobody's way.
    for market, boot, is_stuck in (
        ("one", "the one before", True),
        ("two", boot_name(), True),
        ("one", boot_name(), False),
    ):
        run(market, boot)
        assert ("queue of runs" in queue()) is is_stuck
    run("three")
    assert "queue of runs" in queue()
    # Three at a time are allowed.
    run("four", boot_name())
    assert queue() == {}


def test_disk_and_memory_below_what_is_stated_are_told_before_they_run_out(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "not" / "there" / "yet"
    assert stopped(instance, folder=folder) == {}
    monkeypatch.setenv("HF_LEAST_DISK_MB", "999999999")
    monkeypatch.setenv("HF_LEAST_MEMORY_MB", "999999999")
    found = stopped(instance, folder=folder)
    assert set(found) == {"disk", "memory"}
    assert f"MB are free in {tmp_path}, fewer than 999999999 (HF_LEAST_DISK_MB)" in found["disk"].why
    assert "fewer than 999999999 (HF_LEAST_MEMORY_MB)" in found["memory"].why


def test_sensor_that_was_added_while_the_daemon_ran_is_unknown_to_it_and_a_first_start_knows_none(instance):
    added, kept_off = dataclasses.replace(WATCH, name="new_follows"), Ticking("sensor", "off", False, interval_s=30.0)
    ticking = [WATCH, RETRAIN, added, kept_off]
    # No daemon has looked at any yet: the first round is to come.
    assert never_looked_at(instance, ticking) == []
    state(instance, WATCH, InstigatorStatus.DECLARED_IN_CODE)
    assert never_looked_at(instance, ticking) == ["new_follows"]
    state(instance, added, InstigatorStatus.DECLARED_IN_CODE)
    assert never_looked_at(instance, ticking) == []
