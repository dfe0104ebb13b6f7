"""Which issue is the newest, what `latest.json` says of it, and what lies among partitions and is none."""

import json
import os
import shutil
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import polars as pl
import pytest

from hf_pipelines.commands.store import verify_store
from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.issues import (
    issue_fault,
    latest_fault,
    latest_key,
    lost_issue,
    newest_issue,
    point_to_latest,
)
from hf_pipelines.resources.market_data.landing import Landing
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_codec import Content, encode
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.storage_errors import StorageUnavailableError
from hf_pipelines.resources.verification import latest_mismatches, strays, verify

ASSET, MODELS, WEEK = "trend/signals", "trend/fitted_model", "2020-01-05"
DAYS = [f"2020-01-{number:02}" for number in (6, 7, 8, 9, 10)]
NOW = datetime(2020, 1, 12, tzinfo=UTC)
STAMP = Stamp("code-1", "run-1", "2020-01-12T07:00:00+00:00")


@pytest.fixture
def store(tmp_path: Path) -> PartitionStore:
    """Three issues by one model, and `latest.json`."""
    store = PartitionStore(ObjectStore(str(tmp_path / "store")))
    model = store.publish(MODELS, WEEK, Content(pl.DataFrame({"trees": [3]})), STAMP).footer.content_hash
    for day in ("2020-01-07", "2020-01-08", "2020-01-06"):
        issue(store, day, model)
        point_to_latest(store, ASSET, DAYS, NOW)
    return store


def issue(store: PartitionStore, day: str, model: str, *, as_of: str | None = None) -> None:
    decided = datetime.fromisoformat(as_of or day).replace(tzinfo=UTC) + timedelta(hours=21)
    frame = pl.DataFrame(
        {
            "symbol": ["AAA"],
            "session": [date.fromisoformat(day)],
            "weight": [0.5],
            "model_version": [model],
            "as_of": [decided],
            "issue_kind": ["live"],
        }
    )
    content = Content(frame, inputs={MODELS: {WEEK: model}}, facts={"schema_version": 1})
    store.publish(ASSET, day, content, STAMP, kind="signals")


def model_of(store: PartitionStore) -> str:
    footer = store.footer(MODELS, WEEK)
    assert footer is not None
    return footer.content_hash


def path_of(store: PartitionStore, name: str) -> Path:
    return Path(store.objects.address(f"{ASSET}/{name}"))


def said(store: PartitionStore) -> dict[str, object]:
    return json.loads(store.objects.get(latest_key(ASSET)))


def test_latest_names_the_newest_issue_even_after_a_backfill(store):
    payload = store.objects.get(f"{ASSET}/2020-01-08.parquet")
    footer = store.footer(ASSET, "2020-01-08")
    assert footer is not None
    assert said(store) == {
        "day": "2020-01-08",
        "path": f"{ASSET}/2020-01-08.parquet",
        "sha256": sha256(payload).hexdigest(),
        "content_hash": footer.content_hash,
        "model": model_of(store),
        "issue_kind": "live",
        "schema_version": 1,
    }
    assert latest_fault(store, ASSET, DAYS, NOW) == ""
    # Nothing is written where nothing differs.
    assert not point_to_latest(store, ASSET, DAYS, NOW)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: path.unlink(), id="deleted"),
        pytest.param(lambda path: path.write_text("{"), id="no JSON"),
        pytest.param(lambda path: path.write_text('{"day": "2099-01-01"}'), id="a day to come"),
        pytest.param(lambda path: path.write_text(path.read_text().replace("01-08", "01-07")), id="swapped"),
        pytest.param(lambda path: path.write_text(path.read_text().replace("live", "dead")), id="edited"),
        pytest.param(lambda path: os.truncate(path, 10**12), id="sparse"),
    ],
)
def test_latest_that_is_gone_or_says_something_else_is_told_and_written_again(store, damage):
    before = said(store)
    damage(path_of(store, "latest.json"))
    assert "must name the newest issue 2020-01-08 as it is stored, was" in latest_fault(store, ASSET, DAYS, NOW)
    (found,) = latest_mismatches(store, ASSET, NOW)
    assert "must name the newest issue 2020-01-08" in str(found)
    assert point_to_latest(store, ASSET, DAYS, NOW)
    assert said(store) == before


def test_newest_issue_that_is_deleted_is_told_and_no_older_one_takes_its_place(store):
    path_of(store, "2020-01-08.parquet").unlink()
    assert lost_issue(store, ASSET, DAYS) == "2020-01-08"
    assert "2020-01-08.parquet` must be there, latest.json names it" in latest_fault(store, ASSET, DAYS, NOW)
    assert not point_to_latest(store, ASSET, DAYS, NOW)
    assert said(store)["day"] == "2020-01-08"
    assert [each.partition for each in latest_mismatches(store, ASSET, NOW)] == ["latest.json"]


@pytest.mark.parametrize("day", ["2099-01-01", "2020-01-11", "2020-01-09", "2020-01-10"])
def test_planted_issue_of_no_closed_session_by_no_model_or_with_another_days_content_is_never_the_newest(store, day):
    if day == "2020-01-10":
        shutil.copy(path_of(store, "2020-01-08.parquet"), path_of(store, f"{day}.parquet"))
    else:
        # A Saturday by a right model, a session by none.
        issue(store, day, "f" * 64 if day == "2020-01-09" else model_of(store))
    path_of(store, "latest.json").unlink()
    assert newest_issue(store, ASSET, DAYS, NOW) == "2020-01-08"
    point_to_latest(store, ASSET, DAYS, NOW)
    assert said(store)["day"] == "2020-01-08"


