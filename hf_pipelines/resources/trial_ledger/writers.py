"""Writers: who appends to which chain.

Lives here: the lock on a chain, its head, appending to it, and sealing what was appended. Does not live here: what records say
(`trials`), reading all chains (`segments`).

A chain belongs to one process at a time, by a lock on its file in the data folder that goes with the process, however it ends. A
process that finds all chains of its machine in use begins one more.
"""

import fcntl
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

from hf_pipelines.resources import settings
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.storage_errors import ObjectExistsError, ObjectMissingError, StorageUnavailableError
from hf_pipelines.resources.trial_ledger.records import (
    MOST_RECORD_BYTES,
    ORIGIN,
    RECORDS,
    Record,
    RecordError,
    parse_record_key,
    read_record,
    record_key,
    write_record,
)
from hf_pipelines.resources.trial_ledger.segments import put_segment

# Records of a chain that are sealed together.
SEGMENT_RECORDS = 500

FOLDER = "trial_writers"
_HEAD_PATTERN = re.compile("([0-9a-f]{16}) (-?[0-9]{1,12}) ([0-9a-f]{64})\n")


@dataclass(frozen=True)
class ChainHead:
    """The last record of a chain: its number, -1 of an empty one, and its hash."""

    writer: str
    n: int
    hash: str

    def to_text(self) -> str:
        return f"{self.writer} {self.n} {self.hash}"


@dataclass
class Writer:
    """Appends to one chain of a store; opened by its first record, and shared by the threads of a process."""

    objects: ObjectStore
    folder: Path
    _lock: Lock = field(default_factory=Lock, repr=False)
    _file: int | None = None
    _head: ChainHead | None = None
    # Tells a record of this process from one of a copied data folder.
    _process: str = field(default_factory=lambda: uuid4().hex[:12])
    _loose: list[Record] = field(default_factory=list, repr=False)

    def append(self, fields: Mapping[str, Any], *, at: datetime) -> ChainHead:
        """Add a record that outlives a power cut; returns the head that it makes.

        Raises
        ------
        StorageUnavailableError
            If it could not be written; the chain is as it was.
        """
        with self._lock:
            head = self._head or self._open()
            for _ in range(2):
                try:
                    return self._append(head, fields, at)
                except ObjectExistsError:
                    head = self._after_existing(head)
            return self._append(head, fields, at)

    def _append(self, head: ChainHead, fields: Mapping[str, Any], at: datetime) -> ChainHead:
        chained = {"writer": head.writer, "n": head.n + 1, "prev": head.hash, "process": self._process}
        record = write_record({"v": 1, "at": at.isoformat(timespec="microseconds"), **fields, **chained})
        self.objects.put_durably(record_key(record.writer, record.n), record.line + b"\n")
        return self._advance(record)

    def _advance(self, record: Record) -> ChainHead:
        self._head = ChainHead(record.writer, record.n, record.hash)
        self._note(self._head)
        self._loose.append(record)
        if len(self._loose) >= SEGMENT_RECORDS:
            # What is not sealed now is sealed after the next records, or by housekeeping.
            with suppress(StorageUnavailableError):
                put_segment(self.objects, self._loose)
                self._loose.clear()
        return self._head

    def _open(self) -> ChainHead:
        """Take the first chain that no process holds, and find its end."""
        file = self._file = self._take()
        noted = _HEAD_PATTERN.fullmatch(os.pread(file, 200, 0).decode("ascii", "replace"))
        if noted is None:
            # A new file, or one that a power cut has left half written.
            return self._begin_chain()
        head = self._head = ChainHead(noted[1], int(noted[2]), noted[3])
        self._loose = self._find_loose(head)
        # What the last process had written when it was killed.
        while (found := self._read(record_key(head.writer, head.n + 1))) is not None and found.fields[
            "prev"
        ] == head.hash:
            head = self._advance(found)
        return head

    def _take(self) -> int:
        """Lock the first file of the folder that no process has locked."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for number in count():
                file = os.open(self.folder / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except (BlockingIOError, PermissionError):
                    # Held by another process: POSIX allows both errors to say so.
                    os.close(file)
                    continue
                return file
        except OSError as e:
            raise StorageUnavailableError(
                f"`HF_DATA_DIR` must be a folder that can be written, to keep the ends of the trial ledger's chains in {self.folder}, "
                f"was not ({e.strerror}); make room or set it to another folder."
            ) from e
        raise AssertionError

    def _find_loose(self, head: ChainHead) -> list[Record]:
        """Single records of the chain up to its head, to be sealed with the next ones."""
        keys = self.objects.keys(f"{RECORDS}/{head.writer}")
        named = ((key, parse_record_key(key)) for key in keys)
        found = (self._read(key) for key, named_as in named if named_as is not None and named_as[1] <= head.n)
        return [each for each in found if each is not None]

    def _begin_chain(self) -> ChainHead:
        head = self._head = ChainHead(uuid4().hex[:16], -1, ORIGIN)
        self._loose.clear()
        self._note(head)
        if self._file is not None:
            os.fsync(self._file)
        return head

    def _after_existing(self, head: ChainHead) -> ChainHead:
        """Where to go on when the next number is taken: after an own record whose answer was lost, or on a new chain."""
        found = self._read(record_key(head.writer, head.n + 1))
        if found is not None and found.fields.get("process") == self._process and found.fields["prev"] == head.hash:
            return self._advance(found)
        return self._begin_chain()

    def _read(self, key: str) -> Record | None:
        with suppress(ObjectMissingError, RecordError, ValueError):
            payload = self.objects.get(key, max_bytes=MOST_RECORD_BYTES + 1, follows_links=False)
            return read_record(payload.removesuffix(b"\n"))
        return None

    def _note(self, head: ChainHead) -> None:
        """Keep the head on this machine. Not synced: after a power cut the chain's end is found by looking."""
        if self._file is not None:
            text = f"{head.to_text()}\n".encode()
            os.pwrite(self._file, text, 0)
            os.ftruncate(self._file, len(text))


