"""The guarded web UI: every rule both ways, over real sockets, beside Dagster's plain web server.

What a refused request would have done is shown by sending it to the plain server: there it starts a run.
"""

import asyncio
import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from hf_pipelines.serving.webserver import LOCAL_HOSTS, Guard, main
from hf_pipelines_tests.checkout import REPOSITORY
from hf_pipelines_tests.running import LAUNCH
from hf_pipelines_tests.servers import answers, free_port, serving, wait_until
from hf_pipelines_tests.web_uis import (
    ALLOWED_NAME,
    GUARDED,
    JSON,
    START_S,
    Answer,
    WebUI,
    WebUIs,
    launch_body,
    launch_document,
    launch_params,
)

# One worker of pytest-xdist has the servers.
pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("web_uis")]

EVIL = "http://evil.example"
CROSS_SITE = {"Sec-Fetch-Site": "cross-site"}
LINK = CROSS_SITE | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
FRAME = CROSS_SITE | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
IMAGE = CROSS_SITE | {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}

QUERY = '{"query": "{ version }"}'
RECV_S = 60.0

MUTATIONS = "{ __schema { mutationType { fields { name } } } }"
PERMISSIONS = "{ permissions { permission value } }"
RUN_EVENTS = """
subscription Events($id: ID!) {
  pipelineRunLogs(runId: $id) {
    __typename
    ... on PipelineRunLogsSubscriptionSuccess { run { runId } messages { ... on MessageEvent { eventType } } }
  }
}
"""


