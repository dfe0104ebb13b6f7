"""A quarter of arrivals with restarts, broken and duplicate files ends as the same arrivals without faults."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from hf_pipelines.partitions import week_key
from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines_tests.arrival_script import TROUBLES, ArrivalScript
from hf_pipelines_tests.baseline import ASSETS, StateReader
from hf_pipelines_tests.soak import (
    BARS,
    MODEL,
    RESTARTS,
    SIGNALS,
    Report,
    differences,
    issue_differences,
    lost_sessions,
    soak,
    source_differences,
)

# `make test` plays three weeks, which have most kinds of arrival; `make quarter` plays all thirteen, with every trouble, and
# starts each process anew.
WHOLE_QUARTER = 13
WEEKS = int(os.environ.get("HF_QUARTER_WEEKS", "3"))
SEED = 4 if WEEKS == WHOLE_QUARTER else 403
SCRIPT = ArrivalScript(WEEKS, SEED)


pytestmark = pytest.mark.servers


@dataclass(frozen=True)
class Quarter:
    report: Report
    baseline: PartitionStore
    noisy: PartitionStore


@pytest.fixture(scope="module")
def quarter(tmp_path_factory: pytest.TempPathFactory) -> Quarter:
    folder = tmp_path_factory.mktemp("quarter")
    report = soak(folder, weeks=WEEKS, seed=SEED, say=print)
    print(report.text())
    stores = [PartitionStore(ObjectStore(str(folder / name / "storage"))) for name in ("baseline", "noisy")]
    return Quarter(report, *stores)


@pytest.fixture
def altered(quarter: Quarter, tmp_path: Path) -> Iterator[PartitionStore]:
    """A copy of what the noisy play has stored, to be altered."""
    shutil.copytree(quarter.noisy.objects.uri, tmp_path / "storage")
    return PartitionStore(ObjectStore(str(tmp_path / "storage")))


def test_quarter_with_restarts_broken_and_duplicate_files_ends_with_the_hashes_and_weights_of_peace(quarter):
    report = quarter.report
    assert report.is_equal, report.text()
    kinds = {kind for arrival in SCRIPT.arrivals for kind in arrival.kinds}
    assert (
        set(report.arrivals)
        == kinds
        >= {"daily", "in two parts", "broken", "mended", "duplicate", "late", "revised", "stray"}
    )
    assert report.n_restarts >= WEEKS // 2, report.text()
    if WEEKS == WHOLE_QUARTER:
        assert set(RESTARTS) <= set(report.faults), report.text()
        assert kinds >= {"after an outage", *TROUBLES}
    assert report.runs.keys() <= {"SUCCESS", "killed", "refused its input"}, report.text()
    # Every session of a week that has a model is issued; an outage over a week's end may leave one week without.
    models = quarter.noisy.partitions(MODEL)
    assert WEEKS - 1 <= len(models) <= WEEKS
    assert quarter.noisy.partitions(SIGNALS) == [f"{day}" for day in SCRIPT.days if week_key(day) in models]
    assert all(quarter.noisy.partitions(asset) for asset in ASSETS)


def test_quarter_keeps_the_events_of_refused_rows_and_a_row_for_every_member(quarter):
    split, paid = SCRIPT.faulty_days
    first, _, third, *_ = SCRIPT.members
    bars = pl.concat(quarter.noisy.read(BARS, week).frame for week in quarter.noisy.partitions(BARS))
    for symbol, day, column, value in ((first, split, "split_ratio", 2.0), (third, paid, "dividend", 1.5)):
        of_symbol = bars.filter(pl.col("symbol") == symbol)
        assert day not in of_symbol["session"].to_list()
        assert of_symbol.filter(pl.col("session") > day).sort("ts")[column][0] == value
    for day in (split, *SCRIPT.halted):
        if f"{day}" in quarter.noisy.partitions(SIGNALS):
            reasons = dict(quarter.noisy.read(SIGNALS, f"{day}").frame.select("symbol", "reason").iter_rows())
            assert sorted(reasons) == SCRIPT.members
            assert reasons[first if day == split else SCRIPT.members[1]] == "no bar"


def test_comparison_finds_a_lost_issue_an_old_partition_a_changed_weight_and_a_file_that_was_not_taken(
    quarter, altered
):
    state = StateReader(quarter.baseline).state()
    assert differences(state, StateReader(altered).state()) == []
    assert lost_sessions(altered) == issue_differences(quarter.baseline, altered) == []
    assert source_differences(altered, SCRIPT) == []

    lost, changed = f"{SCRIPT.days[-1]}", f"{SCRIPT.days[0]}"
    altered.objects.delete(altered.key(SIGNALS, lost))
    assert lost_sessions(altered) == [lost]

    week = next(key for key in altered.partitions(BARS) if altered.versions(BARS, key))
    version = f"_versions/{BARS}/{week}/{altered.versions(BARS, week)[0]}.parquet"
    altered.objects.put(altered.key(BARS, week), altered.objects.get(version))
    found = differences(state, StateReader(altered).state())
    assert [each.split(":")[0] for each in found] == [f"{SIGNALS}/{lost}", f"{BARS}/{week}"]
    assert source_differences(altered, SCRIPT) != []

    altered.objects.delete(altered.key(SIGNALS, changed))
    issued = quarter.noisy.read(SIGNALS, changed)
    altered.publish(
        SIGNALS,
        changed,
        Content(issued.frame.with_columns(weight=-pl.col("weight"))),
        Stamp(issued.footer.code_version, run_id="", created_at=""),
    )
    assert issue_differences(quarter.baseline, altered) == [f"weights of {changed} differ"]
