"""Sessions that were issued and whose drift was not judged: their run died between the two.

Lives here: which, and the request. Does not live here: issues that are missing (`strategy_sensor`), the judgement (`strategy_stages.drift`).
"""

from collections.abc import Mapping

import dagster as dg

from hf_pipelines.components.automation.run_intents import RequestState, RunHistory, RunIntent, digest
from hf_pipelines.components.strategy_stages import StrategyPlan
from hf_pipelines.partitions import parse_key, week_key
from hf_pipelines.resources.partition_store import PartitionStore

# Newest issues that are looked at: two weeks. Older ones are left to a backfill.
LOOKED_AT = 10


def judge_what_was_missed(
    plan: StrategyPlan,
    store: PartitionStore,
    history: RunHistory,
    issued: Mapping[str, str],
    features: Mapping[str, Mapping[str, str]],
) -> tuple[list[dg.RunRequest], str]:
    """The request of the drift that the newest issues lack, and a note.

    A state of the issues and of their features is requested once, however its run ends; a session without an issue is none to judge.

    Parameters
    ----------
    issued : mapping
        Session that was issued to the tag of its issue.
    features : mapping
        Asset of features to the tags of its weeks.
    """
    newest = sorted(issued)[-LOOKED_AT:]
    judged = {*store.partitions(plan.asset("drift"))} if newest else set()
    days = [day for day in newest if day not in judged and plan.market.partitions.is_session(parse_key(day))]
    if not days:
        return [], ""
    read = [tags.get(week) for week in sorted({week_key(parse_key(day)) for day in days}) for tags in features.values()]
    intent = RunIntent(
        job=f"{plan.name}_issue",
        assets=(plan.asset("drift"),),
        partitions=tuple(days),
        state=digest([issued[day] for day in days], read),
        because=f"the issue of {days[-1]} has no judgement of drift",
    )
    request_state, attempt = history.state_of(intent)
    if request_state is RequestState.SETTLED:
        return [], f"drift of {', '.join(days)} failed and waits for their features to change"
    if (run_id := history.under_way(intent.job)) is not None:
        # That run may be the one that has issued and has not judged yet.
        return [], f"drift of {', '.join(days)}: waits for run {run_id[:8]} of {intent.job}"
    requests = [intent.request(attempt)] if request_state is RequestState.DUE else []
    return requests, f"drift of {', '.join(days)}"
