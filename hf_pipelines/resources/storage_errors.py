"""Storage errors: what can be wrong with a store, an object, or what lies under its key.

Lives here: the errors, and the reason that a store gives, in a line; for all who read and write. Does not live here: when they are raised (`object_store`).
"""

import errno
import re

RETRY_DETAILS = re.compile(r" in [\d.]+\w+, after (\d+) retries, max_retries: \d+, retry_timeout: \w+ ")


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


def reason_of(cause: Exception) -> str:
    """The message of a store in one line; obstore keeps that of the system in the debug part."""
    message, _, debug = str(cause).partition("\n\nDebug source:")
    message = RETRY_DETAILS.sub(r" after \1 retries ", " ".join(message.split()))[:500]
    words = re.findall(r'(?:message|error): "([^"]+)"', debug) or re.findall(r"HttpError \{\s+kind: (\w+)", debug)
    return f"{message} ({words[-1]})" if words else message
