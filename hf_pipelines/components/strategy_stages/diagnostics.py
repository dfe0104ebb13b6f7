"""Diagnostics of `<strategy>/cv_results`: signs of overfitting and curves, where the YAML asks for them.

Lives here: what they add to the stage's content and metadata. Does not live here: the fits and what they say
(`research.overfitting`, `research.overfitting.signs`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import polars as pl

from hf_pipelines.components.display import parquet_bytes, picture
from hf_pipelines.components.stage_run import StageRun
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.components.strategy_stages.trial_records import diagnostic_trials
from hf_pipelines.research.overfitting import Overfitting, diagnose, gaps_by_fold
from hf_pipelines.research.overfitting.signs import (
    gap_in_words,
    judge_gap,
    learning_curve,
    stability,
    stability_in_words,
    validation_curve,
    validation_in_words,
)

NOT_ASKED = (
    "Not asked for: the gap between training and test score, learning curve and validation curve cost more fits, see "
    "`diagnostics` of a strategy in the docs."
)

# Lines in the log over all fits.
PROGRESS_LINES = 10


@dataclass(frozen=True)
class Diagnosed:
    """What diagnostics add to the results of a week; nothing of it where none are asked for but words and a picture.

    Attributes
    ----------
    fold_metrics : DataFrame
        With the columns of the gap.
    attachments, facts, metadata : mapping
    """

    fold_metrics: pl.DataFrame
    attachments: Mapping[str, bytes] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)


def diagnose_week(
    plan: StrategyPlan, run: StageRun, matrix: pl.DataFrame, fold_metrics: pl.DataFrame, *, n_jobs: int
) -> Diagnosed:
    """Signs of overfitting of one week's cross-validation.

    Parameters
    ----------
    plan, run
        Of the stage.
    matrix : DataFrame
        The training matrix.
    fold_metrics : DataFrame
        As in `CrossValidation`.
    n_jobs : int
        Fits at a time.
    """
    asked = plan.diagnostics
    if not plan.asks_for_diagnostics:
        return Diagnosed(
            fold_metrics, metadata={"overfitting": NOT_ASKED, **_evenness(fold_metrics, score=asked.score)}
        )
    began = perf_counter()
    with diagnostic_trials(plan, run) as end_trials:
        found = diagnose(
            matrix,
            asked=asked,
            learner=plan.learner.choice,
            splitter=plan.splitter.build(),
            target=plan.target,
            weightings=plan.training.weightings,
            seed=plan.learner.seed,
            n_jobs=n_jobs,
            missing=plan.training.missing,
            validation_share=plan.learner.validation_share,
            on_fits=_logged(run),
        )
        end_trials(found)
    facts, metadata = _signs(found)
    with_gaps = fold_metrics.join(gaps_by_fold(found), on="fold", how="left", maintain_order="left")
    return Diagnosed(
        with_gaps,
        attachments={"diagnostics.parquet": parquet_bytes(found.scores)},
        facts={"diagnostics": {"fits": found.n_fits, "configurations_tried": found.n_configurations, **facts}},
        metadata={
            **metadata,
            **_evenness(with_gaps, score=asked.score),
            "diagnostics_fits": found.n_fits,
            "diagnostics_s": perf_counter() - began,
            "configurations_tried": found.n_configurations,
        },
    )


def diagnosing_functions(plan: StrategyPlan) -> tuple[Callable[..., Any], ...]:
    """Functions that make what diagnostics add to the content; for code versions."""
    return (diagnose, gaps_by_fold) if plan.asks_for_diagnostics else ()


def diagnostics_fields(plan: StrategyPlan) -> dict[str, Any]:
    """What diagnostics are asked for, as it enters code versions: nothing if none are."""
    asked = plan.diagnostics
    if not plan.asks_for_diagnostics:
        return {}
    values = [value for value, _ in asked.candidates]
    return {"diagnostics": [asked.score, asked.permutations, list(asked.train_shares), asked.parameter, values]}


def _signs(found: Overfitting) -> tuple[dict[str, Any], dict[str, Any]]:
    """Facts and metadata of each part that was asked for."""
    from hf_pipelines.research.overfitting.plots import gap_png, learning_curve_png, validation_curve_png

    asked = found.asked
    facts: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    if asked.permutations:
        gap = judge_gap(found)
        facts |= {"gap": gap.gap, "gap_limit": gap.gap_limit, "is_overfit": gap.is_flagged}
        facts |= {"memorised_share": gap.memorised_share}
        metadata |= {
            "overfitting": gap_in_words(gap, score=asked.score),
            "gap": gap.gap,
            "gap_limit": gap.gap_limit,
            "memorised_share": gap.memorised_share,
            "gap_of_permuted_labels": picture(gap_png, gap, score=asked.score),
        }
    if asked.train_shares:
        metadata["learning_curve"] = picture(learning_curve_png, learning_curve(found), score=asked.score)
    if asked.candidates:
        curve, names = validation_curve(found), {"parameter": asked.parameter, "score": asked.score}
        metadata |= {
            "validation_curve": picture(validation_curve_png, curve, **names),
            "validation_curve_says": validation_in_words(curve, **names),
        }
    return facts, metadata


def _evenness(fold_metrics: pl.DataFrame, *, score: str) -> dict[str, Any]:
    from hf_pipelines.research.overfitting.plots import folds_png

    words = stability_in_words(stability(fold_metrics, score=score), score=score)
    drawn = picture(folds_png, fold_metrics, score=score, note=words)
    return {"stability": words, "scores_by_fold": drawn}


def _logged(run: StageRun) -> Callable[[int, int], None]:
    shown = 0

    def log(n_made: int, n_all: int) -> None:
        nonlocal shown
        if (n_made * PROGRESS_LINES // n_all) > shown:
            shown = n_made * PROGRESS_LINES // n_all
            run.log.info(f"diagnostics: {n_made} of {n_all} fits")

    return log
