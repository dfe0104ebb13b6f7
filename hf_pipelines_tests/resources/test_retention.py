"""Retention and restoring: what nothing needs goes by age and count, what something was made from stays, and comes back."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as settings_of
from hypothesis import strategies as st

from hf_pipelines.commands.cli import main
from hf_pipelines.components.automation.housekeeping import housekeeping
from hf_pipelines.research.content_hash import session_hashes
from hf_pipelines.research.promotion.lifecycle import PROMOTED, WITHDRAWN
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.lineage import current_footers
from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.parquet_io_manager import Storage
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.promotions.history import PromotionHistoryError, record_decision
from hf_pipelines.resources.retention import Policy, judge_old, remove_judged
from hf_pipelines.resources.retention.roots import ROOTS
from hf_pipelines.resources.trial_ledger import TrialLedger, segments
from hf_pipelines.resources.trial_ledger.heads import verify_ledger
from hf_pipelines.resources.trial_ledger.records import RECORDS, SEGMENTS
from hf_pipelines_tests.pipeline import QUIET
from hf_pipelines_tests.resources.promotions.deciding import draft
from hf_pipelines_tests.resources.retaining import holdings_of, pruned
from hf_pipelines_tests.resources.trial_ledger.trying import slot
from hf_pipelines_tests.sample_bars import random_bars

ASSET, WEEK = "us_tech/bars", "2020-01-05"
BARS = random_bars(symbols=2, sessions=5)
STAMP = Stamp("code-1", "run-1", "2020-01-12T07:00:00+00:00")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


# A tracker that nothing was ever logged to.
UNMADE = MLflowTracking(uri="sqlite:////no/such/mlflow.db")


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of the process leave studies in the folder that they share."""
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path / "data"))


def revision(number: int) -> pl.DataFrame:
    return BARS.with_columns(pl.col("volume") + float(number))


def publish_revisions(store: PartitionStore, count: int) -> list[str]:
    """Content hashes of `count` revisions, oldest first, each a day older than the next; the last one is current."""
    hashes = []
    for number in range(count):
        content = Content(revision(number), has_session_hashes=True)
        hashes.append(store.publish(ASSET, WEEK, content, STAMP).footer.content_hash)
    for number, digest in enumerate(hashes[:-1]):
        written = (NOW - timedelta(days=100 - number)).timestamp()
        os.utime(store.objects.address(f"_versions/{ASSET}/{WEEK}/{digest}.parquet"), (written, written))
    return hashes


def issue_of(weight: float) -> Content:
    row = {"symbol": "A", "ts": datetime(2020, 1, 6, 21, tzinfo=UTC), "weight": weight, "prediction": 0.1}
    return Content(pl.DataFrame([{**row, "confidence": 0.6}]))


def prune(store: PartitionStore, **policy: int) -> list[str]:
    return pruned(store, Policy(**policy), NOW)


def test_prune_removes_what_is_old_beyond_the_newest_and_nothing_else(store):
    hashes = publish_revisions(store, 6)
    removed = prune(store, days=50, versions=2)
    # Five versions, 100 to 96 days old: the two newest stay.
    assert removed == sorted(f"_versions/{ASSET}/{WEEK}/{digest}.parquet" for digest in hashes[:3])
    assert set(store.versions(ASSET, WEEK)) == set(hashes[3:5])
    assert store.read(ASSET, WEEK).footer.content_hash == hashes[5]
    assert prune(store, days=50, versions=2) == []


def test_prune_keeps_what_is_young(store):
    hashes = publish_revisions(store, 6)
    # 100, 99, 98, 97 and 96 days old.
    prune(store, days=98, versions=0)
    assert set(store.versions(ASSET, WEEK)) == set(hashes[2:5])


def test_prune_keeps_the_version_that_a_matrix_or_the_session_of_an_issued_signal_was_made_from(store):
    hashes = publish_revisions(store, 4)
    matrix = Content(pl.DataFrame({"x": [1.0]}), inputs={ASSET: {WEEK: hashes[0]}})
    store.publish("tech/training_matrix", "2020-01-12", matrix, STAMP)
    session, of_session = next(iter(session_hashes(revision(1)).items()))
    issued = Content(pl.DataFrame({"weight": [0.5]}), inputs={ASSET: {f"{WEEK}#{session}": of_session}})
    store.publish("tech/signals", session, issued, STAMP, kind="signals")
    removed = prune(store, days=10, versions=0)
    assert removed == [f"_versions/{ASSET}/{WEEK}/{hashes[2]}.parquet"]


