"""Worker: what runs in another process, on this machine or on one of a cluster.

Lives here: keeping the function that was handed over, calling it, and sending back what it made or raised. Does not live here: who
starts the process. Nothing heavy is imported on top: libraries read their numbers of threads when they are loaded.
"""

import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# The one of the map under way, and one that maps inside of the same loop.
MOST_KEPT = 2

# What libraries take their number of threads from.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

# How soon a worker notices that its parent has been killed.
PARENT_S = 0.5

_kept: dict[str, Callable[[Any], Any]] = {}
_is_worker = False


@dataclass(frozen=True)
class HandedOver:
    """A function that lies where workers reach it.

    Attributes
    ----------
    key : str
        Another one for each function.
    read : callable
        Gives its bytes, see `packing`.
    n_threads : int
        Threads that a call may take.
    code : str
        `code_print` of the process that has handed it over, "" if it is not compared.
    """

    key: str
    read: Callable[[], Any]
    n_threads: int
    code: str = ""


def is_worker() -> bool:
    """Whether this process is a worker of another one: what it maps it maps in a plain loop."""
    return _is_worker


def call_handed_over(handed: HandedOver, task: bytes) -> bytes:
    """Call a function with a packed task; packed: whether it succeeded, and what it made, or the fault."""
    global _is_worker
    _is_worker = True
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(handed.n_threads)))
    from threadpoolctl import threadpool_limits

    from hf_pipelines.research.fan_out import taking_threads
    from hf_pipelines.resources.fan_out.faults import fault_of
    from hf_pipelines.resources.fan_out.packing import packed, unpack

    try:
        with threadpool_limits(handed.n_threads), taking_threads(handed.n_threads):
            return packed((True, _function(handed)(unpack(task))))
    except Exception as e:  # noqa: BLE001  It is raised again where the function was mapped.
        return packed((False, fault_of(e)))


def _function(handed: HandedOver) -> Callable[[Any], Any]:
    from hf_pipelines.resources.fan_out.code_print import require_same_code
    from hf_pipelines.resources.fan_out.packing import unpack

    if handed.key not in _kept:
        if handed.code:
            require_same_code(handed.code)
        while len(_kept) >= MOST_KEPT:
            del _kept[next(iter(_kept))]
        prepare, function = unpack(handed.read())
        prepare()
        _kept[handed.key] = function
    return _kept[handed.key]


def read_mapped(path: str) -> mmap.mmap:
    """Bytes of a file, in the memory that all who map it share."""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def begin_worker(parent: int) -> None:
    """End with the parent, also if that is killed; an interrupt of the terminal is the parent's to handle."""
    from joblib.externals.loky import process_executor

    # Libraries that a task has loaded are no leak: loky would end the process for them, and the next one would load all of them again.
    process_executor._MAX_MEMORY_LEAK_SIZE = sys.maxsize
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_S)
    os._exit(1)
