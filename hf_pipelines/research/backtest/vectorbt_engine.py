"""vectorbt as an engine: its ledger fills, values and keeps cash; what to order is decided by the contract of engines.

Lives here: the translation to vectorbt and back. Not here: the contract (`reference.py` says it bar by bar). vectorbt knows no
splits, dividends or borrowed shares, and refuses orders that cash does not cover: it is given prices for the last share, a loan
that is subtracted again, and the cash of dividends and borrow is booked beside it, on the positions that it holds itself.

vectorbt carries the Commons Clause and takes seconds to import: it is an extra, imported when it runs.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hf_pipelines.research.backtest.account import Account, Fills
from hf_pipelines.research.backtest.grid import Floats
from hf_pipelines.research.backtest.last_shares import LOAN, LastShares, in_last_shares
from hf_pipelines.research.backtest.limited import LOT_ROUNDING, most_shares
from hf_pipelines.research.backtest.panel import TradingPanel, sum_by
from hf_pipelines.research.backtest.result import ROUNDING_ORDER, BacktestResult, Execution
from hf_pipelines.research.backtest.running import run_kept
from hf_pipelines.research.costs import Costs

# Compiling vectorbt's loop with ours takes ten seconds in each process; below so many cells plain Python is done before.
COMPILED_CELLS = 60_000


def run_vectorbt(
    weights: pl.DataFrame, bars: pl.DataFrame, costs: Costs, execution: Execution, *, periods_per_year: float
) -> BacktestResult:
    """Simulate an account by the contract of engines, kept by vectorbt.

    Raises
    ------
    ValueError
        As `run_backtest`.
    """
    return run_kept(keep_by_vectorbt, weights, bars, costs, execution, periods_per_year)


def keep_by_vectorbt(panel: TradingPanel, costs: Costs, execution: Execution) -> Account:
    """The account of a panel as vectorbt keeps it."""
    import vectorbt as vbt

    units = in_last_shares(panel, execution)
    n_bars, n_symbols = panel.close.shape
    loan = LOAN * execution.initial_cash
    beside, dividends, borrow = np.zeros(n_bars), np.zeros(n_bars), np.zeros(n_bars)
    unfilled = np.zeros(1, np.int64)
    is_compiled = n_bars * n_symbols >= COMPILED_CELLS
    before_bar, order = _functions(is_compiled)
    arguments = (
        panel.weights,
        panel.is_decision,
        units.close,
        units.last_close,
        units.fill_price,
        units.dividend,
        panel.elapsed_days * costs.borrow_rate_per_day,
        costs.fee_rate + costs.slippage_rate,
        loan,
        most_shares(panel, execution) * units.later,
        execution.participation is not None,
        units.later,
        float(execution.lot_size or 0.0),
        execution.delisted_after_bars or 0,
        1.0 - execution.delisting_haircut,
        np.zeros(n_symbols),
        np.zeros(n_symbols, np.bool_),
        np.zeros(n_symbols, np.int64),
        np.zeros(2),
        beside,
        dividends,
        borrow,
        unfilled,
    )
    # A price everywhere: an order is only made where the symbol has a bar.
    prices = np.where(np.isnan(units.last_close), 1.0, units.last_close)
    portfolio = vbt.Portfolio.from_order_func(
        prices,
        order,
        *arguments,
        init_cash=execution.initial_cash + loan,
        cash_sharing=True,
        group_by=np.zeros(n_symbols, int),
        pre_segment_func_nb=before_bar,
        pre_segment_args=arguments,
        row_wise=True,
        use_numba=is_compiled,
    )
    return _account(
        portfolio, panel, units, costs, loan=loan, beside=beside, dividends=dividends, borrow=borrow, unfilled=unfilled
    )


def _account(
    portfolio: Any,
    panel: TradingPanel,
    units: LastShares,
    costs: Costs,
    *,
    loan: float,
    beside: Floats,
    dividends: Floats,
    borrow: Floats,
    unfilled: NDArray[np.int64],
) -> Account:
    """What vectorbt holds, in shares of the day."""
    records = portfolio.orders.values
    records = records[np.lexsort((records["col"], records["idx"]))]
    bar, symbol = records["idx"].astype(np.int64), records["col"].astype(np.int64)
    later = units.later[bar, symbol]
    shares = np.where(records["side"] == 0, 1.0, -1.0) * records["size"] / later
    notional = records["size"] * records["price"]
    held = np.asarray(portfolio.assets())
    values = np.where(held != 0.0, held * np.nan_to_num(units.last_close), 0.0)
    equity = np.asarray(portfolio.value()).ravel() - loan + beside
    cash = np.asarray(portfolio.cash()).ravel() - loan + beside
    rate = costs.fee_rate + costs.slippage_rate
    fee_share = costs.fee_rate / rate if rate else 0.0
    paid = records["fees"]
    charged = sum_by(bar, paid, len(equity))
    # A position that was paid out is no trade: nothing is charged for it, on a bar without a price.
    is_traded = ~np.isnan(units.close[bar, symbol])
    traded = sum_by(bar, notional * is_traded, len(equity))
    return Account(
        equity=equity,
        cash=cash,
        net_value=equity - cash,
        gross_value=np.abs(values).sum(axis=1),
        traded_value=traded,
        costs={"fees": charged * fee_share, "slippage": charged * (1.0 - fee_share), "borrow": borrow},
        dividends=dividends,
        unfilled_orders=int(unfilled[0]),
        n_fills=len(bar),
        make_fills=lambda: Fills(
            bar=bar,
            decision_bar=panel.decided_before(bar),
            symbol=symbol,
            shares=shares,
            price=records["price"] * later,
            costs={"fee": paid * fee_share, "slippage": paid * (1.0 - fee_share)},
        ),
        make_positions=lambda: held / units.later,
    )


@functools.cache
def _functions(is_compiled: bool) -> tuple[Any, Any]:
    from numba import njit
    from vectorbt.portfolio import nb
    from vectorbt.portfolio.enums import Direction, SizeType

    amount, both = int(SizeType.Amount), int(Direction.Both)
    order_nb, order_nothing_nb = nb.order_nb, nb.order_nothing_nb

    def before_bar(  # type: ignore[no-untyped-def]  # called by vectorbt with the arguments of `keep_by_vectorbt`
        c, weights, is_decision, close, last, price, dividend, borrow_rate, rate, loan, most, waits, later, lot, gone_after,
        kept_of_price, target, is_open, missing, state, beside, dividends, borrow, unfilled,
    ):  # fmt: skip
        """Book what vectorbt does not know on the positions held into the bar, and size the orders of the decision before it."""
        i = c.i
        if i == 0:
            return ()
        equity = c.last_cash[0] - loan + beside[i - 1]
        short = 0.0
        for j in range(c.from_col, c.to_col):
            held = c.last_position[j]
            if held != 0.0:
                equity += held * last[i - 1, j]
                short -= min(held * last[i - 1, j], 0.0)
                if not np.isnan(close[i, j]):
                    dividends[i] += held * dividend[i, j]
        borrow[i] = borrow_rate[i] * short
        beside[i] = beside[i - 1] + dividends[i] - borrow[i]
        state[0] = equity
        for j in range(c.from_col, c.to_col):
            missing[j] = missing[j] + 1 if np.isnan(close[i, j]) else 0
            if is_decision[i - 1]:
                if is_open[j]:
                    unfilled[0] += 1
                weight = weights[i - 1, j]
                wanted = weight * equity / close[i - 1, j] if weight != 0.0 else 0.0
                if lot > 0.0:
                    raw = abs(wanted) / later[i - 1, j] / lot
                    wanted = np.sign(wanted) * np.floor(raw + LOT_ROUNDING) * lot * later[i - 1, j]
                target[j] = wanted
                is_open[j] = True
        return ()

    def order(  # type: ignore[no-untyped-def]  # as above
        c, weights, is_decision, close, last, price, dividend, borrow_rate, rate, loan, most, waits, later, lot, gone_after,
        kept_of_price, target, is_open, missing, state, beside, dividends, borrow, unfilled,
    ):  # fmt: skip
        """The order of a symbol on a bar."""
        i, j = c.i, c.col
        held = c.position_now
        if gone_after > 0 and missing[j] == gone_after and held != 0.0:
            target[j] = 0.0
            is_open[j] = False
            return order_nb(size=-held, price=last[i, j] * kept_of_price, size_type=amount, direction=both, fees=0.0)
        if i == 0 or not is_open[j]:
            return order_nothing_nb()
        wanted = target[j] - held
        is_missing = np.isnan(close[i, j])
        at = last[i, j] if is_missing else price[i, j]
        is_rounding = not abs(wanted * at) > ROUNDING_ORDER * state[0]
        if is_rounding or (is_missing and not waits):
            is_open[j] = False
            if not is_rounding:
                unfilled[0] += 1
            return order_nothing_nb()
        size = np.sign(wanted) * min(abs(wanted), most[i, j])
        if is_missing or size == 0.0:
            return order_nothing_nb()
        is_open[j] = size != wanted
        return order_nb(size=size, price=at, size_type=amount, direction=both, fees=rate)

    return (njit(before_bar), njit(order)) if is_compiled else (before_bar, order)
