"""Source `http`: a market data service that is asked for bars and reference tables of symbols and days.

    GET {base_url}/{table}?symbols=AAPL,MSFT&start=2013-02-24&end=2013-03-02[&timeframe=1d][&cursor=...]

`table` is `ohlcv` (with `timeframe`), `fundamentals`, `insider_trades`, `short_interest` or `news`; `start` and `end`
are both included and name sessions of bars, or the days (UTC) on which rows of a reference table became available. The
answer is JSON, `{"data": [row, ...], "next": cursor or null}` with times in ISO 8601 with an offset, or Parquet with the
cursor in the header `X-Next-Cursor`. Columns are those of the contracts in `research`. A key goes into
`Authorization: Bearer`. 200 without rows says that there are none.

Lives here: which rows are asked for, paging, and an answer that is no table (its week fails). Does not live here: one answer,
and distinguishing an outage from a refusal (`http_transport`), what a row must look like (`research`), how a run waits out an
outage (`resources.outages`).
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import polars as pl
from pydantic import Field

from hf_pipelines.partitions import parse_key, shift_week, week_end
from hf_pipelines.research.bars import SOURCE_SCHEMA, is_stray_event
from hf_pipelines.research.content_hash import content_hash
from hf_pipelines.research.wording import excerpt
from hf_pipelines.resources.limits import Limits
from hf_pipelines.resources.market_data import (
    SourceFile,
    by_week,
)
from hf_pipelines.resources.market_data.answers import checked_cursor, parse_json
from hf_pipelines.resources.market_data.http_transport import JSON_TYPE, PARQUET_TYPE, HttpTransport
from hf_pipelines.resources.market_data.reader import read_apart
from hf_pipelines.resources.market_data.source_entry import SourceEntry, SourceMarket, SourceSpec
from hf_pipelines.resources.market_data.tables import RefusedTableError, parse_parquet
from hf_pipelines.resources.ranges import ranged

if TYPE_CHECKING:
    from requests import Response, Session

REFERENCE_TABLES = ("fundamentals", "insider_trades", "short_interest", "news")
MEDIA_TYPE = re.compile(r"[a-z]{1,20}/[a-z0-9.+-]{1,40}")
CURSOR_HEADER = "X-Next-Cursor"

# Symbols go into the address, which servers and proxies cut at 8 kB: 100 of 32 characters are less than half of it.
SYMBOLS_A_REQUEST = 100

# A week of 100 symbols in bars of a minute has 195,000 rows: some 40 MB of JSON in some 20 pages of 10,000.
MAX_PAGES = 500

# Weeks asked for together: an answer of half a million rows has some 100 MB of JSON, and one that is broken is asked for
# again week by week.
ROWS_A_REQUEST = 500_000
WEEKS_A_REQUEST = 52
BARS_A_DAY = {"1d": 1, "1h": 24, "5m": 288, "1m": 1440}


@dataclass(frozen=True)
class HttpSource:
    """Bars and reference tables of a market data service.

    Parameters
    ----------
    base_url : str
        http or https, without user, query or fragment.
    symbols : tuple of str
        What is asked for.
    timeframe : str
        Of the bars.
    api_key_env : str or None
        Name of the environment variable that holds the key. The key itself is in no setting, log or message.
    timeout_s : float
        How long the service may take to begin its answer, and between two pieces of it.
    """

    base_url: str
    symbols: tuple[str, ...]
    timeframe: str = "1d"
    api_key_env: str | None = None
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.base_url)
            is_sound = (
                parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
            )
        except ValueError:
            is_sound = False
        if not is_sound:
            raise ValueError("`base_url` must be an address such as https://data.example.com/v1, was none.")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError(
                "`base_url` must hold no user, password, query or fragment, was with one; put the key into a variable and "
                "name that in `api_key_env`."
            )
        if not (math.isfinite(self.timeout_s) and self.timeout_s > 0.0):
            raise ValueError(f"`timeout_s` must be above zero, was {self.timeout_s}.")

    @property
    def _transport(self) -> HttpTransport:
        return HttpTransport(self.base_url, self.api_key_env, self.timeout_s)

    def listing(self, sessions: Sequence[date]) -> dict[str, str]:
        """Asks for all the rows: nothing less says whether the service has revised them."""
        return {file.name: file.sha256 for file in self.read(sessions)}

    def read(self, sessions: Sequence[date]) -> list[SourceFile]:
        """One file a week; weeks that follow each other are asked for together.

        Raises
        ------
        MarketDataOutageError
            If the service does not answer as it should.
        MarketDataRefusedError
            If it refuses the request.
        """
        with self._transport.session() as session:
            return [file for weeks in self._ranges(by_week(sessions)) for file in self._read_range(session, weeks)]

    def read_reference(self, table: str, weeks: Sequence[str]) -> list[SourceFile]:
        """Rows of a reference table that became available in each of `weeks` (their Sundays), one file a week.

        Raises
        ------
        MarketDataOutageError, MarketDataRefusedError
            As `read`.
        """
        if table not in REFERENCE_TABLES:
            raise ValueError(f"`table` must be one of {', '.join(REFERENCE_TABLES)}, was {table[:40]!r}.")
        with self._transport.session() as session:
            return [self._read_reference_week(session, table, week) for week in weeks]

    def _ranges(self, weeks: Mapping[str, list[date]]) -> list[dict[str, list[date]]]:
        """Weeks that follow each other, as many together as one answer may hold."""
        rows_a_week = len(self.symbols) * 7 * BARS_A_DAY.get(self.timeframe, 1)
        limit = max(1, min(WEEKS_A_REQUEST, ROWS_A_REQUEST // rows_a_week))
        ranges: list[dict[str, list[date]]] = []
        for key, days in weeks.items():
            if not ranges or len(ranges[-1]) == limit or shift_week(key, -1) not in ranges[-1]:
                ranges.append({})
            ranges[-1][key] = days
        return ranges

    def _read_range(self, session: "Session", weeks: Mapping[str, list[date]]) -> list[SourceFile]:
        """One request for all weeks; where its answer is no table each is asked for alone, so that the sound ones are kept."""
        if len(weeks) > 1:
            every = [day for days in weeks.values() for day in days]
            together = self._read_week(session, min(weeks), every).frame
            if together is not None and _is_dated(together):
                return [self._part(together, key, days) for key, days in weeks.items()]
        return [self._read_week(session, key, days) for key, days in weeks.items()]

    def _part(self, together: pl.DataFrame, key: str, days: list[date]) -> SourceFile:
        of_week = _or_plain(together.filter(_is_of(together, days)))
        return SourceFile(f"http/ohlcv/{key}", _hash_of(of_week), of_week, tuple(days))

    def _read_week(self, session: "Session", key: str, days: list[date]) -> SourceFile:
        def check(frame: pl.DataFrame) -> None:
            if frame.schema.get("session") == pl.Date:
                strays = sorted(set(frame.filter(~_is_of(frame, days))["session"].drop_nulls().to_list()))
                if strays:
                    raise RefusedTableError(f"session {strays[0]} was not asked for")

        query = {"timeframe": self.timeframe, "start": days[0].isoformat(), "end": days[-1].isoformat()}
        return self._file(session, "ohlcv", key, tuple(days), query, check)

    def _read_reference_week(self, session: "Session", table: str, week: str) -> SourceFile:
        first, last = parse_key(week), week_end(parse_key(week))

        def check(frame: pl.DataFrame) -> None:
            if isinstance(frame.schema.get("available_at"), pl.Datetime):
                days = frame["available_at"].dt.date().drop_nulls()
                strays = days.filter((days < first) | (days > last))
                if strays.len():
                    raise RefusedTableError(f"`available_at` {strays.sort().to_list()[0]} was not asked for")

        query = {"start": first.isoformat(), "end": last.isoformat()}
        return self._file(session, table, week, (), query, check)

    def _file(
        self,
        session: "Session",
        table: str,
        key: str,
        sessions: tuple[date, ...],
        query: dict[str, str],
        check: Callable[[pl.DataFrame], None],
    ) -> SourceFile:
        name = f"http/{table}/{key}"
        digest = sha256()
        try:
            pages = [page for page in self._pages(session, table, query, digest.update) if page.width]
            frame = _joined(pages) if pages else pl.DataFrame()
            frame = _or_plain(frame) if table == "ohlcv" else frame
            check(frame)
            return SourceFile(name, _hash_of(frame), frame, sessions)
        except RefusedTableError as e:
            where = f"{self.base_url.rstrip('/')}/{table} from {query['start']} to {query['end']}"
            return SourceFile(name, digest.hexdigest(), None, sessions, f"`{where}` must be a table, was not: {e}")

    def _pages(
        self, session: "Session", table: str, query: dict[str, str], note: Callable[[bytes], None]
    ) -> Iterator[pl.DataFrame]:
        n_bytes, limits = 0, Limits.of_arrivals()
        for first in range(0, len(self.symbols), SYMBOLS_A_REQUEST):
            chosen = self.symbols[first : first + SYMBOLS_A_REQUEST]
            asked = {"symbols": ",".join(chosen), **query}
            cursors: set[str] = set()
            seen: set[str] = set()
            for n_page in range(1, MAX_PAGES + 2):
                if n_page > MAX_PAGES:
                    raise RefusedTableError(f"it has more than {MAX_PAGES} pages; ask the service for larger ones")
                answer, payload = self._transport.get(session, table, asked, limits.n_bytes - n_bytes)
                n_bytes += len(payload)
                note(payload)
                page, cursor = _parse(answer, payload, n_page, limits)
                # By the rows: the address of the next page differs though the rows are the same.
                if page.height and (rows := _hash_of(page)) in seen:
                    raise RefusedTableError(f"page {n_page} repeats an earlier one")
                if page.height:
                    seen.add(rows)
                yield page
                if cursor is None:
                    break
                if cursor in cursors:
                    raise RefusedTableError(f"page {n_page} leads back to an earlier one")
                cursors.add(cursor)
                asked["cursor"] = cursor


def _parse(answer: "Response", payload: bytes, n_page: int, limits: Limits) -> tuple[pl.DataFrame, str | None]:
    """Rows of a page and where the next one is."""
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == JSON_TYPE:
        return read_apart(parse_json, payload, limits, n_page)
    if kind != PARQUET_TYPE:
        shown = kind if MEDIA_TYPE.fullmatch(kind) else excerpt(kind) or "untyped"
        raise RefusedTableError(f"page {n_page} must be {JSON_TYPE} or {PARQUET_TYPE}, was {shown}")
    try:
        frame, _ = read_apart(parse_parquet, payload, limits)
    except RefusedTableError as e:
        raise RefusedTableError(f"page {n_page} is no Parquet: {e}") from e
    return frame, checked_cursor(answer.headers.get(CURSOR_HEADER) or None)


def _joined(pages: list[pl.DataFrame]) -> pl.DataFrame:
    try:
        joined = pl.concat(pages, how="vertical_relaxed")
        return joined.with_columns(pl.selectors.by_dtype(pl.Null).cast(pl.Float64))
    except pl.exceptions.PolarsError as e:
        raise RefusedTableError("its pages must have the same columns, in the same types") from e


def _is_of(bars: pl.DataFrame, days: Sequence[date]) -> pl.Series:
    """Rows of the days, and events between them on days without a session; rows without a day as well."""
    inside = bars["session"].is_between(min(days), max(days))
    of_days = bars["session"].is_in(list(days)) | bars["session"].is_null()
    return (of_days | (is_stray_event(bars, days) & inside)).fill_null(True)


def _is_dated(bars: pl.DataFrame) -> bool:
    """Whether each row names its session, which names its week."""
    return bars.schema.get("session") == pl.Date and not bars["session"].has_nulls()


def _or_plain(bars: pl.DataFrame) -> pl.DataFrame:
    """A week without rows is the same whatever types the service gave to nothing."""
    return bars if bars.height else pl.DataFrame(schema=SOURCE_SCHEMA)


def _hash_of(frame: pl.DataFrame) -> str:
    """Over the rows whatever their order, pages and encoding: a service need not answer the same bytes twice."""
    try:
        ordered = frame.select(pl.col(sorted(frame.columns))).with_columns(
            pl.selectors.by_dtype(pl.Null).cast(pl.Float64)
        )
        return content_hash(ordered.sort(ordered.columns))
    except (TypeError, pl.exceptions.PolarsError) as e:
        raise RefusedTableError("its columns must hold text, numbers, dates or times") from e


@dataclass(frozen=True)
class ReferenceService:
    """A market data service."""

    service: HttpSource

    def read(self, table: str, weeks: Sequence[str], now: datetime) -> dict[str, list[SourceFile]]:
        begun = [week for week in weeks if parse_key(week) <= now.date()]
        files = self.service.read_reference(table, begun)
        return {week: [] for week in weeks} | {week: [file] for week, file in zip(begun, files, strict=True)}

    def listing(self, table: str, week: str, now: datetime) -> dict[str, str]:
        return {file.name: file.sha256 for file in self.read(table, [week], now)[week]}


class HttpSpec(SourceSpec):
    """Fields of a service over HTTP."""

    base_url: str = Field(description="Address that the paths of the protocol are added to.")
    api_key_env: str | None = Field(
        default=None, description="Name of the environment variable that holds the key; never the key."
    )
    timeout_s: float = Field(default=30.0, description="Seconds that one answer may take.")

    _timeout = ranged("timeout_s", low=0, high=3_600, above=True)


def _service(spec: HttpSpec, market: SourceMarket) -> HttpSource:
    return HttpSource(
        spec.base_url,
        market.symbols,
        timeframe=market.grid.timeframe,
        api_key_env=spec.api_key_env,
        timeout_s=spec.timeout_s,
    )


HTTP = SourceEntry(
    spec=HttpSpec,
    build=_service,
    delivery="polled",
    build_table=lambda spec, market, table: ReferenceService(_service(spec, market)),
    is_checked=True,
)
