"""Accounts: what follows out-of-fold predictions under a strategy's rule, path by path.

Lives here: what `backtest` and the trials of `tuning` share. Does not live here: the engine (`research.backtest`), what is stored of it
(`backtest`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.components.strategy_stages.plan import StrategyPlan, trade
from hf_pipelines.research.backtest import BacktestResult
from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.matrix import join_features
from hf_pipelines.research.plots.account import AccountLabel
from hf_pipelines.research.predictions import decided_predictions, latest_predictions, split_by_path
from hf_pipelines.research.signals import add_absent_members, misremembered
from hf_pipelines.research.tuning.evaluation import Account

# Sessions whose weights are computed from their own window too, beside the last.
N_SESSIONS_ALONE = 2


def decided_on(
    plan: StrategyPlan, predictions: pl.DataFrame, features: Sequence[pl.DataFrame], *, horizon: int | None
) -> pl.DataFrame:
    """What accounts are decided on: one prediction per symbol, bar and path, with the features that the rule reads."""
    found = latest_predictions(predictions)
    if horizon is not None:
        found = decided_predictions(found, horizon=horizon)
    if features:
        read = join_features(features)
        found = found.join(
            read.select(*KEY_COLUMNS, *plan.rule.needs.features), on=KEY_COLUMNS, how="left", maintain_order="left"
        )
    return found


def with_cost_columns(plan: StrategyPlan, bars: pl.DataFrame, features: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Bars with the features that the costs read; null where a bar has none."""
    if not plan.backtest.features:
        return bars
    read = join_features(features).select(*KEY_COLUMNS, *plan.backtest.features)
    return bars.join(read, on=KEY_COLUMNS, how="left", maintain_order="left")


def simulate(
    plan: StrategyPlan, decided: Mapping[int | None, pl.DataFrame], bars: pl.DataFrame
) -> dict[int | None, BacktestResult]:
    """The account of each path.

    Raises
    ------
    ValueError
        If the rule looks at other sessions than it declares.
    """
    # As in an issue: weights are shares of the members, whether something can be said of all of them or not.
    sessions = pl.concat([each["session"] for each in decided.values()]).unique().to_list()
    members = plan.market.universe.member_sessions(sessions)
    return {path: trade(plan, weigh_path(plan, each, members, bars), bars) for path, each in decided.items()}


def weigh_path(
    plan: StrategyPlan, decided: pl.DataFrame, members: pl.DataFrame, bars: pl.DataFrame, *, points: Any = None
) -> pl.DataFrame:
    """Weights of the predictions of a path.

    Parameters
    ----------
    members : DataFrame
        Who belongs to the universe on each session of any path.
    points : mapping of fold to point, optional
        Where each fold has a rule of its own.

    Raises
    ------
    ValueError
        If the rule looks at other sessions than it declares.
    """
    rules = _by_rule(plan, decided, points)
    if len(rules) == 1:
        return _weigh(plan, add_absent_members(decided, members), bars)
    return pl.concat(
        [_weigh(of_fold, add_absent_members(part, _of_sessions(members, part)), bars) for of_fold, part in rules]
    )


def middle_of(by_path: Mapping[int | None, BacktestResult]) -> BacktestResult:
    """The account of several paths whose numbers are shown: that of the middle return."""
    return sorted(by_path.values(), key=lambda each: each.metrics["total_return"])[(len(by_path) - 1) // 2]


def account_label(plan: StrategyPlan, key: str, *, kind: str = "simulated") -> AccountLabel:
    """What the picture of an account of a partition says that it is of."""
    return AccountLabel(name=f"{plan.name}, week {key}", currency=plan.market.currency, kind=kind)


@dataclass(frozen=True)
class PlanTrade:
    """Trades the predictions of a trial: `Trade` of `research.tuning`.

    Attributes
    ----------
    plan : StrategyPlan
    bars : DataFrame
    features : tuple of DataFrame
        That the rule reads.
    """

    plan: StrategyPlan
    bars: pl.DataFrame
    features: tuple[pl.DataFrame, ...] = ()

    def __call__(self, predictions: pl.DataFrame, rule: Mapping[str, Any]) -> Account:
        plan = replace(self.plan, rule=replace(self.plan.rule, params=rule), tuning=None)
        decided = split_by_path(decided_on(plan, predictions, self.features, horizon=plan.decided_horizon))
        by_path = simulate(plan, decided, self.bars)
        middle = middle_of(by_path)
        path = next(each for each, account in by_path.items() if account is middle)
        return Account(middle, decided[path], plan.market.bars_per_year)


def _by_rule(plan: StrategyPlan, decided: pl.DataFrame, points: Any) -> list[tuple[StrategyPlan, pl.DataFrame]]:
    """The predictions of a path with the strategy whose rule weighs them: fold by fold where rules differ."""
    rules = {fold: plan.tuned(point).rule.params for fold, point in (points or {}).items()}
    if all(each == plan.rule.params for each in rules.values()):
        return [(plan, decided)]
    return [
        (plan.tuned(points[str(fold)]), part)
        for (fold,), part in decided.partition_by("fold", as_dict=True, maintain_order=True).items()
    ]


def _of_sessions(members: pl.DataFrame, part: pl.DataFrame) -> pl.DataFrame:
    return members.filter(pl.col("session").is_in(part["session"].unique().to_list()))


def _weigh(plan: StrategyPlan, given: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    weights = plan.weigh(given, bars=bars)
    _require_own_sessions(plan, weights, given, bars)
    return weights


def _require_own_sessions(
    plan: StrategyPlan, weights: pl.DataFrame, predictions: pl.DataFrame, bars: pl.DataFrame
) -> None:
    """Refuse a rule whose weights hang on other sessions than it declares: an issue, which has no others, would differ."""
    days = weights["session"].unique().sort()
    at = np.random.default_rng(weights.height).integers(0, len(days), size=N_SESSIONS_ALONE)
    for day in days.gather(sorted({*at.tolist(), len(days) - 1})).to_list():
        known = plan.known_to_rule(predictions, bars)
        told = misremembered(weights, predictions, at=day, rule=plan.rule.name, params=plan.rule.params, **known)
        if told:
            raise ValueError(f"`sessions` that the rule declares must be all that it looks at, was not so: {told[0]}.")
