"""Retention: what is deleted, by age and count.

Lives here: removing old versions of partitions and old Dagster runs, and what must stay. Does not live here: when that
happens (`components.automation.housekeeping`), ticks (dagster.yaml purges them).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from graphlib import TopologicalSorter

import dagster as dg

from hf_pipelines.resources.dagster_internals import FINISHED_STATUSES
from hf_pipelines.resources.footer import Footer
from hf_pipelines.resources.issued_signals import is_issued
from hf_pipelines.resources.lineage import find_references
from hf_pipelines.resources.partition_store import VERSIONS, PartitionStore
from hf_pipelines.resources.storage_errors import ObjectMissingError, StoredPartitionError

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


@dataclass(frozen=True)
class Judged:
    """Something old that may go, or must stay.

    Attributes
    ----------
    kind : str
        "version", "run" or "fit".
    name : str
        Its key in the store, or the id of a run.
    written : datetime
        UTC.
    goes : bool
    why : str
        It goes, or stays.
    """

    kind: str
    name: str
    written: datetime
    goes: bool
    why: str


def judge_versions(store: PartitionStore, footers: Iterable[Footer], policy: Policy, now: datetime) -> list[Judged]:
    """Versions, rejected and damaged contents; a reader comes before what it was made from.

    What is old, many and referred to by nothing goes. A version that a current partition (a training matrix, a model, an issued
    signal) was made from stays forever, and so does what that version was made from; so do the versions of issued partitions, which
    are the record of what would have been issued.
    """
    current = list(footers)
    referred = find_references(store, current)
    kinds = {footer.asset: footer.kind for footer in current}
    oldest, judged = now - timedelta(days=policy.days), []
    for folder in KEPT_APART:
        by_partition: dict[tuple[str, str], list[tuple[datetime, str, str]]] = defaultdict(list)
        for key, written in store.objects.ages(folder).items():
            asset, partition, name = key.removeprefix(f"{folder}/").rsplit("/", 2)
            by_partition[asset, partition].append((written, name.removesuffix(".parquet"), key))
        for (asset, partition), versions in by_partition.items():
            if asset not in kinds:
                kinds[asset] = store.kind(asset)
            for rank, (written, digest, key) in enumerate(sorted(versions, reverse=True)):
                readers = referred.get((asset, partition, digest), []) if folder == VERSIONS else []
                if is_issued(kinds[asset]):
                    stays = "the record of what would have been issued"
                elif readers:
                    more = f" and {len(readers) - 1} more" if len(readers) > 1 else ""
                    stays = f"{readers[0].asset} {readers[0].partition}{more} was made from it"
                elif rank < policy.versions:
                    stays = f"one of the newest {policy.versions} of its partition"
                else:
                    stays = "" if written < oldest else f"younger than {policy.days} days"
                goes = f"older than {policy.days} days, and nothing that is current was made from it"
                judged.append(Judged("version", key, written, not stays, stays or goes))
    return _readers_first(store, sorted(judged, key=lambda each: (each.written, each.name)))


def _readers_first(store: PartitionStore, judged: Sequence[Judged]) -> list[Judged]:
    """In an order in which nothing outlives what it was made from; when a version was set aside says nothing of when it was made."""
    by_name = {each.name: each for each in judged}
    sorter: TopologicalSorter[str] = TopologicalSorter({name: () for name in by_name})
    for each in judged:
        if not each.goes or not each.name.startswith(f"{VERSIONS}/"):
            continue
        asset, partition, _ = each.name.removeprefix(f"{VERSIONS}/").rsplit("/", 2)
        try:
            inputs = store.peek(each.name, asset=asset, partition=partition).inputs
        except (StoredPartitionError, ObjectMissingError):
            # Damaged, or gone meanwhile: what it was made from cannot be told.
            continue
        for of, parts in inputs.items():
            for key, digest in parts.items():
                name = f"{VERSIONS}/{of}/{key.partition('#')[0]}/{digest}.parquet"
                if name in by_name and name != each.name:
                    sorter.add(name, each.name)
    return [by_name[name] for name in sorter.static_order()]


def judge_runs(instance: dg.DagsterInstance, footers: Iterable[Footer], policy: Policy, now: datetime) -> list[Judged]:
    """Finished Dagster runs older than the policy's days, at most `RUNS_A_TIME`, the oldest first.

    A run that made something that is still current stays: its events are what the web UI knows of that partition.
    """
    kept = {footer.run_id: footer for footer in footers}
    wanted = dg.RunsFilter(statuses=list(FINISHED_STATUSES), updated_before=now - timedelta(days=policy.days))
    judged = []
    for record in instance.get_run_records(wanted, limit=RUNS_A_TIME, ascending=True):
        run_id, made = record.dagster_run.run_id, kept.get(record.dagster_run.run_id)
        why = (
            f"older than {policy.days} days, and made nothing that is current"
            if made is None
            else f"made {made.asset} {made.partition}"
        )
        judged.append(Judged("run", run_id, record.update_timestamp, made is None, why))
    return judged


def prune(store: PartitionStore, instance: dg.DagsterInstance, judged: Judged) -> None:
    """Remove one thing; nothing happens where it is gone already."""
    if judged.kind == "run":
        if instance.has_run(judged.name):
            instance.delete_run(judged.name)
    else:
        store.objects.delete(judged.name)


def prune_versions(store: PartitionStore, footers: Iterable[Footer], policy: Policy, now: datetime) -> list[str]:
    """Remove what `judge_versions` lets go; returns the keys. Killed in the middle, nothing is left that was made from what is gone."""
    removed = [each.name for each in judge_versions(store, footers, policy, now) if each.goes]
    for key in removed:
        store.objects.delete(key)
    return sorted(removed)


def prune_runs(instance: dg.DagsterInstance, footers: Iterable[Footer], policy: Policy, now: datetime) -> list[str]:
    """Delete the runs, with their events, that `judge_runs` lets go; returns their ids."""
    removed = [each.name for each in judge_runs(instance, footers, policy, now) if each.goes]
    for run_id in removed:
        instance.delete_run(run_id)
    return removed
