"""Walking: the weekly models of a strategy in the weeks that they served; what `hfp validate` says of it.

Lives here: which stored weeks make the walk, the account that followed their issues, and the words. Does not live here: the ratio
(`research.robustness.walk_forward`).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.commands.signals import sessions_to_issue
from hf_pipelines.components.strategy_stages.accounts import with_cost_columns
from hf_pipelines.components.strategy_stages.plan import StrategyPlan, trade
from hf_pipelines.partitions import parse_key, usual_sessions, week_key
from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.metrics.account import ANNUAL_SESSIONS
from hf_pipelines.research.robustness.walk_forward import (
    ANCHORED,
    LEAST_WEEKS,
    ROLLING,
    WalkedWeek,
    walk_forward,
)
from hf_pipelines.research.signals import upgrade_issue
from hf_pipelines.research.wording import number_of
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.trial_ledger.returns import session_returns

# The newest ones: three years of weeks, whose issues are read in a second or two.
MOST_WEEKS = 156


def walked(pipeline: Pipeline, plan: StrategyPlan) -> list[dict[str, Any]]:
    """Walks of a strategy, live issues and backfilled ones apart, each rolling and anchored; none where no week has both a backtest and issues.

    Sessions of a hold-out are none of it.
    """
    store = pipeline.store
    chosen = [each for each in store.partitions(plan.asset("backtest"))][-MOST_WEEKS:]
    by_week: dict[str, list[str]] = {}
    for day in store.partitions(plan.asset("signals")):
        if plan.holdout is None or day < plan.holdout.week:
            by_week.setdefault(week_key(parse_key(day)), []).append(day)
    weeks = [each for each in chosen if each in by_week]
    if not weeks:
        return []
    issues = pl.concat(
        [upgrade_issue(store.read(plan.asset("signals"), day).frame) for week in weeks for day in by_week[week]],
        how="diagonal_relaxed",
    )
    models = {
        week: None if (footer := store.footer(plan.asset("fitted_model"), week)) is None else footer.content_hash
        for week in weeks
    }
    of_another = {
        week_key(session)
        for session, version in issues.select("session", "model_version").unique().rows()
        if models[week_key(session)] != version
    }
    found = []
    for (kind,), of_kind in sorted(issues.partition_by("issue_kind", as_dict=True).items()):
        earned = _earned(pipeline, plan, of_kind)
        steps = [step for week in weeks if (step := _step(pipeline, plan, week, earned)) is not None]
        if not steps:
            continue
        span = plan.market.partitions.weeks_around(steps[0].week, first=0, last=_apart(steps[0].week, steps[-1].week))
        missing = len([*plan.market.partitions.trading_weeks(span)]) - len(steps)
        per_year = usual_sessions(plan.market.partitions.calendar_name)[0]
        for way in (ROLLING, ANCHORED):
            made = asdict(walk_forward(steps, kind=way, sessions_per_year=per_year))
            # No annual figure of a few sessions, and nothing that is made of one.
            is_short = made["n_sessions"] < ANNUAL_SESSIONS
            numbers = {
                name: None if isinstance(value, float) and (is_short or math.isnan(value)) else value
                for name, value in made.items()
            }
            total = math.prod(1.0 + value for step in steps for value in step.earned.tolist()) - 1.0
            own = sum(step.week in of_another for step in steps)
            found.append(
                {"issued": kind, **numbers, "earned": total, "missing_weeks": missing, "weeks_of_another_model": own}
            )
    return found


def walk_command(plan: StrategyPlan, store: PartitionStore) -> str:
    """What makes the issues of the newest week that has a backtest and may be walked; "" where a hold-out has all of them."""
    weeks = store.partitions(plan.asset("backtest"))
    days = sessions_to_issue(plan, store, [each for each in weeks if plan.holdout is None or each < plan.holdout.week])
    return f"hfp materialise {plan.asset('signals')} --from {days[0]} --to {days[-1]} --with-inputs" if days else ""


def walk_lines(found: list[Mapping[str, Any]], command: str) -> Iterator[str]:
    """The walks, a line each, and what they lack; `command` makes the first issues."""
    if not found:
        made = f"; {command} makes these" if command else " before the hold-out"
        yield f"walk-forward: no stored week has a backtest and issues of its own{made}"
    for each in found:
        told = f"walk-forward, {each['kind']}, issues {each['issued']}: {number_of(each['n_weeks'], 'week')}, {number_of(each['n_sessions'], 'session')}"
        told += f", {each['earned']:+.1%} in all"
        if each["return_out"] is None:
            told += f"; fewer than {ANNUAL_SESSIONS} sessions have no annual figure and no efficiency"
        else:
            told += f", {each['return_out']:+.1%} a year after {each['return_in']:+.1%} in sample"
        if each["efficiency"] is None and each["return_out"] is not None:
            told += "; no efficiency, nothing was earned in sample"
        elif each["efficiency"] is not None:
            bounds = "" if each["low"] is None else f" ({each['low']:.2f} to {each['high']:.2f})"
            told += f"; efficiency {each['efficiency']:.2f}{bounds}"
            if each["sharpe_efficiency"] is not None:
                told += f", of Sharpe ratios {each['sharpe_efficiency']:.2f}"
        if each["n_weeks"] < LEAST_WEEKS and each["efficiency"] is not None:
            told += f"; fewer than {LEAST_WEEKS} weeks have no interval"
        if each["missing_weeks"]:
            told += f"; weeks between them that are not stored: {each['missing_weeks']}"
        if each["weeks_of_another_model"]:
            told += f"; weeks whose stored model is not the one that issued: {each['weeks_of_another_model']}"
        yield told


def _step(pipeline: Pipeline, plan: StrategyPlan, week: str, earned: Mapping[date, float]) -> WalkedWeek | None:
    """A week of the walk; None if nothing was earned in it, or its backtest has no returns by session."""
    own = [value for session, value in earned.items() if week_key(session) == week]
    stored = pipeline.store.read(plan.asset("backtest"), week)
    promised = session_returns(stored.frame, stored.footer.facts)
    if not own or promised is None or not len(promised[1]):
        return None
    return WalkedWeek(week, tuple(promised[0]), np.asarray(promised[1], dtype=np.float64), np.array(own))


def _earned(pipeline: Pipeline, plan: StrategyPlan, issues: pl.DataFrame) -> dict[date, float]:
    """Return of each session of the account that followed some issues."""
    store, first = pipeline.store, week_key(issues["session"].min())  # type: ignore[arg-type]
    last: Any = issues["session"].max()
    there = [each for each in store.partitions(plan.market.bars_asset) if first <= each <= week_key(last)]
    bars = pl.concat([store.read(plan.market.bars_asset, each).frame for each in there], how="diagonal_relaxed")
    features = []
    if plan.backtest.features:
        features = [
            pl.concat([store.read(plan.market.features_asset(group), each).frame for each in there])
            for group in plan.feature_names
        ]
    known = bars.filter(pl.col("session") <= last)
    followed = trade(plan, issues.select(*KEY_COLUMNS, "weight"), with_cost_columns(plan, known, features))
    by_session = followed.equity.group_by("session", maintain_order=True).last()
    equity = by_session["equity"].to_numpy()
    return dict(zip(by_session["session"].to_list()[1:], (equity[1:] / equity[:-1] - 1.0).tolist(), strict=True))


def _apart(first: str, last: str) -> int:
    return (parse_key(last) - parse_key(first)).days // 7
