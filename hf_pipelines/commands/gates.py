"""Gates: may a strategy be promoted, and if not, why not; the lines of `hfp gates`.

Lives here: which week is judged, and the table. Does not live here: the gates (`research.promotion`), what is known
(`components.strategy_stages.evidence`).
"""

from collections.abc import Iterator

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.commands.validating import backtested_week
from hf_pipelines.components.strategy_stages.evidence import gather_evidence
from hf_pipelines.research.comparison_words import text_table
from hf_pipelines.research.promotion import Decision, Judged, Threshold, judge_gates
from hf_pipelines.resources.clock import Clock

UNGATED = "{strategy} is ungated: the model of the week serves whatever these say; they are the defaults. Write `gates: {{}}` into its YAML."


def gates_of(pipeline: Pipeline, strategy: str, week: str | None) -> Decision:
    """A week of a strategy, by default the latest with a backtest, held to its gates.

    Raises
    ------
    ValueError
        If the strategy is unknown, or has no backtest of that week.
    """
    plan, key = pipeline.strategy(strategy), backtested_week(pipeline, strategy, week)
    evidence = gather_evidence(plan, pipeline.store, key, checker=pipeline.checker(), now=Clock().now())
    return judge_gates(evidence, plan.gates)


def gates_lines(decision: Decision) -> Iterator[tuple[str, bool]]:
    """The decision first, then every gate, those that stand in the way marked; commands below. And whether each line is sound."""
    yield f"{decision.strategy}, week {decision.week}: {decision.headline}", decision.is_passed
    if not decision.is_gated:
        yield UNGATED.format(strategy=decision.strategy), True
    yield "", True
    head = ("gate", "value", "threshold", "verdict", "why")
    yield from ((line, True) for line in text_table([head, *(_cells(each) for each in decision.gates)]))
    if commands := [each for each in decision.failed if each.command]:
        yield "", True
        yield from ((f"{each.gate}: {each.command}", True) for each in commands)


def _cells(judged: Judged) -> tuple[str, ...]:
    asked = _in_words(judged.threshold)
    weaker = f"{asked} (weaker than {_in_words(judged.default)})" if judged.is_weaker else asked
    return (judged.gate, _in_words(judged.value), weaker, judged.verdict, judged.why)


def _in_words(value: Threshold | str) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
