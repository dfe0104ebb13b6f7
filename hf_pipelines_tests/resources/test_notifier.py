"""Notifier: the webhook as a real HTTP server, in good and in bad moods; its address stays a secret."""

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hf_pipelines.resources import webhook as module
from hf_pipelines.resources.notifier import (
    Notification,
    Notifier,
    check_link,
    run_link,
)
from hf_pipelines.resources.webhook import NotDeliveredError

TOKEN = "t0p-s3cret"
MESSAGE = Notification(
    id="0123456789abcdef",
    event="opened",
    kind="run",
    asset="us_tech/bars",
    partition="2013-02-24",
    severity="ERROR",
    cause="us_tech/bars was not published for 1 partition(s).\n2013-02-24: row 3",
    remedy="correct the file",
    url="http://127.0.0.1:3000/runs/1",
    at="2026-11-21T06:00:00+00:00",
)


@contextmanager
def receiver(*statuses: int, location: str = "") -> Iterator[tuple[str, list[tuple[str, dict]]]]:
    """A server that answers with these statuses in turn, the last one for ever."""
    got: list[tuple[str, dict]] = []
    answers = list(statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(answers.pop(0) if len(answers) > 1 else answers[0])
            if location:
                self.send_header("Location", location)
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *arguments: object) -> None:
            """Into no test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hooks/{TOKEN}", got
    finally:
        server.shutdown()
        server.server_close()


def refusal(monkeypatch: pytest.MonkeyPatch, url: str) -> str:
    monkeypatch.setenv("HF_WEBHOOK_URL", url)
    with pytest.raises(NotDeliveredError) as refused:
        Notifier().post(MESSAGE)
    # Neither the message nor what a traceback would show of its causes.
    assert TOKEN not in f"{refused.value!r} {refused.value.__cause__!r} {refused.value.__context__!r}"
    return str(refused.value).partition(": ")[2]


def test_webhook_receives_every_field_and_one_line_for_people(monkeypatch):
    with receiver(200) as (url, got):
        monkeypatch.setenv("HF_WEBHOOK_URL", url)
        Notifier().post(MESSAGE)
    ((path, payload),) = got
    assert path == f"/hooks/{TOKEN}"
    assert payload == {
        "id": "0123456789abcdef",
        "event": "opened",
        "kind": "run",
        "asset": "us_tech/bars",
        "partition": "2013-02-24",
        "severity": "ERROR",
        "cause": "us_tech/bars was not published for 1 partition(s).\n2013-02-24: row 3",
        "remedy": "correct the file",
        "url": "http://127.0.0.1:3000/runs/1",
        "at": "2026-11-21T06:00:00+00:00",
        "text": (
            "OPENED failed run: us_tech/bars 2013-02-24: us_tech/bars was not published for 1 partition(s). "
            "2013-02-24: row 3 | do: correct the file | http://127.0.0.1:3000/runs/1"
        ),
    }


def test_webhook_that_fails_once_is_tried_again_at_once(monkeypatch):
    with receiver(503, 200) as (url, got):
        monkeypatch.setenv("HF_WEBHOOK_URL", url)
        Notifier().post(MESSAGE)
    assert len(got) == 2


@pytest.mark.parametrize("status", [400, 404, 500])
def test_webhook_that_refuses_is_tried_twice_and_named_by_its_status(monkeypatch, status):
    with receiver(status) as (url, got):
        assert refusal(monkeypatch, url) == f"HTTP {status}"
    assert len(got) == 2


def test_webhook_that_redirects_is_not_followed(monkeypatch):
    with receiver(200) as (elsewhere, got), receiver(302, location=elsewhere) as (url, _):
        assert refusal(monkeypatch, url) == "HTTP 302"
    assert got == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        pytest.param(f"file:///etc/{TOKEN}", "`HF_WEBHOOK_URL` must be an address that begins", id="no web address"),
        pytest.param(f"http://127.0.0.1:1/{TOKEN}", "Connection refused", id="nobody listens"),
        pytest.param(f"http://[{TOKEN}/x", "ValueError", id="malformed"),
        pytest.param(f"http://127.0.0.1:80/{TOKEN} x\n", "InvalidURL", id="with a blank"),
    ],
)
def test_webhook_address_that_cannot_be_used_is_told_without_being_named(monkeypatch, url, said):
    assert refusal(monkeypatch, url).startswith(said)


def test_webhook_that_never_answers_holds_the_watch_no_longer_than_its_deadline(monkeypatch):
    monkeypatch.setattr(module, "POST_TIMEOUT_S", 0.3)
    monkeypatch.setattr(module, "POST_DEADLINE_S", 1.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        said = refusal(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}/{TOKEN}")
        took = time.monotonic() - began
    assert said in ("timed out", "TimeoutError", "no answer within 1 s")
    assert took < 10.0


def test_log_has_a_line_for_people_and_a_line_of_json(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    with caplog.at_level(logging.INFO):
        Notifier().log(MESSAGE, logging.getLogger("watch"))
        Notifier().log(MESSAGE, logging.getLogger("watch"))
    assert [record.message for record in caplog.records] == [MESSAGE.text] * 2
    lines = (tmp_path / "notifications.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [MESSAGE.payload()] * 2


def test_log_file_that_cannot_be_written_stops_nobody(monkeypatch, tmp_path, caplog):
    (tmp_path / "notifications.jsonl").mkdir()
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    Notifier().log(MESSAGE, logging.getLogger("watch"))
    assert [record.message for record in caplog.records] == [
        MESSAGE.text,
        "notifications.jsonl was not written: Is a directory",
    ]


def test_log_file_that_is_a_pipe_is_not_waited_for(monkeypatch, tmp_path, caplog):
    os.mkfifo(tmp_path / "notifications.jsonl")
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    Notifier().log(MESSAGE, logging.getLogger("watch"))
    assert caplog.records[-1].message == "notifications.jsonl was not written: No such device or address"


def test_links_lead_to_pages_of_the_web_ui(monkeypatch):
    monkeypatch.setenv("HF_UI_URL", "https://dagster.example/ui/")
    assert run_link("abc") == "https://dagster.example/ui/runs/abc"
    assert check_link("a/b", "on_time") == "https://dagster.example/ui/assets/a/b?view=checks&checkDetail=on_time"
