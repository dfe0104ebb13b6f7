"""Fault folder: where a test lays down the faults that processes with its environment run into.

Lives here: writing a fault, and the process that one has stopped. Does not live here: what a fault does
(`fault_injection.put_faults`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from hf_pipelines_tests.running import ASK_EVERY_S
from hf_pipelines_tests.servers import wait_until

WAIT_S = 300.0


@dataclass(frozen=True)
class FaultFolder:
    """A folder of faults; `env` is for the processes that shall run into them."""

    path: Path

    def __post_init__(self) -> None:
        self.path.mkdir()

    @property
    def env(self) -> dict[str, str]:
        return {"HF_TEST_FAULTS": str(self.path)}

    def plant(self, *points: str, key: str, kill: Sequence[int] = ()) -> None:
        """One fault after the other at puts of `key`, a regular expression; processes `kill` die with the one it hits."""
        # What a test that failed has left would be met by the next.
        for left in self.path.glob("*.json"):
            left.unlink()
        for number, point in enumerate(points):
            # Renamed when it is whole: nobody reads half of it.
            path = self.path / f"{number}.new"
            path.write_text(json.dumps({"key": key, "at": point, "kill": list(kill)}))
            path.rename(path.with_suffix(".json"))

    def stopped(self) -> psutil.Process:
        """The process that a fault `stop` has stopped."""
        path = self.path / "stopped"
        wait_until(path.exists, "process that is about to put", timeout_s=WAIT_S, every_s=ASK_EVERY_S)
        process = psutil.Process(int(path.read_text()))
        wait_until(
            lambda: process.status() == psutil.STATUS_STOPPED, "stopped process", timeout_s=WAIT_S, every_s=ASK_EVERY_S
        )
        path.unlink()
        return process
