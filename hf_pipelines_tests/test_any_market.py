"""Any market, end to end: real bars of five kinds through the real components, and a market data service that fails."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from hf_pipelines.partitions import MarketPartitions
from hf_pipelines.research.bars import SOURCE_SCHEMA
from hf_pipelines.resources import outages
from hf_pipelines.resources.market_data import http_transport
from hf_pipelines_tests.market_data_server import MarketDataServer, serving
from hf_pipelines_tests.pipeline import Project, market_of, session_bars, sessions_from, write_sessions
from hf_pipelines_tests.real_data import FOLDER, real_table
from hf_pipelines_tests.sample_bars import REFERENCE

NEW_YORK = "America/New_York"
AFTER = "2026-01-01T00:00:00+00:00"

# One whole week, six bars of lookback: three weeks before it are read.
FEATURES = ["technical/roc_5", "temporal/day_of_week"]


def attributes(symbols: list[str], benchmark: str, source: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": "real",
        "universe": [{"symbol": symbol} for symbol in symbols],
        "benchmark": benchmark,
        "source": dict(source),
        "features": FEATURES,
        "timezone": "UTC",
        **more,
    }


def made(folder: Path, market: Mapping[str, Any], first: str, last: str) -> tuple[Project, pl.DataFrame, pl.DataFrame]:
    """Make bars and features of weeks; return the bars and the features of the last week of them."""
    project = Project(folder, market)
    project.make("real/bars", first, last, now=AFTER)
    run = project.make(["real/features/technical", "real/features/temporal"], last, now=AFTER)
    assert all(each.passed for each in run.checks.values())
    weeks = project.store.partitions("real/bars")
    bars = pl.concat(project.store.read("real/bars", week).frame for week in weeks).sort("symbol", "ts")
    features = project.store.read("real/features/technical", last).frame
    calendar = project.store.read("real/features/temporal", last).frame
    return project, bars, features.join(calendar, on=["symbol", "session", "ts"])


def expected_roc(bars: pl.DataFrame) -> pl.DataFrame:
    """Total return over five bars by pandas: shares held grow by splits, and dividends buy more at the close."""
    members = bars.filter(pl.col("role") == "member").to_pandas()
    growth = members["split_ratio"] * (members["close"] + members["dividend"]) / members["close"]
    worth = members["close"] * growth.groupby(members["symbol"]).cumprod()
    members["expected"] = worth.groupby(members["symbol"]).pct_change(5)
    return pl.DataFrame(members[["symbol", "ts", "expected"]]).with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))


def assert_roc_agrees(features: pl.DataFrame, bars: pl.DataFrame) -> None:
    both = features.join(expected_roc(bars), on=["symbol", "ts"], how="left")
    assert both.height == features.height > 0
    np.testing.assert_allclose(both["roc_5"].to_numpy(), both["expected"].to_numpy(), rtol=2e-5, atol=1e-6)


# --- real data


def test_hourly_us_shares_over_a_hurricane_a_dst_week_and_a_half_day(tmp_path):
    real_table("lean/equity_hour_raw")
    source = {
        "type": "lean", "uri": str(FOLDER / "lean"), "prices": "equity_hour_raw.parquet",
        "factors": "equity_factor_files.parquet", "maps": "equity_map_files.parquet",
    }  # fmt: skip
    market = attributes(
        ["AAPL", "BAC", "IBM"], "SPY", source, calendar="XNYS", timezone=NEW_YORK, timeframe="1h", start="2012-10-29", end="2012-11-23",
    )  # fmt: skip
    project, bars, features = made(tmp_path, market, "2012-10-28", "2012-11-18")
    counts = dict(bars.filter(pl.col("symbol") == "AAPL").group_by("session").len().rows())
    # Closed on Monday and Tuesday for the hurricane, on Thanksgiving; Friday after it from 9:30 to 13:00.
    assert sorted(counts)[0] == date(2012, 10, 31)
    assert date(2012, 11, 22) not in counts
    assert counts.pop(date(2012, 11, 23)) == 4
    assert set(counts.values()) == {7} and len(counts) == 16

    def ends(day: date) -> list[str]:
        rows = bars.filter((pl.col("symbol") == "AAPL") & (pl.col("session") == day))
        return rows["ts"].dt.strftime("%H:%M").to_list()

    # Clocks went back on 2012-11-04: 10:00 in New York was 14:00 UTC on Friday and 15:00 on Monday.
    assert ends(date(2012, 11, 2)) == ["14:00", "15:00", "16:00", "17:00", "18:00", "19:00", "20:00"]
    assert ends(date(2012, 11, 5)) == ["15:00", "16:00", "17:00", "18:00", "19:00", "20:00", "21:00"]
    assert ends(date(2012, 11, 23)) == ["15:00", "16:00", "17:00", "18:00"]
    paid = bars.filter((pl.col("symbol") == "AAPL") & (pl.col("dividend") > 0.0)).select("ts", "dividend").rows()
    # On the first bar of the ex-date alone.
    assert [(each[0], round(each[1], 2)) for each in paid] == [(datetime(2012, 11, 7, 15, tzinfo=UTC), 2.65)]
    assert features.height == 3 * (3 * 7 + 4)
    assert features.filter(pl.col("session") == date(2012, 11, 23))["day_of_week"].unique().to_list() == [4.0]
    assert_roc_agrees(features, bars)
    for week in project.store.partitions("real/bars"):
        assert project.store.footer("real/bars", week).facts["missing"] == []
    # The week of the ex-date, too.
    project.make("real/features/technical", "2012-11-04", now=AFTER)
    assert_roc_agrees(project.store.read("real/features/technical", "2012-11-04").frame, bars)


def test_minutes_of_a_share_across_its_split_as_they_came_and_by_fives(tmp_path):
    table = real_table("lean/equity_minute_raw")
    source = {
        "type": "lean", "uri": str(FOLDER / "lean"), "prices": "equity_minute_raw.parquet",
        "factors": "equity_factor_files.parquet", "maps": "equity_map_files.parquet",
    }  # fmt: skip
    times = {"calendar": "XNYS", "timezone": NEW_YORK, "start": "2014-06-05", "end": "2014-06-09"}
    market = attributes(["AAPL"], "TWX", source, timeframe="1m", **times)
    project, bars, features = made(tmp_path / "ones", market, "2014-06-01", "2014-06-08")
    apple = bars.filter(pl.col("symbol") == "AAPL")
    # The table holds 4:00 to 20:00 too; a session has 390 minutes.
    assert dict(apple.group_by("session").len().rows()) == {date(2014, 6, day): 390 for day in (5, 6, 9)}
    assert apple.filter(pl.col("split_ratio") != 1.0).select("ts", "split_ratio").rows() == [
        (datetime(2014, 6, 9, 13, 31, tzinfo=UTC), 7.0)
    ]
    assert_roc_agrees(features, bars)
    # Seven for one: 646 dollars on Friday are 92 on Monday, and no return of a minute is a fall by six sevenths.
    assert features["roc_5"].abs().max() < 0.02

    regular = table.filter((pl.col("symbol") == "AAPL") | (pl.col("symbol") == "TWX")).filter(
        pl.col("bar_start_ny").dt.time().is_between(time(9, 30), time(15, 59)),
        pl.col("bar_start_ny").dt.date().is_between(date(2014, 6, 5), date(2014, 6, 9)),
    )
    fives = regular.to_pandas().set_index("bar_start_ny").groupby("symbol").resample("5min")
    sums = fives.agg({"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}).dropna()
    rows = pl.DataFrame(sums.reset_index()).with_columns(
        session=pl.col("bar_start_ny").dt.date(),
        ts=(pl.col("bar_start_ny") + timedelta(minutes=5)).dt.cast_time_unit("us").dt.replace_time_zone(NEW_YORK).dt.convert_time_zone("UTC"),
        volume=pl.col("volume").cast(pl.Float64),
        dividend=0.0,
    )  # fmt: skip
    is_split = (pl.col("symbol") == "AAPL") & (pl.col("ts") == datetime(2014, 6, 9, 13, 35, tzinfo=UTC))
    rows = rows.with_columns(split_ratio=pl.when(is_split).then(7.0).otherwise(1.0)).select(*SOURCE_SCHEMA)
    write_sessions(tmp_path / "landing", rows)
    market = attributes(["AAPL"], "TWX", {"type": "files", "uri": str(tmp_path / "landing")}, timeframe="5m", **times)
    _, bars, features = made(tmp_path / "fives", market, "2014-06-01", "2014-06-08")
    assert bars.filter(pl.col("symbol") == "AAPL").group_by("session").len()["len"].to_list() == [78, 78, 78]
    assert_roc_agrees(features, bars)


def test_hourly_bars_with_a_gap_warn_with_how_many_are_missing(tmp_path):
    table = real_table("lean/equity_hour_raw")
    # Two hours of the half day of BAC, and all of IBM's Wednesday.
    gone = (pl.col("symbol") == "BAC") & pl.col("bar_start_ny").is_between(
        datetime(2012, 11, 23, 10), datetime(2012, 11, 23, 11)
    )
    gone |= (pl.col("symbol") == "IBM") & (pl.col("bar_start_ny").dt.date() == date(2012, 11, 21))
    table.filter(~gone).write_parquet(tmp_path / "hours.parquet")
    source = {"type": "lean", "uri": str(tmp_path), "prices": "hours.parquet"}
    market = attributes(
        ["AAPL", "BAC", "IBM"], "SPY", source, calendar="XNYS", timezone=NEW_YORK, timeframe="1h", start="2012-11-19", end="2012-11-23",
    )  # fmt: skip
    run = Project(tmp_path / "project", market).make("real/bars", "2012-11-18", now=AFTER)
    found = run.checks["real/bars", "complete"]
    assert not found.passed
    assert (
        found.description
        == "2012-11-18: missing: 2 of 16 symbol-sessions: IBM 2012-11-21 (7 of 7 bars), BAC 2012-11-23 (2 of 4 bars)"
    )


def test_daily_currencies_close_at_midnight_and_have_no_sunday(tmp_path):
    real_table("lean/fx_oanda_daily")
    source = {"type": "lean", "uri": str(FOLDER / "lean"), "prices": "fx_oanda_daily.parquet"}
    market = attributes(
        ["EURUSD", "GBPUSD", "NZDUSD"], "EURGBP", source, calendar="24/5", start="2018-02-19", end="2018-03-16"
    )
    _, bars, features = made(tmp_path, market, "2018-02-18", "2018-03-11")
    assert set(bars["session"].dt.weekday().to_list()) == {1, 2, 3, 4, 5}
    assert (bars["ts"].dt.date() - bars["session"]).unique().to_list() == [pd.Timedelta(days=1)]
    # Friday's bar closes on Saturday, in the week of its session.
    assert features.filter(pl.col("symbol") == "EURUSD")["session"].to_list() == [
        date(2018, 3, day) for day in range(12, 17)
    ]
    assert_roc_agrees(features, bars)
    of_euro = real_table("lean/fx_oanda_daily").filter(pl.col("symbol") == "EURUSD").to_pandas().set_index("bar_start")
    middle = (of_euro["bid_close"] + of_euro["ask_close"]) / 2
    friday = features.filter((pl.col("symbol") == "EURUSD") & (pl.col("session") == date(2018, 3, 16)))["roc_5"].item()
    assert friday == pytest.approx(middle["2018-03-16"] / middle["2018-03-09"] - 1, rel=1e-4)


def test_daily_crypto_trades_on_all_seven_days_of_its_weeks(tmp_path):
    table = real_table("lean/crypto_coinbase_daily")
    # The data has one coin: the benchmark is the same one under another name.
    twice = pl.concat([table, table.with_columns(symbol=pl.lit("BTCIDX"))])
    twice.write_parquet(tmp_path / "coins.parquet")
    source = {"type": "lean", "uri": str(tmp_path), "prices": "coins.parquet"}
    market = attributes(["BTCUSD"], "BTCIDX", source, calendar="24/7", start="2018-02-18", end="2018-03-17")
    project, bars, features = made(tmp_path / "project", market, "2018-02-18", "2018-03-11")
    of_week = project.store.read("real/bars", "2018-03-11").frame.filter(pl.col("symbol") == "BTCUSD")
    assert of_week["session"].to_list() == [date(2018, 3, day) for day in range(11, 18)]
    # Saturday's bar closes when the next week begins and belongs to this one.
    assert of_week["ts"][-1] == datetime(2018, 3, 18, tzinfo=UTC)
    assert features["day_of_week"].to_list() == [6.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    close = table.to_pandas().set_index("date")["close"]
    assert features["roc_5"].to_list() == pytest.approx(
        close.pct_change(5)["2018-03-11":"2018-03-17"].tolist(), rel=1e-4
    )
    assert project.store.footer("real/bars", "2018-03-11").facts["missing"] == []


def as_files(folder: Path, prices: pl.DataFrame, calendar: MarketPartitions) -> dict[str, str]:
    """Lay daily rows out as session files; the benchmark is SPY of Lean's daily prices."""
    spy = (
        real_table("lean/equity_daily_raw")
        .filter(pl.col("symbol") == "SPY")
        .with_columns(split_ratio=1.0, dividend=0.0)
    )
    closes = {"session": list(calendar.hours), "ts": [closed for _, closed in calendar.hours.values()]}
    times = pl.DataFrame(closes, schema={"session": pl.Date, "ts": pl.Datetime("us", "UTC")})
    rows = pl.concat(each.with_columns(pl.col("date").cast(pl.Date).alias("session"), pl.col("volume").cast(pl.Float64))
                     .join(times, on="session").select(*SOURCE_SCHEMA) for each in (prices, spy))  # fmt: skip
    first, last = calendar.start, calendar.end
    write_sessions(folder, rows.filter(pl.col("session").is_between(first, last)).sort("symbol", "ts"))
    return {"type": "files", "uri": str(folder)}


