"""Markets whose source is asked: when a session is asked for, asked for again, and made features of."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import polars as pl
import pytest

from hf_pipelines.components.automation.polled_source import ASKED_AFTER, LOOKED_AT_WEEKS
from hf_pipelines.partitions import parse_key, shift_week, week_key
from hf_pipelines.resources import outages
from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.market_data import http_transport
from hf_pipelines.resources.market_data.registry import SOURCES
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines_tests.desk_source import DESK
from hf_pipelines_tests.market_data_server import MarketDataServer, serving
from hf_pipelines_tests.pipeline import Project, files_market, market_of, session_bars, sessions_from
from hf_pipelines_tests.sample_references import table_of
from hf_pipelines_tests.ticking import Ticking, asked

BARS, DAYS, TRADES = "small/bars", "small/features/temporal", "small/insider_trades"
# Monday, Washington's birthday, is a holiday; New York closes at 21:00 UTC.
START, WEEK = date(2013, 1, 14), "2013-02-17"
SESSIONS = sessions_from(START, 10)
WEEKS = sorted({week_key(day) for day in SESSIONS})
TICK = timedelta(seconds=30)


class Vendor:
    """A service that has bars up to a session, and the market that asks it."""

    def __init__(self, server: MarketDataServer, ticking: Ticking, bars: pl.DataFrame) -> None:
        self.server, self.ticking, self.bars = server, ticking, bars
        self.store = ticking.project.store

    def has(self, last: date) -> None:
        self.server.tables = {**self.server.tables, "ohlcv": self.bars.filter(pl.col("session") <= last)}

    def tick(self, then: datetime, *, waited: timedelta = TICK) -> list[tuple[list[str], str]]:
        """What is asked for at a time of the market; runs ended so long ago."""
        return asked(self.ticking.arrivals(datetime.now(UTC) + waited, then=then))

    def sessions(self, week: str) -> list[date]:
        return sorted(set(self.store.read(BARS, week).frame["session"]))

    def settle(self, then: datetime) -> None:
        """Tick until nothing is asked for."""
        for _ in range(20):
            if not self.tick(then):
                return
        raise AssertionError("asked for ever")


def closing(day: date, after: timedelta) -> datetime:
    return datetime(day.year, day.month, day.day, 21, tzinfo=UTC) + after


@pytest.fixture
def vendor(tmp_path, mlflow_template, monkeypatch) -> Iterator[Vendor]:
    """All that the vendor has before the week 2013-02-17 is stored."""
    monkeypatch.setattr(http_transport, "WAITS_S", ())
    monkeypatch.setattr(outages, "WAITS_S", ())
    bars = session_bars(SESSIONS, symbols=2, seed=3)
    trades = table_of("insider_trades", [])
    with serving(MarketDataServer({"ohlcv": bars, "insider_trades": trades})) as server:
        source = {"type": "http", "base_url": server.url, "timeout_s": 2.0}
        market = files_market(
            tmp_path / "unused", bars, features=["temporal/day_of_week"], source=source,
            references=[{"table": "insider_trades", "source": source}],
        )  # fmt: skip
        del market["end"]
        project = Project(tmp_path / "project", market, mlflow_template=mlflow_template)
        found = Vendor(server, Ticking(project), bars)
        found.has(date(2013, 2, 15))
        project.make([BARS, TRADES], WEEKS[0], "2013-02-10", now="2013-02-17T12:00:00+00:00")
        found.settle(datetime(2013, 2, 18, 12, tzinfo=UTC))
        yield found


def test_session_is_asked_for_after_its_close_and_made_features_of_in_the_same_run(vendor):
    tuesday = date(2013, 2, 19)
    vendor.has(tuesday)
    n_asked = len(vendor.server.requests)
    assert vendor.tick(closing(tuesday, timedelta(minutes=14))) == []
    # A tick that finds nothing to ask for leaves the vendor alone.
    assert len(vendor.server.requests) == n_asked
    due = closing(tuesday, timedelta(minutes=15))
    assert vendor.tick(due) == [([BARS, TRADES, DAYS], WEEK)]
    assert vendor.sessions(WEEK) == [tuesday]
    assert sorted(set(vendor.store.read(DAYS, WEEK).frame["session"])) == [tuesday]
    assert vendor.tick(due + TICK) == []


def test_session_that_the_vendor_has_late_is_asked_for_again_at_growing_distances_until_it_comes(vendor):
    tuesday, wednesday = date(2013, 2, 19), date(2013, 2, 20)
    vendor.has(tuesday)
    vendor.settle(closing(tuesday, ASKED_AFTER[0]))
    found = []
    minutes = [14, 15, 16, 59, 60, 61, 239, 240, 241, 300]
    for minute in minutes:
        if minute == 240:
            vendor.has(wednesday)
        if vendor.tick(closing(wednesday, timedelta(minutes=minute))):
            found.append(minute)
        assert (vendor.sessions(WEEK) == [tuesday, wednesday]) == (minute >= 240)
    assert found == [15, 60, 240]


def test_session_of_which_a_symbol_is_late_is_asked_for_again_until_the_week_ends(vendor):
    tuesday, wednesday = date(2013, 2, 19), date(2013, 2, 20)
    vendor.bars = vendor.bars.filter(~((pl.col("symbol") == "S001") & (pl.col("session") == tuesday)))
    vendor.has(tuesday)
    found = []
    for minute in (15, 16, 60, 61, 240, 241):
        if vendor.tick(closing(tuesday, timedelta(minutes=minute))):
            found.append(minute)
        if minute == 61:
            vendor.bars = session_bars(SESSIONS, symbols=2, seed=3)
            vendor.has(tuesday)
        assert vendor.store.read(BARS, WEEK).frame.height == (3 if minute >= 240 else 2)
    assert found == [15, 60, 240]

    # One that lacks it for ever is left alone as soon as there is a newer session, up to the end of the week.
    vendor.bars = vendor.bars.filter(~((pl.col("symbol") == "S001") & (pl.col("session") == wednesday)))
    vendor.has(date(2013, 2, 21))
    vendor.settle(closing(date(2013, 2, 21), ASKED_AFTER[0]))
    assert vendor.store.footer(BARS, WEEK).facts["missing"] == [f"S001 {wednesday}"]
    assert [vendor.tick(closing(date(2013, 2, 21), after)) for after in ASKED_AFTER[1:4]] == [[], [], []]


def test_machine_that_was_off_asks_for_every_week_it_missed_and_for_features_of_all(vendor):
    last = date(2013, 3, 8)
    vendor.has(last)
    then = closing(last, timedelta(days=1))
    weeks = ["2013-02-17", "2013-02-24", "2013-03-03"]
    assert vendor.tick(then) == [([BARS, TRADES, DAYS], week) for week in weeks]
    vendor.settle(then)
    assert vendor.store.partitions(BARS) == WEEKS[: WEEKS.index("2013-03-03") + 1]
    assert [len(vendor.sessions(week)) for week in ("2013-02-17", "2013-02-24", "2013-03-03")] == [4, 5, 5]
    assert vendor.store.partitions(DAYS)[-3:] == ["2013-02-17", "2013-02-24", "2013-03-03"]


def test_history_that_ends_long_ago_is_followed_without_a_hole(vendor):
    for week in WEEKS[1:]:
        for asset in (BARS, TRADES, DAYS):
            vendor.store.objects.delete(vendor.store.key(asset, week))
    vendor.has(SESSIONS[-1])
    then = closing(SESSIONS[-1], timedelta(days=1))
    assert len(WEEKS) > LOOKED_AT_WEEKS
    assert vendor.tick(then) == [([BARS, TRADES, DAYS], week) for week in WEEKS[1:]]
    vendor.settle(then)
    assert vendor.store.partitions(BARS) == vendor.store.partitions(TRADES) == vendor.store.partitions(DAYS) == WEEKS


def test_week_without_an_answer_does_not_hold_back_the_others(vendor):
    vendor.bars = vendor.bars.filter(~pl.col("session").is_between(date(2013, 2, 24), date(2013, 3, 2)))
    last = date(2013, 3, 8)
    vendor.has(last)
    vendor.settle(closing(last, timedelta(days=1)))
    assert sorted({*WEEKS[:8]} - {*vendor.store.partitions(BARS)}) == ["2013-02-24"]
    assert vendor.tick(closing(last, timedelta(days=1))) == []


def test_correction_that_a_later_session_has_seen_is_asked_for(vendor):
    tuesday, corrected = date(2013, 2, 19), pl.col("session") == date(2013, 2, 6)
    vendor.bars = vendor.bars.with_columns(volume=pl.when(corrected).then(7.0).otherwise("volume"))
    vendor.has(tuesday)
    due = closing(tuesday, ASKED_AFTER[0])
    assert vendor.tick(due) == [([BARS, TRADES, DAYS], WEEK)]
    # The week of the correction, and the one after it, which was judged by it.
    assert [week for _, week in vendor.tick(due)] == ["2013-02-03", "2013-02-10"]
    vendor.settle(due)
    assert vendor.store.read(BARS, "2013-02-03").frame.filter(corrected)["volume"].unique().to_list() == [7.0]
    assert vendor.ticking.project.out_of_date(BARS, DAYS) == {}


def test_weeks_of_rows_that_a_person_has_judged_are_asked_for_once_and_again_when_that_is_taken_back(vendor):
    project, then, wednesday = vendor.ticking.project, datetime(2013, 2, 18, 13, tzinfo=UTC), date(2013, 2, 6)
    market = project.market
    before = project.hashes(BARS)
    refused = {"symbol": "S000", "verdict": "refused", "since": str(wednesday), "until": str(wednesday)}
    project.rewrite({**market, "row_overrides": [refused]})
    vendor.ticking.market = market_of(project.market)
    assert {week for _, week in vendor.tick(then)} == {"2013-02-03", "2013-02-10"}
    vendor.settle(then)
    of_day = vendor.store.read(BARS, "2013-02-03").frame.filter(pl.col("session") == wednesday)
    assert "S000" not in of_day["symbol"].to_list() and "S001" in of_day["symbol"].to_list()
    project.rewrite(market)
    vendor.ticking.market = market_of(market)
    assert {week for _, week in vendor.tick(then)} == {"2013-02-03", "2013-02-10"}
    vendor.settle(then)
    assert project.hashes(BARS) == before


def test_tables_of_weeks_whose_bars_were_asked_for_alone_are_asked_for(vendor):
    weeks = ["2013-01-20", "2013-02-03"]
    for week in weeks:
        vendor.store.objects.delete(vendor.store.key(TRADES, week))
    then = datetime(2013, 2, 18, 13, tzinfo=UTC)
    assert vendor.tick(then) == [([TRADES], ",".join(weeks))]
    vendor.settle(then)
    assert vendor.store.partitions(TRADES) == vendor.store.partitions(BARS)


def test_week_that_has_ended_is_asked_for_once_more_and_takes_what_was_corrected_and_its_weekend(vendor):
    friday = date(2013, 2, 22)
    vendor.has(friday)
    vendor.settle(closing(friday, ASKED_AFTER[0]))
    before = vendor.store.footer(BARS, WEEK).content_hash
    _date(vendor, WEEK, closing(friday, ASKED_AFTER[0]))
    corrected = (pl.col("symbol") == "S001") & (pl.col("session") == friday)
    vendor.bars = vendor.bars.with_columns(volume=pl.when(corrected).then(7.0).otherwise("volume"))
    vendor.has(friday)
    saturday = {"symbol": "S000", "event_time": friday, "available_at": datetime(2013, 2, 23, 12, tzinfo=UTC), "trade_id": "1",
                "shares": 100.0, "price": 10.0, "value": 1000.0}  # fmt: skip
    vendor.server.tables = {**vendor.server.tables, "insider_trades": table_of("insider_trades", [saturday])}

    # Midnight of Sunday in New York is 05:00 UTC.
    sunday = datetime(2013, 2, 24, 5, tzinfo=UTC)
    assert vendor.tick(sunday + timedelta(minutes=14)) == []
    assert [week for _, week in vendor.tick(sunday + timedelta(minutes=15))] == [WEEK]
    stored = vendor.store.read(BARS, WEEK)
    assert stored.footer.content_hash != before
    assert stored.frame.filter(corrected)["volume"].to_list() == [7.0]
    assert vendor.store.read(TRADES, WEEK).frame["trade_id"].to_list() == ["1"]
    vendor.settle(sunday + timedelta(minutes=15))
    assert vendor.tick(sunday + timedelta(hours=8)) == []


def _date(vendor: Vendor, week: str, made: datetime) -> None:
    """Store bars as if they had been made then: what a publish says of itself is the wall clock's."""
    frame, footer = vendor.store.read(BARS, week).frame, vendor.store.footer(BARS, week)
    vendor.store.objects.delete(vendor.store.key(BARS, week))
    content = Content(frame, sources=footer.sources, facts=footer.facts, has_session_hashes=True)
    vendor.store.publish(BARS, week, content, Stamp(footer.code_version, footer.run_id, made.isoformat()))
    assert vendor.store.footer(BARS, week).content_hash == footer.content_hash


