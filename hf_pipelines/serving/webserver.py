"""Web server: Dagster's own web UI behind a guard that refuses what another site's page could send.

Lives here: the guard (an ASGI middleware round the whole application) and the program that starts both,
`python -m hf_pipelines.serving.webserver`. Does not live here: the pages and the GraphQL schema, which stay Dagster's, and
logins: whoever reaches the port from the machine itself is the operator.

Dagster's web server has no login and answers any `Host` and `Origin`, so that any page open in the operator's browser could
start a run with one image tag. Everything below is refused unless a rule allows it:

| what arrives | is let through when |
|---|---|
| anything | one `Host`, that is this machine or a name given by `--allowed-host` (a rebound DNS name is neither) |
| anything with an `Origin` | it is the page's own: `Origin` equals `Host` (fetch, forms, websocket hijacking) |
| anything a browser says comes from another site | it only opens a page of the UI in a tab (images, scripts, frames do not) |
| GET, HEAD | no GraphQL operation in it but queries |
| POST | its `Content-Type` is `application/json`, which no form and no fetch without preflight can send |
| any other method | never: a preflight finds no permission |
| with `--read-only` | GraphQL queries and subscriptions only, besides Dagster's own permissions |

Answers forbid other sites to frame, embed or script them, so no click can be stolen.
"""

import argparse
import json
import os
import re
from collections.abc import Collection, Sequence

import uvicorn
from dagster import DagsterInstance
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.cli import DEFAULT_DB_STATEMENT_TIMEOUT, DEFAULT_POOL_MAX_OVERFLOW, DEFAULT_POOL_RECYCLE
from dagster_webserver.version import __version__
from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from hf_pipelines.resources import settings
from hf_pipelines.resources.dagster_internals import (
    WorkspaceFileTarget,
    WorkspaceProcessContext,
    setup_interrupt_handlers,
)
from hf_pipelines.serving.limits import RefusedError, read_body, taken_in_time, uvicorn_limits
from hf_pipelines.serving.lookout import LookoutThread
from hf_pipelines.serving.report_pages import ReportPages

LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})
HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(:[0-9]{1,5})?")

GRAPHQL = "/graphql"
# What answers with data instead of a page of the UI.
DATA_PATHS = (GRAPHQL, "/logs", "/notebook", "/dagit", "/download_debug", "/report_asset")

READING = frozenset({OperationType.QUERY})
WATCHING = frozenset({OperationType.QUERY, OperationType.SUBSCRIPTION})
# Messages of the websocket protocol `graphql-ws` that carry no operation.
CONTROL_MESSAGES = ("connection_init", "connection_terminate", "stop")

