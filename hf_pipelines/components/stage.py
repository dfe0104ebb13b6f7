"""Stage: the one shape that every asset of the pipeline has.

Lives here: reading inputs, calling the computation, running checks before publishing, and turning all that into one
Dagster asset. Does not live here: what is computed (`research`), how it is stored (`resources`).

Dagster concept: asset factory. A run covers one partition or a range of them; guards run per partition before anything
is published, and a partition that fails one is never current.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from time import perf_counter
from typing import Any, Protocol

import dagster as dg
import polars as pl

from hf_pipelines.partitions import MarketPartitions, parse_key, week_key
from hf_pipelines.research.wording import some_of
from hf_pipelines.resources.currency import CurrencyChecker
from hf_pipelines.resources.outages import waiting_out
from hf_pipelines.resources.parquet_io_manager import (
    FAILS_ALONE_KEY,
    GUARDS_KEY,
    ISSUE_KEY,
    OPTIONAL_KEY,
    Loaded,
    Publication,
    describe_faults,
)
from hf_pipelines.resources.partition_store import Content, PartitionStore, StoredPartitionError, Verdict

# Run tag: which partitions of a run's range are wanted, joined by commas; without it all of them.
WANTED_TAG = "hf/partitions"

# How often a week is read again because its source files changed meanwhile, before giving up.
MAX_REREADS = 5

# What a failing check says where there is no table: so many partitions by name, and of each so much.
PARTITIONS_SHOWN = 5
CHARACTERS_SHOWN = 300

# Times at which a partition is replayed, at least, whose run has one that looked ahead.
N_CLOSE_TIMES = 8

REPLAY_DESCRIPTION = (
    "No look-ahead: values recomputed from inputs cut at their own time are the same bits. Run before publishing; a partition "
    "that fails is never current."
)


class Listing(Protocol):
    """Names and sha256 of the source files that a partition is made from at this time."""

    def __call__(self, key: str, now: datetime) -> Mapping[str, str]: ...


class StageCompute(Protocol):
    """Computes the content of every partition of a run."""

    def __call__(self, run: "StageRun", inputs: Mapping[str, Loaded]) -> "Computed": ...


class Evaluate(Protocol):
    """Judges the content of one partition of a run."""

    def __call__(self, run: "StageRun", inputs: Mapping[str, Loaded], key: str, content: Content) -> "Finding": ...


class PartitionSample(Protocol):
    """Which partitions of a run a check looks at first: if all of them pass, the others are taken as sound unseen."""

    def __call__(self, contents: Mapping[str, Content]) -> Collection[str]: ...


class Track(Protocol):
    """Follows a run of an asset in an experiment tracker."""

    def __call__(self, context: dg.AssetExecutionContext) -> AbstractContextManager["Tracker"]: ...


class Tracker(Protocol):
    """Tracker runs, one a partition, open while the asset is computed."""

    runs: Mapping[str, str]

    def log(self, partition: str, content: Content) -> None: ...


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
        Whether a damaged partition fails only what is made from it: the computation asks by `Loaded.require`.
    is_by_session : bool
        Whether weeks without a session have no partition; rows of a reference table come on any day.
    offsets_a_week : int
        Dagster counts a window in partitions of the reader: 1 for a weekly one, 7 for a daily one. Where Saturdays and
        holidays have no partition a daily reader is then given a few weeks more than it asked for.
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
            },
        )


@dataclass(frozen=True)
class StageRun:
    """What a computation may know of the run it is part of.

    Attributes
    ----------
    partitions : tuple of str
        Partition keys to compute.
    now : datetime
        Wall clock at the start of the step, UTC.
    log : object
        Dagster's logger.
    tracked : mapping of partition to str
        Run of the experiment tracker, where there is one.
    store : PartitionStore, optional
        Where the stage publishes.
    """

    partitions: tuple[str, ...]
    now: datetime
    log: Any
    tracked: Mapping[str, str] = field(default_factory=dict)
    store: PartitionStore | None = None


@dataclass(frozen=True)
class Computed:
    """Contents by partition, and in words why others have none; metadata is shown in the UI.

    Partitions in `skipped` name no session: over a range they need no content.
    """

    contents: Mapping[str, Content]
    failures: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """What a check found: passed, how many values it compared (0 if it took the partition as sound unseen), faults in words."""

    passed: bool
    n_compared: int
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class StageCheck:
    """A check of a stage's content, made before it is published.

    Attributes
    ----------
    is_guard : bool
        A partition that fails a guard is not published; other checks only report.
    severity : AssetCheckSeverity
        How a report is shown.
    sample : callable, optional
        Of a run over many partitions; default all are looked at.
    full_evaluate : callable, optional
        Looks at more than `evaluate`: at all other partitions of a run in which one has a fault.
    """

    name: str
    description: str
    evaluate: Evaluate
    is_guard: bool = False
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
    sample: PartitionSample | None = None
    full_evaluate: Evaluate | None = None

    def findings(
        self, run: StageRun, inputs: Mapping[str, Loaded], contents: Mapping[str, Content]
    ) -> dict[str, Finding]:
        """What is found in each of the contents; where a sample has a fault, each partition is judged by itself."""
        sampled = set(contents) if self.sample is None else {*self.sample(contents)}
        found = {key: self.evaluate(run, inputs, key, contents[key]) for key in contents if key in sampled}
        if all(each.passed for each in found.values()):
            return {key: found.get(key, Finding(True, 0)) for key in contents}
        if self.full_evaluate is not None:
            # What passed in a sample proves little beside one that did not.
            found = {key: each for key, each in found.items() if not each.passed}
        judge = self.full_evaluate or self.evaluate
        return {key: found.get(key) or judge(run, inputs, key, content) for key, content in contents.items()}


@dataclass(frozen=True)
class Stage:
    """Everything that makes one asset; `build_asset` turns it into Dagster's.

    Attributes
    ----------
    pool : str or None
        Runs that publish assets of one pool wait for each other.
    listing : callable or None
        For an asset fed from outside.
    is_listing_live : bool
        Whether source files may arrive while a run reads them: then what was read is compared with the listing before
        and after publishing, so that of two runs the older one never takes a day away.
    is_own : callable
        Whether the file of this name holds rows of this partition, which may then not be made without it; others are only
        looked at.
    known_gaps : frozenset of str
        Partitions that the operator has declared to be empty: they may lose the files they were made from.
    tags : mapping
        What the catalogue's search finds the asset by, besides its name.
    """

    asset: str
    description: str
    kinds: frozenset[str]
    partitions: dg.PartitionsDefinition
    inputs: tuple[StageInput, ...]
    compute: StageCompute
    code_version: str
    checks: tuple[StageCheck, ...] = ()
    is_issue: bool = False
    is_range_run: bool = True
    track: Track | None = None
    column_schema: dg.TableSchema | None = None
    pool: str | None = None
    listing: Listing | None = None
    is_listing_live: bool = False
    is_own: Callable[[str, str], bool] = lambda name, key: True
    known_gaps: frozenset[str] = frozenset()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> dg.AssetKey:
        return dg.AssetKey(self.asset.split("/"))

    def build_asset(self) -> dg.AssetsDefinition:
        """The Dagster asset."""

        @dg.asset(
            key=self.key,
            ins={each.name: each.asset_in() for each in self.inputs},
            group_name=self.asset.split("/")[0],
            description=self.description,
            kinds=set(self.kinds),
            tags=self.tags,
            partitions_def=self.partitions,
            code_version=self.code_version,
            pool=self.pool,
            check_specs=[
                dg.AssetCheckSpec(check.name, asset=self.key, description=check.description) for check in self.checks
            ],
            backfill_policy=dg.BackfillPolicy.single_run() if self.is_range_run else dg.BackfillPolicy.multi_run(1),
            required_resource_keys={"clock", "io_manager"} | ({"mlflow"} if self.track else set()),
            metadata={**({ISSUE_KEY: True} if self.is_issue else {}), **self.metadata}
            | ({"dagster/column_schema": self.column_schema} if self.column_schema else {}),
            output_required=False,
        )
        def body(context: dg.AssetExecutionContext, **inputs: Loaded) -> Iterator[Any]:
            with waiting_out(context.get_step_execution_context()):
                yield from self._execute(context, inputs)

        return body

    def build_currency_check(
        self, code_versions: Mapping[str, str], issues: Collection[str] = ()
    ) -> dg.AssetChecksDefinition:
        """Check `is_current`: is what is stored what would be computed now?

        Parameters
        ----------
        code_versions : mapping of asset path to code version
            Of this asset and of all that lie upstream of it.
        issues : collection of asset paths
            Those of them whose partitions are written once.
        """

        @dg.asset_check(
            asset=self.key,
            name="is_current",
            description="What is stored was made by this code from inputs that have not changed since (content hashes).",
            required_resource_keys={"clock", "io_manager"},
        )
        def is_current(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
            with waiting_out(context.get_step_execution_context()):
                return judge(context)

        def judge(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
            store = context.resources.io_manager.storage.store()
            listings = {self.asset: partial(self.listing, now=context.resources.clock.now())} if self.listing else {}
            checker = CurrencyChecker(store, code_versions, listings, issues)
            stored = store.partitions(self.asset)
            asked = _partitions_of_run(context.run.tags, self.partitions) or stored
            judged = {key: checker.is_current(self.asset, key) for key in sorted({*asked} & {*stored})}
            found = {key: Finding(each.is_current, 1, (each.reason,)) for key, each in judged.items()}
            return _check_result("is_current", dg.AssetCheckSeverity.WARN, found)

        return is_current

    def _execute(self, context: dg.AssetExecutionContext, inputs: Mapping[str, Loaded]) -> Iterator[Any]:
        wanted = _wanted(context.run.tags, context.partition_keys)
        store = context.resources.io_manager.storage.store()
        run = StageRun(partitions=wanted, now=context.resources.clock.now(), log=context.log, store=store)
        with self.track(context) if self.track else nullcontext(None) as tracker:
            if tracker is not None:
                run = replace(run, tracked=tracker.runs)
            began = perf_counter()
            computed = self._compute_settled(context, run, inputs)
            # A range is computed at once: each of its partitions shows the mean.
            compute_s = (perf_counter() - began) / max(len(computed.contents), 1)
            noted = {key: {**computed.metadata.get(key, {}), "compute_s": compute_s} for key in computed.contents}
            publication, results = self._check(run, inputs, replace(computed, metadata=noted))
            if publication.is_whole and len(wanted) == len(context.partition_keys):
                yield dg.Output(publication, data_version=_data_version(publication))
            else:
                self._publish_part(context, publication)
            self._publish_moved(context, run, inputs, publication)
            yield from results
            if tracker is not None:
                for key, content in publication.contents.items():
                    tracker.log(key, content)
            if publication.rejected or publication.failures:
                raise self._failure(publication)

    def _compute_settled(
        self, context: dg.AssetExecutionContext, run: StageRun, inputs: Mapping[str, Loaded]
    ) -> Computed:
        """Compute, and again for partitions whose source files changed meanwhile; none may lose a file it had."""
        computed = self.compute(run, inputs)
        for _ in range(MAX_REREADS):
            moved = self._moved(run, computed.contents)
            if not moved:
                break
            run.log.warning(f"source files of {', '.join(moved[:5])} changed while they were read: reading again")
            again = self.compute(replace(run, partitions=moved), inputs)
            computed = replace(
                computed,
                contents={
                    **{key: each for key, each in computed.contents.items() if key not in moved},
                    **again.contents,
                },
                failures={**computed.failures, **again.failures},
                metadata={**computed.metadata, **again.metadata},
            )
        else:
            raise ValueError(
                f"`source` of {self.asset} must rest for the time of a run, changed {MAX_REREADS} times while it was read; "
                "run it when the files have arrived."
            )
        return self._without_losses(context, computed)

    def _moved(self, run: StageRun, contents: Mapping[str, Content]) -> tuple[str, ...]:
        """Partitions whose source files are no longer those that were read."""
        if self.listing is None or not self.is_listing_live:
            return ()
        return tuple(
            key for key, each in contents.items() if dict(self.listing(key, now=run.now)) != dict(each.sources)
        )

    def _without_losses(self, context: dg.AssetExecutionContext, computed: Computed) -> Computed:
        """Refuse partitions that would be made without a file that their current content was made from."""
        if self.listing is None or not self.is_listing_live:
            return computed
        store = context.resources.io_manager.storage.store()
        lost: dict[str, str] = {}
        for key, content in computed.contents.items():
            if key in self.known_gaps and content.frame.is_empty():
                continue
            try:
                current = store.footer(self.asset, key)
            except StoredPartitionError:
                # A damaged object is replaced, whatever it was made from.
                continue
            gone = sorted(set(current.sources) - set(content.sources)) if current else []
            if gone := [name for name in gone if self.is_own(name, key)]:
                lost[key] = (
                    f"`source` must still hold {', '.join(gone[:5])}, which {self.asset} {key} was made from, was without; "
                    "put the file back, or a table of the same name without rows if its rows must go."
                )
        return replace(
            computed,
            contents={key: each for key, each in computed.contents.items() if key not in lost},
            failures={**computed.failures, **lost},
        )

    def _publish_moved(
        self,
        context: dg.AssetExecutionContext,
        run: StageRun,
        inputs: Mapping[str, Loaded],
        publication: Publication,
    ) -> None:
        """Publish anew what a file that arrived between the last look and the publish belongs to."""
        for _ in range(MAX_REREADS):
            moved = self._moved(run, publication.contents)
            if not moved:
                return
            run.log.warning(f"source files of {', '.join(moved[:5])} changed while they were published: once more")
            again = replace(run, partitions=moved)
            publication, _results = self._check(again, inputs, self._compute_settled(context, again, inputs))
            self._publish_part(context, publication)
            if publication.rejected or publication.failures:
                raise self._failure(publication)

    def _failure(self, publication: Publication) -> dg.Failure:
        told = describe_faults(self.asset, publication, is_fed=self.is_listing_live)
        return dg.Failure(told, allow_retries=False)

    def _publish_part(self, context: dg.AssetExecutionContext, publication: Publication) -> None:
        """Publish the sound partitions of a run; an Output would report the others as materialised too."""
        step = context.get_step_execution_context()
        for key, note in context.resources.io_manager.publish(step, self.key, publication).items():
            context.log_event(dg.AssetMaterialization(self.key, partition=key, metadata=note))

    def _check(
        self, run: StageRun, inputs: Mapping[str, Loaded], computed: Computed
    ) -> tuple[Publication, list[dg.AssetCheckResult]]:
        began = perf_counter()
        found = {check.name: check.findings(run, inputs, computed.contents) for check in self.checks}
        guards = [check.name for check in self.checks if check.is_guard]
        rejected: dict[str, Content] = {}
        verdicts: dict[str, dict[str, Verdict]] = {}
        for key, content in computed.contents.items():
            digest = content.content_hash()
            of_key = {name: found[name][key] for name in guards}
            verdicts[key] = {
                name: Verdict(each.passed, digest, each.n_compared, each.findings) for name, each in of_key.items()
            }
            if not all(each.passed for each in of_key.values()):
                rejected[key] = content
        # Like the computation: of a range, each partition shows the mean.
        took = {"checks_s": (perf_counter() - began) / max(len(computed.contents), 1)} if self.checks else {}
        metadata = {key: {**computed.metadata.get(key, {}), **took} for key in computed.contents}
        publication = Publication(
            contents={key: content for key, content in computed.contents.items() if key not in rejected},
            rejected=rejected,
            failures=computed.failures,
            skipped=computed.skipped,
            verdicts=verdicts,
            metadata=metadata,
        )
        return publication, [_check_result(check.name, check.severity, found[check.name]) for check in self.checks]


def named_partitions(tags: Mapping[str, str]) -> tuple[str, ...]:
    """Partition keys that a run's tags name one by one; none if they name a range or nothing."""
    if one := tags.get("dagster/partition"):
        return (one,)
    wanted = tags.get(WANTED_TAG)
    return tuple(wanted.split(",")) if wanted else ()


