"""Partition store: one Parquet object a partition, with a memory.

Lives here: what a stored partition is (content, footer, attachments), how it is published, read back and kept.
Does not live here: Dagster (`parquet_io_manager`), and whether a partition is up to date (`currency`).

Layout below the root::

    <asset path>/<partition>.parquet                         current content, readable by any tool
    _attached/<asset path>/<partition>/<sha256>.<name>       objects that belong to a partition (models, trades)
    _versions/<asset path>/<partition>/<sha256>.parquet      earlier contents
    _rejected/<asset path>/<partition>/<sha256>.parquet      what failed a guard, never current
    _damaged/<asset path>/<partition>/<sha256>.parquet       truncated or foreign objects that a publish replaced

The Parquet footer (key `hf_pipelines`) carries the content hash, where it came from and the verdicts of its guards.
The footer also holds a seal, the SHA-256 of all other bytes of the file: whoever reads a partition checks it before any
parser sees the bytes (an edited Parquet file can abort the process) and recomputes the content hash after. A truncated,
foreign or edited file is refused by name.
"""

import io
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from functools import cached_property
from hashlib import sha256
from typing import IO, Any
from uuid import uuid4

import polars as pl

from hf_pipelines.research.content_hash import content_and_session_hashes, content_hash, session_days
from hf_pipelines.resources.limits import Limits, parquet_fault
from hf_pipelines.resources.object_store import (
    ObjectExistsError,
    ObjectMissingError,
    ObjectRefusedError,
    ObjectStore,
)
from hf_pipelines.resources.object_store import StoredPartitionError as StoredPartitionError
from hf_pipelines.resources.read_cache import ReadCache
from hf_pipelines.resources.seals import PARQUET_MAGIC, SEAL_LENGTH, SEAL_MARK, is_sealed, seal

FOOTER_KEY = "hf_pipelines"
# 2: where sessions have hashes the content's is made of them.
FOOTER_VERSION = 2

# The footer's entry that holds the seal (`seals`).
SEAL_KEY = "hf_pipelines_seal"

# A 0.9 MB Parquet file can hold 1.6 GB of zeros: more cells than this are refused before decoding, and more bytes (a
# cell may be a text of any length).
MAX_CELLS = 400_000_000
MAX_BYTES = 8 * MAX_CELLS

# Features come out as large as at polars' own level 3 (0.3 to 3 % more), in two thirds of the time.
ZSTD_LEVEL = 1

# Parquet's own footer of 200 columns and ours fit in.
PEEKED_BYTES = 64 * 1024

SUFFIX = ".parquet"
DAY_PATTERN = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

# Names the newest issue of signals (`issues`).
LATEST = "latest.json"

# Folder of earlier contents.
VERSIONS = "_versions"

# Stands for a hash that is still being computed while the file is written.
PENDING = "0" * 64

# Columns that say when a row was made, not what it says: outside the content hash.
VOLATILE_COLUMNS = ("created_at", "issue_kind")


@dataclass(frozen=True)
class Verdict:
    """What a guard found for one partition, bound to the very content it looked at.

    Attributes
    ----------
    passed : bool
    content_hash : str
        The content that was looked at; a verdict is void for any other.
    n_compared : int
        Values compared; 0 where there are none, or where a sample of the run's partitions spoke for this one.
    findings : tuple of str
        At most five, in words; empty if passed.
    """

    passed: bool
    content_hash: str
    n_compared: int
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stamp:
    """Which code made a content, in which run, and when."""

    code_version: str
    run_id: str
    created_at: str


