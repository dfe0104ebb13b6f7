"""Real bars for tests of several symbols: 88 large US stocks of nine sectors, and the VIX beside them.

Lives here: the tables brought into the bars contract. Does not live here: where they lie (`real_data`).
"""

from datetime import date

import polars as pl

from hf_pipelines.research.adjustment import derive_events
from hf_pipelines.research.bars import BARS_SCHEMA
from hf_pipelines_tests.real_data import real_table

VIX = "^VIX"


def stocknet_bars(first: date, last: date) -> pl.DataFrame:
    """Daily bars of the stocks and of the VIX; closes are adjusted for total return, so there are no events."""
    stocks = real_table("stocknet/prices").with_columns(close=pl.col("adj_close"), role=pl.lit("member"))
    index = real_table("vix/vix_daily").with_columns(symbol=pl.lit(VIX), volume=pl.lit(0.0), role=pl.lit("reference"))
    columns = ["symbol", "date", "open", "high", "low", "close", "volume", "role"]
    return (
        pl.concat([stocks.select(columns), index.select(columns)])
        .with_columns(session=pl.col("date").dt.date(), split_ratio=pl.lit(1.0), dividend=pl.lit(0.0))
        .filter(pl.col("session").is_between(first, last))
        .with_columns(ts=pl.col("session").cast(pl.Datetime("us", "UTC")) + pl.duration(hours=21))
        .select(pl.col(name).cast(dtype) for name, dtype in BARS_SCHEMA.items())
        .sort("symbol", "ts")
    )


def stocknet_bars_with_events(*symbols: str) -> pl.DataFrame:
    """Daily bars of `symbols` as the vendor shows them, adjusted for splits, with the dividends as events."""
    stocks = real_table("stocknet/prices").filter(pl.col("symbol").is_in(symbols)).drop_nulls()
    return (
        derive_events(stocks.with_columns(session=pl.col("date").dt.date()))
        .with_columns(ts=pl.col("session").cast(pl.Datetime("us", "UTC")) + pl.duration(hours=21))
        .with_columns(role=pl.lit("member"))
        .select(pl.col(name).cast(dtype) for name, dtype in BARS_SCHEMA.items())
        .sort("symbol", "ts")
    )


def stocknet_sectors() -> dict[str, str]:
    """Sector of each symbol."""
    return dict(real_table("stocknet/stocks").select("symbol", "sector").rows())
