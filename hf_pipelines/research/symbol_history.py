"""A symbol's recent history beside each of its bars: what the rules of quality compare a bar with.

Lives here: bars as arrays (sessions, symbols), the bar before, the events that prices show, and what is usual for a
symbol. Does not live here: what is wrong with a bar (`quality`).

Windows are counted in sessions of the calendar, never in rows of the frame, and no running sum is used: it does not
matter where the frame begins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import TypeAlias, TypeVar, cast

import numpy as np
import numpy.typing as npt
import polars as pl

Array: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]
T = TypeVar("T")

# What is usual: the median of a month of sessions, which ten faulty ones of them do not move.
LEVEL_SESSIONS = 20
# Fewer bars than this in the month say nothing of what is usual.
LEVEL_BARS = 5
# The bar before: after a longer pause the price of before is no measure of the price after.
PREVIOUS_SESSIONS = 5
# Sessions that a bar's history reaches back.
HISTORY_SESSIONS = LEVEL_SESSIONS + PREVIOUS_SESSIONS

# An event of less than this may drown in what prices do in a night. A 5:4 split is one of more.
EVENT_FLOOR = math.log(1.24)
# Share of the event that the price must show at least.
EVENT_SHOWN = 0.35
# The price shows a part of the event and is off by more than this after it: the event has another size.
EVENT_RESIDUAL = math.log(2.0)
EVENT_PARTLY_SHOWN = 0.65

# A symbol whose prices do not move on most sessions is as restless as on a quarter of them.
RESTLESS_SHARE = 0.75

# Of a night's move: what may be missing on the way back to the level before, and the least that led away from there.
RETURN_WITHIN = 0.35
RETURN_OPPOSITE = 0.6


@dataclass(frozen=True, eq=False)
class History:
    """Bars of some symbols as arrays (sessions, symbols), NaN where there is none, with what is usual for each.

    Attributes
    ----------
    open, high, low, close, turnover : arrays
        Of the bar; turnover is close times volume: no split changes it.
    event : array
        What the bar's own events make of the price before it: 0.5 for a 2:1 split.
    previous : array
        Close of the bar before, as traded.
    pause : array
        Sessions without a bar since the bar before.
    factor : array
        `event`; for a large one that the price does not show, what the price shows.
    expected, before_previous : arrays
        Closes of the bar before and of the one before that, after all events since.
    usual_price, usual_turnover : arrays
        Medians of the month before, NaN with fewer than `LEVEL_BARS` bars; the price after all events since.
    usual_range : array
        Median of ln(high / low) of the month before or, where more, what three quarters of the moves from close to
        close stay below.
    lowest_turnover, highest_turnover : arrays
        Of the month before.
    rise, fall : arrays
        Largest move up and down from close to close in the month before, as logarithms.
    before_rise, before_fall : arrays
        Closes before those moves, after all events since.
    """

    open: Array
    high: Array
    low: Array
    close: Array
    turnover: Array
    event: Array
    previous: Array
    pause: Array
    factor: Array
    expected: Array
    before_previous: Array
    usual_price: Array
    usual_turnover: Array
    usual_range: Array
    lowest_turnover: Array
    highest_turnover: Array
    rise: Array
    fall: Array
    before_rise: Array
    before_fall: Array
    _known: dict[object, object] = field(default_factory=dict, init=False, repr=False)

    def once(self, compute: Callable[[History], T]) -> T:
        """What `compute` makes of the history, made on the first call: rules ask for each other's findings."""
        if compute not in self._known:
            self._known[compute] = compute(self)
        return cast(T, self._known[compute])

    @cached_property
    def gap(self) -> Array:
        """ln(open / expected): the part of the night's move that no event explains."""
        return np.log(self.open / self.expected)

    @cached_property
    def shown(self) -> Array:
        """Share of the bar's own event that the open shows; NaN without an event."""
        return _shown(self.event, self.open, self.previous)

    @cached_property
    def range(self) -> Array:
        return np.log(self.high / self.low)

    @cached_property
    def turnover_ratio(self) -> Array:
        """Money traded by what is usual; NaN where nothing is usual, as with currencies."""
        return self.turnover / np.where(self.usual_turnover > 0.0, self.usual_turnover, np.nan)


