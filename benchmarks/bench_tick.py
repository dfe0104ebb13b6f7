"""One tick of the arrival sensor over a folder of 5,000 session files, on disk and on S3.

Run: `python -m benchmarks.bench_tick [--files 5000] [--rounds 5]`. The market has twenty years of bars and features
stored. Timed are a tick that finds nothing new, one that finds a new session, one with an empty cursor (all that is
stored is compared anew, by bounded steps), and, as the peer, a bare listing of names, sizes and times. S3 is moto's
server on 127.0.0.1. Minimum and median wall seconds; exits with 1 if the median of a tick takes 1.5 s.
"""

import argparse
import os
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.bench_backfill import run_bare, sqlite_instance
from hf_pipelines.components.automation.arrivals import Arrivals, Tick
from hf_pipelines.components.automation.work import Ledger
from hf_pipelines.components.market import Market
from hf_pipelines.partitions import MarketPartitions
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines_tests.pipeline import TIMEZONE, files_market, market_of, session_bars
from hf_pipelines_tests.servers import s3_server

MAX_TICK_S = 1.5
FIRST = date(2004, 1, 2)
# Files that have been there for a while: a batch that is still arriving is left alone.
OLD_S = 3600.0


@dataclass(frozen=True)
class Place:
    """A market with its landing folder and its store, on disk or on S3."""

    name: str
    market: Market
    store: PartitionStore
    list_bare: Callable[[], int]
    put: Callable[[str, bytes], None]


def tick(place: Place, instance: Any, cursor: str | None) -> tuple[Tick, float]:
    # An hour ahead: on S3 no one can set a file's time.
    now = datetime.now(UTC) + timedelta(seconds=OLD_S)
    began = perf_counter()
    found = Arrivals(place.market, place.store, Ledger(instance, now), now).tick(cursor)
    return found, perf_counter() - began


def fill(folder: Path, n_files: int) -> tuple[dict[str, Any], bytes, str]:
    """Session files, and bars and features made from all but the last of them; that one's bytes and name."""
    partitions = MarketPartitions("XNYS", TIMEZONE, FIRST, date(2025, 12, 31))
    days = partitions.sessions_between(FIRST, date(2025, 12, 31))[: n_files + 1]
    bars = session_bars(days, symbols=2, seed=3)
    attributes = files_market(folder / "landing", bars, groups=["temporal"], name="landed")
    newest = folder / "landing" / f"{days[-1]}.parquet"
    payload = newest.read_bytes()
    newest.unlink()
    market = market_of(attributes)
    weeks = partitions.weeks_between(days[0], days[-2])
    for stage in market.stages:
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
    for path in sorted(path for part in ("landing", "storage") for path in (folder / part).rglob("*.parquet")):
        client.put_object(Bucket=bucket, Key=str(path.relative_to(folder)), Body=path.read_bytes())
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
    cursor, first = None, []
    for _ in range(100):
        found, seconds = tick(place, instance, cursor)
        first.append(seconds)
        assert not found.requests, (found.requests[:1], found.notes)
        if found.cursor == cursor:
            break
        cursor = found.cursor
    bare, quiet, arrived = [], [], []
    before = cursor
    for _ in range(rounds):
        began = perf_counter()
        n_listed = place.list_bare()
        bare.append(perf_counter() - began)
        found, seconds = tick(place, instance, cursor)
        assert not found.requests
        quiet.append(seconds)
    place.put(name, payload)
    for _ in range(rounds):
        found, seconds = tick(place, instance, before)
        (request,) = found.requests
        assert request.partition_key, request
        arrived.append(seconds)
    print(
        f"{place.name}: {n_listed:,} session files, {len(place.store.partitions(place.market.bars_asset)):,} weeks of bars"
    )
    show("bare listing", bare)
    show("tick, nothing new", quiet, f"{min(quiet) / min(bare):.1f}x the bare listing")
    show("tick, a new session", arrived, f"asks for week {request.partition_key}")
    show("ticks from an empty cursor", first, f"{len(first)} of them, the longest {max(first):.2f} s")
    return max(statistics.median(quiet), statistics.median(arrived), max(first)) < MAX_TICK_S


def show(what: str, seconds: list[float], note: str = "") -> None:
    print(f"  {what:<28} min {min(seconds):6.3f} s   median {statistics.median(seconds):6.3f} s   {note}")


def main() -> int:
    """Both places."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-s3", action="store_true", help="on disk only")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*currently in (beta|preview).*")
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
