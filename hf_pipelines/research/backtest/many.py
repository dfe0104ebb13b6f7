"""Many accounts at once: the reference ledger without limits, over one market, with other weights and flat costs in each.

Lives here: the one pass that keeps them side by side, and the numbers that a sweep reads. Not here: what a ledger books (`reference.py`
says it; the same bits come out, a test holds the two to each other), limits and kinds of costs (`limited.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_pipelines.research.backtest.grid import Floats, dense
from hf_pipelines.research.backtest.panel import TradingPanel, fill_prices
from hf_pipelines.research.backtest.result import ROUNDING_ORDER, Execution, limits_of
from hf_pipelines.research.costs import Costs

# Accounts that are kept side by side at a time: their state stays in the first cache.
MOST_AT_ONCE = 1_024


@dataclass(frozen=True, eq=False, kw_only=True)
class ManyAccounts:
    """What is read of many accounts.

    Attributes
    ----------
    equity : array of shape (n_bars, n_accounts)
        After each bar, in currency.
    turnover : array of shape (n_accounts,)
        Sum over bars of the notional traded over the equity before.
    costs : array of shape (n_accounts,)
        All that was paid, in currency.
    """

    equity: Floats
    turnover: Floats
    costs: Floats


def can_keep_many(costs: Costs, execution: Execution) -> bool:
    """Whether accounts of such costs and limits can be kept side by side."""
    return not costs.kinds and not limits_of(execution)


def simulate_many(
    panel: TradingPanel, weights: Floats, costs: Sequence[Costs], execution: Execution, *, has_activity: bool = True
) -> ManyAccounts:
    """Keep accounts of one market side by side.

    Parameters
    ----------
    panel : TradingPanel
        Its own weights are not read.
    weights : array of shape (n_bars, n_symbols, n_accounts)
        Of each account, as `TradingPanel.weights`; or of one, for all of them. Those of float32 are taken as they are.
    costs : sequence of Costs
        Of each account, or one for all of them.
    execution : Execution
        Without limits.
    has_activity : bool, default True
        Whether turnover and costs are added up; else they are 0, and it takes a third less.

    Returns
    -------
    ManyAccounts
        Each account as the reference keeps it, ruined ones among them.

    Raises
    ------
    ValueError
        If the lengths differ, or the costs or the execution need another ledger.
    """
    n = max(weights.shape[-1], len(costs))
    if {weights.shape[-1], len(costs)} - {1, n} or weights.shape[:-1] != panel.close.shape:
        raise ValueError(
            f"`weights` must be of the panel's shape {panel.close.shape} for each of {len(costs)} accounts, was {weights.shape}."
        )
    if not all(can_keep_many(each, execution) for each in costs):
        raise ValueError("`costs` must be flat and `execution` without limits, was not; keep such accounts one by one.")
    fill, close = dense(fill_prices(panel, execution.fill)), dense(panel.close)
    split, dividend = dense(panel.split_ratio), dense(panel.dividend)
    borrow = np.broadcast_to([each.borrow_rate_per_day for each in costs], n)
    rate = np.broadcast_to([each.fee_rate + each.slippage_rate for each in costs], n)
    # Of thousands of points half of the memory: each is widened as it is read.
    width = np.float32 if weights.dtype == np.float32 else np.float64
    side_by_side = np.ascontiguousarray(np.broadcast_to(weights, (*panel.close.shape, n)), dtype=width)
    equity, sums = np.empty((len(close), n)), np.zeros((2, n))
    for start in range(0, n, MOST_AT_ONCE):
        at = slice(start, min(start + MOST_AT_ONCE, n))
        _compiled()(
            side_by_side,
            at.stop,
            panel.is_decision,
            fill,
            close,
            split,
            dividend,
            panel.elapsed_days.astype(np.float64),
            dense(borrow[at]),
            dense(rate[at]),
            float(execution.initial_cash),
            equity,
            sums,
            start,
            has_activity,
        )
    return ManyAccounts(equity=equity, turnover=sums[0], costs=sums[1])


@functools.cache
def _compiled() -> Any:
    from numba import njit

    # A division that may raise would keep the loop from being vectorised; `sized` is never zero.
    return njit(cache=True, error_model="numpy")(_keep_many)


def _keep_many(  # type: ignore[no-untyped-def]  # compiled: see `simulate_many` for the types
    weights, stop, is_decision, fill_price, close, split_ratio, dividend, elapsed_days, borrow_rate, cost_rate, initial_cash,
    equity, sums, first, has_activity,
):  # fmt: skip
    """Keep them in one pass over the bars, writing `equity` and `sums` from the column `first` on: the innermost loop runs over accounts, which lie side by side, so it is vectorised.

    Each step is that of `reference._keep_account`, in its order; choices stand in the place of branches.
    """
    n_bars, n_symbols, _ = weights.shape
    n = stop - first
    shares = np.zeros((n_symbols, n))
    last_close = np.full(n_symbols, np.nan)
    cash, now = np.full(n, initial_cash), np.full(n, initial_cash)
    net, short, traded, dividends = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    borrow, target, notional = np.zeros(n), np.empty(n), np.empty(n)
    turnover, paid = np.zeros(n), np.zeros(n)
    has_borrow, has_dividends = np.any(borrow_rate > 0.0), np.any(dividend != 0.0)
    for t in range(n_bars):
        has_order = t > 0 and is_decision[t - 1]
        # Each loop writes one array and reads few: a compiler that cannot tell whether many overlap runs them one by one.
        if has_borrow:
            for p in range(n):
                borrow[p] = (elapsed_days[t] * borrow_rate[p]) * short[p]
            for p in range(n):
                cash[p] -= borrow[p]
                short[p] = 0.0
        net[:], traded[:] = 0.0, 0.0
        for j in range(n_symbols):
            last, held = close[t, j], shares[j]
            if np.isnan(last):
                if t > 0 and not np.isnan(close[t - 1, j]):
                    last_close[j] = close[t - 1, j]
                last = last_close[j]
                if np.isnan(last):
                    continue
            else:
                ratio = split_ratio[t, j]
                if ratio != 1.0:
                    for p in range(n):
                        held[p] *= ratio
                if dividend[t, j] != 0.0:
                    for p in range(n):
                        dividends[p] += held[p] * dividend[t, j]
                if has_order:
                    # Without a bar the day before nothing could be sized: weights are zero there.
                    sized = 1.0 if np.isnan(close[t - 1, j]) else close[t - 1, j]
                    price, weight = fill_price[t, j], weights[t - 1, j, first:stop]
                    for p in range(n):
                        target[p] = weight[p] * now[p] / sized * ratio
                    for p in range(n):
                        asked = (target[p] - held[p]) * price
                        notional[p] = asked if abs(asked) > ROUNDING_ORDER * now[p] else 0.0
                    for p in range(n):
                        cash[p] -= notional[p]
                    for p in range(n):
                        traded[p] += abs(notional[p])
                    for p in range(n):
                        held[p] = target[p] if notional[p] != 0.0 else held[p]
            for p in range(n):
                net[p] += held[p] * last
            if has_borrow:
                for p in range(n):
                    short[p] -= min(held[p] * last, 0.0)
        if has_activity:
            for p in range(n):
                paid[p] += cost_rate[p] * traded[p] + borrow[p]
            for p in range(n):
                turnover[p] += traded[p] / now[p]
        # The same bits as with dividends of nothing.
        if has_dividends:
            for p in range(n):
                cash[p] += dividends[p] - cost_rate[p] * traded[p]
                dividends[p] = 0.0
        else:
            for p in range(n):
                cash[p] -= cost_rate[p] * traded[p]
        for p in range(n):
            now[p] = cash[p] + net[p]
        equity[t, first:stop] = now
    sums[0, first:stop], sums[1, first:stop] = turnover, paid
