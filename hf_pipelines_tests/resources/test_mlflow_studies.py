"""Studies in MLflow: a real store on SQLite; which trials become runs, that a retry makes none again, and how long it takes."""

import io

import polars as pl
import pytest

from hf_pipelines.research.tuning import Budget, Design, Goal, Outcome, read_space, run_study
from hf_pipelines.resources.mlflow_studies import BEST, MOST_OF_FRONT, TABLE, chosen_trials, log_study

SPACE = read_space(
    {"x": {"type": "float", "low": 0.0, "high": 1.0}, "kind": {"type": "categorical", "choices": ["a", "b"]}}
)


def evaluate(task):
    x = task.point["x"]
    return (
        Outcome("failed", error="x is small")
        if x < 0.05
        else Outcome("completed", (x, x * x + (task.point["kind"] == "b")), scores=(("seconds", x),))
    )


@pytest.fixture(scope="module")
def study():
    goals = (Goal("gain", True), Goal("cost", False))
    return run_study(
        Design(space=SPACE, goals=goals, budget=Budget(trials=1000), sampler="random", batch=100), evaluate
    )


@pytest.fixture
def client(tmp_path, mlflow_template):
    import shutil

    from mlflow import MlflowClient

    shutil.copy(mlflow_template, tmp_path / "mlflow.db")
    return MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")


def test_the_best_and_the_front_are_runs_and_all_trials_a_table(client, tmp_path, study, monkeypatch):
    monkeypatch.delenv("HF_MLFLOW_TRIALS", raising=False)
    experiment = client.create_experiment("s", artifact_location=f"file://{tmp_path}/artifacts")
    parent = client.create_run(experiment).info.run_id
    n = log_study(client, parent, study, importances={"x": 0.9, "kind": 0.1})
    assert len(study.trials) == 1000 and BEST < n <= BEST + MOST_OF_FRONT
    runs = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'", max_results=1000)
    by_slot = {int(each.data.tags["hf.slot"]): each for each in runs}
    best = sorted((each for each in study.trials if each.outcome.values), key=lambda each: -each.outcome.values[0])[
        :BEST
    ]
    assert {each.slot for each in best} <= by_slot.keys() and len(by_slot) == n
    trial = best[3]
    run = by_slot[trial.slot]
    assert run.data.metrics == {
        "gain": trial.outcome.values[0],
        "cost": trial.outcome.values[1],
        "seconds": trial.point["x"],
    }
    assert run.data.params == {"x": str(trial.point["x"]), "kind": trial.point["kind"]}
    assert [slot for slot, each in by_slot.items() if each.data.tags["hf.is_used"] == "True"] == [study.best.slot]
    on_front = {each.slot for each in study.front}
    assert {
        slot for slot, each in by_slot.items() if each.data.tags["hf.is_on_front"] == "True"
    } == on_front & by_slot.keys()
    table = pl.read_csv(io.StringIO((tmp_path / "artifacts" / parent / "artifacts" / TABLE).read_text()))
    assert table.height == 1000 and table["is_best"].sum() == 1
    assert client.get_run(parent).data.metrics == {"importance/x": 0.9, "importance/kind": 0.1}
    # A retry: nothing twice, but what was killed half way is there whole.
    client.update_run(run.info.run_id, status="RUNNING")
    assert log_study(client, parent, study, importances={}) == 1
    assert log_study(client, parent, study, importances={}) == 0
    # The same study of an outer fold is another one.
    assert log_study(client, parent, study, importances={}, place="fold 1") == n


def test_every_trial_becomes_a_run_by_option(client, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_MLFLOW_TRIALS", "all")
    study = run_study(
        Design(
            space=SPACE,
            goals=(Goal("gain", True), Goal("cost", False)),
            budget=Budget(trials=30),
            sampler="random",
            batch=30,
        ),
        evaluate,
    )
    experiment = client.create_experiment("s", artifact_location=f"file://{tmp_path}/artifacts")
    parent = client.create_run(experiment).info.run_id
    assert log_study(client, parent, study, importances={}) == 30
    failed = [each.slot for each in study.trials if each.outcome.error]
    found = client.search_runs([experiment], "attributes.status = 'FAILED'")
    assert sorted(int(each.data.tags["hf.slot"]) for each in found) == failed
    assert all(each.data.tags["hf.error"] == "x is small" for each in found)


def test_a_long_front_is_shown_evenly(study):
    chosen = chosen_trials(study, study.front, are_all=False)
    along = sorted(study.front, key=lambda each: each.outcome.values[0])
    assert along[0] in chosen and along[-1] in chosen
    assert len(chosen) <= BEST + MOST_OF_FRONT
