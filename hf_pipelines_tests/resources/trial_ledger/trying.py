"""Trying: trials for the ledger's tests, by this process and by many at once.

`python -m hf_pipelines_tests.resources.trial_ledger.trying` has 8 processes write 500 records each, three of which are killed with
kill -9 in between and begun again by others, and compares what is there with what was acknowledged (`make ledger`).
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.trial_ledger import Slot, TrialLedger, n_trials, verify_chains, writers
from hf_pipelines.resources.trial_ledger.trials import CROSS_VALIDATION

MODULE = "hf_pipelines_tests.resources.trial_ledger.trying"


def slot(number: int = 0, **changes: Any) -> Slot:
    """A slot of a configuration of its own."""
    fields: dict[str, Any] = {
        "strategy": "direction",
        "week": "2012-05-06",
        "configuration": f"{number:032x}",
        "seed": 7,
        "data": {"direction/training_matrix": {"2012-05-06": "a" * 64}},
        "market": "small",
    }
    return Slot(**{**fields, **changes})


def try_one(ledger: TrialLedger, number: int = 0, *, scores: Mapping[str, float] | None = None, **changes: Any) -> str:
    """Begin and end a trial; returns its id."""
    trial = ledger.begin(slot(number, **changes), source=CROSS_VALIDATION)
    trial.end(scores=scores)
    return trial.id


def new_process() -> None:
    """Give up the chains of this process, as its end would."""
    for writer in writers._WRITERS.values():
        if writer._file is not None:
            os.close(writer._file)
    writers._WRITERS.clear()


def begin_records(objects: ObjectStore, first: int, n: int) -> Iterator[int]:
    """Begin trials, and give the number of each that is on the disk."""
    ledger = TrialLedger(objects, "tester")
    for number in range(first, first + n):
        ledger.begin(slot(number), source=CROSS_VALIDATION, kind="selection")
        yield number


def run_processes(folder: Path, *, n_processes: int, n_records: int, kills: int) -> tuple[int, int]:
    """Write from many processes, some of them killed; returns the records acknowledged and the trials found.

    Raises
    ------
    AssertionError
        If one is lost or there twice, or a chain is not whole.
    """
    environment = {**os.environ, "HF_DATA_DIR": str(folder / "data")}
    acknowledged: set[int] = set()

    def start(first: int, n: int) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            MODULE,
            "--store",
            str(folder / "store"),
            "--first",
            str(first),
            "--n",
            str(n),
        ]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    running = {start(each * n_records, n_records): (each * n_records, n_records) for each in range(n_processes)}
    killed = 0
    for process, (first, n) in list(running.items()):
        assert process.stdout is not None
        if killed < kills:
            killed += 1
            lines = [process.stdout.readline() for _ in range(n // 3)]
            process.send_signal(signal.SIGKILL)
            # What was written to the pipe before it died was acknowledged too.
            seen = {int(line) for line in [*lines, *process.stdout.read().splitlines()] if line.strip()}
            process.wait()
            acknowledged |= seen
            # A retry begins again where nobody knows whether the last record was written.
            begun = max(seen)
            running[start(begun, first + n - begun)] = (begun, first + n - begun)
    for process in running:
        assert process.stdout is not None
        acknowledged |= {int(line) for line in process.stdout.read().split()}
        process.wait()
    ledger = TrialLedger(ObjectStore(str(folder / "store")), "tester")
    assert verify_chains(ledger.contents()) == []
    known = ledger.known()
    found = {int(each, 16) for each in known["configuration"]}
    assert found == acknowledged == set(range(n_processes * n_records))
    assert n_trials(known) == known.height == len(found)
    return len(acknowledged), n_trials(known)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--n", type=int, default=500)
    options = parser.parse_args()
    if options.store:
        for number in begin_records(ObjectStore(options.store), options.first, options.n):
            print(number, flush=True)
        return
    began = time.perf_counter()
    with TemporaryDirectory() as folder:
        found = run_processes(Path(folder), n_processes=8, n_records=500, kills=3)
    print(json.dumps({"acknowledged": found[0], "trials": found[1], "seconds": round(time.perf_counter() - began, 1)}))


if __name__ == "__main__":
    main()
