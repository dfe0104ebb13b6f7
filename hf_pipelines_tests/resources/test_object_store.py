"""Object store: which keys it takes, and what it says when it cannot read or write."""

from pathlib import Path

import pytest

from hf_pipelines.resources.object_keys import check_key
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.storage_errors import (
    ObjectExistsError,
    ObjectMissingError,
    ObjectRefusedError,
    StorageUnavailableError,
)

BAD_KEYS = [
    pytest.param("../../x", id="parent"),
    pytest.param("us_tech/../../x", id="parent-inside"),
    pytest.param("us_tech/..", id="parent-last"),
    pytest.param("a..b", id="dots"),
    pytest.param(".hidden", id="hidden"),
    pytest.param("/etc/passwd", id="absolute"),
    pytest.param("C:/x", id="drive"),
    pytest.param("a\0b", id="nul"),
    pytest.param("a\n", id="newline"),
    pytest.param("a/b\n", id="newline-inside"),
    pytest.param("", id="empty"),
    pytest.param("/", id="slash"),
    pytest.param("a//b", id="empty-segment"),
    pytest.param("a/", id="trailing-slash"),
    pytest.param("a\\b", id="backslash"),
    pytest.param("..\\..\\x", id="backslash-parent"),
    pytest.param("a b", id="space"),
    pytest.param("%2e%2e/x", id="percent"),
    pytest.param("é", id="accent"),
    pytest.param("a" * 300, id="300-characters"),
    pytest.param("/".join(["a" * 100] * 6), id="605-characters"),
]


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return ObjectStore(str(tmp_path / "root"))


@pytest.mark.parametrize("key", BAD_KEYS)
def test_put_under_a_key_outside_the_allow_list_writes_nothing(tmp_path, objects, key):
    with pytest.raises(ValueError, match="`key` must be segments of letters, digits") as caught:
        objects.put(key, b"x")
    assert len(str(caught.value)) < 300
    for method in (objects.get, objects.exists, objects.keys):
        with pytest.raises(ValueError, match="`key` must be segments"):
            method(key)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("key", ["us_tech/bars/2013-02-24.parquet", "_versions/a/b/c=1", "a/x^y", "a" * 128])
def test_check_key_of_a_plain_key_returns_it(key):
    assert check_key(key) == key


def test_get_returns_what_was_put_and_put_replaces_it(objects):
    objects.put("a/b.parquet", b"one")
    objects.put("a/b.parquet", b"two")
    assert objects.get("a/b.parquet") == b"two"
    assert objects.exists("a/b.parquet")
    assert not objects.exists("a/c.parquet")


def test_get_of_a_missing_key_names_it_and_the_root(objects):
    with pytest.raises(ObjectMissingError, match="`a/b` must exist in .*root, was missing"):
        objects.get("a/b")


def test_put_create_only_of_a_taken_key_keeps_what_is_there(objects):
    objects.put("a/b", b"first", create_only=True)
    with pytest.raises(ObjectExistsError, match="`a/b` must not exist yet, was there already in"):
        objects.put("a/b", b"second", create_only=True)
    assert objects.get("a/b") == b"first"


def test_keys_lists_whole_segments_only_and_sorted(objects):
    for key in ("a/bars/2", "a/bars/1", "a/bars2/1", "a/barsx", "b"):
        objects.put(key, b"")
    assert objects.keys("a/bars") == ["a/bars/1", "a/bars/2"]
    assert objects.all_keys() == ["a/bars/1", "a/bars/2", "a/bars2/1", "a/barsx", "b"]
    assert objects.keys("nothing") == []


def test_folders_names_what_has_keys_below_it_and_nothing_deeper(objects):
    for key in ("b/features/x/1", "b/features/y/1", "b/features/2", "a/1", "c"):
        objects.put(key, b"")
    assert objects.folders() == ["a", "b"]
    assert objects.folders("b/features") == ["x", "y"]
    assert objects.folders("b") == ["features"]
    assert objects.folders("nothing") == []
    with pytest.raises(ValueError, match="`key` must be segments"):
        objects.folders("../b")


