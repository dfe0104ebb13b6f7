"""A process that makes a tuned week, a leaderboard or a sweep: `python -m hf_pipelines_tests.components.tuning_script FOLDER AFTER`.

Lives here: what `test_tuning`, `test_tuning_elsewhere`, `test_leaderboard` and `test_sweep` start. FOLDER holds a project with `project.json`; the process gets SIGKILL before
evaluation number AFTER ends, or makes the whole week if that is -1.
"""

import json
import os
import signal
import sys
from pathlib import Path

from hf_pipelines.components.strategy_stages.sweep_points import SweepEvaluation
from hf_pipelines.research.leaderboard import CandidateEvaluation
from hf_pipelines.research.tuning.evaluation import Evaluation
from hf_pipelines_tests.conftest import quick_features, registered
from hf_pipelines_tests.pipeline import Project

MODULE = "hf_pipelines_tests.components.tuning_script"


def main(folder: Path, after: int) -> None:
    """Make the study, the leaderboard or the sweep of a week."""
    given = json.loads((folder / "project.json").read_text())
    kinds: dict[str, type] = {"leaderboard": CandidateEvaluation, "sweep": SweepEvaluation}
    kind = kinds.get(given["asset"].partition("/")[2], Evaluation)
    evaluate, n_done = kind.__call__, [0]

    def dying(self, task):
        outcome = evaluate(self, task)
        if n_done[0] == after:
            os.kill(os.getpid(), signal.SIGKILL)
        n_done[0] += 1
        return outcome

    with registered(quick_features()):
        project = Project(folder, given["market"], given["strategies"], uri=given.get("uri"))
        # Read before the code is changed: it is part of its version.
        _ = project.definitions
        kind.__call__ = dying
        project.make(given["asset"], given["week"])


def write_order(project: Project, asset: str, week: str) -> None:
    """Write what `main` makes."""
    given = {
        "market": project.market,
        "strategies": project.strategies,
        "asset": asset,
        "week": week,
        "uri": project.uri,
    }
    (project.folder / "project.json").write_text(json.dumps(given, default=str))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
