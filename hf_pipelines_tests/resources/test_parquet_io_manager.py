"""IO manager: frames over partitions, and what is said of those of a run that could not be published."""

from datetime import date

import polars as pl
import pytest

from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.parquet_io_manager import Loaded, Publication, describe_faults, missing_error
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines_tests.sample_bars import random_bars, weekdays

WEEKS = ["2012-01-01", "2012-01-08", "2012-01-15"]


def test_faults_of_a_range_give_one_command_for_what_is_missing():
    failures = {week: str(missing_error("m/bars", WEEKS[: number + 1])) for number, week in enumerate(WEEKS)}
    lines = describe_faults("m/features/quick", Publication({}, failures=failures)).splitlines()
    # Of all commands the one that makes them in their order comes first.
    whole = "hfp materialise m/features/quick --from 2012-01-01 --to 2012-01-15"
    assert lines[0].endswith(f"3 partition(s), which lack what they read; make both: {whole} --with-inputs")
    # Where something else is wrong too, that must be mended first.
    failures = failures | {WEEKS[0]: "`close` must be finite, was NaN"}
    mixed = describe_faults("m/features/quick", Publication({}, failures=failures)).splitlines()
    assert mixed[0].endswith(f"correct what is named below, then run {whole}")
    assert lines[1] == "first: hfp materialise m/bars --from 2012-01-01 --to 2012-01-15"
    assert lines[4] == "2012-01-15: `m/bars` must be published for 2012-01-01, 2012-01-08, 2012-01-15, was missing"
    assert sum("hfp materialise m/bars" in line for line in lines) == 1


def test_what_is_wrong_with_several_partitions_is_said_once():
    failures = {**dict.fromkeys(WEEKS, "`uri` must be a folder"), "2012-01-22": "`close` must be finite, was NaN"}
    lines = describe_faults("m/bars", Publication({}, failures=failures)).splitlines()
    assert lines[0].startswith("m/bars was not published for 4 partition(s)")
    assert lines[1:] == [f"{', '.join(WEEKS)}: `uri` must be a folder", "2012-01-22: `close` must be finite, was NaN"]
    apart = {f"2012-{month:02d}-01": f"fault {min(month, 6)}" for month in range(1, 9)}
    lines = describe_faults("m/bars", Publication({}, failures=apart)).splitlines()
    # Of the sixth fault there are three.
    assert lines[5:] == ["2012-05-01: fault 5", "... and 3 more"]


def test_fault_of_one_partition_keeps_its_command():
    failures = {WEEKS[0]: str(missing_error("m/bars", WEEKS[:1]))}
    said = describe_faults("m/features/quick", Publication({}, failures=failures))
    assert said.endswith("materialise it first: hfp materialise m/bars --from 2012-01-01 --to 2012-01-01")


def test_frame_of_weeks_of_which_some_lack_a_column_names_it_the_weeks_and_the_command(tmp_path):
    store = PartitionStore(ObjectStore(str(tmp_path)))
    for week, names in zip(WEEKS, (["a"], ["b", "a"], ["a", "c"]), strict=True):
        content = Content(pl.DataFrame({name: [1.0] for name in names}))
        store.publish("m/features/quick", week, content, Stamp("1", "r", "2026-01-01T00:00Z"))
    loaded = Loaded("m/features/quick", {week: store.read("m/features/quick", week) for week in WEEKS}, store)
    with pytest.raises(ValueError, match="must hold b") as caught:
        loaded.frame(WEEKS, columns=["a", "b"])
    assert str(caught.value) == (
        "`m/features/quick` must hold b in every partition, was without in 2012-01-01, 2012-01-15; it was made by earlier "
        "code, make it again: hfp materialise m/features/quick --from 2012-01-01 --to 2012-01-15"
    )
    # What else they hold, and in which order, is no matter.
    assert loaded.frame(WEEKS, columns=["a"])["a"].to_list() == [1.0, 1.0, 1.0]
    # Where no columns are chosen none is left out in silence.
    with pytest.raises(pl.exceptions.PolarsError):
        loaded.frame(WEEKS)


def test_frame_is_sorted_by_symbol_and_time_in_whatever_order_its_partitions_come(tmp_path):
    store = PartitionStore(ObjectStore(str(tmp_path)))
    bars = random_bars(symbols=300, sessions=15, start=date(2012, 1, 2), has_reference=False, late_bars=0)
    weeks = [bars.filter(pl.col("session").is_in(weekdays(5, start=date(2012, 1, 2 + 7 * at)))) for at in range(3)]
    for week, frame in zip(WEEKS, weeks, strict=True):
        store.publish("m/bars", week, Content(frame), Stamp("1", "r", "2026-01-01T00:00Z"))
    loaded = Loaded("m/bars", {week: store.read("m/bars", week) for week in WEEKS}, store)
    assert bars.height == 4500
    assert loaded.frame().equals(bars)
    assert loaded.frame(WEEKS[::-1]).equals(bars)
    at = bars["ts"].unique().sort()[7]
    some = frozenset({"S007", "S299", "unknown"})
    expected = bars.filter((pl.col("symbol").is_in(some)) & (pl.col("ts") <= at))
    assert loaded.cut(at, some).frame().equals(expected) and expected.height == 16
    # Side by side in memory they give the same frames, in part and in whole.
    for together in (loaded.gathered(), loaded.gathered(some)):
        for keys in (WEEKS, WEEKS[1:], WEEKS[:1], [WEEKS[0], WEEKS[2]], WEEKS[::-1]):
            assert together.cut(at, some).frame(keys).equals(loaded.cut(at, some).frame(keys))
            assert together.cut_each({"S007": at}).frame(keys).equals(loaded.cut_each({"S007": at}).frame(keys))
    with pytest.raises(ValueError, match="must be published for 2012-02-05"):
        loaded.gathered().frame(["2012-02-05"])
