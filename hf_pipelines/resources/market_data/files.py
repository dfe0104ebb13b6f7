"""Source `files`: a folder or S3 prefix into which one Parquet or CSV file a session arrives.

A file is named by its session, `2013-02-25.parquet` or `2013-02-25-late.csv`, holds any number of symbols and the
columns of the bars contract. Times of a CSV are ISO 8601 with an offset (`2013-02-25T21:00:00Z`). The same bytes under
a second name of the same session are a duplicate and left out.

Lives here: which files hold a session, reading them, and what has changed in the folder (`scan`). Does not live here:
listing a folder (`landing`), and who asks (`components`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from hashlib import sha256
from itertools import takewhile
from typing import Any

import polars as pl

from hf_pipelines.partitions import shift_week, week_key
from hf_pipelines.research.bars import SOURCE_SCHEMA
from hf_pipelines.research.references import REFERENCES
from hf_pipelines.resources.limits import Limits
from hf_pipelines.resources.market_data import SourceFile
from hf_pipelines.resources.market_data.landing import LandedObject, Landing
from hf_pipelines.resources.market_data.reader import read_apart
from hf_pipelines.resources.market_data.references import past_days
from hf_pipelines.resources.market_data.source_entry import FolderSpec, SourceEntry, SourceMarket
from hf_pipelines.resources.market_data.tables import RefusedTableError, parse_csv, parse_parquet
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.storage_errors import ObjectMissingError, ObjectRefusedError

FILE_PATTERN = re.compile(r"(\d{4}-\d{2}-\d{2})(?!.*\.\.)[A-Za-z0-9_.-]{0,100}\.(parquet|csv)")
DAY_PATTERN = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

# A name may begin with digits that are no day of a market: weeks are counted within these years.
FIRST_YEAR, LAST_YEAR = 1900, 2199

# A batch of files arrives one after the other: while one is younger, others may follow.
SETTLE_S = 2.0

# In a bucket fewer sessions than this are looked up one prefix each; a request lists as many objects as four years of
# sessions.
PREFIX_SESSIONS = 10

# Hashes remembered: 80 years of sessions, some 5 MB.
MAX_HASHES = 20_000

MAX_STRAYS, MAX_STRAY_LENGTH = 5, 80
FINGERPRINT_LENGTH = 16


@dataclass(frozen=True)
class Scan:
    """What a look at a part of the folder saw.

    Attributes
    ----------
    fingerprints : mapping of week to digest
        Over names, sizes and ETags (on disk: times) of the session files of each week that lies wholly in the part.
    next_key : str
        Where the next scan begins; "" once the end was reached.
    is_settling : bool
        A session file is younger than SETTLE_S: the batch may still be arriving. A file from the future (a clock
        was set back) has settled: it would never settle otherwise.
    n_objects : int
        Objects looked at.
    strays : tuple of str
        At most five names that are no session file, or none that is read (with what it is instead).
    """

    fingerprints: Mapping[str, str]
    next_key: str
    is_settling: bool
    n_objects: int
    strays: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    """Objects of a stretch of the folder, and the stretch in which every week is whole."""

    objects: Sequence[LandedObject]
    start_after: str
    next_key: str

    def holds(self, week: str) -> bool:
        """Whether every file of `week` lies in the part: files of a week come after its Sunday's date."""
        return self.start_after <= week and (not self.next_key or shift_week(week, 1) <= self.next_key)


