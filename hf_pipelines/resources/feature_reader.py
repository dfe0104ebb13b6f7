"""Feature reader: stored features of a market as one frame, for notebooks.

Lives here: `load_features`. Which files hold a span of time follows from its dates: nothing is listed (but to say what is
stored where something is not), and of each file only the columns that are asked for are read. Does not live here: how the
pipeline reads its inputs (`parquet_io_manager`: whole files, their hashes recomputed), how values are computed
(`research.features`).

    from hf_pipelines.resources.feature_reader import load_features
    load_features("us_tech", "technical", "2012-01-01", "2012-12-31", columns=["rsi_14", "roc_20"])
"""

import difflib
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

from hf_pipelines.partitions import parse_key, week_end, week_key, week_start
from hf_pipelines.research.bars import BARS_SCHEMA, KEY_COLUMNS, SYMBOL_PATTERN
from hf_pipelines.research.features.registry import FEATURES
from hf_pipelines.research.wording import some_of
from hf_pipelines.resources import partition_store
from hf_pipelines.resources.object_store import ObjectMissingError, StorageUnavailableError, check_key
from hf_pipelines.resources.parquet_io_manager import missing_error, open_store
from hf_pipelines.resources.partition_store import (
    Footer,
    PartitionStore,
    StoredPartitionError,
    check_size,
    decode,
    footer_bytes,
    not_ours,
    parse_footer,
)
from hf_pipelines.resources.seals import PARQUET_MAGIC

# What is fetched of the end of a file at first: Parquet's own footer of 200 columns and ours fit in.
END_BYTES = 64 * 1024

# Requests to a bucket at one time: most of a request is waiting.
N_REQUESTS = 16

# A market or a group; all lower case, so that no two names are twins on a disk that does not tell cases apart.
NAME_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,62}")

# Names near a mistyped one that a message shows.
SHOWN = 5

# Alike enough to be a slip of the keys: `us_teck` for `us_tech`, not `us_tech_feed`.
SLIP = 0.8

Source = Path | bytes


def load_features(
    market: str,
    groups: str | Sequence[str],
    start: date | str,
    end: date | str,
    symbols: str | Sequence[str] | None = None,
    columns: str | Sequence[str] | None = None,
    *,
    store: PartitionStore | None = None,
    is_verified: bool = False,
) -> pl.DataFrame:
    """Stored features of a market between two days.

    By default only the end of each file is checked: a bit flipped in the middle is **not noticed**, and a wrong number is
    returned without a word, unless the file cannot be decoded. `is_verified=True` refuses every such file. It reads files
    whole and hashes them: a year of 500 symbols x 158 features takes 0.5 s, not 0.02 s for 6 columns or 0.1 s for all.

    Parameters
    ----------
    market : str
        Such as "us_tech".
    groups : str or sequence of str
        Feature groups, such as "technical", and single features, such as "technical/rsi_14", as strategies name them.
    start, end : date or str
        First and last session (YYYY-MM-DD), both included.
    symbols : str or sequence of str, optional
        Default: all. A warning names those without a row.
    columns : str or sequence of str, optional
        Features, each once. Default: all of the groups.
    store : PartitionStore, optional
        Default: the one that the environment describes (HF_STORAGE_URI, HF_CACHE_DIR).
    is_verified : bool
        Read each file whole and recompute its hashes, as the pipeline does. Otherwise its footer is checked: a foreign,
        truncated, misplaced or oversized file is refused. Files in the cache are always checked whole, once a process.

    Returns
    -------
    DataFrame
        `symbol`, `session`, `ts`, then one Float32 column a feature; week after week, sorted by (symbol, ts) within.

    Raises
    ------
    ValueError
        If a week is not stored, a name is unknown, or none of the symbols has a row (with what is stored).
    StoredPartitionError
        If a file is not the one that was published.
    """
    names = _texts("groups", groups)
    members = None if symbols is None else _texts("symbols", symbols)
    picked = None if columns is None else _texts("columns", columns)
    first, last = _day("start", start), _day("end", end)
    _check_names(market, names, members)
    if last < first:
        raise ValueError(f"`end` must not be before `start` {first}, was {last}.")
    n_weeks = (week_start(last) - week_start(first)).days // 7 + 1
    weeks = [week_key(week_start(first) + timedelta(weeks=number)) for number in range(n_weeks)]
    opened = open_store() if store is None else store
    files = {
        group: _Files(opened, f"{market}/features/{group}", weeks, is_verified)
        for group in dict.fromkeys(name.partition("/")[0] for name in names)
    }
    if any(each.missing for each in files.values()):
        raise _absence(opened, market, files)
    for each in files.values():
        each.parse()
    selected = _select(files, _offered(files, names, opened, market), picked)
    frames = {group: files[group].frame(chosen, (first, last), members) for group, chosen in selected.items()}
    found = _side_by_side(frames, market)
    if members is not None and (lacking := sorted(set(members).difference(found["symbol"].unique()))):
        where = f"{market} from {first} to {last}"
        if found.is_empty():
            stored = files[next(iter(frames))].frame([], (first, last), None)["symbol"].unique().sort()
            raise _without_rows(lacking, where, stored.to_list())
        warnings.warn(f"`symbols` have no row in {where}: {some_of(lacking)}.", stacklevel=2)
    return found


