"""Versions of partitions, and rejected and damaged contents: which go, in an order in which nothing outlives what it was made from."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from graphlib import TopologicalSorter

from hf_pipelines.resources.footer import FITTED_MODEL
from hf_pipelines.resources.issued_signals import is_issued
from hf_pipelines.resources.partition_store import VERSIONS, PartitionStore
from hf_pipelines.resources.retention.judging import Holdings, Judged
from hf_pipelines.resources.retention.roots import VERSION as KIND
from hf_pipelines.resources.storage_errors import ObjectMissingError, StoredPartitionError

__all__ = ["KIND", "judge", "keep_what_stays_descends_from", "remove"]

KEPT_APART = (VERSIONS, "_rejected", "_damaged")


def judge(holdings: Holdings) -> list[Judged]:
    """Every version, rejected and damaged content, the oldest first.

    Versions of issued partitions stay: they are the record of what would have been issued.
    """
    store, policy = holdings.store, holdings.policy
    kinds = {footer.asset: footer.kind for footer in holdings.footers}
    judged = []
    for folder in KEPT_APART:
        by_partition = defaultdict(list)
        for key, (written, size) in store.objects.ages_and_sizes(folder).items():
            asset, partition, _ = key.removeprefix(f"{folder}/").rsplit("/", 2)
            by_partition[asset, partition].append((written, key, size))
        for (asset, _), versions in by_partition.items():
            if asset not in kinds:
                kinds[asset] = store.kind(asset)
            for rank, (written, key, size) in enumerate(sorted(versions, reverse=True)):
                is_spare = False
                if is_issued(kinds[asset]):
                    stays = "the record of what would have been issued"
                elif (why := holdings.needed.get((KIND, key))) is not None:
                    stays = why
                elif rank < policy.versions:
                    stays, is_spare = f"one of the newest {policy.versions} of its partition", True
                elif written >= holdings.oldest:
                    stays, is_spare = holdings.young, True
                else:
                    stays = ""
                goes = f"{holdings.aged}, and nothing that is current was made from it"
                is_model = folder == VERSIONS and kinds[asset] == FITTED_MODEL
                judged.append(Judged(KIND, key, written, not stays, stays or goes, size, is_spare, is_model))
    return sorted(judged, key=lambda each: (each.written, each.name))


def keep_what_stays_descends_from(holdings: Holdings, judged: Sequence[Judged]) -> list[Judged]:
    """What a version that stays was made from stays too, through any number of steps; a reader comes before what it was made from.

    When a version was set aside says nothing of when it was made: what was made from an older one may be younger or older than it.
    """
    by_name = {each.name: each for each in judged}
    if not any(each.goes for each in judged):
        return list(judged)
    made_from = {name: [*_made_from(holdings.store, name, by_name)] for name in by_name}
    waiting = [each.name for each in judged if not each.goes]
    while waiting:
        reader = waiting.pop()
        for name in made_from[reader]:
            if by_name[name].goes:
                asset, partition, _ = reader.partition("/")[2].rsplit("/", 2)
                why = f"an earlier {asset} {partition} that stays was made from it"
                by_name[name] = replace(by_name[name], goes=False, why=why)
                waiting.append(name)
    sorter: TopologicalSorter[str] = TopologicalSorter({name: () for name in by_name})
    for reader, names in made_from.items():
        for name in names:
            sorter.add(name, reader)
    return [by_name[name] for name in sorter.static_order()]


def _made_from(store: PartitionStore, key: str, known: dict[str, Judged]) -> Iterator[str]:
    """Keys of the versions that a version was made from."""
    if not key.startswith(f"{VERSIONS}/"):
        return
    asset, partition, _ = key.removeprefix(f"{VERSIONS}/").rsplit("/", 2)
    try:
        inputs = store.peek(key, asset=asset, partition=partition).inputs
    except (StoredPartitionError, ObjectMissingError):
        # Damaged, or gone meanwhile: what it was made from cannot be told.
        return
    for of, parts in inputs.items():
        for part, digest in parts.items():
            name = f"{VERSIONS}/{of}/{part.partition('#')[0]}/{digest}.parquet"
            if name in known and name != key:
                yield name


def remove(holdings: Holdings, judged: Judged) -> None:
    """Remove one object."""
    holdings.store.objects.delete(judged.name)
