"""Stored weeks: the partition that a command is asked to tell of, by default the latest that there is.

Lives here: finding it, and saying which there are. Does not live here: what is told of it (`leaderboard`, `sweep`).
"""

from typing import Any

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.resources.lineage import CURRENT, read_content


def stored_week(pipeline: Pipeline, plan: StrategyPlan, kind: str, week: str | None, *, remedy: str) -> dict[str, Any]:
    """A stored week of an asset that a block of the strategy's YAML asks for, for programs.

    Parameters
    ----------
    kind : str
        Asset and block, such as `sweep`.
    week : str or None
        None is the latest.
    remedy : str
        What makes the first one.

    Returns
    -------
    dict
        `strategy`, `week`, the facts of the footer, `out_of_date` (why, or None), and `table`: a row each.

    Raises
    ------
    ValueError
        If there is none, or none of that week.
    """
    asset, strategy = plan.asset(kind), plan.name
    weeks = pipeline.store.partitions(asset)
    if not weeks:
        raise ValueError(f"`strategy` must have a stored {kind}, {strategy} has none; {remedy}.")
    if week is not None and week not in weeks:
        raise ValueError(
            f"`week` must be one of which {strategy} has a {kind} ({', '.join(weeks[-5:])}), was {week[:40]!r}; hfp retrain {strategy} "
            "--week SUNDAY."
        )
    stored = read_content(pipeline.store, asset, week or max(weeks), CURRENT)
    out_of_date = pipeline.checker().is_current(asset, stored.footer.partition).reason
    return {
        "strategy": strategy,
        "week": stored.footer.partition,
        **stored.footer.facts,
        "out_of_date": out_of_date or None,
        "table": stored.frame.to_dicts(),
    }
