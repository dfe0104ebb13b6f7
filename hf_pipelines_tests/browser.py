"""Browser: the real web UI and daemon, and a Chromium page that looks at them as an operator does.

Lives here: starting and stopping both, and the few clicks that tests and screenshots share. Does not live here: what is
asserted (`test_browser`).
"""

import json
import os
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from hf_pipelines_tests.checkout import FAULT_INJECTION, REPOSITORY
from hf_pipelines_tests.servers import free_port, serving

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


# What a page may take to show what is looked for.
PAGE_S = 120.0


@dataclass(frozen=True)
class WebServer:
    """A running `hfp ui`: its address, and the folder whose pipeline it shows."""

    url: str
    data_dir: Path


@contextmanager
def web_server(data_dir: Path, code: Path = REPOSITORY) -> Iterator[WebServer]:
    """`hfp ui` of some code on a free port of 127.0.0.1, ready to launch runs; everything it starts is stopped at the end."""
    server = WebServer(f"http://127.0.0.1:{free_port()}", data_dir)
    command = [sys.executable, "-m", "hf_pipelines.commands.cli", "ui", "--port", server.url.rsplit(":", 1)[1]]
    environment = {
        "HF_DATA_DIR": str(data_dir),
        "HF_STORAGE_URI": str(data_dir / "storage"),
        "HF_MLFLOW_URI": f"sqlite:///{data_dir / 'mlflow.db'}",
        "HF_POSTGRES_URL": "",
        "DAGSTER_HOME": str(data_dir / "dagster_home"),
        "PYTHONPATH": os.pathsep.join([f"{FAULT_INJECTION}", f"{code}", f"{REPOSITORY}"]),
    }
    with serving(command, log=data_dir / "ui.log", is_ready=lambda: _is_loaded(server), env=environment, cwd=data_dir):
        yield server


def _is_loaded(server: WebServer) -> bool:
    """Whether the web server answers and has loaded the code location."""
    question = {"query": "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"}
    request = urllib.request.Request(
        f"{server.url}/graphql", json.dumps(question).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bool(json.load(answer)["data"]["repositoriesOrError"].get("nodes"))
    except OSError:
        return False


@contextmanager
def browser_page(*, width: int = 1440, height: int = 900, arguments: Sequence[str] = ()) -> Iterator[Page]:
    """A page of a fresh Chromium, started with further `arguments`, closed at the end."""
    with sync_playwright() as playwright, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=CHROMIUM,
            headless=True,
            args=[*CHROMIUM_ARGUMENTS, *arguments],
            viewport={"width": width, "height": height},
        )
        # For a machine that is four times slower: what is there at once is not waited for.
        context.set_default_timeout(PAGE_S * 1000)
        expect.set_options(timeout=PAGE_S * 1000)
        try:
            yield context.pages[0]
        finally:
            context.close()


def materialize(page: Page, server: WebServer, asset: str, partition: str) -> None:
    """Press Materialize on the page of an asset, choose one partition, launch, and go to the run's page."""
    page.goto(f"{server.url}/assets/{asset}")
    page.get_by_role("button", name="Materialize").first.click()
    chosen = page.get_by_placeholder("ex: ")
    chosen.fill(partition)
    chosen.press("Tab")
    page.get_by_role("button", name="Launch 1 run").click()
    # The toast "Launched run ..." has the only control called exactly View.
    page.get_by_text("View", exact=True).click()
    page.wait_for_url("**/runs/*")