class _Files:
    """The files of a group."""

    def __init__(self, store: PartitionStore, asset: str, weeks: Sequence[str], is_verified: bool) -> None:
        self.store, self.asset, self.weeks, self.is_verified = store, asset, weeks, is_verified
        self.keys = [check_key(store.key(asset, week)) for week in weeks]
        self.is_remote = store.objects.uri.startswith("s3://")
        self.ends: list[tuple[bytes, int]] = []
        self.sources: list[Source] = []
        self.missing: list[str] = []
        self._open()

    def parse(self) -> None:
        """What the ends of the files say, none of which may be missing."""
        self.footers = [
            parse_footer(end, asset=self.asset, partition=week)
            for week, (end, _) in zip(self.weeks, self.ends, strict=True)
        ]
        newest = self.ends[-1][0]
        try:
            self.schema = pl.read_parquet_schema(io.BytesIO(newest))
        except pl.exceptions.PolarsError as e:
            raise not_ours(self.asset, self.weeks[-1], "a file whose schema cannot be read") from e
        self._check_schema()

    def _open(self) -> None:
        """Ends of all files; those in the cache or on disk need no other request for the rest."""
        if not self.is_remote:
            root = Path(self.store.objects.uri).expanduser().resolve()
            self.sources = [root / key for key in self.keys]
            opened = [_end_of(path) for path in self.sources if isinstance(path, Path)]
        elif self.store.cache is not None or self.is_verified:
            found = self._fetch_all(self._whole)
            self.sources = [b"" if each is None else each for each in found]
            opened = [None if each is None else self._opened(number, each) for number, each in enumerate(found)]
        else:
            opened = self._fetch_all(self._end)
        self.missing = [week for week, each in zip(self.weeks, opened, strict=True) if each is None]
        self.ends = [each for each in opened if each is not None]

    def _fetch_all(self, fetch: Any) -> list[Any]:
        with ThreadPoolExecutor(N_REQUESTS) as pool:
            return list(pool.map(fetch, self.keys))

    def _whole(self, key: str) -> Source | None:
        try:
            if self.store.cache is None:
                return self.store.objects.get(key)
            copy = self.store.cache.path(self.store.objects, key)
            # Room for another object may have been made with this one.
            is_gone = isinstance(copy, Path) and not copy.exists()
            return self.store.objects.get(key) if is_gone else copy
        except ObjectMissingError:
            return None

    def _opened(self, number: int, source: Source) -> tuple[bytes, int] | None:
        """End of a file that was just fetched, again from the store where its copy is gone by now."""
        end = _end_of(source)
        if end is None:
            self.sources[number] = source = self.store.objects.get(self.keys[number])
            end = _end_of(source)
        return end

    def _end(self, key: str) -> tuple[bytes, int] | None:
        try:
            end, size = self.store.objects.get_end(key, END_BYTES)
            if len(end) < min(size, footer_bytes(end)):
                end = self.store.objects.get(key)
        except ObjectMissingError:
            return None
        return end, size

    def _check_schema(self) -> None:
        for name, dtype in self.schema.items():
            expected = BARS_SCHEMA[name] if name in KEY_COLUMNS else pl.Float32
            if dtype != expected:
                raise not_ours(self.asset, self.weeks[-1], f"one with {name} of type {dtype} instead of {expected}")
        if lacking := [name for name in KEY_COLUMNS if name not in self.schema]:
            raise not_ours(self.asset, self.weeks[-1], f"one without {', '.join(lacking)}")

    @property
    def features(self) -> list[str]:
        return [name for name in self.schema if name not in KEY_COLUMNS]

    def frame(self, features: Sequence[str], days: tuple[date, date], symbols: Sequence[str] | None) -> pl.DataFrame:
        """Keys and the given features, of the sessions from the first to the last day."""
        names = [*KEY_COLUMNS, *features]
        n_rows = sum(footer.rows for footer in self.footers)
        if n_rows * len(names) > partition_store.MAX_CELLS:
            raise ValueError(
                f"`columns` of {self.asset} must give at most {partition_store.MAX_CELLS} cells, were {n_rows} rows x "
                f"{len(names)} columns; read fewer columns or weeks at a time."
            )
        if self.is_verified:
            payloads = [self._payload(number) for number in range(len(self.keys))]
            whole = [
                decode(payload, asset=self.asset, partition=week).frame
                for week, payload in zip(self.weeks, payloads, strict=True)
            ]
            return _wanted(pl.concat([frame.select(names) for frame in whole]).lazy(), days, symbols).collect()
        try:
            found = self._scan(self._projected(names), names, n_rows, days, symbols)
        except FileNotFoundError:
            # Another process needed the room in the cache.
            found = self._scan(self._fetch_all(self.store.objects.get), names, n_rows, days, symbols)
        return found if symbols is not None else self._trimmed(found, n_rows, days)

    def _trimmed(self, whole: pl.DataFrame, n_rows: int, days: tuple[date, date]) -> pl.DataFrame:
        """Rows of whole weeks without those of other days, which only the first and the last week may hold."""
        if whole.height != n_rows:
            raise ValueError(
                f"`{self.asset}` must hold the {n_rows} rows that its footers name from {self.weeks[0]} to "
                f"{self.weeks[-1]}, was {whole.height}; see which file is not what was published: hfp verify {self.asset}"
            )
        if days[0] <= parse_key(self.weeks[0]) and week_end(parse_key(self.weeks[-1])) <= days[1]:
            return whole
        ends = [0, self.footers[0].rows, max(n_rows - self.footers[-1].rows, self.footers[0].rows), n_rows]
        parts = [whole[begins:stops] for begins, stops in pairwise(ends)]
        outer = [_wanted(part.lazy(), days, None).collect() for part in (parts[0], parts[2])]
        return pl.concat([outer[0], parts[1], outer[1]], rechunk=False)

    def _payload(self, number: int) -> bytes:
        source = self.sources[number]
        try:
            return source if isinstance(source, bytes) else source.read_bytes()
        except FileNotFoundError:
            return self.store.objects.get(self.keys[number])

    def _scan(
        self,
        sources: Sequence[Source],
        names: Sequence[str],
        n_rows: int,
        days: tuple[date, date],
        symbols: Sequence[str] | None,
    ) -> pl.DataFrame:
        given: Any = list(sources)
        if any(isinstance(each, bytes) for each in sources):
            # Polars takes paths or buffers, not both.
            given = [io.BytesIO(each if isinstance(each, bytes) else each.read_bytes()) for each in sources]
        schema = {name: self.schema[name] for name in names}
        try:
            rows = pl.scan_parquet(given, n_rows=n_rows + 1, glob=False, schema=schema, extra_columns="ignore")
            # With a filter every row is looked at; without one, the weeks' rows are counted and cut afterwards.
            return (rows if symbols is None else _wanted(rows, days, symbols)).select(names).collect(engine="streaming")
        except pl.exceptions.PolarsError as e:
            raise self._culprit(given, schema) from e

    def _culprit(self, given: Sequence[Any], schema: dict[str, Any]) -> ValueError:
        """The first file that cannot be read like the others."""
        for week, source in zip(self.weeks, given, strict=True):
            try:
                found = pl.read_parquet_schema(source)
                if faulty := [name for name, dtype in schema.items() if found.get(name) != dtype]:
                    shown = ", ".join(f"{name} {found.get(name, 'absent')}" for name in faulty[:5])
                    return not_ours(self.asset, week, f"one with {shown}")
                pl.read_parquet(source, columns=list(schema))
            except pl.exceptions.PolarsError as e:
                return not_ours(self.asset, week, f"one that cannot be decoded ({str(e)[:120]})")
        return not_ours(self.asset, self.weeks[0], "one that cannot be read beside the others")

    def _projected(self, names: Sequence[str]) -> list[Source]:
        """Files, or for those in a bucket their bytes with what is not asked for left blank."""
        if self.sources:
            return self.sources
        with ThreadPoolExecutor(N_REQUESTS) as pool:
            return list(pool.map(partial(self._fetch_columns, set(names)), range(len(self.keys))))

    def _fetch_columns(self, names: set[str], number: int) -> bytes:
        end, size = self.ends[number]
        footer, key = self.footers[number], self.keys[number]
        begins, stops = _span(end, names, footer)
        sparse = bytearray(size)
        sparse[size - len(end) :] = end
        # One request for all columns: what lies between them costs less than a request more.
        if begins < (stops := min(stops, size - len(end))):
            sparse[begins:stops] = self.store.objects.get_range(key, begins, stops)
        return bytes(sparse)


