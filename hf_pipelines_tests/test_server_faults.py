"""Server faults: MLflow and PostgreSQL that go away, a code server that restarts, slow ticks, clocks that jump.

Servers and runs are processes of their own. After each fault what is stored is whole, no run is left that nobody ends,
and the hashes are those of an undisturbed run.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines_tests.checkout import WEEK, built_checkout
from hf_pipelines_tests.faulty_s3 import Fault, Faulty, faulty, through
from hf_pipelines_tests.forked import popen
from hf_pipelines_tests.landing import MARKET, STRATEGY, Landing, make_landing
from hf_pipelines_tests.pipeline import Project, files_market, ridge_strategy, session_bars, sessions_from
from hf_pipelines_tests.running import FINISHED, RUNS, Running, running
from hf_pipelines_tests.servers import Postgres, mlflow_server, postgres_server, s3_server, wait_until
from hf_pipelines_tests.short_backoff import shorten_backoff, with_short_backoff

BARS = f"{MARKET}/bars"
ARRIVALS = f"{MARKET}_arrivals"
MODEL = "short_trees/fitted_model"

# How long a sensor's tick may take; Dagster's default is a minute.
TICK_TIMEOUT_S = 8
WAIT_S = 400.0

BACKFILL = """
mutation Backfill($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on Error { message }
  }
}
"""
BACKFILL_STATUS = """
query Status($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }
"""
START_SENSOR = "mutation Start($selector: SensorSelector!) { startSensor(sensorSelector: $selector) { __typename } }"


def tracked(uri: str, experiment: str) -> list[Any]:
    """Tracker runs of partitions."""
    client = MLflowTracking(uri=uri).client()
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id]) if found else []
    return [run for run in runs if "mlflow.parentRunId" in run.data.tags]


@pytest.mark.servers
def test_fitted_model_waits_for_a_tracking_server_that_is_away_before_and_during_training_and_ends_one_run(
    tmp_path: Path,
) -> None:
    built = built_checkout()
    with mlflow_server(tmp_path / "mlflow") as mlflow, faulty(mlflow.uri, tmp_path) as proxy:
        checkout = with_short_backoff(built.checkout, tmp_path, HF_MLFLOW_URI=proxy.endpoint)
        shutil.copytree(built.checkout.data / "storage", checkout.data / "storage")
        path = checkout.data / "storage" / MODEL / f"{WEEK}.parquet"
        path.unlink()
        log = tmp_path / "log"
        # The first question imports MLflow, which takes longer than the fit does.
        assert tracked(mlflow.uri, "short_trees") == []
        # Away at first, as a server that starts later than the run does.
        proxy.refuse()
        with log.open("wb") as output:
            process = popen(
                checkout.command("materialise", MODEL, "--from", WEEK),
                cwd=checkout.root,
                env=checkout.environment(),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            wait_until(lambda: "retry 1 of 3" in log.read_text(), "first wait", timeout_s=WAIT_S)
            assert not path.exists()
            # There while the step opens its run, and gone when it has fitted: the first calls after that.
            proxy.plant(Fault(key=r"/runs/(get|log-batch)", cut="connection"))
            wait_until(lambda: bool(tracked(mlflow.uri, "short_trees")), "tracker run", timeout_s=WAIT_S)
            wait_until(lambda: "retry 2 of 3" in log.read_text(), "second wait", timeout_s=WAIT_S)
            published = path.read_bytes()
            proxy.heal()
            assert process.wait(WAIT_S) == 0, log.read_text()
        finally:
            process.kill()
        (run,) = tracked(mlflow.uri, "short_trees")
    assert "`HF_MLFLOW_URI` must answer to log" in log.read_text()
    assert (run.info.status, run.data.tags["hf.content_hash"]) == ("FINISHED", built.hashes[f"{MODEL}/{WEEK}"])
    stored = checkout.store().read(MODEL, WEEK)
    assert stored.footer.content_hash == built.hashes[f"{MODEL}/{WEEK}"]
    # Fitted twice, published once: the second found what it would have written.
    assert path.read_bytes() == published
    assert checkout.store().versions(MODEL, WEEK) == []


@dataclass
class Database:
    """A PostgreSQL server that can be stopped and started where it was."""

    postgres: Postgres

    def stop(self) -> None:
        self.postgres.server.stop(signal.SIGINT)

    def start(self) -> None:
        server = self.postgres.server
        with server.log.open("ab") as output:
            process = subprocess.Popen(
                server.process.args,
                stdout=output,
                stderr=output,
                cwd=self.postgres.folder / "data",
                user=os.stat(self.postgres.folder / "data").st_uid,
                start_new_session=True,
            )
        # Whoever holds the server stops the new process in the end.
        server.process = process


@dataclass
class Stack:
    """A market fed by files, stored on S3 behind a proxy, run by services that keep their runs in PostgreSQL."""

    landing: Landing
    services: Running
    proxy: Faulty
    database: Database
    store: PartitionStore
    # Content hash of each week of bars, as one command without faults made them on disk.
    undisturbed: dict[str, str]

    def hashes(self, weeks: list[str]) -> dict[str, str]:
        return {week: self.store.read(BARS, week).footer.content_hash for week in weeks}

    def unfinished(self) -> list[str]:
        return [run["id"] for run in self.services.runs() if run["status"] not in FINISHED]

    def has_pages(self) -> bool:
        """Whether the web server answers: it does not while the database is away."""
        try:
            return bool(self.services.graphql(RUNS, limit=1)["runsOrError"]["results"])
        except OSError:
            return False


@pytest.fixture(scope="module")
def running_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("faults")
    landing = make_landing(folder, weeks=24, symbols=2)
    shorten_backoff(landing.checkout.root)
    landing.deliver_settled(landing.sessions)
    landing.checkout.succeed("materialise", BARS, "--from", landing.weeks[0], "--to", landing.weeks[-1])
    store = landing.checkout.store()
    undisturbed = {week: store.read(BARS, week).footer.content_hash for week in store.partitions(BARS)}
    assert len(undisturbed) == 24
    with (
        s3_server(folder) as s3,
        faulty(s3.endpoint, folder) as proxy,
        postgres_server(folder) as postgres,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in s3.env.items():
            patch.setenv(name, value)
        uri = f"s3://{s3.bucket}/prod"
        env = {
            **through(proxy, s3).env,
            "HF_STORAGE_URI": uri,
            "HF_POSTGRES_URL": postgres.url,
            "HF_TICK_SECONDS": "1",
            "HF_TEST_PACE": "2",
            "DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS": str(TICK_TIMEOUT_S),
        }
        sensors = [ARRIVALS, f"{STRATEGY}_follows"]
        with running(landing.checkout, folder / "instance", env, without_sensors=sensors) as services:
            database = Database(postgres)
            direct = PartitionStore(ObjectStore(uri, s3.endpoint))
            yield Stack(landing, services, proxy, database, direct, undisturbed)


@pytest.fixture
def stack(running_stack: Stack) -> Iterator[Stack]:
    """The stack without faults and without bars; no sensor asks for them after the test."""
    running_stack.proxy.heal()
    store = running_stack.store
    for week in store.partitions(BARS):
        store.objects.delete(store.key(BARS, week))
    running_stack.proxy.forget()
    yield running_stack
    running_stack.proxy.heal()
    running_stack.services.stop_sensors(ARRIVALS)
    wait_until(lambda: not running_stack.unfinished(), "end of all runs", timeout_s=WAIT_S, every_s=0.5)


@pytest.mark.servers
def test_backfill_whose_code_server_restarts_publishes_each_week_once_with_the_undisturbed_hashes(stack: Stack) -> None:
    services, weeks = stack.services, stack.landing.weeks[0:9:3]
    # Whatever the tests before it have made of them.
    for week in weeks:
        stack.store.objects.delete(stack.store.key(BARS, week))
    written = rf"prod/{BARS}/[0-9-]+\.parquet"
    n_before = len(stack.proxy.requests("PUT", written))
    # Slow enough to be under way when the code server goes: each object takes a second.
    stack.proxy.plant(Fault("PUT", BARS, delay_s=1.0))
    params = {"assetSelection": [{"path": BARS.split("/")}], "partitionNames": weeks}
    launched = services.graphql(BACKFILL, params=params)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    # Weeks that do not follow each other are a run each.
    wait_until(lambda: bool({*weeks} & {*stack.store.partitions(BARS)}), "first week", timeout_s=WAIT_S, every_s=0.5)
    # Its runs go on: another process takes the code server's place, as when new code is deployed.
    services.kill("code_server", with_runs=False)
    # The daemon looks at the queue, and at the backfill, in vain.

    def is_put_back() -> bool:
        said = [each["message"] for run_id in stack.unfinished() for each in services.events(run_id)]
        return any("re-submitting the run into the queue" in each for each in said)

    wait_until(is_put_back, "run that cannot be launched", timeout_s=WAIT_S, every_s=1.0)
    services.start("code_server")

    def has_ended() -> bool:
        found = services.graphql(BACKFILL_STATUS, id=launched["backfillId"])["partitionBackfillOrError"]
        return found["status"] not in ("REQUESTED", "REQUESTING") and not stack.unfinished()

    wait_until(has_ended, "end of the backfill", timeout_s=WAIT_S, every_s=1.0)
    # Runs that died with the code server were run again.
    wait_until(
        lambda: {*weeks} <= {*stack.store.partitions(BARS)} and not stack.unfinished(),
        "all weeks",
        timeout_s=WAIT_S,
        every_s=1.0,
    )
    assert stack.hashes(weeks) == {week: stack.undisturbed[week] for week in weeks}
    assert [stack.store.versions(BARS, week) for week in weeks] == [[]] * len(weeks)
    assert len(stack.proxy.requests("PUT", written)) - n_before == len(weeks)


@pytest.mark.servers
def test_run_goes_on_when_postgres_restarts_in_mid_run(stack: Stack) -> None:
    services, weeks = stack.services, stack.landing.weeks[12:15]
    stack.proxy.plant(Fault("PUT", BARS, delay_s=1.0))
    run_id = services.launch([BARS], weeks[0], weeks[-1])
    wait_until(lambda: weeks[0] in stack.store.partitions(BARS), "first week", timeout_s=WAIT_S, every_s=0.2)
    stack.database.stop()
    stack.database.start()
    wait_until(stack.has_pages, "web server", timeout_s=WAIT_S, every_s=0.5)
    assert services.wait_for_run(run_id, timeout_s=WAIT_S) == "SUCCESS"
    assert stack.hashes(weeks) == {week: stack.undisturbed[week] for week in weeks}
    # Nobody had to be started anew.
    assert all(services.is_running(name) for name in ("code_server", "webserver", "daemon"))
    assert len([each for each in services.events(run_id) if each["type"] == "ASSET_MATERIALIZATION"]) == len(weeks)


@pytest.mark.servers
@pytest.mark.long
def test_run_that_postgres_leaves_alone_too_long_is_failed_and_run_again_and_is_no_ghost(stack: Stack) -> None:
    services, weeks = stack.services, stack.landing.weeks[16:19]
    stack.proxy.plant(Fault("PUT", BARS, delay_s=1.0))
    run_id = services.launch([BARS], weeks[0], weeks[-1])
    wait_until(lambda: weeks[0] in stack.store.partitions(BARS), "first week", timeout_s=WAIT_S, every_s=0.2)
    process = services.run_pid(run_id)
    stack.database.stop()
    wait_until(
        lambda: not os.path.exists(f"/proc/{process}"), "end of the run's process", timeout_s=WAIT_S, every_s=0.2
    )
    # What it could not record is whole all the same.
    for week in stack.store.partitions(BARS):
        assert stack.store.read(BARS, week).footer.content_hash == stack.undisturbed[week]
    stack.database.start()
    stack.proxy.heal()
    # What does not outlive that is restarted, as the deployment's restart policy does.
    wait_until(lambda: services.answers("code_server"), "code server", timeout_s=WAIT_S, every_s=0.5)
    services.start()
    wait_until(stack.has_pages, "web server", timeout_s=WAIT_S, every_s=0.5)
    assert services.wait_for_run(run_id, timeout_s=WAIT_S) in ("FAILURE", "SUCCESS")

    def is_made_good() -> bool:
        runs = [services.status(run_id), *(run["status"] for run in services.runs(**{"dagster/root_run_id": run_id}))]
        return "SUCCESS" in runs and not stack.unfinished()

    wait_until(is_made_good, "success of the run or its retry", timeout_s=WAIT_S, every_s=1.0)
    assert stack.hashes(weeks) == {week: stack.undisturbed[week] for week in weeks}


@pytest.mark.servers
def test_tick_that_takes_too_long_is_given_up_and_the_next_one_asks_once(stack: Stack) -> None:
    services, missing = (
        stack.services,
        [week for week in stack.landing.weeks if week not in stack.store.partitions(BARS)],
    )
    stack.proxy.plant(Fault("GET", "prod", delay_s=TICK_TIMEOUT_S + 4.0))
    selector = {
        "repositoryLocationName": "hf_pipelines",
        "repositoryName": "__repository__",
        "sensorName": ARRIVALS,
    }
    before = {run["id"] for run in services.runs()}
    assert services.graphql(START_SENSOR, selector=selector)["startSensor"]["__typename"] == "Sensor"

    def statuses() -> list[str]:
        return [each["status"] for each in services.ticks(limit=20)[ARRIVALS]]

    wait_until(lambda: "FAILURE" in statuses(), "tick that fails", timeout_s=WAIT_S, every_s=0.5)
    assert {run["id"] for run in services.runs()} == before
    stack.proxy.heal()
    wait_until(
        lambda: set(missing) <= set(stack.store.partitions(BARS)) and not stack.unfinished(),
        "bars of the weeks that were missing",
        timeout_s=WAIT_S,
        every_s=1.0,
    )
    assert stack.hashes(missing) == {week: stack.undisturbed[week] for week in missing}
    asked = [run["tags"]["hf/work"] for run in services.runs() if run["id"] not in before and "hf/work" in run["tags"]]
    assert asked
    assert len(asked) == len(set(asked))


def test_bars_made_with_a_clock_that_was_set_back_lose_no_session(small_project: Project, tmp_path: Path) -> None:
    project = small_project.copy(tmp_path / "project")
    week = project.weeks[8]
    days = project.partitions.sessions_of_week(week)
    before = project.hashes("small/bars")
    assert project.store.read("small/bars", week).frame["session"].unique().sort().to_list() == days

    # Wednesday noon: for this clock two sessions and a half have not been yet.
    early = datetime(days[2].year, days[2].month, days[2].day, 16, tzinfo=UTC).isoformat()
    failed = project.run("small/bars", week, now=early)
    assert not failed.success
    assert f"`source` must still hold {days[2]}.parquet, {days[3]}.parquet, {days[4]}.parquet" in failed.message
    assert project.hashes("small/bars") == before
    # Set right again it makes what it made.
    assert project.make("small/bars", week).success
    assert project.hashes("small/bars") == before


def test_signals_by_a_clock_that_jumps_are_issued_once_and_never_become_live(
    small_project: Project, tmp_path: Path
) -> None:
    project = small_project.copy(tmp_path / "project")
    week = project.weeks[12]
    monday, tuesday, wednesday = project.partitions.sessions_of_week(week)[:3]
    sunday = project.partitions.week_begin(week).isoformat()
    project.retrain("ranking", week, now=sunday)
    kinds = {}
    # Half an hour after the close; a clock a year ahead; one that is set back to before the close.
    for day, now in (
        (monday, project.partitions.session_close(monday).replace(minute=30)),
        (tuesday, project.partitions.session_close(tuesday).replace(year=2013)),
        (wednesday, project.partitions.session_close(wednesday).replace(hour=12)),
    ):
        project.make("ranking/signals", str(day), now=now.isoformat())
        kinds[day] = project.store.read("ranking/signals", str(day)).frame["issue_kind"].unique().to_list()
    assert kinds == {monday: ["live"], tuesday: ["backfill"], wednesday: ["backfill"]}
    # Asked again by a clock that is right, what was issued stays what it was.
    right = project.partitions.session_close(tuesday).replace(minute=30).isoformat()
    project.make("ranking/signals", str(tuesday), now=right)
    again = project.store.read("ranking/signals", str(tuesday)).frame
    assert again["issue_kind"].unique().to_list() == ["backfill"]
    assert again["created_at"][0].year == 2013


@pytest.mark.parametrize(
    ("sunday", "midnight_utc", "next_midnight_utc", "close_before_utc", "close_after_utc"),
    [
        # Clocks of New York go forward on 11 March 2012 at 02:00 and back on 4 November.
        pytest.param("2012-03-11", 5, 4, 21, 20, id="to summer time"),
        pytest.param("2012-11-04", 4, 5, 20, 21, id="to winter time"),
    ],
)
def test_week_in_which_the_clocks_change_has_models_sessions_and_signals_at_the_right_hours(
    sunday: str,
    midnight_utc: int,
    next_midnight_utc: int,
    close_before_utc: int,
    close_after_utc: int,
    quick: list[Any],
    mlflow_template: Path,
    tmp_path: Path,
) -> None:
    change = date.fromisoformat(sunday)
    first = date.fromordinal(change.toordinal() - 7 * 11)
    bars = session_bars(sessions_from(first, 13), seed=5)
    market = files_market(tmp_path / "source", bars, features=["quick"])
    project = Project(tmp_path / "project", market, [ridge_strategy()], mlflow_template=mlflow_template)
    weeks = project.weeks
    before, after = [each for each in weeks if each < sunday][-1], [each for each in weeks if each > sunday][0]
    friday, monday = project.partitions.sessions_of_week(before)[-1], project.partitions.sessions_of_week(sunday)[0]
    closes = [project.partitions.session_close(day) for day in (friday, monday)]
    assert [close.hour for close in closes] == [close_before_utc, close_after_utc]

    # At 20:30 UTC the session is over in summer and is not in winter: its file is taken or left.
    at = datetime(monday.year, monday.month, monday.day, 20, 30, tzinfo=UTC).isoformat()
    project.make("small/bars", weeks[0], before)
    early = project.run("small/bars", sunday, now=at)
    held = project.store.partitions("small/bars")
    if close_after_utc == 20:
        assert early.success, early.message
        assert project.store.read("small/bars", sunday).frame["ts"].unique().to_list() == [closes[1]]
    else:
        assert not early.success
        assert sunday not in held
    project.make("small/bars", sunday, weeks[-1])
    project.make("small/features/quick", weeks[0], weeks[-1])
    for week, hour in ((sunday, midnight_utc), (after, next_midnight_utc)):
        project.retrain("ranking", week)
        card = project.store.read("ranking/fitted_model", week).frame.row(0, named=True)
        day = date.fromisoformat(week)
        assert card["as_of"] == datetime(day.year, day.month, day.day, hour, tzinfo=UTC)
        assert card["trained_until"] < card["as_of"]
    project.make("ranking/signals", str(monday))
    signals = project.store.read("ranking/signals", str(monday)).frame
    assert signals["as_of"].unique().to_list() == [closes[1]]
    assert signals["model_as_of"].unique().to_list() == [
        datetime(change.year, change.month, change.day, midnight_utc, tzinfo=UTC)
    ]
    assert project.out_of_date() == {}
