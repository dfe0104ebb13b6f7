"""Real filings and the bars of their companies, in the contracts; tests skip where the data is not there."""

from collections.abc import Mapping
from datetime import date

import polars as pl

from hf_pipelines.research.references import check_structure, end_of_day
from hf_pipelines_tests.real_data import real_table
from hf_pipelines_tests.sample_bars import bars_of
from hf_pipelines_tests.sample_references import ZONE

_NAMES = {
    "revenues": "revenue", "op_income": "operating_income", "net_income": "net_income", "eps_diluted": "eps",
    "dividend": "dividend", "assets": "assets", "cur_assets": "current_assets", "cur_liab": "current_liabilities",
    "cash": "cash", "equity": "equity", "cash_flow_op": "operating_cash_flow",
}  # fmt: skip


def real_filings() -> pl.DataFrame:
    """Every filing of pystock under the contract `fundamentals`: available at the end of the day it was first seen."""
    raw = real_table("pystock/fundamentals")
    return check_structure(
        raw.select(
            "symbol", "doc_type", pl.col("period_focus").alias("period"),
            end_of_day(pl.col("end_date").dt.date(), ZONE).alias("event_time"),
            end_of_day(pl.col("first_seen").dt.date(), ZONE).alias("available_at"),
            *(pl.col(theirs).alias(ours) for theirs, ours in _NAMES.items()),
        ),
        "fundamentals",
        source="pystock",
    )  # fmt: skip


def real_bars(symbol: str, *, splits: Mapping[date, float] | None = None) -> pl.DataFrame:
    """Raw daily bars of a pystock symbol, with the splits effective on the given days."""
    prices = real_table("pystock/prices").filter(pl.col("symbol") == symbol).sort("date")
    days = prices["date"].dt.date().to_list()
    ratios = [(splits or {}).get(day, 1.0) for day in days]
    columns = {name: prices[name].to_list() for name in ("open", "high", "low", "volume")}
    return bars_of(symbol, prices["close"].to_list(), days=days, split_ratio=ratios, **columns)
