"""Object store: one folder on disk or one prefix of a bucket, by whole objects.

Lives here: opening a store, checking keys, put / get / list with errors that name the object. Does not live here:
what the objects mean (`partition_store`).

Every put is one buffered request: atomic on disk (rename) and on S3, so a reader never sees half an object.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import IO, Any

# One path segment: what our asset keys, partitions, hashes and attachment names are made of.
SEGMENT_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=^-]{0,127}")
MAX_KEY_LENGTH = 512

# A request that will be refused again: all of 4xx but "too slow" and "too many".
FINAL_STATUS = re.compile(r"status code: 4(?!08|29)\d\d")
RETRY_DETAILS = re.compile(r" in [\d.]+\w+, after (\d+) retries, max_retries: \d+, retry_timeout: \w+ ")

# What a file is called until it is renamed, by obstore and by us: no key, so that no listing shows it.
UNFINISHED = re.compile(r"#\d+$")

NO_RANGE = re.compile(r"non-partial response|status code: 416|InvalidRange|Range Not Satisfiable", re.IGNORECASE)

# Bounded: an outage fails the step within half a minute, Dagster's own retry comes after that.
RETRY = {
    "max_retries": 4,
    "backoff": {"base": 2, "init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=5)},
    "retry_timeout": timedelta(seconds=30),
}

# One request that is not answered; the next one is not begun after RETRY's timeout.
REQUEST_TIMEOUT = timedelta(seconds=30)
CONNECT_TIMEOUT = timedelta(seconds=5)


class ObjectMissingError(FileNotFoundError):
    """No object has that key."""


class ObjectExistsError(FileExistsError):
    """A create-only put found an object under its key."""


class StorageUnavailableError(OSError):
    """The store could not be read or written."""


class StorageOutageError(StorageUnavailableError):
    """The store did not answer as it should, and may in a minute: a server that is away, busy or broken."""


def check_key(key: str) -> str:
    """Refuse a key that could leave the root or confuse a file system.

    Raises
    ------
    ValueError
        For absolute paths, `..`, NUL, empty or overlong segments and characters outside the allow-list.
    """
    segments = key.split("/")
    if len(key) > MAX_KEY_LENGTH or not all(SEGMENT_PATTERN.fullmatch(s) and ".." not in s for s in segments):
        raise ValueError(
            f"`key` must be segments of letters, digits and _.=^- joined by '/', at most {MAX_KEY_LENGTH} characters, "
            f"was {key[:80]!r}."
        )
    return key


@dataclass(frozen=True)
class ObjectStore:
    """Whole objects under one root.

    Parameters
    ----------
    uri : str
        A folder or `s3://bucket/prefix`.
    endpoint : str or None
        Endpoint of an S3 service other than AWS. Keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
    """

    uri: str
    endpoint: str | None = None

    def is_there(self) -> bool:
        """Whether the folder exists, be it empty; a bucket is taken to."""
        return "://" in self.uri or _folder(self.uri).is_dir()

    def put(self, key: str, payload: bytes, *, create_only: bool = False) -> None:
        """Write one object whole.

        Raises
        ------
        ObjectExistsError
            If `create_only` and the key is taken.
        StorageUnavailableError
            If it could not be written; what was there before is untouched.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError

        with self._naming("written", key):
            try:
                obstore.put(
                    _open(self.uri, self.endpoint),
                    check_key(key),
                    payload,
                    mode="create" if create_only else "overwrite",
                    use_multipart=False,
                )
            except AlreadyExistsError as e:
                raise ObjectExistsError(f"`{key}` must not exist yet, was there already in {self.uri}.") from e

    @contextmanager
    def writing(self, key: str) -> Iterator[IO[bytes]]:
        """An empty file to write, read and seek in; the object is put whole when the block ends, not if it raises.

        On disk it is the very file that is renamed, so that a large object is on its way while it is still being made.

        Raises
        ------
        StorageUnavailableError
            If it could not be written; what was there before is untouched.
        """
        check_key(key)
        if "://" in self.uri:
            buffer = io.BytesIO()
            yield buffer
            self.put(key, buffer.getvalue())
            return
        with self._naming("written", key):
            _open(self.uri, self.endpoint)
            path = _folder(self.uri) / key
            path.parent.mkdir(parents=True, exist_ok=True)
            file = _begin(path)
        begun = Path(file.name)
        try:
            with self._naming("written", key), file:
                yield file
            with self._naming("written", key):
                begun.replace(path)
        except BaseException:
            with suppress(OSError):
                begun.unlink()
            raise

    def get(self, key: str) -> bytes:
        """Read one object whole.

        Raises
        ------
        ObjectMissingError
            If no object has that key.
        StorageUnavailableError
            If it could not be read.
        """
        import obstore

        with self._naming("read", key, may_miss=True):
            return bytes(obstore.get(_open(self.uri, self.endpoint), check_key(key)).bytes())

    def get_unless(self, key: str, tag: str | None) -> tuple[bytes | None, str | None]:
        """Read one object whole with its tag, in one request; (None, tag) if its tag is still `tag`.

        Raises
        ------
        ObjectMissingError
            If no object has that key.
        StorageUnavailableError
            If it could not be read.
        """
        import obstore
        from obstore.exceptions import NotModifiedError

        with self._naming("read", key, may_miss=True):
            try:
                found = obstore.get(
                    _open(self.uri, self.endpoint), check_key(key), options={"if_none_match": tag} if tag else {}
                )
            except NotModifiedError:
                return None, tag
            return bytes(found.bytes()), found.meta["e_tag"]

    def get_end(self, key: str, n_bytes: int) -> tuple[bytes, int]:
        """Last bytes of an object, at most `n_bytes`, and its size, in one request.

        Raises
        ------
        ObjectMissingError
            If no object has that key.
        StorageUnavailableError
            If it could not be read.
        """
        import obstore
        from obstore.exceptions import BaseError

        with self._naming("read", key, may_miss=True):
            try:
                found = obstore.get(
                    _open(self.uri, self.endpoint), check_key(key), options={"range": {"suffix": n_bytes}}
                )
                return bytes(found.bytes()), int(found.meta["size"])
            except (BaseError, OSError) as e:
                if isinstance(e, FileNotFoundError) or not NO_RANGE.search(str(e)):
                    raise
        # An empty object has no last bytes: S3 refuses the range, others give the whole.
        whole = self.get(key)
        return whole[-n_bytes:], len(whole)

    def get_range(self, key: str, first: int, end: int) -> bytes:
        """Bytes of an object from `first` to before `end`, in one request.

        Raises
        ------
        ObjectMissingError, StorageUnavailableError
        """
        import obstore

        with self._naming("read", key, may_miss=True):
            return bytes(obstore.get_range(_open(self.uri, self.endpoint), check_key(key), start=first, end=end))

    def exists(self, key: str) -> bool:
        """Whether there is an object under a key.

        Raises
        ------
        StorageUnavailableError
            If the store did not answer.
        """
        import obstore

        try:
            with self._naming("looked up", key, may_miss=True):
                obstore.head(_open(self.uri, self.endpoint), check_key(key))
        except ObjectMissingError:
            return False
        return True

    def keys(self, prefix: str, *, after: str | None = None) -> list[str]:
        """Keys below `prefix` (those that sort after `after`), sorted."""
        return sorted(self._entries(check_key(prefix), after))

    def all_keys(self) -> list[str]:
        """Every key below the root, sorted."""
        return sorted(self._entries(None))

    def folders(self, prefix: str | None = None) -> list[str]:
        """Names of what has keys below it, right below `prefix` (or the root), sorted: their keys are not listed."""
        import obstore

        with self._naming("listed", prefix or "/"):
            found = obstore.list_with_delimiter(
                _open(self.uri, self.endpoint), prefix=None if prefix is None else check_key(prefix)
            )
            return sorted(each.rsplit("/", 1)[-1] for each in found["common_prefixes"])

    def tags(self, prefix: str) -> dict[str, str]:
        """Keys below `prefix` with the store's own tag of each object, which changes whenever it is written."""
        return {key: str(entry["e_tag"]) for key, entry in self._entries(check_key(prefix)).items()}

    def ages(self, prefix: str) -> dict[str, datetime]:
        """Keys below `prefix` with the time (UTC) at which each was written."""
        return {key: entry["last_modified"] for key, entry in self._entries(check_key(prefix)).items()}

    def delete(self, key: str) -> None:
        """Remove one object; nothing happens if there is none.

        Raises
        ------
        StorageUnavailableError
            If the store did not answer.
        """
        import obstore

        with suppress(ObjectMissingError), self._naming("removed", key, may_miss=True):
            obstore.delete(_open(self.uri, self.endpoint), check_key(key))

    def sweep(self, *, before: datetime) -> list[str]:
        """Remove what writers that died before a time (UTC) have left on disk; returns their names below the root.

        A bucket keeps nothing of a put that was not finished.
        """
        if "://" in self.uri:
            return []
        root = _folder(self.uri)
        left = [path for path in root.rglob("*#*") if UNFINISHED.search(path.name)]
        old = [path for path in left if path.stat().st_mtime < before.timestamp()]
        for path in old:
            path.unlink(missing_ok=True)
        return sorted(str(path.relative_to(root)) for path in old)

    def _entries(self, prefix: str | None, after: str | None = None) -> dict[str, Any]:
        import obstore

        with self._naming("listed", prefix or "/"):
            pages = obstore.list(_open(self.uri, self.endpoint), prefix=prefix, offset=after)
            return {entry["path"]: entry for page in pages for entry in page}

    def address(self, key: str) -> str:
        """Full path or URL of an object, for people and other tools."""
        return f"{self.uri.rstrip('/')}/{key}"

    @contextmanager
    def _naming(self, done: str, key: str, *, may_miss: bool = False) -> Iterator[None]:
        """Errors of a request by the object's name; `may_miss` tells that there is none from all others."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (StorageUnavailableError, ObjectExistsError):
            # Already named, such as a root that could not be opened.
            raise
        except (BaseError, OSError) as e:
            if may_miss and isinstance(e, FileNotFoundError):
                raise ObjectMissingError(f"`{key}` must exist in {self.uri}, was missing.") from e
            # A full disk, a missing bucket and a user without rights stay as they are until a person acts.
            is_outage = self.uri.startswith("s3://") and not FINAL_STATUS.search(str(e))
            error = StorageOutageError if is_outage else StorageUnavailableError
            raise error(f"`{key}` must be {done} in {self.uri}, was refused: {_reason(e)}") from e


def _begin(path: Path) -> IO[bytes]:
    """A new file beside `path`, under a name that listings pass over: obstore's own for what is not yet whole."""
    for number in count(1):
        with suppress(FileExistsError):
            return open(f"{path}#{number}", "x+b")
    raise AssertionError


