"""The reference ledger with limits: lots, a share of the volume, cash, and symbols that are delisted.

Lives here: what an order becomes where not all of it can be filled. Not here: the ledger without limits (`reference.py`), which
books in the same order and is faster; a test holds the two to each other.

On each bar, in this order: borrow, splits, dividends; positions of symbols that are gone are paid out; orders are capped by the
bar's volume; sells are booked; buys, all scaled down by one factor where cash does not cover them.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from hf_pipelines.research.backtest.account import Account, Fills, account_of_ledger
from hf_pipelines.research.backtest.grid import Floats, dense
from hf_pipelines.research.backtest.panel import TradingPanel, fill_prices
from hf_pipelines.research.backtest.result import ROUNDING_ORDER, Execution
from hf_pipelines.research.costs import Costs

# A whole number of lots, computed as a quotient, may lie just below it.
LOT_ROUNDING = 1e-9


def most_shares(panel: TradingPanel, execution: Execution) -> Floats:
    """Shares that each bar fills at most, in whole lots; infinite without a limit, shape (n_bars, n_symbols).

    Raises
    ------
    ValueError
        If the panel was built without volume and a limit is asked for.
    """
    if execution.participation is None:
        return np.full(panel.close.shape, np.inf)
    if panel.volume is None:
        raise ValueError("`participation` must have volume in the panel, was without; build it with that column.")
    most = execution.participation * np.nan_to_num(panel.volume)
    return (
        most if execution.lot_size is None else np.floor(most / execution.lot_size + LOT_ROUNDING) * execution.lot_size
    )


def require_small_lots(account: Account, panel: TradingPanel, execution: Execution) -> None:
    """Refuse lots of which the account cannot hold one: such an account would hold nothing and look calm.

    Raises
    ------
    ValueError
        With the first symbol and session for which one lot was worth more than the account.
    """
    if execution.lot_size is None:
        return
    lot, equity = execution.lot_size * panel.close, account.equity[:, None]
    # After a ruin, which is refused elsewhere, equity is none to compare with.
    is_asked = panel.is_decision[:, None] & (panel.weights != 0.0) & np.logical_and.accumulate(equity > 0.0)
    bad = np.argwhere(is_asked & (lot > np.maximum(equity, np.abs(panel.weights) * equity)))
    if len(bad):
        bar, symbol = (int(each) for each in bad[0])
        raise ValueError(
            f"`lot_size` must be worth no more than the account, was {execution.lot_size:,g} shares of {panel.symbols[symbol]} at "
            f"{panel.close[bar, symbol]:,.2f} on {panel.session[bar]}, {lot[bar, symbol]:,.2f} of {account.equity[bar]:,.2f}; take "
            "smaller lots or more initial cash."
        )


def simulate_limited(panel: TradingPanel, costs: Costs, execution: Execution) -> Account:
    """Keep an account with all that `execution` asks for."""
    lot = execution.lot_size or 0.0
    filled, price, paid_out = (np.zeros(panel.close.shape) for _ in range(3))
    account, n_fills, unfilled = _compiled()(
        dense(panel.weights),
        panel.is_decision,
        dense(fill_prices(panel, execution.fill)),
        dense(panel.close),
        dense(panel.split_ratio),
        dense(panel.dividend),
        panel.elapsed_days * costs.borrow_rate_per_day,
        costs.fee_rate + costs.slippage_rate,
        float(execution.initial_cash),
        most_shares(panel, execution),
        execution.participation is not None,
        float(lot),
        execution.cash_limit,
        execution.delisted_after_bars or 0,
        1.0 - execution.delisting_haircut,
        filled,
        price,
        paid_out,
    )
    return account_of_ledger(
        account,
        costs,
        unfilled_orders=int(unfilled),
        n_fills=int(n_fills),
        make_fills=lambda: _fills(panel, filled, price, paid_out, costs),
        make_positions=lambda: positions_of(filled, panel.split_ratio),
    )


def positions_of(filled_shares: Floats, split_ratio: Floats) -> Floats:
    """Shares held after each bar by what was filled."""
    held = np.zeros(filled_shares.shape)
    before = np.zeros(filled_shares.shape[1])
    for bar, filled in enumerate(filled_shares):
        held[bar] = before * split_ratio[bar] + filled
        before = held[bar]
    return held


def _fills(panel: TradingPanel, filled: Floats, price: Floats, paid_out: Floats, costs: Costs) -> Fills:
    bar, symbol = np.nonzero(filled)
    shares, at = filled[bar, symbol], price[bar, symbol]
    charged = np.abs(shares * at) * (paid_out[bar, symbol] == 0.0)
    return Fills(
        bar=bar,
        decision_bar=panel.decided_before(bar),
        symbol=symbol,
        shares=shares,
        price=at,
        costs={"fee": charged * costs.fee_rate, "slippage": charged * costs.slippage_rate},
    )


@functools.cache
def _compiled() -> Any:
    from numba import njit

    return njit(cache=True)(_keep_limited)


def _keep_limited(  # type: ignore[no-untyped-def]  # compiled: see `simulate_limited` for the types
    weights,
    is_decision,
    fill_price,
    close,
    split_ratio,
    dividend,
    borrow_rate,
    cost_rate,
    initial_cash,
    most,
    waits,
    lot,
    is_cash_limited,
    gone_after,
    kept_of_price,
    filled_shares,
    filled_at,
    paid_out,
):
    """Keep the account in one pass, writing the last three arrays; the series, how many orders were filled, and left unfilled."""
    n_bars, n_symbols = weights.shape
    account = np.zeros((7, n_bars))
    shares, target, order = np.zeros(n_symbols), np.zeros(n_symbols), np.zeros(n_symbols)
    is_open = np.zeros(n_symbols, np.bool_)
    missing = np.zeros(n_symbols, np.int64)
    last_close = np.full(n_symbols, np.nan)
    cash = equity = initial_cash
    short_value = 0.0
    n_fills = unfilled = 0
    for t in range(n_bars):
        borrow = borrow_rate[t] * short_value
        cash -= borrow
        rounding = ROUNDING_ORDER * equity
        if t > 0 and is_decision[t - 1]:
            for j in range(n_symbols):
                if is_open[j]:
                    unfilled += 1
                weight = weights[t - 1, j]
                wanted = weight * equity / close[t - 1, j] if weight != 0.0 else 0.0
                if lot > 0.0 and weight != 0.0:
                    wanted = np.sign(wanted) * np.floor(abs(wanted) / lot + LOT_ROUNDING) * lot
                target[j] = wanted
                is_open[j] = wanted != shares[j]
        net_value = short_value = traded_value = dividends = need = 0.0
        for j in range(n_symbols):
            order[j] = 0.0
            if np.isnan(close[t, j]):
                missing[j] += 1
                if gone_after > 0 and missing[j] == gone_after and shares[j] != 0.0:
                    filled_shares[t, j], filled_at[t, j] = -shares[j], last_close[j] * kept_of_price
                    paid_out[t, j] = 1.0
                    n_fills += 1
                    cash += shares[j] * filled_at[t, j]
                    shares[j] = target[j] = 0.0
                    is_open[j] = False
                elif is_open[j]:
                    is_order = abs(target[j] - shares[j]) * last_close[j] > rounding
                    is_open[j] = waits and is_order
                    if is_order and not waits:
                        unfilled += 1
                continue
            missing[j] = 0
            shares[j] *= split_ratio[t, j]
            target[j] *= split_ratio[t, j]
            dividends += shares[j] * dividend[t, j]
            last_close[j] = close[t, j]
            if is_open[j]:
                wanted = target[j] - shares[j]
                if abs(wanted * fill_price[t, j]) <= rounding:
                    is_open[j] = False
                else:
                    order[j] = np.sign(wanted) * min(abs(wanted), most[t, j])
                    if order[j] > 0.0:
                        need += order[j] * fill_price[t, j] * (1.0 + cost_rate)
        cash += dividends
        scale = 1.0
        for is_buy in (False, True):
            if is_buy and is_cash_limited and need > cash:
                scale = max(cash, 0.0) / need
            for j in range(n_symbols):
                if not is_open[j] or np.isnan(close[t, j]) or (target[j] > shares[j]) != is_buy:
                    continue
                done = order[j] * scale
                if lot > 0.0 and scale < 1.0:
                    done = np.floor(done / lot + LOT_ROUNDING) * lot
                if done != 0.0:
                    is_whole = done == target[j] - shares[j]
                    notional = done * fill_price[t, j]
                    cash -= notional + abs(notional) * cost_rate
                    traded_value += abs(notional)
                    filled_shares[t, j], filled_at[t, j] = done, fill_price[t, j]
                    n_fills += 1
                    shares[j] = target[j] if is_whole else shares[j] + done
                else:
                    is_whole = False
                if is_whole or not waits:
                    is_open[j] = False
                if not is_whole and not waits:
                    unfilled += 1
        for j in range(n_symbols):
            if shares[j] != 0.0:
                value = shares[j] * last_close[j]
                net_value += value
                short_value -= min(value, 0.0)
        equity = cash + net_value
        account[0, t], account[1, t], account[2, t], account[3, t] = (equity, cash, net_value, short_value)
        account[4, t], account[5, t], account[6, t] = traded_value, borrow, dividends
    return account, n_fills, unfilled
