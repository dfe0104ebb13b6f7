"""Redaction: a canary in each variable, each of its servers and stores failing in each way, and no text that shows it."""

import json
import logging
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.scheduler.instigation import InstigatorType, TickData, TickStatus
from dagster._utils.error import serializable_error_info_from_exc_info

from hf_pipelines.commands.cli import main
from hf_pipelines.resources import mlflow_tracking, store_access
from hf_pipelines.resources.instance_storage import InstanceStorage
from hf_pipelines.resources.market_data.landing import Landing
from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines.resources.notifier import Notification, Notifier
from hf_pipelines.resources.parquet_io_manager import open_store
from hf_pipelines.resources.redaction import clean, name_secret, redacted, shown_address
from hf_pipelines.resources.s3_client import S3Client
from hf_pipelines.resources.settings import landing_uri
from hf_pipelines_tests.servers import free_port

CANARY, TAIL = "canaryAb3Xy", "tailQw7Zk"
KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}


@dataclass
class Server:
    """An HTTP server that fails, and quotes what it was asked, as some do."""

    port: int
    asked: list[str] = field(default_factory=list)


@contextmanager
def quoting(status: int) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            server.asked.append(f"{self.command} {self.path} {self.headers.get('Authorization', '')}")
            body = f"no {self.path} for {self.headers.as_string()}".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_HEAD = answer

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = Server(http.server_port)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()


def store() -> object:
    return open_store().partitions("us_tech/bars")


def landing() -> object:
    return list(Landing(landing_uri()).names())


def database() -> object:
    return InstanceStorage.from_config_value(None, {})


def tracker() -> object:
    return MLflowTracking().client()


def webhook() -> object:
    return Notifier().post(Notification("i", "opened", "run", "a", "b", "ERROR", "c", "d", "e", "f"))


