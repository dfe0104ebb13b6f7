"""Stage checks: the checks of a partition before it is published.

Lives here: the check and what it found, the look-ahead guard, how a result is shown. Does not live here: what a guard that
fails means for publishing (`stage_asset`), the checks of single assets (`market_stages`, `strategy_stages`).
"""

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import dagster as dg
import polars as pl

from hf_pipelines.components.stage_run import StageRun
from hf_pipelines.research.wording import some_of
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content

# The description of a failing check: how many partitions it names, and how many characters of each.
PARTITIONS_SHOWN = 5
CHARACTERS_SHOWN = 300

# Times at which a partition is replayed, at least, whose run has one that looked ahead.
N_CLOSE_TIMES = 8

REPLAY_DESCRIPTION = (
    "No look-ahead: values recomputed from inputs cut at their own time are the same bits. Run before publishing; a partition "
    "that fails is never current."
)


@dataclass(frozen=True)
class Finding:
    """Result of a check: whether it passed, how many values it compared (0 if the partition was not in the sample), its faults, or
    what it could not look at, and where what it found lies."""

    passed: bool
    n_compared: int
    findings: tuple[str, ...] = ()
    places: tuple[str, ...] = ()


class Evaluate(Protocol):
    """Judges the content of one partition of a run."""

    def __call__(self, run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding: ...


class PartitionSample(Protocol):
    """Which partitions of a run a check looks at first: if all of them pass, the others pass too."""

    def __call__(self, contents: Mapping[str, Content]) -> Collection[str]: ...


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
        """Result for each of the contents; if a sampled partition has a fault, all others are checked too."""
        sampled = set(contents) if self.sample is None else {*self.sample(contents)}
        found = {key: self.evaluate(run, inputs, key, contents[key]) for key in contents if key in sampled}
        if all(each.passed for each in found.values()):
            return {key: found.get(key, Finding(True, 0)) for key in contents}
        if self.full_evaluate is not None:
            # A pass in the sample proves little once another partition failed.
            found = {key: each for key, each in found.items() if not each.passed}
        judge = self.full_evaluate or self.evaluate
        return {key: found.get(key) or judge(run, inputs, key, content) for key, content in contents.items()}


def check_result(
    name: str, severity: dg.AssetCheckSeverity, found: Mapping[str, Finding], *, remedy: str = ""
) -> dg.AssetCheckResult:
    """Result of a check over partitions, for Dagster; `remedy` is the last line of one that failed."""
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
    for key, finding in list(failed.items())[:PARTITIONS_SHOWN]:
        for place in finding.places:
            metadata[f"rows of {key}"] = dg.MetadataValue.path(place)
    return dg.AssetCheckResult(
        check_name=name,
        passed=not failed,
        severity=severity,
        # What a check that passed could not look at is told too.
        description=_describe(failed or {key: each for key, each in sorted(found.items()) if each.findings})
        + (f"\n{remedy}" if failed and remedy else "")
        or None,
        metadata=metadata,
    )


def _describe(failed: Mapping[str, Finding]) -> str:
    """The first partitions with their findings, one a line, and how many more there are."""
    shown = [
        f"{key}: {'; '.join(finding.findings)[:CHARACTERS_SHOWN]}"
        for key, finding in list(failed.items())[:PARTITIONS_SHOWN]
    ]
    more = f"; and {len(failed) - PARTITIONS_SHOWN} more partition(s)" if len(failed) > PARTITIONS_SHOWN else ""
    return "\n".join(shown) + more


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
