"""What processes that a test starts do differently: storage, the daemon's pace, faults, how runs start.

Python imports a module of this name when it starts; `checkout` puts this folder on PYTHONPATH. Servers keep what they
have read of their storage, and the daemon looks every HF_TEST_PACE seconds, 1 unless set; with `own` all is as ever.
HF_TEST_FAULTS names a folder of faults. A code server that was forked forks its runs too (`forked_runs`).
"""

import os
import sys
from pathlib import Path

COMMAND = " ".join(sys.orig_argv)
SERVERS_AND_RUNS = ("dagster api grpc ", "dagster_webserver", "dagster._daemon", "forkserver", "spawn_main")

PACE = os.environ.get("HF_TEST_PACE", "1")

if PACE != "own":
    if any(name in COMMAND for name in SERVERS_AND_RUNS):
        import kept_storage

        kept_storage.keep_migrations()

    if "dagster._daemon" in COMMAND:
        import fast_daemon

        fast_daemon.set_pace(float(PACE))

if "HF_TEST_FAULTS" in os.environ:
    import put_faults

    put_faults.plant(Path(os.environ["HF_TEST_FAULTS"]))

if "dagster api grpc " in COMMAND and getattr(sys, "is_forked", False):
    import forked_runs

    forked_runs.fork_runs()
