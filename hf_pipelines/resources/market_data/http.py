"""Source `http`: a market data service that is asked for bars and reference tables of symbols and days.

    GET {base_url}/{table}?symbols=AAPL,MSFT&start=2013-02-24&end=2013-03-02[&timeframe=1d][&cursor=...]

`table` is `ohlcv` (with `timeframe`), `fundamentals`, `insider_trades`, `short_interest` or `news`; `start` and `end`
are both included and name sessions of bars, or the days (UTC) on which rows of a reference table became available. The
answer is JSON, `{"data": [row, ...], "next": cursor or null}` with times in ISO 8601 with an offset, or Parquet with the
cursor in the header `X-Next-Cursor`. Columns are those of the contracts in `research`. A key goes into
`Authorization: Bearer`. 200 without rows says that there are none.

Lives here: asking, paging, and telling apart an outage (tried again), a refusal (of the whole run) and an answer that is
no table (of its week). Does not live here: what a row must look like (`research`), how a run waits out an outage
(`resources.outages`).
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import polars as pl

from hf_pipelines.partitions import parse_key, shift_week, week_end
from hf_pipelines.research.bars import SOURCE_SCHEMA
from hf_pipelines.research.content_hash import content_hash
from hf_pipelines.research.wording import some_of
from hf_pipelines.resources.market_data import (
    MarketDataOutageError,
    MarketDataRefusedError,
    SourceFile,
    by_week,
)
from hf_pipelines.resources.market_data.tables import parse_parquet

if TYPE_CHECKING:
    from requests import PreparedRequest, Response, Session

REFERENCE_TABLES = ("fundamentals", "insider_trades", "short_interest", "news")
JSON_TYPE = "application/json"
PARQUET_TYPE = "application/vnd.apache.parquet"
CURSOR_HEADER = "X-Next-Cursor"
MAX_CURSOR_LENGTH = 1024

# Symbols go into the address, which servers and proxies cut at 8 kB: 100 of 32 characters are less than half of it.
SYMBOLS_A_REQUEST = 100

# Waits between the tries of one request; a longer outage is for the step to wait out.
WAITS_S = (0.5, 2.0)
# A service that asks for more than this is left to the step.
LONGEST_WAIT_S = 10.0
CONNECT_TIMEOUT_S = 5.0
# A server that drips bytes never runs into the timeout between two of them.
TIMEOUTS_A_PAGE = 10

# A week of 100 symbols in bars of a minute has 195,000 rows: some 40 MB of JSON in some 20 pages of 10,000.
MAX_PAGES = 500
MAX_BYTES = 512 * 1024 * 1024
CHUNK_BYTES = 1 << 16

# Weeks asked for together: an answer of half a million rows has some 100 MB of JSON, and one that is broken is asked for
# again week by week.
ROWS_A_REQUEST = 500_000
WEEKS_A_REQUEST = 52
BARS_A_DAY = {"1d": 1, "1h": 24, "5m": 288, "1m": 1440}

# Status codes of 4xx that are no refusal: too slow, too early, too many.
PASSING_STATUS = (408, 425, 429)
REMEDIES = {
    401: "set the key of the service in the variable that `api_key_env` names",
    403: "see that the key may read this table and these symbols",
    404: "see that `base_url` is right and that the service knows these symbols",
}


class _MalformedAnswerError(ValueError):
    """An answer that is no table; it fails its week."""


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
        with self._session() as session:
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
        with self._session() as session:
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
        of_week = _or_plain(together.filter(pl.col("session").is_in(days)))
        return SourceFile(f"http/ohlcv/{key}", _hash_of(of_week), of_week, tuple(days))

    def _read_week(self, session: "Session", key: str, days: list[date]) -> SourceFile:
        def check(frame: pl.DataFrame) -> None:
            if frame.schema.get("session") == pl.Date:
                strays = sorted(set(frame["session"].drop_nulls().to_list()) - set(days))
                if strays:
                    raise _MalformedAnswerError(f"session {strays[0]} was not asked for")

        query = {"timeframe": self.timeframe, "start": days[0].isoformat(), "end": days[-1].isoformat()}
        return self._file(session, "ohlcv", key, tuple(days), query, check)

    def _read_reference_week(self, session: "Session", table: str, week: str) -> SourceFile:
        first, last = parse_key(week), week_end(parse_key(week))

        def check(frame: pl.DataFrame) -> None:
            if isinstance(frame.schema.get("available_at"), pl.Datetime):
                days = frame["available_at"].dt.date().drop_nulls()
                strays = days.filter((days < first) | (days > last))
                if strays.len():
                    raise _MalformedAnswerError(f"`available_at` {strays.sort().to_list()[0]} was not asked for")

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
        except _MalformedAnswerError as e:
            where = f"{self.base_url.rstrip('/')}/{table} from {query['start']} to {query['end']}"
            return SourceFile(name, digest.hexdigest(), None, sessions, f"`{where}` must be a table, was not: {e}")

    def _pages(
        self, session: "Session", table: str, query: dict[str, str], note: Callable[[bytes], None]
    ) -> Iterator[pl.DataFrame]:
        n_bytes = 0
        for first in range(0, len(self.symbols), SYMBOLS_A_REQUEST):
            chosen = self.symbols[first : first + SYMBOLS_A_REQUEST]
            asked = {"symbols": ",".join(chosen), **query}
            cursors: set[str] = set()
            seen: set[str] = set()
            for n_page in range(1, MAX_PAGES + 2):
                if n_page > MAX_PAGES:
                    raise _MalformedAnswerError(f"it has more than {MAX_PAGES} pages; ask the service for larger ones")
                answer, payload = self._get(session, table, asked, MAX_BYTES - n_bytes)
                n_bytes += len(payload)
                note(payload)
                page, cursor = _parse(answer, payload, n_page)
                # By the rows: the address of the next page differs though the rows are the same.
                if page.height and (rows := _hash_of(page)) in seen:
                    raise _MalformedAnswerError(f"page {n_page} repeats an earlier one")
                if page.height:
                    seen.add(rows)
                yield page
                if cursor is None:
                    break
                if cursor in cursors:
                    raise _MalformedAnswerError(f"page {n_page} leads back to an earlier one")
                cursors.add(cursor)
                asked["cursor"] = cursor

    def _get(self, session: "Session", table: str, query: dict[str, str], n_left: int) -> tuple["Response", bytes]:
        """One answer of status 200, tried again after a short wait."""
        waits = [*WAITS_S]
        while True:
            try:
                return self._try(session, table, query, n_left)
            except MarketDataOutageError as e:
                if not waits or e.retry_after_s > LONGEST_WAIT_S:
                    raise
                time.sleep(max(waits.pop(0), e.retry_after_s))

    def _try(self, session: "Session", table: str, query: dict[str, str], n_left: int) -> tuple["Response", bytes]:
        import requests

        url = f"{self.base_url.rstrip('/')}/{table}"
        asked = f"GET {url} for {some_of(query['symbols'].split(','))} from {query['start']} to {query['end']}"
        began = time.monotonic()
        try:
            # A redirect would carry the key to wherever it points.
            with session.get(
                url,
                params=query,
                headers={"Accept": f"{PARQUET_TYPE}, {JSON_TYPE}"},
                timeout=(min(CONNECT_TIMEOUT_S, self.timeout_s), self.timeout_s),
                allow_redirects=False,
                stream=True,
            ) as answer:
                self._check_status(answer, asked)
                payload = bytearray()
                for piece in answer.iter_content(CHUNK_BYTES):
                    payload += piece
                    if len(payload) > n_left:
                        raise _MalformedAnswerError(f"it has more than {MAX_BYTES} bytes")
                    if time.monotonic() - began > TIMEOUTS_A_PAGE * self.timeout_s:
                        raise self._outage(asked, f"took longer than {TIMEOUTS_A_PAGE * self.timeout_s:g} s")
                return answer, bytes(payload)
        except requests.Timeout as e:
            raise self._outage(asked, f"timed out after {self.timeout_s:g} s") from e
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as e:
            raise self._outage(asked, f"broke off: {_reason(e)}") from e
        except requests.exceptions.ContentDecodingError as e:
            raise _MalformedAnswerError("it is not encoded as its header says") from e

    def _check_status(self, answer: "Response", asked: str) -> None:
        status = answer.status_code
        if status == 200:
            return
        if status >= 500 or status in PASSING_STATUS:
            raise self._outage(asked, f"was answered {status}", _retry_after_s(answer))
        remedy = REMEDIES.get(status, "see what the service says to it")
        if 300 <= status < 400:
            remedy = "set `base_url` to where the service is now"
        raise MarketDataRefusedError(f"`source` must answer {asked}, refused with {status}; {remedy}.")

    def _outage(self, asked: str, what: str, retry_after_s: float = 0.0) -> MarketDataOutageError:
        error = MarketDataOutageError(f"`source` must answer {asked}, {what}.")
        error.retry_after_s = retry_after_s
        return error

    def _session(self) -> "Session":
        import requests

        session = requests.Session()
        key = self._key()

        def authorise(request: "PreparedRequest") -> "PreparedRequest":
            if key:
                request.headers["Authorization"] = f"Bearer {key}"
            return request

        # Set even without a key: requests would look into ~/.netrc otherwise.
        session.auth = authorise
        return session

    def _key(self) -> str | None:
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env, "")
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise MarketDataRefusedError(
                f"`api_key_env` must name a variable that holds a key of printable characters, {self.api_key_env} holds none; set it."
            )
        return key


def _retry_after_s(answer: "Response") -> float:
    """Seconds that a service asks to be left alone for, as it says in seconds or by a date; 0 if it does not."""
    said = answer.headers.get("Retry-After", "").strip()
    if said.isdecimal():
        return float(said)
    try:
        wait_s = (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return 0.0
    return max(wait_s, 0.0)


def _reason(error: Exception) -> str:
    """The innermost cause in words: the outer ones repeat addresses and objects."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return (" ".join(str(cause).split()) or type(cause).__name__)[:200]


