"""Sweep: many settings of rule, sizing and costs over the same stored predictions, ranked after all that were tried.

Lives here: what a point sets (`points`), how it came out (`entries`), ranks, neighbours and plateaus (`ranking`), the map (`plots`). Not
here: the accounts (`backtest`), which predictions (`components.strategy_stages.sweep`), what was tried before (`resources.trial_ledger`).
"""

from hf_pipelines.research.sweep.entries import COMPLETED, ENDED, FAILED, NOT_RUN, PointEntry, score_accounts
from hf_pipelines.research.sweep.points import costs_at, point_key
from hf_pipelines.research.sweep.ranking import CHOICES, Ranked, rank_points

__all__ = [
    "CHOICES",
    "COMPLETED",
    "ENDED",
    "FAILED",
    "NOT_RUN",
    "PointEntry",
    "Ranked",
    "costs_at",
    "point_key",
    "rank_points",
    "score_accounts",
]
