"""Object store: one folder on disk or one prefix of a bucket, by whole objects.

Lives here: opening a store, checking keys, put / get / list with errors that name the object. Does not live here:
what the objects mean (`partition_store`).

Every put is one buffered request: atomic on disk (rename) and on S3, so a reader never sees half an object.
"""

import errno
import io
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import IO, Any

from hf_pipelines.resources import settings
from hf_pipelines.resources.redaction import clean, redacted, shown_address

# One path segment: what our asset keys, partitions, hashes and attachment names are made of.
SEGMENT_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=^-]{0,127}")
MAX_KEY_LENGTH = 512

# A request that will be refused again: all of 4xx but "too slow" and "too many".
FINAL_STATUS = re.compile(r"status code: 4(?!08|29)\d\d")
RETRY_DETAILS = re.compile(r" in [\d.]+\w+, after (\d+) retries, max_retries: \d+, retry_timeout: \w+ ")

# What a file is called until it is renamed, by obstore and by us: no key, so that no listing shows it.
UNFINISHED = re.compile(r"#\d+$")

NO_RANGE = re.compile(r"non-partial response|status code: 416|InvalidRange|Range Not Satisfiable", re.IGNORECASE)

# Seconds from 1970 to the first and the last day of the calendar.
EARLIEST_S, LATEST_S = -62_135_596_800.0, 253_402_214_400.0

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


class StoredPartitionError(ValueError):
    """A stored object is not the partition it should be: truncated, foreign, edited, too large or no file.

    Attributes
    ----------
    was : str
        What it is instead, in words.
    """

    def __init__(self, message: str, was: str) -> None:
        super().__init__(message)
        self.was = was


class NotRegularError(OSError):
    """A path of the disk that is no regular file; `was` says what it is."""

    def __init__(self, was: str) -> None:
        super().__init__(errno.EINVAL, f"it is {was}")
        self.was = was


