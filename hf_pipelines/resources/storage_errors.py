"""Storage errors: what can be wrong with a store, an object, or what lies under its key.

Lives here: the errors alone, for all who read and write. Does not live here: when they are raised (`object_store`).
"""

import errno


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
