"""Ports of test servers: no two processes are given one port, and none that the kernel gives to anybody."""

import subprocess
import sys
from pathlib import Path

from hf_pipelines_tests.servers import free_port

TAKING = "from hf_pipelines_tests.servers import free_port\nprint(*(free_port() for _ in range(200)))"


def test_processes_that_take_ports_at_once_are_given_different_ones() -> None:
    workers = [
        subprocess.Popen([sys.executable, "-c", TAKING], stdout=subprocess.PIPE, cwd=Path(__file__).parents[1])
        for _ in range(3)
    ]
    ports = [int(port) for worker in workers for port in worker.communicate(timeout=60)[0].split()]
    assert len(set(ports)) == len(ports) == 600


def test_port_is_not_one_that_the_kernel_gives_to_a_connection_while_a_server_is_down() -> None:
    given = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first = int(given.read_text().split()[0]) if given.exists() else 49_152
    assert all(free_port() < first for _ in range(3))
