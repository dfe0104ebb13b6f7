"""Retention: what is deleted, by age and count.

Lives here: removing old versions of partitions and old Dagster runs, and what must stay. Does not live here: when that
happens (`components.automation.housekeeping`), ticks (dagster.yaml purges them).
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg

from hf_pipelines.resources.dagster_internals import FINISHED_STATUSES
from hf_pipelines.resources.footer import Footer
from hf_pipelines.resources.issued_signals import is_issued
from hf_pipelines.resources.lineage import find_references
from hf_pipelines.resources.partition_store import VERSIONS, PartitionStore

# Runs deleted in one go: deleting is a transaction each.
RUNS_A_TIME = 1_000

KEPT_APART = (VERSIONS, "_rejected", "_damaged")


@dataclass(frozen=True)
class Policy:
    """How much is kept.

    Parameters
    ----------
    days : int
        What is younger stays.
    versions : int
        The newest versions of each partition stay, however old.
    """

    days: int
    versions: int

    def __post_init__(self) -> None:
        if self.days < 1 or self.versions < 0:
            raise ValueError(
                f"`days` must be at least 1 and `versions` at least 0, was {self.days} and {self.versions}."
            )


def prune_versions(store: PartitionStore, footers: Iterable[Footer], policy: Policy, now: datetime) -> list[str]:
    """Remove versions, rejected and damaged contents that are old, many and referred to by nothing; returns their keys.

    A version that a current partition (a training matrix, a model, an issued signal) was made from stays forever, and so
    does what that version was made from; so do the versions of issued partitions, which are the record of what would have
    been issued.
    """
    current = list(footers)
    referred = find_references(store, current)
    kinds = {footer.asset: footer.kind for footer in current}
    removed = []
    for folder in KEPT_APART:
        by_partition: dict[tuple[str, str], list[tuple[datetime, str, str]]] = defaultdict(list)
        for key, written in store.objects.ages(folder).items():
            asset, partition, name = key.removeprefix(f"{folder}/").rsplit("/", 2)
            by_partition[asset, partition].append((written, name.removesuffix(".parquet"), key))
        for (asset, partition), versions in by_partition.items():
            if asset not in kinds:
                kinds[asset] = store.kind(asset)
            if is_issued(kinds[asset]):
                continue
            for written, digest, key in sorted(versions, reverse=True)[policy.versions :]:
                is_referred = folder == VERSIONS and (asset, partition, digest) in referred
                if written < now - timedelta(days=policy.days) and not is_referred:
                    store.objects.delete(key)
                    removed.append(key)
    return sorted(removed)


def prune_runs(instance: dg.DagsterInstance, footers: Iterable[Footer], policy: Policy, now: datetime) -> list[str]:
    """Delete finished Dagster runs with their events; returns their ids.

    A run that made something that is still current stays: its events are what the web UI knows of that partition.
    """
    kept = {footer.run_id for footer in footers}
    wanted = dg.RunsFilter(statuses=list(FINISHED_STATUSES), updated_before=now - timedelta(days=policy.days))
    removed = []
    for record in instance.get_run_records(wanted, limit=RUNS_A_TIME, ascending=True):
        run_id = record.dagster_run.run_id
        if run_id not in kept:
            instance.delete_run(run_id)
            removed.append(run_id)
    return removed
