"""Leaderboard: learners, presets, preprocessing and targets held to each other on the same folds, and to the baselines.

Lives here, a module each: candidates, evaluating one, running them until a deadline, what they are ranked by, ranks. Does not live here: where
they run and are kept (`resources`), the asset (`components`).
"""

from hf_pipelines.research.leaderboard.candidates import (
    AUTO,
    PRESETS,
    AutoCandidate,
    Candidate,
    auto_candidates,
    target_key,
)
from hf_pipelines.research.leaderboard.entries import Entry
from hf_pipelines.research.leaderboard.evaluating import CandidateEvaluation, TunedBy
from hf_pipelines.research.leaderboard.ranking import Choice, Leaderboard, rank_entries
from hf_pipelines.research.leaderboard.running import MemoryRecord, Record, run_candidates
from hf_pipelines.research.leaderboard.scoring import METRICS, Metric, metric_of

__all__ = [
    "AUTO",
    "METRICS",
    "PRESETS",
    "AutoCandidate",
    "Candidate",
    "CandidateEvaluation",
    "Choice",
    "Entry",
    "Leaderboard",
    "MemoryRecord",
    "Metric",
    "Record",
    "TunedBy",
    "auto_candidates",
    "metric_of",
    "rank_entries",
    "run_candidates",
    "target_key",
]
