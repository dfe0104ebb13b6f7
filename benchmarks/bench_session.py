"""One new session of 500 symbols through every group of features: seconds per stage, and how many of them import.

Run: `python -m benchmarks.bench_session [--data FOLDER] [--weeks 72] [--rounds 3]`. A market of the data's symbols, with
sectors, a volatility index and reference tables (random filings, trades, short interest and scored news), has bars
and reference rows of all sessions but the last. Then its session file lands and two processes follow, as the sensors
launch them: one of bars and reference tables, one of all groups of features, each as a user's process starts. Python
counts what its imports take (`-X importtime`; lazy ones included). Exits with 1 if most of the time is spent on imports.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import polars as pl

from benchmarks.session_files import MarketBars, add_data_argument, last_weeks, shares_500
from hf_pipelines.partitions import week_key
from hf_pipelines.research.features import FEATURES
from hf_pipelines_tests.checkout import Checkout, make_checkout
from hf_pipelines_tests.pipeline import TIMEZONE, write_sessions
from hf_pipelines_tests.sample_references import random_references

MARKET, VOLATILITY_INDEX = "us_shares", "VIX"
N_SECTORS = 11
IMPORT_LINE = re.compile(r"^import time:\s+(\d+) \|", re.MULTILINE)

# What a process of a run does, and what Dagster says each of its assets took.
RUN = """
import json, sys
from hf_pipelines.commands.runs import Pipeline
pipeline = Pipeline.open()
seconds = pipeline.materialise(sys.argv[2:], sys.argv[1], sys.argv[1])
taken = {}
for asset in sys.argv[2:]:
    event = pipeline.instance.get_latest_materialization_event(__import__("dagster").AssetKey(asset.split("/")))
    facts = event.asset_materialization.metadata
    taken[asset] = {name: facts[name].value for name in ("compute_s", "checks_s", "write_s", "rows") if name in facts}
print(json.dumps([seconds, taken]))
"""


def with_volatility_index(market: MarketBars) -> MarketBars:
    """The market with bars of a second reference: the range of the benchmark's day, in percent of its close."""
    level = 100.0 * (pl.col("high") - pl.col("low")) / pl.col("close") + 10.0
    index = market.bars.filter(pl.col("symbol") == market.benchmark).with_columns(
        symbol=pl.lit(VOLATILITY_INDEX),
        **{name: level for name in ("open", "high", "low", "close")},
        volume=pl.lit(0.0),
        dividend=pl.lit(0.0),
        split_ratio=pl.lit(1.0),
    )
    return MarketBars(pl.concat([market.bars, index]).sort("symbol", "ts"), market.origin, market.benchmark)


def build(folder: Path, market: MarketBars) -> tuple[Checkout, Path, list[str]]:
    """A checkout with this market alone, its landing folder, and the names of its reference tables."""
    landing, references = folder / "landing", folder / "references"
    members = [symbol for symbol in market.symbols if symbol != VOLATILITY_INDEX]
    tables = random_references(members, start=market.sessions[0], end=market.sessions[-1], seed=1)
    for name, rows in tables.items():
        _write_days(references / name, rows)
    groups = sorted({feature.group for feature in FEATURES.values()})
    attributes = market.market(landing, name=MARKET, features=groups) | {
        "universe": [{"symbol": symbol, "sector": f"sector {row % N_SECTORS}"} for row, symbol in enumerate(members)],
        "volatility_index": VOLATILITY_INDEX,
        "references": [{"table": name, "source": {"type": "files", "uri": str(references / name)}} for name in tables],
    }
    checkout = make_checkout(folder / "checkout", [], markets=[attributes])
    return checkout, landing, list(tables)


def _write_days(folder: Path, rows: pl.DataFrame) -> None:
    folder.mkdir(parents=True)
    days = pl.col("available_at").dt.convert_time_zone(TIMEZONE).dt.date()
    for (day,), of_day in rows.with_columns(day=days).partition_by("day", as_dict=True, include_key=False).items():
        of_day.write_parquet(folder / f"{day}.parquet")


def materialise(checkout: Checkout, assets: Sequence[str], first: str, last: str) -> None:
    for asset in assets:
        done = checkout.run(checkout.command("materialise", asset, "--from", first, "--to", last), timeout_s=1200)
        assert done.returncode == 0, done.stdout + done.stderr


def run(checkout: Checkout, week: str, assets: Sequence[str]) -> tuple[float, float, dict[str, Any]]:
    """Wall seconds of a process that materialises assets, those of them that are imports, and what each asset took."""
    began = perf_counter()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", RUN, week, *assets],
        cwd=checkout.root,
        env=checkout.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    wall = perf_counter() - began
    assert done.returncode == 0, done.stderr[-2000:]
    imports = sum(int(each) for each in IMPORT_LINE.findall(done.stderr)) / 1e6
    return wall, imports, json.loads(done.stdout.splitlines()[-1])[1]


def main() -> int:
    """Land the last session, print what followed."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--weeks", type=int, default=72, help="weeks of history: the longest window is 300 bars")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    market = with_volatility_index(last_weeks(shares_500(options.data), options.weeks))
    new, week = market.sessions[-1], week_key(market.sessions[-1])
    weeks = sorted({week_key(day) for day in market.sessions})
    with tempfile.TemporaryDirectory() as name:
        checkout, landing, tables = build(Path(name), market)
        write_sessions(landing, market.bars.filter(pl.col("session") < new))
        references = [f"{MARKET}/{table}" for table in tables]
        materialise(checkout, [f"{MARKET}/bars", *references], weeks[0], weeks[-1])
        groups = [f"{MARKET}/features/{group}" for group in sorted({each.group for each in FEATURES.values()})]
        n_days = (new - market.sessions[0] + timedelta(days=1)).days
        print(
            f"{market.origin}: {len(market.symbols) - 1} symbols, {n_days} days, {len(FEATURES)} features", flush=True
        )
        write_sessions(landing, market.bars.filter(pl.col("session") == new))
        shares = []
        for round_ in range(options.rounds):
            done = [run(checkout, week, assets) for assets in ([f"{MARKET}/bars", *references], groups)]
            wall, imports = (float(np.sum([each[position] for each in done])) for position in (0, 1))
            shares.append(imports / wall)
            print(
                f"round {round_ + 1}: {wall:.1f} s from the file to the stored features, {imports:.1f} s of them imports"
            )
            for seconds, of_imports, taken in done:
                print(f"  process of {seconds:.1f} s, imports {of_imports:.1f} s")
                replayed = [facts for asset, facts in taken.items() if "/features/" in asset]
                if replayed:
                    computed, checked = (sum(facts[name] for facts in replayed) for name in ("compute_s", "checks_s"))
                    print(f"  replay and other checks {checked:.2f} s for {computed:.2f} s of computing features")
                for asset, facts in taken.items():
                    shown = ", ".join(
                        f"{what} {value:.2f}" if what != "rows" else f"{value:,} rows" for what, value in facts.items()
                    )
                    print(f"    {asset:<36}{shown}", flush=True)
    is_kept = min(shares) < 0.5
    print(f"share of imports {min(shares):.0%}, most of the time elsewhere is {'kept' if is_kept else 'MISSED'}")
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
