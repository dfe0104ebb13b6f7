"""Run a command and say what it cost: `python -m hf_pipelines_tests.cost [--budget] COMMAND...`

Every process that the command started counts, servers too, also those that outlived the process that started them or
began a session of their own. Linux hands each orphan below a "child subreaper" to it (prctl(2)): this process is one,
waits for all of them, and the kernel adds up what they used. What still runs at the end is read from the process table
and named. Elsewhere than on Linux orphans do not count. The exit code is the command's.
"""

import argparse
import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

import psutil

from hf_pipelines_tests.cost_report import Cost, cpu_seconds

BUDGET = Path(__file__).parent / "budget.toml"

# From linux/prctl.h.
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Make this process the parent of every orphan below it."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def wait_for(process: int) -> int:
    """Wait for a child, and for every orphan that ends before it; return its exit code."""
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == process:
            return os.waitstatus_to_exitcode(status)


def wait_for_ended() -> None:
    """Wait for the orphans that have ended, not for those that run."""
    while True:
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not ended:
            return


def still_running() -> tuple[list[str], float]:
    """Commands of the processes below this one that run, and the CPU seconds that they used."""
    names, used = [], 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            times = process.cpu_times()
            name = " ".join(process.cmdline()[:4]) or process.name()
        except psutil.NoSuchProcess:
            continue
        names.append(f"{process.pid} {name}")
        used += times.user + times.system + times.children_user + times.children_system
    return names, used


def measure(command: Sequence[str]) -> tuple[int, Cost, list[str]]:
    """Run a command; return its exit code, its cost and what it left running."""
    adopt_orphans()
    began = time.monotonic()
    # Descriptors stay open: those of make's job server are named in the environment.
    process = subprocess.Popen(command, close_fds=False)
    # An interrupt reaches the command too, which ends by itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
    code = wait_for(process.pid)
    wall_s = time.monotonic() - began
    wait_for_ended()
    left, used = still_running()
    return code, Cost(wall_s, cpu_seconds(resource.RUSAGE_CHILDREN) + used), left


def verdict(cost: Cost, budget: dict[str, float] | None) -> str:
    """Say what a run cost, and where it exceeds a budget in minutes."""
    text = f"cost: {cost.cpu_s:.1f} CPU seconds in {cost.wall_s:.0f} seconds"
    if budget is None:
        return text
    minutes = {"cpu_minutes": cost.cpu_s / 60, "wall_minutes": cost.wall_s / 60}
    text += ", " + ", ".join(f"{name} {minutes[name]:.1f} of {budget[name]:.1f}" for name in minutes)
    above = [name for name in minutes if minutes[name] > budget[name]]
    if above:
        text += f"\nWARNING: {' and '.join(above)} above the budget of {BUDGET.name}; make the dearest tests cheaper."
    return text


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run a command and say what it cost.")
    parser.add_argument("--budget", action="store_true", help=f"compare with {BUDGET.name}")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args(argv)
    code, cost, left = measure(arguments.command)
    print(verdict(cost, tomllib.loads(BUDGET.read_text()) if arguments.budget else None), flush=True)
    if left:
        print("left running: " + "; ".join(sorted(left)), flush=True)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
