"""Faulty S3: a proxy in front of an S3 server, as a process of its own, that answers badly when a test says so.

Lives here: the proxy (`python -m hf_pipelines_tests.faulty_s3 <port> <control port> <upstream>`), and `Faulty`, by which
a test plants faults, heals them and counts what was asked. Does not live here: the S3 server (`servers`). It speaks
plain HTTP, and stands in front of an MLflow server just as well.

A fault that cuts a PUT short never reaches the server behind: S3 stores no object whose announced length did not come.
"""

import http.client
import json
import re
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from hf_pipelines_tests.servers import S3, answers, free_port, serving

# Not imported: the proxy is to start in no time.
REPOSITORY = Path(__file__).resolve().parents[1]

FOREVER = 10**9
ERROR_CODES = {403: "AccessDenied", 500: "InternalError", 503: "SlowDown"}
HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}


@dataclass(frozen=True)
class Fault:
    """What the proxy does to requests that match.

    Attributes
    ----------
    method : str
        "PUT", "GET", "HEAD", or "*" for any.
    key : str
        Regular expression that is searched in the decoded path and query, such as `/bars/2013-02-24`.
    status : int or None
        Answer this at once, without asking the server.
    delay_s : float
        Wait before doing anything else.
    cut : str or None
        "connection": close without an answer; "request": close after half of the request's body; "response": close after
        half of the answer's body; "answer": the server does what it was asked, and its answer is lost.
    times : int
        How many requests it strikes.
    skip : int
        How many matching requests it lets pass before.
    """

    method: str = "*"
    key: str = ""
    status: int | None = None
    delay_s: float = 0.0
    cut: str | None = None
    times: int = FOREVER
    skip: int = 0

    def matches(self, method: str, path: str) -> bool:
        return self.method in ("*", method) and re.search(self.key, path) is not None


@dataclass
class _State:
    upstream: str
    faults: list[Fault] = field(default_factory=list)
    is_refusing: bool = False
    log: list[list[Any]] = field(default_factory=list)
    # How often the log was forgotten: a request that began before is of who asked then.
    era: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def strike(self, method: str, path: str) -> Fault | None:
        """The first fault that matches and is not used up; it is used once."""
        with self.lock:
            for number, fault in enumerate(self.faults):
                if not fault.times or not fault.matches(method, path):
                    continue
                if fault.skip:
                    self.faults[number] = replace(fault, skip=fault.skip - 1)
                    continue
                self.faults[number] = replace(fault, times=fault.times - 1)
                return fault
        return None

    def note(self, era: int, method: str, path: str, what: int | str) -> None:
        with self.lock:
            if era == self.era:
                self.log.append([method, path, what])


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: _State

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing: the test asks for the log."""

    def _serve(self) -> None:
        state, path, era = self.state, unquote(self.path), self.state.era
        fault = Fault(cut="connection") if state.is_refusing else state.strike(self.command, path) or Fault()
        length = int(self.headers.get("Content-Length") or 0)
        time.sleep(fault.delay_s)
        body = self.rfile.read(length // 2 if fault.cut == "request" else length)
        if fault.status is not None:
            state.note(era, self.command, path, fault.status)
            self._answer(fault.status, {"Content-Type": "application/xml"}, self._error(fault.status))
            return
        if fault.cut in ("connection", "request"):
            state.note(era, self.command, path, f"cut {fault.cut}")
            self._drop()
            return
        status, headers, answer = self._ask(body)
        state.note(era, self.command, path, f"cut {fault.cut}" if fault.cut else status)
        if fault.cut != "answer":
            self._answer(status, headers, answer, n_bytes=len(answer) // 2 if fault.cut else None)
        if fault.cut:
            self._drop()

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _serve  # noqa: N815

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        address = urlsplit(self.state.upstream)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            response = connection.getresponse()
            headers = {name: value for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP}
            if self.command == "HEAD" and (length := response.getheader("Content-Length")):
                headers["Content-Length"] = length
            return response.status, headers, response.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes, n_bytes: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:n_bytes])

    def _drop(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _error(self, status: int) -> bytes:
        code = ERROR_CODES.get(status, "Error")
        return f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>planted</Message></Error>'.encode()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is part of the game."""


