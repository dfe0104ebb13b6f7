"""Ended runs: the incidents that they open and heal.

Lives here: which runs have ended since the last look, what failed in them and what they made. Does not live here: the
incidents themselves (`resources.incidents`), what is late (`lateness`).

Runs are looked at by their own records, not by their events: ids of events are given before they are visible, and who
reads on from the last id can miss one. Each look begins a little before the last one ended, and knows what it has seen.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

import dagster as dg
from dagster import RunRecord

from hf_pipelines.components.operations.cause import first_failure
from hf_pipelines.components.operations.inventory import Watched
from hf_pipelines.components.run_tags import named_partitions
from hf_pipelines.components.strategy_stages import LEADERBOARD, RETRAINED, SWEEP, TUNING
from hf_pipelines.partitions import parse_key, shift_week, week_key
from hf_pipelines.resources.dagster_internals import AUTO_RETRY_RUN_ID_TAG, WILL_RETRY_TAG
from hf_pipelines.resources.incidents import Book, Pair, span
from hf_pipelines.resources.notifier import check_link, run_link
from hf_pipelines.resources.parquet_io_manager import IN_ONE_GO, TAKEN_BY_ITSELF

# Runs looked at in one tick: each costs a query of its events.
RUNS_A_TICK = 100

# How long before the last look the next one begins: clocks of processes differ, and commits come late.
OVERLAP = timedelta(minutes=2)

# Dagster notes on a failed run whether it will run it again just after the failure itself.
VERDICT_PATIENCE = timedelta(minutes=1)

# What is late has its own incidents, not those of a failed check.
ON_TIME = "on_time"

# A check of the whole asset rather than of what a run made: as long as it fails it is one incident.
WHOLE_ASSET_CHECKS = ("is_current",)

# What can never be made.
NOTHING_TO_DO = "nothing: it can never be made; ask for a later one"

# A symbol that is gone will always lack its bars.
MEMBERSHIP = "end the membership of a symbol that is gone (`until` in `universe`), or "

EVENTS = {
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
}


@dataclass(frozen=True)
class EndedRun:
    """A run that ended: what it was to make, and its events.

    Attributes
    ----------
    assets : tuple of str
        Asset paths that it was to make.
    partitions : mapping of asset to tuple of str
        The partitions of each; "" for an asset or run without partitions.
    """

    run: dg.DagsterRun
    events: Sequence[dg.DagsterEvent]
    assets: tuple[str, ...]
    partitions: Mapping[str, tuple[str, ...]]

    @cached_property
    def made(self) -> set[Pair]:
        """Partitions that it published."""
        found = (each.step_materialization_data.materialization for each in self.events if each.is_step_materialization)
        return {("/".join(each.asset_key.path), each.partition or "") for each in found}

    @cached_property
    def evaluations(self) -> list[dg.AssetCheckEvaluation]:
        wanted = dg.DagsterEventType.ASSET_CHECK_EVALUATION
        found = [each.asset_check_evaluation_data for each in self.events if each.event_type is wanted]
        return [each for each in found if each.check_name != ON_TIME]

    def failed_pairs(self) -> list[Pair]:
        """Partitions that it should have made and did not: of the failed steps, or of all assets if no step failed."""
        steps = [each.step_key or "" for each in self.events if each.is_step_failure]
        assets = list(dict.fromkeys(filter(None, (self._asset_of(step) for step in steps)))) or list(self.assets)
        asked = [(asset, key) for asset in assets for key in self.partitions.get(asset, ("",))]
        # A step that failed after publishing everything must run again all the same.
        return [pair for pair in asked if pair not in self.made] or asked

    def _asset_of(self, step: str) -> str | None:
        """Asset of a step, or of a step that checks one."""
        names = {asset.replace("/", "__"): asset for asset in self.assets}
        found = [name for name in names if step == name or step.startswith(f"{name}_")]
        return names[max(found, key=len)] if found else None


@dataclass
class RunWatch:
    """Reads the runs that ended since the book was last written.

    Parameters
    ----------
    repository : RepositoryDefinition
        Knows the assets of jobs and their partitions.
    """

    instance: dg.DagsterInstance
    repository: dg.RepositoryDefinition
    watched: Watched
    now: datetime

    def update(self, book: Book) -> None:
        """Open and heal incidents."""
        # What failed before the first look is not reported. A clock that was set back must not leave the runs of the
        # time in between unseen.
        until = min(datetime.fromisoformat(book.runs_until), self.now) if book.runs_until else self.now
        self._look_again(book)
        ended = self._ended_after(until - OVERLAP, book)
        looked_at = ended[:RUNS_A_TICK]
        postponed = False
        for record in looked_at:
            if self._is_undecided(record):
                postponed = True
                continue
            self._look(record, book)
            book.seen_runs[record.dagster_run.run_id] = _ended(record).isoformat()
        if len(looked_at) < len(ended):
            until = _ended(looked_at[-1])
        elif not postponed:
            until = self.now
        book.runs_until = until.isoformat()
        oldest = (until - 2 * OVERLAP).isoformat()
        book.seen_runs = {run_id: at for run_id, at in book.seen_runs.items() if at >= oldest}

    def _ended_after(self, since: datetime, book: Book) -> list[RunRecord]:
        """Runs that ended since then and were not looked at, the first to end first."""
        statuses = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS]
        records = self.instance.get_run_records(dg.RunsFilter(statuses=statuses, updated_after=since))
        # Tags that were added later change a record, too.
        new = [each for each in records if each.dagster_run.run_id not in book.seen_runs and _ended(each) > since]
        return sorted(new, key=_ended)

    def _is_undecided(self, record: RunRecord) -> bool:
        run = record.dagster_run
        is_unmarked = run.status is dg.DagsterRunStatus.FAILURE and WILL_RETRY_TAG not in run.tags
        return is_unmarked and self.instance.run_retries_enabled and _ended(record) > self.now - VERDICT_PATIENCE

    def _look(self, record: RunRecord, book: Book) -> None:
        run = record.dagster_run
        is_failed = run.status is dg.DagsterRunStatus.FAILURE
        ended = self._read(run)
        self._heal(ended, book)
        if is_failed and run.tags.get(WILL_RETRY_TAG) == "true":
            book.awaited_runs.append(run.run_id)
        elif is_failed:
            self._open(ended, book)
        self._open_checks(ended, book, is_failed=is_failed)

    def _look_again(self, book: Book) -> None:
        """At failed runs that were to be executed again: a run that was not counts as failed."""
        waiting = []
        for run_id in book.awaited_runs:
            run = self.instance.get_run_by_id(run_id)
            if run is None or AUTO_RETRY_RUN_ID_TAG in run.tags:
                continue
            if run.tags.get(WILL_RETRY_TAG) == "true":
                waiting.append(run_id)
            else:
                self._open(self._read(run), book)
        book.awaited_runs = waiting

    def _read(self, run: dg.DagsterRun) -> EndedRun:
        entries = self.instance.all_logs(run.run_id, of_type=EVENTS)
        assets = self._assets(run)
        return EndedRun(
            run=run,
            events=[each.dagster_event for each in entries if each.dagster_event is not None],
            assets=assets,
            partitions={asset: self._partitions(run, asset) for asset in assets},
        )

    def _assets(self, run: dg.DagsterRun) -> tuple[str, ...]:
        """Assets of a run in the order of their making; those of its job if it selects none."""
        selected: Iterable[dg.AssetKey] = run.asset_selection or ()
        if not selected and self.repository.has_job(run.job_name):
            selected = self.repository.get_job(run.job_name).asset_layer.executable_asset_keys
        wanted = set(selected)
        graph = self.repository.asset_graph
        ordered = [key for level in graph.toposorted_asset_keys_by_level for key in sorted(level) if key in wanted]
        return tuple("/".join(key.path) for key in ordered)

    def _partitions(self, run: dg.DagsterRun, asset: str) -> tuple[str, ...]:
        """Partitions of an asset that a run was to make."""
        if named := named_partitions(run.tags):
            return named
        first, last = (run.tags.get(f"dagster/asset_partition_range_{each}") for each in ("start", "end"))
        definition = self.repository.asset_graph.get(dg.AssetKey(asset.split("/"))).partitions_def
        if first is None or last is None or definition is None:
            return ("",)
        return tuple(definition.get_partition_keys_in_range(dg.PartitionKeyRange(first, last)))

    def _heal(self, ended: EndedRun, book: Book) -> None:
        if book.waiting("run"):
            book.heal("run", ended.made, cause=f"made by run {ended.run.run_id[:8]}", now=self.now)
        for each in ended.evaluations:
            asset = "/".join(each.asset_key.path)
            if book.waiting("check", each.check_name):
                passed = set(self._judged(ended, each)) - set(self._failing(ended, each))
                cause = f"check {each.check_name} of {asset} passed in run {ended.run.run_id[:8]}"
                book.heal("check", passed, cause=cause, now=self.now, check=each.check_name)

    def _open(self, ended: EndedRun, book: Book) -> None:
        pairs = ended.failed_pairs()
        possible = [pair for pair in pairs if self._is_possible(pair)]
        _, cause = first_failure(ended.events)
        asset = pairs[0][0] if pairs else ended.run.job_name
        in_one_go = IN_ONE_GO.search(cause)
        if pairs and not possible:
            remedy = NOTHING_TO_DO
        elif in_one_go:
            remedy = in_one_go[1]
        else:
            remedy = self._remedy(asset, [key for each, key in possible or pairs if each == asset])
        book.open_incident(
            "run",
            possible or pairs or [(asset, "")],
            cause=cause,
            remedy=remedy,
            url=run_link(ended.run.run_id),
            now=self.now,
            can_heal=bool(possible),
            seed=ended.run.run_id,
        )

    def _open_checks(self, ended: EndedRun, book: Book, *, is_failed: bool) -> None:
        # A guard that rejects a partition fails its run as well: one incident.
        reported = book.waiting("run") if is_failed else set()
        for each in ended.evaluations:
            asset = "/".join(each.asset_key.path)
            named = self._named(ended, each)
            if set(named) <= reported:
                continue
            warns = each.severity is dg.AssetCheckSeverity.WARN
            keys = [key for _, key in named]
            book.open_incident(
                "check",
                self._failing(ended, each),
                partition=span(keys),
                cause=f"check {each.check_name}{' (a warning)' if warns else ''}: {each.description or 'it failed'}",
                remedy=f"look at its table, then: {MEMBERSHIP if each.check_name == 'complete' else ''}{self._remedy(asset, keys)}",
                url=check_link(asset, each.check_name),
                now=self.now,
                check=each.check_name,
                severity="WARN" if warns else "ERROR",
                seed=ended.run.run_id,
            )

    def _judged(self, ended: EndedRun, each: dg.AssetCheckEvaluation) -> list[Pair]:
        """Partitions that an evaluation covers."""
        asset = "/".join(each.asset_key.path)
        keys = ("",) if each.check_name in WHOLE_ASSET_CHECKS else ended.partitions.get(asset, ("",))
        return [(asset, key) for key in keys]

    def _failing(self, ended: EndedRun, each: dg.AssetCheckEvaluation) -> list[Pair]:
        """Faulty partitions of an evaluation, as incidents name them."""
        if each.passed:
            return []
        is_whole = each.check_name in WHOLE_ASSET_CHECKS
        return self._judged(ended, each) if is_whole else self._named(ended, each)

    def _named(self, ended: EndedRun, each: dg.AssetCheckEvaluation) -> list[Pair]:
        """Faulty partitions that an evaluation names in its table, else all that it covers."""
        if each.passed:
            return []
        asset = "/".join(each.asset_key.path)
        table = each.metadata.get("failed")
        rows = table.records if isinstance(table, dg.TableMetadataValue) else []
        named = [(asset, str(row.data["partition"])) for row in rows if "partition" in row.data]
        count = each.metadata.get("partitions_failed")
        # A long table is cut.
        if named and (count is None or count.value == len(named)):
            return named
        return [(asset, key) for key in ended.partitions.get(asset, ("",))]

    def _is_possible(self, pair: Pair) -> bool:
        """Whether a partition can be made at all.

        Signals of a Sunday cannot, nor bars and features of a week without sessions, nor the model of a week whose window begins before the data.
        """
        asset, key = pair
        owner, _, stage = asset.partition("/")
        partitions = {each.name: each.partitions for each in self.watched.markets}
        partitions |= {each.name: each.market.partitions for each in self.watched.strategies}
        windows = {each.name: each.train_weeks for each in self.watched.strategies}
        if owner not in partitions or not key:
            return True
        if stage == "signals":
            return partitions[owner].is_session(parse_key(key))
        if stage in RETRAINED and owner in windows:
            return key >= shift_week(week_key(partitions[owner].first_week), windows[owner])
        return bool(partitions[owner].sessions_of_week(key)) or not stage.startswith(("bars", "features/"))

    def _remedy(self, asset: str, keys: Sequence[str]) -> str:
        owner, _, stage = asset.partition("/")
        markets = {each.name: each for each in self.watched.markets}
        if owner in markets and asset in markets[owner].watched_folders:
            return f"correct, add or remove the file concerned: {TAKEN_BY_ITSELF}"
        if stage in (*RETRAINED, TUNING, LEADERBOARD, SWEEP) and len(set(keys)) == 1 and keys[0]:
            return f"hfp retrain {owner} --week {keys[0]}"
        known = [key for key in keys if key]
        return f"hfp materialise {asset} --from {min(known)} --to {max(known)}" if known else "launch it again"


def _ended(record: RunRecord) -> datetime:
    if record.end_time is None:
        return record.update_timestamp
    return datetime.fromtimestamp(record.end_time, UTC)
