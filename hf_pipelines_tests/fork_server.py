"""Fork server: a process that has imported the libraries, and forks a command or a server from itself when asked to.

Run by `forked`, as a script: nothing of the project is imported here, and each child imports the code of its own checkout,
from the files, with the environment, folder and arguments that it was given. What Python does when it starts is done
again: PYTHONPATH, `sitecustomize`. Only the seed of hashes, and what libraries read of the environment while they are
imported, are the server's.

A request is one JSON line over a socket, with four descriptors: standard input, output and error, and the pipe into which
the exit status and the CPU seconds of the child go when it has ended.
"""

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import sys
import threading
import traceback
from contextlib import suppress

# Of everything that a command, a service or a run imports for longer than some milliseconds.
LIBRARIES = (
    "dagster",
    "dagster.components",
    "dagster._cli",
    "dagster._cli.api",
    "dagster._core.execution.api",
    "dagster._daemon.cli",
    "dagster._daemon.controller",
    "dagster._grpc.impl",
    "dagster._grpc.server",
    "dagster_webserver.cli",
    "dagster_webserver.app",
    "dagster_postgres",
    "polars",
    "pyarrow.parquet",
    "numba",
    "exchange_calendars",
    "obstore",
    "sklearn.linear_model",
    "sklearn.pipeline",
    "xgboost",
    "dagster_mlflow",
    "mlflow",
    "matplotlib.pyplot",
)
STATUS = struct.Struct("id")


def become(request: dict) -> int:
    """Be the process that was asked for; returns its exit code."""
    module, *arguments = request["arguments"]
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.orig_argv = [sys.executable, "-m", module, *arguments]
    # As comm(5), which is what tells this process from its server.
    with open("/proc/self/comm", "w") as name:
        name.write(module[:15])
    paths = [path for path in request["env"].get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [request["cwd"], *paths, *sys.path]
    importlib.invalidate_caches()
    # For `sitecustomize`: what a process that was started anew cannot have.
    sys.is_forked = True
    sys.modules.pop("sitecustomize", None)
    with suppress(ModuleNotFoundError):
        importlib.import_module("sitecustomize")
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as e:
        if e.code is None or isinstance(e.code, int):
            return e.code or 0
        print(e.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return 0


def end(code: int) -> None:
    """What Python does at the end of a process; then the process ends."""
    import atexit

    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code & 0xFF)


def fork(request: dict, streams: list[int]) -> int:
    """Fork the process that was asked for; returns its number."""
    child = os.fork()
    if child:
        return child
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if request["start_new_session"]:
        os.setsid()
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    code = None
    try:
        code = become(request)
    finally:
        if code is None:
            traceback.print_exc()
        end(1 if code is None else code)
    return 0


def main() -> None:
    asked = socket.socket(fileno=int(sys.argv[1]))
    for name in LIBRARIES:
        with suppress(ModuleNotFoundError):
            importlib.import_module(name)
    # What is never changed is never copied.
    gc.collect()
    gc.freeze()
    told: dict[int, int] = {}
    woken, wake = os.pipe()
    for descriptor in (woken, wake):
        os.set_blocking(descriptor, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([asked, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
        while told:
            ended, status, usage = os.wait4(-1, os.WNOHANG)
            if not ended:
                break
            with suppress(BrokenPipeError):
                os.write(told[ended], STATUS.pack(status, usage.ru_utime + usage.ru_stime))
            os.close(told.pop(ended))
        if asked in ready:
            text, descriptors, _, _ = socket.recv_fds(asked, 1 << 20, 4)
            if not text:
                # What Python does at the end takes longer the more is imported.
                os._exit(0)
            *streams, status_pipe = descriptors
            child = fork(json.loads(text), streams)
            told[child] = status_pipe
            for descriptor in streams:
                os.close(descriptor)
            asked.send(struct.pack("i", child))


if __name__ == "__main__":
    main()
