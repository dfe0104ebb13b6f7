"""backtrader as an engine: its broker fills event by event; what to order is decided by the contract of engines.

Lives here: the translation to backtrader and back. Not here: the contract (`reference.py` says it bar by bar). backtrader fills
market orders at the open of a feed's next bar, so a feed's open is the price of the fill that is asked for. It knows no splits,
dividends or borrowed shares, and refuses orders that cash does not cover: it is given prices for the last share, a loan that is
subtracted again, and the cash of dividends and borrow is booked beside it, on the positions that its broker holds itself.

backtrader is GPLv3+: it is an extra, imported when it runs. It takes 10 seconds for 20 symbols and 2,500 daily decisions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.research.backtest.account import Account, Fills
from hf_pipelines.research.backtest.grid import Floats
from hf_pipelines.research.backtest.last_shares import LOAN, LastShares, in_last_shares
from hf_pipelines.research.backtest.limited import LOT_ROUNDING, most_shares
from hf_pipelines.research.backtest.panel import TradingPanel, sum_by
from hf_pipelines.research.backtest.result import ROUNDING_ORDER, BacktestResult, Execution
from hf_pipelines.research.backtest.running import run_kept
from hf_pipelines.research.costs import Costs


def run_backtrader(
    weights: pl.DataFrame, bars: pl.DataFrame, costs: Costs, execution: Execution, *, periods_per_year: float
) -> BacktestResult:
    """Simulate an account by the contract of engines, kept by backtrader.

    Raises
    ------
    ValueError
        As `run_backtest`.
    """
    return run_kept(keep_by_backtrader, weights, bars, costs, execution, periods_per_year)


def keep_by_backtrader(panel: TradingPanel, costs: Costs, execution: Execution) -> Account:
    """The account of a panel as backtrader keeps it."""
    import backtrader as bt

    units = in_last_shares(panel, execution)
    loan = LOAN * execution.initial_cash
    most = most_shares(panel, execution) * units.later
    engine = bt.Cerebro(stdstats=False)
    days, traded = _feeds(bt, units)
    for feed in (days, *traded):
        engine.adddata(feed)
    engine.broker.setcash(execution.initial_cash + loan)
    engine.broker.set_checksubmit(False)
    engine.broker.setcommission(commission=costs.fee_rate + costs.slippage_rate)
    if execution.participation is not None:
        column = {id(feed): j for j, feed in enumerate(traded)}
        engine.broker.set_filler(
            lambda order, price, ago: min(most[len(days) - 1, column[id(order.data)]], abs(order.executed.remsize))
        )
    engine.addstrategy(_strategy(bt), panel=panel, units=units, costs=costs, execution=execution, loan=loan)
    (kept,) = engine.run()
    return _account(kept, panel, units, costs)


def _feeds(bt: Any, units: LastShares) -> tuple[Any, list[Any]]:
    """A feed with a bar on each row, whose clock is the panel's, and one for each symbol."""
    import pandas as pd

    n_bars = len(units.close)
    # A day a row, also below a day: backtrader only needs their order.
    days = pd.date_range("1990-01-01", periods=n_bars, freq="D")

    def feed(price: Floats, close: Floats, rows: Any) -> Any:
        opened, closed = price[rows], close[rows]
        table = {
            "open": opened,
            "high": np.maximum(opened, closed),
            "low": np.minimum(opened, closed),
            "close": closed,
            "volume": 0.0,
            "openinterest": 0.0,
        }
        return bt.feeds.PandasData(dataname=pd.DataFrame(table, index=days[rows]))

    ones = np.ones(n_bars)
    whole = feed(ones, ones, np.ones(n_bars, np.bool_))
    columns = range(units.close.shape[1])
    with_bars = ~np.isnan(units.close)
    traded = [feed(units.fill_price[:, j], units.close[:, j], with_bars[:, j]) for j in columns]
    return whole, traded


