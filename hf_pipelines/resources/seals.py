"""Seals: the SHA-256 that each of our files carries of all its other bytes.

Lives here: where a seal stands in the bytes of a file, computing it while the file is written and checking it, without
parsing anything. Does not live here: what a file holds (`partition_store`).
"""

from hashlib import sha256
from typing import IO

# 64 hexadecimal digits after this mark, in the Parquet footer.
SEAL_MARK = b"hf_pipelines:sha256="
SEAL_LENGTH = 64
PARQUET_MAGIC = b"PAR1"


def seal_of(payload: bytes | memoryview, at: int) -> bytes:
    """SHA-256 in hexadecimal digits of everything but the seal, which stands at `at`."""
    view = memoryview(payload)
    digest = sha256(view[:at])
    digest.update(view[at + SEAL_LENGTH :])
    return digest.hexdigest().encode()


def is_sealed(payload: bytes) -> bool:
    """Whether the bytes are exactly those of a file that was written by us."""
    return read_seal(payload) is not None


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


class SealedWriter:
    """Passes a Parquet file on to `file` and hashes it meanwhile: sealing then reads no more than the last part again.

    Parameters
    ----------
    file : binary file, empty, to read and write
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.size = 0
        self._digest = sha256()
        self._begun = [(0, self._digest.copy())]

    def write(self, data: bytes | memoryview) -> None:
        """Write the next part; the footer as one of its own leaves the least to be read again."""
        self.file.write(data)
        # Where the footer begins is known only at the end: the state before each write is kept to go on from.
        self._begun.append((self.size, self._digest.copy()))
        self._digest.update(data)
        self.size += len(data)

    def seal(self, *, put: str = "", over: str = "") -> None:
        """Write the seal where its mark is; in the footer the text `over` is replaced by `put`, of equal length.

        Raises
        ------
        ValueError
            If the lengths differ.
        """
        old, new = over.encode(), put.encode()
        if len(old) != len(new):
            raise ValueError(f"`put` must be as long as `over` ({len(old)} bytes), was {len(new)}.")
        ends = self.size - 8
        self.file.seek(ends)
        begins = ends - int.from_bytes(self.file.read(4), "little")
        first, digest = next(begun for begun in reversed(self._begun) if begun[0] <= begins)
        self.file.seek(first)
        tail = bytearray(self.file.read())
        if old:
            at = tail.rindex(old, begins - first)
            tail[at : at + len(new)] = new
        at = tail.rindex(SEAL_MARK, begins - first) + len(SEAL_MARK)
        digest.update(memoryview(tail)[:at])
        digest.update(memoryview(tail)[at + SEAL_LENGTH :])
        tail[at : at + SEAL_LENGTH] = digest.hexdigest().encode()
        self.file.seek(begins)
        self.file.write(memoryview(tail)[begins - first :])
