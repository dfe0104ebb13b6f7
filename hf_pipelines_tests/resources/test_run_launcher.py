"""The launcher's health check: which runs are dead, and which only look so. Processes and code servers are real."""

import dataclasses
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.events import DagsterEvent, DagsterEventType, EngineEventData
from dagster._core.events.log import EventLogEntry
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.dagster_run import DagsterRun, DagsterRunStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import GrpcServerTarget
from dagster._grpc.client import DagsterGrpcClient

from hf_pipelines.resources import run_launcher
from hf_pipelines.resources.run_launcher import (
    MAX_RETRIES_TAG,
    STARTED_MESSAGE,
    WORKER_TAG,
    CheckedRunLauncher,
    Worker,
    in_process_tags,
)
from hf_pipelines_tests.checkout import REPOSITORY
from hf_pipelines_tests.running import starting_runs
from hf_pipelines_tests.servers import free_port, serving, wait_until

RUNNING, NOT_FOUND = WorkerStatus.RUNNING, WorkerStatus.NOT_FOUND
CODE = "import dagster as dg\ndefs = dg.Definitions()\n"


@dg.job
def nothing() -> None:
    """A job to have runs of."""


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def launcher(instance: dg.DagsterInstance) -> CheckedRunLauncher:
    made = CheckedRunLauncher()
    made.register_instance(instance)
    return made


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits until it is told to end."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        yield process
        process.kill()


def started_run(instance: dg.DagsterInstance, **tags: str) -> DagsterRun:
    return instance.create_run_for_job(nothing, status=DagsterRunStatus.STARTED, tags=tags)


def launched_run(
    instance: dg.DagsterInstance, pid: int, *, host: str = "127.0.0.1", port: int | None = None, age_s: float = 0.0
) -> DagsterRun:
    """A run whose process has said that it started, `age_s` before it did."""
    address = {"host": host, "port": port or free_port()}
    run = started_run(instance, **{GRPC_INFO_TAG: json.dumps(address)})
    message = f"{STARTED_MESSAGE}{pid})."
    event = DagsterEvent(
        DagsterEventType.ENGINE_EVENT.value, run.job_name, event_specific_data=EngineEventData(), message=message
    )
    began = psutil.Process(pid).create_time() if psutil.pid_exists(pid) else 0.0
    entry = EventLogEntry(
        error_info=None,
        level=10,
        user_message="",
        run_id=run.run_id,
        timestamp=began + 0.1 - age_s,
        job_name=run.job_name,
        dagster_event=event,
    )
    instance.handle_new_event(entry)
    return run


def pings(port: int) -> bool:
    """Whether a code server answers."""
    with suppress(dg.DagsterError):
        DagsterGrpcClient(host="127.0.0.1", port=port).ping("")
        return True
    return False


def reloaded(instance: dg.DagsterInstance, run: DagsterRun) -> DagsterRun:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found


def second_look(launcher: CheckedRunLauncher, run: DagsterRun) -> CheckRunHealthResult:
    """Health of a run that is gone while its code server does not answer: it is given until the second look."""
    first = launcher.check_run_worker_health(run)
    assert (first.status, "until the next look" in (first.msg or "")) == (RUNNING, True)
    return launcher.check_run_worker_health(run)


def test_health_of_a_run_whose_process_lives_is_running_and_its_process_is_remembered(
    instance: dg.DagsterInstance, launcher: CheckedRunLauncher, child: subprocess.Popen[bytes]
) -> None:
    run = launched_run(instance, child.pid)
    assert launcher.check_run_worker_health(run).status == RUNNING
    run = reloaded(instance, run)
    assert Worker.from_tag(run.run_id, run.tags[WORKER_TAG]) == Worker.of(run.run_id, child.pid)
    assert launcher.check_run_worker_health(run).status == RUNNING

    child.kill()
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    # Nobody has asked how it ended: its number is still there.
    assert second_look(launcher, run).status == NOT_FOUND
    child.wait()
    health = launcher.check_run_worker_health(run)
    assert (health.status, health.msg) == (NOT_FOUND, f"process {child.pid} is gone: killed, or lost with its machine")


def test_run_whose_process_lives_is_not_launched_again_and_one_whose_process_died_is(
    instance: dg.DagsterInstance, launcher: CheckedRunLauncher, child: subprocess.Popen[bytes]
) -> None:
    run = launched_run(instance, child.pid)
    instance.report_dagster_event(DagsterEvent(DagsterEventType.RUN_START.value, run.job_name), run.run_id)
    # As the daemon does with a run whose code server did not answer: back into the queue, and launched anew.
    instance.report_dagster_event(DagsterEvent(DagsterEventType.RUN_STARTING.value, run.job_name), run.run_id)
    assert reloaded(instance, run).status == DagsterRunStatus.STARTING
    context = LaunchRunContext(reloaded(instance, run), workspace=None)
    launcher.launch_run(context)
    assert reloaded(instance, run).status == DagsterRunStatus.STARTED
    said = [each.dagster_event.message for each in instance.all_logs(run.run_id) if each.dagster_event]
    assert f"Not launched a second time: its process {child.pid} lives." in said
    assert launcher.death(run) is None

    child.kill()
    child.wait()
    assert launcher.death(run) == f"process {child.pid} is gone"
    # It goes the usual way, which needs a workspace.
    with pytest.raises(dg.DagsterInvariantViolationError, match="`context` must have a workspace"):
        launcher.launch_run(context)