def _partitions_of_run(tags: Mapping[str, str], partitions: dg.PartitionsDefinition) -> list[str]:
    """Partition keys that a run is about, by its tags; empty if it names none."""
    if one := tags.get("dagster/partition"):
        return [one]
    first, last = tags.get("dagster/asset_partition_range_start"), tags.get("dagster/asset_partition_range_end")
    if first is None or last is None:
        return []
    return list(partitions.get_partition_keys_in_range(dg.PartitionKeyRange(first, last)))


def _wanted(tags: Mapping[str, str], keys: Sequence[str]) -> tuple[str, ...]:
    """Partitions of a run's range that it is to make."""
    if WANTED_TAG not in tags:
        return tuple(keys)
    wanted = set(tags[WANTED_TAG].split(","))
    return tuple(key for key in keys if key in wanted)


def _check_result(name: str, severity: dg.AssetCheckSeverity, found: Mapping[str, Finding]) -> dg.AssetCheckResult:
    failed = {key: finding for key, finding in sorted(found.items()) if not finding.passed}
    rows = [
        dg.TableRecord({"partition": key, "finding": "; ".join(finding.findings)[:500]})
        for key, finding in list(failed.items())[:50]
    ]
    metadata: dict[str, Any] = {
        "partitions": len(found),
        "partitions_failed": len(failed),
        "partitions_compared": sum(finding.n_compared > 0 for finding in found.values()),
        "values_compared": sum(finding.n_compared for finding in found.values()),
    }
    if rows:
        metadata["failed"] = dg.MetadataValue.table(rows)
    return dg.AssetCheckResult(
        check_name=name,
        passed=not failed,
        severity=severity,
        description=_describe(failed) or None,
        metadata=metadata,
    )


