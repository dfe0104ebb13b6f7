"""Folds that are trained on both sides of what they test: k-fold, and every combination of blocks, purged by label interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from hf_pipelines.research.splitters.intervals import overlaps
from hf_pipelines.research.splitters.past_blocks import MORE_SESSIONS, Rows, SessionTimes, require_at_least


def folds_around(
    times: SessionTimes, tested: Sequence[Sequence[Rows]], *, embargo_sessions: int, min_train_sessions: int
) -> Iterator[tuple[Rows, Rows]]:
    """Yield the row numbers of each fold's training and test set.

    A row is left out of a training set if its interval (from its bar to its `label_end`) meets that of any test row, or if its
    session is one of the `embargo_sessions` after the session in which the last label of a block ends.

    Parameters
    ----------
    times : SessionTimes
    tested : sequence of sequences of int arrays
        Of each fold its test blocks, as places of consecutive sessions.
    embargo_sessions, min_train_sessions : int

    Raises
    ------
    ValueError
        If too few sessions are left to train on; names the fold.
    """
    for fold, blocks in enumerate(tested):
        is_test = np.isin(times.code, np.concatenate(blocks))
        test = np.flatnonzero(is_test)
        is_left = ~is_test & ~overlaps(times.rows, times.rows[test])
        for block in blocks if embargo_sessions else ():
            of_block = (times.code >= block[0]) & (times.code <= block[-1])
            # The session in which the last label of the block ends: the embargo begins after it.
            last = np.searchsorted(times.first_ts, times.rows.end[of_block].max(), side="right") - 1
            is_left &= (times.code <= block[-1]) | (times.code > last + embargo_sessions)
        train = np.flatnonzero(is_left)
        n_train_sessions = len(np.unique(times.code[train]))
        if n_train_sessions < min_train_sessions:
            spans = " and ".join(f"{times.sessions[each[0]]} to {times.sessions[each[-1]]}" for each in blocks)
            raise ValueError(
                f"`min_train_sessions` ({min_train_sessions}) must be left to train on around the block from {spans} in fold "
                f"{fold}, was {n_train_sessions}; {MORE_SESSIONS}, or ask for a shorter embargo or fewer blocks."
            )
        yield train, test


def equal_blocks(n_sessions: int, n_blocks: int, *, name: str) -> list[Rows]:
    """Consecutive sessions in equal parts; the first `n_sessions % n_blocks` of them have one more."""
    if n_sessions < n_blocks:
        raise ValueError(
            f"`{name}` must be at most the {n_sessions} sessions given, was {n_blocks}; {MORE_SESSIONS}, or ask for "
            "fewer blocks."
        )
    return np.array_split(np.arange(n_sessions), n_blocks)


@dataclass(frozen=True)
class CombinatorialPurged:
    """Every choice of `n_test_folds` out of `n_folds` blocks is tested by a model of the other blocks.

    Each row is tested `comb(n_folds - 1, n_test_folds - 1)` times, once on each path: so many histories of predictions over
    all sessions, none of which shares a fold with another at the same block. Purged on both sides of each block, with the
    embargo after it. Folds are trained on later data: paths show how much a result hangs on chance, not what could have been
    earned.

    Parameters
    ----------
    n_folds : int
        Number of blocks, at least 2. The first `n_sessions % n_folds` of them have one session more.
    n_test_folds : int
        Blocks tested at a time, from 1 to `n_folds - 1`.
    embargo_sessions : int
        Sessions left out after the one in which the last label of a test block ends.
    min_train_sessions : int
        Sessions a training set must still have after the purge and the embargo.

    References
    ----------
    López de Prado (2018), "Advances in Financial Machine Learning", ch. 12.

    Examples
    --------
    >>> CombinatorialPurged(n_folds=6, n_test_folds=2).get_n_splits(), CombinatorialPurged(n_folds=6, n_test_folds=2).n_paths
    (15, 5)
    """

    n_folds: int = 6
    n_test_folds: int = 2
    embargo_sessions: int = 1
    min_train_sessions: int = 60

    def __post_init__(self) -> None:
        """Check the numbers that need no data."""
        require_at_least(self, n_folds=2, n_test_folds=1, embargo_sessions=0, min_train_sessions=1)
        if self.n_test_folds >= self.n_folds:
            raise ValueError(f"`n_test_folds` must be below `n_folds` ({self.n_folds}), was {self.n_test_folds}.")

    @property
    def n_paths(self) -> int:
        """How often each row is tested."""
        return comb(self.n_folds - 1, self.n_test_folds - 1)

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """Return the number of folds; the arguments are scikit-learn's and not read."""
        return comb(self.n_folds, self.n_test_folds)

    def split(self, X: object, y: object = None, groups: object = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the row numbers of each fold's training and test set, in the order of `itertools.combinations`.

        Parameters, yields and errors are those of `PurgedWalkForward.split`.
        """
        times = SessionTimes.of(X if groups is None else groups)
        blocks = equal_blocks(len(times.sessions), self.n_folds, name="n_folds")
        yield from folds_around(
            times,
            [[blocks[at] for at in chosen] for chosen in self._chosen()],
            embargo_sessions=self.embargo_sessions,
            min_train_sessions=self.min_train_sessions,
        )

    def paths(self, X: object, y: object = None, groups: object = None) -> Iterator[np.ndarray]:
        """Yield the path of each test row, folds in the order of `split`: the first that tests a block has its path 0."""
        times = SessionTimes.of(X if groups is None else groups)
        blocks = equal_blocks(len(times.sessions), self.n_folds, name="n_folds")
        block_of = np.repeat(np.arange(self.n_folds), [len(each) for each in blocks])[times.code]
        n_tested = np.zeros(self.n_folds, dtype=np.int64)
        for chosen in self._chosen():
            yield n_tested[block_of[np.isin(block_of, chosen)]]
            n_tested[list(chosen)] += 1

    def _chosen(self) -> list[tuple[int, ...]]:
        return list(combinations(range(self.n_folds), self.n_test_folds))
