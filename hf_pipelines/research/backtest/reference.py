"""The reference engine: an exact cash ledger, one pass over the bars, compiled by numba.

Lives here: when an order is sized and filled, and how corporate events, costs and missing bars are booked.
Not here: aligning frames (`panel.py`), reporting (`result.py`). The other engines are held to this one.

A decision at the close of bar t becomes share counts at once: weight * equity_t / close_t, fractions of a
share allowed. They are filled on bar t + 1, at that bar's open or close. The target is complete: a symbol
held but not named is sold. Between decisions the shares are left alone. On each bar, in this order:

1. Borrow is paid for the shorts held since the last bar, on their last close, for each calendar day.
2. Shares held, and shares ordered the evening before, are multiplied by `split_ratio`.
3. The dividend is paid on the shares held overnight: a buyer at this open gets none, a short pays.
4. Orders are filled, fees and slippage paid. A symbol without a bar cannot trade: its order is dropped (and
   counted), the position kept, until a later decision.
5. Equity is cash plus shares at the close; a symbol without a bar is worth its last close.

Cash may go below zero, by leverage or by a gap between the close that sized an order and the price that
filled it. No order is refused, and no interest is charged unless the costs name it (`cost_kinds.py`). Equity at or below zero ends the simulation with
an error.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hf_pipelines.research.backtest.account import Account, Fills, account_of_ledger
from hf_pipelines.research.backtest.grid import Floats, dense
from hf_pipelines.research.backtest.limited import positions_of, simulate_limited
from hf_pipelines.research.backtest.panel import Fill, TradingPanel, fill_prices
from hf_pipelines.research.backtest.result import (
    DEFAULT_INITIAL_CASH,
    ROUNDING_ORDER,
    BacktestResult,
    Execution,
    limits_of,
)
from hf_pipelines.research.backtest.running import run_kept
from hf_pipelines.research.costs import Costs


def run_reference(
    weights: pl.DataFrame, bars: pl.DataFrame, costs: Costs, execution: Execution, *, periods_per_year: float
) -> BacktestResult:
    """Simulate an account by the contract of engines: see `run_backtest`, and `Execution` for the limits."""
    return run_kept(simulate_panel, weights, bars, costs, execution, periods_per_year)


def simulate_panel(panel: TradingPanel, costs: Costs, execution: Execution) -> Account:
    """Keep the account of a panel; a ruined one is handed back as it is, which `build_result` refuses."""
    if limits_of(execution) or costs.kinds:
        return simulate_limited(panel, costs, execution)
    return _keep(
        panel.weights,
        fill_prices(panel, execution.fill),
        panel.close,
        panel.split_ratio,
        panel.dividend,
        costs,
        initial_cash=execution.initial_cash,
        is_decision=panel.is_decision,
        elapsed_days=panel.elapsed_days,
    )


def run_backtest(
    weights: pl.DataFrame,
    bars: pl.DataFrame,
    costs: Costs,
    *,
    periods_per_year: float,
    initial_cash: float = DEFAULT_INITIAL_CASH,
    fill: Fill = "next_open",
) -> BacktestResult:
    """Simulate an account that follows target weights.

    Parameters
    ----------
    weights : DataFrame
        `symbol, session, ts, weight`: signed fractions of equity. The rows of one `ts` are a complete
        target, decided at that bar's close: a symbol left out is 0.0. A `ts` without rows is no decision:
        shares are held. A decision on the last bar is never filled.
    bars : DataFrame
        The bars contract, raw prices. The account starts at the first decision and runs to the last member
        bar; cut the bars to end it sooner.
    costs : Costs
    periods_per_year : float
        Bars in a year, to annualise with.
    initial_cash : float, default 1,000,000
        Currency of the prices.
    fill : {"next_open", "next_close"}, default "next_open"
        Price of the bar after the decision that fills it.

    Returns
    -------
    BacktestResult

    Raises
    ------
    ValueError
        If an argument is out of range, the frames break their contract (see `build_trading_panel`), or the
        account is ruined (equity at or below zero).
    """
    if not (math.isfinite(initial_cash) and initial_cash > 0.0):
        raise ValueError(f"`initial_cash` must be finite and above zero, was {initial_cash}.")
    execution = Execution(fill=fill, initial_cash=initial_cash)
    return run_reference(weights, bars, costs, execution, periods_per_year=periods_per_year)


def simulate(
    *,
    weights: Floats,
    open: Floats,
    close: Floats,
    costs: Costs,
    split_ratio: Floats | None = None,
    dividend: Floats | None = None,
    initial_cash: float = DEFAULT_INITIAL_CASH,
    fill: Fill = "next_open",
    is_decision: NDArray[np.bool_] | None = None,
    elapsed_days: NDArray[np.int64] | None = None,
) -> Account:
    """Keep the account on arrays already aligned: the core of `run_backtest`, for sweeps.

    Prices and events are taken as valid: `build_trading_panel` checks them.

    Parameters
    ----------
    weights : array of shape (n_bars, n_symbols)
        Target decided at the close of each row, finite; must be 0.0 where `close` is NaN.
    open, close : array of shape (n_bars, n_symbols)
        Raw prices, both NaN where the symbol has no bar.
    costs : Costs
    split_ratio, dividend : array of shape (n_bars, n_symbols), optional
        Effective on the row; 1.0 and 0.0 where there is no event. Without one there is none: nothing of it is read.
    initial_cash : float, default 1,000,000
    fill : {"next_open", "next_close"}, default "next_open"
    is_decision : bool array of shape (n_bars,), optional
        Rows of `weights` to act on. All of them by default.
    elapsed_days : int array of shape (n_bars,), optional
        Calendar days since the row before. Needed only for a borrow fee.

    Returns
    -------
    Account
        Its fills and positions are made of the arrays when they are first asked for: leave these as they are until then.

    Raises
    ------
    ValueError
        If costs name kinds that look at a panel, shapes differ, a weight is not finite or is other than zero without a close, `initial_cash` or
        `fill` is out of range, `elapsed_days` is missing, or the account is ruined.
    """
    shape = weights.shape
    if costs.kinds:
        raise ValueError(
            f"`costs` must be flat for arrays alone, had {', '.join(name for name, _ in costs.kinds)}, which look at a panel; run a "
            "backtest of frames."
        )
    if is_decision is None:
        is_decision = np.ones(shape[0], dtype=np.bool_)
    if elapsed_days is None:
        if costs.borrow_bps_per_year:
            raise ValueError("`elapsed_days` must be given when `borrow_bps_per_year` is not zero, was None.")
        elapsed_days = np.zeros(shape[0], dtype=np.int64)
    split_ratio = np.broadcast_to(np.float64(1.0), shape) if split_ratio is None else split_ratio
    dividend = np.broadcast_to(np.float64(0.0), shape) if dividend is None else dividend
    arrays = {"open": open, "close": close, "split_ratio": split_ratio, "dividend": dividend}
    _check_arguments(shape, arrays, is_decision, elapsed_days, initial_cash=initial_cash, fill=fill)

    account = _keep(
        weights,
        open if fill == "next_open" else close,
        close,
        split_ratio,
        dividend,
        costs,
        initial_cash=initial_cash,
        is_decision=is_decision,
        elapsed_days=elapsed_days,
    )
    _check_solvent(account.equity)
    return account


def _keep(
    weights: Floats,
    fill_price: Floats,
    close: Floats,
    split_ratio: Floats,
    dividend: Floats,
    costs: Costs,
    *,
    initial_cash: float,
    is_decision: NDArray[np.bool_],
    elapsed_days: NDArray[np.int64],
) -> Account:
    has_events = not (_is_constant(split_ratio, 1.0) and _is_constant(dividend, 0.0))
    arguments = (
        dense(weights),
        is_decision,
        dense(fill_price),
        dense(close),
        *((dense(split_ratio), dense(dividend)) if has_events else (None, None)),
        elapsed_days * costs.borrow_rate_per_day,
        costs.fee_rate + costs.slippage_rate,
        float(initial_cash),
    )
    account, n_fills, unfilled_orders, unsized_orders = _compiled()(*arguments, None)
    if unsized_orders:
        raise ValueError(
            "`weights` must be finite, and zero where the symbol has no close to size the order with, "
            f"was not for {unsized_orders} orders."
        )

    @functools.cache
    def filled() -> Floats:
        """Shares filled on each bar: written when they are first asked for, which takes as long as the account again."""
        shares = np.zeros(weights.shape)
        again, *_ = _compiled()(*arguments, shares)
        if not np.array_equal(again, account, equal_nan=True):
            raise ValueError(
                "`weights`, prices and events must stay as they were until the fills of the account are read, were changed; copy "
                "them, or read the fills before."
            )
        return shares

    return account_of_ledger(
        account,
        costs,
        unfilled_orders=int(unfilled_orders),
        n_fills=int(n_fills),
        make_fills=lambda: _fills(filled(), fill_price, costs),
        make_positions=lambda: positions_of(filled(), split_ratio),
    )


def _fills(filled_shares: Floats, fill_price: Floats, costs: Costs) -> Fills:
    bar, symbol = np.nonzero(filled_shares)
    shares, price = filled_shares[bar, symbol], fill_price[bar, symbol]
    notional = np.abs(shares * price)
    return Fills(
        bar=bar,
        # An order lives for one bar, so the decision was taken on the bar before the fill.
        decision_bar=bar - 1,
        symbol=symbol,
        shares=shares,
        price=price,
        costs={"fee": notional * costs.fee_rate, "slippage": notional * costs.slippage_rate},
    )


@functools.cache
def _compiled() -> Any:
    # Compiled on first use: loading the code location imports this module.
    from numba import njit

    return njit(cache=True)(_keep_account)


def _keep_account(  # type: ignore[no-untyped-def]  # compiled: see `simulate` for the types
    weights,
    is_decision,
    fill_price,
    close,
    split_ratio,
    dividend,
    borrow_rate,
    cost_rate,
    initial_cash,
    filled_shares,
):
    """Keep the account in one pass over the bars, writing `filled_shares` unless it is None.

    Without events `split_ratio` and `dividend` are None. What is asked of None is decided when the loop is compiled, once for each case.
    Returns the series in the order `_keep` unpacks them, how many orders were filled, could not be filled, and
    could not be sized.
    """
    n_bars, n_symbols = weights.shape
    account = np.zeros((7, n_bars))
    shares = np.zeros(n_symbols)
    last_close = np.full(n_symbols, np.nan)
    cash = equity = initial_cash
    short_value = 0.0
    n_fills = unfilled_orders = unsized_orders = 0
    for t in range(n_bars):
        has_order = t > 0 and is_decision[t - 1]
        borrow = borrow_rate[t] * short_value
        cash -= borrow
        rounding = ROUNDING_ORDER * equity
        net_value = short_value = traded_value = dividends = 0.0
        for j in range(n_symbols):
            held = shares[j]
            target = held
            if has_order:
                weight = weights[t - 1, j]
                target = weight * equity / close[t - 1, j] if weight != 0.0 else 0.0
            last = close[t, j]
            if np.isnan(last):
                if t > 0 and not np.isnan(close[t - 1, j]):
                    last_close[j] = close[t - 1, j]
                last = last_close[j]
                if target != held and abs(target - held) * last > rounding:
                    unfilled_orders += 1
                elif np.isnan(target):
                    unsized_orders += 1
            else:
                if split_ratio is not None:
                    held *= split_ratio[t, j]
                    target *= split_ratio[t, j]
                    dividends += held * dividend[t, j]
                if target != held:
                    notional = (target - held) * fill_price[t, j]
                    if abs(notional) > rounding:
                        cash -= notional
                        traded_value += abs(notional)
                        if filled_shares is not None:
                            filled_shares[t, j] = target - held
                        n_fills += 1
                        held = target
                    elif np.isnan(target):
                        unsized_orders += 1
                shares[j] = held
            if held != 0.0:
                value = held * last
                net_value += value
                # Of either sign as often, as no processor can foresee: a choice, not a branch, which would take three times as long.
                short_value -= value if value < 0.0 else 0.0
        cash += dividends - cost_rate * traded_value
        equity = cash + net_value
        account[0, t], account[1, t], account[2, t], account[3, t] = (equity, cash, net_value, short_value)
        account[4, t], account[5, t], account[6, t] = traded_value, borrow, dividends
    return account, n_fills, unfilled_orders, unsized_orders


def _is_constant(values: Floats, value: float) -> bool:
    """Whether one number stands in the place of all, and is that: nothing is read of others."""
    return values.strides == (0, 0) and bool(values[0, 0] == value)


def _check_arguments(
    shape: tuple[int, ...],
    arrays: dict[str, Floats],
    is_decision: NDArray[np.bool_],
    elapsed_days: NDArray[np.int64],
    *,
    initial_cash: float,
    fill: str,
) -> None:
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"`weights` must be (n_bars, n_symbols) and not empty, had shape {shape}.")
    for name, values in arrays.items():
        if values.shape != shape:
            raise ValueError(f"`{name}` must have the shape of `weights` {shape}, was {values.shape}.")
    for name, series in {"is_decision": is_decision, "elapsed_days": elapsed_days}.items():
        if series.shape != shape[:1]:
            raise ValueError(f"`{name}` must have one value a row {shape[:1]}, had shape {series.shape}.")
    if not (math.isfinite(initial_cash) and initial_cash > 0.0):
        raise ValueError(f"`initial_cash` must be finite and above zero, was {initial_cash}.")
    if fill not in ("next_open", "next_close"):
        raise ValueError(f"`fill` must be one of ['next_open', 'next_close'], was {fill!r}.")


def _check_solvent(equity: Floats) -> None:
    bad = np.flatnonzero(~(equity > 0.0))
    if len(bad):
        raise ValueError(
            f"`equity` must stay above zero, was {equity[bad[0]]:.2f} after bar {bad[0]} of {len(equity)}; "
            "lower the leverage."
        )
