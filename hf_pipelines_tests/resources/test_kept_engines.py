"""Engines of Dagster's storage: one connection for many statements, another where that one is of no use any more."""

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Engine

from hf_pipelines.resources import settings
from hf_pipelines.resources.kept_engines import postgres_engine, sqlite_engine
from hf_pipelines_tests.servers import postgres_server, wait_until

KEY = dg.AssetKey("probe")


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.delenv("HF_POSTGRES_URL", raising=False)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    settings.prepare_dagster_home()
    with dg.DagsterInstance.get() as opened:
        yield opened


def write_and_read(instance: dg.DagsterInstance) -> None:
    instance.add_run(dg.DagsterRun("a job", status=dg.DagsterRunStatus.NOT_STARTED))
    instance.report_runless_asset_event(dg.AssetMaterialization(KEY))
    assert instance.get_latest_materialization_event(KEY)
    assert instance.all_instigator_state() == []


def test_statements_on_sqlite_share_a_connection_to_each_file(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    opened: list[str] = []
    history = tmp_path / "home" / "storage" / "history"
    files = [history / "runs.db", history / "runs" / "index.db", tmp_path / "home/storage/schedules/schedules.db"]
    for file in files:
        event.listen(sqlite_engine(f"sqlite:///{file}"), "connect", lambda *_, file=file: opened.append(file.name))
    write_and_read(instance)
    of_first = sorted(opened)
    for _ in range(20):
        write_and_read(instance)
    assert len(instance.get_runs()) == 21
    assert sorted(opened) == of_first
    # Instances that are opened one after another share them too, as those of a code server.
    with dg.DagsterInstance.get() as another:
        write_and_read(another)
    assert sorted(opened) == of_first


def test_events_of_the_partitions_of_a_run_are_stored_in_one_transaction_of_each_file(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    weeks = dg.StaticPartitionsDefinition([str(each) for each in range(20)])

    @dg.asset(partitions_def=weeks, backfill_policy=dg.BackfillPolicy.single_run())
    def probe() -> None: ...

    commits: list[str] = []
    shared = sqlite_engine(f"sqlite:///{tmp_path}/home/storage/history/runs/index.db")
    event.listen(shared, "commit", lambda connection: commits.append("shared"))
    tags = {"dagster/asset_partition_range_start": "0", "dagster/asset_partition_range_end": "19"}
    run = dg.materialize([probe], instance=instance, tags=tags)
    assert run.success
    # Twenty that are planned, twenty that were made: each event alone would be forty.
    assert len(commits) < 20
    assert set(instance.get_materialized_partitions(KEY)) == {*weeks.get_partition_keys()}
    of_run = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    assert {each.get_dagster_event().partition for each in of_run} == {*weeks.get_partition_keys()}


def test_batch_with_an_event_that_cannot_be_stored_stores_none(instance: dg.DagsterInstance) -> None:
    run = instance.add_run(dg.DagsterRun("a job", status=dg.DagsterRunStatus.STARTED))
    instance.report_engine_event("event 0", run)
    (sound,) = instance.all_logs(run.run_id)
    broken = sound._replace(timestamp="no number")
    with pytest.raises(TypeError, match="cannot be interpreted"):
        instance.event_log_storage.store_event_batch([sound, broken])
    assert len(instance.all_logs(run.run_id)) == 1
    instance.event_log_storage.store_event_batch([sound, sound])
    assert len(instance.all_logs(run.run_id)) == 3


def test_sqlite_file_that_is_deleted_or_replaced_is_opened_anew(tmp_path: Path) -> None:
    file, engine = tmp_path / "runs.db", sqlite_engine(f"sqlite:///{tmp_path}/runs.db")

    def add(value: int) -> list[int]:
        with engine.begin() as connection:
            connection.execute(text("create table if not exists seen (value int)"))
            connection.execute(text(f"insert into seen values ({value})"))
            return [row[0] for row in connection.execute(text("select value from seen order by value"))]

    assert (add(1), add(2)) == ([1], [1, 2])
    for each in tmp_path.glob("runs.db*"):
        each.unlink()
    assert (add(3), add(4)) == ([3], [3, 4])
    other = sqlite_engine(f"sqlite:///{tmp_path}/other.db")
    with other.begin() as connection:
        connection.execute(text("create table seen (value int)"))
    os.replace(tmp_path / "other.db", file)
    assert add(5) == [5]


def test_run_that_is_followed_shows_each_event_when_it_is_written(instance: dg.DagsterInstance) -> None:
    run = instance.add_run(dg.DagsterRun("a job", status=dg.DagsterRunStatus.STARTED))
    seen: list[str] = []

    def note(entry: dg.EventLogEntry, cursor: str) -> None:
        seen.append(entry.message)

    instance.report_engine_event("event 0", run)
    instance.watch_event_logs(run.run_id, None, note)
    for number in range(1, 4):
        instance.report_engine_event(f"event {number}", run)
        expected = [f"event {each}" for each in range(number + 1)]
        wait_until(lambda expected=expected: seen == expected, f"event {number} is shown", timeout_s=30)
    instance.end_watch_event_logs(run.run_id, note)


def test_process_that_is_forked_has_engines_of_its_own(tmp_path: Path) -> None:
    before = sqlite_engine(f"sqlite:///{tmp_path}/runs.db")
    assert sqlite_engine(f"sqlite:///{tmp_path}/runs.db") is before
    child = os.fork()
    if child == 0:
        os._exit(sqlite_engine(f"sqlite:///{tmp_path}/runs.db") is before)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.servers
def test_statements_on_postgres_share_connections_and_a_cut_one_is_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def backend(engine: Engine) -> int:
        with engine.connect() as connection:
            return int(connection.execute(text("select pg_backend_pid()")).scalar_one())

    with postgres_server(tmp_path) as postgres:
        monkeypatch.setenv("HF_POSTGRES_URL", postgres.url)
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
        settings.prepare_dagster_home()
        url = settings.postgres_url()
        assert url is not None
        with dg.DagsterInstance.get() as instance:
            engine, opened = postgres_engine(url), []
            write_and_read(instance)
            event.listen(engine, "connect", lambda *_: opened.append(1))
            for _ in range(20):
                write_and_read(instance)
            assert opened == []
            first = backend(engine)
            with create_engine(url, isolation_level="AUTOCOMMIT").connect() as another:
                others = "backend_type = 'client backend' and pid <> pg_backend_pid()"
                another.execute(text(f"select pg_terminate_backend(pid) from pg_stat_activity where {others}"))
            write_and_read(instance)
            assert backend(engine) != first
            assert len(instance.get_runs()) == 22
