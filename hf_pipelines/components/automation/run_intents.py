"""Run intents: the runs that automation wants, and whether each must be requested.

Lives here: `RunIntent` and `RunHistory`, which knows from Dagster's runs whether an intent is
due, under way or settled. Does not live here: which intents there are
(`arrivals`, `strategy_sensor`), and the tick that requests them (`ticks`).

Dagster concept: run requests. Every run carries the key of its intent as a tag, so that a restarted daemon, a tick that
died before its cursor was saved, or a second sensor finds it again.
"""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import cached_property
from typing import Any

import dagster as dg
from dagster import RunRecord

from hf_pipelines.components.run_tags import WANTED_TAG, condensed, named_partitions
from hf_pipelines.resources.dagster_internals import FINISHED_STATUSES, WILL_RETRY_TAG
from hf_pipelines.resources.outages import OUTAGES

# Named as in runs that were launched before: a sensor finds them by it.
INTENT_TAG = "hf/work"
ATTEMPT_TAG = "hf/attempt"
ASKED_BY_TAG = "hf/asked_by"
ALARM_TAG = "hf/alarm"

# After a failure that did not lie in the data; a killed run is re-executed by Dagster at once.
BACKOFF = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=25))

# How long to wait for a re-execution that Dagster has announced, and for the announcement after a failure.
RETRY_PATIENCE = timedelta(minutes=2)
UNSAID_PATIENCE = timedelta(seconds=30)

# How many of the last runs that failed are looked at.
REMEMBERED_RUNS = 200

# What a step raises when a server or disk was at fault: a retry may help.
TRANSIENT_ERRORS = {
    *(error.__name__ for error in OUTAGES),
    "StorageUnavailableError",
    "OperationalError",
    "DagsterPostgresException",
}


class RequestState(Enum):
    """Whether an intent must be requested."""

    DUE = "due"
    UNDER_WAY = "under way"
    SETTLED = "settled"


@dataclass(frozen=True)
class RunIntent:
    """A run that automation wants.

    Attributes
    ----------
    job : str
    assets : tuple of str
        Asset paths.
    partitions : tuple of str
        Sorted partition keys; they need not follow each other.
    state : str
        Digest of what it would be made from. The same intent is requested again only when this has changed.
    because : str
        In words, for the run's tags and the sensor's log.
    alarm : str
        That asks for it, "" if none does.
    """

    job: str
    assets: tuple[str, ...]
    partitions: tuple[str, ...]
    state: str
    because: str
    alarm: str = ""

    @cached_property
    def key(self) -> str:
        return digest(self.job, self.assets, self.partitions, self.state)

    def request(self, attempt: int) -> dg.RunRequest:
        """One run over all partitions; a tag names those of its range that are wanted."""
        first, last = self.partitions[0], self.partitions[-1]
        tags = {INTENT_TAG: self.key, ATTEMPT_TAG: str(attempt), "hf/because": self.because[:500]}
        if self.alarm:
            tags |= {ASKED_BY_TAG: "alarm", ALARM_TAG: self.alarm}
        selection = [dg.AssetKey(asset.split("/")) for asset in self.assets]
        if first == last:
            return dg.RunRequest(
                run_key=f"{self.key}:{attempt}",
                job_name=self.job,
                partition_key=first,
                tags=tags,
                asset_selection=selection,
            )
        span = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        return dg.RunRequest(
            run_key=f"{self.key}:{attempt}",
            job_name=self.job,
            tags={**tags, **span, WANTED_TAG: condensed(self.partitions)},
            asset_selection=selection,
        )