def test_daily_us_shares_of_88_companies_over_thanksgiving(tmp_path):
    prices = real_table("stocknet/prices").with_columns(split_ratio=1.0, dividend=0.0)
    sectors = dict(real_table("stocknet/stocks").select("symbol", "sector").rows())
    calendar = MarketPartitions("XNYS", NEW_YORK, date(2013, 11, 4), date(2013, 11, 29))
    source = as_files(tmp_path / "landing", prices, calendar)
    symbols = sorted(prices["symbol"].unique())
    market = attributes(
        symbols, "SPY", source, calendar="XNYS", timezone=NEW_YORK, start=str(calendar.start), end=str(calendar.end),
        universe=[{"symbol": symbol, "sector": sectors[symbol]} for symbol in symbols],
    )  # fmt: skip
    assert len(set(market_of(market).universe.sectors.values())) == 9
    _, bars, features = made(tmp_path / "project", market, "2013-11-03", "2013-11-24")
    # Three of the 88 were not listed yet, Alibaba among them.
    found = set(bars.filter(pl.col("role") == "member")["symbol"])
    assert len(found) == 85 and "BABA" not in found
    closes = dict(bars.filter(pl.col("symbol") == "AAPL").select("session", "ts").rows())
    assert closes[date(2013, 11, 29)] == datetime(2013, 11, 29, 18, tzinfo=UTC)
    assert closes[date(2013, 11, 27)] == datetime(2013, 11, 27, 21, tzinfo=UTC)
    assert date(2013, 11, 28) not in closes
    assert features["session"].n_unique() == 4
    assert_roc_agrees(features, bars)


