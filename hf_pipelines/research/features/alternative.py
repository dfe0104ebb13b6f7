"""Alternative features: what insiders bought and what is sold short, as known before the session opened.

Here: net insider purchases and short interest. Not here: which row counts when, and the splits in between
(`point_in_time.py`); the tables' contracts (`references.py`).

A number of shares counts them as on its own day: the splits since are applied, as far as the window of `_SPLIT_DAYS` holds
them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from hf_pipelines.research.features.feature import Feature, Input
from hf_pipelines.research.features.lazy_kernel import window_kernel
from hf_pipelines.research.features.panel import Panel
from hf_pipelines.research.features.panel_columns import BoolArray, FloatArray, OffsetArray
from hf_pipelines.research.features.point_in_time import (
    DAY,
    Arrivals,
    KnownTable,
    days_in_ticks,
    fill_slots,
    finite,
    known_table,
    latest_known,
    over_rows,
    ratio,
    split_growth,
    versions_known,
)
from hf_pipelines.research.features.windows import Window, windowed

INSIDER_DAYS = 90

# Short interest is settled twice a month and published about ten days later: what is older is late.
STALE_AFTER_DAYS = 45

# From an arrival back to the report before three others, with the time that publication takes.
_REACH_DAYS = 120
_REPORTS = 4

# The 90 days of insiders, and four reports of short interest of which the newest is about to be late.
_SPLIT_DAYS = 128
_USUAL_BARS = 60

_INSIDER_REFERENCE_DAYS = INSIDER_DAYS + 2
_SHORT_REFERENCE_DAYS = _REACH_DAYS + STALE_AFTER_DAYS + 2


@dataclass(frozen=True, eq=False)
class NetPurchases:
    """Sums over the insider trades of the last 90 days, one value a row of the panel."""

    count: FloatArray
    shares: FloatArray
    value: FloatArray


def read_insider_trades(panel: Panel) -> NetPurchases:
    """Purchases minus sales of the 90 calendar days before each wanted row's open, of trades known by then.

    Returns
    -------
    NetPurchases
        NaN in rows that are not wanted, and `shares` where the symbol's bars do not reach back `_SPLIT_DAYS`.

    Raises
    ------
    ValueError
        If the panel holds no insider trades.
    """
    table = known_table(panel, "insider_trades", by="event_time", columns=("event_time", "trade_id", "shares", "value"))
    # A trade's later version replaces it from its own availability on.
    replaced = (
        table.frame.select("owner", "trade_id", "available_at")
        .with_row_index("row")
        .sort("owner", "trade_id", "available_at", "row")
        .with_columns(pl.col("available_at").shift(-1).over("owner", "trade_id"))
        .sort("row")["available_at"]
    )
    sums = np.full((3, panel.close.size), np.nan)
    _sum_trades(
        panel.starts, panel.first_readable, _ticks(panel.session_open), panel.split_ratio, panel.is_wanted,
        table.offsets, _ticks(table.time("event_time")), _ticks(table.available_at),
        replaced.cast(pl.Int64).fill_null(np.iinfo(np.int64).max).to_numpy(),
        table.figure("shares"), table.figure("value"), days_in_ticks(INSIDER_DAYS), days_in_ticks(_SPLIT_DAYS), sums,
    )  # fmt: skip
    return NetPurchases(*sums)


def _ticks(times: np.ndarray) -> OffsetArray:
    return times.view(np.int64)


@window_kernel
def _sum_trades(
    starts: OffsetArray, first_readable: OffsetArray, opens: OffsetArray, split_ratio: FloatArray, is_wanted: BoolArray,
    offsets: OffsetArray, traded: OffsetArray, available: OffsetArray, replaced: OffsetArray,
    shares: FloatArray, value: FloatArray, span: int, lookback: int, sums: FloatArray,
) -> None:  # fmt: skip
    unknown = np.iinfo(np.int64).min
    split_before = np.empty(split_ratio.size, dtype=np.int64)
    for symbol in range(starts.size - 1):
        begin, end = offsets[symbol], offsets[symbol + 1]
        after = begin  # The first trade that is not before the row.
        event = starts[symbol] - 1  # The symbol's latest split.
        since = starts[symbol]  # The first row from which on all opens are known.
        for row in range(starts[symbol], starts[symbol + 1]):
            moment = opens[row]
            if split_ratio[row] != 1.0:
                split_before[row] = event
                event = row
            if moment == unknown:
                since = row + 1
            if not is_wanted[row] or moment == unknown:
                continue
            while after < end and traded[after] < moment:
                after += 1
            count, paid = 0.0, 0.0
            bar, growth = event, 1.0
            # Splits before the window are not seen.
            total = 0.0 if opens[max(first_readable[row], since)] <= moment - lookback else np.nan
            for trade in range(after - 1, begin - 1, -1):
                if traded[trade] <= moment - span:
                    break
                if available[trade] >= moment or replaced[trade] < moment:
                    continue
                while bar >= starts[symbol] and opens[bar] > traded[trade]:
                    growth *= split_ratio[bar]
                    bar = split_before[bar]
                count += np.sign(shares[trade])
                total += shares[trade] * growth
                paid += value[trade]
            sums[0, row], sums[1, row], sums[2, row] = count, total, paid


@window_kernel
def usual_volume(open_: Window, high: Window, low: Window, close: Window, volume: Window) -> float:
    """Mean volume of the window."""
    return float(np.mean(volume))


@window_kernel
def usual_turnover(open_: Window, high: Window, low: Window, close: Window, volume: Window) -> float:
    """Mean of close times volume, in quote currency."""
    return float(np.mean(close * volume))


def insider_net_buys_90(panel: Panel, trades: NetPurchases) -> FloatArray:
    """Number of insider purchases minus sales, 0 where none was reported."""
    return trades.count


def insider_net_shares_90(panel: Panel, trades: NetPurchases) -> FloatArray:
    """Shares that insiders bought minus sold, in days of usual volume; NaN without volume."""
    return ratio(trades.shares, windowed(usual_volume, _USUAL_BARS)(panel))


def insider_net_value_90(panel: Panel, trades: NetPurchases) -> FloatArray:
    """What insiders paid minus received, in days of usual turnover; NaN without volume or if a value is not known."""
    return ratio(trades.value, windowed(usual_turnover, _USUAL_BARS)(panel))


_OF_TRADES: dict[str, Callable[[Panel, NetPurchases], FloatArray]] = {
    function.__name__: function for function in (insider_net_buys_90, insider_net_shares_90, insider_net_value_90)
}


def _trades_together(panel: Panel, names: Sequence[str]) -> list[FloatArray]:
    """The named features of insider trades, from one reading of them."""
    trades = read_insider_trades(panel)
    return [finite(_OF_TRADES[name](panel, trades)) for name in names]


@dataclass(frozen=True, eq=False)
class ShortReports:
    """Reports of short interest known at the wanted rows of a panel.

    Attributes
    ----------
    panel : Panel
    rows : int64 array of shape (n_wanted,)
    table : KnownTable
    reports : int64 array of shape (n_wanted, 4)
        Positions in `table` of the newest settlement known and of the three before it, -1 where there is none or the
        newest is stale.
    """

    panel: Panel
    rows: OffsetArray
    table: KnownTable
    reports: OffsetArray

    def figure(self, name: str, back: int = 0) -> FloatArray:
        """Figure of the report `back` settlements before the newest."""
        return self.table.figure(name)[self.reports[:, back]]

    def growth_since(self, back: int) -> FloatArray:
        """Product of the splits between the settlement `back` before the newest and the newest."""
        times = self.table.time("event_time")
        after, until = (np.full(self.panel.close.size, np.datetime64("NaT", "us")) for _ in range(2))
        after[self.rows] = times[self.reports[:, back]]
        until[self.rows] = times[self.reports[:, 0]]
        return split_growth(self.panel, after, until=until, lookback_days=_SPLIT_DAYS)[self.rows]


def read_short_interest(panel: Panel) -> ShortReports:
    """Lay out the reports of short interest that were known at the panel's wanted rows.

    Raises
    ------
    ValueError
        If the panel holds no short interest.
    """
    figures = ("shares_short", "average_daily_volume", "shares_outstanding")
    table = known_table(panel, "short_interest", columns=("event_time", *figures))
    arrivals: Arrivals = versions_known(table, reach_days=_REACH_DAYS)
    back = pl.col("event_time").rank("ordinal", descending=True).over("arrival").cast(pl.Int64) - 1
    n_arrivals = arrivals.moments.frame.height
    slots = fill_slots(arrivals.versions, back, n_arrivals=n_arrivals, n_slots=_REPORTS)
    slots = np.vstack([slots, np.full((1, _REPORTS), -1)])
    rows = np.flatnonzero(panel.is_wanted)
    at = latest_known(panel, arrivals.moments)[rows]
    published = table.time("available_at")[slots[at, 0]]
    is_fresh = panel.session_open[rows] - published <= STALE_AFTER_DAYS * DAY
    return ShortReports(panel, rows, table, slots[np.where(is_fresh, at, -1)])


def short_interest_ratio(reports: ShortReports) -> FloatArray:
    """Shares sold short over shares outstanding, both as of the newest settlement."""
    return ratio(reports.figure("shares_short"), reports.figure("shares_outstanding"))


def days_to_cover(reports: ShortReports) -> FloatArray:
    """Shares sold short over the average daily volume that the same report states; NaN where that is 0."""
    return ratio(reports.figure("shares_short"), reports.figure("average_daily_volume"))


def _change(reports: ShortReports, back: int) -> FloatArray:
    """NaN also where reports are missing for so long that the one before lies outside the window."""
    before = reports.figure("shares_short", back) * reports.growth_since(back)
    return ratio(reports.figure("shares_short"), before) - 1.0


def short_interest_change_1(reports: ShortReports) -> FloatArray:
    """Growth of the shares sold short since the report before, splits taken out; NaN if there were none then."""
    return _change(reports, 1)


def short_interest_change_3(reports: ShortReports) -> FloatArray:
    """Growth of the shares sold short since the third report before, splits taken out; NaN if there were none then."""
    return _change(reports, 3)


_OF_REPORTS: dict[str, Callable[[ShortReports], FloatArray]] = {
    function.__name__: function
    for function in (short_interest_ratio, days_to_cover, short_interest_change_1, short_interest_change_3)
}


def _reports_together(panel: Panel, names: Sequence[str]) -> list[FloatArray]:
    """The named features of short interest, from one reading of the reports."""
    reports = read_short_interest(panel)
    return [over_rows(panel, reports.rows, finite(_OF_REPORTS[name](reports))) for name in names]


def _insider(
    function: Callable[[Panel, NetPurchases], FloatArray], *, bars: int = 1, days: int = 0, inputs: tuple[Input, ...] = (),
    formula: str, source: str = "",
) -> Feature:  # fmt: skip
    name = function.__name__

    def compute(panel: Panel) -> FloatArray:
        return _trades_together(panel, [name])[0]

    compute.__doc__ = function.__doc__
    return Feature(
        name, "alternative", compute, bars, ("insider_trades", "session_open", *inputs), formula, source,
        together=_trades_together, lookback_days=days, reference_days=_INSIDER_REFERENCE_DAYS,
    )  # fmt: skip


def _short(function: Callable[[ShortReports], FloatArray], *, days: int = 0, formula: str, source: str = "") -> Feature:
    name = function.__name__

    def compute(panel: Panel) -> FloatArray:
        return _reports_together(panel, [name])[0]

    compute.__doc__ = function.__doc__
    return Feature(
        name, "alternative", compute, 1, ("short_interest", "session_open"), formula, source,
        together=_reports_together, lookback_days=days, reference_days=_SHORT_REFERENCE_DAYS,
    )  # fmt: skip


FEATURES = (
    _insider(insider_net_buys_90,
             formula="insider purchases - sales of 90 days, a number of trades",
             source="Lakonishok & Lee (2001), Are Insider Trades Informative?, Review of Financial Studies 14(1)"),
    _insider(insider_net_shares_90, bars=_USUAL_BARS, days=_SPLIT_DAYS, inputs=("volume",),
             formula="insiders' net shares of 90 days / mean(volume, 60)"),
    _insider(insider_net_value_90, bars=_USUAL_BARS, inputs=("close", "volume"),
             formula="insiders' net payments of 90 days / mean(close * volume, 60)"),
    _short(short_interest_ratio, formula="shares short / shares outstanding",
           source="Boehmer, Jones & Zhang (2008), Which Shorts Are Informed?, J. Finance 63(2)"),
    _short(days_to_cover, formula="shares short / average daily volume of the report",
           source="Hong, Li, Ni, Scheinkman & Yan (2015), Days to Cover and Stock Returns, NBER 21166"),
    _short(short_interest_change_1, days=_SPLIT_DAYS, formula="shares short / those of the report before - 1"),
    _short(short_interest_change_3, days=_SPLIT_DAYS, formula="shares short / those of the third report before - 1"),
)  # fmt: skip
