"""A process that makes a try: `python -m hf_pipelines_tests.commands.try_script FOLDER POINT`.

Lives here: what `test_tries` starts. FOLDER holds a project with `try.json`; the process gets SIGKILL as it comes to POINT: a line that a
try tells, or `record`, before its record is written.
"""

import json
import os
import signal
import sys
from pathlib import Path

from hf_pipelines.commands import tries
from hf_pipelines_tests.conftest import quick_features, registered
from hf_pipelines_tests.pipeline import Project

MODULE = "hf_pipelines_tests.commands.try_script"


def die(*_arguments: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path, point: str) -> None:
    """Make a try until a point of it."""
    given = json.loads((folder / "try.json").read_text())
    with registered(quick_features()):
        project = Project(folder, given["market"], given["strategies"])
        chosen = tries.candidate(project.pipeline, given["strategy"], given["sets"])
        if point == "record":
            tries.put_try = die
        tries.make_try(
            project.pipeline, chosen, [given["week"]], lambda line: die() if line.startswith(point) else None
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
