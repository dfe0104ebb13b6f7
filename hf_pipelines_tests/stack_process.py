"""Stack process: `hfp stack` of a checkout as a user starts it, on free ports, and asked through GraphQL.

Lives here: starting, reading what it prints, stopping. Does not live here: what is asserted.
"""

import json
import re
import shlex
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen
from typing import TYPE_CHECKING

import psutil

from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.serving.lease import ID_VARIABLE
from hf_pipelines_tests.checkout import Checkout
from hf_pipelines_tests.running import Running
from hf_pipelines_tests.servers import free_port, wait_until

if TYPE_CHECKING:
    from dagster._core.storage.base_storage import DagsterStorage

# Six servers, most of which import for seconds; other work on the machine may take most of its cores.
START_S = 480.0
STOP_S = 90.0
HEALTHY = re.compile(r"^(\w+) .* pid (\d+) +healthy after", re.MULTILINE)
STOPPED = re.compile(r"^(\w+) +stopped$", re.MULTILINE)


class StackProcess(Running):
    """A supervisor and its services; questions are asked as of any `Running`."""

    def __init__(self, checkout: Checkout, env: Mapping[str, str] | None = None) -> None:
        self.checkout = checkout
        self.env = {**checkout.environment(), **(env or {})}
        self.ports = {name: free_port() for name in ("webserver", "mlflow", "postgres", "s3")}
        self.data = checkout.data
        self.starts = 0
        self.process: Popen[bytes] | None = None

    @property
    def storage(self) -> "DagsterStorage":
        from dagster_postgres import DagsterPostgresStorage

        url = self.variables()["HF_POSTGRES_URL"]
        return DagsterPostgresStorage(url.replace("postgresql://", "postgresql+psycopg2://", 1))

    @property
    def printed(self) -> str:
        return self.output.read_text()

    @property
    def output(self) -> Path:
        """What the present supervisor prints."""
        return self.data.parent / f"{self.data.name}_stack_{self.starts}.out"

    def arguments(self) -> list[str]:
        ports = [f"--{'web' if name == 'webserver' else name}-port={port}" for name, port in self.ports.items()]
        return self.checkout.command("stack", *ports)

    def start(self, *names: str) -> None:
        """Start all services, and wait until all are healthy."""
        assert not names, "a supervisor starts all its services"
        self.starts += 1
        self.output.parent.mkdir(parents=True, exist_ok=True)
        with self.output.open("wb") as output:
            self.process = Popen(
                self.arguments(),
                cwd=self.checkout.root,
                env=self.env,
                stdin=DEVNULL,
                stdout=output,
                stderr=STDOUT,
                start_new_session=True,
            )
        process = self.process
        wait_until(lambda: process.poll() is not None or "Ctrl-C" in self.printed, "healthy stack", timeout_s=START_S)
        assert process.poll() is None, self.printed

    def pids(self) -> dict[str, int]:
        """Process of each service, the newest where it was started again."""
        return {name: int(pid) for name, pid in HEALTHY.findall(self.printed)}

    def n_healthy(self, name: str) -> int:
        """How often a service has become healthy."""
        return sum(found == name for found, _ in HEALTHY.findall(self.printed))

    def processes(self) -> list[psutil.Process]:
        """Everything the present supervisor has started, and what those started."""
        run_id = json.loads((self.data / "stack" / "operator.json").read_text())["id"]
        return carriers(run_id)

    def variables(self) -> dict[str, str]:
        """What the supervisor has written for other commands, as a shell reads it."""
        lines = (self.data / "stack" / "stack.env").read_text().splitlines()
        return dict(shlex.split(line)[0].split("=", 1) for line in lines)

    def store(self) -> PartitionStore:
        """Its S3 storage; the keys must be in this process' environment."""
        variables = self.variables()
        return PartitionStore(ObjectStore(variables["HF_STORAGE_URI"], variables["HF_S3_ENDPOINT"]))

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> int:
        """Stop the supervisor by a signal; returns its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        return self.process.wait(STOP_S)


def carriers(run_id: str) -> list[psutil.Process]:
    """Processes that a supervisor has marked as its own."""

    def is_marked(process: psutil.Process) -> bool:
        try:
            return bool(process.environ().get(ID_VARIABLE) == run_id)
        except (psutil.Error, OSError):
            return False

    return [process for process in psutil.process_iter() if is_marked(process)]


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that PostgreSQL's account can reach: a start of pytest closes the folders of all others."""
    with tempfile.TemporaryDirectory(prefix="hf_stack_", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def stack_process(checkout: Checkout, env: Mapping[str, str] | None = None) -> Iterator[StackProcess]:
    """A started stack; stopped at the end."""
    stack = StackProcess(checkout, env)
    try:
        stack.start()
        yield stack
    finally:
        if stack.process is not None and stack.stop() < 0:
            # It was killed by a test that failed afterwards.
            stack.start()
            stack.stop()