@dataclass(frozen=True)
class Footer:
    """What the Parquet footer says of a partition.

    Attributes
    ----------
    inputs : mapping of asset path to (partition to content hash)
        What it was built from. A key `<partition>#<session>` holds that session's hash alone.
    sources : mapping of file name to sha256
        What it was read from outside the store.
    session_hashes : mapping of ISO date to content hash
        One for each session in the frame.
    attachments : mapping of name to sha256
    facts : mapping of str to JSON value
        What else a reader may want: model family, MLflow run, metrics.
    """

    asset: str
    partition: str
    content_hash: str
    code_version: str
    run_id: str
    created_at: str
    rows: int
    available_at: tuple[str, str] | None
    inputs: Mapping[str, Mapping[str, str]]
    sources: Mapping[str, str]
    session_hashes: Mapping[str, str]
    verdicts: Mapping[str, Verdict]
    attachments: Mapping[str, str]
    facts: Mapping[str, object]
    version: int = FOOTER_VERSION

    def origin(self) -> tuple[object, ...]:
        """What the content was made from and by, and how it was judged."""
        return (self.code_version, self.inputs, self.sources, self.verdicts, self.attachments)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "Footer":
        fields = json.loads(text)
        verdicts = {
            name: Verdict(**{**verdict, "findings": tuple(verdict["findings"])})
            for name, verdict in fields.pop("verdicts").items()
        }
        bounds = fields.pop("available_at")
        return Footer(**fields, verdicts=verdicts, available_at=tuple(bounds) if bounds else None)


@dataclass(frozen=True)
class Content:
    """What an asset wants to publish as one partition.

    Attributes
    ----------
    frame : DataFrame
    attachments : mapping of name (such as "model.ubj") to bytes
        Stored beside the frame, listed with their hashes in its footer.
    inputs, sources : see `Footer`
    facts : see `Footer.facts`
    has_session_hashes : bool
        Whether the footer holds one hash a session, for readers that depend on single sessions.
    replays : sequence
        What a guard will compare with it, made before the content was; not stored.
    """

    frame: pl.DataFrame
    attachments: Mapping[str, bytes] = field(default_factory=dict)
    inputs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
    has_session_hashes: bool = False
    replays: Sequence[Any] = ()

    @cached_property
    def hashes(self) -> tuple[str, dict[str, str]]:
        """Content hash, and one hash a session where they are wanted; computed once."""
        return _hash(self.frame, _hashes(self.attachments), by_session=self.has_session_hashes)

    def content_hash(self) -> str:
        return self.hashes[0]


@dataclass(frozen=True)
class Stored:
    """A partition read back: its frame and its footer."""

    frame: pl.DataFrame
    footer: Footer


@dataclass(frozen=True)
class Published:
    """What a publish did.

    Attributes
    ----------
    outcome : str
        "new", "changed", "unchanged" (same content), or "shadow" (an issued partition is never rewritten).
    differences : DataFrame or None
        For a shadow: the rows that differ from what was issued.
    """

    footer: Footer
    outcome: str
    address: str
    differences: pl.DataFrame | None = None


def _hashes(attachments: Mapping[str, bytes]) -> dict[str, str]:
    return {name: sha256(payload).hexdigest() for name, payload in attachments.items()}


def _hash(frame: pl.DataFrame, attachments: Mapping[str, str], *, by_session: bool) -> tuple[str, dict[str, str]]:
    """Content hash of a frame, and one hash a session if it is made of these."""
    if by_session:
        return content_and_session_hashes(frame, without=VOLATILE_COLUMNS, attachments=attachments)
    return content_hash(frame, without=VOLATILE_COLUMNS, attachments=attachments), {}


def _name_in(asset: str, key: str) -> str:
    """Name of what lies right below an asset's folder; "" of what lies elsewhere."""
    name = key.removeprefix(f"{asset}/")
    return "" if "/" in name or name == key else name


def _is_partition(name: str) -> bool:
    return name.endswith(SUFFIX) and is_partition_key(name.removesuffix(SUFFIX))