def _wanted(rows: pl.LazyFrame, days: tuple[date, date], symbols: Sequence[str] | None) -> pl.LazyFrame:
    wanted = pl.col("session").is_between(*days)
    return rows.filter(wanted if symbols is None else wanted & pl.col("symbol").is_in(list(symbols)))


def _end_of(source: Source) -> tuple[bytes, int] | None:
    """Last bytes of a file and its size; a file that does not begin as Parquet ends in nothing. None if it is missing."""
    if isinstance(source, bytes):
        return (source if source.startswith(PARQUET_MAGIC) else b""), len(source)
    try:
        with source.open("rb", buffering=0) as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            is_parquet = file.read(4) == PARQUET_MAGIC
            file.seek(max(size - END_BYTES, 0))
            end = file.read(END_BYTES) if is_parquet else b""
            if len(end) < (n_bytes := min(size, footer_bytes(end))):
                file.seek(size - n_bytes)
                end = file.read(n_bytes)
            return end, size
    except FileNotFoundError:
        return None


def _span(end: bytes, names: set[str], footer: Footer) -> tuple[int, int]:
    """First and last byte of the columns, from Parquet's own footer."""
    import pyarrow
    from pyarrow import parquet

    check_size(end, footer)
    found = parquet.read_metadata(pyarrow.BufferReader(end))
    if found.num_rows != footer.rows:
        raise not_ours(footer.asset, footer.partition, f"{found.num_rows} rows under a footer for {footer.rows}")
    chunks = [
        chunk
        for group in (found.row_group(each) for each in range(found.num_row_groups))
        for chunk in (group.column(each) for each in range(group.num_columns))
        if chunk.path_in_schema in names
    ]
    begins = [chunk.dictionary_page_offset or chunk.data_page_offset for chunk in chunks]
    stops = [first + chunk.total_compressed_size for first, chunk in zip(begins, chunks, strict=True)]
    return min(begins, default=0), max(stops, default=0)


