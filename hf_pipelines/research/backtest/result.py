"""What a backtest hands back, whichever engine ran it.

Lives here: `Account` (arrays of what an engine did, bar by bar), `BacktestResult` (the frames people read) and the way from
one to the other. Not here: how an account is kept (`reference.py`), what a metric means (`metrics.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from hf_pipelines.research import metrics
from hf_pipelines.research.backtest.panel import Floats, TradingPanel
from hf_pipelines.research.costs import Costs

Fill = Literal["next_open", "next_close"]
"""Where a decision at the close of bar t is filled: at the open, or the close, of bar t + 1. Never on t."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Account:
    """The account after each bar, in currency; arrays of shape (n_bars,) unless said otherwise.

    Identities, exact up to rounding: `equity = cash + net_value`, and the change of `equity` is the gain on
    the shares held + `dividends` - `fees` - `slippage` - `borrow`.

    Attributes
    ----------
    equity, cash : array
        At the close, after the bar's fills. Cash may be negative: no order is refused.
    net_value, gross_value : array
        Sum of the values of the positions, signed and absolute.
    traded_value : array
        Sum of the absolute notionals filled on the bar.
    fees, slippage, borrow : array
        Paid on the bar, not negative.
    dividends : array
        Received on the bar; negative when paid on short positions.
    filled_shares : array of shape (n_bars, n_symbols)
        Signed shares bought on the bar; 0.0 where nothing was filled.
    unfilled_orders : int
        Orders dropped because the symbol had no bar to fill them on.
    """

    equity: Floats
    cash: Floats
    net_value: Floats
    gross_value: Floats
    traded_value: Floats
    fees: Floats
    slippage: Floats
    borrow: Floats
    dividends: Floats
    filled_shares: Floats
    unfilled_orders: int


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
        fraction of the peak.
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
    """

    equity: pl.DataFrame
    trades: pl.DataFrame
    drawdowns: pl.DataFrame
    metrics: Mapping[str, float]


def build_result(
    account: Account, panel: TradingPanel, costs: Costs, *, fill: Fill, periods_per_year: float
) -> BacktestResult:
    """Lay an engine's account out in frames.

    Parameters
    ----------
    account : Account
        What the engine computed on `panel`.
    panel : TradingPanel
    costs : Costs
        As charged in `account`.
    fill : {"next_open", "next_close"}
        As used by the engine.
    periods_per_year : float
        Bars in a year, to annualise with.

    Returns
    -------
    BacktestResult

    Raises
    ------
    ValueError
        If `periods_per_year` is not above zero, or equity was not above zero throughout.
    """
    equity = equity_frame(account, panel)
    trades = trades_frame(account, panel, costs, fill=fill)
    return BacktestResult(
        equity=equity,
        trades=trades,
        drawdowns=drawdowns_frame(equity),
        metrics=summarise(equity, account, n_trades=trades.height, periods_per_year=periods_per_year),
    )


def equity_frame(account: Account, panel: TradingPanel) -> pl.DataFrame:
    """`BacktestResult.equity` of an account."""
    return pl.DataFrame(
        {
            "session": panel.session,
            "ts": panel.ts,
            "equity": account.equity,
            "cash": account.cash,
            "gross_exposure": account.gross_value / account.equity,
            "net_exposure": account.net_value / account.equity,
            "turnover": metrics.turnover(account.traded_value, account.equity),
            "fees": account.fees,
            "slippage": account.slippage,
            "borrow": account.borrow,
            "dividends": account.dividends,
            "drawdown": metrics.drawdown(account.equity),
        }
    )


def trades_frame(account: Account, panel: TradingPanel, costs: Costs, *, fill: Fill) -> pl.DataFrame:
    """`BacktestResult.trades` of an account."""
    rows, columns = np.nonzero(account.filled_shares)
    prices = panel.open if fill == "next_open" else panel.close
    shares, price = account.filled_shares[rows, columns], prices[rows, columns]
    notional = shares * price
    return pl.DataFrame(
        {
            "symbol": panel.symbols.gather(columns),
            "session": panel.session.gather(rows),
            "ts": panel.ts.gather(rows),
            # An order lives for one bar, so the decision was taken on the bar before the fill.
            "decision_session": panel.session.gather(rows - 1),
            "decision_ts": panel.ts.gather(rows - 1),
            "shares": shares,
            "price": price,
            "notional": notional,
            "fee": np.abs(notional) * costs.fee_rate,
            "slippage": np.abs(notional) * costs.slippage_rate,
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


def summarise(equity: pl.DataFrame, account: Account, *, n_trades: int, periods_per_year: float) -> dict[str, float]:
    """Metrics of a backtest.

    Parameters
    ----------
    equity : DataFrame
        As `BacktestResult.equity`.
    account : Account
        The account it was made from.
    n_trades : int
        Fills.
    periods_per_year : float
        Bars in a year.

    Returns
    -------
    dict
        Return and risk, from bar returns: `total_return`, `annual_return`, `annual_volatility`,
        `sharpe_ratio`, `max_drawdown`, `hit_rate`. Activity: `turnover_per_year` (both sides),
        `mean_gross_exposure`, `n_sessions`, `n_bars`, `n_trades`, `unfilled_orders`. As fractions of the initial cash:
        `costs_total` (fees + slippage + borrow), `fees_total`, `slippage_total`, `borrow_total`,
        `dividends_total`, `min_cash` (negative: money was borrowed). NaN where the data leaves a number
        undefined, e.g. the Sharpe ratio of an account that never traded, and of fewer than `ANNUAL_SESSIONS`
        sessions all that is annualised: the annual return and volatility, the Sharpe ratio, the turnover a year.
    """
    values = equity["equity"].to_numpy()
    returns = metrics.returns_of(values)
    initial = values[0]
    totals = {
        "fees_total": account.fees.sum() / initial,
        "slippage_total": account.slippage.sum() / initial,
        "borrow_total": account.borrow.sum() / initial,
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
        "n_trades": n_trades,
        "unfilled_orders": account.unfilled_orders,
    }
    return {name: float(value) for name, value in {**summary, **counts}.items()}
