"""MLflow runs against real stores: a SQLite file and a tracking server over HTTP."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from hf_pipelines.components.automation.retraining import end_tracker_runs
from hf_pipelines.research.learners import LEARNERS
from hf_pipelines.resources import outages
from hf_pipelines.resources.mlflow_errors import TrackingUnavailableError
from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines_tests.checkout import WEEK, built_checkout
from hf_pipelines_tests.fault_folder import FaultFolder
from hf_pipelines_tests.pipeline import Project
from hf_pipelines_tests.servers import free_port, mlflow_server
from hf_pipelines_tests.short_backoff import with_short_backoff

pytestmark = pytest.mark.servers

SECRET = "hunter2"
ASSET = "momentum/fitted_model"


@pytest.fixture(scope="module")
def server_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow_server")) as tracking:
        yield tracking.uri


@pytest.fixture(params=["sqlite", "server"])
def tracking(request: pytest.FixtureRequest, tmp_path: Path, server_uri: str, mlflow_template: Path) -> MLflowTracking:
    if request.param == "server":
        return MLflowTracking(uri=server_uri)
    (tmp_path / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    return MLflowTracking(uri=f"sqlite:///{tmp_path / 'mlflow.db'}")


def runs_of(tracking: MLflowTracking, experiment: str) -> tuple[list[Any], list[Any]]:
    """Parents and children of an experiment, oldest first."""
    client = tracking.client()
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id], order_by=["attributes.start_time ASC"]) if found else []
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    return [run for run in runs if run not in children], children


def follow(tracking: MLflowTracking, experiment: str, *, root: str, partition: str = WEEK, loss: float = 0.5) -> str:
    """One step that logs one metric; returns its tracker run."""
    with tracking.partition_runs(
        experiment=experiment, asset=f"{experiment}/fitted_model", partitions=[partition], root_run_id=root
    ) as runs:
        runs.log(partition, params={"depth": 3}, metrics={"loss": loss}, tags={"hf.kind": "test"})
        return runs.runs[partition]


def test_partition_runs_of_one_root_are_one_child_and_another_root_is_its_sibling(tracking: MLflowTracking) -> None:
    first = follow(tracking, "identity", root="root-a")
    assert follow(tracking, "identity", root="root-a") == first
    second = follow(tracking, "identity", root="root-b")

    parents, children = runs_of(tracking, "identity")
    assert [run.info.run_id for run in children] == [first, second]
    assert len(parents) == 1
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parents[0].info.run_id}
    assert parents[0].data.tags["hf.week"] == WEEK
    assert {run.info.status for run in (*parents, *children)} == {"FINISHED"}
    # The retry logged the same value at the same time: one point, not two.
    assert [point.value for point in tracking.client().get_metric_history(first, "loss")] == [0.5]

    import mlflow

    assert mlflow.active_run() is None


def test_partition_runs_whose_block_raises_end_failed_and_a_retry_finishes_the_same_run(
    tracking: MLflowTracking,
) -> None:
    with pytest.raises(ZeroDivisionError):
        with tracking.partition_runs(experiment="raises", asset=ASSET, partitions=[WEEK], root_run_id="r"):
            assert runs_of(tracking, "raises")[1][0].info.status == "RUNNING"
            raise ZeroDivisionError
    (child,) = runs_of(tracking, "raises")[1]
    assert child.info.status == "FAILED"

    with tracking.partition_runs(experiment="raises", asset=ASSET, partitions=[WEEK], root_run_id="r"):
        pass
    (again,) = runs_of(tracking, "raises")[1]
    assert (again.info.run_id, again.info.status) == (child.info.run_id, "FINISHED")


def test_partition_runs_in_eight_threads_on_two_stores_do_not_mix(
    server_uri: str, tmp_path: Path, mlflow_template: Path
) -> None:
    (tmp_path / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    stores = [MLflowTracking(uri=f"sqlite:///{tmp_path / 'mlflow.db'}"), MLflowTracking(uri=server_uri)]
    with ThreadPoolExecutor(8) as pool:
        futures = [
            pool.submit(follow, stores[n % 2], f"threads_{n % 2}", root=f"root-{n}", loss=float(n)) for n in range(8)
        ]
        made = [future.result() for future in futures]

    assert len(set(made)) == 8
    for which, store in enumerate(stores):
        parents, children = runs_of(store, f"threads_{which}")
        assert len(parents) == 1
        assert {run.info.run_id: run.data.metrics["loss"] for run in children} == {
            made[n]: float(n) for n in range(which, 8, 2)
        }
        assert Counter(run.info.status for run in (*parents, *children)) == {"FINISHED": 5}
        assert runs_of(store, f"threads_{1 - which}") == ([], [])


OPEN_AT_ONCE = """
import multiprocessing, sys
import dagster_mlflow  # imported once, before the processes part
from hf_pipelines.resources.mlflow_tracking import MLflowTracking

