"""Feature files: the Parquet files of a group over some weeks, and what is fetched of each.

Lives here: opening files by their keys (their ends first), refusing what is not what was published, reading some columns of
some days. Does not live here: what a reader asks for, and the errors where something is missing (`feature_reader`).
"""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

from hf_pipelines.partitions import parse_key, week_end
from hf_pipelines.research.bars import BARS_SCHEMA, KEY_COLUMNS
from hf_pipelines.resources import partition_codec
from hf_pipelines.resources.disk_files import open_regular
from hf_pipelines.resources.footer import Footer
from hf_pipelines.resources.object_keys import check_key
from hf_pipelines.resources.partition_codec import check_size, decode, footer_bytes, not_ours, parse_footer
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.seals import PARQUET_MAGIC
from hf_pipelines.resources.storage_errors import NotRegularError, ObjectMissingError

# What is fetched of the end of a file at first: Parquet's own footer of 200 columns and ours fit in.
END_BYTES = 64 * 1024

# Requests to a bucket at one time: most of a request is waiting.
N_REQUESTS = 16

Source = Path | bytes


class GroupFiles:
    """The files of a group over some weeks.

    Attributes
    ----------
    missing : list of str
        Weeks without a file: nothing else may be asked then.
    features : list of str
        Columns of the newest file, in order.
    """

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
            parse_footer(end, asset=self.asset, partition=week, size=size)
            for week, (end, size) in zip(self.weeks, self.ends, strict=True)
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
            opened = [self._opened_here(number) for number in range(len(self.sources))]
        elif self.store.cache is not None or self.is_verified:
            found = self._fetch_all(self._whole)
            self.sources = [b"" if each is None else each for each in found]
            opened = [None if each is None else self._opened(number, each) for number, each in enumerate(found)]
        else:
            opened = self._fetch_all(self._end)
        self.missing = [week for week, each in zip(self.weeks, opened, strict=True) if each is None]
        self.ends = [each for each in opened if each is not None]

    def _opened_here(self, number: int) -> tuple[bytes, int] | None:
        try:
            return _end_of(self.sources[number])
        except NotRegularError as e:
            raise not_ours(self.asset, self.weeks[number], e.was) from e

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
        if n_rows * len(names) > partition_codec.MAX_CELLS:
            raise ValueError(
                f"`columns` of {self.asset} must give at most {partition_codec.MAX_CELLS} cells, were {n_rows} rows x "
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
        with open_regular(source, buffering=0) as (file, size):
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