@pytest.mark.parametrize("planted", ["", "no root", "withdrawn"])
def test_what_a_champion_descends_from_and_the_history_itself_are_never_removed(store, monkeypatch, planted):
    hashes = publish_revisions(store, 3)
    of_old, of_new = (
        store.publish("tech/training_matrix", WEEK, Content(pl.DataFrame({"x": [x]}), inputs={ASSET: {WEEK: digest}}), STAMP)
        for x, digest in ((1.0, hashes[0]), (2.0, hashes[2]))
    )  # fmt: skip
    matrix = f"_versions/tech/training_matrix/{WEEK}/{of_old.footer.content_hash}.parquet"
    os.utime(store.objects.address(matrix), (0, 0))
    evidence = {"tech/training_matrix": {WEEK: of_old.footer.content_hash}}
    record_decision(store.objects, "tech", draft(PROMOTED, evidence=evidence))
    if planted == "withdrawn":
        record_decision(store.objects, "tech", draft(WITHDRAWN))
    if planted == "no root":
        monkeypatch.delitem(ROOTS, "promotions")
    history = store.objects.keys("_promotions")
    for path in history:
        os.utime(store.objects.address(path), (0, 0))
    removed = prune(store, days=10, versions=0)
    descended = {matrix, f"_versions/{ASSET}/{WEEK}/{hashes[0]}.parquet"}
    assert {*removed} == {f"_versions/{ASSET}/{WEEK}/{hashes[1]}.parquet"} | (descended if planted else set())
    assert store.objects.keys("_promotions") == history and len(history) >= 1
    assert of_new.footer.content_hash == store.read("tech/training_matrix", WEEK).footer.content_hash


def test_beside_a_damaged_history_of_promotions_nothing_is_removed(store):
    publish_revisions(store, 3)
    record_decision(store.objects, "tech", draft(PROMOTED))
    Path(store.objects.address(store.objects.keys("_promotions")[0])).write_bytes(b"{}")
    before = store.objects.all_keys()
    with pytest.raises(PromotionHistoryError, match="_promotions/tech/00000001.json` must be"):
        prune(store, days=10, versions=0)
    assert store.objects.all_keys() == before


def test_prune_never_touches_the_record_of_issued_signals(store):
    for weight in (0.5, 0.25):
        published = store.publish("tech/signals", "2020-01-06", issue_of(weight), STAMP, kind="signals")
    assert published.outcome == "shadow"
    os.utime(published.address, (0, 0))
    assert prune(store, days=1, versions=0) == []
    assert len(store.versions("tech/signals", "2020-01-06")) == 1


@pytest.mark.parametrize("policy", [{"days": 0, "versions": 1}, {"days": 1, "versions": -1}])
def test_policy_that_would_remove_what_is_in_use_is_refused(policy):
    with pytest.raises(ValueError, match=r"`days` must be at least 1 and `versions` at least 0"):
        Policy(**policy)


def test_old_runs_go_unless_they_made_what_is_current(store):
    @dg.op
    def nothing() -> None:
        """Ends at once."""

    job = dg.GraphDefinition("nothing_job", node_defs=[nothing]).to_job()
    with dg.DagsterInstance.ephemeral() as instance:
        made, idle = (job.execute_in_process(instance=instance).run_id for _ in range(2))
        store.publish(ASSET, WEEK, Content(BARS), replace(STAMP, run_id=made))
        now = datetime.now(UTC)
        policy = Policy(days=1, versions=0)
        assert pruned(store, policy, now, kind="run", instance=instance) == []
        assert pruned(store, policy, now + timedelta(days=2), kind="run", instance=instance) == [idle]
        assert [run.run_id for run in instance.get_runs()] == [made]


def test_restore_brings_the_bytes_of_a_version_back_and_keeps_what_was_current(store):
    first, second, third = publish_revisions(store, 3)
    kept = store.objects.get(f"_versions/{ASSET}/{WEEK}/{first}.parquet")
    assert store.restore(ASSET, WEEK, first[:10]).content_hash == first
    assert store.objects.get(store.key(ASSET, WEEK)) == kept
    assert store.read(ASSET, WEEK).frame.equals(revision(0))
    assert set(store.versions(ASSET, WEEK)) == {first, second, third}


@pytest.mark.parametrize("asked", ["", "zzz"])
def test_restore_of_an_unknown_version_names_those_that_are_kept(store, asked):
    first, _ = publish_revisions(store, 2)
    with pytest.raises(ValueError, match=rf"`hash` must begin exactly one version of {ASSET} {WEEK} \({first[:12]}\)"):
        store.restore(ASSET, WEEK, asked)
    assert store.read(ASSET, WEEK).frame.equals(revision(1))


