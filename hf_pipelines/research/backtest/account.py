"""The account as an engine kept it, bar by bar.

Lives here: `Account` and its `Fills`, arrays on the rows and columns of a panel. Not here: who keeps it (`reference.py` and the other
engines), the frames that are made of it (`result.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hf_pipelines.research.backtest.grid import Floats
from hf_pipelines.research.costs import Costs


@dataclass(frozen=True, eq=False, kw_only=True)
class Fills:
    """Fills as the engine made them, in order of time, then symbol; arrays of shape (n_fills,).

    Attributes
    ----------
    bar, decision_bar : int array
        Rows of the panel: the bar filled on, and the one at whose close it was decided.
    symbol : int array
        Columns of the panel.
    shares, price : array
        Signed shares, fractions allowed, and what one of them was filled at, before costs.
    costs : mapping of str to array
        Paid for each fill in currency, by kind: "fee", "slippage" and what else an engine charges.
    """

    bar: NDArray[np.int64]
    decision_bar: NDArray[np.int64]
    symbol: NDArray[np.int64]
    shares: Floats
    price: Floats
    costs: Mapping[str, Floats]


@dataclass(frozen=True, eq=False, kw_only=True)
class Account:
    """The account after each bar, as the engine kept it, in currency; arrays of shape (n_bars,) unless said otherwise.

    Identities, exact up to rounding: `equity = cash + net_value`, and the change of `equity` is the gain on
    the shares held + `dividends` - every kind of `costs`.

    Attributes
    ----------
    equity, cash : array
        At the close, after the bar's fills. Cash may be negative where the engine refuses no order.
    net_value, gross_value : array
        Sum of the values of the positions, signed and absolute.
    traded_value : array
        Sum of the absolute notionals filled on the bar.
    costs : mapping of str to array
        Paid on the bar, by kind: "fees", "slippage", "borrow", keys of `COST_KINDS`, and what else an engine charges. Negative
        where it is received, such as interest on cash.
    dividends : array
        Received on the bar; negative when paid on short positions.
    unfilled_orders : int
        Orders dropped because the symbol had no bar to fill them on, or of which a limit left something unfilled.
    n_fills : int
        Length of `fills`, known without making them.
    make_fills, make_positions : callable
        What `fills` and `positions` are made by, when they are first asked for.
    """

    equity: Floats
    cash: Floats
    net_value: Floats
    gross_value: Floats
    traded_value: Floats
    costs: Mapping[str, Floats]
    dividends: Floats
    unfilled_orders: int
    n_fills: int
    make_fills: Callable[[], Fills]
    make_positions: Callable[[], Floats]

    @cached_property
    def fills(self) -> Fills:
        """Every fill."""
        return self.make_fills()

    @cached_property
    def positions(self) -> Floats:
        """Shares held after each bar, of shape (n_bars, n_symbols)."""
        return self.make_positions()


def account_of_ledger(
    series: Floats,
    costs: Costs,
    *,
    unfilled_orders: int,
    n_fills: int,
    make_fills: Callable[[], Fills],
    make_positions: Callable[[], Floats],
    kinds: Mapping[str, Floats] | None = None,
) -> Account:
    """The account of a ledger that charges fees, slippage and borrow, and other kinds by bar.

    Parameters
    ----------
    series : array of shape (7, n_bars)
        Equity, cash, net value, value of the shorts (positive), traded value, borrow paid, dividends received.
    costs : Costs
    unfilled_orders, n_fills, make_fills, make_positions
        As `Account`.
    kinds : mapping of str to array, optional
        Of shape (n_bars,).
    """
    equity, cash, net_value, short_value, traded_value, borrow, dividends = series
    return Account(
        equity=equity,
        cash=cash,
        net_value=net_value,
        gross_value=net_value + 2.0 * short_value,
        traded_value=traded_value,
        costs={
            "fees": traded_value * costs.fee_rate,
            "slippage": traded_value * costs.slippage_rate,
            "borrow": borrow,
            **(kinds or {}),
        },
        dividends=dividends,
        unfilled_orders=unfilled_orders,
        n_fills=n_fills,
        make_fills=make_fills,
        make_positions=make_positions,
    )