def digest(*parts: Any) -> str:
    """Short digest of JSON-able values.

    Examples
    --------
    >>> digest("a", ["b"]) == digest("a", ("b",)) != digest("a", "b")
    True
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class RunHistory:
    """Runs of the intents that were requested.

    Parameters
    ----------
    instance : DagsterInstance
    now : datetime
        Wall clock, UTC.
    """

    instance: dg.DagsterInstance
    now: datetime

    def state_of(self, intent: RunIntent) -> tuple[RequestState, int]:
        """State of an intent, and the number of its next attempt."""
        return self._state_of(intent.key)

    def gave_up(self, job: str, asset: str, partition: str, *, since: datetime) -> bool:
        """Whether an intent for a partition was requested after `since`, failed or was cancelled, and will not be requested again."""
        runs = [
            each.dagster_run
            for each in self._fruitless(job, asset, since)
            if partition in named_partitions(each.dagster_run.tags)
        ]
        return any(self._state_of(key)[0] is RequestState.SETTLED for key in {run.tags[INTENT_TAG] for run in runs})

    def refused(self, job: str, asset: str, partitions: Collection[str]) -> dict[str, str]:
        """Partitions for which an intent has failed since they were last made, each with the id of that run."""
        if not partitions:
            return {}
        newest: dict[str, RunRecord] = {}
        for record in self._fruitless(job, asset):
            for partition in set(partitions).intersection(named_partitions(record.dagster_run.tags)):
                newest.setdefault(partition, record)
        key = dg.AssetKey(asset.split("/"))
        found = {}
        for partition, record in newest.items():
            of_partition = dg.AssetRecordsFilter(key, asset_partitions=[partition])
            made = self.instance.fetch_materializations(of_partition, limit=1).records
            if not made or made[0].timestamp < record.create_timestamp.timestamp():
                found[partition] = record.dagster_run.run_id
        return found

    def _fruitless(self, job: str, asset: str, since: datetime | None = None) -> list[RunRecord]:
        """Runs of intents for an asset, created after `since`, that failed or were cancelled; newest first."""
        ended = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
        filters = dg.RunsFilter(job_name=job, statuses=ended, created_after=since)
        records = self.instance.get_run_records(filters, limit=REMEMBERED_RUNS)
        key = dg.AssetKey(asset.split("/"))
        runs = ((each, each.dagster_run) for each in records)
        return [each for each, run in runs if INTENT_TAG in run.tags and key in (run.asset_selection or ())]

    def _state_of(self, intent_key: str) -> tuple[RequestState, int]:
        records = self.instance.get_run_records(dg.RunsFilter(tags={INTENT_TAG: intent_key}))
        if not records:
            return RequestState.DUE, 1
        if any(self._is_under_way(each, records) for each in records):
            return RequestState.UNDER_WAY, 0
        newest = records[0]
        attempts = max(int(each.dagster_run.tags.get(ATTEMPT_TAG, "1")) for each in records)
        if newest.dagster_run.status is not dg.DagsterRunStatus.FAILURE or attempts > len(BACKOFF):
            return RequestState.SETTLED, 0
        if not self._is_transient(newest):
            return RequestState.SETTLED, 0
        if self._ended(newest) + BACKOFF[attempts - 1] > self.now:
            return RequestState.UNDER_WAY, 0
        return RequestState.DUE, attempts + 1

    def under_way(self, job: str) -> str | None:
        """Id of a run of a job that has not ended, or that Dagster will re-execute."""
        records = self.instance.get_run_records(dg.RunsFilter(job_name=job), limit=5)
        return next((each.dagster_run.run_id for each in records if self._is_under_way(each, records)), None)

    def answered(self, job: str, alarm: str) -> bool:
        """Whether a run was asked for by an alarm, however that run ended."""
        filters = dg.RunsFilter(job_name=job, tags={ALARM_TAG: alarm})
        return bool(self.instance.get_run_records(filters, limit=1))

    def asked_by_alarms(self, job: str, *, since: datetime) -> list[datetime]:
        """When alarms asked for runs of a job, after `since`; a run that Dagster executes again was asked for once."""
        filters = dg.RunsFilter(job_name=job, tags={ASKED_BY_TAG: "alarm"}, created_after=since)
        records = self.instance.get_run_records(filters)
        return [each.create_timestamp for each in records if each.dagster_run.parent_run_id is None]

    def due(self, intents: Sequence[RunIntent]) -> list[dg.RunRequest]:
        """Requests for the intents that are due."""
        states = {intent: self.state_of(intent) for intent in intents}
        return [intent.request(attempt) for intent, (state, attempt) in states.items() if state is RequestState.DUE]

    def _is_under_way(self, record: RunRecord, others: Sequence[RunRecord]) -> bool:
        run = record.dagster_run
        if run.status not in FINISHED_STATUSES:
            return True
        will_retry = run.tags.get(WILL_RETRY_TAG)
        if run.status is not dg.DagsterRunStatus.FAILURE or will_retry == "false":
            return False
        is_followed = any(each.dagster_run.parent_run_id == run.run_id for each in others)
        patience = RETRY_PATIENCE if will_retry == "true" else UNSAID_PATIENCE
        return not is_followed and self._ended(record) + patience > self.now

    def _ended(self, record: RunRecord) -> datetime:
        return datetime.fromtimestamp(record.end_time or record.create_timestamp.timestamp(), tz=self.now.tzinfo)

    def _is_transient(self, record: RunRecord) -> bool:
        """Whether a run failed by a server, a disk or a kill, and not by what it read."""
        failures = self.instance.get_records_for_run(
            record.dagster_run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE
        ).records
        for each in failures:
            event = each.event_log_entry.dagster_event
            error = event.step_failure_data.error if event else None
            if TRANSIENT_ERRORS.isdisjoint(_class_names(error)):
                return False
        return True


def _class_names(error: Any) -> list[str]:
    names = []
    while error is not None:
        names.append(error.cls_name or "")
        error = error.cause
    return names
