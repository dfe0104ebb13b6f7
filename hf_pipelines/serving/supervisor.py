"""Supervisor: services as child processes, started in order, watched, started again, stopped in reverse order.

Lives here: how any service is started, waited for, restarted and stopped, and how those of a killed supervisor are
found. Does not live here: which services there are (`stack`).

A process that lives and no longer serves (a proxy whose inner process died, a thread that hangs) is as good as dead. So
each service is asked again and again, in a thread of its own, whether it still serves.
"""

import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from hf_pipelines.serving.launcher import launched
from hf_pipelines.serving.lease import ID_VARIABLE, stop_left_over
from hf_pipelines.serving.service import STOP_TIMEOUT_S, Service, ServiceFailedError

# Loading the code on a busy machine takes longest.
START_TIMEOUT_S = 300.0
TICK_S = 0.1
CHECK_EVERY_S = 0.5

# Twice in a row: one refusal may be a server that is just being replaced.
PROBE_EVERY_S = 3.0
MISSES = 2

# A service that ends more often than this is broken, not unlucky.
MAX_RESTARTS = 5
RESTART_WINDOW_S = 600.0
FIRST_BACKOFF_S = 1.0

# A log is put aside at a start, not while it is written.
MAX_LOG_BYTES = 10_000_000
TAIL_CHARACTERS = 1500

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Probe(threading.Thread):
    """Asks one process of a service whether it still serves, and revives it where that can be done.

    Attributes
    ----------
    n_revived : int
        How often it was made to serve again.
    is_lost : bool
        Whether it does not serve, and could not be revived.
    """

    def __init__(self, service: Service, every_s: float) -> None:
        super().__init__(name=f"probe-{service.name}", daemon=True)
        self._service = service
        self._every_s = every_s
        self._is_over = threading.Event()
        self.n_revived = 0
        self.is_lost = False

    def run(self) -> None:
        n_missed = 0
        while not self._is_over.wait(self._every_s):
            assert self._service.is_serving is not None
            n_missed = 0 if self._service.is_serving() else n_missed + 1
            if n_missed < MISSES or self._is_over.is_set():
                continue
            if self._service.revive is None or not self._service.revive():
                self.is_lost = True
                return
            self.n_revived += 1
            n_missed = 0

    def end(self) -> None:
        self._is_over.set()


@dataclass
class _Kept:
    """What the supervisor knows of a service."""

    service: Service
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    is_healthy: bool = False
    was_healthy: bool = False
    next_check: float = 0.0
    not_before: float = 0.0
    restarts: deque[float] = field(default_factory=deque)
    probe: _Probe | None = None
    n_revived: int = 0


