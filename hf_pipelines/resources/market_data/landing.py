"""Landing: the folder or S3 prefix into which files arrive, listed by name, bounded by prefix and cursor.

Lives here: names, sizes and times of what lies there, one level deep, in the order of their bytes, on disk and on S3
alike. Does not live here: what a name means and what the bytes hold (`files`), reading them (`object_store`).

On S3 one request lists at most 1,000 objects below the prefix of the address: never the whole bucket, never its
sub-folders. A disk gives the names of a folder only all at once; sizes and times are asked for those looked at.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from hf_pipelines.resources.disk_files import kind_of, time_of
from hf_pipelines.resources.redaction import clean, redacted, shown_address
from hf_pipelines.resources.storage_errors import StorageOutageError, StorageUnavailableError
from hf_pipelines.resources.store_access import require_page, s3_client


@dataclass(frozen=True)
class LandedObject:
    """What a listing says of one object.

    Attributes
    ----------
    stamp : str
        Differs whenever the bytes do: the ETag on S3; times of change and of creation on disk, so that a file put in
        another's place with the other's time is seen.
    modified : datetime
        When its bytes were last written, UTC.
    kind : str
        What it is if it is no regular file ("a symbolic link", "a pipe"), which is not read; "" for a file.
    """

    name: str
    size: int
    stamp: str
    modified: datetime
    kind: str = ""


@dataclass(frozen=True)
class Landing:
    """One folder on disk or one prefix of a bucket.

    Parameters
    ----------
    uri : str
        A folder or `s3://bucket/prefix`.
    endpoint : str or None
        Endpoint of an S3 service other than AWS.
    s3 : boto3 client, optional
        Such as `S3Resource.get_client()` of dagster-aws; default one made from the environment.
    """

    uri: str
    endpoint: str | None = None
    s3: Any = None

    @property
    def is_bucket(self) -> bool:
        """Whether a listing can be asked for by prefix; a disk gives a whole folder whatever is asked."""
        return self.uri.startswith("s3://")

    def is_there(self) -> bool:
        """Whether the folder exists, be it empty; a bucket knows prefixes only by what lies below them."""
        return self.is_bucket or self._folder().is_dir()

    def names(self, *, prefix: str = "", start_after: str = "") -> Iterator[str]:
        """Names that begin with `prefix` and come after `start_after`, ascending; on S3 asked for page by page.

        Raises
        ------
        StorageUnavailableError
            If they cannot be listed.
        """
        if self.is_bucket:
            return (found.name for found in self.each(prefix=prefix, start_after=start_after))
        return iter(self._disk_names(prefix, start_after))

    def each(self, *, prefix: str = "", start_after: str = "") -> Iterator[LandedObject]:
        """As `names`, with size and times: on disk asked for one by one, as they are taken.

        Raises
        ------
        StorageUnavailableError
            If they cannot be listed.
        """
        if self.is_bucket:
            return self._s3_objects(prefix, start_after)
        folder = self._folder()
        looked_up = (self._stat(folder, name) for name in self._disk_names(prefix, start_after))
        return (found for found in looked_up if found is not None)

    def objects(self, *, start_after: str = "", limit: int) -> tuple[list[LandedObject], bool]:
        """At most `limit` objects after `start_after`, ascending, and whether there are none after them.

        Raises
        ------
        StorageUnavailableError
            If they cannot be listed.
        """
        if self.is_bucket:
            found = list(islice(self._s3_objects("", start_after, limit=limit), limit + 1))
            return found[:limit], len(found) <= limit
        names = self._disk_names("", start_after)
        # Looked up once: resolving the folder for each of thousands of files is most of the time.
        folder = self._folder()
        looked_up = (self._stat(folder, name) for name in names[:limit])
        return [each for each in looked_up if each is not None], len(names) <= limit

    def _disk_names(self, prefix: str, start_after: str) -> list[str]:
        after = os.fsencode(start_after)
        try:
            with os.scandir(self._folder()) as entries:
                names = [each.name for each in entries if each.name.startswith(prefix) and not _is_plain_folder(each)]
        except FileNotFoundError:
            # Nothing has arrived yet.
            return []
        except OSError as e:
            raise self._unavailable(e.strerror or str(e)) from e
        return sorted((name for name in names if os.fsencode(name) > after), key=os.fsencode)

    def _stat(self, folder: Path, name: str) -> LandedObject | None:
        try:
            # Of a link what it is itself: what it leads to was never laid down here.
            found = os.lstat(f"{folder}/{name}")
        except FileNotFoundError:
            # Gone since its name was listed.
            return None
        except OSError as e:
            raise self._unavailable(e.strerror or str(e)) from e
        stamp = f"{found.st_mtime_ns}:{found.st_ctime_ns}"
        kind = "" if stat.S_ISREG(found.st_mode) else kind_of(found.st_mode)
        return LandedObject(name, found.st_size, stamp, time_of(found.st_mtime), kind)

    def _folder(self) -> Path:
        if "://" in self.uri:
            raise StorageUnavailableError(
                f"`uri` must be a folder or s3://bucket/prefix, was {shown_address(self.uri)}."
            )
        try:
            return Path(self.uri).expanduser().resolve()
        except (RuntimeError, OSError) as e:
            # A link that leads to itself, or a name that no disk takes.
            raise self._unavailable(str(e)) from e

    def _s3_objects(self, prefix: str, start_after: str, *, limit: int = 1000) -> Iterator[LandedObject]:
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        bucket, _, folder = self.uri.removeprefix("s3://").partition("/")
        root = f"{folder.strip('/')}/" if folder.strip("/") else ""
        request: dict[str, Any] = {
            "Bucket": bucket,
            "Prefix": root + prefix,
            "Delimiter": "/",
            "MaxKeys": min(limit + 1, 1000),
        }
        if start_after:
            request["StartAfter"] = root + start_after
        while True:
            try:
                page = (self.s3 or s3_client(self.endpoint)).list_objects_v2(**request)
            except ClientError as e:
                status = e.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
                raise self._unavailable(str(e), is_outage=status >= 500 or status in (408, 429)) from clean(e)
            except BotoCoreError as e:
                raise self._unavailable(str(e), is_outage=True) from clean(e)
            except ResponseParserError as e:
                raise self._unavailable("its endpoint answered with something that is no listing") from e
            require_page(page, self.uri)
            for each in page.get("Contents", ()):
                # A console's "folder" is an empty object named like the prefix.
                if name := each["Key"].removeprefix(root):
                    yield LandedObject(name, each["Size"], each["ETag"], each["LastModified"].astimezone(UTC))
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def _unavailable(self, reason: str, *, is_outage: bool = False) -> StorageUnavailableError:
        error = StorageOutageError if is_outage else StorageUnavailableError
        return error(redacted(f"`{self.uri}` must be listed, was refused: {' '.join(reason.split())[:300]}"))


def _is_plain_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether an entry is a folder that cannot be mistaken for a file: its name has no ending."""
    return "." not in entry.name and entry.is_dir(follow_symlinks=False)
