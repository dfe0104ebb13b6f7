"""Importance of features, in `<strategy>/cv_results` by fold and in `<strategy>/fitted_model` by week.

Lives here: what it adds to contents and metadata. Does not live here: how it is measured (`research.explanations.importance`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import polars as pl

from hf_pipelines.components.display import in_a_window, markdown_table, parquet_bytes, picture
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.research.batched_matrix import BatchedMatrix, features_of
from hf_pipelines.research.explanations.evenness import HELP_HARM, UP_DOWN, evenness, evenness_in_words, weekly
from hf_pipelines.research.explanations.importance import (
    CLUSTER,
    CONTRIBUTION,
    GAIN,
    PERMUTATION,
    TestedFold,
    cluster_features,
    examine_fold,
    gains,
)
from hf_pipelines.research.fold_fits import Fold
from hf_pipelines.research.learners import Pipeline
from hf_pipelines.resources.partition_store import PartitionStore

# Rows of a table that a person reads.
SHOWN_ROWS = 30

# What compares folds or weeks; for code versions.
COMPARING = (evenness, evenness_in_words, weekly)

# Models before this week's that its importances are compared with.
EARLIER_WEEKS = 8


def examiner(plan: StrategyPlan, matrix: pl.DataFrame | BatchedMatrix) -> Callable[[Pipeline, Fold], pl.DataFrame]:
    """What is measured of each fold: gains, and what the YAML asks for."""
    features = tuple(features_of(matrix))
    if isinstance(matrix, BatchedMatrix):
        return partial(_gains_alone, features)
    asked = plan.importance
    clusters = (
        cluster_features(matrix, features, correlation=asked.correlation) if asked is not None and asked.repeats else []
    )
    labels = matrix["session"]

    def examine(pipeline: Pipeline, fold: Fold) -> pl.DataFrame:
        tested = TestedFold(
            pipeline, matrix, features, fold, plan.target, plan.training.missing, plan.bar_times(labels)
        )
        return examine_fold(tested, asked=asked, clusters=clusters, seed=plan.learner.seed)

    return examine


def _gains_alone(features: Sequence[str], pipeline: Pipeline, fold: Fold) -> pl.DataFrame:
    return gains(pipeline, features, fold=fold.number)


def examining_functions(plan: StrategyPlan) -> tuple[Callable[..., Any], ...]:
    """Functions that measure importances; for code versions."""
    own = () if plan.importance is None else (cluster_features, *plan.learner.choice.explaining_functions())
    return (examine_fold, *COMPARING, *own)


def importance_fields(plan: StrategyPlan) -> dict[str, Any]:
    """What is asked for, as it enters code versions."""
    return {} if plan.importance is None else {"importance": asdict(plan.importance)}


def fold_importance(
    plan: StrategyPlan, examined: Sequence[pl.DataFrame], *, heading: str
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Attachments and metadata of the importances of all folds; nothing of a learner that tells none."""
    rows = pl.concat(examined)
    if rows.is_empty():
        return {}, {}
    shown: dict[str, Any] = {}
    for kind, words in _kinds(plan).items():
        of_kind = rows.filter(kind=kind)
        if of_kind.is_empty():
            continue
        shown |= _shown(of_kind, by="fold", kind=kind, words=words, heading=heading)
    return {"importances.parquet": parquet_bytes(rows)}, shown


def importances_metadata(
    plan: StrategyPlan, store: PartitionStore | None, key: str, importances: Mapping[str, float]
) -> dict[str, Any]:
    """The picture of a model's importances beside those of the model before it; nothing of a learner that tells none."""
    from hf_pipelines.research.plots.importances import importances_png

    if not importances:
        return {}
    before = _models_before(plan, store, key)
    week, earlier = next(((week, before[week]) for week in reversed(before)), ("", {}))
    drawn = picture(
        importances_png,
        list(importances),
        list(importances.values()),
        heading=f"Importances, {plan.name}, model of week {key}",
        kind=f"Share of the importance that {plan.learner.choice.name} gives: of the fit, not of skill",
        earlier=(f"model of {week}", earlier) if week else None,
    )
    return {"importances": drawn}


def _models_before(plan: StrategyPlan, store: PartitionStore | None, key: str) -> dict[str, Mapping[str, float]]:
    """Importances of the models before a week's, by their weeks in order; those that told any."""
    asset = plan.asset("fitted_model")
    found: dict[str, Mapping[str, float]] = {}
    for week in [] if store is None else [each for each in store.partitions(asset) if each < key][-EARLIER_WEEKS:]:
        footer = store.footer(asset, week) if store is not None else None
        told: Any = {} if footer is None else footer.facts.get("importances", {})
        if told:
            found[week] = told
    return found


def week_importance(
    plan: StrategyPlan, store: PartitionStore | None, key: str, importances: Mapping[str, float]
) -> dict[str, Any]:
    """Metadata: this week's importances beside those of the models before it; nothing without an earlier model."""
    # Of another set of features or another learner nothing is compared.
    earlier = _models_before(plan, store, key)
    by_week = {week: found for week, found in earlier.items() if {*found} == {*importances}}
    if not by_week or not importances:
        return {}
    rows = weekly({**by_week, key: importances})
    words = f"use of the features by the models of {len(by_week) + 1} weeks"
    return _shown(rows, by="week", kind="weeks", words=words, heading=f"{plan.name}, week {key}")


def _kinds(plan: StrategyPlan) -> dict[str, str]:
    score = plan.importance.score if plan.importance else ""
    return {
        GAIN: "share of the gain",
        PERMUTATION: f"what a permutation of a feature costs, in {score}",
        CLUSTER: f"what a permutation of features that are alike costs, in {score}",
        CONTRIBUTION: "mean size of the contributions to a prediction",
    }


# What the signs mean, of the kinds that have two.
_WAYS = {CONTRIBUTION: UP_DOWN, PERMUTATION: HELP_HARM, CLUSTER: HELP_HARM}


def _shown(rows: pl.DataFrame, *, by: str, kind: str, words: str, heading: str) -> dict[str, Any]:
    from hf_pipelines.research.explanations.plots import importance_png

    found, ways = evenness(rows, by=by), _WAYS.get(kind)
    told = evenness_in_words(found, what=f"{by}s", ways=ways)
    signs = {} if ways is None else {"n_up": ways[0], "n_down": ways[1]}
    table = found.table.select("name", "mean", "lowest", "highest", *signs).rename(signs).head(SHOWN_ROWS)
    return {
        f"importance_{kind}": picture(
            importance_png, rows, found, by=by, title=f"{words}, {heading}", note=told, ways=ways
        ),
        f"importance_{kind}_says": told,
        f"importance_{kind}_table": in_a_window(markdown_table(table)),
    }
