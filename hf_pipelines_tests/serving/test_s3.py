"""The S3 server of `hfp stack`: what moto forgets is kept, whatever the key looks like."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.s3.models import s3_backends

from hf_pipelines.serving.s3 import KeptAndClosed, ObjectFolder

CONTENT = {
    "a": b"beside a folder of its name",
    "a/b.parquet": b"\x00\xff" * 5,
    "../../outside": b"a key is no path",
    "..": b"",
    "k.kd d": b"letters that names of files begin with",
    "long/" + "x" * 195: b"cut exactly where a name ends",
    "long/" + "x" * 196 + "/Ähnlich": b"cut inside",
}


@pytest.fixture
def objects(tmp_path: Path) -> Iterator[ObjectFolder]:
    # Of one process all of moto's servers share one memory: buckets of other tests are set aside.
    found = ObjectFolder(tmp_path / "s3")
    others, found.backend.buckets = found.backend.buckets, {}
    s3_backends.reset()
    yield ObjectFolder(tmp_path / "s3")
    s3_backends.reset()
    ObjectFolder(tmp_path / "s3").backend.buckets = others


def test_object_folder_after_a_restart_holds_every_object_that_was_kept(objects: ObjectFolder) -> None:
    objects.backend.create_bucket("assets", "us-east-1")
    for key, content in {**CONTENT, "gone": b"deleted later", "lost": b"deleted in a batch"}.items():
        objects.backend.put_object("assets", key, content)
        objects.keep("assets", key)
    objects.backend.delete_object("assets", "gone")
    objects.keep("assets", "gone")
    objects.backend.delete_object("assets", "lost")
    objects.keep("assets", None)
    # Killed while it wrote.
    (objects.folder / "assets" / ".half").write_bytes(b"half")
    etags = {key: objects.backend.get_object("assets", key).etag for key in CONTENT}

    s3_backends.reset()
    again = ObjectFolder(objects.folder)
    assert again.load() == len(CONTENT)
    held = {key: again.backend.get_object("assets", key) for key in CONTENT}
    assert {key: each.value for key, each in held.items()} == CONTENT
    assert {key: each.etag for key, each in held.items()} == etags
    assert set(again.backend.buckets["assets"].keys) == set(CONTENT)
    # No key has left the folder, and no rest of a write is there.
    written = [path for path in objects.folder.parent.rglob("*") if path.is_file()]
    assert len(written) == len(CONTENT)
    assert all(path.is_relative_to(objects.folder / "assets") for path in written)


@pytest.mark.parametrize(
    ("environ", "is_let_in"),
    [
        ({"HTTP_AUTHORIZATION": "AWS4-HMAC-SHA256 Credential=right/20130101/us-east-1/s3/aws4_request, x"}, True),
        ({"QUERY_STRING": "X-Amz-Credential=right%2F20130101%2Fus-east-1"}, True),
        ({"HTTP_AUTHORIZATION": "AWS4-HMAC-SHA256 Credential=righ/20130101/us-east-1/s3/aws4_request, x"}, False),
        ({"QUERY_STRING": "X-Amz-Credential=right2%2F20130101"}, False),
        ({}, False),
    ],
    ids=["signed", "presigned", "wrong key", "wrong presigned key", "no key"],
)
def test_object_server_lets_in_only_who_names_the_access_key(
    objects: ObjectFolder, environ: dict[str, str], is_let_in: bool
) -> None:
    said: list[str] = []

    def application(_: object, start_response: object) -> list[bytes]:
        start_response("200 OK", [])  # type: ignore[operator]
        return [b"inside"]

    server = KeptAndClosed(application, objects, "right")
    request = {"REQUEST_METHOD": "GET", "PATH_INFO": "/assets", **environ}
    body = b"".join(server(request, lambda status, *_: said.append(status)))
    assert said == ["200 OK" if is_let_in else "403 Forbidden"]
    assert (body == b"inside") == is_let_in
