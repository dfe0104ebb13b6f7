"""Sweep: the stored sweep of a week; the lines of `hfp sweep`.

Lives here: which one is meant, and its words. Does not live here: making it (`components.strategy_stages.sweep`).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.commands.stored_weeks import stored_week
from hf_pipelines.research.comparison_words import number, text_table

ROWS_SHOWN = 25

HEADS = {
    "sharpe_ratio": "Sharpe",
    "deflated": "deflated",
    "neighbours_mean": "around",
    "neighbours_worst": "worst",
    "max_drawdown": "drawdown",
    "turnover_per_year": "turnover",
    "costs_total": "costs",
}


def sweep_of(pipeline: Pipeline, strategy: str, week: str | None) -> dict[str, Any]:
    """The sweep of a week, by default the latest that there is, for programs.

    Raises
    ------
    ValueError
        If the strategy is unknown, has no block `sweep`, or no sweep of that week.
    """
    plan = pipeline.strategy(strategy)
    remedy = f"hfp retrain {strategy} --week SUNDAY" if plan.sweep else "write the block `sweep` into its YAML"
    return stored_week(pipeline, plan, "sweep", week, remedy=remedy)


def sweep_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The verdict, the points in order, and below them what has no rank and why."""
    yield f"{found['strategy']}, week {found['week']}, {found['n_points']} points, ranked by the deflated Sharpe ratio"
    yield found["verdict"]
    yield ""
    names = found["dimensions"]
    ranked = [row for row in found["table"] if row["rank"] is not None]
    head = ("rank", "", *(each.removeprefix("rule.") for each in names), *HEADS.values())
    shown = [row for row in ranked if row["rank"] <= ROWS_SHOWN or row["is_chosen"]]
    yield from text_table([head, *(_cells(row, names) for row in shown)])
    if len(shown) < len(ranked):
        yield f"{len(ranked) - len(shown)} more are ranked below; all: --json."
    for row in found["table"]:
        if row["rank"] is None:
            yield f"{row['point']} ({row['state']}): {row['reason'] or 'it never traded, its Sharpe ratio is undefined'}"
    yield ""
    yield "around, worst: mean and least Sharpe ratio of the neighbours. Drawdown and costs: of the peak and of the initial cash."
    rule = "highest in the mean with its neighbours" if found["choice"] == "plateau" else "best"
    yield f"Chosen by the rule {rule}: {found['chosen']}. Selected, not out of sample: all points saw the same predictions."
    if found["out_of_date"]:
        yield f"Out of date: {found['out_of_date']}; hfp retrain {found['strategy']} --week {found['week']}."


def _cells(row: Mapping[str, Any], names: list[str]) -> tuple[str, ...]:
    values = (_value(row[each]) for each in names)
    return (str(row["rank"]), "chosen" if row["is_chosen"] else "", *values, *(number(row[each]) for each in HEADS))


def _value(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