def test_daily_us_shares_of_500_companies_with_events_over_thanksgiving(tmp_path):
    raw = real_table("pystock/prices").sort("symbol", "date")
    # The ratio on the eve of an ex-date: a dividend, or below four fifths a split.
    eve = pl.col("ca_ratio").shift(fill_value=1.0).over("symbol")
    is_split = eve < 0.8
    prices = raw.with_columns(
        split_ratio=pl.when(is_split).then(1.0 / eve).otherwise(1.0),
        dividend=pl.when(~is_split & (eve < 1.0)).then(pl.col("close") * (1.0 / eve - 1.0)).otherwise(0.0),
    )
    calendar = MarketPartitions("XNYS", NEW_YORK, date(2016, 10, 31), date(2016, 11, 25))
    source = as_files(tmp_path / "landing", prices.filter(pl.col("symbol") != "SPY"), calendar)
    symbols = sorted(set(prices["symbol"]) - {"SPY"})
    market = attributes(
        symbols, "SPY", source, calendar="XNYS", timezone=NEW_YORK, start=str(calendar.start), end=str(calendar.end)
    )
    project, bars, features = made(tmp_path / "project", market, "2016-10-30", "2016-11-20")
    alive = bars.filter(pl.col("role") == "member")["symbol"].n_unique()
    assert len(symbols) >= 499 and alive > 450
    assert features["session"].unique().sort().to_list() == [date(2016, 11, day) for day in (21, 22, 23, 25)]
    assert_roc_agrees(features, bars)
    # What the vendor's files lack is told.
    footer = project.store.footer("real/bars", "2016-11-20")
    there = project.store.read("real/bars", "2016-11-20").frame.height
    assert len(footer.facts["missing"]) + there == footer.facts["expected"] == (len(symbols) + 1) * 4


