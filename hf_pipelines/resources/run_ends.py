"""Run ends: an event log that shows the end of a run only once the run's own status is final.

Lives here: holding back what would be read too early, and what is stored of an event. Does not live here: which database
(`instance_storage`, `patient_postgres`), what a failure shows (`failure_events`) and what is secret (`redaction`), what follows a run
that died (dagster.yaml: `run_retries`).

Dagster stores the event of a failure first and the run's status after it. Its daemon, which retries failed runs, reads
the events, asks for the status, and never looks at an event again: where it reads between the two, the run is
"started", and the retry that its tags promise never comes; a backfill waits for it forever.
"""

import os
import time
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from dagster import DagsterEventType, DagsterInstance, EventLogEntry, RunsFilter

from hf_pipelines.resources.dagster_internals import (
    NOT_FINISHED_STATUSES,
    ConfigurableClassData,
    DagsterSqliteStorage,
    InstigatorTick,
    TickData,
)
from hf_pipelines.resources.failure_events import remedy_first
from hf_pipelines.resources.kept_engines import KeptEvents, KeptRuns, KeptSchedules
from hf_pipelines.resources.redaction import stored

ENDS = frozenset({DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_CANCELED})

# A process that died between the two leaves an event without its status: the others must not wait forever. Run
# monitoring fails that run again.
GRACE_S = 120.0

# Dagster's variable: events of the partitions of a run that are stored at once. One at a time each waits for the disk twice.
EVENT_BATCH, EVENTS_AT_ONCE = "DAGSTER_EVENT_BATCH_SIZE", 50


class SettledEnds:
    """Event log of Dagster whose events across runs stop before the first end that is not in its run yet."""

    _instance: DagsterInstance

    def store_event(self, event: EventLogEntry) -> None:
        super().store_event(stored(remedy_first(event)))  # type: ignore[misc]

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        super().store_event_batch([stored(remedy_first(event)) for event in events])  # type: ignore[misc]

    def get_logs_for_all_runs_by_log_id(self, *arguments: Any, **options: Any) -> Mapping[int, EventLogEntry]:
        """Events by number, in order; what is held back comes with a later call after the same cursor."""
        found: Mapping[int, EventLogEntry] = super().get_logs_for_all_runs_by_log_id(*arguments, **options)  # type: ignore[misc]
        ending = {each.run_id for each in found.values() if each.dagster_event_type in ENDS}
        if not ending:
            return found
        running = self._instance.get_runs(RunsFilter(run_ids=sorted(ending), statuses=NOT_FINISHED_STATUSES))
        waiting, since = {run.run_id for run in running}, time.time() - GRACE_S

        def is_settled(numbered: tuple[int, EventLogEntry]) -> bool:
            entry = numbered[1]
            is_early = entry.run_id in waiting and entry.dagster_event_type in ENDS
            return not is_early or entry.timestamp < since

        return dict(takewhile(is_settled, found.items()))


class SettledSqliteStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage with settled ends."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        # Dagster reads it at each event.
        os.environ.setdefault(EVENT_BATCH, str(EVENTS_AT_ONCE))
        self._event_log_storage: KeptEvents = _SqliteEvents(self._event_log_storage._base_dir)
        # Where Dagster's own have just made them.
        self._run_storage = KeptRuns(self._run_storage._conn_string)
        self._schedule_storage = _SqliteSchedules(self._schedule_storage._conn_string)


class CleanTicks:
    """Schedules of Dagster whose ticks hold no secret: their errors come from wherever a sensor fails."""

    def create_tick(self, tick_data: TickData) -> InstigatorTick:
        return super().create_tick(stored(tick_data))  # type: ignore[misc, no-any-return]

    def update_tick(self, tick: InstigatorTick) -> InstigatorTick:
        return super().update_tick(stored(tick))  # type: ignore[misc, no-any-return]


class _SqliteSchedules(CleanTicks, KeptSchedules):
    """Nothing of its own."""


class _SqliteEvents(SettledEnds, KeptEvents):
    """Nothing of its own."""