def is_partition_key(name: str) -> bool:
    """Whether a name is a day, as all our partitions are named: YYYY-MM-DD."""
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
        issue: bool = False,
    ) -> Published:
        """Make `content` the current content of a partition, whole or not at all.

        Attachments and the old content are stored first, the partition's own object last.

        Parameters
        ----------
        issue : bool
            Create-only: if the partition exists it stays as it is, and differing content goes to `_versions/`.

        Raises
        ------
        ValueError
            If a verdict has not passed or belongs to another content.
        StorageUnavailableError
            If the store cannot be written; the old content is intact.
        """
        pending = _pending_footer(asset, partition, content, stamp, verdicts)
        key = self.key(asset, partition)
        if issue:
            buffer = io.BytesIO()
            footer = _write_while_hashing(content, pending, buffer)
            self._accept(footer, content)
            return self._issue(footer, content, buffer.getvalue())
        held = self._held(key)
        if held is not None:
            footer = _with_hashes(pending, content)
            self._accept(footer, content)
            return self._replace(held, footer, content)
        with self.objects.writing(key) as file:
            footer = _write_while_hashing(content, pending, file)
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
            # Too large to be looked at, or no file: out of the way, not lost.
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
            _write(frame, footer, file)
            seal(file)

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
            shadow = self.version_key(footer)
            self.objects.put(shadow, payload)
            differences = compare_issues(issued.frame, content.frame)
            return Published(footer, "shadow", self.objects.address(shadow), differences)
        return Published(footer, "new", self.objects.address(key))

    def reject(
        self,
        asset: str,
        partition: str,
        content: Content,
        stamp: Stamp,
        *,
        verdicts: Mapping[str, Verdict],
    ) -> str:
        """Keep what failed a guard for a person to look at; returns its address. It is never current."""
        pending = _pending_footer(asset, partition, content, stamp, verdicts)
        buffer = io.BytesIO()
        footer = _write_while_hashing(content, pending, buffer)
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

    def attachment_key(self, footer: Footer, name: str) -> str:
        return f"_attached/{footer.asset}/{footer.partition}/{footer.attachments[name]}.{name}"

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
                f"it was changed after it was published; {remake(footer.asset, footer.partition)}",
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
        """What lies among the partitions of an asset and is none, by its key: what it is, in words."""
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
        if is_issued(asset):
            raise ValueError(
                f"`asset` must not be issued signals, was {asset}; what was issued stays as it was issued."
            )
        payload = self.objects.get(f"{VERSIONS}/{asset}/{partition}/{matching[0]}.parquet")
        footer = decode(payload, asset=asset, partition=partition).footer
        held = self._held(self.key(asset, partition))
        if held is not None and (current := self._previous(held, asset, partition)) is not None:
            self.objects.put(self.version_key(current), held)
        self.objects.put(self.key(asset, partition), payload)
        return footer

    def version_key(self, footer: Footer) -> str:
        return f"{VERSIONS}/{footer.asset}/{footer.partition}/{footer.content_hash}.parquet"


def _pending_footer(
    asset: str,
    partition: str,
    content: Content,
    stamp: Stamp,
    verdicts: Mapping[str, Verdict] | None,
) -> Footer:
    """Footer of a content whose hashes are still to come."""
    frame = content.frame
    known = "available_at" if "available_at" in frame.columns else "ts" if "ts" in frame.columns else None
    bounds = None
    if known is not None and frame.height:
        bounds = (str(frame[known].min()), str(frame[known].max()))
    return Footer(
        asset=asset,
        partition=partition,
        content_hash=PENDING,
        code_version=stamp.code_version,
        run_id=stamp.run_id,
        created_at=stamp.created_at,
        rows=frame.height,
        available_at=bounds,
        inputs=content.inputs,
        sources=content.sources,
        session_hashes=dict.fromkeys(session_days(frame) if content.has_session_hashes else (), PENDING),
        verdicts=dict(verdicts or {}),
        attachments=_hashes(content.attachments),
        facts=content.facts,
    )


def _with_hashes(pending: Footer, content: Content) -> Footer:
    digest, of_sessions = content.hashes
    return replace(pending, content_hash=digest, session_hashes=of_sessions)


