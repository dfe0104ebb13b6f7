"""Gates: may a strategy be promoted, and if not, why not; the lines of `hfp gates`.

Lives here: which week is judged, and the table. Does not live here: the gates (`research.promotion`), what is known
(`components.strategy_stages.evidence`).
"""

from collections.abc import Iterator

from hf_pipelines.commands.candidates import candidate_of
from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.commands.validating import backtested_week
from hf_pipelines.research.comparison_words import text_table
from hf_pipelines.research.promotion import Decision
from hf_pipelines.research.promotion.words import GATE_COLUMNS, gate_cells

UNGATED = "{strategy} is ungated: the model of the week serves whatever these say; they are the defaults. Write `gates: {{}}` into its YAML."


def gates_of(pipeline: Pipeline, strategy: str, week: str | None) -> Decision:
    """A week of a strategy, by default the latest with a backtest, held to its gates.

    Raises
    ------
    ValueError
        If the strategy is unknown, or has no backtest of that week; if the champion's account is stored no more.
    PromotionHistoryError
        If the history of promotions is not as it was written.
    """
    _, decision = candidate_of(pipeline, strategy).judge(backtested_week(pipeline, strategy, week))
    return decision


def gates_lines(decision: Decision) -> Iterator[tuple[str, bool]]:
    """The decision first, then every gate, those that stand in the way marked; commands below. And whether each line is sound."""
    yield f"{decision.strategy}, week {decision.week}: {decision.headline}", decision.is_passed
    if not decision.is_gated:
        yield UNGATED.format(strategy=decision.strategy), True
    yield "", True
    head = GATE_COLUMNS[:-1]
    table = text_table([head, *(gate_cells(each) for each in decision.gates)])
    # Sentences stand to the left.
    yield from (
        (f"{line}  {why}", True)
        for line, why in zip(table, ("why", *(each.why for each in decision.gates)), strict=True)
    )
    if commands := [each for each in decision.failed if each.command]:
        yield "", True
        yield from ((f"{each.gate}: {each.command}", True) for each in commands)
