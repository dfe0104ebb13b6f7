"""Restarts: SIGKILL at every step of a publish, in training and in a backfill, of a run alone and of everything at once.

After each the old partition is what it was, the run is failed within two polls, its slots are free (one run at a time
is allowed, and its retry runs), the retry makes the identical bytes, and no tracker run is still RUNNING.
"""

import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import suppress

import dagster as dg
import psutil
import pytest
import yaml

from hf_pipelines_tests.checkout import DAY, FIRST_BARS, REPOSITORY, WEEK, Checkout, built_checkout
from hf_pipelines_tests.fault_folder import FaultFolder
from hf_pipelines_tests.running import ASK_EVERY_S, Running, running
from hf_pipelines_tests.servers import wait_until
from hf_pipelines_tests.test_faults import BARS, publish_old

MODEL, SIGNALS = "short_ranking/fitted_model", "short_ranking/signals"
# Its fit takes long enough to be hit.
TREES = "short_trees/fitted_model"

# A run that held its slot for ever would hold up everything.
ONE_RUN = {"concurrency": {"runs": {"max_concurrent_runs": 1}}}
SETTINGS = yaml.safe_load((REPOSITORY / "dagster.yaml").read_text())
TWO_POLLS_S = 2 * SETTINGS["run_monitoring"]["poll_interval_seconds"]
RETRIES = SETTINGS["run_retries"]["max_retries"]

WAIT_S = 300.0

pytestmark = pytest.mark.servers

TERMINATE = "mutation Terminate($id: String!) { terminateRun(runId: $id) { __typename } }"


class Workplace:
    """A built checkout with its services running, and a folder of faults that its processes run into."""

    def __init__(self, services: Running, faults: FaultFolder) -> None:
        self.services = services
        self.faults = faults
        self.checkout = services.checkout
        self.store = self.checkout.store()
        self.new = built_checkout().hashes

    def hash(self, asset: str, key: str) -> str:
        # Reading recomputes it: half a file would be refused.
        return self.store.read(asset, key).footer.content_hash

    def plant(self, *points: str, asset: str, partition: str, and_all: bool = False) -> None:
        """One fault after the other, for the processes that reach them; `and_all`: the services die with them."""
        services = [server.process.pid for server in self.services.servers.values()] if and_all else []
        # An attachment is put each time, the partition only when it changes; both come before the event.
        is_event = points == ("event",)
        key = f"(_attached/)?{asset}/{partition}.*" if is_event else f"{asset}/{partition}.parquet"
        self.faults.plant(*points, key=key, kill=services)

    def plant_for_all(self, point: str | None) -> None:
        """What kills the services with the next run of `TREES`, if there is a point."""
        if point is not None:
            self.plant(point, asset=TREES, partition=WEEK, and_all=True)

    def died_at(self) -> float:
        return float((self.faults.path / "died").read_text())

    def attempts(self, root: str) -> dict[str, str]:
        """A run and its retries with their statuses, oldest first."""
        retries = self.services.runs(**{"dagster/root_run_id": root})[::-1]
        return {root: self.services.status(root)} | {run["id"]: run["status"] for run in retries}

    def wait_for_failures(self, root: str, number: int) -> str:
        """Id of the attempt whose failure is the `number`th."""

        def are_failed() -> bool:
            return list(self.attempts(root).values())[:number] == ["FAILURE"] * number

        wait_until(are_failed, f"failure {number} of {root}", timeout_s=WAIT_S, every_s=ASK_EVERY_S)
        return list(self.attempts(root))[number - 1]

    def wait_for_success(self, root: str, *, failures: int) -> str:
        """Id of the attempt that succeeded after exactly so many failures."""
        wait_until(
            lambda: len(self.attempts(root)) > failures,
            f"attempt {failures + 1} of {root}",
            timeout_s=WAIT_S,
            every_s=ASK_EVERY_S,
        )
        last = list(self.attempts(root))[failures]
        self.services.wait_for_run(last, timeout_s=WAIT_S)
        assert list(self.attempts(root).values()) == [*["FAILURE"] * failures, "SUCCESS"]
        return last

    def seconds_to_failure(self, run_id: str) -> float:
        (failed,) = [each["at"] for each in self.services.events(run_id) if each["type"] == "RUN_FAILURE"]
        return float(failed - self.died_at())

    def polls(self, run_id: str) -> int:
        """How often the present daemon has looked at a run."""
        log = self.services.log("daemon").rsplit("Instance is configured with the following daemons", 1)[-1]
        return log.count(f"Checking run {run_id}")

    def wait_for_death_of_all(self) -> None:
        """Wait until a process has taken all services with it."""
        servers = self.services.servers.values()
        wait_until(
            lambda: not any(each.is_running for each in servers),
            "end of all services",
            timeout_s=WAIT_S,
            every_s=ASK_EVERY_S,
        )
        # What they had started; a run among it dies by itself.
        self.services.kill(*self.services.servers)

    def tracker_runs(self, status: str) -> int:
        """Runs of the MLflow tracker that have a status."""
        tracker = sqlite3.connect(f"file:{self.checkout.data / 'mlflow.db'}?mode=ro", uri=True)
        with suppress(sqlite3.OperationalError):
            return int(tracker.execute("SELECT count(*) FROM runs WHERE status = ?", [status]).fetchone()[0])
        return -1

    def wait_for_quiet_tracker(self) -> None:
        wait_until(
            lambda: self.tracker_runs("RUNNING") == 0, "end of all tracker runs", timeout_s=WAIT_S, every_s=ASK_EVERY_S
        )

    def wait_for_polls(self, run_id: str, number: int = 3) -> None:
        """Wait until the daemon has looked at a run so many times more."""
        before = self.polls(run_id)
        wait_until(
            lambda: self.polls(run_id) >= before + number,
            f"{number} polls",
            timeout_s=WAIT_S,
            every_s=ASK_EVERY_S,
        )

    def launch_stopped(self, asset: str, partition: str) -> tuple[str, psutil.Process]:
        """Id of a run over an older content, and its process, which a fault has stopped before its put."""
        publish_old(self.store, asset, partition, self.store)
        self.plant("stop", asset=asset, partition=partition)
        run_id = self.services.launch([asset], partition)
        return run_id, self.faults.stopped()


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    folder = tmp_path_factory.mktemp("restarts")
    faults = FaultFolder(folder / "faults")
    copy = built_checkout().checkout.copy_of_data(folder / "data")
    # Commands share the instance of the services.
    env = {**faults.env, "DAGSTER_HOME": str(folder / "run" / "home")}
    checkout = Checkout(copy.root, copy.data, env)
    # They would follow what the tests do to bars and models.
    followers = ["short_ranking_follows", "short_trees_follows"]
    with running(checkout, folder / "run", dagster_yaml=ONE_RUN, without_sensors=followers) as services:
        yield Workplace(services, faults)


