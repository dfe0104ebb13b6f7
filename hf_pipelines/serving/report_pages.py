"""Report pages: a stored report at an address of the web UI, `/reports/STRATEGY/WEEK`.

Lives here: an ASGI middleware that answers such addresses from the store, and leaves all others to the application. Does not live here: the
page (`research.report`), who may ask for it (`webserver.Guard`, which stands before it).

The page is not trusted with the UI's own rights: it is sent into a sandbox, in which its scripts have an origin of their own.
"""

import re
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hf_pipelines.resources.parquet_io_manager import open_store
from hf_pipelines.resources.report_files import PAGE

ADDRESS = re.compile(r"/reports/(?P<strategy>[A-Za-z0-9_]{1,80})/(?P<week>\d{4}-\d{2}-\d{2})")

HEADERS = {"Content-Security-Policy": "sandbox allow-scripts", "Cache-Control": "no-cache"}


def stored_page(strategy: str, week: str) -> bytes | None:
    """The stored report of a strategy and week; None where there is none."""
    store = open_store()
    footer = store.footer(f"{strategy}/report", week)
    return None if footer is None else store.read_attachment(footer, PAGE)


class ReportPages:
    """ASGI middleware that answers the addresses of reports.

    Parameters
    ----------
    app
        What answers all others.
    read : callable
        `(strategy, week) -> bytes or None`.
    """

    def __init__(self, app: ASGIApp, read: Callable[[str, str], bytes | None] = stored_page) -> None:
        self._app = app
        self._read = read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        named = (
            ADDRESS.fullmatch(scope["path"]) if scope["type"] == "http" and scope["method"] in ("GET", "HEAD") else None
        )
        if named is None:
            await self._app(scope, receive, send)
            return
        strategy, week = named["strategy"], named["week"]
        page = await run_in_threadpool(self._read, strategy, week)
        answer: Response
        if page is None:
            answer = PlainTextResponse(
                f"No report of {strategy} and week {week} is stored: hfp report {strategy} {week}", 404
            )
        else:
            answer = Response(page, media_type="text/html", headers=HEADERS)
        await answer(scope, receive, send)
