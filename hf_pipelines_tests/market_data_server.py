"""Reference server of the contract of source `http`, over a real socket, that can be told to fail in every known way.

Lives here: a market data service as `resources.market_data.http` describes it, and its faults. Does not live here: what
the pipeline makes of them (the tests).
"""

import io
import json
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import polars as pl

TABLES = ("ohlcv", "fundamentals", "insider_trades", "short_interest", "news")
PARQUET_TYPE = "application/vnd.apache.parquet"


@dataclass
class MarketDataServer:
    """What the service holds, how it answers, and what it was asked.

    Attributes
    ----------
    tables : mapping of name to DataFrame
        `ohlcv` under the bars contract; the others with symbol and available_at.
    page_rows : int
        Rows of one page.
    is_parquet : bool
        Pages are Parquet instead of JSON.
    key : str or None
        Without it requests are refused with 401.
    faults : list
        Each answers one request instead of the truth, in this order: a status code; (status, Retry-After); or one of
        reset, hang, short, truncated, html, list, text_price, naive_ts, empty. The last one stays if `is_lasting`.
    cursors : mapping of page number to cursor
        Lies about where the next page is: {2: "1"} leads from page 2 back to page 1.
    requests : list of dict
        Path, query and headers of each request.
    """

    tables: Mapping[str, pl.DataFrame]
    page_rows: int = 1000
    is_parquet: bool = False
    key: str | None = None
    faults: list[Any] = field(default_factory=list)
    is_lasting: bool = False
    cursors: Mapping[int, str] = field(default_factory=dict)
    repeats_pages: bool = False
    requests: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def take_fault(self) -> Any:
        if not self.faults:
            return None
        return self.faults[0] if self.is_lasting and len(self.faults) == 1 else self.faults.pop(0)

    def rows(self, table: str, query: Mapping[str, str]) -> pl.DataFrame:
        held = self.tables[table]
        first, last = date.fromisoformat(query["start"]), date.fromisoformat(query["end"])
        day = pl.col("session") if table == "ohlcv" else pl.col("available_at").dt.date()
        return held.filter(pl.col("symbol").is_in(query["symbols"].split(",")), day.is_between(first, last))


@contextmanager
def serving(server: MarketDataServer) -> Iterator[MarketDataServer]:
    """Answer on a free port of 127.0.0.1 until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(self, server)

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()


def _answer(handler: BaseHTTPRequestHandler, server: MarketDataServer) -> None:
    parts = urlsplit(handler.path)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    server.requests.append({"path": parts.path, "query": query, "headers": dict(handler.headers)})
    fault = server.take_fault()
    if fault == "reset":
        # Closed with a reset instead of an end.
        handler.connection.setsockopt(1, 13, struct.pack("ii", 1, 0))
        handler.close_connection = True
        return
    if fault == "hang":
        time.sleep(1.0)
        return
    if isinstance(fault, int | tuple):
        status, wait = fault if isinstance(fault, tuple) else (fault, None)
        _send(handler, b"{}", status=status, headers={"Retry-After": str(wait)} if wait else {})
        return
    table = parts.path.removeprefix("/v1/")
    if server.key and handler.headers.get("Authorization") != f"Bearer {server.key}":
        _send(handler, b"{}", status=401)
    elif table not in server.tables:
        _send(handler, b"{}", status=404)
    else:
        _send_page(handler, server, table, query, fault)


def _send_page(
    handler: BaseHTTPRequestHandler, server: MarketDataServer, table: str, query: Mapping[str, str], fault: Any
) -> None:
    number = int(query.get("cursor", "0"))
    rows = server.rows(table, query)
    start = 0 if server.repeats_pages else number * server.page_rows
    page = rows[start : start + server.page_rows]
    is_last = (number + 1) * server.page_rows >= rows.height
    cursor = server.cursors.get(number, None if is_last else str(number + 1))
    if fault == "empty":
        page, cursor = page.clear(), None
    if server.is_parquet:
        buffer = io.BytesIO()
        page.write_parquet(buffer)
        payload, headers = buffer.getvalue(), {"X-Next-Cursor": cursor} if cursor else {}
        _send(handler, payload[:50] if fault == "truncated" else payload, kind=PARQUET_TYPE, headers=headers)
        return
    data = [{name: _plain(value) for name, value in row.items()} for row in page.iter_rows(named=True)]
    if fault == "text_price":
        data[0]["close"] = "12.5 USD"
    if fault == "naive_ts":
        data[0]["ts"] = "2013-02-25T21:00:00"
    body: Any = data if fault == "list" else {"data": data, "next": cursor}
    payload = json.dumps(body).encode()
    if fault == "truncated":
        payload = payload[: len(payload) // 2]
    if fault == "html":
        _send(handler, b"<html>Sign in</html>", kind="text/html; charset=utf-8")
    else:
        # "short": the connection ends before as many bytes as were promised.
        _send(handler, payload, promised=len(payload) + 100 if fault == "short" else None)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else value


def _send(
    handler: BaseHTTPRequestHandler,
    payload: bytes,
    *,
    status: int = 200,
    kind: str = "application/json",
    headers: Mapping[str, str] | None = None,
    promised: int | None = None,
) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(promised or len(payload)))
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(payload)
