"""Run launcher: Dagster's own, which also knows whether the process of a run is still alive.

Lives here: recognising the process that computes a run, what run monitoring and the Terminate button do with it, and
what follows a start whose answer is lost. Does not live here: which of two processes executes a run (`run_claims`), how
often is looked and what follows a run that died (dagster.yaml: `run_monitoring`, `run_retries`).

Dagster concept: run launcher with a worker health check. A run whose process was killed is failed by the code server
that started it. When that was killed too (a restart, out of memory, a power cut) Dagster's own launcher has no server to
ask, and the run stays STARTED and holds its slots forever. Here a run is failed only if its process is known to be
gone:

| what is found | answer |
|---|---|
| its process lives, also where its code server does not | it runs; it ends by itself |
| no such process, a zombie, or another process with its number | gone |
| the machine has restarted since | gone |
| another machine's code server does not have the run any more | gone |
| another machine's code server does not answer, or cannot tell | unknown: it counts as running, up to `max_runtime_seconds` |
"""

import json
import logging
import platform
import signal
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from socket import gaierror, getaddrinfo
from typing import Any

import psutil
from dagster import DagsterEvent, DagsterEventType, DagsterInvariantViolationError, DagsterRun, DagsterRunStatus

from hf_pipelines.resources.dagster_internals import (
    GRPC_INFO_TAG,
    MAX_RETRIES_TAG,
    CanCancelExecutionRequest,
    CanCancelExecutionResult,
    CheckRunHealthResult,
    DagsterGrpcClient,
    DagsterLaunchFailedError,
    DagsterUserCodeProcessError,
    DagsterUserCodeUnreachableError,
    DefaultRunLauncher,
    ExecuteExternalJobArgs,
    GetCurrentRunsResult,
    LaunchRunContext,
    RemoteJobOrigin,
    StartRunResult,
    WorkerStatus,
    deserialize_value,
)
from hf_pipelines.resources.run_claims import RunClaimedError, claiming_ref

# Dagster hides tags with this prefix from the pages of runs, and copies them from a run to its retry like any other.
WORKER_TAG = ".dagster/hf_worker"

# Written by the process of a launched run itself, before it loads any code.
STARTED_MESSAGE = "Started process for run (pid: "

# A process's start is known to 10 ms and the time of a boot to a second; numbers come round after minutes at the least.
TOLERANCE_S = 2.0

CANCEL_TIMEOUT_S = 10

# How long a process may take to say that it has started, after the answer of its code server was lost.
BEGIN_S = 30.0
LOOK_EVERY_S = 0.5

# gRPC's message for a request that no server has received.
NOT_SENT = "failed to connect to all addresses"


@dataclass(frozen=True)
class Worker:
    """A process that computes a run, as its machine can recognise it.

    Attributes
    ----------
    boot : str
        Names the machine's start, so that a process of before it is not sought after it.
    uptime_s : float
        Seconds from that start to the process's own: unlike the time of day they never jump.
    """

    run_id: str
    host: str
    boot: str
    pid: int
    uptime_s: float

    @staticmethod
    def of(run_id: str, pid: int | None = None) -> "Worker":
        """The process with that number, by default this one.

        Raises
        ------
        psutil.NoSuchProcess
        """
        process = psutil.Process(pid)
        return Worker(run_id, platform.node(), boot_name(), process.pid, process.create_time() - psutil.boot_time())

    @staticmethod
    def from_tag(run_id: str, tag: str | None) -> "Worker | None":
        """The worker of exactly this run: a retry carries the tag of the run that it retries."""
        worker = Worker(**json.loads(tag)) if tag else None
        return worker if worker and worker.run_id == run_id else None

    def to_tag(self) -> str:
        return json.dumps(asdict(self))

    def end(self) -> str | None:
        """Why this process of this machine is gone, in words; None while it lives."""
        if self.boot != boot_name():
            return f"{self.host} has restarted since"
        try:
            if psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE:
                return f"process {self.pid} has ended"
            uptime_s = Worker.of(self.run_id, self.pid).uptime_s
        except psutil.NoSuchProcess:
            return f"process {self.pid} is gone"
        return None if abs(uptime_s - self.uptime_s) < TOLERANCE_S else f"process {self.pid} is another one by now"


def in_process_tags(run_id: str) -> dict[str, str]:
    """Tags of a run that this very process computes: by them it is found dead if it is killed.

    Nothing launched it, so nothing can launch it again: it is not announced for a retry.
    """
    return {WORKER_TAG: Worker.of(run_id).to_tag(), MAX_RETRIES_TAG: "0"}


