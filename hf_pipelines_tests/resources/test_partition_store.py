"""Partition store: published whole or not at all, never read damaged, issued once."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest

from hf_pipelines.resources import partition_codec
from hf_pipelines.resources.footer import Stamp, Verdict
from hf_pipelines.resources.issued_signals import compare_issues
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_codec import Content, decode, encode, read_footer
from hf_pipelines.resources.partition_store import PartitionStore, Published
from hf_pipelines.resources.storage_errors import ObjectMissingError, StorageUnavailableError, StoredPartitionError
from hf_pipelines_tests.sample_bars import random_bars

ASSET, WEEK = "us_tech/bars", "2020-01-05"
KEY = f"{ASSET}/{WEEK}.parquet"
BARS = random_bars(symbols=3, sessions=5)
STAMP = Stamp("code-1", "run-1", "2020-01-12T07:00:00+00:00")


def publish(
    store: PartitionStore, frame: pl.DataFrame = BARS, *, partition: str = WEEK, **options: object
) -> Published:
    return store.publish(ASSET, partition, Content(frame, has_session_hashes=True), replace(STAMP, **options))


def revised(factor: float = 1.01) -> pl.DataFrame:
    return BARS.with_columns(pl.col("volume") * factor)


def path_of(store: PartitionStore, key: str = KEY) -> Path:
    return Path(store.objects.address(key))


def test_publish_then_read_returns_the_frame_and_what_it_was_made_from(store):
    content = Content(
        BARS,
        inputs={"a/b": {"2020-01-05": "h"}},
        sources={"2020-01-06.csv": "s"},
        facts={"missing": ["AAA 2020-01-06"], "fee_bps": 1.5},
        has_session_hashes=True,
    )
    published = store.publish(ASSET, WEEK, content, STAMP)
    stored = store.read(ASSET, WEEK)
    assert stored.frame.equals(BARS)
    assert stored.footer == published.footer == store.footer(ASSET, WEEK)
    assert (published.outcome, published.address) == ("new", str(path_of(store)))
    footer = stored.footer
    assert (footer.rows, footer.code_version, footer.run_id) == (20, "code-1", "run-1")
    assert footer.available_at == ("2020-01-06 21:00:00+00:00", "2020-01-10 21:00:00+00:00")
    assert (footer.inputs, footer.sources, footer.facts) == (content.inputs, content.sources, content.facts)
    assert sorted(footer.session_hashes) == [f"2020-01-{day:02}" for day in range(6, 11)]


def test_published_file_is_plain_parquet_for_any_tool(store):
    from pyarrow import parquet

    publish(store)
    assert pl.DataFrame(parquet.read_table(path_of(store))).equals(BARS)
    assert pl.scan_parquet(path_of(store)).collect().equals(BARS)
    footer = json.loads(parquet.read_metadata(path_of(store)).metadata[b"hf_pipelines"])
    assert (footer["asset"], footer["partition"], footer["rows"]) == (ASSET, WEEK, 20)


def test_publish_of_an_empty_frame_reads_back_with_its_columns(store):
    publish(store, BARS.clear())
    assert store.read(ASSET, WEEK).frame.schema == BARS.schema


def test_read_of_an_unpublished_partition_names_it(store):
    with pytest.raises(ObjectMissingError, match=f"`{KEY}` must exist"):
        store.read(ASSET, WEEK)
    assert store.footer(ASSET, WEEK) is None


@pytest.mark.parametrize("partition", ["../../x", "/etc/x", "a\0", "a" * 300, "", "..\\x", "a\n"])
def test_publish_under_a_foreign_partition_key_writes_nothing(store, tmp_path, partition):
    with pytest.raises(ValueError, match="`key` must be segments"):
        publish(store, partition=partition)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_partitions_lists_only_those_of_the_asset(store):
    for week in ("2020-01-12", "2020-01-05"):
        publish(store, partition=week)
    store.publish("us_tech/bars/daily", WEEK, Content(BARS), STAMP)
    store.publish("us_tech/bars2", "2020-02-02", Content(BARS), STAMP)
    store.objects.put(f"{ASSET}/latest.json", b"{}")
    assert store.partitions(ASSET) == ["2020-01-05", "2020-01-12"]


# --- revisions


def test_republish_of_other_content_keeps_the_old_one_readable(store):
    old = publish(store).footer
    new = publish(store, revised(), run_id="run-2")
    assert new.outcome == "changed"
    assert store.read(ASSET, WEEK).frame.equals(revised())
    assert store.versions(ASSET, WEEK) == [old.content_hash]
    kept = decode(store.objects.get(store.version_key(old)), asset=ASSET, partition=WEEK)
    assert kept.frame.equals(BARS)
    assert kept.footer == old


def test_republish_there_and_back_keeps_both_contents(store):
    hashes = [publish(store, frame).footer.content_hash for frame in (BARS, revised(), BARS)]
    assert hashes[0] == hashes[2] != hashes[1]
    assert set(store.versions(ASSET, WEEK)) == set(hashes)
    assert store.read(ASSET, WEEK).frame.equals(BARS)


def test_republish_of_the_same_content_stores_no_version_and_keeps_the_file(store):
    publish(store)
    before = path_of(store).read_bytes()
    again = publish(store, run_id="run-2", created_at="2021-01-01T00:00:00+00:00")
    assert again.outcome == "unchanged"
    assert again.footer.run_id == "run-1"
    assert path_of(store).read_bytes() == before
    assert store.objects.all_keys() == [KEY]


def test_republish_of_the_same_content_by_other_code_records_the_code_but_not_a_version(store):
    first = publish(store).footer
    again = publish(store, code_version="code-2", run_id="run-2", created_at="2021-01-01T00:00:00+00:00")
    assert again.outcome == "unchanged"
    assert store.footer(ASSET, WEEK).code_version == "code-2"
    assert store.footer(ASSET, WEEK).created_at == first.created_at
    assert store.versions(ASSET, WEEK) == []


def test_content_hash_does_not_count_when_and_by_whom_a_row_was_made(store):
    live = BARS.with_columns(created_at=pl.lit("2020-01-12"), issue_kind=pl.lit("live"))
    later = BARS.with_columns(created_at=pl.lit("2021-01-12"), issue_kind=pl.lit("backfill"))
    assert publish(store, live).footer.content_hash == publish(store, later).footer.content_hash


# --- damage


def truncate(payload: bytes) -> bytes:
    return payload[: len(payload) * 2 // 3]


def edit_data(payload: bytes) -> bytes:
    return payload[:200] + bytes([payload[200] ^ 1]) + payload[201:]


def edit_code_version(payload: bytes) -> bytes:
    assert payload.count(b"code-1") == 1
    return payload.replace(b"code-1", b"code-9")


def rewrite(payload: bytes, frame: pl.DataFrame = BARS, **fields: object) -> bytes:
    """A file of our own form whose footer says something else: what only our own code could have written."""
    footer = read_footer(payload, asset=ASSET, partition=WEEK)
    return encode(frame, replace(footer, **fields))


DAMAGES = [
    pytest.param(lambda payload: b"", "0 bytes that are no whole Parquet file", id="empty"),
    pytest.param(lambda payload: b"symbol,close\nA,1\n", "17 bytes that are no whole Parquet file", id="csv"),
    pytest.param(truncate, "bytes that are no whole Parquet file", id="truncated"),
    pytest.param(lambda payload: payload[100:], "bytes that are no whole Parquet file", id="beheaded"),
    pytest.param(lambda payload: payload[:50] + payload[60:], "a file whose bytes were changed", id="cut-inside"),
    pytest.param(edit_data, "a file whose bytes were changed", id="edited-data"),
    pytest.param(edit_code_version, "a file whose bytes were changed", id="edited-footer"),
    pytest.param(lambda payload: b"PAR1" + bytes(500) + b"PAR1", "a Parquet file written by something else", id="hollow"),
    pytest.param(lambda payload: rewrite(payload, version=1), "a file whose footer is not of version 2", id="other-version"),
    pytest.param(lambda payload: rewrite(payload, asset="eu_tech/bars"), "a copy of eu_tech/bars 2020-01-05", id="other-asset"),
    pytest.param(lambda payload: rewrite(payload, partition="2020-01-12"), "a copy of us_tech/bars 2020-01-12", id="other-week"),
    pytest.param(lambda payload: rewrite(payload, revised()), "content [0-9a-f]{12} under a footer for [0-9a-f]{12}", id="other-rows"),
    pytest.param(lambda payload: rewrite(payload, BARS[:-1]), "content [0-9a-f]{12} under a footer for", id="fewer-rows"),
    pytest.param(
        lambda payload: rewrite(payload, rows=400_000_000), "400000000 rows x 11 columns, above 400000000 cells", id="cells"
    ),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "was"), DAMAGES)
def test_read_of_a_damaged_file_refuses_it_by_name(store, damage: Callable[[bytes], bytes], was):
    publish(store)
    path = path_of(store)
    path.write_bytes(damage(path.read_bytes()))
    message = f"`{KEY}` must be the file that was published, was .*{was}.*; make it again: hfp materialise {ASSET} --from {WEEK}; or"
    with pytest.raises(StoredPartitionError, match=message):
        store.read(ASSET, WEEK)


@pytest.mark.parametrize("writer", ["polars", "pyarrow"])
def test_read_of_a_foreign_parquet_file_refuses_it_by_name(store, writer):
    publish(store)
    if writer == "polars":
        BARS.write_parquet(path_of(store))
    else:
        from pyarrow import parquet

        parquet.write_table(BARS.to_arrow(), path_of(store))
    for read in (store.read, store.footer):
        with pytest.raises(
            StoredPartitionError, match=f"`{KEY}` must be .* was a Parquet file written by something else"
        ):
            read(ASSET, WEEK)


def test_read_of_a_file_copied_under_another_name_refuses_it(store):
    publish(store)
    path_of(store, f"{ASSET}/2020-01-12.parquet").write_bytes(path_of(store).read_bytes())
    with pytest.raises(
        StoredPartitionError, match=r"`us_tech/bars/2020-01-12.parquet` must .* was a copy of us_tech/bars 2020-01-05"
    ):
        store.read(ASSET, "2020-01-12")


def test_read_of_randomly_edited_files_never_parses_them(store):
    # Unsealed, such bytes make a Parquet reader ask for exabytes and abort the whole process.
    publish(store)
    sound = path_of(store).read_bytes()
    rng = random.Random(7)
    for _ in range(500):
        edited = bytearray(sound)
        for _ in range(rng.choice([1, 1, 4, 30])):
            edited[rng.randrange(len(edited))] ^= rng.randrange(1, 256)
        if rng.random() < 0.2:
            del edited[rng.randrange(len(edited)) :]
        with pytest.raises(StoredPartitionError):
            decode(bytes(edited), asset=ASSET, partition=WEEK)


@pytest.mark.parametrize(("damage", "was"), [DAMAGES[2], DAMAGES[7], DAMAGES[8]])
def test_republish_over_a_damaged_file_heals_it_and_keeps_its_bytes(store, damage, was):
    publish(store)
    damaged = damage(path_of(store).read_bytes())
    path_of(store).write_bytes(damaged)
    publish(store)
    assert store.read(ASSET, WEEK).frame.equals(BARS)
    kept = f"_damaged/{ASSET}/{WEEK}/{sha256(damaged).hexdigest()}.parquet"
    assert store.objects.get(kept) == damaged


def test_read_of_a_frame_within_the_cells_cap_passes_and_above_it_refuses(store, monkeypatch):
    publish(store)
    monkeypatch.setattr(partition_codec, "MAX_CELLS", BARS.height * BARS.width)
    assert store.read(ASSET, WEEK).frame.height == BARS.height
    monkeypatch.setattr(partition_codec, "MAX_CELLS", BARS.height * BARS.width - 1)
    with pytest.raises(StoredPartitionError, match="20 rows x 11 columns, above 219 cells"):
        store.read(ASSET, WEEK)


# --- attachments


def test_read_attachment_returns_the_published_bytes(store):
    footer = store.publish(ASSET, WEEK, Content(BARS, {"model.ubj": b"trees"}), STAMP).footer
    assert store.read_attachment(footer, "model.ubj") == b"trees"
    assert footer.attachments == {"model.ubj": sha256(b"trees").hexdigest()}
    assert store.attachment_key(footer, "model.ubj").startswith(f"_attached/{ASSET}/{WEEK}/")


def test_read_attachment_of_tampered_bytes_refuses_before_anyone_parses_them(store):
    footer = store.publish(ASSET, WEEK, Content(BARS, {"model.ubj": b"trees"}), STAMP).footer
    key = store.attachment_key(footer, "model.ubj")
    path_of(store, key).write_bytes(b"tree2")
    message = f"`{key}` must have sha256 [0-9a-f]{{12}}, was {sha256(b'tree2').hexdigest()[:12]}; it was changed .*; make it again: hfp materialise {ASSET} --from {WEEK}"
    with pytest.raises(StoredPartitionError, match=message):
        store.read_attachment(footer, "model.ubj")


def test_publish_of_another_attachment_is_another_content_and_keeps_the_old_bytes(store):
    old = store.publish(ASSET, WEEK, Content(BARS, {"model.ubj": b"one"}), STAMP).footer
    new = store.publish(ASSET, WEEK, Content(BARS, {"model.ubj": b"two"}), STAMP)
    assert new.outcome == "changed"
    assert store.read_attachment(old, "model.ubj") == b"one"
    assert store.read_attachment(new.footer, "model.ubj") == b"two"


# --- guards


@pytest.mark.parametrize(
    ("passed", "of", "was"),
    [
        pytest.param(True, revised(), "was passed for", id="another-content"),
        pytest.param(False, BARS, "was failed for", id="failed"),
    ],
)
def test_publish_without_a_passed_verdict_for_its_content_changes_nothing(store, passed, of, was):
    publish(store)
    content = Content(BARS.with_columns(pl.col("close") + 1.0)) if of is not BARS else Content(revised())
    verdict = Verdict(passed, Content(of).content_hash() if of is not BARS else content.content_hash(), 10)
    with pytest.raises(ValueError, match=rf"`{ASSET}` {WEEK} must have a passed replay verdict .*, {was}"):
        store.publish(ASSET, WEEK, content, STAMP, verdicts={"replay": verdict})
    assert store.read(ASSET, WEEK).frame.equals(BARS)
    assert store.objects.all_keys() == [KEY]


def test_publish_with_its_verdict_records_it_in_the_footer(store):
    content = Content(BARS)
    verdict = Verdict(True, content.content_hash(), 10)
    store.publish(ASSET, WEEK, content, STAMP, verdicts={"replay": verdict})
    assert store.footer(ASSET, WEEK).verdicts == {"replay": verdict}


def test_reject_keeps_the_bytes_apart_and_never_current(store):
    verdict = Verdict(False, Content(BARS).content_hash(), 10, ("roc_5 of AAA",))
    address = store.reject(ASSET, WEEK, Content(BARS), STAMP, verdicts={"replay": verdict})
    assert store.footer(ASSET, WEEK) is None
    assert store.partitions(ASSET) == []
    rejected = decode(Path(address).read_bytes(), asset=ASSET, partition=WEEK)
    assert rejected.footer.verdicts["replay"].findings == ("roc_5 of AAA",)
    assert rejected.frame.equals(BARS)


# --- issues

SIGNALS = pl.DataFrame(
    {
        "symbol": ["AAA", "BBB", "CCC"],
        "session": [date(2020, 1, 6)] * 3,
        "ts": [datetime(2020, 1, 6, 21, tzinfo=UTC)] * 3,
        "weight": [0.5, -0.5, 0.0],
        "prediction": [0.02, -0.01, None],
        "model_version": ["m1"] * 3,
        "created_at": [datetime(2020, 1, 6, 22, tzinfo=UTC)] * 3,
        "issue_kind": ["live"] * 3,
    }
)


def issue(store: PartitionStore, frame: pl.DataFrame, day: str) -> Published:
    content = Content(frame, facts={"schema_version": 1})
    return store.publish("trend/signals", day, content, STAMP, kind="signals")


def test_issue_of_a_day_is_written_once_and_a_recomputation_goes_to_versions(store):
    first = issue(store, SIGNALS, "2020-01-06")
    before = path_of(store, "trend/signals/2020-01-06.parquet").read_bytes()
    other = SIGNALS.with_columns(weight=pl.Series([0.5, -0.25, 0.0]), issue_kind=pl.lit("backfill"))
    second = issue(store, other, "2020-01-06")
    assert (first.outcome, second.outcome) == ("new", "shadow")
    assert path_of(store, "trend/signals/2020-01-06.parquet").read_bytes() == before
    assert store.versions("trend/signals", "2020-01-06") == [second.footer.content_hash]
    shadow = decode(Path(second.address).read_bytes(), asset="trend/signals", partition="2020-01-06")
    assert shadow.frame.equals(other)
    assert second.differences.rows(named=True) == [
        {
            "symbol": "BBB",
            "ts": datetime(2020, 1, 6, 21, tzinfo=UTC),
            "weight_issued": -0.5,
            "prediction_issued": -0.01,
            "weight_recomputed": -0.25,
            "prediction_recomputed": -0.01,
        }
    ]


def test_issue_of_the_same_signals_later_stays_live(store):
    issue(store, SIGNALS, "2020-01-06")
    later = SIGNALS.with_columns(created_at=pl.lit(datetime(2021, 1, 6, tzinfo=UTC)), issue_kind=pl.lit("backfill"))
    again = issue(store, later, "2020-01-06")
    assert again.outcome == "unchanged"
    assert store.read("trend/signals", "2020-01-06").frame["issue_kind"].unique().to_list() == ["live"]
    assert store.versions("trend/signals", "2020-01-06") == []


def test_issue_over_a_damaged_issue_is_refused_and_rewrites_nothing(store):
    issue(store, SIGNALS, "2020-01-06")
    path = path_of(store, "trend/signals/2020-01-06.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    damaged = path.read_bytes()
    with pytest.raises(StoredPartitionError, match="2020-01-06.parquet` must be the file that was published"):
        issue(store, SIGNALS, "2020-01-06")
    assert path.read_bytes() == damaged


def test_compare_issues_of_changed_gone_and_new_symbols_shows_each():
    ts = datetime(2020, 1, 6, 21, tzinfo=UTC)
    values = {"symbol": ["AAA", "CCC", "DDD"], "weight": [0.5, 0.1, 1.0], "prediction": [0.02, None, 0.3]}
    assert compare_issues(SIGNALS, pl.DataFrame({**values, "ts": [ts] * 3})).rows() == [
        ("BBB", ts, -0.5, -0.01, None, None),
        ("CCC", ts, 0.0, None, 0.1, None),
        ("DDD", ts, None, None, 1.0, 0.3),
    ]
    assert compare_issues(SIGNALS, SIGNALS).is_empty()


def test_compare_issues_of_hours_compares_each_time_with_itself():
    # Two hours of three members: nine rows of the one issue would meet four of the other by their symbols alone.
    earlier = pl.col("ts") - timedelta(hours=1)
    hours = pl.concat([SIGNALS.with_columns(earlier, weight=-pl.col("weight")), SIGNALS])
    assert compare_issues(hours, hours).is_empty()
    changed = hours.with_columns(
        weight=pl.when((pl.col("symbol") == "BBB") & (pl.col("ts") == SIGNALS["ts"][0])).then(0.1).otherwise("weight")
    )
    assert compare_issues(hours, changed).rows() == [("BBB", SIGNALS["ts"][0], -0.5, -0.01, 0.1, -0.01)]


# --- a disk that fills up, a process that is killed


def incompressible(n_rows: int) -> pl.DataFrame:
    rng = random.Random(3)
    return pl.DataFrame({"x": [rng.random() for _ in range(n_rows)]})


def test_publish_on_a_full_disk_leaves_the_old_partition_intact(small_disk):
    store = PartitionStore(ObjectStore(str(small_disk)))
    old = incompressible(2_000)
    publish(store, old)
    with pytest.raises(StorageUnavailableError, match=f"`{KEY}` must be written in .*, was refused: No space left"):
        publish(store, incompressible(40_000))
    assert store.read(ASSET, WEEK).frame.equals(old)
    # There is room for a small content again: nothing that failed was left behind.
    publish(store, incompressible(3_000))
    assert store.read(ASSET, WEEK).frame.equals(incompressible(3_000))


def test_publish_beyond_a_file_size_limit_leaves_the_old_partition_intact(tmp_path):
    script = f"""