@dataclass(frozen=True)
class Sent:
    """A request, and what the guard answers. `attack` tags the run that it starts where nothing guards.

    In headers, {port} is the server's own.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    status: int = 200
    said: str = ""
    attack: str = ""

    def tagged(self, more: str) -> "Sent":
        """The same with a longer tag."""
        longer = f"{self.attack}_{more}"

        def changed(text: str) -> str:
            for mark in ('"', "%22"):
                text = text.replace(f"{mark}{self.attack}{mark}", f"{mark}{longer}{mark}")
            return text

        body = changed(self.body) if self.body is not None else None
        return replace(self, path=changed(self.path), body=body, attack=longer)

    def to(self, ui: WebUI) -> Answer:
        headers = {name: value.format(port=ui.port) for name, value in self.headers.items()}
        return ui.request(self.method, self.path, self.body, headers)


def in_address(document: str, **more: str) -> str:
    return "/graphql?" + urlencode({"query": document, **more}, quote_via=quote)


def launched_by_get(attack: str, *, path: str = "/graphql", **changes: Any) -> Sent:
    address = f"{path}?query={quote(launch_document(attack))}"
    return Sent("GET", address, **{"status": 403, "attack": attack} | changes)


def launched_by_post(attack: str, content_type: str, **changes: Any) -> Sent:
    """A POST whose body is a launch; its address holds the same launch for servers that read only that."""
    case = {
        "headers": {"Content-Type": content_type},
        "body": launch_body(attack),
        "status": 415,
        "said": f"`Content-Type` must be application/json, was '{content_type}'",
        "attack": attack,
    }
    return Sent("POST", in_address(launch_document(attack)), **case | changes)


ALLOWED = {
    "page": Sent("GET", "/"),
    "page_head": Sent("HEAD", "/"),
    "page_of_localhost": Sent("GET", "/", {"Host": "localhost:{port}"}),
    "page_of_ipv6": Sent("GET", "/", {"Host": "[::1]:{port}"}),
    "page_of_allowed_name": Sent("GET", "/", {"Host": "UI.Example"}),
    "page_linked_from_another_site": Sent("GET", "/assets/us_tech/bars", LINK),
    "page_typed_by_hand": Sent("GET", "/runs", {"Sec-Fetch-Site": "none"}),
    "data_of_its_own_page": Sent("GET", "/server_info", {"Sec-Fetch-Site": "same-origin"}),
    "query_by_get": Sent("GET", in_address("{ version }")),
    "queries_by_get": Sent("GET", in_address("query A { version } query B { version }", operationName="B")),
    "query_by_post_of_its_own_page": Sent("POST", "/graphql", JSON | {"Origin": "http://127.0.0.1:{port}"}, QUERY),
    "query_by_post_of_a_program": Sent("POST", "/graphql", JSON, QUERY),
    "query_by_post_with_charset": Sent("POST", "/graphql", {"Content-Type": "application/json; charset=utf-8"}, QUERY),
    "query_by_post_behind_tls": Sent(
        "POST", "/graphql", JSON | {"Host": ALLOWED_NAME, "Origin": f"https://{ALLOWED_NAME}"}, QUERY
    ),
    "report_by_a_program": Sent(
        "POST", "/report_asset_materialization/us_tech/bars", JSON, '{"partition": "2013-02-24"}'
    ),
}

REFUSED = {
    # DNS rebinding.
    "host_of_another_name": launched_by_get("host", headers={"Host": "evil.example:{port}"}, said="`Host` must be one of"),
    "host_that_begins_well": Sent("GET", "/", {"Host": "127.0.0.1.evil.example"}, status=403, said="`Host` must be"),
    "host_with_two_ports": Sent("GET", "/", {"Host": "127.0.0.1:80:80"}, status=403, said="`Host` must be one of"),
    "host_with_a_dot": Sent("GET", "/", {"Host": "localhost."}, status=403, said="`Host` must be one of"),
    "host_of_another_name_with_its_own_origin": launched_by_post(
        "rebound",
        "application/json",
        headers=JSON | {"Host": "evil.example:{port}", "Origin": "http://evil.example:{port}"},
        status=403,
        said="`Host` must be one of",
    ),
    # Fetch of another origin.
    "origin_of_another_site": launched_by_post(
        "origin", "application/json", headers=JSON | {"Origin": EVIL}, status=403, said=f"was '{EVIL}'"
    ),
    "origin_of_another_port": launched_by_post(
        "port", "application/json", headers=JSON | {"Origin": "http://127.0.0.1:1"}, status=403, said="`Origin` must be"
    ),
    "origin_of_another_name_of_this_machine": launched_by_post(
        "name", "application/json", headers=JSON | {"Origin": "http://localhost:{port}"}, status=403, said="`Origin` must"
    ),
    "origin_of_a_sandbox": launched_by_post(
        "null", "application/json", headers=JSON | {"Origin": "null"}, status=403, said="was 'null'"
    ),
    "origin_at_a_get": Sent("GET", in_address("{ version }"), {"Origin": EVIL}, status=403, said="`Origin` must be"),
    # What a browser says of itself.
    "image_of_another_site": launched_by_get("image", headers=IMAGE, said="`Sec-Fetch-Site` must be same-origin"),
    "query_in_an_image": Sent("GET", in_address("{ version }"), IMAGE, status=403, said="was 'cross-site'"),
    "frame_in_another_site": Sent("GET", "/", FRAME, status=403, said="`Sec-Fetch-Site` must be same-origin"),
    "fetch_of_another_port": Sent("GET", "/", {"Sec-Fetch-Site": "same-site"}, status=403, said="was 'same-site'"),
    "link_to_a_query": Sent("GET", in_address("{ version }"), LINK, status=403, said="`Sec-Fetch-Site`"),
    "link_to_a_log": Sent("GET", "/logs/a/out", LINK, status=403, said="`Sec-Fetch-Site`"),
    "link_to_a_notebook": Sent("GET", "/notebook?path=a.ipynb", LINK, status=403, said="`Sec-Fetch-Site`"),
    # GET.
    "mutation_by_get": launched_by_get("get", said="`query` sent by GET must be a query, was a mutation"),
    "mutation_by_get_of_its_own_page": launched_by_get(
        "own_get", headers={"Sec-Fetch-Site": "same-origin"}, said="was a mutation"
    ),
    "mutation_by_get_at_the_path_with_a_newline": launched_by_get(
        "newline", path="/graphql%0A", status=400, said="`path` must be printable, was '/graphql\\n'"
    ),
    "mutation_by_get_beside_a_query": Sent(
        "GET",
        in_address(f"query Harmless {{ version }} {launch_document('beside').replace('mutation', 'mutation M', 1)}")
        + "&operationName=M",
        status=403,
        said="was a mutation",
        attack="beside",
    ),
    "mutation_by_get_behind_a_query": Sent(
        "GET",
        in_address("{ version }") + f"&query={quote(launch_document('behind'))}",
        status=403,
        said="was a mutation",
        attack="behind",
    ),
    "mutation_by_get_with_a_comment": Sent(
        "GET", in_address("# query\n\ufeff" + launch_document("comment")), status=403, said="mutation", attack="comment"
    ),
    "subscription_by_get": Sent(
        "GET", in_address('subscription { pipelineRunLogs(runId: "a") { __typename } }'), status=403, said="a subscription"
    ),
    "nonsense_by_get": Sent("GET", in_address("mutation {"), status=400, said="must be a GraphQL document"),
    "deep_nest_by_get": Sent("GET", in_address("{a" * 8000), status=400, said="must be a GraphQL document"),
    # POST: what a form or a fetch without preflight can send, and what Dagster reads although it is no JSON.
    "form_of_text": launched_by_post("form_text", "text/plain"),
    "form_urlencoded": launched_by_post("form_url", "application/x-www-form-urlencoded"),
    "form_multipart": launched_by_post("form_multi", "multipart/form-data; boundary=a"),
    "text_that_mentions_json": launched_by_post("mention", "text/plain; application/json"),
    "json_in_capitals": launched_by_post("capitals", "Application/JSON"),
    "graphql_text": launched_by_post("graphql", "application/graphql", body=launch_document("graphql")),
    "post_without_type": launched_by_post("untyped", "", headers={}, status=400, said="`Content-Type` must be given once"),
    "report_without_type": Sent(
        "POST", "/report_asset_materialization/us_tech/bars", status=400, said="`Content-Type` must be given once"
    ),
    # Other methods, a preflight among them.
    "preflight": Sent("OPTIONS", "/graphql", {"Origin": EVIL} | CROSS_SITE, status=403, said="`Origin` must be"),
    "options": Sent("OPTIONS", "/graphql", status=405, said="`method` must be GET, HEAD or POST, was 'OPTIONS'"),
    "put": Sent("PUT", "/graphql", JSON, QUERY, status=405, said="was 'PUT'"),
    "delete": Sent("DELETE", "/graphql", status=405, said="was 'DELETE'"),
}  # fmt: skip


@pytest.mark.parametrize("name", ALLOWED)
def test_guarded_ui_with_a_request_of_its_own_answers(uis: WebUIs, name: str) -> None:
    answer = ALLOWED[name].to(uis.guarded)
    assert answer.status == 200, answer.text
    # Nobody else may frame, embed or read it.
    assert "frame-ancestors 'self'" in answer.headers.get_all("Content-Security-Policy")
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert not [header for header in answer.headers if header.lower().startswith("access-control")]


@pytest.mark.parametrize("name", REFUSED)
def test_guarded_ui_with_what_another_site_could_send_refuses(uis: WebUIs, name: str) -> None:
    case = REFUSED[name]
    before = uis.guarded.n_runs(case.attack)
    answer = case.to(uis.guarded)
    assert (answer.status, answer.headers["Content-Type"]) == (case.status, "application/json"), answer.text
    assert case.said in answer.message
    assert uis.guarded.n_runs(case.attack) == before == 0


@pytest.mark.parametrize("name", [name for name, case in REFUSED.items() if case.attack])
def test_plain_webserver_with_the_same_request_starts_a_run(uis: WebUIs, name: str) -> None:
    # Both servers have the same runs: by its own tag it is nobody else's.
    case = REFUSED[name].tagged("plain")
    before = uis.plain.n_runs(case.attack)
    case.to(uis.plain)
    assert uis.plain.n_runs(case.attack) == before + 1


@pytest.mark.parametrize("twice", ["Host", "Content-Type", "Origin"])
def test_guarded_ui_with_a_header_given_twice_refuses(uis: WebUIs, twice: str) -> None:
    ui = uis.guarded
    headers = {"Host": [ui.host], "Content-Type": ["application/json"], "Origin": [ui.url]}
    headers[twice] += {"Host": ["evil.example"], "Content-Type": ["text/plain"], "Origin": [EVIL]}[twice]
    status, text = _sent_raw(ui, [f"{name}: {value}" for name, values in headers.items() for value in values], QUERY)
    assert status in (400, 403)
    assert "1.13.27" not in text


def test_guarded_ui_without_host_refuses(uis: WebUIs) -> None:
    status, text = _sent_raw(uis.guarded, ["Content-Type: application/json"], QUERY)
    assert status == 400
    assert "1.13.27" not in text


def test_guarded_ui_with_a_launch_of_its_own_page_starts_a_run_and_streams_its_events(uis: WebUIs) -> None:
    ui = uis.guarded
    launched = ui.graphql(LAUNCH, **launch_params("own"))["launchPipelineExecution"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    assert ui.n_runs("own") == 1
    run_id = launched["run"]["runId"]
    for origin in (ui.url, None):
        assert "RUN_ENQUEUED" in _streamed(ui, run_id, origin=origin)


@pytest.mark.parametrize("origin", [EVIL, "null", "http://localhost:{port}", "http://127.0.0.1:1"])
def test_websocket_of_another_origin_opens_on_the_plain_webserver_only(uis: WebUIs, origin: str) -> None:
    run_id = uis.plain.graphql(LAUNCH, **launch_params("streamed"))["launchPipelineExecution"]["run"]["runId"]
    assert "RUN_ENQUEUED" in _streamed(uis.plain, run_id, origin=origin.format(port=uis.plain.port))

    with pytest.raises(InvalidStatus) as refusal, uis.guarded.websocket(origin=origin.format(port=uis.guarded.port)):
        pass
    assert refusal.value.response.status_code == 403
    assert "`Origin` must be this server" in json.loads(refusal.value.response.body)["errors"][0]["message"]


def test_websocket_of_another_host_refuses(uis: WebUIs) -> None:
    # As a rebound name: `Host` and `Origin` agree.
    with pytest.raises(InvalidStatus) as refusal, uis.guarded.websocket(host="evil.example"):
        pass
    assert "`Host` must be one of" in json.loads(refusal.value.response.body)["errors"][0]["message"]


def test_viewer_shows_pages_queries_and_events(uis: WebUIs) -> None:
    run_id = uis.guarded.graphql(LAUNCH, **launch_params("viewed"))["launchPipelineExecution"]["run"]["runId"]
    assert uis.viewer.request("GET", f"/runs/{run_id}").status == 200
    assert uis.viewer.n_runs("viewed") == 1
    assert "RUN_ENQUEUED" in _streamed(uis.viewer, run_id)


def test_viewer_with_any_mutation_of_the_schema_refuses(uis: WebUIs) -> None:
    names = [each["name"] for each in uis.viewer.graphql(MUTATIONS)["__schema"]["mutationType"]["fields"]]
    assert len(names) > 30
    answers = {name: uis.viewer.post(f"mutation {{ {name} }}") for name in names}
    assert {answer.status for answer in answers.values()} == {403}
    said = "`query` sent to a read-only UI must be a query or subscription, was a mutation; it needs a UI without --read-only."
    assert {answer.message for answer in answers.values()} == {said}


def test_viewer_without_the_guard_would_refuse_by_dagsters_permissions(uis: WebUIs) -> None:
    """The second fence: what each server says that its visitors may do."""
    allowed = {
        ui: {each["permission"] for each in ui.graphql(PERMISSIONS)["permissions"] if each["value"]}
        for ui in (uis.guarded, uis.viewer)
    }
    assert "launch_pipeline_execution" in allowed[uis.guarded]
    assert allowed[uis.viewer] == set()


VIEWER_REFUSES = {
    "launch": Sent("POST", "/graphql", JSON, launch_body("viewer"), 403, "was a mutation", "viewer"),
    "launch_beside_a_query": Sent(
        "POST",
        "/graphql",
        JSON,
        json.dumps(
            {
                "query": f"query Q {{ version }} {launch_document('beside').replace('mutation', 'mutation M', 1)}",
                "operationName": "Q",
            }
        ),
        403,
        "was a mutation",
    ),
    "list": Sent("POST", "/graphql", JSON, f"[{launch_body('list')}]", 400, "must be text, was NoneType"),
    "number": Sent("POST", "/graphql", JSON, '{"query": 1}', 400, "must be text, was int"),
    "no_json": Sent("POST", "/graphql", JSON, "{", 400, "`body` must be JSON"),
    "deep_json": Sent("POST", "/graphql", JSON, "[" * 100_000, 400, "`body` must be JSON"),
    "deep_query": Sent(
        "POST", "/graphql", JSON, json.dumps({"query": "{a" * 100_000}), 400, "must be a GraphQL document"
    ),
    **{
        f"report_{what}": Sent(
            "POST", f"/report_{what}/us_tech/bars", JSON, QUERY, 403, "`path` of a POST to a read-only UI"
        )
        for what in ("asset_materialization", "asset_check", "asset_observation")
    },
}


@pytest.mark.parametrize("name", VIEWER_REFUSES)
def test_viewer_with_anything_but_a_query_refuses(uis: WebUIs, name: str) -> None:
    case = VIEWER_REFUSES[name]
    answer = case.to(uis.viewer)
    assert (answer.status, answer.headers["Content-Type"]) == (case.status, "application/json"), answer.text
    assert case.said in answer.message
    assert uis.viewer.n_runs("viewer") == 0


@pytest.mark.parametrize(
    "message",
    [
        pytest.param({"type": "start", "id": "1", "payload": {"query": launch_document("ws")}}, id="mutation"),
        pytest.param(
            {"type": "subscribe", "id": "1", "payload": {"query": launch_document("ws")}}, id="newer_protocol"
        ),
        pytest.param({"type": "start", "id": "1"}, id="no_payload"),
        pytest.param({"type": ["stop"], "payload": {"query": launch_document("ws")}}, id="type_in_a_list"),
        pytest.param([], id="list"),
        pytest.param("{", id="no_json"),
        pytest.param(b"{}", id="binary"),
    ],
)
def test_viewer_websocket_with_anything_but_a_subscription_closes(uis: WebUIs, message: object) -> None:
    with uis.viewer.websocket() as socket:
        socket.send(message if isinstance(message, str | bytes) else json.dumps(message))
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=RECV_S)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008
    assert " must be " in closed.value.rcvd.reason
    assert uis.viewer.n_runs("ws") == 0


@pytest.mark.parametrize("name", ["http://ui.example", "ui.example:3000", "*", "*.example", ""])
def test_allowed_host_with_more_than_a_name_refuses_to_start(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--allowed-host", name])
    assert f"`allowed-host` must be host names without scheme, port or *, was {name}." in capsys.readouterr().err


def test_guard_with_an_unknown_kind_of_connection_does_not_call_the_application() -> None:
    called = []

    async def app(*connection: object) -> None:
        called.append(connection)

    guard = Guard(app, hosts=LOCAL_HOSTS)
    with pytest.raises(
        ValueError, match="`type` of a connection must be lifespan, http or websocket, was 'webtransport'"
    ):
        asyncio.run(guard({"type": "webtransport"}, None, None))
    assert called == []


def test_webserver_that_started_its_own_code_server_stops_it_and_takes_hosts_from_the_environment(
    tmp_path: Path,
) -> None:
    port = free_port()
    ui = WebUI(port, tmp_path / "ui.log")
    env = {
        "HF_DATA_DIR": str(tmp_path),
        "DAGSTER_HOME": str(tmp_path / "home"),
        "HF_UI_HOSTS": "one.example, two.example",
    }
    with serving(
        [*GUARDED, "--port", str(port)], log=ui.log, is_ready=lambda: answers(ui.url), env=env, cwd=REPOSITORY
    ) as server:
        wait_until(ui.has_loaded, "definitions of ./workspace.yaml", timeout_s=START_S)
        hosts = ("one.example", "two.example", "three.example")
        assert [ui.request("GET", "/server_info", headers={"Host": host}).status for host in hosts] == [200, 200, 403]
        below = psutil.Process(server.process.pid).children(recursive=True)
        assert any("grpc" in each.cmdline() for each in below)
        server.process.terminate()
        server.process.wait(60)
        assert psutil.wait_procs(below, timeout=60)[1] == []


def _sent_raw(ui: WebUI, lines: Sequence[str], body: str) -> tuple[int, str]:
    """Status and text of the answer to a POST with exactly these header lines."""
    with socket.create_connection(("127.0.0.1", ui.port), timeout=60) as connection:
        head = ["POST /graphql HTTP/1.1", *lines, f"Content-Length: {len(body)}", "Connection: close", "", body]
        connection.sendall("\r\n".join(head).encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.read().decode()


def _streamed(ui: WebUI, run_id: str, **options: Any) -> list[str]:
    """Types of the events in the first message of a subscription to a run."""
    with ui.websocket(**options) as socket:
        socket.send(json.dumps({"type": "connection_init"}))
        assert json.loads(socket.recv(timeout=RECV_S)) == {"type": "connection_ack"}
        payload = {"query": RUN_EVENTS, "variables": {"id": run_id}}
        socket.send(json.dumps({"type": "start", "id": "1", "payload": payload}))
        data = json.loads(socket.recv(timeout=RECV_S))["payload"]["data"]["pipelineRunLogs"]
        assert data["run"]["runId"] == run_id
        return [each["eventType"] for each in data["messages"] if each]
