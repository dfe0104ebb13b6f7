"""Quality of bars: rules that need a symbol's recent history, each with a severity.

Lives here: the table `RULES`, and `judge_bars` that applies it. Does not live here: faults that one row or one file
shows by itself (`bars.validate_bars`, `bars.check_structure`), missing and stale bars (`bars.missing_bars`,
`bars.stale_bars`), who reads the history and what becomes of a verdict (`components.bars_stage`).

**No look-ahead.** The verdict on a bar is a function of that bar and of the symbol's bars in the `LOOKBACK_SESSIONS`
sessions of the calendar before it. A print that turns out wrong because the next session takes it back
(`returned_print`) is reported on that next session, as a warning about the past: it can quarantine nothing.

**Purity.** Windows are counted in sessions of the calendar, never in rows of the frame, and no running sum is used: it
does not matter where the frame begins, nor which weeks are judged together.

**Where the history comes from.** Out of the market's source, whole weeks of it before the week that is made, passed by the
row checks alone. Read from the stored bars of the weeks before, each week of bars would hang on the one before it: a
revision would ripple through years, and a bar that was quarantined would be missing from the history that judges the
next one. As it is, a week stays a function of source files, and a revised file reaches `LOOKBACK_SESSIONS` sessions
ahead. A separate asset of verdicts would leave the faulty rows in the bars that features read.

**How long an error lasts.** A wrong number (`unit_error`, `other_company`) is refused for as long as it can be told from the
level before it: about ten sessions, `SPELL_SESSIONS`; by then someone has mended the source. A missed or false event is
refused on its own session: the bars after it are right, the event is what is missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

Array: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Severity = Literal["error", "warning"]

# What is usual: the median of a month of sessions, which ten faulty ones of them do not move.
LEVEL_SESSIONS = 20
# Fewer bars than this in the month say nothing of what is usual.
LEVEL_BARS = 5
# A wrong level is refused so long after its first session; later it is half of the month, and so the usual one.
SPELL_SESSIONS = 10
# The bar before: after a longer pause the price of before is no measure of the price after.
PREVIOUS_SESSIONS = 5

LOOKBACK_SESSIONS = LEVEL_SESSIONS + (SPELL_SESSIONS - 1) + PREVIOUS_SESSIONS

UNIT = 100.0
# How far from 100 times the usual price a price in the wrong unit may lie: prices themselves move within a month.
UNIT_TOLERANCE = math.log(2.0)

SPLIT_RATIOS = (1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 20.0)
# A night's move on top of the split.
SPLIT_TOLERANCE = 0.06
# Money traded on the day of a split is as usual; on the day of news that halves a price it is many times that.
SPLIT_TURNOVER = 3.0
# And so is the day's range.
QUIET_RANGE = 3.0

# An event of less than this drowns in what prices do in a night.
EVENT_FLOOR = math.log(1.25)
# Share of the event that the price must show at least.
EVENT_SHOWN = 0.35

COMPANY_JUMP = math.log(2.0)
COMPANY_TURNOVER = 3.0

JUMP = math.log(1.25)
RETURNED_JUMP = math.log(1.5)
RETURNED_WITHIN = 0.2
VOLUME_SPIKE = 20.0

# Symbols judged together: their windows of twenty years fit into 100 MB.
BLOCK_SYMBOLS = 64

VERDICT_SCHEMA: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "session": pl.Date(),
    "rule": pl.String(),
    "severity": pl.String(),
    "reason": pl.String(),
}


@dataclass(frozen=True)
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
    expected : array
        Close of the bar before, after all events since, those that the price does not show left out.
    usual_price, usual_turnover, usual_range : arrays
        Medians of the month before; the price after all events since, the range as ln(high / low). NaN with fewer than
        `LEVEL_BARS` bars.
    before_previous : array
        Close of the bar before the bar before, after all events since.
    factor : array
        `event`, 1 where the price does not show it.
    """

    open: Array
    high: Array
    low: Array
    close: Array
    turnover: Array
    event: Array
    previous: Array
    pause: Array
    expected: Array
    before_previous: Array
    usual_price: Array
    usual_turnover: Array
    usual_range: Array
    factor: Array

    @property
    def gap(self) -> Array:
        """ln(open / expected): the part of the night's move that no event explains."""
        return np.log(self.open / self.expected)

    @property
    def leaves_level(self) -> Mask:
        """Whether the night's move leads away from the usual price: the way back from a wrong print does not."""
        distance = np.log(self.open / self.usual_price)
        return ~(np.sign(self.gap) * distance < 0.5 * np.abs(self.gap))

    @property
    def range(self) -> Array:
        return np.log(self.high / self.low)

    @property
    def turnover_ratio(self) -> Array:
        """Money traded by what is usual; NaN where nothing is usual, as with currencies."""
        return self.turnover / np.where(self.usual_turnover > 0.0, self.usual_turnover, np.nan)


