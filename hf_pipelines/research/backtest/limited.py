"""The reference ledger with limits and kinds of costs: lots, a share of the volume, cash, sales on the day of the purchase, and
symbols that are delisted.

Lives here: what an order becomes where not all of it can be filled. Not here: the ledger without limits (`reference.py`), which
books in the same order and is faster; a test holds the two to each other.

On each bar, in this order: borrow and interest, on the balances of the last close; splits, dividends; positions of symbols that are gone
are paid out; orders are capped by the bar's volume, and sales by what was held into the session; sells are booked; buys, all scaled down
by one factor where cash does not cover them and the costs of the whole orders; costs by kind (`cost_kinds.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_pipelines.research.backtest.account import Account, Fills, account_of_ledger
from hf_pipelines.research.backtest.grid import Floats, dense
from hf_pipelines.research.backtest.panel import TradingPanel, fill_prices
from hf_pipelines.research.backtest.result import ROUNDING_ORDER, Execution
from hf_pipelines.research.cost_kinds import COST_KINDS, Accrual, Charge
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
    booked = BookedKinds.of(panel, costs)
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
        panel.session.to_physical().to_numpy().astype(np.int64) if execution.t_plus_one else np.empty(0, np.int64),
        booked.charges,
        booked.cells,
        booked.accruals,
        panel.elapsed_days,
        booked.paid,
        filled,
        price,
        paid_out,
    )
    return account_of_ledger(
        account,
        costs,
        unfilled_orders=int(unfilled),
        n_fills=int(n_fills),
        make_fills=lambda: _fills(panel, filled, price, paid_out, costs, booked),
        make_positions=lambda: positions_of(filled, panel.split_ratio),
        kinds=booked.by_bar(),
    )


def positions_of(filled_shares: Floats, split_ratio: Floats) -> Floats:
    """Shares held after each bar by what was filled."""
    held = np.zeros(filled_shares.shape)
    before = np.zeros(filled_shares.shape[1])
    for bar, filled in enumerate(filled_shares):
        held[bar] = before * split_ratio[bar] + filled
        before = held[bar]
    return held


def _fills(
    panel: TradingPanel, filled: Floats, price: Floats, paid_out: Floats, costs: Costs, booked: BookedKinds
) -> Fills:
    bar, symbol = np.nonzero(filled)
    shares, at = filled[bar, symbol], price[bar, symbol]
    is_charged = paid_out[bar, symbol] == 0.0
    charged = np.abs(shares * at) * is_charged
    return Fills(
        bar=bar,
        decision_bar=panel.decided_before(bar),
        symbol=symbol,
        shares=shares,
        price=at,
        costs={
            "fee": charged * costs.fee_rate,
            "slippage": charged * costs.slippage_rate,
            **{name: each.of(bar, symbol, shares, at) * is_charged for name, each in booked.of_fills.items()},
        },
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class BookedKinds:
    """Kinds of costs as the compiled ledger reads them, and what it has booked.

    Attributes
    ----------
    of_fills : mapping of str to Charge
    of_cash : mapping of str to Accrual
    charges : array of shape (n_of_fills, 6)
        Rates of buys and of sells, per share, minimum, and the numbers of the cells of `rate` and `root`, -1 for none.
    cells : array of shape (n_cells, n_bars, n_symbols)
    accruals : array of shape (n_of_cash, 2)
        1 for a debt, and the rate per day.
    paid : array of shape (n_of_fills + n_of_cash, n_bars)
        Written by the ledger.
    """

    of_fills: Mapping[str, Charge]
    of_cash: Mapping[str, Accrual]
    charges: Floats
    cells: Floats
    accruals: Floats
    paid: Floats

    @classmethod
    def of(cls, panel: TradingPanel, costs: Costs) -> BookedKinds:
        """Lay out the kinds of some costs on a panel."""
        built = {name: COST_KINDS[name].build(panel, params) for name, params in costs.kinds}
        of_fills = {name: each for name, each in built.items() if isinstance(each, Charge)}
        of_cash = {name: each for name, each in built.items() if isinstance(each, Accrual)}
        cells: list[Floats] = []
        rows = []
        for each in of_fills.values():
            at = []
            for values in (each.rate, each.root):
                at.append(-1 if values is None else len(cells))
                cells += [] if values is None else [values]
            rows.append([each.buy_rate, each.sell_rate, each.per_share, each.minimum, *at])
        return cls(
            of_fills=of_fills,
            of_cash=of_cash,
            charges=np.array(rows, np.float64).reshape(-1, 6),
            cells=dense(np.stack(cells)) if cells else np.zeros((0, 1, 1)),
            accruals=np.array([[each.on == "debt", each.rate_per_day] for each in of_cash.values()], float).reshape(
                -1, 2
            ),
            paid=np.zeros((len(built), len(panel.ts))),
        )

    def by_bar(self) -> dict[str, Floats]:
        """Paid on each bar, by kind."""
        return dict(zip((*self.of_fills, *self.of_cash), self.paid, strict=True))


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
    session,
    charges,
    cells,
    accruals,
    elapsed_days,
    paid,
    filled_shares,
    filled_at,
    paid_out,
):
    """Keep the account in one pass, writing the last four arrays; the series, how many orders were filled, and left unfilled.

    `session` is empty where shares may be sold on the day of their purchase.
    """
    n_bars, n_symbols = weights.shape
    n_charges = len(charges)
    # Shares bought in the session, of those that are held.
    bought = np.zeros(n_symbols)
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
        credit, debt = max(cash - short_value, 0.0), max(-cash, 0.0)
        cash -= borrow
        for k in range(len(accruals)):
            amount = accruals[k, 1] * elapsed_days[t] * (debt if accruals[k, 0] else credit)
            paid[n_charges + k, t] = amount
            cash -= amount
        if len(session) > 0 and t > 0 and session[t] != session[t - 1]:
            bought[:] = 0.0
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
                    shares[j] = target[j] = bought[j] = 0.0
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
                    if order[j] < 0.0 and bought[j] > 0.0:
                        order[j] = -min(-order[j], max(shares[j] - bought[j], 0.0))
                    if order[j] > 0.0:
                        need += order[j] * fill_price[t, j] * (1.0 + cost_rate)
        cash += dividends
        scale = 1.0
        # Of kinds: what the whole orders would pay, which no part of them passes.
        reserved = 0.0
        if is_cash_limited:
            for k in range(n_charges):
                for j in range(n_symbols):
                    if order[j] != 0.0:
                        size, notional = abs(order[j]), abs(order[j] * fill_price[t, j])
                        rate = charges[k, 0] if order[j] > 0.0 else charges[k, 1]
                        if charges[k, 4] >= 0.0:
                            rate += cells[int(charges[k, 4]), t, j]
                        amount = rate * notional + charges[k, 2] * size
                        if charges[k, 5] >= 0.0:
                            amount += cells[int(charges[k, 5]), t, j] * notional * np.sqrt(size)
                        reserved += max(amount, charges[k, 3])
        for is_buy in (False, True):
            if is_buy and is_cash_limited and need > max(cash - reserved, 0.0):
                scale = max(cash - reserved, 0.0) / need
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
                    if done > 0.0 and len(session) > 0:
                        bought[j] = min(bought[j] + done, max(shares[j], 0.0))
                else:
                    is_whole = False
                if is_whole or not waits:
                    is_open[j] = False
                if not is_whole and not waits:
                    unfilled += 1
        for k in range(n_charges):
            for j in range(n_symbols):
                if filled_shares[t, j] != 0.0 and paid_out[t, j] == 0.0:
                    size, notional = abs(filled_shares[t, j]), abs(filled_shares[t, j] * filled_at[t, j])
                    rate = charges[k, 0] if filled_shares[t, j] > 0.0 else charges[k, 1]
                    if charges[k, 4] >= 0.0:
                        rate += cells[int(charges[k, 4]), t, j]
                    amount = rate * notional + charges[k, 2] * size
                    if charges[k, 5] >= 0.0:
                        amount += cells[int(charges[k, 5]), t, j] * notional * np.sqrt(size)
                    paid[k, t] += max(amount, charges[k, 3])
            cash -= paid[k, t]
        for j in range(n_symbols):
            if shares[j] != 0.0:
                value = shares[j] * last_close[j]
                net_value += value
                short_value -= min(value, 0.0)
        equity = cash + net_value
        account[0, t], account[1, t], account[2, t], account[3, t] = (equity, cash, net_value, short_value)
        account[4, t], account[5, t], account[6, t] = traded_value, borrow, dividends
    return account, n_fills, unfilled
