"""Partition store: one Parquet object a partition, with a memory.

Lives here: what a stored partition is (content, footer, attachments), how it is published, read back and kept.
Does not live here: Dagster (`parquet_io_manager`), and whether a partition is up to date (`currency`).

Layout below the root::

    <asset path>/<partition>.parquet                         current content, readable by any tool
    _attached/<asset path>/<partition>/<sha256>.<name>       objects that belong to a partition (models, trades)
    _versions/<asset path>/<partition>/<sha256>.parquet      earlier contents
    _rejected/<asset path>/<partition>/<sha256>.parquet      what failed a guard, never current
    _damaged/<asset path>/<partition>/<sha256>.parquet       truncated or foreign objects that a publish replaced

The Parquet footer (key `hf_pipelines`) carries the content hash, where it came from and the verdicts of its guards.
The footer also holds a seal, the SHA-256 of all other bytes of the file: whoever reads a partition checks it before any
parser sees the bytes (an edited Parquet file can abort the process) and recomputes the content hash after. A truncated,
foreign or edited file is refused by name.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256

import polars as pl

from hf_pipelines.research.content_hash import content_hash, session_hashes
from hf_pipelines.resources.object_store import ObjectExistsError, ObjectMissingError, ObjectStore

FOOTER_KEY = "hf_pipelines"
FOOTER_VERSION = 1

# Where the seal stands in the bytes of a file: 64 hexadecimal digits after this mark.
SEAL_KEY = "hf_pipelines_seal"
SEAL_MARK = b"hf_pipelines:sha256="
SEAL_LENGTH = 64
PARQUET_MAGIC = b"PAR1"

# A 0.9 MB Parquet file can hold 1.6 GB of zeros: more cells than this are refused before decoding.
MAX_CELLS = 400_000_000

# Columns that say when a row was made, not what it says: outside the content hash.
VOLATILE_COLUMNS = ("created_at", "issue_kind")


class StoredPartitionError(ValueError):
    """A stored object is not the partition it should be: truncated, foreign or edited."""


@dataclass(frozen=True)
class Verdict:
    """What a guard found for one partition, bound to the very content it looked at.

    Attributes
    ----------
    passed : bool
    content_hash : str
        The content that was looked at; a verdict is void for any other.
    n_compared : int
        Values compared.
    findings : tuple of str
        At most five, in words; empty if passed.
    """

    passed: bool
    content_hash: str
    n_compared: int
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Footer:
    """What the Parquet footer says of a partition.

    Attributes
    ----------
    inputs : mapping of asset path to (partition to content hash)
        What it was built from. A key `<partition>#<session>` holds that session's hash alone.
    sources : mapping of file name to sha256
        What it was read from outside the store.
    session_hashes : mapping of ISO date to content hash
        One for each session in the frame.
    attachments : mapping of name to sha256
    facts : mapping of str to JSON value
        What else a reader may want: model family, MLflow run, metrics.
    """

    asset: str
    partition: str
    content_hash: str
    code_version: str
    run_id: str
    created_at: str
    rows: int
    available_at: tuple[str, str] | None
    inputs: Mapping[str, Mapping[str, str]]
    sources: Mapping[str, str]
    session_hashes: Mapping[str, str]
    verdicts: Mapping[str, Verdict]
    attachments: Mapping[str, str]
    facts: Mapping[str, object]
    version: int = FOOTER_VERSION

    def origin(self) -> tuple[object, ...]:
        """What the content was made from and by, and how it was judged."""
        return (self.code_version, self.inputs, self.sources, self.verdicts, self.attachments)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "Footer":
        fields = json.loads(text)
        verdicts = {
            name: Verdict(**{**verdict, "findings": tuple(verdict["findings"])})
            for name, verdict in fields.pop("verdicts").items()
        }
        bounds = fields.pop("available_at")
        return Footer(**fields, verdicts=verdicts, available_at=tuple(bounds) if bounds else None)


@dataclass(frozen=True)
class Content:
    """What an asset wants to publish as one partition.

    Attributes
    ----------
    frame : DataFrame
    attachments : mapping of name (such as "model.ubj") to bytes
        Stored beside the frame, listed with their hashes in its footer.
    inputs, sources : see `Footer`
    facts : see `Footer.facts`
    has_session_hashes : bool
        Whether the footer holds one hash a session, for readers that depend on single sessions.
    """

    frame: pl.DataFrame
    attachments: Mapping[str, bytes] = field(default_factory=dict)
    inputs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
    has_session_hashes: bool = False

    def content_hash(self) -> str:
        return content_hash(self.frame, without=VOLATILE_COLUMNS, attachments=_hashes(self.attachments))


@dataclass(frozen=True)
class Stored:
    """A partition read back: its frame and its footer."""

    frame: pl.DataFrame
    footer: Footer


@dataclass(frozen=True)
class Published:
    """What a publish did.

    Attributes
    ----------
    outcome : str
        "new", "changed", "unchanged" (same content), or "shadow" (an issued partition is never rewritten).
    differences : DataFrame or None
        For a shadow: the rows that differ from what was issued.
    """

    footer: Footer
    outcome: str
    address: str
    differences: pl.DataFrame | None = None


def _hashes(attachments: Mapping[str, bytes]) -> dict[str, str]:
    return {name: sha256(payload).hexdigest() for name, payload in attachments.items()}


@dataclass(frozen=True)
class PartitionStore:
    """Partitions of assets in an object store."""

    objects: ObjectStore

    def key(self, asset: str, partition: str) -> str:
        """Key of a partition's current content."""
        return f"{asset}/{partition}.parquet"

    def publish(
        self,
        asset: str,
        partition: str,
        content: Content,
        *,
        code_version: str,
        run_id: str,
        created_at: str,
        verdicts: Mapping[str, Verdict] | None = None,
        issue: bool = False,
    ) -> Published:
        """Make `content` the current content of a partition, whole or not at all.

        Attachments and the old content are stored first, the partition's own object last.

        Parameters
        ----------
        issue : bool
            Create-only: if the partition exists it stays as it is, and differing content goes to `_versions/`.

        Raises
        ------
        ValueError
            If a verdict has not passed or belongs to another content.
        StorageUnavailableError
            If the store cannot be written; the old content is intact.
        """
        footer = self._footer(
            asset,
            partition,
            content,
            code_version=code_version,
            run_id=run_id,
            created_at=created_at,
            verdicts=verdicts,
        )
        for name, verdict in footer.verdicts.items():
            if not verdict.passed or verdict.content_hash != footer.content_hash:
                raise ValueError(
                    f"`{asset}` {partition} must have a passed {name} verdict for content {footer.content_hash[:12]}, was "
                    f"{'passed' if verdict.passed else 'failed'} for {verdict.content_hash[:12]}."
                )
        for name, attached in content.attachments.items():
            self.objects.put(self.attachment_key(footer, name), attached)
        if issue:
            return self._issue(footer, content, encode(content.frame, footer))
        address = self.objects.address(self.key(asset, partition))
        old = self._previous(asset, partition)
        if old is None or old.footer.content_hash != footer.content_hash:
            if old is not None:
                self._archive(old.footer)
            self.objects.put(self.key(asset, partition), encode(content.frame, footer))
            return Published(footer, "new" if old is None else "changed", address)
        if old.footer.origin() == footer.origin():
            return Published(old.footer, "unchanged", address)
        # Same content from other inputs: when it was first made stays on record.
        footer = replace(footer, created_at=old.footer.created_at)
        self.objects.put(self.key(asset, partition), encode(old.frame, footer))
        return Published(footer, "unchanged", address)

    def _previous(self, asset: str, partition: str) -> Stored | None:
        """Current content, None if there is none; a damaged object is moved out of the way, not lost."""
        key = self.key(asset, partition)
        try:
            payload = self.objects.get(key)
        except ObjectMissingError:
            return None
        try:
            return decode(payload, asset=asset, partition=partition)
        except StoredPartitionError:
            self.objects.put(f"_damaged/{asset}/{partition}/{sha256(payload).hexdigest()}.parquet", payload)
            return None

    def _issue(self, footer: Footer, content: Content, payload: bytes) -> Published:
        key = self.key(footer.asset, footer.partition)
        try:
            self.objects.put(key, payload, create_only=True)
        except ObjectExistsError:
            issued = self.read(footer.asset, footer.partition)
            if issued.footer.content_hash == footer.content_hash:
                return Published(issued.footer, "unchanged", self.objects.address(key))
            shadow = self.version_key(footer)
            self.objects.put(shadow, payload)
            differences = compare_issues(issued.frame, content.frame)
            return Published(footer, "shadow", self.objects.address(shadow), differences)
        return Published(footer, "new", self.objects.address(key))

    def point_to_latest(self, asset: str) -> None:
        """Name the newest issue of an asset in `<asset>/latest.json`, for readers that want no listing."""
        newest = self.partitions(asset)[-1]
        payload = self.objects.get(self.key(asset, newest))
        issued = decode(payload, asset=asset, partition=newest)
        row = issued.frame.row(0, named=True)
        latest = {
            "day": newest,
            "path": self.key(asset, newest),
            "sha256": sha256(payload).hexdigest(),
            "content_hash": issued.footer.content_hash,
            "model": row["model_version"],
            "issue_kind": row["issue_kind"],
            "schema_version": issued.footer.facts["schema_version"],
        }
        self.objects.put(f"{asset}/latest.json", json.dumps(latest, indent=1).encode())

    def reject(
        self,
        asset: str,
        partition: str,
        content: Content,
        *,
        code_version: str,
        run_id: str,
        created_at: str,
        verdicts: Mapping[str, Verdict],
    ) -> str:
        """Keep what failed a guard for a person to look at; returns its address. It is never current."""
        footer = self._footer(
            asset,
            partition,
            content,
            code_version=code_version,
            run_id=run_id,
            created_at=created_at,
            verdicts=verdicts,
        )
        key = f"_rejected/{asset}/{partition}/{footer.content_hash}.parquet"
        self.objects.put(key, encode(content.frame, footer))
        return self.objects.address(key)

    def read(self, asset: str, partition: str) -> Stored:
        """Current content of a partition, verified.

        Raises
        ------
        ObjectMissingError
            If the partition was never published.
        StoredPartitionError
            If the object is truncated, foreign, edited or too large.
        """
        return decode(self.objects.get(self.key(asset, partition)), asset=asset, partition=partition)

    def footer(self, asset: str, partition: str) -> Footer | None:
        """Footer of a partition's current content, None if there is none."""
        try:
            payload = self.objects.get(self.key(asset, partition))
        except ObjectMissingError:
            return None
        return read_footer(payload, asset=asset, partition=partition)

    def attachment_key(self, footer: Footer, name: str) -> str:
        return f"_attached/{footer.asset}/{footer.partition}/{footer.attachments[name]}.{name}"

    def read_attachment(self, footer: Footer, name: str) -> bytes:
        """Bytes of an attachment, checked against the footer's sha256 before anyone parses them.

        Raises
        ------
        StoredPartitionError
            If the bytes are not those that were published.
        """
        key = self.attachment_key(footer, name)
        payload = self.objects.get(key)
        if (was := sha256(payload).hexdigest()) != footer.attachments[name]:
            raise StoredPartitionError(
                f"`{key}` must have sha256 {footer.attachments[name][:12]}, was {was[:12]}; "
                f"it was changed after it was published: materialise {footer.asset} {footer.partition} again."
            )
        return payload

    def partitions(self, asset: str) -> list[str]:
        """Keys of the partitions that have current content, sorted."""
        return sorted(self.tags(asset))

    def tags(self, asset: str) -> dict[str, str]:
        """Partitions that have current content, with a tag that changes whenever one is written: one listing."""
        depth = asset.count("/") + 2
        found = {key: tag for key, tag in self.objects.tags(asset).items() if key.count("/") + 1 == depth}
        return {
            key.rsplit("/", 1)[1].removesuffix(".parquet"): tag
            for key, tag in found.items()
            if key.endswith(".parquet")
        }

    def versions(self, asset: str, partition: str) -> list[str]:
        """Content hashes of the earlier contents that are kept."""
        return [
            key.rsplit("/", 1)[1].removesuffix(".parquet")
            for key in self.objects.keys(f"_versions/{asset}/{partition}")
        ]

    def restore(self, asset: str, partition: str, content_hash: str) -> Footer:
        """Make an earlier content current again, as it was; what is current now becomes a version.

        Parameters
        ----------
        content_hash : str
            Of the version, or its first characters.

        Raises
        ------
        ValueError
            If no version, or more than one, has that hash, or if the partition is an issued signal.
        """
        kept = self.versions(asset, partition)
        matching = [each for each in kept if each.startswith(content_hash)]
        if len(matching) != 1 or not content_hash:
            raise ValueError(
                f"`hash` must begin exactly one version of {asset} {partition} "
                f"({', '.join(each[:12] for each in kept) or 'there is none'}), was {content_hash[:64]!r}."
            )
        if asset.endswith("/signals"):
            raise ValueError(
                f"`asset` must not be issued signals, was {asset}; what was issued stays as it was issued."
            )
        payload = self.objects.get(f"_versions/{asset}/{partition}/{matching[0]}.parquet")
        footer = decode(payload, asset=asset, partition=partition).footer
        if (current := self._previous(asset, partition)) is not None:
            self._archive(current.footer)
        self.objects.put(self.key(asset, partition), payload)
        return footer

    def version_key(self, footer: Footer) -> str:
        return f"_versions/{footer.asset}/{footer.partition}/{footer.content_hash}.parquet"

    def _archive(self, old: Footer) -> None:
        self.objects.put(self.version_key(old), self.objects.get(self.key(old.asset, old.partition)))

    def _footer(
        self,
        asset: str,
        partition: str,
        content: Content,
        *,
        code_version: str,
        run_id: str,
        created_at: str,
        verdicts: Mapping[str, Verdict] | None,
    ) -> Footer:
        frame = content.frame
        known = "available_at" if "available_at" in frame.columns else "ts" if "ts" in frame.columns else None
        bounds = None
        if known is not None and frame.height:
            bounds = (str(frame[known].min()), str(frame[known].max()))
        return Footer(
            asset=asset,
            partition=partition,
            content_hash=content.content_hash(),
            code_version=code_version,
            run_id=run_id,
            created_at=created_at,
            rows=frame.height,
            available_at=bounds,
            inputs=content.inputs,
            sources=content.sources,
            session_hashes=session_hashes(frame) if content.has_session_hashes else {},
            verdicts=dict(verdicts or {}),
            attachments=_hashes(content.attachments),
            facts=content.facts,
        )


