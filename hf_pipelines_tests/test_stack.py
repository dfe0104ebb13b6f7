"""The stack as processes: `hfp stack` and `hfp ui` start, heal and stop their services, and lose nothing.

The chain that runs through the stack's daemon, on PostgreSQL, S3 and an MLflow server, has the content hashes of the
embedded default. Its passwords, its webhook's token and others appear in nothing that it writes, prints or shows,
failures included: logs, what commands print, tables of PostgreSQL, objects in S3, MLflow's fields, arguments.
"""

import dataclasses
import json
import os
import re
import socket
import stat
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from urllib.parse import urlsplit
from uuid import uuid4

import psutil
import pytest

from hf_pipelines.serving import stack as serving_stack
from hf_pipelines.serving.lease import one_supervisor
from hf_pipelines.serving.service import Service, ServiceFailedError
from hf_pipelines.serving.supervisor import Supervisor
from hf_pipelines_tests.canaries import Text, Webhook, arguments_seen, database_texts, file_texts, webhook
from hf_pipelines_tests.checkout import (
    DAY,
    FIRST_BARS,
    FIRST_FEATURES,
    GROUPS,
    RETRAINED,
    WEEK,
    Checkout,
    built_checkout,
    make_checkout,
)
from hf_pipelines_tests.running import RUNS, starting_runs
from hf_pipelines_tests.servers import free_port, wait_until
from hf_pipelines_tests.short_backoff import with_short_backoff
from hf_pipelines_tests.stack_process import START_S, STOPPED, StackProcess, carriers, open_folder, stack_process

pytestmark = pytest.mark.servers

SERVICES = ("postgres", "s3", "mlflow", "code_server", "webserver", "daemon")

# The steps of the chain, as an operator launches them.
CHAIN = (
    (["us_tech/bars"], FIRST_BARS, WEEK),
    ([f"us_tech/features/{group}" for group in GROUPS], FIRST_FEATURES, WEEK),
    ([f"short_ranking/{stage}" for stage in RETRAINED], WEEK, None),
    (["short_ranking/signals"], DAY, None),
)

# Secrets that the stack does not make itself.
CANARY = {
    "webhook": "canaryHook9Tz",
    "alert channel": "canaryAlert5Rq",
    "MLflow": "canaryMl6Vb2",
    "wrong PostgreSQL": "canaryBad3Kd",
    "S3 of the second start": "canaryS3Wm4x",
}

# Not a secret: what the search must find, in each place that it says it searches.
CONTROL = "controlMark8Yp"
TAGS = {"control": CONTROL}


@dataclass
class Searched:
    """What is searched for secrets, gathered while the stack runs."""

    receiver: Webhook
    arguments: set[str]
    secrets: dict[str, str] = field(default_factory=lambda: dict(CANARY))
    texts: list[Text] = field(default_factory=list)
    # A run whose log must be among the stored objects.
    run_id: str = ""

    def learn(self, stack: StackProcess) -> None:
        """The passwords of the present start."""
        for name in serving_stack.PASSWORDS:
            # The user of S3 is no secret: each signed request names it.
            if name != "MINIO_ROOT_USER":
                self.secrets[f"{name} {stack.starts}"] = stack.variables()[name]

    def shown(self, texts: list[Text]) -> list[Text]:
        """Name and place of each secret that appears."""
        return sorted(
            {(name, place) for name, secret in self.secrets.items() for place, text in texts if secret in text}
        )


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


@pytest.fixture
def searched(folder: Path) -> Iterator[Searched]:
    with webhook(CANARY["webhook"]) as receiver, arguments_seen(folder / "data") as arguments:
        yield Searched(receiver, arguments)


def told_at(receiver: Webhook) -> dict[str, str]:
    """Variables by which programs and people are told of what goes wrong."""
    alerts = f"desk=json://{CANARY['alert channel']}:x@127.0.0.1:{receiver.port}/{CANARY['alert channel']}"
    return {"HF_WEBHOOK_URL": receiver.url, "HF_ALERT_URLS": alerts, "HF_ALERT_GATHER_SECONDS": "0"}


