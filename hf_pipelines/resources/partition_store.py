"""Partition store: one Parquet object a partition, with its earlier versions.

Lives here: what a stored partition is (content, footer, attachments), how it is published, read back and kept.
Does not live here: Dagster (`parquet_io_manager`), and whether a partition is up to date (`currency`).

Layout below the root::

    <asset path>/<partition>.parquet                         current content, readable by any tool
    _attached/<asset path>/<partition>/<sha256>.<name>       objects that belong to a partition (models, trades)
    _versions/<asset path>/<partition>/<sha256>.parquet      earlier contents
    _rejected/<asset path>/<partition>/<sha256>.parquet      what failed a guard, never current
    _damaged/<asset path>/<partition>/<sha256>.parquet       truncated or foreign objects that a publish replaced

The Parquet footer (key `hf_pipelines`) carries the content hash, where it came from and the verdicts of its guards.
The footer also holds a seal, the SHA-256 of all other bytes of the file: every reader of a partition checks it before any
parser sees the bytes (an edited Parquet file can abort the process) and recomputes the content hash after. A truncated,
foreign or edited file is refused by name.
"""

import io
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from hashlib import sha256
from itertools import chain
from uuid import uuid4

import polars as pl

from hf_pipelines.resources.batched_columns import decode_in_batches
from hf_pipelines.resources.footer import Footer, Stamp, Verdict, kind_by_name
from hf_pipelines.resources.issued_signals import LATEST, compare_issues, is_issued, is_of_other_version, remake
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_codec import (
    Content,
    Stored,
    decode,
    encode,
    footer_bytes,
    not_ours,
    parse_footer,
    pending_footer,
    read_footer,
    with_hashes,
    write,
    write_while_hashing,
)
from hf_pipelines.resources.read_cache import ReadCache
from hf_pipelines.resources.storage_errors import (
    ObjectExistsError,
    ObjectMissingError,
    ObjectRefusedError,
    StoredPartitionError,
)

# Parquet's own footer of 200 columns and ours fit in.
PEEKED_BYTES = 64 * 1024

SUFFIX = ".parquet"

# Outcome of a publish beside an issue, which is never rewritten.
SHADOW = "shadow"
DAY_PATTERN = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


# Folder of earlier contents.
VERSIONS = "_versions"


@dataclass(frozen=True)
class Published:
    """What a publish did.

    Attributes
    ----------
    outcome : str
        "new", "changed", "unchanged" (same content; of an issue of an older schema the same decisions), or "shadow" (an issued partition is never rewritten).
    differences : DataFrame or None
        For a shadow: the rows that differ from what was issued.
    """

    footer: Footer
    outcome: str
    address: str
    differences: pl.DataFrame | None = None


def _name_in(asset: str, key: str) -> str:
    """Name of what lies right below an asset's folder; "" of what lies elsewhere."""
    name = key.removeprefix(f"{asset}/")
    return "" if "/" in name or name == key else name


def _is_partition(name: str) -> bool:
    return name.endswith(SUFFIX) and is_partition_key(name.removesuffix(SUFFIX))