def test_health_of_a_run_whose_process_died_before_the_first_look_is_not_found(
    instance: dg.DagsterInstance, launcher: CheckedRunLauncher, child: subprocess.Popen[bytes]
) -> None:
    child.kill()
    child.wait()
    assert second_look(launcher, launched_run(instance, child.pid)).status == NOT_FOUND


def test_health_of_a_run_whose_process_number_was_given_to_another_is_not_found(
    instance: dg.DagsterInstance, launcher: CheckedRunLauncher, child: subprocess.Popen[bytes]
) -> None:
    # Never looked at before: the process with this number is younger than what it is said to have said.
    health = second_look(launcher, launched_run(instance, child.pid, age_s=60.0))
    assert (health.status, "another one" in (health.msg or "")) == (NOT_FOUND, True)
    # Looked at before: it began at another time since the machine's start.
    run = started_run(instance)
    worker = Worker.of(run.run_id, child.pid)
    other = dataclasses.replace(worker, uptime_s=worker.uptime_s - 60.0)
    assert worker.end() is None
    assert other.end() == f"process {child.pid} is another one by now"
    run = run.with_tags({WORKER_TAG: other.to_tag()})
    assert launcher.check_run_worker_health(run).status == NOT_FOUND


def test_health_of_a_run_from_before_a_restart_of_the_machine_is_not_found_though_its_process_number_is_taken(
    instance: dg.DagsterInstance, launcher: CheckedRunLauncher, child: subprocess.Popen[bytes]
) -> None:
    run = started_run(instance)
    before = dataclasses.replace(Worker.of(run.run_id, child.pid), boot="the one before")
    health = launcher.check_run_worker_health(run.with_tags({WORKER_TAG: before.to_tag()}))
    assert (health.status, "has restarted since" in (health.msg or "")) == (NOT_FOUND, True)


def test_health_of_a_retry_does_not_follow_from_the_process_of_the_run_that_it_retries(
    instance: dg.DagsterInstance, launcher: CheckedRunLauncher, child: subprocess.Popen[bytes]
) -> None:
    killed = dataclasses.replace(Worker.of("the first run", child.pid), boot="the one before")
    run = launched_run(instance, child.pid)
    # Dagster copies all tags of a run to its retry.
    retry = run.with_tags({**run.tags, WORKER_TAG: killed.to_tag()})
    assert launcher.check_run_worker_health(retry).status == RUNNING


def test_health_of_what_cannot_be_known_is_running(
    instance: dg.DagsterInstance, launcher: CheckedRunLauncher, child: subprocess.Popen[bytes]
) -> None:
    child.kill()
    child.wait()
    # On a machine that is not this one, the number says nothing about a process of this one.
    assert (
        launcher.check_run_worker_health(launched_run(instance, child.pid, host="elsewhere.invalid")).status == RUNNING
    )
    # Neither launched by a code server nor by a command of ours.
    assert launcher.check_run_worker_health(started_run(instance)).status == RUNNING
    run = started_run(instance)
    away = Worker(run.run_id, "elsewhere", "its boot", child.pid, 1.0)
    assert launcher.check_run_worker_health(run.with_tags({WORKER_TAG: away.to_tag()})).status == RUNNING


@pytest.mark.servers
@pytest.mark.parametrize(
    ("command", "status"),
    [
        pytest.param(["api", "grpc"], NOT_FOUND, id="a code server knows its runs"),
        # After a reload of the code the runs of its process before go on, and it does not know them.
        pytest.param(["code-server", "start"], RUNNING, id="one that reloads does not"),
    ],
)
def test_health_of_a_run_on_another_machine_is_what_its_code_server_says(
    command: list[str],
    status: WorkerStatus,
    instance: dg.DagsterInstance,
    launcher: CheckedRunLauncher,
    tmp_path: Path,
) -> None:
    (tmp_path / "empty.py").write_text(CODE)
    port = free_port()
    full = [sys.executable, "-m", "dagster", *command, "-h", "127.0.0.1", "-p", str(port), "-f", "empty.py"]
    run = started_run(instance, **{GRPC_INFO_TAG: json.dumps({"host": "127.0.0.1", "port": port})})
    run = run.with_tags({**run.tags, WORKER_TAG: Worker(run.run_id, "elsewhere", "its boot", 1, 1.0).to_tag()})
    assert launcher.check_run_worker_health(run).status == RUNNING
    with serving(full, log=tmp_path / "log", is_ready=lambda: pings(port), cwd=tmp_path):
        assert launcher.check_run_worker_health(run).status == status


