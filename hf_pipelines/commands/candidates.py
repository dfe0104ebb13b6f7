"""Candidates: the present configuration of a strategy of the project, as it is judged and promoted.

Lives here: taking it from the project. Does not live here: judging and promoting it (`components.strategy_stages.promoting`).
"""

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.components import Strategy
from hf_pipelines.components.strategy_stages.promoting import Candidate
from hf_pipelines.resources.clock import Clock


def candidate_of(pipeline: Pipeline, strategy: str) -> Candidate:
    """The present configuration of a strategy, to be judged or promoted.

    Raises
    ------
    ValueError
        If the strategy is unknown.
    """
    plan = pipeline.strategy(strategy)
    (component,) = (each for each in pipeline.tree().get_all_components(of_type=Strategy) if each.name == strategy)
    return Candidate(
        plan=plan,
        yaml=component.stored_yaml(),
        store=pipeline.store,
        checker=pipeline.checker(),
        now=Clock().now(),
    )
