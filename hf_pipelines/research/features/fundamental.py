"""Fundamental features: filings as they were known before the session opened, and prices in units of them.

Here: what is derived from the filings known at each arrival (`Filings`), and the ratios. Not here: which filing
counts when, and the splits since (`point_in_time.py`); the filings' contract (`references.py`).

Trailing twelve months (TTM) at a filing: a 10-K is its own year. At the k-th quarter of a year: the year before, plus
the k quarters of this year, minus the same k quarters of the year before, each as known then. That is the sum of the
last four quarters, the fourth being the year less its three. Cash flow, filed as year to date, is the year before plus
this year to date minus last year to date. A filing that is missing makes the sum NaN.

Per-share figures are used inside their own filing only, where they count the same shares: net income / eps are its
(average diluted) shares, if it names none. Those are multiplied with the splits since the filing became available,
which the window of `_SPLIT_DAYS` has to hold: a filing counts for `STALE_AFTER_DAYS`. Filers have 90 days for a 10-K and 45
for a 10-Q: a company without a filing for longer is late.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from hf_pipelines.research.features.feature import Feature, Input
from hf_pipelines.research.features.panel import Panel
from hf_pipelines.research.features.panel_columns import FloatArray, OffsetArray
from hf_pipelines.research.features.point_in_time import (
    DAY,
    TimeArray,
    fill_slots,
    finite,
    known_table,
    latest_known,
    over_rows,
    ratio,
    split_growth,
    versions_known,
)
from hf_pipelines.research.references import FISCAL_PERIODS

STALE_AFTER_DAYS = 182

_SPLIT_DAYS = STALE_AFTER_DAYS + 1

# At a third quarter TTM reaches back to the first quarter of last year: six quarters and the time it took to file.
_REACH_DAYS = 2 * 366
REFERENCE_DAYS = _REACH_DAYS + STALE_AFTER_DAYS + 2

# Quarters before the newest period that TTM and growth read, and how far a period's end may lie from a round quarter:
# some retailers' years have three quarters of 12 weeks and one of 16.
_SLOTS = 7
_QUARTER_DAYS = 365.25 / 4.0
_TOLERANCE_DAYS = 30.0
_YEAR = 4

# Eps are filed in cents: below this their rounding moves the shares they imply by more than a tenth.
_SMALLEST_EPS = 0.05

# Sectors of a market that have a column of their own; GICS has eleven.
_N_SECTORS = 11


@dataclass(frozen=True, eq=False)
class Filings:
    """Figures of the filings known at the wanted rows of a panel; every array has one value a wanted row.

    Attributes
    ----------
    panel : Panel
    rows : int64 array of shape (n_wanted,)
        The panel's wanted rows.
    figures : dict of name to float64 array of shape (n_filings + 1,)
        The table's columns, NaN at the end.
    slots : int64 array of shape (n_arrivals + 1, 7)
        Position of the filing `q` quarters before the newest period in column `q`, as known at the arrival; -1 if
        there was none, as in all of the last row.
    quarter : int64 array of shape (n_arrivals + 1,)
        1 to 3 where the newest period is that quarter, 0 where it is a year, -1 where there is none.
    at : int64 array of shape (n_wanted,)
        The arrival that counts for the row, -1 where there is none or its newest period is stale.
    filed_at : datetime64[us] array of shape (n_wanted,)
        When the filing of the newest period became available, NaT where there is none.
    """

    panel: Panel
    rows: OffsetArray
    figures: dict[str, FloatArray]
    slots: OffsetArray
    quarter: OffsetArray
    at: OffsetArray
    filed_at: TimeArray

    def latest(self, figure: str) -> FloatArray:
        """Figure of the newest period."""
        return np.asarray(self.figures[figure][self.slots[self.at, 0]])

    def year_ago(self, figure: str) -> FloatArray:
        """Figure of the same period one year before."""
        return np.asarray(self._matching(figure)[:, _YEAR][self.at])

    def trailing_year(self, figure: str) -> FloatArray:
        """TTM of a figure that covers the filing's own period."""
        value = self._matching(figure)
        total = np.where(self.quarter == 0, value[:, 0], np.nan)
        for quarter in (1, 2, 3):
            year = value[:, quarter].copy()
            for back in range(quarter):
                year += value[:, back] - value[:, _YEAR + back]
            total = np.where(self.quarter == quarter, year, total)
        return total[self.at]

    def trailing_year_to_date(self, figure: str) -> FloatArray:
        """TTM of a figure that covers the year to date."""
        value = self._matching(figure)
        at_year_end = value[np.arange(value.shape[0]), np.maximum(self.quarter, 0)]
        since = np.where(self.quarter > 0, value[:, 0] - value[:, _YEAR], 0.0)
        return np.where(self.quarter < 0, np.nan, at_year_end + since)[self.at]

    @functools.cached_property
    def market_value(self) -> FloatArray:
        """Raw close times the filing's shares times the splits since; NaN where the shares are not known."""
        filed_at = np.full(self.panel.close.size, np.datetime64("NaT", "us"))
        filed_at[self.rows] = self.filed_at
        growth = split_growth(self.panel, filed_at, lookback_days=_SPLIT_DAYS)[self.rows]
        value = self.panel.close[self.rows] * self.latest("filing_shares") * growth
        return np.where(value > 0.0, value, np.nan)

    @functools.cached_property
    def sector_at_time(self) -> OffsetArray:
        """One number a sector and time."""
        ts = self.panel.keys["ts"].gather(self.rows).rank("dense").to_numpy().astype(np.int64)
        return np.asarray(ts * (int(self.panel.sector.max(initial=0)) + 2) + self.panel.sector[self.rows])

    def _matching(self, figure: str) -> FloatArray:
        """The figure in all slots, NaN where the slot's filing is not of the quarter that belongs there."""
        due = np.where(self.quarter[:, None] < 0, -1, (self.quarter[:, None] - np.arange(_SLOTS)) % 4)
        return np.where(self.figures["quarter"][self.slots] == due, self.figures[figure][self.slots], np.nan)