def _write_while_hashing(content: Content, pending: Footer, file: IO[bytes]) -> Footer:
    """Write the sealed Parquet file of a content; its hashes are computed meanwhile, on another core. Returns its footer."""
    if "hashes" in vars(content):
        # Known since a guard looked at the content.
        footer = _with_hashes(pending, content)
        _write(content.frame, footer, file)
        seal(file)
        return footer
    with ThreadPoolExecutor(1) as other:
        hashing = other.submit(_with_hashes, pending, content)
        _write(content.frame, pending, file)
        footer = hashing.result()
    # Hashes are of one length: the finished footer takes the very place of the pending one.
    seal(file, put=footer.to_json(), over=pending.to_json())
    return footer


def encode(frame: pl.DataFrame, footer: Footer) -> bytes:
    """Parquet bytes of a frame with its footer."""
    buffer = io.BytesIO()
    _write(frame, footer, buffer)
    seal(buffer)
    return buffer.getvalue()


def _write(frame: pl.DataFrame, footer: Footer, file: IO[bytes]) -> None:
    """Write the Parquet file of a frame with its footer, not yet sealed.

    Raises
    ------
    OSError
        If the file takes no more, such as on a full disk.
    """
    blank = SEAL_MARK.decode() + "0" * SEAL_LENGTH
    metadata = {FOOTER_KEY: footer.to_json(), SEAL_KEY: blank}
    try:
        frame.write_parquet(file, compression="zstd", compression_level=ZSTD_LEVEL, metadata=metadata)
    except pl.exceptions.ComputeError as e:
        # Polars' word for what the system says of a file that it writes itself.
        _, is_of_system, said = str(e).partition("IO error: ")
        if not is_of_system:
            raise
        raise OSError(said) from e


def _check_seal(payload: bytes, *, asset: str, partition: str) -> None:
    """Refuse bytes that are not exactly those of a file of ours, without parsing them."""
    if not (payload.startswith(PARQUET_MAGIC) and payload.endswith(PARQUET_MAGIC)):
        raise not_ours(asset, partition, f"{len(payload)} bytes that are no whole Parquet file")
    if payload.rfind(SEAL_MARK) < 0:
        raise not_ours(asset, partition, "a Parquet file written by something else")
    if not is_sealed(payload):
        raise not_ours(asset, partition, "a file whose bytes were changed after it was written")


def read_footer(payload: bytes, *, asset: str, partition: str) -> Footer:
    """Footer of Parquet bytes.

    Raises
    ------
    StoredPartitionError
        If the bytes are no Parquet file of ours, or one of another partition.
    """
    _check_seal(payload, asset=asset, partition=partition)
    return parse_footer(payload, asset=asset, partition=partition, size=len(payload))


def footer_bytes(end: bytes) -> int:
    """Length of Parquet's own footer, mark included, from the last bytes of a file; 0 if they end no Parquet file."""
    return 8 + int.from_bytes(end[-8:-4], "little") if end.endswith(PARQUET_MAGIC) else 0


def _footer_text(end: bytes) -> str:
    """Our text in Parquet's footer: in Thrift's compact form a name is followed by a type, a length and the text.

    Years of weekly files are many footers, and parsing what Parquet says of 200 columns costs more than ours.
    """
    name = FOOTER_KEY.encode()
    mark = bytes([len(name)]) + name + b"\x18"
    at = end.rfind(mark, len(end) - footer_bytes(end)) + len(mark)
    length = shift = 0
    while at >= len(mark) and shift < 32:
        byte = end[at]
        length |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return end[at : at + length].decode()
    return pl.read_parquet_metadata(io.BytesIO(end))[FOOTER_KEY]


