"""Real bars of the development data in the bars contract, and which of their rows are known to be wrong.

Lives here: vendors' tables brought into `SOURCE_SCHEMA`, events included. Does not live here: where the tables lie
(`real_data`), bars as a strategy needs them (`research.features.stocknet`, `real_filings`).
"""

from datetime import date, timedelta

import polars as pl

from hf_pipelines.research.adjustment import SPLIT_RATIO_FLOOR
from hf_pipelines.research.bars import PRICE_COLUMNS, SOURCE_SCHEMA
from hf_pipelines_tests.real_data import real_table

CLOSE_HOUR_UTC = 21


def _in_contract(bars: pl.DataFrame) -> pl.DataFrame:
    ts = pl.col("session").cast(pl.Datetime("us")).dt.replace_time_zone("UTC") + timedelta(hours=CLOSE_HOUR_UTC)
    return (
        bars.with_columns(ts=ts)
        .select(pl.col(name).cast(dtype) for name, dtype in SOURCE_SCHEMA.items())
        .sort("symbol", "ts")
    )


def _without_events(table: str, day: str = "date") -> pl.DataFrame:
    bars = real_table(table).with_columns(session=pl.col(day).cast(pl.Date), split_ratio=1.0, dividend=0.0)
    return _in_contract(bars)


def pystock_bars() -> pl.DataFrame:
    """500 raw US symbols of 2015 to 2017; the vendor's ratio of a session becomes the event of the symbol's next one."""
    prices = real_table("pystock/prices").sort("symbol", "date")
    factor = pl.col("ca_ratio").shift(1).over("symbol").fill_null(1.0)
    is_split = (factor < 1.0 / SPLIT_RATIO_FLOOR) | (factor > SPLIT_RATIO_FLOOR)
    split = pl.when(factor < 1.0).then((2.0 / factor).round() / 2.0).otherwise(1.0 / factor.round())
    dividend = (pl.col("close").shift(1).over("symbol") * (1.0 - factor)).fill_null(0.0)
    return _in_contract(
        prices.with_columns(
            session=pl.col("date").cast(pl.Date),
            split_ratio=pl.when(is_split).then(split).otherwise(1.0),
            dividend=pl.when(~is_split & (factor < 1.0)).then(dividend).otherwise(0.0),
        )
    )


def stocknet_bars() -> pl.DataFrame:
    """88 US stocks of 2012 to 2017, adjusted for splits, without dividends; rows whose prices contradict each other left out."""
    is_sound = (pl.col("low") <= pl.min_horizontal("open", "close")) & (
        pl.col("high") >= pl.max_horizontal("open", "close")
    )
    return _without_events("stocknet/prices").filter(is_sound)


def lean_bars() -> pl.DataFrame:
    """Raw US stocks and funds of 1998 to 2021, each company under its lasting name, with the events of the factor files."""
    maps = real_table("lean/equity_map_files").with_columns(last=pl.col("date").str.to_date("%Y%m%d"))
    before_first = pl.col("last") - pl.duration(days=1)
    maps = maps.sort("permtick", "last").with_columns(
        after=pl.col("last").shift(1).over("permtick").fill_null(before_first)
    )
    prices = real_table("lean/equity_daily_raw").with_columns(session=pl.col("date").cast(pl.Date))
    bars = prices.join_where(
        maps.select("permtick", "mapped_symbol", "after", "last"),
        pl.col("symbol") == pl.col("mapped_symbol"),
        pl.col("session") > pl.col("after"),
        pl.col("session") <= pl.col("last"),
    ).with_columns(symbol="permtick")
    # A row's factors hold up to its day: the next row's differ by the event of the session after that day.
    factors = real_table("lean/equity_factor_files").sort("symbol", "date")
    events = factors.with_columns(
        split_ratio=(pl.col("split_factor").shift(-1) / pl.col("split_factor")).over("symbol").round(3),
        paid=1.0 - (pl.col("price_factor") / pl.col("price_factor").shift(-1)).over("symbol"),
    )
    bars = bars.sort("symbol", "session").with_columns(
        eve=pl.col("session").shift(1).over("symbol"), previous=pl.col("close").shift(1).over("symbol")
    )
    events = events.select("symbol", "split_ratio", "paid", eve=pl.col("date").cast(pl.Date))
    split = pl.col("split_ratio").fill_null(1.0)
    dividend = pl.col("previous") * pl.col("paid").fill_null(0.0) / split
    return _in_contract(
        bars.join(events, on=["symbol", "eve"], how="left").with_columns(
            split_ratio=split, dividend=dividend.fill_null(0.0).clip(lower_bound=0.0)
        )
    )


