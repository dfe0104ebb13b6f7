"""Trades from flat to flat: what each time that a symbol was held has earned.

Lives here: how fills, dividends and costs of an account belong to positions. Not here: the account (`result.py`, `reference.py`).
A trade begins with the fill that opens a position, takes all that add to it or reduce it, and ends with the fill that closes or
reverses it; what reverses it opens the next one. Their profits add up to what the account has gained.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hf_pipelines.research.backtest.account import Account
from hf_pipelines.research.backtest.grid import Floats
from hf_pipelines.research.backtest.panel import TradingPanel, last_known, sum_by
from hf_pipelines.research.cost_kinds import OF_CASH

# Positions below this fraction of the largest one of their symbol are the rounding of an engine that adds fills up.
FLAT = 1e-10


SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "symbol": pl.String,
    "entry_session": pl.Date,
    "entry_ts": pl.Datetime("us", "UTC"),
    "exit_session": pl.Date,
    "exit_ts": pl.Datetime("us", "UTC"),
    **dict.fromkeys(
        ("shares", "entry_price", "exit_price", "entry_value", "dividends", "costs", "pnl", "return"), pl.Float64
    ),
    "holding_bars": pl.Int64,
}


def gains_by_symbol(account: Account, panel: TradingPanel) -> Floats:
    """What each position gained on each bar before costs, dividends with it, in currency; shape (n_bars, n_symbols)."""
    held, fills = account.positions, account.fills
    value = held * np.nan_to_num(last_known(panel.close))
    gains = np.diff(value, axis=0, prepend=0.0)
    np.add.at(gains, (fills.bar, fills.symbol), -fills.shares * fills.price)
    return gains + _before(held, panel) * panel.dividend


def round_trips(account: Account, panel: TradingPanel) -> pl.DataFrame:
    """Trades of an account, in order of entry, then symbol.

    Parameters
    ----------
    account : Account
    panel : TradingPanel

    Returns
    -------
    DataFrame
        `symbol`; `entry_session`, `entry_ts` of the bar of the first fill; `exit_session`, `exit_ts` of the last one, null while it
        is open; `shares`, the largest position, negative if short, and `entry_price`, `exit_price`, means over the fills that
        opened and closed it (open: the last close), all of these for shares as they are after the last split; `entry_value`,
        the notional of the fills that opened it; `dividends` and `costs` (of its fills, and its part by value of what is paid
        on short positions), `pnl` after them, in currency; `return`, pnl over entry_value; `holding_bars`, from the first to
        the last fill. Profits of all rows add up to the last equity less the first, but for interest, which is of no position.
    """
    fills, held = account.fills, account.positions
    later = np.cumprod(panel.split_ratio[::-1], axis=0)[::-1] / panel.split_ratio
    before = _before(held, panel)
    order = np.lexsort((fills.bar, fills.symbol))
    bar, symbol, shares = fills.bar[order], fills.symbol[order], fills.shares[order]
    price = fills.price[order]
    paid = np.zeros(len(order)) + sum(each[order] for each in fills.costs.values())
    tiny = FLAT * np.abs(held).max(axis=0, initial=0.0)
    was, stays = _flat(before[bar, symbol], tiny[symbol]), _flat(held[bar, symbol], tiny[symbol])
    reverses = was * stays < 0.0
    # A fill that reverses is two: one closes, one opens.
    source = np.repeat(np.arange(len(order)), np.where(reverses, 2, 1))
    is_second = np.zeros(len(source), np.bool_)
    is_second[1:] = source[1:] == source[:-1]
    split = reverses[source]
    part = np.where(split, np.where(is_second, stays[source], -was[source]), shares[source])
    opens = np.where(split, is_second, was[source] == 0.0)
    trip = np.cumsum(opens) - 1
    if not len(trip):
        return pl.DataFrame(schema=SCHEMA)
    n = int(trip[-1]) + 1
    at, of = bar[source], symbol[source]
    first = np.flatnonzero(opens)
    last = np.append(first[1:], len(trip)) - 1
    side = np.sign(part[first])[trip]
    is_entry = np.sign(part) == side
    units, notional = np.abs(part) * later[at, of], np.abs(part) * price[source]
    share_of_fill = np.abs(part) / np.abs(shares[source])
    entered, left = (
        _sums(trip, n, notional * is_entry, units * is_entry),
        _sums(trip, n, notional * ~is_entry, units * ~is_entry),
    )
    is_open = np.where(split & ~is_second, 0.0, stays[source])[last] != 0.0
    end = np.where(is_open, len(held), at[last])
    dividends, on_bars = _paid_on_bars(account, panel, before, starts=at[first], ends=end, symbols=of[first])
    costs = sum_by(trip, paid[source] * share_of_fill, n) + on_bars
    closes = last_known(panel.close)
    kept = np.where(is_open, held[-1, of[first]] * np.nan_to_num(closes[-1, of[first]]), 0.0)
    pnl = sum_by(trip, -part * price[source], n) + kept + dividends - costs
    running = np.cumsum(part * later[at, of])
    running -= (running - part * later[at, of])[first][trip]
    largest = np.maximum.reduceat(np.abs(running), first) * side[first]
    exit_price = np.divide(left[0], left[1], out=np.full(n, np.nan), where=left[1] > 0.0)
    closing = pl.Series(np.where(is_open, len(held) - 1, at[last]))
    frame = pl.DataFrame(
        {
            "symbol": panel.symbols.gather(of[first]),
            "entry_session": panel.session.gather(at[first]),
            "entry_ts": panel.ts.gather(at[first]),
            "exit_session": panel.session.gather(closing).set(pl.Series(is_open), None),
            "exit_ts": panel.ts.gather(closing).set(pl.Series(is_open), None),
            "shares": largest,
            "entry_price": entered[0] / entered[1],
            "exit_price": np.where(is_open, closes[-1, of[first]], exit_price),
            "entry_value": entered[0],
            "dividends": dividends,
            "costs": costs,
            "pnl": pnl,
            "return": pnl / entered[0],
            "holding_bars": closing.to_numpy() - at[first],
        }
    )
    return frame.sort("entry_ts", "symbol", maintain_order=True)


def _before(held: Floats, panel: TradingPanel) -> Floats:
    """Shares held into each bar, after its split."""
    return np.vstack([np.zeros((1, held.shape[1])), held[:-1]]) * panel.split_ratio


def _flat(shares: Floats, tiny: Floats) -> Floats:
    return np.where(np.abs(shares) <= tiny, 0.0, shares)


def _sums(trip: NDArray[np.int64], n: int, *values: Floats) -> list[Floats]:
    return [sum_by(trip, each, n) for each in values]


def _paid_on_bars(
    account: Account,
    panel: TradingPanel,
    before: Floats,
    *,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    symbols: NDArray[np.int64],
) -> tuple[Floats, Floats]:
    """Dividends of each trade, and its part of the costs of bars that no fill was charged."""
    n_bars = len(before)
    charged = np.zeros(n_bars)
    for each in account.fills.costs.values():
        charged += sum_by(account.fills.bar, each, n_bars)
    others = np.sum([each for kind, each in account.costs.items() if kind not in OF_CASH], axis=0) - charged
    # Rounding of two sums of the same costs is none of its own.
    others[np.abs(others) <= FLAT * np.abs(charged)] = 0.0
    closes = np.nan_to_num(last_known(panel.close))
    short = np.zeros(before.shape)
    short[1:] = np.maximum(-account.positions[:-1] * closes[:-1], 0.0)
    total = short.sum(axis=1, keepdims=True)
    part = np.divide(short, total, out=np.zeros(before.shape), where=total > 0.0)
    cumulated = [
        np.vstack([np.zeros((1, before.shape[1])), np.cumsum(each, axis=0)])
        for each in (before * panel.dividend, part * others[:, None])
    ]
    # What is paid on the bar of the last fill is paid on what was held into it; on that of the first one, it is the trade before's.
    until = np.minimum(ends + 1, len(before))
    found = [each[until, symbols] - each[starts + 1, symbols] for each in cumulated]
    return found[0], found[1]
