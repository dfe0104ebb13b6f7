"""Writing a partition against a bare `write_parquet`, reading a year against a bare `scan_parquet`, requests on S3.

Run: `python -m benchmarks.bench_store [--symbols 500] [--features 158] [--rounds 15]`. Ours and the bare call are
interleaved, each round in turn; the ratio of the minima and of the medians is printed. The bare call writes the same
frame to a new file, by polars' own defaults; ours compresses by level 1, hashes it, seals it and puts it whole. Twice: with the content hash and one hash a
session computed meanwhile (on another core, if one is free), and with the hashes known, as they are when a guard has looked
at the content, which it has of all that the pipeline publishes of features, matrices and signals. On disk, and on S3 over
HTTP, where the bare call is polars' own writer to the bucket. The ratio of CPU seconds (of the least) stands beside the
wall's: on a machine that does other work it is the one to look at, on a quiet one of two cores the wall's is. Exits with 1
if reading is above 1.3, if a file on S3 takes more than two requests, or if writing to disk with known hashes is above 1.3;
the other ratios of writing are printed and judge nothing.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import polars as pl

from hf_pipelines.resources.feature_reader import load_features
from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines_tests.faulty_s3 import faulty
from hf_pipelines_tests.servers import S3, s3_server

BOUND = 1.3
N_WEEKS = 52
FIRST_SUNDAY = date(2020, 1, 5)
ASSET = "bench/features/technical"
STAMP = Stamp("code", "run", "2020-01-12T07:00:00+00:00")
COLUMNS = [f"f{number}" for number in (0, 20, 50, 70, 110, 150)]


# Seconds on the wall and of the processor, one pair a round.
Times = list[tuple[float, float]]


@dataclass(frozen=True)
class Place:
    """Where partitions are written: a folder, or a bucket with what polars wants to know of it."""

    name: str
    uri: str
    endpoint: str | None = None
    options: dict[str, str] | None = None


def week_frame(sunday: date, *, symbols: int, features: int) -> pl.DataFrame:
    """Five sessions of random features, sorted by (symbol, ts); a tenth of the symbols is still without history."""
    rng = np.random.default_rng(sunday.toordinal())
    days = [sunday + timedelta(days=offset) for offset in range(1, 6)]
    times = [datetime(day.year, day.month, day.day, 21, tzinfo=UTC) for day in days]
    keys = pl.DataFrame(
        {
            "symbol": np.repeat([f"S{number:04}" for number in range(symbols)], len(days)),
            "session": days * symbols,
            "ts": times * symbols,
        },
        schema_overrides={"ts": pl.Datetime("us", "UTC")},
    )
    values = rng.standard_normal((features, keys.height), np.float32)
    values[:, rng.random(keys.height) < 0.1] = np.nan
    return keys.with_columns(pl.Series(f"f{number}", column) for number, column in enumerate(values))


def _interleaved(ours: Callable[[], object], bare: Callable[[], object], rounds: int) -> tuple[Times, Times]:
    times: tuple[Times, Times] = ([], [])
    for number in range(rounds):
        for each in (0, 1) if number % 2 else (1, 0):
            begins, used = perf_counter(), process_time()
            (ours, bare)[each]()
            times[each].append((perf_counter() - begins, process_time() - used))
    return times


def _show(name: str, ours: Times, bare: Times) -> float:
    (wall, cpu), (bare_wall, bare_cpu) = (zip(*each, strict=True) for each in (ours, bare))
    ratio, middle = min(wall) / min(bare_wall), statistics.median(wall) / statistics.median(bare_wall)
    print(
        f"{name:<48} ours {min(wall) * 1e3:7.1f} ms   bare {min(bare_wall) * 1e3:7.1f} ms   ratio {ratio:.2f} "
        f"(medians {middle:.2f}, CPU {min(cpu) / min(bare_cpu):.2f})"
    )
    return ratio


def bench_write(place: Place, frame: pl.DataFrame, rounds: int, *, is_hashed: bool) -> float:
    """Ratio of publishing a new partition and a bare write of the same frame."""
    store = PartitionStore(ObjectStore(f"{place.uri}/written{frame.height}{is_hashed}", place.endpoint))
    numbers = count()
    known = Content(frame, has_session_hashes=True)
    known.content_hash()

    def ours() -> None:
        content = known if is_hashed else Content(frame, has_session_hashes=True)
        store.publish(ASSET, f"p{next(numbers)}", content, STAMP)

    def bare() -> None:
        path = f"{place.uri}/bare{frame.height}{is_hashed}-{next(numbers)}.parquet"
        frame.write_parquet(path, storage_options=place.options)

    size = f"{frame.height:,} x {frame.width}, {frame.estimated_size() / 1e6:.1f} MB"
    name = f"write to {place.name} {size}{'' if is_hashed else ', and hash'}"
    return _show(name, *_interleaved(ours, bare, rounds))


def bench_writes(place: Place, sunday: date, shape: dict[str, int], rounds: int) -> float:
    """Print the ratios of writing a week of a universe, and of one ten times as large; the worse one of known hashes."""
    worst = 0.0
    for times in (1, 10):
        frame = week_frame(sunday, **shape | {"symbols": times * shape["symbols"]})
        bench_write(place, frame, rounds, is_hashed=False)
        worst = max(worst, bench_write(place, frame, rounds, is_hashed=True))
    return worst


def bench_read(folder: Path, store: PartitionStore, sundays: list[date], rounds: int) -> float:
    """Ratio of reading a year of six columns and a bare scan of the same files."""
    paths = [folder / "year" / store.key(ASSET, str(sunday)) for sunday in sundays]
    names = ["symbol", "session", "ts", *COLUMNS]
    last = sundays[-1] + timedelta(days=6)

    def ours() -> pl.DataFrame:
        return load_features("bench", "technical", sundays[0], last, columns=COLUMNS, store=store)

    def bare() -> pl.DataFrame:
        return pl.scan_parquet(paths).select(names).collect()

    if not ours().equals(bare(), null_equal=True):
        raise ValueError("`load_features` must give what a bare scan gives, did not.")
    return _show(f"read {len(sundays)} files, 6 of {store_width(paths[0])} columns", *_interleaved(ours, bare, rounds))


def store_width(path: Path) -> int:
    """Columns of a file."""
    return len(pl.read_parquet_schema(path))


def count_requests(s3: S3, folder: Path, frames: dict[str, pl.DataFrame]) -> float:
    """Requests a file when a few weeks are read from a bucket."""
    with faulty(s3.endpoint, folder) as proxy:
        store = PartitionStore(ObjectStore(f"s3://{s3.bucket}/bench", proxy.endpoint))
        for key, frame in frames.items():
            store.publish(ASSET, key, Content(frame), STAMP)
        proxy.forget()
        last = date.fromisoformat(max(frames)) + timedelta(days=6)
        load_features("bench", "technical", min(frames), last, columns=COLUMNS, store=store)
        asked = proxy.requests()
    per_file = len(asked) / len(frames)
    print(f"{'read from S3, 6 columns':<48} {len(asked)} requests for {len(frames)} files, {per_file:.1f} a file")
    return per_file


def main() -> int:
    """Print the figures; 1 if one is out of bounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--features", type=int, default=158)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()

    sundays = [FIRST_SUNDAY + timedelta(weeks=number) for number in range(N_WEEKS)]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        shape = {"symbols": options.symbols, "features": options.features}
        written = bench_writes(Place("disk", str(folder)), sundays[0], shape, options.rounds)
        store = PartitionStore(ObjectStore(str(folder / "year")))
        for sunday in sundays:
            content = Content(week_frame(sunday, **shape), has_session_hashes=True)
            store.publish(ASSET, str(sunday), content, STAMP)
        ratio = bench_read(folder, store, sundays, options.rounds)
        frames = {str(sunday): week_frame(sunday, **shape) for sunday in sundays[:4]}
        with s3_server(folder) as s3:
            os.environ.update(s3.env)
            storage = {"aws_endpoint_url": s3.endpoint, "aws_allow_http": "true"}
            bench_writes(Place("S3", f"s3://{s3.bucket}", s3.endpoint, storage), sundays[0], shape, options.rounds)
            requests = count_requests(s3, folder, frames)
    return int(max(written, ratio) > BOUND or requests > 2)


if __name__ == "__main__":
    sys.exit(main())
