"""Studies in MLflow: a real store on SQLite; which trials become runs, and that a retry makes none again."""

from collections.abc import Iterator

import polars as pl
import pytest

from hf_pipelines.research.tuning import Budget, Design, Goal, Outcome, read_space, run_study
from hf_pipelines.resources.mlflow_errors import TrackingUnavailableError
from hf_pipelines.resources.mlflow_runs import PartitionRuns
from hf_pipelines.resources.mlflow_studies import BEST, MOST_OF_FRONT, chosen_trials, log_trials
from hf_pipelines.resources.mlflow_tracking import MLflowTracking

SPACE = read_space(
    {"x": {"type": "float", "low": 0.0, "high": 1.0}, "kind": {"type": "categorical", "choices": ["a", "b"]}}
)
GAIN, COST = Goal("gain", True), Goal("cost", False)
WEEK = "2013-02-24"


def evaluate(task):
    x = task.point["x"]
    return (
        Outcome("failed", error="x is small, https://user:secretword@host says")
        if x < 0.05
        else Outcome("completed", (x, x * x + (task.point["kind"] == "b")), scores=(("seconds", x),))
    )


def study_of(trials, goals=(GAIN, COST), evaluate=evaluate):
    design = Design(space=SPACE, goals=goals, budget=Budget(trials=trials), sampler="random", batch=100)
    return run_study(design, evaluate)


def table_of(study, fold=None):
    return study.table().select(pl.lit(fold, dtype=pl.Int32).alias("fold"), pl.all())


@pytest.fixture(scope="module")
def study():
    return study_of(1000)


@pytest.fixture
def tracking(tmp_path, mlflow_template) -> MLflowTracking:
    (tmp_path / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    return MLflowTracking(uri=f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.fixture
def runs(tracking) -> Iterator[PartitionRuns]:
    opened = tracking.study_run(experiment="s", asset="s/tuning", partition=WEEK, study="abc")
    yield opened
    opened.end("FINISHED")


def below(runs, **tags):
    query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    experiment = runs.client.get_run(runs.runs[WEEK]).info.experiment_id
    return runs.client.search_runs([experiment], query, max_results=1000)


def test_the_best_and_the_front_are_runs_below_their_study(runs, tracking, study, monkeypatch):
    monkeypatch.delenv("HF_MLFLOW_TRIALS", raising=False)
    n = log_trials(runs, WEEK, table_of(study), goal=GAIN)
    assert len(study.trials) == 1000 and BEST < n <= BEST + MOST_OF_FRONT
    by_slot = {int(each.data.tags["hf.slot"]): each for each in below(runs, **{"mlflow.parentRunId": runs.runs[WEEK]})}
    completed = [each for each in study.trials if each.outcome.values]
    best = sorted(completed, key=lambda each: -each.outcome.values[0])[:BEST]
    assert {each.slot for each in best} <= by_slot.keys() and len(by_slot) == n
    trial = best[3]
    run = by_slot[trial.slot]
    assert run.data.metrics == {
        "gain": trial.outcome.values[0],
        "cost": trial.outcome.values[1],
        "seconds": trial.point["x"],
    }
    assert run.data.params == {"x": str(trial.point["x"]), "kind": trial.point["kind"]}
    assert run.info.status == "FINISHED" and run.info.run_name == f"trial {trial.slot}"
    assert [slot for slot, each in by_slot.items() if each.data.tags["hf.is_used"] == "True"] == [study.best.slot]
    on_front = {each.slot for each in study.front}
    shown = {slot for slot, each in by_slot.items() if each.data.tags["hf.is_on_front"] == "True"}
    assert shown == on_front & by_slot.keys()
    # A retry: nothing twice, but what was killed half way is there whole.
    runs.client.update_run(run.info.run_id, status="RUNNING")
    assert log_trials(runs, WEEK, table_of(study), goal=GAIN) == 1
    assert log_trials(runs, WEEK, table_of(study), goal=GAIN) == 0
    # The same study has one run, another one of the week another, both below that of the week.
    again, other = (tracking.study_run(experiment="s", asset="s/tuning", partition=WEEK, study=each) for each in "ab")
    same = tracking.study_run(experiment="s", asset="s/tuning", partition=WEEK, study="abc")
    assert same.runs == runs.runs and again.runs != other.runs
    assert again.parents == other.parents == runs.parents
    assert log_trials(other, WEEK, table_of(study), goal=GAIN) == n


def test_every_trial_becomes_a_run_by_option(runs, monkeypatch):
    monkeypatch.setenv("HF_MLFLOW_TRIALS", "all")
    study = study_of(30)
    assert log_trials(runs, WEEK, table_of(study), goal=GAIN) == 30
    failed = [each.slot for each in study.trials if each.outcome.error]
    found = below(runs, **{"hf.state": "failed"})
    assert sorted(int(each.data.tags["hf.slot"]) for each in found) == failed != []
    assert {each.info.status for each in found} == {"FAILED"}
    # Nothing secret stands there.
    assert {each.data.tags["hf.error"] for each in found} == {"x is small, https://***@host says"}


def test_the_best_are_those_of_the_objectives_direction_that_hold_the_constraints():
    def bounded(task):
        x = task.point["x"]
        return Outcome("completed", (x,), excesses=(("max_drawdown", 0.5 - x),))

    for goal, first in ((Goal("loss", False), 0.5), (Goal("gain", True), None)):
        study = study_of(200, (goal,), bounded)
        chosen = chosen_trials(table_of(study), goal=goal, are_all=False)
        able = [each for each in study.trials if each.point["x"] >= 0.5]
        ranked = sorted(able, key=lambda each: each.point["x"], reverse=first is None)
        assert set(chosen["slot"]) == {each.slot for each in ranked[:BEST]}


def test_a_long_front_is_shown_evenly(study):
    chosen = chosen_trials(table_of(study), goal=GAIN, are_all=False)
    along = sorted(study.front, key=lambda each: each.outcome.values[0])
    assert {along[0].slot, along[-1].slot} <= {*chosen["slot"]}
    assert len(along) > MOST_OF_FRONT and len(chosen) <= BEST + MOST_OF_FRONT
    assert chosen["slot"].is_sorted()


def test_of_an_outer_fold_the_trial_that_is_used_is_a_run_and_of_a_study_without_a_best_none(runs):
    study, none = (study_of(40, (GAIN,), each) for each in (_gain, _fail))
    table = pl.concat([table_of(none, fold=0), table_of(study, fold=1), table_of(study)])
    assert log_trials(runs, WEEK, table, goal=GAIN) == BEST + 1
    (of_fold,) = below(runs, **{"hf.fold": "1"})
    assert of_fold.data.tags["hf.slot"] == str(study.best.slot)
    assert of_fold.info.run_name == f"fold 1 trial {study.best.slot}"
    assert log_trials(runs, WEEK, table, goal=GAIN) == 0


def test_a_store_that_goes_away_is_one_error_without_a_secret(runs, tmp_path):
    store = tmp_path / "mlflow.db"
    whole = store.read_bytes()
    store.write_bytes(b"no database")
    with pytest.raises(TrackingUnavailableError, match=r"`HF_MLFLOW_URI` must answer to log the trials of 2013-02-24"):
        log_trials(runs, WEEK, table_of(study_of(3, (GAIN,), _gain)), goal=GAIN)
    store.write_bytes(whole)


def _gain(task):
    return Outcome("completed", (task.point["x"],))


def _fail(task):
    return Outcome("failed", error="no")
