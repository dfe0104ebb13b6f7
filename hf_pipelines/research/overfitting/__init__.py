"""Overfitting: what a result is worth after the search that found it.

Lives here: fits that show what a learner makes of chance (`fits`) and what they say (`signs`), the Sharpe ratio beside the number of
trials (`sharpe`), how many of these are independent (`independent_trials`), both together (`deflation`), what becomes of a choice in another half of time (`symmetric`), pictures (`plots`). Not here: which trials were made
(`resources.trial_ledger`), scores of predictions and accounts (`metrics`).
"""

from hf_pipelines.research.overfitting.deflation import Deflation, deflate
from hf_pipelines.research.overfitting.fits import (
    CHOSEN,
    LEARNING,
    PERMUTED,
    VALIDATION,
    Diagnostics,
    Overfitting,
    default_score,
    diagnose,
    gaps_by_fold,
    nearest_sessions,
    score_predictions,
    scores_of,
)
from hf_pipelines.research.overfitting.independent_trials import count_independent_trials
from hf_pipelines.research.overfitting.sharpe import (
    SharpeEstimate,
    deflated_sharpe_ratio,
    estimate_sharpe,
    expected_maximum_sharpe,
    minimum_track_record_length,
    probabilistic_sharpe_ratio,
    variance_of_trials,
)
from hf_pipelines.research.overfitting.symmetric import ChoiceOverfitting, probability_of_backtest_overfitting

__all__ = [
    "CHOSEN",
    "LEARNING",
    "PERMUTED",
    "VALIDATION",
    "ChoiceOverfitting",
    "Deflation",
    "Diagnostics",
    "Overfitting",
    "SharpeEstimate",
    "count_independent_trials",
    "default_score",
    "deflate",
    "deflated_sharpe_ratio",
    "diagnose",
    "estimate_sharpe",
    "expected_maximum_sharpe",
    "gaps_by_fold",
    "minimum_track_record_length",
    "nearest_sessions",
    "probabilistic_sharpe_ratio",
    "probability_of_backtest_overfitting",
    "score_predictions",
    "scores_of",
    "variance_of_trials",
]