def leaves_level(history: History) -> Mask:
    """Whether the night's move leads to a new price: the way back from a wrong print does not."""
    is_up, size = history.gap > 0.0, np.abs(history.gap)
    way_there = np.where(is_up, -history.fall, history.rise)
    missing = np.abs(np.log(history.open / np.where(is_up, history.before_fall, history.before_rise)))
    return np.asarray(~((way_there > RETURN_OPPOSITE * size) & (missing < RETURN_WITHIN * size)))


def one_a_session(bars: pl.DataFrame) -> pl.DataFrame:
    """One bar a symbol-session with its turnover; the first of several carries their events."""
    turnover = (pl.col("close") * pl.col("volume")).alias("turnover")
    if bars.select("symbol", "session").is_duplicated().any():
        return bars.sort("symbol", "ts").group_by("symbol", "session", maintain_order=True).agg(
            pl.col("open", "split_ratio", "dividend").first(), pl.col("high").max(), pl.col("low").min(),
            pl.col("close").last(), turnover.sum(),
        )  # fmt: skip
    return bars.with_columns(turnover)


def history_of(daily: pl.DataFrame, days: Sequence[date], symbols: Sequence[str]) -> History:
    """History of some symbols; `daily` as `one_a_session` makes it, `days` ascending with all sessions of the calendar."""
    of_block = daily.filter(pl.col("symbol").is_in(list(symbols)))
    rows = np.searchsorted(np.array(days, dtype="datetime64[D]"), of_block["session"].to_numpy())
    columns = pl.Series(symbols, dtype=pl.String).search_sorted(of_block["symbol"]).to_numpy()
    names = ("open", "high", "low", "close", "turnover", "split_ratio", "dividend")
    dense = {name: np.full((len(days), len(symbols)), np.nan) for name in names}
    for name, values in dense.items():
        values[rows, columns] = of_block[name].to_numpy()
    close = dense["close"]
    previous, pause = _bar_before(close)
    event = _event(close, previous, dense["split_ratio"], dense["dividend"])
    # An unknown event is what makes the price of before that at which the bar opens.
    event = or_one(np.where(np.isfinite(close) & np.isnan(event), dense["open"] / previous, event))
    factor = _shown_factor(event, dense["open"], previous)
    lagged = _comparable(close, factor)
    expected, before_previous = _first_two(lagged)
    moves = lags(np.log(close / (previous * factor)), LEVEL_SESSIONS)
    rise, after_rise = _largest(moves, lagged)
    fall, after_fall = _largest(-moves, lagged)
    turnovers = _ordered(lags(dense["turnover"], LEVEL_SESSIONS))
    ranges = _ordered(lags(np.log(dense["high"] / dense["low"]), LEVEL_SESSIONS))
    return History(
        **{name: dense[name] for name in ("open", "high", "low", "close", "turnover")},
        event=event,
        previous=previous,
        pause=pause,
        factor=factor,
        expected=expected,
        before_previous=before_previous,
        rise=rise,
        fall=-fall,
        before_rise=after_rise / np.exp(rise),
        before_fall=after_fall * np.exp(fall),
        usual_price=_median(_ordered(lagged)),
        usual_turnover=_median(turnovers),
        usual_range=np.fmax(_median(ranges), _quantile(_ordered(np.abs(moves)), RESTLESS_SHARE)),
        lowest_turnover=turnovers[0],
        highest_turnover=_at(turnovers, np.isfinite(turnovers).sum(axis=0) - 1),
    )


def lag(values: Array, n: int) -> Array:
    """Values of `n` sessions before; NaN where the frame does not reach back."""
    lagged = np.full_like(values, np.nan)
    if n < len(values):
        lagged[n:] = values[: len(values) - n]
    return lagged


def lags(values: Array, n: int) -> Array:
    """(n, sessions, symbols): the values of 1, 2, ..., `n` sessions before."""
    stacked = np.full((n, *values.shape), np.nan)
    for each in range(1, min(n, len(values) - 1) + 1):
        stacked[each - 1, each:] = values[:-each]
    return stacked


def or_one(values: Array) -> Array:
    return np.where(np.isfinite(values), values, 1.0)


