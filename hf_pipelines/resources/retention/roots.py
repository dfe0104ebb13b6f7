"""Roots: what may never go. A part of the project that needs something kept adds one function and one line of `ROOTS`."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from hf_pipelines.resources.partition_store import VERSIONS
from hf_pipelines.resources.promotions.history import history_of, strategies_with_history
from hf_pipelines.resources.retention.judging import Holdings
from hf_pipelines.resources.storage_errors import ObjectMissingError, StoredPartitionError

VERSION, RUN, CONTENT = "version", "run", "content"


@dataclass(frozen=True)
class Root:
    """Something that may never go.

    Attributes
    ----------
    kind : str
        "version" (named by its key in the store), "run" (of Dagster, by its id) or "content" (by its hash, wherever it lies).
    name : str
    why : str
        It stays, in words.
    """

    kind: str
    name: str
    why: str


def of_current_partitions(holdings: Holdings) -> Iterator[Root]:
    """What is current and everything that it was made from, base models of ensembles among it; issued signals are current forever."""
    for footer in holdings.footers:
        told = f"{footer.asset} {footer.partition}"
        yield Root(CONTENT, footer.content_hash, f"{told} is current")
        yield Root(RUN, footer.run_id, f"made {told}")
    for (asset, partition, digest), readers in holdings.references.items():
        more = f" and {len(readers) - 1} more" if len(readers) > 1 else ""
        why = f"{readers[0].asset} {readers[0].partition}{more} {'were' if more else 'was'} made from it"
        yield Root(VERSION, f"{VERSIONS}/{asset}/{partition}/{digest}.parquet", why)
        yield Root(CONTENT, digest, why)


def of_promotions(holdings: Holdings) -> Iterator[Root]:
    """The evidence of every champion, of what a rollback may reach, and of what is staged; of a damaged history nothing may go at all.

    What that evidence was made from stays by itself (`versions.keep_what_stays_descends_from`).
    """
    store = holdings.store
    for strategy in strategies_with_history(store.objects):
        for record, why in history_of(store.objects, strategy).kept_records():
            for asset, parts in record["evidence"].items():
                for partition, digest in parts.items():
                    version = f"{VERSIONS}/{asset}/{partition}/{digest}.parquet"
                    yield Root(VERSION, version, why)
                    yield Root(CONTENT, digest, why)
                    # What is still current has the run of its footer kept already.
                    with suppress(StoredPartitionError, ObjectMissingError):
                        yield Root(RUN, store.peek(version, asset=asset, partition=partition).run_id, why)


ROOTS: dict[str, Callable[[Holdings], Iterator[Root]]] = {
    "current partitions": of_current_partitions,
    "promotions": of_promotions,
}


def needed_by_roots(holdings: Holdings) -> dict[tuple[str, str], str]:
    """What may never go, by kind and name, and why; of several reasons the first one."""
    found: dict[tuple[str, str], str] = {}
    for name_all in ROOTS.values():
        for root in name_all(holdings):
            found.setdefault((root.kind, root.name), root.why)
    return found
