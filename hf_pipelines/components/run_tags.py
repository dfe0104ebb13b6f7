"""Run tags: which partitions a run is about.

Lives here: reading and naming the tags. Does not live here: which run is wanted (`automation`).
"""

from collections.abc import Mapping, Sequence

import dagster as dg

# Run tag: which partitions of a run's range are wanted, joined by commas; without it all of them.
WANTED_TAG = "hf/partitions"


def named_partitions(tags: Mapping[str, str]) -> tuple[str, ...]:
    """Partition keys that a run's tags name one by one; none if they name a range or nothing."""
    if one := tags.get("dagster/partition"):
        return (one,)
    wanted = tags.get(WANTED_TAG)
    return tuple(wanted.split(",")) if wanted else ()


def partitions_of_run(tags: Mapping[str, str], partitions: dg.PartitionsDefinition) -> list[str]:
    """Partition keys that a run is about, by its tags; empty if it names none."""
    if one := tags.get("dagster/partition"):
        return [one]
    first, last = tags.get("dagster/asset_partition_range_start"), tags.get("dagster/asset_partition_range_end")
    if first is None or last is None:
        return []
    return list(partitions.get_partition_keys_in_range(dg.PartitionKeyRange(first, last)))


def wanted_partitions(tags: Mapping[str, str], keys: Sequence[str]) -> tuple[str, ...]:
    """Partitions of a run's range that it is to make."""
    if WANTED_TAG not in tags:
        return tuple(keys)
    wanted = set(tags[WANTED_TAG].split(","))
    return tuple(key for key in keys if key in wanted)
