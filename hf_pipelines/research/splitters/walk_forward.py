"""Walk-forward in the field's other forms: by sessions or months, expanding or rolling, by share or from a first window.

All of them train on the past of their test block alone, purged by label interval: see `past_blocks`.

References
----------
Pardo (1992), "Design, Testing, and Optimization of Trading Systems": walk-forward analysis. Tashman (2000), "Out-of-Sample Tests of Forecasting
Accuracy", International J. Forecasting 16(4): windows that grow or roll. Hyndman & Athanasopoulos (2021), "Forecasting: Principles and
Practice", 3rd ed., ch. 5.10: blocks from a first window on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

import numpy as np
import polars as pl

from hf_pipelines.research.splitters.past_blocks import (
    MORE_SESSIONS,
    Block,
    PastSplitter,
    SessionTimes,
    require_at_least,
)

# Two years to train on, tested on half a year, moved by a quarter.
TWO_YEARS_BY_QUARTERS = {"train": 24, "test": 6, "step": 3, "unit": "months"}


@dataclass(frozen=True)
class WalkForward(PastSplitter):
    """Blocks of a given length, each trained on the period before it; the last one ends with the data.

    Parameters
    ----------
    train, test, step : int
        Length of the training period, of the test block, and from one block to the next, in `unit`.
    unit : {"sessions", "months"}
        Months are those of the calendar, counted back from the day after the last session.
    is_anchored : bool
        Train on everything before the block, `train` being the least that there must be. Otherwise on the last `train`
        sessions that the purge leaves, or on the sessions of the last `train` months.
    embargo_sessions, min_train_sessions : int
        As in `PurgedWalkForward`.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import datetime
    >>> day = pl.Series([datetime(2024, 1, d) for d in range(1, 9)])
    >>> times = pl.DataFrame({"session": day.dt.date(), "ts": day, "label_start": day, "label_end": day})
    >>> splitter = WalkForward(train=3, test=2, step=2, embargo_sessions=0, min_train_sessions=1)
    >>> [(train.tolist(), test.tolist()) for train, test in splitter.split(times)]
    [([1, 2, 3], [4, 5]), ([3, 4, 5], [6, 7])]
    """

    train: int = 252
    test: int = 63
    step: int = 63
    unit: Literal["sessions", "months"] = "sessions"
    is_anchored: bool = False
    embargo_sessions: int = 1
    min_train_sessions: int = 60

    def __post_init__(self) -> None:
        """Check the numbers that need no data."""
        require_at_least(self, train=1, test=1, step=1, embargo_sessions=0, min_train_sessions=1)
        if self.unit == "sessions" and self.train < self.min_train_sessions:
            raise ValueError(
                f"`train` must be at least `min_train_sessions` ({self.min_train_sessions}), was {self.train}."
            )

    def blocks(self, times: SessionTimes) -> list[Block]:
        """Test blocks in order of time.

        Raises
        ------
        ValueError
            If the data is too short for one block.
        """
        found = self._by_sessions(len(times.sessions)) if self.unit == "sessions" else self._by_months(times)
        if not found:
            raise ValueError(
                f"`train` + `test` must fit into the {len(times.sessions)} sessions given, was {self.train} + {self.test} "
                f"{self.unit} with {self.embargo_sessions} sessions of embargo; {MORE_SESSIONS}, or ask for shorter ones."
            )
        return found

    def most_train_sessions(self, n_sessions: int) -> int | None:
        """How many sessions of what the purge leaves are trained on; None: all of the period."""
        return self.train if self.unit == "sessions" and not self.is_anchored else None

    def _by_sessions(self, n_sessions: int) -> list[Block]:
        first = self.train + self.embargo_sessions
        starts = range(n_sessions - self.test, first - 1, -self.step)
        return [Block(start, start + self.test) for start in reversed(starts)]

    def _by_months(self, times: SessionTimes) -> list[Block]:
        if not len(times.sessions):
            return []
        first, last = (times.sessions[at].astype(object) for at in (0, -1))
        found: list[Block] = []
        back = 0
        # Each boundary is counted from the end of the data: the 31st of one month would else become the 28th for ever.
        while _months_before(last, back + self.test + self.train) >= first:
            stop, start, begin = (
                int(np.searchsorted(times.sessions, np.datetime64(_months_before(last, months))))
                for months in (back, back + self.test, back + self.test + self.train)
            )
            if start >= self.embargo_sessions:
                found.append(Block(start, stop, 0 if self.is_anchored else begin))
            back += self.step
        return found[::-1]


def _months_before(last: date, months: int) -> date:
    """The day after the last session, so many months earlier; the last day of a shorter month."""
    earlier: date = pl.Series([last + timedelta(days=1)]).dt.offset_by(f"-{months}mo")[0]
    return earlier


@dataclass(frozen=True)
class _ByShare(PastSplitter):
    """Consecutive test blocks, each a share of all sessions; the last one ends with the data."""

    n_splits: int = 5
    test_share: float = 0.1
    embargo_sessions: int = 1
    min_train_sessions: int = 60

    def __post_init__(self) -> None:
        """Check the numbers that need no data."""
        require_at_least(self, n_splits=1, embargo_sessions=0, min_train_sessions=1)
        if not 0.0 < self.test_share * self.n_splits < 1.0:
            raise ValueError(
                f"`test_share` must be above zero and leave something to train on in {self.n_splits} folds, was "
                f"{self.test_share}."
            )

    def blocks(self, times: SessionTimes) -> list[Block]:
        """Test blocks in order of time.

        Raises
        ------
        ValueError
            If the data is too short for the blocks.
        """
        n_sessions = len(times.sessions)
        first, test = self._first_start(n_sessions), self._test_sessions(n_sessions)
        if first - self.embargo_sessions < self.min_train_sessions:
            raise ValueError(
                f"`n_splits` blocks of {test} sessions must leave {self.min_train_sessions} to train on and "
                f"{self.embargo_sessions} of embargo, was {self.n_splits} with {n_sessions} sessions; {MORE_SESSIONS}, "
                "or ask for fewer or shorter test blocks."
            )
        return [Block(first + fold * test, first + (fold + 1) * test) for fold in range(self.n_splits)]

    def _test_sessions(self, n_sessions: int) -> int:
        return max(int(n_sessions * self.test_share), 1)

    def _first_start(self, n_sessions: int) -> int:
        return n_sessions - self.n_splits * self._test_sessions(n_sessions)


@dataclass(frozen=True)
class ExpandingWindow(_ByShare):
    """Test blocks that are a share of all sessions each, trained on everything before them.

    Parameters
    ----------
    n_splits : int
        Number of blocks.
    test_share : float
        Share of all sessions that each block has, rounded down, one at least.
    embargo_sessions, min_train_sessions : int
        As in `PurgedWalkForward`.
    """


@dataclass(frozen=True)
class RollingWindow(_ByShare):
    """As `ExpandingWindow`, but each block is trained on as many sessions as lie before the first one, less the embargo.

    The purge takes its share of them first: what is counted is what it leaves.

    Attributes
    ----------
    n_splits : int
        Test blocks.
    test_share : float
        Share of all sessions that each test block has, a fraction.
    embargo_sessions : int
        Sessions left out between training and test, beside the purge.
    min_train_sessions : int
        Sessions that each fold must have to train on.
    """

    def most_train_sessions(self, n_sessions: int) -> int | None:
        """As many sessions as lie before the first block, less the embargo."""
        return self._first_start(n_sessions) - self.embargo_sessions


@dataclass(frozen=True)
class TimeSeriesWindows(PastSplitter):
    """Blocks from a first training window on, each `horizon` sessions long; what is left at the end is not tested.

    Parameters
    ----------
    initial_train : int
        Sessions before the first block, without its embargo.
    horizon : int
        Sessions of each test block.
    step : int, optional
        Sessions from one block to the next. Left out: `horizon`.
    max_train : int, optional
        Only the last so many sessions that the purge leaves. Left out: all.
    embargo_sessions, min_train_sessions : int
        As in `PurgedWalkForward`.
    """

    initial_train: int = 252
    horizon: int = 21
    step: int | None = None
    max_train: int | None = None
    embargo_sessions: int = 1
    min_train_sessions: int = 60

    def __post_init__(self) -> None:
        """Check the numbers that need no data."""
        require_at_least(
            self, initial_train=1, horizon=1, step=1, max_train=1, embargo_sessions=0, min_train_sessions=1
        )
        for name in ("initial_train", "max_train"):
            if (given := getattr(self, name)) is not None and given < self.min_train_sessions:
                raise ValueError(
                    f"`{name}` must be at least `min_train_sessions` ({self.min_train_sessions}), was {given}."
                )

    def blocks(self, times: SessionTimes) -> list[Block]:
        """Test blocks in order of time.

        Raises
        ------
        ValueError
            If the data is too short for one block.
        """
        n_sessions, first = len(times.sessions), self.initial_train + self.embargo_sessions
        starts = range(first, n_sessions - self.horizon + 1, self.step or self.horizon)
        if not starts:
            raise ValueError(
                f"`initial_train` + `horizon` must fit into the {n_sessions} sessions given, was {self.initial_train} + "
                f"{self.horizon} with {self.embargo_sessions} of embargo; {MORE_SESSIONS}, or ask for shorter ones."
            )
        return [Block(start, start + self.horizon) for start in starts]

    def most_train_sessions(self, n_sessions: int) -> int | None:
        """`max_train`."""
        return self.max_train
