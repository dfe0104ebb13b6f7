"""One session of 500 symbols, from the file that lands to the signals: seconds per stage with the real daemon.

Run: `python -m benchmarks.bench_arrival [--data FOLDER] [--weeks 45] [--sessions 2]`. A checkout of its own holds a
market of the data's symbols and one strategy of boosted trees; bars, features and a model are made of all but the last
sessions. Then code server and daemon run as processes with the project's own dagster.yaml, a session file lands, and
nobody touches anything until its signals are stored. Waiting (for the next tick of a sensor, for the queue) is told from
work (starting the process of a run, computing, storing). On a machine that does other things as well, compare the wall
seconds with the CPU seconds of the runs' processes. Exits with 1 if the work of the quickest session takes 15 s.
"""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from time import time
from typing import Any

import polars as pl
import psutil

from benchmarks.session_files import MarketBars, add_data_argument, last_weeks, shares_500
from hf_pipelines.components.market_stages import build_stages
from hf_pipelines.partitions import week_key
from hf_pipelines_tests.checkout import Checkout, make_checkout
from hf_pipelines_tests.pipeline import market_of, shipped_features, write_sessions
from hf_pipelines_tests.running import FINISHED, Running, running
from hf_pipelines_tests.servers import wait_until

MAX_WORK_S = 15.0
WAIT_S = 300.0
GROUPS = ("technical", "cross_asset", "temporal")
MARKET = "us_shares"
STRATEGY: Mapping[str, Any] = {
    "name": "shares_direction",
    "market": MARKET,
    "features": list(GROUPS),
    "target": {"type": "direction", "horizon_bars": 5, "params": {"upper": 0.01, "lower": -0.01}},
    "training": {"weeks": 14, "minimum_rows": 500, "weighting": "class_balance"},
    "cross_validation": {"n_splits": 2, "min_train_sessions": 10},
    "learner": {"type": "xgboost_classifier", "params": {"n_estimators": 300, "max_depth": 6}, "seed": 7},
    "signal": {"type": "probability_threshold", "params": {"threshold": 0.4}},
}
# The project's own pace: the tests' is faster.
OWN_PACE = {"run_coordinator": {"config": {"dequeue_interval_seconds": 2}}}


@dataclass(frozen=True)
class Span:
    """A stretch of the way of a session, in seconds since 1970."""

    name: str
    began: float
    ended: float
    is_work: bool

    @property
    def seconds(self) -> float:
        return self.ended - self.began