def encode(frame: pl.DataFrame, footer: Footer) -> bytes:
    """Parquet bytes of a frame with its footer."""
    buffer = io.BytesIO()
    blank = SEAL_MARK.decode() + "0" * SEAL_LENGTH
    frame.write_parquet(buffer, compression="zstd", metadata={FOOTER_KEY: footer.to_json(), SEAL_KEY: blank})
    payload = buffer.getvalue()
    at = payload.rfind(SEAL_MARK) + len(SEAL_MARK)
    return payload[:at] + _seal(payload, at) + payload[at + SEAL_LENGTH :]


def _seal(payload: bytes, at: int) -> bytes:
    """SHA-256 of everything but the seal, which stands at `at`."""
    digest = sha256(payload[:at])
    digest.update(payload[at + SEAL_LENGTH :])
    return digest.hexdigest().encode()


def _check_seal(payload: bytes, *, asset: str, partition: str) -> None:
    """Refuse bytes that are not exactly those of a file of ours, without parsing them."""
    if not (payload.startswith(PARQUET_MAGIC) and payload.endswith(PARQUET_MAGIC)):
        raise _not_ours(asset, partition, f"{len(payload)} bytes that are no whole Parquet file")
    found = payload.rfind(SEAL_MARK)
    if found < 0:
        raise _not_ours(asset, partition, "a Parquet file written by something else")
    at = found + len(SEAL_MARK)
    if payload[at : at + SEAL_LENGTH] != _seal(payload, at):
        raise _not_ours(asset, partition, "a file whose bytes were changed after it was written")


