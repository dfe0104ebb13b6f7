"""Rows of a table of scores: what is said of one score of one predictor, in a fold and pooled.

Lives here: the columns, intervals, spread over folds, and the comparison with the best baseline. Not here: what is scored
(`score_table`, `account_table`), what a page says of it (`score_words`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hf_pipelines.research.metrics.bootstrap import (
    Draws,
    default_block,
    draw_sessions,
    interval,
    probability_above_zero,
)
from hf_pipelines.research.metrics.direction import is_better_higher
from hf_pipelines.research.metrics.session_scores import SessionScores
from hf_pipelines.research.score_words import MODEL

Floats = NDArray[np.float64]

SCHEMA: dict[str, type[pl.DataType]] = {
    "predictor": pl.String,
    "score": pl.String,
    "fold": pl.Int32,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "mean": pl.Float64,
    "deviation": pl.Float64,
    "best_baseline": pl.String,
    "better_by": pl.Float64,
    "probability": pl.Float64,
}


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of one predictor: of the sessions themselves, and of those drawn if any are."""

    observed: dict[str, float]
    resampled: dict[str, Floats]


def draw_for_labels(n_sessions: int, *, label_sessions: int, seed: Sequence[int]) -> Draws | None:
    """Sessions drawn in blocks of the default length; None where they are too few."""
    block = default_block(n_sessions, label_sessions=label_sessions)
    return draw_sessions(n_sessions, block_sessions=block, seed=seed)


def score_sets(given: Sequence[SessionScores], draws: Draws | None) -> Scored:
    """Scores of a predictor, means over sets of predictions: of several paths the same sessions are drawn."""
    observed = [each.observed() for each in given]
    resampled = [each.scores(draws) for each in given] if draws else []
    return Scored(
        {score: float(np.mean([each[score] for each in observed])) for score in observed[0]},
        {score: np.mean([each[score] for each in resampled], axis=0) for score in observed[0] if resampled},
    )


def score_row(name: str, score: str, value: float, scored: Scored, draws: Draws | None) -> dict[str, object]:
    """The value of a score and its interval."""
    low, high = interval(scored.resampled[score], draws) if draws else (math.nan, math.nan)
    return {"predictor": name, "score": score, "value": value, "low": low, "high": high}


def over_folds(values: Sequence[float]) -> dict[str, float]:
    """Mean and sample standard deviation of a score over the folds that have it."""
    known = np.array(values)[~np.isnan(values)]
    return {
        "mean": float(known.mean()) if len(known) else math.nan,
        "deviation": float(known.std(ddof=1)) if len(known) > 1 else math.nan,
    }


def compare_with_best(score: str, value: float, whole: Mapping[str, Scored], draws: Draws | None) -> dict[str, object]:
    """The best baseline in a score, by how much the model is better, and how sure that is: of the same sessions drawn."""
    sign = 1.0 if is_better_higher(score) else -1.0
    theirs = {name: each.observed.get(score, math.nan) for name, each in whole.items() if name != MODEL}
    known = {name: each for name, each in theirs.items() if not math.isnan(each)}
    if not known or math.isnan(value):
        return {}
    best = max(known, key=lambda name: sign * known[name])
    found: dict[str, object] = {"best_baseline": best, "better_by": sign * (value - known[best])}
    if draws:
        differences = sign * (whole[MODEL].resampled[score] - whole[best].resampled[score])
        found["probability"] = probability_above_zero(differences, draws)
    return found
