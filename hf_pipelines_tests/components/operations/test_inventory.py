"""Inventory: what is read from the store is what was published, and when it first was."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
import yaml

from hf_pipelines.components.automation.strategy_sensor import newest_week as newest_week_to_train
from hf_pipelines.components.market import Market
from hf_pipelines.components.market_stages import MarketPlan
from hf_pipelines.components.operations.inventory import (
    Watched,
    WatchedStrategy,
    _rejected,
    is_there,
    read_market,
    read_strategy,
)
from hf_pipelines.components.operations.lateness import find_gaps, find_late, judged_sessions
from hf_pipelines.components.strategy import Strategy
from hf_pipelines.partitions import week_key
from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.issues import point_to_latest
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines_tests.pipeline import TIMEZONE, ridge_strategy, shipped_features
from hf_pipelines_tests.sample_bars import bars_of

MARKET = {
    "name": "m",
    "universe": [{"symbol": "A"}],
    "benchmark": "B",
    "calendar": "XNYS",
    "timezone": TIMEZONE,
    "source": {"type": "files", "uri": "landing"},
    "start": "2012-10-01",
    "end": "2013-03-01",
    "features": shipped_features("temporal"),
    "known_gaps": ["2012-10-28"],
}
NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def market() -> MarketPlan:
    return Market.resolve_from_yaml(yaml.safe_dump(MARKET)).plan


@pytest.fixture
def store(tmp_path) -> PartitionStore:
    return PartitionStore(ObjectStore(str(tmp_path / "storage")))


def publish(store: PartitionStore, asset: str, key: str, frame: pl.DataFrame, hour: int, **options: bool) -> None:
    content = Content(frame, has_session_hashes=asset.endswith("/bars"), facts={"schema_version": 1})
    store.publish(asset, key, content, Stamp("1", "r", at(hour).isoformat()), **options)


def issue(store: PartitionStore, asset: str, day: str, *, model_week: str) -> None:
    model = store.footer("s/fitted_model", model_week)
    assert model is not None
    frame = pl.DataFrame({"model_version": [model.content_hash], "issue_kind": ["live"]})
    inputs = {"s/fitted_model": {model_week: model.content_hash}}
    content = Content(frame, inputs=inputs, facts={"schema_version": 1})
    store.publish(asset, day, content, Stamp("1", "r", at(7).isoformat()), kind="signals")


def at(hour: int) -> datetime:
    return datetime(2026, 11, 20, hour, tzinfo=UTC)


def days(*numbers: int) -> list[date]:
    return [date(2013, 1, number) for number in numbers]


def test_bars_of_a_session_are_as_old_as_their_first_publish(store, market):
    for hour, sessions in ((6, days(7)), (7, days(7, 8)), (8, days(7, 8, 9))):
        bars = bars_of("A", [1.0 + index for index in range(len(sessions))], days=sessions)
        publish(store, "m/bars", "2013-01-06", bars, hour)
    revised = bars_of("A", [9.0, 2.0, 3.0], days=days(7, 8, 9))
    publish(store, "m/bars", "2013-01-06", revised, 12)
    found = read_market(store, market)
    assert found.bars == dict(zip(days(7, 8, 9), (at(6), at(7), at(8)), strict=True))
    assert (found.first_session, found.last_session, found.bars_weeks) == (*days(7, 9), ("2013-01-06",))
    assert found.known_gaps == {"2012-10-28"} and found.landing.endswith("/landing")


def test_inventory_is_read_again_when_a_partition_has_changed(store, market):
    publish(store, "m/bars", "2013-01-06", bars_of("A", [1.0], days=days(7)), 6)
    assert list(read_market(store, market).bars) == days(7)
    publish(store, "m/bars", "2013-01-06", bars_of("A", [1.0, 2.0], days=days(7, 8)), 7)
    assert list(read_market(store, market).bars) == days(7, 8)


def test_damaged_bars_are_no_bars(store, market):
    publish(store, "m/bars", "2013-01-06", bars_of("A", [1.0], days=days(7)), 6)
    store.objects.put("m/bars/2013-01-06.parquet", b"PAR1 nothing PAR1")
    assert read_market(store, market).bars == {}
    assert not is_there(store, "m/bars", "2013-01-07")


def test_strategy_has_the_issues_of_judged_sessions_and_the_newest_of_all(store, market):
    for week in market.partitions.weeks_between(date(2012, 12, 3), date(2013, 1, 11)):
        sessions = market.partitions.sessions_of_week(week)
        publish(store, "m/bars", week, bars_of("A", [1.0] * len(sessions), days=sessions), 6)
    publish(store, "s/fitted_model", "2012-12-02", pl.DataFrame({"a": [1]}), 4)
    publish(store, "s/fitted_model", "2013-01-06", pl.DataFrame({"a": [1]}), 5)
    for day in ("2012-12-05", "2013-01-07", "2013-01-08"):
        issue(store, "s/signals", day, model_week="2012-12-02")
    inventory = read_market(store, market)
    judged = judged_sessions(inventory, NOW)
    # Eight in January (the first was a holiday), twelve in December (Christmas was one).
    assert (len(judged), judged[0], judged[-1]) == (20, date(2012, 12, 13), date(2013, 1, 11))
    found = read_strategy(store, WatchedStrategy("s", market, 0), inventory, NOW)
    # The first issue lies before what is judged, and so does the first model: when it was made is not looked at.
    assert found.issued == {*days(7, 8)}
    assert found.last_issued == date(2013, 1, 8)
    assert found.models == {"2012-12-02": None, "2013-01-06": at(5)}
    assert is_there(store, "s/signals", "2012-12-05") and not is_there(store, "s/signals", "2012-12-06")
    assert is_there(store, "m/bars", "2013-01-11") and not is_there(store, "m/bars", "2013-01-14")


def test_strategy_that_issued_long_ago_is_known_by_its_newest_issue(store, market):
    publish(store, "s/fitted_model", "2012-10-07", pl.DataFrame({"a": [1]}), 4)
    issue(store, "s/signals", "2012-10-08", model_week="2012-10-07")
    point_to_latest(store, "s/signals", ["2012-10-08"], NOW)
    publish(store, "m/bars", "2013-01-06", bars_of("A", [1.0], days=days(7)), 6)
    found = read_strategy(store, WatchedStrategy("s", market, 0), read_market(store, market), NOW)
    assert (found.issued, found.last_issued) == (frozenset(), date(2012, 10, 8))


@pytest.mark.parametrize(
    ("end", "last", "newest"),
    [
        pytest.param("2013-03-01", date(2013, 1, 9), "2013-01-06", id="in the week"),
        pytest.param("2013-03-01", date(2013, 1, 11), "2013-01-13", id="the week is over"),
        # A Friday before a holiday on Monday.
        pytest.param("2013-03-01", date(2013, 1, 18), "2013-01-20", id="a holiday follows"),
        pytest.param("2013-01-11", date(2013, 1, 11), None, id="the market has ended"),
        pytest.param(None, date(2013, 1, 11), "2013-01-13", id="the market goes on"),
    ],
)
def test_newest_week_is_the_one_that_automation_trains(store, end, last, newest):
    market = Market.resolve_from_yaml(yaml.safe_dump({**MARKET, "end": end})).plan
    strategy = Strategy.resolve_from_yaml(yaml.safe_dump(ridge_strategy(market="m", features=["temporal"])))
    sessions = [day for day in market.partitions.sessions_of_week(week_key(last)) if day <= last]
    publish(store, "m/bars", week_key(last), bars_of("A", [1.0] * len(sessions), days=sessions), 6)
    assert read_market(store, market).newest_week == newest_week_to_train(strategy.plan(market), store) == newest


def test_files_that_have_arrived_are_read_by_the_names_of_their_sessions(store, market, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_LANDING_URI", str(tmp_path))
    market = Market.resolve_from_yaml(yaml.safe_dump(MARKET)).plan
    assert read_market(store, market).arrived == {}
    (tmp_path / "landing").mkdir()
    names = ("2013-02-04.parquet", "2013-02-05.csv", "2013-02-09.csv", "2013-02-31.csv", "2013-02-06.csv.part", "x.csv")
    for name in names:
        (tmp_path / "landing" / name).write_text("")
    # Neither a Saturday nor a day that the calendar lacks, nor another name.
    assert sorted(map(str, read_market(store, market).arrived)) == ["2013-02-04", "2013-02-05"]


def test_hole_of_bars_names_the_folder_only_where_no_file_of_its_week_lies_there(store, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_LANDING_URI", str(tmp_path))
    market = Market.resolve_from_yaml(yaml.safe_dump(MARKET)).plan
    for week, day in (("2013-02-03", 4), ("2013-02-24", 25)):
        publish(store, "m/bars", week, bars_of("A", [1.0], days=[date(2013, 2, day)]), 1)
    folder = tmp_path / "landing"
    folder.mkdir()
    # One file of a week is enough to try it: what is missing beside it, the check `complete` says.
    (folder / "2013-02-19_second.csv").write_text("")
    found = Watched((market,), ()).holes(store)
    assert [(each.partition, each.landing) for each in found] == [("2013-02-10", str(folder)), ("2013-02-17", "")]


def test_inputs_that_the_newest_model_lacks_are_named_in_stretches_and_a_rejected_week_is_known(store, market):
    weeks = {"2013-02-10": date(2013, 2, 11), "2013-02-17": date(2013, 2, 19), "2013-02-24": date(2013, 2, 25)}
    for week, day in weeks.items():
        publish(store, "m/bars", week, bars_of("A", [1.0], days=[day]), 1)
    publish(store, "m/features/temporal", "2013-02-10", bars_of("A", [1.0], days=[date(2013, 2, 11)]), 2)
    watched = WatchedStrategy("s", market, 0, train_weeks=2, feature_groups=("temporal",))
    inventory = read_market(store, market)
    week = inventory.newest_week
    found = read_strategy(store, watched, inventory, NOW)
    assert week == "2013-02-24"
    assert found.missing == (("m/features/temporal", "2013-02-17", "2013-02-17"),)
    store.objects.put("_rejected/m/features/temporal/2013-02-17/0.parquet", b"")
    assert _rejected(store, "m/features/temporal") == {"2013-02-17"}


def test_weeks_without_a_model_since_a_guard_has_rejected_a_stage_are_told_as_rejected_with_that_stage(store, market):
    for week, day in (("2013-02-03", 4), ("2013-02-10", 11), ("2013-02-17", 19), ("2013-02-24", 25)):
        publish(store, "m/bars", week, bars_of("A", [1.0], days=[date(2013, 2, day)]), 1)
    frame = bars_of("A", [1.0], days=[date(2013, 2, 4)])
    publish(store, "s/fitted_model", "2013-02-03", frame, 2)
    # The matrix of one week was made once what was found in it had been mended; its model was not yet.
    publish(store, "s/training_matrix", "2013-02-10", frame, 3)
    for stage, week in (
        ("training_matrix", "2013-02-10"),
        ("cv_results", "2013-02-17"),
        ("training_matrix", "2013-02-24"),
    ):
        store.objects.put(f"_rejected/s/{stage}/{week}/0.parquet", b"")
    inventory = read_market(store, market)
    found = read_strategy(store, WatchedStrategy("s", market, 0), inventory, NOW)
    assert found.rejected == {"2013-02-17": "s/cv_results", "2013-02-24": "s/training_matrix"}
    told = [(gap.asset, gap.partition, gap.is_rejected) for gap in find_gaps(found)]
    assert told == [("s/fitted_model", "2013-02-10", False), ("s/cv_results", "2013-02-17", True)]
    (late,) = [
        each for each in find_late([inventory], [found], now=NOW, late_after=timedelta(0)) if "model" in each.asset
    ]
    assert late.remedy.startswith(
        "a guard has rejected s/training_matrix 2013-02-24 (kept under _rejected/s/training_matrix)"
    )
    assert late.remedy.endswith("mend that; then hfp retrain s --week 2013-02-24")
