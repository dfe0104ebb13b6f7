"""Partitions of which some columns are read in batches: the same content, as well checked, whatever happens to the file."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.content_hash import content_hash, content_hash_of_columns
from hf_pipelines.resources import batched_columns
from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.partition_codec import Content, encode
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.read_cache import ReadCache
from hf_pipelines.resources.storage_errors import ObjectMissingError, StoredPartitionError

ASSET, WEEK = "ranking/training_matrix", "2020-01-05"
STAMP = Stamp("code-1", "run-1", "2020-01-12T07:00:00+00:00")
WHOLE = ("symbol", "session", "ts", "y", "created_at", "of_other_matrices")


def frame_of(n_rows: int = 1_000) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    day = datetime(2020, 1, 6, tzinfo=UTC)
    ts = pl.Series([day + timedelta(hours=at // 3) for at in range(n_rows)], dtype=pl.Datetime("us", "UTC"))
    frame = pl.DataFrame(
        {
            "symbol": ["AAA", None, "CCC"] * (n_rows // 3) + ["AAA"] * (n_rows % 3),
            "session": ts.dt.date(),
            "ts": ts,
            "created_at": ts,
            "first": rng.normal(size=n_rows).astype(np.float32),
            "y": rng.normal(size=n_rows),
            "second": np.where(rng.random(n_rows) < 0.2, np.nan, rng.normal(size=n_rows)).astype(np.float32),
            "third": np.zeros(n_rows, dtype=np.float32),
        }
    )
    return frame.with_columns(third=pl.when(pl.col("symbol").is_null()).then(None).otherwise("third"))


def published(store: PartitionStore, frame: pl.DataFrame) -> pl.DataFrame:
    store.publish(ASSET, WEEK, Content(frame, attachments={"a.txt": b"a"}, facts={"x": 1}), STAMP)
    return frame


def path_of(store: PartitionStore) -> Path:
    return Path(store.objects.address(f"{ASSET}/{WEEK}.parquet"))


@pytest.mark.parametrize("n_rows", [1_000, 150_000], ids=["one row group", "several"])
def test_batches_and_columns_in_memory_are_those_of_the_whole_partition(store, monkeypatch, n_rows):
    monkeypatch.setattr(batched_columns, "BATCH_ROWS", n_rows // 7)
    frame = published(store, frame_of(n_rows))
    found = store.read_in_batches(ASSET, WEEK, whole=WHOLE)
    assert found.footer == store.read(ASSET, WEEK).footer
    assert found.frame.equals(frame.select("symbol", "session", "ts", "created_at", "y"), null_equal=True)
    assert found.frame.schema == frame.select(found.frame.columns).schema
    assert found.batched is not None and found.batched.names == ("first", "second", "third")
    for first, stop in ((0, n_rows), (0, 1), (n_rows // 7 - 1, n_rows // 2 + 1), (n_rows - 3, n_rows)):
        batches = list(found.batched.read(first, stop))
        assert pl.concat(batches).equals(frame[first:stop].select(found.batched.names), null_equal=True)
        assert max(each.height for each in batches) <= n_rows // 7
    # Two passes at once do not disturb each other.
    one, other = found.batched.read(0, n_rows), found.batched.read(0, n_rows)
    assert all(a.equals(b, null_equal=True) for a, b in zip(one, other, strict=True))


def test_what_was_verified_is_read_to_its_end_though_something_else_is_published_meanwhile(store):
    frame = published(store, frame_of())
    found = store.read_in_batches(ASSET, WEEK, whole=WHOLE)
    published(store, frame.with_columns(first=pl.col("second")))
    assert found.batched is not None
    assert pl.concat(found.batched.read(0, 1_000)).equals(frame.select(found.batched.names), null_equal=True)


def test_of_a_bucket_and_of_its_copies_the_same_is_read(s3_store, tmp_path):
    frame = published(s3_store, frame_of())
    for each in (s3_store, replace(s3_store, cache=ReadCache(tmp_path / "cache", 10_000_000))):
        found = each.read_in_batches(ASSET, WEEK, whole=WHOLE)
        assert found.frame.equals(frame.select(found.frame.columns), null_equal=True) and found.batched is not None
        batches = pl.concat(found.batched.read(10, 700))
        assert batches.equals(frame[10:700].select(found.batched.names), null_equal=True)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda payload: payload[: len(payload) // 2],
    "empty": lambda payload: b"",
    "longer": lambda payload: payload + b"PAR1",
    "value": lambda payload: payload[:200] + bytes([payload[200] ^ 1]) + payload[201:],
    "head": lambda payload: b"PAR2" + payload[4:],
    "no seal": lambda payload: payload.replace(b"hf_pipelines:sha256=", b"hf_pipelines_sha256="),
    "no file": lambda payload: b"something else",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_refused_by_name(store, damage):
    published(store, frame_of())
    path = path_of(store)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        StoredPartitionError, match=rf"`{ASSET}/{WEEK}.parquet` must be the file that was published, was "
    ):
        store.read_in_batches(ASSET, WEEK, whole=WHOLE)


def test_randomly_edited_files_are_refused_before_they_are_parsed(store):
    published(store, frame_of())
    path, rng = path_of(store), random.Random(0)
    payload = path.read_bytes()
    for _ in range(60):
        at = rng.randrange(len(payload))
        path.write_bytes(payload[:at] + bytes([payload[at] ^ (1 + rng.randrange(255))]) + payload[at + 1 :])
        with pytest.raises(StoredPartitionError):
            store.read_in_batches(ASSET, WEEK, whole=WHOLE)


def test_other_values_under_a_sound_seal_too_many_rows_and_a_partition_that_is_not_there_are_refused(
    store, monkeypatch
):
    with pytest.raises(ObjectMissingError):
        store.read_in_batches(ASSET, WEEK, whole=WHOLE)
    frame = published(store, frame_of())
    footer = store.read(ASSET, WEEK).footer
    for name in ("third", "y", "symbol"):
        path_of(store).write_bytes(encode(frame.with_columns(pl.col(name).reverse()), footer))
        with pytest.raises(StoredPartitionError, match="under a footer for"):
            store.read_in_batches(ASSET, WEEK, whole=WHOLE)
    path_of(store).write_bytes(encode(frame, footer))
    monkeypatch.setattr(batched_columns, "MAX_CELLS", 999)
    with pytest.raises(StoredPartitionError, match="was a table of 1000 rows, more than 999 cells at a time"):
        store.read_in_batches(ASSET, WEEK, whole=WHOLE)
    store.publish(ASSET, WEEK, Content(frame, has_session_hashes=True), STAMP)
    with pytest.raises(ValueError, match="must be without hashes of its sessions"):
        store.read_in_batches(ASSET, WEEK, whole=WHOLE)


def test_the_hash_of_columns_one_after_the_other_is_that_of_their_frame():
    frame = frame_of()
    for each in (
        frame,
        frame[:0],
        frame.select("third", "y"),
        frame.with_columns(pl.lit(None).cast(pl.Date).alias("d")),
    ):
        attached = {"a": "b"}
        found = content_hash_of_columns(iter(each), schema=each.schema, rows=each.height, attachments=attached)
        assert found == content_hash(each, attachments=attached)
