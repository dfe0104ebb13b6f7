"""Source `lean`: its mapping by hand on small tables, and its agreement with Lean's own factors on real ones."""

import dataclasses
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hf_pipelines.partitions import MarketPartitions
from hf_pipelines.research.adjustment import adjust
from hf_pipelines.research.bar_grid import BarGrid
from hf_pipelines.research.bars import check_structure
from hf_pipelines.resources.market_data.lean import LeanSource, derive_events, ticker_spells
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.storage_errors import ObjectMissingError
from hf_pipelines_tests.real_data import real_table

NEW_YORK = "America/New_York"
PRICES = ("open", "high", "low", "close")


def partitions(calendar: str, first: date, last: date) -> MarketPartitions:
    return MarketPartitions(calendar, "UTC" if "/" in calendar else NEW_YORK, first, last)


def lean(
    folder: Path, market: MarketPartitions, symbols: tuple[str, ...], timeframe: str = "1d", **tables
) -> LeanSource:
    """Write the tables given by name as Parquet and read them."""
    names = {}
    for name, table in tables.items():
        table.write_parquet(folder / f"{name}.parquet")
        names[name] = f"{name}.parquet"
    grid = BarGrid(timeframe, market.timezone)
    return LeanSource(ObjectStore(str(folder)), symbols, market.hours, grid, **names)


def read(source: LeanSource, market: MarketPartitions, first: date, last: date) -> pl.DataFrame:
    files = source.read(market.sessions_between(first, last))
    assert all(file.fault is None for file in files)
    bars = pl.concat(file.frame for file in files)
    return check_structure(
        bars, source="lean", hours=market.hours, now=datetime(2030, 1, 1, tzinfo=UTC), grid=source.grid
    ).sort("symbol", "ts")


def daily(ticker: str, days: list[date], close: list[float]) -> pl.DataFrame:
    return pl.DataFrame({"symbol": ticker, "date": days, **dict.fromkeys(PRICES, close), "volume": 100})


def factors(*rows: tuple[str, date, float, float, float]) -> pl.DataFrame:
    return pl.DataFrame(
        rows, schema=["symbol", "date", "price_factor", "split_factor", "reference_price"], orient="row"
    )


# --- by hand


def test_derive_events_of_a_split_and_dividends_gives_cash_and_ratio_on_the_next_session():
    days = [date(2014, 6, day) for day in (4, 5, 6, 9, 10)]
    sessions = pl.DataFrame({"symbol": "X", "session": days})
    found = derive_events(
        factors(
            # 2 of 200 were paid on the 5th: 0.99; a 7:1 split came on the 9th; on the 10th both: 3:2 and 1 of 30 before it.
            ("X", days[0], 0.99 * (1 - 1 / 30), 0.0952381, 200.0),
            ("X", days[2], 1 - 1 / 30, 0.0952381, 210.0),
            ("X", days[3], 1 - 1 / 30, 0.6666667, 30.0),
            ("X", date(2050, 12, 31), 1.0, 1.0, 0.0),
        ),
        sessions,
    )
    assert found.select("symbol", "session", "split_ratio").rows() == [
        ("X", days[1], 1.0), ("X", days[3], 7.0), ("X", days[4], 1.5)
    ]  # fmt: skip
    # One dollar on an old share is two thirds on a new one.
    assert found["dividend"].to_list() == pytest.approx([2.0, 0.0, 1.0 / 1.5])


def test_derive_events_of_a_halted_symbol_fall_on_its_next_bar():
    sessions = pl.DataFrame({"symbol": "X", "session": [date(2014, 6, 4), date(2014, 6, 12)]})
    of_x = factors(("X", date(2014, 6, 5), 1.0, 0.1, 5.0), ("X", date(2050, 12, 31), 1.0, 1.0, 0.0))
    assert derive_events(of_x, sessions).rows() == [("X", date(2014, 6, 12), 10.0, 0.0)]


