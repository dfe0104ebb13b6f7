"""Launcher: what a child of the supervisor does before it becomes its service.

Lives here: a program of its own, run by its path. Does not live here: anything that imports the project, or more than
the standard library: it runs before each service.

Set in the child between fork and exec (`preexec_fn`), the same would run among the threads of the supervisor. gRPC's
poll in the child, where its files are closed already, and abort it before it is the service.
"""

import ctypes
import os
import pwd
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1
NOT_STARTED = 127


def launched(command: Sequence[str], user: str | None) -> list[str]:
    """Command that runs another one as a service of this process, under an account (None for ours)."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), user or "", *command]


def become(supervisor: int, user: str, command: list[str]) -> None:
    """Become a service: SIGTERM when the supervisor is killed, and Ctrl-C not ignored."""
    # A shell's `&` leaves SIGINT ignored, and Dagster then ignores SIGTERM as well.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if user:
        # Before the next: a change of account forgets it.
        uid = pwd.getpwnam(user).pw_uid
        os.setreuid(uid, uid)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != supervisor:
            return
    try:
        os.execvp(command[0], command)
    except OSError as e:
        print(f"{command[0]}: {e.strerror}", file=sys.stderr)
        sys.exit(NOT_STARTED)


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
