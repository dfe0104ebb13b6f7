"""Web UIs: the guarded UI, its viewer mode and Dagster's plain web server, as processes over one small instance.

Lives here: starting them over one code server, and the requests that tests send. Does not live here: what is asserted
(`test_webserver`, `test_hostile_page`). No daemon runs: a run that is launched stays queued, and is there.
"""

import http.client
import json
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from hf_pipelines_tests.checkout import REPOSITORY, Checkout
from hf_pipelines_tests.running import LAUNCH, LOADED, RUNS, Running
from hf_pipelines_tests.servers import Server, answers, free_port, serving, wait_until

JSON = {"Content-Type": "application/json"}
WEEK = "2013-02-24"
START_S = 120.0
GUARDED = [sys.executable, "-m", "hf_pipelines.serving.webserver"]
PLAIN = [sys.executable, "-m", "dagster_webserver"]
# The name under which the guarded UI may be reached besides this machine's own names.
ALLOWED_NAME = "ui.example"


@dataclass(frozen=True)
class Answer:
    """Status, headers and text of an HTTP answer."""

    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def message(self) -> str:
        """What the guard says; "" for anything else than its answer."""
        errors = json.loads(self.text).get("errors") if self.text.startswith("{") else None
        return str(errors[0]["message"]) if errors else ""


@dataclass(frozen=True)
class WebUI:
    """A web server on a port of 127.0.0.1."""

    port: int
    log: Path = field(repr=False)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def request(
        self, method: str, path: str, body: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Answer to exactly these headers; `Host` is the server's own unless given."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in ({"Host": self.host} | dict(headers or {})).items():
                connection.putheader(name, value)
            content = body.encode() if body is not None else None
            if content is not None:
                connection.putheader("Content-Length", str(len(content)))
            connection.endheaders(content)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read().decode(errors="replace"))
        finally:
            connection.close()

    def post(self, query: str, headers: Mapping[str, str] | None = None, **variables: Any) -> Answer:
        """A GraphQL question as the UI's own page sends it, with other headers over its own."""
        own = JSON | {"Origin": self.url, "Sec-Fetch-Site": "same-origin"}
        return self.request(
            "POST", "/graphql", json.dumps({"query": query, "variables": variables}), own | dict(headers or {})
        )

    def graphql(self, query: str, **variables: Any) -> Any:
        """Data of an answer that must be one."""
        answer = self.post(query, **variables)
        assert answer.status == 200, answer.text
        return json.loads(answer.text)["data"]

    def websocket(self, *, host: str = "127.0.0.1", origin: str | None = "own") -> ClientConnection:
        """A connection as the UI's own page opens it, unless told otherwise; `host` is a name for this machine."""
        return connect(
            f"ws://{host}:{self.port}/graphql",
            origin=f"http://{host}:{self.port}" if origin == "own" else origin,
            subprotocols=["graphql-ws"],
            proxy=None,
            # Whatever the name, the server is here.
            sock=socket.create_connection(("127.0.0.1", self.port), timeout=60),
        )

    def n_runs(self, attack: str) -> int:
        """Number of runs whose tag `attack` is this one."""
        wanted = {"tags": [{"key": "attack", "value": attack}]}
        return len(self.graphql(RUNS, filter=wanted, limit=100)["runsOrError"]["results"])

    def has_loaded(self) -> bool:
        return answers(self.url) and bool(self.graphql(LOADED)["repositoriesOrError"].get("nodes"))


def launch_params(attack: str) -> dict[str, Any]:
    """Variables of a launch of one week of bars, tagged."""
    return {
        "params": {
            "selector": {
                "repositoryLocationName": "hf_pipelines",
                "repositoryName": "__repository__",
                "pipelineName": "__ASSET_JOB",
                "assetSelection": [{"path": ["us_tech", "bars"]}],
            },
            "mode": "default",
            "executionMetadata": {
                "tags": [{"key": "dagster/partition", "value": WEEK}, {"key": "attack", "value": attack}]
            },
        }
    }


def launch_document(attack: str) -> str:
    """The same launch as one document without variables: what fits into an address."""
    tags = f'[{{key: "dagster/partition", value: "{WEEK}"}}, {{key: "attack", value: "{attack}"}}]'
    selector = """{repositoryLocationName: "hf_pipelines", repositoryName: "__repository__",
      pipelineName: "__ASSET_JOB", assetSelection: [{path: ["us_tech", "bars"]}]}"""
    params = f'{{selector: {selector}, mode: "default", executionMetadata: {{tags: {tags}}}}}'
    return f"mutation {{ launchPipelineExecution(executionParams: {params}) {{ __typename }} }}"


def launch_body(attack: str) -> str:
    """The same launch as the body of a POST."""
    return json.dumps({"query": LAUNCH, "variables": launch_params(attack)})


@dataclass(frozen=True)
class WebUIs:
    """One instance, three web servers over it."""

    guarded: WebUI
    viewer: WebUI
    plain: WebUI


@contextmanager
def web_uis(folder: Path) -> Iterator[WebUIs]:
    """The repository's own definitions behind all three; stopped at the end."""
    services = Running(Checkout(REPOSITORY, folder / "data"), folder)
    try:
        services.start("code_server")
        commands = ([*GUARDED, "--allowed-host", ALLOWED_NAME], [*GUARDED, "--read-only"], PLAIN)
        with ExitStack() as stack:
            # Started and stopped at the same time: either takes each of them seconds.
            started = [stack.enter_context(_ui(services, command)) for command in commands]
            for ui, _ in started:
                wait_until(ui.has_loaded, f"definitions behind {ui}", timeout_s=START_S)
            guarded, viewer, plain = (ui for ui, _ in started)
            yield WebUIs(guarded, viewer, plain)
            for _, server in started:
                server.process.terminate()
    finally:
        services.stop()


@contextmanager
def _ui(services: Running, command: Sequence[str]) -> Iterator[tuple[WebUI, Server]]:
    """A web server that has been started, ready or not."""
    port = free_port()
    ui = WebUI(port, services.folder / f"ui_{port}.log")
    options = ["--host", "127.0.0.1", "--port", str(port), "--workspace", str(services.folder / "workspace.yaml")]
    with serving([*command, *options], log=ui.log, is_ready=lambda: True, env=services.env, cwd=REPOSITORY) as server:
        yield ui, server
