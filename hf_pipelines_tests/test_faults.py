"""Faults: runs killed with SIGKILL, full disks, roots that cannot be written, damaged files. Nothing is lost."""

import dataclasses
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hf_pipelines.partitions import shift_week
from hf_pipelines.research.learners import LEARNERS
from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines_tests.checkout import FIRST_BARS, WEEK, Checkout, built_checkout
from hf_pipelines_tests.fault_folder import FaultFolder
from hf_pipelines_tests.pipeline import Project
from hf_pipelines_tests.servers import wait_until

BARS, MODEL = "us_tech/bars", "short_trees/fitted_model"
STAMP = Stamp("old", "old", "2013-01-01T00:00:00+00:00")
KILLS = 3
FREE_BYTES = 96 * 1024


def publish_old(store: PartitionStore, asset: str, key: str, source: PartitionStore) -> str:
    """Make another content current: what was there before the run under test. Returns its hash."""
    stored = source.read(asset, key)
    column = next(name for name, dtype in stored.frame.schema.items() if dtype.is_numeric())
    frame = stored.frame.with_columns((pl.col(column) * 2).cast(stored.frame.schema[column]))
    content = Content(frame, attachments={name: b"the old model" for name in stored.footer.attachments})
    return store.publish(asset, key, content, STAMP).footer.content_hash


def kill_when(checkout: Checkout, arguments: list[str], has_begun: Callable[[], bool], delay_s: float) -> None:
    """Start `hfp`, and SIGKILL it `delay_s` after `has_begun`; a run that was quicker has ended by itself."""
    process = checkout.start(checkout.command(*arguments))
    try:
        # What has begun ends within a second or two.
        wait_until(lambda: has_begun() or process.poll() is not None, "moment to kill", timeout_s=90, longest_s=0.05)
        with suppress(subprocess.TimeoutExpired):
            process.wait(delay_s)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.servers
def test_bars_killed_in_mid_publish_leave_each_week_old_or_new_and_a_retry_gives_the_identical_hashes(
    tmp_path: Path,
) -> None:
    built = built_checkout()
    checkout = Checkout(built.checkout.root, tmp_path / "data")
    store = checkout.store()
    new = {key.split("/")[-1]: each for key, each in built.hashes.items() if key.startswith(f"{BARS}/")}
    old = {key: publish_old(store, BARS, key, built.checkout.store()) for key in new}
    arguments = ["materialise", BARS, "--from", FIRST_BARS, "--to", WEEK]

    def hashes() -> dict[str, str]:
        # Reading recomputes each hash: half a file would be refused.
        return {key: store.read(BARS, key).footer.content_hash for key in store.partitions(BARS)}

    # The planted fault dies at the put of one week: later in the range each time, at another point of it.
    faults = FaultFolder(tmp_path / "faults")
    dying = dataclasses.replace(checkout, env=faults.env)
    weeks, done = sorted(new), []
    chosen = sorted(random.Random(2).sample(range(1, len(weeks) - 1), 3))
    for number, point in zip(chosen, ("before", "during", "after"), strict=True):
        faults.plant(point, key=f"{BARS}/{weeks[number]}\\.parquet")
        assert dying.hfp(*arguments).returncode < 0, "a signal must have ended it"
        found = hashes()
        assert {key: found[key] in (old[key], new[key]) for key in new} == dict.fromkeys(new, True)
        done.append(sum(found[key] == new[key] for key in new))
    assert done == [chosen[0], chosen[1], chosen[2] + 1]

    checkout.succeed(*arguments)
    assert hashes() == new
    # Each old content is kept, also where the kill fell between keeping it and replacing it.
    assert {key: store.versions(BARS, key) for key in new} == {key: [old[key]] for key in new}


