"""Verification: are the stored bytes still those that were published?

Lives here: recomputing seals, content hashes and the sha256 of attachments from the bytes, object by object. Does not live
here: whether a partition is up to date (`currency`), mending (materialise again, or restore a version).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from hf_pipelines.resources.footer import Footer
from hf_pipelines.resources.issued_signals import LATEST, is_issued, remake
from hf_pipelines.resources.issues import issue_fault, latest_fault, latest_key, named_day
from hf_pipelines.resources.lineage import current_footers
from hf_pipelines.resources.partition_codec import decode, parse_footer, read_footer
from hf_pipelines.resources.partition_store import SUFFIX, VERSIONS, PartitionStore, is_partition_key
from hf_pipelines.resources.seals import SEAL_LENGTH, SEAL_MARK, seal_of
from hf_pipelines.resources.storage_errors import ObjectMissingError, StoredPartitionError
from hf_pipelines.resources.tries import inner_key

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
    remedy : str
        What to do, in words; "" of what is not current.
    """

    asset: str
    partition: str
    path: str
    what: str
    expected: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        return (
            f"{self.asset} {self.partition}: {self.what} of {self.path}: expected {self.expected}, found {self.found}"
            f"{f'; {self.remedy}' if self.remedy else ''}"
        )


@dataclass(frozen=True)
class Looked:
    """An object that was looked at: how many of how many, its size and what is wrong with it."""

    number: int
    of: int
    n_bytes: int
    mismatches: tuple[Mismatch, ...]


def verify(store: PartitionStore, asset: str | None = None, *, now: datetime) -> Iterator[Looked]:
    """Look at every object of the store or of an asset: its current contents, versions, rejected ones, attachments.

    Also whether everything is there that something current was made from: of an asset what it was made from, and what of
    it others were made from. A partition that is gone and that nothing was made from leaves no trace here.
    """
    there = [key for key in store.objects.all_keys() if not key.startswith(f"{DAMAGED}/")]
    wanted = [key for key in there if _is_ours(key)]
    present = set(wanted)
    if asset is not None:
        wanted = [key for key in wanted if asset == _owner(key).label]
    gone: set[str] = set()
    for number, key in enumerate(wanted, 1):
        owner, path = _owner(key), store.objects.address(key)
        try:
            # Without the cache: the store's own bytes are verified.
            payload = store.objects.get(key)
        except ObjectMissingError:
            # A publish or the housekeeping has replaced it meanwhile.
            continue
        except StoredPartitionError as e:
            remedy = _remedy(store, owner)
            refused = Mismatch(owner.label, owner.partition, path, "file", "what was published", e.was, remedy)
            yield Looked(number, len(wanted), 0, (refused,))
            continue
        found = [*_mismatches(store, owner, path, payload, present)]
        # A try keeps no inputs of its own, and issues nothing.
        if not found and not owner.name and not owner.folder:
            footer = parse_footer(payload, asset=owner.asset, partition=owner.partition, size=len(payload))
            found += _missing_inputs(store, footer, None, present, gone)
            if is_issued(footer.kind) and (fault := issue_fault(store, owner.asset, owner.partition, now, payload)):
                found.append(Mismatch(owner.label, owner.partition, path, "issue", "one that was published", fault))
        yield Looked(number, len(wanted), len(payload), tuple(found))
    for footer in current_footers(store) if asset is not None else ():
        lost = tuple(_missing_inputs(store, footer, asset, present, gone))
        yield Looked(len(wanted), len(wanted), 0, lost)


def strays(store: PartitionStore, asset: str | None = None) -> dict[str, str]:
    """Objects in the store, or below an asset, that were not published: key to a description."""
    found = store.objects.strays(asset)
    for key in store.objects.all_keys() if asset is None else store.objects.keys(asset):
        if not key.startswith("_") and not _is_ours(key) and not key.endswith(f"/{LATEST}"):
            found[key] = "a name that nothing of ours has"
    return found


def latest_mismatches(store: PartitionStore, asset: str | None, now: datetime) -> Iterator[Mismatch]:
    """`latest.json` that does not name the newest issue, as far as the store alone shows it."""
    owners = {key.rpartition("/")[0] for key in store.objects.all_keys() if not key.startswith("_")}
    for signals in sorted(each for each in owners if asset in (None, each) and is_issued(store.kind(each))):
        named = named_day(store, signals)
        days = [*store.partitions(signals), *([named] if named else [])]
        if fault := latest_fault(store, signals, [day for day in days if day <= now.date().isoformat()], now):
            yield Mismatch(
                signals, LATEST, store.objects.address(latest_key(signals)), "file", "the newest issue", fault
            )


