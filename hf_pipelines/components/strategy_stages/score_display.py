"""Scores as the pages of `<strategy>/cv_results` and `<strategy>/backtest` show them.

Lives here: metadata values. Does not live here: the scores (`research.score_table`, `research.account_table`), their words and
figures (`research.score_words`, `research.score_plots`).
"""

from typing import Any

import dagster as dg
import polars as pl

from hf_pipelines.components.display import SCORES_HEADLINE, in_a_window, in_words, markdown_table, picture
from hf_pipelines.research.account_table import STRATEGY, AccountTable
from hf_pipelines.research.baselines import baselines_of
from hf_pipelines.research.reliability import Reliability, folds_in_words, reliability_in_words
from hf_pipelines.research.score_table import ScoreTable
from hf_pipelines.research.score_words import shown_scores
from hf_pipelines.research.targets import Target, neutral_value


def score_metadata(
    table: ScoreTable, target: Target, predictions: pl.DataFrame, metrics: Any, *, heading: str
) -> dict[str, Any]:
    """The scores that say most, whether the best baseline is beaten, the table of scores, and figures."""
    from hf_pipelines.research.score_plots import confusion_png, horizons_of, scores_png

    told = [f"{name}: {each.definition}." for name, each in baselines_of(target).items()]
    line = {"headline": in_words(metrics, SCORES_HEADLINE)}
    metadata = line | {"verdict": table.verdict, "scores": _page(shown_scores(table.scores), (*table.notes, *told))}
    verdicts = table.verdict.split("\n")
    for (horizon, scores), verdict in zip(horizons_of(table.scores).items(), verdicts, strict=True):
        name = "score_intervals" if horizon is None else f"score_intervals_{horizon}"
        metadata[name] = picture(scores_png, scores, heading=heading, note=verdict)
    if target.is_classification:
        metadata["confusion"] = picture(confusion_png, table.fold_metrics, classes=target.classes, heading=heading)
    return {
        **metadata,
        **prediction_pictures(predictions, target, heading=heading),
        "fold_metrics": in_a_window(markdown_table(table.fold_metrics)),
    }


def prediction_pictures(predictions: pl.DataFrame, target: Target, *, heading: str) -> dict[str, Any]:
    """Figures of what predictions are worth by session, by quantile and by fold; those that there are rows for."""
    from hf_pipelines.research.plots.frames import (
        coefficients_by_session,
        drawn_predictions,
        hits_by_fold,
        outcomes_by_quantile,
    )
    from hf_pipelines.research.plots.predictions import coefficients_png, hits_png, quantiles_png

    drawn = drawn_predictions(predictions)
    if drawn.is_empty():
        return {}
    found = {}
    coefficients = coefficients_by_session(drawn)
    if coefficients.height:
        found["ic_by_session"] = picture(coefficients_png, coefficients, heading=heading)
    quantiles = outcomes_by_quantile(drawn)
    shown_as = {"outcome": "return", "is_return": True} if neutral_value(target) == 0.0 else {"is_return": False}
    found["outcome_by_quantile"] = picture(quantiles_png, quantiles, heading=heading, **shown_as)
    if (neutral := neutral_value(target)) is not None:
        found["hit_rate_by_fold"] = picture(hits_png, hits_by_fold(drawn, neutral=neutral), heading=heading)
    return found


def reliability_metadata(found: Reliability, *, heading: str) -> dict[str, Any]:
    """Whether confidence can be taken for what it says, in words, a number and a figure."""
    from hf_pipelines.research.score_plots import reliability_png

    words = reliability_in_words(found)
    return {
        "confidence": words,
        "calibration_error": found.error,
        "reliability": picture(reliability_png, found.groups, heading=heading, note=words),
    }


def calibration_metadata(by_fold: pl.DataFrame) -> dict[str, Any]:
    """What a calibration on folds changed in each, and which folds count."""
    return {"calibration": _page(by_fold, (folds_in_words(by_fold),))}


def account_metadata(table: AccountTable, *, heading: str = "") -> dict[str, Any]:
    """The table of an account's scores over all folds and in each, and their figure."""
    from hf_pipelines.research.score_plots import scores_png

    if table.scores.is_empty():
        return {"scores": "\n".join(table.notes)}
    return {
        "scores": _page(shown_scores(table.scores, predictor=STRATEGY), table.notes),
        "fold_metrics": in_a_window(markdown_table(table.fold_metrics)),
        "score_intervals": picture(scores_png, table.scores, heading=heading),
    }


def _page(shown: pl.DataFrame, lines: tuple[str, ...]) -> dg.MarkdownMetadataValue:
    return in_a_window("\n".join([markdown_table(shown), "", *(f"- {line}" for line in lines)]))
