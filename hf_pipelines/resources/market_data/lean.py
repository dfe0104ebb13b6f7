"""Source `lean`: raw prices with factor files and map files, as QuantConnect's Lean keeps them, one table each.

| table | columns |
|---|---|
| prices | symbol (the ticker of that day), open, high, low, close, volume; or bid_* and ask_*, of which the middle is taken |
| and one of | `date`: the session; `bar_start`: UTC; `bar_start_ny`: New York's clock |
| factors | symbol (permanent), date, price_factor, split_factor, reference_price: what rows up to `date` are multiplied by |
| maps | permtick (the permanent symbol), date, mapped_symbol: the ticker that it had up to `date` |

Parquet or CSV. A symbol of the universe is a permanent one: its bars are those of the tickers that it had on each day, and
a ticker's days under another company are that company's. A factor that changes after the row of day D is a split or a
dividend effective on the first session that the symbol has after D. Lean names a bar by where it starts, the contract by
where it ends: the hour from 9:00 ends at 10:00, and bars outside the session (before the open, after the close, in its
break at noon, the Sunday evening of currencies in a calendar without Sundays) are left out. A table without volume has volume 0.

Lives here: that mapping. Does not live here: what a bar must look like (`research.bars`).
"""

import difflib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache

import polars as pl
from pydantic import Field

from hf_pipelines.research.bar_grid import BarGrid
from hf_pipelines.research.bars import PRICE_COLUMNS, SOURCE_SCHEMA
from hf_pipelines.research.content_hash import content_hash
from hf_pipelines.research.wording import type_words
from hf_pipelines.resources.limits import Limits
from hf_pipelines.resources.market_data import SourceFile, by_week
from hf_pipelines.resources.market_data.reader import read_apart
from hf_pipelines.resources.market_data.source_entry import FolderSpec, SourceEntry, SourceMarket
from hf_pipelines.resources.market_data.tables import RefusedTableError, check_csv, parse_parquet
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.storage_errors import ObjectMissingError, ObjectRefusedError

NEW_YORK = "America/New_York"
TIME_COLUMNS = ("date", "bar_start", "bar_start_ny")
FACTOR_COLUMNS = ("symbol", "date", "price_factor", "split_factor", "reference_price")
MAP_COLUMNS = ("permtick", "date", "mapped_symbol")
TEXT_COLUMNS = ("symbol", "permtick", "mapped_symbol")

# Factors are kept to six or seven decimals: what two of them differ by less says nothing.
FACTOR_ROUNDING = 5e-7


