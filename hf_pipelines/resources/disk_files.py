"""Files on disk: what is a regular file, and what else lies in a folder.

Lives here: opening a file that is one, kinds and times of what is found, beginning a file that is renamed when it is whole. Does
not live here: keys (`object_keys`), listings of a bucket (`object_store`).
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import IO

from hf_pipelines.resources.object_keys import is_segment
from hf_pipelines.resources.storage_errors import NotRegularError

# What a file is called until it is renamed, by obstore and by us: no key, so that no listing shows it.
UNFINISHED = re.compile(r"#\d+$")

# Seconds from 1970 to the first and the last day of the calendar.
EARLIEST_S, LATEST_S = -62_135_596_800.0, 253_402_214_400.0


def is_folder_entry(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link in a circle.
        return False


def leads_up(path: str) -> bool:
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
        # A socket, or a link where links are not followed, or that leads in a circle.
        if e.errno in (errno.ELOOP, errno.ENXIO):
            raise NotRegularError("a symbolic link" if e.errno == errno.ELOOP else "no file") from e
        raise
    found = os.fstat(opened)
    if not stat.S_ISREG(found.st_mode):
        os.close(opened)
        raise NotRegularError(kind_of(found.st_mode))
    with os.fdopen(opened, "rb", buffering) as file:
        yield file, found.st_size


def irregular(entry: "os.DirEntry[str]") -> str:
    """Description of an entry that is no file that can be read; "" for a file."""
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


def file_tag(found: os.stat_result) -> str:
    """Tag that changes whenever the bytes do, as obstore writes it."""
    return f"{found.st_ino:x}-{found.st_mtime_ns // 1000:x}-{found.st_size:x}"


def modified(found: os.stat_result) -> datetime:
    return time_of(found.st_mtime)


def time_of(seconds: float) -> datetime:
    """A file's time; one that no calendar has (a disk can hold any number) is the nearest that there is."""
    return datetime.fromtimestamp(min(max(seconds, EARLIEST_S), LATEST_S), UTC)


def begin_file(path: Path) -> IO[bytes]:
    """A new file beside `path`, under a name that listings pass over: obstore's own for what is not yet whole."""
    for number in count(1):
        with suppress(FileExistsError):
            return open(f"{path}#{number}", "x+b")
    raise AssertionError


def create_synced(path: Path, payload: bytes) -> None:
    """Make a file whole, with its name, and have both on the disk before returning.

    Raises
    ------
    FileExistsError
        If the name is taken.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = begin_file(path)
    begun = Path(file.name)
    try:
        with file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        # Unlike a rename it never replaces a file.
        os.link(begun, path)
    finally:
        with suppress(OSError):
            begun.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def scan(folder: Path) -> list[tuple[str, "os.DirEntry[str]", bool]]:
    """Names right below a folder, each with its entry and whether it is a folder; none of a folder that is not there."""
    try:
        with os.scandir(folder) as entries:
            return [(each.name, each, is_folder_entry(each)) for each in entries]
    except (FileNotFoundError, NotADirectoryError):
        return []


def walk(root: Path, prefix: str | None) -> Iterator[tuple[str, "os.DirEntry[str]", str]]:
    """Every file below a folder: its name below the root, its entry, and a description if it is no object."""
    for name, entry, is_folder in scan(root / (prefix or "")):
        path = f"{prefix}/{name}" if prefix else name
        if UNFINISHED.search(name):
            continue
        if not is_segment(name):
            yield path, entry, "a name that no object of ours has"
        elif is_folder and entry.is_symlink() and leads_up(entry.path):
            yield path, entry, "a link that leads in a circle"
        elif is_folder:
            yield from walk(root, path)
        else:
            yield path, entry, irregular(entry)
