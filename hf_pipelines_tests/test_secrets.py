"""Secrets: planted passwords and tokens appear in nothing that the pipeline writes, prints or shows, failures included.

A stack is given canaries as its secrets; a chain runs on it, servers are made to fail one by one, and then everything
is searched: logs, what commands print, tables of PostgreSQL, objects in S3, MLflow's fields, arguments of processes.
"""

import dataclasses
import json
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg2
import pyarrow.parquet as pq
import pytest

from hf_pipelines_tests.checkout import DAY, FIRST_BARS, FIRST_FEATURES, GROUPS, WEEK, built_checkout
from hf_pipelines_tests.hasty import hasty
from hf_pipelines_tests.servers import free_port, wait_until
from hf_pipelines_tests.stack_process import START_S, StackProcess, open_folder, stack_process

pytestmark = pytest.mark.servers

CANARY = {
    "PostgreSQL": "canaryPg1Jq7",
    "S3": "canaryS3Wm4x",
    "webhook": "canaryHook9Tz",
    "MLflow": "canaryMl6Vb2",
    "wrong PostgreSQL": "canaryBad3Kd",
}

# Not a secret: what the search must find, in each place that it says it searches.
CONTROL = "controlMark8Yp"


@contextmanager
def failing_webhook() -> Iterator[tuple[str, list[bytes]]]:
    """A receiver that answers 500 and quotes the address, as some do; its address, and the bodies it was sent."""
    received: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(500)
            self.end_headers()
            self.wfile.write(self.path.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook/{CANARY['webhook']}", received
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def arguments_seen(stack: StackProcess) -> Iterator[set[str]]:
    """Arguments of every process of the stack, and of those that tests start beside it, while the block runs."""
    seen: set[str] = set()
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.2):
            for process in psutil.process_iter():
                with suppress(psutil.Error, OSError):
                    if str(stack.data) in json.dumps([process.environ().get("HF_DATA_DIR"), *process.cmdline()]):
                        seen.add(" ".join(process.cmdline()))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join()


