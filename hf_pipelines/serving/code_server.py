"""Code server: whether Dagster's code server still has the code, and how it is reloaded.

Lives here: two calls of Dagster's own protocol, without Dagster: a supervisor has no need of its 100 MB. Does not live
here: when they are made (`supervisor`).

Dagster concept: `dagster code-server start` is a proxy. The process behind it loads the code, evaluates the sensors and
starts the runs; the proxy replaces it when the Reload button is pressed. When it dies nothing replaces it: the proxy
says that it is healthy, and each tick fails. Its runs are processes of their own and go on, so it is replaced in the
same way as by that button.
"""

import time
from contextlib import suppress
from pathlib import Path

# A code server that evaluates slow sensors may take so long to answer; one whose process is gone says so at once.
PING_S = 45.0
RELOAD_S = 300.0
WAIT_S = 30.0
LOOK_EVERY_S = 1.0


def serves_code(socket: Path) -> bool:
    """Whether the process that has the code answers through the proxy."""
    return _call(socket, "Ping", PING_S)


def reload_code(socket: Path) -> bool:
    """Have the proxy start another process with the code; returns whether it answers."""
    # The proxy reports a failure when it has started the new one and cannot stop the dead one: what counts is the answer.
    _call(socket, "ReloadCode", RELOAD_S)
    deadline = time.monotonic() + WAIT_S
    while not serves_code(socket):
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_EVERY_S)
    return True


def _call(socket: Path, method: str, timeout_s: float) -> bool:
    import grpc  # type: ignore[import-untyped]

    with suppress(grpc.RpcError), grpc.insecure_channel(f"unix:{socket}") as channel:
        # No bytes are a request without fields.
        channel.unary_unary(f"/api.DagsterApi/{method}")(b"", timeout=timeout_s)
        return True
    return False
