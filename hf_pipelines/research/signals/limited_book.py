"""Limited book: target weights held to limits, decision by decision, replayed from fixed weeks.

Lives here: the replay and the arithmetic of each limit. Not here: their names, their order and what contradicts (`limits`).

State (what is held, since when) is replayed from the targets alone. A replay begins flat at the first decision of a block of `memory_weeks`
weeks, counted from a Sunday that never changes, and gives the weights of the block after it: so a session has the same weights in any frame that
holds both blocks, and within a block each decision follows exactly what the one before it gave.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.features.lazy_kernel import window_kernel
from hf_pipelines.research.signals.rule import Floats, Params, RuleContext

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

# Sums are rounded: what is scaled down to a cap is scaled a hair below it, so that no order of adding passes it. Of the turnover cap more is left,
# so that the caps after it, which may take a hair from each weight, do not pass it.
CAP_MARGIN = 1e-13
TURNOVER_MARGIN = 1e-9

# Counted, in this order: rows for exclusions, symbol_cap, band, holding, day_trades and bounds, else decisions.
COUNTED = (
    "excluded", "symbol_cap", "band", "holding", "day_trades", "sector_cap", "net_cap", "gross_cap", "turnover_cap",
    "turnover_cap yields", "bounds",
)  # fmt: skip


@dataclass(frozen=True)
class LimitedBook:
    """Weights within limits, and how often each limit changed them.

    Attributes
    ----------
    weights : array of shape (n_rows,)
    counts : mapping of str to int
        By `COUNTED`.
    n_decisions : int
    """

    weights: Floats
    counts: Mapping[str, int]
    n_decisions: int


def limit_book(
    targets: pl.Series,
    predictions: pl.DataFrame,
    context: RuleContext,
    *,
    is_known: pl.Series,
    bounds: tuple[pl.Series, pl.Series] | None = None,
    limits: Mapping[str, Params],
    max_gross: float,
    block_weeks: int,
) -> LimitedBook:
    """Hold target weights to limits.

    Parameters
    ----------
    targets : Series of shape (n_rows,)
    predictions : DataFrame
        Sorted by (ts, symbol).
    is_known : Series of bool
        Whether a row may have a position at all.
    bounds : (lower, upper), optional
        Series of shape (n_rows,), lower at most 0 and upper at least 0: what limits of other modules let each weight be.
    limits : mapping of str to parameters
        By keys of `LIMITS`.
    max_gross : float
        What absolute weights add up to where there is no `gross_cap`.
    block_weeks : int
        Weeks of a block; 0 where no limit has a state.
    """

    def param(name: str, key: str, absent: float) -> Any:
        return limits[name][key] if name in limits else absent

    ts = predictions["ts"].to_physical().to_numpy()
    starts = np.flatnonzero(np.diff(ts, prepend=ts[:1] - 1)).astype(np.int64)
    symbol = predictions["symbol"].rank("dense").cast(pl.Int64).to_numpy() - 1
    sector = _sector_codes(predictions, context) if "sector_cap" in limits else np.zeros(len(ts), dtype=np.int64)
    session = context.session_numbers(predictions)[starts].astype(np.int64)
    # The first Sunday after the epoch of dates is its fourth day.
    days = predictions["session"].cast(pl.Int32).cast(pl.Int64).to_numpy()[starts] - 3
    block = days // (7 * block_weeks) if block_weeks else np.zeros(len(starts), dtype=np.int64)
    lowest, highest = _bounds_of_rows(bounds, len(ts))
    weights, counts = np.zeros(len(ts)), np.zeros(len(COUNTED), dtype=np.int64)
    if len(ts):
        _replay(
            targets.to_numpy(),
            is_known.to_numpy(),
            can_short(predictions, limits),
            lowest,
            highest,
            symbol,
            sector,
            np.append(starts, len(ts)),
            session,
            block,
            block_weeks > 0,
            np.array(
                [
                    param("symbol_cap", "most", np.inf),
                    param("sector_cap", "most", np.inf),
                    param("net_cap", "most", np.inf),
                    param("gross_cap", "most", max_gross),
                    param("turnover_cap", "most", np.inf),
                    param("band", "least", 0.0),
                ]
            ),
            np.array(
                [
                    param("holding", "sessions", 0),
                    param("day_trades", "most", -1),
                    param("day_trades", "sessions", 0),
                ],
                dtype=np.int64,
            ),
            weights,
            counts,
        )
    return LimitedBook(weights, dict(zip(COUNTED, counts.tolist(), strict=True)), len(starts))


def _sector_codes(predictions: pl.DataFrame, context: RuleContext) -> Ints:
    names = predictions["symbol"].replace_strict(context.sectors, return_dtype=pl.String)
    return names.rank("dense").cast(pl.Int64).to_numpy() - 1


def _bounds_of_rows(bounds: tuple[pl.Series, pl.Series] | None, n_rows: int) -> tuple[Floats, Floats]:
    if bounds is None:
        return np.full(n_rows, -np.inf), np.full(n_rows, np.inf)
    lower, upper = (each.to_numpy() for each in bounds)
    return lower, upper


def can_short(predictions: pl.DataFrame, limits: Mapping[str, Params]) -> Bools:
    """Rows that may be held short."""
    can = np.full(predictions.height, "long_only" not in limits)
    if "borrow" in limits:
        feature, symbols = limits["borrow"]["feature"], limits["borrow"]["symbols"]
        if symbols:
            can &= ~predictions["symbol"].is_in(list(symbols)).to_numpy()
        if feature:
            can &= (predictions[feature] > 0.0).fill_null(False).to_numpy()
    return can


@window_kernel
def _replay(
    targets: Any,
    known: Any,
    can_short: Any,
    lowest: Any,
    highest: Any,
    symbol: Any,
    sector: Any,
    starts: Any,
    session: Any,
    block: Any,
    has_state: Any,
    caps: Any,
    counts_of: Any,
    weights: Any,
    counted: Any,
) -> Any:
    n_decisions, n_symbols = len(starts) - 1, symbol.max() + 1
    held, since, seen = np.zeros(n_symbols), np.zeros(n_symbols, np.int64), np.full(n_symbols, -2, np.int64)
    # Day trades of each decision, so that those of the last sessions can be added up.
    trades = np.zeros(n_decisions, np.int64)
    by_sector, rest = np.zeros(sector.max() + 1), np.zeros(sector.max() + 1)
    # A row's book before and after; no decision has more.
    widest = (starts[1:] - starts[:-1]).max()
    before, after = np.zeros(widest), np.zeros(widest)
    # Blocks as ranges of decisions: of a book without state each is its own beginning.
    first, last = 0, 0
    previous = 0
    while first < n_decisions:
        last = first
        while last < n_decisions and (block[last] == block[first] or not has_state):
            last += 1
        begin = previous if has_state and first > 0 and block[first] - block[previous] == 1 else first
        seen[:] = -2
        trades[begin:last] = 0
        for at in range(begin, last):
            is_given = at >= first
            low, high = starts[at], starts[at + 1]
            n = high - low
            for k in range(n):
                row = low + k
                code = symbol[row]
                was = held[code] if has_state and seen[code] == at - 1 and at > begin else 0.0
                to = targets[row] if known[row] else 0.0
                may_not_be_short = not can_short[row]
                if to < 0.0 and may_not_be_short:
                    to = 0.0
                    counted[0] += is_given
                if not known[row] or (was < 0.0 and may_not_be_short):
                    was = 0.0
                if to < lowest[row] or to > highest[row]:
                    to = min(max(to, lowest[row]), highest[row])
                    counted[10] += is_given
                was = min(max(was, lowest[row]), highest[row])
                if abs(to) > caps[0]:
                    to = caps[0] if to > 0.0 else -caps[0]
                    counted[1] += is_given
                before[k] = was
                after[k] = to
            if has_state:
                _keep(before[:n], after[:n], known[low:high], symbol[low:high], since, session, trades, at, begin, caps, counts_of,
                      counted, is_given)  # fmt: skip
            _cap(after[:n], sector[low:high], by_sector, rest, caps, counted, is_given)
            if has_state:
                _turn(before[:n], after[:n], lowest[low:high], highest[low:high], sector[low:high], by_sector, rest, caps,
                      counted, is_given)  # fmt: skip
                for k in range(n):
                    code, was, to = symbol[low + k], before[k], after[k]
                    is_today = was != 0.0 and since[code] == session[at]
                    if is_today and (to * was <= 0.0 or abs(to) < abs(was)):
                        trades[at] += 1
                    if to != 0.0 and to * was <= 0.0:
                        since[code] = session[at]
                    held[code] = to
                    seen[code] = at
            if is_given:
                weights[low:high] = after[:n]
        previous = first
        first = last


@window_kernel
def _keep(
    before: Any,
    after: Any,
    known: Any,
    symbol: Any,
    since: Any,
    session: Any,
    trades: Any,
    at: Any,
    begin: Any,
    caps: Any,
    counts_of: Any,
    counted: Any,
    is_given: Any,
) -> Any:
    """What may not be traded stays as it is."""
    band, n_held, most_trades, n_counted = caps[5], counts_of[0], counts_of[1], counts_of[2]
    n_trades = 0
    if most_trades >= 0:
        for each in range(at, begin - 1, -1):
            if session[each] <= session[at] - n_counted:
                break
            n_trades += trades[each]
    for k in range(len(before)):
        was, to = before[k], after[k]
        if to == was or not known[k]:
            continue
        if abs(to - was) < band:
            after[k] = was
            counted[2] += is_given
            continue
        if was == 0.0:
            continue
        if to * was <= 0.0 and session[at] - since[symbol[k]] < n_held:
            after[k] = was
            counted[3] += is_given
            continue
        is_smaller = to * was <= 0.0 or abs(to) < abs(was)
        if most_trades >= 0 and is_smaller and since[symbol[k]] == session[at]:
            if n_trades >= most_trades:
                after[k] = was
                counted[4] += is_given
            else:
                n_trades += 1


@window_kernel
def _turn(
    before: Any, after: Any, lowest: Any, highest: Any, sector: Any, by_sector: Any, rest: Any, caps: Any, counted: Any,
    is_given: Any,
) -> Any:  # fmt: skip
    """All changes scaled down to the turnover; the caps once more, for what was held may break them once others are gone."""
    most = caps[4]
    if most == np.inf:
        return
    moved = _turnover(before, after)
    if moved <= most:
        return
    counted[8] += is_given
    share = most * (1.0 - TURNOVER_MARGIN) / moved
    for k in range(len(before)):
        if after[k] != before[k]:
            after[k] = before[k] + share * (after[k] - before[k])
            after[k] = min(max(after[k], lowest[k]), highest[k])
            if abs(after[k]) > caps[0]:
                after[k] = caps[0] if after[k] > 0.0 else -caps[0]
    _cap(after, sector, by_sector, rest, caps, counted, False)
    if _turnover(before, after) > most:
        counted[9] += is_given


@window_kernel
def _turnover(before: Any, after: Any) -> Any:
    total, lost = 0.0, 0.0
    for k in range(len(before)):
        value = abs(after[k] - before[k])
        both = total + value
        lost += (total - both) + value if total >= value else (value - both) + total
        total = both
    return total + lost


@window_kernel
def _cap(after: Any, sector: Any, by_sector: Any, rest: Any, caps: Any, counted: Any, is_given: Any) -> Any:
    """Sectors, then net, then gross: each scales down alone, so that what was kept before stays kept."""
    n = len(after)
    if caps[1] != np.inf:
        by_sector[:] = 0.0
        rest[:] = 0.0
        for k in range(n):
            code, value = sector[k], abs(after[k])
            total = by_sector[code]
            both = total + value
            rest[code] += (total - both) + value if total >= value else (value - both) + total
            by_sector[code] = both
        is_cut = False
        for k in range(n):
            gross = by_sector[sector[k]] + rest[sector[k]]
            if gross > caps[1]:
                after[k] *= caps[1] * (1.0 - CAP_MARGIN) / gross
                is_cut = True
        counted[5] += is_given and is_cut
    if caps[2] != np.inf:
        net = _sum(after, 0)
        if abs(net) > caps[2]:
            long, short = _sum(after, 1), -_sum(after, -1)
            larger, smaller = (long, short) if net > 0.0 else (short, long)
            scale = (smaller + caps[2]) * (1.0 - CAP_MARGIN) / larger
            for k in range(n):
                if after[k] * net > 0.0:
                    after[k] *= scale
            counted[6] += is_given
    gross = _sum(after, 1) - _sum(after, -1)
    if gross > caps[3]:
        scale = caps[3] * (1.0 - CAP_MARGIN) / gross
        for k in range(n):
            after[k] *= scale
        counted[7] += is_given


@window_kernel
def _sum(values: Any, side: Any) -> Any:
    """Sum of the values above zero (1), below (-1) or of all (0); what rounding loses is added in the end (Neumaier)."""
    total, lost = 0.0, 0.0
    for k in range(len(values)):
        value = values[k]
        if side * value < 0.0:
            continue
        both = total + value
        lost += (total - both) + value if abs(total) >= abs(value) else (value - both) + total
        total = both
    return total + lost
