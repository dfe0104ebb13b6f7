"""Seals: the SHA-256 that each of our files carries of all its other bytes.

Lives here: where a seal stands in the bytes of a file, computing and checking it, without parsing anything. Does not live
here: what a file holds (`partition_store`).
"""

from hashlib import sha256

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
