"""What the sampled replay costs beside the features that it replays: a run of one week, and one of half a year.

Run: `python -m benchmarks.bench_replay [--data FOLDER] [--weeks 26] [--rounds 5]`. The market of `bench_session`: 500
symbols, all groups. One process computes and replays each group in turn; CPU seconds, the least of the rounds. Exits with
1 if over the weeks the replay of a group takes more than a fifth of its computing.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.bench_session import MARKET, build, materialise, with_volatility_index
from benchmarks.session_files import add_data_argument, last_weeks, shares_500
from hf_pipelines.partitions import week_key
from hf_pipelines_tests.pipeline import write_sessions

# A week reads a year of bars; what is replayed comes after it.
HISTORY_WEEKS = 62
MOST = 0.2

MEASURE = """
import logging, sys
from datetime import UTC, datetime
from time import process_time
from hf_pipelines.components.features_stage import feature_inputs, features_stage, replays_of
from hf_pipelines.components.stage import StageRun, window
from hf_pipelines.research.features.registry import compute_features
from hf_pipelines.resources.parquet_io_manager import Loaded, open_store
from hf_pipelines.runs import load_market

name, rounds, *weeks = sys.argv[1:]
market, store = load_market(name), open_store()
for group in market.feature_groups:
    stage, inputs = features_stage(market, group), {}
    for each in feature_inputs(market, group):
        there = set(store.partitions(each.asset)) & {key for week in weeks for key in window(market.partitions, each, week)}
        inputs[each.name] = Loaded(each.asset, {key: store.read(each.asset, key) for key in there}, store)
    (check,) = [each for each in stage.checks if each.name == "replay"]
    for keys in (weeks[-1:], weeks):
        run = StageRun(tuple(keys), datetime.now(UTC), logging.getLogger())
        computing, replaying = [], []
        for _ in range(int(rounds)):
            began = process_time()
            replays_of(market, group, keys, inputs, compute_features)
            before = process_time()
            computed = stage.compute(run, inputs)
            between = process_time()
            found = check.findings(run, inputs, computed.contents)
            compared = process_time() - between
            # The computation replays before it computes.
            computing.append(between - before - (before - began))
            replaying.append(before - began + compared)
            assert not computed.failures and all(each.passed for each in found.values()), (computed.failures, found)
        print(group, len(keys), min(computing), min(replaying), sum(each.n_compared for each in found.values()), flush=True)
"""


def main() -> int:
    """Print each group's seconds and the share over all."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--weeks", type=int, default=26, help="weeks of the longer run")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    market = with_volatility_index(last_weeks(shares_500(options.data), HISTORY_WEEKS + options.weeks))
    weeks = sorted({week_key(day) for day in market.sessions})
    with tempfile.TemporaryDirectory() as name:
        checkout, landing, tables = build(Path(name), market)
        write_sessions(landing, market.bars)
        materialise(checkout, [f"{MARKET}/{each}" for each in ("bars", *tables)], weeks[0], weeks[-1])
        measured = weeks[-options.weeks :]
        print(f"{market.origin}: {len(market.symbols) - 1} symbols, runs of 1 and of {len(measured)} weeks", flush=True)
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, MARKET, str(options.rounds), *measured],
            cwd=checkout.root,
            env=checkout.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line.split() for line in done.stdout.splitlines()]
    worst = {}
    for n_weeks in (1, len(measured)):
        of_run = [(group, *map(float, figures)) for group, n, *figures in rows if int(n) == n_weeks]
        computing, replaying = (sum(each[at] for each in of_run) for at in (1, 2))
        worst[n_weeks] = max((replay_s / compute_s, group) for group, compute_s, replay_s, _ in of_run)
        for group, compute_s, replay_s, n_compared in [
            *of_run,
            ("all", computing, replaying, sum(r[3] for r in of_run)),
        ]:
            print(
                f"{n_weeks:3d} weeks  {group:<14} compute {compute_s:.3f} s  replay {replay_s:.3f} s of {n_compared:,.0f} values"
                f"  {replay_s / compute_s:.0%}"
            )
    share, group = worst[len(measured)]
    is_kept = share <= MOST
    print(
        f"replay of {len(measured)} weeks: at most {share:.0%} of a group ({group}), {MOST:.0%} is {'kept' if is_kept else 'MISSED'}"
    )
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
