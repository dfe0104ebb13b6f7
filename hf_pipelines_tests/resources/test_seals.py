"""Seals: what is hashed while a file is written is what a reader finds in its bytes."""

import io
from hashlib import sha256

import pytest

from hf_pipelines.resources.seals import SEAL_LENGTH, SEAL_MARK, SealedWriter, read_seal

FOOTER = b"footer old-text " + SEAL_MARK + b"0" * SEAL_LENGTH + b" end"
# The text and the mark stand in the data as well, where neither may be replaced.
WHOLE = b"PAR1" + b"old-text " + SEAL_MARK + bytes(100) + FOOTER + len(FOOTER).to_bytes(4, "little") + b"PAR1"


@pytest.mark.parametrize("size", [1, 7, 150, 10_000])
def test_sealed_writer_of_any_chunks_gives_the_sha256_of_all_other_bytes(size):
    file = io.BytesIO()
    written = SealedWriter(file)
    for first in range(0, len(WHOLE), size):
        written.write(WHOLE[first : first + size])
    written.seal(put="new-text", over="old-text")
    payload = file.getvalue()
    at = len(WHOLE) - 8 - len(b" end") - SEAL_LENGTH
    changed = WHOLE.replace(b"footer old-text", b"footer new-text")
    seal = sha256(changed[:at] + changed[at + SEAL_LENGTH :]).hexdigest()
    assert payload == changed[:at] + seal.encode() + changed[at + SEAL_LENGTH :]
    assert read_seal(payload) == seal


def test_sealed_writer_with_a_text_of_another_length_refuses():
    written = SealedWriter(io.BytesIO())
    written.write(WHOLE)
    with pytest.raises(ValueError, match=r"`put` must be as long as `over` \(3 bytes\), was 4"):
        written.seal(put="four", over="old")