class _Control(BaseHTTPRequestHandler):
    switch: "_Switch"

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:  # noqa: N802
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = json.dumps(self.switch.obey(order)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(found)))
        self.end_headers()
        self.wfile.write(found)


class _Switch:
    """Obeys the test: faults, refusing connections, and the log of requests."""

    def __init__(self, port: int, upstream: str) -> None:
        self.port = port
        self.state = _State(upstream)
        self.handler = type("Proxy", (_Proxy,), {"state": self.state})
        self.listener: _Listener | None = None
        self.lock = threading.Lock()
        self._open()

    def obey(self, order: dict[str, Any]) -> Any:
        with self.lock:
            if "faults" in order:
                with self.state.lock:
                    self.state.faults = [Fault(**each) for each in order["faults"]]
            if order.get("refuse") is True:
                self._close()
                if seconds := order.get("for_s"):
                    threading.Timer(seconds, self.obey, [{"refuse": False}]).start()
            if order.get("refuse") is False:
                self._open()
            with self.state.lock:
                found = list(self.state.log)
                if order.get("forget"):
                    self.state.log.clear()
                    self.state.era += 1
            return found

    def _open(self) -> None:
        self.state.is_refusing = False
        if self.listener is None:
            self.listener = _Listener(("127.0.0.1", self.port), self.handler)
            threading.Thread(target=self.listener.serve_forever, args=(0.02,), daemon=True).start()

    def _close(self) -> None:
        self.state.is_refusing = True
        if self.listener is not None:
            self.listener.shutdown()
            self.listener.server_close()
            self.listener = None


@dataclass(frozen=True)
class Faulty:
    """An HTTP server behind a proxy that breaks when told to.

    Attributes
    ----------
    endpoint : str
        Its address through the proxy.
    control : str
        Address of the switch.
    """

    endpoint: str
    control: str

    def plant(self, *faults: Fault) -> None:
        """Replace the faults by these, and accept connections."""
        self._order({"faults": [asdict(each) for each in faults], "refuse": False})

    def heal(self) -> None:
        self.plant()

    def refuse(self, for_s: float | None = None) -> None:
        """Close the port and every connection, for some seconds or until the next `plant`; forgets the faults."""
        self._order({"faults": [], "refuse": True, "for_s": for_s})

    def requests(self, method: str = "*", key: str = "") -> list[int | str]:
        """What became of each request that matches, in order: the status, or how it was cut."""
        wanted = Fault(method, key)
        return [what for made, path, what in self._order({}) if wanted.matches(made, path)]

    def forget(self) -> None:
        """Begin counting anew."""
        self._order({"forget": True})

    def _order(self, order: dict[str, Any]) -> Any:
        request = urllib.request.Request(self.control, json.dumps(order).encode())
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


@contextmanager
def faulty(upstream: str, folder: Path) -> Iterator[Faulty]:
    """Run the proxy in front of an HTTP server until the block ends."""
    port, control = free_port(), free_port()
    command = [sys.executable, "-m", "hf_pipelines_tests.faulty_s3", str(port), str(control), upstream]
    endpoint = f"http://127.0.0.1:{port}"
    with serving(command, log=folder / "faulty.log", is_ready=lambda: answers(endpoint), cwd=REPOSITORY):
        proxy = Faulty(endpoint, f"http://127.0.0.1:{control}")
        proxy.forget()
        yield proxy


def through(proxy: Faulty, s3: S3) -> S3:
    """The same bucket, reached through the proxy."""
    return S3(proxy.endpoint, s3.bucket, {**s3.env, "HF_S3_ENDPOINT": proxy.endpoint})


def main(port: int, control: int, upstream: str) -> None:
    handler = type("Control", (_Control,), {})
    # It accepts before the proxy does, whose first answer says that both are ready.
    server = ThreadingHTTPServer(("127.0.0.1", control), handler)
    handler.switch = _Switch(port, upstream)
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
