"""Alarms of drift that ask for an extra run of the week under way.

Lives here: what was asked for before, and the request. Does not live here: whether an alarm asks (`research.drift.triggers`), the sensor
that asks (`strategy_sensor`).

The run is that of every week: from data strictly before the week, judged by the same checks and gates, in the ledger, and nothing is
promoted by it. It makes a new version where something that the model is made from, or the code, is not what it was; else it finds what is stored.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import dagster as dg

from hf_pipelines.components.automation.run_intents import RunHistory, RunIntent, digest
from hf_pipelines.components.strategy_stages import StrategyPlan
from hf_pipelines.components.strategy_stages.drift import newest_drift, standing_of
from hf_pipelines.research.drift.triggers import Asked, alarm_of, next_refit
from hf_pipelines.resources.partition_store import PartitionStore

# A quarter of a year, and a cooldown of a year at most.
LOOKED_BACK = timedelta(days=366)


def refit_by_alarm(
    plan: StrategyPlan, store: PartitionStore, history: RunHistory, now: datetime, intent: Callable[[str], RunIntent]
) -> tuple[list[dg.RunRequest], str]:
    """The request of a refit that an alarm asks for, and a note.

    Parameters
    ----------
    intent : callable of str to RunIntent
        The run of the week under way, by the reason in words.
    """
    triggers, job = plan.drift.triggers, f"{plan.name}_retrain"
    footer = newest_drift(store, plan.asset("drift")) if triggers.kinds else None
    standing = {} if footer is None else standing_of(footer.facts)
    alarms = [
        alarm_of(kind, standing[kind]) for kind in triggers.kinds if kind in standing and standing[kind].is_raised
    ]
    if not alarms:
        return [], ""
    found = next_refit(
        triggers,
        standing,
        answered=[each for each in alarms if history.answered(job, each)],
        asked_at=history.asked_by_alarms(job, since=now - LOOKED_BACK),
        now=now,
    )
    if not isinstance(found, Asked):
        return [], found or ""
    if (run_id := history.under_way(job)) is not None:
        return [], f"alarm {found.alarm} asks for a refit: waits for run {run_id[:8]} of {job}"
    because = f"alarm of {found.kind}, raised on {standing[found.kind].raised_on}"
    wanted = intent(because)
    asked = replace(wanted, state=digest(wanted.state, found.alarm), alarm=found.alarm)
    return [asked.request(1)], f"refit of week {asked.partitions[0]} by {because}"
