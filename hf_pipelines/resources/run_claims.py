"""Run claims: a run is executed by one process, however often its start is asked for.

Lives here: the lock that a run's process holds from before it says that it has started until it ends, and what a second
process does. Does not live here: asking a code server for the process (`run_launcher`).

Dagster concept: run worker. The daemon asks the code server to start a run. Where the answer is lost (the code server
dies, or takes longer than the time limit of the request) the run goes back into the queue and is asked for again,
while the process of the first request may live. Dagster's process looks at the status of its run alone, and that is
the same for two processes as long as both load the code.

| what a process finds before it starts | what it does |
|---|---|
| no process holds the run, and it is being started | claims it and executes it |
| no process holds the run, and it is back in the queue | ends: it will be asked for again |
| another one holds the run and has begun, or ended it | ends |
| another one holds the run and has not begun | waits until one of the above is true, at most `WAIT_S` |

The lock belongs to the process and goes with it, however it ends. It holds on one machine: a code server starts its runs
where it runs itself.
"""

import fcntl
import multiprocessing
import os
import time
from hashlib import sha256
from multiprocessing.util import Finalize
from pathlib import Path

from dagster import DagsterRunStatus, RunsFilter

from hf_pipelines.resources.dagster_internals import ConfigurableClassData, InstanceRef, RunStorage

# Of the storage's settings, in what the launcher hands to the process of a run.
RUN_ID = "run_id"

# Processes below that of a run work for it.
CLAIMED = "CLAIMED_RUN"

# Shorter than a request for a start may take (60 s), so that the answer is not lost again; longer than the code loads.
WAIT_S = 30.0
LOOK_EVERY_S = 0.3

LINGER_S = 2.0


class RunClaimedError(RuntimeError):
    """Another process executes the run, or it no longer waits to be started."""


def claiming_ref(ref: InstanceRef, run_id: str) -> InstanceRef:
    """What opens the same instance, for the process of a run: it claims that run (`claim_if_worker`)."""
    given = ref.storage_data
    if given is None or not given.module_name.startswith("hf_pipelines."):
        # Another storage than the project's, chosen in dagster.yaml: it knows no claims.
        return ref
    named = ConfigurableClassData(given.module_name, given.class_name, f"{RUN_ID}: {run_id}\n")
    return ref._replace(storage_data=named)


def claim_if_worker(run_id: str, runs: RunStorage, folder: Path) -> None:
    """Claim a run, if this is the process that was started for it; the code server opens the same instance.

    Raises
    ------
    RunClaimedError
        If another process executes it, or it is back in the queue.
    """
    if multiprocessing.parent_process() is None or os.environ.get(CLAIMED) == run_id:
        return
    try:
        claim(run_id, runs, folder)
    except RunClaimedError:
        # The code server fails a run whose newest process has ended, unless it has read why: it looks ten times a second.
        Finalize(None, time.sleep, [LINGER_S], exitpriority=0)
        raise
    os.environ[CLAIMED] = run_id


def claim(run_id: str, runs: RunStorage, folder: Path) -> None:
    """Hold a run until this process ends.

    Raises
    ------
    RunClaimedError
        If another process executes it, or it is back in the queue.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Kept open: with the descriptor goes the lock. One file for all runs, a byte of it for each: none is left behind.
    file = os.open(folder / "run_claims", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + WAIT_S
    while not (is_mine := _lock(file, run_id)) and _is_starting(runs, run_id) and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
    if is_mine and not _is_queued(runs, run_id):
        return
    os.close(file)
    found = "that is back in the queue" if is_mine else "that another process holds"
    raise RunClaimedError(f"`run` must be one that waits for this process, was {run_id}, {found}.")


def _lock(file: int, run_id: str) -> bool:
    """Whether this process holds the byte of a run; POSIX locks are not inherited by processes below it."""
    at = int.from_bytes(sha256(run_id.encode()).digest()[:8]) >> 2
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)
    except BlockingIOError:
        return False
    return True


def _status(runs: RunStorage, run_id: str) -> DagsterRunStatus | None:
    return next((run.status for run in runs.get_runs(RunsFilter(run_ids=[run_id]))), None)


def _is_starting(runs: RunStorage, run_id: str) -> bool:
    return _status(runs, run_id) is DagsterRunStatus.STARTING


def _is_queued(runs: RunStorage, run_id: str) -> bool:
    return _status(runs, run_id) is DagsterRunStatus.QUEUED
