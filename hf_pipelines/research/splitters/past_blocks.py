"""Blocks of sessions, each tested by a model of what was known before it: what all walk-forward splitters share.

Lives here: the times of a matrix by session, the folds of given blocks, and the splitter over them. Not here: which blocks (one module a splitter).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hf_pipelines.research.splitters.intervals import Intervals, Times, check_times, label_intervals

Rows = npt.NDArray[np.int64]

# What gives a splitter more sessions: a strategy's window has a number of weeks, and bars may fill it or not.
MORE_SESSIONS = "raise `training.weeks`, load more history where bars do not fill them"


@dataclass(frozen=True, eq=False)
class SessionTimes:
    """Times of the rows of a matrix, with the sessions that they belong to.

    Attributes
    ----------
    sessions : array of shape (n_sessions,)
        Dates that have rows, ascending.
    code : int array of shape (n_rows,)
        Place of each row's session among `sessions`.
    rows : Intervals
        From each row's bar to the end of its label.
    first_ts : int array of shape (n_sessions,)
        First bar of each session: when a block that begins with it begins.
    """

    sessions: npt.NDArray[np.datetime64]
    code: Rows
    rows: Intervals
    first_ts: Times

    @classmethod
    def of(cls, times: object) -> SessionTimes:
        """Times of a training matrix, or of a frame with its time columns; raises as `check_times`."""
        checked = check_times(times)
        sessions, code = np.unique(checked["session"].to_numpy(), return_inverse=True)
        rows = label_intervals(checked)
        first_ts = np.full(len(sessions), np.iinfo(np.int64).max)
        np.minimum.at(first_ts, code, rows.start)
        return cls(sessions, code, rows, first_ts)


@dataclass(frozen=True)
class Block:
    """Places of sessions: `[start, stop)` is tested; what is trained on lies in `[first_train, start)`."""

    start: int
    stop: int
    first_train: int = 0


def past_folds(
    times: SessionTimes,
    blocks: Sequence[Block],
    *,
    embargo_sessions: int,
    min_train_sessions: int,
    max_train_sessions: int | None = None,
) -> Iterator[tuple[Rows, Rows]]:
    """Yield the row numbers of each block's training and test set.

    A row belongs to a training set if its label ends strictly before the first bar of the session `embargo_sessions` ahead of
    the block: the purge and the embargo in one.

    Parameters
    ----------
    times : SessionTimes
    blocks : sequence of Block
        Each with at least `embargo_sessions` sessions before it.
    min_train_sessions : int
        Sessions that the purge must leave.
    max_train_sessions : int, optional
        Only the last so many sessions of those that the purge leaves.

    Raises
    ------
    ValueError
        If a block tests nothing or too few sessions are left to train on; names the fold.
    """
    for fold, block in enumerate(blocks):
        test = np.flatnonzero((times.code >= block.start) & (times.code < block.stop))
        if not len(test):
            raise ValueError(
                f"`test` must be long enough for a session in each block, was not in fold {fold}; ask for longer blocks, or for "
                "fewer."
            )
        known_before = times.first_ts[block.start - embargo_sessions]
        is_past = (times.code >= block.first_train) & (times.code < block.start) & (times.rows.end < known_before)
        train = _latest(np.flatnonzero(is_past), times.code, max_train_sessions)
        n_train_sessions = len(np.unique(times.code[train]))
        if n_train_sessions < min_train_sessions:
            raise ValueError(
                f"`min_train_sessions` ({min_train_sessions}) must be left to train on before "
                f"{times.sessions[block.start]} in fold {fold}, was {n_train_sessions}; {MORE_SESSIONS}, "
                "or ask for fewer or shorter test blocks."
            )
        yield train, test


def _latest(train: Rows, code: Rows, most: int | None) -> Rows:
    if most is None or not len(train):
        return train
    # Of the sessions that are left: those that the purge emptied do not count.
    kept = np.unique(code[train])[-most:]
    return np.asarray(train[code[train] >= kept[0]])


class PastSplitter:
    """What walk-forward splitters share: `split` over the blocks that each of them lays out."""

    embargo_sessions: int
    min_train_sessions: int

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """Return the number of folds of a matrix, given as `X` or by its times as `groups`."""
        return len(self.blocks(SessionTimes.of(X if groups is None else groups)))

    def split(self, X: object, y: object = None, groups: object = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the row numbers of each fold's training and test set, folds in order of time.

        Parameters
        ----------
        X : DataFrame or array of shape (n_rows, n_features)
            A training matrix; or any array, with the times given as `groups`.
        y : object
            Not read.
        groups : DataFrame of n_rows rows, optional
            `session`, `ts`, `label_start`, `label_end` of the rows of `X`, in any order of time. Left out:
            `X` itself is the frame that holds them.

        Yields
        ------
        train, test : ndarray of int64
            Ascending row numbers.

        Raises
        ------
        TypeError
            If neither `groups` nor `X` is a polars frame.
        ValueError
            If a time column is missing, a label ends before it starts or starts before its bar closes, or
            there are too few sessions for a fold.
        """
        times = SessionTimes.of(X if groups is None else groups)
        yield from past_folds(
            times,
            self.blocks(times),
            embargo_sessions=self.embargo_sessions,
            min_train_sessions=self.min_train_sessions,
            max_train_sessions=self.most_train_sessions(len(times.sessions)),
        )

    def blocks(self, times: SessionTimes) -> list[Block]:
        """Test blocks in order of time, and from where on each may be trained."""
        raise NotImplementedError

    def most_train_sessions(self, n_sessions: int) -> int | None:
        """How many sessions of what the purge leaves are trained on; None: all."""
        return None


def require_at_least(splitter: object, **lowest: int) -> None:
    """Refuse a splitter with a number below its lowest; None is allowed."""
    for name, low in lowest.items():
        value = getattr(splitter, name)
        if value is not None and value < low:
            rule = "not be negative" if low == 0 else f"be at least {low}"
            raise ValueError(f"`{name}` must {rule}, was {value}.")