@dataclass(frozen=True)
class FilesSource:
    """Session files below one folder or prefix.

    Parameters
    ----------
    objects : ObjectStore
        The folder or prefix.
    s3 : boto3 client, optional
        What to list an S3 prefix with, such as `S3Resource.get_client()` of dagster-aws; default one made from the
        environment.
    schema : mapping of column to type
        What the texts of a CSV are parsed as; default those of bars.
    """

    objects: ObjectStore
    s3: Any = field(default=None, compare=False)
    schema: Mapping[str, Any] = field(default_factory=lambda: SOURCE_SCHEMA, compare=False, repr=False)
    _hashes: dict[LandedObject, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def folder(self) -> Landing:
        """Where the files lie, for listing."""
        return Landing(self.objects.uri, self.objects.endpoint, self.s3)

    def listing(self, sessions: Sequence[date]) -> dict[str, str]:
        """Reads what it has not read before: an object that has rested is known by its size and times."""
        found: dict[tuple[date, str], str] = {}
        for landed, day in self._landed(sessions):
            if (digest := self._hashes.get(landed)) is None:
                try:
                    payload = self._payload(landed)
                except ObjectRefusedError:
                    digest = _unread_digest(landed)
                else:
                    digest = None if payload is None else self._noted(landed, payload)
            if digest is not None:
                found.setdefault((day, digest), landed.name)
        return {name: digest for (_, digest), name in found.items()}

    def read(self, sessions: Sequence[date]) -> list[SourceFile]:
        found: dict[tuple[date, str], SourceFile] = {}
        for landed, day in self._landed(sessions):
            try:
                payload = self._payload(landed)
            except ObjectRefusedError as e:
                digest = _unread_digest(landed)
                found[day, digest] = SourceFile(landed.name, digest, None, (day,), str(e))
                continue
            if payload is None:
                continue
            digest = self._noted(landed, payload)
            if (day, digest) not in found:
                found[day, digest] = self._read(landed.name, day, payload, digest)
        return list(found.values())

    def sessions(self) -> list[date]:
        """Sessions that have a file, ascending: by the names of the whole folder."""
        return sorted({day for name in self.folder.names() if (day := session_of_name(name)) is not None})

    def scan(self, *, start_after: str = "", limit: int = 5000, recent_from: date | None = None, now: datetime) -> Scan:
        """Look at a part of the folder, by names and times alone.

        Parameters
        ----------
        start_after : str
            `next_key` of the scan before, "" to begin anew.
        limit : int
            Objects looked at, at least 1; one more week is read to its end if it alone holds more.
        recent_from : date, optional
            The weeks from the one of this day on are looked at as well (`limit` objects of them).
        now : datetime
            With a time zone.

        Raises
        ------
        StorageUnavailableError
            If the folder cannot be listed.
        """
        if limit < 1:
            raise ValueError(f"`limit` must be at least 1, was {limit}.")
        parts = [self._part(start_after, limit)]
        if recent_from is not None:
            recent = week_key(recent_from)
            if parts[0].next_key or start_after > recent:
                parts.append(self._part(recent, limit))
        weeks: dict[str, dict[str, LandedObject]] = {}
        for part in parts:
            for week, of_week in _by_week(part.objects).items():
                if part.holds(week):
                    weeks[week] = of_week
        looked_at = {each.name: each for part in parts for each in part.objects}
        ages = [
            (now - each.modified).total_seconds()
            for each in looked_at.values()
            if session_of_name(each.name) is not None
        ]
        # What looks like a session file and is none comes first.
        strays = sorted(
            (each for each in looked_at.values() if each.kind or session_of_name(each.name) is None),
            key=lambda each: not each.kind,
        )
        return Scan(
            fingerprints={week: _fingerprint(of_week) for week, of_week in sorted(weeks.items())},
            next_key=parts[0].next_key,
            is_settling=any(0.0 <= age < SETTLE_S for age in ages),
            n_objects=len(looked_at),
            strays=tuple(_shown_stray(each) for each in strays[:MAX_STRAYS]),
        )

    def _part(self, start_after: str, limit: int) -> _Part:
        """At most `limit` objects, ending where a week ends."""
        objects, is_end = self.folder.objects(start_after=start_after, limit=limit)
        if is_end or not objects:
            return _Part(objects, start_after, "")
        last = objects[-1].name
        # Strays of a week count as its own here: they lie between its files.
        dated = (day for each in reversed(objects) if (day := _leading_day(each.name)) is not None)
        week = next((week_key(day) for day in dated), None)
        if week is None or shift_week(week, 1) <= last:
            return _Part(objects, start_after, last)
        if week > start_after:
            return _Part(objects, start_after, week)
        following = shift_week(week, 1)
        while not is_end and last < following:
            more, is_end = self.folder.objects(start_after=last, limit=limit)
            objects += [each for each in more if each.name < following]
            last = more[-1].name if more else following
        return _Part(objects, start_after, following)

    def _landed(self, sessions: Sequence[date]) -> list[tuple[LandedObject, date]]:
        """Each session file, by session; the shortest name of a session comes first."""
        found = self._matches(sessions)
        return sorted(found, key=lambda each: (each[1], len(each[0].name), each[0].name))

    def _payload(self, landed: LandedObject) -> bytes | None:
        """Bytes of an object, None if it is gone.

        Raises
        ------
        ObjectRefusedError
            If it is too large, or no regular file.
        """
        try:
            return self.objects.get(landed.name, max_bytes=Limits.of_arrivals().n_bytes, follows_links=False)
        except ObjectMissingError:
            # Gone since it was listed: the next listing will not have it either.
            return None

    def _noted(self, landed: LandedObject, payload: bytes) -> str:
        """Hash of an object's bytes; remembered once it has rested, since two writes of a moment may bear one time."""
        digest = sha256(payload).hexdigest()
        if (datetime.now(UTC) - landed.modified).total_seconds() > SETTLE_S:
            if len(self._hashes) >= MAX_HASHES:
                self._hashes.clear()
            self._hashes[landed] = digest
        return digest

    def _matches(self, sessions: Sequence[date]) -> list[tuple[LandedObject, date]]:
        wanted = {day.isoformat(): day for day in sessions}
        if not wanted:
            return []
        if self.folder.is_bucket and len(wanted) <= PREFIX_SESSIONS:
            landed = [each for key in wanted for each in self.folder.each(prefix=key)]
        else:
            first, last = min(wanted), max(wanted)
            of_range = self.folder.each(start_after=first)
            landed = list(takewhile(lambda each: each.name[: len(last)] <= last, of_range))
        matches = ((each, FILE_PATTERN.fullmatch(each.name)) for each in landed)
        return [(each, wanted[match[1]]) for each, match in matches if match and match[1] in wanted]

    def _read(self, name: str, day: date, payload: bytes, digest: str) -> SourceFile:
        address = self.objects.address(name)
        limits = Limits.of_arrivals()
        try:
            if name.endswith(".csv"):
                frame, _ = read_apart(parse_csv, payload, limits, self.schema)
            else:
                frame, _ = read_apart(parse_parquet, payload, limits)
            _check_session(frame, day)
        except RefusedTableError as e:
            rows = "bars" if self.schema is SOURCE_SCHEMA else "its rows"
            return SourceFile(
                name, digest, None, (day,), f"`{address}` must be a table of {rows}, was not: {str(e)[:300]}"
            )
        return SourceFile(name, digest, frame, (day,))


def session_of_name(name: str) -> date | None:
    """Session that a file's name says it holds; None for a name that is no session file's."""
    return _leading_day(name) if FILE_PATTERN.fullmatch(name) else None


def week_of_name(name: str) -> str | None:
    """Week of the session that a file's name says it holds; None for a name that is no session file's."""
    day = session_of_name(name)
    return None if day is None else week_key(day)


def _leading_day(name: str) -> date | None:
    if not DAY_PATTERN.match(name):
        return None
    try:
        day = date.fromisoformat(name[:10])
    except ValueError:
        return None
    return day if FIRST_YEAR <= day.year <= LAST_YEAR else None


def _by_week(objects: Sequence[LandedObject]) -> dict[str, dict[str, LandedObject]]:
    weeks: dict[str, dict[str, LandedObject]] = {}
    for each in objects:
        if (day := session_of_name(each.name)) is not None:
            weeks.setdefault(week_key(day), {})[each.name] = each
    return weeks


def _fingerprint(of_week: Mapping[str, LandedObject]) -> str:
    lines = [f"{name}\0{each.size}\0{each.stamp}" for name, each in sorted(of_week.items())]
    return sha256("\n".join(lines).encode()).hexdigest()[:FINGERPRINT_LENGTH]


def _unread_digest(landed: LandedObject) -> str:
    """Stands for the hash of bytes that are not read; it changes with the file."""
    return sha256(f"{landed.name}\0{landed.size}\0{landed.stamp}\0{landed.kind}".encode()).hexdigest()


def _shown_stray(landed: LandedObject) -> str:
    return f"{_printable(landed.name)} ({landed.kind})" if landed.kind else _printable(landed.name)


def _printable(name: str) -> str:
    """A name of any bytes, as a log can show it."""
    return (name if name.isprintable() else ascii(name)[1:-1])[:MAX_STRAY_LENGTH]


def _check_session(frame: pl.DataFrame, day: date) -> None:
    """A file holds the session in its name and no other: that is how it is found again."""
    if frame.schema.get("session") != pl.Date:
        return
    others = sorted(set(frame["session"].drop_nulls().to_list()) - {day})
    if others:
        raise RefusedTableError(f"`session` must be {day} as in the file's name, was {others[0]}")


@dataclass(frozen=True)
class ReferenceFiles:
    """A folder or prefix with files named by the day on which their rows became available, any day of the week."""

    files: FilesSource

    def read(self, table: str, weeks: Sequence[str], now: datetime) -> dict[str, list[SourceFile]]:
        found: dict[str, list[SourceFile]] = {week: [] for week in weeks}
        days = {day: week for week in weeks for day in past_days(week, now)}
        for file in self.files.read(list(days)):
            day = session_of_name(file.name)
            if day is not None:
                found[days[day]].append(file)
        return found

    def listing(self, table: str, week: str, now: datetime) -> dict[str, str]:
        return self.files.listing(past_days(week, now))


def _table_of_files(spec: FolderSpec, market: SourceMarket, table: str) -> ReferenceFiles:
    return ReferenceFiles(FilesSource(spec.objects(), schema=REFERENCES[table].schema))


FILES = SourceEntry(
    spec=FolderSpec,
    build=lambda spec, market: FilesSource(spec.objects()),
    delivery="files",
    build_table=_table_of_files,
)
