"""Processes: calls in processes of this machine, by loky.

Lives here: the pool, the file that the function is handed over in, and what happens when a process is killed. Does not live here: what
a process does (`worker`).
"""

import os
import re
import shutil
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import uuid4

from hf_pipelines.research.fan_out import AHEAD, Lost, SecondsLeft, Threads, as_they_end, in_order
from hf_pipelines.resources.fan_out.faults import result_of
from hf_pipelines.resources.fan_out.packing import pack, packed
from hf_pipelines.resources.fan_out.worker import HandedOver, begin_worker, call_handed_over, read_mapped

Given = TypeVar("Given")
Made = TypeVar("Made")

# A process may be killed by the system for the memory of another one; a task that takes too much is killed each time.
MOST_LOST = 3


class Processes:
    """`FanOut` over processes of this machine, which end when it is closed, or when this process ends or is killed.

    Parameters
    ----------
    n_workers, n_threads : int
        See `FanOut`.
    prepare : callable, optional
        Called in each process before the function comes, such as to register entries.
    tell : callable, optional
        Is given a line for each loss, and for each function that is handed over.
    """

    def __init__(
        self,
        n_workers: int,
        n_threads: int = 1,
        *,
        prepare: Callable[[], object] = list,
        tell: Callable[[str], object] = str,
    ) -> None:
        self.n_workers, self.n_threads = n_workers, n_threads
        self._prepare, self._tell = prepare, tell
        self._pool: Any = None
        self._latest: tuple[Callable[..., Any], _File] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[Threads], tuple[int]]:
        # In a worker it is a plain loop.
        return Threads, (1,)

    def close(self) -> None:
        """End all processes, in the middle of a task too."""
        pool, self._pool, self._latest = self._pool, None, None
        if pool is not None:
            pool.shutdown(wait=True, kill_workers=True)

    def __call__(self, function: Callable[[Given], Made], tasks: Iterable[Given]) -> Iterator[Made]:
        """See `FanOut`.

        Raises
        ------
        RuntimeError
            If processes are killed again and again.
        """
        file = self._hand_over(function)
        handed = HandedOver(file.key, file.read, self.n_threads)
        outcomes = in_order(
            map(packed, tasks),
            send=lambda task: self._send(handed, task),
            cancel=Future.cancel,
            n_ahead=AHEAD * self.n_workers,
            is_lost=lambda error, n_lost: isinstance(error, BrokenProcessPool) and n_lost < MOST_LOST,
        )
        try:
            for outcome in outcomes:
                yield result_of(outcome)
        except BrokenProcessPool as e:
            raise RuntimeError(
                f"A task must leave its process alive, its process was killed {MOST_LOST + 1} times ({_exit_codes(e)}); if that was for "
                "want of memory, fewer processes take less: HF_FAN_OUT_WORKERS=1, or train on fewer weeks."
            ) from e
        finally:
            outcomes.close()

    def in_time(
        self, function: Callable[[Given], Made], tasks: Iterable[Given], left: SecondsLeft
    ) -> Iterator[tuple[int, Made | Lost]]:
        """See `InTime`: processes that are under way at the deadline are killed."""
        file = self._hand_over(function)
        handed = HandedOver(file.key, file.read, self.n_threads)
        ended = as_they_end(
            map(packed, tasks),
            send=lambda task: self._send(handed, task),
            cancel=Future.cancel,
            n_at_a_time=self.n_workers,
            left=left,
            is_lost=lambda error: isinstance(error, BrokenProcessPool),
        )
        try:
            for place, future in ended:
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    yield (
                        place,
                        Lost(f"its process was killed ({_exit_codes(error)}), alone too; it may take too much memory"),
                    )
                else:
                    yield place, result_of(future.result())
        finally:
            ended.close()
            if left is not None and left() <= 0.0:
                self.close()

    def _hand_over(self, function: Callable[..., Any]) -> "_File":
        if self._latest is None or self._latest[0] is not function:
            file = _File((self._prepare, function))
            self._tell(f"handed over to each process once, by a file that they share: {file.n_bytes / 1e6:,.1f} MB")
            self._latest = function, file
        return self._latest[1]

    def _send(self, handed: HandedOver, task: bytes) -> "Future[Any]":
        from joblib.externals.loky.process_executor import ShutdownExecutorError

        pool = self._pool
        if pool is None:
            pool = self._pool = self._start()
        try:
            return pool.submit(call_handed_over, handed, task)  # type: ignore[no-any-return]
        except (BrokenProcessPool, ShutdownExecutorError) as e:
            self._tell(f"a process was killed ({_exit_codes(e)}): its tasks are sent again")
            pool.shutdown(wait=True, kill_workers=True)
            self._pool = self._start()
            return self._pool.submit(call_handed_over, handed, task)  # type: ignore[no-any-return]

    def _start(self) -> Any:
        from joblib.externals.loky.process_executor import ProcessPoolExecutor

        return ProcessPoolExecutor(self.n_workers, initializer=begin_worker, initargs=(os.getpid(),))


class _File:
    """A packed value in a folder of its own, removed when nobody needs it, or this process was killed."""

    def __init__(self, value: Any) -> None:
        from joblib.externals.loky.backend import resource_tracker

        folder = mkdtemp(prefix="hf_fan_out_")
        resource_tracker.register(folder, "folder")
        weakref.finalize(self, _remove, folder)
        self.key = uuid4().hex
        self._path = Path(folder, "function")
        with self._path.open("wb") as file:
            for piece in pack(value):
                file.write(piece)
            self.n_bytes = file.tell()

    @property
    def read(self) -> Callable[[], Any]:
        return partial(read_mapped, str(self._path))


def _remove(folder: str) -> None:
    from joblib.externals.loky.backend import resource_tracker

    shutil.rmtree(folder, ignore_errors=True)
    resource_tracker.unregister(folder, "folder")


def _exit_codes(error: BaseException) -> str:
    """Of what loky says of killed workers: "SIGKILL(-9)"."""
    codes = re.search(r"exit codes of the workers are \{(.*)\}", str(error))
    return codes[1] if codes else type(error).__name__