@lru_cache(maxsize=1)
def boot_name() -> str:
    """What names the machine's present start."""
    path = Path("/proc/sys/kernel/random/boot_id")
    # Elsewhere than on Linux the seconds since the start must do.
    return path.read_text().strip() if path.exists() else ""


class CheckedRunLauncher(DefaultRunLauncher):
    """Launches runs as Dagster's default does, and can tell which of them are dead."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def launch_run(self, context: LaunchRunContext) -> None:
        """Have a run's process started, unless one lives already.

        A code server that dies between starting a process and saying so leaves the process behind, and one that takes
        too long starts it all the same: a request without an answer has failed only if no process begins.
        """
        run = context.dagster_run
        worker = self._find(run)
        if isinstance(worker, Worker):
            self._leave_alone(run, f"its process {worker.pid} lives")
            return
        n_before = len(self._starts(run))
        try:
            is_started = self._start(run, _client(context))
        except DagsterUserCodeUnreachableError as e:
            if NOT_SENT in str(e.__cause__) or not self._begins(run, n_before):
                raise
            self._instance.report_engine_event("The answer of the code server was lost; the run's process lives.", run)
        else:
            if not is_started:
                self._leave_alone(run, "another process has claimed it")

    def _start(self, run: DagsterRun, client: DagsterGrpcClient) -> bool:
        """Have a code server start a run's process; returns whether there was no other one that executes it.

        As Dagster's default, with an instance by which the process claims its run.
        """
        server = {"socket": client.socket} if client.socket else {"port": client.port}
        address = {"host": client.host, **server, **({"use_ssl": True} if client.use_ssl else {})}
        self._instance.add_run_tags(run.run_id, {GRPC_INFO_TAG: json.dumps(address)})
        asked = ExecuteExternalJobArgs(
            job_origin=_origin(run),
            run_id=run.run_id,
            instance_ref=claiming_ref(self._instance.get_ref(), run.run_id),
        )
        answer = deserialize_value(client.start_run(asked), StartRunResult)
        error = answer.serializable_error_info
        if answer.success:
            self._run_ids.add(run.run_id)
        elif error is None or error.cls_name != RunClaimedError.__name__:
            raise DagsterLaunchFailedError(answer.message, serializable_error_info=error)  # type: ignore[no-untyped-call]
        return answer.success

    def _leave_alone(self, run: DagsterRun, reason: str) -> None:
        """Leave a run to the process that it has."""
        message = f"Not launched a second time: {reason}."
        self._instance.report_engine_event(message, run)
        now = self._instance.get_run_by_id(run.run_id)
        if now is None or now.status is not DagsterRunStatus.STARTING:
            return
        if next(iter(self._instance.all_logs(run.run_id, of_type=DagsterEventType.RUN_START)), None) is not None:
            # Back from "queued" to what it has been for a while, else run monitoring takes it for one that never began.
            began = DagsterEvent(DagsterEventType.RUN_START.value, run.job_name, message=message)
            self._instance.report_dagster_event(began, run.run_id)

    def _begins(self, run: DagsterRun, n_before: int) -> bool:
        """Whether another process of a run says within `BEGIN_S` that it has started."""
        deadline = time.monotonic() + BEGIN_S
        while len(self._starts(run)) == n_before:
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_EVERY_S)
        return True

    def death(self, run: DagsterRun) -> str | None:
        """Why the process of a run under way is gone, in words; None while it lives, or where that cannot be seen."""
        found = self._find(run)
        return found if isinstance(found, str) else None

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the process of a STARTED run may still be at work.

        Run monitoring fails the run on any answer but RUNNING, so what is not known is RUNNING. A code server that
        still has a run fails it itself, within a second of its end; and it may see processes that this one does not.
        """
        found = self._find(run)
        if isinstance(found, Worker):
            return _running("its process lives")
        has_run = _has_run(run)
        if has_run:
            return _running("its code server has it")
        if found is None and has_run is None:
            return _running("its process is on another machine, whose code server does not answer or cannot tell")
        if has_run is None and self._is_first_miss(run):
            # Failed while its code server is away too, a run is not executed again: no server could start it.
            return _running(f"{found}, and its code server does not answer: it has until the next look")
        return _gone(found or "its code server does not have it any more")

    def _is_first_miss(self, run: DagsterRun) -> bool:
        """Whether a launched run is missed for the first time by this process."""
        missed: set[str] = self.__dict__.setdefault("_missed", set())
        if _code_server(run) is None or run.run_id in missed:
            return False
        missed.add(run.run_id)
        return True

    def terminate(self, run_id: str) -> bool:
        """End a run, also one that no code server has: its own process, if it is on this machine, is interrupted."""
        try:
            if super().terminate(run_id):  # type: ignore[no-untyped-call]
                return True
        except (DagsterUserCodeUnreachableError, DagsterUserCodeProcessError) as e:
            logging.getLogger("dagster").info(f"The code server of run {run_id} cannot end it: {e}")
        run = self._instance.get_run_by_id(run_id)
        worker = None if run is None or run.is_finished else self._find(run)
        if not isinstance(worker, Worker):
            return False
        # As a code server does it; Dagster then ends the step and the run in order.
        psutil.Process(worker.pid).send_signal(signal.SIGINT)
        return True

    def _find(self, run: DagsterRun) -> Worker | str | None:
        """The living process of a run, or why it is gone; None if that cannot be seen from this machine."""
        worker = Worker.from_tag(run.run_id, run.tags.get(WORKER_TAG))
        starts = self._starts(run)
        # One that was started later is not the one of the tag.
        if worker is not None and (not starts or worker.host != platform.node() or worker.pid == starts[-1][0]):
            return None if worker.host != platform.node() else worker.end() or worker
        client = _code_server(run)
        if client is None or not starts or not _is_here(client):
            return None
        pid, at = starts[-1]
        try:
            began, worker = psutil.Process(pid).create_time(), Worker.of(run.run_id, pid)
        except psutil.NoSuchProcess:
            return f"process {pid} is gone"
        if began > at + TOLERANCE_S:
            return f"process {pid} is another one by now"
        # Times of day can be compared only while the clock is not set: from now on the tag is what counts.
        self._instance.add_run_tags(run.run_id, {WORKER_TAG: worker.to_tag()})
        return worker.end() or worker

    def _starts(self, run: DagsterRun) -> list[tuple[int, float]]:
        """Number of each process that was started for a run, and when it started, the oldest first."""
        entries = self._instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT)
        started = [(entry.get_dagster_event().message or "", entry.timestamp) for entry in entries]
        return [
            (int(message.removeprefix(STARTED_MESSAGE).rstrip(").")), at)
            for message, at in started
            if message.startswith(STARTED_MESSAGE)
        ]


