"""Dagster's own storage on a real PostgreSQL and on SQLite, chosen by environment; `dagster dev` in a bare checkout."""

import json
import os
import threading
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.errors import DagsterInvalidConfigError
from dagster._core.instance.config import dagster_instance_config
from dagster._grpc import server as dagster_server
from sqlalchemy.exc import OperationalError

from hf_pipelines.resources import patient_postgres, settings
from hf_pipelines.resources.instance_storage import InstanceStorage
from hf_pipelines.resources.patient_postgres import WATCHING_THREAD, PatientPostgresStorage
from hf_pipelines.resources.run_ends import GRACE_S
from hf_pipelines.resources.storage_errors import StorageUnavailableError
from hf_pipelines_tests.checkout import REPOSITORY, WEEK, Checkout, built_checkout
from hf_pipelines_tests.servers import BIN, answers, free_port, postgres_server, serving
from hf_pipelines_tests.test_server_faults import Database

pytestmark = pytest.mark.servers

BARS = dg.AssetKey(["us_tech", "bars"])


def materialisations(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, str]:
    """Content hash by partition, of every materialisation that an instance has recorded."""
    records = instance.fetch_materializations(key, limit=1000).records
    made = [record.asset_materialization for record in records]
    return {str(each.partition): str(each.metadata["content_hash"].value).replace(" ", "") for each in made if each}


def sqlite_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.read_bytes()[:15] == b"SQLite format 3"]


def test_instance_with_postgres_url_keeps_runs_and_materialisations_there_and_nothing_in_sqlite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgres_server(tmp_path) as postgres:
        checkout = Checkout(built_checkout().checkout.root, tmp_path / "data", env={"HF_POSTGRES_URL": postgres.url})
        checkout.succeed("materialise", "us_tech/bars", "--from", WEEK)

        monkeypatch.setenv("HF_POSTGRES_URL", postgres.url)
        monkeypatch.setenv("HF_DATA_DIR", str(tmp_path / "other"))
        monkeypatch.delenv("DAGSTER_HOME", raising=False)
        settings.prepare_dagster_home()
        with dg.DagsterInstance.get() as instance:
            (run,) = instance.get_runs()
            assert (run.status, run.tags["dagster/partition"]) == (dg.DagsterRunStatus.SUCCESS, WEEK)
            footer = checkout.store().footer("us_tech/bars", WEEK)
            assert footer is not None
            assert footer.run_id == run.run_id
            assert materialisations(instance, BARS) == {WEEK: footer.content_hash}
            # What Dagster hands to the processes it starts names a class: no address, no password.
            assert postgres.password not in dg.serialize_value(instance.get_ref())
        assert (checkout.data / "storage" / "us_tech" / "bars" / f"{WEEK}.parquet").is_file()
        assert sqlite_files(tmp_path) == []

        monkeypatch.setenv("HF_POSTGRES_URL", postgres.url.replace(postgres.password, "wr0ng-pa55"))
        with pytest.raises(StorageUnavailableError) as refused:
            InstanceStorage.from_config_value(None, {})
    assert f"a PostgreSQL database that answers, 127.0.0.1:{postgres.port}/hf did not" in str(refused.value)
    assert "password authentication failed" in str(refused.value)
    assert "wr0ng-pa55" not in str(refused.value)
    # Nor in a cause: Dagster records the whole chain.
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


def test_instance_without_postgres_url_keeps_runs_in_sqlite_below_dagster_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_POSTGRES_URL", raising=False)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    settings.prepare_dagster_home()

    @dg.asset
    def probe() -> None: ...

    with dg.DagsterInstance.get() as instance:
        assert dg.materialize([probe], instance=instance).success
        assert len(instance.get_runs()) == 1
    assert {path.name for path in sqlite_files(tmp_path / "home")} >= {"runs.db", "index.db"}
    with dg.DagsterInstance.get() as again:
        assert len(again.get_runs()) == 1


