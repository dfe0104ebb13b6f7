"""Ended runs: the incidents that they open and heal.

Lives here: which runs have ended since the last look, and what is told of them. Does not live here: what they made and
left (`outcomes`), the incidents themselves (`resources.incidents`), what is late (`lateness`).

Runs are looked at by their own records, not by their events: ids of events are given before they are visible, and who
reads on from the last id can miss one. Each look begins a little before the last one ended, and knows what it has seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster import RunRecord

from hf_pipelines.components.operations.cause import first_failure
from hf_pipelines.components.operations.inventory import Watched
from hf_pipelines.components.operations.outcomes import Outcome, Outcomes
from hf_pipelines.components.strategy_stages import CHAMPION_MODEL, LEADERBOARD, RETRAINED, SWEEP, TUNING
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

# A check of the whole asset rather than of what a run made: as long as it fails it is one incident.
WHOLE_ASSET_CHECKS = ("is_current",)

# What can never be made.
NOTHING_TO_DO = "nothing: it can never be made; ask for a later one"

# Stages that have partitions of days, also of those without a session.
DAILY = ("signals", "drift")

# Stages that have nothing to make of a week without sessions, as their names begin.
OF_SESSIONS = ("bars", "features/", CHAMPION_MODEL)

# Stages that are made of the week's training matrix; a champion's refit has a window of its own.
OF_A_MATRIX = (*RETRAINED, TUNING, LEADERBOARD, SWEEP, "full_validation")

# A symbol that is gone will always lack its bars.
MEMBERSHIP = "end the membership of a symbol that is gone (`until` in `universe`), or "


@dataclass
class RunWatch:
    """Reads the runs that ended since the book was last written."""

    outcomes: Outcomes
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
        records = self.outcomes.instance.get_run_records(dg.RunsFilter(statuses=statuses, updated_after=since))
        # Tags that were added later change a record, too.
        new = [each for each in records if each.dagster_run.run_id not in book.seen_runs and _ended(each) > since]
        return sorted(new, key=_ended)

    def _is_undecided(self, record: RunRecord) -> bool:
        run = record.dagster_run
        is_unmarked = run.status is dg.DagsterRunStatus.FAILURE and WILL_RETRY_TAG not in run.tags
        return (
            is_unmarked and self.outcomes.instance.run_retries_enabled and _ended(record) > self.now - VERDICT_PATIENCE
        )

    def _look(self, record: RunRecord, book: Book) -> None:
        run = record.dagster_run
        is_failed = run.status is dg.DagsterRunStatus.FAILURE
        ended = self.outcomes.of(run)
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
            run = self.outcomes.instance.get_run_by_id(run_id)
            if run is None or AUTO_RETRY_RUN_ID_TAG in run.tags:
                continue
            if run.tags.get(WILL_RETRY_TAG) == "true":
                waiting.append(run_id)
            else:
                self._open(self.outcomes.of(run), book)
        book.awaited_runs = waiting

    def _heal(self, ended: Outcome, book: Book) -> None:
        if book.waiting("run"):
            by = f"run {ended.run.run_id[:8]}"
            book.heal("run", ended.made, cause=f"made by {by}", now=self.now)
            book.heal("run", ended.done - ended.made, cause=f"{by} had nothing to make of it", now=self.now)
        for each in ended.evaluations:
            asset = "/".join(each.asset_key.path)
            if book.waiting("check", each.check_name):
                passed = set(self._judged(ended, each)) - set(self._failing(ended, each))
                cause = f"check {each.check_name} of {asset} passed in run {ended.run.run_id[:8]}"
                book.heal("check", passed, cause=cause, now=self.now, check=each.check_name)

    def _open(self, ended: Outcome, book: Book) -> None:
        pairs = self.outcomes.left(ended)
        if ended.assets and not pairs:
            # A run that was killed, and whose command was typed again before anybody noticed.
            return
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

    def _open_checks(self, ended: Outcome, book: Book, *, is_failed: bool) -> None:
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

    def _judged(self, ended: Outcome, each: dg.AssetCheckEvaluation) -> list[Pair]:
        """Partitions that an evaluation covers."""
        asset = "/".join(each.asset_key.path)
        keys = ("",) if each.check_name in WHOLE_ASSET_CHECKS else ended.partitions.get(asset, ("",))
        return [(asset, key) for key in keys]

    def _failing(self, ended: Outcome, each: dg.AssetCheckEvaluation) -> list[Pair]:
        """Faulty partitions of an evaluation, as incidents name them."""
        if each.passed:
            return []
        is_whole = each.check_name in WHOLE_ASSET_CHECKS
        return self._judged(ended, each) if is_whole else self._named(ended, each)

    def _named(self, ended: Outcome, each: dg.AssetCheckEvaluation) -> list[Pair]:
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

        Signals and drift of a Sunday cannot, nor bars, features and a champion's refit of a week without sessions, nor what is made of a
        training matrix in a week whose window begins before the data.
        """
        asset, key = pair
        owner, _, stage = asset.partition("/")
        partitions = {each.name: each.partitions for each in self.watched.markets}
        partitions |= {each.name: each.market.partitions for each in self.watched.strategies}
        windows = {each.name: each.train_weeks for each in self.watched.strategies}
        if owner not in partitions or not key:
            return True
        if stage in DAILY:
            return partitions[owner].is_session(parse_key(key))
        if stage in OF_A_MATRIX and owner in windows:
            return key >= shift_week(week_key(partitions[owner].first_week), windows[owner])
        return bool(partitions[owner].sessions_of_week(key)) or not stage.startswith(OF_SESSIONS)

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
