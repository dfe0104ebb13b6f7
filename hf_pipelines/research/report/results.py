"""Results: all that is stored of a strategy in a week, as sections take it.

Lives here: the frame of the whole. Not here: reading it (`components.strategy_stages.report`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import polars as pl

from hf_pipelines.research.promotion import Decision


@dataclass(frozen=True)
class Part:
    """A stored partition.

    Attributes
    ----------
    frame : DataFrame
    facts : mapping
        What its footer says of it.
    tables : mapping of str to DataFrame
        Those attached to it, by their names.
    content_hash, code_version, made_at : str
    inputs : mapping of str to int
        Partitions of each asset that it was made from.
    verdicts : mapping of str to bool
        Whether it passed, by the names of guards that looked at it before it was published.
    """

    frame: pl.DataFrame
    facts: Mapping[str, Any]
    tables: Mapping[str, pl.DataFrame]
    content_hash: str = ""
    code_version: str = ""
    made_at: str = ""
    inputs: Mapping[str, int] = field(default_factory=dict)
    verdicts: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Trials:
    """What the ledger says of the search; Sharpe ratios are of a session.

    Attributes
    ----------
    n_trials, n_independent : int
    sharpes : tuple of float
        Of each trial that counts and has one.
    best_week : str
        Of the trial with the highest; "" of one without a week.
    best, expected_maximum : float
        The highest, and what the best of as many independent trials without skill is expected to show.
    probabilistic, deflated, deflated_by_all : float
        Probability that the best is above 0: as if it were the only one, given the independent ones, given all.
    overfitting : float or None
        Probability of backtest overfitting; None where too few trials share their sessions.
    """

    n_trials: int
    n_independent: int
    sharpes: tuple[float, ...]
    best_week: str
    best: float
    expected_maximum: float
    probabilistic: float
    deflated: float
    deflated_by_all: float
    overfitting: float | None


@dataclass(frozen=True, kw_only=True)
class WeekResults:
    """What is known of a strategy in a week.

    Attributes
    ----------
    strategy, week, market, description, currency : str
    until : date
        Until when evidence was gathered.
    decision : Decision
        Its gates.
    parts : mapping of str to Part
        By stage; those that are stored.
    sessions_per_year : float
    trials : Trials or None
        None where no trial has returns.
    served : DataFrame
        `first`, `last` session, `model_week`, `model` (its content), `n_sessions`: which model issued signals when, the newest first.
    """

    strategy: str
    week: str
    market: str
    description: str
    currency: str
    until: date
    decision: Decision
    parts: Mapping[str, Part]
    sessions_per_year: float
    trials: Trials | None
    served: pl.DataFrame

    @property
    def account(self) -> pl.DataFrame:
        """Equity by bar; of several paths that of the middle return."""
        return self.of_middle(self.parts["backtest"].frame)

    @property
    def metrics(self) -> Mapping[str, float]:
        """Numbers of the account by name, without the undefined ones."""
        found: Mapping[str, float] = self.parts["backtest"].facts["metrics"]
        return found

    def table(self, stage: str, name: str) -> pl.DataFrame | None:
        """A table attached to a part; None where there is none."""
        part = self.parts.get(stage)
        return None if part is None else part.tables.get(name)

    def of_middle(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows of the path whose numbers are shown, of a table of the backtest."""
        if "path" not in frame.columns:
            return frame
        paths: Mapping[str, Mapping[str, float]] = self.parts["backtest"].facts["paths"]
        ordered = sorted(paths, key=lambda each: paths[each]["total_return"])
        return frame.filter(path=int(ordered[(len(ordered) - 1) // 2]))