def test_weeks_that_were_asked_for_in_vain_are_left_alone_when_a_new_session_comes(vendor):
    """A hole of the vendor, and a week that was as it was when it was asked for after its end."""
    tuesday, friday = date(2013, 2, 19), date(2013, 2, 22)
    vendor.bars = vendor.bars.filter(pl.col("session") != tuesday)
    vendor.has(friday)
    vendor.settle(closing(friday, ASKED_AFTER[0]))
    _date(vendor, WEEK, closing(friday, ASKED_AFTER[0]))
    vendor.settle(datetime(2013, 2, 24, 6, tzinfo=UTC))
    assert vendor.store.footer(BARS, WEEK).created_at < "2013-02-24"
    for day in (date(2013, 2, 25), date(2013, 2, 26)):
        vendor.has(day)
        assert vendor.tick(closing(day, ASKED_AFTER[0])) == [([BARS, TRADES, DAYS], "2013-02-24")]
        assert vendor.tick(closing(day, ASKED_AFTER[0])) == []
    assert [str(day) for day in vendor.sessions(WEEK)] == ["2013-02-20", "2013-02-21", "2013-02-22"]


def test_outage_is_tried_again_within_minutes_and_a_lost_cursor_asks_for_nothing_twice(vendor):
    tuesday = date(2013, 2, 19)
    vendor.has(tuesday)
    vendor.server.faults, vendor.server.is_lasting = [503], True
    due = closing(tuesday, ASKED_AFTER[0])
    assert vendor.tick(due) == [([BARS, TRADES, DAYS], WEEK)]
    assert WEEK not in vendor.store.partitions(BARS)
    assert vendor.tick(due) == []
    vendor.server.faults = []
    # A minute after the failure, and after five minutes at the latest, as every work that failed by an outage.
    assert vendor.tick(due, waited=timedelta(minutes=6)) == [([BARS, TRADES, DAYS], WEEK)]
    assert vendor.sessions(WEEK) == [tuesday]
    vendor.settle(due)
    vendor.ticking.cursors["arrivals"] = None
    assert vendor.tick(due) == []