def test_derive_events_of_a_dividend_and_a_split_before_the_same_session_is_cash_a_new_share():
    # 2 a share of 100, and four for one five days later, while the symbol is halted: 0.5 for each of the new ones.
    table = factors(
        ("ACME", date(2014, 6, 2), 0.98, 0.25, 100.0),
        ("ACME", date(2014, 6, 6), 1.0, 0.25, 100.0),
        ("ACME", date(2050, 1, 1), 1.0, 1.0, 0.0),
    )
    sessions = pl.DataFrame({"symbol": "ACME", "session": [date(2014, 6, 2), date(2014, 6, 9)]})
    (event,) = derive_events(table, sessions).rows()
    assert event == ("ACME", date(2014, 6, 9), 4.0, pytest.approx(0.5))


def test_derive_events_of_a_reverse_split_whose_factor_is_rounded_is_its_round_number():
    sessions = pl.DataFrame({"symbol": "X", "session": [date(2014, 6, 4), date(2014, 6, 5)]})
    of_x = factors(("X", date(2014, 6, 4), 1.0, 0.008929, 5.0), ("X", date(2014, 6, 5), 1.0, 0.0178571, 5.0))
    assert derive_events(of_x, sessions)["split_ratio"].to_list() == [2.0]
    of_x = factors(("X", date(2014, 6, 4), 1.0, 10.0, 5.0), ("X", date(2014, 6, 5), 1.0, 1.0, 5.0))
    assert derive_events(of_x, sessions)["split_ratio"].to_list() == pytest.approx([0.1])
    of_x = factors(("X", date(2014, 6, 4), 1.0, 0.997307, 5.0), ("X", date(2014, 6, 5), 1.0, 1.0, 5.0))
    assert derive_events(of_x, sessions)["split_ratio"].to_list() == pytest.approx([1.0 / 0.997307])


def test_ticker_spells_of_a_renamed_company_meet_without_a_gap():
    maps = pl.DataFrame(
        {"permtick": ["WM"] * 3, "date": ["19980102", "19980716", "20090804"], "mapped_symbol": ["UW", "UW", "WMI"]}
    )
    assert ticker_spells(maps).rows() == [
        ("WM", "UW", date(1998, 1, 2), date(1998, 7, 16)), ("WM", "WMI", date(1998, 7, 17), date(2009, 8, 4))
    ]  # fmt: skip


def test_read_of_a_ticker_that_passed_on_gives_each_company_its_own_days(tmp_path):
    days = [date(2012, 5, day) for day in (16, 17, 18, 21)]
    maps = pl.DataFrame(
        [("OLD", "20120501", "FB"), ("OLD", "20120517", "FB"), ("FB", "20120518", "FB"), ("FB", "20501231", "FB")],
        schema=["permtick", "date", "mapped_symbol"], orient="row",
    )  # fmt: skip
    market = partitions("XNYS", days[0], days[-1])
    source = lean(tmp_path, market, ("FB",), prices=daily("FB", days, [1.0, 2.0, 38.0, 34.0]), maps=maps)
    assert read(source, market, *days[:: len(days) - 1])["close"].to_list() == [38.0, 34.0]
    source = lean(tmp_path, market, ("OLD",), prices=daily("FB", days, [1.0, 2.0, 38.0, 34.0]), maps=maps)
    assert read(source, market, *days[:: len(days) - 1])["close"].to_list() == [1.0, 2.0]
    with pytest.raises(ValueError, match="must hold permanent symbols of maps.parquet, was with ZZZ"):
        lean(tmp_path, market, ("ZZZ",), prices=daily("FB", days, [1.0] * 4), maps=maps).read(days)


def test_read_of_minutes_leaves_out_what_lies_outside_the_session(tmp_path):
    # Black Friday 2012: 9:30 to 13:00.
    day = datetime(2012, 11, 23)
    starts = [day + timedelta(hours=9, minutes=29 + each) for each in range(3)]
    starts += [day + timedelta(hours=12, minutes=59), day + timedelta(hours=13)]
    table = pl.DataFrame({"symbol": "X", "bar_start_ny": starts, **dict.fromkeys(PRICES, 1.0), "volume": 1})
    market = partitions("XNYS", day.date(), day.date())
    bars = read(lean(tmp_path, market, ("X",), "1m", prices=table), market, day.date(), day.date())
    assert bars["ts"].dt.strftime("%H:%M").to_list() == ["14:31", "14:32", "18:00"]