def test_publish_killed_before_during_and_after_the_write_leaves_a_whole_partition_and_the_last_retry_makes_it_identical(
    workplace: Workplace,
) -> None:
    new = workplace.new[f"{MODEL}/{WEEK}"]
    old = publish_old(workplace.store, MODEL, WEEK, workplace.store)
    assert old != new
    workplace.plant("before", "during", "after", asset=MODEL, partition=WEEK)
    root = workplace.services.launch([MODEL], WEEK)
    found, seconds = [], []
    for number in range(1, RETRIES + 1):
        run_id = workplace.wait_for_failures(root, number)
        found.append(workplace.hash(MODEL, WEEK))
        seconds.append(workplace.seconds_to_failure(run_id))
    assert found == [old, old, new]
    assert max(seconds) < TWO_POLLS_S

    workplace.wait_for_success(root, failures=RETRIES)
    footer = workplace.store.read(MODEL, WEEK).footer
    # What the third attempt had made whole stays on record as its own.
    assert (footer.content_hash, footer.run_id) == (new, run_id)
    workplace.wait_for_quiet_tracker()


def test_everything_killed_in_training_in_the_write_and_before_the_event_is_made_good_after_each_restart(
    workplace: Workplace,
) -> None:
    services, new = workplace.services, workplace.new[f"{TREES}/{WEEK}"]
    # Stopped with its model fitted and not written: the fit itself is over too soon to be caught.
    root, _ = workplace.launch_stopped(TREES, WEEK)
    old = workplace.hash(TREES, WEEK)
    assert old != new and workplace.tracker_runs("RUNNING") > 0
    services.kill()
    found, polls = [workplace.hash(TREES, WEEK)], []
    for number, point in enumerate(["during", "event", None], start=1):
        # The retry that the daemon launches by itself is what dies next.
        services.start(once_launched=lambda point=point: workplace.plant_for_all(point))
        polls.append(workplace.polls(workplace.wait_for_failures(root, number)))
        if point is not None:
            workplace.wait_for_death_of_all()
            found.append(workplace.hash(TREES, WEEK))
    workplace.wait_for_success(root, failures=RETRIES)
    assert found == [old, old, new]
    assert max(polls) <= 2
    assert workplace.hash(TREES, WEEK) == new
    workplace.wait_for_quiet_tracker()


def test_backfill_killed_alone_and_then_with_everything_keeps_each_week_whole_and_ends_with_all_of_them(
    workplace: Workplace,
) -> None:
    services = workplace.services
    new = {key.split("/")[-1]: each for key, each in workplace.new.items() if key.startswith(f"{BARS}/")}
    weeks = [week for week in sorted(new) if week >= FIRST_BARS][:9]
    old = {week: publish_old(workplace.store, BARS, week, workplace.store) for week in weeks}

    def n_new() -> int:
        # Each week is whole, and either what it was or what it shall be.
        found = {week: workplace.hash(BARS, week) for week in weeks}
        assert all(found[week] in (old[week], new[week]) for week in weeks)
        return sum(found[week] == new[week] for week in weeks)

    workplace.plant("during", asset=BARS, partition=weeks[2])
    root = services.launch([BARS], weeks[0], weeks[-1])
    workplace.wait_for_failures(root, 1)
    assert n_new() == 2
    workplace.plant("after", asset=BARS, partition=weeks[5], and_all=True)
    workplace.wait_for_death_of_all()
    assert n_new() == 6
    services.start()
    assert workplace.polls(workplace.wait_for_failures(root, 2)) <= 2
    workplace.wait_for_success(root, failures=2)
    assert n_new() == len(weeks)


