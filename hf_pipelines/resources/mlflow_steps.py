"""MLflow's steps: numbers of a fit that goes on, sent beside it, so that a tracking server that is slow or away never holds it up.

Lives here: the thread that sends them. Does not live here: what is logged once the fit is over (`mlflow_runs`).
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

# Points that wait; beyond them new ones are dropped.
MOST_WAITING = 20_000
# What is sent at once.
MOST_AT_ONCE = 1_000
# After a failure the server is left alone so long, ever longer.
PAUSES_S = (1.0, 5.0, 20.0)
# What is still to be sent when the fit is over has so long.
PATIENCE_S = 10.0

Send = Callable[[str, Sequence[Any]], None]


class StepSender:
    """Sends points of runs in the order in which they come.

    Parameters
    ----------
    send : callable
        `(run id, points)`. What it fails to send is dropped: once the fit is over, all of it is logged again.
    failures : tuple of exception types
        Of `send` that mean that the server is away.
    """

    def __init__(self, send: Send, failures: tuple[type[Exception], ...]) -> None:
        self._send = send
        self._failures = failures
        self._waiting: queue.Queue[tuple[str, Any]] = queue.Queue(MOST_WAITING)
        self._is_closing = threading.Event()
        self._thread: threading.Thread | None = None
        self.n_dropped = 0

    def put(self, run_id: str, points: Sequence[Any]) -> None:
        """Take points; returns at once."""
        if self._thread is None:
            # A daemon: a process that ends does not wait for a server.
            self._thread = threading.Thread(target=self._work, name="mlflow-steps", daemon=True)
            self._thread.start()
        for point in points:
            try:
                self._waiting.put_nowait((run_id, point))
            except queue.Full:
                self.n_dropped += 1

    def close(self, patience_s: float = PATIENCE_S) -> int:
        """Wait for what is left to be sent, so long and no longer; returns how many points were not."""
        if self._thread is not None:
            self._is_closing.set()
            self._thread.join(patience_s)
            self.n_dropped += self._waiting.qsize() * self._thread.is_alive()
        return self.n_dropped

    def _work(self) -> None:
        n_failed = 0
        while True:
            taken = self._take()
            if not taken:
                if self._is_closing.is_set():
                    return
                continue
            for run_id in dict.fromkeys(each for each, _ in taken):
                points = [point for each, point in taken if each == run_id]
                try:
                    self._send(run_id, points)
                    n_failed = 0
                except self._failures:
                    self.n_dropped += len(points)
                    n_failed += 1
                    self._is_closing.wait(PAUSES_S[min(n_failed, len(PAUSES_S)) - 1])

    def _take(self) -> list[tuple[str, Any]]:
        """What waits, after a moment in which more may come."""
        try:
            taken = [self._waiting.get(timeout=0.2)]
        except queue.Empty:
            return []
        if not self._is_closing.is_set():
            time.sleep(0.05)
        while len(taken) < MOST_AT_ONCE:
            try:
                taken.append(self._waiting.get_nowait())
            except queue.Empty:
                break
        return taken
