"""Retention in tests: what is judged, and removal of one kind of thing."""

from datetime import datetime

import dagster as dg

from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.retention import Holdings, Policy, judge_old, remove_judged


def holdings_of(
    store: PartitionStore,
    policy: Policy,
    now: datetime,
    *,
    instance: dg.DagsterInstance | None = None,
    tracking: MLflowTracking | None = None,
) -> Holdings:
    return Holdings(store, instance or dg.DagsterInstance.ephemeral(), tracking, policy, now)


def pruned(
    store: PartitionStore,
    policy: Policy,
    now: datetime,
    *,
    kind: str = "version",
    instance: dg.DagsterInstance | None = None,
) -> list[str]:
    """Names of what was removed of one kind, sorted."""
    holdings = holdings_of(store, policy, now, instance=instance)
    return sorted(each.name for each in remove_judged(holdings, judge_old(holdings)) if each.kind == kind)
