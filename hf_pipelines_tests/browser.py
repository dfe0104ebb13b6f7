"""Browser: the real web UI and daemon, and a Chromium page that looks at them as an operator does.

Lives here: starting and stopping both, and the few clicks that tests and screenshots share. Does not live here: what is
asserted (`test_browser`).
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from playwright.sync_api import Page, sync_playwright

PROJECT = Path(__file__).resolve().parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# No request leaves the machine, and a sandbox is not available to root.
CHROMIUM_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# Loading the code location and the first page take a few seconds on a quiet machine.
STARTUP_S = 60.0
STOP_S = 15.0
POLL_S = 0.2

Answer = TypeVar("Answer")


def wait_for(look: Callable[[], Answer | None], *, what: str, timeout_s: float) -> Answer:
    """What `look` answers once it answers something true.

    Raises
    ------
    TimeoutError
        If it never does within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        if answer := look():
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"`{what}` must happen within {timeout_s:.0f} s, did not.")
        time.sleep(POLL_S)


@dataclass(frozen=True)
class WebServer:
    """A running `hfp ui`: its address, and the folder whose pipeline it shows."""

    url: str
    data_dir: Path
    log: Path

    def query(self, text: str, **variables: Any) -> dict[str, Any]:
        """Answer of the web server's GraphQL endpoint, which the UI itself asks."""
        body = json.dumps({"query": text, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return dict(json.load(answer)["data"])

    def is_ready(self) -> bool:
        """Whether the code location is loaded."""
        try:
            answer = self.query("{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        return bool(answer["repositoriesOrError"].get("nodes"))


@contextmanager
def web_server(data_dir: Path) -> Iterator[WebServer]:
    """`hfp ui` on a free port of 127.0.0.1, with everything it starts stopped at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data_dir.mkdir(parents=True, exist_ok=True)
    log = data_dir / "ui.log"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("DAGSTER", "HF_"))}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "hf_pipelines.cli", "ui", "--port", str(port)],
            cwd=PROJECT,
            env=environment | {"HF_DATA_DIR": str(data_dir)},
            stdout=output,
            stderr=subprocess.STDOUT,
            # Its own group: the webserver, the daemon and the code server are stopped with it.
            start_new_session=True,
        )
    server = WebServer(f"http://127.0.0.1:{port}", data_dir, log)
    try:
        wait_for(server.is_ready, what=f"web UI, see {log}", timeout_s=STARTUP_S)
        yield server
    finally:
        _stop_group(process)


def _stop_group(process: "subprocess.Popen[bytes]") -> None:
    """Ask a process group to end as Ctrl-C does, then end what is left of it."""
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            wait_for(lambda: _is_gone(process), what="end of the web UI", timeout_s=STOP_S)
            break
        except TimeoutError:
            continue
    process.wait(timeout=STOP_S)


def _is_gone(process: "subprocess.Popen[bytes]") -> bool:
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


@contextmanager
def browser_page(*, width: int = 1440, height: int = 900) -> Iterator[Page]:
    """A page of a fresh Chromium, closed at the end."""
    with sync_playwright() as playwright, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=CHROMIUM,
            headless=True,
            args=CHROMIUM_ARGUMENTS,
            viewport={"width": width, "height": height},
        )
        try:
            yield context.pages[0]
        finally:
            context.close()