def _strategy(bt: Any) -> Any:
    """The class of a strategy that orders what the weights ask for, and notes what the broker did."""

    class FollowWeights(bt.Strategy):  # type: ignore[misc]  # backtrader has no types
        params = (("panel", None), ("units", None), ("costs", None), ("execution", None), ("loan", 0.0))

        def __init__(self) -> None:
            shape = self.p.panel.close.shape
            self.held = np.zeros(shape)
            self.equity, self.cash, self.dividends, self.borrow = (np.zeros(shape[0]) for _ in range(4))
            self.beside = 0.0
            self.orders: list[Any] = []
            self.fills: list[tuple[int, int, float, float, float]] = []
            self.unfilled = 0
            self.columns = {id(data): j for j, data in enumerate(self.datas[1:])}

        def notify_order(self, order: Any) -> None:
            # What is executed is told before `next` of the same bar.
            for bit in order.executed.iterpending():
                paid = bit.closedcomm + bit.openedcomm
                self.fills.append((len(self.data) - 1, self.columns[id(order.data)], bit.size, bit.price, paid))

        def prenext(self) -> None:
            # Also before the last symbol is listed.
            self.next()

        def next(self) -> None:
            bar, panel, units = len(self.data) - 1, self.p.panel, self.p.units
            last, has_bar = np.nan_to_num(units.last_close[bar]), ~np.isnan(units.close[bar])
            is_decided = bar > 0 and panel.is_decision[bar - 1]
            if is_decided and self.p.execution.participation is None:
                self._drop(bar, has_bar)
            if bar:
                before = self.held[bar - 1]
                short = -np.minimum(before * np.nan_to_num(units.last_close[bar - 1]), 0.0).sum()
                self.dividends[bar] = (before * units.dividend[bar])[has_bar].sum()
                self.borrow[bar] = panel.elapsed_days[bar] * self.p.costs.borrow_rate_per_day * short
                self.beside += self.dividends[bar] - self.borrow[bar]
            self.held[bar] = [self.getposition(data).size for data in self.datas[1:]]
            self.equity[bar] = self.broker.getvalue() - self.p.loan + self.beside
            self.cash[bar] = self.broker.getcash() - self.p.loan + self.beside
            if panel.is_decision[bar] and bar < len(panel.close) - 1:
                if self.p.execution.participation is not None:
                    self._drop(bar, has_bar)
                self._order(bar, last)

        def _drop(self, bar: int, has_bar: Any) -> None:
            """Orders that are still there are dropped: backtrader would keep one of a halted symbol for its next bar."""
            for each in self.orders:
                if each.alive():
                    self.cancel(each)
                    self.unfilled += 1
            self.orders = []

        def _order(self, bar: int, last: Any) -> None:
            panel, units, lot = self.p.panel, self.p.units, self.p.execution.lot_size
            weights, equity = panel.weights[bar], self.equity[bar]
            with np.errstate(invalid="ignore"):
                target = np.where(weights != 0.0, weights * equity / units.close[bar], 0.0)
            if lot is not None:
                later = units.later[bar]
                target = np.sign(target) * np.floor(np.abs(target) / later / lot + LOT_ROUNDING) * lot * later
            sizes = target - self.held[bar]
            for j in np.flatnonzero(np.abs(sizes * last) > ROUNDING_ORDER * equity):
                make = self.buy if sizes[j] > 0.0 else self.sell
                self.orders.append(make(data=self.datas[1 + j], size=abs(sizes[j]), exectype=bt.Order.Market))

    return FollowWeights


def _account(kept: Any, panel: TradingPanel, units: LastShares, costs: Costs) -> Account:
    """What backtrader's broker did, in shares of the day."""
    table = np.array(sorted(kept.fills, key=lambda each: each[:2]), dtype=np.float64).reshape(-1, 5)
    bar, symbol = table[:, 0].astype(np.int64), table[:, 1].astype(np.int64)
    later = units.later[bar, symbol]
    paid = table[:, 4]
    rate = costs.fee_rate + costs.slippage_rate
    fee_share = costs.fee_rate / rate if rate else 0.0
    n_bars = len(units.close)
    charged = sum_by(bar, paid, n_bars)
    values = kept.held * np.nan_to_num(units.last_close)
    return Account(
        equity=kept.equity,
        cash=kept.cash,
        net_value=kept.equity - kept.cash,
        gross_value=np.abs(values).sum(axis=1),
        traded_value=sum_by(bar, np.abs(table[:, 2] * table[:, 3]), n_bars),
        costs={"fees": charged * fee_share, "slippage": charged * (1.0 - fee_share), "borrow": kept.borrow},
        dividends=kept.dividends,
        unfilled_orders=kept.unfilled,
        n_fills=len(bar),
        make_fills=lambda: Fills(
            bar=bar,
            decision_bar=panel.decided_before(bar),
            symbol=symbol,
            shares=table[:, 2] / later,
            price=table[:, 3] * later,
            costs={"fee": paid * fee_share, "slippage": paid * (1.0 - fee_share)},
        ),
        make_positions=lambda: kept.held / units.later,
    )