ANSWER_HEADERS = {
    # The UI frames its own notebooks.
    "X-Frame-Options": "SAMEORIGIN",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
FRAME_POLICY = "frame-ancestors 'self'"

# As often as Dagster's own command asks for new data.
LIVE_DATA_POLL_MS = 2000
# A stopped server does not wait longer for a browser that keeps its connection.
STOP_S = 5
# A close frame of the websocket protocol has room for 123 bytes.
CLOSE_REASON_BYTES = 123
POLICY_VIOLATION = 1008


class Guard:
    """ASGI middleware that calls the application only for what its own pages and local programs send.

    Parameters
    ----------
    app
        The application that is guarded.
    hosts
        Names under which it is reached, lower case, without port.
    is_read_only
        Whether GraphQL mutations and every other way to change something are refused.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], is_read_only: bool = False) -> None:
        self._app = app
        self._hosts = hosts
        self._is_read_only = is_read_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            raise ValueError(f"`type` of a connection must be lifespan, http or websocket, was {scope['type']!r}.")

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, answer = Request(scope, receive), _isolated(taken_in_time(send))
        try:
            self._check_sender(request, is_page=_is_page(request))
            _check_method(request)
            if request.method == "POST":
                body = await read_body(request, receive)
                if self._is_read_only:
                    _check_viewer_request(scope["path"], body)
                receive = _replayed(body, receive)
        except RefusedError as e:
            await e.response()(scope, receive, answer)
            return
        except ClientDisconnect:
            return
        await self._app(scope, receive, answer)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        websocket = WebSocket(scope, receive, send)
        try:
            self._check_sender(websocket, is_page=False)
        except RefusedError as e:
            await websocket.send_denial_response(e.response())
            return
        await self._app(scope, _viewed(receive, send) if self._is_read_only else receive, send)

    def _check_sender(self, connection: HTTPConnection, *, is_page: bool) -> None:
        """Refuse a foreign `Host`, `Origin` or site, and paths that routes and rules could read differently."""
        headers = connection.headers
        host = _only(headers, "Host").lower()
        named = HOST.fullmatch(host)
        if named is None or named["name"] not in self._hosts:
            known = ", ".join(sorted(self._hosts))
            raise RefusedError(403, f"`Host` must be one of {known}, was {host[:80]!r}; add it with --allowed-host.")
        origins = headers.getlist("origin")
        # A proxy may have ended TLS: the scheme is the browser's, host and port decide.
        if origins and origins not in ([f"http://{host}"], [f"https://{host}"]):
            raise RefusedError(403, f"`Origin` must be this server, {host}, was {', '.join(origins)[:80]!r}.")
        sites = set(headers.getlist("sec-fetch-site"))
        if not sites <= {"same-origin", "none"} and not is_page:
            raise RefusedError(403, f"`Sec-Fetch-Site` must be same-origin, was {', '.join(sorted(sites))[:80]!r}.")
        # A route also matches its path with a newline behind it.
        if not connection.scope["path"].isprintable():
            raise RefusedError(400, f"`path` must be printable, was {connection.scope['path'][:80]!r}.")


def _is_page(request: Request) -> bool:
    """Whether a tab opens a page of the UI: what a link in a notification may do from any site."""
    opens = (request.headers.get("sec-fetch-mode"), request.headers.get("sec-fetch-dest")) == ("navigate", "document")
    return request.method == "GET" and opens and not request.scope["path"].startswith(DATA_PATHS)


def _check_method(request: Request) -> None:
    if request.method in ("GET", "HEAD"):
        if request.scope["path"].startswith(GRAPHQL):
            for document in QueryParams(request.scope["query_string"]).getlist("query"):
                _check_operations(document, READING, "sent by GET")
    elif request.method == "POST":
        content_type = _only(request.headers, "Content-Type")
        # Dagster looks for the words anywhere in it: `text/plain; application/json` would need no preflight.
        if content_type.partition(";")[0].strip() != "application/json":
            raise RefusedError(415, f"`Content-Type` must be application/json, was {content_type[:80]!r}.")
    else:
        raise RefusedError(405, f"`method` must be GET, HEAD or POST, was {request.method[:80]!r}.")


def _check_viewer_request(path: str, body: bytes) -> None:
    if path != GRAPHQL:
        raise RefusedError(403, f"`path` of a POST to a read-only UI must be {GRAPHQL}, was {path[:80]!r}.")
    _check_operations(_document(body), WATCHING, "sent to a read-only UI")


def _check_operations(document: object, allowed: Collection[OperationType], how: str) -> None:
    """Refuse a GraphQL document that holds any operation but those allowed, whichever of them it names to be run."""
    if not isinstance(document, str):
        raise RefusedError(400, f"`query` {how} must be text, was {type(document).__name__}.")
    try:
        definitions = parse(document).definitions
    except (GraphQLError, RecursionError) as e:
        raise RefusedError(400, f"`query` {how} must be a GraphQL document, was {document[:80]!r}.") from e
    found = {node.operation for node in definitions if isinstance(node, OperationDefinitionNode)}
    if refused := sorted(operation.value for operation in found.difference(allowed)):
        rule = " or ".join(sorted(operation.value for operation in allowed))
        remedy = "a UI without --read-only" if OperationType.SUBSCRIPTION in allowed else "a POST of application/json"
        raise RefusedError(403, f"`query` {how} must be a {rule}, was a {' and a '.join(refused)}; it needs {remedy}.")


def _document(body: bytes | str) -> object:
    """GraphQL document of a JSON request, whatever it is; None without one."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as e:
        raise RefusedError(400, f"`body` must be JSON, was {body[:80]!r}.") from e
    return request.get("query") if isinstance(request, dict) else None


def _only(headers: Headers, name: str) -> str:
    """Value of a header that must be there once: of two, the guard and the application might each read another."""
    values = headers.getlist(name)
    if len(values) != 1:
        raise RefusedError(400, f"`{name}` must be given once, was given {len(values)} times.")
    return values[0]


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body that was read, once more for the application; then what the client sends next."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def _viewed(receive: Receive, send: Send) -> Receive:
    """What a websocket receives, until it holds something else than a query or a subscription: then it is closed."""

    async def view() -> Message:
        message = await receive()
        if message["type"] != "websocket.receive":
            return message
        try:
            _check_viewer_message(message.get("text"))
        except RefusedError as e:
            reason = str(e).encode()[:CLOSE_REASON_BYTES].decode(errors="ignore")
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": reason})
            return {"type": "websocket.disconnect", "code": POLICY_VIOLATION, "reason": reason}
        return message

    return view


def _check_viewer_message(text: object) -> None:
    if not isinstance(text, str):
        raise RefusedError(400, "`message` must be text, was binary.")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise RefusedError(400, f"`message` must be JSON, was {text[:80]!r}.") from e
    if not isinstance(message, dict):
        raise RefusedError(400, f"`message` must be an object, was {type(message).__name__}.")
    if message.get("type") not in CONTROL_MESSAGES:
        payload = message.get("payload")
        _check_operations(
            payload.get("query") if isinstance(payload, dict) else None, WATCHING, "sent to a read-only UI"
        )


def _isolated(send: Send) -> Send:
    """Answers with headers that keep other sites from framing, embedding or scripting them."""

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(ANSWER_HEADERS)
            # Beside the page's own policy: a browser obeys both.
            headers.append("Content-Security-Policy", FRAME_POLICY)
        await send(message)

    return answer


def allowed_hosts(names: Sequence[str]) -> frozenset[str]:
    """Names under which the UI may be reached: this machine's, and those given.

    Raises
    ------
    ValueError
        If a name holds more than a host: a scheme, a port, a wildcard.

    Examples
    --------
    >>> sorted(allowed_hosts(["UI.example"]))
    ['127.0.0.1', '[::1]', 'localhost', 'ui.example']
    """
    given = {name.lower() for name in names}
    bad = sorted(name for name in given if (found := HOST.fullmatch(name)) is None or found["name"] != name)
    if bad:
        raise ValueError(f"`allowed-host` must be host names without scheme, port or *, was {', '.join(bad[:5])}.")
    return LOCAL_HOSTS | given


def _parser() -> argparse.ArgumentParser:
    # -h is the host, as in Dagster's own command.
    parser = argparse.ArgumentParser(
        prog="hf_pipelines.serving.webserver", description="The guarded web UI.", add_help=False
    )
    parser.add_argument("--help", action="help", help="show this message and exit")
    parser.add_argument("-h", "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("-p", "--port", type=int, default=3000, help="port to listen on (default: 3000)")
    parser.add_argument(
        "-w", "--workspace", action="append", help="workspace file, repeatable (default: workspace.yaml)"
    )
    parser.add_argument("--read-only", action="store_true", help="viewer mode: nothing can be launched or changed")
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        help="name under which the UI is reached besides 127.0.0.1, localhost and [::1], repeatable; or HF_UI_HOSTS",
    )
    parser.add_argument("--log-level", default="warning", choices=["critical", "error", "warning", "info", "debug"])
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGINT or SIGTERM."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        hosts = allowed_hosts([*options.allowed_host, *os.environ.get("HF_UI_HOSTS", "").replace(",", " ").split()])
    except ValueError as e:
        parser.error(str(e))
    settings.prepare_dagster_home()
    # uvicorn raises the signal again when it has stopped: the code server that it started must be stopped as well.
    setup_interrupt_handlers()
    with DagsterInstance.get() as instance:
        instance.optimize_for_webserver(DEFAULT_DB_STATEMENT_TIMEOUT, DEFAULT_POOL_RECYCLE, DEFAULT_POOL_MAX_OVERFLOW)
        with WorkspaceProcessContext(
            instance,
            WorkspaceFileTarget(paths=options.workspace or ["workspace.yaml"]),
            version=__version__,
            read_only=options.read_only,
        ) as context:
            app = create_app_from_workspace_process_context(context, live_data_poll_rate=LIVE_DATA_POLL_MS)
            lookout = LookoutThread(context)
            # A viewer's server runs beside an operator's, which notifies.
            if not options.read_only:
                lookout.start()
            uvicorn.run(
                Guard(ReportPages(app), hosts=hosts, is_read_only=options.read_only),
                host=options.host,
                port=options.port,
                log_level=options.log_level,
                timeout_graceful_shutdown=STOP_S,
                **uvicorn_limits(),
            )
            lookout.end()


if __name__ == "__main__":
    main()
