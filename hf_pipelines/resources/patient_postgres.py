"""Patient PostgreSQL: Dagster's storage, which waits for a database that restarts.

Lives here: how long a process waits for PostgreSQL, and writing an event again whose connection was cut. Does not live
here: the choice between PostgreSQL and SQLite (`instance_storage`).

Dagster's own storage tries to connect for six seconds and does not repeat a statement: a restart of the database would
fail every run that writes an event meanwhile, and a longer one could not even record that. An event of which it is not
known whether it was stored is stored again: an event that is in the log twice does no harm.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from dagster import DagsterEvent, EventLogEntry
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.event_log import PostgresEventLogStorage
from dagster_postgres.run_storage import PostgresRunStorage
from dagster_postgres.schedule_storage import PostgresScheduleStorage
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from hf_pipelines.resources.dagster_internals import ConfigurableClassData
from hf_pipelines.resources.kept_engines import postgres_engine
from hf_pipelines.resources.run_ends import CleanTicks, SettledEnds

T = TypeVar("T")

# A database that restarts is back in seconds, one that moves to another machine in a minute.
PATIENCE_S = 60.0
POLL_S = 0.5

# Dagster's thread of a code server that fails runs whose process has ended. It would end with the first connection that
# is refused, and the code server would say forever that it has them: so it waits without a limit.
WATCHING_THREAD = "grpc-server-cleanup"


class PatientPostgresStorage(DagsterPostgresStorage):
    """Dagster's PostgreSQL storage; only a process' first connection, which shows a wrong address, is not waited for.

    A code server opens its storage anew when a run's process has ended, and waits for it as long as it takes.
    """

    def __init__(self, postgres_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        patience = _patience(postgres_url)
        if patience.has_connected or _is_watching():
            engine = create_engine(postgres_url, poolclass=NullPool)
            event.listen(engine, "do_connect", patience.connect)
            engine.connect().close()
        super().__init__(postgres_url, inst_data=inst_data)
        patience.has_connected = True
        self._event_log_storage = _Events(postgres_url, should_autocreate_tables=False)
        self._run_storage = _Runs(postgres_url, should_autocreate_tables=False)
        self._schedule_storage = _Schedules(postgres_url, should_autocreate_tables=False)
        engine = postgres_engine(postgres_url)
        if not event.contains(engine, "do_connect", patience.connect):
            event.listen(engine, "do_connect", patience.connect)
        for storage in (self._event_log_storage, self._run_storage, self._schedule_storage):
            storage._engine = engine


class _Patience:
    """Connects within PATIENCE_S of the first refusal; once that is used up, each connection is tried once.

    But for the thread that watches over runs.
    """

    def __init__(self) -> None:
        self.has_connected = False
        self.away_since: float | None = None

    def connect(self, dialect: Any, record: Any, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
        while True:
            try:
                connection = dialect.connect(*arguments, **options)
            except dialect.loaded_dbapi.OperationalError as e:
                self._wait(e)
                continue
            if self.away_since is not None:
                logging.getLogger(__name__).warning("PostgreSQL answers again.")
            self.away_since = None
            return connection

    def _wait(self, refusal: Exception) -> None:
        """Wait a moment; raise the refusal if the patience of this thread is used up."""
        now = time.monotonic()
        if self.away_since is None:
            self.away_since = now
            logging.getLogger(__name__).warning(
                f"PostgreSQL of HF_POSTGRES_URL does not answer: waiting for it for up to {PATIENCE_S:.0f} s."
            )
        if now - self.away_since > PATIENCE_S and not _is_watching():
            raise refusal
        time.sleep(POLL_S)


def _is_watching() -> bool:
    return threading.current_thread().name == WATCHING_THREAD


@lru_cache(maxsize=8)
def _patience(url: str) -> _Patience:
    """One for all storages of a database in a process."""
    return _Patience()


def _again_if_cut(write: Callable[[], T]) -> T:
    """Write, and once more where the database went away in the middle."""
    try:
        return write()
    except OperationalError as e:
        if not e.connection_invalidated:
            raise
    return write()


class _Pinging:
    """A web server keeps connections: after a restart of the database its pages would fail once for each."""

    _engine: Engine

    def optimize_for_webserver(self, *arguments: Any, **options: Any) -> None:
        super().optimize_for_webserver(*arguments, **options)  # type: ignore[misc]
        # Dagster makes this engine itself, and takes no options for it.
        self._engine.pool._pre_ping = True


class _Events(_Pinging, SettledEnds, PostgresEventLogStorage):
    def store_event(self, event: EventLogEntry) -> None:
        _again_if_cut(lambda: super(_Events, self).store_event(event))

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        _again_if_cut(lambda: super(_Events, self).store_event_batch(events))


class _Runs(_Pinging, PostgresRunStorage):
    def handle_run_event(self, run_id: str, event: DagsterEvent, *arguments: Any, **options: Any) -> None:
        _again_if_cut(lambda: super(_Runs, self).handle_run_event(run_id, event, *arguments, **options))


class _Schedules(_Pinging, CleanTicks, PostgresScheduleStorage):
    """Nothing of its own."""
