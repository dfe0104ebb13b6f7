"""Seals: what is written into a file is what a reader finds of all its other bytes."""

import io
from hashlib import sha256

import pytest

from hf_pipelines.resources.seals import READ_BYTES, SEAL_LENGTH, SEAL_MARK, read_seal, seal

FOOTER = b"footer old-text " + SEAL_MARK + b"0" * SEAL_LENGTH + b" end"


@pytest.mark.parametrize("n_bytes", [0, 1, READ_BYTES - 200, 3 * READ_BYTES + 7])
@pytest.mark.parametrize("is_on_disk", [False, True])
def test_seal_is_the_sha256_of_all_other_bytes(n_bytes, is_on_disk, tmp_path):
    whole = b"PAR1" + b"old-text " + SEAL_MARK + bytes(n_bytes) + FOOTER + len(FOOTER).to_bytes(4, "little") + b"PAR1"
    with open(tmp_path / "file", "x+b") if is_on_disk else io.BytesIO() as file:
        file.write(whole)
        seal(file, put="new-text", over="old-text")
        file.seek(0)
        payload = file.read()
    at = len(whole) - 8 - len(b" end") - SEAL_LENGTH
    # The text and the mark stand in the data as well, where neither may be replaced.
    changed = whole.replace(b"footer old-text", b"footer new-text")
    digest = sha256(changed[:at] + changed[at + SEAL_LENGTH :]).hexdigest()
    assert payload == changed[:at] + digest.encode() + changed[at + SEAL_LENGTH :]
    assert read_seal(payload) == digest


def test_seal_over_a_text_of_another_length_refuses():
    with pytest.raises(ValueError, match=r"`put` must be as long as `over` \(3 bytes\), was 4"):
        seal(io.BytesIO(), put="four", over="old")
