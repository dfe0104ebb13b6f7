"""Seals: the SHA-256 that each of our files carries of all its other bytes.

Lives here: where a seal stands in the bytes of a file, writing it and checking it, without
parsing anything. Does not live here: what a file holds (`partition_store`).
"""

from collections.abc import Callable
from hashlib import sha256
from os import SEEK_END
from typing import IO

# 64 hexadecimal digits after this mark, in the Parquet footer.
SEAL_MARK = b"hf_pipelines:sha256="
SEAL_LENGTH = 64
PARQUET_MAGIC = b"PAR1"

# A file that was just written is read again by parts that stay in the cache of a core.
READ_BYTES = 256 * 1024


def seal_of(payload: bytes | memoryview, at: int) -> bytes:
    """SHA-256 in hexadecimal digits of everything but the seal, which stands at `at`."""
    view = memoryview(payload)
    digest = sha256(view[:at])
    digest.update(view[at + SEAL_LENGTH :])
    return digest.hexdigest().encode()


def read_seal(payload: bytes) -> str | None:
    """The seal of a file that is whole and unchanged, None for any other bytes."""
    if not (payload.startswith(PARQUET_MAGIC) and payload.endswith(PARQUET_MAGIC)):
        return None
    found = payload.rfind(SEAL_MARK)
    if found < 0:
        return None
    at = found + len(SEAL_MARK)
    written = payload[at : at + SEAL_LENGTH]
    return written.decode("ascii", "replace") if written == seal_of(payload, at) else None


def is_sealed_file(read: Callable[[int, int], bytes], size: int, footer: bytes) -> bool:
    """Whether `read_seal` would find the seal of a file that is not in memory as a whole.

    Parameters
    ----------
    read : callable
        `(number of bytes, where they begin) -> bytes`.
    size : int
        Bytes of the file.
    footer : bytes
        Its last bytes, the whole of Parquet's own footer.
    """
    begins = size - len(footer)
    found = footer.rfind(SEAL_MARK)
    if found < 0 or read(len(PARQUET_MAGIC), 0) != PARQUET_MAGIC or not footer.endswith(PARQUET_MAGIC):
        return False
    at = found + len(SEAL_MARK)
    digest = sha256()
    for first in range(0, begins, READ_BYTES):
        digest.update(read(min(READ_BYTES, begins - first), first))
    digest.update(footer[:at])
    digest.update(footer[at + SEAL_LENGTH :])
    return footer[at : at + SEAL_LENGTH] == digest.hexdigest().encode()


def seal(file: IO[bytes], *, put: str = "", over: str = "") -> None:
    """Write the seal of a Parquet file where its mark is; in the footer the text `over` is replaced by `put`.

    Parameters
    ----------
    file : binary file, to read and write
        The whole Parquet file.
    put, over : str
        Of equal length.

    Raises
    ------
    ValueError
        If the lengths differ.
    """
    old, new = over.encode(), put.encode()
    if len(old) != len(new):
        raise ValueError(f"`put` must be as long as `over` ({len(old)} bytes), was {len(new)}.")
    ends = file.seek(-8, SEEK_END)
    begins = ends - int.from_bytes(file.read(4), "little")
    file.seek(begins)
    footer = bytearray(file.read())
    if old:
        at = footer.rindex(old)
        footer[at : at + len(new)] = new
    at = footer.rindex(SEAL_MARK) + len(SEAL_MARK)
    digest = sha256()
    file.seek(0)
    for first in range(0, begins, READ_BYTES):
        digest.update(file.read(min(READ_BYTES, begins - first)))
    digest.update(memoryview(footer)[:at])
    digest.update(memoryview(footer)[at + SEAL_LENGTH :])
    footer[at : at + SEAL_LENGTH] = digest.hexdigest().encode()
    file.seek(begins)
    file.write(footer)