def _offered(
    files: Mapping[str, _Files], names: Sequence[str], store: PartitionStore, market: str
) -> dict[str, list[str]]:
    """Features that a selection of groups (`technical`) and of single features (`technical/rsi_14`) names."""
    given = set(names)
    stored = {f"{group}/{feature}" for group, each in files.items() for feature in each.features}
    if unknown := sorted(given - stored - set(files)):
        group, _, feature = unknown[0].partition("/")
        near = [f"{group}/{each}" for each in _near(feature, files[group].features)]
        groups = list(files)
        with suppress(StorageUnavailableError):
            groups = _stored_groups(store, market)
        raise ValueError(f"{_among_groups(market, groups)} or {', '.join(near)}, was {some_of(unknown)}.")
    return {
        group: [feature for feature in each.features if not given.isdisjoint((group, f"{group}/{feature}"))]
        for group, each in files.items()
    }


def _select(
    files: Mapping[str, _Files], offered: Mapping[str, list[str]], columns: Sequence[str] | None
) -> Mapping[str, list[str]]:
    """Features to read of each group, those without any left out."""
    if columns is None:
        return offered
    known = {f"{group}/{feature}": feature for group, features in offered.items() for feature in features}
    # Lists that were put together name a feature twice.
    wanted = list(dict.fromkeys(known.get(name, name) for name in columns if name not in KEY_COLUMNS))
    if unknown := sorted(set(wanted) - set(known.values())):
        near = _near(unknown[0].rpartition("/")[2], list(known.values()))
        whole = [group for group, features in offered.items() if len(features) == len(files[group].features)]
        singles = [name for name in known if name.partition("/")[0] not in whole]
        raise ValueError(
            f"`columns` must be features stored in {some_of(whole + singles)}, was {some_of(unknown)}; "
            f"near it: {', '.join(near)}."
        )
    chosen = {group: [each for each in wanted if each in set(features)] for group, features in offered.items()}
    return {group: features for group, features in chosen.items() if features} or {next(iter(files)): []}


