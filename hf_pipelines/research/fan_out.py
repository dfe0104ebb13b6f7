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
    ValueError
        As the first call that raises it, as if it had been called alone: without joblib's text of the thread.
    """
    from joblib import Parallel, delayed

    try:
        yield from Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(delayed(task)() for task in tasks)
    except ValueError as e:
        raise e from None
