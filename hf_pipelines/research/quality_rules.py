"""Rules on bars: what each of them finds in a history of bars.

Lives here: the rules and their limits. Does not live here: their table and what applies it (`quality`), the history that they read
(`symbol_history`). A name is part of the code version of bars: another name would make all stored bars out of date.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hf_pipelines.research.symbol_history import (
    EVENT_FLOOR,
    LEVEL_SESSIONS,
    Array,
    History,
    Mask,
    is_hidden,
    is_of_other_size,
    lag,
    leaves_level,
    or_one,
)

# A wrong level is refused so long after its first session; later it is half of the month, and so the usual one.
SPELL_SESSIONS = 10

UNIT = 100.0
# How far from 100 times the usual price a price in the wrong unit may lie: prices themselves move within a month.
UNIT_TOLERANCE = math.log(2.0)

# New units for one old; a consolidation has any whole number.
SPLIT_RATIOS = (
    *(1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 15.0, 20.0, 25.0, 30.0, 50.0, 100.0),
    *(1.0 / each for each in (1.5, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 75, 100)),
)

# A night's move on top of the split.
SPLIT_TOLERANCE = 0.06

# Money traded on the day of a split is as usual; on the day of news that halves a price it is many times that.
SPLIT_TURNOVER = 3.0

# And so is the day's range.
QUIET_RANGE = 3.0

# Ratios of units: ten or a hundred times the price with the volume as before is no split.
UNIT_RATIOS = (100.0, 10.0, 0.1, 0.01)

# How far from usual the number of units traded may lie to be that of before a split.
SAME_VOLUME = math.log(1.4)

# As far, it may be one yet: refused as another company, but later sessions only where they are further away.
SIMILAR_VOLUME = math.log(1.9)

# Bonus issues and small splits: news move a price as far, so all else must be as on any day.
BONUS_RATIOS = (1.2, 1.25, 4.0 / 3.0)
BONUS_TOLERANCE = 0.035
BONUS_TURNOVER = 1.5
BONUS_RANGE = 1.5
BONUS_RANGES = 5.0

# A smaller event than `EVENT_FLOOR` is judged where it is so many times the symbol's usual range.
SMALL_EVENT_FLOOR = 0.05
SMALL_EVENT_RANGES = 4.0
SUSPECT_EVENT_FLOOR = 0.03
SUSPECT_EVENT_RANGES = 2.5
SUSPECT_EVENT_SHOWN = 0.25
COMPANY_JUMP = math.log(2.0)
COMPANY_TURNOVER = 3.0

# A smaller jump, with hardly any trade left.
SMALL_COMPANY_JUMP = math.log(1.4)
SMALL_COMPANY_TURNOVER = 8.0

# Share of the jump by which the price must stay away.
AWAY = 0.6

# Trade that is so far below the least of a month: a thin symbol trades little on many days.
LOWEST_TURNOVER = 2.0

# A price of a bar that the bar itself takes back: an error where it is far away for the symbol without more trade...
PRINT_ERROR = math.log(1.5)
PRINT_ERROR_RANGES = 10.0
PRINT_ERROR_TURNOVER = 2.0

# ... or so far away that no trade explains it; a warning where it is nearer.
PRINT_ABSURD = math.log(3.0)
PRINT = math.log(1.35)
QUIET_PRINT = 0.15
QUIET_PRINT_RANGES = 4.0
JUMP = math.log(1.25)

# With no more trade than on any day less is a jump, and still less where the range is that of any day too.
TRADED_JUMP = 0.2
QUIET_JUMP = 0.1
QUIET_JUMP_RANGES = 3.5
QUIET_JUMP_RANGE = 2.5
QUIET_TURNOVER = 2.0
RETURNED_JUMP = 0.2
RETURNED_RANGES = 3.5
RETURNED_WITHIN = 0.2
VOLUME_SPIKE = 20.0
VOLUME_DROP = 20.0

# And so far beyond the most and the least of a month: a thin symbol trades a little or a lot.
HIGHEST_VOLUME = 3.0
LOWEST_VOLUME = 10.0

# Closes that are equal so often in a row, for a symbol that repeated none in the month before.
SAME_CLOSES = 4


@dataclass(frozen=True)
class Found:
    """Which bars a rule is about, and the numbers that its reason names."""

    bars: Mask
    numbers: Mapping[str, Array]


def _unit_error(history: History) -> Found:
    """A price near 100 times, or a hundredth of, the usual close of the month before."""
    prices = np.stack([history.open, history.high, history.low, history.close])
    ratio = prices / history.usual_price
    distance = np.abs(np.abs(np.log(ratio)) - math.log(UNIT))
    nearest = np.argmin(np.where(np.isfinite(distance), distance, np.inf), axis=0)
    # The close is named where it is off itself.
    worst = np.where(distance[-1] <= UNIT_TOLERANCE, len(prices) - 1, nearest)[None]
    price, factor = np.take_along_axis(prices, worst, 0)[0], np.take_along_axis(ratio, worst, 0)[0]
    is_off = np.take_along_axis(distance, worst, 0)[0] <= UNIT_TOLERANCE
    # As much money as ever: the number of units has changed with the price, as in a split. On the sessions after it the
    # trade may be further from usual.
    was_off = np.abs(np.log(history.expected / history.usual_price)) > math.log(math.sqrt(UNIT))
    is_money_usual = np.abs(np.log(history.turnover_ratio)) <= math.log(math.sqrt(UNIT))
    is_split = np.all(np.abs(np.log(ratio)) > math.log(math.sqrt(UNIT)), axis=0)
    is_split &= _is_usual(history.turnover_ratio) | (was_off & is_money_usual)
    return Found(is_off & ~is_split, {"price": price, "ratio": factor, "usual": history.usual_price})


def _is_usual(turnover_ratio: Array) -> Mask:
    return (turnover_ratio <= SPLIT_TURNOVER) & (turnover_ratio >= 1.0 / SPLIT_TURNOVER)


def _is_not_above(turnover_ratio: Array, limit: float) -> Mask:
    """Whether no more was traded than `limit` times the usual, or nobody knows how much."""
    return ~(turnover_ratio > limit)


def _ranges(history: History, move: Array) -> Array:
    """Size of a move in usual ranges of the symbol."""
    return np.abs(move) / history.usual_range


def _false_event(history: History) -> Found:
    size = np.abs(np.log(history.event))
    is_judged = (size >= SMALL_EVENT_FLOOR) & (_ranges(history, size) >= SMALL_EVENT_RANGES)
    is_large = size >= EVENT_FLOOR
    is_false = is_hidden(history.shown) & (is_large | is_judged)
    is_false |= is_large & is_of_other_size(history.event, history.shown)
    return Found(is_false, {"event": history.event, "previous": history.previous, "open": history.open})


def _suspect_event(history: History) -> Found:
    size = np.abs(np.log(history.event))
    is_judged = (size >= SUSPECT_EVENT_FLOOR) & (_ranges(history, size) >= SUSPECT_EVENT_RANGES)
    is_suspect = is_judged & (history.shown < SUSPECT_EVENT_SHOWN) & ~history.once(_false_event).bars
    return Found(is_suspect, {"event": history.event, "previous": history.previous, "open": history.open})


def _nearest_split(gap: Array, ratios: Sequence[float]) -> tuple[Array, Array]:
    """Split (new units for one old) nearest to a gap, and how far it is in logarithms."""
    logs = np.sort(-np.log(np.array(ratios)))
    known = np.where(np.isfinite(gap), gap, 0.0)
    above = np.clip(np.searchsorted(logs, known), 1, len(logs) - 1)
    nearest = np.where(known - logs[above - 1] < logs[above] - known, logs[above - 1], logs[above])
    return np.exp(-nearest), np.abs(gap - nearest)


def _split_like(history: History) -> tuple[Array, Mask]:
    """The nearest split, and whether night and day together lead to a price as after it."""
    split, distance = _nearest_split(history.gap, SPLIT_RATIOS)
    # The day's own move must leave the price there.
    stays = np.abs(np.log(history.close / history.expected) + np.log(split)) <= 2.0 * SPLIT_TOLERANCE
    return split, (distance <= SPLIT_TOLERANCE) & stays


def _is_unit(split: Array) -> Mask:
    return np.asarray(np.any(np.isclose(split[None], np.array(UNIT_RATIOS)[:, None, None]), axis=0))


def _has_volume_of_before(history: History, split: Array, within: float) -> Mask:
    """Whether as many units were traded as before a split: the vendor has not adjusted them."""
    is_same = np.abs(np.log(history.turnover_ratio * split)) <= within
    return np.asarray(is_same & ~_is_unit(split))


def _missed_split(history: History) -> Found:
    """A night's move of a split's ratio that no event explains, with money traded and range as on any day."""
    turnover = history.turnover_ratio
    split, is_near = _split_like(history)
    is_traded = _is_usual(turnover) | _has_volume_of_before(history, split, SAME_VOLUME)
    is_quiet = history.range <= QUIET_RANGE * history.usual_range
    is_other_fault = history.once(_unit_error).bars | history.once(_false_event).bars
    return Found(
        is_near & is_traded & is_quiet & history.once(leaves_level) & ~is_other_fault,
        {"open": history.open, "previous": history.expected, "ratio": split, "turnover": turnover},
    )


def _missed_bonus(history: History) -> Found:
    """As a missed split of a smaller ratio, on a day on which all else is as on any day."""
    gap, turnover = history.gap, history.turnover_ratio
    bonus, distance = _nearest_split(gap, BONUS_RATIOS)
    stays = np.abs(np.log(history.close / history.expected) + np.log(bonus)) <= 2.0 * BONUS_TOLERANCE
    is_quiet = (history.range <= BONUS_RANGE * history.usual_range) & (_ranges(history, gap) >= BONUS_RANGES)
    is_traded = (turnover <= BONUS_TURNOVER) & (turnover >= 1.0 / SPLIT_TURNOVER)
    is_other_fault = history.once(_missed_split).bars | history.once(_false_event).bars
    return Found(
        (distance <= BONUS_TOLERANCE) & stays & is_quiet & is_traded & history.once(leaves_level) & ~is_other_fault,
        {"open": history.open, "previous": history.expected, "ratio": np.exp(-gap), "turnover": turnover},
    )


def _company_jump(history: History) -> Mask:
    """First session of what looks like another company: another price and other trade, and no news in the range."""
    turnover, size = history.turnover_ratio, np.abs(history.gap)
    is_quiet = history.range <= QUIET_RANGE * history.usual_range
    # Money that leaves with the price, though the price has moved as only news can move it.
    has_other_trade = (turnover < 1.0 / COMPANY_TURNOVER) | (turnover > COMPANY_TURNOVER)
    is_jump = (size > COMPANY_JUMP) & has_other_trade
    has_no_trade = (turnover < 1.0 / SMALL_COMPANY_TURNOVER) & (
        history.turnover < history.lowest_turnover / LOWEST_TURNOVER
    )
    is_jump |= (size > SMALL_COMPANY_JUMP) & has_no_trade
    # A rising price with more units traded than ever is no stranger, but the way back from one: the company that a market
    # names is the one with more trade.
    is_jump &= ~((history.gap > 0.0) & (turnover > COMPANY_TURNOVER * np.exp(history.gap)))
    # What a session's own events leave unexplained is an event of another size.
    is_explained = (
        history.once(_unit_error).bars
        | history.once(_missed_split).bars
        | (np.abs(np.log(history.event)) > EVENT_FLOOR)
    )
    return is_jump & is_quiet & history.once(leaves_level) & ~is_explained


def _other_company(history: History) -> Found:
    """A jump to another company, and the sessions after it that stay away from the price before it."""
    split, is_split_like = _split_like(history)
    may_be_split = is_split_like & _has_volume_of_before(history, split, SIMILAR_VOLUME)
    # A fall by a split's ratio with more trade may be news as well: its own session alone.
    is_busy = is_split_like & ~_is_unit(split) & (history.gap < 0.0) & (history.turnover_ratio > COMPANY_TURNOVER)
    found = np.zeros_like(may_be_split)
    before = np.full_like(history.close, np.nan)
    for row, column in np.argwhere(_company_jump(history)):
        spell = slice(row, row + SPELL_SESSIONS), column
        # After the events since the jump, multiplied from there on, so always alike.
        since = np.cumprod(or_one(history.factor[spell]))
        level = history.expected[row, column] * since / since[0]
        is_away = np.abs(np.log(history.close[spell] / level)) > AWAY * np.abs(history.gap[row, column])
        if may_be_split[row, column]:
            volume_ratio = history.turnover_ratio[spell] * split[row, column]
            is_away[1:] &= np.abs(np.log(volume_ratio[1:])) > SIMILAR_VOLUME
        if is_busy[row, column]:
            is_away[1:] = False
        before[spell] = np.where(is_away & ~found[spell], level, before[spell])
        found[spell] |= is_away
    return Found(found, {"close": history.close, "before": before, "turnover": history.turnover_ratio})


def _prints(history: History) -> tuple[Array, Array, Array]:
    """How far each price of a bar lies outside of the others and the bar before, its place, and where it should lie.

    A high and a low by the nearest of open, close and the bar before; an open by the nearer of the bar before and the
    close, a close by the nearer of the bar before and the open, if both lie on the same side.
    """
    opened, close, expected = history.open, history.close, np.where(
        np.isfinite(history.expected), history.expected, history.open
    )  # fmt: skip
    highest, lowest = np.maximum(opened, close), np.minimum(opened, close)
    beside = np.stack(
        [
            _nearer(opened, close, expected),
            np.maximum(highest, expected),
            np.minimum(lowest, expected),
            _nearer(close, opened, expected),
        ]
    )
    prices = np.stack([opened, history.high, history.low, close])
    distance = np.abs(np.log(prices / beside))
    # A high below the bar before is no print, nor is a low above it.
    distance[1] = np.maximum(np.log(prices[1] / beside[1]), 0.0)
    distance[2] = np.maximum(np.log(beside[2] / prices[2]), 0.0)
    return distance, prices, beside


def _nearer(price: Array, one: Array, other: Array) -> Array:
    """The nearer of two prices, or the price itself where it lies between them."""
    nearer = np.where(np.abs(np.log(price / one)) < np.abs(np.log(price / other)), one, other)
    return np.where((price - one) * (price - other) > 0.0, nearer, price)


def _units_by_usual_price(history: History) -> Array:
    """Turnover ratio without a close above the bar before in it: a wrong close is no sign of trade."""
    return history.turnover_ratio * np.fmin(history.expected / history.close, 1.0)


def _worst_print(history: History, is_off: Mask, distance: Array, prices: Array, beside: Array) -> Found:
    worst = np.argmax(np.where(is_off, distance, -1.0), axis=0)[None]
    numbers = {
        "price": np.take_along_axis(prices, worst, 0)[0],
        "beside": np.take_along_axis(beside, worst, 0)[0],
        "turnover": history.turnover_ratio,
    }
    return Found(np.asarray(is_off.any(axis=0)), numbers)


def _is_wrong_print(history: History, distance: Array) -> Mask:
    is_far = (distance > PRINT_ERROR) & (distance / history.usual_range > PRINT_ERROR_RANGES)
    is_off = is_far & _is_not_above(_units_by_usual_price(history), PRINT_ERROR_TURNOVER)
    # Prices do fall to a third within a day; but they do not come back to where they were on the same one.
    is_off[1:3] |= distance[1:3] > PRINT_ABSURD
    return is_off


def _wrong_print(history: History) -> Found:
    distance, prices, beside = history.once(_prints)
    is_off = _is_wrong_print(history, distance) & ~history.once(_unit_error).bars
    return _worst_print(history, is_off, distance, prices, beside)


def _suspect_print(history: History) -> Found:
    distance, prices, beside = history.once(_prints)
    traded = _units_by_usual_price(history)
    is_quiet = _is_not_above(traded, SPLIT_TURNOVER)
    is_near = (distance > QUIET_PRINT) & (distance / history.usual_range > QUIET_PRINT_RANGES)
    is_off = (is_near & is_quiet) | (distance > PRINT)
    # The close has no later price that takes it back: news must be left out.
    is_off[3] &= _is_not_above(traded, QUIET_TURNOVER) | (distance[3] > PRINT)
    is_off &= ~history.once(_wrong_print).bars & ~history.once(_unit_error).bars
    return _worst_print(history, is_off, distance, prices, beside)


def _unexplained_jump(history: History) -> Found:
    gap = history.gap
    is_error = history.once(_unit_error).bars | history.once(_missed_split).bars | history.once(_missed_bonus).bars
    is_error |= history.once(_other_company).bars | history.once(_false_event).bars
    stays = np.log(history.close / history.expected) / gap > 0.5
    is_quiet = _is_not_above(history.turnover_ratio, QUIET_TURNOVER) & (
        history.range <= QUIET_JUMP_RANGE * history.usual_range
    )
    is_jump = (np.abs(gap) > QUIET_JUMP) & (_ranges(history, gap) > QUIET_JUMP_RANGES) & is_quiet & stays
    is_jump |= np.abs(gap) > np.where(_is_not_above(history.turnover_ratio, SPLIT_TURNOVER), TRADED_JUMP, JUMP)
    return Found(
        is_jump & history.once(leaves_level) & ~is_error,
        {
            "open": history.open,
            "previous": history.expected,
            "ratio": np.exp(gap),
            "turnover": history.turnover_ratio,
        },
    )


def _returned_print(history: History) -> Found:
    """This close takes most of the move before it back: about the session before, so a warning."""
    there = np.log(history.expected / history.before_previous)
    left = np.log(history.close / history.before_previous)
    is_move = (np.abs(there) > RETURNED_JUMP) & (_ranges(history, there) > RETURNED_RANGES)
    is_returned = is_move & (np.abs(left) <= RETURNED_WITHIN * np.abs(there))
    return Found(is_returned, {"print": history.expected, "before": history.before_previous, "after": history.close})


def _volume_spike(history: History) -> Found:
    turnover = history.turnover_ratio
    is_highest = history.turnover > history.highest_turnover * HIGHEST_VOLUME
    return Found((turnover > VOLUME_SPIKE) & is_highest, {"turnover": turnover})


def _volume_drop(history: History) -> Found:
    turnover = history.turnover_ratio
    is_lowest = history.turnover < history.lowest_turnover / LOWEST_VOLUME
    return Found((turnover < 1.0 / VOLUME_DROP) & is_lowest, {"turnover": turnover})


def _same_close(history: History) -> Found:
    repeats = np.stack([lag(history.close, each) == lag(history.close, each + 1) for each in range(LEVEL_SESSIONS)])
    is_stuck = repeats[: SAME_CLOSES - 1].all(axis=0) & ~repeats[SAME_CLOSES - 1 :].any(axis=0)
    is_stuck &= np.isfinite(lag(history.close, LEVEL_SESSIONS))
    return Found(is_stuck, {"close": history.close})


def _pause(history: History) -> Found:
    return Found(history.pause >= 1.0, {"pause": history.pause})
