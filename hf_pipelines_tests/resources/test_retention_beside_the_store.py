"""Retention beside the store: MLflow's runs, Dagster's logs, shown studies; nothing is left that points to what is gone."""

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from hf_pipelines.research.tuning import Budget, Design, Goal, MemoryJournal, Outcome, read_space, run_study
from hf_pipelines.resources import settings
from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines.resources.mlflow_values import ModelNote, RunNotes
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.retention import Policy, judge_old, remove_judged
from hf_pipelines.resources.shown_studies import open_studies, showing
from hf_pipelines_tests.resources.retaining import holdings_of

STRATEGY, MODEL, WEEK, EARLIER = "tech", "tech/fitted_model", "2013-02-24", "2013-02-17"
POLICY = Policy(days=30, versions=0)
LATER = datetime.now(UTC) + timedelta(days=60)
STAMP = Stamp("code", "run", "2013-03-01T00:00:00+00:00")


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of the process leave studies in the folder that they share."""
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def tracking(tmp_path: Path, mlflow_template: Path) -> MLflowTracking:
    shutil.copy(mlflow_template, tmp_path / "mlflow.db")
    return MLflowTracking(uri=f"sqlite:///{tmp_path / 'mlflow.db'}")


def publish(store: PartitionStore, number: int, week: str = WEEK) -> str:
    """A model; returns its content hash."""
    content = Content(pl.DataFrame({"x": [float(number)]}))
    return store.publish(MODEL, week, content, STAMP, kind="fitted_model").footer.content_hash


def log_model(tracking: MLflowTracking, digest: str, *, root: str, week: str = WEEK) -> str:
    """The run of a model with a picture and a pointer; returns its id."""
    with tracking.partition_runs(experiment=STRATEGY, asset=MODEL, partitions=[week], root_run_id=root) as runs:
        note = ModelNote(f"tech-{root}", "file:///nowhere", digest, {})
        runs.note(week, RunNotes(tags={"hf.content_hash": digest}, files={"a.txt": b"a"}, model=note))
        return runs.runs[week]


def run_ids(client: Any) -> set[str]:
    from mlflow.entities import ViewType

    experiments = [each.experiment_id for each in client.search_experiments()]
    return {each.info.run_id for each in client.search_runs(experiments, run_view_type=ViewType.ALL, max_results=1000)}


def dangling(client: Any) -> list[str]:
    """Whatever points to a run that is not there."""
    runs = run_ids(client)
    experiments = [each.experiment_id for each in client.search_experiments()]
    found = [
        f"model {each.name}" for each in client.search_logged_models(experiments) if each.source_run_id not in runs
    ]
    for version in client.search_model_versions():
        found += [f"version {version.name}"] if version.run_id and version.run_id not in runs else []
    for each in client.search_runs(experiments, max_results=1000):
        parent = each.data.tags.get("mlflow.parentRunId")
        found += [f"run {each.info.run_name}"] if parent and parent not in runs else []
    return found


@pytest.mark.parametrize("stops_after", [0, 1, 2, 3, 99])
def test_runs_of_models_that_are_gone_go_and_what_points_to_a_run_keeps_it(store, tracking, stops_after):
    client = tracking.client()
    current = log_model(tracking, publish(store, 1), root="current")
    gone = log_model(tracking, "0" * 64, root="gone")
    older = log_model(tracking, "1" * 64, root="older", week=EARLIER)
    champion = log_model(tracking, "2" * 64, root="champion", week="2013-02-10")
    client.create_registered_model("tech")
    client.create_model_version("tech", source=f"runs:/{champion}/model", run_id=champion)
    client.set_registered_model_alias("tech", "champion", "1")
    # A version may point to a logged model alone.
    pointed = log_model(tracking, "3" * 64, root="pointed", week="2013-02-03")
    experiment = client.get_run(pointed).info.experiment_id
    (logged,) = client.search_logged_models([experiment], f"source_run_id = '{pointed}'")
    client.create_registered_model("other")
    client.create_model_version("other", source=f"models:/{logged.model_id}", model_id=logged.model_id)
    parents = {client.get_run(each).data.tags["mlflow.parentRunId"]: each for each in (current, gone, older, champion)}
    of_somebody = client.create_run(experiment, run_name="by hand").info.run_id
    below_older = client.create_run(
        experiment,
        run_name="by hand",
        tags={"mlflow.parentRunId": client.get_run(older).data.tags["mlflow.parentRunId"]},
    ).info.run_id
    before, files = run_ids(client), Path(client.get_run(gone).info.artifact_uri.removeprefix("file://"))
    assert (files / "a.txt").read_bytes() == b"a"

    # Nothing is old yet.
    young = judge_old(holdings_of(store, POLICY, datetime.now(UTC), tracking=tracking))
    assert not any(each.goes for each in young)

    holdings = holdings_of(store, POLICY, LATER, tracking=tracking)
    judged = judge_old(holdings)
    why = {each.name.rpartition(" ")[2]: each.why for each in judged if each.kind == "tracked run"}
    assert of_somebody not in why and below_older not in why
    assert why[current] == f"{MODEL} {WEEK} is current"
    assert why[champion] == "registered as tech 1" and why[pointed] == "registered as other 1"
    assert why[gone] == "older than 30 days, and what it tells of is not stored any more"
    for _ in zip(range(stops_after), remove_judged(holdings, judged), strict=False):
        pass
    assert dangling(client) == []
    again = holdings_of(store, POLICY, LATER, tracking=tracking)
    assert [*remove_judged(again, judge_old(again))] or stops_after > 1
    assert before - run_ids(client) == {gone, older} and dangling(client) == [] and not files.exists()
    assert client.get_model_version_by_alias("tech", "champion").run_id == champion
    assert parents.keys() <= run_ids(client)


def test_removal_of_a_run_that_was_killed_after_mlflow_marked_it_goes_on(store, tracking):
    client = tracking.client()
    gone = log_model(tracking, "0" * 64, root="gone")
    (parent,) = run_ids(client) - {gone}
    client.delete_run(gone)
    holdings = holdings_of(store, POLICY, LATER, tracking=tracking)
    names = [each.name.rpartition(" ")[2] for each in remove_judged(holdings, judge_old(holdings))]
    assert names == [gone, parent] and run_ids(client) == set() and dangling(client) == []


def test_models_stay_while_their_tracker_does_not_answer(store, tmp_path):
    first = publish(store, 1)
    publish(store, 2)
    os.utime(store.objects.address(f"_versions/{MODEL}/{WEEK}/{first}.parquet"), (0, 0))
    away = MLflowTracking(uri="postgresql://someone:secret@127.0.0.1:9/none")
    holdings = holdings_of(store, POLICY, LATER, tracking=away)
    assert [*remove_judged(holdings, judge_old(holdings))] == [] and store.versions(MODEL, WEEK) == [first]
    assert "HF_MLFLOW_URI" in holdings.unseen["tracked run"] and "secret" not in holdings.unseen["tracked run"]
    without = holdings_of(store, POLICY, LATER)
    assert [each.kind for each in remove_judged(without, judge_old(without))] == ["version"]


def test_what_a_run_printed_goes_with_it_and_what_is_no_run_of_dagster_stays(store, tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    settings.prepare_dagster_home()

    @dg.op
    def speak() -> None:
        print("spoken")

    job = dg.GraphDefinition("speaking_job", node_defs=[speak]).to_job()
    with dg.DagsterInstance.get() as instance:
        made, idle = (job.execute_in_process(instance=instance).run_id for _ in range(2))
        folder = Path(settings.dagster_home(), "storage")
        orphan = "01234567-89ab-cdef-0123-456789abcdef"
        for name in (orphan, "sensors"):
            path = folder / name / "compute_logs" / "x.out"
            path.parent.mkdir(parents=True)
            path.write_text("12345")
        store.publish(MODEL, WEEK, Content(pl.DataFrame({"x": [1.0]})), Stamp("code", made, STAMP.created_at))
        assert (folder / idle).is_dir() and (folder / made).is_dir()
        holdings = holdings_of(store, POLICY, LATER, instance=instance)
        judged = judge_old(holdings)
        assert {each.size for each in judged if each.name == orphan} == {5}
        removed = [(each.kind, each.name) for each in remove_judged(holdings, judged)]
        assert sorted(removed) == sorted([("log", orphan), ("log", idle), ("run", idle)])
        there = {made: True, idle: False, orphan: False, "sensors": True}
        assert {name: (folder / name / "compute_logs").is_dir() for name in there} == there
        assert [run.run_id for run in instance.get_runs()] == [made]


def test_in_a_bucket_logs_of_runs_that_are_gone_go_with_their_bytes_told(s3_store, tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_STORAGE_URI", s3_store.objects.uri)
    monkeypatch.setenv("HF_S3_ENDPOINT", s3_store.objects.endpoint)
    settings.prepare_dagster_home()
    first = publish(s3_store, 1)
    publish(s3_store, 2)
    orphan = "01234567-89ab-cdef-0123-456789abcdef"
    for step, text in (("a", b"12345"), ("b", b"123")):
        s3_store.objects.put(f"_compute_logs/storage/{orphan}/compute_logs/{step}.err", text)
    s3_store.objects.put("_compute_logs/storage/sensors/x.err", b"1")
    with dg.DagsterInstance.get() as instance:
        holdings = holdings_of(s3_store, POLICY, LATER, instance=instance)
        judged = {each.kind: each for each in judge_old(holdings)}
        assert judged["log"].name == orphan and judged["log"].size == 8
        key = f"_versions/{MODEL}/{WEEK}/{first}.parquet"
        assert judged["version"].name == key and judged["version"].size == len(s3_store.objects.get(key))
        assert len([*remove_judged(holdings, judge_old(holdings))]) == 2
    assert s3_store.versions(MODEL, WEEK) == []
    assert s3_store.objects.keys("_compute_logs") == ["_compute_logs/storage/sensors/x.err"]


def test_studies_that_were_shown_long_ago_go_and_their_journal_when_all_do(store, tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    space = read_space({"a": {"type": "float", "low": 0.0, "high": 1.0}})
    design = Design(space=space, goals=(Goal("loss", False),), budget=Budget(trials=3), sampler="random")
    for strategy, week in (("tech", EARLIER), ("tech", WEEK), ("other", WEEK)):
        told = {"strategy": strategy, "week": week, "digest": "0" * 8}
        with showing(MemoryJournal(), design, tell=pytest.fail, **told) as journal:
            run_study(design, lambda task: Outcome("completed", (task.point["a"],)), journal=journal)
    paths = [tmp_path / "studies" / f"{each}.journal" for each in ("tech", "other")]
    now = datetime.now(UTC)
    young = holdings_of(store, POLICY, now)
    assert not any(each.goes for each in judge_old(young))
    # A journal that is written to keeps its other studies.
    storage = open_studies("tech")
    late = storage.get_study_id_from_name(f"tech/{WEEK}/{'0' * 8}")
    storage.set_study_user_attr(late, "began", [LATER.timestamp(), 0])
    os.utime(paths[1], 2 * (now.timestamp(),))
    holdings = holdings_of(store, POLICY, LATER)
    gone = [each.name for each in remove_judged(holdings, judge_old(holdings))]
    assert sorted(gone) == sorted([f"tech/{EARLIER}/{'0' * 8}", f"other/{WEEK}/{'0' * 8}"])
    assert [each.study_name for each in open_studies("tech").get_all_studies()] == [f"tech/{WEEK}/{'0' * 8}"]
    assert [each.exists() for each in paths] == [True, False]
