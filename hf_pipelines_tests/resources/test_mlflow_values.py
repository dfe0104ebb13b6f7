"""What MLflow takes: names, sizes, batches, and points of a fit that goes on, against a real SQLite store."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from hf_pipelines.resources.mlflow_errors import TrackingUnavailableError
from hf_pipelines.resources.mlflow_runs import PartitionRuns
from hf_pipelines.resources.mlflow_steps import StepSender
from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines.resources.mlflow_values import DatasetNote, ModelNote, RunNotes, batches, loggable_name

WEEK = "2012-04-01"


@pytest.fixture
def tracking(tmp_path: Path, mlflow_template: Path) -> MLflowTracking:
    (tmp_path / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    return MLflowTracking(uri=f"sqlite:///{tmp_path / 'mlflow.db'}")


def opened(tracking: MLflowTracking, root: str = "r"):
    return tracking.partition_runs(
        experiment="momentum", asset="momentum/fitted_model", partitions=[WEEK], root_run_id=root
    )


@pytest.mark.parametrize(
    "name", ["loss (5%)", "a=b;c", "Größe", "/abs", "../../x", "a//b", "", "x" * 400, "quantile_0.1", "fold/ic: mean"]
)
def test_loggable_names_are_taken_by_mlflow(name):
    from mlflow.utils.validation import _validate_metric_name, _validate_param_name

    _validate_metric_name(loggable_name(name))
    _validate_param_name(loggable_name(name))
    assert loggable_name("fold/quantile_0.1") == "fold/quantile_0.1" and len(loggable_name(name)) <= 250


@pytest.mark.parametrize("longest", [6_000, 1_000], ids=["MLflow's limit", "Qlib's limit"])
def test_everything_of_a_wide_model_is_logged_and_what_cannot_be_is_said(tracking, monkeypatch, longest):
    """Qlib lowers MLflow's limit of a parameter in the process that imports its recorder."""
    monkeypatch.setattr("mlflow.utils.validation.MAX_PARAM_VAL_LENGTH", longest)
    features = [f"group/feature_{at:04d}" for at in range(2_000)]
    notes = RunNotes(
        params={"features": ", ".join(features), **{f"p{at}": at for at in range(250)}},
        metrics={"sharpe": float("inf"), "sortino": float("nan"), **{f"m{at}": float(at) for at in range(1_500)}},
        steps={"fold/ic": [0.1, None, float("-inf"), 0.4]},
        tags={"hf.long": "x" * 20_000, "hf.address": "postgresql://quant:hunter2@db/x"},
        dataset=DatasetNote("momentum/training_matrix", "s3://b/x.parquet", "ab" * 32, features, 10),
        model=ModelNote("momentum-2012", "s3://b/model.ubj", "0" * 64),
        files={"features.txt": b"a", "pictures/p.png": b"\x89PNG"},
    )
    assert [len(each["metrics"]) for each in batches(notes, time_ms=1)] == [1_000, 502, 0]
    for _ in range(2):
        # A retry: the same again.
        with opened(tracking) as runs:
            runs.note(WEEK, notes)
            run_id = runs.runs[WEEK]
    client = tracking.client()
    run = client.get_run(run_id)
    assert len(run.data.params) == 251 and len(run.data.metrics) == 1_501
    assert len(run.data.params["features"]) == longest
    assert run.data.params["features"].endswith(f"... ({len(notes.params['features']):,} characters)")
    assert run.data.tags["hf.not_finite"] == "fold/ic, sharpe, sortino" and "sharpe" not in run.data.metrics
    assert len(run.data.tags["hf.long"]) == 8_000 and "hunter2" not in str(run.data.tags)
    assert [(each.step, each.value) for each in client.get_metric_history(run_id, "fold/ic")] == [(0, 0.1), (3, 0.4)]
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.digest == "ab" * 18 and "group/feature_1999" in dataset.dataset.schema
    (model,) = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
    assert model.tags["hf.sha256"] == "0" * 64 and model.status == "READY"
    assert sorted(each.path for each in client.list_artifacts(run_id)) == ["features.txt", "pictures"]


