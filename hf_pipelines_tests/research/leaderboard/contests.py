"""Leaderboards of sample matrices, in one call."""

from time import perf_counter

import polars as pl

from hf_pipelines.research.leaderboard import (
    Candidate,
    CandidateEvaluation,
    Entry,
    Leaderboard,
    TunedBy,
    auto_candidates,
    metric_of,
    rank_entries,
    run_candidates,
)
from hf_pipelines.research.leaderboard.scoring import baseline_entries
from hf_pipelines.research.splitters import PurgedWalkForward
from hf_pipelines.research.targets import Target

SPLITTER = PurgedWalkForward(n_splits=2, test_sessions=40, embargo_sessions=1, min_train_sessions=20)

# What takes longer than all others together.
DEAR = ("random_forest", "extra_trees", "xgboost", "hist_gradient_boosting", "random_forest small")


def evaluation_of(matrix: pl.DataFrame, target: Target, tuned_by: TunedBy | None = None) -> CandidateEvaluation:
    return CandidateEvaluation(
        matrix=matrix,
        splitter=SPLITTER,
        target=target,
        weightings=(),
        seed=0,
        missing="keep",
        validation_share=0.2,
        timer=perf_counter,
        tuned_by=tuned_by,
    )


def cheap_candidates(target: Target, *, has_missing: bool = False) -> list[Candidate]:
    found = auto_candidates(target, n_rows=3_000, has_missing=has_missing)
    return [each for each in found if each.name not in DEAR]


def with_baselines(entries: list[Entry], matrix: pl.DataFrame, target: Target) -> list[Entry]:
    return [*entries, *baseline_entries(entries, matrix, splitter=SPLITTER, target=target, seed=0)]


def leaderboard_of(
    matrix: pl.DataFrame,
    target: Target,
    candidates: list[Candidate],
    *,
    metric: str | None = None,
    n_resamples: int = 1_000,
) -> Leaderboard:
    entries = run_candidates(candidates, evaluation_of(matrix, target))
    return rank_entries(
        with_baselines(entries, matrix, target),
        metric_of(metric, target),
        label_sessions=target.horizon_bars,
        n_resamples=n_resamples,
    )
