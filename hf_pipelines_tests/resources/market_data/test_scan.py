"""Scanning a landing folder: what has changed, by names and times alone, bounded, on disk and on S3 alike."""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from time import perf_counter, process_time
from typing import Any

import pytest

from hf_pipelines.partitions import week_key
from hf_pipelines.resources.market_data.files import SETTLE_S, FilesSource, Scan, session_of_name
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.storage_errors import StorageOutageError, StorageUnavailableError

BUCKET = "hf-test"
LATER = datetime.now(UTC) + timedelta(days=1)

# Processor time, which tells more than the clock on a machine that does other things as well. That of S3 has the
# server's share in it, which is in this process: on a quiet machine it is 1 s, where a tick may take 1.5 s.
MAX_CPU_S = {"disk": 1.0, "s3": 3.0}


@dataclass
class Place:
    """A landing folder or prefix, and the requests that looked at it."""

    source: FilesSource
    put: Callable[[str, bytes], object]
    requests: list[str]


def sessions(n: int, *, start: date = date(2012, 1, 2)) -> list[date]:
    days = (start + timedelta(days=offset) for offset in range(2 * n + 7))
    return [day for day in days if day.weekday() < 5][:n]


def disk_place(folder: Path) -> Place:
    folder.mkdir(parents=True, exist_ok=True)

    def put(name: str, payload: bytes) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(payload)

    return Place(FilesSource(ObjectStore(str(folder))), put, [])


def s3_place(prefix: str, endpoint: str) -> Place:
    import boto3

    client, requests = boto3.client("s3", endpoint_url=endpoint), []
    client.meta.events.register(
        "before-send.s3.ListObjectsV2", lambda request, **_: requests.append(request.url.partition("?")[2])
    )
    source = FilesSource(ObjectStore(f"s3://{BUCKET}/{prefix}", endpoint), client)

    def put(name: str, payload: bytes) -> None:
        client.put_object(Bucket=BUCKET, Key=f"{prefix}/{name}", Body=payload)

    return Place(source, put, requests)


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "disk":
        return disk_place(tmp_path / "landing")
    return s3_place(f"{tmp_path.name}/landing", request.getfixturevalue("s3_endpoint"))


def walk(source: FilesSource, **options: Any) -> Iterator[Scan]:
    """Scans from the start of the folder to its end."""
    start_after = ""
    for _ in range(1000):
        scan = source.scan(start_after=start_after, now=LATER, **options)
        yield scan
        assert scan.next_key == "" or scan.next_key > start_after
        start_after = scan.next_key
        if not start_after:
            return
    raise AssertionError("no end after 1000 scans")


# --- what it sees


def test_scan_of_two_weeks_gives_a_fingerprint_each_and_names_the_strays(place):
    for day in ("2013-02-22", "2013-02-25", "2013-02-26"):
        place.put(f"{day}.parquet", b"x")
    for name in ("notes.txt", "2013-02-26.csv.tmp", "2013-13-45.csv", "0001-01-01.csv", "9999-12-31.csv", "x.csv"):
        place.put(name, b"x")
    place.put("archive/2013-02-27.parquet", b"x")
    scan = place.source.scan(now=LATER)
    assert sorted(scan.fingerprints) == ["2013-02-17", "2013-02-24"]
    assert all(len(each) == 16 for each in scan.fingerprints.values())
    assert (scan.next_key, scan.is_settling, scan.n_objects) == ("", False, 9)
    # Five of the six, in the order of their names.
    assert scan.strays == ("0001-01-01.csv", "2013-02-26.csv.tmp", "2013-13-45.csv", "9999-12-31.csv", "notes.txt")


def test_scan_of_an_empty_place_sees_nothing(place):
    assert place.source.scan(now=LATER, recent_from=date(2013, 1, 1)) == Scan({}, "", False, 0, ())


def test_scan_after_a_new_a_revised_and_a_removed_file_changes_the_fingerprint_of_its_week_only(place):
    for day in ("2013-02-22", "2013-02-25", "2013-02-26", "2013-03-04"):
        place.put(f"{day}.csv", b"first")
    seen = [dict(place.source.scan(now=LATER).fingerprints)]
    for change in (
        lambda: place.put("2013-02-27.csv", b"first"),
        lambda: place.put("2013-02-26.csv", b"other"),
        lambda: place.put("2013-02-26.csv", b"longer"),
    ):
        change()
        seen.append(dict(place.source.scan(now=LATER).fingerprints))
    assert len({each["2013-02-24"] for each in seen}) == 4
    assert len({(each["2013-02-17"], each["2013-03-03"]) for each in seen}) == 1