@dataclass(frozen=True)
class Found:
    """Which bars a rule is about, and the numbers that its reason names."""

    bars: Mask
    numbers: Mapping[str, Array]


@dataclass(frozen=True)
class Rule:
    """One thing that is wrong with a bar, seen beside the symbol's history.

    Attributes
    ----------
    severity : str
        "error": the symbol-session is quarantined; "warning": it passes and is listed.
    looks_at : str
        What it compares, in words.
    judge : callable
        From the history to the bars found.
    reason : str
        Template over the numbers found.
    lookback_sessions : int
        Sessions of the calendar before the bar that the verdict depends on.
    """

    name: str
    severity: Severity
    looks_at: str
    judge: Callable[[History], Found]
    reason: str
    lookback_sessions: int


def judge_bars(bars: pl.DataFrame, *, calendar: Sequence[date]) -> pl.DataFrame:
    """Every rule over every bar.

    Parameters
    ----------
    bars : DataFrame
        Contract `BARS_SCHEMA` or `SOURCE_SCHEMA`, passed by `validate_bars`; several bars of a session are judged as one.
        Verdicts hold for sessions with `LOOKBACK_SESSIONS` sessions of the calendar before them in the frame, or all
        that there are.
    calendar : sequence of date
        The market's sessions, ascending, without a gap from the first to the last session of `bars`.

    Returns
    -------
    DataFrame
        Columns `VERDICT_SCHEMA`, a row for each rule that a symbol-session breaks, sorted by symbol and session, then
        in the order of `RULES`.

    Raises
    ------
    ValueError
        If a session of `bars` is not in `calendar`.
    """
    daily = _by_session(bars)
    if daily.is_empty():
        return pl.DataFrame(schema=VERDICT_SCHEMA)
    first, last = daily["session"].min(), daily["session"].max()
    days = [day for day in calendar if first <= day <= last]  # type: ignore[operator]
    if strays := sorted(set(daily["session"].to_list()) - set(days)):
        raise ValueError(f"`calendar` must hold the sessions of `bars`, was without {strays[0]}.")
    symbols = daily["symbol"].unique().sort().to_list()
    rows: list[tuple[int, int, tuple[object, ...]]] = []
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for start in range(0, len(symbols), BLOCK_SYMBOLS):
            block = symbols[start : start + BLOCK_SYMBOLS]
            history = _history(daily, days, block)
            for order, rule in enumerate(RULES):
                rows.extend((order, row, each) for row, each in _verdicts(rule, history, days, block))
    found = sorted(rows, key=lambda each: (each[2][0], each[1], each[0]))
    return pl.DataFrame([each for _, _, each in found], schema=VERDICT_SCHEMA, orient="row")


def _verdicts(
    rule: Rule, history: History, days: Sequence[date], symbols: Sequence[str]
) -> list[tuple[int, tuple[object, ...]]]:
    found = rule.judge(history)
    verdicts: list[tuple[int, tuple[object, ...]]] = []
    for row, column in np.argwhere(found.bars & np.isfinite(history.close)):
        numbers = {name: float(values[row, column]) for name, values in found.numbers.items()}
        reason = rule.reason.format(**numbers)
        verdicts.append((int(row), (symbols[column], days[row], rule.name, rule.severity, reason)))
    return verdicts


def _by_session(bars: pl.DataFrame) -> pl.DataFrame:
    """One bar a symbol-session; the first of several carries their events."""
    one = bars.sort("symbol", "ts").group_by("symbol", "session", maintain_order=True)
    return one.agg(
        pl.col("open", "split_ratio", "dividend").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        (pl.col("close") * pl.col("volume")).sum().alias("turnover"),
    )


def _history(daily: pl.DataFrame, days: Sequence[date], symbols: Sequence[str]) -> History:
    of_block = daily.filter(pl.col("symbol").is_in(list(symbols)))
    place = {day: row for row, day in enumerate(days)}
    column_of = {symbol: column for column, symbol in enumerate(symbols)}
    rows = np.array([place[day] for day in of_block["session"].to_list()])
    columns = np.array([column_of[symbol] for symbol in of_block["symbol"].to_list()])
    names = ("open", "high", "low", "close", "turnover", "split_ratio", "dividend")
    dense = {name: np.full((len(days), len(symbols)), np.nan) for name in names}
    for name, values in dense.items():
        values[rows, columns] = of_block[name].to_numpy()
    close = dense["close"]
    previous, pause = _bar_before(close)
    # As in `bars.price_factor`.
    event = close / (dense["split_ratio"] * (close + dense["dividend"]))
    # An unknown event is what makes the price of before that at which the bar opens.
    event = _or_one(np.where(np.isfinite(close) & np.isnan(event), dense["open"] / previous, event))
    factor = np.where(_is_hidden(event, dense["open"], previous), 1.0, event)
    lagged = _comparable(close, factor)
    expected, before_previous = _first_two(lagged)
    spread = np.log(dense["high"] / dense["low"])
    return History(
        **{name: dense[name] for name in ("open", "high", "low", "close", "turnover")},
        event=event,
        previous=previous,
        pause=pause,
        expected=expected,
        before_previous=before_previous,
        usual_price=_median(lagged),
        usual_turnover=_median(_lags(dense["turnover"], LEVEL_SESSIONS)),
        usual_range=_median(_lags(spread, LEVEL_SESSIONS)),
        factor=factor,
    )