def _parse(answer: "Response", payload: bytes, n_page: int) -> tuple[pl.DataFrame, str | None]:
    """Rows of a page and where the next one is."""
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == PARQUET_TYPE:
        try:
            return parse_parquet(payload), _checked_cursor(answer.headers.get(CURSOR_HEADER) or None)
        except (OSError, ValueError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as e:
            raise _MalformedAnswerError(f"page {n_page} is no Parquet: {' '.join(str(e).split())[:200]}") from e
    if kind != JSON_TYPE:
        raise _MalformedAnswerError(
            f"page {n_page} must be {JSON_TYPE} or {PARQUET_TYPE}, was {kind[:60] or 'untyped'}"
        )
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError) as e:
        raise _MalformedAnswerError(f"page {n_page} is no JSON: {str(e)[:100]}") from e
    if not isinstance(body, dict) or not isinstance(rows := body.get("data"), list) or "next" not in body:
        raise _MalformedAnswerError(f'page {n_page} must be {{"data": [row, ...], "next": cursor or null}}')
    return _frame_of(rows, n_page), _checked_cursor(body["next"])


def _checked_cursor(cursor: Any) -> str | None:
    if cursor is not None and not (isinstance(cursor, str) and 0 < len(cursor) <= MAX_CURSOR_LENGTH):
        raise _MalformedAnswerError(f"`next` must be text of at most {MAX_CURSOR_LENGTH} characters or null")
    return cursor


