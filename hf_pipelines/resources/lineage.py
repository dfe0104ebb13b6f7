"""Lineage: which contents the store holds, which were made from which, and what still needs an earlier one.

Lives here: contents of partitions by key and by hash, and the readers of each. Does not live here: removing what is not
needed (`retention`), comparing bytes with hashes (`verification`).
"""

import difflib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from hf_pipelines.resources.footer import Footer
from hf_pipelines.resources.partition_codec import Stored, decode, read_footer
from hf_pipelines.resources.partition_store import SUFFIX, VERSIONS, PartitionStore, is_partition_key
from hf_pipelines.resources.storage_errors import ObjectMissingError, StoredPartitionError

CURRENT = "current"

# Asset, partition, content hash.
ContentId = tuple[str, str, str]


@dataclass(frozen=True)
class Kept:
    """A content that the store holds.

    Attributes
    ----------
    key : str
        Of its object.
    footer : Footer or None
        None if the file is damaged; then `fault` says how.
    readers : tuple of Footer
        Current partitions that were made from it, and earlier ones that those were made from.
    """

    key: str
    is_current: bool
    footer: Footer | None
    fault: str = ""
    readers: tuple[Footer, ...] = ()


def stored_partitions(store: PartitionStore, prefix: str | None = None) -> dict[str, list[str]]:
    """Partitions with current content by asset, of all assets or those below a prefix: one listing."""
    found: dict[str, list[str]] = defaultdict(list)
    for key in store.objects.all_keys() if prefix is None else store.objects.keys(prefix):
        asset, _, name = key.rpartition("/")
        if not key.startswith("_") and is_partition_key(partition := name.removesuffix(SUFFIX)) and partition != name:
            found[asset].append(partition)
    return {asset: sorted(names) for asset, names in sorted(found.items())}


def require_stored(store: PartitionStore, asset: str, partition: str | None = None) -> list[str]:
    """Stored partitions of an asset, or the one that is asked for.

    Raises
    ------
    ValueError
        If there is none, naming those that are near.
    """
    known = stored_partitions(store)
    if asset not in known:
        raise ValueError(f"`asset` must be one that is stored{_near(asset, list(known))}, was {asset[:80]!r}.")
    if partition is None:
        return known[asset]
    if partition not in known[asset]:
        raise ValueError(
            f"`partition` must be a stored one of {asset}{_near(partition, known[asset])}, was {partition[:80]!r}; hfp current "
            f"{asset} names those among them that are not there."
        )
    return [partition]


