"""Forked: `Popen` of a Python module from a process that has imported the libraries, which is most of what a start costs.

The child is a process like any other: its own number, session, folder, environment, code and exit status; `fork_server`
says in what it differs from one that Python starts anew. Where a test is about starting, importing or being found by
the command line, it is `subprocess.Popen` that starts it.
"""

import atexit
import json
import os
import select
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hf_pipelines_tests import fork_server

# How soon a run that crashed is launched anew, and how long a code server may take to start one: on a machine with other
# work the usual minute is too short.
FAST_ENV = {"DAGSTER_EVENT_LOG_CONSUMER_DAEMON_INTERVAL_SECONDS": "1", "DAGSTER_GRPC_TIMEOUT_SECONDS": "240"}

# Libraries read these while they are imported, so a server has its own; Dagster's other variables are read when needed.
READ_AT_IMPORT = (*FAST_ENV, "DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS")

_CPU_S = [0.0]


class ForkServer:
    """A server of this process and the socket over which it is asked; it ends when the socket is closed."""

    def __init__(self, at_import: Mapping[str, str]) -> None:
        self._lock = threading.Lock()
        self._socket, other = socket.socketpair(type=socket.SOCK_SEQPACKET)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "DAGSTER_", "MLFLOW"))}
        kept.pop("PYTHONPATH", None)
        with other:
            # Without the folder of the script on its path.
            command = [sys.executable, "-P", str(Path(fork_server.__file__)), str(other.fileno())]
            env = {**kept, **at_import, "PYTHONWARNINGS": "ignore"}
            self._process = subprocess.Popen(command, env=env, pass_fds=[other.fileno()], stdin=subprocess.DEVNULL)
        atexit.register(self.stop)

    def stop(self) -> None:
        """End the server, not what it has forked."""
        self._socket.close()
        self._process.wait(30)

    def fork(self, request: Mapping[str, Any], descriptors: Sequence[int]) -> int:
        """Number of a new process, whose four descriptors are those given."""
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], list(descriptors))
            answer = self._socket.recv(4)
        assert answer, "the fork server has ended"
        return int(struct.unpack("i", answer)[0])


@cache
def _server(*at_import: tuple[str, str]) -> ForkServer:
    return ForkServer(dict(at_import))


def server_for(env: Mapping[str, str]) -> ForkServer:
    """The server whose libraries have read what `env` says; started by the first who asks."""
    return _server(*{**FAST_ENV, **{name: env[name] for name in READ_AT_IMPORT if name in env}}.items())


def ended_cpu_s() -> float:
    """CPU seconds of the forked children that have ended: they are the servers', not this process's."""
    return _CPU_S[0]


class ForkedPopen(subprocess.Popen[Any]):
    """A process forked by a server. It is the server's child: its end is told over a pipe."""

    def _execute_child(  # type: ignore[override]
        self, args: Sequence[str], _executable: Any, _preexec_fn: Any, _close_fds: Any, _pass_fds: Any, cwd: Any, env: Any,
        _startupinfo: Any, _creationflags: Any, _shell: Any, p2cread: int, p2cwrite: int, c2pread: int, c2pwrite: int,
        errread: int, errwrite: int, _restore_signals: Any, _gid: Any, _gids: Any, _uid: Any, _umask: Any,
        start_new_session: bool, _process_group: Any,
    ) -> None:  # fmt: skip
        request = {
            "arguments": [str(each) for each in args[2:]],
            "cwd": str(cwd or Path.cwd()),
            "env": {name: str(value) for name, value in env.items()},
            "start_new_session": start_new_session,
        }
        streams = [own if given == -1 else given for own, given in enumerate((p2cread, c2pwrite, errwrite))]
        self._told, telling = os.pipe()
        try:
            self.pid = server_for(env).fork(request, [*streams, telling])
        finally:
            os.close(telling)
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        ready, _, _ = select.select([self._told], [], [], 0.0 if wait_flags & os.WNOHANG else None)
        if not ready:
            return 0, 0
        text = os.read(self._told, fork_server.STATUS.size)
        assert text, f"the fork server of process {self.pid} has ended"
        os.close(self._told)
        status, cpu_s = fork_server.STATUS.unpack(text)
        _CPU_S[0] += cpu_s
        return self.pid, status

    def _internal_poll(self, _deadstate: Any = None, *_: Any) -> int | None:
        def waitpid(_pid: int, flags: int) -> tuple[int, int]:
            return self._try_wait(flags)

        return super()._internal_poll(_deadstate, waitpid)  # type: ignore[misc]


def popen(
    command: Sequence[str], *, env: Mapping[str, str], user: str | None = None, **options: Any
) -> "subprocess.Popen[Any]":
    """`subprocess.Popen`, forked if `command` is a module of this Python.

    With HF_TEST_STARTS=anew nothing is forked: `make faults`, `make quarter` and `make soak` start each process as a user does.
    """
    is_module = list(command[:2]) == [sys.executable, "-m"]
    is_forked = sys.platform == "linux" and is_module and user is None
    if not is_forked or os.environ.get("HF_TEST_STARTS") == "anew":
        return subprocess.Popen(command, env=env, user=user, **options)
    return ForkedPopen(command, env=env, **options)