def test_issue_fault_names_what_an_issue_cannot_be(store):
    assert issue_fault(store, ASSET, "2020-01-08", NOW) == ""
    issue(store, "2020-01-09", "f" * 64)
    assert "must be by a model that the store has or had, was by ffffffffffff" in issue_fault(
        store, ASSET, "2020-01-09", NOW
    )
    issue(store, "2020-01-10", model_of(store), as_of="2021-01-01")
    assert "must be of a session that has closed" in issue_fault(store, ASSET, "2020-01-10", NOW)
    # Of a model that was trained again since the earlier content is kept.
    store.publish(MODELS, WEEK, Content(pl.DataFrame({"trees": [4]})), STAMP)
    assert issue_fault(store, ASSET, "2020-01-08", NOW) == ""


def test_verify_names_an_issue_that_can_be_none_once_and_reads_each_once(store, monkeypatch):
    issue(store, "2020-01-09", "f" * 64)

    payload = type(store).payload

    def read_again(store: PartitionStore, asset: str, partition: str) -> bytes:
        assert asset != ASSET, f"{partition} is read a second time"
        return payload(store, asset, partition)

    monkeypatch.setattr(type(store), "payload", read_again)
    found = [each for looked in verify(store, now=NOW) for each in looked.mismatches]
    assert [(each.partition, each.what) for each in found] == [("2020-01-09", "issue")]
    assert "must be by a model that the store has or had" in found[0].found


# --- what is no partition


def test_files_among_partitions_that_are_none_are_named_and_stop_nobody(store):
    root = Path(store.objects.uri)
    for name in ("2013-02-24 (1).parquet", "._x.parquet", "zz.parquet", "2013-13-45.parquet", "notes.txt"):
        path_of(store, name).write_bytes(b"x")
    (root / os.fsdecode(b"trend/signals/2020-01-09\xff.parquet")).write_bytes(b"x")
    path_of(store, "loop.parquet").symlink_to(path_of(store, "loop.parquet"))
    path_of(store, "up").symlink_to(root)
    os.mkfifo(path_of(store, "2020-01-09.parquet"))

    assert store.partitions(ASSET) == ["2020-01-06", "2020-01-07", "2020-01-08"]
    named = {key.rpartition("/")[2] for key in store.strays(ASSET)}
    assert named == {
        "2013-02-24 (1).parquet", "._x.parquet", "zz.parquet", "2013-13-45.parquet", "notes.txt", "loop.parquet", "up",
        os.fsdecode(b"2020-01-09\xff.parquet"), "2020-01-09.parquet",
    }  # fmt: skip
    assert strays(store)["trend/signals/2020-01-09.parquet"] == "a pipe"
    lines: list[str] = []
    assert verify_store(store, None, lines.append, print) == []
    assert sum(line.startswith("LEFT ALONE ") for line in lines) == 9
    assert all(line.isprintable() for line in lines)
    assert lines[-1].startswith("4 objects, ")


def test_stored_object_of_60_gb_is_named_refused_and_replaced_by_a_publish(store):
    path = Path(store.objects.address(f"{MODELS}/{WEEK}.parquet"))
    os.truncate(path, 60_000_000_000)
    lines: list[str] = []
    found = verify_store(store, MODELS, lines.append, print)
    assert [each.found for each in found] == ["60,000,000,000 bytes, above 4,000,000,000"]
    with pytest.raises(ValueError, match="must be the file that was published, was 60,000,000,000 bytes"):
        store.read(MODELS, WEEK)
    store.publish(MODELS, WEEK, Content(pl.DataFrame({"trees": [5]})), STAMP)
    assert store.read(MODELS, WEEK).frame["trees"].to_list() == [5]
    (moved,) = store.objects.keys("_damaged")
    assert Path(store.objects.address(moved)).stat().st_size == 60_000_000_000


def test_stored_kilobytes_that_decode_to_gigabytes_are_refused(store, monkeypatch):
    footer = store.footer(MODELS, WEEK)
    assert footer is not None
    bomb = encode(pl.DataFrame({"text": ["A" * 100_000]}).select(pl.col("text").repeat_by(100).explode()), footer)
    store.objects.put(f"{MODELS}/{WEEK}.parquet", bomb)
    monkeypatch.setenv("HF_MAX_OBJECT_MB", "5")
    with pytest.raises(ValueError, match="when decoded, above 5,000,000"):
        store.read(MODELS, WEEK)


def test_folder_that_leads_to_itself_is_one_clear_line(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for look in (ObjectStore.all_keys, ObjectStore.is_there, lambda objects: objects.get("a")):
        with pytest.raises(StorageUnavailableError, match="loop"):
            look(ObjectStore(str(loop)))


@pytest.mark.parametrize("page", ["<html><body>Sign in</body></html>", "<!DOCTYPE html><p>unclosed", "", "{}"])
def test_endpoint_that_answers_something_else_is_an_error_and_no_empty_store(page, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    objects = ObjectStore("s3://bucket/prefix", f"http://127.0.0.1:{server.server_port}")
    landing = Landing("s3://bucket/prefix", objects.endpoint)
    looks = (
        objects.all_keys,
        objects.folders,
        objects.strays,
        lambda: verify_store(PartitionStore(objects), None, print, print),
        lambda: list(landing.names()),
    )
    try:
        for look in looks:
            with pytest.raises(StorageUnavailableError, match="`s3://bucket/prefix` must be listed|`/` must be listed"):
                look()
    finally:
        server.shutdown()
        server.server_close()
