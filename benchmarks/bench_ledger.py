"""Trial ledger: appending with fsync, counting and verifying 100,000 records; median and best of the runs, wall and CPU."""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.trial_ledger import TrialLedger, n_trials, verify_chains
from hf_pipelines.resources.trial_ledger.records import ORIGIN, write_record
from hf_pipelines.resources.trial_ledger.segments import _segment_table, put_segment
from hf_pipelines.resources.trial_ledger.trials import Slot

RECORDS, WRITERS, APPENDS = 100_000, 10, 400


def main() -> None:
    with TemporaryDirectory() as folder:
        os.environ["HF_DATA_DIR"] = str(Path(folder) / "data")
        _append(ObjectStore(str(Path(folder) / "small")), Path(folder))
        big = TrialLedger(ObjectStore(str(Path(folder) / "big")), "bench")
        _fill(big.objects)

        def count() -> object:
            _segment_table.cache_clear()
            return n_trials(big.known())

        print(f"n_trials of {RECORDS:,} records: {_timed(count)}")
        print(f"verify {RECORDS:,} records: {_timed(lambda: verify_chains(big.contents()))}")


def _append(objects: ObjectStore, folder: Path) -> None:
    ledger, took, bare = TrialLedger(objects, "bench"), [], []
    for number in range(APPENDS):
        slot = Slot("bench", "2012-05-06", f"{number:032x}", 7, {"bench/training_matrix": {"2012-05-06": "a" * 64}})
        began = time.perf_counter()
        ledger.begin(slot, source="bench", kind="selection")
        took.append(time.perf_counter() - began)
        # The disk alone: a file and its folder synced.
        began = time.perf_counter()
        file = os.open(folder / str(number), os.O_WRONLY | os.O_CREAT)
        os.write(file, b"x" * 700)
        os.fsync(file)
        os.close(file)
        opened = os.open(folder, os.O_RDONLY)
        os.fsync(opened)
        os.close(opened)
        bare.append(time.perf_counter() - began)
    print(
        f"append: median {1e3 * statistics.median(took):.2f} ms, of which the disk's two syncs {1e3 * statistics.median(bare):.2f} ms; best {1e3 * min(took):.2f} ms"
    )


def _fill(objects: ObjectStore) -> None:
    for each in range(WRITERS):
        previous, records = ORIGIN, []
        for n in range(RECORDS // WRITERS):
            trial = f"{each * RECORDS + n // 2:032x}"
            fields = {
                "at": f"2024-01-01T00:00:{n % 60:02d}.000000+00:00",
                "trial": trial,
                "writer": f"{each:016x}",
                "n": n,
            }
            if n % 2:
                told = {"event": "ended", "outcome": "completed", "scores": {"accuracy": 0.5}, "returns": "e" * 64}
            else:
                told = {
                    "event": "begun", "kind": "selection", "source": "cross_validation", "strategy": "s", "market": "m",
                    "configuration": trial, "seed": 7, "actor": "a", "differs": {"depth": 3}, "data_hash": "d" * 32,
                    "data": {"s/training_matrix": {"2024-01-07": "x" * 64}}, "code_version": "c" * 16, "parent": "",
                }  # fmt: skip
            record = write_record({**fields, **told, "prev": previous})
            previous = record.hash
            records.append(record)
        for first in range(0, len(records), 500):
            put_segment(objects, records[first : first + 500])


def _timed(call: Callable[[], object], runs: int = 3) -> str:
    wall, cpu = [], []
    for _ in range(runs):
        began, used = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
    return f"best {min(wall):.2f} s wall, {min(cpu):.2f} s CPU"


if __name__ == "__main__":
    main()
