"""Intervals of `<strategy>/cv_results` and of a model, as their stages store and show them.

Lives here: what `intervals` in the YAML adds to content and metadata. Does not live here: the methods and their coverage
(`research.intervals`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from hf_pipelines.components.display import in_a_window, markdown_table, parquet_bytes, picture
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.research.intervals import (
    CLASS_SET,
    INTERVALS,
    LOWER,
    UPPER,
    ServedIntervals,
    add_intervals,
    interval_functions,
    serve_intervals,
)
from hf_pipelines.research.intervals.coverage import Coverage, coverage_in_words, measure_coverage
from hf_pipelines.research.intervals.plots import MAX_SYMBOLS, coverage_png
from hf_pipelines.research.score_table import label_sessions
from hf_pipelines.research.targets import HORIZON
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Stored

# What a model carries of its intervals, among its attachments.
SERVED_NAME = "intervals.json"


@dataclass(frozen=True)
class IntervalResults:
    """What intervals add to the results of a week; nothing where none are asked for."""

    predictions: pl.DataFrame
    attachments: Mapping[str, bytes] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)


def interval_results(
    plan: StrategyPlan, predictions: pl.DataFrame, matrix: pl.DataFrame, *, heading: str
) -> IntervalResults:
    """Out-of-fold predictions with intervals, and how many outcomes lay inside."""
    if plan.intervals is None:
        return IntervalResults(predictions)
    shared: dict[str, Any] = {"classes": plan.target.classes, "label_sessions": label_sessions(matrix)}
    with_intervals = add_intervals(predictions, matrix, plan.intervals, **shared)
    found = measure_coverage(with_intervals, matrix, nominal=plan.intervals.coverage, **shared)
    words = coverage_in_words(found)
    return IntervalResults(
        with_intervals,
        attachments={
            "coverage.parquet": parquet_bytes(found.groups),
            "coverage_sessions.parquet": parquet_bytes(found.sessions),
        },
        facts={"coverage": words},
        metadata=_shown(found, words, nominal=plan.intervals.coverage, heading=heading),
    )


def served_intervals(plan: StrategyPlan, predictions: pl.DataFrame, matrix: pl.DataFrame) -> ServedIntervals | None:
    """What a model of a week carries of its intervals, from the out-of-fold predictions of the week."""
    if plan.intervals is None:
        return None
    return serve_intervals(
        predictions, matrix, plan.intervals, classes=plan.target.classes, label_sessions=label_sessions(matrix)
    )


def with_intervals(plan: StrategyPlan, predicted: pl.DataFrame, models: Loaded, model: Stored) -> pl.DataFrame:
    """Predictions of a session with the intervals of their model; null by one that was fitted before there were any."""
    if plan.intervals is None:
        return predicted
    if SERVED_NAME not in model.footer.attachments:
        return predicted.with_columns(
            pl.lit(None, dtype=pl.String if name == CLASS_SET else pl.Float64).alias(name)
            for name in interval_columns(plan)
        )
    served = ServedIntervals.load(models.attachment(model.footer.partition, SERVED_NAME))
    return served.add(predicted, classes=plan.target.classes, horizon=plan.decided_horizon)


def interval_columns(plan: StrategyPlan) -> tuple[str, ...]:
    """Columns that intervals of a strategy are stored in."""
    if plan.intervals is None:
        return ()
    return (LOWER, UPPER) if INTERVALS[plan.intervals.name].task == "regression" else (CLASS_SET,)


def interval_stage_functions(plan: StrategyPlan, *more: Callable[..., Any]) -> tuple[Callable[..., Any], ...]:
    """Every function that makes intervals, for code versions; none where there are none."""
    return () if plan.intervals is None else (*interval_functions(plan.intervals), *more)


def interval_fields(plan: StrategyPlan) -> dict[str, Any]:
    """What the YAML says of intervals, for code versions."""
    return {} if plan.intervals is None else {"intervals": plan.intervals.settings()}


def _shown(found: Coverage, words: str, *, nominal: float, heading: str) -> dict[str, Any]:
    """Words, table and figures, a figure a horizon."""
    metadata: dict[str, Any] = {"coverage": words}
    if found.groups.is_empty():
        return metadata
    of_symbols = pl.col("by") == "symbol"
    furthest = found.groups.filter(of_symbols).sort((pl.col("coverage") - nominal).abs(), descending=True)
    shown = pl.concat([found.groups.filter(~of_symbols), furthest.head(MAX_SYMBOLS)])
    more = f"- Symbols: the {MAX_SYMBOLS} furthest from what is promised; all in coverage.parquet."
    metadata["coverage_table"] = in_a_window(f"{markdown_table(shown)}\n\n{more}")
    if HORIZON not in found.groups.columns:
        return metadata | {
            "coverage_picture": picture(coverage_png, found.groups, found.sessions, heading=heading, note=words)
        }
    for horizon in found.groups[HORIZON].unique().sort():
        groups, sessions = (each.filter(pl.col(HORIZON) == horizon) for each in (found.groups, found.sessions))
        note = f"Horizon {horizon}: outcomes inside their intervals"
        metadata[f"coverage_picture_{horizon}"] = picture(coverage_png, groups, sessions, heading=heading, note=note)
    return metadata