# --- a market data service


WEEKS = 2
KEY = "k3y-that-nobody-may-see"


@pytest.fixture
def service(tmp_path, monkeypatch):
    """A service with two weeks of four symbols and a benchmark, and a project that reads it."""
    monkeypatch.setattr(http_transport, "WAITS_S", ())
    monkeypatch.setattr(outages, "WAITS_S", (0.01, 0.01, 0.01))
    monkeypatch.setenv("MARKET_KEY", KEY)
    sessions = sessions_from(date(2013, 2, 19), WEEKS)
    bars = session_bars(sessions)
    with serving(MarketDataServer({"ohlcv": bars}, page_rows=7, key=KEY)) as server:
        members = sorted(set(bars["symbol"]) - {REFERENCE})
        source = {"type": "http", "base_url": server.url, "api_key_env": "MARKET_KEY", "timeout_s": 2.0}
        market = attributes(
            members, REFERENCE, source, calendar="XNYS", timezone=NEW_YORK, start=str(sessions[0]), end=str(sessions[-1]),
            features=["temporal/day_of_week"],
        )  # fmt: skip
        yield server, Project(tmp_path, market)


def test_http_market_publishes_what_the_service_holds_and_sees_a_revision(service):
    server, project = service
    project.make(["real/bars", "real/features/temporal"], "2013-02-17", "2013-02-24", now=AFTER)
    stored = pl.concat(project.store.read("real/bars", week).frame for week in ("2013-02-17", "2013-02-24"))
    assert stored.drop("role").sort("symbol", "ts").equals(server.tables["ohlcv"].sort("symbol", "ts"))
    assert project.out_of_date("real/bars") == {}
    revised = (pl.col("symbol") == "S001") & (pl.col("session") == date(2013, 2, 26))
    server.tables = {
        "ohlcv": server.tables["ohlcv"].with_columns(volume=pl.when(revised).then(5.0).otherwise("volume"))
    }
    assert list(project.out_of_date("real/bars")) == ["real/bars 2013-02-24"]
    for path in (project.folder / "storage").rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()


