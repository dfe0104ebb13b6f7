"""Known contents: the same bytes are decoded once, others always, and what is kept has a bound."""

import polars as pl
import pytest

from hf_pipelines.resources import partition_codec
from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.known_contents import KnownContents
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.storage_errors import StoredPartitionError

WEEK = "2020-01-05"
STAMP = Stamp("code-1", "run-1", "2020-01-12T07:00:00+00:00")


@pytest.fixture
def store(tmp_path):
    return PartitionStore(ObjectStore(str(tmp_path)))


@pytest.fixture
def n_parsed(monkeypatch):
    """How often a file's rows were decoded, of a process that knows none yet."""
    monkeypatch.setattr(partition_codec, "_FRAMES", KnownContents())
    counted, parse = [], pl.read_parquet

    def count(*given, **options):
        counted.append(given)
        return parse(*given, **options)

    monkeypatch.setattr(partition_codec.pl, "read_parquet", count)
    return counted


def publish(store, values):
    return store.publish("small/bars", WEEK, Content(pl.DataFrame({"x": values})), STAMP, kind="bars")


def test_same_bytes_are_decoded_once_and_a_reader_cannot_change_what_the_next_one_gets(store, n_parsed):
    publish(store, [1.0, 2.0])
    first = store.read("small/bars", WEEK)
    first.frame.insert_column(0, pl.Series("more", [0, 0]))
    first.frame[0, "x"] = 9.0
    again = store.read("small/bars", WEEK)
    assert again.frame.to_dict(as_series=False) == {"x": [1.0, 2.0]}
    assert again.footer == first.footer
    assert len(n_parsed) == 1


def test_new_content_is_decoded_and_one_edited_meanwhile_is_refused(store, tmp_path):
    publish(store, [1.0])
    assert store.read("small/bars", WEEK).frame["x"].to_list() == [1.0]
    publish(store, [3.0])
    assert store.read("small/bars", WEEK).frame["x"].to_list() == [3.0]
    path = tmp_path / "small" / "bars" / f"{WEEK}.parquet"
    payload = bytearray(path.read_bytes())
    payload[10] ^= 1
    path.write_bytes(payload)
    with pytest.raises(StoredPartitionError, match="changed after it was written"):
        store.read("small/bars", WEEK)


def test_limit_that_was_lowered_meanwhile_is_held(store, monkeypatch):
    publish(store, [1.0, 2.0])
    store.read("small/bars", WEEK)
    monkeypatch.setenv("HF_MAX_ROWS", "1")
    with pytest.raises(StoredPartitionError, match="HF_MAX_ROWS"):
        store.read("small/bars", WEEK)


def test_least_recently_used_is_forgotten_first_and_what_is_too_large_is_not_kept():
    known = KnownContents(most_bytes=10, most_bytes_of_one=6)
    known.keep("a", 1, 4)
    known.keep("b", 2, 4)
    assert known.get("a") == 1
    known.keep("c", 3, 6)
    assert [known.get(each) for each in "abc"] == [1, None, 3]
    known.keep("d", 4, 7)
    known.keep("a", 5, 3)
    assert [known.get(each) for each in "acd"] == [5, 3, None]