def test_scan_of_a_file_replaced_by_one_of_the_same_size_and_time_changes_the_fingerprint(tmp_path):
    place = disk_place(tmp_path)
    path = tmp_path / "2013-02-25.csv"
    path.write_bytes(b"first")
    os.utime(path, ns=(10**18, 10**18))
    before = place.source.scan(now=LATER).fingerprints
    (tmp_path / "other").write_bytes(b"other")
    os.utime(tmp_path / "other", ns=(10**18, 10**18))
    (tmp_path / "other").rename(path)
    assert path.stat().st_mtime_ns == 10**18
    assert place.source.scan(now=LATER).fingerprints != before


def test_scan_of_the_same_object_put_again_on_s3_gives_the_same_fingerprint(s3_endpoint, tmp_path):
    place = s3_place(tmp_path.name, s3_endpoint)
    place.put("2013-02-25.csv", b"first")
    before = place.source.scan(now=LATER)
    place.put("2013-02-25.csv", b"first")
    assert place.source.scan(now=LATER) == before


def test_scan_of_names_that_no_text_holds_shows_them_escaped(tmp_path):
    for name in (b"2013-02-25.csv", b"2013-02-25\xff.csv", b"2013-02-26\n.csv", b"\xc3\xa9.csv", b"x" * 200):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(b"x")
    (tmp_path / "2013-02-27.csv").mkdir()
    (tmp_path / "2013-02-28.csv").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "2013-03-01.csv")
    source = disk_place(tmp_path).source
    scan = source.scan(now=LATER)
    assert list(scan.fingerprints) == ["2013-02-24"]
    irregular = ("2013-02-27.csv (a folder)", "2013-02-28.csv (a symbolic link)", "2013-03-01.csv (a pipe)")
    assert scan.strays == (*irregular, "2013-02-25\\udcff.csv", "2013-02-26\\n.csv")
    assert scan.n_objects == 8
    named = [each.partition(" ")[0] for each in irregular]
    assert list(source.listing(sessions(5, start=date(2013, 2, 25)))) == ["2013-02-25.csv", *named]
    # A cursor may be any of these names.
    assert source.scan(now=LATER, start_after=os.fsdecode(b"2013-02-25\xff.csv")).n_objects == 6


@pytest.mark.parametrize(
    ("name", "session"),
    [
        ("2013-02-25.parquet", date(2013, 2, 25)),
        ("2013-02-25-late.csv", date(2013, 2, 25)),
        ("2013-02-30.csv", None),
        ("1899-12-29.csv", None),
        ("2200-01-02.csv", None),
        ("٢٠١٣-٠٢-٢٥.csv", None),
        ("2013-W09-1.csv", None),
        ("2013-02-25.parquet\n", None),
        ("2013-02-25", None),
    ],
)
def test_session_of_name_takes_days_of_a_market_only(name, session):
    assert session_of_name(name) == session


# --- settling


@pytest.mark.parametrize(
    ("age_s", "is_settling"),
    [
        pytest.param(0.0, True, id="now"),
        pytest.param(SETTLE_S - 0.01, True, id="just-young"),
        pytest.param(SETTLE_S, False, id="settled"),
        pytest.param(86_400.0, False, id="old"),
        pytest.param(-0.01, False, id="just-ahead"),
        pytest.param(-86_400.0, False, id="a-day-ahead"),
    ],
)
def test_scan_of_a_young_file_is_settling_but_of_one_from_the_future_is_not(tmp_path, age_s, is_settling):
    place = disk_place(tmp_path)
    for name in ("2013-02-25.csv", "2013-02-26.csv"):
        place.put(name, b"x")
        os.utime(tmp_path / name, (1_000_000_000.0, 1_000_000_000.0))
    now = datetime.fromtimestamp(1_000_000_000.0, UTC) + timedelta(seconds=age_s)
    os.utime(tmp_path / "2013-02-25.csv", (1.0, 1.0))
    assert place.source.scan(now=now).is_settling is is_settling


