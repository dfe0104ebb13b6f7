"""Archives: several files of a model as one, the same bytes for the same files.

Lives here: packing and unpacking. Not here: what the files are (`pipeline`, `voting`).
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo


def pack(files: Mapping[str, bytes]) -> bytes:
    """Files by their names as one uncompressed archive, without the time of writing."""
    buffer = io.BytesIO()
    with ZipFile(buffer, "w", ZIP_STORED) as archive:
        for name, content in sorted(files.items()):
            # ZipInfo's default date is 1980-01-01: the time of saving must not reach the hash.
            archive.writestr(ZipInfo(name), content)
    return buffer.getvalue()


def unpack(data: bytes, names: Collection[str]) -> dict[str, bytes]:
    """The files of an archive.

    Raises
    ------
    ValueError
        If the bytes are no archive of `pack` with exactly these names.
    """
    try:
        with ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if sorted(each.filename for each in members) != sorted(names):
                raise ValueError(
                    f"`data` must hold the files {sorted(names)}, was with {sorted(each.filename for each in members)[:5]}; "
                    "it is a model of another learner, do not load it."
                )
            # We write without compression: a compressed member is not ours and may unpack to any size.
            if any(each.compress_type != ZIP_STORED or each.file_size > len(data) for each in members):
                raise ValueError("`data` must be an uncompressed archive, was compressed; do not load it.")
            return {each.filename: archive.read(each) for each in members}
    except (BadZipFile, NotImplementedError, RuntimeError) as e:
        raise ValueError(f"`data` must be an archive of a model, was {len(data)} bytes of something else.") from e
