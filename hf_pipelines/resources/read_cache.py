"""Read cache: copies of a bucket's objects on this machine, so that what has not changed is not fetched again.

Lives here: asking the store whether a copy is current, keeping it, noticing that it is damaged, forgetting the least
recently used. Does not live here: what the objects hold (`partition_store`), which commands use it.

Layout below the folder (HF_CACHE_DIR)::

    objects/<seal>.parquet     bytes of a file, named by the SHA-256 of all its bytes but the seal that it carries
    heads/<sha256>.json        of a key of a store: the tag of the object and its seal, when it was last read

A read is one request: "give me the object unless its tag is still this one". Files are written under another name and
renamed, so that two processes may share a folder; a copy that is not what its name says is fetched again.
"""

import errno
import json
import os
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from hf_pipelines.resources.disk_files import open_regular
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.seals import read_seal

# Below this share of the bound the next write need not look again at once.
KEPT_SHARE = 0.9


@dataclass(frozen=True)
class ReadCache:
    """Copies of objects in a folder.

    Parameters
    ----------
    folder : Path
        Made when it is first needed.
    max_bytes : int
        The least recently used copies go when all of them together are larger.
    """

    folder: Path
    max_bytes: int
    _sound: dict[str, tuple[int, ...]] = field(default_factory=dict, compare=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    def get(self, objects: ObjectStore, key: str) -> bytes:
        """Current bytes of an object, from its copy if that is still current.

        Raises
        ------
        ObjectMissingError
            If no object has that key.
        StorageUnavailableError
            If the store did not answer: a copy that cannot be compared is not used.
        """
        head = self._head_of(objects, key)
        known = self._read_head(head)
        copy = self._sound_copy(known[1]) if known else None
        payload, tag = objects.get_unless(key, known[0] if known and copy is not None else None)
        if payload is None and copy is not None:
            return copy
        assert payload is not None
        self._keep(head, payload, tag)
        return payload

    def path(self, objects: ObjectStore, key: str) -> Path | bytes:
        """Path of a sound copy of an object's current bytes; the bytes themselves if they are none of our files."""
        head = self._head_of(objects, key)
        known = self._read_head(head)
        is_sound = known is not None and self._is_sound(known[1])
        payload, tag = objects.get_unless(key, known[0] if known and is_sound else None)
        if payload is None and known is not None:
            return self._object(known[1])
        assert payload is not None
        seal = self._keep(head, payload, tag)
        return payload if seal is None else self._object(seal)

    def _head_of(self, objects: ObjectStore, key: str) -> Path:
        named = "\0".join([objects.uri.rstrip("/"), objects.endpoint or "", key])
        return self.folder / "heads" / f"{sha256(named.encode()).hexdigest()}.json"

    def _object(self, seal: str) -> Path:
        return self.folder / "objects" / f"{seal}.parquet"

    def _read_head(self, head: Path) -> tuple[str, str] | None:
        try:
            found = json.loads(self._bytes_of(head))
            tag, seal = found["tag"], found["seal"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        is_whole = isinstance(tag, str) and isinstance(seal, str) and len(seal) == 64 and seal.isalnum()
        return (tag, seal) if is_whole else None

    def _bytes_of(self, path: Path) -> bytes:
        with open_regular(path) as (file, size):
            if size > self.max_bytes:
                raise OSError(errno.EFBIG, "it is none that was kept")
            return file.read(size)

    def _sound_copy(self, seal: str) -> bytes | None:
        """Bytes of a copy that is what its name says, None for any other; marks it as used."""
        path = self._object(seal)
        try:
            payload = self._bytes_of(path)
        except OSError:
            return None
        if read_seal(payload) != seal:
            return None
        with suppress(OSError):
            os.utime(path)
        return payload

    def _is_sound(self, seal: str) -> bool:
        """Like `_sound_copy`, but a file that has not changed since this process last looked is not read again."""
        path = self._object(seal)
        try:
            if self._sound.get(seal) == _identity(path):
                _touch(path)
                # Touching changes what the file system says of the file, not the file.
                self._sound[seal] = _identity(path)
                return True
            if self._sound_copy(seal) is None:
                return False
            self._sound[seal] = _identity(path)
        except OSError:
            return False
        return True

    def _keep(self, head: Path, payload: bytes, tag: str | None) -> str | None:
        """Keep the bytes of one of our files; returns their seal. A full disk keeps nothing and fails nothing."""
        seal = read_seal(payload)
        if seal is None or tag is None or len(payload) > self.max_bytes:
            return None
        try:
            _write_whole(self._object(seal), payload)
            _write_whole(head, json.dumps({"tag": tag, "seal": seal}).encode())
            self._sound[seal] = _identity(self._object(seal))
            self._evict(spared=seal)
        except OSError:
            return None
        return seal

    def _evict(self, spared: str) -> None:
        with self._lock:
            found = []
            for entry in os.scandir(self.folder / "objects"):
                # Another process may have forgotten it meanwhile.
                with suppress(FileNotFoundError):
                    stat = entry.stat()
                    found.append((stat.st_mtime_ns, stat.st_size, entry.path))
            total = sum(size for _, size, _ in found)
            if total <= self.max_bytes:
                return
            for _, size, path in sorted(found):
                if Path(path).stem == spared:
                    continue
                if total <= KEPT_SHARE * self.max_bytes:
                    break
                with suppress(FileNotFoundError):
                    os.unlink(path)
                total -= size


def _identity(path: Path) -> tuple[int, ...]:
    """A value that changes with every write to a file."""
    stat = path.stat()
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _touch(path: Path) -> None:
    with suppress(OSError):
        os.utime(path)


def _write_whole(path: Path, payload: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, written = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(payload)
        os.replace(written, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(written)
        raise