def read_filings(panel: Panel) -> Filings:
    """Lay out the filings that were known at the panel's wanted rows.

    Raises
    ------
    ValueError
        If the panel holds no fundamentals.
    """
    table = known_table(panel, "fundamentals")
    arrivals = versions_known(table, reach_days=_REACH_DAYS)
    days = (pl.col("latest_event") - pl.col("event_time")).dt.total_seconds() / 86_400.0
    slot = (days / _QUARTER_DAYS).round()
    is_near = (days - slot * _QUARTER_DAYS).abs() <= _TOLERANCE_DAYS
    n_arrivals = arrivals.moments.frame.height
    slots = fill_slots(
        arrivals.versions, pl.when(is_near).then(slot.cast(pl.Int64)), n_arrivals=n_arrivals, n_slots=_SLOTS
    )
    slots = np.vstack([slots, np.full((1, _SLOTS), -1)])
    figures = _figures(table.frame)
    rows = np.flatnonzero(panel.is_wanted)
    at = latest_known(panel, arrivals.moments)[rows]
    filed_at = table.time("available_at")[slots[at, 0]]
    is_fresh = panel.session_open[rows] - filed_at <= STALE_AFTER_DAYS * DAY
    return Filings(
        panel=panel,
        rows=rows,
        figures=figures,
        slots=slots,
        quarter=np.nan_to_num(figures["quarter"][slots[:, 0]], nan=-1).astype(np.int64),
        at=np.where(is_fresh, at, -1),
        filed_at=np.where(is_fresh, filed_at, np.datetime64("NaT", "us")),
    )


def _figures(frame: pl.DataFrame) -> dict[str, FloatArray]:
    names = [name for name, dtype in frame.schema.items() if dtype == pl.Float64]
    figures = {name: np.append(frame[name].fill_null(np.nan).to_numpy(), np.nan) for name in names}
    quarter = {period: (number + 1) % 4 for number, period in enumerate(FISCAL_PERIODS)}
    of_filing = frame["period"].replace_strict(quarter, default=None, return_dtype=pl.Float64)
    figures["quarter"] = np.append(of_filing.fill_null(np.nan).to_numpy(), np.nan)
    is_clear = np.abs(figures["eps"]) >= _SMALLEST_EPS
    implied = np.where(is_clear, figures["net_income"] / np.where(is_clear, figures["eps"], 1.0), np.nan)
    shares = np.where(np.isnan(figures["shares"]), implied, figures["shares"])
    figures["filing_shares"] = np.where(shares > 0.0, shares, np.nan)
    # No dividend is no dividend, whether the shares are known or not.
    paid = figures["dividend"] * figures["filing_shares"]
    figures["dividends_paid"] = np.where(figures["dividend"] == 0.0, 0.0, paid)
    figures["ebitda"] = figures["operating_income"] + figures["depreciation"]
    return figures


def price_to_earnings(filings: Filings) -> FloatArray:
    """Market value over TTM net income; NaN where earnings are not positive (see `earnings_yield`)."""
    return ratio(filings.market_value, filings.trailing_year("net_income"))


def earnings_yield(filings: Filings) -> FloatArray:
    """TTM net income over market value, negative for a loss."""
    return ratio(filings.trailing_year("net_income"), filings.market_value)


