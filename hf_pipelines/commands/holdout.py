"""Hold-out: what the models of a strategy did in the weeks that nothing was chosen by; the lines of `hfp holdout`.

Lives here: which issues and bars are read for a look, and the words. Does not live here: counting looks (`resources.holdout_looks`), the
account (`research.backtest`).
"""

from collections.abc import Iterator
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.components.strategy_stages.decided_weights import stored_bars
from hf_pipelines.components.strategy_stages.plan import StrategyPlan, trade
from hf_pipelines.partitions import parse_key, week_key
from hf_pipelines.research.account_summary import summarise_account, values_of
from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.metrics import information_coefficient
from hf_pipelines.research.metrics.ranks import coefficient_summary
from hf_pipelines.research.signals import upgrade_issue
from hf_pipelines.research.targets import HORIZON, build_labels
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.holdout import Holdout
from hf_pipelines.resources.holdout_looks import ACCOUNT, Look, count_looks, looks_of, note_shown, take_look
from hf_pipelines.resources.trial_ledger import actor_of

# Numbers of the account that a look shows, in this order, with how they are written.
SHOWN = {
    "total_return": "{:+.1%}",
    "sharpe_ratio": "{:.2f}",
    "max_drawdown": "{:.1%}",
    "information_coefficient": "{:+.3f}",
}


def looks_told(pipeline: Pipeline, strategy: str) -> dict[str, Any]:
    """The hold-out of a strategy and every look at it, for programs.

    Raises
    ------
    ValueError
        If the strategy is unknown.
    """
    plan = pipeline.strategy(strategy)
    holdout, family = plan.holdout, _family(plan)
    return {
        "strategy": strategy,
        "week": None if holdout is None else holdout.week,
        "budget": None if holdout is None else holdout.looks,
        "taken": count_looks(pipeline.store.objects, family),
        "looks": [
            {"strategy": each.strategy, "number": each.number, **each.told, "shown": each.shown}
            for each in looks_of(pipeline.store.objects, family)
        ],
    }


def look(pipeline: Pipeline, strategy: str, reason: str) -> Look:
    """Record a look, then follow the issues of the hold-out and say what came of them.

    Raises
    ------
    ValueError
        If there is no hold-out, no issue in it, no reason, or no look is left.
    """
    plan = pipeline.strategy(strategy)
    holdout = plan.holdout
    if holdout is None:
        raise ValueError(
            f"`strategy` must have a hold-out, {strategy} has none: every week is seen; give it one in its YAML: "
            "holdout: {from: DATE}"
        )
    days = _issued(pipeline, plan, holdout)
    taken = take_look(
        pipeline.store.objects,
        holdout,
        actor=actor_of({}),
        reason=reason,
        what=ACCOUNT,
        of=(parse_key(days[0]), parse_key(days[-1])),
        at=Clock().now(),
        descends_from=plan.descends_from,
    )
    shown = _followed(pipeline, plan, days)
    note_shown(pipeline.store.objects, taken, shown)
    return Look(taken.strategy, taken.number, taken.told, shown)


def holdout_lines(found: dict[str, Any]) -> Iterator[str]:
    """The hold-out, how many looks are left, and each that was taken."""
    if found["week"] is None:
        yield f"{found['strategy']} has no hold-out: CV sees every week"
    else:
        yield (
            f"{found['strategy']} holds out week {found['week']} and all later ones; {found['taken']} of {found['budget']} looks taken"
        )
    known = len(found["looks"])
    if found["taken"] > known:
        yield f"the store has forgotten {found['taken'] - known} of them: it was restored from an older copy, or records were removed"
    for each in found["looks"]:
        yield look_line(Look(each["strategy"], each["number"], {k: each[k] for k in each if k in _TOLD}, each["shown"]))


_TOLD = ("actor", "reason", "at", "what", "week", "budget", "of")


def look_line(each: Look) -> str:
    """One look in a line."""
    if not each.told:
        return f"{each.strategy} look {each.number}: its record cannot be read; it counts"
    of = " to ".join(each.told["of"])
    if each.told["what"] != ACCOUNT:
        told = "features were read"
    elif not each.shown:
        told = "ended before it showed anything"
    else:
        told = ", ".join(
            f"{name.replace('_', ' ')} {form.format(each.shown[name])}"
            for name, form in SHOWN.items()
            if each.shown.get(name) is not None
        )
        told += f"; {each.shown['n_sessions']} sessions, {each.shown['n_backfilled']} of them issued afterwards"
    return f"{each.strategy} look {each.number}, {each.told['at'][:16]} by {each.told['actor']} ({each.told['reason']}), sessions {of}: {told}"


def _family(plan: StrategyPlan) -> list[str]:
    return [plan.name, *(each for each in plan.descends_from if each != plan.name)]


def _issued(pipeline: Pipeline, plan: StrategyPlan, holdout: Holdout) -> list[str]:
    asset = plan.asset("signals")
    days = [each for each in pipeline.store.partitions(asset) if each >= holdout.week]
    if not days:
        last = plan.market.partitions.end or date.today()
        raise ValueError(
            f"`{asset}` must hold issues of the hold-out, which begins with week {holdout.week}, had none: there is nothing to look at, "
            f"and no look was taken; hfp materialise {asset} --from {holdout.week} --to {last} --with-inputs"
        )
    return days


def _followed(pipeline: Pipeline, plan: StrategyPlan, days: list[str]) -> dict[str, Any]:
    """Numbers of the account that followed the issues, and of their predictions."""
    store = pipeline.store
    issues = pl.concat(
        [upgrade_issue(store.read(plan.asset("signals"), day).frame) for day in days], how="diagonal_relaxed"
    )
    bars = stored_bars(plan, store, week_key(parse_key(min(days))))
    last = bars["session"].max()
    result = trade(
        plan,
        issues.filter(pl.col("session") <= last).select(*KEY_COLUMNS, "weight"),
        bars.filter(pl.col("session") <= parse_key(days[-1])),
    )
    values = values_of(summarise_account(result))
    by_day = issues.group_by("session").agg(pl.col("issue_kind").first())
    return {
        **{name: _number(values.get(name)) for name in SHOWN},
        "information_coefficient": _coefficient(plan, issues, bars),
        "n_sessions": len(days),
        "n_backfilled": by_day.filter(pl.col("issue_kind") != "live").height,
    }


def _coefficient(plan: StrategyPlan, issues: pl.DataFrame, bars: pl.DataFrame) -> float | None:
    """Mean rank information coefficient of what was predicted; None of one symbol, and where labels need more than bars."""
    if plan.target.needs.features:
        return None
    labels = build_labels(bars, plan.target, sectors=plan.market.universe.sectors)
    if HORIZON in labels.columns:
        labels = labels.filter(pl.col(HORIZON) == plan.decided_horizon)
    known = issues.filter(pl.col("prediction").is_finite()).join(
        labels.select(*KEY_COLUMNS, "target", "y"), on=KEY_COLUMNS, how="inner"
    )
    if known.is_empty():
        return None
    found = information_coefficient(known)["information_coefficient"].to_numpy()
    return _number(coefficient_summary(found)["mean"])


def _number(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