def test_put_below_a_root_under_a_file_names_the_setting(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    objects = ObjectStore(str(tmp_path / "file" / "root"))
    with pytest.raises(
        StorageUnavailableError, match="`HF_STORAGE_URI` must be a folder that can be written, was .*file/root"
    ):
        objects.put("a", b"x")
    assert (tmp_path / "file").read_text() == "not a folder"


def test_put_below_a_root_that_is_a_file_names_the_setting(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageUnavailableError, match="`HF_STORAGE_URI` must be a folder that can be written"):
        ObjectStore(str(tmp_path / "file")).put("a", b"x")


def test_put_where_a_folder_is_a_file_names_the_key(objects):
    objects.put("a", b"x")
    with pytest.raises(StorageUnavailableError, match="`a/b` must be written in .*root, was refused: "):
        objects.put("a/b", b"x")


def test_get_of_a_folder_is_refused_by_name(objects):
    objects.put("a/b", b"x")
    with pytest.raises(ObjectRefusedError, match="/a` must be a regular file of usual size, was a folder"):
        objects.get("a")


def test_put_on_a_full_disk_keeps_the_old_object(small_disk):
    objects = ObjectStore(str(small_disk))
    objects.put("a/b", b"old")
    with pytest.raises(StorageUnavailableError, match="`a/b` must be written in .*, was refused: ") as caught:
        objects.put("a/b", b"x" * 400_000)
    assert "No space left" in str(caught.value) or "os error 28" in str(caught.value)
    assert objects.get("a/b") == b"old"
    assert objects.all_keys() == ["a/b"]
    objects.put("a/b", b"new, and small")
    assert objects.get("a/b") == b"new, and small"


def test_put_to_an_endpoint_that_does_not_answer_fails_by_name(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    # Port 9 (discard) of this machine: nobody listens, the connection is refused at once.
    objects = ObjectStore("s3://bucket/prefix", "http://127.0.0.1:9")
    with pytest.raises(StorageUnavailableError, match="`a` must be written in s3://bucket/prefix, was refused: "):
        objects.put("a", b"x")


def test_address_joins_root_and_key():
    assert ObjectStore("s3://bucket/prefix/").address("a/b") == "s3://bucket/prefix/a/b"


def test_s3_store_puts_gets_lists_and_creates_only_once(s3_store):
    objects = s3_store.objects
    objects.put("a/b", b"one", create_only=True)
    with pytest.raises(ObjectExistsError, match="`a/b` must not exist yet"):
        objects.put("a/b", b"two", create_only=True)
    assert objects.get("a/b") == b"one"
    objects.put("a/b", b"three")
    assert objects.get("a/b") == b"three"
    assert objects.all_keys() == objects.keys("a") == ["a/b"]
    assert objects.exists("a/b")
    assert not objects.exists("a/c")
    with pytest.raises(ObjectMissingError, match="`a/c` must exist in s3://"):
        objects.get("a/c")


@pytest.mark.parametrize("kind", ["store", "s3_store"])
def test_writing_puts_the_object_when_the_block_ends_and_not_if_it_raises(request, kind):
    objects = request.getfixturevalue(kind).objects
    objects.put("a/b", b"old")
    with objects.writing("a/b") as file:
        file.write(b"new one")
        file.seek(4)
        assert file.read() == b"one"
        assert objects.get("a/b") == b"old"
    assert objects.get("a/b") == b"new one"
    with pytest.raises(ZeroDivisionError), objects.writing("a/b") as file:
        file.write(bytes(1 // 0))
    assert (objects.get("a/b"), objects.all_keys()) == (b"new one", ["a/b"])


def test_writing_passes_over_what_a_killed_process_left_and_no_listing_shows_it(objects, tmp_path):
    objects.put("a/b", b"old")
    (tmp_path / "root" / "a" / "b#1").write_bytes(b"half")
    with objects.writing("a/b") as file:
        file.write(b"new")
    assert (objects.get("a/b"), objects.all_keys()) == (b"new", ["a/b"])
    assert sorted(path.name for path in (tmp_path / "root" / "a").iterdir()) == ["b", "b#1"]


def test_writing_on_a_full_disk_keeps_the_old_object_and_leaves_nothing(small_disk):
    objects = ObjectStore(str(small_disk))
    objects.put("a/b", b"old")
    with pytest.raises(StorageUnavailableError, match="`a/b` must be written in .*No space left"):
        with objects.writing("a/b") as file:
            file.write(bytes(400_000))
    assert [path.name for path in (small_disk / "a").iterdir()] == ["b"]
    assert objects.get("a/b") == b"old"


@pytest.mark.parametrize("key", BAD_KEYS)
def test_writing_under_a_key_outside_the_allow_list_writes_nothing(tmp_path, objects, key):
    with pytest.raises(ValueError, match="`key` must be segments"), objects.writing(key):
        pass
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
