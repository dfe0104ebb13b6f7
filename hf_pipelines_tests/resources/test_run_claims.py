"""Claims of runs, by real processes: forked ones, which inherit no lock."""

import multiprocessing
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.instance.ref import InstanceRef
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.dagster_run import DagsterRunStatus

from hf_pipelines.resources import run_claims
from hf_pipelines.resources.run_claims import CLAIMED, RunClaimedError, claim, claim_if_worker, claiming_ref
from hf_pipelines_tests.checkout import REPOSITORY

FORK = multiprocessing.get_context("fork")
WAIT_S = 60.0


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def add_run(instance: dg.DagsterInstance, status: DagsterRunStatus) -> str:
    # Nobody listens there; a queued run has an address.
    server = GrpcServerCodeLocationOrigin(host="127.0.0.1", port=9, location_name="a server")
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(server, "__repository__"), "a job")
    return instance.add_run(dg.DagsterRun("a job", status=status, remote_job_origin=origin)).run_id


def _claimed(run_id: str, instance: dg.DagsterInstance, folder: Path, answers: Connection) -> None:
    try:
        claim_if_worker(run_id, instance.run_storage, folder)
    except RunClaimedError as e:
        answers.send(str(e))
        return
    answers.send("claimed")
    # The other end is closed, or this process is killed.
    answers.poll(None)


class Claimant:
    """A process that claims a run and keeps it."""

    def __init__(self, run_id: str, instance: dg.DagsterInstance, folder: Path) -> None:
        self.answers, its_end = FORK.Pipe()
        self.process: BaseProcess = FORK.Process(target=_claimed, args=[run_id, instance, folder, its_end], daemon=True)
        self.process.start()

    def answer(self) -> str:
        assert self.answers.poll(WAIT_S)
        return str(self.answers.recv())

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


def held_run(instance: dg.DagsterInstance, folder: Path, status: DagsterRunStatus) -> tuple[str, Claimant]:
    """A run of a status, and the process that has claimed it."""
    run_id = add_run(instance, status)
    claimant = Claimant(run_id, instance, folder)
    assert claimant.answer() == "claimed"
    return run_id, claimant


def test_run_that_a_living_process_executes_is_refused_to_another_and_free_again_when_it_is_killed(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    run_id, first = held_run(instance, tmp_path, DagsterRunStatus.STARTED)
    second = Claimant(run_id, instance, tmp_path)
    assert second.answer() == (
        f"`run` must be one that waits for this process, was {run_id}, that another process holds."
    )
    _, other = held_run(instance, tmp_path, DagsterRunStatus.STARTED)
    first.kill()
    third = Claimant(run_id, instance, tmp_path)
    assert third.answer() == "claimed"
    for each in (second, third, other):
        each.kill()


def test_process_whose_run_another_holds_and_has_not_begun_takes_it_over_when_that_one_dies(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    run_id, first = held_run(instance, tmp_path, DagsterRunStatus.STARTING)
    second = Claimant(run_id, instance, tmp_path)
    assert not second.answers.poll(2 * run_claims.LOOK_EVERY_S)
    first.kill()
    assert second.answer() == "claimed"
    second.kill()


def test_process_that_waits_for_a_run_ends_when_its_patience_does(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_claims, "WAIT_S", 0.0)
    run_id, first = held_run(instance, tmp_path, DagsterRunStatus.STARTING)
    second = Claimant(run_id, instance, tmp_path)
    assert "that another process holds" in second.answer()
    for each in (first, second):
        each.kill()


def test_process_of_a_run_that_is_back_in_the_queue_ends_and_holds_nothing(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    run_id = add_run(instance, DagsterRunStatus.QUEUED)
    with pytest.raises(RunClaimedError, match="is back in the queue"):
        claim(run_id, instance.run_storage, tmp_path)
    instance.report_dagster_event(DagsterEvent(DagsterEventType.RUN_STARTING.value, "a job"), run_id)
    next_one = Claimant(run_id, instance, tmp_path)
    assert next_one.answer() == "claimed"
    next_one.kill()


def test_code_server_and_processes_below_that_of_a_run_claim_nothing(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = add_run(instance, DagsterRunStatus.QUEUED)
    # This process was not started to execute a run: it is not refused.
    claim_if_worker(run_id, instance.run_storage, tmp_path)
    monkeypatch.setenv(CLAIMED, run_id)
    below = Claimant(run_id, instance, tmp_path)
    assert below.answer() == "claimed"
    below.kill()
    assert list(tmp_path.iterdir()) == []


def test_reference_of_another_storage_than_the_projects_is_left_as_it_is(tmp_path: Path) -> None:
    ref = InstanceRef.from_dir(str(tmp_path))
    assert claiming_ref(ref, "a run") == ref
    (tmp_path / "dagster.yaml").write_text((REPOSITORY / "dagster.yaml").read_text())
    ours = claiming_ref(InstanceRef.from_dir(str(tmp_path)), "a run").storage_data
    assert ours is not None
    assert ours.config_dict == {"run_id": "a run"}