def test_http_market_is_asked_for_a_week_and_the_weeks_that_judge_it_at_once(service):
    server, project = service
    server.page_rows = 1000
    run = project.make("real/bars", "2013-02-24", now=AFTER)
    spans = [(each["query"]["start"], each["query"]["end"]) for each in server.requests]
    # That of the check `is_current` too, where it is part of the run.
    assert spans in ([("2013-02-19", "2013-03-01")], [("2013-02-19", "2013-03-01")] * 2)
    assert list(run.materialised["real/bars"]) == ["2013-02-24"]
    footer = project.store.footer("real/bars", "2013-02-24")
    assert list(footer.sources) == ["http/ohlcv/2013-02-17", "http/ohlcv/2013-02-24"]


def test_http_market_waits_out_a_short_outage(service):
    server, project = service
    server.faults = [503, "reset"]
    assert project.run("real/bars", "2013-02-17", "2013-02-24", now=AFTER).success
    assert project.store.partitions("real/bars") == ["2013-02-17", "2013-02-24"]


def test_http_market_is_left_alone_for_as_long_as_it_asks_within_reason(service, monkeypatch):
    server, project = service
    # It asks for a minute; this test has half a second.
    monkeypatch.setattr(outages, "LONGEST_WAIT_S", 0.5)
    server.page_rows, server.faults = 1000, [(429, 60)]
    began = monotonic()
    assert project.run("real/bars", "2013-02-17", now=AFTER).success
    assert 0.5 <= monotonic() - began < 30.0
    # The refused one, the one after the wait, and that of the check `is_current` where it is part of the run.
    assert len(server.requests) in (2, 3)


