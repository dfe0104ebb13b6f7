"""What Dagster costs: loading the code location, and each materialised partition.

Prints the seconds of loading the definitions in a fresh process beside a bare `import dagster`, and the milliseconds a
partition costs beyond computing and storing it. Exits non-zero if loading takes 2 s or imports a heavy library.
"""

import os
import subprocess
import sys
import tempfile
import warnings
from statistics import median
from time import perf_counter, time

ROUNDS = 5
WEEKS = ("2011-03-06", "2013-02-24")
HEAVY = ("xgboost", "lightgbm", "catboost", "torch", "mlflow", "vectorbt", "backtrader", "sklearn")
LOAD_LIMIT_S = 2.0

IMPORT_DAGSTER = """
import dagster, sys, time
print(time.time() - float(sys.argv[1]))
"""
LOAD = f"""
import sys, time, warnings
warnings.filterwarnings("ignore")
from hf_pipelines.definitions import defs
defs()
print(time.time() - float(sys.argv[1]), *[name for name in {HEAVY} if name in sys.modules])
"""


def time_process(code: str) -> tuple[float, list[str]]:
    """Wall seconds from starting a fresh interpreter to the end of `code`, and what else it printed."""
    command = [sys.executable, "-c", code, str(time())]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, *rest = done.stdout.split()
    return float(seconds), rest


def bench_loading() -> bool:
    """Loading the code location against a bare import of Dagster, interleaved."""
    bare, ours = [], []
    heavy: list[str] = []
    for _ in range(ROUNDS):
        bare.append(time_process(IMPORT_DAGSTER)[0])
        seconds, heavy = time_process(LOAD)
        ours.append(seconds)
    print(
        f"code location   min {min(ours):.2f} s  median {median(ours):.2f} s   heavy libraries imported: {heavy or 'none'}"
    )
    print(f"import dagster  min {min(bare):.2f} s  median {median(bare):.2f} s   ratio {min(ours) / min(bare):.2f}")
    return min(ours) < LOAD_LIMIT_S and not heavy


def bench_partitions() -> None:
    """A range of weeks through Dagster against the same computing and storing without it."""
    from hf_pipelines.commands.runs import Pipeline, load_market
    from hf_pipelines.components.market_stages.features import features_stage
    from hf_pipelines.components.stage_run import StageRun
    from hf_pipelines.resources.clock import Clock
    from hf_pipelines.resources.footer import Stamp
    from hf_pipelines.resources.object_store import ObjectStore
    from hf_pipelines.resources.parquet_io_manager import Loaded
    from hf_pipelines.resources.partition_store import PartitionStore

    pipeline = Pipeline.open()
    pipeline.materialise(["us_tech/bars"], *WEEKS)
    asset = "us_tech/features/temporal"
    keys = pipeline.partition_keys(asset, *WEEKS)
    through_dagster = pipeline.materialise([asset], *WEEKS)

    stage = features_stage(load_market("us_tech"), "temporal")
    with tempfile.TemporaryDirectory() as folder:
        bare_store = PartitionStore(ObjectStore(folder))
        began = perf_counter()
        bars = Loaded("us_tech/bars", {key: pipeline.store.read("us_tech/bars", key) for key in keys}, pipeline.store)
        run = StageRun(tuple(keys), Clock().now(), None)
        for key, content in stage.compute(run, {"bars": bars}).contents.items():
            (replay,) = stage.checks
            assert replay.evaluate(run, {"bars": bars}, key, content).passed
            bare_store.publish(asset, key, content, Stamp("", "", ""))
        bare = perf_counter() - began
    extra = (through_dagster - bare) / len(keys) * 1000
    print(
        f"{len(keys)} partitions of {asset}: through Dagster {through_dagster:.2f} s, computed, replayed and stored "
        f"without it {bare:.2f} s: orchestration {extra:.1f} ms a partition, {1 - bare / through_dagster:.0%} of the run"
    )


def main() -> int:
    """Run both parts."""
    warnings.filterwarnings("ignore", message=".*currently in (beta|preview).*")
    is_fast = bench_loading()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_DATA_DIR"] = folder
        os.environ.pop("DAGSTER_HOME", None)
        bench_partitions()
    return 0 if is_fast else 1


if __name__ == "__main__":
    sys.exit(main())
