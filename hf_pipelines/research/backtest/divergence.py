"""Causes of a divergence: what an engine must have done to hold what it holds.

Lives here: the faults of ledgers that are known by their size. Not here: which bar diverges first (`reconcile.py`). A cause is
named where the numbers of the bar are those that it would give; where none fits, the difference is described.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from hf_pipelines.research.backtest.grid import Floats
from hf_pipelines.research.backtest.panel import last_known
from hf_pipelines.research.backtest.result import BacktestResult

FILLED_AT_ONCE = "filled on the bar that decided it, not on the next one"
# Fraction of equity by which orders of one decision differ where they are sized by the equity of the bar before or after.
NEARLY = 0.02
BUYERS_DIVIDEND = "the dividend was paid to the buyer of the ex-date, who was no holder overnight"


@dataclass(frozen=True, kw_only=True)
class Bar:
    """The bar on which two accounts differ for the first time: before it they are equal."""

    bar: int
    found: BacktestResult
    expected: BacktestResult
    tolerance: float

    @property
    def before(self) -> Floats:
        """Shares held into the bar, before its split."""
        held = self.expected.account.positions
        return held[self.bar - 1] if self.bar else np.zeros(held.shape[1])

    @property
    def earlier_close(self) -> Floats:
        """The last close before the bar."""
        closes = last_known(self.expected.panel.close)
        return np.nan_to_num(closes[self.bar - 1]) if self.bar else np.zeros(closes.shape[1])

    def is_near(self, value: float, other: float) -> bool:
        """Whether two amounts of money are the same."""
        return bool(abs(value - other) <= self.tolerance * abs(self.expected.account.equity[self.bar]))

    def is_near_in_shares(self, value: float, other: float, column: int) -> bool:
        """Whether two numbers of shares are the same, by their value."""
        price = max(self.earlier_close[column], np.nan_to_num(self.expected.panel.close[self.bar, column]))
        return self.is_near(value * price, other * price)


def fills_on(result: BacktestResult, bar: int) -> tuple[Floats, Floats]:
    """Shares filled on a bar and the price of one, by symbol; 0 and NaN where nothing was."""
    fills, n = result.account.fills, len(result.panel.symbols)
    shares, price = np.zeros(n), np.full(n, np.nan)
    at = fills.bar == bar
    shares[fills.symbol[at]] = fills.shares[at]
    price[fills.symbol[at]] = fills.price[at]
    return shares, price


def cause_of_shares(context: Bar, column: int) -> str:
    """Why a number of shares differs."""
    bar, panel = context.bar, context.expected.panel
    due, _ = fills_on(context.expected, bar)
    done, price = fills_on(context.found, bar)
    held, expected = context.found.account.positions[bar, column], context.expected.account.positions[bar, column]
    before, ratio = context.before[column], panel.split_ratio[bar, column]
    has_order = bar > 0 and bool(panel.is_decision[bar - 1])
    if ratio != 1.0 and (before != 0.0 or due[column] != 0.0):
        whole = before * ratio + due[column]
        sides = {
            "the shares held were not multiplied": before + due[column],
            "the shares held were divided": before / ratio + due[column],
            "the shares held were not multiplied, and ordered again": whole + before * (ratio - 1.0),
        }
        told = [words for words, value in sides.items() if context.is_near_in_shares(held, value, column)]
        said = told[0] if told else f"{before:,.6g} shares became {held:,.6g}, {expected:,.6g} are due"
        return f"the split of {ratio:g} was booked on the wrong side: {said}"
    later = panel.split_ratio[min(bar + 1, len(panel.ts) - 1), column]
    if later != 1.0 and before != 0.0 and context.is_near_in_shares(held, expected * later, column):
        return f"the split of {later:g} was booked on the wrong side of the night: a bar early"
    if done[column] != 0.0 and panel.is_decision[bar] and (not has_order or _is_of_this_bar(context, column)):
        return FILLED_AT_ONCE
    if done[column] == 0.0:
        return f"an order of {due[column]:,.6g} shares was not filled: refused, or dropped"
    if due[column] == 0.0:
        return f"{done[column]:,.6g} shares were filled that nobody ordered for this bar"
    target = held * price[column]
    if context.is_near(target, expected * context.earlier_close[column]):
        return "the order was sized at the price of its fill, not at the close that decided it"
    close = np.nan_to_num(panel.close[bar, column])
    if close and context.is_near(held * close, expected * context.earlier_close[column]):
        return "the order was sized at the close of the bar of its fill, not at the one that decided it"
    return f"{done[column]:,.6g} shares were filled where {due[column]:,.6g} are due: sized by another price, equity or weight"


def _is_of_this_bar(context: Bar, column: int) -> bool:
    """Whether the shares held are those that the decision of the bar itself asks for, and not those that are due."""
    panel, bar = context.expected.panel, context.bar
    close, equity = panel.close[bar, column], context.expected.account.equity[bar]
    asked = panel.weights[bar, column] * equity / close if panel.weights[bar, column] else 0.0
    held, due = context.found.account.positions[bar, column], context.expected.account.positions[bar, column]
    return bool(abs(held - asked) < 0.25 * abs(held - due) and abs(held - asked) * close < NEARLY * equity)


def cause_of_cash(context: Bar) -> tuple[int | None, str]:
    """Why cash differs, where shares do not: the largest part of the difference, and its symbol where it has one."""
    bar, found, expected = context.bar, context.found.account, context.expected.account
    done, price = fills_on(context.found, bar)
    _, due = fills_on(context.expected, bar)
    paid = np.nan_to_num(-done * price) + np.nan_to_num(done * due)
    kinds = {kind: values[bar] for kind, values in expected.costs.items()}
    extra = {kind: values[bar] - kinds.get(kind, 0.0) for kind, values in found.costs.items()}
    dividends = found.dividends[bar] - expected.dividends[bar]
    parts = {"price": float(paid[np.abs(paid).argmax()]), "dividends": float(dividends)}
    parts |= {kind: -float(value) for kind, value in extra.items()}
    largest = max(parts, key=lambda name: abs(parts[name]))
    if context.is_near(parts[largest], 0.0) and abs(parts[largest]) < 0.5 * abs(found.cash[bar] - expected.cash[bar]):
        return None, "neither fills, dividends nor costs that it reports differ: cash moved beside them"
    if largest == "price":
        column = int(np.abs(paid).argmax())
        return column, _price_in_words(context, column, float(price[column]), float(due[column]))
    if largest == "dividends":
        return _cause_of_dividends(context, float(dividends), done)
    return None, _cause_of_costs(context, largest, float(kinds.get(largest, 0.0) + extra[largest]))


def _price_in_words(context: Bar, column: int, price: float, due: float) -> str:
    panel, bar = context.expected.panel, context.bar
    others = {
        "the close that decided it: a stale price, or a fill on the bar of the decision": context.earlier_close[column],
        "the open of the bar": panel.open[bar, column],
        "the close of the bar": panel.close[bar, column],
        "a stale price, the open of the bar before": panel.open[max(bar - 1, 0), column],
    }
    for words, value in others.items():
        if abs(price - value) <= context.tolerance * value and abs(due - value) > context.tolerance * value:
            return f"filled at {price:,.6g}, {words}, not at {due:,.6g}"
    return f"filled at {price:,.6g}, not at {due:,.6g}"


def _cause_of_dividends(context: Bar, extra: float, done: Floats) -> tuple[int | None, str]:
    panel, bar = context.expected.panel, context.bar
    cash, ratio = panel.dividend[bar], panel.split_ratio[bar]
    guesses: Mapping[str, Floats] = {
        BUYERS_DIVIDEND: done * cash,
        "the dividend was paid on the shares before the split, it is for those after it": context.before
        * (1.0 - ratio)
        * cash,
        "the dividend was not paid": -context.before * ratio * cash,
        "the dividend was paid twice": context.before * ratio * cash,
    }
    for column, words, value in _each(guesses):
        if value != 0.0 and context.is_near(value, extra):
            return column, words
    paying = np.flatnonzero(cash)
    column = int(paying[0]) if len(paying) == 1 else None
    return column, f"dividends differ by {extra:,.6g}"


def _cause_of_costs(context: Bar, kind: str, paid: float) -> str:
    panel, bar, account = context.expected.panel, context.bar, context.expected.account
    due = account.costs[kind][bar] if kind in account.costs else 0.0
    done, price = fills_on(context.expected, bar)
    notional = account.traded_value[bar]
    if kind in ("fees", "slippage") and notional > 0.0 and due > 0.0:
        rate = due / notional
        shares = np.abs(done)
        on = {
            "at the close of the bar": shares * np.nan_to_num(panel.close[bar]),
            "at the open of the bar": shares * np.nan_to_num(panel.open[bar]),
            "at the close that decided": shares * context.earlier_close,
            "of the whole position": np.abs(account.positions[bar]) * np.nan_to_num(price),
        }
        for words, values in on.items():
            if abs(values.sum() * rate - paid) <= 1e-6 * paid:
                return f"{kind} of {paid:,.6g} are charged on the wrong notional, {words}; {due:,.6g} are due on that of the fills"
        return f"{kind} of {paid:,.6g} are charged on the wrong notional or at another rate; {due:,.6g} are due"
    return f"{kind} of {paid:,.6g} are charged, {due:,.6g} are due"


def cause_of_value(context: Bar) -> tuple[int | None, str]:
    """Why equity differs, where cash and shares do not: what a position is worth."""
    bar, panel = context.bar, context.expected.panel
    held = context.expected.account.positions[bar]
    close = np.nan_to_num(last_known(panel.close)[bar])
    extra = context.found.account.equity[bar] - context.expected.account.equity[bar]
    guesses: Mapping[str, Floats] = {
        "valued at a stale price, the last close before the bar": held * (context.earlier_close - close),
        "valued at the open of the bar, not at its close": held * (np.nan_to_num(panel.open[bar]) - close),
        "valued at nothing": -held * close,
    }
    for column, words, value in _each(guesses):
        if value != 0.0 and context.is_near(value, extra):
            return column, words
    return None, f"positions are worth {extra:,.6g} more than at their last closes"


def _each(guesses: Mapping[str, Floats]) -> Iterator[tuple[int | None, str, float]]:
    """Each guess for every symbol alone, then for all of them."""
    for words, values in guesses.items():
        yield from ((column, words, float(value)) for column, value in enumerate(values))
        only = np.flatnonzero(values)
        yield int(only[0]) if len(only) == 1 else None, words, float(values.sum())
