"""Child processes: a module of ours, run by Python in a process of its own.

Lives here: starting one and ending it. Does not live here: what is sent to it and back (`fresh_process`,
`market_data.reader`).
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

# A child whose input was closed ends within a moment; one that does not is killed.
END_S = 5.0


def start_child(
    module: str, arguments: Sequence[str], *, environment: Mapping[str, str], **options: Any
) -> "subprocess.Popen[bytes]":
    """Start `python -m module arguments` with these variables alone; `options` are those of `subprocess.Popen`."""
    # Modules are found there as they are here, wherever a path was added.
    path = os.pathsep.join(each or os.getcwd() for each in sys.path)
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(command, env={**environment, "PYTHONPATH": path}, **options)


def end_child(child: "subprocess.Popen[bytes]") -> int:
    """Wait for a child whose input was closed, and kill it if it does not end; returns its exit status."""
    try:
        return child.wait(timeout=END_S)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()
