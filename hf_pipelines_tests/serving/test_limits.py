"""Limits of the guarded web server over real sockets: what is too much or too slow is refused, and nobody works on it."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from hf_pipelines.serving import limits
from hf_pipelines.serving.limits import MAX_BODY_BYTES, MAX_HEAD_BYTES, uvicorn_limits
from hf_pipelines.serving.webserver import LOCAL_HOSTS, Guard
from hf_pipelines_tests.servers import wait_until

WAIT_S = 60.0
POST = "POST /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


@dataclass
class Serving:
    """A guarded application that echoes what it gets, and what it has got."""

    port: int = 0
    server: uvicorn.Server | None = None
    bodies: list[int] = field(default_factory=list)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        self.bodies.append(len(body))
        answer = PlainTextResponse(b"x" * 50_000_000 if scope["path"] == "/large" else body)
        await answer(scope, receive, send)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S)

    def answer_to(self, *parts: bytes) -> tuple[int, str]:
        """Status and text of the answer to a request that is sent whole."""
        with self.connect() as connection:
            for part in parts:
                connection.sendall(part)
            return read(connection)


def read(connection: socket.socket) -> tuple[int, str]:
    """Status and text of an answer; status 0 where the connection was closed without one."""
    got = b""
    try:
        while b"\r\n\r\n" not in got or len(got) < got.index(b"\r\n\r\n") + 4 + length_of(got):
            if not (more := connection.recv(65536)):
                break
            got += more
    except ConnectionResetError:
        pass
    head, _, text = got.decode().partition("\r\n\r\n")
    return int(head.split()[1]) if head else 0, text


def length_of(got: bytes) -> int:
    head = got.partition(b"\r\n\r\n")[0].decode().lower()
    return int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)


@pytest.fixture
def serving() -> Iterator[Serving]:
    made = Serving()
    server = made.server = uvicorn.Server(
        uvicorn.Config(
            Guard(made.app, hosts=LOCAL_HOSTS),
            port=0,
            log_level="error",
            lifespan="off",
            timeout_graceful_shutdown=1,
            **uvicorn_limits(),
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, "server", timeout_s=WAIT_S)
    made.port = server.servers[0].sockets[0].getsockname()[1]
    yield made
    server.should_exit = True
    thread.join(WAIT_S)


def message(text: str) -> str:
    return str(json.loads(text)["errors"][0]["message"])


def chunked(n_bytes: int) -> bytes:
    return b"%x\r\n" % n_bytes + b"x" * n_bytes + b"\r\n"


def test_body_up_to_the_limit_reaches_the_application_in_one_piece_and_in_chunks(serving: Serving) -> None:
    most = b"x" * MAX_BODY_BYTES
    status, text = serving.answer_to(f"{POST}Content-Length: {MAX_BODY_BYTES}\r\n\r\n".encode(), most)
    assert (status, len(text)) == (200, MAX_BODY_BYTES)
    parts = [chunked(MAX_BODY_BYTES // 5)] * 5
    assert serving.answer_to(f"{POST}Transfer-Encoding: chunked\r\n\r\n".encode(), *parts, b"0\r\n\r\n")[0] == 200
    assert serving.bodies == [MAX_BODY_BYTES] * 2


def test_body_of_600_mb_is_refused_before_it_is_sent_and_neither_kept_nor_echoed(serving: Serving) -> None:
    status, text = serving.answer_to(f"{POST}Content-Length: 600000000\r\n\r\n".encode())
    assert (status, message(text)) == (413, "`body` must have at most 5000000 bytes, had 600000000 or more.")
    # Of which it does not say how long it is.
    with serving.connect() as connection:
        connection.sendall(f"{POST}Transfer-Encoding: chunked\r\n\r\n".encode())
        n_sent = 0
        with pytest.raises(OSError):
            while n_sent < 600_000_000:
                connection.sendall(chunked(1_000_000))
                n_sent += 1_000_000
        # What lies in the buffers of the sockets was sent, too.
        assert n_sent < 60_000_000
    assert serving.bodies == []


def test_head_that_is_too_long_is_refused(serving: Serving) -> None:
    filler = b"X-Filler: " + b"x" * 1000 + b"\r\n"
    with serving.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        try:
            for _ in range(40 * MAX_HEAD_BYTES // len(filler)):
                connection.sendall(filler)
        except OSError:
            pass
        assert read(connection)[0] in (0, 400)
    assert serving.bodies == []


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET / HTTP/1.1\r\n", id="half a head"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET", id="half a head after an answer"),
    ],
)
def test_head_that_comes_too_slowly_is_given_up(
    serving: Serving, first: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEAD_S", 0.5)
    with serving.connect() as connection:
        connection.sendall(first)
        began, n_bytes = time.monotonic(), 0
        try:
            # A byte now and then does not prolong it.
            while time.monotonic() - began < WAIT_S:
                connection.sendall(b"X" if first else b"")
                n_bytes += 1
                connection.settimeout(0.1)
                try:
                    if connection.recv(65536) == b"":
                        break
                except TimeoutError:
                    continue
        except OSError:
            pass
        assert time.monotonic() - began < WAIT_S


def test_body_that_comes_too_slowly_is_refused(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_S", 0.5)
    status, text = serving.answer_to(f"{POST}Content-Length: 100\r\n\r\n".encode(), b"{")
    assert (status, message(text)) == (408, "`body` must come within 0 s, was at 1 bytes by then.")
    assert serving.bodies == []


def test_answer_that_nobody_takes_is_given_up(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SEND_S", 0.5)
    with serving.connect() as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        wait_until(lambda: bool(serving.bodies), "answer", timeout_s=WAIT_S)
        assert serving.server is not None
        state = serving.server.server_state
        wait_until(lambda: not state.tasks, "end of the answer", timeout_s=WAIT_S)
        # Others are served after it.
        assert serving.answer_to(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")[0] == 200


def test_limits_apply_to_requests_that_other_rules_refuse(serving: Serving) -> None:
    # A foreign page's request is refused before any of its body is read.
    foreign = POST.replace("127.0.0.1", "evil.example")
    status, text = serving.answer_to(f"{foreign}Content-Length: 600000000\r\n\r\n".encode())
    assert (status, message(text)[:20]) == (403, "`Host` must be one o")