def _frame_of(rows: list[Any], n_page: int) -> pl.DataFrame:
    if wrong := next((number for number, row in enumerate(rows, 1) if not isinstance(row, dict)), None):
        raise _MalformedAnswerError(f"page {n_page}: row {wrong} must be an object")
    names = list(dict.fromkeys(name for row in rows for name in row))
    if sparse := next((number for number, row in enumerate(rows, 1) if len(row) != len(names)), None):
        lacking = sorted(set(names) - set(rows[sparse - 1]))
        raise _MalformedAnswerError(
            f"page {n_page}: row {sparse} must have the columns of all rows, was without {lacking[:5]}"
        )
    return pl.DataFrame([_column_of(name, [row[name] for row in rows], n_page) for name in names])


def _column_of(name: str, values: list[Any], n_page: int) -> pl.Series:
    """A column of JSON values by the contract's name, else by what they are."""
    if name == "session":
        return pl.Series(name, _parsed(name, values, n_page, str, "a date YYYY-MM-DD", date.fromisoformat), pl.Date)
    if name in ("ts", "event_time", "available_at"):
        times = _parsed(name, values, n_page, str, "a time with an offset", _time_of)
        return pl.Series(name, times, pl.Datetime("us", "UTC"))
    if name not in SOURCE_SCHEMA and all(value is None for value in values):
        # Figures or text: another page may tell.
        return pl.Series(name, values, pl.Null)
    is_text = name == "symbol" or (name not in SOURCE_SCHEMA and any(isinstance(value, str) for value in values))
    if is_text:
        return pl.Series(name, _parsed(name, values, n_page, str, "text", str), pl.String)
    return pl.Series(name, _parsed(name, values, n_page, (int, float), "a number", float), pl.Float64)


def _parsed(
    name: str, values: list[Any], n_page: int, kind: Any, wanted: str, parse: Callable[[Any], Any]
) -> list[Any]:
    parsed = []
    for number, value in enumerate(values, 1):
        try:
            if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
                raise TypeError
            parsed.append(None if value is None else parse(value))
        except (TypeError, ValueError, OverflowError) as e:
            raise _MalformedAnswerError(
                f"page {n_page}: row {number}: `{name[:40]}` must be {wanted}, was {str(value)[:40]!r}"
            ) from e
    return parsed


def _time_of(text: str) -> datetime:
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        raise ValueError
    return parsed.astimezone(UTC)


def _joined(pages: list[pl.DataFrame]) -> pl.DataFrame:
    try:
        joined = pl.concat(pages, how="vertical_relaxed")
        return joined.with_columns(pl.selectors.by_dtype(pl.Null).cast(pl.Float64))
    except pl.exceptions.PolarsError as e:
        raise _MalformedAnswerError(f"its pages must have the same columns: {' '.join(str(e).split())[:200]}") from e


def _is_dated(bars: pl.DataFrame) -> bool:
    """Whether each row names its session, by which it is told whose week it is."""
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
        raise _MalformedAnswerError(f"its columns must hold text, numbers, dates or times: {str(e)[:200]}") from e
