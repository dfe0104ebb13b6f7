"""Fan-out: calls that run side by side, on threads here, elsewhere by a function that is given.

Lives here: what a function that maps must keep (`FanOut`), the one of threads, and how many threads a call inside another may take.
Not here: processes and clusters (`resources.fan_out`), what is called (`cross_validation`, `overfitting`, `tuning`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")

# Tasks that are sent for each worker: the next one lies there when one is done.
AHEAD = 2

# Once polars is imported an interrupt does not end a wait: it is seen between two waits.
LOOK_S = 0.5

# Threads that the call under way may take, None outside of any.
_allowed: ContextVar[int | None] = ContextVar("allowed_threads", default=None)


# Until a deadline; None where there is none.
SecondsLeft: TypeAlias = Callable[[], float] | None


@dataclass(frozen=True)
class Lost:
    """What became of a call that has ended its process."""

    reason: str


class InTime(Protocol):
    """Maps a function over tasks, several at a time, until a deadline; what is under way then is ended."""

    def __call__(
        self, function: Callable[[Given], Made], tasks: Iterable[Given], left: SecondsLeft
    ) -> Iterator[tuple[int, Made | Lost]]:
        """Places of the tasks and what the function makes of them, as they end.

        A task is drawn when it begins. Those that have not begun at the deadline are never drawn, and of those under way nothing
        comes. A call that ends its process is made again alone, and is lost if it does so again.

        Raises
        ------
        Exception
            What the first call that fails raises.
        """
        ...


class FanOut(Protocol):
    """Maps a function over tasks, several at a time; results are those of a plain loop, to the bit, for any number of workers.

    The function goes to each worker once, with the data that it holds (`functools.partial`): keep it, and map it again over further
    tasks. Tasks and results travel one by one: keep them small. Tasks are drawn as workers become free. Inside a call a `FanOut` is
    a plain loop.

    Attributes
    ----------
    n_workers : int
        Calls at a time.
    n_threads : int
        Threads that one call may take.
    """

    @property
    def n_workers(self) -> int: ...

    @property
    def n_threads(self) -> int: ...

    def __call__(self, function: Callable[[Given], Made], tasks: Iterable[Given]) -> Iterator[Made]:
        """What the function makes of each task, in the order of the tasks.

        Raises
        ------
        Exception
            What the first task that fails raises: same type, message and cause.
        """
        ...

    def in_time(
        self, function: Callable[[Given], Made], tasks: Iterable[Given], left: SecondsLeft
    ) -> Iterator[tuple[int, Made | Lost]]:
        """See `InTime`."""
        ...


@dataclass(frozen=True)
class Threads:
    """`FanOut` on threads of this process: nothing is copied, and whatever holds the interpreter's lock runs alone."""

    n_workers: int = 1
    n_threads: int = 1

    def __call__(self, function: Callable[[Given], Made], tasks: Iterable[Given]) -> Iterator[Made]:
        return side_by_side((partial(function, task) for task in tasks), n_jobs=self.n_workers)

    def in_time(
        self, function: Callable[[Given], Made], tasks: Iterable[Given], left: SecondsLeft
    ) -> Iterator[tuple[int, Made | Lost]]:
        """See `InTime`; a thread cannot be ended: what is under way at the deadline goes on unseen."""
        if self.n_workers == 1:
            yield from one_in_time(function, tasks, left)
            return
        call = partial(_call_with, max((_allowed.get() or 1) // self.n_workers, 1))
        pool = ThreadPoolExecutor(self.n_workers)
        try:
            ended = as_they_end(
                tasks,
                send=lambda task: pool.submit(call, partial(function, task)),
                cancel=Future.cancel,
                n_at_a_time=self.n_workers,
                left=left,
            )
            for place, future in ended:
                yield place, future.result()
        finally:
            pool.shutdown(wait=left is None, cancel_futures=True)


def one_in_time(
    function: Callable[[Given], Made], tasks: Iterable[Given], left: SecondsLeft
) -> Iterator[tuple[int, Made | Lost]]:
    """`InTime` as a plain loop in this thread: what runs over is not ended, what comes after it does not begin."""
    drawn = enumerate(tasks)
    while left is None or left() > 0.0:
        try:
            place, task = next(drawn)
        except StopIteration:
            return
        yield place, function(task)


def as_they_end(
    tasks: Iterable[Given],
    *,
    send: Callable[[Given], Future[Any]],
    cancel: Callable[[Future[Any]], object],
    n_at_a_time: int,
    left: SecondsLeft,
    is_lost: Callable[[BaseException | None], bool] = lambda error: False,
) -> Generator[tuple[int, Future[Any]], None, None]:
    """Places of tasks and their futures as they are done, until a deadline.

    Parameters
    ----------
    send, cancel : callable
        As in `in_order`.
    n_at_a_time : int
        Workers: no task waits behind another one.
    is_lost : callable
        Whether what a future raised says that its worker is gone. It may have gone for a task beside it: each is sent again alone, and is
        given as it is if it is lost then.
    """
    drawn = enumerate(tasks)
    under_way: dict[Future[Any], tuple[int, Given, bool]] = {}
    alone: list[tuple[int, Given]] = []
    is_over = False
    try:
        while True:
            if alone and not under_way and _is_time(left):
                place, task = alone.pop(0)
                under_way[send(task)] = place, task, True
            while not (alone or is_over or _runs_alone(under_way)) and len(under_way) < n_at_a_time and _is_time(left):
                try:
                    place, task = next(drawn)
                except StopIteration:
                    is_over = True
                else:
                    under_way[send(task)] = place, task, False
            if not under_way or not _is_time(left):
                return
            done, _ = wait(under_way, LOOK_S if left is None else min(LOOK_S, max(left(), 0.0)), FIRST_COMPLETED)
            for future in sorted(done, key=lambda each: under_way[each][0]):
                place, task, was_alone = under_way.pop(future)
                if not was_alone and not future.cancelled() and is_lost(future.exception()):
                    alone.append((place, task))
                else:
                    yield place, future
    finally:
        for future in under_way:
            cancel(future)


def _is_time(left: SecondsLeft) -> bool:
    return left is None or left() > 0.0


def _runs_alone(under_way: dict[Future[Any], tuple[int, Given, bool]]) -> bool:
    return any(is_alone for _, _, is_alone in under_way.values())


def side_by_side(tasks: Iterable[Callable[[], Made]], *, n_jobs: int) -> Iterator[Made]:
    """What some calls return, in their order, `n_jobs` threads at a time.

    Raises
    ------
    Exception
        As the first call that raises it, as if it had been called alone.
    """
    allowed = _allowed.get()
    n_at_a_time = n_jobs if allowed is None else min(n_jobs, allowed)
    if n_at_a_time == 1:
        yield from (task() for task in tasks)
        return
    # A loop inside one of several calls takes what is left for it.
    call = partial(_call_with, max((allowed or 1) // n_at_a_time, 1))
    with ThreadPoolExecutor(n_at_a_time) as pool:
        sent = partial(_sent_by, pool, call)
        yield from in_order(tasks, send=sent, cancel=Future.cancel, n_ahead=n_at_a_time * AHEAD)


def in_order(
    tasks: Iterable[Given],
    *,
    send: Callable[[Given], Future[Made]],
    cancel: Callable[[Future[Made]], object],
    n_ahead: int,
    is_lost: Callable[[BaseException | None, int], bool] = lambda error, n_lost: False,
) -> Generator[Made, None, None]:
    """What workers make of each task, in order; tasks are drawn as workers become free.

    Parameters
    ----------
    send, cancel : callable
        Of a task a future of what is made of it; and of a future that nobody waits for any more.
    n_ahead : int
        Tasks that are sent and not done.
    is_lost : callable
        Whether a task is sent again: given what its future raised, and how often it was lost before.

    Raises
    ------
    Exception
        What the future of a task raised, once all before it are taken.
    """
    drawn = iter(tasks)
    sent: list[_Sent[Given, Made]] = []
    is_over = False
    try:
        while True:
            done = [each for each in sent if each.future.done()]
            for each in done:
                if is_lost(each.future.exception(), each.n_lost):
                    each.future, each.n_lost = send(each.task), each.n_lost + 1
            while not is_over and sum(not each.future.done() for each in sent) < n_ahead:
                try:
                    task = next(drawn)
                except StopIteration:
                    is_over = True
                else:
                    sent.append(_Sent(task, send(task)))
            if not sent:
                return
            if sent[0] in done and sent[0].future.done():
                yield sent.pop(0).future.result()
            else:
                wait([each.future for each in sent if each not in done], LOOK_S, FIRST_COMPLETED)
    finally:
        for each in sent:
            cancel(each.future)


@contextmanager
def taking_threads(n: int | None) -> Iterator[None]:
    """While it is open, calls side by side take `n` threads at most, of any number if None."""
    before = _allowed.set(n)
    try:
        yield
    finally:
        _allowed.reset(before)


@dataclass(eq=False)
class _Sent(Generic[Given, Made]):
    task: Given
    future: Future[Made]
    n_lost: int = 0


def _sent_by(
    pool: ThreadPoolExecutor, call: Callable[[Callable[[], Made]], Made], task: Callable[[], Made]
) -> Future[Made]:
    return pool.submit(call, task)


def _call_with(n_threads: int, task: Callable[[], Made]) -> Made:
    with taking_threads(n_threads):
        return task()
