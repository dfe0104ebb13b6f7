"""Signals: an issue as it was written, beside that of the session before; the lines of `hfp signals`.

Lives here: which issue is meant, its words, and the command that makes a first one. Does not live here: making it (`components.strategy_stages.signals`).
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import polars as pl

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.components.strategy_stages.deciding import decided_by, held_back_lines, shadow_words
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.components.strategy_stages.serving import promotion_of, without_model
from hf_pipelines.partitions import week_key
from hf_pipelines.research.comparison_words import text_table
from hf_pipelines.research.plots.frames import turned_over, weight_changes
from hf_pipelines.research.signals import reason_in_words, upgrade_issue, window_sessions
from hf_pipelines.resources.partition_store import PartitionStore

# Changes smaller than this are rounding.
SMALLEST_CHANGE = 1e-9

# Alike in all rows of an issue.
DECIDED_BY = ("issue_kind", "model_version", "rule_version", "sizing_version", "challenger_version", "rollout_share")
# Of each member.
SHOWN = (
    "prediction", "confidence", "calibrated_probability", "lower", "upper", "class_set", "reason", "reason_detail",
)  # fmt: skip


def issue_of(pipeline: Pipeline, strategy: str, day: str | None) -> dict[str, Any]:
    """The issue of a session, by default the latest that there is, with the change against the session before, for programs.

    Raises
    ------
    ValueError
        If the strategy is unknown, or has no issue of that day.
    """
    plan = pipeline.strategy(strategy)
    asset = plan.asset("signals")
    days = pipeline.store.partitions(asset)
    if not days:
        _, command = first_issue(plan, pipeline.store)
        raise ValueError(f"`strategy` must have issued signals, {strategy} has none; {command}.")
    if day is not None and day not in days:
        raise ValueError(
            f"`day` must be one that {strategy} has an issue of ({', '.join(days[-5:])}), was {day[:40]!r}; hfp materialise {asset} "
            "--from DAY."
        )
    key = day or max(days)
    issue = _last_decision(pipeline, asset, key)
    footer = pipeline.store.footer(asset, key)
    promotion = promotion_of({} if footer is None else footer.facts)
    *earlier, _ = window_sessions(plan.market.partitions.sessions, date.fromisoformat(key), n_sessions=2)
    before = earlier[0].isoformat() if earlier and earlier[0].isoformat() in days else None
    changes = weight_changes(issue, None if before is None else _last_decision(pipeline, asset, before))
    # One that is no member any more has no row in the issue.
    table = changes.join(issue.select("symbol", *SHOWN), on="symbol", how="left")
    is_member = pl.col("symbol").is_in(issue["symbol"].implode())
    return {
        "strategy": strategy,
        "day": key,
        "before": before,
        **{name: issue[name][0] for name in DECIDED_BY},
        "promotion": dict(promotion),
        "without_model": without_model(plan, pipeline.store, promotion, key),
        "gross": float(issue["weight"].abs().sum()),
        "net": float(issue["weight"].sum()),
        "turned_over": None if before is None else turned_over(changes),
        "table": table.fill_nan(None).with_columns(is_member=is_member).to_dicts(),
    }


def first_issue(plan: StrategyPlan, store: PartitionStore) -> tuple[str, str]:
    """A session that signals can be made of, `SESSION` where no bars are stored, and the commands that make them."""
    models, stored = store.partitions(plan.asset("fitted_model")), store.partitions(plan.market.bars_asset)
    days = sessions_to_issue(plan, store, models or stored)
    day = days[0].isoformat() if days else "SESSION"
    command = f"hfp materialise {plan.asset('signals')} --from {day} --with-inputs"
    if models:
        return day, command
    week = week_key(days[0]) if days else "SUNDAY"
    return day, f"hfp retrain {plan.name} --week {week} --with-inputs, then {command}"


def sessions_to_issue(plan: StrategyPlan, store: PartitionStore, weeks: Sequence[str]) -> list[date]:
    """Sessions of the newest of some weeks that has bars; of a market without bars of any of them all sessions of the newest one."""
    stored = set(store.partitions(plan.market.bars_asset))
    for week in reversed(weeks):
        if week in stored:
            days: list[date] = store.read(plan.market.bars_asset, week).frame["session"].unique().sort().to_list()
            if days:
                return days
    return plan.market.partitions.sessions_of_week(weeks[-1]) if weeks else []


def issue_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What is held and what changes in a line, then a member a line, the largest weights first."""
    by = f", by model {found['model_version'][:8]}{_decided_by(found)}" if found["model_version"] else ""
    yield f"{found['strategy']}, {found['day']}, {found['issue_kind']}{by}"
    yield from _promotion_lines(found["promotion"], found["without_model"])
    held = f"gross {found['gross']:.1%}, net {found['net']:+.1%}"
    if found["before"] is None:
        yield f"{held}; no issue of the session before"
    else:
        yield f"{held}; {found['turned_over']:.1%} turned over since {found['before']}"
    yield ""
    rows = sorted(found["table"], key=lambda row: (-abs(row["weight"]), row["symbol"]))
    yield from text_table([("symbol", "weight", "change", "prediction", "confidence", "reason"), *map(_cells, rows)])


def _promotion_lines(promotion: Mapping[str, Any], without_model: str) -> Iterator[str]:
    """Who decided the issue, and by which decision of the history; what was held back, and what is issued beside it."""
    record = f", decision {promotion['record']} of its history" if promotion.get("record") else ""
    yield f"decided by {decided_by(promotion)}{record}"
    if without_model:
        yield without_model
    else:
        yield from held_back_lines(promotion)
    if promotion.get("shadow"):
        yield f"shadow: {shadow_words(promotion)}"


def _decided_by(found: Mapping[str, Any]) -> str:
    """Rule and sizing, as far as the issue tells them: of an earlier version it does not."""
    told = ((each, found[f"{each}_version"]) for each in ("rule", "sizing"))
    return "".join(f", {each} {version[:8]}" for each, version in told if version)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    change = row["change"]
    has_changed = change is not None and abs(change) > SMALLEST_CHANGE
    told = reason_in_words(row["reason"], row["reason_detail"]) if row["is_member"] else "no member any more"
    return (
        row["symbol"],
        f"{row['weight']:+.4f}" if row["weight"] else "0",
        f"{change:+.4f}" if has_changed else "",
        "" if row["prediction"] is None else f"{row['prediction']:.4g}",
        "" if row["confidence"] is None else f"{row['confidence']:.3f}",
        told,
    )


def _last_decision(pipeline: Pipeline, asset: str, day: str) -> pl.DataFrame:
    frame = pipeline.store.read(asset, day).frame
    # Below a day an issue has several decisions.
    return upgrade_issue(frame.filter(pl.col("ts") == pl.col("ts").max()))