def test_a_week_whose_strategy_was_changed_keeps_its_first_parameters_and_says_the_new_ones(tracking):
    for depth in (3, 5):
        runs = tracking.week_run(experiment="momentum", partition=WEEK)
        runs.note_week(WEEK, RunNotes(params={"depth": depth, "eta": 0.1}, metrics={"cv/ic": depth / 100}))
    run = tracking.client().get_run(runs.parents[WEEK])
    assert run.data.params == {"depth": "3", "eta": "0.1"} and run.data.tags["hf.changed_params"] == '{"depth": "5"}'
    assert run.data.metrics["cv/ic"] == 0.05 and run.info.status == "FINISHED"


def test_a_failure_is_on_its_run_without_secrets_and_goes_when_an_attempt_ends_well(tracking, monkeypatch):
    monkeypatch.setenv("HF_MLFLOW_URI", "postgresql://quant:hunter2@db/x")
    with pytest.raises(ValueError, match="must vary"):
        with opened(tracking):
            raise ValueError("`X` must vary; see postgresql://quant:hunter2@db/x\nsecond line")
    client = tracking.client()
    experiment = client.get_experiment_by_name("momentum").experiment_id
    (child,) = client.search_runs([experiment], "tags.`hf.asset` = 'momentum/fitted_model'")
    assert child.info.status == "FAILED" and child.data.tags["hf.error"].startswith("`X` must vary; see postgresql://")
    assert "second line" not in child.data.tags["hf.error"] and "Traceback" in child.data.tags["hf.trace"]
    assert "hunter2" not in str(child.data.tags)
    with opened(tracking):
        pass
    again = client.get_run(child.info.run_id)
    assert again.info.status == "FINISHED" and not {"hf.error", "hf.trace"} & set(again.data.tags)


def test_steps_are_there_while_the_fit_goes_on(tracking):
    client = tracking.client()
    with opened(tracking) as runs:
        for step in range(50):
            runs.log_step(WEEK, step, {"loss": 1.0 / (step + 1)})
        until = time.monotonic() + 30
        while len(client.get_metric_history(runs.runs[WEEK], "loss")) < 50 and time.monotonic() < until:
            time.sleep(0.1)
        assert client.get_run(runs.runs[WEEK]).info.status == "RUNNING"
        points = client.get_metric_history(runs.runs[WEEK], "loss")
    assert {each.step: each.value for each in points} == {step: 1.0 / (step + 1) for step in range(50)}


def test_a_server_that_is_slow_or_away_holds_no_fit_up():
    stuck = threading.Event()
    slow = StepSender(lambda run_id, points: stuck.wait(60) and None, (TrackingUnavailableError,))
    began = time.monotonic()
    for step in range(30_000):
        slow.put("run", [("loss", 1.0, step)])
    assert time.monotonic() - began < 5.0
    assert slow.close(patience_s=0.5) >= 9_000 and time.monotonic() - began < 10.0
    stuck.set()

    sent: list[int] = []

    def away_at_first(run_id, points):
        if not sent:
            sent.append(0)
            raise TrackingUnavailableError("away")
        sent.append(len(points))

    flaky = StepSender(away_at_first, (TrackingUnavailableError,))
    flaky.put("run", [("loss", 1.0, 0)])
    until = time.monotonic() + 20
    while not sent and time.monotonic() < until:
        time.sleep(0.05)
    flaky.put("run", [("loss", 1.0, 1), ("loss", np.nan, 2)])
    assert flaky.close() == 1 and sum(sent) == 2


def test_a_fit_goes_on_when_the_store_goes_away_in_its_middle(tracking, tmp_path):
    runs = None
    with pytest.raises(TrackingUnavailableError, match="what was published is safe"):
        with opened(tracking) as runs:
            (tmp_path / "mlflow.db").write_bytes(b"no database")
            began = time.monotonic()
            for step in range(1_000):
                runs.log_step(WEEK, step, {"loss": 1.0})
            assert time.monotonic() - began < 2.0
            runs.note(WEEK, RunNotes(metrics={"loss": 1.0}))
    assert isinstance(runs, PartitionRuns)