def test_scan_of_a_young_stray_is_not_settling(place):
    place.put("2013-02-25.csv.tmp", b"x")
    assert not place.source.scan(now=datetime.now(UTC)).is_settling


def test_scan_right_after_an_arrival_on_s3_is_settling_and_a_moment_later_not(s3_endpoint, tmp_path):
    place = s3_place(tmp_path.name, s3_endpoint)
    place.put("2013-02-25.csv", b"x")
    # S3 tells whole seconds: the time is that or up to a second before.
    assert place.source.scan(now=datetime.now(UTC)).is_settling
    assert not place.source.scan(now=datetime.now(UTC) + timedelta(seconds=SETTLE_S + 1)).is_settling


# --- bounds


def test_scan_with_a_limit_ends_before_a_week_that_is_cut_and_goes_on_there(place):
    for day in sessions(15, start=date(2013, 2, 11)):
        place.put(f"{day}.csv", b"x")
    first = place.source.scan(limit=8, now=LATER)
    assert (list(first.fingerprints), first.next_key, first.n_objects) == (["2013-02-10"], "2013-02-17", 8)
    second = place.source.scan(start_after=first.next_key, limit=8, now=LATER)
    assert (list(second.fingerprints), second.next_key, second.n_objects) == (["2013-02-17"], "2013-02-24", 8)
    third = place.source.scan(start_after=second.next_key, limit=8, now=LATER)
    assert (list(third.fingerprints), third.next_key, third.n_objects) == (["2013-02-24"], "", 5)


def test_scan_after_a_key_inside_a_week_leaves_that_week_out(place):
    for day in sessions(10, start=date(2013, 2, 18)):
        place.put(f"{day}.csv", b"x")
    scan = place.source.scan(start_after="2013-02-20.csv", now=LATER)
    assert list(scan.fingerprints) == ["2013-02-24"]


def test_scan_of_a_week_with_more_files_than_the_limit_reads_it_to_its_end(place):
    for n in range(23):
        place.put(f"2013-02-26-{n:02}.csv", b"x")
    place.put("2013-03-04.csv", b"x")
    scans = list(walk(place.source, limit=5))
    whole = place.source.scan(now=LATER)
    assert {week: each for scan in scans for week, each in scan.fingerprints.items()} == whole.fingerprints
    assert sorted(whole.fingerprints) == ["2013-02-24", "2013-03-03"]


def test_scan_with_recent_from_sees_a_new_day_however_long_the_history_is(place):
    days = sessions(60)
    for day in days:
        place.put(f"{day}.csv", b"x")
    before = place.source.scan(limit=10, recent_from=days[-1], now=LATER)
    assert list(before.fingerprints) == [week_key(days[0]), week_key(days[-1])]
    following = days[-1] + timedelta(days=3)
    place.put(f"{following}.csv", b"x")
    after = place.source.scan(limit=10, recent_from=days[-1], now=LATER)
    assert list(after.fingerprints) == [week_key(days[0]), week_key(days[-1]), week_key(following)]
    assert after.fingerprints[week_key(days[-1])] == before.fingerprints[week_key(days[-1])]
    assert after.n_objects == 16
    # The cursor is the history's: what is recent is looked at each time.
    assert after.next_key == before.next_key
    assert len(place.requests) <= 4


def test_scan_with_files_beyond_all_weeks_reports_the_last_week(place):
    place.put("2013-02-25.csv", b"x")
    for n in range(8):
        place.put(f"zz{n}.txt", b"x")
    assert list(place.source.scan(limit=3, now=LATER).fingerprints) == ["2013-02-24"]


@pytest.mark.parametrize("seed", range(3))
def test_scan_by_parts_of_any_size_reports_each_week_once_and_as_the_whole_does(place, seed):
    rng = random.Random(seed)
    days = rng.sample(sessions(80), 40)
    names = {f"{day}{rng.choice(['', '-late', '.v2'])}.{rng.choice(['csv', 'parquet'])}" for day in days * 2}
    names |= {f"{day}.csv.tmp{rng.randrange(9)}" for day in rng.sample(days, 9)}
    names |= {rng.choice(["A", "zz", "2012-99-99", "20", "~"]) + str(n) for n in range(6)}
    for name in names:
        place.put(name, b"x")
    whole = place.source.scan(now=LATER)
    assert whole.n_objects == len(names)
    assert set(whole.fingerprints) == {week_key(day) for day in days}
    # Each is a request on S3.
    for limit in (7, 40, 200) if place.source.s3 else (1, 2, 3, 7, 20, 200):
        scans = list(walk(place.source, limit=limit))
        reported = [week for scan in scans for week in scan.fingerprints]
        assert len(reported) == len(set(reported))
        assert {week: each for scan in scans for week, each in scan.fingerprints.items()} == whole.fingerprints
        recent = rng.choice(days)
        for scan in walk(place.source, limit=limit, recent_from=recent):
            assert scan.fingerprints.items() <= whole.fingerprints.items()
            if limit == 200:
                assert week_key(recent) in scan.fingerprints


