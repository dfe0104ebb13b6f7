"""Opening: where the environment says that tasks run.

Lives here: the choice of a backend, how many workers and threads fit, and the line that says so. Does not live here: the backends, the
variables (`settings`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from hf_pipelines.research.fan_out import FanOut, Threads
from hf_pipelines.resources import settings
from hf_pipelines.resources.fan_out.processes import Processes
from hf_pipelines.resources.fan_out.ray_tasks import RayTasks
from hf_pipelines.resources.fan_out.worker import is_worker
from hf_pipelines.resources.machine import cores_given, memory_left


class Share(NamedTuple):
    """What workers of one machine take."""

    n_workers: int
    n_threads: int

    @staticmethod
    def of_cores(cores: int, *, asked: int | None) -> "Share":
        """As many workers as were asked for, at most one for each core, and the threads of each: together never more than cores."""
        n_workers = max(min(asked or cores, cores), 1)
        return Share(n_workers, max(cores // n_workers, 1))


@contextmanager
def open_fan_out(
    tell: Callable[[str], object],
    *,
    prepare: Callable[[], object] = list,
    n_threads: int | None = None,
    can_end: bool = False,
) -> Iterator[FanOut]:
    """Workers as `HF_FAN_OUT`, `HF_FAN_OUT_WORKERS` and `HF_RAY_ADDRESS` say; they end with the context.

    Parameters
    ----------
    tell : callable
        Is given lines for the log: what the workers are, what each may take, what was lost.
    prepare : callable, optional
        Called in each worker process first, such as to register the entries of modules; it must be picklable.
    n_threads : int, optional
        Threads of a worker at most; by default what the cores allow.
    can_end : bool
        Whether a task may have to be ended in the middle, as `in_time` does: threads cannot be, and give way to processes.

    Raises
    ------
    ValueError
        If a variable is wrong, an extra is missing, or no cluster answers.
    """
    if is_worker():
        # One of the workers' own calls: all cores are taken.
        yield Threads()
        return
    backend, asked = settings.fan_out(), settings.fan_out_workers()
    cores = cores_given()
    share = Share.of_cores(cores, asked=asked)
    threads = share.n_threads if n_threads is None else min(share.n_threads, n_threads)
    if backend == "ray":
        address = settings.ray_address()
        with RayTasks(
            address,
            n_workers=share.n_workers if address is None else asked,
            n_threads=threads if address is None else n_threads or 1,
            prepare=prepare,
            tell=tell,
        ) as tasks:
            where = "a Ray of this machine" if address is None else f"the Ray cluster {address}"
            tell(_line("Ray tasks", tasks, where=where, memory=None if address else memory_left(), asked=asked))
            yield tasks
        return
    if backend == "processes" or can_end:
        with Processes(share.n_workers, threads, prepare=prepare, tell=tell) as processes:
            tell(_line("processes", processes, where=f"{cores} cores", memory=memory_left(), asked=asked))
            yield processes
        return
    on_threads = Threads(share.n_workers, threads)
    tell(_line("threads", on_threads, where=f"{cores} cores", memory=memory_left(), asked=asked))
    yield on_threads


def _line(kind: str, opened: FanOut, *, where: str, memory: int | None, asked: int | None) -> str:
    """Such as "fan-out: 2 processes with 1 thread each on 2 cores; 6,100 MB of memory are left, 3,050 for each"."""
    threads = f"{opened.n_threads} thread{'s' if opened.n_threads > 1 else ''} each"
    fewer = f" ({asked} asked for)" if asked and asked > opened.n_workers else ""
    left = (
        ""
        if memory is None
        else f"; {memory / 1e6:,.0f} MB of memory are left, {memory / 1e6 / opened.n_workers:,.0f} for each"
    )
    return f"fan-out: {opened.n_workers} {kind}{fewer} with {threads} on {where}{left}"