def parse_footer(end: bytes, *, asset: str, partition: str, size: int) -> Footer:
    """Footer of the last bytes of a Parquet file, its seal unchecked: for readers that do not fetch the whole file.

    Parameters
    ----------
    size : int
        Bytes of the whole file.

    Raises
    ------
    StoredPartitionError
        If they are not the end of a Parquet file of ours, or of one of another partition.
    """
    if not 8 < footer_bytes(end) <= len(end):
        raise not_ours(asset, partition, f"{size} bytes that are no whole Parquet file")
    if end.rfind(SEAL_MARK, len(end) - footer_bytes(end)) < 0:
        raise not_ours(asset, partition, "a Parquet file written by something else")
    try:
        text = _footer_text(end)
        if (version := json.loads(text)["version"]) != FOOTER_VERSION:
            raise ValueError(f"`version` must be {FOOTER_VERSION}, was {version!r}.")
        footer = Footer.from_json(text)
    except (KeyError, IndexError, TypeError, ValueError, pl.exceptions.PolarsError) as e:
        raise not_ours(asset, partition, f"a file whose footer is not of version {FOOTER_VERSION}") from e
    if (footer.asset, footer.partition) != (asset, partition):
        raise not_ours(asset, partition, f"a copy of {footer.asset} {footer.partition}")
    return footer


def decode(payload: bytes, *, asset: str, partition: str) -> Stored:
    """Frame and footer of Parquet bytes, the content hash checked.

    Raises
    ------
    StoredPartitionError
        If the bytes are truncated, foreign, edited or too large.
    """
    footer = read_footer(payload, asset=asset, partition=partition)
    check_size(payload, footer)
    if fault := parquet_fault(payload, Limits.of_objects()):
        raise not_ours(asset, partition, f"a table of {fault}")
    frame = pl.read_parquet(io.BytesIO(payload), n_rows=footer.rows + 1)
    found, _ = _hash(frame, footer.attachments, by_session=bool(footer.session_hashes))
    if found != footer.content_hash:
        raise not_ours(asset, partition, f"content {found[:12]} under a footer for {footer.content_hash[:12]}")
    return Stored(frame, footer)


def check_size(payload: bytes | memoryview, footer: Footer) -> None:
    """Refuse a file that would fill the memory, before it is decoded.

    Raises
    ------
    StoredPartitionError
        If it holds, or says that it holds, more than MAX_CELLS cells or MAX_BYTES bytes.
    """
    import pyarrow
    from pyarrow import parquet

    found = parquet.read_metadata(pyarrow.BufferReader(payload))
    rows = max(footer.rows, found.num_rows)
    if rows * found.num_columns > MAX_CELLS:
        raise not_ours(
            footer.asset, footer.partition, f"{rows} rows x {found.num_columns} columns, above {MAX_CELLS} cells"
        )
    n_bytes = sum(found.row_group(each).total_byte_size for each in range(found.num_row_groups))
    if n_bytes > MAX_BYTES:
        raise not_ours(footer.asset, footer.partition, f"{n_bytes} bytes when decoded, above {MAX_BYTES}")


def not_ours(asset: str, partition: str, was: str) -> StoredPartitionError:
    return StoredPartitionError(
        f"`{asset}/{partition}.parquet` must be the file that was published, was {was}; {remake(asset, partition)}"
        f"{'' if is_issued(asset) else f'; or see what can be restored: hfp versions {asset} {partition}'}",
        was,
    )


def is_issued(asset: str) -> bool:
    """Whether what an asset publishes is never rewritten."""
    return asset.endswith("/signals")


def remake(asset: str, partition: str) -> str:
    """How a partition that is damaged or gone is made again, in words."""
    if is_issued(asset):
        return "put back the bytes that were issued, from a backup: issued signals are not made again"
    return f"make it again: hfp materialise {asset} --from {partition}"


def compare_issues(issued: pl.DataFrame, recomputed: pl.DataFrame) -> pl.DataFrame:
    """Rows of two signal frames that differ: symbol, ts (below a day an issue has several a symbol), weight_issued,
    weight_recomputed and the predictions."""
    names, keys = ("weight", "prediction"), ["symbol", "ts"]
    joined = issued.select(*keys, *names).join(
        recomputed.select(*keys, *names), on=keys, how="full", suffix="_recomputed", coalesce=True
    )
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_recomputed")) for name in names)
    return joined.filter(differs).rename({name: f"{name}_issued" for name in names}).sort(keys)