def _is_ours(key: str) -> bool:
    """Whether a key is one of what is published, or came of a try: a partition, a version, an attachment."""
    _, key = inner_key(key)
    if key.startswith(f"{ATTACHED}/"):
        return True
    kind, _, name = key.partition("/")
    is_kept = kind in KINDS
    return key.endswith(SUFFIX) and (is_kept or is_partition_key(name.rpartition("/")[2].removesuffix(SUFFIX)))


@dataclass(frozen=True)
class _Owner:
    """What a key belongs to.

    Attributes
    ----------
    folder : str
        Of the try that it lies in; "" of none.
    asset, partition : str
    name : str
        In the folder of what is kept beside the current content; "" of what is current.
    kind : str
        That folder, one of KINDS; "" of what is current.
    """

    folder: str
    asset: str
    partition: str
    name: str = ""
    kind: str = ""

    @property
    def label(self) -> str:
        """The asset, with the try that it is of."""
        return f"{self.folder}/{self.asset}" if self.folder else self.asset


def _owner(key: str) -> _Owner:
    folder, inner = inner_key(key)
    kind, _, rest = inner.partition("/")
    if kind in KINDS:
        # What lies higher up belongs to no asset, and is named when it is read.
        asset, partition, name = ["", "", *rest.rsplit("/", 2)][-3:]
        return _Owner(folder, asset, partition, name.removesuffix(".parquet"), kind)
    asset, _, name = inner.rpartition("/")
    return _Owner(folder, asset, name.removesuffix(".parquet"))


def _remedy(store: PartitionStore, owner: _Owner) -> str:
    """How damage is mended, in words; "" of what is not current."""
    if owner.name:
        return ""
    if owner.folder:
        return f"remove the folder {store.objects.address(owner.folder)}, and try it again if you want: hfp try"
    return remake(owner.asset, owner.partition, store.kind(owner.asset))


def _missing_inputs(
    store: PartitionStore, footer: Footer, asked: str | None, present: set[str], gone: set[str]
) -> Iterator[Mismatch]:
    """What a partition was made from, or of it what is asked for, and is not there, each once; `gone` are reported already."""
    for read, hashes in footer.inputs.items():
        if asked not in (None, read):
            continue
        for each in dict.fromkeys(each.partition("#")[0] for each in hashes):
            if (lost := store.key(read, each)) not in present and lost not in gone:
                gone.add(lost)
                made = f"what {footer.asset} {footer.partition} was made from"
                yield Mismatch(
                    read,
                    each,
                    store.objects.address(lost),
                    "partition",
                    made,
                    "nothing",
                    remake(read, each, store.kind(read)),
                )


def _mismatches(
    store: PartitionStore, owner: _Owner, path: str, payload: bytes, present: set[str]
) -> Iterator[Mismatch]:
    label, asset, partition, named = owner.label, owner.asset, owner.partition, owner.name
    if owner.kind == ATTACHED:
        expected = named.partition(".")[0]
        if (found := sha256(payload).hexdigest()) != expected:
            yield Mismatch(label, partition, path, "sha256", expected, found)
        return
    remedy = _remedy(store, owner)
    at = payload.rfind(SEAL_MARK) + len(SEAL_MARK)
    if at >= len(SEAL_MARK) and (seal := seal_of(payload, at)) != (written := payload[at : at + SEAL_LENGTH]):
        expected = written.decode("ascii", "backslashreplace")
        yield Mismatch(label, partition, path, "seal", expected, seal.decode(), remedy)
        return
    try:
        footer = read_footer(payload, asset=asset, partition=partition)
        if named and DIGEST_PATTERN.fullmatch(named) and named != footer.content_hash:
            yield Mismatch(label, partition, path, "content hash", named, footer.content_hash)
        decode(payload, asset=asset, partition=partition)
    except StoredPartitionError as e:
        yield Mismatch(label, partition, path, "file", "what was published", e.was, remedy)
        return
    if not named:
        for name in footer.attachments:
            attached = "/".join(filter(None, (owner.folder, store.attachment_key(footer, name))))
            if attached not in present:
                address = store.objects.address(attached)
                expected = footer.attachments[name]
                yield Mismatch(label, partition, address, "attachment", expected, "nothing", remedy)
