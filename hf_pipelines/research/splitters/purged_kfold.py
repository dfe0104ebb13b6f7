"""K-fold by session: each block of sessions is tested once, by a model trained on what lies before and after it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hf_pipelines.research.splitters.combinatorial_purged import equal_blocks, folds_around
from hf_pipelines.research.splitters.past_blocks import SessionTimes, require_at_least


@dataclass(frozen=True)
class PurgedKFold:
    """Consecutive blocks of sessions, each predicted by a model of all other sessions that share nothing with it.

    Purged on both sides: a row is left out of a fold's training set if its interval (from its bar to its `label_end`) meets
    the interval of any row of the test block. The embargo lies after the block: features of the sessions that follow it hold
    what its labels hold, so those sessions are left out too. Splitting is by session.

    Folds but the last are trained on later data: they show whether a pattern holds in every period, not what could have been
    earned. A walk-forward shows that.

    Parameters
    ----------
    n_splits : int
        Number of blocks, at least 2. The first `n_sessions % n_splits` of them have one session more.
    embargo_sessions : int
        Sessions left out after the one in which the last label of the test block ends.
    min_train_sessions : int
        Sessions a training set must still have after the purge and the embargo.

    References
    ----------
    López de Prado (2018), "Advances in Financial Machine Learning", ch. 7.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import datetime, timedelta
    >>> day = pl.Series([datetime(2024, 1, d) for d in range(1, 10)])
    >>> end = day + timedelta(days=1)
    >>> times = pl.DataFrame({"session": day.dt.date(), "ts": day, "label_start": end, "label_end": end})
    >>> for train, test in PurgedKFold(n_splits=3, embargo_sessions=1).split(times):
    ...     print(train.tolist(), test.tolist())
    [5, 6, 7, 8] [0, 1, 2]
    [0, 1, 8] [3, 4, 5]
    [0, 1, 2, 3, 4] [6, 7, 8]
    """

    n_splits: int = 5
    embargo_sessions: int = 0
    min_train_sessions: int = 1

    def __post_init__(self) -> None:
        """Check the numbers that need no data."""
        require_at_least(self, n_splits=2, embargo_sessions=0, min_train_sessions=1)

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """Return the number of folds; the arguments are scikit-learn's and not read."""
        return self.n_splits

    def split(self, X: object, y: object = None, groups: object = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the row numbers of each fold's training and test set, test blocks in order of time.

        Parameters
        ----------
        X, y, groups
            As `PurgedWalkForward.split`.

        Yields
        ------
        train, test : ndarray of int64
            Ascending row numbers.

        Raises
        ------
        TypeError, ValueError
            As `PurgedWalkForward.split`.
        """
        times = SessionTimes.of(X if groups is None else groups)
        yield from folds_around(
            times,
            [[block] for block in equal_blocks(len(times.sessions), self.n_splits, name="n_splits")],
            embargo_sessions=self.embargo_sessions,
            min_train_sessions=self.min_train_sessions,
        )
