"""Stage: the one shape that every asset of the pipeline has.

Lives here: its types, and the weeks of an input that a partition reads. Does not live here: what is computed (`research`),
Dagster's asset (`stage_asset`), its runs (`stage_run`) and checks (`stage_checks`), how it is stored (`resources`).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, Protocol

import dagster as dg

from hf_pipelines.components.stage_checks import StageCheck
from hf_pipelines.components.stage_run import Computed, StageCompute, StageRun
from hf_pipelines.partitions import MarketPartitions, parse_key, week_key
from hf_pipelines.resources.holdout import MADE_WITHOUT, Holdout, HoldoutGuard
from hf_pipelines.resources.holdout_looks import state_holdout
from hf_pipelines.resources.parquet_io_manager import (
    FAILS_ALONE_KEY,
    GUARDS_KEY,
    HOLDOUT_KEY,
    OPTIONAL_KEY,
    WHOLE_KEY,
    Loaded,
)
from hf_pipelines.resources.partition_codec import Content


class SourceManifest(Protocol):
    """Names and sha256 of the source files that a partition is made from at this time."""

    def __call__(self, key: str, now: datetime) -> Mapping[str, str]: ...


class Track(Protocol):
    """Follows a run of an asset in an experiment tracker."""

    def __call__(self, context: dg.AssetExecutionContext) -> AbstractContextManager["Tracker"]: ...


class Tracker(Protocol):
    """Tracker runs, one a partition, open while the asset is computed."""

    runs: Mapping[str, str]

    def log(self, partition: str, content: Content, metadata: Mapping[str, Any]) -> None: ...

    def log_step(self, partition: str, step: int, numbers: Mapping[str, float]) -> None: ...


@dataclass(frozen=True)
class StageInput:
    """A window of an upstream asset, in weeks relative to the week of the partition made.

    Attributes
    ----------
    name : str
        How the computation calls it.
    asset : str
        Asset path.
    first_week, last_week : int
        0 is the week itself, negative weeks lie before it.
    guards : tuple of str
        Verdicts that each partition read must carry.
    is_optional : bool
        Whether partitions may be missing.
    fails_alone : bool
        Whether a damaged partition fails only what is made from it: the computation calls `Loaded.require`.
    is_by_session : bool
        Whether weeks without a session have no partition; rows of a reference table come on any day.
    offsets_a_week : int
        Dagster counts a window in partitions of the reader: 1 for a weekly one, 7 for a daily one. Where Saturdays and
        holidays have no partition a daily reader then gets a few weeks more than it needs.
    whole_columns : tuple of str
        If some are named, only they are in memory, and all others are read in batches.
    guard : HoldoutGuard or None
        Keeps the reader out of a strategy's hold-out; set by `kept_out`.
    """

    name: str
    asset: str
    first_week: int = 0
    last_week: int = 0
    guards: tuple[str, ...] = ()
    is_optional: bool = False
    fails_alone: bool = False
    is_by_session: bool = True
    offsets_a_week: int = 1
    whole_columns: tuple[str, ...] = ()
    guard: HoldoutGuard | None = None

    def asset_in(self) -> dg.AssetIn:
        mapping = dg.TimeWindowPartitionMapping(
            start_offset=self.first_week * self.offsets_a_week,
            end_offset=self.last_week * self.offsets_a_week,
            allow_nonexistent_upstream_partitions=True,
        )
        return dg.AssetIn(
            key=dg.AssetKey(self.asset.split("/")),
            partition_mapping=mapping,
            metadata={
                GUARDS_KEY: list(self.guards),
                OPTIONAL_KEY: self.is_optional,
                FAILS_ALONE_KEY: self.fails_alone,
                WHOLE_KEY: list(self.whole_columns),
                HOLDOUT_KEY: None if self.guard is None else self.guard.to_json(),
            },
        )


@dataclass(frozen=True)
class Stage:
    """Everything that makes one asset; `stage_asset` turns it into Dagster's.

    Attributes
    ----------
    kind : str
        What it holds, as footers say it (`Footer.kind`).
    kinds : frozenset of str
        Words that Dagster shows on the asset.
    pool : str or None
        Runs that publish assets of one pool wait for each other.
    manifest : callable or None
        For an asset that is made from source files.
    is_manifest_live : bool
        Whether source files may arrive while a run reads them: then what was read is compared with the manifest before
        and after publishing, so that of two runs the older one never takes a day away.
    is_own : callable
        Whether the file of this name holds rows of this partition, which may then not be made without it; others are only
        looked at.
    known_gaps : frozenset of str
        Partitions that the operator has declared to be empty: they may lose the files they were made from.
    tags : mapping
        What the catalogue's search finds the asset by, beside its name.
    rests : callable
        Partitions that never hold anything and come with this one.
    keeps_fits : bool
        Whether it makes fits that keep their state while they run: removed once the partition is published.
    reads_holdout : {"never", "final_refit", "always"}
        Whether it may read weeks that a strategy holds out; "final_refit" in such a run alone.
    """

    asset: str
    kind: str
    description: str
    kinds: frozenset[str]
    partitions: dg.PartitionsDefinition
    inputs: tuple[StageInput, ...]
    compute: StageCompute
    code_version: str
    checks: tuple[StageCheck, ...] = ()
    is_range_run: bool = True
    track: Track | None = None
    column_schema: dg.TableSchema | None = None
    pool: str | None = None
    manifest: SourceManifest | None = None
    is_manifest_live: bool = False
    is_own: Callable[[str, str], bool] = lambda name, key: True
    known_gaps: frozenset[str] = frozenset()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    rests: Callable[[str], Sequence[str]] = lambda key: ()
    keeps_fits: bool = False
    reads_holdout: Literal["never", "final_refit", "always"] = "never"

    @property
    def key(self) -> dg.AssetKey:
        return dg.AssetKey(self.asset.split("/"))


def kept_out(stage: Stage, holdout: Holdout) -> Stage:
    """The stage, none of whose inputs gives it a week of a hold-out that it may not read; its contents say so."""
    if stage.reads_holdout == "always":
        return stage
    opens = stage.reads_holdout == "final_refit"
    guard = HoldoutGuard(holdout, stage.asset, opens_to_final_refit=opens)

    def compute(run: StageRun, inputs: Mapping[str, Loaded]) -> Computed:
        if run.store is not None:
            state_holdout(run.store.objects, holdout)
        # Through its inputs alone it reads what is stored.
        computed = stage.compute(replace(run, store=None), inputs)
        if opens and run.final_refit is not None:
            return computed
        noted = {
            key: replace(each, facts={**each.facts, MADE_WITHOUT: holdout.week})
            for key, each in computed.contents.items()
        }
        return replace(computed, contents=noted)

    return replace(stage, compute=compute, inputs=tuple(replace(each, guard=guard) for each in stage.inputs))


def week_of_key(key: str) -> str:
    """Week that a weekly or daily partition key lies in."""
    return week_key(parse_key(key))


def window(partitions: MarketPartitions, stage_input: StageInput, key: str) -> list[str]:
    """Weekly keys of an input that one partition reads, clipped at the market's first week."""
    weeks = partitions.weeks_around(week_of_key(key), first=stage_input.first_week, last=stage_input.last_week)
    return partitions.trading_weeks(weeks) if stage_input.is_by_session else weeks


def weeks_to_make(partitions: MarketPartitions, run: StageRun) -> tuple[list[str], tuple[str, ...]]:
    """Weeks of a run that have sessions, and those that have none: over a range they need no content.

    Raises
    ------
    ValueError
        If the run is about one week alone, and that has none.
    """
    weeks = partitions.trading_weeks(run.partitions)
    if not weeks and len(run.partitions) == 1:
        raise ValueError(
            f"`week` must have a session of {partitions.calendar_name}, {run.partitions[0]} has none; there is nothing to make "
            "of it and nothing to declare: what reads weeks goes past it."
        )
    return weeks, tuple(sorted({*run.partitions} - {*weeks}))


def column_schema(descriptions: Mapping[str, str], types: Mapping[str, Any]) -> dg.TableSchema:
    """Columns with their types and what they mean, for the catalogue."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name, type=str(types[name]), description=description or None)
            for name, description in descriptions.items()
        ]
    )
