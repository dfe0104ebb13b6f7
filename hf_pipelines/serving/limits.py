"""Limits: how much, and how slowly, a client may send to the web server, and how slowly it may read.

Lives here: sizes and times of requests and answers, and the refusal that a client gets. Does not live here: what a
request may ask for (`webserver`).

| what | limit |
|---|---|
| a line and headers of a request | 64 kB, complete within 10 s |
| the body of a POST | 5 MB, complete within 30 s; read whole before it is processed |
| a message of a websocket | 5 MB |
| a piece of an answer | taken within 60 s |
| connections at a time | 300, the others get 503 |

Whatever is beyond is refused without being held in memory. Headers that are late are no requests: their connection is
closed without an answer.
"""

import asyncio
import logging
from typing import Any

import h11
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

LOG = logging.getLogger(__name__)

# A backfill over all weeks of fifty years names 35 kB of partitions.
MAX_BODY_BYTES = 5_000_000
MAX_HEAD_BYTES = 65_536
MAX_CONNECTIONS = 300

HEAD_S = 10.0
BODY_S = 30.0
SEND_S = 60.0


class RefusedError(Exception):
    """A request that is not let through, and the HTTP status that says so."""

    def __init__(self, status: int, message: str, *, is_read: bool = True) -> None:
        super().__init__(message)
        self.status = status
        self.is_read = is_read

    def response(self) -> JSONResponse:
        """Answer in the form of a GraphQL error, whose message the UI shows; the log keeps it too."""
        LOG.warning("refused: %s", self)
        # What was not read would be taken for the next request.
        headers = {} if self.is_read else {"Connection": "close"}
        return JSONResponse({"errors": [{"message": str(self)}]}, self.status, headers)


async def read_body(request: Request, receive: Receive) -> bytes:
    """Body of a request, whole.

    Raises
    ------
    RefusedError
        If it is longer, or comes more slowly, than it may.
    ClientDisconnect
    """
    announced = request.headers.get("content-length", "0")
    # The server has refused what is no number.
    _check_size(int(announced))
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                _check_size(len(body) + len(message.get("body", b"")))
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError as e:
        rule = f"`body` must come within {BODY_S:.0f} s, was at {len(body)} bytes by then."
        raise RefusedError(408, rule, is_read=False) from e


def _check_size(n_bytes: int) -> None:
    if n_bytes > MAX_BODY_BYTES:
        rule = f"`body` must have at most {MAX_BODY_BYTES} bytes, had {n_bytes} or more."
        raise RefusedError(413, rule, is_read=False)


def taken_in_time(send: Send) -> Send:
    """Answers whose reader is given up when it takes a piece of one too slowly."""

    async def answer(message: Message) -> None:
        async with asyncio.timeout(SEND_S):
            await send(message)

    return answer


class BoundedProtocol(H11Protocol):
    """HTTP of uvicorn that closes a connection on which the head of a request does not come in time."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_there()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        # Between two requests uvicorn has a timer of its own, which the first byte ends.
        if self.conn.their_state is h11.IDLE:
            self._await_head()
        else:
            self._head_is_there()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._head_is_there()
        super().handle_websocket_upgrade(event)

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_S, self._give_up)

    def _head_is_there(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing() and self.conn.their_state is h11.IDLE:
            LOG.warning("closed: the head of a request did not come within %.0f s", HEAD_S)
            self.transport.abort()


def uvicorn_limits() -> dict[str, Any]:
    """What uvicorn itself limits."""
    return {
        "http": BoundedProtocol,
        "h11_max_incomplete_event_size": MAX_HEAD_BYTES,
        "limit_concurrency": MAX_CONNECTIONS,
        "ws_max_size": MAX_BODY_BYTES,
    }
