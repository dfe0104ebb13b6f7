"""Kept engines: Dagster's storage uses one database engine a process, with connections that stay open.

Lives here: the engines. Does not live here: which database (`instance_storage`), waiting for it (`patient_postgres`).

Dagster's own storage opens a connection for each statement. On PostgreSQL that starts a process of the server and checks
the password; on SQLite it opens the file, compiles the statement anew and, when it closes, moves the log of writes into
the file. Both are most of what writing an event and an idle daemon cost.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import groupby
from threading import get_ident
from typing import Any

from dagster import EventLogEntry
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DisconnectionError

from hf_pipelines.resources.dagster_internals import SqliteEventLogStorage, SqliteRunStorage, SqliteScheduleStorage

# Databases of a process: with SQLite one for all runs, one for schedules, one for shared events, and one for each run.
KEPT = 16

# Open connections that a process keeps to a database; more are opened when they are needed, and closed after use.
SQLITE_POOL, POSTGRES_POOL = 1, 2

# Dagster's name of the events that all runs share.
INDEX_SHARD_NAME = "index"

# As long as Dagster's own event log waits for another process that writes.
SQLITE_BUSY_S = 60


def sqlite_engine(address: str) -> Engine:
    """Engine of a SQLite database; a file that was deleted or replaced is opened anew."""
    return _sqlite_engine(address, os.getpid())


def postgres_engine(url: str) -> Engine:
    """Engine of a PostgreSQL database for all storages of a process; a connection that was cut is opened anew."""
    return _postgres_engine(url, os.getpid())


# The process is part of the key: a connection must not be used by two, and a forked one has its parent's.
@lru_cache(maxsize=KEPT)
def _sqlite_engine(address: str, process: int) -> Engine:
    engine = create_engine(address, pool_size=SQLITE_POOL, max_overflow=-1, connect_args={"timeout": SQLITE_BUSY_S})
    event.listen(engine, "connect", _note_file)
    event.listen(engine, "checkout", _require_same_file)
    return engine


@lru_cache(maxsize=KEPT)
def _postgres_engine(url: str, process: int) -> Engine:
    return create_engine(
        url, isolation_level="AUTOCOMMIT", pool_size=POSTGRES_POOL, max_overflow=-1, pool_pre_ping=True
    )


def _note_file(connection: Any, record: Any) -> None:
    record.info["file"] = _file_of(connection)


def _require_same_file(connection: Any, record: Any, proxy: Any) -> None:
    """Have the pool connect anew where writes would go into a file that nobody else sees any more."""
    if record.info["file"] != _file_of(connection):
        raise DisconnectionError("the file was deleted or replaced")


def _file_of(connection: Any) -> tuple[str, int, int] | None:
    (_, _, path), *_ = connection.execute("PRAGMA database_list").fetchall()
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return path, found.st_dev, found.st_ino


class _Kept:
    """What Dagster's storages of one SQLite file share: a connection of the kept engine."""

    _conn_string: str

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with sqlite_engine(self._conn_string).begin() as connection:
            yield connection


class KeptRuns(_Kept, SqliteRunStorage):
    """Dagster's runs in SQLite, by a kept engine."""


class KeptSchedules(_Kept, SqliteScheduleStorage):
    """Dagster's schedules in SQLite, by a kept engine."""


class KeptEvents(SqliteEventLogStorage):
    """Dagster's events in SQLite, by kept engines: one for each run and one for what all runs share."""

    # Of the thread that stores a batch: its connections by shard.
    _of_batch: tuple[int, Mapping[str, Connection]] = (0, {})

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events in one transaction of their run's file and one of the shared file, or none of them."""
        for run_id, of_run in groupby(events, key=lambda each: each.run_id):
            with self._db_lock, self._open(run_id) as own, self._open(INDEX_SHARD_NAME) as shared:
                self._of_batch = (get_ident(), {run_id: own, INDEX_SHARD_NAME: shared})
                try:
                    for event in of_run:
                        super().store_event(event)
                finally:
                    self._of_batch = (0, {})

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        thread, held = self._of_batch
        if thread == get_ident() and shard in held:
            yield held[shard]
            return
        with self._db_lock, self._open(shard) as connection:
            yield connection

    @contextmanager
    def _open(self, shard: str) -> Iterator[Connection]:
        engine = sqlite_engine(self.conn_string_for_shard(shard))
        if shard not in self._initialized_dbs:
            self._initdb(engine)
            self._initialized_dbs.add(shard)
        with engine.begin() as connection:
            changes = _changes(connection)
            yield connection
            is_changed = _changes(connection) > changes
        if is_changed and shard != INDEX_SHARD_NAME:
            # Whoever follows a run, as its page in the web UI does, waits for the file to change: what is written
            # goes to the log beside it until the last connection is closed.
            os.utime(self.path_for_shard(shard))


def _changes(connection: Connection) -> int:
    """Rows that an open connection has written so far."""
    return int(connection.connection.dbapi_connection.total_changes)  # type: ignore[union-attr]
