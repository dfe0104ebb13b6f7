"""Ray tasks: calls on the machines of a Ray cluster, or on a Ray of this machine.

Lives here: the connection, the object that the function is handed over in, and the tasks with their retries. Does not live here: what a
worker does (`worker`), and starting a cluster, which is the user's (`docs`).

Tasks, not joblib's backend of Ray: that is an actor, and dies with its node.
"""

import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import uuid4

from hf_pipelines.research.fan_out import AHEAD, Lost, SecondsLeft, Threads, as_they_end, in_order
from hf_pipelines.resources.fan_out.code_print import code_print
from hf_pipelines.resources.fan_out.faults import result_of
from hf_pipelines.resources.fan_out.packing import packed
from hf_pipelines.resources.fan_out.worker import HandedOver, call_handed_over

Given = TypeVar("Given")
Made = TypeVar("Made")

# Losses of a task: of its node, its process, or the object that it reads.
MOST_LOST = 3

# A head that does not answer by then is not there; Ray itself would wait for a minute.
CONNECT_S = 10.0


class RayTasks:
    """`FanOut` over the tasks of a Ray cluster.

    Parameters
    ----------
    address : str, optional
        Of the cluster's head, such as 10.0.0.5:6379, or "auto" for the cluster that this machine is part of; None starts a Ray on this
        machine, which ends when it is closed, or when this process is killed.
    n_workers : int, optional
        Calls at a time; by default as many as the cluster has cores for.
    n_threads, prepare, tell
        As in `Processes`.

    Raises
    ------
    ValueError
        If Ray is not installed, or no head answers at the address.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        n_workers: int | None = None,
        n_threads: int = 1,
        prepare: Callable[[], object] = list,
        tell: Callable[[str], object] = str,
    ) -> None:
        require_ray()
        if address is not None:
            _require_answer(address)
        # Nothing is reported to anybody; numbers of threads are ours to set.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray

        self._ray = ray
        self._prepare, self._tell = prepare, tell
        self._is_ours = not ray.is_initialized()
        self.n_threads = n_threads
        if self._is_ours:
            options: dict[str, Any] = {"num_cpus": (n_workers or 1) * n_threads, "include_dashboard": False}
            if address is not None:
                options = {"address": address}
            ray.init(log_to_driver=False, logging_level="error", configure_logging=False, **options)
        has_room_for = int(ray.cluster_resources().get("CPU", 0)) // n_threads
        self.n_workers = max(min(n_workers or has_room_for, has_room_for), 1)
        self._call = ray.remote(num_cpus=n_threads, max_retries=MOST_LOST)(call_handed_over)
        self._latest: tuple[Callable[..., Any], HandedOver] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[Threads], tuple[int]]:
        # In a worker it is a plain loop.
        return Threads, (1,)

    def close(self) -> None:
        """Leave the cluster, or end the one of this machine."""
        self._latest = None
        if self._is_ours:
            self._ray.shutdown()

    def __call__(self, function: Callable[[Given], Made], tasks: Iterable[Given]) -> Iterator[Made]:
        """See `FanOut`.

        Raises
        ------
        RuntimeError
            If the workers of a task are lost again and again.
        """
        send, cancel = self._sending(self._hand_over(function))
        outcomes = in_order(map(packed, tasks), send=send, cancel=cancel, n_ahead=AHEAD * self.n_workers)
        try:
            for outcome in outcomes:
                yield result_of(outcome)
        except self._ray.exceptions.RayError as e:
            raise RuntimeError(
                f"A task must leave its worker alive, its worker was lost {MOST_LOST + 1} times or the cluster is gone "
                f"({type(e).__name__}: {str(e).strip().splitlines()[0][:300]}); see `ray status` on the head, give workers more memory "
                "(num_cpus of the node fewer), or take another backend: HF_FAN_OUT=processes."
            ) from e
        finally:
            outcomes.close()

    def in_time(
        self, function: Callable[[Given], Made], tasks: Iterable[Given], left: SecondsLeft
    ) -> Iterator[tuple[int, Made | Lost]]:
        """See `InTime`: tasks that are under way at the deadline are cancelled, and their workers killed."""
        send, cancel = self._sending(self._hand_over(function))
        lost = self._ray.exceptions.RayError
        ended = as_they_end(
            map(packed, tasks),
            send=send,
            cancel=cancel,
            n_at_a_time=self.n_workers,
            left=left,
            is_lost=lambda error: isinstance(error, lost),
        )
        try:
            for place, future in ended:
                error = future.exception()
                if isinstance(error, lost):
                    yield (
                        place,
                        Lost(f"its worker was lost ({type(error).__name__}), alone too; it may take too much memory"),
                    )
                else:
                    yield place, result_of(future.result())
        finally:
            ended.close()

    def _sending(self, handed: HandedOver) -> "tuple[Callable[[bytes], Future[Any]], Callable[[Future[Any]], object]]":
        """What sends a task, and what cancels it."""
        refs: dict[Future[Any], Any] = {}

        def send(task: bytes) -> "Future[Any]":
            ref = self._call.remote(handed, task)
            future: Future[Any] = ref.future()
            refs[future] = ref
            future.add_done_callback(lambda done: refs.pop(done, None))
            return future

        def cancel(future: "Future[Any]") -> None:
            if ref := refs.pop(future, None):
                self._ray.cancel(ref, force=True)

        return send, cancel

    def _hand_over(self, function: Callable[..., Any]) -> HandedOver:
        import numpy as np

        if self._latest is None or self._latest[0] is not function:
            whole = np.frombuffer(packed((self._prepare, function)), dtype=np.uint8)
            self._tell(f"handed over to each machine once, by Ray's object store: {whole.nbytes / 1e6:,.1f} MB")
            # Inside of a list Ray does not fetch it for each task.
            read = partial(_read_stored, [self._ray.put(whole)])
            self._latest = function, HandedOver(uuid4().hex, read, self.n_threads, code_print())
        return self._latest[1]


def require_ray() -> None:
    """Refuse this backend without its library.

    Raises
    ------
    ValueError
        Naming the extra that brings it.
    """
    if find_spec("ray") is None:
        raise ValueError(
            '`HF_FAN_OUT` must be a backend whose library is installed, was ray; install the extra: pip install "hf_pipelines[ray]".'
        )


def _require_answer(address: str) -> None:
    if not (named := re.fullmatch(r"\[?([^\]]+)\]?:(\d+)", address)):
        return
    try:
        socket.create_connection((named[1], int(named[2])), timeout=CONNECT_S).close()
    except OSError as e:
        raise ValueError(
            f"`HF_RAY_ADDRESS` must be the address of a Ray cluster's head that answers, was {address} ({e}); start it "
            "(`ray start --head --port=6379`), or take HF_FAN_OUT=processes."
        ) from e


def _read_stored(refs: list[Any]) -> Any:
    import ray

    return ray.get(refs[0])