def _running(reason: str) -> CheckRunHealthResult:
    return CheckRunHealthResult(WorkerStatus.RUNNING, reason)


def _gone(reason: str) -> CheckRunHealthResult:
    return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"{reason}: killed, or lost with its machine")


def _origin(run: DagsterRun) -> RemoteJobOrigin:
    if run.remote_job_origin is None:
        raise DagsterInvariantViolationError(f"`run` must be of a job of a code server, was {run.run_id}, of none.")
    return run.remote_job_origin


def _client(context: LaunchRunContext) -> DagsterGrpcClient:
    """The code server that has the code of a run.

    Raises
    ------
    DagsterCodeLocationLoadError
        If it could not be loaded.
    """
    from hf_pipelines.resources.dagster_internals import GrpcServerCodeLocation

    if context.workspace is None:
        raise DagsterInvariantViolationError("`context` must have a workspace, had none.")
    name = _origin(context.dagster_run).repository_origin.code_location_origin.location_name
    location = context.workspace.get_code_location(name)
    if not isinstance(location, GrpcServerCodeLocation):
        raise DagsterInvariantViolationError(f"`{name}` must be served by a code server, was in this process.")
    return location.client


def _code_server(run: DagsterRun) -> DagsterGrpcClient | None:
    """The code server that started a run."""
    tag = run.tags.get(GRPC_INFO_TAG)
    address: dict[str, Any] = json.loads(tag) if tag else {}
    return DagsterGrpcClient(**address) if address else None


def _is_here(client: DagsterGrpcClient) -> bool:
    """Whether a server's processes can be seen from here: it listens on a socket or an address of this machine."""
    if client.socket:
        return True
    try:
        addresses = {str(each[4][0]) for each in getaddrinfo(client.host, client.port)}
    except gaierror:
        return False
    return bool(addresses & {each.address for cards in psutil.net_if_addrs().values() for each in cards})


def _has_run(run: DagsterRun) -> bool | None:
    """Whether the code server that started a run still has it; None if it does not answer or cannot tell."""
    client = _code_server(run)
    if client is None:
        return None
    try:
        current = deserialize_value(client.get_current_runs(), GetCurrentRunsResult)
        return run.run_id in current.current_runs
    except DagsterUserCodeUnreachableError:
        return True if _can_cancel(client, run.run_id) else None


def _can_cancel(client: DagsterGrpcClient, run_id: str) -> bool:
    """Whether a code server could end a run. `dagster code-server start` answers for its newest process only.

    So its yes is one, and its no says nothing: after a reload of the code the runs of the process before go on.
    """
    try:
        answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run_id), timeout=CANCEL_TIMEOUT_S)
    except DagsterUserCodeUnreachableError:
        return False
    return deserialize_value(answer, CanCancelExecutionResult).can_cancel