def test_restore_of_an_issued_signal_is_refused(store):
    for weight in (0.5, 0.25):
        published = store.publish("tech/signals", "2020-01-06", issue_of(weight), STAMP, kind="signals")
    with pytest.raises(ValueError, match="what was issued stays as it was issued"):
        store.restore("tech/signals", "2020-01-06", published.footer.content_hash)


def test_housekeeping_job_prunes_what_its_settings_allow(store, monkeypatch):
    monkeypatch.setenv("HF_KEEP_DAYS", "98")
    monkeypatch.setenv("HF_KEEP_VERSIONS", "0")
    hashes = publish_revisions(store, 5)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization(ASSET.split("/"), partition=WEEK))
        resources = {"storage": Storage(uri=store.objects.uri), "clock": Clock(fixed=NOW.isoformat()), "mlflow": UNMADE}
        assert housekeeping.execute_in_process(instance=instance, resources=resources, run_config=QUIET).success
    # 100, 99, 98 and 97 days old.
    assert set(store.versions(ASSET, WEEK)) == set(hashes[2:4])


def test_gc_says_why_each_thing_goes_or_stays_and_removes_what_it_said(store, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_STORAGE_URI", store.objects.uri)
    days = (datetime.now(UTC) - NOW).days + 99
    monkeypatch.setenv("HF_KEEP_DAYS", str(days))
    monkeypatch.setenv("HF_KEEP_VERSIONS", "1")
    # Before NOW 100, 99, 98, 97 and 96 days old; the second one is read.
    hashes = publish_revisions(store, 6)
    store.publish(
        "tech/training_matrix",
        "2020-01-12",
        Content(pl.DataFrame({"x": [1.0]}), inputs={ASSET: {WEEK: hashes[1]}}),
        STAMP,
    )
    for command, kept in ((["gc"], hashes[:5]), (["gc", "--yes"], hashes[1:5]), (["gc", "--yes"], hashes[1:5])):
        assert main(command) == 0
        said = capsys.readouterr().out
        assert {*store.versions(ASSET, WEEK)} == {*kept}
        for digest, why in (
            (hashes[1], "tech/training_matrix 2020-01-12 was made from it"),
            (hashes[3], f"younger than {days} days"),
            (hashes[4], "one of the newest 1 of its partition"),
        ):
            assert "stays  version      2025-" in said and f"{digest}.parquet: {why}" in said
        if command == ["gc"]:
            assert f"{hashes[0]}.parquet: older than {days} days, and nothing that is current was made from it" in said
            told = "0 of 0 tracked runs, 0 of 0 logs, 0 of 0 runs, 0 of 0 studies, 0 of 0 fits, 0 of 0 tries, 1 of 5 versions"
            assert f"Would remove {told}; nothing was removed: hfp gc --yes" in said


@settings_of(max_examples=40, deadline=None)
@given(data=st.data())
def test_what_anything_that_stays_descends_from_is_never_removed_and_a_kill_leaves_nothing_dangling(data):
    """Random lineages: assets that were made from contents, current or not, of earlier ones; removal stops anywhere."""
    with TemporaryDirectory() as folder:
        store = PartitionStore(ObjectStore(folder))
        made: list[tuple[str, str, dict[str, dict[str, str]]]] = []
        for number in range(data.draw(st.integers(3, 12))):
            asset = f"m/a{data.draw(st.integers(0, 3))}"
            parents = data.draw(st.lists(st.sampled_from(made), max_size=2)) if made else []
            inputs: dict[str, dict[str, str]] = {}
            for of, digest, _ in parents:
                if of != asset:
                    inputs[of] = {WEEK: digest}
            content = Content(pl.DataFrame({"x": [float(number)]}), inputs=inputs)
            made.append((asset, store.publish(asset, WEEK, content, STAMP).footer.content_hash, inputs))
        # Old and young ones in any order: when a version was set aside says nothing of when it was made.
        for path in sorted(Path(folder, "_versions").rglob("*.parquet")):
            os.utime(path, 2 * ((NOW - timedelta(days=data.draw(st.integers(0, 8)))).timestamp(),))
        room = data.draw(st.sampled_from([None, 0, 5_000]))
        policy = Policy(days=data.draw(st.integers(1, 6)), versions=data.draw(st.integers(0, 2)), most_bytes=room)
        holdings = holdings_of(store, policy, NOW)
        judged = judge_old(holdings)
        goes = sum(each.goes for each in judged)
        for _ in zip(range(data.draw(st.integers(0, goes))), remove_judged(holdings, judged), strict=False):
            pass
        there = {(asset, digest) for asset, digest, _ in made if digest in {*store.versions(asset, WEEK)}}
        there |= {(each.asset, each.content_hash) for each in current_footers(store)}
        for asset, digest, inputs in made:
            if (asset, digest) in there:
                assert {(of, by[WEEK]) for of, by in inputs.items()} <= there


def test_beside_a_backfill_nothing_goes_that_it_has_read_meanwhile(store):
    hashes = publish_revisions(store, 4)
    # No room at all: everything goes that may.
    holdings = holdings_of(store, Policy(days=1, versions=0, most_bytes=0), datetime.now(UTC) + timedelta(hours=1))
    judged = judge_old(holdings)
    assert [each.name.split("/")[-1].removesuffix(".parquet") for each in judged if each.goes] == hashes[:3]
    # A run has read what is current; before it publishes, bars are fetched again, twice, and an old version is restored.
    read = store.footer(ASSET, WEEK).content_hash
    store.publish(ASSET, WEEK, Content(revision(9), has_session_hashes=True), STAMP)
    store.restore(ASSET, WEEK, hashes[1])
    for number, digest in enumerate((read, hashes[1])):
        content = Content(pl.DataFrame({"x": [float(number)]}), inputs={ASSET: {WEEK: digest}})
        store.publish(f"tech{number}/training_matrix", "2020-01-12", content, STAMP)
    assert len([*remove_judged(holdings, judged)]) == 3
    held = {store.footer(ASSET, WEEK).content_hash, *store.versions(ASSET, WEEK)}
    assert {read, hashes[1]} <= held and hashes[0] not in held


def test_above_its_room_the_oldest_go_before_their_time_but_for_those_of_a_day(store):
    hashes = publish_revisions(store, 6)
    path = f"_versions/{ASSET}/{WEEK}/{{}}.parquet"
    size = Path(store.objects.address(path.format(hashes[0]))).stat().st_size
    # Before NOW 100, 99, 98, 97 and 96 days old, all young by the policy: two and a half have room.
    assert prune(store, days=365, versions=9, most_bytes=5 * size // 2) == sorted(map(path.format, hashes[:3]))
    for each in hashes[3:5]:
        os.utime(store.objects.address(path.format(each)), 2 * ((NOW - timedelta(hours=23)).timestamp(),))
    assert prune(store, days=365, versions=9, most_bytes=0) == []


def test_housekeeping_seals_the_ledger_of_trials_and_removes_nothing_of_it(store, monkeypatch):
    monkeypatch.setenv("HF_KEEP_DAYS", "1")
    monkeypatch.setenv("HF_KEEP_VERSIONS", "0")
    monkeypatch.setattr(segments, "LEAST_PACKED", 4)
    ledger = TrialLedger(store.objects, "tester")
    for number in range(2):
        trial = ledger.begin(slot(number), source="cross_validation")
        trial.end(returns=([date(2012, 1, 2), date(2012, 1, 3), date(2012, 1, 4)], [0.01, 0.02, 0.0]))
    before = ledger.known()
    with dg.DagsterInstance.ephemeral() as instance:
        resources = {
            "storage": Storage(uri=store.objects.uri),
            "clock": Clock(fixed="2090-01-01T00:00:00+00:00"),
            "mlflow": UNMADE,
        }
        assert housekeeping.execute_in_process(instance=instance, resources=resources, run_config=QUIET).success
    assert store.objects.keys(RECORDS) == [] and len(store.objects.keys(SEGMENTS)) == 1
    assert ledger.known().equals(before) and verify_ledger(store)[0] == []


KILLED = """
import os, signal, sys
from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines.resources.object_store import ObjectStore
with ObjectStore(sys.argv[1]).writing(sys.argv[2]) as file:
    file.write(b"half of it")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_housekeeping_removes_what_killed_writers_left_a_day_ago(store):
    (current,) = publish_revisions(store, 1)
    key = store.key(ASSET, WEEK)
    for _ in range(2):
        died = subprocess.run([sys.executable, "-c", KILLED, store.objects.uri, key], check=False)
        assert died.returncode == -signal.SIGKILL
    older, younger = (Path(f"{store.objects.address(key)}#{number}") for number in (1, 2))
    assert older.read_bytes() == younger.read_bytes() == b"half of it"
    os.utime(older, 2 * ((NOW - timedelta(hours=25)).timestamp(),))
    os.utime(younger, 2 * ((NOW - timedelta(hours=23)).timestamp(),))
    with dg.DagsterInstance.ephemeral() as instance:
        resources = {"storage": Storage(uri=store.objects.uri), "clock": Clock(fixed=NOW.isoformat()), "mlflow": UNMADE}
        assert housekeeping.execute_in_process(instance=instance, resources=resources, run_config=QUIET).success
    assert (older.exists(), younger.exists()) == (False, True)
    assert store.read(ASSET, WEEK).footer.content_hash == current