def lean_hour_bars() -> pl.DataFrame:
    """Hours of four US symbols."""
    hours = real_table("lean/equity_hour_raw").with_columns(
        session=pl.col("bar_start_ny").cast(pl.Date),
        ts=pl.col("bar_start_ny").dt.replace_time_zone("America/New_York").dt.convert_time_zone("UTC") + timedelta(hours=1),
        split_ratio=1.0,
        dividend=0.0,
    )  # fmt: skip
    return hours.select(pl.col(name).cast(dtype) for name, dtype in SOURCE_SCHEMA.items()).sort("symbol", "ts")


def fx_bars() -> pl.DataFrame:
    """Four currency pairs at the bid, without volume."""
    bids = real_table("lean/fx_oanda_daily").with_columns(
        *(pl.col(f"bid_{name}").alias(name) for name in PRICE_COLUMNS),
        session=pl.col("bar_start").cast(pl.Date), volume=0.0, split_ratio=1.0, dividend=0.0,
    )  # fmt: skip
    return _in_contract(bids)


def crypto_bars() -> pl.DataFrame:
    """Bitcoin, every day of the week."""
    return _without_events("lean/crypto_coinbase_daily")


# Rows of the stocks above that are known to be wrong, first to last session; rows without any volume are too.
KNOWN_FAULTS = (
    ("NEE", date(2016, 6, 9), date(2017, 1, 31)),
    ("MS", date(2017, 2, 14), date(2017, 2, 17)),
    ("DTV", date(2016, 10, 21), date(2016, 12, 31)),
    # Events that are false, late or missing.
    ("NFLX", date(2015, 7, 13), date(2015, 7, 15)),
    ("SQQQ", date(2017, 1, 11), date(2017, 1, 17)),
    ("WIN", date(2015, 4, 24), date(2015, 4, 28)),
    ("CF", date(2015, 6, 18), date(2015, 6, 18)),
    ("HLT", date(2017, 1, 4), date(2017, 1, 4)),
    ("HTZ", date(2016, 7, 1), date(2016, 7, 1)),
    ("BBD", date(2015, 3, 27), date(2015, 3, 27)),
    ("Z", date(2015, 8, 17), date(2015, 8, 17)),
    ("DHR", date(2016, 7, 5), date(2016, 7, 5)),
    # Prices that the same bar takes back.
    ("IBM", date(2002, 12, 23), date(2002, 12, 23)),
    ("AAPL", date(2009, 9, 21), date(2009, 9, 21)),
    ("AAPL", date(2010, 8, 31), date(2010, 8, 31)),
    ("AAPL", date(2011, 1, 3), date(2011, 1, 3)),
    ("GOOGL", date(2007, 12, 18), date(2007, 12, 18)),
    ("GOOGL", date(2008, 9, 30), date(2008, 10, 1)),
    ("AIG", date(2009, 5, 5), date(2009, 5, 5)),
    ("BAC", date(2001, 11, 12), date(2001, 11, 12)),
    ("IWM", date(2008, 9, 19), date(2008, 9, 19)),
    ("BTCUSD", date(2017, 4, 15), date(2017, 4, 15)),
    # The hours have no events: two splits are missing.
    ("AAPL", date(2014, 6, 9), date(2014, 6, 9)),
    ("AAPL", date(2020, 8, 31), date(2020, 8, 31)),
)

# Of those: what happened, and which sessions are wrong, by source.
REAL_CASES = (
    ("pystock", "NEE", "another instrument, twice", (
        (date(2016, 6, 9), date(2016, 11, 21)), (date(2016, 11, 29), date(2017, 1, 30)),
    )),
    ("pystock", "MS", "another instrument", ((date(2017, 2, 14), date(2017, 2, 16)),)),
    ("pystock", "CF", "a split of 5:1 is missing", ((date(2015, 6, 18), date(2015, 6, 18)),)),
    ("pystock", "BBD", "a bonus of 6:5 is missing", ((date(2015, 3, 27), date(2015, 3, 27)),)),
    ("pystock", "DHR", "a spin-off is missing", ((date(2016, 7, 5), date(2016, 7, 5)),)),
    ("pystock", "NFLX", "a split reported again", ((date(2015, 7, 14), date(2015, 7, 14)),)),
    ("lean", "IBM", "an open at twice the price", ((date(2002, 12, 23), date(2002, 12, 23)),)),
    ("lean", "GOOGL", "a close far below the day", ((date(2008, 9, 30), date(2008, 9, 30)),)),
)  # fmt: skip
