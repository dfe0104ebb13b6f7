"""Parquet IO manager: how assets read and publish partitions, on disk and on S3 alike.

Lives here: the translation between Dagster's contexts and the partition store, guards before publishing, metadata of
each partition. Does not live here: the layout of the store (`partition_store`), what is computed (`research`).

Dagster concept: IO manager. A run over a range of partitions is one call with a `Publication` of many contents; each
is published on its own, and gets its own metadata.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from time import perf_counter
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from hf_pipelines.research.replay import cut, cut_each
from hf_pipelines.research.wording import some_of
from hf_pipelines.resources import settings
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.dagster_internals import StepExecutionContext
from hf_pipelines.resources.footer import SIGNALS, Stamp, Verdict
from hf_pipelines.resources.holdout import HoldoutGuard
from hf_pipelines.resources.issued_signals import remake
from hf_pipelines.resources.issues import point_to_latest
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.outages import waiting_out
from hf_pipelines.resources.partition_codec import Content, Stored
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.publication_notes import place_in_page, published_notes, shown_value
from hf_pipelines.resources.read_cache import ReadCache
from hf_pipelines.resources.storage_errors import ObjectMissingError, StoredPartitionError

# Metadata keys that tell the IO manager about an asset or an input.
GUARDS_KEY = "hf/guards"
KIND_KEY = "hf/kind"
OPTIONAL_KEY = "hf/optional"
FAILS_ALONE_KEY = "hf/fails_alone"
HOLDOUT_KEY = "hf/holdout"
WHOLE_KEY = "hf/whole_columns"


@dataclass(frozen=True)
class Loaded:
    """Partitions of one upstream asset, verified.

    Attributes
    ----------
    asset : str
        Asset path.
    parts : mapping of partition key to Stored
    store : PartitionStore
        Where they were read, for their attachments.
    known_at : datetime or None
        Rows that became available later are left out of every frame; None leaves none out.
    symbols : frozenset of str or None
        Rows of other symbols are left out of every frame; None leaves none out.
    known_by : mapping of symbol to datetime, or None
        Rows of other symbols are left out of every frame, and those that became available after the symbol's own time.
    together : (DataFrame, list of int) or None
        See `gathered`: rows of all partitions in their order, and where each begins and the last ends.
    damaged : mapping of partition key to str
        What is wrong with those that are there and cannot be read, or lack a passed verdict, of an input that says so as it is
        asked for them; and why those that reach into a hold-out may not be read.
    """

    asset: str
    parts: Mapping[str, Stored]
    store: PartitionStore
    known_at: datetime | None = None
    symbols: frozenset[str] | None = None
    known_by: Mapping[str, datetime] | None = None
    together: tuple[pl.DataFrame, list[int]] | None = None
    damaged: Mapping[str, str] = field(default_factory=dict)

    def frame(self, keys: Sequence[str] | None = None, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Rows of the given partitions (default: all), sorted by (symbol, ts) where there are such columns.

        Raises
        ------
        ValueError
            If one of the partitions is not there, or has not all of the `columns`.
        """
        wanted = sorted(self.parts) if keys is None else keys
        self.require(wanted)
        if columns is not None:
            self._require_columns(wanted, columns)
        frame = self._rows_of(wanted, columns)
        names = frame.columns
        is_timed = not {"ts", "available_at"}.isdisjoint(names)
        if self.symbols is not None and "symbol" in names:
            frame = frame.filter(pl.col("symbol").is_in(self.symbols))
        if self.known_at is not None and is_timed:
            frame = cut(frame, self.known_at)
        if self.known_by is not None and is_timed:
            frame = cut_each(frame, self.known_by)
        return _by_symbol(frame) if {"symbol", "ts"} <= {*names} else frame

    def require(self, keys: Sequence[str]) -> None:
        """Refuse a window with partitions that were never published, that are damaged, or that reach into a hold-out."""
        if faults := [self.damaged[key] for key in keys if key in self.damaged]:
            # Of a hold-out all partitions have the same one.
            raise ValueError("; ".join(dict.fromkeys(faults)))
        if missing := [key for key in keys if key not in self.parts]:
            raise missing_error(self.asset, missing)

    def _require_columns(self, keys: Sequence[str], columns: Sequence[str]) -> None:
        """Refuse partitions that were made before a column was asked for."""
        lacking = {key: lost for key in keys if (lost := sorted(set(columns) - set(self.parts[key].frame.columns)))}
        if lacking:
            names, weeks = sorted({each for lost in lacking.values() for each in lost}), sorted(lacking)
            raise ValueError(
                f"`{self.asset}` must hold {', '.join(names[:5])} in every partition, was without in {some_of(weeks)}; it was made by earlier code, make it again: "
                f"hfp materialise {self.asset} --from {weeks[0]} --to {weeks[-1]}"
            )

    def hashes(self, keys: Sequence[str]) -> dict[str, dict[str, str]]:
        """What the footer of a partition built from these should list as its inputs."""
        return {self.asset: {key: self.parts[key].footer.content_hash for key in keys}}

    def session_hash(self, key: str, session: str) -> dict[str, dict[str, str]]:
        """Input of a partition that depends on one session of an upstream partition."""
        return {self.asset: {f"{key}#{session}": self.parts[key].footer.session_hashes[session]}}

    def attachment(self, key: str, name: str) -> bytes:
        """Bytes attached to a partition, their sha256 checked."""
        return self.store.read_attachment(self.parts[key].footer, name)

    def cut(self, at: datetime, symbols: frozenset[str] | None = None) -> "Loaded":
        """The same partitions as they were known at `at`, of some symbols alone where they are named."""
        return replace(self, known_at=at, symbols=symbols)

    def gathered(self, symbols: frozenset[str] | None = None) -> "Loaded":
        """The same partitions, rows of some symbols or all, side by side in memory: for one from which many frames are cut."""
        parts = [self.parts[key].frame for key in sorted(self.parts)]
        if not parts or "symbol" not in parts[0].columns:
            return self
        rows = pl.concat(parts, how="vertical", rechunk=symbols is None)
        begins = np.cumsum([0, *(each.height for each in parts)])
        if symbols is not None:
            is_wanted = rows["symbol"].is_in(list(symbols)).fill_null(False)
            rows = rows.filter(is_wanted)
            begins = np.append(0, np.cumsum(is_wanted.to_numpy()))[begins]
        return replace(self, together=(rows, begins.tolist()))

    def _rows_of(self, keys: Sequence[str], columns: Sequence[str] | None) -> pl.DataFrame:
        """All rows of some partitions, in their order."""
        if self.together is not None and keys:
            rows, begins = self.together
            known = sorted(self.parts)
            first = known.index(keys[0])
            if [*keys] == known[first : first + len(keys)]:
                found = rows.slice(begins[first], begins[first + len(keys)] - begins[first])
                return found if columns is None else found.select(columns)
        parts = [self.parts[key].frame for key in keys]
        # Where nothing is chosen, partitions with other columns are refused.
        chosen = parts if columns is None else [each.select(columns) for each in parts]
        return pl.concat(chosen, how="vertical", rechunk=False)

    def cut_each(self, known_by: Mapping[str, datetime]) -> "Loaded":
        """The same partitions with some symbols alone, each as it was known at a time of its own."""
        return replace(self, known_by=known_by)