def _side_by_side(frames: dict[str, pl.DataFrame], market: str) -> pl.DataFrame:
    (first, joined), *others = frames.items()
    for name, frame in others:
        if not frame.select(KEY_COLUMNS).equals(joined.select(KEY_COLUMNS)):
            raise ValueError(
                f"`groups` must hold the same rows, {first} and {name} of {market} do not; "
                f"see which is out of date: hfp current {market}/features/{name}"
            )
        joined = joined.hstack(frame.drop(KEY_COLUMNS))
    return joined


def _day(name: str, given: date | str) -> date:
    if isinstance(given, date):
        return date(given.year, given.month, given.day)
    try:
        return parse_key(given)
    except (TypeError, ValueError) as e:
        raise ValueError(f"`{name}` must be a date or YYYY-MM-DD, was {str(given)[:40]!r}.") from e


def _texts(name: str, given: str | Sequence[str]) -> list[str]:
    """Names given alone or in a sequence."""
    try:
        texts = [given] if isinstance(given, str) else list(given)
    except TypeError as e:
        raise TypeError(f"`{name}` must be a name or a sequence of names, was {str(given)[:40]}.") from e
    if strange := [each for each in texts if not isinstance(each, str)]:
        raise TypeError(f"`{name}` must be a name or a sequence of names, was {strange[0]!r:.40} among them.")
    return texts


