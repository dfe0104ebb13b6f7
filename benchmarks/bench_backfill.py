"""A backfill of five years of bars and features for 88 symbols: what Dagster adds to the work itself.

Run: `python -m benchmarks.bench_backfill [--data FOLDER] [--rounds 1] [--weeks N]`. Per stage, the wall and CPU seconds
of its Dagster run beside the very same work called bare in this process: source files read and validated, or bars read,
features computed, replayed, hashed and stored. Rounds are interleaved, minimums shown. The runs write to a SQLite
instance on disk. Exits with 1 if orchestration is more than half of the wall time.
"""

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter, process_time

import dagster as dg

from benchmarks.session_files import MarketBars, add_data_argument, last_weeks, shares_88
from hf_pipelines.components.market_stages import build_stages
from hf_pipelines.components.stage import Stage
from hf_pipelines.components.stage_run import StageRun
from hf_pipelines.resources import settings
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.footer import Stamp, Verdict
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Stored
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.storage_errors import ObjectMissingError
from hf_pipelines_tests.pipeline import Project, market_of, shipped_features, write_sessions

GROUPS = ("technical", "cross_asset", "temporal")
MARKET = "us_shares"
MAX_ORCHESTRATION = 0.5


@dataclass(frozen=True)
class Cost:
    """Seconds of one piece of work."""

    wall_s: float
    cpu_s: float


class Silent:
    """A logger for stages that run outside Dagster."""

    def info(self, message: str) -> None:
        """Drop it."""


def measure(work: Callable[[], object]) -> Cost:
    wall, cpu = perf_counter(), process_time()
    work()
    return Cost(perf_counter() - wall, process_time() - cpu)


def least(costs: Sequence[Cost]) -> Cost:
    return Cost(min(each.wall_s for each in costs), min(each.cpu_s for each in costs))


def run_bare(stage: Stage, store: PartitionStore, keys: Sequence[str]) -> None:
    """What a stage does for `keys`, without Dagster."""
    inputs = {each.name: _load(store, each.asset, keys) for each in stage.inputs}
    run = StageRun(tuple(keys), Clock().now(), Silent())
    computed = stage.compute(run, inputs)
    assert not computed.failures, next(iter(computed.failures.items()))
    for key, content in computed.contents.items():
        digest = content.content_hash()
        verdicts = {}
        for check in stage.checks:
            finding = check.evaluate(run, inputs, key, content)
            if check.is_guard:
                verdicts[check.name] = Verdict(finding.passed, digest, finding.n_compared, finding.findings)
        store.publish(stage.asset, key, content, Stamp("", "", ""), verdicts=verdicts)


def _load(store: PartitionStore, asset: str, keys: Sequence[str]) -> Loaded:
    parts: dict[str, Stored] = {}
    for key in keys:
        try:
            parts[key] = store.read(asset, key)
        except ObjectMissingError:
            continue
    return Loaded(asset, parts, store)


def run_project(project: Project, assets: Sequence[str], first: str, last: str) -> None:
    made = project.run(assets, first, last)
    assert made.success, made.message


def bench(market: MarketBars, folder: Path, *, rounds: int) -> bool:
    """Print the table; true if orchestration is at most half."""
    files = folder / "landing"
    write_sessions(files, market.bars)
    attributes = market.market(files, name=MARKET, features=shipped_features(*GROUPS))
    stages = build_stages(market_of(attributes))
    runs = {"bars": stages[:1], "features": stages[1:]}
    bare: dict[str, list[Cost]] = {name: [] for name in runs}
    dagster: dict[str, list[Cost]] = {name: [] for name in runs}
    # Kernels are compiled, or loaded from numba's cache, before anything is timed.
    warm_up = Project(folder / "warm_up", attributes)
    weeks = warm_up.weeks
    for of_run in runs.values():
        run_project(warm_up, [stage.asset for stage in of_run], weeks[0], weeks[1])
    print(
        f"{market.origin}: {len(market.symbols)} symbols, {len(market.sessions)} sessions, {len(weeks)} weeks, "
        f"{market.bars.height:,} bars, {len(stages)} assets, {len(weeks) * len(stages)} partitions"
    )
    for number in range(rounds):
        # Real files: stocks listed later leave the first weeks as they are, so each round is the same work.
        project = Project(folder / f"dagster_{number}", attributes)
        project.instance = sqlite_instance(folder / f"home_{number}")
        store = PartitionStore(ObjectStore(str(folder / f"bare_{number}")))
        assert project.definitions.resolve_asset_graph()
        for name, of_run in runs.items():
            assets = [stage.asset for stage in of_run]
            bare[name].append(
                measure(lambda of_run=of_run, store=store: [run_bare(each, store, weeks) for each in of_run])
            )
            dagster[name].append(measure(partial(run_project, project, assets, weeks[0], weeks[-1])))
            for asset in assets:
                theirs = [store.footer(asset, key) for key in store.partitions(asset)]
                assert project.hashes(asset) == {each.partition: each.content_hash for each in theirs if each}
    return report({name: len(of_run) * len(weeks) for name, of_run in runs.items()}, bare, dagster)


def report(partitions: dict[str, int], bare: dict[str, list[Cost]], dagster: dict[str, list[Cost]]) -> bool:
    """Print the table; true if orchestration is at most half of the wall time."""
    print(
        f"{'run':<10}{'partitions':>11}{'Dagster: wall s':>17}{'CPU s':>7}{'bare: wall s':>14}{'CPU s':>7}"
        f"{'added s':>9}{'ms each':>9}{'share':>7}"
    )
    ours = {name: least(costs) for name, costs in dagster.items()}
    peer = {name: least(costs) for name, costs in bare.items()}
    for name, count in partitions.items():
        added = ours[name].wall_s - peer[name].wall_s
        print(
            f"{name:<10}{count:>11}{ours[name].wall_s:>17.1f}{ours[name].cpu_s:>7.1f}{peer[name].wall_s:>14.1f}"
            f"{peer[name].cpu_s:>7.1f}{added:>9.1f}{added / count * 1000:>9.1f}{added / ours[name].wall_s:>7.0%}"
        )
    wall, bare_wall = (sum(each.wall_s for each in costs.values()) for costs in (ours, peer))
    cpu, bare_cpu = (sum(each.cpu_s for each in costs.values()) for costs in (ours, peer))
    share = 1.0 - bare_wall / wall
    ok = share <= MAX_ORCHESTRATION
    print(
        f"backfill {wall:.1f} s, the work itself {bare_wall:.1f} s: orchestration {share:.0%} of the wall time "
        f"({1.0 - bare_cpu / cpu:.0%} of the CPU time; load average {os.getloadavg()[0]:.1f}), "
        f"at most {MAX_ORCHESTRATION:.0%} is {'kept' if ok else 'MISSED'}"
    )
    return ok


def sqlite_instance(home: Path) -> dg.DagsterInstance:
    """The instance that the project's dagster.yaml describes, in a folder of its own."""
    os.environ["DAGSTER_HOME"] = str(home)
    settings.prepare_dagster_home()
    return dg.DagsterInstance.get()


def main() -> int:
    """Run it on the data given."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--weeks", type=int, help="only the last weeks of the data")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*currently in (beta|preview).*")
    market = shares_88(options.data)
    if options.weeks:
        market = last_weeks(market, options.weeks)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_DATA_DIR"] = folder
        for name in ("HF_POSTGRES_URL", "HF_STORAGE_URI", "HF_S3_ENDPOINT"):
            os.environ.pop(name, None)
        return 0 if bench(market, Path(folder), rounds=options.rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