def _describe(failed: Mapping[str, Finding]) -> str:
    """The first partitions that failed a check with their findings, one a line, and how many more there are."""
    shown = [
        f"{key}: {'; '.join(finding.findings)[:CHARACTERS_SHOWN]}"
        for key, finding in list(failed.items())[:PARTITIONS_SHOWN]
    ]
    more = f"; and {len(failed) - PARTITIONS_SHOWN} more partition(s)" if len(failed) > PARTITIONS_SHOWN else ""
    return "\n".join(shown) + more


def _data_version(publication: Publication) -> dg.DataVersion | None:
    """Content hash of a single partition; a range would stamp one version on all, so it gets none of ours."""
    if len(publication.contents) != 1:
        return None
    return dg.DataVersion(next(iter(publication.contents.values())).content_hash())


def each_partition(
    compute_one: Callable[[StageRun, Mapping[str, Loaded], str], tuple[Content, Mapping[str, Any]]],
    *,
    is_needed: Callable[[str], bool] = lambda key: True,
) -> StageCompute:
    """A computation that looks at one partition at a time; over a range one bad partition does not stop the rest.

    Parameters
    ----------
    compute_one : callable
        Raises ValueError for a partition that cannot be computed.
    is_needed : callable
        Over a range, partitions for which it is false are skipped.
    """

    def compute(run: StageRun, inputs: Mapping[str, Loaded]) -> Computed:
        if len(run.partitions) == 1:
            (key,) = run.partitions
            content, notes = compute_one(run, inputs, key)
            return Computed({key: content}, metadata={key: notes})
        contents, failures, metadata = {}, {}, {}
        needed = [key for key in run.partitions if is_needed(key)]
        for number, key in enumerate(needed, start=1):
            try:
                contents[key], metadata[key] = compute_one(run, inputs, key)
            except ValueError as e:
                failures[key] = str(e)
            run.log.info(f"{key}: {number} of {len(needed)} partitions computed")
        return Computed(contents, failures, metadata, tuple(sorted(set(run.partitions) - set(needed))))

    return compute


