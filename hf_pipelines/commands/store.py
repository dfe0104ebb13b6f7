"""Store commands: what `hfp versions`, `verify`, `diff`, `restore` and `features` print.

Lives here: the words and tables of those commands. Does not live here: the command line (`cli`), what is looked up
(`resources.lineage`, `resources.verification`, `research.differences`, the registry of features).
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from time import monotonic

import polars as pl

from hf_pipelines.commands.console import is_quiet, time_words
from hf_pipelines.research.differences import FrameDifference, compare_frames
from hf_pipelines.resources.footer import Footer
from hf_pipelines.resources.issued_signals import is_issued, remake
from hf_pipelines.resources.lineage import CURRENT, Kept, list_kept, read_content, require_stored
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.promotions.history import (
    History,
    PromotionHistoryError,
    histories_of,
)
from hf_pipelines.resources.storage_errors import StoredPartitionError
from hf_pipelines.resources.verification import Looked, Mismatch, latest_mismatches, strays, verify

HASH_SHOWN = 12
NAMES_SHOWN = 5
ROW_SHOWN = 240

# Between two lines of progress.
PROGRESS_EVERY_S = 2.0

# Kinds whose references keep a version; they are listed before others.
LASTING = ("training_matrix", "refit_matrix", "fitted_model", "signals")

Say = Callable[[str], None]


def plain(text: object) -> str:
    """A text from storage without control characters."""
    return "".join(each if each.isprintable() else "?" for each in str(text))


def versions_lines(store: PartitionStore, asset: str, partition: str | None) -> Iterator[str]:
    """Current and kept contents of an asset or a partition, with their lineage and what refers to them."""
    if partition is None:
        partitions = require_stored(store, asset)
    else:
        # A partition that is gone may still have versions.
        require_kept(store, asset, partition)
        partitions = [partition]
    for name, held in list_kept(store, asset, partitions).items():
        kept = [held[0], *(each for each in held[1:] if not _is_same(each, held[0]))]
        yield f"{asset} {name}: {len(kept) - 1} earlier version{'' if len(kept) == 2 else 's'} kept"
        for each in kept:
            yield from _kept_lines(each)
        if held[0].footer is None:
            kind = store.kind(asset)
            yield f"  {remake(asset, name, kind)}"
            sound = [each.footer.content_hash for each in held[1:] if each.footer is not None]
            if sound and not is_issued(kind):
                yield f"  or make a version current again: hfp restore {asset} {name} {sound[0][:HASH_SHOWN]}"


def _is_same(version: Kept, current: Kept) -> bool:
    """Whether a version is a copy of what is current: it was restored, or made anew bit by bit."""
    if version.footer is None or current.footer is None:
        return False
    return version.footer.content_hash == current.footer.content_hash


def _kept_lines(kept: Kept) -> Iterator[str]:
    mark = "current" if kept.is_current else "version"
    footer = kept.footer
    if footer is None:
        yield f"  {mark} DAMAGED: {plain(kept.fault)}"
        return
    yield f"  {mark} {footer.content_hash}"
    yield (
        f"    made {plain(footer.created_at)} by run {plain(footer.run_id)}, code {plain(footer.code_version)[:HASH_SHOWN]}, "
        f"{footer.rows:,} rows"
    )
    for upstream, hashes in sorted(footer.inputs.items()):
        yield f"    from {plain(upstream)}: {_some([f'{name} {digest[:HASH_SHOWN]}' for name, digest in hashes.items()])}"
    if footer.sources:
        sources = [f"{name} {digest[:HASH_SHOWN]}" for name, digest in sorted(footer.sources.items())]
        yield f"    from files: {_some(sources)}"
    by_asset: dict[tuple[bool, str], list[str]] = {}
    for reader in kept.readers:
        by_asset.setdefault((reader.kind not in LASTING, reader.asset), []).append(reader.partition)
    for (_, reader_asset), partitions in sorted(by_asset.items()):
        yield f"    read by {plain(reader_asset)}: {_some(sorted(set(partitions)))}"


def _some(names: Sequence[str]) -> str:
    shown = [plain(name) for name in names]
    if len(shown) <= NAMES_SHOWN:
        return ", ".join(shown)
    return f"{', '.join(shown[:2])} ... {', '.join(shown[-2:])} ({len(shown)} in all)"


def verify_store(store: PartitionStore, asset: str | None, say: Say, progress: Say) -> list[Mismatch]:
    """Look at every object; prints each mismatch when it is found, and the sum."""
    if asset is not None:
        require_stored(store, asset)
    found: list[Mismatch] = []
    n_bytes, looked, shown_at = 0, Looked(0, 0, 0, ()), monotonic()
    began = shown_at
    now = datetime.now(UTC)
    for looked in verify(store, asset, now=now):
        n_bytes += looked.n_bytes
        found.extend(looked.mismatches)
        for each in looked.mismatches:
            say(plain(f"MISMATCH {each}"))
        if monotonic() - shown_at >= PROGRESS_EVERY_S:
            shown_at = monotonic()
            left = time_words((shown_at - began) * (looked.of - looked.number) / looked.number)
            progress(
                f"{looked.number:,} of {looked.of:,} objects, {n_bytes / 1e6:,.0f} MB, mismatches: {len(found)}, about {left} left"
            )
    for each in latest_mismatches(store, asset, now):
        found.append(each)
        say(plain(f"MISMATCH {each}"))
    for key, what in strays(store, asset).items():
        say(plain(f"LEFT ALONE {store.objects.address(key)}: {what}"))
    say(f"{looked.number:,} objects, {n_bytes / 1e6:,.1f} MB: {len(found) or 'no'} mismatch{'es' * (len(found) != 1)}")
    return found


def verify_promotions(store: PartitionStore, say: Say) -> list[PromotionHistoryError]:
    """Look at every record of what was promoted; prints each history that is damaged, and how many there are, nothing of none."""
    histories = histories_of(store.objects)
    faults = [each for each in histories.values() if isinstance(each, PromotionHistoryError)]
    for each in faults:
        say(plain(f"MISMATCH {each}"))
    if histories:
        n = sum(len(each.records) for each in histories.values() if isinstance(each, History))
        say(f"promotions: {n:,} decisions on {len(histories)} strategies: {len(faults) or 'no'} damaged")
    return faults


def diff_lines(
    store: PartitionStore, asset: str, partition: str, old: str, new: str, n_shown: int = 20
) -> Iterator[str]:
    """What changed between two contents of a partition."""
    before, after = (read_content(store, asset, partition, which) for which in (old, new))
    first, second = before.footer, after.footer
    yield f"{asset} {partition}: {first.content_hash[:HASH_SHOWN]} -> {second.content_hash[:HASH_SHOWN]}"
    yield from _footer_differences(first, second)
    found = compare_frames(before.frame, after.frame)
    if found.is_empty:
        yield f"  the same {before.frame.height:,} rows"
        return
    yield from _frame_differences(found, n_shown)


def _footer_differences(old: Footer, new: Footer) -> Iterator[str]:
    if old.code_version != new.code_version:
        yield f"  code {plain(old.code_version)[:HASH_SHOWN]} -> {plain(new.code_version)[:HASH_SHOWN]}"
    changed = _changed_names(old.sources, new.sources)
    if changed:
        yield f"  files added, changed or gone: {_some(changed)}"
    for asset in sorted({*old.inputs, *new.inputs}):
        if changed := _changed_names(old.inputs.get(asset, {}), new.inputs.get(asset, {})):
            yield f"  inputs of {plain(asset)} added, changed or gone: {_some(changed)}"
    if changed := _changed_names(old.attachments, new.attachments):
        yield f"  attachments added, changed or gone: {_some(changed)}"


def _changed_names(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    return sorted(name for name in {*old, *new} if old.get(name) != new.get(name))


def _frame_differences(found: FrameDifference, n_shown: int) -> Iterator[str]:
    for sign, names in (("+", found.columns_added), ("-", found.columns_removed)):
        if names:
            yield f"  {sign} columns: {', '.join(plain(name) for name in names)}"
    yield (
        f"  rows added: {found.added.height:,}, removed: {found.removed.height:,}, "
        f"changed: {found.changed.select(found.keys).n_unique() if found.changed.height else 0:,}"
    )
    if found.counts:
        ranked = sorted(found.counts.items(), key=lambda item: -item[1])
        shown = ", ".join(f"{plain(name)} {count:,}" for name, count in ranked[: 2 * NAMES_SHOWN])
        yield f"  values changed by column: {shown}{' ...' * (len(ranked) > 2 * NAMES_SHOWN)}"
    for sign, frame in (("+", found.added), ("-", found.removed)):
        yield from _rows(sign, frame, n_shown)
    keys = [*found.keys]
    for row in found.changed.head(n_shown).iter_rows(named=True):
        named = " ".join(plain(row[key]) for key in keys)
        yield f"  ~ {named}: {plain(row['column'])} {plain(row['old'])} -> {plain(row['new'])}"
    if found.changed.height > n_shown:
        yield f"  ... and {found.changed.height - n_shown:,} more changed values (--rows shows more)"


def _rows(sign: str, frame: pl.DataFrame, n_shown: int) -> Iterator[str]:
    for row in frame.head(n_shown).iter_rows(named=True):
        cells = [f"{plain(name)}={plain(value)}" for name, value in row.items()]
        yield f"  {sign} {' '.join(cells)[:ROW_SHOWN]}"
    if frame.height > n_shown:
        yield f"  ... and {frame.height - n_shown:,} more rows {'added' if sign == '+' else 'removed'}"


def restore_lines(store: PartitionStore, asset: str, partition: str, digest: str) -> Iterator[str]:
    """Make an earlier content current again."""
    require_kept(store, asset, partition)
    if current := _is_current(store, asset, partition, digest):
        yield f"{asset} {partition} is that already ({current[:HASH_SHOWN]}): nothing was changed."
        return
    footer = store.restore(asset, partition, digest)
    yield f"{asset} {partition} is again what was made on {plain(footer.created_at)} ({footer.content_hash[:HASH_SHOWN]})"
    yield "What was made from it is now out of date: hfp current, or wait for the sensors."
    if footer.sources:
        yield (
            "If its source holds no more what it was made from, the next file or answer for its weeks makes it anew: to keep it, let "
            f"the source hold that again ({_some(sorted(footer.sources))})."
        )


def _is_current(store: PartitionStore, asset: str, partition: str, digest: str) -> str:
    """Hash of the current content if `digest` begins it and no other version's; "" if not."""
    try:
        footer = store.footer(asset, partition)
    except StoredPartitionError:
        # A damaged one can be restored.
        return ""
    if footer is None or not digest:
        return ""
    matching = {each for each in (footer.content_hash, *store.versions(asset, partition)) if each.startswith(digest)}
    return footer.content_hash if matching == {footer.content_hash} else ""


def require_kept(store: PartitionStore, asset: str, partition: str) -> None:
    """Refuse a partition of which nothing is stored, current or earlier."""
    if not store.versions(asset, partition):
        require_stored(store, asset, partition)


def print_progress(line: str) -> None:
    """Print a line of progress to stderr, apart from the command's result."""
    if not is_quiet():
        print(line, file=sys.stderr, flush=True)


__all__ = [
    "CURRENT",
    "diff_lines",
    "restore_lines",
    "print_progress",
    "verify_promotions",
    "verify_store",
    "versions_lines",
]