def stored_end(instance: dg.DagsterInstance, run_id: str, at: float) -> dg.DagsterEvent:
    """The failure of a run as an event alone: the first half of what Dagster does."""
    failure = dg.DagsterEvent(dg.DagsterEventType.RUN_FAILURE.value, "a job", message="killed")
    instance.event_log_storage.store_event(
        dg.EventLogEntry(None, 40, "", run_id, at, job_name="a job", dagster_event=failure)
    )
    return failure


def retried_from(instance: dg.DagsterInstance, cursor: int) -> dict[int, str]:
    """Runs whose failures Dagster's daemon would look at after a cursor, by event."""
    failures = instance.event_log_storage.get_logs_for_all_runs_by_log_id(
        cursor, {dg.DagsterEventType.RUN_FAILURE}, limit=500
    )
    return {number: entry.run_id for number, entry in failures.items()}


@pytest.mark.parametrize("is_postgres", [False, True], ids=["sqlite", "postgres"])
def test_failure_of_a_run_is_told_to_the_daemon_once_the_run_is_failed_and_later_ones_wait_for_it(
    is_postgres: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_POSTGRES_URL", raising=False)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    settings.prepare_dagster_home()
    with ExitStack() as stack:
        if is_postgres:
            monkeypatch.setenv("HF_POSTGRES_URL", stack.enter_context(postgres_server(tmp_path)).url)
        instance = stack.enter_context(dg.DagsterInstance.get())
        first, second = (dg.DagsterRun("a job", status=dg.DagsterRunStatus.STARTED) for _ in range(2))
        for run in (first, second):
            instance.add_run(run)
        now = time.time()
        end = stored_end(instance, first.run_id, now)
        instance.report_run_failed(second)
        assert retried_from(instance, -1) == {}
        instance.run_storage.handle_run_event(first.run_id, end)
        assert list(retried_from(instance, -1).values()) == [first.run_id, second.run_id]

        # Of a run that never says so, as after a loss of power between the two, others are not kept waiting.
        last = max(retried_from(instance, -1))
        third = dg.DagsterRun("a job", status=dg.DagsterRunStatus.STARTED)
        instance.add_run(third)
        stored_end(instance, third.run_id, now - GRACE_S - 1.0)
        instance.report_run_failed(instance.add_run(dg.DagsterRun("a job", status=dg.DagsterRunStatus.STARTED)))
        assert len(retried_from(instance, last)) == 2


def test_thread_that_watches_over_runs_waits_for_postgres_as_long_as_it_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patient_postgres, "PATIENCE_S", 0.5)
    opened: dict[str, PatientPostgresStorage | OperationalError] = {}
    with postgres_server(tmp_path) as postgres:
        monkeypatch.setenv("HF_POSTGRES_URL", postgres.url)
        url = settings.postgres_url()
        assert url is not None

        def open_storage() -> None:
            name = threading.current_thread().name
            try:
                opened[name] = PatientPostgresStorage(url)
            except OperationalError as e:
                opened[name] = e

        open_storage()
        database = Database(postgres)
        database.stop()
        watching, another = (threading.Thread(target=open_storage, name=name) for name in (WATCHING_THREAD, "another"))
        watching.start()
        another.start()
        another.join(60)
        assert isinstance(opened["another"], OperationalError)
        # Its patience was used up for the other: it tries on all the same.
        time.sleep(1.0)
        assert WATCHING_THREAD not in opened
        database.start()
        watching.join(60)
        assert isinstance(opened[WATCHING_THREAD], PatientPostgresStorage)
    # The name is Dagster's: under another one nobody would watch.
    assert WATCHING_THREAD in Path(dagster_server.__file__).read_text()


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("mysql://hf:hunter2@localhost/hf", id="another database"),
        pytest.param("postgresql://hf:hunter2@localhost:port/hf", id="no port"),
        pytest.param("hunter2", id="no address"),
    ],
)
def test_instance_with_malformed_postgres_url_is_refused_without_quoting_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_POSTGRES_URL", url)
    with pytest.raises(StorageUnavailableError, match="must be like postgresql://user:password@host") as caught:
        InstanceStorage.from_config_value(None, {})
    assert "hunter2" not in str(caught.value)