@pytest.mark.parametrize(
    ("fault", "message", "n_requests"),
    [
        pytest.param(503, "was answered 503; tried 4 times", 4, id="outage"),
        pytest.param("reset", "tried 4 times", 4, id="reset"),
        pytest.param(401, "refused with 401; set the key", 1, id="key"),
        pytest.param("empty", "the source had none", 1, id="empty"),
        pytest.param("html", "must be a table, was not: page 1 must be application/json", 3, id="html"),
    ],
)
def test_http_market_under_a_lasting_fault_fails_and_publishes_nothing(service, fault, message, n_requests):
    server, project = service
    server.faults, server.is_lasting = [fault], True
    run = project.run("real/bars", "2013-02-17", "2013-02-24", now=AFTER)
    assert not run.success
    assert message in run.message
    assert KEY not in run.message
    assert len(server.requests) == n_requests
    assert project.store.partitions("real/bars") == []
    assert run.materialised == {}


def test_http_market_with_a_fault_in_one_week_publishes_the_other(service):
    server, project = service
    # Both weeks together, then the first alone.
    server.page_rows, server.faults = 1000, ["truncated", "truncated"]
    run = project.run("real/bars", "2013-02-17", "2013-02-24", now=AFTER)
    assert "2013-02-17: `http" in run.message and "is no JSON" in run.message
    assert project.store.partitions("real/bars") == ["2013-02-24"]


def test_http_market_without_rows_of_one_symbol_says_that_they_are_missing(service):
    server, project = service
    server.tables = {"ohlcv": server.tables["ohlcv"].filter(pl.col("symbol") != "S002")}
    run = project.run("real/bars", "2013-02-17", now=AFTER)
    assert run.success
    found = run.checks["real/bars", "complete"]
    assert "4 of 20 symbol-sessions: S002 2013-02-19, S002 2013-02-20" in found.description


def test_http_market_with_rows_of_the_future_refuses_them(service):
    server, project = service
    late = pl.col("ts") + pl.duration(days=pl.when(pl.col("session") == date(2013, 2, 22)).then(9).otherwise(0))
    server.tables = {"ohlcv": server.tables["ohlcv"].with_columns(ts=late)}
    run = project.run("real/bars", "2013-02-17", now="2013-02-23T12:00:00+00:00")
    assert not run.success
    assert "`ts` must not be after now" in run.message
    assert project.store.partitions("real/bars") == []