def database_texts(variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Every row of every table of Dagster's and MLflow's databases; packed columns unpacked."""
    for database in ("dagster", "mlflow"):
        url = variables["HF_POSTGRES_URL"].rsplit("/", 1)[0] + f"/{database}"
        connection = psycopg2.connect(url)
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
            for (table,) in cursor.fetchall():
                cursor.execute(f'SELECT * FROM "{table}"')
                for row in cursor.fetchall():
                    for value in row:
                        packed = bytes(value) if isinstance(value, memoryview) else b""
                        with suppress(zlib.error):
                            packed = zlib.decompress(packed)
                        yield f"{database}.{table}", packed.decode(errors="replace") or str(value)
        connection.close()


def file_texts(folder: Path) -> Iterator[tuple[str, str]]:
    """Every file below a folder; the content of Parquet files as text."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name == "stack.env":
            continue
        place, content = str(path.relative_to(folder)), path.read_bytes()
        yield place, content.decode(errors="replace")
        if content.startswith(b"PAR1"):
            table = pq.read_table(path)
            yield place, f"{table.schema.metadata} {table.to_pylist()}"


def test_canary_secrets_appear_nowhere_after_a_chain_and_failures_of_every_server() -> None:
    printed: list[str] = []
    with open_folder() as folder, failing_webhook() as (webhook, received):
        checkout = hasty(built_checkout().checkout, folder)
        env = {
            "POSTGRES_PASSWORD": CANARY["PostgreSQL"],
            "MINIO_ROOT_PASSWORD": CANARY["S3"],
            "HF_WEBHOOK_URL": webhook,
            "HF_TICK_SECONDS": "2",
        }
        with stack_process(checkout, env) as stack, arguments_seen(stack) as arguments:
            variables = stack.variables()
            assert variables["POSTGRES_PASSWORD"] == CANARY["PostgreSQL"]
            assert variables["AWS_SECRET_ACCESS_KEY"] == CANARY["S3"]
            on_stack = dataclasses.replace(checkout, env={**variables, "HF_WEBHOOK_URL": webhook})

            def hfp(*words: str, **changed: str) -> int:
                done = dataclasses.replace(on_stack, env={**on_stack.env, **changed}).hfp(*words)
                printed.append(done.stdout + done.stderr)
                return done.returncode

            # A chain: through the daemon, then by a command whose tracking server has a password in its address.
            tags = {"control": CONTROL}
            for assets, first, last in (
                (["us_tech/bars"], FIRST_BARS, WEEK),
                ([f"us_tech/features/{group}" for group in GROUPS], FIRST_FEATURES, WEEK),
            ):
                run_id = stack.launch(assets, first, last, tags=tags)
                assert stack.wait_for_run(run_id, timeout_s=START_S) == "SUCCESS"
            tracker = urlsplit(variables["HF_MLFLOW_URI"])
            with_password = f"http://quant:{CANARY['MLflow']}@{tracker.netloc}"
            assert hfp("retrain", "short_ranking", "--week", WEEK, HF_MLFLOW_URI=with_password) == 0
            assert hfp("materialise", "short_ranking/signals", "--from", DAY) == 0

            # Every server fails: no such bucket, a refused key, a tracker that is away, a refused login.
            assert hfp("materialise", "us_tech/bars", "--from", WEEK, HF_STORAGE_URI="s3://no-such-bucket/storage") == 1
            assert hfp("materialise", "us_tech/bars", "--from", WEEK, AWS_ACCESS_KEY_ID="unknown") == 1
            away = f"http://quant:{CANARY['MLflow']}@127.0.0.1:{free_port()}"
            assert hfp("retrain", "short_ranking", "--week", WEEK, HF_MLFLOW_URI=away) == 1
            refused = variables["HF_POSTGRES_URL"].replace(CANARY["PostgreSQL"], CANARY["wrong PostgreSQL"])
            assert hfp("materialise", "us_tech/bars", "--from", WEEK, HF_POSTGRES_URL=refused) == 1
            assert "password authentication failed" in printed[-1]
            # A run fails in the stack itself, and the webhook refuses to hear of it.
            failed = stack.launch(["short_ranking/signals"], FIRST_FEATURES, tags=tags)
            assert stack.wait_for_run(failed, timeout_s=START_S) == "FAILURE"
            wait_until(lambda: bool(received), "notification of the failed run", timeout_s=START_S)
            # The tick that could not deliver it has ended when the next one has begun.
            n_received = len(received)
            wait_until(lambda: len(received) > n_received, "second attempt", timeout_s=START_S)

            texts = [
                *(("printed by hfp", text) for text in printed),
                ("printed by the stack", stack.printed),
                *(("arguments", text) for text in arguments),
                *(("webhook", body.decode()) for body in received),
                *database_texts(variables),
            ]
        texts += file_texts(checkout.data)

    # The search sees what it is meant to see: tags in PostgreSQL and in packed snapshots, logs of runs in S3, tables.
    places = {place for place, text in texts if CONTROL in text}
    assert {"dagster.run_tags", "dagster.runs"} <= places
    assert any("_compute_logs" in place and run_id in text for place, text in texts)
    assert any("mlflow.experiments" in place and "short_ranking" in text for place, text in texts)
    assert any("--socket" in text for place, text in texts if place == "arguments")
    assert any("hf_pipelines.cli" in text for place, text in texts if place == "arguments")
    assert any(place.endswith("bars%2F2013-02-24.parquet") and "'symbol': 'AAPL'" in text for place, text in texts)
    assert any("dagster.snapshots" in place and "us_tech__bars" in text for place, text in texts)

    found = sorted({(name, place) for name, secret in CANARY.items() for place, text in texts if secret in text})
    assert found == []
