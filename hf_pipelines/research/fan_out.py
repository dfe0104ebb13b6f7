"""Fan-out: fits side by side on threads.

Lives here: the one call. Not here: what is fitted (`cross_validation`, `overfitting`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Made = TypeVar("Made")


def side_by_side(tasks: Iterable[Callable[[], Made]], *, n_jobs: int) -> Iterator[Made]:
    """What some calls return, in their order, `n_jobs` of them at a time.

    Raises
    ------
    Exception
        As the first call that raises it, as if it had been called alone: with its own cause, without joblib's text of the thread.
    """
    from joblib import Parallel, delayed

    try:
        yield from Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(
            delayed(_carrying)(task) for task in tasks
        )
    except _CarriedError as e:
        raise e.error from e.error.__cause__


class _CarriedError(Exception):
    """What a call raised: joblib puts a text in the place of the cause of what it hands on."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def _carrying(task: Callable[[], Made]) -> Made:
    try:
        return task()
    except Exception as e:
        raise _CarriedError(e) from e
