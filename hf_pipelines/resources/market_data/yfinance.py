"""Source `yfinance`: Yahoo Finance through the package of that name (extra `yfinance`).

Yahoo shows prices, volumes and dividends of every day in units of today's shares: all later splits are in them. The
contract wants them as traded, so each is multiplied back by the splits after its session, which is why everything up to
now is asked for. Yahoo names a bar by where it starts; hourly bars of US shares run from 9:30 to 10:30: `bars_end: open`.
Symbols are today's (META also before it was renamed); minutes reach back some days, hours some two years.

Lives here: asking, and the mapping of yfinance's frame. Does not live here: what a bar must look like (`research.bars`),
what an answer may be (`yahoo_session`).
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import polars as pl

from hf_pipelines.research.bar_grid import BarGrid
from hf_pipelines.research.bars import PRICE_COLUMNS, SOURCE_SCHEMA
from hf_pipelines.research.content_hash import content_hash
from hf_pipelines.research.events import EVENTS_SCHEMA, carry_events
from hf_pipelines.resources.market_data import MarketDataOutageError, MarketDataRefusedError, SourceFile, by_week
from hf_pipelines.resources.market_data.source_entry import SourceEntry, SourceSpec
from hf_pipelines.resources.market_data.yahoo_session import capped_session

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("Open", "High", "Low", "Close", "Volume", "Dividends", "Stock Splits")
TIMEOUT_S = 30.0

# A run asks for weeks one by one, and then whether they are current: Yahoo is asked once for all of them.
REMEMBERED_S = 600.0


@dataclass(frozen=True)
class YFinanceSource:
    """Bars of Yahoo Finance.

    Parameters
    ----------
    symbols : tuple of str
        Yahoo's tickers.
    hours : mapping of date to (open, close)
        Sessions of the market, UTC.
    grid : BarGrid
        When its bars end.
    """

    symbols: tuple[str, ...]
    hours: Mapping[date, tuple[datetime, datetime]]
    grid: BarGrid

    def listing(self, sessions: Sequence[date]) -> dict[str, str]:
        return {file.name: file.sha256 for file in self.read(sessions)}

    def read(self, sessions: Sequence[date]) -> list[SourceFile]:
        """One file a week.

        Raises
        ------
        MarketDataOutageError
            If Yahoo does not answer, or asks to be left alone.
        MarketDataRefusedError
            If the package is not installed, or an answer is too large or another's than Yahoo's.
        """
        weeks = by_week(sessions)
        if not weeks:
            return []
        bars = pl.concat(self._bars(symbol) for symbol in self.symbols).sort("symbol", "ts")
        files = []
        for key, days in weeks.items():
            of_week = bars.filter(pl.col("session").is_in(days))
            files.append(SourceFile(f"yfinance/{key}", content_hash(of_week), of_week, tuple(days)))
        return files

    def _bars(self, symbol: str) -> pl.DataFrame:
        history = _history(symbol, self.grid.timeframe, int(time.monotonic() // REMEMBERED_S))
        return bars_of_history(history, symbol=symbol, hours=self.hours, grid=self.grid)


@lru_cache(maxsize=1024)
def _history(symbol: str, interval: str, _moment: int) -> "pd.DataFrame":
    """All that Yahoo has up to now; an empty frame for a symbol that it has nothing of."""
    yfinance = _package()
    from requests import RequestException
    from yfinance import exceptions

    try:
        ticker = yfinance.Ticker(symbol, session=_session())
        history: pd.DataFrame = ticker.history(
            period="max", interval=interval, auto_adjust=False, actions=True, timeout=TIMEOUT_S
        )
        return history
    except (exceptions.YFPricesMissingError, exceptions.YFTzMissingError):
        return _nothing()
    except (exceptions.YFException, RequestException, OSError) as e:
        reason = " ".join(str(e).split())[:200]
        raise MarketDataOutageError(f"`source` yfinance must answer for {symbol}, was not: {reason}.") from e


@lru_cache(maxsize=1)
def _session() -> Any:
    """One for all symbols: it keeps Yahoo's cookies."""
    return capped_session()


def _nothing() -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(columns=[*COLUMNS])


def _package() -> Any:
    try:
        import yfinance
    except ImportError as e:
        raise MarketDataRefusedError(
            "`source` of type yfinance must have its package, it is not installed; install the extra: "
            'pip install "hf_pipelines[yfinance]".'
        ) from e
    # Otherwise an outage is a line in the log and an empty frame: an empty success.
    yfinance.config.debug.hide_exceptions = False
    return yfinance


