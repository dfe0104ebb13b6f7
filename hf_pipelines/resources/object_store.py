"""Object store: one folder on disk or one prefix of a bucket, by whole objects.

Lives here: opening a store, checking keys, put / get / list with errors that name the object. Does not live here:
what the objects mean (`partition_store`).

Every put is one buffered request: atomic on disk (rename) and on S3, so a reader never sees half an object.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from hf_pipelines.resources import settings
from hf_pipelines.resources.disk_files import (
    UNFINISHED,
    begin_file,
    create_synced,
    file_tag,
    modified,
    open_regular,
    scan,
    walk,
)
from hf_pipelines.resources.object_keys import check_key, is_key, is_segment
from hf_pipelines.resources.redaction import clean, redacted
from hf_pipelines.resources.storage_errors import (
    NotRegularError,
    ObjectExistsError,
    ObjectMissingError,
    ObjectRefusedError,
    StorageOutageError,
    StorageUnavailableError,
    reason_of,
)
from hf_pipelines.resources.store_access import open_backend, require_listing, root_folder

# A request that will be refused again: all of 4xx but "too slow" and "too many".
FINAL_STATUS = re.compile(r"status code: 4(?!08|29)\d\d")

NO_RANGE = re.compile(r"non-partial response|status code: 416|InvalidRange|Range Not Satisfiable", re.IGNORECASE)


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
        return "://" in self.uri or root_folder(self.uri).is_dir()

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
                    open_backend(self.uri, self.endpoint),
                    check_key(key),
                    payload,
                    mode="create" if create_only else "overwrite",
                    use_multipart=False,
                )
            except AlreadyExistsError as e:
                raise ObjectExistsError(f"`{key}` must not exist yet, was there already in {self.uri}.") from e

    def put_durably(self, key: str, payload: bytes) -> None:
        """Write one new object whole, so that it outlives a power cut.

        Raises
        ------
        ObjectExistsError
            If the key is taken.
        StorageUnavailableError
            If it could not be written; on disk nothing is left of it.
        """
        check_key(key)
        if self.is_remote:
            self.put(key, payload, create_only=True)
            return
        with self._naming("written", key):
            open_backend(self.uri, self.endpoint)
            try:
                create_synced(root_folder(self.uri) / key, payload)
            except FileExistsError as e:
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
            open_backend(self.uri, self.endpoint)
            path = root_folder(self.uri) / key
            path.parent.mkdir(parents=True, exist_ok=True)
            file = begin_file(path)
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
                    # Not the bytes that a growing file has received meanwhile.
                    return file.read(size)
            found = obstore.get(open_backend(self.uri, self.endpoint), check_key(key))
            self._require_size(key, found.meta["size"], limit)
            return bytes(found.bytes())

    def opened(self, key: str) -> Any:
        """The open file of an object on disk, as pyarrow takes it, to be read in parts; raises as `get`."""
        import pyarrow

        with self._naming("read", key, may_miss=True), self._file(key) as (_, size):
            self._require_size(key, size, settings.max_object_bytes())
            return pyarrow.OSFile(str(root_folder(self.uri) / check_key(key)), "rb")

    @property
    def is_remote(self) -> bool:
        """Whether it is a bucket, and no folder on disk."""
        return "://" in self.uri

    @contextmanager
    def _file(self, key: str, follows_links: bool = True) -> Iterator[tuple[IO[bytes], int]]:
        """A regular file, opened to be read, and its size; a pipe or a device is not waited for."""
        with ExitStack() as stack:
            try:
                opened = open_regular(root_folder(self.uri) / check_key(key), follows_links=follows_links)
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
                    open_backend(self.uri, self.endpoint), check_key(key), options={"if_none_match": tag} if tag else {}
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
                    open_backend(self.uri, self.endpoint), check_key(key), options={"range": {"suffix": n_bytes}}
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
            return bytes(obstore.get_range(open_backend(self.uri, self.endpoint), check_key(key), start=first, end=end))

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
                obstore.head(open_backend(self.uri, self.endpoint), check_key(key))
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
        """Names of the folders right below `prefix` (or the root), sorted; their keys are not listed."""
        import obstore

        with self._naming("listed", prefix or "/"):
            checked = None if prefix is None else check_key(prefix)
            if not self.is_remote:
                return sorted(
                    name
                    for name, _, is_folder in scan(root_folder(self.uri) / (checked or ""))
                    if is_folder and is_segment(name)
                )
            found = obstore.list_with_delimiter(open_backend(self.uri, self.endpoint), prefix=checked)
            if not found["common_prefixes"] and not found["objects"]:
                require_listing(self.uri, self.endpoint)
            return sorted(each.rsplit("/", 1)[-1] for each in found["common_prefixes"])

    def strays(self, prefix: str | None = None) -> dict[str, str]:
        """What lies below `prefix` (or the root) and is no object: name to a description.

        Raises
        ------
        StorageUnavailableError
            If the store cannot be listed.
        """
        if not self.is_remote:
            with self._naming("listed", prefix or "/"):
                return {name: what for name, _, what in walk(root_folder(self.uri), prefix) if what}
        names = self._listed(prefix, None)
        return {name: "a name that no object of ours has" for name in names if not is_key(name)}

    def tags(self, prefix: str) -> dict[str, str]:
        """Keys below `prefix` with the store's own tag of each object, which changes whenever it is written."""
        return {key: str(entry["e_tag"]) for key, entry in self._entries(check_key(prefix)).items()}

    def ages_and_sizes(self, prefix: str) -> dict[str, tuple[datetime, int]]:
        """Keys below `prefix` with the time (UTC) at which each was written, and its bytes."""
        entries = self._entries(check_key(prefix))
        return {key: (entry["last_modified"], int(entry["size"])) for key, entry in entries.items()}

    def delete(self, key: str) -> None:
        """Remove one object; nothing happens if there is none.

        Raises
        ------
        StorageUnavailableError
            If the store did not answer.
        """
        import obstore

        with suppress(ObjectMissingError), self._naming("removed", key, may_miss=True):
            obstore.delete(open_backend(self.uri, self.endpoint), check_key(key))

    def delete_each(self, keys: Sequence[str]) -> None:
        """Remove objects, those of a bucket in few requests; nothing happens to those that are not there.

        Raises
        ------
        StorageUnavailableError
            If the store did not answer.
        """
        import obstore

        if not self.is_remote:
            for key in keys:
                self.delete(key)
        elif keys:
            with self._naming("removed", keys[0]):
                obstore.delete(open_backend(self.uri, self.endpoint), [check_key(key) for key in keys])

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
                obstore.rename(open_backend(self.uri, self.endpoint), check_key(key), check_key(to))
                return
            target = root_folder(self.uri) / check_key(to)
            target.parent.mkdir(parents=True, exist_ok=True)
            (root_folder(self.uri) / check_key(key)).rename(target)

    def sweep(self, *, before: datetime) -> list[str]:
        """Remove what writers that died before a time (UTC) have left on disk; returns their names below the root.

        A bucket keeps nothing of a put that was not finished.
        """
        if "://" in self.uri:
            return []
        root = root_folder(self.uri)
        left = [path for path in root.rglob("*#*") if UNFINISHED.search(path.name)]
        old = [path for path in left if path.stat().st_mtime < before.timestamp()]
        for path in old:
            path.unlink(missing_ok=True)
        return sorted(str(path.relative_to(root)) for path in old)

    def _entries(self, prefix: str | None, after: str | None = None) -> dict[str, Any]:
        if self.is_remote:
            return {name: entry for name, entry in self._listed(prefix, after).items() if is_key(name)}
        found = {}
        with self._naming("listed", prefix or "/"):
            for name, entry, what in walk(root_folder(self.uri), prefix):
                if what or (after is not None and name <= after):
                    continue
                try:
                    looked_up = entry.stat()
                except FileNotFoundError:
                    # Gone since its name was listed.
                    continue
                tag, written = file_tag(looked_up), modified(looked_up)
                found[name] = {"e_tag": tag, "last_modified": written, "size": looked_up.st_size}
        return found

    def _listed(self, prefix: str | None, after: str | None) -> dict[str, Any]:
        import obstore

        with self._naming("listed", prefix or "/"):
            pages = obstore.list(open_backend(self.uri, self.endpoint), prefix=prefix, offset=after)
            found = {entry["path"]: entry for page in pages for entry in page}
        if not found:
            require_listing(self.uri, self.endpoint)
        return found

    def address(self, key: str) -> str:
        """Full path or URL of an object, for people and other tools."""
        return f"{self.uri.rstrip('/')}/{key}"

    @contextmanager
    def _naming(self, done: str, key: str, *, may_miss: bool = False) -> Iterator[None]:
        """Errors of a request by the object's name; with `may_miss` one that is missing has an error of its own."""
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
            raise error(redacted(f"`{key}` must be {done} in {self.uri}, was refused: {reason_of(e)}")) from clean(e)
