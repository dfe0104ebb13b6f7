"""Functions that tests map in other processes: they must be found there by name."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.research.fan_out import FanOut, side_by_side
from hf_pipelines.resources.fan_out import open_fan_out


class StubbornError(Exception):
    """Cannot be pickled: it is built from two arguments and holds one."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


def tell_data(frame: pl.DataFrame, array: np.ndarray, task: int) -> tuple[int, int, float, bool]:
    """Who has which data: process, address of the array, a sum that depends on the pieces of a column, whether it can be written."""
    return os.getpid(), array.ctypes.data, float(frame["x"].sum()) + float(array[task]), array.flags.writeable


def fail_at(bad: int, task: int) -> int:
    if task == bad:
        try:
            {}["key"]
        except KeyError as e:
            raise ValueError(f"`task` must not be {bad}, was {task}.") from e
    return task


def fail_stubbornly(task: int) -> int:
    raise StubbornError("no ", "way")


def be_killed_once(folder: str, task: int) -> tuple[int, int]:
    """Task 3 is killed the first time, and task 5 each time if there is a file that says so."""
    mark = Path(folder, "killed")
    if task == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if task == 5 and Path(folder, "always").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return task, task * task


def map_inside(inner: FanOut, task: int) -> tuple[int, int, int, list[int]]:
    """Threads at a time of loops inside a call: of the fan-out that was handed over, of a new one, of folds."""
    with open_fan_out(str) as opened:
        return inner.n_workers, opened.n_workers, _most_at_a_time(4), list(inner(abs, range(-task, 0)))


def _most_at_a_time(n_jobs: int) -> int:
    running, most = [], []

    def wait() -> None:
        running.append(1)
        most.append(len(running))
        time.sleep(0.02)
        running.pop()

    list(side_by_side([wait] * 6, n_jobs=n_jobs))
    return max(most)


def sleep_and_tell(folder: str, task: int) -> int:
    Path(folder, f"{os.getpid()}.pid").touch()
    time.sleep(600)
    return task


def sleep_at(slow: int, task: int) -> int:
    """A task that never ends; the others do at once."""
    if task == slow:
        time.sleep(600)
    return task


def fit_fold(matrix: pl.DataFrame, arguments: dict[str, Any], seed: int) -> pl.DataFrame:
    from hf_pipelines.research.cross_validation import cross_validate

    return cross_validate(matrix, **arguments, seed=seed).predictions


def fit_fold_slowly(
    matrix: pl.DataFrame, arguments: dict[str, Any], seconds: float, seed: int
) -> tuple[pl.DataFrame, str]:
    """The predictions, and the node of the cluster that made them."""
    import ray

    time.sleep(seconds)
    return fit_fold(matrix, arguments, seed), ray.get_runtime_context().get_node_id()


def be_killed(task: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
