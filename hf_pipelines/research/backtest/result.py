"""What a backtest hands back, whichever engine ran it.

Lives here: `Execution`, `BacktestResult` (the frames people read) and the way to it from an account. Not here: the account
(`account.py`), how it is kept (`reference.py`), what a metric means (`metrics.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property

import numpy as np
import polars as pl

from hf_pipelines.research import metrics
from hf_pipelines.research.backtest.account import Account
from hf_pipelines.research.backtest.panel import Fill, TradingPanel
from hf_pipelines.research.backtest.round_trips import gains_by_symbol, round_trips
from hf_pipelines.research.costs import Costs
from hf_pipelines.research.metrics.account import check_periods

DEFAULT_INITIAL_CASH = 1_000_000.0

# An order below this fraction of equity is the rounding of weight * equity / close, not a wish to trade:
# without it a fully invested buy and hold would "trade" a billionth of a cent a day.
ROUNDING_ORDER = 1e-12

# Kinds of costs that every result has a column of, 0 where an engine does not charge them.
COSTS_OF_BARS = ("fees", "slippage", "borrow")
COSTS_OF_FILLS = ("fee", "slippage")


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How orders are filled, what limits them, and what the account begins with.

    Attributes
    ----------
    fill : {"next_open", "next_close", "next_vwap_proxy"}
        See `Fill`.
    initial_cash : float
        Currency of the prices.
    participation : float, optional
        Share of a bar's volume that an order may fill. What is left of it waits for the next bars, those without a bar of the
        symbol among them, until the next decision replaces it. None: no limit, and an order lives for one bar.
    lot_size : float, optional
        Shares that are held are whole multiples of it, rounded towards zero when an order is sized. None: fractions.
    cash_limit : bool
        Buys that cash does not cover are all scaled down by one factor; sells of the bar are booked first, short sales among
        them. Orders that cover shorts are buys.
    delisted_after_bars : int, optional
        Bars of the market without one of the symbol after which a position in it is paid out, at the last close less
        `delisting_haircut`, without costs. Nothing later is known by then: a symbol that comes back is a new one. None: it
        is kept at the last close.
    delisting_haircut : float
        Fraction of the last close that is lost.
    t_plus_one : bool
        Shares are not sold in the session in which they were bought: of a sell order only what was held into it is filled, what is left
        is dropped, or waits under `participation`. Short sales of an account without the shares are none of them. Of daily bars
        nothing changes: a session has one bar, and a purchase on it is sold on a later one.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    fill: Fill = "next_open"
    initial_cash: float = DEFAULT_INITIAL_CASH
    participation: float | None = None
    lot_size: float | None = None
    cash_limit: bool = False
    delisted_after_bars: int | None = None
    delisting_haircut: float = 0.0
    # Left out of the text while it is off: versions and the ledger of trials hold that text.
    t_plus_one: bool = field(default=False, repr=False)

    def __repr__(self) -> str:
        """Each field by its name."""
        told = [f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if each.repr or self.t_plus_one]
        return f"Execution({', '.join(told)})"

    def __post_init__(self) -> None:
        """Refuse what no account can be kept with."""
        rules = {
            "participation": (
                self.participation is None or 0.0 < self.participation <= 1.0,
                "be above 0 and at most 1",
            ),
            "lot_size": (
                self.lot_size is None or (math.isfinite(self.lot_size) and self.lot_size > 0.0),
                "be finite and above zero",
            ),
            "delisted_after_bars": (self.delisted_after_bars is None or self.delisted_after_bars >= 1, "be at least 1"),
            "delisting_haircut": (0.0 <= self.delisting_haircut <= 1.0, "be from 0 to 1"),
        }
        for name, (is_met, rule) in rules.items():
            if not is_met:
                raise ValueError(f"`{name}` must {rule}, was {getattr(self, name)}.")
        if self.delisting_haircut and self.delisted_after_bars is None:
            raise ValueError(
                f"`delisted_after_bars` must be given with a haircut ({self.delisting_haircut}), was None; say after how many bars "
                "without one a symbol is gone."
            )


def limits_of(execution: Execution) -> dict[str, object]:
    """What limits orders, by the names of capabilities: see `CAPABILITIES`."""
    asked = {
        "participation": execution.participation,
        "lots": execution.lot_size,
        "cash_limit": execution.cash_limit or None,
        "delistings": execution.delisted_after_bars,
        "t_plus_one": execution.t_plus_one or None,
    }
    return {name: value for name, value in asked.items() if value is not None}


def columns_of(execution: Execution, costs: Costs) -> tuple[str, ...]:
    """Columns of bars that fills, limits and costs read beside those of every backtest."""
    proxy = ("high", "low") if execution.fill == "next_vwap_proxy" else ()
    volume = ("volume",) if execution.participation is not None else ()
    return tuple(dict.fromkeys((*proxy, *volume, *costs.columns)))


@dataclass(frozen=True, eq=False, kw_only=True)
class BacktestResult:
    """A simulated account: where it stood, what it traded, how it fell, and the numbers that sum it up.

    Attributes
    ----------
    equity : DataFrame
        A row a bar from the first decision to the last bar. `session`, `ts`; `equity`, `cash` in currency
        at the close; `gross_exposure`, `net_exposure` as fractions of equity; `turnover`, the traded
        notional (both sides) over the equity it was decided on; `fees`, `slippage`, `borrow` paid and
        `dividends` received (negative: paid on shorts) on that bar, in currency; `drawdown`, a positive
        fraction of the peak. Another kind of cost that an engine charges has a column of its own after these.
    trades : DataFrame
        A row a fill, in order of time, then symbol. `symbol`; `session`, `ts` of the bar filled on (`ts` is
        that bar's close, also for a fill at its open); `decision_session`, `decision_ts` of the bar at whose
        close it was decided; `shares` signed, fractional
        allowed; `price` of the bar, before slippage; `notional` = shares * price; `fee`, `slippage` in
        currency.
    drawdowns : DataFrame
        A row an episode below a peak, in order of time. `start`, the session of the peak; `trough`; `end`,
        the first session at or above the peak again, null when open; `depth`, a positive fraction;
        `sessions` from `start` to `end` or to the last bar.
    metrics : mapping
        Fractions and counts, NaN where undefined: see `summarise`.
    account : Account
        The engine's own, on the rows and columns of `panel`.
    panel : TradingPanel
    periods_per_year : float
        Bars in a year, to annualise with.
    round_trips : DataFrame
        A row for each time that a symbol was held: entry, exit, size, profit, return and holding.
    """

    account: Account
    panel: TradingPanel
    periods_per_year: float

    # Each is made when it is first asked for: who sweeps thousands of accounts reads few of them.
    @cached_property
    def equity(self) -> pl.DataFrame:
        """The account bar by bar."""
        return equity_frame(self.account, self.panel)

    @cached_property
    def trades(self) -> pl.DataFrame:
        """Every fill."""
        return trades_frame(self.account, self.panel)

    @cached_property
    def drawdowns(self) -> pl.DataFrame:
        """Episodes below a peak."""
        return drawdowns_frame(self.equity)

    @cached_property
    def metrics(self) -> Mapping[str, float]:
        """The numbers that every account is judged by: see `summarise`, and `summarise_account` for all others."""
        return summarise(self.equity, self.account, periods_per_year=self.periods_per_year)

    @cached_property
    def round_trips(self) -> pl.DataFrame:
        """Trades from flat to flat with their profit: see `round_trips.round_trips`."""
        return round_trips(self.account, self.panel)


def build_result(account: Account, panel: TradingPanel, *, periods_per_year: float) -> BacktestResult:
    """Lay an engine's account out in frames: nothing that the engine knows is computed anew.

    Parameters
    ----------
    account : Account
        What the engine computed on `panel`.
    panel : TradingPanel
    periods_per_year : float
        Bars in a year, to annualise with.

    Returns
    -------
    BacktestResult

    Raises
    ------
    ValueError
        If `periods_per_year` is not above zero, or equity was not above zero throughout: with the session, the equity and the
        position that lost most.
    """
    check_periods(periods_per_year)
    require_solvent(account, panel)
    return BacktestResult(account=account, panel=panel, periods_per_year=periods_per_year)


def require_solvent(account: Account, panel: TradingPanel) -> None:
    """Refuse an account that was ruined, naming the session, its equity and the position that lost most on it.

    Raises
    ------
    ValueError
        If equity was not above zero throughout.
    """
    bad = np.flatnonzero(~(account.equity > 0.0))
    if not len(bad):
        return
    bar = int(bad[0])
    gains = gains_by_symbol(account, panel)[bar]
    worst = int(gains.argmin())
    raise ValueError(
        f"`equity` must stay above zero, was {account.equity[bar]:,.2f} after {panel.session[bar]} (bar {bar} of "
        f"{len(account.equity)}); {panel.symbols[worst]} lost most that day: {gains[worst]:,.2f} with "
        f"{account.positions[max(bar - 1, 0), worst]:,.6g} shares held into it; lower the leverage."
    )


def equity_frame(account: Account, panel: TradingPanel) -> pl.DataFrame:
    """`BacktestResult.equity` of an account."""
    others = {kind: paid for kind, paid in account.costs.items() if kind not in COSTS_OF_BARS}
    return pl.DataFrame(
        {
            "session": panel.session,
            "ts": panel.ts,
            "equity": account.equity,
            "cash": account.cash,
            "gross_exposure": account.gross_value / account.equity,
            "net_exposure": account.net_value / account.equity,
            "turnover": metrics.turnover(account.traded_value, account.equity),
            **{kind: account.costs.get(kind, np.zeros(len(account.equity))) for kind in COSTS_OF_BARS},
            "dividends": account.dividends,
            "drawdown": metrics.drawdown(account.equity),
            **others,
        }
    )


def trades_frame(account: Account, panel: TradingPanel) -> pl.DataFrame:
    """`BacktestResult.trades` of an account."""
    fills = account.fills
    return pl.DataFrame(
        {
            "symbol": panel.symbols.gather(fills.symbol),
            "session": panel.session.gather(fills.bar),
            "ts": panel.ts.gather(fills.bar),
            "decision_session": panel.session.gather(fills.decision_bar),
            "decision_ts": panel.ts.gather(fills.decision_bar),
            "shares": fills.shares,
            "price": fills.price,
            "notional": fills.shares * fills.price,
            **{kind: fills.costs.get(kind, np.zeros(len(fills.shares))) for kind in COSTS_OF_FILLS},
            **{kind: paid for kind, paid in fills.costs.items() if kind not in COSTS_OF_FILLS},
        }
    )


def drawdowns_frame(equity: pl.DataFrame) -> pl.DataFrame:
    """Episodes below a peak, from the `session` and `drawdown` columns of an equity frame."""
    fall, session = equity["drawdown"].to_numpy(), equity["session"]
    is_below = np.concatenate([[False], fall > 0.0, [False]])
    # A run of rows below the peak: the row before it is the peak, the row after it the recovery.
    first = np.flatnonzero(is_below[1:] & ~is_below[:-1])
    after = np.flatnonzero(~is_below[1:] & is_below[:-1])
    trough = np.array(
        [start + int(fall[start:stop].argmax()) for start, stop in zip(first, after, strict=True)], np.int64
    )
    last = np.minimum(after, len(fall) - 1)
    ordinal = session.rank("dense").cast(pl.Int64)
    end = session.gather(last).set(pl.Series(after == len(fall)), None)
    return pl.DataFrame(
        {
            "start": session.gather(first - 1),
            "trough": session.gather(trough),
            "end": end,
            "depth": fall[trough],
            "sessions": ordinal.gather(last) - ordinal.gather(first - 1),
        }
    )


def summarise(equity: pl.DataFrame, account: Account, *, periods_per_year: float) -> dict[str, float]:
    """Metrics of a backtest.

    Parameters
    ----------
    equity : DataFrame
        As `BacktestResult.equity`.
    account : Account
        The account it was made from.
    periods_per_year : float
        Bars in a year.

    Returns
    -------
    dict
        Return and risk, from bar returns: `total_return`, `annual_return`, `annual_volatility`,
        `sharpe_ratio`, `max_drawdown`, `hit_rate`. Activity: `turnover_per_year` (both sides),
        `mean_gross_exposure`, `n_sessions`, `n_bars`, `n_trades`, `unfilled_orders`. As fractions of the initial cash:
        `costs_total` (all kinds of costs), `fees_total`, `slippage_total`, `borrow_total` and other kinds,
        `dividends_total`, `min_cash` (negative: money was borrowed). NaN where the data leaves a number
        undefined, e.g. the Sharpe ratio of an account that never traded, and of fewer than `ANNUAL_SESSIONS`
        sessions all that is annualised: the annual return and volatility, the Sharpe ratio, the turnover a year.
    """
    values = equity["equity"].to_numpy()
    returns = metrics.returns_of(values)
    initial = values[0]
    totals = {
        f"{kind}_total": account.costs.get(kind, np.zeros(1)).sum() / initial
        for kind in dict.fromkeys((*COSTS_OF_BARS, *account.costs))
    }
    annual = {
        "annual_return": metrics.annual_return(values, periods_per_year=periods_per_year),
        "annual_volatility": metrics.annual_volatility(returns, periods_per_year=periods_per_year),
        "sharpe_ratio": metrics.sharpe_ratio(returns, periods_per_year=periods_per_year),
        # Nothing can be traded on the first bar: it is no period of its own.
        "turnover_per_year": equity["turnover"].to_numpy().sum() / max(len(returns), 1) * periods_per_year,
    }
    n_sessions = equity["session"].n_unique()
    if n_sessions < metrics.ANNUAL_SESSIONS:
        annual = dict.fromkeys(annual, math.nan)
    summary = {
        "total_return": metrics.total_return(values),
        **annual,
        "max_drawdown": metrics.max_drawdown(values),
        "hit_rate": metrics.hit_rate(returns),
        "mean_gross_exposure": equity["gross_exposure"].to_numpy().mean(),
        "costs_total": sum(totals.values()),
        **totals,
        "dividends_total": account.dividends.sum() / initial,
        "min_cash": account.cash.min() / initial,
    }
    counts = {
        "n_sessions": n_sessions,
        "n_bars": len(values),
        "n_trades": account.n_fills,
        "unfilled_orders": account.unfilled_orders,
    }
    return {name: float(value) for name, value in {**summary, **counts}.items()}
