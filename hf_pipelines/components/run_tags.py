"""Run tags: which partitions a run is about.

Lives here: reading and naming the tags. Does not live here: which run is wanted (`automation`).
"""

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta

import dagster as dg

from hf_pipelines.partitions import parse_key

# Run tag: which partitions of a run's range are wanted, as `condensed` writes them; without it all of them.
WANTED_TAG = "hf/partitions"
# Shorter rows of partitions are named one by one.
LEAST_IN_A_SPAN = 3
SPAN = re.compile(r"(\d{4}-\d\d-\d\d) to (\d{4}-\d\d-\d\d) every ([1-9]\d*) days?")


def condensed(keys: Sequence[str]) -> str:
    """Partition keys in few words: rows that are equally far apart as spans, the others one by one.

    Examples
    --------
    >>> condensed(["2013-02-24", "2013-03-03", "2013-03-10", "2013-05-05"])
    '2013-02-24 to 2013-03-10 every 7 days,2013-05-05'
    """
    days = [parse_key(key) for key in keys]
    parts, first = [], 0
    while first < len(keys):
        last = first + 1
        while last + 1 < len(keys) and days[last + 1] - days[last] == days[first + 1] - days[first]:
            last += 1
        if last - first + 1 < LEAST_IN_A_SPAN or last >= len(keys):
            parts.append(keys[first])
            first += 1
            continue
        step = (days[first + 1] - days[first]).days
        parts.append(f"{keys[first]} to {keys[last]} every {step} day{'s' if step > 1 else ''}")
        first = last + 1
    return ",".join(parts)


def expanded(text: str) -> tuple[str, ...]:
    """Partition keys that `condensed` put in few words.

    Examples
    --------
    >>> expanded("2013-02-24 to 2013-03-10 every 7 days,2013-05-05")
    ('2013-02-24', '2013-03-03', '2013-03-10', '2013-05-05')
    """
    keys: list[str] = []
    for part in text.split(","):
        if not (span := SPAN.fullmatch(part)):
            keys.append(part)
            continue
        first, last, step = parse_key(span[1]), parse_key(span[2]), int(span[3])
        keys += [f"{first + timedelta(days=each)}" for each in range(0, (last - first).days + 1, step)]
    return tuple(keys)


def named_partitions(tags: Mapping[str, str]) -> tuple[str, ...]:
    """Partition keys that a run's tags name one by one; none if they name a range or nothing."""
    if one := tags.get("dagster/partition"):
        return (one,)
    wanted = tags.get(WANTED_TAG)
    return expanded(wanted) if wanted else ()


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
    wanted = set(expanded(tags[WANTED_TAG]))
    return tuple(key for key in keys if key in wanted)