def price_to_book(filings: Filings) -> FloatArray:
    """Market value over equity; NaN where equity is not positive (see `book_to_price`)."""
    return ratio(filings.market_value, filings.latest("equity"))


def book_to_price(filings: Filings) -> FloatArray:
    """Equity over market value, negative where debts exceed assets."""
    return ratio(filings.latest("equity"), filings.market_value)


def price_to_sales(filings: Filings) -> FloatArray:
    """Market value over TTM revenue; NaN where revenue is not positive."""
    return ratio(filings.market_value, filings.trailing_year("revenue"))


def ev_to_ebitda(filings: Filings) -> FloatArray:
    """Market value plus debt minus cash, over TTM EBITDA; NaN where that is not positive or debt is not known."""
    enterprise_value = filings.market_value + filings.latest("debt") - filings.latest("cash")
    return ratio(enterprise_value, filings.trailing_year("ebitda"))


def dividend_yield(filings: Filings) -> FloatArray:
    """TTM dividends over market value, 0 for a company that pays none."""
    return ratio(filings.trailing_year("dividends_paid"), filings.market_value)


def return_on_equity(filings: Filings) -> FloatArray:
    """TTM net income over equity; NaN where equity is not positive."""
    return ratio(filings.trailing_year("net_income"), filings.latest("equity"))


def gross_margin(filings: Filings) -> FloatArray:
    """TTM gross profit over TTM revenue; NaN where revenue is not positive."""
    return ratio(filings.trailing_year("gross_profit"), filings.trailing_year("revenue"))


def operating_margin(filings: Filings) -> FloatArray:
    """TTM operating income over TTM revenue; NaN where revenue is not positive."""
    return ratio(filings.trailing_year("operating_income"), filings.trailing_year("revenue"))


def net_margin(filings: Filings) -> FloatArray:
    """TTM net income over TTM revenue; NaN where revenue is not positive."""
    return ratio(filings.trailing_year("net_income"), filings.trailing_year("revenue"))


def current_ratio(filings: Filings) -> FloatArray:
    """Current assets over current liabilities; NaN where there are none, as banks file neither."""
    return ratio(filings.latest("current_assets"), filings.latest("current_liabilities"))


def debt_to_equity(filings: Filings) -> FloatArray:
    """Interest-bearing debt over equity; NaN where equity is not positive or debt is not known."""
    return ratio(filings.latest("debt"), filings.latest("equity"))


def liabilities_to_equity(filings: Filings) -> FloatArray:
    """Assets minus equity, over equity; NaN where equity is not positive."""
    equity = filings.latest("equity")
    return ratio(filings.latest("assets") - equity, equity)


def asset_turnover(filings: Filings) -> FloatArray:
    """TTM revenue over the newest assets; NaN where assets are not positive."""
    return ratio(filings.trailing_year("revenue"), filings.latest("assets"))


def revenue_growth(filings: Filings) -> FloatArray:
    """Revenue of the newest period over that of the same period a year before, minus 1; NaN if that is not positive."""
    return ratio(filings.latest("revenue"), filings.year_ago("revenue")) - 1.0


def earnings_growth(filings: Filings) -> FloatArray:
    """Change of net income against the same period a year before, over its size then; NaN if it was 0."""
    before = filings.year_ago("net_income")
    return ratio(filings.latest("net_income") - before, np.abs(before))


def accruals(filings: Filings) -> FloatArray:
    """TTM net income less TTM operating cash flow, over the newest assets; NaN where assets are not positive."""
    cash = filings.trailing_year_to_date("operating_cash_flow")
    return ratio(filings.trailing_year("net_income") - cash, filings.latest("assets"))


def days_since_filing(filings: Filings) -> FloatArray:
    """Whole days from when the newest period's filing became available to the session's open."""
    return np.floor((filings.panel.session_open[filings.rows] - filings.filed_at) / DAY)


def _over_sector(filings: Filings, values: FloatArray) -> FloatArray:
    """Values over the median of the members of the sector with a value at the same time, minus 1.

    NaN without a sector, and where the median is not positive.
    """
    panel, rows = filings.panel, filings.rows
    at = pl.DataFrame({"sector": filings.sector_at_time, "value": values})
    median = at.select(pl.col("value").fill_nan(None).median().over("sector"))["value"]
    known = np.where(panel.sector[rows] >= 0, median.fill_null(np.nan).to_numpy(), np.nan)
    return ratio(values, known) - 1.0


def sector_number(panel: Panel) -> FloatArray:
    """Number of the symbol's sector among those of the market, in alphabetical order; NaN where it has none."""
    return np.where(panel.sector >= 0, panel.sector.astype(np.float64), np.nan)


