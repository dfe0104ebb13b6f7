"""Start: the first week of a strategy; nothing that is stored may lie before it.

Lives here: what is refused of `start`, and what is said of it. Does not live here: the partitions that it makes (`partitions`).
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date

from hf_pipelines.components.market_stages.plan import MarketPlan
from hf_pipelines.components.stage import Stage
from hf_pipelines.components.stage_run import Computed, StageRun
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.partitions import parse_key, week_key, week_start
from hf_pipelines.research.wording import some_of
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_store import PartitionStore


def week_of_start(start: str | None, market: MarketPlan) -> date | None:
    """Sunday of the week that a `start` lies in.

    Raises
    ------
    ValueError
        If the market has no such week, or it has not begun.
    """
    if start is None:
        return None
    partitions, sunday = market.partitions, week_start(parse_key(start))
    newest = week_start(partitions.end or date.today())
    if not partitions.first_week <= sunday <= newest:
        raise ValueError(
            f"`start` must lie in a week of market {market.name}, {partitions.first_week} to {newest}, was {start}; take a date between them, "
            "or leave it out."
        )
    return sunday


def require_nothing_before(plan: StrategyPlan, store: PartitionStore) -> None:
    """Refuse a start that lies after something that is stored of the strategy: no page would show it, and no track record count it.

    Raises
    ------
    ValueError
        With the assets, and the latest start that leaves none out.
    """
    if plan.start is None:
        return
    begins = plan.start.isoformat()
    assets = [plan.asset(stage) for stage in store.objects.folders(plan.name)]
    earlier = {asset: [key for key in store.partitions(asset) if key < begins] for asset in assets}
    told = "; ".join(f"{asset} {some_of(keys)}" for asset, keys in earlier.items() if keys)
    if told:
        first = week_key(min(parse_key(key) for keys in earlier.values() for key in keys))
        raise ValueError(
            f"`start` must not lie after what is stored of {plan.name}, was in week {plan.start}: {told}; nothing of it was touched. Write "
            f'start: "{first}", or an earlier date.'
        )


def begun(stage: Stage, plan: StrategyPlan) -> Stage:
    """The stage, whose runs are refused while something is stored of a week before the strategy's start."""

    def compute(run: StageRun, inputs: Mapping[str, Loaded]) -> Computed:
        if run.store is not None:
            require_nothing_before(plan, run.store)
        return stage.compute(run, inputs)

    return replace(stage, compute=compute)


def first_week_in_words(plan: StrategyPlan) -> str:
    """The first week that a strategy can be trained for, and the `start` that would be best."""
    first = plan.first_trainable_week
    told = f"{first}; those before it have no whole window of {plan.training.weeks} weeks"
    return (
        f'{told}: write start: "{first}" or later, and they are not shown as missing' if plan.begins_too_early else told
    )
