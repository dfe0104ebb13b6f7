"""Repeated holdout: windows at random places, each trained on the sessions before its test block."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hf_pipelines.research.splitters.past_blocks import (
    MORE_SESSIONS,
    Block,
    PastSplitter,
    SessionTimes,
    require_at_least,
)


@dataclass(frozen=True)
class MonteCarlo(PastSplitter):
    """Contiguous test blocks that begin at random sessions, each trained on the sessions before it.

    Blocks may overlap, none begins where another does, and they come in order of time.

    Parameters
    ----------
    n_splits : int
        Number of blocks.
    train_sessions : int
        Sessions that each block is trained on: the last ones that the purge leaves.
    test_sessions : int
        Sessions of each block.
    seed : int
        The same seed gives the same blocks of the same calendar.
    embargo_sessions, min_train_sessions : int
        As in `PurgedWalkForward`.

    References
    ----------
    Cerqueira, Torgo & Mozetič (2020), "Evaluating time series forecasting models", Machine Learning 109: repeated holdout.
    """

    n_splits: int = 10
    train_sessions: int = 189
    test_sessions: int = 42
    seed: int = 0
    embargo_sessions: int = 1
    min_train_sessions: int = 60

    def __post_init__(self) -> None:
        """Check the numbers that need no data."""
        require_at_least(
            self, n_splits=1, train_sessions=1, test_sessions=1, seed=0, embargo_sessions=0, min_train_sessions=1
        )
        if self.train_sessions < self.min_train_sessions:
            raise ValueError(
                f"`train_sessions` must be at least `min_train_sessions` ({self.min_train_sessions}), was "
                f"{self.train_sessions}."
            )

    def blocks(self, times: SessionTimes) -> list[Block]:
        """Test blocks in order of time.

        Raises
        ------
        ValueError
            If there are fewer places than blocks.
        """
        n_sessions, first = len(times.sessions), self.train_sessions + self.embargo_sessions
        n_places = n_sessions - self.test_sessions - first + 1
        if n_places < self.n_splits:
            raise ValueError(
                f"`n_splits` must be at most the places of {self.train_sessions} + {self.test_sessions} sessions and "
                f"{self.embargo_sessions} of embargo among the {n_sessions} given ({max(n_places, 0)}), was {self.n_splits}; "
                f"{MORE_SESSIONS}, or ask for shorter or fewer blocks."
            )
        places = np.random.default_rng(self.seed).choice(n_places, size=self.n_splits, replace=False)
        return [Block(first + at, first + at + self.test_sessions) for at in sorted(places.tolist())]

    def most_train_sessions(self, n_sessions: int) -> int | None:
        """`train_sessions`."""
        return self.train_sessions
