"""Quality of bars: rules that need a symbol's recent history, each with a severity.

Lives here: the table `RULES`, and `judge_bars` that applies it. Does not live here: faults that one row or one file
shows by itself (`bars.validate_bars`, `bars.check_structure`), missing and stale bars (`bars.missing_bars`,
`bars.stale_bars`), who reads the history and what becomes of a verdict (`components.market_stages.bars`).

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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
import polars as pl

from hf_pipelines.research.quality_rules import (
    SPELL_SESSIONS,
    Found,
    _false_event,
    _missed_bonus,
    _missed_split,
    _other_company,
    _pause,
    _returned_print,
    _same_close,
    _suspect_event,
    _suspect_print,
    _unexplained_jump,
    _unit_error,
    _volume_drop,
    _volume_spike,
    _wrong_print,
)
from hf_pipelines.research.symbol_history import (
    HISTORY_SESSIONS,
    LEVEL_SESSIONS,
    PREVIOUS_SESSIONS,
    History,
    history_of,
    one_a_session,
)

Severity = Literal["error", "warning"]

LOOKBACK_SESSIONS = HISTORY_SESSIONS + SPELL_SESSIONS - 1

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
    daily = one_a_session(bars)
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
            history = history_of(daily, days, block)
            for order, rule in enumerate(RULES):
                rows.extend((order, row, each) for row, each in _verdicts(rule, history, days, block))
    found = sorted(rows, key=lambda each: (each[2][0], each[1], each[0]))
    return pl.DataFrame([each for _, _, each in found], schema=VERDICT_SCHEMA, orient="row")


def _verdicts(
    rule: Rule, history: History, days: Sequence[date], symbols: Sequence[str]
) -> list[tuple[int, tuple[object, ...]]]:
    found = history.once(rule.judge)
    verdicts: list[tuple[int, tuple[object, ...]]] = []
    for row, column in np.argwhere(found.bars & np.isfinite(history.close)):
        numbers = {name: float(values[row, column]) for name, values in found.numbers.items()}
        reason = rule.reason.format(**numbers)
        verdicts.append((int(row), (symbols[column], days[row], rule.name, rule.severity, reason)))
    return verdicts


RULES: tuple[Rule, ...] = (
    Rule(
        "unit_error",
        "error",
        "each of the four prices, by the median close of 20 sessions: within 50 to 200 times it, or its inverse",
        _unit_error,
        "price {price:.6g} is {ratio:.4g} times the usual {usual:.6g}: another unit",
        HISTORY_SESSIONS,
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
        "wrong_print",
        "error",
        "each price by the others of its bar and the previous close: 1.5 times off, 10 usual ranges, turnover below twice the usual",
        _wrong_print,
        "price {price:.6g} is off from {beside:.6g} within the bar, turnover {turnover:.2g} times the usual: a wrong print",
        HISTORY_SESSIONS,
    ),
    Rule(
        "missed_split",
        "error",
        "the open by the previous close without an event: near 3:2, 2 to 8, 10, 20 or inverse; turnover and range as usual",
        _missed_split,
        "open {open:.6g} after {previous:.6g} without an event, {turnover:.2g} times the usual turnover: a split of {ratio:.4g} is missing",
        HISTORY_SESSIONS,
    ),
    Rule(
        "missed_bonus",
        "error",
        "the open by the previous close without an event: near 6:5, 5:4 or 4:3, at least 5 usual ranges; turnover and range as usual",
        _missed_bonus,
        "open {open:.6g} after {previous:.6g} without an event, {turnover:.2g} times the usual turnover: a bonus or split near {ratio:.3g} is missing",
        HISTORY_SESSIONS,
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
        "suspect_event",
        "warning",
        "a split or dividend of 2.5 usual ranges and more: the open shows less than a quarter of it",
        _suspect_event,
        "event should take the price {previous:.6g} to {event:.4g} times it, the open is {open:.6g}",
        HISTORY_SESSIONS,
    ),
    Rule(
        "suspect_print",
        "warning",
        "each price by the others of its bar and the previous close: a fifth off, or 15 % and 4 usual ranges without more trade",
        _suspect_print,
        "price {price:.6g} is off from {beside:.6g} within the bar, turnover {turnover:.2g} times the usual",
        HISTORY_SESSIONS,
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
        "turnover beyond 20 times the median of 20 sessions and 3 times their highest",
        _volume_spike,
        "turnover is {turnover:.4g} times the usual",
        LEVEL_SESSIONS,
    ),
    Rule(
        "volume_drop",
        "warning",
        "turnover below a 20th of the median of 20 sessions and a tenth of their lowest",
        _volume_drop,
        "turnover is {turnover:.4g} times the usual",
        LEVEL_SESSIONS,
    ),
    Rule(
        "same_close",
        "warning",
        "the same close for four sessions, by a symbol that repeated none in the month before",
        _same_close,
        "the close is {close:.6g} for the fourth session",
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
