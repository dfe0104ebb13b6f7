"""A process of a tuned week that kills itself: `python -m hf_pipelines_tests.components.tuning_script FOLDER AFTER`.

Lives here: what `test_tuning` starts. FOLDER holds a project with `project.json`; the process gets SIGKILL before evaluation number
AFTER ends.
"""

import json
import os
import signal
import sys
from pathlib import Path

from hf_pipelines.research.tuning.evaluation import Evaluation
from hf_pipelines_tests.conftest import quick_features, registered
from hf_pipelines_tests.pipeline import Project

MODULE = "hf_pipelines_tests.components.tuning_script"


def main(folder: Path, after: int) -> None:
    """Make the study of a week."""
    given = json.loads((folder / "project.json").read_text())
    evaluate, n_done = Evaluation.__call__, [0]

    def dying(self, task):
        outcome = evaluate(self, task)
        if n_done[0] == after:
            os.kill(os.getpid(), signal.SIGKILL)
        n_done[0] += 1
        return outcome

    with registered(quick_features()):
        project = Project(folder, given["market"], given["strategies"])
        # Read before the code is changed: it is part of its version.
        _ = project.definitions
        Evaluation.__call__ = dying
        project.make(given["asset"], given["week"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