@pytest.fixture
def stack(folder: Path, searched: Searched) -> Iterator[StackProcess]:
    checkout = dataclasses.replace(built_checkout().checkout, data=folder / "data")
    env = {**told_at(searched.receiver), "HF_TICK_SECONDS": "5"}
    with pytest.MonkeyPatch.context() as patch, stack_process(checkout, env) as started:
        searched.learn(started)
        # They would issue the whole week that the chain makes features of.
        started.stop_sensors("short_ranking_follows", "short_trees_follows")
        for name, value in started.variables().items():
            if name.startswith("AWS_"):
                patch.setenv(name, value)
        yield started


def status_of(url: str, method: str = "GET") -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as e:
        return int(e.code)


def stack_when_started_names_each_service_and_keeps_its_passwords(stack: StackProcess) -> None:
    assert set(stack.pids()) == set(SERVICES)
    for name, pid in stack.pids().items():
        assert psutil.pid_exists(pid)
        assert (stack.data / "logs" / f"{name}.log").is_file()
    path = stack.data / "stack" / "stack.env"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    passwords = [stack.variables()[name] for name in ("POSTGRES_PASSWORD", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD")]
    # 128 bits each, made at this start.
    assert len({*passwords}) == 3
    assert {len(each) for each in passwords} == {32}
    processes = stack.processes()
    # The six, and at least the workers of PostgreSQL, MLflow and the code server.
    assert len(processes) > len(SERVICES)
    arguments = "\n".join(" ".join(process.cmdline()) for process in processes)
    assert str(stack.ports["postgres"]) in arguments
    assert not [each for each in passwords if each in arguments + stack.printed]


def stack_object_store_without_the_access_key_refuses_to_read_write_and_reset(stack: StackProcess) -> None:
    address = f"http://127.0.0.1:{stack.ports['s3']}"
    assert status_of(f"{address}/hf-pipelines") == 403
    assert status_of(f"{address}/hf-pipelines/storage/planted", "PUT") == 403
    assert status_of(f"{address}/moto-api/reset", "POST") == 403
    key = stack.variables()["AWS_ACCESS_KEY_ID"]
    assert status_of(f"{address}/hf-pipelines?X-Amz-Credential={key[:-1]}/d/r/s3/aws4_request") == 403


def stack_second_supervisor_on_the_same_data_is_refused_with_the_first_ones_pid(stack: StackProcess) -> None:
    assert stack.process is not None
    second = stack.checkout.run(stack.arguments())
    assert second.returncode == 1
    assert f"`hfp stack` (pid {stack.process.pid}) is running" in second.stderr
    # The first one's services are untouched.
    assert all(psutil.pid_exists(pid) for pid in stack.pids().values())
    assert all(stack.n_healthy(name) == 1 for name in SERVICES)


def stack_chain_through_its_daemon_has_the_hashes_of_the_embedded_default(
    stack: StackProcess, searched: Searched
) -> None:
    expected = {key: each for key, each in built_checkout().hashes.items() if not key.startswith("short_trees/")}
    # 39 weeks of bars, 11 of two feature groups, five weekly stages and one day of signals.
    assert len(expected) == 39 + 2 * 11 + 5 + 1
    for assets, first, last in CHAIN:
        run_id = searched.run_id = stack.launch(assets, first, last, tags=TAGS)
        status = stack.wait_for_run(run_id, timeout_s=START_S)
        assert status == "SUCCESS", [event for event in stack.events(run_id) if event["error"]]
    store = stack.store()
    found = {}
    for key in expected:
        footer = store.footer(*key.rsplit("/", 1))
        assert footer is not None, key
        found[key] = footer.content_hash
    assert found == expected
    # Nothing of it lies on the disk of the embedded default.
    assert not (stack.data / "storage").exists()
    assert not (stack.data / "mlflow.db").exists()


def services_that_are_killed_are_healthy_again(stack: StackProcess, *names: str) -> None:
    before, killed = {name: stack.n_healthy(name) for name in names}, stack.pids()
    for name in names:
        psutil.Process(killed[name]).kill()
    for name in names:
        wait_until(lambda name=name: stack.n_healthy(name) == before[name] + 1, f"restarted {name}", timeout_s=START_S)
        assert f"{name:<12} ended with signal SIGKILL; restart 1 of 5 in 1 s" in stack.printed
        assert stack.pids()[name] != killed[name]


def stack_services_that_are_killed_at_once_come_back_with_what_they_kept(stack: StackProcess, *names: str) -> None:
    key = f"us_tech/bars/{FIRST_BARS}"
    stack.store().objects.put("kept.txt", b"kept")
    services_that_are_killed_are_healthy_again(stack, *names)
    assert stack.store().objects.get("kept.txt") == b"kept"

    failures: list[str] = []

    def run_succeeds() -> bool:
        # Who asked while they were away has to find them again: the web server, the daemon, and the run.
        try:
            run_id = stack.launch(["us_tech/bars"], FIRST_BARS)
            status = stack.wait_for_run(run_id, timeout_s=START_S)
        except (OSError, AssertionError) as e:
            failures.append(str(e))
            return False
        if status != "SUCCESS":
            failures.append(str([event for event in stack.events(run_id) if event["error"]]))
        return status == "SUCCESS"

    try:
        wait_until(run_succeeds, "run after all came back", timeout_s=START_S)
    except AssertionError as e:
        raise AssertionError(f"{e}: {len(failures)} failed, the last of them: {failures[-1:]}") from e
    footer = stack.store().footer("us_tech/bars", FIRST_BARS)
    assert footer is not None
    assert footer.content_hash == built_checkout().hashes[key]


def stack_code_server_whose_inner_process_is_killed_as_it_starts_a_run_serves_again_and_the_run_is_executed_once(
    stack: StackProcess,
) -> None:
    outer, n_starts = psutil.Process(stack.pids()["code_server"]), stack.n_healthy("code_server")
    (inner,) = [each for each in outer.children() if "grpc" in each.cmdline()]
    before = starting_runs(inner)
    run_id = stack.launch(["us_tech/bars"], FIRST_BARS, WEEK)
    # The daemon that asked for the start has no answer yet, and gets none.
    wait_until(lambda: bool(starting_runs(inner) - before), "process of the run", timeout_s=START_S, every_s=0.1)
    inner.kill()
    wait_until(lambda: "code_server  answers again" in stack.printed, "code", timeout_s=START_S)
    # The proxy is the same: what was under way has not been ended.
    assert outer.is_running()
    assert stack.n_healthy("code_server") == n_starts
    assert stack.wait_for_run(run_id, timeout_s=START_S) == "SUCCESS"
    launched: list[str] = []

    def is_launched() -> bool:
        # A web server that asked for the code while it was away asks again by itself.
        with suppress(OSError, AssertionError):
            launched.append(stack.launch(["us_tech/bars"], FIRST_BARS))
        return bool(launched)

    wait_until(is_launched, "code in the web UI", timeout_s=START_S, every_s=0.5)
    assert stack.wait_for_run(launched[0], timeout_s=START_S) == "SUCCESS"
    for each in (run_id, *launched):
        assert sum("Started process for run" in event["message"] for event in stack.events(each)) == 1
        assert stack.runs(**{"dagster/root_run_id": each}) == []


def stack_whose_supervisor_was_killed_starts_again_with_its_data_and_passwords_but_those_that_are_set(
    stack: StackProcess, searched: Searched, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stack.process is not None
    kept = [stack.variables()[name] for name in ("POSTGRES_PASSWORD", "MINIO_ROOT_USER")]
    n_runs = len(stack.runs())
    content = stack.store().objects.get(f"us_tech/bars/{FIRST_BARS}.parquet")
    old = json.loads((stack.data / "stack" / "operator.json").read_text())["id"]
    stack.process.kill()
    stack.process.wait()
    stack.env["MINIO_ROOT_PASSWORD"] = CANARY["S3 of the second start"]
    stack.start()
    searched.learn(stack)
    assert [stack.variables()[name] for name in ("POSTGRES_PASSWORD", "MINIO_ROOT_USER")] == kept
    assert stack.variables()["AWS_SECRET_ACCESS_KEY"] == CANARY["S3 of the second start"]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY["S3 of the second start"])
    assert len(stack.runs()) >= n_runs > 0
    assert stack.store().objects.get(f"us_tech/bars/{FIRST_BARS}.parquet") == content
    assert carriers(old) == []


def test_passwords_of_the_environment_come_before_those_of_the_last_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {name: f"given-{name}" for name in serving_stack.PASSWORDS}
    kept = {name: f"kept-{name}" for name in serving_stack.PASSWORDS}
    path = tmp_path / "stack.env"
    serving_stack._write_private(path, kept)
    for name in given:
        monkeypatch.delenv(name, raising=False)
    assert serving_stack._passwords(path) == kept
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert serving_stack._passwords(path) == given


def stack_prints_stores_and_sends_no_secret_when_each_of_its_servers_fails(
    stack: StackProcess, searched: Searched, folder: Path
) -> None:
    printed: list[str] = []
    variables, receiver = stack.variables(), searched.receiver
    real = dataclasses.replace(stack.checkout, env={**variables, **told_at(receiver)})
    # It waits for a server that is away as often, and shorter.
    impatient = dataclasses.replace(with_short_backoff(stack.checkout, folder), env=real.env)

    def hfp(checkout: Checkout, *words: str, **changed: str) -> int:
        done = dataclasses.replace(checkout, env={**checkout.env, **changed}).hfp(*words)
        printed.append(done.stdout + done.stderr)
        return done.returncode

    # The chain by commands whose tracking server has a password in its address.
    tracker = urlsplit(variables["HF_MLFLOW_URI"])
    with_password = f"http://quant:{CANARY['MLflow']}@{tracker.netloc}"
    with pytest.MonkeyPatch.context() as patch:
        # Its arguments are searched too: those of a forked process are its server's.
        patch.setenv("HF_TEST_STARTS", "anew")
        assert hfp(real, "retrain", "short_ranking", "--week", WEEK, HF_MLFLOW_URI=with_password) == 0
    assert hfp(real, "materialise", "short_ranking/signals", "--from", DAY) == 0

    # Every server fails: no such bucket, a refused key, a tracker that is away, a refused login.
    bars = ("materialise", "us_tech/bars", "--from", WEEK)
    assert hfp(impatient, *bars, HF_STORAGE_URI="s3://no-such-bucket/storage") == 1
    assert hfp(impatient, *bars, AWS_ACCESS_KEY_ID="unknown") == 1
    away = f"http://quant:{CANARY['MLflow']}@127.0.0.1:{free_port()}"
    assert hfp(impatient, "retrain", "short_ranking", "--week", WEEK, HF_MLFLOW_URI=away) == 1
    refused = variables["HF_POSTGRES_URL"].replace(variables["POSTGRES_PASSWORD"], CANARY["wrong PostgreSQL"])
    assert hfp(impatient, *bars, HF_POSTGRES_URL=refused) == 1
    assert "password authentication failed" in printed[-1]

    # A run fails in the stack itself, and neither the webhook nor the alert channel takes it.
    receiver.is_failing = True
    failed = stack.launch(["short_ranking/signals"], FIRST_FEATURES, tags=TAGS)
    assert stack.wait_for_run(failed, timeout_s=START_S) == "FAILURE"

    def told(field: str = '"event"') -> int:
        about = [each for each in receiver.received if "short_ranking/signals" in each and FIRST_FEATURES in each]
        return sum(field in each for each in about)

    # The tick that could not deliver it has ended when the next one has begun.
    wait_until(lambda: told() > 1, "second attempt to notify of the failed run", timeout_s=START_S)
    wait_until(lambda: told('"title"') > 1, "second attempt to alert of the failed run", timeout_s=START_S)
    assert hfp(real, "status") == 0
    # What the services that were killed before gave to tell was sent.
    assert re.search(r"desk: \d+ messages sent", printed[-1])
    assert "DOES NOT TAKE ALERTS: channel desk did not take it" in printed[-1]

    texts = [
        *(("printed by hfp", text) for text in printed),
        *(("arguments", text) for text in searched.arguments),
        *(("webhook", body) for body in receiver.received),
        *database_texts(variables),
    ]
    # The search sees what it is meant to see: tags in PostgreSQL, packed snapshots, MLflow's names, all processes.
    assert {"dagster.run_tags", "dagster.runs"} <= {place for place, text in texts if CONTROL in text}
    assert any("mlflow.experiments" in place and "short_ranking" in text for place, text in texts)
    assert any("dagster.snapshots" in place and "us_tech__bars" in text for place, text in texts)
    assert any("--socket" in text for text in searched.arguments)
    assert any("hf_pipelines.commands.cli" in text and "retrain" in text for text in searched.arguments)
    assert searched.shown(texts) == []


def stack_on_sigterm_stops_in_reverse_order_and_leaves_no_process(stack: StackProcess) -> None:
    run_id = json.loads((stack.data / "stack" / "operator.json").read_text())["id"]
    assert len(carriers(run_id)) > len(SERVICES)
    assert stack.stop() == 0
    assert tuple(reversed(STOPPED.findall(stack.printed))) == SERVICES
    assert carriers(run_id) == []
    assert not any(psutil.pid_exists(pid) for pid in stack.pids().values())
    # PostgreSQL was not killed: it says so itself.
    assert "database system is shut down" in (stack.data / "logs" / "postgres.log").read_text().splitlines()[-1]


def files_that_a_stopped_stack_leaves_hold_no_secret(stack: StackProcess, searched: Searched) -> None:
    assert stack.process is not None
    assert stack.process.poll() is not None
    printed = [path.read_text() for path in stack.data.parent.glob("*.out")]
    assert len(printed) == stack.starts == 2
    texts = [*(("printed by the stack", text) for text in printed), *file_texts(stack.data)]
    # The search sees what it is meant to see: logs of runs in S3, tables.
    assert any("_compute_logs" in place and searched.run_id in text for place, text in texts)
    assert any(place.endswith("bars%2F2013-02-24.parquet") and "'symbol': 'AAPL'" in text for place, text in texts)
    assert searched.shown(texts) == []


def test_stack_starts_is_the_only_one_heals_and_stops(stack: StackProcess) -> None:
    stack_when_started_names_each_service_and_keeps_its_passwords(stack)
    stack_object_store_without_the_access_key_refuses_to_read_write_and_reset(stack)
    stack_second_supervisor_on_the_same_data_is_refused_with_the_first_ones_pid(stack)
    services_that_are_killed_are_healthy_again(stack, "s3")
    run_id = stack.launch(["us_tech/bars"], FIRST_BARS)
    assert stack.wait_for_run(run_id, timeout_s=START_S) == "SUCCESS"
    footer = stack.store().footer("us_tech/bars", FIRST_BARS)
    assert footer is not None
    assert footer.content_hash == built_checkout().hashes[f"us_tech/bars/{FIRST_BARS}"]
    stack_on_sigterm_stops_in_reverse_order_and_leaves_no_process(stack)


@pytest.mark.long
def test_stack_from_its_start_to_its_end_keeps_what_it_has_and_its_secrets(
    stack: StackProcess, searched: Searched, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One after the other: each begins with what the ones before have left.
    stack_when_started_names_each_service_and_keeps_its_passwords(stack)
    stack_object_store_without_the_access_key_refuses_to_read_write_and_reset(stack)
    stack_second_supervisor_on_the_same_data_is_refused_with_the_first_ones_pid(stack)
    stack_chain_through_its_daemon_has_the_hashes_of_the_embedded_default(stack, searched)
    stack_services_that_are_killed_at_once_come_back_with_what_they_kept(stack, "s3", "postgres", "code_server")
    stack_code_server_whose_inner_process_is_killed_as_it_starts_a_run_serves_again_and_the_run_is_executed_once(stack)
    stack_whose_supervisor_was_killed_starts_again_with_its_data_and_passwords_but_those_that_are_set(
        stack, searched, monkeypatch
    )
    stack_prints_stores_and_sends_no_secret_when_each_of_its_servers_fails(stack, searched, folder)
    stack_on_sigterm_stops_in_reverse_order_and_leaves_no_process(stack)
    files_that_a_stopped_stack_leaves_hold_no_secret(stack, searched)


def test_ui_on_a_taken_port_says_who_holds_it_and_starts_nothing(tmp_path: Path) -> None:
    checkout = dataclasses.replace(built_checkout().checkout, data=tmp_path / "data")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = checkout.hfp("ui", "--port", str(port))
    assert done.returncode == 1
    assert f"webserver needs port {port}, which {psutil.Process().name()} (pid {os.getpid()}) holds" in done.stderr
    assert not (tmp_path / "data" / "logs").exists()


@contextmanager
def ui_process(checkout: Checkout, *options: str, until: str) -> Iterator[StackProcess]:
    """`hfp ui` on a free port, once it has printed `until`; it must end in order."""
    ui = StackProcess(checkout)
    ui.starts = 1
    command = checkout.command("ui", *options, "--port", str(ui.ports["webserver"]))
    with ui.output.open("wb") as output:
        process = ui.process = subprocess.Popen(
            command, cwd=checkout.root, env=ui.env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            wait_until(lambda: process.poll() is not None or until in ui.printed, "web UI", timeout_s=START_S)
            yield ui
        finally:
            assert ui.stop() == 0


def test_ui_over_faulty_yaml_says_which_line_keeps_the_pipeline_from_being_loaded(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path / "checkout", [])
    path = checkout.root / "hf_pipelines" / "defs" / "markets" / "us_tech" / "defs.yaml"
    path.write_text(path.read_text().replace("benchmark: ", "benchmrk: ", 1))
    at = next(number for number, line in enumerate(path.read_text().splitlines(), start=1) if "benchmrk" in line)
    with ui_process(checkout, until="Reload") as ui:
        told = ui.printed.partition("Ctrl-C stops it.\n")[2].splitlines()
    assert told[0] == "The pipeline could not be loaded, and the web UI shows none of it:"
    assert (
        f"  {path}:{at}: `benchmrk` must be a field that the YAML reference lists, was none of them; did you mean benchmark?"
        in told
    )
    assert told[3] == "Correct that, then press Reload under Deployment in the web UI."


def test_ui_read_only_runs_beside_an_operators_and_launches_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    checkout = dataclasses.replace(built_checkout().checkout, data=data)
    # The operator's supervisor is this process.
    with one_supervisor(data / "stack", "operator", "hfp ui"):
        refused = checkout.hfp("ui")
        assert refused.returncode == 1
        assert f"`hfp ui` (pid {os.getpid()}) is running" in refused.stderr
        with ui_process(checkout, "--read-only", until="Ctrl-C") as viewer:
            assert set(viewer.pids()) == {"code_server", "webserver"}
            with pytest.raises(urllib.error.HTTPError) as error:
                viewer.launch(["us_tech/bars"], WEEK)
            assert "sent to a read-only UI must be a query" in error.value.__notes__[0]
            assert viewer.graphql(RUNS, limit=1)["runsOrError"]["results"] == []


# A service of a few bytes: it is healthy once it has written its file, and ends after the given seconds.
BRIEF = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text('x'); time.sleep(float(sys.argv[2]))"


def brief_service(folder: Path, seconds: float, **fields: object) -> Service:
    mark = folder / "mark"

    def is_healthy(since: float) -> bool:
        return mark.exists() and mark.stat().st_mtime >= since - 0.05

    command = [sys.executable, "-S", "-c", BRIEF, str(mark), str(seconds)]
    return Service("brief", command, "-", is_healthy, **fields)  # type: ignore[arg-type]


def test_supervisor_of_a_service_that_ends_again_and_again_gives_up_after_five_restarts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor = Supervisor(
        [brief_service(tmp_path, 1.5)], logs=tmp_path / "logs", run_id=uuid4().hex, first_backoff_s=0.01
    )
    with pytest.raises(ServiceFailedError, match=r"brief must keep running, ended with exit status 0 for the 6th time"):
        supervisor.run(lambda: None)
    printed = capsys.readouterr().out
    # Each wait is twice the one before.
    waits = [line.split(" in ")[1].split(" s,")[0] for line in printed.splitlines() if "restart" in line]
    assert waits == ["0.01", "0.02", "0.04", "0.08", "0.16"]


def test_supervisor_of_a_service_that_never_starts_gives_up_at_once_with_the_end_of_its_log(tmp_path: Path) -> None:
    def is_never(_: float) -> bool:
        return False

    command = [sys.executable, "-S", "-c", "print('the reason'); raise SystemExit(3)"]
    waiting = Service("waiting", ["/nonexistent"], "-", is_never, after=("broken",))
    broken = Service("broken", command, "-", is_never, port=free_port())
    began = time()
    with pytest.raises(ServiceFailedError, match=r"(?s)broken must start, ended with exit status 3.*the reason"):
        Supervisor([broken, waiting], logs=tmp_path, run_id=uuid4().hex).run(lambda: None)
    # Without a restart, and without a start of what depends on it.
    assert time() - began < 60
    assert not (tmp_path / "waiting.log").exists()


def test_supervisor_restarts_a_service_that_lives_and_does_not_serve_any_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served, n_asked = [True, True, False, True, False, False], iter(range(1000))
    healthy: list[float] = []

    def is_serving() -> bool:
        at = next(n_asked)
        return served[at] if at < len(served) else True

    service = brief_service(tmp_path, 300.0, is_serving=is_serving)
    keep_until(service, tmp_path, lambda: len(healthy) == 2, healthy)
    told = [line for line in capsys.readouterr().out.splitlines() if "restart" in line]
    # One miss is none; two in a row are a death.
    assert [line.split(" in ")[0] for line in told] == ["brief        did not answer any more; restart 1 of 5"]


def test_supervisor_revives_a_service_that_can_be_without_a_restart_and_not_for_ever(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    healthy: list[float] = []
    service = brief_service(tmp_path, 300.0, is_serving=lambda: False, revive=lambda: True)
    with pytest.raises(ServiceFailedError, match="brief must keep running, did not answer any more for the 6th time"):
        keep_until(service, tmp_path, lambda: False, healthy)
    assert len(healthy) == 1
    assert "answers again: what had ended in it was started anew, restart 5 of 5" in capsys.readouterr().out


def keep_until(service: Service, folder: Path, is_enough: Callable[[], bool], healthy: list[float]) -> None:
    """Supervise one service, noting when it became healthy, until it is enough."""

    def is_healthy(since: float) -> bool:
        found = service.is_healthy(since)
        if found:
            healthy.append(since)
        return found

    supervisor = Supervisor(
        [dataclasses.replace(service, is_healthy=is_healthy)],
        logs=folder / "logs",
        # Tests of other workers end what carries their own.
        run_id=uuid4().hex,
        first_backoff_s=0.01,
        probe_every_s=0.05,
    )
    ended = threading.Event()

    def stop() -> None:
        while not is_enough() and not ended.wait(0.05):
            pass
        supervisor._stop_soon()

    thread = threading.Thread(target=stop, daemon=True)
    thread.start()
    try:
        supervisor.run(lambda: None)
    finally:
        ended.set()
        thread.join()