@dataclass(frozen=True)
class LeanSource:
    """Bars out of Lean's tables.

    Parameters
    ----------
    objects : ObjectStore
        The folder or prefix that holds the tables.
    symbols : tuple of str
        Permanent symbols.
    hours : mapping of date to (open, close)
        Sessions of the market, UTC.
    grid : BarGrid
        When its bars end.
    prices, factors, maps : str
        Names of the tables. Without `factors` there are no events, without `maps` a ticker never changes.
    """

    objects: ObjectStore
    symbols: tuple[str, ...]
    hours: Mapping[date, tuple[datetime, datetime]]
    grid: BarGrid
    prices: str
    factors: str | None = None
    maps: str | None = None

    def listing(self, sessions: Sequence[date]) -> dict[str, str]:
        return {file.name: file.sha256 for file in self.read(sessions)}

    def read(self, sessions: Sequence[date]) -> list[SourceFile]:
        """One file a week: a table is revised as a whole, its weeks one by one."""
        weeks = by_week(sessions)
        if not weeks:
            return []
        bars = self._bars(min(sessions), max(sessions))
        files = []
        for key, days in weeks.items():
            of_week = bars.filter(pl.col("session").is_in(days))
            files.append(SourceFile(f"lean/{self.prices}/{key}", content_hash(of_week), of_week, tuple(days)))
        return files

    def _bars(self, first: date, last: date) -> pl.DataFrame:
        raw = self._identified(_as_prices(self._table(self.prices), self.prices))
        # Of the whole table: which session an event falls on must not depend on the range that is read.
        # A row of a day without a session is no bar; before the market's first session nothing is known of sessions.
        of_session = pl.col("day").is_in(list(self.hours)) | (pl.col("day") < min(self.hours))
        sessions = raw.filter(of_session).select("symbol", "day").unique().sort("symbol", "day")
        events = self._events(sessions)
        # A bar of the night before a session (futures open on Sunday evening) is dated a day earlier.
        near = raw.filter(pl.col("day").is_between(first - timedelta(days=4), last + timedelta(days=1)))
        bars = self._timed(near).filter(pl.col("session").is_between(first, last)).sort("symbol", "ts")
        is_first = pl.col("ts") == pl.col("ts").min().over("symbol", "session")
        return (
            bars.join(events, on=["symbol", "session"], how="left", maintain_order="left")
            .with_columns(
                split_ratio=pl.when(is_first).then("split_ratio").fill_null(1.0),
                dividend=pl.when(is_first).then("dividend").fill_null(0.0),
            )
            .select(pl.col(name).cast(dtype) for name, dtype in SOURCE_SCHEMA.items())
        )

    def _timed(self, raw: pl.DataFrame) -> pl.DataFrame:
        """Session and close time of each row; rows outside the sessions are left out."""
        if self.grid.is_daily:
            closes = {"session": list(self.hours), "ts": [closed for _, closed in self.hours.values()]}
            table = pl.DataFrame(closes, schema={"session": pl.Date, "ts": pl.Datetime("us", "UTC")})
            return raw.with_columns(session="day").join(table, on="session", how="inner")
        if "start" not in raw.columns:
            raise ValueError(
                f"`prices` must have `bar_start` or `bar_start_ny` for bars of {self.grid.timeframe}, {self.prices} has days alone."
            )
        opens = pl.DataFrame(
            {
                "session": list(self.hours),
                "opens": [opened for opened, _ in self.hours.values()],
                "closes": [closed for _, closed in self.hours.values()],
            },
            schema={"session": pl.Date, "opens": pl.Datetime("us", "UTC"), "closes": pl.Datetime("us", "UTC")},
        ).sort("opens")
        # The session under way when the bar ends, or that closes at that moment; the bar must have begun before the close.
        ended = raw.with_columns(end=pl.col("start") + self.grid.step).sort("end")
        in_session = ended.join_asof(
            opens.with_columns(after=pl.col("opens") + timedelta(microseconds=1)),
            left_on="end",
            right_on="after",
            strategy="backward",
        )
        inside = in_session.filter(pl.col("start") < pl.col("closes"))
        return self.grid.outside_breaks(inside.with_columns(ts=pl.min_horizontal("end", "closes")))

    def _identified(self, raw: pl.DataFrame) -> pl.DataFrame:
        """Rows of the wanted symbols under their permanent names."""
        if self.maps is None:
            return raw.filter(pl.col("symbol").is_in(self.symbols))
        spells = ticker_spells(self._table(self.maps))
        if unknown := sorted(set(self.symbols) - set(spells["permtick"])):
            raise ValueError(
                f"`universe` must hold permanent symbols of {self.maps}, was with {', '.join(unknown[:5])}; it has those in its "
                "column permtick."
            )
        spells = spells.filter(pl.col("permtick").is_in(self.symbols))
        rows = raw.rename({"symbol": "ticker"}).join(spells, on="ticker", how="inner")
        found = rows.filter(pl.col("day").is_between("since", "until")).rename({"permtick": "symbol"})
        return found.drop("since", "until", "ticker")

    def _events(self, sessions: pl.DataFrame) -> pl.DataFrame:
        empty = {"symbol": pl.String(), "session": pl.Date(), "split_ratio": pl.Float64(), "dividend": pl.Float64()}
        if self.factors is None:
            return pl.DataFrame(schema=empty)
        # Days before the market's own begin are kept: their events would fall on its first session otherwise.
        trading = sessions.rename({"day": "session"})
        is_known = pl.col("session").is_in(list(self.hours)) | (pl.col("session") < min(self.hours))
        return derive_events(self._table(self.factors), trading.filter(is_known))

    def _table(self, name: str) -> pl.DataFrame:
        try:
            payload = self.objects.get(name)
        except ObjectMissingError as e:
            there = [key for key in self.objects.all_keys() if "/" not in key]
            near = difflib.get_close_matches(name, there, n=3) or there[:3]
            raise ObjectMissingError(
                f"`source` must name tables that lie in {self.objects.uri}, was {name!r}; "
                + (f"there is {', '.join(near)}." if near else "nothing lies there.")
            ) from e
        except ObjectRefusedError as e:
            raise ValueError(f"{e} A larger table: raise HF_MAX_OBJECT_MB and HF_READER_MEMORY_MB.") from e
        try:
            return _read(payload, name.endswith(".csv"))
        except RefusedTableError as e:
            raise ValueError(f"`{self.objects.address(name)}` must be a table, was not: {str(e)[:300]}") from e


