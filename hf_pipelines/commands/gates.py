"""Gates: may a strategy be promoted, and if not, why not; the lines of `hfp gates`.

Lives here: which week is judged, and the table. Does not live here: the gates (`research.promotion`), what is known
(`components.strategy_stages.evidence`).
"""

from collections.abc import Iterator

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.commands.validating import backtested_week
from hf_pipelines.components.strategy_stages.evidence import Champion, Returns, gather_evidence
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.components.strategy_stages.trial_records import settings_of
from hf_pipelines.research.comparison_words import text_table
from hf_pipelines.research.promotion import Decision, Judged, Threshold, judge_gates
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.lineage import read_content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.promotions.history import history_of
from hf_pipelines.resources.trial_ledger import configuration_hash
from hf_pipelines.resources.trial_ledger.returns import session_returns

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
    plan, key = pipeline.strategy(strategy), backtested_week(pipeline, strategy, week)
    champion = champion_of(plan, pipeline.store)
    evidence = gather_evidence(
        plan, pipeline.store, key, checker=pipeline.checker(), now=Clock().now(), champion=champion
    )
    return judge_gates(evidence, plan.gates)


def champion_of(plan: StrategyPlan, store: PartitionStore) -> Champion | None:
    """What a strategy is to be better than: the champion with the account that it was promoted by.

    None where nothing serves, or the strategy's own configuration does: a refit need not be better than itself.

    Raises
    ------
    PromotionHistoryError
        If the history is not as it was written.
    ValueError
        If that account is stored no more.
    """
    history, asset = history_of(store.objects, plan.name), plan.asset("backtest")
    release = history.state.champion
    if release is None or release.configuration == configuration_hash(settings_of(plan)):
        return None
    # An account of which nothing is known is no reason to pass.
    parts = history.records[release.number - 1]["evidence"].get(asset, {})
    returns: Returns = {}
    for week, digest in parts.items():
        stored = read_content(store, asset, week, digest)
        found = session_returns(stored.frame, stored.footer.facts)
        returns = {} if found is None else dict(zip(*found, strict=True))
    return Champion(f"{release.version} of week {release.week}", returns)


def gates_lines(decision: Decision) -> Iterator[tuple[str, bool]]:
    """The decision first, then every gate, those that stand in the way marked; commands below. And whether each line is sound."""
    yield f"{decision.strategy}, week {decision.week}: {decision.headline}", decision.is_passed
    if not decision.is_gated:
        yield UNGATED.format(strategy=decision.strategy), True
    yield "", True
    head = ("gate", "value", "threshold", "verdict")
    table = text_table([head, *(_cells(each) for each in decision.gates)])
    # Sentences stand to the left.
    yield from (
        (f"{line}  {why}", True)
        for line, why in zip(table, ("why", *(each.why for each in decision.gates)), strict=True)
    )
    if commands := [each for each in decision.failed if each.command]:
        yield "", True
        yield from ((f"{each.gate}: {each.command}", True) for each in commands)


def _cells(judged: Judged) -> tuple[str, ...]:
    asked = _in_words(judged.threshold)
    weaker = f"{asked} (weaker than {_in_words(judged.default)})" if judged.is_weaker else asked
    return (judged.gate, _in_words(judged.value), weaker, judged.verdict)


def _in_words(value: Threshold | str) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