def test_tags_of_a_run_in_process_name_this_process_and_forbid_a_retry() -> None:
    tags = in_process_tags("a run")
    worker = Worker.from_tag("a run", tags[WORKER_TAG])
    assert worker == Worker.of("a run")
    assert worker.end() is None
    assert Worker.from_tag("another run", tags[WORKER_TAG]) is None
    assert tags[MAX_RETRIES_TAG] == "0"


def test_terminate_interrupts_the_process_of_a_run_that_no_code_server_has(
    instance: dg.DagsterInstance, launcher: CheckedRunLauncher, child: subprocess.Popen[bytes]
) -> None:
    run = launched_run(instance, child.pid)
    assert launcher.terminate(run.run_id)
    assert child.wait(60) in (-signal.SIGINT, 1)
    assert reloaded(instance, run).status == DagsterRunStatus.CANCELING
    # There is nobody left to interrupt.
    assert not launcher.terminate(run.run_id)


# Each run writes down the process that executes it, and ends when it may.
SLOW = """
import os, time
from pathlib import Path
import dagster as dg

HERE = Path(__file__).parent

@dg.op
def work(context):
    with (HERE / f"{context.run_id}.executed").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    while not (HERE / "go").exists():
        time.sleep(0.05)

@dg.job
def slow():
    work()

defs = dg.Definitions(jobs=[slow], executor=dg.in_process_executor)
"""


def starting_run(instance: dg.DagsterInstance, port: int) -> DagsterRun:
    """A run of `slow` whose turn has come."""
    server = GrpcServerCodeLocationOrigin(host="127.0.0.1", port=port, location_name="slow")
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(server, "__repository__"), "slow")
    return instance.add_run(DagsterRun("slow", status=DagsterRunStatus.STARTING, remote_job_origin=origin))


@pytest.mark.servers
def test_run_asked_for_twice_and_run_whose_code_server_dies_as_it_starts_are_executed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "dagster.yaml").write_text((REPOSITORY / "dagster.yaml").read_text())
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.delenv("HF_POSTGRES_URL", raising=False)
    # On a machine with other work a process takes its time to begin.
    monkeypatch.setattr(run_launcher, "BEGIN_S", 120.0)
    port = free_port()
    command = [sys.executable, "-m", "dagster", "api", "grpc", "-h", "127.0.0.1", "-p", str(port), "-f", "slow.py"]
    target = GrpcServerTarget(host="127.0.0.1", port=port, socket=None, location_name="slow")
    with (
        serving(command, log=tmp_path / "log", is_ready=lambda: pings(port), cwd=tmp_path) as server,
        dg.DagsterInstance.get() as instance,
        WorkspaceProcessContext(instance, target) as workspace,
        ThreadPoolExecutor(3) as threads,
    ):
        launcher, context = instance.run_launcher, workspace.create_request_context()
        assert isinstance(launcher, CheckedRunLauncher)
        twice, cut = (starting_run(instance, port) for _ in range(2))
        code_server = psutil.Process(server.process.pid)

        # As after a lost answer, and sooner than either process can say that it has started.
        both = [threads.submit(launcher.launch_run, LaunchRunContext(twice, context)) for _ in range(2)]
        for each in both:
            each.result()
        before = starting_runs(code_server)
        launched = threads.submit(launcher.launch_run, LaunchRunContext(cut, context))
        wait_until(lambda: bool(starting_runs(code_server) - before), "process of the run")
        code_server.kill()
        # Neither failed nor back in the queue: its process lives.
        launched.result()
        launcher.launch_run(LaunchRunContext(reloaded(instance, cut), context))

        for run in (twice, cut):
            wait_until(lambda run=run: (tmp_path / f"{run.run_id}.executed").exists(), "work")  # type: ignore[misc]
        (tmp_path / "go").touch()
        for run in (twice, cut):
            wait_until(lambda run=run: reloaded(instance, run).is_finished, "end of the run")  # type: ignore[misc]
            assert reloaded(instance, run).status == DagsterRunStatus.SUCCESS
            assert len((tmp_path / f"{run.run_id}.executed").read_text().splitlines()) == 1
            # Whoever leaves a run alone between its first event and its status says so with an event of its start too.
            said = [each.message or "" for each in instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT)]
            assert sum(STARTED_MESSAGE in each for each in said) == 1
            assert sum("Not launched a second time" in each for each in said) == 1
            began = instance.all_logs(run.run_id, of_type=DagsterEventType.RUN_START)
            # Written by the run's process; another one by the launcher brings its status back.
            assert sum("Not launched" not in (each.get_dagster_event().message or "") for each in began) == 1