# The bytes are the key: a table that was revised is parsed anew.
@lru_cache(maxsize=6)
def _read(payload: bytes, is_csv: bool) -> pl.DataFrame:
    # A table holds a market's whole history: 500 symbols in hourly bars of 20 years are 17 million rows of 7 columns.
    return read_apart(parse_csv if is_csv else parse_parquet, payload, Limits.of_objects())[0]


def parse_csv(payload: bytes, limits: Limits) -> pl.DataFrame:
    """A table of Lean's as CSV, each column by what it holds; tickers are text, whatever they look like."""
    check_csv(payload, limits)
    header = pl.read_csv(io.BytesIO(payload), n_rows=0).columns
    texts = {name: pl.String() for name in TEXT_COLUMNS if name in header}
    return pl.read_csv(io.BytesIO(payload), try_parse_dates=True, infer_schema_length=None, schema_overrides=texts)


def ticker_spells(maps: pl.DataFrame) -> pl.DataFrame:
    """Which permanent symbol had which ticker when.

    Parameters
    ----------
    maps : DataFrame
        Columns `MAP_COLUMNS`: the first row of a permtick says since when it traded, each later one until when it had
        the ticker.

    Returns
    -------
    DataFrame
        Columns permtick, ticker, since, until, both ends included.
    """
    _require(maps, MAP_COLUMNS, "maps")
    ordered = maps.select("permtick", _day("date", maps), ticker="mapped_symbol").sort("permtick", "date")
    row = pl.int_range(pl.len()).over("permtick")
    before = pl.col("date").shift().over("permtick")
    since = pl.when(row == 1).then(before).otherwise(before + timedelta(days=1))
    return (
        ordered.with_columns(since=since, until="date").filter(row > 0).select("permtick", "ticker", "since", "until")
    )


def derive_events(factors: pl.DataFrame, sessions: pl.DataFrame) -> pl.DataFrame:
    """Splits and dividends hidden in Lean's cumulative factors.

    Parameters
    ----------
    factors : DataFrame
        Columns `FACTOR_COLUMNS`. Prices up to `date` are multiplied by both factors; `reference_price` is the raw close
        of `date`.
    sessions : DataFrame
        Columns symbol, session: the days that each symbol traded.

    Returns
    -------
    DataFrame
        Columns symbol, session, split_ratio, dividend: one row for each session with an event.

    Notes
    -----
    Lean multiplies earlier prices by 1 - dividend / reference_price, and earlier split factors by 1 / split_ratio. Our
    dividend is cash a share AFTER a split of the same day.
    """
    _require(factors, FACTOR_COLUMNS, "factors")
    ordered = factors.with_columns(_day("date", factors)).sort("symbol", "date")
    after = pl.col("price_factor", "split_factor").shift(-1).over("symbol").name.suffix("_after")
    ratios = ordered.with_columns(after).with_columns(
        split=pl.col("split_factor_after") / pl.col("split_factor"),
        kept=pl.col("price_factor") / pl.col("price_factor_after"),
    )
    # The rounding of a small factor is a larger share of it.
    noise = FACTOR_ROUNDING / pl.min_horizontal("split_factor", "split_factor_after")
    is_split = ((pl.col("split") - 1.0).abs() > noise).fill_null(False)
    is_paid = (1.0 - pl.col("kept") > FACTOR_ROUNDING / pl.col("price_factor")).fill_null(False)
    split = pl.when(is_split).then(_plain_split(pl.col("split"), noise)).otherwise(1.0)
    paid = pl.when(is_paid).then(pl.col("reference_price") * (1.0 - pl.col("kept")) / split).otherwise(0.0)
    changes = ratios.filter(is_split | is_paid).with_columns(split_ratio=split, dividend=paid)
    # A table that begins after an event has nothing before it to compare with: it is no event of the first bar.
    begins = sessions.group_by("symbol").agg(begins=pl.col("session").min())
    changes = changes.join(begins, on="symbol", how="inner").filter(pl.col("date") >= pl.col("begins"))
    changes = changes.with_columns(after=pl.col("date") + timedelta(days=1)).sort("after")
    placed = changes.join_asof(
        sessions.sort("session"),
        left_on="after",
        right_on="session",
        by="symbol",
        strategy="forward",
        check_sortedness=False,
    )
    # Several events before the same session (it was halted in between) count as one: cash a share of before a split is less
    # a share after it.
    key = ("symbol", "session")
    later = pl.col("split_ratio").cum_prod(reverse=True).shift(-1, fill_value=1.0).over(key)
    return (
        placed.filter(pl.col("session").is_not_null())
        .sort("symbol", "date")
        .with_columns(dividend=pl.col("dividend") / later)
        .group_by(key)
        .agg(pl.col("split_ratio").product(), pl.col("dividend").sum())
        .sort(key)
    )


