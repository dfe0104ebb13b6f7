"""Tuned weeks on processes, on Ray, on two machines, in two runs at once, and with two hundred trials: `make long`."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hf_pipelines.research.tuning.evaluation import Evaluation
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.trial_ledger import TrialLedger, n_trials
from hf_pipelines_tests.components.test_tuning import ALPHA, CV, MATRIX, SMALL, TUNING, WEEK, tuned_strategy
from hf_pipelines_tests.components.tuning_script import MODULE, write_order
from hf_pipelines_tests.forked import popen
from hf_pipelines_tests.pipeline import Project
from hf_pipelines_tests.resources.trial_ledger.trying import new_process
from hf_pipelines_tests.servers import s3_server

pytestmark = pytest.mark.long

# The account goes to workers too: the plan, its rule and the bars.
TRADED = {
    **SMALL,
    "objective": ["total_return", "artifact_bytes"],
    "space": {"learner": {"alpha": ALPHA}, "rule": {"n_long": {"type": "int", "low": 1, "high": 2}}},
}


@pytest.fixture(scope="module")
def matrices(small_project: Project, tmp_path_factory) -> Project:
    project = small_project.copy(tmp_path_factory.mktemp("matrices") / "project")
    project.rewrite(strategies=[tuned_strategy(SMALL)])
    project.make(MATRIX, WEEK)
    return project


@pytest.fixture
def project(matrices: Project, tmp_path: Path, monkeypatch) -> Iterator[Project]:
    monkeypatch.setenv("HF_ACTOR", "ada")
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path / "data"))
    new_process()
    yield matrices.copy(tmp_path / "project")
    new_process()


def content_of(project: Project) -> str:
    return project.store.footer(TUNING, WEEK).content_hash


def undisturbed(project: Project, folder: Path) -> str:
    alone = project.copy(folder / "alone")
    alone.make(TUNING, WEEK)
    new_process()
    return content_of(alone)


def started(folder: Path, after: int = -1, **env: str):
    child_env = {**os.environ, "HF_FAN_OUT_WORKERS": "1", "PYTHONPATH": os.getcwd(), **env}
    return popen([sys.executable, "-m", MODULE, str(folder), str(after)], env=child_env)


def beside(project: Project, folder: Path, uri: str) -> Project:
    """The same project on another machine: another folder and tracker, the same store."""
    folder.mkdir()
    shutil.copy(project.folder / "mlflow.db", folder / "mlflow.db")
    found = Project(folder, project.market, project.strategies, uri=uri)
    write_order(found, TUNING, WEEK)
    return found


@pytest.mark.xdist_group("ray")
@pytest.mark.parametrize("backend", ["processes", "ray"])
def test_a_whole_study_is_the_same_on_threads_and_elsewhere(project, tmp_path, monkeypatch, backend):
    project.rewrite(strategies=[tuned_strategy(TRADED)])
    expected = undisturbed(project, tmp_path)
    monkeypatch.setenv("HF_FAN_OUT", backend)
    monkeypatch.setenv("HF_FAN_OUT_WORKERS", "2")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(each or os.getcwd() for each in sys.path))
    run = project.make(TUNING, WEEK)
    said = [each.user_message for each in project.instance.all_logs(run.result.run_id)]
    assert any(each.startswith("fan-out: ") and backend in each.lower() for each in said)
    assert content_of(project) == expected


def test_two_runs_of_one_week_at_once_end_with_the_same_study_and_count_it_once(project, tmp_path):
    expected = undisturbed(project, tmp_path)
    uri = str(project.folder / "storage")
    both = [beside(project, tmp_path / name, uri) for name in ("one", "other")]
    children = [started(each.folder) for each in both]
    assert [each.wait(timeout=400) for each in children] == [0, 0]
    assert content_of(project) == expected
    ledger = TrialLedger(project.store.objects, "reader").known()
    assert n_trials(ledger) == 8 and ledger["outcome"].to_list() == ["completed"] * 8
    assert project.store.objects.keys("_fits") == []


def test_a_study_on_s3_survives_its_machine(project, tmp_path, monkeypatch):
    expected = undisturbed(project, tmp_path)
    with s3_server(tmp_path) as s3:
        for name, value in s3.env.items():
            monkeypatch.setenv(name, value)
        uri = f"s3://{s3.bucket}/research"
        objects = ObjectStore(uri, s3.endpoint)
        for key in project.store.objects.all_keys():
            objects.put(key, project.store.objects.get(key))
        lost, other = (beside(project, tmp_path / name, uri) for name in ("lost", "other"))
        child = started(lost.folder, 5, HF_DATA_DIR=str(lost.folder / "data"))
        assert child.wait(timeout=400) == -signal.SIGKILL
        shutil.rmtree(lost.folder)
        evaluate, evaluated, _ = Evaluation.__call__, [], other.definitions
        monkeypatch.setattr(
            Evaluation, "__call__", lambda self, task: evaluated.append(task.slot) or evaluate(self, task)
        )
        other.make(TUNING, WEEK)
        assert sorted(evaluated) == [5, 6, 7]
        assert content_of(other) == expected
        # What the ledger of the lost machine had not sent is sent by whoever evaluates it again.
        ledger = TrialLedger(other.store.objects, "reader").known()
        assert n_trials(ledger) == 8
        new_process()


def test_the_ledger_counts_all_two_hundred_trials_and_cv_results_no_other(project):
    project.rewrite(strategies=[tuned_strategy({**SMALL, "trials": 200, "batch": 50, "sampler": "random"})])
    project.make([TUNING, CV], WEEK)
    assert n_trials(TrialLedger(project.store.objects, "reader").known()) == 200
    assert project.store.footer(CV, WEEK).facts["trials_tuned"] == 200