class ObjectRefusedError(StoredPartitionError):
    """What lies under a key is not read: it is too large, or no regular file."""


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

    def get(self, key: str, *, max_bytes: int | None = None, follows_links: bool = True) -> bytes:
        """Read one object whole.

        Parameters
        ----------
        max_bytes : int, optional
            By default HF_MAX_OBJECT_MB.
        follows_links : bool
            Whether the file may be a symbolic link.

        Raises
        ------
        ObjectMissingError
            If no object has that key.
        ObjectRefusedError
            If it is larger, or on disk no regular file.
        StorageUnavailableError
            If it could not be read.
        """
        import obstore

        limit = settings.max_object_bytes() if max_bytes is None else max_bytes
        with self._naming("read", key, may_miss=True):
            if not self.is_remote:
                with self._file(key, follows_links) as (file, size):
                    self._require_size(key, size, limit)
                    # Not what a file that grows has got meanwhile.
                    return file.read(size)
            found = obstore.get(_open(self.uri, self.endpoint), check_key(key))
            self._require_size(key, found.meta["size"], limit)
            return bytes(found.bytes())

    @property
    def is_remote(self) -> bool:
        """Whether it is a bucket, and no folder on disk."""
        return "://" in self.uri

    @contextmanager
    def _file(self, key: str, follows_links: bool = True) -> Iterator[tuple[IO[bytes], int]]:
        """A regular file, opened to be read, and its size; a pipe or a device is not waited for."""
        with ExitStack() as stack:
            try:
                opened = open_regular(_folder(self.uri) / check_key(key), follows_links=follows_links)
                found = stack.enter_context(opened)
            except NotRegularError as e:
                raise self._refused(key, e.was) from e
            yield found

    def _require_size(self, key: str, size: int, limit: int) -> None:
        if size > limit:
            raise self._refused(key, f"{size:,} bytes, above {limit:,}")

    def _refused(self, key: str, was: str) -> ObjectRefusedError:
        return ObjectRefusedError(f"`{self.address(key)}` must be a regular file of usual size, was {was}.", was)

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
            self._require_size(key, found.meta["size"], settings.max_object_bytes())
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
            if not self.is_remote:
                with self._file(key) as (file, size):
                    file.seek(max(size - n_bytes, 0))
                    return file.read(n_bytes), size
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
            checked = None if prefix is None else check_key(prefix)
            if not self.is_remote:
                return sorted(name for name, _, is_folder in self._scan(checked) if is_folder and _is_segment(name))
            found = obstore.list_with_delimiter(_open(self.uri, self.endpoint), prefix=checked)
            if not found["common_prefixes"] and not found["objects"]:
                self._require_s3()
            return sorted(each.rsplit("/", 1)[-1] for each in found["common_prefixes"])

    def strays(self, prefix: str | None = None) -> dict[str, str]:
        """What lies below `prefix` (or the root) and is no object, by its name: what it is, in words.

        Raises
        ------
        StorageUnavailableError
            If the store cannot be listed.
        """
        if not self.is_remote:
            with self._naming("listed", prefix or "/"):
                return {name: what for name, _, what in self._walk(prefix) if what}
        names = self._listed(prefix, None)
        return {name: "a name that no object of ours has" for name in names if not _is_key(name)}

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

    def move(self, key: str, to: str) -> None:
        """Give an object another key, unread; what had that key is lost.

        Raises
        ------
        ObjectMissingError
            If there is none.
        StorageUnavailableError
            If the store refused it; the object is where it was.
        """
        import obstore

        with self._naming("moved", key, may_miss=True):
            if self.is_remote:
                obstore.rename(_open(self.uri, self.endpoint), check_key(key), check_key(to))
                return
            target = _folder(self.uri) / check_key(to)
            target.parent.mkdir(parents=True, exist_ok=True)
            (_folder(self.uri) / check_key(key)).rename(target)

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
        if self.is_remote:
            return {name: entry for name, entry in self._listed(prefix, after).items() if _is_key(name)}
        found = {}
        with self._naming("listed", prefix or "/"):
            for name, entry, what in self._walk(prefix):
                if what or (after is not None and name <= after):
                    continue
                try:
                    looked_up = entry.stat()
                except FileNotFoundError:
                    # Gone since its name was listed.
                    continue
                found[name] = {"e_tag": _tag(looked_up), "last_modified": _modified(looked_up)}
        return found

    def _listed(self, prefix: str | None, after: str | None) -> dict[str, Any]:
        import obstore

        with self._naming("listed", prefix or "/"):
            pages = obstore.list(_open(self.uri, self.endpoint), prefix=prefix, offset=after)
            found = {entry["path"]: entry for page in pages for entry in page}
        if not found:
            self._require_s3()
        return found

    def _require_s3(self) -> None:
        """Refuse an endpoint that answers a listing with anything else: to the client a page of HTML is an empty list."""
        bucket, _, prefix = self.uri.removeprefix("s3://").partition("/")
        require_listing(bucket, self.endpoint, address=self.uri, prefix=prefix)

    def _scan(self, prefix: str | None) -> list[tuple[str, "os.DirEntry[str]", bool]]:
        """Names right below a folder, each with its entry and whether it is a folder; none of a folder that is not there."""
        try:
            with os.scandir(_folder(self.uri) / (prefix or "")) as entries:
                return [(each.name, each, _is_folder(each)) for each in entries]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _walk(self, prefix: str | None) -> Iterator[tuple[str, "os.DirEntry[str]", str]]:
        """Every file below a folder: its name below the root, its entry, and if it is no object what it is, in words."""
        for name, entry, is_folder in self._scan(prefix):
            path = f"{prefix}/{name}" if prefix else name
            if UNFINISHED.search(name):
                continue
            if not _is_segment(name):
                yield path, entry, "a name that no object of ours has"
            elif is_folder and entry.is_symlink() and _leads_up(entry.path):
                yield path, entry, "a link that leads in a circle"
            elif is_folder:
                yield from self._walk(path)
            else:
                yield path, entry, _irregular(entry)

    def address(self, key: str) -> str:
        """Full path or URL of an object, for people and other tools."""
        return f"{self.uri.rstrip('/')}/{key}"

    @contextmanager
    def _naming(self, done: str, key: str, *, may_miss: bool = False) -> Iterator[None]:
        """Errors of a request by the object's name; `may_miss` tells that there is none from all others."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (StorageUnavailableError, ObjectExistsError, ObjectRefusedError):
            # Already named, such as a root that could not be opened.
            raise
        except (BaseError, OSError) as e:
            if may_miss and isinstance(e, FileNotFoundError):
                raise ObjectMissingError(f"`{key}` must exist in {self.uri}, was missing.") from e
            # A full disk, a missing bucket and a user without rights stay as they are until a person acts.
            is_outage = self.uri.startswith("s3://") and not FINAL_STATUS.search(str(e))
            error = StorageOutageError if is_outage else StorageUnavailableError
            raise error(redacted(f"`{key}` must be {done} in {self.uri}, was refused: {_reason(e)}")) from clean(e)


def _is_segment(name: str) -> bool:
    return bool(SEGMENT_PATTERN.fullmatch(name)) and ".." not in name


def _is_key(name: str) -> bool:
    return len(name) <= MAX_KEY_LENGTH and all(_is_segment(each) for each in name.split("/"))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link in a circle.
        return False


def _leads_up(path: str) -> bool:
    """Whether a link leads to a folder that it lies in."""
    real, above = os.path.realpath(path), os.path.realpath(os.path.dirname(path))
    return above == real or above.startswith(f"{real.rstrip('/')}/")


@contextmanager
def open_regular(path: Path, *, follows_links: bool = True, buffering: int = -1) -> Iterator[tuple[IO[bytes], int]]:
    """A regular file, opened to be read, and its size; a pipe or a device is not waited for.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    NotRegularError
        If it is something else.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follows_links else os.O_NOFOLLOW)
    try:
        opened = os.open(path, flags)
    except NotADirectoryError as e:
        raise FileNotFoundError(str(e)) from e
    except OSError as e:
        # What is a socket, or a link where none is followed or that leads in a circle.
        if e.errno in (errno.ELOOP, errno.ENXIO):
            raise NotRegularError("a symbolic link" if e.errno == errno.ELOOP else "no file") from e
        raise
    found = os.fstat(opened)
    if not stat.S_ISREG(found.st_mode):
        os.close(opened)
        raise NotRegularError(kind_of(found.st_mode))
    with os.fdopen(opened, "rb", buffering) as file:
        yield file, found.st_size


