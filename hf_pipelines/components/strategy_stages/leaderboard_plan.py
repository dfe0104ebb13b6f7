"""Leaderboard plan: what a strategy with a leaderboard compares.

Lives here: its part of the plan. Does not live here: the YAML (`leaderboard_fields`), the asset (`leaderboard`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hf_pipelines.components.extras import is_installed
from hf_pipelines.research.leaderboard import Candidate, Choice, auto_candidates, target_key
from hf_pipelines.research.targets import Target
from hf_pipelines.research.weights import Weightings


@dataclass(frozen=True)
class TunedCandidates:
    """How candidates of a leaderboard that are tuned choose their parameters within each outer fold."""

    trials: int
    sampler: str
    splitter: str
    splitter_params: Mapping[str, Any]

    def fields(self) -> list[Any]:
        """For code versions, hashes and the ledger."""
        return [self.trials, self.sampler, self.splitter, dict(self.splitter_params)]


@dataclass(frozen=True)
class LeaderboardPlan:
    """A leaderboard of each week.

    Attributes
    ----------
    listed : tuple of Candidate
        The strategy as it is, and those that were written.
    has_auto : bool
        Whether those that `auto` chooses come after them.
    metric : str
        A key of `METRICS`.
    choice : {"best", "simplest"}
    deadline_s : float or None
    tuned : TunedCandidates
    """

    listed: tuple[Candidate, ...]
    has_auto: bool
    metric: str
    choice: Choice
    deadline_s: float | None
    tuned: TunedCandidates

    @property
    def other_targets(self) -> dict[str, Target]:
        """Targets of candidates that are not the strategy's, by their keys."""
        return {target_key(each.target): each.target for each in self.listed if each.target is not None}

    def fields(self) -> dict[str, Any]:
        """For code versions."""
        return {
            "listed": [
                [each.name, each.learner.settings(), each.target and target_key(each.target), each.is_tuned]
                for each in self.listed
            ],
            "auto": self.has_auto,
            "metric": self.metric,
            "choice": self.choice,
            "deadline_s": self.deadline_s,
            "tuned": self.tuned.fields(),
        }


def compared(
    asked: LeaderboardPlan, target: Target, weightings: Weightings, missing: str, *, n_rows: int | None = None
) -> list[Candidate]:
    """Candidates that are listed, then those of `auto` that are no configuration of the others.

    Parameters
    ----------
    asked : LeaderboardPlan
    target, weightings, missing
        Of the strategy.
    n_rows : int, optional
        Of the matrix; left out: all that there may be.
    """
    if not asked.has_auto:
        return [*asked.listed]
    chosen = auto_candidates(
        target,
        n_rows=n_rows,
        has_missing=missing == "keep",
        can_run=lambda choice: is_installed(choice) and (choice.takes_weights or not weightings),
    )
    written = [each.learner for each in asked.listed if each.target is None and not each.is_tuned]
    names = {each.name for each in asked.listed}
    return [*asked.listed, *(each for each in chosen if each.learner not in written and each.name not in names)]
