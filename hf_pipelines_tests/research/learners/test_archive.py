"""Archives of models: the same bytes for the same files, and nothing but the files expected."""

import io
import zipfile

import pytest

from hf_pipelines.research.learners.archive import pack, unpack

FILES = {"learner.skops": b"a" * 100, "preprocessing_0.skops": b"b"}


def zipped(names: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_pack_gives_the_same_bytes_in_any_order_and_unpack_the_files():
    assert pack(FILES) == pack(dict(reversed(FILES.items())))
    assert unpack(pack(FILES), FILES) == FILES


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "must be an archive of a model, was 0 bytes"),
        (pack(FILES)[:-30], "must be an archive of a model"),
        (zipped(FILES, zipfile.ZIP_DEFLATED), "was compressed; do not load it"),
        (zipped({**FILES, "../../x": b""}), "must hold the files .*, was with .*'../../x'"),
        (zipped({"learner.skops": b"a"}), "was with .*it is a model of another learner"),
        (pack(FILES).replace(b"a" * 100, b"a" * 99 + b"c", 1), "must be an archive of a model"),
    ],
    ids=["empty", "cut off", "compressed", "one more", "one less", "damaged"],
)
def test_unpack_of_something_else_is_refused(data, told):
    with pytest.raises(ValueError, match=f"`data` .*{told}"):
        unpack(data, FILES)