def test_signal_whose_run_is_killed_before_its_event_is_issued_once(workplace: Workplace) -> None:
    services = workplace.services
    (workplace.checkout.data / "storage" / SIGNALS / f"{DAY}.parquet").unlink()
    workplace.plant("event", asset=SIGNALS, partition=DAY, and_all=True)
    root = services.launch([SIGNALS], DAY)
    workplace.wait_for_death_of_all()
    issued = workplace.store.read(SIGNALS, DAY)
    services.start()
    workplace.wait_for_success(root, failures=1)
    after = workplace.store.read(SIGNALS, DAY)
    # The very same bytes, made when they were made first, and no second issue beside them.
    assert after.footer == issued.footer
    assert after.frame.equals(issued.frame)
    assert after.footer.run_id == root
    assert after.footer.content_hash == workplace.new[f"{SIGNALS}/{DAY}"]
    assert workplace.store.versions(SIGNALS, DAY) == []


def test_run_whose_failure_is_read_before_its_status_is_written_is_retried_all_the_same(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, process = workplace.launch_stopped(BARS, WEEK)
    monkeypatch.setenv("DAGSTER_HOME", str(workplace.services.home))
    with dg.DagsterInstance.get() as instance:
        # What Dagster does one after the other when a run has died; its daemon looks every second.
        failure = dg.DagsterEvent(dg.DagsterEventType.RUN_FAILURE.value, "__ASSET_JOB", message="killed")
        instance.event_log_storage.store_event(
            dg.EventLogEntry(None, 40, "", root, time.time(), job_name="__ASSET_JOB", dagster_event=failure)
        )
        workplace.wait_for_polls(root)
        assert workplace.attempts(root) == {root: "STARTED"}
        instance.run_storage.handle_run_event(root, failure)
    assert workplace.attempts(root)[root] == "FAILURE"
    process.kill()
    workplace.wait_for_success(root, failures=1)
    assert workplace.hash(BARS, WEEK) == workplace.new[f"{BARS}/{WEEK}"]


@pytest.mark.long
def test_run_whose_code_server_is_killed_is_left_to_end_by_itself_and_can_still_be_terminated(
    workplace: Workplace,
) -> None:
    services, new = workplace.services, workplace.new[f"{BARS}/{WEEK}"]
    finishing, process = workplace.launch_stopped(BARS, WEEK)
    services.kill("code_server", with_runs=False)
    workplace.wait_for_polls(finishing)
    assert services.status(finishing) == "STARTED"
    services.start("code_server")
    workplace.wait_for_polls(finishing)
    assert services.status(finishing) == "STARTED"
    process.send_signal(signal.SIGCONT)
    workplace.wait_for_success(finishing, failures=0)
    assert workplace.hash(BARS, WEEK) == new

    terminated, process = workplace.launch_stopped(BARS, WEEK)
    old = workplace.hash(BARS, WEEK)
    services.kill("code_server", with_runs=False)
    services.start("code_server")
    answer = services.graphql(TERMINATE, id=terminated)["terminateRun"]
    assert answer["__typename"] == "TerminateRunSuccess"
    process.send_signal(signal.SIGCONT)
    assert services.wait_for_run(terminated) == "CANCELED"
    assert workplace.attempts(terminated) == {terminated: "CANCELED"}
    wait_until(lambda: not process.is_running(), "end of its process", timeout_s=WAIT_S, every_s=ASK_EVERY_S)
    assert workplace.hash(BARS, WEEK) in (old, new)


def test_command_that_is_killed_is_failed_within_two_polls_and_is_not_announced_for_a_retry(
    workplace: Workplace,
) -> None:
    new = workplace.new[f"{MODEL}/{WEEK}"]
    old = publish_old(workplace.store, MODEL, WEEK, workplace.store)
    workplace.plant("before", asset=MODEL, partition=WEEK)
    killed = workplace.checkout.hfp("materialise", MODEL, "--from", WEEK)
    assert killed.returncode == -signal.SIGKILL
    run_id = workplace.services.runs()[0]["id"]
    before = workplace.polls(run_id)
    assert workplace.hash(MODEL, WEEK) == old
    assert workplace.services.wait_for_run(run_id) == "FAILURE"
    assert workplace.polls(run_id) <= before + 2

    def announced() -> str | None:
        tags: dict[str, str] = next(run["tags"] for run in workplace.services.runs() if run["id"] == run_id)
        return tags.get("dagster/will_retry")

    # Dagster writes it after the failure, not with it.
    wait_until(lambda: announced() is not None, "word of a retry", timeout_s=WAIT_S, every_s=ASK_EVERY_S)
    assert announced() == "false"
    workplace.wait_for_quiet_tracker()

    workplace.checkout.succeed("materialise", MODEL, "--from", WEEK)
    assert workplace.hash(MODEL, WEEK) == new
