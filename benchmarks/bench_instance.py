"""What Dagster's storage costs with kept engines, beside Dagster's own: a small run, and a read.

Run: `python -m benchmarks.bench_instance [--rounds 7]`. SQLite in a temporary folder, one asset with one check; both take
turns. CPU seconds and seconds by the clock, the least of the rounds. Exits with 1 if ours costs more than Dagster's own.
"""

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable

import dagster as dg
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage

from hf_pipelines.resources.instance_storage import InstanceStorage

READS = 100


@dg.asset
def probe() -> None: ...


@dg.asset_check(asset=probe)
def sound() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


def measured(work: Callable[[], object]) -> tuple[float, float]:
    began, by_clock = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - began, time.perf_counter() - by_clock


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    logging.getLogger("dagster").setLevel(logging.ERROR)
    os.environ.pop("HF_POSTGRES_URL", None)
    least: dict[tuple[str, str], tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        instances = {}
        for name, storage in (("Dagster's own", DagsterSqliteStorage), ("kept engines", InstanceStorage)):
            home = os.environ["DAGSTER_HOME"] = os.path.join(folder, storage.__name__)
            os.mkdir(home)
            place = {} if storage is InstanceStorage else {"base_dir": home}
            custom = {"module": storage.__module__, "class": storage.__name__, "config": place}
            ref = InstanceRef.from_dir(home, overrides={"storage": {"custom": custom}})
            instances[name] = dg.DagsterInstance.from_ref(ref)
        for number in range(rounds + 1):
            for name, instance in instances.items():

                def run(instance: dg.DagsterInstance = instance) -> None:
                    dg.materialize([probe, sound], instance=instance)

                def read(instance: dg.DagsterInstance = instance) -> None:
                    for _ in range(READS):
                        instance.get_runs(limit=5)

                for work in (run, read):
                    cost = measured(work)
                    if number:
                        key = (work.__name__, name)
                        before = least.get(key, cost)
                        least[key] = (min(cost[0], before[0]), min(cost[1], before[1]))
    for work in ("run", "read"):
        own, ours = least[work, "Dagster's own"], least[work, "kept engines"]
        print(
            f"{work}: CPU {ours[0]:.3f} s beside {own[0]:.3f} ({ours[0] / own[0]:.2f}x), "
            f"clock {ours[1]:.3f} s beside {own[1]:.3f} ({ours[1] / own[1]:.2f}x)"
        )
    return int(any(least[work, "kept engines"][0] > least[work, "Dagster's own"][0] for work in ("run", "read")))


if __name__ == "__main__":
    sys.exit(main())
