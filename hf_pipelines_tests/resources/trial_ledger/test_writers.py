"""Writers: no record is lost or doubled by processes that run at once, are killed, or meet a full disk and other clocks."""

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hf_pipelines.resources import settings
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.storage_errors import StorageUnavailableError
from hf_pipelines.resources.trial_ledger import TrialLedger, n_trials, verify_chains, writers
from hf_pipelines.resources.trial_ledger.records import RECORDS, SEGMENTS
from hf_pipelines.resources.trial_ledger.segments import seal_loose
from hf_pipelines_tests.resources.trial_ledger.trying import begin_records, new_process, run_processes, slot, try_one


def is_sound(ledger: TrialLedger) -> bool:
    return verify_chains(ledger.contents()) == []


def test_next_process_goes_on_with_the_chain(ledger, objects):
    try_one(ledger, 0)
    new_process()
    try_one(ledger, 1)
    assert len(objects.folders(RECORDS)) == 1
    assert is_sound(ledger) and n_trials(ledger.known()) == 2


def test_process_that_was_killed_before_it_noted_its_head_is_followed(ledger, objects):
    try_one(ledger, 0)
    (file,) = writers.writers_folder(objects).iterdir()
    noted = file.read_bytes()
    try_one(ledger, 1)
    new_process()
    file.write_bytes(noted)
    try_one(ledger, 2)
    assert len(objects.folders(RECORDS)) == 1
    assert is_sound(ledger) and n_trials(ledger.known()) == 3


@pytest.mark.parametrize(
    "left", [b"", b"half a l", b"\xff" * 300, b"0" * 16 + b" 5 short\n"], ids=["empty", "half", "junk", "short"]
)
def test_head_that_cannot_be_read_begins_a_chain(ledger, objects, left):
    try_one(ledger, 0)
    new_process()
    (file,) = writers.writers_folder(objects).iterdir()
    file.write_bytes(left)
    try_one(ledger, 1)
    assert len(objects.folders(RECORDS)) == 2
    assert is_sound(ledger) and n_trials(ledger.known()) == 2


def test_copied_data_folder_begins_a_chain_of_its_own(ledger, objects, tmp_path, monkeypatch):
    try_one(ledger, 0)
    new_process()
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    copy = TrialLedger(objects, "other")
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path / "copy"))
    try_one(copy, 1)
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path / "data"))
    for number in (2, 3):
        # By turns: each finds the numbers of the other taken.
        try_one(ledger, number)
        monkeypatch.setenv("HF_DATA_DIR", str(tmp_path / "copy"))
        try_one(copy, number + 10)
        monkeypatch.setenv("HF_DATA_DIR", str(tmp_path / "data"))
    assert is_sound(ledger) and n_trials(ledger.known()) == 6


def test_data_folder_that_is_none_is_named(objects, tmp_path):
    new_process()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "trial_writers").write_text("")
    with pytest.raises(StorageUnavailableError, match="`HF_DATA_DIR` must be a folder that can be written"):
        try_one(TrialLedger(objects, "tester"))
    assert not objects.keys(RECORDS)


def test_tail_that_was_cut_off_is_not_filled_up(ledger, objects):
    for number in range(3):
        try_one(ledger, number)
    new_process()
    objects.delete_each(objects.keys(RECORDS)[-2:])
    try_one(ledger, 9)
    (fault,) = verify_chains(ledger.contents())
    assert fault.n == 4 and "was dropped" in fault.what


def test_two_threads_and_another_store_share_nothing_by_mistake(ledger, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    other = TrialLedger(ObjectStore(str(tmp_path / "other")), "tester")
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: try_one(ledger if number % 2 else other, number), range(16)))
    for each in (ledger, other):
        assert is_sound(each) and n_trials(each.known()) == 8
        assert len(each.objects.folders(RECORDS)) == 1


def test_five_hundred_records_are_sealed(ledger, objects, monkeypatch):
    monkeypatch.setattr(writers, "SEGMENT_RECORDS", 10)
    assert len([*begin_records(objects, 0, 12)]) == 12
    new_process()
    # The next process seals what the last one has left with its own.
    assert len([*begin_records(objects, 12, 10)]) == 10
    assert len(objects.keys(SEGMENTS)) == 2
    assert len(objects.keys(RECORDS)) == 2
    assert is_sound(ledger) and n_trials(ledger.known()) == 22


def test_single_records_of_writers_that_are_gone_are_packed(ledger, objects, monkeypatch):
    from hf_pipelines.resources.trial_ledger import segments

    monkeypatch.setattr(segments, "LEAST_PACKED", 6)
    for number in range(3):
        try_one(ledger, number)
        new_process()
        shutil.rmtree(settings.data_dir())
    assert seal_loose(objects) == 6
    assert objects.keys(RECORDS) == [] and len(objects.keys(SEGMENTS)) == 1
    assert seal_loose(objects) == 0
    assert is_sound(ledger) and n_trials(ledger.known()) == 3


def test_clocks_an_hour_apart_and_one_that_jumps_change_no_count(objects):
    new_process()
    times = iter(datetime(2024, 1, 1, 12, tzinfo=UTC) + timedelta(hours=each) for each in (0, -1, 5, -9, 2, 1, 3, 0))
    ledger = TrialLedger(objects, "tester", now=lambda: next(times))
    for number in range(4):
        trial = ledger.begin(slot(number % 3), source="cross_validation", kind="selection")
        trial.end()
    assert is_sound(ledger)
    known = ledger.known()
    assert n_trials(known) == 3 and known["outcome"].to_list() == ["completed"] * 3


def test_processes_at_once_with_kills_lose_and_double_nothing(tmp_path):
    assert run_processes(tmp_path, n_processes=3, n_records=60, kills=1) == (180, 180)


def test_full_disk_fails_the_trial_and_the_chain_stays_sound(small_disk, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path / "data"))
    new_process()
    objects = ObjectStore(str(small_disk / "store"))
    ledger = TrialLedger(objects, "tester")
    try_one(ledger, 0)
    room = os.statvfs(small_disk)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(room.f_bavail * room.f_frsize))
    with pytest.raises(StorageUnavailableError, match="must be written"):
        ledger.begin(slot(1), source="cross_validation")
    assert is_sound(ledger) and n_trials(ledger.known()) == 1
    filler.unlink()
    try_one(ledger, 1)
    assert is_sound(ledger) and n_trials(ledger.known()) == 2
    # Nothing half written is left.
    assert not [path for path in Path(objects.uri).rglob("*#*")]


def test_ledger_in_a_bucket_is_the_same(s3_store, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(writers, "SEGMENT_RECORDS", 5)
    new_process()
    ledger = TrialLedger(s3_store.objects, "tester")
    for number in range(3):
        try_one(ledger, number)
    new_process()
    try_one(ledger, 3)
    assert is_sound(ledger) and n_trials(ledger.known()) == 4
    assert len(s3_store.objects.keys(SEGMENTS)) == 1
