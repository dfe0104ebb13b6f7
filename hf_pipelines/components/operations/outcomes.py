"""Outcomes: what runs were to make, what they made, and what of it is left to make.

Lives here: reading both from the records and events of runs that have ended or died. Does not live here: what is told of
them (`ended_runs`, `status`).

A step that succeeded has made all that it was asked for, or there was nothing to make: a champion's refit where the YAML's
own is the champion's, signals of a Sunday. A successful run alone says less: steps of it can be skipped.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import dagster as dg

from hf_pipelines.components.run_tags import named_partitions
from hf_pipelines.resources.incidents import Pair

EVENTS = {
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
}

# What is late has its own incidents, not those of a failed check.
ON_TIME = "on_time"

# Runs after one that failed or died in which what it left is looked for, the earliest first: a killed command is soon typed again.
LATER_RUNS = 500

ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


@dataclass(frozen=True)
class Outcome:
    """A run that has ended or died: what it was to make, and its events.

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
    def done(self) -> set[Pair]:
        """Partitions that it published, or of which there was nothing to make."""
        steps = {each.step_key for each in self.events if each.is_step_success}
        return self.made | set(self._pairs(asset for asset in self.assets if _step(asset) in steps))

    @cached_property
    def evaluations(self) -> list[dg.AssetCheckEvaluation]:
        wanted = dg.DagsterEventType.ASSET_CHECK_EVALUATION
        found = [each.asset_check_evaluation_data for each in self.events if each.event_type is wanted]
        return [each for each in found if each.check_name != ON_TIME]

    def failed_pairs(self) -> list[Pair]:
        """Partitions that it should have made and did not: of the failed steps, or of all assets if no step failed."""
        steps = [each.step_key or "" for each in self.events if each.is_step_failure]
        failed = list(dict.fromkeys(filter(None, (self._asset_of(step) for step in steps))))
        asked = self._pairs(failed or self.assets)
        left = [pair for pair in asked if pair not in self.done]
        # A step that failed after publishing everything must run again all the same.
        return left or (asked if failed else [])

    def _pairs(self, assets: Iterable[str]) -> list[Pair]:
        return [(asset, key) for asset in assets for key in self.partitions.get(asset, ("",))]

    def _asset_of(self, step: str) -> str | None:
        """Asset of a step, or of a step that checks one."""
        names = {_step(asset): asset for asset in self.assets}
        found = [name for name in names if step == name or step.startswith(f"{name}_")]
        return names[max(found, key=len)] if found else None


@dataclass(frozen=True)
class Outcomes:
    """Reads outcomes of runs.

    Parameters
    ----------
    repository : RepositoryDefinition
        Knows the assets of jobs and their partitions.
    """

    instance: dg.DagsterInstance
    repository: dg.RepositoryDefinition

    def of(self, run: dg.DagsterRun) -> Outcome:
        entries = self.instance.all_logs(run.run_id, of_type=EVENTS)
        assets = self._assets(run)
        return Outcome(
            run=run,
            events=[each.dagster_event for each in entries if each.dagster_event is not None],
            assets=assets,
            partitions={asset: self._partitions(run, asset) for asset in assets},
        )

    def left(self, outcome: Outcome) -> list[Pair]:
        """What a failed or dead run should have made, and what neither it nor a run that was created after it has."""
        pairs = outcome.failed_pairs()
        waiting = set(pairs)
        for later in self._later(outcome.run) if pairs else ():
            if not waiting:
                break
            asked = ((asset, key) for asset in self._assets(later) for key in self._partitions(later, asset))
            if not waiting.isdisjoint(asked):
                waiting -= self.of(later).done
        return [pair for pair in pairs if pair in waiting]

    def is_made(self, run: dg.DagsterRun) -> bool:
        """Whether nothing is left of what a failed or dead run was to make; of a run that makes no assets this is not known."""
        outcome = self.of(run)
        return bool(outcome.assets) and not self.left(outcome)

    def _later(self, run: dg.DagsterRun) -> Iterator[dg.DagsterRun]:
        record = self.instance.get_run_record_by_id(run.run_id)
        if record is not None:
            filters = dg.RunsFilter(statuses=ENDED, created_after=record.create_timestamp)
            found = self.instance.get_run_records(filters, limit=LATER_RUNS, ascending=True)
            yield from (each.dagster_run for each in found if each.dagster_run.run_id != run.run_id)

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
        """Partitions of an asset that a run was to make, as far as there are such."""
        if named := named_partitions(run.tags):
            return named
        first, last = (run.tags.get(f"dagster/asset_partition_range_{each}") for each in ("start", "end"))
        definition = self.repository.asset_graph.get(dg.AssetKey(asset.split("/"))).partitions_def
        if first is None or last is None or definition is None:
            return ("",)
        # A `start` that was changed since may have left the first one out.
        return tuple(key for key in definition.get_partition_keys() if first <= key <= last)


def _step(asset: str) -> str:
    return asset.replace("/", "__")