@pytest.mark.servers
def test_fitted_model_killed_in_mid_training_leaves_the_old_one_and_a_retry_gives_the_identical_hash(
    tmp_path: Path,
) -> None:
    built = built_checkout()
    checkout = built.checkout.copy_of_data(tmp_path / "data")
    store, new = checkout.store(), built.hashes[f"{MODEL}/{WEEK}"]
    old = publish_old(store, MODEL, WEEK, store)
    assert old != new
    tracker = sqlite3.connect(f"file:{checkout.data / 'mlflow.db'}?mode=ro", uri=True)

    def running() -> int:
        with suppress(sqlite3.OperationalError):
            return int(tracker.execute("SELECT count(*) FROM runs WHERE status = 'RUNNING'").fetchone()[0])
        return 0

    moments, found = random.Random(3), []
    for _ in range(KILLS):
        before = running()
        kill_when(
            checkout,
            ["materialise", MODEL, "--from", WEEK],
            lambda before=before: running() > before,
            moments.uniform(0.0, 0.2),
        )
        found.append(store.read(MODEL, WEEK).footer.content_hash)
    assert found == [old] * KILLS
    assert running() == KILLS

    checkout.succeed("materialise", MODEL, "--from", WEEK)
    stored = store.read(MODEL, WEEK)
    assert stored.footer.content_hash == new
    assert store.read_attachment(stored.footer, "model.ubj") == built.checkout.store().read_attachment(
        stored.footer, "model.ubj"
    )
    # What the failure sensor does for each run whose process was killed.
    tracking = MLflowTracking(uri=f"sqlite:///{checkout.data / 'mlflow.db'}")
    left = tracker.execute(
        "SELECT value FROM tags JOIN runs USING (run_uuid) WHERE key = 'hf.root_run_id' AND status = 'RUNNING'"
    ).fetchall()
    assert [len(tracking.end_runs_of(root)) for (root,) in left] == [1] * KILLS
    assert running() == 0
    tracker.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    if os.geteuid() != 0:
        pytest.skip("a file system of its own needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip(f"this machine does not let root mount: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.servers
def test_bars_on_a_disk_that_fills_in_mid_publish_keep_the_old_weeks_and_say_why(
    tmp_path: Path, small_disk: Path
) -> None:
    built = built_checkout()
    root = small_disk / "storage"
    checkout = Checkout(built.checkout.root, tmp_path / "data", env={"HF_STORAGE_URI": str(root)})
    store = PartitionStore(ObjectStore(str(root)))
    new = {key.split("/")[-1]: each for key, each in built.hashes.items() if key.startswith(f"{BARS}/")}
    old = {key: publish_old(store, BARS, key, built.checkout.store()) for key in new}
    filler = small_disk / "filler"
    disk = os.statvfs(small_disk)
    filler.write_bytes(b"x" * (disk.f_bavail * disk.f_frsize - FREE_BYTES))
    arguments = ["materialise", BARS, "--from", FIRST_BARS, "--to", WEEK]

    failed = checkout.hfp(*arguments)
    assert failed.returncode == 1
    (line,) = failed.stderr.splitlines()
    assert line.startswith("hfp: `")
    assert f"must be written in {root}, was refused" in line
    assert "No space left on device" in line
    found = {key: store.read(BARS, key).footer.content_hash for key in store.partitions(BARS)}
    changed = [key for key in new if found[key] == new[key]]
    # It filled in the middle: some weeks are new, the others what they were, none is lost.
    assert 0 < len(changed) < len(new)
    assert {key: each for key, each in found.items() if key not in changed} == {
        key: each for key, each in old.items() if key not in changed
    }

    filler.unlink()
    checkout.succeed(*arguments)
    assert {key: store.read(BARS, key).footer.content_hash for key in new} == new


@pytest.mark.servers
def test_hfp_with_a_storage_root_that_is_a_file_says_so_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file")
    checkout = Checkout(
        built_checkout().checkout.root, tmp_path / "data", env={"HF_STORAGE_URI": str(tmp_path / "root")}
    )
    began = time.monotonic()
    failed = checkout.hfp("materialise", BARS, "--from", WEEK)
    assert failed.returncode == 1
    (line,) = failed.stderr.splitlines()
    assert line.startswith(f"hfp: `HF_STORAGE_URI` must be a folder that can be written, was {tmp_path / 'root'}")
    assert "set it to another folder or an s3://bucket/prefix" in line
    assert time.monotonic() - began < 60.0
    assert (tmp_path / "root").read_text() == "a file"


def test_signals_of_a_tampered_model_refuse_before_parsing_and_name_the_file(
    small_project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = small_project.copy(tmp_path / "project")
    week = project.weeks[12]
    project.retrain("ranking", week)
    footer = project.store.footer("ranking/fitted_model", week)
    assert footer is not None
    path = project.folder / "storage" / project.store.attachment_key(footer, "model.skops")
    payload = path.read_bytes()
    parsed: list[int] = []
    learner = LEARNERS["ridge"]

    def load(payload: bytes, unfitted: Any) -> Any:
        parsed.append(len(payload))
        return learner.format.load(payload, unfitted)

    skops = dataclasses.replace(learner.format, load=load)
    monkeypatch.setitem(LEARNERS, "ridge", dataclasses.replace(learner, format=skops))
    day = str(project.partitions.sessions_of_week(week)[0])

    middle = len(payload) // 2
    path.write_bytes(payload[:middle] + bytes([payload[middle] ^ 1]) + payload[middle + 1 :])
    refused = project.run("ranking/signals", day)
    assert not refused.success
    assert f"ranking/fitted_model/{week}" in refused.message
    assert "model.skops" in refused.message
    assert (parsed, project.store.partitions("ranking/signals")) == ([], [])

    # The same file untampered is parsed: the detector detects.
    path.write_bytes(payload)
    assert project.run("ranking/signals", day).success
    assert set(parsed) == {len(payload)}


def truncated(project: Project, week: str, path: Path) -> None:
    payload = path.read_bytes()
    path.write_bytes(payload[: len(payload) // 2])


def foreign(project: Project, week: str, path: Path) -> None:
    pl.DataFrame({"symbol": ["A"], "close": [1.0]}).write_parquet(path)


def of_another_week(project: Project, week: str, path: Path) -> None:
    path.write_bytes((path.parent / f"{shift_week(week, -1)}.parquet").read_bytes())


def edited(project: Project, week: str, path: Path) -> None:
    payload = path.read_bytes()
    middle = len(payload) // 4
    path.write_bytes(payload[:middle] + bytes([payload[middle] ^ 1]) + payload[middle + 1 :])


@pytest.mark.parametrize(
    ("damage", "was"),
    [
        pytest.param(truncated, "bytes that are no whole Parquet file", id="truncated"),
        pytest.param(foreign, "a Parquet file written by something else", id="foreign"),
        pytest.param(of_another_week, "a copy of small/bars", id="another week"),
        pytest.param(edited, "a file whose bytes were changed after it was written", id="edited"),
    ],
)
def test_features_of_damaged_bars_fail_and_name_the_file(
    damage: Callable[[Project, str, Path], None], was: str, small_project: Project, tmp_path: Path
) -> None:
    project = small_project.copy(tmp_path / "project")
    week = project.weeks[5]
    before = project.hashes("small/features/quick")
    damage(project, week, project.folder / "storage" / "small" / "bars" / f"{week}.parquet")
    failed = project.run("small/features/quick", week)
    assert not failed.success
    assert f"`small/bars/{week}.parquet` must be the file that was published, was" in failed.message
    assert was in failed.message
    assert project.hashes("small/features/quick") == before


def test_features_over_a_range_with_a_damaged_week_of_bars_fail_those_that_read_it_alone(
    small_project: Project, tmp_path: Path
) -> None:
    project = small_project.copy(tmp_path / "project")
    asset = "small/features/quick"
    before = project.hashes(asset)
    weeks = sorted(before)[2:10]
    for week in weeks:
        project.store.objects.delete(project.store.key(asset, week))
    broken = weeks[3]
    truncated(project, broken, project.folder / "storage" / "small" / "bars" / f"{broken}.parquet")
    failed = project.run(asset, weeks[0], weeks[-1])
    # The longest window is six bars: they lie in the week and, whatever the holidays, the three before it.
    assert not failed.success and "was not published for 4 partition(s)" in failed.message
    fault = f"`small/bars/{broken}.parquet` must be the file that was published"
    assert f"{', '.join(weeks[3:7])}: {fault}" in failed.message and failed.message.count(fault) == 1
    assert sorted(set(weeks) - set(project.store.partitions(asset))) == weeks[3:7]

    project.make("small/bars", broken)
    project.make(asset, weeks[3], weeks[6])
    assert project.hashes(asset) == before