def test_holes_are_filled_for_some_weeks_and_what_came_before_the_history_is_not_asked_for(vendor):
    hole, old = "2013-02-10", "2013-01-20"
    for week in (hole, old):
        vendor.store.objects.delete(vendor.store.key(BARS, week))
    # So late that the older of them is not looked at any more.
    last = shift_week(old, LOOKED_AT_WEEKS)
    vendor.has(parse_key(last) - timedelta(days=1))
    then = datetime.combine(parse_key(last), datetime.min.time(), UTC) + timedelta(hours=12)
    weeks = ["2013-02-10", "2013-02-17", "2013-02-24", "2013-03-03", "2013-03-10"]
    assert [week for _, week in vendor.tick(then)] == weeks
    vendor.settle(then)
    assert sorted({*WEEKS[: WEEKS.index(last)]} - {*vendor.store.partitions(BARS)}) == [old]


def test_market_without_history_says_how_to_begin_and_asks_for_nothing(vendor, tmp_path, mlflow_template):
    fresh = Ticking(Project(tmp_path / "fresh", vendor.ticking.project.market, mlflow_template=mlflow_template))
    tick = fresh.arrivals(then=datetime(2013, 2, 20, tzinfo=UTC))
    assert tick.requests == []
    assert tick.notes == (
        "small/bars is empty: load its history once, later sessions follow by themselves: hfp materialise small/bars "
        "--from 2013-01-13 --to 2013-02-17",
    )