# One a process and store: a fork has locks of its own.
_WRITERS: dict[tuple[int, str], Writer] = {}


def writer_of(objects: ObjectStore) -> Writer:
    """The writer of this process for a store."""
    folder = writers_folder(objects)
    key = (os.getpid(), str(folder))
    return _WRITERS.setdefault(key, _WRITERS.get(key) or Writer(objects, folder))


def writers_folder(objects: ObjectStore) -> Path:
    """Where the writers of this machine for a store keep their heads."""
    address = objects.uri if objects.is_remote else str(Path(objects.uri).expanduser().resolve())
    named = sha256(f"{objects.endpoint or ''} {address}".encode()).hexdigest()[:16]
    return settings.data_dir() / FOLDER / named


def local_heads(objects: ObjectStore) -> list[ChainHead]:
    """Heads that the writers of this machine have kept of a store, those of files that cannot be read left out."""
    folder = writers_folder(objects)
    if not folder.is_dir():
        return []
    found = []
    for path in sorted(folder.iterdir()):
        # Not opened for long, and never to be locked: closing a file gives up all locks that this process has on it.
        if path.name.isdigit() and path.is_file() and not _is_held(path):
            noted = _HEAD_PATTERN.fullmatch(path.read_bytes()[:200].decode("ascii", "replace"))
            if noted is not None:
                found.append(ChainHead(noted[1], int(noted[2]), noted[3]))
    held = [writer._head for (pid, of), writer in _WRITERS.items() if pid == os.getpid() and of == str(folder)]
    return found + [each for each in held if each is not None]


def _is_held(path: Path) -> bool:
    """Whether this very process holds the lock of a writer's file."""
    found = path.stat()
    for (pid, _), writer in _WRITERS.items():
        if pid == os.getpid() and writer._file is not None:
            held = os.fstat(writer._file)
            if (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino):
                return True
    return False
