"""Threads of BLAS: how a sum of floats keeps its last bits on any machine.

Lives here: the one limit that fits and scores take. Not here: how many folds run side by side (`cross_validation`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager


def one_blas_thread() -> AbstractContextManager[object]:
    """While it is open BLAS takes one thread: a sum split over more threads rounds differently."""
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
    return limits