def read_footer(payload: bytes, *, asset: str, partition: str) -> Footer:
    """Footer of Parquet bytes.

    Raises
    ------
    StoredPartitionError
        If the bytes are no Parquet file of ours, or one of another partition.
    """
    _check_seal(payload, asset=asset, partition=partition)
    text = pl.read_parquet_metadata(io.BytesIO(payload))[FOOTER_KEY]
    try:
        if (version := json.loads(text)["version"]) != FOOTER_VERSION:
            raise ValueError(f"`version` must be {FOOTER_VERSION}, was {version!r}.")
        footer = Footer.from_json(text)
    except (KeyError, TypeError, ValueError) as e:
        raise _not_ours(asset, partition, f"a file whose footer is not of version {FOOTER_VERSION}") from e
    if (footer.asset, footer.partition) != (asset, partition):
        raise _not_ours(asset, partition, f"a copy of {footer.asset} {footer.partition}")
    return footer


def decode(payload: bytes, *, asset: str, partition: str) -> Stored:
    """Frame and footer of Parquet bytes, the content hash checked.

    Raises
    ------
    StoredPartitionError
        If the bytes are truncated, foreign, edited or too large.
    """
    footer = read_footer(payload, asset=asset, partition=partition)
    width = len(pl.read_parquet_schema(io.BytesIO(payload)))
    if footer.rows * width > MAX_CELLS:
        raise _not_ours(asset, partition, f"{footer.rows} rows x {width} columns, above {MAX_CELLS} cells")
    frame = pl.read_parquet(io.BytesIO(payload), n_rows=footer.rows + 1)
    found = content_hash(frame, without=VOLATILE_COLUMNS, attachments=footer.attachments)
    if found != footer.content_hash:
        raise _not_ours(asset, partition, f"content {found[:12]} under a footer for {footer.content_hash[:12]}")
    return Stored(frame, footer)


def _not_ours(asset: str, partition: str, was: str) -> StoredPartitionError:
    return StoredPartitionError(
        f"`{asset}/{partition}.parquet` must be the file that was published, was {was}; "
        f"materialise {asset} {partition} again or restore a version."
    )


def compare_issues(issued: pl.DataFrame, recomputed: pl.DataFrame) -> pl.DataFrame:
    """Rows of two signal frames that differ: symbol, weight_issued, weight_recomputed and the predictions."""
    names = ("weight", "prediction")
    joined = issued.select("symbol", *names).join(
        recomputed.select("symbol", *names), on="symbol", how="full", suffix="_recomputed", coalesce=True
    )
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_recomputed")) for name in names)
    return joined.filter(differs).rename({name: f"{name}_issued" for name in names}).sort("symbol")