def test_scan_of_a_limit_below_one_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`limit` must be at least 1, was 0"):
        disk_place(tmp_path).source.scan(limit=0, now=LATER)


def fill_s3(prefix: str, names: list[str]) -> None:
    """Objects laid straight into moto's memory: by HTTP 5,000 take half a minute."""
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    for name in names:
        backend.put_object(BUCKET, f"{prefix}/{name}", b"x" * 10)


def test_scan_of_5000_objects_is_quick_and_takes_one_request_a_thousand(place, tmp_path, request):
    is_s3, kind = bool(place.source.s3), request.node.callspec.id
    names = [f"{day}.parquet" for day in sessions(5000, start=date(2000, 1, 3))]
    if is_s3:
        fill_s3(f"{tmp_path.name}/landing", names)
        # Below the prefix of another market, and in a sub-folder: neither is listed.
        fill_s3(f"{tmp_path.name}/landing2", names[:50])
        fill_s3(f"{tmp_path.name}/landing/archive", names[:1500])
    else:
        for name in names:
            place.put(name, b"x" * 10)
    place.requests.clear()
    began, began_cpu = perf_counter(), process_time()
    scan = place.source.scan(now=LATER, recent_from=date(2019, 1, 1))
    wall_s, cpu_s = perf_counter() - began, process_time() - began_cpu
    print(f"5,000 objects on {kind}: {wall_s:.2f} s, {cpu_s:.2f} s of processor, {len(place.requests)} requests")
    assert (scan.n_objects, len(scan.fingerprints), scan.next_key) == (5000, 1000, "")
    assert cpu_s < MAX_CPU_S[kind]
    if is_s3:
        assert len(place.requests) <= 6
        assert all(f"prefix={tmp_path.name}%2Flanding%2F&delimiter=%2F" in each for each in place.requests)
    place.requests.clear()
    bounded = place.source.scan(now=LATER, limit=200, start_after="2005-01-02", recent_from=date(2019, 2, 25))
    assert bounded.n_objects == 205
    # The last of the forty weeks may go on after the limit; the recent one is whole.
    assert len(bounded.fingerprints) == 39 + 1
    assert len(place.requests) <= 2


def test_listing_of_a_week_asks_by_the_prefix_of_each_session_and_of_years_once(s3_endpoint, tmp_path):
    place = s3_place(f"{tmp_path.name}/landing", s3_endpoint)
    days = sessions(1300, start=date(2008, 1, 2))
    fill_s3(f"{tmp_path.name}/landing", [f"{day}.csv" for day in days])
    week = sessions(5, start=date(2012, 2, 6))
    found = [(each.name, day) for each, day in place.source._matches(week)]
    assert found == [(f"{day}.csv", day) for day in week]
    assert len(place.requests) == 5
    assert f"prefix={tmp_path.name}%2Flanding%2F2012-02-06&" in place.requests[0]
    place.requests.clear()
    years = [day for day in days if 2009 <= day.year <= 2011]
    assert [day for _, day in place.source._matches(years)] == years
    # 782 sessions: one page.
    assert len(place.requests) == 1
    assert "start-after" in place.requests[0]


# --- what is not there, or no longer


@pytest.mark.parametrize("uri", ["s3://hf-no-such-bucket/landing", "gs://bucket/landing"])
def test_scan_of_a_place_that_does_not_answer_names_it(s3_endpoint, uri):
    with pytest.raises(StorageUnavailableError, match=rf"{uri}") as caught:
        FilesSource(ObjectStore(uri, s3_endpoint)).scan(now=LATER)
    # Not an outage: no waiting makes a bucket.
    assert type(caught.value) is StorageUnavailableError