def build(folder: Path, market: MarketBars, history: pl.DataFrame) -> tuple[Checkout, Path]:
    """A checkout with this market and strategy alone, its chains made from `history`, and the landing folder."""
    landing = folder / "landing"
    write_sessions(landing, history)
    attributes = market.market(landing, name=MARKET, features=shipped_features(*GROUPS))
    checkout = make_checkout(folder / "checkout", [STRATEGY], markets=[attributes])
    weeks = [week_key(day) for day in sorted(history["session"].unique())]
    for stage in build_stages(market_of(attributes)):
        done = checkout.run(
            checkout.command("materialise", stage.asset, "--from", weeks[0], "--to", weeks[-1]), timeout_s=1200
        )
        assert done.returncode == 0, done.stdout + done.stderr
    newest = week_key(market.sessions[-1])
    done = checkout.run(checkout.command("retrain", STRATEGY["name"], "--week", newest), timeout_s=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    return checkout, landing


def land(landing: Path, bars: pl.DataFrame) -> float:
    """Put one session file into the landing folder, whole; when that was."""
    with tempfile.TemporaryDirectory(dir=landing.parent) as outside:
        write_sessions(Path(outside), bars)
        (path,) = Path(outside).iterdir()
        path.rename(landing / path.name)
    return time()


def wait_for_signals(services: Running, checkout: Checkout, days: Sequence[date]) -> None:
    """Until the signals of `days` are stored and no run is under way."""
    asset, store = f"{STRATEGY['name']}/signals", checkout.store()
    wanted = {str(day) for day in days}

    def is_done() -> bool:
        return wanted <= set(store.partitions(asset)) and all(r["status"] in FINISHED for r in services.runs())

    wait_until(is_done, f"signals of {max(wanted)}", timeout_s=WAIT_S)


def run_cpu_s(services: Running) -> float:
    """CPU seconds so far of the runs' processes that have ended: they are the code server's children."""
    times = psutil.Process(services.servers["code_server"].process.pid).cpu_times()
    return float(times.children_user + times.children_system)


def spans_of(services: Running, landed: float) -> list[Span]:
    """The way of a session through the runs made since it landed, without gaps."""
    made = sorted((run for run in services.runs() if run["created"] > landed), key=lambda run: run["created"])
    spans, at = [], landed
    for run in made:
        assert run["status"] == "SUCCESS", run
        events = services.events(run["id"])
        times = {each["type"]: each["at"] for each in events if each["step"] is None and each["type"]}
        steps = [
            (each["step"], each["at"], end["at"])
            for each in events
            for end in events
            if each["type"] == "STEP_START" and end["type"] == "STEP_SUCCESS" and each["step"] == end["step"]
        ]
        starting = times.get("RUN_STARTING", times.get("PIPELINE_STARTING", run["started"]))
        spans += [
            Span("wait: tick of the sensor", at, run["created"], is_work=False),
            Span("wait: queue", run["created"], starting, is_work=False),
        ]
        at = starting
        for name, began, ended in sorted(steps, key=lambda step: step[1]):
            what = "start of the run's process" if at == starting else "between steps"
            spans += [Span(what, at, began, is_work=True), Span(name.replace("__", "/"), began, ended, is_work=True)]
            at = ended
        spans.append(Span("end of the run", at, run["ended"], is_work=True))
        at = run["ended"]
    return spans


def report(day: date, spans: Sequence[Span]) -> float:
    """Print the way of one session; the seconds that were work."""
    work = sum(each.seconds for each in spans if each.is_work)
    total = spans[-1].ended - spans[0].began
    print(f"session {day}: {total:.1f} s from its file to its signals, {work:.1f} s of them work, the rest waiting")
    merged: dict[tuple[str, bool], float] = {}
    for each in spans:
        merged[each.name, each.is_work] = merged.get((each.name, each.is_work), 0.0) + each.seconds
    for (name, is_work), seconds in merged.items():
        print(f"  {name:<44}{seconds:>7.2f} s  {'work' if is_work else 'waiting'}")
    return work


def main() -> int:
    """Land sessions, print their ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--weeks", type=int, default=45, help="weeks of history")
    parser.add_argument("--sessions", type=int, default=2, help="sessions that land, one after the other")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    market = last_weeks(shares_500(options.data), options.weeks)
    new = market.sessions[-options.sessions :]
    assert week_key(new[0]) == week_key(new[-1]), "`--sessions` must lie in the data's last week"
    history = market.bars.filter(~pl.col("session").is_in(new))
    print(f"{market.origin}: {len(market.symbols)} symbols, {history['session'].n_unique()} sessions of history")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HF_DATA_DIR"] = str(folder / "own")
        checkout, landing = build(folder, market, history)
        with running(checkout, folder / "instance", {"HF_TEST_PACE": "own"}, dagster_yaml=OWN_PACE) as services:
            # The sessions of the week that came before have features and no issue: the sensors begin with them.
            before = [day for day in history["session"].unique().sort() if week_key(day) == week_key(new[0])]
            wait_for_signals(services, checkout, before)
            work = []
            for day in new:
                before_s = run_cpu_s(services)
                landed = land(landing, market.bars.filter(pl.col("session") == day))
                wait_for_signals(services, checkout, [day])
                work.append(report(day, spans_of(services, landed)))
                cpu_s = run_cpu_s(services) - before_s
                print(f"  CPU of the runs' processes {cpu_s:.1f} s; load average {os.getloadavg()[0]:.1f}", flush=True)
    ok = min(work) < MAX_WORK_S
    print(f"work of a session {min(work):.1f} s, less than {MAX_WORK_S:.0f} s is {'kept' if ok else 'MISSED'}")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
