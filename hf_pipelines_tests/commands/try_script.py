"""A process that makes a try: `python -m hf_pipelines_tests.commands.try_script FOLDER POINT`.

Lives here: what `test_tries` starts. FOLDER holds a project with `try.json`; the process gets SIGKILL as it comes to POINT: a line that a
try tells, or `record`, before its record is written. With a third argument, the name of a try, it accepts that once the file POINT is there;
writing takes a second then, so that two processes meet.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from hf_pipelines.commands import accepting, tries
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


def accept(folder: Path, gate: Path, name: str) -> None:
    """Accept a try once the gate is open; its refusal is printed."""
    given = json.loads((folder / "try.json").read_text())
    write = accepting._replace

    def write_slowly(place: Path, payload: bytes) -> None:
        time.sleep(1.0)
        write(place, payload)

    accepting._replace = write_slowly
    with registered(quick_features()):
        project = Project(folder, given["market"], given["strategies"])
        place = accepting.component_place(folder / project.package / "defs", given["strategy"])
        place.write_text(given["yaml"])
        pipeline = project.pipeline
        pipeline.strategies()
        print("ready", flush=True)
        while not gate.exists():
            time.sleep(0.01)
        try:
            print("\n".join(accepting.accept_lines(pipeline, name)))
        except ValueError as e:
            print(f"refused: {e}")


if __name__ == "__main__":
    if len(sys.argv) == 4:
        accept(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
    else:
        main(Path(sys.argv[1]), sys.argv[2])