def test_sensor_of_a_market_that_asks_runs_by_default_and_evaluates(vendor):
    (sensor,) = [each for each in vendor.ticking.project.definitions.sensors or () if each.name == "small_arrivals"]
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert "a session that has closed is asked for" in (sensor.description or "")
    files, lean = (
        {"type": "files", "uri": str(vendor.ticking.project.folder)},
        {"type": "lean", "uri": "/nowhere", "prices": "prices.parquet"},
    )
    table = {"table": "insider_trades", "source": files}
    attributes = vendor.ticking.project.market
    for source, references, is_watched in (
        (files, [], True), (lean, [], False), (lean, [table], True), ({"type": "yfinance"}, [], True),
    ):  # fmt: skip
        market = market_of({**attributes, "source": source, "references": references})
        assert market.has_sensor == is_watched


def test_source_of_ones_own_is_asked_by_the_sensor_and_its_bars_are_published_and_revised(
    tmp_path, mlflow_template, monkeypatch
):
    # The market registers it by `modules`; the other tests are to find what the project has.
    monkeypatch.setitem(SOURCES, "desk", DESK)
    monkeypatch.delitem(SOURCES, "desk")
    bars, table = session_bars(SESSIONS, symbols=2, seed=3), tmp_path / "bars.parquet"
    tuesday, friday = date(2013, 2, 19), date(2013, 2, 22)

    def desk_has(last: date) -> None:
        bars.filter(pl.col("session") <= last).write_parquet(table)

    source = {"type": "desk", "table": str(table)}
    market = files_market(tmp_path / "unused", bars, features=["temporal/day_of_week"], source=source)
    market = {**market, "modules": ["hf_pipelines_tests.desk_source"]}
    del market["end"]
    project = Project(tmp_path / "project", market, mlflow_template=mlflow_template)
    ticking = Ticking(project)

    def tick(then: datetime) -> list[tuple[list[str], str]]:
        return asked(ticking.arrivals(datetime.now(UTC) + TICK, then=then))

    def close_of_tuesday() -> float:
        frame = project.store.read(BARS, WEEK).frame
        return frame.filter((pl.col("symbol") == "S001") & (pl.col("session") == tuesday))["close"].item()

    desk_has(date(2013, 2, 15))
    project.make(BARS, WEEKS[0], "2013-02-10", now="2013-02-17T12:00:00+00:00")
    while tick(datetime(2013, 2, 18, 12, tzinfo=UTC)):
        pass
    desk_has(tuesday)
    assert tick(closing(tuesday, timedelta(minutes=14))) == []
    assert tick(closing(tuesday, timedelta(minutes=15))) == [([BARS, DAYS], WEEK)]
    published = close_of_tuesday()

    # The desk corrects Tuesday's closes; the week is asked for once more when it has ended.
    bars = bars.with_columns(
        pl.when(pl.col("session") == tuesday).then(pl.col("high")).otherwise("close").alias("close")
    )
    desk_has(friday)
    assert tick(closing(friday, timedelta(minutes=15))) == [([BARS, DAYS], WEEK)]
    revised = bars.filter((pl.col("symbol") == "S001") & (pl.col("session") == tuesday))["close"].item()
    assert close_of_tuesday() == revised != published
    assert sorted(set(project.store.read(DAYS, WEEK).frame["session"])) == [
        day for day in SESSIONS if tuesday <= day <= friday
    ]
