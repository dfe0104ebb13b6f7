"""Rollouts: how much of the capital follows a challenger, by which results, and what comes next; the lines of `hfp rollout`.

Lives here: the words. Does not live here: results and steps (`components.strategy_stages.rollouts`), the rule (`research.promotion.rollout`).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hf_pipelines.commands.compare import require_picture
from hf_pipelines.commands.promoting import stored_history
from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.components import Strategy
from hf_pipelines.components.strategy_stages.rollouts import (
    AFTERWARDS,
    BACKFILL,
    Standing,
    advance_rollout,
    draw_rollout,
    standing_of,
    start_rollout,
    stop_rollout,
)
from hf_pipelines.research.comparison_words import text_table
from hf_pipelines.research.promotion.lifecycle import STAGED, STAGING
from hf_pipelines.research.promotion.rollout import SHARES
from hf_pipelines.research.promotion.words import DIGITS_SHOWN
from hf_pipelines.research.wording import printable
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.promotions.history import History
from hf_pipelines.resources.trial_ledger import actor_of


def start(pipeline: Pipeline, strategy: str, week: str, reason: str) -> None:
    """Begin the rollout of what the YAML says; errors as of `start_rollout`."""
    plan = pipeline.strategy(strategy)
    (component,) = (each for each in pipeline.tree().get_all_components(of_type=Strategy) if each.name == strategy)
    settings = component.rollout.settings()
    start_rollout(plan, pipeline.store, week, settings, actor=actor_of({}), reason=reason, now=Clock().now())


def stop(pipeline: Pipeline, strategy: str, reason: str) -> None:
    """Take all capital of the challenger back; errors as of `stop_rollout`."""
    stored_history(pipeline, strategy)
    stop_rollout(pipeline.store, strategy, actor=actor_of({}), reason=reason, now=Clock().now())


def advanced(pipeline: Pipeline, strategy: str) -> tuple[History, Standing | None]:
    """The history with all steps that are due, and where the newest rollout stands; of a strategy that is gone the history alone.

    Raises
    ------
    ValueError
        If nothing was decided on it and it is none of the project.
    PromotionHistoryError
        If the history is not as it was written.
    """
    history = stored_history(pipeline, strategy)
    plans = {each.name: each for each in pipeline.strategies()}
    if strategy not in plans:
        return history, None
    history, _ = advance_rollout(plans[strategy], pipeline.store, now=Clock().now())
    return history, standing_of(plans[strategy], pipeline.store, history)


def rollout_told(history: History, standing: Standing | None) -> dict[str, Any]:
    """A rollout and all steps of all rollouts, for programs."""
    state = history.state
    return {
        "strategy": history.strategy,
        "headline": state.headline,
        "ongoing": None if standing is None or standing.ended is not None else _standing_told(history, standing),
        "steps": [_record_told(each) for each in history.records if each["rollout"]],
    }


def _standing_told(history: History, standing: Standing) -> dict[str, Any]:
    rollout, results, settings = standing.rollout, standing.results, standing.settings
    ongoing = history.state.rollout
    assert ongoing is not None
    return {
        "configuration": ongoing.configuration,
        "share": ongoing.share,
        "next_share": SHARES[ongoing.n_steps],
        "first": standing.started["rollout"]["first"],
        "issue_kind": standing.started["rollout"]["issue_kind"],
        "settings": standing.started["rollout"]["settings"],
        "issues": results.n_issues,
        "issues_that_do_not_count": results.n_other,
        "sessions": [each.isoformat() for each in results.sessions],
        "evidence": float(rollout.evidence[-1]) if len(rollout.evidence) else 1.0,
        "evidence_asked": settings.evidence_for(ongoing.n_steps),
        "evidence_worse": float(rollout.evidence_worse[-1]) if len(rollout.evidence_worse) else 1.0,
        "evidence_worse_asked": 1.0 / settings.worse_level,
        "drawdown": float(rollout.drawdown.max()) if len(rollout.drawdown) else 0.0,
    }


def _record_told(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{name: record[name] for name in ("n", "at", "kind", "actor", "reason")},
        **record["rollout"],
    }


def rollout_lines(history: History, standing: Standing | None) -> Iterator[str]:
    """Where a rollout stands, then the timeline of all of them."""
    told = rollout_told(history, standing)
    yield f"{told['strategy']}: {told['headline']}"
    if told["ongoing"] is not None:
        yield from _ongoing_lines(told["ongoing"])
    elif history.state.rollout is None:
        yield f"no rollout goes on; {_first_step(history)}"
    if told["steps"]:
        yield ""
        head = (
            "decision",
            "at",
            "what",
            "configuration",
            "share",
            "sessions",
            "until",
            "evidence",
            "worse",
            "drawdown",
        )
        rows = [(str(each["n"]), *_cells(each)) for each in told["steps"]]
        # Sentences stand to the left.
        reasons = ("why", *(f"{each['reason']} ({each['actor']})" for each in told["steps"]))
        yield from (printable(f"{line}  {why}") for line, why in zip(text_table([head, *rows]), reasons, strict=True))


def _first_step(history: History) -> str:
    """What begins a rollout: of what is staged already, its start."""
    name, stages = history.strategy, history.state.stages
    staged = [each for each in history.records if each["kind"] == STAGED and stages[each["configuration"]] == STAGING]
    if not staged:
        return f"hfp promote {name} WEEK --stage --reason WHY, then hfp rollout {name} --start WEEK --reason WHY"
    configuration, week = staged[-1]["configuration"][:DIGITS_SHOWN], staged[-1]["week"]
    return f"configuration {configuration} is staged: hfp rollout {name} --start {week} --reason WHY, while the YAML says it"


def _ongoing_lines(told: Mapping[str, Any]) -> Iterator[str]:
    settings, n = told["settings"], len(told["sessions"])
    yield (
        f"{n} sessions have matured since {told['first']}, by {told['issues']} {told['issue_kind']} issues"
        + (
            f"; {told['issues_that_do_not_count']} do not count: of the other kind, or without the challenger"
            if told["issues_that_do_not_count"]
            else ""
        )
    )
    if n < settings["shadow_sessions"]:
        yield f"in shadow until {settings['shadow_sessions']} sessions have matured"
    yield (
        f"evidence that it earns more: {told['evidence']:,.3g}, {told['next_share']:.0%} of the capital asks for {told['evidence_asked']:,.3g}; that "
        f"it earns less: {told['evidence_worse']:,.3g}, {told['evidence_worse_asked']:,.3g} stops it"
    )
    yield f"largest loss from its peak: {told['drawdown']:.1%}, more than {settings['max_drawdown']:.1%} stops it"
    if told["issue_kind"] == BACKFILL:
        yield AFTERWARDS


def _cells(step: Mapping[str, Any]) -> tuple[str, ...]:
    def number(name: str, form: str) -> str:
        return format(step[name], form) if name in step else "-"

    return (
        step["at"][:16].replace("T", " "),
        step["kind"].replace("_", " "),
        step["configuration"][:DIGITS_SHOWN],
        f"{step['share']:.0%}",
        number("n_sessions", "d"),
        step.get("last_session", "-"),
        number("evidence", ",.3g"),
        number("evidence_worse", ",.3g"),
        number("drawdown", ".1%"),
    )


def write_rollout_picture(history: History, standing: Standing | None, file: Path) -> None:
    """Draw the newest rollout into a file.

    Raises
    ------
    ValueError
        If there is none, or it is no PNG file that can be written.
    """
    require_picture(file)
    if standing is None:
        raise ValueError(
            f"`rollout` of {history.strategy} must have been started, by a strategy of the project, to be drawn, was not; see hfp history "
            f"{history.strategy}."
        )
    file.write_bytes(draw_rollout(history.strategy, standing))
