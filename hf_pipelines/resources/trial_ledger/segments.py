"""Segments: reading every record of a store, and packing single ones together.

Lives here: the objects that hold records, sealed or single. Does not live here: whether the chains are whole (`chains`).
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256

import polars as pl

from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.storage_errors import ObjectExistsError, ObjectMissingError, ObjectRefusedError
from hf_pipelines.resources.trial_ledger.records import (
    COLUMNS,
    DIGEST_PATTERN,
    EVENTS,
    MOST_RECORD_BYTES,
    RECORDS,
    SEGMENTS,
    TRIAL_PATTERN,
    WRITER_PATTERN,
    Record,
    RecordError,
    parse_record_key,
    read_record,
    record_key,
)

# A segment of ours has some hundred kilobytes; what housekeeping packs together is cut before it has more than this.
MOST_SEGMENT_BYTES = 64 * 1024 * 1024
PACKED_BYTES = 16 * 1024 * 1024

REQUESTS_AT_A_TIME = 16

# Fewer single records are left as they are.
LEAST_PACKED = 500


@dataclass(frozen=True)
class Unreadable:
    """Bytes in the ledger that are no record: where they lie, and what they are."""

    address: str
    what: str
    writer: str = ""
    n: int = -1


@dataclass
class Contents:
    """Every record of a ledger, in no order, copies included, and what could not be read.

    Attributes
    ----------
    records : list of Record
    sources : list of str
        Key of the object that each record was read from.
    unreadable : list of Unreadable
    """

    records: list[Record] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)


def read_contents(objects: ObjectStore) -> Contents:
    """Read all records, and compare the SHA-256 of each, and of each segment."""
    # Single records first: one that is sealed meanwhile is then in a segment, which is put before it is removed.
    found = _read_singles(objects)
    for key in objects.keys(SEGMENTS):
        payload, fault = read_segment(objects, key)
        found.unreadable += fault
        _read_lines(objects, key, payload, found)
    return found


def read_table(objects: ObjectStore) -> tuple[pl.DataFrame, list[Unreadable]]:
    """Every record once, as a row of `COLUMNS`, and what could not be read; a tenth of the time of `read_contents`.

    Fields of another type than theirs are null: what others may have written is not believed.
    """
    single = _read_singles(objects)
    parts = [_table(b"".join(each.line + b"\n" for each in single.records))]
    unreadable = single.unreadable
    for key in objects.keys(SEGMENTS):
        part, faults = _segment_table(objects, key)
        parts.append(part)
        unreadable = [*unreadable, *faults]
    # All at once: for each segment alone it would take as long as reading them.
    rows = pl.concat(parts).filter(
        pl.col("writer").str.contains(f"^{WRITER_PATTERN.pattern}$"),
        pl.col("trial").str.contains(f"^{TRIAL_PATTERN.pattern}$"),
        pl.col("event").is_in(EVENTS),
        pl.col("n") >= 0,
        pl.col("at").is_not_null(),
    )
    return rows.unique(["writer", "n"], keep="first", maintain_order=True), unreadable


# A segment is named by its bytes: what was read of one stays right. A hundred thousand records take 200 of them.
@lru_cache(maxsize=1_000)
def _segment_table(objects: ObjectStore, key: str) -> tuple[pl.DataFrame, tuple[Unreadable, ...]]:
    payload, faults = read_segment(objects, key)
    if not faults:
        with suppress(pl.exceptions.ComputeError):
            return _table(payload), ()
    sound = Contents(unreadable=[*faults])
    _read_lines(objects, key, payload, sound)
    return _table(b"".join(each.line + b"\n" for each in sound.records)), tuple(sound.unreadable)


def _table(lines: bytes) -> pl.DataFrame:
    if not lines:
        return pl.DataFrame(schema=COLUMNS)
    return pl.read_ndjson(io.BytesIO(lines), schema=COLUMNS, ignore_errors=True)


def read_segment(objects: ObjectStore, key: str) -> tuple[bytes, tuple[Unreadable, ...]]:
    """Bytes of a segment, and what is wrong with them: of damaged ones records that are sound still count."""
    address, digest = objects.address(key), key.rpartition("/")[2]
    try:
        payload = objects.get(key, max_bytes=MOST_SEGMENT_BYTES, follows_links=False)
    except ObjectMissingError:
        return b"", (Unreadable(address, "gone since it was listed: no segment ever is"),)
    except ObjectRefusedError as e:
        return b"", (Unreadable(address, e.was),)
    if not DIGEST_PATTERN.fullmatch(digest) or sha256(payload).hexdigest() != digest:
        return payload, (Unreadable(address, "a segment whose bytes are not those that it is named by"),)
    return payload, ()


def put_segment(objects: ObjectStore, records: Sequence[Record]) -> str:
    """Store records in one object, then remove the single ones; returns its key."""
    ordered = sorted(records, key=lambda each: (each.writer, each.n))
    payload = b"".join(each.line + b"\n" for each in ordered)
    key = f"{SEGMENTS}/{sha256(payload).hexdigest()}"
    # The same records were sealed before, by a process that was killed then.
    with suppress(ObjectExistsError):
        objects.put_durably(key, payload)
    objects.delete_each([record_key(each.writer, each.n) for each in ordered])
    return key


def seal_loose(objects: ObjectStore) -> int:
    """Pack the single records of all writers into segments, where there are `LEAST_PACKED` and more; returns how many.

    Those that a segment holds already are removed. What is no sound record is left as it is.
    """
    contents = read_contents(objects)
    packed = {each.line for each, source in _pairs(contents) if source.startswith(SEGMENTS)}
    loose = [each for each, source in _pairs(contents) if source.startswith(RECORDS)]
    objects.delete_each([record_key(each.writer, each.n) for each in loose if each.line in packed])
    left = sorted((each for each in loose if each.line not in packed), key=lambda each: (each.writer, each.n))
    if len(left) < LEAST_PACKED:
        return 0
    for part in _parts(left):
        put_segment(objects, part)
    return len(left)


def _pairs(contents: Contents) -> Iterable[tuple[Record, str]]:
    return zip(contents.records, contents.sources, strict=True)


def _parts(records: Sequence[Record]) -> Iterator[list[Record]]:
    part: list[Record] = []
    n_bytes = 0
    for each in records:
        if n_bytes + len(each.line) > PACKED_BYTES:
            yield part
            part, n_bytes = [], 0
        part.append(each)
        n_bytes += len(each.line) + 1
    if part:
        yield part


def _read_singles(objects: ObjectStore) -> Contents:
    """Records that are not sealed yet; those of a bucket side by side, since each takes an answer."""
    found, keys = Contents(), objects.keys(RECORDS)
    if not objects.is_remote:
        for key in keys:
            _read_single(objects, key, found)
        return found
    with ThreadPoolExecutor(REQUESTS_AT_A_TIME) as threads:
        for part in threads.map(lambda key: _read_single(objects, key, Contents()), keys):
            found.records += part.records
            found.sources += part.sources
            found.unreadable += part.unreadable
    return found


def _read_single(objects: ObjectStore, key: str, found: Contents) -> Contents:
    named = parse_record_key(key)
    writer, n = named or ("", -1)
    try:
        payload = objects.get(key, max_bytes=MOST_RECORD_BYTES + 1, follows_links=False)
        record = read_record(payload.removesuffix(b"\n"))
    except ObjectMissingError:
        # Sealed since it was listed.
        return found
    except ObjectRefusedError as e:
        found.unreadable.append(Unreadable(objects.address(key), e.was, writer, n))
        return found
    except RecordError as e:
        found.unreadable.append(Unreadable(objects.address(key), str(e), writer, n))
        return found
    if (record.writer, record.n) != named:
        what = f"record {record.n} of writer {record.writer}, under the name of another"
        found.unreadable.append(Unreadable(objects.address(key), what, writer, n))
        return found
    found.records.append(record)
    found.sources.append(key)
    return found


def _read_lines(objects: ObjectStore, key: str, payload: bytes, found: Contents) -> None:
    lines = payload.split(b"\n")
    for line in lines if lines[-1] else lines[:-1]:
        try:
            found.records.append(read_record(line))
            found.sources.append(key)
        except RecordError as e:
            found.unreadable.append(Unreadable(objects.address(key), f"a segment with a line that is {e}"))