def check_from_facts(fact: str, *, total: str, unit: str) -> Callable[..., Finding]:
    """A check that reports what a validator noted under `fact`, out of the number it noted under `total`."""

    def evaluate(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
        noted: list[str] = content.facts[fact]  # type: ignore[assignment]
        n_total: int = content.facts[total]  # type: ignore[assignment]
        summary = f"{fact}: {len(noted)} of {n_total} {unit}: {some_of(noted)}"
        return Finding(not noted, n_total, (summary,) if noted else ())

    return evaluate


def replay_guard(
    compute: Callable[[StageRun, Mapping[str, Loaded], str], Any],
    *,
    compared: Callable[[Content], Any] | None = None,
    absent: Callable[[Mapping[str, Loaded], str], Any] | None = None,
    n_times: int = 3,
) -> StageCheck:
    """The look-ahead guard: recompute with every input cut at the row's time, and compare bits.

    Parameters
    ----------
    compute : callable
        The asset's own computation for one partition, returning the frame to compare.
    compared : callable, optional
        Which part of the content to compare; default its frame.
    absent : callable, optional
        Keys (symbol, session, ts) of rows that the content rightly lacks, out of the inputs as they are, not cut: what was
        known later (that a label never ended) took them away. A row that is recomputed and stored under such a key still
        is compared; default none.
    n_times : int
        Times replayed in each partition at least; the first, the last and late listings are always among them.
    """
    from hf_pipelines.research.replay import compare_replay, instant, pick_replay_ts

    def evaluate(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
        stored = content.frame if compared is None else compared(content)
        if not stored.height:
            return Finding(True, 0)
        seed = int(hashlib.sha256(f"{key}:{stored.height}".encode()).hexdigest()[:8], 16)
        differences: list[str] = []
        n_compared = 0
        gone = None if absent is None else _keys_not_stored(absent(inputs, key), stored)
        for at in pick_replay_ts(stored, seed=seed, n=n_times):
            try:
                recomputed = compute(run, {name: loaded.cut(at) for name, loaded in inputs.items()}, key)
            except ValueError as e:
                # What was known then is not enough to make it: look-ahead, and no reason to lose the other partitions.
                differences.append(f"nothing can be recomputed at {at.isoformat()}: {e}")
                continue
            if gone is not None:
                recomputed = recomputed.join(gone, on=gone.columns, how="anti")
            known = stored.filter(pl.col("ts") == instant(at))
            differences += [str(each) for each in compare_replay(known, recomputed, at=at)]
            n_compared += known.height * (known.width - 3)
        return Finding(not differences, n_compared, tuple(differences[:5]))

    return StageCheck(
        name="replay",
        description=REPLAY_DESCRIPTION,
        evaluate=evaluate,
        is_guard=True,
    )


def _keys_not_stored(keys: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    return keys.join(stored, on=keys.columns, how="anti")


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
