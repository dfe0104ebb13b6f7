"""Forked runs: a code server that was forked with its libraries forks its runs, instead of starting each anew.

Importing is most of what a short run costs. The project's own code is not among what is imported before: each run loads
it from the files, as one that was started anew does.
"""

import multiprocessing
import os
from contextlib import suppress
from multiprocessing import forkserver, util
from pathlib import Path

# How multiprocessing starts its fork server.
FORK_SERVER = "from multiprocessing.forkserver import main"


def fork_runs():
    """Fork the fork server of runs from this process, which has no thread yet, and have runs forked from it."""
    get_context = multiprocessing.get_context
    spawn = util.spawnv_passfds
    util.spawnv_passfds = lambda path, arguments, descriptors: (
        fork(arguments[-1], descriptors)
        if str(arguments[-1]).startswith(FORK_SERVER)
        else spawn(path, arguments, descriptors)
    )
    forkserver.ensure_running()

    def chosen(method=None):
        return get_context("forkserver" if method == "spawn" else method)

    multiprocessing.get_context = chosen


def fork(code, descriptors):
    """Number of a process that runs `code`, with no descriptors but those given and the standard ones, as after an exec."""
    child = os.fork()
    if child:
        return child
    try:
        Path("/proc/self/comm").write_text("forkserver")
        for number in [int(each) for each in os.listdir("/proc/self/fd")]:
            if number > 2 and number not in descriptors:
                with suppress(OSError):
                    os.close(number)
        exec(code, {})
    finally:
        os._exit(0)