def test_instance_whose_home_is_a_file_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").touch()
    monkeypatch.delenv("HF_POSTGRES_URL", raising=False)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    with pytest.raises(StorageUnavailableError, match="`DAGSTER_HOME` must be a folder that can be written"):
        InstanceStorage.from_config_value(None, {})


def test_dagster_yaml_is_taken_key_by_key_and_an_unknown_key_is_refused(tmp_path: Path) -> None:
    text = (REPOSITORY / "dagster.yaml").read_text()
    (tmp_path / "dagster.yaml").write_text(text)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        queue, pools = instance.get_concurrency_config().run_queue_config, instance.get_concurrency_config().pool_config
        assert queue is not None
        assert queue.max_concurrent_runs == 2
        assert (pools.default_pool_limit, pools.pool_granularity.value if pools.pool_granularity else "") == (1, "run")
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_max_runtime_seconds == 6 * 3600
        assert instance.get_settings("run_monitoring")["free_slots_after_run_end_seconds"] == 60
        assert (instance.run_retries_enabled, instance.run_retries_max_retries) == (True, 3)
        assert not instance.run_retries_retry_on_asset_or_op_failure
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled

    for place in ((), ("run_monitoring",), ("concurrency", "pools")):
        content: Any = yaml.safe_load(text)
        node = content
        for name in place:
            node = node[name]
        node["no_such_key"] = 1
        (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(content))
        with pytest.raises(DagsterInvalidConfigError, match="no_such_key"):
            dagster_instance_config(str(tmp_path))


def graphql(address: str, query: str) -> Any:
    request = urllib.request.Request(
        f"{address}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["data"]


def test_dagster_dev_without_dagster_home_loads_the_checkout_and_shows_what_hfp_ran(tmp_path: Path) -> None:
    checkout = built_checkout().checkout.copy_of_data(tmp_path / "data")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    # As a user types it in the repository's root: no workspace, no home.
    command = [str(BIN / "dagster"), "dev", "-h", "127.0.0.1", "-p", str(port)]
    environment = {**checkout.environment(), "DAGSTER_HOME": ""}
    unset = {name: "" for name in os.environ if name.startswith("HF_") and name not in environment}
    with serving(
        command,
        log=tmp_path / "dev.log",
        is_ready=lambda: answers(f"{address}/server_info"),
        env={**environment, **unset},
        cwd=checkout.root,
    ):
        found = graphql(
            address,
            "{ workspaceOrError { ... on Workspace { locationEntries { name locationOrLoadError { __typename } } } }"
            " assetNodes { assetKey { path } } runsOrError { ... on Runs { results { status } } } }",
        )
    assert found["workspaceOrError"]["locationEntries"] == [
        {"name": "hf_pipelines", "locationOrLoadError": {"__typename": "RepositoryLocation"}}
    ]
    assets = {"/".join(node["assetKey"]["path"]) for node in found["assetNodes"]}
    assert {"us_tech/bars", "short_trees/signals", "short_ranking/fitted_model"} <= assets
    # Bars, features, and for each of two strategies its models and its signals.
    # The newest first: sensors of the `dagster dev` that is asked may have started more.
    assert [run["status"] for run in found["runsOrError"]["results"]][-6:] == ["SUCCESS"] * 6
    # Dagster's temporary home is gone with it, and held nothing.
    assert list(checkout.root.glob(".tmp_dagster_home_*")) == []


def test_built_checkout_keeps_its_runs_in_the_data_folder() -> None:
    home = built_checkout().checkout.data / "dagster_home" / "storage"
    with dg.DagsterInstance.from_ref(_ref(home)) as instance:
        kept = {key: each for key, each in built_checkout().hashes.items() if key.startswith("us_tech/bars/")}
        assert {f"us_tech/bars/{key}": each for key, each in materialisations(instance, BARS).items()} == kept


def _ref(home: Path) -> Any:
    from dagster._core.instance.ref import InstanceRef

    return InstanceRef.from_dir(str(home.parent), overrides={"storage": {"sqlite": {"base_dir": str(home)}}})
