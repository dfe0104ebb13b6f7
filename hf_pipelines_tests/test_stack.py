"""The stack as processes: `hfp stack` and `hfp ui` start, heal and stop their services, and lose nothing.

The chain that runs through the stack's daemon, on PostgreSQL, S3 and an MLflow server, has the content hashes of the
embedded default.
"""

import dataclasses
import json
import os
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import time

import psutil
import pytest

from hf_pipelines.serving.supervisor import Service, ServiceFailedError, Supervisor, one_supervisor
from hf_pipelines_tests.checkout import DAY, FIRST_BARS, FIRST_FEATURES, GROUPS, RETRAINED, WEEK, built_checkout
from hf_pipelines_tests.servers import free_port, wait_until
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


@pytest.fixture(scope="module")
def stack() -> Iterator[StackProcess]:
    with open_folder() as folder, pytest.MonkeyPatch.context() as patch:
        checkout = dataclasses.replace(built_checkout().checkout, data=folder / "data")
        with stack_process(checkout) as started:
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


def test_stack_when_started_names_each_service_and_keeps_its_passwords(stack: StackProcess) -> None:
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


def test_stack_object_store_without_the_access_key_refuses_to_read_write_and_reset(stack: StackProcess) -> None:
    address = f"http://127.0.0.1:{stack.ports['s3']}"
    assert status_of(f"{address}/hf-pipelines") == 403
    assert status_of(f"{address}/hf-pipelines/storage/planted", "PUT") == 403
    assert status_of(f"{address}/moto-api/reset", "POST") == 403
    key = stack.variables()["AWS_ACCESS_KEY_ID"]
    assert status_of(f"{address}/hf-pipelines?X-Amz-Credential={key[:-1]}/d/r/s3/aws4_request") == 403


def test_stack_second_supervisor_on_the_same_data_is_refused_with_the_first_ones_pid(stack: StackProcess) -> None:
    assert stack.process is not None
    second = stack.checkout.run(stack.arguments())
    assert second.returncode == 1
    assert f"`hfp stack` (pid {stack.process.pid}) is running" in second.stderr
    # The first one's services are untouched.
    assert all(psutil.pid_exists(pid) for pid in stack.pids().values())
    assert all(stack.n_healthy(name) == 1 for name in SERVICES)


def test_stack_chain_through_its_daemon_has_the_hashes_of_the_embedded_default(stack: StackProcess) -> None:
    expected = {key: each for key, each in built_checkout().hashes.items() if not key.startswith("short_trees/")}
    # 39 weeks of bars, 11 of two feature groups, four weekly stages and one day of signals.
    assert len(expected) == 39 + 2 * 11 + 4 + 1
    for assets, first, last in CHAIN:
        run_id = stack.launch(assets, first, last)
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


@pytest.mark.parametrize("name", ["s3", "postgres", "code_server"])
def test_stack_service_that_is_killed_comes_back_with_what_it_kept(stack: StackProcess, name: str) -> None:
    key = f"us_tech/bars/{FIRST_BARS}"
    stack.store().objects.put(f"kept/{name}.txt", name.encode())
    before, killed = stack.n_healthy(name), stack.pids()[name]
    psutil.Process(killed).kill()
    wait_until(lambda: stack.n_healthy(name) == before + 1, f"restarted {name}", timeout_s=START_S)
    assert f"{name:<12} ended with signal SIGKILL; restart 1 of 5 in 1 s" in stack.printed
    assert stack.pids()[name] != killed
    assert stack.store().objects.get(f"kept/{name}.txt") == name.encode()

    def run_succeeds() -> bool:
        # Who asked while it was away has to find it again: the web server, the daemon, and the run.
        with suppress(OSError, AssertionError):
            return stack.wait_for_run(stack.launch(["us_tech/bars"], FIRST_BARS), timeout_s=START_S) == "SUCCESS"
        return False

    wait_until(run_succeeds, f"run after {name} came back", timeout_s=START_S)
    footer = stack.store().footer("us_tech/bars", FIRST_BARS)
    assert footer is not None
    assert footer.content_hash == built_checkout().hashes[key]


def test_stack_whose_supervisor_was_killed_starts_again_with_its_data(stack: StackProcess) -> None:
    assert stack.process is not None
    kept = stack.variables()["POSTGRES_PASSWORD"]
    n_runs = len(stack.runs())
    content = stack.store().objects.get(f"us_tech/bars/{FIRST_BARS}.parquet")
    old = json.loads((stack.data / "stack" / "operator.json").read_text())["id"]
    stack.process.kill()
    stack.process.wait()
    stack.start()
    assert stack.variables()["POSTGRES_PASSWORD"] == kept
    assert len(stack.runs()) >= n_runs > 0
    assert stack.store().objects.get(f"us_tech/bars/{FIRST_BARS}.parquet") == content
    assert carriers(old) == []


def test_stack_on_sigterm_stops_in_reverse_order_and_leaves_no_process(stack: StackProcess) -> None:
    run_id = json.loads((stack.data / "stack" / "operator.json").read_text())["id"]
    assert len(carriers(run_id)) > len(SERVICES)
    assert stack.stop() == 0
    assert tuple(reversed(STOPPED.findall(stack.printed))) == SERVICES
    assert carriers(run_id) == []
    assert not any(psutil.pid_exists(pid) for pid in stack.pids().values())
    # PostgreSQL was not killed: it says so itself.
    assert "database system is shut down" in (stack.data / "logs" / "postgres.log").read_text().splitlines()[-1]


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


def test_ui_read_only_runs_beside_an_operators_and_launches_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    checkout = dataclasses.replace(built_checkout().checkout, data=data)
    viewer = StackProcess(checkout)
    viewer.starts = 1
    command = checkout.command("ui", "--read-only", "--port", str(viewer.ports["webserver"]))
    # The operator's supervisor is this process.
    with one_supervisor(data / "stack", "operator", "hfp ui"), viewer.output.open("wb") as output:
        refused = checkout.hfp("ui")
        assert refused.returncode == 1
        assert f"`hfp ui` (pid {os.getpid()}) is running" in refused.stderr
        process = viewer.process = subprocess.Popen(
            command, cwd=checkout.root, env=viewer.env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            wait_until(lambda: process.poll() is not None or "Ctrl-C" in viewer.printed, "viewer", timeout_s=START_S)
            assert set(viewer.pids()) == {"code_server", "webserver"}
            with pytest.raises(urllib.error.HTTPError) as error:
                viewer.launch(["us_tech/bars"], WEEK)
            assert "sent to a read-only UI must be a query" in error.value.read().decode()
            assert viewer.runs() == []
        finally:
            assert viewer.stop() == 0


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
        [brief_service(tmp_path, 1.5)], logs=tmp_path / "logs", run_id="brief", first_backoff_s=0.01
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
        Supervisor([broken, waiting], logs=tmp_path, run_id="broken").run(lambda: None)
    # Without a restart, and without a start of what depends on it.
    assert time() - began < 60
    assert not (tmp_path / "waiting.log").exists()