class Supervisor:
    """Keeps services running until it is asked to stop.

    Parameters
    ----------
    services : sequence of Service
        In the order in which they are started; they are stopped in reverse.
    logs : Path
        Folder of `<service>.log`.
    run_id : str
        Value of ID_VARIABLE in the environment of all services.
    first_backoff_s : float
        Wait before the first restart of a service; each further one waits twice as long.
    probe_every_s : float
        Time between two questions whether a service still serves.
    """

    def __init__(
        self,
        services: Sequence[Service],
        *,
        logs: Path,
        run_id: str,
        first_backoff_s: float = FIRST_BACKOFF_S,
        probe_every_s: float = PROBE_EVERY_S,
    ) -> None:
        self._kept = {service.name: _Kept(service) for service in services}
        self._logs = logs
        self._run_id = run_id
        self._first_backoff_s = first_backoff_s
        self._probe_every_s = probe_every_s
        self._is_stopping = False

    def run(self, when_ready: Callable[[], None]) -> None:
        """Start all, call `when_ready`, and keep them running until SIGINT or SIGTERM.

        Raises
        ------
        ServiceFailedError
            If a port is taken, a service does not start, or ends again and again; all others are stopped first.
        """
        self._refuse_taken_ports()
        self._logs.mkdir(parents=True, exist_ok=True)
        before = {wanted: signal.signal(wanted, self._stop_soon) for wanted in STOPPING}
        is_ready = False
        try:
            while not self._is_stopping:
                for kept in self._kept.values():
                    self._advance(kept)
                if not is_ready and all(kept.is_healthy for kept in self._kept.values()):
                    is_ready = True
                    when_ready()
                time.sleep(TICK_S)
        finally:
            self._stop_all()
            for wanted, handler in before.items():
                signal.signal(wanted, handler)

    def _stop_soon(self, *_: object) -> None:
        self._is_stopping = True

    def _advance(self, kept: _Kept) -> None:
        now = time.monotonic()
        if self._is_stopping:
            return
        if kept.process is None:
            if now >= kept.not_before and all(self._kept[name].is_healthy for name in kept.service.after):
                self._spawn(kept)
        elif kept.process.poll() is not None:
            self._lost(kept, f"ended with {_ending(kept.process.returncode)}")
        elif not kept.is_healthy and now >= kept.next_check:
            kept.next_check = now + CHECK_EVERY_S
            if kept.service.is_healthy(kept.started_at):
                kept.is_healthy = kept.was_healthy = True
                took = time.time() - kept.started_at
                _say(
                    kept.service.name,
                    f"{kept.service.address:<40} pid {kept.process.pid:<8} healthy after {took:.1f} s",
                )
                self._begin_probe(kept)
            elif time.time() - kept.started_at > START_TIMEOUT_S:
                self._lost(kept, f"was not healthy within {START_TIMEOUT_S:.0f} s")
        elif kept.probe is not None and kept.probe.is_lost:
            self._lost(kept, "did not answer any more")
        elif kept.probe is not None and kept.probe.n_revived > kept.n_revived:
            kept.n_revived = kept.probe.n_revived
            self._count_restart(kept, "did not answer any more")
            _say(kept.service.name, f"answers again: what had ended in it was started anew, {self._restarts(kept)}")

    def _begin_probe(self, kept: _Kept) -> None:
        if kept.service.is_serving is not None:
            kept.probe, kept.n_revived = _Probe(kept.service, self._probe_every_s), 0
            kept.probe.start()

    def _spawn(self, kept: _Kept) -> None:
        service = kept.service
        log = self._log(service)
        if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
            log.replace(log.with_suffix(".log.old"))
        kept.started_at = time.time()
        with log.open("ab") as output:
            kept.process = subprocess.Popen(
                launched(service.command, service.user),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={
                    "PYTHONUNBUFFERED": "1",
                    "PYTHONWARNINGS": "ignore",
                    **os.environ,
                    **service.env,
                    ID_VARIABLE: self._run_id,
                },
                cwd=service.cwd,
                # Ctrl-C reaches the supervisor alone: it stops the others in order.
                start_new_session=True,
            )

    def _lost(self, kept: _Kept, how: str) -> None:
        assert kept.process is not None
        _kill_group(kept.process)
        if kept.probe is not None:
            kept.probe.end()
        kept.process, kept.probe, kept.is_healthy = None, None, False
        name, log = kept.service.name, self._log(kept.service)
        if not kept.was_healthy:
            tail = log.read_text(errors="replace")[-TAIL_CHARACTERS:].strip()
            raise ServiceFailedError(f"{name} must start, {how}; its log {log} ends with:\n{tail}")
        wait_s = self._first_backoff_s * 2 ** self._count_restart(kept, how)
        kept.not_before = time.monotonic() + wait_s
        _say(name, f"{how}; {self._restarts(kept)} in {wait_s:g} s, its log is {log}")

    def _count_restart(self, kept: _Kept, how: str) -> int:
        """Number of restarts of a service before this one, of late; refused if they are too many."""
        now = time.monotonic()
        while kept.restarts and now - kept.restarts[0] > RESTART_WINDOW_S:
            kept.restarts.popleft()
        if len(kept.restarts) == MAX_RESTARTS:
            name, minutes = kept.service.name, RESTART_WINDOW_S / 60
            raise ServiceFailedError(
                f"{name} must keep running, {how} for the {MAX_RESTARTS + 1}th time within {minutes:.0f} minutes; "
                f"read {self._log(kept.service)}."
            )
        kept.restarts.append(now)
        return len(kept.restarts) - 1

    def _restarts(self, kept: _Kept) -> str:
        return f"restart {len(kept.restarts)} of {MAX_RESTARTS}"

    def _log(self, service: Service) -> Path:
        return self._logs / f"{service.name}.log"

    def _stop_all(self) -> None:
        for kept in self._kept.values():
            if kept.probe is not None:
                kept.probe.end()
        for name, kept in reversed(self._kept.items()):
            if kept.process is None:
                continue
            if kept.process.poll() is None:
                kept.process.send_signal(kept.service.stop_signal)
                with suppress(subprocess.TimeoutExpired):
                    kept.process.wait(STOP_TIMEOUT_S)
            # Workers that outlived their leader are in its group.
            _kill_group(kept.process)
            _say(name, "stopped")
        stop_left_over(self._run_id)

    def _refuse_taken_ports(self) -> None:
        listening: dict[int, int] = {}
        with suppress(psutil.AccessDenied):
            found = psutil.net_connections("tcp")
            listening = {each.laddr.port: each.pid or 0 for each in found if each.status == psutil.CONN_LISTEN}
        taken = [
            f"{kept.service.name} needs port {kept.service.port}, which {_owner(listening.get(kept.service.port, 0))} holds"
            for kept in self._kept.values()
            if kept.service.port is not None and not is_free(kept.service.port)
        ]
        if taken:
            raise ServiceFailedError(f"ports must be free: {'; '.join(taken)}; stop it or give another port (--help).")


def answers(url: str, timeout_s: float = 3.0) -> bool:
    """Whether an HTTP server gives any answer below 500."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s):
            return True
    except urllib.error.HTTPError as e:
        return e.code < 500
    except (OSError, ValueError):
        return False


def is_free(port: int) -> bool:
    """Whether a program may listen on a port of 127.0.0.1."""
    with socket.socket() as probe:
        # As servers do: a connection of the last run that is still closing does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _owner(pid: int) -> str:
    try:
        return f"{psutil.Process(pid).name()} (pid {pid})" if pid else "another program"
    except psutil.Error:
        return "another program"


def _ending(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _say(name: str, text: str) -> None:
    print(f"{name:<12} {text}", flush=True)
