"""One tick of the arrival sensor over a folder of 5,000 session files, on disk and on S3.

Run: `python -m benchmarks.bench_tick [--files 5000] [--rounds 5]`. The market has twenty years of bars and features
stored. Timed are a tick that finds nothing new (of a bucket it looks at 2,000 files and the last weeks), one that finds
a new session, those after a cursor was lost (all that is stored is compared anew, 260 weeks a tick), and, as the peer, a
bare listing of all names, sizes and times. S3 is moto's server on 127.0.0.1, whose answers are most of the wall time
there. Minimum and median wall seconds and minimum CPU seconds; exits with 1 if the quickest of the first two kinds
takes 1.5 s.
"""

import argparse
import os
import signal
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from benchmarks.bench_backfill import Cost, run_bare, sqlite_instance
from hf_pipelines.components.automation.arrivals import Arrivals, Tick
from hf_pipelines.components.automation.run_intents import RunHistory
from hf_pipelines.components.market_stages import MarketPlan, build_stages
from hf_pipelines.partitions import MarketPartitions
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines_tests.pipeline import TIMEZONE, files_market, market_of, session_bars, shipped_features
from hf_pipelines_tests.servers import s3_server

MAX_TICK_S = 1.5
FIRST = date(2004, 1, 2)
# Files that have been there for a while: a batch that is still arriving is left alone.
OLD_S = 3600.0


@dataclass(frozen=True)
class Place:
    """A market with its landing folder and its store, on disk or on S3."""

    name: str
    market: MarketPlan
    store: PartitionStore
    list_bare: Callable[[], int]
    put: Callable[[str, bytes], None]


def tick(place: Place, instance: Any, cursor: str | None) -> tuple[Tick, Cost]:
    # An hour ahead: on S3 no one can set a file's time.
    now = datetime.now(UTC) + timedelta(seconds=OLD_S)
    wall, cpu = perf_counter(), process_time()
    found = Arrivals(place.market, place.store, RunHistory(instance, now), now).tick(cursor)
    return found, Cost(perf_counter() - wall, process_time() - cpu)


def fill(folder: Path, n_files: int) -> tuple[dict[str, Any], bytes, str]:
    """Session files, and bars and features made from all but the last of them; that one's bytes and name."""
    partitions = MarketPartitions("XNYS", TIMEZONE, FIRST, date(2025, 12, 31))
    days = partitions.sessions_between(FIRST, date(2025, 12, 31))[: n_files + 1]
    bars = session_bars(days, symbols=2, seed=3)
    attributes = files_market(folder / "landing", bars, features=shipped_features("temporal"), name="landed")
    newest = folder / "landing" / f"{days[-1]}.parquet"
    payload = newest.read_bytes()
    newest.unlink()
    market = market_of(attributes)
    weeks = partitions.weeks_between(days[0], days[-2])
    for stage in build_stages(market):
        run_bare(stage, PartitionStore(ObjectStore(str(folder / "storage"))), weeks)
    return attributes, payload, newest.name


def on_disk(folder: Path, attributes: dict[str, Any]) -> Place:
    landing = folder / "landing"

    def list_bare() -> int:
        with os.scandir(landing) as entries:
            return len([(each.name, each.stat().st_size, each.stat().st_mtime_ns) for each in entries])

    return Place(
        "disk",
        market_of(attributes),
        PartitionStore(ObjectStore(str(folder / "storage"))),
        list_bare,
        lambda name, payload: (landing / name).write_bytes(payload) and None,
    )


def on_s3(folder: Path, attributes: dict[str, Any], endpoint: str, bucket: str) -> Place:
    """The same files and objects, copied into a bucket."""
    import boto3

    client = boto3.client("s3", endpoint_url=endpoint)

    def copy(path: Path) -> None:
        client.put_object(Bucket=bucket, Key=str(path.relative_to(folder)), Body=path.read_bytes())

    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(
            copy, [path for part in ("landing", "storage") for path in (folder / part).rglob("*.parquet")]
        ):
            pass
    uri = f"s3://{bucket}/landing"

    def list_bare() -> int:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="landing/")
        return len([(e["Key"], e["Size"], e["LastModified"]) for page in pages for e in page.get("Contents", ())])

    return Place(
        "S3 (moto)",
        market_of({**attributes, "source": {"type": "files", "uri": uri, "endpoint": endpoint}}),
        PartitionStore(ObjectStore(f"s3://{bucket}/storage", endpoint)),
        list_bare,
        lambda name, payload: client.put_object(Bucket=bucket, Key=f"landing/{name}", Body=payload) and None,
    )


def bench(place: Place, instance: Any, payload: bytes, name: str, *, rounds: int) -> bool:
    """Print the rows of one place; true if no tick takes too long."""
    cursor: str | None = None
    first, seen = [], set()
    # A bucket is looked through in several ticks: settled is what comes back to where it was.
    while cursor not in seen:
        seen.add(cursor)
        found, cost = tick(place, instance, cursor)
        first.append(cost)
        assert not found.requests, (found.requests[:1], found.notes)
        cursor = found.cursor
    bare, quiet, arrived = [], [], []
    before = cursor
    for _ in range(rounds):
        wall, cpu = perf_counter(), process_time()
        n_listed = place.list_bare()
        bare.append(Cost(perf_counter() - wall, process_time() - cpu))
        found, cost = tick(place, instance, cursor)
        assert not found.requests
        quiet.append(cost)
        cursor = found.cursor
    place.put(name, payload)
    for _ in range(rounds):
        found, cost = tick(place, instance, before)
        (request,) = found.requests
        assert request.partition_key, request
        arrived.append(cost)
    print(
        f"{place.name}: {n_listed:,} session files, {len(place.store.partitions(place.market.bars_asset)):,} weeks of bars"
    )
    show("bare listing", bare)
    ratio = min(each.wall_s for each in quiet) / min(each.wall_s for each in bare)
    show("tick, nothing new", quiet, f"{ratio:.1f}x the bare listing")
    show("tick, a new session", arrived, f"asks for week {request.partition_key}")
    show("ticks after a lost cursor", first, f"{len(first)} of them, the longest {max(c.wall_s for c in first):.2f} s")
    return all(min(each.wall_s for each in kind) < MAX_TICK_S for kind in (quiet, arrived))


def show(what: str, costs: list[Cost], note: str = "") -> None:
    wall = [each.wall_s for each in costs]
    cpu = min(each.cpu_s for each in costs)
    print(
        f"  {what:<26} wall min {min(wall):6.3f} s  median {statistics.median(wall):6.3f} s  CPU {cpu:6.3f} s  {note}"
    )


def main() -> int:
    """Both places."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-s3", action="store_true", help="on disk only")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*currently in (beta|preview).*")
    # Stopped by a time limit, it stops its server too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HF_DATA_DIR"] = name
        instance = sqlite_instance(folder / "home")
        attributes, payload, newest = fill(folder, options.files)
        ok = bench(on_disk(folder, attributes), instance, payload, newest, rounds=options.rounds)
        if not options.no_s3:
            with suppress(FileNotFoundError):
                (folder / "landing" / newest).unlink()
            with s3_server(folder) as s3:
                os.environ.update(s3.env)
                place = on_s3(folder, attributes, s3.endpoint, s3.bucket)
                ok &= bench(place, instance, payload, newest, rounds=options.rounds)
    print(f"a tick takes less than {MAX_TICK_S} s: {'kept' if ok else 'MISSED'}")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