def follow(number):
    tracking = MLflowTracking(uri=sys.argv[1])
    together.wait(60)
    names = {"experiment": "fresh", "asset": "fresh/fitted_model", "partitions": ["w"], "root_run_id": f"root-{number}"}
    with tracking.partition_runs(**names) as runs:
        runs.log("w", params={}, metrics={"n": 1.0}, tags={})

fork = multiprocessing.get_context("fork")
together = fork.Barrier(4)
processes = [fork.Process(target=follow, args=(number,)) for number in range(4)]
for process in processes:
    process.start()
for process in processes:
    process.join(120)
print([process.exitcode for process in processes])
"""


def test_partition_runs_of_four_processes_on_a_fresh_store_share_one_schema_and_one_parent(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", OPEN_AT_ONCE, uri],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=180,
        check=False,
    )
    assert done.stdout.strip() == "[0, 0, 0, 0]", done.stderr

    parents, children = runs_of(MLflowTracking(uri=uri), "fresh")
    assert (len(parents), len(children)) == (1, 4)
    assert {run.info.status for run in (*parents, *children)} == {"FINISHED"}
    # MLflow's own default is a folder below wherever the process was started.
    assert all(run.info.artifact_uri.startswith((tmp_path / "mlflow_artifacts").as_uri()) for run in children)
    assert not (tmp_path / "mlruns").exists()


def test_end_runs_of_a_killed_process_fails_its_running_child_only(tracking: MLflowTracking) -> None:
    with tracking.partition_runs(experiment="killed", asset=ASSET, partitions=["w1"], root_run_id="other") as other:
        with tracking.partition_runs(
            experiment="killed", asset=ASSET, partitions=["w1", "w2"], root_run_id="gone"
        ) as gone:
            left = set(gone.runs.values())
            assert set(tracking.end_runs_of("gone")) == left
            status = {run.info.run_id: run.info.status for run in runs_of(tracking, "killed")[1]}
            assert status == {**dict.fromkeys(left, "FAILED"), other.runs["w1"]: "RUNNING"}
            assert tracking.end_runs_of("gone") == []


def test_mlflow_tracking_module_imports_neither_mlflow_nor_dagster_mlflow() -> None:
    code = "import sys, hf_pipelines.definitions; print([m for m in ('mlflow', 'dagster_mlflow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_mlflow_of_a_user_reports_nothing_to_its_makers(tmp_path: Path, mlflow_template: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    code = (
        f"from hf_pipelines.resources.mlflow_tracking import MLflowTracking; MLflowTracking(uri='sqlite:///{tmp_path / 'mlflow.db'}').client()\n"
        "from mlflow.telemetry import get_telemetry_client; print(get_telemetry_client())"
    )
    # It reports nothing in tests and on CI servers, by variables that they set.
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=kept, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "None"


@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_partition_runs_on_a_server_out_of_reach_name_it_within_seconds_without_its_password(scheme: str) -> None:
    port = free_port()
    tracking = MLflowTracking(uri=f"{scheme}://quant:{SECRET}@127.0.0.1:{port}/db?token={SECRET}")
    began = time.monotonic()
    with pytest.raises(TrackingUnavailableError) as caught:
        with tracking.partition_runs(experiment="away", asset=ASSET, partitions=[WEEK], root_run_id="r"):
            pytest.fail("the block must not begin")
    # Two retries after one second and two.
    assert time.monotonic() - began < 20.0
    assert f"***@127.0.0.1:{port}/db did not" in str(caught.value)
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_fitted_model_with_mlflow_out_of_reach_fails_before_computing_and_keeps_the_password_out_of_the_log(
    small_project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = small_project.copy(tmp_path / "project")
    week = project.weeks[12]
    project.make(["ranking/training_matrix", "ranking/cv_results"], week)

    fits: list[str] = []
    learner = LEARNERS["ridge"]

    def build(*arguments: Any) -> Any:
        fits.append("began")
        return learner.build(*arguments)

    monkeypatch.setitem(LEARNERS, "ridge", dataclasses.replace(learner, build=build))
    monkeypatch.setattr(outages, "WAITS_S", (0.0,))
    away = MLflowTracking(uri=f"http://quant:{SECRET}@127.0.0.1:{free_port()}")
    loaded = project.definitions
    project._loaded = dg.Definitions(
        assets=loaded.assets,
        asset_checks=loaded.asset_checks,
        resources={**(loaded.resources or {}), "mlflow": away},
        executor=loaded.executor,
    )
    failed = project.run("ranking/fitted_model", week)

    assert not failed.success
    assert "`HF_MLFLOW_URI` must be a tracking server or database that answers" in failed.message
    assert (fits, project.store.partitions("ranking/fitted_model")) == ([], [])
    events = [dg.serialize_value(entry) for entry in project.instance.all_logs(failed.result.run_id)]
    assert any("did not" in each for each in events)
    assert not any(SECRET in each for each in events)


def test_fitted_model_whose_server_is_killed_in_mid_fit_is_published_and_a_retry_ends_the_same_run(
    tmp_path: Path,
) -> None:
    folder, port = tmp_path / "server", free_port()
    uri = f"http://127.0.0.1:{port}"
    copy = built_checkout().checkout.copy_of_data(tmp_path / "data", HF_MLFLOW_URI=uri)
    checkout = dataclasses.replace(with_short_backoff(copy, tmp_path / "short_backoff"), data=copy.data)
    faults = FaultFolder(tmp_path / "faults")
    stopping = dataclasses.replace(checkout, env={**checkout.env, **faults.env})
    before = checkout.store().footer("short_trees/fitted_model", WEEK)
    assert before is not None
    (checkout.data / "storage" / "short_trees" / "fitted_model" / f"{WEEK}.parquet").unlink()
    step = [sys.executable, "-m", "hf_pipelines_tests.checkout_retry", "short_trees", "fitted_model", WEEK]
    tracking = MLflowTracking(uri=uri)

    with mlflow_server(folder, port) as first:
        # The fit is over too soon to be caught: stopped when it has fitted, before it publishes.
        faults.plant("stop", key=f"short_trees/fitted_model/{WEEK}.parquet")
        process = stopping.start(step)
        fitting = faults.stopped()
        assert [run.info.status for run in runs_of(tracking, "short_trees")[1]] == ["RUNNING"]
        first.server.kill()
        fitting.send_signal(signal.SIGCONT)
        output, errors = process.communicate(timeout=120)
    report = json.loads(output.splitlines()[-1])
    assert not report["success"], errors
    assert "did not" in report["messages"][0]
    assert (
        "tried 4 times. See that it answers, then re-execute this run: what is published is whole"
        in report["messages"][0]
    )
    after = checkout.store().footer("short_trees/fitted_model", WEEK)
    assert after is not None
    # The run went on to its end after the kill, and its model was published: the one that an undisturbed run made.
    assert (after.run_id, after.content_hash) == (report["run_id"], before.content_hash)

    with mlflow_server(folder, port):
        (left,) = runs_of(tracking, "short_trees")[1]
        assert (left.info.status, left.data.metrics) == ("RUNNING", {})
        assert left.info.run_id == after.facts["mlflow_run_id"]
        retry = json.loads(checkout.run([*step, report["run_id"]]).stdout.splitlines()[-1])
        assert (retry["success"], retry["root"]) == (True, report["run_id"])
        (ended,) = runs_of(tracking, "short_trees")[1]
        assert (ended.info.run_id, ended.info.status) == (left.info.run_id, "FINISHED")
        assert ended.data.tags["hf.content_hash"] == before.content_hash
        assert ended.data.metrics.keys() >= {
            name
            for name, value in before.facts["metrics"].items()
            if value == value  # type: ignore[attr-defined]
        }


def test_fitted_model_that_cannot_be_published_ends_its_tracker_run_failed(
    small_project: Project, tmp_path: Path
) -> None:
    project = small_project.copy(tmp_path / "project")
    week = project.weeks[12]
    project.make(["ranking/training_matrix", "ranking/cv_results"], week)
    # A file where the folder of the model's bytes belongs: no write, not even root's, can go below it.
    (project.folder / "storage" / "_attached" / "ranking").mkdir(parents=True, exist_ok=True)
    (project.folder / "storage" / "_attached" / "ranking" / "fitted_model").touch()
    failed = project.run("ranking/fitted_model", week)
    assert not failed.success
    assert f"_attached/ranking/fitted_model/{week}" in failed.message
    tracking = MLflowTracking(uri=f"sqlite:///{project.folder / 'mlflow.db'}")
    assert [run.info.status for run in runs_of(tracking, "ranking")[1]] == ["FAILED"]


def test_end_tracker_runs_after_a_failed_run_ends_what_it_left_running(tracking: MLflowTracking) -> None:
    @dg.op
    def killed() -> None:
        raise RuntimeError

    @dg.job
    def training() -> None:
        killed()

    with dg.DagsterInstance.ephemeral() as instance:
        result = training.execute_in_process(instance=instance, raise_on_error=False)
        context = dg.build_run_status_sensor_context(
            sensor_name="end_tracker_runs",
            dagster_event=result.get_run_failure_event(),
            dagster_instance=instance,
            dagster_run=result.dagster_run,
        ).for_run_failure()
        left = tracking.partition_runs(
            experiment="sensor", asset="sensor/fitted_model", partitions=[WEEK], root_run_id=result.run_id
        )
        with left:
            end_tracker_runs(context, mlflow=tracking)
            assert [run.info.status for run in runs_of(tracking, "sensor")[1]] == ["FAILED"]