def _irregular(entry: "os.DirEntry[str]") -> str:
    """What an entry is if it is no file that can be read, in words; "" of a file."""
    try:
        return "" if entry.is_file() else kind_of(entry.stat().st_mode)
    except OSError as e:
        return "a link to nothing" if isinstance(e, FileNotFoundError) else f"a link that leads nowhere ({e.strerror})"


def kind_of(mode: int) -> str:
    """What a file of a mode is, in words."""
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
    }
    return "a file" if stat.S_ISREG(mode) else kinds.get(stat.S_IFMT(mode), "a device")


def _tag(found: os.stat_result) -> str:
    """Differs whenever the bytes do; as obstore writes it."""
    return f"{found.st_ino:x}-{found.st_mtime_ns // 1000:x}-{found.st_size:x}"


def _modified(found: os.stat_result) -> datetime:
    return time_of(found.st_mtime)


def time_of(seconds: float) -> datetime:
    """A file's time; one that no calendar has (a disk can hold any number) is the nearest that there is."""
    return datetime.fromtimestamp(min(max(seconds, EARLIEST_S), LATEST_S), UTC)


def require_listing(bucket: str, endpoint: str | None, *, address: str, prefix: str = "") -> None:
    """Refuse an endpoint that is no S3 service.

    Raises
    ------
    StorageUnavailableError
        If its answer to a listing is none.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        page = s3_client(endpoint).list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
    except (BotoCoreError, ClientError, ResponseParserError) as e:
        raise StorageUnavailableError(
            f"`{address}` must be listed, was refused: {' '.join(str(e).split())[:300]}"
        ) from e
    require_page(page, address)


def require_page(page: Mapping[str, Any], address: str) -> None:
    """Refuse a page of a listing that names no bucket: every S3 service does, a page of HTML does not."""
    if not page.get("Name"):
        raise StorageUnavailableError(
            f"`{address}` must be listed by an S3 service, its endpoint answered with something else; "
            "see HF_S3_ENDPOINT, and what answers there."
        )


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


# Bounded: a tick of a sensor that hangs on a dead endpoint holds up those after it.
LISTING_CONNECT_S, LISTING_READ_S, LISTING_ATTEMPTS = 5, 10, 3


# Making a client costs a quarter of a second; one an endpoint and process is enough.
@lru_cache(maxsize=8)
def s3_client(endpoint: str | None) -> Any:
    """A boto3 client for listings, out of the environment."""
    import boto3
    from botocore.config import Config

    from hf_pipelines.resources.s3_access import check_endpoint, require_keys

    check_endpoint(endpoint)
    require_keys()
    config = Config(
        connect_timeout=LISTING_CONNECT_S,
        read_timeout=LISTING_READ_S,
        retries={"mode": "standard", "total_max_attempts": LISTING_ATTEMPTS},
    )
    # The object store reads AWS_REGION, boto3 alone does not.
    return boto3.client("s3", endpoint_url=endpoint, region_name=os.environ.get("AWS_REGION") or None, config=config)


# Opening costs a TLS client; one per root and process is enough.
@lru_cache(maxsize=32)
def _open(uri: str, endpoint: str | None) -> Any:
    if uri.startswith("s3://"):
        return _open_s3(uri, endpoint)
    if "://" in uri:
        raise StorageUnavailableError(
            f"`HF_STORAGE_URI` must be a folder or s3://bucket/prefix, was {shown_address(uri)}."
        )
    return _open_local(uri)


def _folder(uri: str) -> Path:
    try:
        return Path(uri).expanduser().resolve()
    except (RuntimeError, OSError) as e:
        # A link that leads to itself, or a name that no disk takes.
        raise StorageUnavailableError(f"`{uri[:200]}` must be a folder, was not ({str(e)[:200]}).") from e


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

    from hf_pipelines.resources.s3_access import check_bucket_uri, check_endpoint, require_keys

    check_bucket_uri(uri)
    check_endpoint(endpoint)
    require_keys()
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    client = {"timeout": REQUEST_TIMEOUT, "connect_timeout": CONNECT_TIMEOUT}
    options: dict[str, Any] = {"retry_config": RETRY, "prefix": prefix or None, "client_options": client}
    if endpoint:
        options |= {"endpoint": endpoint, "client_options": {**client, "allow_http": True}}
    return S3Store(bucket, **options)