def test_read_puts_the_events_of_a_session_on_its_first_bar(tmp_path):
    starts = [datetime(2014, 6, day, hour) for day in (6, 9) for hour in range(9, 16)]
    table = pl.DataFrame({"symbol": "X", "bar_start_ny": starts, **dict.fromkeys(PRICES, 1.0), "volume": 1})
    of_x = factors(("X", date(2014, 6, 6), 1.0, 0.25, 4.0), ("X", date(2050, 12, 31), 1.0, 1.0, 0.0))
    market = partitions("XNYS", date(2014, 6, 6), date(2014, 6, 9))
    bars = read(
        lean(tmp_path, market, ("X",), "1h", prices=table, factors=of_x), market, date(2014, 6, 6), date(2014, 6, 9)
    )
    assert bars["split_ratio"].to_list() == [1.0] * 7 + [4.0] + [1.0] * 6
    # The same when the week begins with that session.
    alone = lean(tmp_path, market, ("X",), "1h", prices=table, factors=of_x).read([date(2014, 6, 9)])
    assert alone[0].frame["split_ratio"].to_list() == [4.0] + [1.0] * 6


def test_read_of_an_event_before_a_row_of_a_day_without_a_session_puts_it_on_the_next_session(tmp_path):
    days = [date(2014, 6, 5), date(2014, 6, 6), date(2014, 6, 7), date(2014, 6, 9)]
    table = daily("ACME", days, [100.0, 100.0, 50.0, 50.0])
    events = factors(("ACME", date(2014, 6, 6), 1.0, 0.5, 100.0), ("ACME", date(2050, 1, 1), 1.0, 1.0, 0.0))
    market = partitions("XNYS", date(2014, 6, 2), date(2014, 6, 13))
    bars = read(lean(tmp_path, market, ("ACME",), prices=table, factors=events), market, days[0], days[-1])
    assert bars.select("session", "split_ratio").rows() == [(days[0], 1.0), (days[1], 1.0), (days[3], 2.0)]


def test_read_of_a_market_that_begins_after_an_event_leaves_the_event_before_it(tmp_path):
    days = [date(2014, 6, day) for day in (4, 5, 6, 9, 10)]
    of_x = factors(("X", days[0], 1.0, 0.25, 4.0), ("X", date(2050, 12, 31), 1.0, 1.0, 0.0))
    market = partitions("XNYS", days[3], days[4])
    source = lean(tmp_path, market, ("X",), prices=daily("X", days, [4.0, 1.0, 1.0, 1.0, 1.0]), factors=of_x)
    assert read(source, market, days[3], days[4])["split_ratio"].to_list() == [1.0, 1.0]
    # Neither does it fall on the first bar of a table that begins after it.
    source = lean(tmp_path, market, ("X",), prices=daily("X", days[3:], [1.0, 1.0]), factors=of_x)
    assert read(source, market, days[3], days[4])["split_ratio"].to_list() == [1.0, 1.0]


def test_read_of_csv_tables_equals_that_of_parquet(tmp_path):
    days = [date(2014, 6, 5), date(2014, 6, 6), date(2014, 6, 9)]
    prices, of_x = (
        daily("X", days, [4.0, 4.4, 1.2]),
        factors(("X", days[1], 1.0, 0.25, 4.4), ("X", days[2], 1.0, 1.0, 0.0)),
    )
    market = partitions("XNYS", days[0], days[-1])
    source = lean(tmp_path, market, ("X",), prices=prices, factors=of_x)
    expected = read(source, market, days[0], days[-1])
    prices.write_csv(tmp_path / "p.csv")
    of_x.write_csv(tmp_path / "f.csv")
    as_csv = LeanSource(source.objects, ("X",), market.hours, source.grid, prices="p.csv", factors="f.csv")
    assert read(as_csv, market, days[0], days[-1]).equals(expected)
    assert expected["split_ratio"].to_list() == [1.0, 1.0, 4.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop("close"), "`prices.parquet` must have the columns symbol, open, high, low, close"),
        (lambda table: table.drop("date"), "`prices` must have one of the columns date, bar_start, bar_start_ny"),
    ],
)
def test_read_of_a_table_without_a_column_names_it(tmp_path, change, message):
    market = partitions("XNYS", date(2014, 6, 5), date(2014, 6, 5))
    source = lean(tmp_path, market, ("X",), prices=change(daily("X", [date(2014, 6, 5)], [1.0])))
    with pytest.raises(ValueError, match=message):
        source.read([date(2014, 6, 5)])


