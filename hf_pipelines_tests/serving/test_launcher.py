"""A service starts whatever threads its supervisor has, and does not outlive it."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from hf_pipelines.serving.launcher import launched
from hf_pipelines_tests.servers import wait_until

# Of children with Python code between fork and exec, 3 of 100 were aborted here.
BUSY_WITH_GRPC = textwrap.dedent(
    """
    import os, subprocess, sys, threading, time
    from concurrent.futures import ThreadPoolExecutor
    import grpc
    from hf_pipelines.serving.launcher import launched

    class Echo(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(lambda request, context: request)

    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((Echo(),))
    server.add_insecure_port(f"unix:{sys.argv[1]}")
    server.start()

    def ask():
        while True:
            with grpc.insecure_channel(f"unix:{sys.argv[1]}") as channel:
                channel.unary_unary("/echo/echo")(b"x", timeout=30)
                time.sleep(0.002)

    for _ in range(4):
        threading.Thread(target=ask, daemon=True).start()
    ends = [subprocess.Popen(launched(["/bin/true"], None)).wait() for _ in range(60)]
    print(sum(each != 0 for each in ends), flush=True)
    os._exit(0)
    """
)


def test_services_start_while_the_supervisor_asks_over_grpc(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BUSY_WITH_GRPC, str(tmp_path / "s")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (done.stdout.strip(), done.returncode) == ("0", 0), done.stderr[-2000:]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell a child that its parent ended")
def test_service_ends_with_a_killed_supervisor() -> None:
    starts = """
        import subprocess, time
        from hf_pipelines.serving.launcher import launched
        print(subprocess.Popen(launched(["sleep", "600"], None)).pid, flush=True)
        time.sleep(600)
    """
    supervisor = subprocess.Popen([sys.executable, "-c", textwrap.dedent(starts)], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout is not None
    service = psutil.Process(int(supervisor.stdout.readline()))
    wait_until(lambda: service.cmdline() == ["sleep", "600"], "service")

    supervisor.kill()
    supervisor.wait()

    service.wait(timeout=10)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell a child that its parent ended")
def test_service_does_not_start_once_its_supervisor_is_gone(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    ended = subprocess.Popen(["true"])
    ended.wait()
    command = launched(["touch", str(touched)], None)
    command[command.index(str(os.getpid()))] = str(ended.pid)

    subprocess.run(command, check=False)

    assert not touched.exists()


def test_service_whose_program_is_missing_says_so() -> None:
    done = subprocess.run(launched(["no-such-program"], None), capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (127, "no-such-program: No such file or directory\n")
