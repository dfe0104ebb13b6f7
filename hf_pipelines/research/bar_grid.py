"""Bar grid: when the bars of a session end.

Lives here: timeframes and the times of bars in a session. Does not live here: the columns of bars and what refuses them (`bars`),
the hours of sessions (`calendars`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Literal

import polars as pl

# How long a bar lasts; a daily bar lasts its session, however long that is.
TIMEFRAMES: dict[str, timedelta] = {
    "1m": timedelta(minutes=1),
    "5m": timedelta(minutes=5),
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
}

Timeframe = Literal["1m", "5m", "1h", "1d"]

BarsEnd = Literal["clock", "open"]

# Opening and closing time (UTC) of each session.
SessionHours = Mapping[date, tuple[datetime, datetime]]


@dataclass(frozen=True)
class BarGrid:
    """When the bars of a session end.

    Attributes
    ----------
    timeframe : str
        Name in `TIMEFRAMES`.
    timezone : str
        IANA name of the market's clock.
    bars_end : str
        "clock": at the multiples of the step on the market's clock (10:00, 11:00, ...); "open": whole steps after the
        open (10:30, 11:30, ...). Both with a last bar that ends at the close, however short; where a session has a
        break, the same for the part before it and for the part after it.
    breaks : mapping of date to (begin, end)
        Of the sessions that have one, UTC.
    """

    timeframe: Timeframe = "1d"
    timezone: str = "UTC"
    bars_end: BarsEnd = "clock"
    breaks: SessionHours = field(default_factory=dict, repr=False)

    @property
    def step(self) -> timedelta:
        return TIMEFRAMES[self.timeframe]

    @property
    def is_daily(self) -> bool:
        return self.timeframe == "1d"

    def ends(self, hours: SessionHours) -> pl.DataFrame:
        """Close time of every bar that the sessions should have: columns session, ts, sorted.

        Examples
        --------
        >>> from datetime import UTC
        >>> half_day = {date(2012, 11, 23): (datetime(2012, 11, 23, 14, 30, tzinfo=UTC), datetime(2012, 11, 23, 18, tzinfo=UTC))}
        >>> BarGrid("1h", "America/New_York").ends(half_day)["ts"].dt.strftime("%H:%M").to_list()
        ['15:00', '16:00', '17:00', '18:00']
        >>> day, close = date(2019, 12, 31), datetime(2019, 12, 31, 7, tzinfo=UTC)
        >>> whole = {day: (close.replace(hour=1, minute=30), close)}
        >>> rest = {day: (close.replace(hour=3, minute=30), close.replace(hour=5))}
        >>> BarGrid("1h", "Asia/Shanghai", "open", breaks=rest).ends(whole)["ts"].dt.strftime("%H:%M").to_list()
        ['02:30', '03:30', '06:00', '07:00']
        """
        table = _hours_table(hours)
        if self.is_daily:
            return table.select("session", ts="closes")
        table = self._parts(table)
        opens, closes, step = pl.col("opens"), pl.col("closes"), self.step
        first = opens + step
        if self.bars_end == "clock":
            # On the market's own clock: half an hour off UTC in India, and midnight moves with summer time.
            local = opens.dt.convert_time_zone(self.timezone)
            first = local.dt.truncate(step).dt.convert_time_zone("UTC") + step
        inner = pl.datetime_ranges(first, closes, interval=step, closed="left")
        ends = pl.concat_list(inner, closes)
        return table.with_columns(ts=ends).select("session", "ts").explode("ts").sort("session", "ts")

    def outside_breaks(self, bars: pl.DataFrame) -> pl.DataFrame:
        """Bars (`session`, `start`, `ts`) without those inside a break; one that runs into it ends where it begins.

        For sources that name a bar by where it starts and fill or overrun the break.
        """
        if self.is_daily or not self.breaks:
            return bars
        timed = bars.join(
            _hours_table(self.breaks).rename(BREAK_COLUMNS), on="session", how="left", maintain_order="left"
        )
        begin, end = (pl.col(name) for name in BREAK_COLUMNS.values())
        is_inside = (pl.col("start") >= begin) & (pl.col("ts") <= end)
        runs_in = (pl.col("ts") > begin) & (pl.col("ts") <= end)
        cut = timed.filter(~is_inside.fill_null(False)).with_columns(ts=pl.when(runs_in).then(begin).otherwise("ts"))
        return cut.drop(BREAK_COLUMNS.values())

    def _parts(self, table: pl.DataFrame) -> pl.DataFrame:
        """Sessions (`opens`, `closes`) parted at their breaks."""
        if not self.breaks:
            return table
        timed = table.join(_hours_table(self.breaks).rename(BREAK_COLUMNS), on="session", how="left")
        parts = pl.concat_list(
            pl.struct(opens="opens", closes=pl.coalesce("break_begins", "closes")),
            pl.when(pl.col("break_ends").is_not_null()).then(pl.struct(opens="break_ends", closes="closes")),
        ).list.drop_nulls()
        return timed.select("session", part=parts).explode("part").unnest("part")


BREAK_COLUMNS = {"opens": "break_begins", "closes": "break_ends"}

DAILY = BarGrid()


def _hours_table(hours: SessionHours) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "session": list(hours),
            "opens": [opens for opens, _ in hours.values()],
            "closes": [closes for _, closes in hours.values()],
        },
        schema={"session": pl.Date, "opens": pl.Datetime("us", "UTC"), "closes": pl.Datetime("us", "UTC")},
    ).sort("session")
