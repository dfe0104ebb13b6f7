"""Heads: where else than in the ledger the ends of its chains are kept.

Lives here: collecting them from stored footers, from Dagster's storage and from this machine, and verifying the ledger beside them.
Does not live here: what breaks a chain (`chains`).
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from typing import Any

import dagster as dg
import polars as pl

from hf_pipelines.resources.lineage import stored_partitions
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.storage_errors import ObjectMissingError, StoredPartitionError
from hf_pipelines.resources.trial_ledger.chains import Head, LedgerFault, verify_chains
from hf_pipelines.resources.trial_ledger.returns import missing_returns
from hf_pipelines.resources.trial_ledger.segments import read_contents
from hf_pipelines.resources.trial_ledger.writers import local_heads

# Fact of a footer, and metadata of a materialisation.
LEDGER_HEAD = "ledger_head"
TRIAL = "trial"

# Stages whose footers hold heads.
NOTING_STAGES = ("cv_results", "backtest")

# Of each asset, newest first: what is older is noted by the footers.
MATERIALISATIONS_READ = 200


def kept_heads(store: PartitionStore, instance: dg.DagsterInstance | None = None) -> list[Head]:
    """Heads that are kept apart from the ledger of a store."""
    assets = {
        asset: keys for asset, keys in stored_partitions(store).items() if asset.rpartition("/")[2] in NOTING_STAGES
    }
    here = [Head(each.writer, each.n, each.hash, "this machine") for each in local_heads(store.objects) if each.n >= 0]
    found = [*here, *_of_footers(store, assets.items())]
    return found if instance is None else [*found, *_of_materialisations(instance, assets)]


def _of_footers(store: PartitionStore, assets: Iterable[tuple[str, list[str]]]) -> Iterator[Head]:
    for asset, keys in assets:
        for key in keys:
            # What is damaged is reported where partitions are verified.
            with suppress(StoredPartitionError, ObjectMissingError):
                facts = store.peek(store.key(asset, key), asset=asset, partition=key).facts
                if head := Head.from_text(facts.get(LEDGER_HEAD), f"the footer of {asset} {key}"):
                    yield head


def _of_materialisations(instance: dg.DagsterInstance, assets: Iterable[str]) -> Iterator[Head]:
    for asset in assets:
        made = instance.fetch_materializations(dg.AssetKey(asset.split("/")), limit=MATERIALISATIONS_READ)
        for record in made.records:
            event = record.asset_materialization
            noted: Any = event.metadata.get(LEDGER_HEAD) if event else None
            told = f"the materialisation of {asset} {event.partition if event else ''} in Dagster"
            if head := Head.from_text(getattr(noted, "value", None), told):
                yield head


def digest_of_heads(records: pl.DataFrame) -> str:
    """Digest of the ends of all chains, to be noted on paper; 16 digits."""
    ends = records.sort("writer", "n").group_by("writer", maintain_order=True).agg(pl.col("n", "sha256").last())
    text = "\n".join(f"{writer} {n} {digest}" for writer, n, digest in ends.rows())
    return sha256(text.encode()).hexdigest()[:16]


def verify_ledger(
    store: PartitionStore, instance: dg.DagsterInstance | None = None
) -> tuple[list[LedgerFault], int, int, int]:
    """Faults of the ledger of a store; how many records, chains and heads kept apart were looked at."""
    # Heads first: records that are written meanwhile are not missed.
    heads = kept_heads(store, instance)
    contents = read_contents(store.objects)
    faults = verify_chains(contents, heads)
    named = {
        str(each.fields["returns"]): f"trial {each.fields['trial'][:12]}"
        for each in contents.records
        if isinstance(each.fields.get("returns"), str)
    }
    faults += [LedgerFault("", -1, what) for what in missing_returns(store.objects, named).values()]
    chains = {each.writer for each in contents.records}
    return faults, len({each.line for each in contents.records}), len(chains), len(heads)
