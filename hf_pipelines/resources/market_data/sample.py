"""Source `sample`: real daily bars out of installed packages, so that the project runs without a network.

bokeh_sampledata holds AAPL, IBM, MSFT (2000-2013), GOOG (from 2004) and FB (from 2012) as traded, with an adjusted
close from which splits and dividends are derived; arch holds the S&P 500 index (1999-2018).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from hf_pipelines.research.adjustment import derive_events
from hf_pipelines.research.bars import PRICE_COLUMNS, SOURCE_SCHEMA
from hf_pipelines.research.content_hash import content_hash
from hf_pipelines.resources.market_data import SourceFile
from hf_pipelines.resources.market_data.source_entry import SourceEntry, SourceSpec

STOCKS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")
INDICES = ("SPX",)


@dataclass(frozen=True)
class SampleSource:
    """Real bars of five US technology shares and the S&P 500 index, 2000-03-01 to 2013-03-01.

    Parameters
    ----------
    hours : mapping of date to (open, close)
        Sessions of the market with their opening and closing times: the packages hold dates only.
    """

    symbols: tuple[str, ...]
    hours: Mapping[date, tuple[datetime, datetime]]

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.symbols) - {*STOCKS, *INDICES}):
            raise ValueError(
                f"`universe` must be among {', '.join((*STOCKS, *INDICES))} for source `sample`, was {', '.join(unknown)}."
            )

    def listing(self, sessions: Sequence[date]) -> dict[str, str]:
        # Asked for every week of a market whenever something is looked at: its rows are not needed.
        wanted = {*sessions}
        return {_name_of(each): _load(each)[1] for each in self.symbols if not wanted.isdisjoint(_sessions_of(each))}

    def read(self, sessions: Sequence[date]) -> list[SourceFile]:
        wanted = pl.DataFrame(
            {"session": sessions, "ts": [self.hours[day][1] for day in sessions]},
            schema={"session": pl.Date, "ts": pl.Datetime("us", "UTC")},
        )
        files = []
        for symbol in self.symbols:
            prices, digest = _load(symbol)
            frame = prices.join(wanted, on="session", how="inner").select(*SOURCE_SCHEMA)
            if frame.height:
                files.append(SourceFile(_name_of(symbol), digest, frame, tuple(sessions)))
        return files


@lru_cache(maxsize=16)
def _load(symbol: str) -> tuple[pl.DataFrame, str]:
    prices = _load_index() if symbol in INDICES else _load_stock(symbol)
    # The packages round to cents: a close may lie half a cent outside the day's range.
    prices = prices.with_columns(
        pl.max_horizontal(*PRICE_COLUMNS).alias("high"), pl.min_horizontal(*PRICE_COLUMNS).alias("low")
    )
    return prices, content_hash(prices)


@lru_cache(maxsize=16)
def _sessions_of(symbol: str) -> frozenset[date]:
    return frozenset(_load(symbol)[0]["session"])


def _name_of(symbol: str) -> str:
    return f"sample/{symbol}"


def _load_stock(symbol: str) -> pl.DataFrame:
    from bokeh_sampledata import stocks

    raw = pl.DataFrame(getattr(stocks, symbol)).rename({"date": "session"})
    raw = raw.with_columns(pl.col("session").str.to_date(), pl.lit(symbol).alias("symbol"))
    return derive_events(_as_floats(raw, "adj_close"))


def _load_index() -> pl.DataFrame:
    # To import arch costs more than all else that a run of bars does: the file that lies in it is enough.
    package = find_spec("arch")
    assert package is not None and package.submodule_search_locations is not None
    table = pl.read_csv(Path(package.submodule_search_locations[0], "data", "sp500", "sp500.csv.gz"))
    raw = table.select(
        pl.col("Date").str.to_date("%m/%d/%Y").alias("session"),
        *(pl.col(name).alias(name.lower()) for name in ("Open", "High", "Low", "Close", "Volume")),
    )
    events = {"symbol": pl.lit("SPX"), "split_ratio": pl.lit(1.0), "dividend": pl.lit(0.0)}
    return _as_floats(raw.with_columns(**events))


def _as_floats(raw: pl.DataFrame, *more: str) -> pl.DataFrame:
    return raw.with_columns(pl.col(*PRICE_COLUMNS, "volume", *more).cast(pl.Float64))


SAMPLE = SourceEntry(
    spec=SourceSpec,
    build=lambda spec, market: SampleSource(market.symbols, market.hours),
    # The packages' symbols are known; a file may bring any.
    is_checked=True,
)