def _by_symbol(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows sorted by (symbol, ts), for partitions that come in the order of time.

    A stable sort by symbol alone is then enough, and three times as fast; whether it was is looked at.
    """
    # Rows are taken several times faster from one chunk than from sixty.
    frame = frame.rechunk()
    symbols = frame["symbol"]
    known = symbols.unique().sort()
    if not known.null_count():
        codes = symbols.cast(pl.Enum(known)).to_physical().to_numpy()
        order = np.argsort(codes, kind="stable")
        ts, codes = frame["ts"].to_physical().to_numpy()[order], codes[order]
        if ((ts[1:] >= ts[:-1]) | (codes[1:] > codes[:-1])).all():
            return frame[order]
    return frame.sort("symbol", "ts")


@dataclass(frozen=True)
class Publication:
    """What a run of an asset wants to publish.

    Attributes
    ----------
    contents : mapping of partition key to Content
        Those that passed their guards.
    rejected : mapping of partition key to Content
        Those that did not: kept under `_rejected/`, never current.
    failures : mapping of partition key to str
        Why a partition has no content at all, in words.
    skipped : tuple of partition keys
        Keys that name no session and need no content.
    verdicts : mapping of partition key to (guard name to Verdict)
    metadata : mapping of partition key to metadata shown in the UI
    """

    contents: Mapping[str, Content]
    rejected: Mapping[str, Content] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    verdicts: Mapping[str, Mapping[str, Verdict]] = field(default_factory=dict)
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether every partition of the run can be published."""
        return not (self.rejected or self.failures or self.skipped)


class Storage(dg.ConfigurableResource[Any]):
    """Where partitions are stored.

    Parameters
    ----------
    uri : str or None
        A folder or `s3://bucket/prefix`; None for HF_STORAGE_URI or its default.
    endpoint : str or None
        S3 service other than AWS; None for HF_S3_ENDPOINT.
    """

    uri: str | None = None
    endpoint: str | None = None

    def store(self) -> PartitionStore:
        return open_store(self.uri, self.endpoint)


def open_store(uri: str | None = None, endpoint: str | None = None) -> PartitionStore:
    """The configured store, with copies on this machine if it is a bucket and HF_CACHE_DIR is set."""
    objects = ObjectStore(uri or settings.storage_uri(), endpoint or settings.s3_endpoint())
    folder = settings.cache_dir() if objects.uri.startswith("s3://") else None
    return PartitionStore(objects, ReadCache(folder, settings.cache_bytes()) if folder else None)


class ParquetIOManager(dg.ConfigurableIOManager):
    """One Parquet object a partition, published whole after its guards have passed."""

    storage: dg.ResourceDependency[Storage]

    def load_input(self, context: dg.InputContext) -> Loaded:
        """Read, verify and return the upstream partitions that the mapping names.

        Raises
        ------
        ValueError
            If a partition is missing, damaged, or lacks a passed verdict for exactly its content. Of an input whose
            partitions fail alone `Loaded.require` raises for a damaged one, and of any input for one that reaches into a
            hold-out.
        """
        with waiting_out(context.step_context):
            return self._load(context)

    def _load(self, context: dg.InputContext) -> Loaded:
        return load_partitions(
            self.storage.store(),
            "/".join(context.asset_key.path),
            sorted(context.asset_partition_keys),
            facts=context.definition_metadata or {},
            tags=context.step_context.dagster_run.tags,
        )

    def handle_output(self, context: dg.OutputContext, publication: Publication) -> None:
        """Publish every content of a run that computed all of its partitions."""
        step = context.step_context
        with waiting_out(step):
            notes = self.publish(step, context.asset_key, publication)
        for key, note in notes.items():
            step.add_asset_metadata(note, asset_key=context.asset_key, partition_key=key)

    def publish(
        self, step: StepExecutionContext, asset_key: dg.AssetKey, publication: Publication
    ) -> dict[str, dict[str, Any]]:
        """Publish what passed, keep what was rejected, and return the metadata of each published partition.

        Raises
        ------
        StorageUnavailableError
            If the store cannot be written; every partition has its old content or the new one.
        """
        store = self.storage.store()
        asset = "/".join(asset_key.path)
        node = step.job_def.asset_layer.get(asset_key)
        stamp = Stamp(node.code_version or "", step.run_id, Clock().now().isoformat(timespec="seconds"))
        kind = node.metadata.get(KIND_KEY)
        notes: dict[str, dict[str, Any]] = {}
        for key, content in publication.contents.items():
            verdicts = publication.verdicts.get(key, {})
            began = perf_counter()
            published = store.publish(asset, key, content, stamp, verdicts=verdicts, kind=kind)
            # The UI keeps the order: results come first, where and how they are stored last.
            results = {**publication.metadata.get(key, {}), "write_s": perf_counter() - began}
            noted = {**results, **published_notes(published, verdicts, store.objects.uri)}
            notes[key] = {name: shown_value(noted[name]) for name in sorted(noted, key=place_in_page)}
        if kind == SIGNALS and publication.contents:
            days = node.partitions_def.get_partition_keys() if node.partitions_def else [*publication.contents]
            point_to_latest(store, asset, days, Clock().now())
        for key, content in publication.rejected.items():
            store.reject(asset, key, content, stamp, verdicts=publication.verdicts[key], kind=kind)
        return notes


def load_partitions(
    store: PartitionStore, asset: str, keys: Sequence[str], *, facts: Mapping[str, Any], tags: Mapping[str, str]
) -> Loaded:
    """Partitions of an asset as an input takes them, verified.

    Parameters
    ----------
    facts : mapping
        What the metadata of the input says of it: guards, whether it may lack partitions.
    tags : mapping
        Of the run that reads them.

    Raises
    ------
    ValueError
        As `ParquetIOManager.load_input`.
    """
    parts, missing = {}, []
    damaged: dict[str, str] = {}
    for key in keys:
        try:
            whole = facts.get(WHOLE_KEY)
            parts[key] = store.read_in_batches(asset, key, whole=whole) if whole else store.read(asset, key)
        except ObjectMissingError:
            missing.append(key)
        except StoredPartitionError as e:
            if not facts.get(FAILS_ALONE_KEY):
                raise
            damaged[key] = str(e)
    if missing and not facts.get(OPTIONAL_KEY):
        raise missing_error(asset, missing)
    for name in facts.get(GUARDS_KEY, ()):
        if facts.get(FAILS_ALONE_KEY):
            damaged |= verdict_faults(parts, asset, name)
        else:
            require_verdict(parts, asset, name)
    if held := facts.get(HOLDOUT_KEY):
        damaged |= HoldoutGuard.from_json(held).refused(asset, parts, tags)
    sound = {key: part for key, part in parts.items() if key not in damaged}
    return Loaded(asset, sound, store, damaged=damaged)


def require_verdict(parts: Mapping[str, Stored], asset: str, guard: str) -> None:
    """Refuse partitions without a passed verdict of `guard` for exactly the content they hold.

    Raises
    ------
    ValueError
    """
    if faults := verdict_faults(parts, asset, guard):
        raise ValueError("; ".join([*faults.values()][:5]))


def verdict_faults(parts: Mapping[str, Stored], asset: str, guard: str) -> dict[str, str]:
    """Partitions without a passed verdict of `guard` for exactly the content they hold, and what theirs is instead."""
    faults = {}
    for key, part in parts.items():
        verdict = part.footer.verdicts.get(guard)
        if verdict is None or not verdict.passed or verdict.content_hash != part.footer.content_hash:
            finding = "" if verdict is None else "".join(f": {each}" for each in verdict.findings[:1])
            was = "none" if verdict is None else f"failed{finding}" if not verdict.passed else "for another content"
            faults[key] = (
                f"`{asset}` {key} must carry a passed {guard} verdict for its content "
                f"{part.footer.content_hash[:12]}, was {was}; {remake(asset, key, part.footer.kind)}"
            )
    return faults


# What becomes of a file of a market whose landing folder is watched.
TAKEN_BY_ITSELF = "what is changed is taken by itself"

# The end of what `missing_error` says.
FIRST_COMMAND = re.compile(r"; materialise it first: hfp materialise (\S+) --from (\S+) --to (\S+)")


# The end of a command that makes all that is missing, in the right order, and where a refusal names it.
WITH_INPUTS = " --with-inputs"
IN_ONE_GO = re.compile(rf"(?:make it in one go|make both): (hfp .*{WITH_INPUTS})$", re.MULTILINE)


def inputs_first(message: str, command: str) -> str:
    """A refusal for what is missing, below the one command that makes all of it; any other one as it is."""
    others = [line for line in message.splitlines() if not line.endswith(WITH_INPUTS)]
    if others == message.splitlines() and not FIRST_COMMAND.search(message):
        return message
    first = f"all that it reads must be published, was not; make it in one go: hfp {command}{WITH_INPUTS}"
    return "\n".join([first, *others])


def missing_error(asset: str, keys: Sequence[str]) -> ValueError:
    """Partitions that were never published, with the command that makes them."""
    return ValueError(
        f"`{asset}` must be published for {some_of(keys)}, was missing; materialise it first: "
        f"hfp materialise {asset} --from {keys[0]} --to {keys[-1]}"
    )


def describe_faults(asset: str, publication: Publication, *, is_watched: bool = False) -> str:
    """Why partitions of a run were not published, for the failure of its step.

    `is_watched`: a sensor takes corrected files by itself.
    """
    faults = dict(publication.failures)
    for key, verdicts in publication.verdicts.items():
        if key in publication.rejected:
            failed = {name: verdict for name, verdict in verdicts.items() if not verdict.passed}
            found = [f"{name}: {finding}" for name, verdict in failed.items() for finding in verdict.findings]
            faults[key] = f"rejected by {'; '.join(found[:5])} (its bytes are kept under _rejected/{asset}/{key})"
    first, faults = _gather_commands(faults)
    same: dict[str, list[str]] = {}
    for key, fault in sorted(faults.items()):
        same.setdefault(fault, []).append(key)
    # What is wrong with all of a range is said once.
    shown = [f"{some_of(of_keys)}: {fault}" for fault, of_keys in same.items()][:5]
    hidden = sum(map(len, [*same.values()][5:]))
    more = f"\n... and {hidden} more" if hidden else ""
    keys = sorted(faults)
    command = f"hfp materialise {asset} --from {keys[0]}" + (f" --to {keys[-1]}" if len(keys) > 1 else "")
    what, then = (
        ("the files named", f"{TAKEN_BY_ITSELF} (at once: {command})")
        if is_watched
        else ("what is named", f"then run {command}")
    )
    todo = f"{asset} was not published for {len(faults)} partition(s): correct {what} below, {then}"
    if not is_watched and all(map(FIRST_COMMAND.search, publication.failures.values())) and not publication.rejected:
        # Nothing is wrong but that what it reads is not there.
        todo = f"{asset} was not published for {len(faults)} partition(s), which lack what they read; make both: {command}{WITH_INPUTS}"
    return "\n".join([todo, *first, *shown]) + more


def _gather_commands(faults: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """One command for each asset that is missing, over the whole range, and the faults without a command each."""
    spans: dict[str, list[str]] = {}
    for fault in faults.values():
        for asset, *keys in FIRST_COMMAND.findall(fault):
            spans.setdefault(asset, []).extend(keys)
    if len(faults) < 2:
        return [], dict(faults)
    commands = [f"first: hfp materialise {asset} --from {min(keys)} --to {max(keys)}" for asset, keys in spans.items()]
    return commands, {key: FIRST_COMMAND.sub("", fault) for key, fault in faults.items()}