def test_read_of_a_damaged_table_names_its_address(tmp_path):
    market = partitions("XNYS", date(2014, 6, 5), date(2014, 6, 5))
    source = lean(tmp_path, market, ("X",), prices=daily("X", [date(2014, 6, 5)], [1.0]))
    (tmp_path / "prices.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=f"`{tmp_path}/prices.parquet` must be a table, was not"):
        source.read([date(2014, 6, 5)])


def test_read_of_a_table_that_is_not_there_names_those_that_are_like_it(tmp_path):
    market = partitions("XNYS", date(2014, 6, 5), date(2014, 6, 5))
    source = lean(tmp_path, market, ("X",), prices=daily("X", [date(2014, 6, 5)], [1.0]))
    mistyped = dataclasses.replace(source, prices="prices")
    message = f"`source` must name tables that lie in {tmp_path}, was 'prices'; there is prices.parquet"
    with pytest.raises(ObjectMissingError, match=message):
        mistyped.read([date(2014, 6, 5)])


# --- real tables


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("lean")
    for name, table in (
        ("prices", "equity_daily_raw"),
        ("factors", "equity_factor_files"),
        ("maps", "equity_map_files"),
    ):
        real_table(f"lean/{table}").write_parquet(folder / f"{name}.parquet")
    return folder


def real_source(folder: Path, market: MarketPartitions, *symbols: str) -> LeanSource:
    grid, tables = BarGrid("1d", NEW_YORK), {name: f"{name}.parquet" for name in ("prices", "factors", "maps")}
    return LeanSource(ObjectStore(str(folder)), symbols, market.hours, grid, **tables)


US = partitions("XNYS", date(1998, 1, 2), date(2021, 3, 31))


def test_read_of_apple_shows_its_splits_and_the_dividend_that_it_paid_first(real):
    bars = read(real_source(real, US, "AAPL"), US, date(1998, 1, 2), date(2021, 3, 31))
    splits = bars.filter(pl.col("split_ratio") != 1.0).select("session", "split_ratio").rows()
    assert splits == [
        (date(2000, 6, 21), 2.0), (date(2005, 2, 28), 2.0), (date(2014, 6, 9), 7.0), (date(2020, 8, 31), 4.0)
    ]  # fmt: skip
    paid = bars.filter(pl.col("dividend") > 0.0).select("session", "dividend")
    assert paid["session"][0] == date(2012, 8, 9)
    # 2.65 dollars a share; 3.29 before the split of seven for one.
    assert paid["dividend"][0] == pytest.approx(2.65, abs=1e-3)
    assert paid.filter(pl.col("session") == date(2014, 5, 8))["dividend"].item() == pytest.approx(3.29, abs=1e-3)


def test_listing_of_a_week_alone_is_that_of_the_week_in_a_range(real):
    # Each spell of the companies is needed, and the split of 2014-06-09 lies at the edge of its week.
    source = real_source(real, US, "AAPL", "WM", "GOOGL", "FB")
    together = source.listing(US.sessions_between(date(2014, 3, 24), date(2014, 6, 20)))
    assert len(together) == 13
    for week in ("2014-03-30", "2014-06-08"):
        (alone,) = source.listing(US.sessions_of_week(week)).items()
        assert alone == (alone[0], together[alone[0]])


@pytest.mark.parametrize("symbol", ["AAPL", "BAC", "IBM", "SPY", "AIG", "EEM"])
def test_events_of_real_symbols_rebuild_leans_own_factors(real, symbol):
    bars = read(real_source(real, US, symbol), US, date(1998, 1, 2), date(2021, 3, 31))
    close, split, paid = (bars[name].to_numpy() for name in ("close", "split_ratio", "dividend"))
    table = pl.read_parquet(real / "factors.parquet").filter(pl.col("symbol") == symbol).sort("date")
    at = np.searchsorted(table["date"].dt.date().to_numpy(), bars["session"].to_numpy())
    at = np.minimum(at, table.height - 1)
    own_price, own_split = table["price_factor"].to_numpy()[at], table["split_factor"].to_numpy()[at]

    # Lean's formula on our events: earlier splits by the ratio, earlier prices by 1 - dividend / close before.
    kept = 1.0 - paid[1:] * split[1:] / close[:-1]
    by_split = np.append(np.cumprod((1.0 / split[1:])[::-1])[::-1], 1.0) * own_split[-1]
    by_price = np.append(np.cumprod(kept[::-1])[::-1], 1.0) * own_price[-1]
    # Factors have six or seven decimals; the smallest of Apple's is 0.008929.
    np.testing.assert_allclose(by_split, own_split, rtol=5e-6)
    np.testing.assert_allclose(by_price, own_price, rtol=1e-9)

    # Ours reinvests at the close of the ex-date, Lean at the close before: exactly that ratio lies between them.
    adjusted = adjust(bars, bars["ts"][-1])["close"].to_numpy()
    between = np.append(np.cumprod((close[1:] / (close[1:] + paid[1:]) / kept)[::-1])[::-1], 1.0)
    lean_close = close * own_price * own_split / (own_price[-1] * own_split[-1])
    np.testing.assert_allclose(adjusted, lean_close * between, rtol=5e-6)
    returns, lean_returns = np.diff(np.log(adjusted)), np.diff(np.log(lean_close))
    is_plain = (paid[1:] == 0.0) & (split[1:] == 1.0)
    np.testing.assert_allclose(returns[is_plain], lean_returns[is_plain], atol=1e-9)
    assert np.abs(returns - lean_returns).max() < 2e-3


def test_read_of_facebook_begins_with_its_listing_though_the_ticker_is_older(real):
    bars = read(real_source(real, US, "FB"), US, date(1999, 1, 4), date(2012, 6, 1))
    assert bars["session"].min() == date(2012, 5, 18)
    older = pl.read_parquet(real / "prices.parquet").filter(pl.col("symbol") == "FB")
    assert older["date"].min() == datetime(1999, 9, 29)
    assert read(real_source(real, US, "FB.1"), US, date(1999, 1, 4), date(2012, 6, 1))["session"].max() == date(
        2003, 3, 28
    )


def test_read_of_google_across_its_share_classes_follows_the_companys_shares(real):
    bars = read(real_source(real, US, "GOOG", "GOOGL"), US, date(2014, 3, 24), date(2014, 4, 8))
    old = bars.filter(pl.col("symbol") == "GOOGL")
    # Class A traded as GOOG up to 2014-04-02, halved by the new class C that took the ticker.
    assert old["session"].n_unique() == len(US.sessions_between(date(2014, 3, 24), date(2014, 4, 8)))
    assert old.filter(pl.col("split_ratio") != 1.0).select("session", "split_ratio").rows() == [(date(2014, 4, 3), 2.0)]
    new = bars.filter(pl.col("symbol") == "GOOG")
    assert new["session"].min() == date(2014, 3, 27)
    raw = pl.read_parquet(real / "prices.parquet").filter(pl.col("date") == datetime(2014, 4, 2))
    close = dict(raw.select("symbol", "close").rows())
    on_the_eve = dict(bars.filter(pl.col("session") == date(2014, 4, 2)).select("symbol", "close").rows())
    assert on_the_eve == {"GOOGL": close["GOOG"], "GOOG": close["GOOCV"]}


def test_read_of_currencies_takes_the_middle_and_leaves_out_sunday_evening(tmp_path):
    table = real_table("lean/fx_oanda_daily")
    market = partitions("24/5", date(2018, 3, 5), date(2018, 3, 16))
    bars = read(lean(tmp_path, market, ("EURUSD",), prices=table), market, date(2018, 3, 5), date(2018, 3, 16))
    assert bars["session"].to_list() == market.sessions_between(date(2018, 3, 5), date(2018, 3, 16))
    row = table.filter((pl.col("symbol") == "EURUSD") & (pl.col("bar_start") == datetime(2018, 3, 9))).row(
        0, named=True
    )
    friday = bars.filter(pl.col("session") == date(2018, 3, 9)).row(0, named=True)
    assert friday["close"] == pytest.approx((row["bid_close"] + row["ask_close"]) / 2)
    assert friday["ts"] == datetime(2018, 3, 10, tzinfo=UTC)
    assert bars["volume"].to_list() == [0.0] * 10


# --- tickers


@pytest.mark.parametrize(
    "tickers",
    [
        ["0700", "0005"],
        ["700"],
        ["TRUE", "FALSE"],
        ["1E5", "2E3"],
        ["2023-01-01"],
        ["NA", "NULL", "NAN"],
        ["AAPL", "0005"],
    ],
    ids=",".join,
)
def test_tickers_of_a_csv_are_text_whatever_they_look_like(tmp_path, tickers):
    market = partitions("XNYS", date(2014, 6, 2), date(2014, 6, 6))
    days = market.sessions_between(date(2014, 6, 2), date(2014, 6, 6))
    tables = {
        "prices": pl.concat(daily(each, days, [1.0 + n for n in range(len(days))]) for each in tickers),
        "factors": factors(*((each, days[2], 1.0, 1.0, 3.0) for each in tickers)),
        "maps": pl.DataFrame(
            [(each, day, each) for each in tickers for day in (days[0], date(2050, 12, 31))],
            schema=["permtick", "date", "mapped_symbol"],
            orient="row",
        ),
    }
    for name, table in tables.items():
        table.write_csv(tmp_path / f"{name}.csv")
    grid, names = BarGrid("1d", NEW_YORK), {name: f"{name}.csv" for name in tables}
    source = LeanSource(ObjectStore(str(tmp_path)), tuple(tickers), market.hours, grid, **names)
    found = read(source, market, days[0], days[-1])
    assert found["symbol"].unique().sort().to_list() == sorted(tickers)
    assert found.height == len(tickers) * len(days)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (
            "symbol",
            700,
            "`symbol` of prices.parquet must be text, was Int32; write tickers as text: as numbers 0700 is 700",
        ),
        ("close", "1.5 USD", "`close` of prices.parquet must hold numbers, was String; mend the cell"),
    ],
)
def test_a_table_with_a_column_of_another_type_is_refused_in_words(tmp_path, column, value, message):
    market = partitions("XNYS", date(2014, 6, 2), date(2014, 6, 6))
    table = daily("AAA", [date(2014, 6, 2)], [1.0]).with_columns(pl.lit(value).alias(column))
    with pytest.raises(ValueError, match=message):
        lean(tmp_path, market, ("AAA",), prices=table).read([date(2014, 6, 2)])


def test_tickers_of_a_parquet_dictionary_are_text(tmp_path):
    market = partitions("XNYS", date(2014, 6, 2), date(2014, 6, 6))
    table = daily("0700", [date(2014, 6, 2)], [1.0]).with_columns(pl.col("symbol").cast(pl.Categorical))
    table.to_pandas().to_parquet(tmp_path / "pandas.parquet")
    table.write_parquet(tmp_path / "polars.parquet")
    for name in ("pandas.parquet", "polars.parquet"):
        source = LeanSource(ObjectStore(str(tmp_path)), ("0700",), market.hours, BarGrid("1d", NEW_YORK), prices=name)
        assert read(source, market, date(2014, 6, 2), date(2014, 6, 2))["symbol"].to_list() == ["0700"]
