"""Baseline play: an arrival script without restarts, broken and duplicate files, on the real sensors and jobs.

Lives here: evaluating the sensors of the code location in one process, executing what they ask for with the tags they
ask for, and writing down what is stored once nothing is asked for any more. Does not live here: the script
(`arrival_script`), the play with everything in the way (`soak`).

Run as a process in a checkout: `python -m hf_pipelines_tests.baseline --weeks 13 --seed 1 OUT`. Line k of OUT is what is
stored at rest after arrival k of the script, as JSON; the history is line 0.
"""

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

import dagster as dg

from hf_pipelines.resources import settings
from hf_pipelines.resources.market_data.files import week_of_name
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines_tests.arrival_script import ArrivalScript
from hf_pipelines_tests.landing import GROUPS, MARKET, STRATEGY
from hf_pipelines_tests.pipeline import RETRAINED, prepare_mlflow

SENSORS = (f"{MARKET}_arrivals", f"{STRATEGY}_follows")
STAGES = (*RETRAINED, "signals")
ASSETS = (
    f"{MARKET}/bars",
    *(f"{MARKET}/features/{group}" for group in GROUPS),
    *(f"{STRATEGY}/{stage}" for stage in STAGES),
)

# More rounds than this between two arrivals: the sensors would never come to rest.
MAX_ROUNDS = 20

State = Mapping[str, str]


@dataclass
class StateReader:
    """What is stored: content, and what it was made from, of every partition; only what was written since is read."""

    store: PartitionStore
    known: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)

    def state(self) -> dict[str, str]:
        """`<content hash> <digest of inputs and sources>` by `<asset>/<partition>`."""
        found = {}
        for asset in ASSETS:
            for key, tag in self.store.tags(asset).items():
                if self.known.get((asset, key), ("",))[0] != tag:
                    self.known[asset, key] = (tag, self._read(asset, key))
                found[f"{asset}/{key}"] = self.known[asset, key][1]
        return found

    def _read(self, asset: str, key: str) -> str:
        footer = self.store.footer(asset, key)
        assert footer is not None, f"{asset}/{key} is listed and not there"
        # A week is judged by files of the weeks before it too: while one of those is broken its bars stay as they are.
        # A file of a Saturday is named beside the bars and in none of them.
        own = {
            name: digest
            for name, digest in footer.sources.items()
            if week_of_name(name) == key and date.fromisoformat(name[:10]).weekday() < 5
        }
        made_from = json.dumps([footer.inputs, own], sort_keys=True)
        return f"{footer.content_hash} {sha256(made_from.encode()).hexdigest()[:12]}"


class PeacefulPlay:
    """Sensors and jobs of the code location, in this process."""

    def __init__(self) -> None:
        # Imported here: only the process of the play has a checkout before the repository on its path.
        from hf_pipelines.definitions import defs

        self.definitions = defs()
        self.repository = self.definitions.get_repository_def()
        self.resources = self.repository.get_top_level_resources()
        self.instance = dg.DagsterInstance.ephemeral()
        self.cursors: dict[str, str | None] = dict.fromkeys(SENSORS)
        self.run_keys: set[str] = set()
        self.landing = settings.data_dir() / "landing" / MARKET
        self.reader = StateReader(PartitionStore(ObjectStore(settings.storage_uri())))

    def play(self, script: ArrivalScript) -> Iterator[State]:
        """States at rest: after the history, and after each arrival."""
        script.history.lay_down(self.landing)
        self.rest()
        yield self.reader.state()
        for arrival in script.arrivals:
            if not arrival.is_noise:
                arrival.lay_down(self.landing)
                self.rest()
            yield self.reader.state()

    def rest(self) -> None:
        """Do what the sensors ask for, until they ask for nothing."""
        for _ in range(MAX_ROUNDS):
            if not any([self._tick(name) for name in SENSORS]):
                return
        raise AssertionError(f"sensors still ask for runs after {MAX_ROUNDS} rounds")

    def _tick(self, name: str) -> bool:
        """One tick of a sensor and the runs it asks for; whether there was one."""
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursors[name],
            repository_def=self.repository,
            resources={each: self.resources[each] for each in ("storage", "clock")},
            sensor_name=name,
        )
        tick = self.definitions.resolve_sensor_def(name).evaluate_tick(context)
        self.cursors[name] = tick.cursor
        requests = [each for each in tick.run_requests or [] if each.run_key not in self.run_keys]
        for request in requests:
            self.run_keys.add(str(request.run_key))
            self._execute(request)
        return bool(requests)

    def _execute(self, request: dg.RunRequest) -> None:
        job = self.definitions.resolve_job_def(str(request.job_name))
        result = job.execute_in_process(
            instance=self.instance,
            partition_key=request.partition_key,
            asset_selection=request.asset_selection,
            tags=dict(request.tags),
            run_config=QUIET,
        )
        assert result.success


QUIET: Mapping[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--weeks", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--symbols", type=int, default=4)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    script = ArrivalScript(given.weeks, given.seed, given.symbols)
    data, base = settings.data_dir(), given.out.with_suffix(".base")
    base.mkdir()
    # Its tables take longer to make than most of what follows.
    data.mkdir()
    shutil.copy(prepare_mlflow(base / "mlflow.db"), data)
    play = PeacefulPlay()
    with given.out.open("w") as out:
        for number, state in enumerate(play.play(script)):
            if number == 0:
                # Where the other play begins.
                for name in ("storage", "landing"):
                    shutil.copytree(data / name, base / name)
            print(json.dumps(state, sort_keys=True), file=out, flush=True)


if __name__ == "__main__":
    main()
