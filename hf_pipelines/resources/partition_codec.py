"""Partition codec: a partition as the bytes of one Parquet file, and back.

Lives here: content hashes, writing a file with its footer and seal, and reading one that is checked before it is parsed. Does
not live here: what a footer says (`footer`), where files lie and which is current (`partition_store`).
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from typing import IO, Any

import polars as pl

from hf_pipelines.research.content_hash import content_and_session_hashes, content_hash, session_days
from hf_pipelines.resources.footer import FOOTER_VERSION, Footer, Stamp, Verdict, kind_by_name
from hf_pipelines.resources.issued_signals import is_issued, remake
from hf_pipelines.resources.known_contents import KnownContents
from hf_pipelines.resources.limits import Limits, parquet_fault
from hf_pipelines.resources.seals import PARQUET_MAGIC, SEAL_LENGTH, SEAL_MARK, read_seal, seal
from hf_pipelines.resources.storage_errors import StoredPartitionError

FOOTER_KEY = "hf_pipelines"

# The footer's entry that holds the seal (`seals`).
SEAL_KEY = "hf_pipelines_seal"

# A 0.9 MB Parquet file can hold 1.6 GB of zeros: more cells than this are refused before decoding, and more bytes (a
# cell may be a text of any length).
MAX_CELLS = 400_000_000
MAX_BYTES = 8 * MAX_CELLS

# Features come out as large as at polars' own level 3 (0.3 to 3 % more), in two thirds of the time.
ZSTD_LEVEL = 1

# Stands for a hash that is still being computed while the file is written.
PENDING = "0" * 64

# Columns that say when a row was made, or how long that took; they are outside the content hash.
VOLATILE_COLUMNS = ("created_at", "issue_kind", "fit_seconds", "predict_seconds")

# By asset, partition and seal; of frames by the limits too, under which they were decoded.
_FOOTERS, _FRAMES = KnownContents(), KnownContents()

# What a column takes besides its values: a week of five symbols is mostly that.
COLUMN_BYTES = 1_000


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
class BatchedColumns:
    """Columns of a stored partition that are read when they are needed.

    Attributes
    ----------
    names : tuple of str
        In the order of the file.
    read : callable
        `(first, stop) -> frames`: the columns of the rows `first` to before `stop`, in order, at every call anew; of the content
        that was verified, whatever is published meanwhile.
    """

    names: tuple[str, ...]
    read: Callable[[int, int], Iterator[pl.DataFrame]]


@dataclass(frozen=True)
class Stored:
    """A partition read back: its frame and its footer; `batched` are columns that the frame lacks."""

    frame: pl.DataFrame
    footer: Footer
    batched: BatchedColumns | None = None


def _hashes(attachments: Mapping[str, bytes]) -> dict[str, str]:
    return {name: sha256(payload).hexdigest() for name, payload in attachments.items()}


def _hash(frame: pl.DataFrame, attachments: Mapping[str, str], *, by_session: bool) -> tuple[str, dict[str, str]]:
    """Content hash of a frame, and one hash a session if it is made of these."""
    if by_session:
        return content_and_session_hashes(frame, without=VOLATILE_COLUMNS, attachments=attachments)
    return content_hash(frame, without=VOLATILE_COLUMNS, attachments=attachments), {}


def pending_footer(
    asset: str,
    partition: str,
    content: Content,
    stamp: Stamp,
    verdicts: Mapping[str, Verdict] | None,
    kind: str | None,
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
        kind=kind or kind_by_name(asset),
    )


def with_hashes(pending: Footer, content: Content) -> Footer:
    digest, of_sessions = content.hashes
    return replace(pending, content_hash=digest, session_hashes=of_sessions)


def write_while_hashing(content: Content, pending: Footer, file: IO[bytes]) -> Footer:
    """Write the sealed Parquet file of a content; its hashes are computed meanwhile, on another core. Returns its footer."""
    if "hashes" in vars(content):
        # Known since a guard looked at the content.
        footer = with_hashes(pending, content)
        write(content.frame, footer, file)
        return footer
    with ThreadPoolExecutor(1) as other:
        hashing = other.submit(with_hashes, pending, content)
        _write(content.frame, pending, file)
        footer = hashing.result()
    # Hashes are of one length: the finished footer takes the very place of the pending one.
    seal(file, put=footer.to_json(), over=pending.to_json())
    return footer


def encode(frame: pl.DataFrame, footer: Footer) -> bytes:
    """Parquet bytes of a frame with its footer."""
    buffer = io.BytesIO()
    write(frame, footer, buffer)
    return buffer.getvalue()


def write(frame: pl.DataFrame, footer: Footer, file: IO[bytes]) -> None:
    """Write the sealed Parquet file of a frame with its footer.

    Raises
    ------
    OSError
        If the file takes no more, such as on a full disk.
    """
    _write(frame, footer, file)
    seal(file)


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
        # Polars' error for one of the system on a file that it writes itself.
        _, is_of_system, reason = str(e).partition("IO error: ")
        if not is_of_system:
            raise
        raise OSError(reason) from e


def _check_seal(payload: bytes, *, asset: str, partition: str) -> str:
    """Refuse bytes that are not exactly those of a file of ours, without parsing them; returns their seal."""
    if not (payload.startswith(PARQUET_MAGIC) and payload.endswith(PARQUET_MAGIC)):
        raise not_ours(asset, partition, f"{len(payload)} bytes that are no whole Parquet file")
    if payload.rfind(SEAL_MARK) < 0:
        raise not_ours(asset, partition, "a Parquet file written by something else")
    if (found := read_seal(payload)) is None:
        raise not_ours(asset, partition, "a file whose bytes were changed after it was written")
    return found


def read_footer(payload: bytes, *, asset: str, partition: str) -> Footer:
    """Footer of Parquet bytes.

    Raises
    ------
    StoredPartitionError
        If the bytes are no Parquet file of ours, or one of another partition.
    """
    return _sealed_footer(payload, asset=asset, partition=partition)[1]


def _sealed_footer(payload: bytes, *, asset: str, partition: str) -> tuple[str, Footer]:
    """Seal and footer."""
    found = _check_seal(payload, asset=asset, partition=partition)
    known: Footer | None = _FOOTERS.get((asset, partition, found))
    if known is not None:
        return found, known
    footer = parse_footer(payload, asset=asset, partition=partition, size=len(payload))
    _FOOTERS.keep((asset, partition, found), footer, 2 * footer_bytes(payload))
    return found, footer


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
    sealed, footer = _sealed_footer(payload, asset=asset, partition=partition)
    limits = Limits.of_objects()
    key = (asset, partition, sealed, limits, MAX_CELLS, MAX_BYTES)
    known: pl.DataFrame | None = _FRAMES.get(key)
    if known is not None:
        # Columns are shared, the frame is the reader's own.
        return Stored(known.clone(), footer)
    check_size(payload, footer)
    if fault := parquet_fault(payload, limits):
        raise not_ours(asset, partition, f"a table of {fault}", footer.kind)
    frame = pl.read_parquet(io.BytesIO(payload), n_rows=footer.rows + 1)
    found, _ = _hash(frame, footer.attachments, by_session=bool(footer.session_hashes))
    if found != footer.content_hash:
        raise not_ours(
            asset, partition, f"content {found[:12]} under a footer for {footer.content_hash[:12]}", footer.kind
        )
    _FRAMES.keep(key, frame.clone(), int(frame.estimated_size()) + COLUMN_BYTES * frame.width)
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
        was = f"{rows} rows x {found.num_columns} columns, above {MAX_CELLS} cells"
        raise not_ours(footer.asset, footer.partition, was, footer.kind)
    n_bytes = sum(found.row_group(each).total_byte_size for each in range(found.num_row_groups))
    if n_bytes > MAX_BYTES:
        raise not_ours(footer.asset, footer.partition, f"{n_bytes} bytes when decoded, above {MAX_BYTES}", footer.kind)


def not_ours(asset: str, partition: str, was: str, kind: str | None = None) -> StoredPartitionError:
    """Refusal of a file; `kind` as its footer says it, None where that cannot be read."""
    known = kind or kind_by_name(asset)
    return StoredPartitionError(
        f"`{asset}/{partition}.parquet` must be the file that was published, was {was}; {remake(asset, partition, known)}"
        f"{'' if is_issued(known) else f'; or see what can be restored: hfp versions {asset} {partition}'}",
        was,
    )
