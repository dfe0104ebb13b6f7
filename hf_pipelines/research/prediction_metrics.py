"""Prediction metrics: what out-of-fold predictions are worth.

Lives here: which metrics a task has. Not here: what each means (`metrics`), intervals and baselines beside them
(`score_table`), predicting (`cross_validation`).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from hf_pipelines.research.metrics import (
    class_codes,
    classification_metrics,
    coefficient_summary,
    information_coefficient,
    log_loss,
    mean_information_coefficient,
    quantile_loss,
    regression_metrics,
)
from hf_pipelines.research.predictions import split_by_path
from hf_pipelines.research.targets import Target, neutral_value


def prediction_metrics(predictions: pl.DataFrame, *, target: Target, class_shares: np.ndarray) -> dict[str, float]:
    """Metrics of the rows with a prediction: where a learner knows too little of a symbol, there is none to judge."""
    predictions = predictions.filter(pl.col("prediction").is_finite())
    y = predictions["y"].to_numpy()
    rank_skill = _rank_skill(predictions)
    if not target.is_classification:
        levels = [name.removeprefix("quantile_") for name in predictions.columns if name.startswith("quantile_")]
        losses = {
            f"quantile_loss_{level}": quantile_loss(
                y, predictions[f"quantile_{level}"].to_numpy(), quantile=float(level)
            )
            for level in levels
        }
        errors = regression_metrics(y, predictions["prediction"].to_numpy(), neutral=neutral_value(target))
        return {**errors, **losses, **rank_skill}
    probability = predictions.select(f"probability_{name}" for name in target.classes).to_numpy()
    # Always predicting the shares of the fold's training rows.
    baseline = log_loss(y, class_shares[predictions["fold"].to_numpy()])
    return {**classification_metrics(y, probability), "baseline_log_loss": baseline, **rank_skill}


def pooled_metrics(latest: pl.DataFrame, *, target: Target, class_shares: np.ndarray) -> dict[str, float]:
    """Metrics of `latest_predictions`, all folds pooled; where there are paths, the mean over them."""
    of_path = [
        prediction_metrics(each, target=target, class_shares=class_shares) for each in split_by_path(latest).values()
    ]
    return {name: float(np.mean([each[name] for each in of_path])) for name in of_path[0]}


def class_shares_of(y: np.ndarray, target: Target) -> np.ndarray:
    """Share of each class of a target among some labels; empty of a return."""
    return np.bincount(class_codes(y), minlength=len(target.classes)) / len(y) if target.classes else np.empty(0)


def _rank_skill(predictions: pl.DataFrame) -> dict[str, float]:
    """How predictions rank the symbols of a session, and how sure that is; and the same of the values themselves."""
    ranks = coefficient_summary(information_coefficient(predictions)["information_coefficient"].to_numpy())
    return {
        "information_coefficient": ranks["mean"],
        "information_coefficient_ratio": ranks["ratio"],
        "information_coefficient_t": ranks["t"],
        "linear_information_coefficient": mean_information_coefficient(predictions, is_ranked=False),
    }