def _or_one(values: Array) -> Array:
    return np.where(np.isfinite(values), values, 1.0)


def _lag(values: Array, n: int) -> Array:
    """Values of `n` sessions before; NaN where the frame does not reach back."""
    lagged = np.full_like(values, np.nan)
    if n < len(values):
        lagged[n:] = values[: len(values) - n]
    return lagged


def _lags(values: Array, n: int) -> Array:
    """(n, sessions, symbols): the values of 1, 2, ..., `n` sessions before."""
    return np.stack([_lag(values, each) for each in range(1, n + 1)])


def _comparable(close: Array, factor: Array) -> Array:
    """Closes of the sessions before, each after all events since: multiplied from the bar backwards, so always alike."""
    since = factor.copy()
    lagged = []
    for each in range(1, LEVEL_SESSIONS + 1):
        lagged.append(_lag(close, each) * since)
        since = since * _or_one(_lag(factor, each))
    return np.stack(lagged)


def _bar_before(close: Array) -> tuple[Array, Array]:
    previous, pause = np.full_like(close, np.nan), np.full_like(close, np.nan)
    for each in range(PREVIOUS_SESSIONS, 0, -1):
        lagged = _lag(close, each)
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


def _median(windows: Array) -> Array:
    """Over the first axis, NaN with fewer than `LEVEL_BARS` values."""
    ordered = np.sort(windows, axis=0)
    n = np.isfinite(windows).sum(axis=0)
    low, high = np.maximum((n - 1) // 2, 0), np.minimum(n // 2, len(windows) - 1)
    middle = [np.take_along_axis(ordered, each[None], axis=0)[0] for each in (low, high)]
    return np.where(n >= LEVEL_BARS, 0.5 * (middle[0] + middle[1]), np.nan)


def _is_hidden(event: Array, opened: Array, previous: Array) -> Mask:
    """Whether the price moved over the night as if a large event had not been, or against it."""
    size = np.log(event)
    shown = np.log(opened / previous) / np.where(size == 0.0, np.nan, size)
    return (np.abs(size) >= EVENT_FLOOR) & (shown < EVENT_SHOWN)


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
    return Found(is_off, {"price": price, "ratio": factor, "usual": history.usual_price})


def _false_event(history: History) -> Found:
    return Found(
        _is_hidden(history.event, history.open, history.previous),
        {"event": history.event, "previous": history.previous, "open": history.open},
    )


def _nearest_split(gap: Array) -> tuple[Array, Array]:
    """Split (new units for one old) nearest to a gap, and how far it is in logarithms."""
    ratios = np.array([*SPLIT_RATIOS, *(1.0 / each for each in SPLIT_RATIOS)])
    nearest, distance = np.full_like(gap, np.nan), np.full_like(gap, np.inf)
    for ratio in ratios:
        far = np.abs(gap + math.log(ratio))
        is_nearer = far < distance
        nearest, distance = np.where(is_nearer, ratio, nearest), np.where(is_nearer, far, distance)
    return nearest, distance


def _missed_split(history: History) -> Found:
    """A night's move of a split's ratio that no event explains, with money traded and range as on any day."""
    gap, turnover = history.gap, history.turnover_ratio
    split, distance = _nearest_split(gap)
    is_near = distance <= SPLIT_TOLERANCE
    # The day's own move must leave the price there.
    stays = np.abs(np.log(history.close / history.expected) + np.log(split)) <= 2.0 * SPLIT_TOLERANCE
    is_usual = (turnover <= SPLIT_TURNOVER) & (turnover >= 1.0 / SPLIT_TURNOVER)
    is_quiet = history.range <= QUIET_RANGE * history.usual_range
    return Found(
        is_near & stays & is_usual & is_quiet & history.leaves_level & ~_unit_error(history).bars,
        {"open": history.open, "previous": history.expected, "ratio": split, "turnover": turnover},
    )


def _company_jump(history: History) -> Mask:
    """First session of what looks like another company: another price and other trade, and no news in the range."""
    turnover = history.turnover_ratio
    has_other_trade = (turnover < 1.0 / COMPANY_TURNOVER) | (turnover > COMPANY_TURNOVER)
    is_quiet = history.range <= QUIET_RANGE * history.usual_range
    # Money that leaves with the price, though the price has moved as only news can move it.
    is_jump = (np.abs(history.gap) > COMPANY_JUMP) & history.leaves_level
    return is_jump & has_other_trade & is_quiet & ~_unit_error(history).bars


def _other_company(history: History) -> Found:
    """A jump to another company, and the sessions after it that stay away from the price before it."""
    jump = _company_jump(history)
    found = np.zeros_like(jump)
    before = np.full_like(history.close, np.nan)
    since = np.ones_like(history.close)
    for each in range(SPELL_SESSIONS):
        is_jump = _lag(jump.astype(np.float64), each) == 1.0
        level = _lag(history.expected, each) * since
        is_away = np.abs(np.log(history.close / level)) > COMPANY_JUMP
        is_new = is_jump & is_away & ~found
        found, before = found | is_new, np.where(is_new, level, before)
        since = since * _or_one(_lag(history.factor, each))
    return Found(found, {"close": history.close, "before": before, "turnover": history.turnover_ratio})


def _unexplained_jump(history: History) -> Found:
    is_error = _unit_error(history).bars | _missed_split(history).bars | _other_company(history).bars
    is_jump = (np.abs(history.gap) > JUMP) & history.leaves_level
    return Found(
        is_jump & ~is_error,
        {
            "open": history.open,
            "previous": history.expected,
            "ratio": np.exp(history.gap),
            "turnover": history.turnover_ratio,
        },
    )


def _returned_print(history: History) -> Found:
    """This close takes most of the move before it back: about the session before, so a warning."""
    there = np.log(history.expected / history.before_previous)
    left = np.log(history.close / history.before_previous)
    is_returned = (np.abs(there) > RETURNED_JUMP) & (np.abs(left) <= RETURNED_WITHIN * np.abs(there))
    return Found(is_returned, {"print": history.expected, "before": history.before_previous, "after": history.close})


def _volume_spike(history: History) -> Found:
    turnover = history.turnover_ratio
    return Found(turnover > VOLUME_SPIKE, {"turnover": turnover})


def _pause(history: History) -> Found:
    return Found(history.pause >= 1.0, {"pause": history.pause})


RULES: tuple[Rule, ...] = (
    Rule(
        "unit_error",
        "error",
        "each of the four prices, by the median close of 20 sessions: within 50 to 200 times it, or its inverse",
        _unit_error,
        "price {price:.6g} is {ratio:.4g} times the usual {usual:.6g}: another unit",
        LEVEL_SESSIONS + PREVIOUS_SESSIONS,
    ),
    Rule(
        "false_event",
        "error",
        "a split or dividend of a fifth of the price and more, by the open after the previous close",
        _false_event,
        "event should take the price {previous:.6g} to {event:.4g} times it, the open is {open:.6g}: false or late",
        PREVIOUS_SESSIONS,
    ),
    Rule(
        "missed_split",
        "error",
        "the open by the previous close without an event: near 3:2, 2 to 8, 10, 20 or inverse; turnover and range as usual",
        _missed_split,
        "open {open:.6g} after {previous:.6g} without an event, {turnover:.2g} times the usual turnover: a split of {ratio:.4g} is missing",
        LEVEL_SESSIONS + PREVIOUS_SESSIONS,
    ),
    Rule(
        "other_company",
        "error",
        "a jump of the open beyond 2 times or half, turnover beyond 3 times or a third, a quiet range; and the 9 sessions after",
        _other_company,
        "close {close:.6g} after {before:.6g} without an event, {turnover:.2g} times the usual turnover: another company",
        LOOKBACK_SESSIONS,
    ),
    Rule(
        "unexplained_jump",
        "warning",
        "the open by the previous close, after its events: beyond 5/4 or 4/5",
        _unexplained_jump,
        "open {open:.6g} is {ratio:.3g} times {previous:.6g} without an event, turnover {turnover:.2g} times the usual",
        LOOKBACK_SESSIONS,
    ),
    Rule(
        "returned_print",
        "warning",
        "a close beyond 3/2 or 2/3 of the one before, of which the next takes four fifths back; told on that next session",
        _returned_print,
        "the close before, {print:.6g}, lay between {before:.6g} and {after:.6g}: a wrong print",
        2 * PREVIOUS_SESSIONS,
    ),
    Rule(
        "volume_spike",
        "warning",
        "turnover beyond 20 times the median of 20 sessions",
        _volume_spike,
        "turnover is {turnover:.4g} times the usual",
        LEVEL_SESSIONS,
    ),
    Rule(
        "gap",
        "warning",
        "sessions without a bar since the symbol's previous bar, up to 4",
        _pause,
        "{pause:.0f} sessions before have no bar",
        PREVIOUS_SESSIONS,
    ),
)