import resource, signal, sys
from hf_pipelines_tests.resources.test_partition_store import *
store = PartitionStore(ObjectStore({str(tmp_path)!r}))
publish(store, incompressible(2_000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    publish(store, incompressible(40_000))
except StorageUnavailableError as e:
    print("refused:", e)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert f"refused: `{KEY}` must be written" in done.stdout, done.stderr
    store = PartitionStore(ObjectStore(str(tmp_path)))
    assert store.read(ASSET, WEEK).frame.equals(incompressible(2_000))


PUBLISHER = """
import sys
from hf_pipelines_tests.resources.test_partition_store import *
store = PartitionStore(ObjectStore(sys.argv[1]))
frames = [incompressible(20_000).with_columns(pl.col("x") + number) for number in range(4)]
print("ready", flush=True)
for number in range(1_000_000):
    for week in ("2020-01-05", "2020-01-12"):
        store.publish(ASSET, week, Content(frames[number % 4], {"model.ubj": bytes(100_000)}), STAMP)
"""


def test_publish_killed_at_random_moments_leaves_only_whole_files(tmp_path):
    rng = random.Random(11)
    store = PartitionStore(ObjectStore(str(tmp_path)))
    for _ in range(10):
        child = subprocess.Popen([sys.executable, "-c", PUBLISHER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.02 + 0.2 * rng.random())
        os.kill(child.pid, signal.SIGKILL)
        child.wait(timeout=10)
        child.stdout.close()
        for key in store.objects.all_keys():
            if key.startswith("_attached/"):
                continue
            place, name = key.rsplit("/", 1)
            is_version = key.startswith("_versions/")
            week = place.rsplit("/", 1)[1] if is_version else name.removesuffix(".parquet")
            stored = decode(store.objects.get(key), asset=ASSET, partition=week)
            assert store.read_attachment(stored.footer, "model.ubj") == bytes(100_000)
    # The killed processes had published, and revised.
    assert store.partitions(ASSET)
    assert store.versions(ASSET, store.partitions(ASSET)[0])


# --- S3


def test_s3_store_has_the_hashes_of_the_disk_and_keeps_versions_and_issues(store, s3_store):
    for frame in (BARS, revised()):
        on_disk, on_s3 = publish(store, frame).footer, publish(s3_store, frame).footer
        assert on_s3 == on_disk
        assert s3_store.objects.get(KEY) == store.objects.get(KEY)
    assert s3_store.objects.all_keys() == store.objects.all_keys()
    assert s3_store.versions(ASSET, WEEK) == store.versions(ASSET, WEEK)
    assert s3_store.read(ASSET, WEEK).frame.equals(revised())
    assert [issue(s3_store, SIGNALS, "2020-01-06").outcome for _ in range(2)] == ["new", "unchanged"]
    shadow = issue(s3_store, SIGNALS.with_columns(weight=0.1), "2020-01-06")
    assert (shadow.outcome, shadow.differences.height) == ("shadow", 3)
    assert s3_store.read("trend/signals", "2020-01-06").frame.equals(SIGNALS)
    s3_store.objects.put(KEY, truncate(s3_store.objects.get(KEY)))
    with pytest.raises(StoredPartitionError, match="no whole Parquet file"):
        s3_store.read(ASSET, WEEK)