def _event(close: Array, previous: Array, split_ratio: Array, dividend: Array) -> Array:
    """As `bars.price_factor`, or by the price before the session, if that makes less of a dividend.

    A print below a cent on an ex-date would make the dividend nearly all of the price, and every price before the
    session would seem to lie in another unit.
    """
    by_close = close / (split_ratio * (close + dividend))
    by_previous = (previous / split_ratio - dividend) / previous
    return np.fmax(by_close, by_previous)


def _shown(event: Array, opened: Array, previous: Array) -> Array:
    size = np.log(event)
    return np.log(opened / previous) / np.where(size == 0.0, np.nan, size)


def _shown_factor(event: Array, opened: Array, previous: Array) -> Array:
    """The event, or what the price shows where it contradicts a large one: nothing, or an event of another size."""
    shown = _shown(event, opened, previous)
    is_large = np.abs(np.log(event)) >= EVENT_FLOOR
    moved = np.where(np.abs(shown) < EVENT_SHOWN, 1.0, opened / previous)
    return np.where(is_large & (is_hidden(shown) | is_of_other_size(event, shown)), moved, event)


def is_hidden(shown: Array) -> Mask:
    """Whether the price moved over the night as if an event had not been, or against it."""
    return shown < EVENT_SHOWN


def is_of_other_size(event: Array, shown: Array) -> Mask:
    """Whether the price shows a part of an event only, and is far off after it."""
    return (shown < EVENT_PARTLY_SHOWN) & (np.abs((1.0 - shown) * np.log(event)) > EVENT_RESIDUAL)


def _comparable(close: Array, factor: Array) -> Array:
    """Closes of the sessions before, each after all events since: multiplied from the bar backwards, so always alike."""
    since = factor.copy()
    lagged = np.full((LEVEL_SESSIONS, *close.shape), np.nan)
    for each in range(1, min(LEVEL_SESSIONS, len(close) - 1) + 1):
        lagged[each - 1] = lag(close, each) * since
        since *= or_one(lag(factor, each))
    return lagged


def _bar_before(close: Array) -> tuple[Array, Array]:
    previous, pause = np.full_like(close, np.nan), np.full_like(close, np.nan)
    for each in range(PREVIOUS_SESSIONS, 0, -1):
        lagged = lag(close, each)
        has_bar = np.isfinite(lagged)
        previous, pause = np.where(has_bar, lagged, previous), np.where(has_bar, each - 1.0, pause)
    return previous, pause


def _first_two(lagged: Array) -> tuple[Array, Array]:
    """The last bar before and the one before that, both among the last `PREVIOUS_SESSIONS` sessions."""
    first, second = np.full_like(lagged[0], np.nan), np.full_like(lagged[0], np.nan)
    for values in lagged[:PREVIOUS_SESSIONS][::-1]:
        has_bar = np.isfinite(values)
        second = np.where(has_bar, first, second)
        first = np.where(has_bar, values, first)
    return first, second


def _largest(moves: Array, closes: Array) -> tuple[Array, Array]:
    """The largest of the moves that led to `closes`, and that close."""
    place = np.argmax(np.where(np.isfinite(moves), moves, -np.inf), axis=0)[None]
    return np.take_along_axis(moves, place, axis=0)[0], np.take_along_axis(closes, place, axis=0)[0]


def _ordered(windows: Array) -> Array:
    """Ascending over the first axis, NaN last."""
    windows.sort(axis=0)
    return windows


def _median(ordered: Array) -> Array:
    """Over the first axis, NaN with fewer than `LEVEL_BARS` values."""
    n = np.isfinite(ordered).sum(axis=0)
    return np.where(n >= LEVEL_BARS, 0.5 * (_at(ordered, (n - 1) // 2) + _at(ordered, n // 2)), np.nan)


def _quantile(ordered: Array, share: float) -> Array:
    """The value that `share` of the others stay below, NaN with fewer than `LEVEL_BARS` values."""
    n = np.isfinite(ordered).sum(axis=0)
    return np.where(n >= LEVEL_BARS, _at(ordered, (share * n).astype(np.int64)), np.nan)


def _at(ordered: Array, place: npt.NDArray[np.int64]) -> Array:
    at: Array = np.take_along_axis(ordered, np.clip(place, 0, len(ordered) - 1)[None], axis=0)[0]
    return at
