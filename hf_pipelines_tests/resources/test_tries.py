"""Tries in the store: records on disk and in a bucket, apart from all that is current, and what is damaged or named wrongly."""

import pytest
from polars import DataFrame

from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.lineage import current_footers, stored_partitions
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.tries import (
    FaultyTryError,
    TriedWeek,
    TryRecord,
    find_try,
    id_of,
    list_tries,
    put_try,
    store_of_try,
)

WEEK = "2012-03-11"


def record(number="0123abcd", strategy="one", made_at="2026-01-01T00:00:00+00:00"):
    week = TriedWeek("t", {"cv_results": "c"}, "m", {"small/bars": "d"}, {"cv_results": {"rmse": None}}, 1.5)
    return TryRecord(
        strategy, number, made_at, "me", "a.yaml", "a: 1", "a: 2", "b", ("a=2",), {"a": (1, 2)}, {"a": 2}, {WEEK: week}
    )


@pytest.fixture(params=["disk", "s3"])
def store(request, tmp_path):
    if request.param == "disk":
        return PartitionStore(ObjectStore(str(tmp_path / "storage")))
    return PartitionStore(ObjectStore(f"s3://hf-test/{tmp_path.name}", request.getfixturevalue("s3_endpoint")))


def test_a_try_is_found_with_its_contents_and_is_nothing_that_is_current(store):
    later = record("0123ffff", made_at="2026-01-02T00:00:00+00:00")
    for each in (later, record(), record("aaaa0000", "two")):
        kept = store_of_try(store, each.strategy, each.id)
        kept.publish(
            f"{each.strategy}/cv_results", WEEK, Content(DataFrame({"x": [1.0]})), Stamp("c", "r", each.made_at)
        )
        put_try(store, each)
    assert [each.name for each in list_tries(store, "one")] == ["one~0123abcd", "one~0123ffff"]
    assert len([*list_tries(store)]) == 3 and find_try(store, "one~0123a") == record()
    assert store_of_try(store, "two", "aaaa0000").read("two/cv_results", WEEK).frame["x"].to_list() == [1.0]
    assert stored_partitions(store) == {} and current_footers(store) == [] and store.partitions("one/cv_results") == []
    for name in ("one~0123", "one~ffff", "three~0123abcd", "one~0123abcd0", "one~../..", "one"):
        with pytest.raises(ValueError, match="`try` must be"):
            find_try(store, name)


def test_contents_without_a_record_are_no_try(store):
    kept = store_of_try(store, "one", "0123abcd")
    kept.publish("one/cv_results", WEEK, Content(DataFrame({"x": [1.0]})), Stamp("c", "r", "2026-01-01T00:00:00+00:00"))
    assert [*list_tries(store)] == []
    with pytest.raises(ValueError, match="there is none"):
        find_try(store, "one~0123abcd")


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"{}", b'{"name": "x", "weeks": {"w": 3}}', b"\xff"])
def test_a_record_that_cannot_be_read_is_named(store, payload):
    store.objects.put("_tries/one/0123abcd/try.json", payload)
    with pytest.raises(FaultyTryError, match="`_tries/one/0123abcd/try.json` must be the record of a try"):
        [*list_tries(store)]


def test_a_record_in_the_place_of_another_is_refused(store):
    put_try(store, record())
    store.objects.put("_tries/one/ffffffff/try.json", store.objects.get("_tries/one/0123abcd/try.json"))
    with pytest.raises(FaultyTryError, match="the try that it lies in, was of one~0123abcd"):
        find_try(store, "one~ffff")


def test_the_same_trials_and_text_have_the_same_id():
    assert id_of({"a": "1", "b": "2"}, "x") == id_of({"b": "2", "a": "1"}, "x")
    assert len({id_of({"a": "1"}, "x"), id_of({"a": "2"}, "x"), id_of({"b": "1"}, "x"), id_of({"a": "1"}, "y")}) == 4