def is_partition_key(name: str) -> bool:
    """Whether a name is a partition key: a day, YYYY-MM-DD."""
    if not DAY_PATTERN.fullmatch(name):
        return False
    try:
        date.fromisoformat(name)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class PartitionStore:
    """Partitions of assets in an object store.

    Parameters
    ----------
    cache : ReadCache or None
        Copies of objects on this machine; every read still asks the store whether they are current.
    """

    objects: ObjectStore
    cache: ReadCache | None = None

    def key(self, asset: str, partition: str) -> str:
        """Key of a partition's current content."""
        return f"{asset}/{partition}.parquet"

    def publish(
        self,
        asset: str,
        partition: str,
        content: Content,
        stamp: Stamp,
        *,
        verdicts: Mapping[str, Verdict] | None = None,
        kind: str | None = None,
    ) -> Published:
        """Make `content` the current content of a partition, whole or not at all.

        Attachments and the old content are stored first, the partition's own object last.

        Parameters
        ----------
        kind : str or None
            What the asset holds (`Footer.kind`), None for what its name says. Signals are create-only: if the partition exists
            it stays as it is, and differing content goes to `_versions/`.

        Raises
        ------
        ValueError
            If a verdict has not passed or belongs to another content.
        StorageUnavailableError
            If the store cannot be written; the old content is intact.
        """
        pending = pending_footer(asset, partition, content, stamp, verdicts, kind)
        key = self.key(asset, partition)
        if is_issued(pending.kind):
            buffer = io.BytesIO()
            footer = write_while_hashing(content, pending, buffer)
            self._accept(footer, content)
            return self._issue(footer, content, buffer.getvalue())
        held = self._held(key)
        if held is not None:
            footer = with_hashes(pending, content)
            self._accept(footer, content)
            return self._replace(held, footer, content)
        with self.objects.writing(key) as file:
            footer = write_while_hashing(content, pending, file)
            self._accept(footer, content)
        return Published(footer, "new", self.objects.address(key))

    def _accept(self, footer: Footer, content: Content) -> None:
        """Refuse what has not passed its guards, then store the attachments."""
        for name, verdict in footer.verdicts.items():
            if not verdict.passed or verdict.content_hash != footer.content_hash:
                raise ValueError(
                    f"`{footer.asset}` {footer.partition} must have a passed {name} verdict for content "
                    f"{footer.content_hash[:12]}, was {'passed' if verdict.passed else 'failed'} for "
                    f"{verdict.content_hash[:12]}."
                )
        for name, attached in content.attachments.items():
            self.objects.put(self.attachment_key(footer, name), attached)

    def _held(self, key: str) -> bytes | None:
        try:
            return self.objects.get(key)
        except ObjectMissingError:
            return None
        except ObjectRefusedError:
            # Too large to be read, or no file: moved away, not lost.
            self.objects.move(key, f"_damaged/{key.removesuffix(SUFFIX)}/{uuid4().hex}{SUFFIX}")
            return None

    def _replace(self, held: bytes, footer: Footer, content: Content) -> Published:
        """Publish over the bytes that are current."""
        key = self.key(footer.asset, footer.partition)
        address = self.objects.address(key)
        old = self._previous(held, footer.asset, footer.partition, unless_changed=footer.content_hash)
        if old is None or old.content_hash != footer.content_hash:
            if old is not None:
                self.objects.put(self.version_key(old), held)
            self._put(key, content.frame, footer)
            return Published(footer, "new" if old is None else "changed", address)
        if old.origin() == footer.origin():
            return Published(old, "unchanged", address)
        # Same content from other inputs: when it was first made stays on record.
        footer = replace(footer, created_at=old.created_at)
        self._put(key, decode(held, asset=old.asset, partition=old.partition).frame, footer)
        return Published(footer, "unchanged", address)

    def _put(self, key: str, frame: pl.DataFrame, footer: Footer) -> None:
        with self.objects.writing(key) as file:
            write(frame, footer, file)

    def _previous(self, held: bytes, asset: str, partition: str, *, unless_changed: str = "") -> Footer | None:
        """Footer of the current content, None if it is damaged; a damaged object is moved out of the way, not lost.

        The seal is always checked, the rows only where they would stay: if their hash is `unless_changed`.
        """
        try:
            footer = read_footer(held, asset=asset, partition=partition)
            return (
                decode(held, asset=asset, partition=partition).footer
                if footer.content_hash == unless_changed
                else footer
            )
        except StoredPartitionError:
            self.objects.put(f"_damaged/{asset}/{partition}/{sha256(held).hexdigest()}.parquet", held)
            return None

    def _issue(self, footer: Footer, content: Content, payload: bytes) -> Published:
        key = self.key(footer.asset, footer.partition)
        try:
            self.objects.put(key, payload, create_only=True)
        except ObjectExistsError:
            issued = self.read(footer.asset, footer.partition)
            if issued.footer.content_hash == footer.content_hash:
                return Published(issued.footer, "unchanged", self.objects.address(key))
            differences = compare_issues(issued.frame, content.frame)
            if is_of_other_version(issued.footer, footer) and differences.is_empty():
                return Published(issued.footer, "unchanged", self.objects.address(key))
            shadow = self.version_key(footer)
            self.objects.put(shadow, payload)
            return Published(footer, SHADOW, self.objects.address(shadow), differences)
        return Published(footer, "new", self.objects.address(key))

    def reject(
        self,
        asset: str,
        partition: str,
        content: Content,
        stamp: Stamp,
        *,
        verdicts: Mapping[str, Verdict],
        kind: str | None = None,
    ) -> str:
        """Keep what failed a guard for a person to look at; returns its address. It is never current."""
        pending = pending_footer(asset, partition, content, stamp, verdicts, kind)
        buffer = io.BytesIO()
        footer = write_while_hashing(content, pending, buffer)
        key = f"_rejected/{asset}/{partition}/{footer.content_hash}.parquet"
        self.objects.put(key, buffer.getvalue())
        return self.objects.address(key)

    def condemn(self, asset: str, partition: str, guard: str, verdict: Verdict) -> bool:
        """Give a current content a failed verdict: readers refuse it, and a copy is kept as of what is rejected.

        Returns
        -------
        bool
            False, and nothing is done, if the content is no longer the one that was looked at.
        """
        stored = self.read(asset, partition)
        if stored.footer.content_hash != verdict.content_hash:
            return False
        footer = replace(stored.footer, verdicts={**stored.footer.verdicts, guard: verdict})
        self.objects.put(f"_rejected/{asset}/{partition}/{footer.content_hash}.parquet", encode(stored.frame, footer))
        self._put(self.key(asset, partition), stored.frame, footer)
        return True

    def read(self, asset: str, partition: str) -> Stored:
        """Current content of a partition, verified.

        Raises
        ------
        ObjectMissingError
            If the partition was never published.
        StoredPartitionError
            If the object is truncated, foreign, edited or too large.
        """
        return decode(self.payload(asset, partition), asset=asset, partition=partition)

    def read_in_batches(self, asset: str, partition: str, *, whole: Collection[str]) -> Stored:
        """Current content of a partition, verified; only the columns `whole` are in memory, see `Stored.batched`.

        A file on disk stays open; of a bucket the compressed object is in memory.

        Raises
        ------
        ObjectMissingError, StoredPartitionError
            As `read`.
        """
        import pyarrow

        try:
            source = (
                pyarrow.BufferReader(self.payload(asset, partition))
                if self.objects.is_remote
                else self.objects.opened(self.key(asset, partition))
            )
        except ObjectRefusedError as e:
            raise not_ours(asset, partition, e.was) from e
        return decode_in_batches(source, asset=asset, partition=partition, whole=whole)

    def payload(self, asset: str, partition: str) -> bytes:
        """Bytes of a partition's current content, out of the cache if the store says that they are still the same.

        Raises
        ------
        ObjectMissingError
            If the partition was never published.
        """
        key = self.key(asset, partition)
        try:
            return self.objects.get(key) if self.cache is None else self.cache.get(self.objects, key)
        except ObjectRefusedError as e:
            raise not_ours(asset, partition, e.was) from e

    def footer(self, asset: str, partition: str) -> Footer | None:
        """Footer of a partition's current content, None if there is none."""
        try:
            payload = self.payload(asset, partition)
        except ObjectMissingError:
            return None
        return read_footer(payload, asset=asset, partition=partition)

    def peek(self, key: str, *, asset: str, partition: str) -> Footer:
        """Footer of a stored content by its key, from the end of the file alone: its seal is not checked.

        Raises
        ------
        ObjectMissingError
            If there is no such object.
        StoredPartitionError
            If it is no file of ours.
        """
        end, size = self.objects.get_end(key, PEEKED_BYTES)
        if len(end) < min(size, footer_bytes(end)):
            end = self.objects.get(key)
        return parse_footer(end, asset=asset, partition=partition, size=size)

    def kind(self, asset: str) -> str:
        """What an asset holds: by the footer of its newest content that can be read, without one by its name."""
        current = ((self.key(asset, partition), partition) for partition in reversed(self.partitions(asset)))
        kept = ((key, key.split("/")[-2]) for key in self.objects.keys(f"{VERSIONS}/{asset}"))
        for key, partition in chain(current, kept):
            with suppress(StoredPartitionError, ObjectMissingError):
                return self.peek(key, asset=asset, partition=partition).kind
        return kind_by_name(asset)

    def attachment_key(self, footer: Footer, name: str) -> str:
        return attached_key(footer.asset, footer.partition, name, footer.attachments[name])

    def read_attachment(self, footer: Footer, name: str) -> bytes:
        """Bytes of an attachment, checked against the footer's sha256 before anyone parses them.

        Raises
        ------
        StoredPartitionError
            If the bytes are not those that were published.
        """
        key = self.attachment_key(footer, name)
        payload = self.objects.get(key)
        if (was := sha256(payload).hexdigest()) != footer.attachments[name]:
            raise StoredPartitionError(
                f"`{key}` must have sha256 {footer.attachments[name][:12]}, was {was[:12]}; "
                f"it was changed after it was published; {remake(footer.asset, footer.partition, footer.kind)}",
                was,
            )
        return payload

    def partitions(self, asset: str) -> list[str]:
        """Keys of the partitions that have current content, sorted."""
        return sorted(self.tags(asset))

    def tags(self, asset: str) -> dict[str, str]:
        """Partitions that have current content, with a tag that changes whenever one is written: one listing.

        Only what has the name of a partition: `strays` are for a person to look at.
        """
        found = {_name_in(asset, key): tag for key, tag in self.objects.tags(asset).items()}
        return {name.removesuffix(SUFFIX): tag for name, tag in found.items() if _is_partition(name)}

    def strays(self, asset: str) -> dict[str, str]:
        """Objects right below an asset that are no partition: key to a description."""
        found = {key: what for key, what in self.objects.strays(asset).items() if _name_in(asset, key)}
        for key in self.objects.keys(asset):
            name = _name_in(asset, key)
            if name and not _is_partition(name) and name != LATEST:
                found[key] = "a name that is no partition's"
        return found

    def versions(self, asset: str, partition: str) -> list[str]:
        """Content hashes of the earlier contents that are kept."""
        return [
            key.rsplit("/", 1)[1].removesuffix(".parquet")
            for key in self.objects.keys(f"{VERSIONS}/{asset}/{partition}")
        ]

    def restore(self, asset: str, partition: str, content_hash: str) -> Footer:
        """Make an earlier content current again, as it was; what is current now becomes a version.

        Parameters
        ----------
        content_hash : str
            Of the version, or its first characters.

        Raises
        ------
        ValueError
            If no version, or more than one, has that hash, or if the partition is an issued signal.
        """
        kept = self.versions(asset, partition)
        matching = [each for each in kept if each.startswith(content_hash)]
        if len(matching) != 1 or not content_hash:
            raise ValueError(
                f"`hash` must begin exactly one version of {asset} {partition} "
                f"({', '.join(each[:12] for each in kept) or 'there is none'}), was {content_hash[:64]!r}."
            )
        payload = self.objects.get(f"{VERSIONS}/{asset}/{partition}/{matching[0]}.parquet")
        footer = decode(payload, asset=asset, partition=partition).footer
        if is_issued(footer.kind):
            raise ValueError(
                f"`asset` must not be issued signals, was {asset}; what was issued stays as it was issued."
            )
        held = self._held(self.key(asset, partition))
        if held is not None and (current := self._previous(held, asset, partition)) is not None:
            self.objects.put(self.version_key(current), held)
        self.objects.put(self.key(asset, partition), payload)
        return footer

    def version_key(self, footer: Footer) -> str:
        return f"{VERSIONS}/{footer.asset}/{footer.partition}/{footer.content_hash}.parquet"


def attached_key(asset: str, partition: str, name: str, digest: str) -> str:
    """Key of what is attached to a partition, by its sha256."""
    return f"_attached/{asset}/{partition}/{digest}.{name}"