def _plain_split(ratio: pl.Expr, noise: pl.Expr) -> pl.Expr:
    """7 for 6.99999 and 1/10 for 0.0999998; as it is where no such number is as near as rounding leaves it (1.0027)."""
    plain = (ratio * 2.0).round() / 2.0
    inverse = 2.0 / (2.0 / ratio).round()
    nearest = pl.when(ratio >= 1.0).then(plain).otherwise(inverse)
    return pl.when((nearest / ratio - 1.0).abs() <= 2.0 * noise).then(nearest).otherwise(ratio)


def _as_prices(table: pl.DataFrame, name: str) -> pl.DataFrame:
    """Columns symbol, day, start (UTC, where the table has times), prices and volume."""
    sides = {each: (pl.col(f"bid_{each}") + pl.col(f"ask_{each}")) / 2.0 for each in PRICE_COLUMNS}
    if "open" not in table.columns and f"bid_{PRICE_COLUMNS[0]}" in table.columns:
        _require(table, [f"{side}_{each}" for side in ("bid", "ask") for each in PRICE_COLUMNS], name)
        table = table.with_columns(**sides)
    _require(table, ("symbol", *PRICE_COLUMNS), name)
    found = [each for each in TIME_COLUMNS if each in table.columns]
    if len(found) != 1:
        raise ValueError(f"`prices` must have one of the columns {', '.join(TIME_COLUMNS)}, {name} has {found}.")
    kept = table.with_columns(volume=pl.col("volume") if "volume" in table.columns else pl.lit(0.0))
    if found == ["date"]:
        return kept.with_columns(_day("date", table).alias("day")).select("symbol", "day", *PRICE_COLUMNS, "volume")
    local = pl.col(found[0]).cast(pl.Datetime("us"))
    zone = NEW_YORK if found == ["bar_start_ny"] else "UTC"
    start = local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")
    return kept.select("symbol", *PRICE_COLUMNS, "volume", day=local.dt.date(), start=start)


def _day(name: str, table: pl.DataFrame) -> pl.Expr:
    """A column of days, written as dates, as times or as 20140402."""
    column = pl.col(name)
    if table.schema[name].is_integer():
        column = column.cast(pl.String)
    if table.schema[name] in (pl.Date, pl.Datetime) or isinstance(table.schema[name], pl.Datetime):
        return column.cast(pl.Date)
    return column.str.replace_all("-", "").str.to_date("%Y%m%d")


def _require(table: pl.DataFrame, names: Sequence[str], what: str) -> None:
    if missing := [each for each in names if each not in table.columns]:
        raise ValueError(f"`{what}` must have the columns {', '.join(names)}, was without {', '.join(missing)}.")
    for name in names:
        dtype = table.schema[name]
        if name in TEXT_COLUMNS and dtype != pl.String:
            raise ValueError(
                f"`{name}` of {what} must be text, was {type_words(dtype)}; write tickers as text: as numbers 0700 is 700."
            )
        if name not in (*TEXT_COLUMNS, *TIME_COLUMNS) and not dtype.is_numeric():
            raise ValueError(
                f"`{name}` of {what} must hold numbers, was {type_words(dtype)}; mend the cell that is none."
            )


class LeanSpec(FolderSpec):
    """Names of the tables below the folder."""

    prices: str = Field(description="Table of raw prices below the folder.")
    factors: str | None = Field(default=None, description="Table of factor files, which hold splits and dividends.")
    maps: str | None = Field(
        default=None, description="Table of map files, which hold the tickers of a security over time."
    )


def _lean(spec: LeanSpec, market: SourceMarket) -> LeanSource:
    return LeanSource(
        spec.objects(),
        market.symbols,
        market.hours,
        market.grid,
        prices=spec.prices,
        factors=spec.factors,
        maps=spec.maps,
    )


LEAN = SourceEntry(spec=LeanSpec, build=_lean)
