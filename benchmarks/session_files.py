"""Session files of a market of many symbols: real bars where a folder of them is given, else seeded random ones.

Lives here: what the benchmarks of whole chains read. Does not live here: what they time (`bench_*.py`).

The folder is beside the project, never in it: `--data FOLDER`, or where the tests seek it (`real_data`). It may hold `stocknet/prices.parquet`
(yumoxu/stocknet-dataset: 88 large US shares, 2012-09-04 to 2017-09-01) and `pystock/prices.parquet`
(eliangcs/pystock-data: 500 US symbols, 2015-03-20 to 2017-03-31).
"""

import argparse
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from hf_pipelines.partitions import MarketPartitions
from hf_pipelines.research.adjustment import derive_events
from hf_pipelines.research.bars import SOURCE_SCHEMA
from hf_pipelines.resources.market_data.sample import SampleSource
from hf_pipelines_tests.pipeline import TIMEZONE, session_bars
from hf_pipelines_tests.real_data import FOLDER
from hf_pipelines_tests.sample_bars import REFERENCE

BENCHMARK = "SPX"


@dataclass(frozen=True)
class MarketBars:
    """Bars of a market with its benchmark, under the contract of a source.

    Attributes
    ----------
    origin : str
        Where they come from, in words.
    benchmark : str
        The one symbol that is no member.
    """

    bars: pl.DataFrame
    origin: str
    benchmark: str

    @property
    def sessions(self) -> list[date]:
        return self.bars["session"].unique().sort().to_list()

    @property
    def symbols(self) -> list[str]:
        return sorted({*self.bars["symbol"].unique()} - {self.benchmark})

    def market(self, folder: Path, *, name: str, features: Sequence[str]) -> dict[str, Any]:
        """YAML attributes of a market that reads its session files from `folder`."""
        return {
            "name": name,
            "universe": [{"symbol": symbol} for symbol in self.symbols],
            "benchmark": self.benchmark,
            "calendar": "XNYS",
            "timezone": TIMEZONE,
            "source": {"type": "files", "uri": str(folder)},
            "start": str(self.sessions[0]),
            "end": str(self.sessions[-1]),
            "features": list(features),
        }


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        default=FOLDER if FOLDER.is_dir() else None,
        help="folder with real bars (default: HF_DEVELOPMENT_DATA; without it random bars)",
    )


def shares_88(folder: Path | None) -> MarketBars:
    """Five years of 88 shares."""
    start, end = date(2012, 9, 4), date(2017, 9, 1)
    return _load(folder, "stocknet", start, end, derive_stocknet, n_symbols=88)


def shares_500(folder: Path | None) -> MarketBars:
    """Two years of 500 symbols."""
    start, end = date(2015, 3, 20), date(2017, 3, 31)
    return _load(folder, "pystock", start, end, derive_pystock, n_symbols=500)


def derive_stocknet(raw: pl.DataFrame) -> pl.DataFrame:
    """Events out of the adjusted close; prices are split-adjusted already, so only dividends are found."""
    return derive_events(raw.rename({"date": "session"}))


def derive_pystock(raw: pl.DataFrame) -> pl.DataFrame:
    """Events out of `ca_ratio`, which on the eve of an ex-date is adjusted close by close."""
    factor = pl.col("ca_ratio").cum_prod(reverse=True).over("symbol", order_by="date")
    raw = raw.drop_nulls("ca_ratio").with_columns(adj_close=pl.col("close") * factor)
    prices = raw.drop("ca_ratio", "first_seen", "last_seen").rename({"date": "session"})
    found = []
    for symbol in prices.partition_by("symbol", maintain_order=True):
        # Spin-offs and the vendor's wrong ratios are no simple split: those symbols are left out.
        with suppress(ValueError):
            found.append(derive_events(symbol))
    return pl.concat(found)


def _load(
    folder: Path | None,
    name: str,
    start: date,
    end: date,
    derive: Callable[[pl.DataFrame], pl.DataFrame],
    *,
    n_symbols: int,
) -> MarketBars:
    partitions = MarketPartitions("XNYS", TIMEZONE, start, end)
    days = partitions.sessions_between(start, end)
    if folder is None:
        random = session_bars(days, symbols=n_symbols, seed=7)
        return MarketBars(
            random, f"random bars (no folder given by --data or HF_DEVELOPMENT_DATA for {name})", REFERENCE
        )
    path = folder / name / "prices.parquet"
    if not path.is_file():
        raise SystemExit(
            f"`--data` must be a folder with {name}/prices.parquet, was {folder}; leave it out for random bars."
        )
    raw = pl.read_parquet(path).with_columns(pl.col("date").cast(pl.Date))
    stocks = derive(raw).join(_closes(partitions, days), on="session", how="inner").select(*SOURCE_SCHEMA)
    (index,) = SampleSource((BENCHMARK,), partitions.hours).read(days)
    assert index.frame is not None
    bars = pl.concat([stocks.filter(pl.col("symbol") != BENCHMARK), index.frame]).sort("symbol", "ts")
    return MarketBars(bars, f"real bars of {name}", BENCHMARK)


def _closes(partitions: MarketPartitions, days: list[date]) -> pl.DataFrame:
    return pl.DataFrame(
        {"session": days, "ts": [partitions.hours[day][1] for day in days]},
        schema={"session": pl.Date, "ts": pl.Datetime("us", "UTC")},
    )


def last_weeks(market: MarketBars, weeks: int) -> MarketBars:
    """The same market, its last weeks only."""
    since = market.sessions[-1] - timedelta(weeks=weeks)
    return MarketBars(market.bars.filter(pl.col("session") > since), market.origin, market.benchmark)
