"""Lease: one supervisor for each folder and role, and what a killed one has left.

Lives here: the lock, and finding processes by an id in their environment. Does not live here: services (`supervisor`).
"""

import json
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from hf_pipelines.resources.setting_variables import NOTED, setting_variables
from hf_pipelines.serving.service import STOP_TIMEOUT_S, ServiceFailedError

# In the environment of every service and of all that it starts: how the next supervisor knows what a killed one left.
ID_VARIABLE = "HF_STACK_ID"


@dataclass(frozen=True)
class Lease:
    """What one supervisor has for itself.

    Attributes
    ----------
    run_id : str
        Value of ID_VARIABLE in the environment of all it starts.
    private : Path
        A folder with a short path (that of a socket has at most 107 bytes) that no other user may enter.
    """

    run_id: str
    private: Path


@contextmanager
def one_supervisor(folder: Path, role: str, command: str) -> Iterator[Lease]:
    """A lease, while no other supervisor of this role works in `folder`; what a killed one left is stopped and removed.

    Raises
    ------
    ServiceFailedError
        If another one is running.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # The system frees the lock of a killed process.
    lock, state = FileLock(folder / f"{role}.lock", timeout=0), folder / f"{role}.json"
    before = _read(state)
    try:
        lock.acquire()
    except Timeout as e:
        running = f"`{before.get('command', 'hfp')}` (pid {before.get('pid', 'unknown')})"
        raise ServiceFailedError(
            f"`{command}` must be alone in {folder.parent}, {running} is running; stop it or set another HF_DATA_DIR."
        ) from e
    try:
        if left_id := str(before.get("id", "")):
            if stopped := stop_left_over(left_id):
                print(f"Stopped what a killed `{before.get('command')}` had left: {', '.join(stopped)}.", flush=True)
            shutil.rmtree(_private_folder(left_id), ignore_errors=True)
        lease = Lease(run_id := uuid.uuid4().hex, _private_folder(run_id))
        state.write_text(json.dumps({"pid": os.getpid(), "id": run_id, "command": command, NOTED: setting_variables()}))
        lease.private.mkdir(mode=0o700)
        yield lease
    finally:
        # After a failure as well: what was started has been stopped.
        if state.exists():
            shutil.rmtree(_private_folder(str(_read(state).get("id"))), ignore_errors=True)
            state.unlink(missing_ok=True)
        lock.release()


def _private_folder(run_id: str) -> Path:
    return Path(tempfile.gettempdir()) / f"hf_{run_id[:16]}"


def stop_left_over(run_id: str) -> list[str]:
    """Stop every process that carries an id in its environment; returns name and pid of each."""
    left = [process for process in psutil.process_iter(["name"]) if _carries(process, run_id)]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            # PostgreSQL's fast shutdown is SIGINT.
            process.send_signal(signal.SIGINT if process.info["name"] == "postgres" else signal.SIGTERM)
    _, alive = psutil.wait_procs(left, timeout=STOP_TIMEOUT_S)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=STOP_TIMEOUT_S)
    return [f"{process.info['name']} (pid {process.pid})" for process in left]


def _carries(process: psutil.Process, run_id: str) -> bool:
    if process.pid == os.getpid():
        return False
    try:
        return bool(process.environ().get(ID_VARIABLE) == run_id)
    except (psutil.Error, OSError):
        return False


def _read(state: Path) -> dict[str, object]:
    try:
        content: dict[str, object] = json.loads(state.read_text())
    except (OSError, ValueError):
        return {}
    return content
