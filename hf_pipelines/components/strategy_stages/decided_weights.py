"""Decided weights: what a backtest trades, out of the stored predictions, bars and features.

Lives here: which weeks are read, and the weights of each path. Does not live here: the account that follows them (`backtest`), and
whether engines keep it alike (`reconciliation`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl

from hf_pipelines.components.market_stages.universe import Universe
from hf_pipelines.components.stage import StageInput
from hf_pipelines.components.strategy_stages.accounts import decided_on, weigh_path, with_cost_columns
from hf_pipelines.components.strategy_stages.plan import StrategyPlan, feature_frames, single
from hf_pipelines.components.strategy_stages.tuned import TUNED_BY_FOLD, plan_of_results
from hf_pipelines.research.matrix import join_features
from hf_pipelines.research.predictions import decided_predictions, latest_predictions, split_by_path
from hf_pipelines.research.signals import add_absent_members, apply_rule, misremembered
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.requirements import require_all


@dataclass(frozen=True)
class Decided:
    """Weights of each path of cross-validation (None where there are none), and what they were decided on.

    Attributes
    ----------
    bars : DataFrame
    predictions : DataFrame
        Of all paths.
    by_path, given, weights : mapping of path to DataFrame
        Predictions of the path; the same with a row for each absent member; weights.
    weeks : mapping of str to list of str
        Weeks of each input that were read, without those of the predictions.
    """

    bars: pl.DataFrame
    predictions: pl.DataFrame
    by_path: Mapping[int | None, pl.DataFrame]
    given: Mapping[int | None, pl.DataFrame]
    weights: Mapping[int | None, pl.DataFrame]
    weeks: Mapping[str, list[str]]


def traded_inputs(plan: StrategyPlan) -> tuple[StageInput, ...]:
    """What a backtest reads: predictions, bars, and features that the rule or the costs look at."""
    cross_validation = StageInput("cv_results", plan.asset("cv_results"), guards=("out_of_fold",))
    # More weeks than are traded, where the rule looks back on bars.
    bars = plan.bars_input(-plan.training.weeks - plan.rule_weeks, -1)
    is_read = plan.rule.needs.features or plan.backtest.features
    features = plan.feature_inputs(-plan.training.weeks, -1) if is_read else ()
    return (cross_validation, bars, *features)


def stored_inputs(plan: StrategyPlan, store: PartitionStore, week: str) -> dict[str, Loaded]:
    """What the backtest of a week reads, as it is stored."""
    found = {}
    for each in traded_inputs(plan):
        weeks = [week] if each.name == "cv_results" else plan.selection_window(each, week)
        there = {*store.partitions(each.asset)}
        found[each.name] = Loaded(
            each.asset, {key: store.read(each.asset, key) for key in weeks if key in there}, store
        )
    return found


def stored_bars(plan: StrategyPlan, store: PartitionStore, first: str) -> pl.DataFrame:
    """All stored bars from a week on, with the features that the costs read."""
    weeks = [each for each in store.partitions(plan.market.bars_asset) if each >= first]
    bars = pl.concat([store.read(plan.market.bars_asset, each).frame for each in weeks], how="diagonal_relaxed")
    features = []
    if plan.backtest.features:
        features = [
            pl.concat([store.read(plan.market.features_asset(group), each).frame for each in weeks])
            for group in plan.feature_names
        ]
    return with_cost_columns(plan, bars, features)


def deciding_functions(plan: StrategyPlan) -> list[Callable[..., Any]]:
    """What decides on weights; for code versions."""
    return [
        latest_predictions,
        *([] if plan.decided_horizon is None else [decided_predictions]),
        split_by_path,
        join_features,
        add_absent_members,
        apply_rule,
        misremembered,
        Universe.member_sessions,
        *plan.rule.functions,
    ]


def decide(plan: StrategyPlan, inputs: Mapping[str, Loaded], key: str, *, horizon: int | None) -> Decided:
    """Weights that the rule makes of the predictions of a week; `horizon` is the plan's `decided_horizon`."""
    results = single(inputs["cv_results"], key)
    # A study may have set the rule.
    at = plan_of_results(plan, results.footer.facts)
    points = results.footer.facts.get(TUNED_BY_FOLD)
    return decide_on(plan, at, inputs, key, results.frame, horizon=horizon, points=points)


def decide_on(
    plan: StrategyPlan,
    at: StrategyPlan,
    inputs: Mapping[str, Loaded],
    key: str,
    found: pl.DataFrame,
    *,
    horizon: int | None,
    points: Any = None,
) -> Decided:
    """Weights that the rule of `at` makes of out-of-fold predictions of a week; `points` where each fold has a rule of its own."""
    _, *others = traded_inputs(plan)
    weeks = {each.name: plan.selection_window(each, key) for each in others}
    require_all(*(partial(inputs[name].require, of_input) for name, of_input in weeks.items()))
    bars = inputs["bars"].frame(weeks["bars"])
    read = feature_frames(plan, inputs, weeks[others[1].name]) if len(others) > 1 else []
    bars = with_cost_columns(plan, bars, read)
    predictions = decided_on(plan, found, read, horizon=horizon)
    # As in an issue: weights are shares of the members, whether something can be said of all of them or not.
    members = plan.market.universe.member_sessions(predictions["session"].unique().to_list())
    by_path = split_by_path(predictions)
    given = {path: add_absent_members(each, members) for path, each in by_path.items()}
    weights = {path: weigh_path(at, each, members, bars, points=points) for path, each in by_path.items()}
    return Decided(bars, predictions, by_path, given, weights, weeks)
