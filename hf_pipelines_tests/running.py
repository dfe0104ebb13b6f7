"""Running: the real code server, daemon and web server of a checkout as processes.

Lives here: starting, killing and restarting them, launching runs through GraphQL as the web UI does, and reading what
became of them. Does not live here: what is asserted. The copy of dagster.yaml polls faster than the project's own, and
the daemon looks at its sensors and backfills every second (`fast_daemon`), so that tests wait for seconds.

Runs, events and ticks are read from Dagster's storage, not asked of the web server: an answer of it costs a tenth of a
second of a core, and most of a test is waiting.
"""

import json
import os
import re
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import yaml

from hf_pipelines_tests.checkout import Checkout
from hf_pipelines_tests.forked import FAST_ENV, popen
from hf_pipelines_tests.servers import Server, free_port, wait_until

if TYPE_CHECKING:
    from dagster._core.storage.base_storage import DagsterStorage

SERVICES = ("code_server", "webserver", "daemon")
FINISHED = ("SUCCESS", "FAILURE", "CANCELED")

POLL_S = 2
# Merged into the checkout's dagster.yaml; what is tested is the rest of it.
FAST: Mapping[str, Any] = {
    "run_monitoring": {"poll_interval_seconds": POLL_S, "free_slots_after_run_end_seconds": 2},
    "run_coordinator": {
        "module": "dagster",
        "class": "QueuedRunCoordinator",
        "config": {"dequeue_interval_seconds": 1},
    },
}

# Starting is mostly importing; other work on the machine may take most of its cores.
START_S = 180.0
RUN_S = 180.0

ASK_EVERY_S = 0.1

LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on Error { message }
  }
}
"""
REEXECUTE = """
mutation Reexecute($params: ReexecutionParams!) {
  launchRunReexecution(reexecutionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on Error { message }
  }
}
"""
STATUS = "query Status($id: ID!) { runOrError(runId: $id) { __typename ... on Run { status } } }"
RUNS = """
query Runs($filter: RunsFilter, $limit: Int) {
  runsOrError(filter: $filter, limit: $limit) {
    __typename
    ... on Runs { results { runId } }
    ... on Error { message }
  }
}
"""
SENSOR = """
query Sensor($selector: SensorSelector!) {
  sensorOrError(sensorSelector: $selector) { __typename ... on Sensor { id } ... on Error { message } }
}
"""
STOP_SENSOR = """
mutation Stop($id: String!) {
  stopSensor(id: $id) { __typename ... on Error { message } }
}
"""
LOADED = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"
# What a daemon writes into its log when it has started, with the names of its threads.
CONFIGURED = re.compile(r"Instance is configured with the following daemons: (\[.*\])")


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings, the second's values over the first's."""
    both = dict(base)
    for key, value in change.items():
        old = both.get(key)
        both[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return both


def is_run_worker(process: psutil.Process) -> bool:
    """Whether a process below a code server is one that computes a run."""
    try:
        # Forked by the fork server of runs (`forked_runs`), whose name it keeps, or started anew.
        names = (process.name(), psutil.Process(process.ppid()).name())
        return names == ("forkserver", "forkserver") or "spawn_main" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def starting_runs(code_server: psutil.Process) -> set[int]:
    """Processes of runs below a code server that have just begun: whoever asked for them waits for an answer."""
    found = set()
    for each in code_server.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            # One that was not forked has to import first, and is sent what it is to do meanwhile.
            if is_run_worker(each) and (each.name() == "forkserver" or each.cpu_times().user > 0.2):
                found.add(each.pid)
    return found


class Running:
    """Code server, web server and daemon of a checkout; each leads a process group of its own.

    Parameters
    ----------
    checkout : Checkout
        Its code and its data folder; runs write there.
    folder : Path
        Home of the Dagster instance, and the logs.
    env : mapping
        Set for all of them, over the checkout's own environment.
    dagster_yaml : mapping
        Merged into dagster.yaml over `FAST`.
    """

    def __init__(
        self,
        checkout: Checkout,
        folder: Path,
        env: Mapping[str, str] | None = None,
        *,
        dagster_yaml: Mapping[str, Any] | None = None,
    ) -> None:
        self.checkout = checkout
        self.folder = folder
        self.home = folder / "home"
        self.ports = {"code_server": free_port(), "webserver": free_port()}
        self.servers: dict[str, Server] = {}
        self.env = {**checkout.environment(), **FAST_ENV, "DAGSTER_HOME": str(self.home), **(env or {})}
        self.home.mkdir(parents=True, exist_ok=True)
        settings = yaml.safe_load((checkout.root / "dagster.yaml").read_text())
        settings = merged(merged(settings, FAST), dagster_yaml or {})
        (self.home / "dagster.yaml").write_text(yaml.safe_dump(settings))
        server = {"host": "127.0.0.1", "port": self.ports["code_server"], "location_name": "hf_pipelines"}
        (folder / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['webserver']}"

    def command(self, name: str) -> list[str]:
        workspace = ["--workspace", str(self.folder / "workspace.yaml")]
        local = ["--host", "127.0.0.1"]
        dagster = [sys.executable, "-m"]
        if name == "code_server":
            port = ["--port", str(self.ports[name])]
            target = ["--module-name", "hf_pipelines.definitions", "--location-name", "hf_pipelines"]
            # Warnings, not each request: the daemon sends one every few seconds.
            return [*dagster, "dagster", "api", "grpc", *local, *port, *target, "--log-level", "WARNING"]
        if name == "webserver":
            return [*dagster, "dagster_webserver", *local, "--port", str(self.ports[name]), *workspace]
        return [*dagster, "dagster._daemon", "run", *workspace]

    def start(self, *names: str, once_launched: Callable[[], object] = lambda: None) -> None:
        """Start services (default: all that are not running), and wait until they answer.

        `once_launched` is called when all are processes, and the daemon, which launches runs, has only just begun.
        """
        chosen = list(names) or [each for each in SERVICES if not self.is_running(each)]
        # The others load the code from the first; then they start side by side.
        for together in (["code_server"], ["webserver", "daemon"]):
            began = {name: self._launch(name) for name in together if name in chosen}
            if "daemon" in began:
                once_launched()
            for name in began:
                self._wait_for_answer(name, began[name])

    def _launch(self, name: str) -> float:
        """Start the process of a service; returns when it began, in seconds since 1970."""
        assert not self.is_running(name), f"{name} is running"
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            process = popen(
                self.command(name),
                cwd=self.checkout.root,
                env=self.env,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.servers[name] = Server(process, log)
        return psutil.Process(process.pid).create_time()

    def _wait_for_answer(self, name: str, began: float) -> None:
        started = self.servers[name]
        wait_until(
            lambda: not started.is_running or self.answers(name, began),
            f"{name} that answers",
            timeout_s=START_S,
            every_s=ASK_EVERY_S,
        )
        assert started.is_running, f"{name} ended with {started.process.returncode}:\n{started.text()[-3000:]}"

    def is_running(self, name: str) -> bool:
        return name in self.servers and self.servers[name].is_running

    def answers(self, name: str, began: float = 0.0) -> bool:
        """Whether a service does what it is there for; the daemon: since `began`."""
        if name == "code_server":
            # Imported here: it takes seconds, and many tests need none of it.
            from dagster._core.errors import DagsterUserCodeUnreachableError
            from dagster._grpc.client import DagsterGrpcClient

            client = DagsterGrpcClient(host="127.0.0.1", port=self.ports[name])
            with suppress(DagsterUserCodeUnreachableError):
                client.ping("")
                return True
            return False
        try:
            if name == "webserver":
                return bool(self.graphql(LOADED)["repositoriesOrError"].get("nodes"))
        except OSError:
            return False
        configured = CONFIGURED.findall(self.servers[name].text())
        if not configured:
            return False
        beats = self.storage.run_storage.get_daemon_heartbeats().values()
        return sum(each.timestamp >= began for each in beats) > configured[-1].count(",")

    def stop_sensors(self, *names: str) -> None:
        """Turn sensors off that run by default."""
        place = {"repositoryLocationName": "hf_pipelines", "repositoryName": "__repository__"}
        for name in names:
            sensor = self.graphql(SENSOR, selector={**place, "sensorName": name})["sensorOrError"]
            assert sensor["__typename"] == "Sensor", sensor
            try:
                answer = self.graphql(STOP_SENSOR, id=sensor["id"])
            except urllib.error.HTTPError as e:
                # A daemon that runs has stored the sensor's first state between Dagster's look and its own insert.
                if not any("is already present in storage" in note for note in e.__notes__):
                    raise
                answer = self.graphql(STOP_SENSOR, id=sensor["id"])
            assert answer["stopSensor"]["__typename"] == "StopSensorMutationResult", answer

    def kill(self, *names: str, with_runs: bool = True) -> None:
        """SIGKILL to services (default: all that run) and to all they started, runs among them unless told otherwise."""
        chosen = list(names) or [each for each in SERVICES if self.is_running(each)]
        victims: list[psutil.Process] = []
        for name in chosen:
            with suppress(psutil.NoSuchProcess):
                leader = psutil.Process(self.servers[name].process.pid)
                below = leader.children(recursive=True)
                spared = {} if with_runs else {each.pid: each for each in below if is_run_worker(each)}
                victims += [each for each in (leader, *below) if each.pid not in spared]
        # All are found before the first is killed: who loses its parent belongs to nobody.
        for victim in victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill()
        for name in chosen:
            self.servers[name].process.wait(30)
        psutil.wait_procs(victims, timeout=30)

    def stop(self) -> None:
        """Stop everything, orphaned runs included."""
        for name in reversed(SERVICES):
            if name in self.servers:
                self.servers[name].stop(signal.SIGINT if name == "daemon" else signal.SIGTERM)

    def log(self, name: str) -> str:
        return self.servers[name].text()

    def graphql(self, query: str, **variables: Any) -> Any:
        """The data of an answer; AssertionError with the errors of a question that failed."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                content = json.load(answer)
        except urllib.error.HTTPError as e:
            e.add_note(e.read().decode())
            raise
        assert not content.get("errors"), content["errors"]
        return content["data"]

    def launch(
        self, assets: Sequence[str], first: str, last: str | None = None, *, tags: Mapping[str, str] | None = None
    ) -> str:
        """Run id of a new run over one partition, or over a range of them."""
        if last is None:
            partitions = {"dagster/partition": first}
        else:
            partitions = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        params = {
            "selector": {
                "repositoryLocationName": "hf_pipelines",
                "repositoryName": "__repository__",
                "pipelineName": "__ASSET_JOB",
                "assetSelection": [{"path": asset.split("/")} for asset in assets],
            },
            "mode": "default",
            "executionMetadata": {
                "tags": [{"key": key, "value": value} for key, value in {**partitions, **(tags or {})}.items()]
            },
        }
        launched: dict[str, Any] = {}

        def is_answered() -> bool:
            """Whether the web server has found the code server, which it looks for from time to time after a restart."""
            # Not the message of an answer before: a run that was launched would be launched again.
            launched.clear()
            launched.update(self.graphql(LAUNCH, params=params)["launchPipelineExecution"])
            return "DagsterUserCodeUnreachableError" not in launched.get("message", "")

        wait_until(is_answered, "the web server reaches the code server", timeout_s=120)
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["runId"])

    def reexecute(self, run_id: str) -> str:
        """Run id of a re-execution of all steps, as the web UI's button does it."""
        params = {"parentRunId": run_id, "strategy": "ALL_STEPS"}
        launched = self.graphql(REEXECUTE, params=params)["launchRunReexecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["runId"])

    @cached_property
    def storage(self) -> "DagsterStorage":
        """Dagster's storage, read past the servers: also while none runs."""
        # Imported here: it takes a second, and many tests need none of it.
        if url := self.env.get("HF_POSTGRES_URL"):
            from dagster_postgres import DagsterPostgresStorage

            return DagsterPostgresStorage(url.replace("postgresql://", "postgresql+psycopg2://", 1))
        from dagster._core.storage.sqlite_storage import DagsterSqliteStorage

        return DagsterSqliteStorage.from_local(str(self.home / "storage"))

    def status(self, run_id: str) -> str:
        from dagster import RunsFilter

        (run,) = self.storage.run_storage.get_runs(RunsFilter(run_ids=[run_id]))
        return str(run.status.value)

    def wait_for_status(self, run_id: str, *statuses: str, timeout_s: float = RUN_S) -> str:
        """Status of a run once it is one of `statuses` (or has ended)."""
        seen = [""]

        def is_there() -> bool:
            seen[0] = self.status(run_id)
            return seen[0] in statuses or seen[0] in FINISHED

        wanted = " or ".join(statuses or FINISHED)
        try:
            wait_until(is_there, f"run {run_id} with status {wanted}", timeout_s=timeout_s, every_s=ASK_EVERY_S)
        except AssertionError as e:
            raise AssertionError(f"{e}, but {seen[0]}: {self.told(run_id)}") from None
        return seen[0]

    def told(self, run_id: str, last: int = 12) -> str:
        """The last events of a run and what else is under way, for whoever reads of a failure."""
        events = [f"{each['at']:.0f} {each['type']} {each['message']} {each['error']}" for each in self.events(run_id)]
        others = [f"{each['id']} {each['status']}" for each in self.runs() if each["status"] not in FINISHED]
        return "\n".join([*events[-last:], "under way:", *others])

    def wait_for_run(self, run_id: str, *, timeout_s: float = RUN_S) -> str:
        """Final status of a run."""
        return self.wait_for_status(run_id, timeout_s=timeout_s)

    def runs(self, **tags: str) -> list[dict[str, Any]]:
        """Runs that carry all `tags`, newest first: id, status, tags, and their times in seconds since 1970."""
        from dagster import RunsFilter

        return [
            {
                "id": record.dagster_run.run_id,
                "status": record.dagster_run.status.value,
                "tags": dict(record.dagster_run.tags),
                "created": record.create_timestamp.timestamp(),
                "started": record.start_time,
                "ended": record.end_time,
            }
            for record in self.storage.run_storage.get_run_records(RunsFilter(tags=tags), limit=1000)
        ]

    def events(self, run_id: str) -> list[dict[str, Any]]:
        """Events of a run, oldest first: type, step, message, error and time in seconds since 1970."""
        found = []
        for entry in self.storage.event_log_storage.get_logs_for_run(run_id):
            event = entry.dagster_event
            error = getattr(event.event_specific_data, "error", None) if event else None
            found.append(
                {
                    "type": event.event_type.name if event else None,
                    "step": entry.step_key,
                    "message": entry.message or "",
                    "error": error.message if error else "",
                    "at": entry.timestamp,
                }
            )
        return found

    def ticks(self, limit: int = 4) -> dict[str, list[dict[str, Any]]]:
        """Newest ticks of the sensors that the daemon has looked at, by name, each list newest first."""
        storage = self.storage.schedule_storage
        assert storage is not None
        return {
            state.name: [
                {
                    "id": tick.tick_id,
                    "timestamp": tick.timestamp,
                    "status": tick.status.value,
                    "skipReason": tick.tick_data.skip_reason,
                    "error": tick.error.message if tick.error else "",
                }
                for tick in storage.get_ticks(state.instigator_origin_id, state.selector_id, limit=limit)
            ]
            for state in storage.all_instigator_state()
        }

    def run_pid(self, run_id: str) -> int:
        """Process of a run that a code server started; 0 before it has said so."""
        marker = "Started process for run (pid: "
        messages = [each["message"] for each in self.events(run_id) if each["message"].startswith(marker)]
        return int(messages[-1].removeprefix(marker).rstrip(").")) if messages else 0

    def kill_run(self, run_id: str) -> None:
        """SIGKILL to the process of one run."""
        wait_until(lambda: self.run_pid(run_id) != 0, f"process of run {run_id}", timeout_s=RUN_S, every_s=ASK_EVERY_S)
        os.kill(self.run_pid(run_id), signal.SIGKILL)


@contextmanager
def running(
    checkout: Checkout,
    folder: Path,
    env: Mapping[str, str] | None = None,
    *,
    dagster_yaml: Mapping[str, Any] | None = None,
    start: Sequence[str] = SERVICES,
    without_sensors: Sequence[str] = (),
) -> Iterator[Running]:
    """All services started and answering (or those of `start`), some sensors turned off; stopped at the end."""
    services = Running(checkout, folder, env, dagster_yaml=dagster_yaml)
    try:
        first = [name for name in start if name != "daemon"] if without_sensors else list(start)
        services.start(*first)
        if first != list(start):
            services.stop_sensors(*without_sensors)
            services.start("daemon")
        yield services
    finally:
        services.stop()