def _sector_is(code: int) -> Callable[[Panel], FloatArray]:
    def compute(panel: Panel) -> FloatArray:
        """1 where the symbol is of the sector, 0 where it is of another, NaN where it has none."""
        return np.where(panel.sector >= 0, (panel.sector == code).astype(np.float64), np.nan)

    return compute


_RATIOS: dict[str, Callable[[Filings], FloatArray]] = {}


def _together(panel: Panel, names: Sequence[str]) -> list[FloatArray]:
    """The named features, from one reading of the filings."""
    filings = read_filings(panel)
    return [over_rows(panel, filings.rows, finite(_RATIOS[name](filings))) for name in names]


_SECTOR_PREFIX = "sector_relative_"
_FILED: tuple[Input, ...] = ("fundamentals", "session_open")


def _feature(
    function: Callable[[Filings], FloatArray], *, formula: str, days: int = 0, inputs: tuple[Input, ...] = (),
    name: str = "", source: str = "",
) -> Feature:  # fmt: skip
    name = name or function.__name__

    def compute(panel: Panel) -> FloatArray:
        return _together(panel, [name])[0]

    compute.__doc__ = function.__doc__
    _RATIOS[name] = function
    return Feature(
        name, "fundamental", compute, 1, (*_FILED, *inputs), formula, source, together=_together,
        lookback_days=days, reference_days=REFERENCE_DAYS,
    )  # fmt: skip


def _valued(function: Callable[[Filings], FloatArray], *, formula: str, source: str = "") -> Feature:
    return _feature(function, formula=formula, days=_SPLIT_DAYS, inputs=("close",), source=source)


def _against_sector(function: Callable[[Filings], FloatArray]) -> Feature:
    def relative(filings: Filings) -> FloatArray:
        return _over_sector(filings, function(filings))

    relative.__doc__ = f"`{function.__name__}` {_over_sector.__doc__}"
    name = function.__name__
    return _feature(
        relative, name=f"{_SECTOR_PREFIX}{name}", formula=f"{name} / median({name} of the sector's members) - 1",
        days=_SPLIT_DAYS, inputs=("close", "sector", "universe"),
    )  # fmt: skip


_VALUATIONS = (price_to_earnings, price_to_book, price_to_sales, ev_to_ebitda)

FEATURES = (
    _valued(price_to_earnings, formula="market value / TTM net income",
            source="Basu (1977), Investment Performance of Common Stocks, J. Finance 32(3)"),
    _valued(earnings_yield, formula="TTM net income / market value"),
    _valued(price_to_book, formula="market value / equity",
            source="Fama & French (1992), The Cross-Section of Expected Stock Returns, J. Finance 47(2)"),
    _valued(book_to_price, formula="equity / market value"),
    _valued(price_to_sales, formula="market value / TTM revenue"),
    _valued(ev_to_ebitda, formula="(market value + debt - cash) / (TTM operating income + TTM depreciation)",
            source="Loughran & Wellman (2011), New Evidence on the Relation between the Enterprise Multiple and "
                   "Average Stock Returns, J. Financial and Quantitative Analysis 46(6)"),
    *(_against_sector(function) for function in _VALUATIONS),
    _valued(dividend_yield, formula="TTM dividends / market value"),
    _feature(return_on_equity, formula="TTM net income / equity"),
    _feature(gross_margin, formula="TTM gross profit / TTM revenue"),
    _feature(operating_margin, formula="TTM operating income / TTM revenue"),
    _feature(net_margin, formula="TTM net income / TTM revenue"),
    _feature(current_ratio, formula="current assets / current liabilities"),
    _feature(debt_to_equity, formula="debt / equity"),
    _feature(liabilities_to_equity, formula="(assets - equity) / equity"),
    _feature(asset_turnover, formula="TTM revenue / assets"),
    _feature(revenue_growth, formula="revenue / revenue of the same period a year before - 1"),
    _feature(earnings_growth, formula="(net income - net income a year before) / |net income a year before|"),
    _feature(accruals, formula="(TTM net income - TTM operating cash flow) / assets",
             source="Sloan (1996), Do Stock Prices Fully Reflect Information in Accruals and Cash Flows about Future "
                    "Earnings?, The Accounting Review 71(3); by cash flow instead of balance sheet changes"),
    _feature(days_since_filing, formula="whole days since the newest period's filing became available"),
    *(Feature(f"sector_is_{code:02d}", "fundamental", _sector_is(code), 1, ("sector",),
              f"1 if the symbol's sector is number {code} of the market's, in alphabetical order, else 0")
      for code in range(_N_SECTORS)),
    Feature("sector_number", "fundamental", sector_number, 1, ("sector",),
            "number of the symbol's sector among the market's, in alphabetical order, from 0: for `categories` of a learner"),
)  # fmt: skip
