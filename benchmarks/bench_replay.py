"""What the sampled replay costs beside the features that it replays: a run of one week, and one of half a year.

Run: `python -m benchmarks.bench_replay [--data FOLDER] [--weeks 26] [--rounds 5]`. The market of `bench_session`: 500
symbols, all groups. One process computes and replays all groups in turn, as a run does; CPU seconds, the least of the rounds.
Exits with 1 if over the weeks the replay of all groups takes more than a fifth of computing them. Of a group it may be more:
where a value is made of all members each time needs all of them.
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
from hf_pipelines.components.market_stages import feature_replay as replay
from hf_pipelines.components.market_stages.feature_inputs import feature_inputs
from hf_pipelines.components.market_stages.features import features_stage
from hf_pipelines.components.stage import window
from hf_pipelines.components.stage_run import StageRun
from hf_pipelines.research.features.registry import compute_features
from hf_pipelines.resources.parquet_io_manager import Loaded, open_store
from hf_pipelines.commands.runs import load_market

name, rounds, *weeks = sys.argv[1:]
market, store = load_market(name), open_store()
inputs = {group: {} for group in market.feature_groups}
for group in inputs:
    for each in feature_inputs(market, group):
        there = set(store.partitions(each.asset)) & {key for week in weeks for key in window(market.partitions, each, week)}
        parts = {key: store.read(each.asset, key) for key in there}
        inputs[group][each.name] = Loaded(each.asset, parts, store)
for keys in (weeks[-1:], weeks):
    run, taken = StageRun(tuple(keys), datetime.now(UTC), logging.getLogger()), {}
    for number in range(1 + int(rounds)):
        # What all groups of a run share is looked at by the first.
        replay._LATEST_RUN_ROWS.clear()
        for group in inputs:
            stage = features_stage(market, group)
            (check,) = [each for each in stage.checks if each.name == "replay"]
            began = process_time()
            replay.replays_of(market, group, keys, inputs[group], compute_features)
            before = process_time()
            computed = stage.compute(run, inputs[group])
            between = process_time()
            found = check.findings(run, inputs[group], computed.contents)
            compared = process_time() - between
            assert not computed.failures and all(each.passed for each in found.values()), (computed.failures, found)
            if number == 0:
                # Kernels are made ready.
                continue
            # The computation replays before it computes.
            figures = (between - before - (before - began), before - began + compared)
            least = taken.get(group, figures)
            taken[group] = (*map(min, least, figures), sum(each.n_compared for each in found.values()))
    for group, (computing, replaying, n_compared) in taken.items():
        print(group, len(keys), computing, replaying, n_compared, flush=True)
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
    shares = {}
    for n_weeks in (1, len(measured)):
        of_run = [(group, *map(float, figures)) for group, n, *figures in rows if int(n) == n_weeks]
        total = ("all", *(sum(each[at] for each in of_run) for at in (1, 2, 3)))
        shares = {group: replay_s / compute_s for group, compute_s, replay_s, _ in (*of_run, total)}
        for group, compute_s, replay_s, n_compared in (*of_run, total):
            print(
                f"{n_weeks:3d} weeks  {group:<14} compute {compute_s:.3f} s  replay {replay_s:.3f} s of {n_compared:,.0f} values"
                f"  {shares[group]:.0%}"
            )
    is_kept = shares["all"] <= MOST
    print(
        f"replay of {len(measured)} weeks: {shares['all']:.0%} of computing, {MOST:.0%} is {'kept' if is_kept else 'MISSED'}"
    )
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
