"""MLflow's web UI on the store that the project logs to.

Lives here: the command that serves it. Does not live here: MLflow as one of the stack's services (`stack`), the runs
(`resources.mlflow_runs`).
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hf_pipelines.resources import settings
from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines.resources.redaction import shown_address
from hf_pipelines.serving.service import STOP_TIMEOUT_S, ServiceFailedError
from hf_pipelines.serving.supervisor import answers, is_free

LOCAL = "127.0.0.1"
START_TIMEOUT_S = 90.0

# MLflow's own, in every store.
DEFAULT_EXPERIMENT = "Default"

# Without it MLflow 3 shows an experiment as one of language models, where it has nothing.
RUNS_PAGE = "{address}/#/experiments/{experiment}?workflowType=machine_learning"

# The newest are shown; the page lists all.
SHOWN_EXPERIMENTS = 20


def open_mlflow(port: int, say: Callable[[str], None]) -> None:
    """Say where MLflow's UI is: of a server its address; else serve it on this machine until Ctrl-C.

    Raises
    ------
    TrackingUnavailableError
        If the server or the database does not answer.
    ServiceFailedError
        If the port is taken, or the UI does not start.
    """
    tracking = MLflowTracking()
    uri = tracking.tracking_uri()
    # Makes the tables of a fresh database, so that the page shows an empty list and no fault.
    client = tracking.client()
    if uri.startswith(("http://", "https://")):
        say(f"MLflow's UI is that of the tracking server: {shown_address(uri)}")
        _say_pages(client, shown_address(uri).rstrip("/"), say)
        return
    if not is_free(port):
        raise ServiceFailedError(
            f"`--port` must be free, {port} is taken; give another one: hfp mlflow --port {port + 1}"
        )
    address, log = f"http://{LOCAL}:{port}", settings.data_dir() / "logs" / "mlflow_ui.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    # A `kill` ends the server too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", LOCAL, "--port", str(port), "--workers", "1"],
            env=_environment(uri),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_for(server, address, log)
            say(f"MLflow's UI on {address}, of {shown_address(uri)}; Ctrl-C stops it.")
            _say_pages(client, address, say)
            server.wait()
        except KeyboardInterrupt:
            say("MLflow's UI is stopped.")
        finally:
            _stop(server)


def _say_pages(client: Any, address: str, say: Callable[[str], None]) -> None:
    """Where the runs of each strategy are."""
    found = client.search_experiments(max_results=SHOWN_EXPERIMENTS, order_by=["last_update_time DESC"])
    if strategies := [each for each in found if each.name != DEFAULT_EXPERIMENT]:
        say(
            "Runs by strategy (elsewhere MLflow begins with pages for language models: choose Model training at the top left):"
        )
    for each in strategies:
        say(f"  {each.name}: {RUNS_PAGE.format(address=address, experiment=each.experiment_id)}")


def _environment(uri: str) -> dict[str, str]:
    return {
        **os.environ,
        # Not on the command line, which every user of the machine sees: it may hold a password.
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_SERVER_ALLOWED_HOSTS": "localhost:*,127.0.0.1:*",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
    }


def _wait_for(server: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    until = time.monotonic() + START_TIMEOUT_S
    while not answers(f"{address}/health"):
        if server.poll() is not None or time.monotonic() > until:
            raise ServiceFailedError(
                f"`hfp mlflow` must answer on {address} within {START_TIMEOUT_S:g} s, did not; the reason is at the end of {log}."
            )
        time.sleep(0.3)


def _stop(server: "subprocess.Popen[bytes]") -> None:
    """End the server and the workers that it has started."""
    for each in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, each)
        with suppress(subprocess.TimeoutExpired):
            server.wait(STOP_TIMEOUT_S)
            return
