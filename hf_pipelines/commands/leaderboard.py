"""Leaderboard: the stored leaderboard of a week; the lines of `hfp leaderboard`.

Lives here: which one is meant, and its words. Does not live here: making it (`components.strategy_stages.leaderboard`).
"""

import math
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.commands.stored_weeks import stored_week
from hf_pipelines.components.strategy_stages.leaderboard_plan import compared
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.research.comparison_words import number, say_p, text_table
from hf_pipelines.research.leaderboard.scoring import METRICS
from hf_pipelines.research.learners import LearnerChoice, choose_learner

# Seconds and bytes with as many digits as a person compares.
BYTES_A_KB = 1_000.0


def leaderboard_of(pipeline: Pipeline, strategy: str, week: str | None) -> dict[str, Any]:
    """The leaderboard of a week, by default the latest that there is, for programs.

    Raises
    ------
    ValueError
        If the strategy is unknown, has no block `leaderboard`, or no leaderboard of that week.
    """
    plan = pipeline.strategy(strategy)
    made = pipeline.store.partitions(plan.asset("cv_results"))
    remedy = (
        f"hfp retrain {strategy} --week {made[-1] if made else 'SUNDAY'}"
        if plan.leaderboard
        else "write `leaderboard: {}` into its YAML"
    )
    found = stored_week(pipeline, plan, "leaderboard", week, remedy=remedy)
    tried = commands_of_candidates(plan)
    return {**found, "table": [{**row, "try": tried.get(row["candidate"])} for row in found["table"]]}


def commands_of_candidates(plan: StrategyPlan) -> dict[str, str]:
    """`hfp try` of each candidate of a strategy, by its name; of its own learner, its own target, and parameters that are not tuned anew."""
    if plan.leaderboard is None:
        return {}
    own = plan.learner.choice
    found = compared(plan.leaderboard, plan.target, plan.training.weightings, plan.training.missing)
    return {
        each.name: f"hfp try {plan.name} {' '.join(f'--set {shlex.quote(word)}' for word in _sets(each.learner, own))}"
        for each in found
        if each.target is None and not each.is_tuned and each.learner.settings() != own.settings()
    }


def _sets(wanted: LearnerChoice, own: LearnerChoice) -> Iterator[str]:
    """What makes one learner another, as `--set` takes it."""
    told, usual = wanted.settings(), choose_learner(wanted.name, {}).settings()["params"]
    params = {name: value for name, value in told["params"].items() if usual.get(name, ...) != value}
    yield f"learner.type={wanted.name}"
    yield f"learner.params={_in_yaml(params)}"
    for part in ("preprocessing", "calibration"):
        if (value := told.get(part)) != own.settings().get(part):
            yield f"learner.{part}={_in_yaml(value if value is not None else [] if part == 'preprocessing' else None)}"


def _in_yaml(value: Any) -> str:
    """A value as YAML has it on one line."""
    import yaml

    return (
        str(yaml.safe_dump(value, default_flow_style=True, width=math.inf, sort_keys=False))
        .removesuffix("...\n")
        .strip()
    )


def leaderboard_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The table, the verdict above it, and below it what was not ranked and why."""
    yield f"{found['strategy']}, week {found['week']}, ranked by {found['metric']}"
    yield found["verdict"]
    yield ""
    ranked = [row for row in found["table"] if row["rank"] is not None]
    head = ("candidate", "", found["metric"], "interval", "behind", "p best", "fit s", "predict s", "kB", "rank")
    yield from text_table([head, *(_cells(row) for row in ranked)])
    for row in found["table"]:
        if row["rank"] is None:
            yield f"{row['candidate']} ({row['state']}): {row['reason']}"
    yield ""
    yield (
        f"interval: of 95 %; behind: by how much the best candidate is better, in the mean {METRICS[str(found['metric'])].column} of the sessions; p best: of "
        "the model confidence set, * those that may be the best with 95 %."
    )
    yield from found["notes"]
    rule = "simplest within one standard error" if found["choice"] == "simplest" else "best"
    yield (
        f"Chosen by the rule {rule}: {found['chosen']}. Selected, not out of sample: these folds chose it, and its scores flatter it."
    )
    if line := next((row for row in ranked if row["try"]), None):
        yield f"To look closer at {line['candidate']}: {line['try']}"
    if found["out_of_date"]:
        yield f"Out of date: {found['out_of_date']}; hfp retrain {found['strategy']} --week {found['week']}."


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    marks = "baseline" if row["state"] == "baseline" else "chosen" if row["is_chosen"] else ""
    n_bytes = row["artifact_bytes"]
    return (
        row["candidate"],
        marks,
        number(row["value"]),
        "" if row["low"] is None else f"{row['low']:.4g} to {row['high']:.4g}",
        number(row["behind"]),
        f"{say_p(row['p_best'])}{'*' if row['may_be_best'] else ' ' if row['p_best'] is not None else ''}",
        _seconds(row["fit_seconds"]),
        _seconds(row["predict_seconds"]),
        "" if n_bytes is None else f"{n_bytes / BYTES_A_KB:,.1f}",
        str(row["rank"]),
    )


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