def _reason(cause: Exception) -> str:
    """What a store said, in one line; obstore keeps the system's own word for it in the debug part."""
    said, _, debug = str(cause).partition("\n\nDebug source:")
    said = RETRY_DETAILS.sub(r" after \1 retries ", " ".join(said.split()))[:500]
    words = re.findall(r'(?:message|error): "([^"]+)"', debug) or re.findall(r"HttpError \{\s+kind: (\w+)", debug)
    return f"{said} ({words[-1]})" if words else said


# Opening costs a TLS client; one per root and process is enough.
@lru_cache(maxsize=32)
def _open(uri: str, endpoint: str | None) -> Any:
    if uri.startswith("s3://"):
        return _open_s3(uri, endpoint)
    if "://" in uri:
        raise StorageUnavailableError(f"`HF_STORAGE_URI` must be a folder or s3://bucket/prefix, was {uri}.")
    return _open_local(uri)


def _folder(uri: str) -> Path:
    return Path(uri).expanduser().resolve()


def _open_local(uri: str) -> Any:
    from obstore.store import LocalStore

    root = _folder(uri)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise StorageUnavailableError(
            f"`HF_STORAGE_URI` must be a folder that can be written, was {uri} ({e.strerror}); "
            "set it to another folder or an s3://bucket/prefix."
        ) from e
    return LocalStore(prefix=str(root), mkdir=True)


def _open_s3(uri: str, endpoint: str | None) -> Any:
    from obstore.store import S3Store

    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    client = {"timeout": REQUEST_TIMEOUT, "connect_timeout": CONNECT_TIMEOUT}
    options: dict[str, Any] = {"retry_config": RETRY, "prefix": prefix or None, "client_options": client}
    if endpoint:
        options |= {"endpoint": endpoint, "client_options": {**client, "allow_http": True}}
    return S3Store(bucket, **options)