def bars_of_history(
    history: "pd.DataFrame", *, symbol: str, hours: Mapping[date, tuple[datetime, datetime]], grid: BarGrid
) -> pl.DataFrame:
    """Contract columns of what `Ticker.history(auto_adjust=False, actions=True)` gives.

    Parameters
    ----------
    history : pandas DataFrame
        Columns `COLUMNS` at least, indexed by where each bar starts, with the exchange's time zone; up to now, so that
        every split after a bar is in it.

    Returns
    -------
    DataFrame
        Contract `SOURCE_SCHEMA`; rows outside the sessions are left out, their events count on the next bar.

    Raises
    ------
    ValueError
        If a column is missing or the index has no time zone.
    """
    if history.empty:
        return pl.DataFrame(schema=SOURCE_SCHEMA)
    missing = [name for name in COLUMNS if name not in history.columns]
    if missing or getattr(history.index, "tz", None) is None:
        raise ValueError(
            f"`history` must have the columns {', '.join(COLUMNS)} and an index with a time zone, was without "
            f"{', '.join(missing) or 'a time zone'}; use the pinned version of yfinance."
        )
    days = pl.Series("session", [stamp.date() for stamp in history.index], dtype=pl.Date)
    starts = pl.Series("start", [stamp.tz_convert("UTC").to_pydatetime() for stamp in history.index])
    raw = pl.DataFrame(
        [days, starts.cast(pl.Datetime("us", "UTC"))]
        + [pl.Series(name, history[name].to_numpy(dtype="float64")) for name in COLUMNS]
    ).sort("start")
    # NaN is more than 0 to polars.
    split = pl.when(pl.col("Stock Splits").fill_nan(0.0) > 0.0).then("Stock Splits").otherwise(1.0)
    later = pl.col("split_ratio").cum_prod(reverse=True).shift(-1, fill_value=1.0)
    bars = (
        raw.with_columns(split_ratio=split)
        .with_columns(later=later)
        .with_columns(
            *(pl.col(name.capitalize()).alias(name) * pl.col("later") for name in PRICE_COLUMNS),
            volume=(pl.col("Volume") / pl.col("later")).round(),
            dividend=pl.col("Dividends").fill_nan(0.0) * pl.col("later"),
            symbol=pl.lit(symbol),
        )
    )
    timed = _timed(bars, hours, grid).select(pl.col(name).cast(dtype) for name, dtype in SOURCE_SCHEMA.items())
    return carry_events(timed, _events_left_out(bars, timed))


def _events_left_out(bars: pl.DataFrame, timed: pl.DataFrame) -> pl.DataFrame:
    """Events of rows without a session, or outside of its hours: Yahoo adds a row without prices for them."""
    happened = bars.filter((pl.col("split_ratio") != 1.0) | (pl.col("dividend") != 0.0))
    # Of days before the first bar there is nothing to adjust.
    after = happened.filter(pl.col("session") > (timed["session"].min() or date.max))
    placed = timed.filter((pl.col("split_ratio") != 1.0) | (pl.col("dividend") != 0.0))
    return after.join(placed, on=["symbol", "session"], how="anti").select(*EVENTS_SCHEMA).cast(EVENTS_SCHEMA)  # type: ignore[arg-type]


def _timed(bars: pl.DataFrame, hours: Mapping[date, tuple[datetime, datetime]], grid: BarGrid) -> pl.DataFrame:
    known = [(day, *hours[day]) for day in bars["session"].unique().sort().to_list() if day in hours]
    times = pl.Datetime("us", "UTC")
    table = pl.DataFrame(known, schema={"session": pl.Date, "opens": times, "closes": times}, orient="row")
    timed = bars.join(table, on="session", how="inner", maintain_order="left")
    if grid.is_daily:
        return timed.with_columns(ts="closes")
    inside = timed.filter((pl.col("start") >= pl.col("opens")) & (pl.col("start") < pl.col("closes")))
    return grid.outside_breaks(inside.with_columns(ts=pl.min_horizontal(pl.col("start") + grid.step, "closes")))


YFINANCE = SourceEntry(
    spec=SourceSpec,
    build=lambda spec, market: YFinanceSource(market.symbols, market.hours, market.grid),
    delivery="polled",
)
