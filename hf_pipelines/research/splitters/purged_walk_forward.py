"""Walk-forward: each fold is trained on what was known before its test block, and on nothing later."""

from __future__ import annotations

from dataclasses import dataclass

from hf_pipelines.research.splitters.past_blocks import (
    MORE_SESSIONS,
    Block,
    PastSplitter,
    SessionTimes,
    require_at_least,
)


@dataclass(frozen=True)
class PurgedWalkForward(PastSplitter):
    """Walk-forward folds by session, each trained only on labels known before its test block begins.

    A row belongs to a fold's training set if its `label_end` lies strictly before the first bar of the
    session `embargo_sessions` ahead of the test block. That is the purge and the embargo in one: with an
    embargo of 0 every training label is known before the first test bar, and each embargo session moves that
    line one session back. Splitting is by session: rows of one session never stand on both sides.

    Parameters
    ----------
    n_splits : int
        Number of folds, at least 1.
    test_sessions : int, optional
        Sessions in each test block. Left out: n_sessions // (n_splits + 1), as in scikit-learn's
        `TimeSeriesSplit`.
    step_sessions : int, optional
        Sessions from one test block to the next. Left out: `test_sessions`; smaller makes the blocks overlap.
    min_train_sessions : int
        Sessions a training set must still have after the purge and the embargo.
    max_train_sessions : int, optional
        Keep only the last so many sessions of each training set (rolling window), counted after the purge. Left
        out: all (expanding).
    embargo_sessions : int
        Sessions between the end of the last training label and the test block.

    References
    ----------
    López de Prado (2018), "Advances in Financial Machine Learning", ch. 7. There the embargo follows the test
    block, for training sets that go on after it; a walk-forward trains on the past only, so ours lies before
    the block.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date, datetime
    >>> day = pl.Series([datetime(2024, 1, d) for d in range(1, 7)])
    >>> times = pl.DataFrame({"session": day.dt.date(), "ts": day, "label_start": day, "label_end": day})
    >>> [(train.tolist(), test.tolist()) for train, test in PurgedWalkForward(n_splits=2).split(times)]
    [([0, 1], [2, 3]), ([0, 1, 2, 3], [4, 5])]
    """

    n_splits: int = 5
    test_sessions: int | None = None
    step_sessions: int | None = None
    min_train_sessions: int = 1
    max_train_sessions: int | None = None
    embargo_sessions: int = 0

    def __post_init__(self) -> None:
        """Check the numbers that need no data."""
        require_at_least(
            self,
            n_splits=1,
            test_sessions=1,
            step_sessions=1,
            min_train_sessions=1,
            max_train_sessions=1,
            embargo_sessions=0,
        )
        if self.max_train_sessions is not None and self.max_train_sessions < self.min_train_sessions:
            raise ValueError(
                f"`max_train_sessions` must be at least `min_train_sessions` ({self.min_train_sessions}), "
                f"was {self.max_train_sessions}."
            )

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """Return the number of folds; the arguments are scikit-learn's and not read."""
        return self.n_splits

    def blocks(self, times: SessionTimes) -> list[Block]:
        """Test blocks in order of time.

        Raises
        ------
        ValueError
            If there are too few sessions for the blocks.
        """
        n_sessions = len(times.sessions)
        test = self.test_sessions or n_sessions // (self.n_splits + 1)
        step = self.step_sessions or test
        first = n_sessions - test - (self.n_splits - 1) * step
        if test < 1 or first - self.embargo_sessions < self.min_train_sessions:
            raise ValueError(
                f"`n_splits` blocks of {max(test, 1)} sessions must leave {self.min_train_sessions} to train "
                f"on and {self.embargo_sessions} of embargo, was {self.n_splits} with {n_sessions} sessions; "
                f"{MORE_SESSIONS}, or ask for fewer or shorter test blocks."
            )
        return [Block(first + fold * step, first + fold * step + test) for fold in range(self.n_splits)]

    def most_train_sessions(self, n_sessions: int) -> int | None:
        """`max_train_sessions`."""
        return self.max_train_sessions
