"""Canaries: where the secrets of a stack could show, as texts to search.

Lives here: a webhook that quotes its address, arguments of processes, tables of PostgreSQL, files and objects. Does not
live here: the stack (`stack_process`), what is asserted.
"""

import json
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import psycopg2
import pyarrow.parquet as pq

Text = tuple[str, str]

LOOK_EVERY_S = 0.2
# A process takes its arguments when it is started, and a few take others later on.
YOUNG_S, LOOK_AGAIN_S = 2.0, 10.0


@dataclass
class Webhook:
    """A receiver that, while it fails, answers 500 and quotes its address, as some do."""

    token: str
    port: int
    is_failing: bool = False
    received: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook/{self.token}"


@contextmanager
def webhook(token: str) -> Iterator[Webhook]:
    """A webhook that answers until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.received.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(500 if receiver.is_failing else 204)
            self.end_headers()
            if receiver.is_failing:
                self.wfile.write(self.path.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    receiver = Webhook(token, server.server_port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def arguments_seen(data: Path) -> Iterator[set[str]]:
    """Arguments of every process that works on a data folder, while the block runs."""
    seen: set[str] = set()
    is_over = threading.Event()
    looked: dict[psutil.Process, float] = {}

    def look() -> None:
        for process in psutil.process_iter():
            now = time.time()
            with suppress(psutil.Error, OSError):
                is_young = now - process.create_time() < YOUNG_S
                # Reading the environment of all that runs takes a core's tenth.
                if is_young or now - looked.get(process, 0.0) > LOOK_AGAIN_S:
                    looked[process] = now
                    arguments = process.cmdline()
                    if str(data) in json.dumps([process.environ().get("HF_DATA_DIR"), *arguments]):
                        seen.add(" ".join(arguments))

    def watch() -> None:
        while not is_over.wait(LOOK_EVERY_S):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join()


def database_texts(variables: Mapping[str, str]) -> Iterator[Text]:
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


def file_texts(folder: Path) -> Iterator[Text]:
    """Every file below a folder; the content of Parquet files as text. Services at work may remove files meanwhile."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name == "stack.env":
            continue
        try:
            place, content = str(path.relative_to(folder)), path.read_bytes()
        except FileNotFoundError:  # the write-ahead log of a database that was closed, a file in writing
            continue
        yield place, content.decode(errors="replace")
        if content.startswith(b"PAR1"):
            table = pq.read_table(path)
            yield place, f"{table.schema.metadata} {table.to_pylist()}"
