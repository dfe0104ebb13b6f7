"""What processes that a test starts do differently: the daemon's pace, faults, how runs start.

Python imports a module of this name when it starts; a test puts this folder on PYTHONPATH. The variables by which it
asks for the rest are HF_TEST_FAULTS, a folder, and HF_TEST_FORKED_RUNS, 1.
"""

import os
import sys
from pathlib import Path

if "dagster._daemon" in sys.orig_argv:
    import planted_pace

    planted_pace.hasten()

if "HF_TEST_FAULTS" in os.environ:
    import planted_faults

    planted_faults.plant(Path(os.environ["HF_TEST_FAULTS"]))

if "grpc" in sys.orig_argv and os.environ.get("HF_TEST_FORKED_RUNS") == "1":
    import planted_start

    planted_start.fork_runs()