def test_scan_of_an_endpoint_that_does_not_answer_fails_by_name_and_soon(s3_endpoint):
    # Port 9 (discard) of this machine: nobody listens, the connection is refused at once.
    source = FilesSource(ObjectStore("s3://bucket/landing", "http://127.0.0.1:9"))
    began = perf_counter()
    for look in (lambda: source.scan(now=LATER), lambda: source.listing([date(2013, 2, 25)])):
        with pytest.raises(StorageOutageError, match="`s3://bucket/landing` must be listed, was refused: "):
            look()
    assert perf_counter() - began < 30


def test_scan_of_a_folder_that_is_not_there_sees_nothing_and_makes_none(tmp_path):
    source = FilesSource(ObjectStore(str(tmp_path / "landing")))
    assert source.scan(now=LATER).n_objects == 0
    assert source.listing([date(2013, 2, 25)]) == {}
    assert list(tmp_path.iterdir()) == []


def test_scan_of_a_folder_that_is_a_file_names_it(tmp_path):
    (tmp_path / "landing").write_text("not a folder")
    with pytest.raises(StorageUnavailableError, match="landing` must be listed, was refused: Not a directory"):
        FilesSource(ObjectStore(str(tmp_path / "landing"))).scan(now=LATER)


def test_read_of_an_object_that_is_gone_since_it_was_listed_leaves_it_out(s3_endpoint, tmp_path):
    place = s3_place(tmp_path.name, s3_endpoint)
    for name in ("2013-02-25.csv", "2013-02-26.csv"):
        place.put(name, name.encode())
    gone = f"{tmp_path.name}/2013-02-26.csv"

    def remove(**_: Any) -> None:
        place.source.s3.delete_object(Bucket=BUCKET, Key=gone)

    place.source.s3.meta.events.register("after-call.s3.ListObjectsV2", remove)
    for look in (place.source.listing, lambda days: [file.name for file in place.source.read(days)]):
        place.put("2013-02-26.csv", b"again")
        # Both names are listed before either is read.
        assert list(look([date(2013, 2, 26)])) == []
        assert list(look([date(2013, 2, 25), date(2013, 2, 26)])) == ["2013-02-25.csv"]


def test_scan_and_read_of_a_file_that_comes_and_goes_see_it_or_not_and_never_fail(tmp_path):
    source, path, is_over = disk_place(tmp_path).source, tmp_path / "2013-02-26.csv", Event()
    (tmp_path / "2013-02-25.csv").write_bytes(b"stays")

    def flicker() -> None:
        while not is_over.is_set():
            path.write_bytes(b"x")
            path.unlink()

    thread = Thread(target=flicker)
    thread.start()
    seen = set()
    try:
        for _ in range(300):
            seen |= {source.scan(now=LATER).n_objects, len(source.listing(sessions(5, start=date(2013, 2, 25))))}
            seen.add(len(source.read(sessions(12, start=date(2013, 2, 25)))))
    finally:
        is_over.set()
        thread.join()
    assert seen == {1, 2}


# --- duplicates


def test_listing_and_read_of_identical_files_of_a_session_name_the_first_only(place):
    place.put("2013-02-25.csv", b"same")
    before = place.source.listing(sessions(5, start=date(2013, 2, 25)))
    place.put("2013-02-25-copy.csv", b"same")
    place.put("2013-02-25-late.csv", b"other")
    # Other sessions' files are compared with their own.
    place.put("2013-02-26.csv", b"same")
    for days in (sessions(5, start=date(2013, 2, 25)), sessions(12, start=date(2013, 2, 25))):
        listed = place.source.listing(days)
        # `2013-02-25-copy.csv` comes first in the alphabet: the shorter name stays whatever copies arrive.
        assert list(listed) == ["2013-02-25.csv", "2013-02-25-late.csv", "2013-02-26.csv"]
        assert before.items() < listed.items()
        assert [(file.name, file.sha256) for file in place.source.read(days)] == list(listed.items())


def test_source_with_a_client_of_its_own_is_the_same_source(s3_endpoint, tmp_path):
    place = s3_place(tmp_path.name, s3_endpoint)
    place.put("2013-02-25.csv", b"x")
    assert replace(place.source, s3=None).scan(now=LATER) == place.source.scan(now=LATER)