def _check_names(market: str, groups: Sequence[str], symbols: Sequence[str] | None) -> None:
    if not NAME_PATTERN.fullmatch(market):
        raise ValueError(f"`market` must match {NAME_PATTERN.pattern}, was {market[:80]!r}.")
    known = list(dict.fromkeys(feature.group for feature in FEATURES.values()))
    if not groups:
        raise ValueError(f"`groups` must name a group such as {', '.join(known)}, was empty.")
    for name in groups:
        group, *features = name.split("/")
        if not NAME_PATTERN.fullmatch(group) or len(features) > 1 or "" in features:
            near = difflib.get_close_matches(name, known, n=3) or known
            raise ValueError(
                f"`groups` must be names such as {', '.join(near)} or technical/rsi_14, was {name[:80]!r}."
            )
    if symbols is not None and not symbols:
        raise ValueError("`symbols` must name a symbol, was empty; leave it out for all.")
    if strange := [each for each in symbols or () if not re.fullmatch(SYMBOL_PATTERN, each)]:
        raise ValueError(f"`symbols` must match {SYMBOL_PATTERN}, was {strange[0][:80]!r}.")


# --- what is stored, where something is not: the store is listed here alone


def _absence(store: PartitionStore, market: str, files: Mapping[str, _Files]) -> ValueError:
    """No such market, no such group, or no such weeks, with what there is."""
    lacking = [group for group, each in files.items() if each.missing]
    try:
        groups = _stored_groups(store, market)
        asked = next((group for group in lacking if group not in groups), lacking[0])
        asset, missing = files[asked].asset, files[asked].missing
        said, command = str(missing_error(asset, missing)).split("; materialise it first: ")
        if not groups:
            markets = [each for each in store.objects.folders() if _stored_groups(store, each)]
            return ValueError(
                f"`market` must be one whose features are stored in {store.objects.uri} "
                f"({', '.join(markets) or 'there is none'}), was {market}; {_remedy(market, markets, command)}"
            )
        if unknown := [group for group in lacking if group not in groups]:
            named = f"the feature is named {FEATURES[asked].group}/{asked}." if asked in FEATURES else ""
            return ValueError(
                f"{_among_groups(market, groups)}, was {some_of(unknown)}; {named or _remedy(asked, groups, command)}"
            )
        stored = store.partitions(asset)
    except StorageUnavailableError:
        return missing_error(files[lacking[0]].asset, files[lacking[0]].missing)
    is_gap = stored[0] < missing[0] and missing[-1] < stored[-1]
    when = "" if is_gap else "if the market has sessions then, "
    return ValueError(
        f"{said}; weeks stored: {len(stored)}, {stored[0]} to {stored[-1]}; {when}materialise it first: {command}"
    )


def _stored_groups(store: PartitionStore, market: str) -> list[str]:
    """Groups of which a market has a week."""
    if not NAME_PATTERN.fullmatch(market):
        return []
    folders = store.objects.folders(f"{market}/features")
    return [each for each in folders if NAME_PATTERN.fullmatch(each) and store.partitions(f"{market}/features/{each}")]


def _among_groups(market: str, groups: Sequence[str]) -> str:
    return f"`groups` must be among the groups stored of market {market} ({', '.join(groups)})"


def _remedy(given: str, stored: Sequence[str], command: str) -> str:
    near = difflib.get_close_matches(given, stored, cutoff=SLIP)
    return f"near it: {', '.join(near)}." if near else f"if it is defined, materialise it first: {command}"


def _without_rows(symbols: Sequence[str], where: str, stored: Sequence[str]) -> ValueError:
    there = f"stored then: {some_of(dict.fromkeys([*_near(symbols[0], stored), *stored]))}"
    reason = there if stored else "no symbol has one: no session lies between"
    return ValueError(f"`symbols` must have rows in {where}, was {some_of(symbols)}; {reason}.")


def _near(given: str, known: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(given, known, n=SHOWN) or list(known[:SHOWN])


__all__ = ["StoredPartitionError", "load_features"]
