"""Holes: records that a ledger once had, as far as a count of trials can see without verifying every chain.

Lives here: what is lacking of chains that are read. Does not live here: whether what is there was changed (`chains`), heads that are
kept elsewhere than on this machine (`heads`).
"""

from collections import Counter
from collections.abc import Sequence

import polars as pl

from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.trial_ledger.records import RECORDS
from hf_pipelines.resources.trial_ledger.segments import Unreadable, read_table
from hf_pipelines.resources.trial_ledger.writers import ChainHead, local_heads


def read_whole(objects: ObjectStore) -> tuple[pl.DataFrame, list[Unreadable]]:
    """Every record once, as `read_table`; what could not be read, and chains that lack records.

    A chain lacks what lies between its records, and up to the head that this machine has noted of it.
    """
    # Heads first: what is written meanwhile is not missed.
    heads = local_heads(objects)
    rows, unreadable = read_table(objects)
    holes = _holes(objects, rows, unreadable, heads)
    if holes:
        # A listing takes a while: what was being sealed is there at a second look.
        rows, unreadable = read_table(objects)
        holes = _holes(objects, rows, unreadable, heads)
    return rows, [*unreadable, *holes]


def _holes(
    objects: ObjectStore, rows: pl.DataFrame, unreadable: Sequence[Unreadable], heads: Sequence[ChainHead]
) -> list[Unreadable]:
    if any(each.n < 0 for each in unreadable):
        # What lacks may be what is damaged, and that is named.
        return []
    ends = {head.writer: head.n + 1 for head in sorted(heads, key=lambda each: each.n)}
    there = {writer: (n, last + 1) for writer, n, last in rows.group_by("writer").agg(pl.len(), pl.max("n")).rows()}
    # Named already, each for itself.
    named = Counter(each.writer for each in unreadable)
    found = []
    for writer in sorted({*ends, *there}):
        n_there, length = there.get(writer, (0, 0))
        length = max(length, ends.get(writer, 0))
        if (n_lost := length - n_there - named[writer]) > 0:
            what = f"a chain without {n_lost:,} of its {length:,} records"
            found.append(Unreadable(objects.address(f"{RECORDS}/{writer}"), what, writer))
    return found