# Variables, and what uses them. {refused} is a port at which nobody listens, {quotes} one of a server that fails.
LEAKS: dict[str, tuple[dict[str, str], Callable[[], object]]] = {
    "postgres-refused": ({"HF_POSTGRES_URL": f"postgresql://hf:{CANARY}@127.0.0.1:{{refused}}/db"}, database),
    "postgres-unescaped-at": ({"HF_POSTGRES_URL": f"postgresql://hf:{CANARY}@{TAIL}@127.0.0.1:1/db"}, database),
    "postgres-unescaped-slash": ({"HF_POSTGRES_URL": f"postgresql://hf:{CANARY}/{TAIL}@127.0.0.1:1/db"}, database),
    "postgres-no-port": ({"HF_POSTGRES_URL": f"postgresql://hf:{CANARY}@127.0.0.1:{TAIL}/db"}, database),
    "postgres-another": ({"HF_POSTGRES_URL": f"mysql://hf:{CANARY}@127.0.0.1:1/db"}, database),
    "postgres-query": ({"HF_POSTGRES_URL": f"postgresql://127.0.0.1:1/db?user=hf&password={CANARY}"}, database),
    "mlflow-refused": ({"HF_MLFLOW_URI": f"http://quant:{CANARY}@127.0.0.1:{{refused}}/?token={TAIL}"}, tracker),
    "mlflow-token": ({"HF_MLFLOW_URI": f"http://127.0.0.1:{{refused}}/?token={CANARY}"}, tracker),
    "mlflow-unnamed-token": ({"HF_MLFLOW_URI": f"http://127.0.0.1:{{refused}}/?t={CANARY}"}, tracker),
    "mlflow-unescaped-at": ({"HF_MLFLOW_URI": f"http://quant:{CANARY}@{TAIL}@127.0.0.1:{{refused}}"}, tracker),
    "mlflow-quotes": ({"HF_MLFLOW_URI": f"http://quant:{CANARY}@127.0.0.1:{{quotes}}?token={TAIL}"}, tracker),
    "mlflow-database": ({"HF_MLFLOW_URI": f"postgresql://hf:{CANARY}@{TAIL}@127.0.0.1:{{refused}}/db"}, tracker),
    "mlflow-nonsense": ({"HF_MLFLOW_URI": f"http//quant:{CANARY}@127.0.0.1"}, tracker),
    "endpoint-user": ({"HF_S3_ENDPOINT": f"http://quant:{CANARY}@127.0.0.1:{{quotes}}"}, store),
    "endpoint-unescaped-at": ({"HF_S3_ENDPOINT": f"http://quant:{CANARY}@{TAIL}@127.0.0.1:{{refused}}"}, store),
    "endpoint-query": ({"HF_S3_ENDPOINT": f"http://127.0.0.1:{{refused}}/?token={CANARY}"}, store),
    "endpoint-of-listings": (
        {"HF_S3_ENDPOINT": f"http://quant:{CANARY}@127.0.0.1:{{refused}}", "HF_LANDING_URI": "s3://bucket/in"},
        lambda: S3Client.from_environment().get_client(),
    ),
    "storage-user": ({"HF_STORAGE_URI": f"s3://quant:{CANARY}@bucket/prefix"}, store),
    "storage-query": ({"HF_STORAGE_URI": f"s3://bucket/prefix?token={CANARY}"}, store),
    "storage-scheme": ({"HF_STORAGE_URI": f"https://quant:{CANARY}@127.0.0.1/bucket"}, store),
    "storage-one-slash": ({"HF_STORAGE_URI": f"s3:/quant:{CANARY}@bucket"}, store),
    "landing-user": ({"HF_LANDING_URI": f"s3://quant:{CANARY}@bucket/in"}, landing),
    "landing-scheme": ({"HF_LANDING_URI": f"ftp://quant:{CANARY}@127.0.0.1/in"}, landing),
    "webhook-refused": ({"HF_WEBHOOK_URL": f"http://127.0.0.1:{{refused}}/hook/{CANARY}?t={TAIL}"}, webhook),
    "webhook-quotes": ({"HF_WEBHOOK_URL": f"http://127.0.0.1:{{quotes}}/hook/{CANARY}?t={TAIL}"}, webhook),
    "webhook-scheme": ({"HF_WEBHOOK_URL": f"ftp://quant:{CANARY}@127.0.0.1/{TAIL}"}, webhook),
    "key-quotes": (
        {"AWS_SECRET_ACCESS_KEY": CANARY, "AWS_SESSION_TOKEN": TAIL, "HF_S3_ENDPOINT": "http://127.0.0.1:{quotes}"},
        store,
    ),
    "key-refused": (
        {"AWS_SECRET_ACCESS_KEY": CANARY, "AWS_SESSION_TOKEN": TAIL, "HF_S3_ENDPOINT": "http://127.0.0.1:{refused}"},
        store,
    ),
}


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**KEYS, "HF_STORAGE_URI": "s3://bucket/prefix", "HF_DATA_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    for name in ("HF_S3_ENDPOINT", "HF_POSTGRES_URL", "HF_MLFLOW_URI", "HF_WEBHOOK_URL", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(store_access, "RETRY", {"max_retries": 0})
    monkeypatch.setitem(mlflow_tracking.CLIENT_SETTINGS, "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    store_access.open_backend.cache_clear()


@pytest.mark.parametrize("name", LEAKS)
def test_failure_shows_no_secret_in_its_words_nor_in_those_of_what_led_to_it(
    name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    variables, use = LEAKS[name]
    with quoting(403) as server:
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value.format(refused=free_port(), quotes=server.port))
        with pytest.raises((ValueError, OSError, RuntimeError)) as failed:
            use()
    # As Dagster stores it, and as Python prints it.
    chain = "".join(traceback.format_exception(failed.value))
    info = serializable_error_info_from_exc_info((type(failed.value), failed.value, failed.value.__traceback__))
    shown = "\n".join([str(failed.value), repr(failed.value), chain, str(info), *capfd.readouterr()])
    assert [secret for secret in (CANARY, TAIL) if secret in shown] == []
    # It says which variable, or which object: a message that says nothing leaks nothing.
    assert "`" in str(failed.value) or "webhook" in str(failed.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HF_POSTGRES_URL", f"postgresql://hf:{CANARY}@{TAIL}@db/x"),
        ("HF_MLFLOW_URI", f"http://quant:{CANARY}@tracker/?token={TAIL}"),
        ("HF_S3_ENDPOINT", f"http://{CANARY}:{TAIL}@minio:9000"),
        ("HF_STORAGE_URI", f"s3://quant:{CANARY}@bucket?x={TAIL}"),
        ("HF_LANDING_URI", f"s3://quant:{CANARY}@bucket?x={TAIL}"),
        ("HF_UI_URL", f"http://quant:{CANARY}@ui.example?x={TAIL}"),
        ("HF_WEBHOOK_URL", f"https://hooks.example/{CANARY}/{TAIL}"),
        ("HF_PORTFOLIO_URL", f"https://desk.example/{CANARY}/{TAIL}"),
        ("AWS_SECRET_ACCESS_KEY", f"{CANARY}/+{TAIL}"),
        ("AWS_SESSION_TOKEN", f"{CANARY}=={TAIL}"),
        ("POSTGRES_PASSWORD", f'{CANARY}"\\{TAIL}'),
        ("MINIO_ROOT_PASSWORD", f"{CANARY} é {TAIL}"),
        ("VENDOR_API_KEY", f"{CANARY}{TAIL}"),
        ("MARKET_DATA_CODE", f"{CANARY}{TAIL}"),
    ],
)
def test_secret_of_any_variable_leaves_by_no_way_out(
    variable: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    name_secret("MARKET_DATA_CODE")
    # As whoever has it may quote it: as it is, in JSON, in an address, in an error of an error.
    said = f"{value} and {value!r} and {json.dumps(value)} fail"
    texts = [redacted(said), shown_address(value)]
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_POSTGRES_URL", raising=False) if variable != "HF_POSTGRES_URL" else None
    try:
        try:
            raise OSError(5, said, value)
        except OSError as inner:
            raise RuntimeError(ConnectionError(said)) from inner
    except RuntimeError as error:
        raised = error
    info = serializable_error_info_from_exc_info((RuntimeError, raised, raised.__traceback__))

    # Way out: Python's logging, with the traceback.
    logger, lines = logging.getLogger("leaking"), []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(handler.format(record))  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        from hf_pipelines.resources.redaction import guard_process

        guard_process()
        logger.error("failed: %s", said, exc_info=raised)
    finally:
        logger.removeHandler(handler)
        logging.setLogRecordFactory(logging.LogRecord)
        sys.excepthook = sys.__excepthook__
    texts += lines
    assert "Traceback" in lines[0]

    # Way out: events and ticks in the instance's database.
    if variable != "HF_POSTGRES_URL":
        storage = InstanceStorage.from_config_value(None, {})
        data = EngineEventData(error=info)
        event = dg.DagsterEvent(dg.DagsterEventType.ENGINE_EVENT.value, "job", event_specific_data=data, message=said)
        storage.event_log_storage.store_event(
            dg.EventLogEntry(info, 40, said, "run", 1.0, job_name="job", dagster_event=event)
        )
        storage.schedule_storage.create_tick(
            TickData(
                "o", "watch", InstigatorType.SENSOR, TickStatus.FAILURE, 1.0, selector_id="s", run_ids=[], error=info
            )
        )
        files = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
        stored = b"".join(path.read_bytes() for path in files).decode(errors="replace")
        assert "fail" in stored
        texts.append(stored)
        logging.setLogRecordFactory(logging.LogRecord)
        sys.excepthook = sys.__excepthook__

    # Way out: a notification.
    message = Notification("i", "opened", "run", said, "b", "ERROR", said, said, said, "f")
    texts.append(json.dumps(message.payload(), ensure_ascii=False))
    # And what is cleaned where it is raised.
    texts.append("".join(traceback.format_exception(clean(raised))))
    for text in texts:
        assert [secret for secret in (CANARY, TAIL) if secret in text] == [], text


def test_command_prints_no_secret_also_in_a_traceback_that_nobody_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_STORAGE_URI", f"s3:/quant:{CANARY}@bucket")
    assert main(["verify"]) == 1
    assert CANARY not in "".join(capsys.readouterr())
    code = (
        "import os; from hf_pipelines.resources.redaction import guard_process; guard_process();"
        "raise KeyError(os.environ['HF_WEBHOOK_URL'])"
    )
    env = {"HF_WEBHOOK_URL": f"https://hooks.example/{CANARY}", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert (done.returncode, "KeyError" in done.stderr, CANARY in done.stderr) == (1, True, False)


def test_text_without_secrets_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_POSTGRES_URL", "postgresql://hf:longPassword@db:5432/dagster?sslmode=require")
    for text in ("us_tech/bars 2013-02-24 db:5432 require", "see https://docs.example/page?week=2013-02-24", "a@b.c"):
        assert redacted(text) == text


@pytest.mark.parametrize("is_allowed", [False, True], ids=["by default", "where it is allowed"])
@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(store, id="obstore"),
        pytest.param(lambda: S3Client(region_name="us-east-1").get_client().list_buckets(), id="boto3"),
        pytest.param(lambda: list(Landing("s3://bucket/in").names()), id="listing"),
    ],
)
def test_without_keys_the_metadata_address_is_asked_only_where_that_is_allowed(
    ask: Callable[[], object], is_allowed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.exceptions import BotoCoreError

    for name in (*KEYS, "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    monkeypatch.setenv("HF_S3_MACHINE_ROLE", "1" if is_allowed else "0")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    store_access.s3_client.cache_clear()
    # It keeps the keys that it found first.
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    with quoting(404) as metadata:
        for name in ("AWS_METADATA_ENDPOINT", "AWS_EC2_METADATA_SERVICE_ENDPOINT"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{metadata.port}")
        with pytest.raises((OSError, BotoCoreError)) as failed:
            ask()
    assert bool(metadata.asked) is is_allowed, failed.value
    store_access.s3_client.cache_clear()
    store_access.open_backend.cache_clear()
