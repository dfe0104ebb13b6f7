"""Scratch: folders of this machine that one process works in, and what killed ones have left.

Lives here: making one, and removing those whose process has ended. Does not live here: what lies in them.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Between the making of a folder and its lock it looks like one of a process that has ended.
YOUNG_S = 60.0


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """A folder that is removed at the end; first those of its kind that killed processes have left are removed.

    Parameters
    ----------
    prefix : str
        How the names of its kind begin.
    """
    remove_dead(prefix)
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # The system frees the lock of a killed process.
            fcntl.flock(held, fcntl.LOCK_EX)
            yield Path(folder)
        finally:
            os.close(held)


def remove_dead(prefix: str) -> list[Path]:
    """Remove folders of a kind, of this user, that no process holds any more; returns them."""
    return [each for each in sorted(Path(tempfile.gettempdir()).glob(f"{prefix}*")) if _remove_if_dead(each)]


def _remove_if_dead(folder: Path) -> bool:
    try:
        # No link of another user's is followed.
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        told = os.fstat(held)
        if told.st_uid != os.getuid() or time.time() - told.st_mtime < YOUNG_S:
            return False
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return False
    finally:
        os.close(held)
    return not folder.exists()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """One process at a time, of all of this machine that ask for the same folder; others wait."""
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)
