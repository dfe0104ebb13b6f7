"""Verification: are the stored bytes still those that were published?

Lives here: recomputing seals, content hashes and the sha256 of attachments from the bytes, object by object. Does not live
here: whether a partition is up to date (`currency`), mending (materialise again, or restore a version).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from hf_pipelines.resources.object_store import ObjectMissingError
from hf_pipelines.resources.partition_store import (
    VERSIONS,
    PartitionStore,
    StoredPartitionError,
    decode,
    parse_footer,
    read_footer,
)
from hf_pipelines.resources.seals import SEAL_LENGTH, SEAL_MARK, seal_of

ATTACHED = "_attached"
KINDS = (VERSIONS, "_rejected", ATTACHED)
DAMAGED = "_damaged"
DIGEST_PATTERN = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Mismatch:
    """An object that is not what it should be.

    Attributes
    ----------
    path : str
        Full address of the object.
    expected, found : str
        Hashes, or in words where there is none to compare.
    """

    asset: str
    partition: str
    path: str
    what: str
    expected: str
    found: str

    def __str__(self) -> str:
        return (
            f"{self.asset} {self.partition}: {self.what} of {self.path}: expected {self.expected}, found {self.found}"
        )


@dataclass(frozen=True)
class Looked:
    """An object that was looked at: how many of how many, its size and what is wrong with it."""

    number: int
    of: int
    n_bytes: int
    mismatches: tuple[Mismatch, ...]


def verify(store: PartitionStore, asset: str | None = None) -> Iterator[Looked]:
    """Look at every object of the store or of an asset: its current contents, versions, rejected ones, attachments.

    Of the store in whole, also whether everything is there that a current content was made from.
    """
    if asset is None:
        keys = [key for key in store.objects.all_keys() if not key.startswith(f"{DAMAGED}/")]
    else:
        depth = asset.count("/") + 2
        keys = [key for key in store.objects.keys(asset) if key.count("/") + 1 == depth]
        keys += [key for kind in KINDS for key in store.objects.keys(f"{kind}/{asset}") if key.count("/") == depth + 1]
    wanted = [key for key in keys if key.endswith(".parquet") or key.startswith(f"{ATTACHED}/")]
    present = set(wanted)
    gone: set[str] = set()
    for number, key in enumerate(wanted, 1):
        try:
            # Past the cache: it is the store's bytes that are asked about.
            payload = store.objects.get(key)
        except ObjectMissingError:
            # A publish or the housekeeping has moved on.
            continue
        found = [*_mismatches(store, key, payload, present)]
        if asset is None and not found and not key.startswith("_"):
            found += _missing_inputs(store, key, payload, present, gone)
        yield Looked(number, len(wanted), len(payload), tuple(found))


def _missing_inputs(
    store: PartitionStore, key: str, payload: bytes, present: set[str], gone: set[str]
) -> Iterator[Mismatch]:
    """What a partition found sound was made from and is not there, each once; `gone` are those told already."""
    asset, _, name = key.rpartition("/")
    partition = name.removesuffix(".parquet")
    for read, hashes in parse_footer(payload, asset=asset, partition=partition).inputs.items():
        for each in dict.fromkeys(each.partition("#")[0] for each in hashes):
            if (lost := store.key(read, each)) not in present and lost not in gone:
                gone.add(lost)
                made = f"what {asset} {partition} was made from"
                yield Mismatch(read, each, store.objects.address(lost), "partition", made, "nothing")


def _mismatches(store: PartitionStore, key: str, payload: bytes, present: set[str]) -> Iterator[Mismatch]:
    kind, _, rest = key.partition("/")
    path = store.objects.address(key)
    if kind == ATTACHED:
        asset, partition, name = rest.rsplit("/", 2)
        expected = name.partition(".")[0]
        if (found := sha256(payload).hexdigest()) != expected:
            yield Mismatch(asset, partition, path, "sha256", expected, found)
        return
    named = ""
    if kind in KINDS:
        asset, partition, name = rest.rsplit("/", 2)
        named = name.removesuffix(".parquet")
    else:
        asset, _, name = key.rpartition("/")
        partition = name.removesuffix(".parquet")
    at = payload.rfind(SEAL_MARK) + len(SEAL_MARK)
    if at >= len(SEAL_MARK) and (seal := seal_of(payload, at)) != (written := payload[at : at + SEAL_LENGTH]):
        expected = written.decode("ascii", "backslashreplace")
        yield Mismatch(asset, partition, path, "seal", expected, seal.decode())
        return
    try:
        footer = read_footer(payload, asset=asset, partition=partition)
        if named and DIGEST_PATTERN.fullmatch(named) and named != footer.content_hash:
            yield Mismatch(asset, partition, path, "content hash", named, footer.content_hash)
        decode(payload, asset=asset, partition=partition)
    except StoredPartitionError as e:
        yield Mismatch(asset, partition, path, "file", "what was published", str(e))
        return
    if not named:
        for name in footer.attachments:
            if (attached := store.attachment_key(footer, name)) not in present:
                address = store.objects.address(attached)
                yield Mismatch(asset, partition, address, "attachment", footer.attachments[name], "nothing")