def _near(asked: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(asked, known, n=5, cutoff=0.5) or known[-5:]
    return f" (near it: {', '.join(near)})" if near else " (nothing is stored yet)"


def read_content(store: PartitionStore, asset: str, partition: str, which: str) -> Stored:
    """Current content, or the one whose hash is, or begins with, `which`; verified.

    Raises
    ------
    ValueError
        If no content or more than one has such a hash.
    """
    require_stored(store, asset, partition)
    if which == CURRENT:
        return store.read(asset, partition)
    current = store.peek(store.key(asset, partition), asset=asset, partition=partition).content_hash
    known = sorted({current, *store.versions(asset, partition)})
    matching = [digest for digest in known if which and digest.startswith(which)]
    if len(matching) != 1:
        shown = ", ".join(f"{digest[:12]}{' (current)' * (digest == current)}" for digest in known)
        raise ValueError(f"`hash` must begin exactly one content of {asset} {partition} ({shown}), was {which[:64]!r}.")
    if matching[0] == current:
        return store.read(asset, partition)
    payload = store.objects.get(f"{VERSIONS}/{asset}/{partition}/{matching[0]}.parquet")
    return decode(payload, asset=asset, partition=partition)


def footer_of_content(store: PartitionStore, asset: str, partition: str, digest: str) -> Footer | None:
    """Footer of a content by its whole hash, be it current or kept as an earlier one; None of one that is stored no more.

    Raises
    ------
    StoredPartitionError
        If it is damaged.
    """
    damaged: StoredPartitionError | None = None
    for key in (store.key(asset, partition), f"{VERSIONS}/{asset}/{partition}/{digest}.parquet"):
        try:
            footer = store.peek(key, asset=asset, partition=partition)
        except ObjectMissingError:
            continue
        except StoredPartitionError as e:
            # Another content may be the damaged one.
            damaged = e
            continue
        if footer.content_hash == digest:
            return footer
    if damaged is not None:
        raise damaged
    return None


def list_kept(store: PartitionStore, asset: str, partitions: Collection[str]) -> dict[str, list[Kept]]:
    """Contents of partitions with who was made from them; the current one first, then the newest first.

    Of a single partition all bytes are looked at, of several the ends of the files: a bit that was flipped in the middle
    is `verify`'s to find.
    """
    # The readers of a content are found from what is current: every footer is read once.
    references = find_references(store, current_footers(store))
    found = {}
    for partition in partitions:
        keys = [store.key(asset, partition)]
        keys += [f"{VERSIONS}/{asset}/{partition}/{digest}.parquet" for digest in store.versions(asset, partition)]
        kept = [_look_at(store, key, asset, partition, references, is_whole=len(partitions) == 1) for key in keys]
        found[partition] = kept[:1] + sorted(
            kept[1:], key=lambda each: each.footer.created_at if each.footer else "", reverse=True
        )
    return found


def current_footers(store: PartitionStore) -> list[Footer]:
    """Footers of everything that is current; what is damaged refers to nothing."""
    found = []
    for asset, partitions in stored_partitions(store).items():
        for partition in partitions:
            with suppress(StoredPartitionError, ObjectMissingError):
                found.append(store.peek(store.key(asset, partition), asset=asset, partition=partition))
    return found


def _look_at(
    store: PartitionStore,
    key: str,
    asset: str,
    partition: str,
    references: Mapping[ContentId, Sequence[Footer]],
    *,
    is_whole: bool,
) -> Kept:
    is_current = not key.startswith(VERSIONS)
    try:
        if is_whole:
            footer = read_footer(store.objects.get(key), asset=asset, partition=partition)
        else:
            footer = store.peek(key, asset=asset, partition=partition)
    except ObjectMissingError:
        return Kept(key, is_current, None, "gone")
    except StoredPartitionError as e:
        return Kept(key, is_current, None, e.was)
    readers = references.get((asset, partition, footer.content_hash), ())
    return Kept(key, is_current, footer, readers=tuple(readers))


def find_references(store: PartitionStore, footers: Iterable[Footer]) -> dict[ContentId, list[Footer]]:
    """Every content that something was made from, with its readers.

    Parameters
    ----------
    footers : iterable of Footer
        Of what is current. Earlier versions that they were made from are followed in turn: the bars behind the features
        behind a training matrix.
    """
    waiting = list(footers)
    current = {(footer.asset, footer.partition): footer for footer in waiting}
    versions: dict[tuple[str, str], list[str]] = defaultdict(list)
    for key in store.objects.keys(VERSIONS):
        asset, partition, name = key.removeprefix(f"{VERSIONS}/").rsplit("/", 2)
        versions[asset, partition].append(name.removesuffix(".parquet"))
    read: dict[ContentId, Footer | None] = {}

    def version(asset: str, partition: str, digest: str) -> Footer | None:
        """Footer of a version, None if it is damaged."""
        key = (asset, partition, digest)
        if key not in read:
            try:
                found = store.peek(f"{VERSIONS}/{asset}/{partition}/{digest}.parquet", asset=asset, partition=partition)
                read[key] = found
            except (StoredPartitionError, ObjectMissingError):
                read[key] = None
        return read[key]

    found: dict[ContentId, list[Footer]] = defaultdict(list)
    followed: set[ContentId] = set()
    while waiting:
        reader = waiting.pop()
        for asset, hashes in reader.inputs.items():
            for name, digest in hashes.items():
                # A signal refers to the very session that it was decided on: `<week>#<session>`.
                partition, _, session = name.partition("#")
                now = current.get((asset, partition))
                if now is not None and digest in (now.session_hashes.get(session), now.content_hash):
                    found[asset, partition, now.content_hash].append(reader)
                for each in versions[asset, partition]:
                    if each != digest and not session:
                        continue
                    earlier = version(asset, partition, each)
                    if each != digest and (earlier is None or earlier.session_hashes.get(session) != digest):
                        continue
                    found[asset, partition, each].append(reader)
                    if earlier is not None and (asset, partition, each) not in followed:
                        followed.add((asset, partition, each))
                        waiting.append(earlier)
    return dict(found)
