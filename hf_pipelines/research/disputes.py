"""Levels in dispute: a symbol whose bars were refused as another company's, or as in another unit, and that has not come back.

Lives here: how long a dispute lasts, the warning on each of its sessions, and what a person decides about rows. Does not live
here: the rules that open a dispute (`quality`), where it is kept between weeks (`components.market_stages.bars`).

The rules refuse a wrong level for `quality.SPELL_SESSIONS` sessions: what they read does not reach further back, and a bar that
passes is a function of its source files alone. A stranger that stays for months is the usual level by then. So what is known of
the level before is carried from week to week, and each bar that still lies away from it is a warning, until the price comes
back, the money traded comes back to what it was, or a person decides (`row_overrides` of the market). It is a warning, not an
error: if one false alarm refused a symbol for ever, it would be missing without a fault.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Literal, TypeAlias

import numpy as np
import polars as pl

from hf_pipelines.research.quality import VERDICT_SCHEMA
from hf_pipelines.research.quality_rules import AWAY, COMPANY_TURNOVER, SMALL_COMPANY_JUMP
from hf_pipelines.research.symbol_history import LEVEL_SESSIONS, History, history_of, one_a_session, or_one

# Errors about the level of a price, not about one print or event.
LEVEL_RULES = frozenset({"unit_error", "other_company"})
DISPUTED = "disputed_level"
OVERRIDDEN = "row_overrides"

RowVerdict = Literal["refused", "accepted"]
# Symbol, first and last session (None: from then on), and what a person has decided about its rows.
Override: TypeAlias = tuple[str, date, date | None, RowVerdict]


@dataclass(frozen=True)
class Dispute:
    """A level that is not believed.

    Attributes
    ----------
    since : date
        First session refused.
    level : float
        Close before it, after all events since; while the price is back, the last close.
    away : float
        Logarithm of how far from there the price went.
    turnover : float
        Usual money traded before it, NaN if unknown.
    is_away : bool
        Whether the last bar lay away from the level.
    turned : date
        Session since which that is so.
    """

    symbol: str
    since: date
    level: float
    away: float
    turnover: float
    is_away: bool
    turned: date

    def to_json(self) -> dict[str, object]:
        """As it is kept in a footer."""
        known = None if math.isnan(self.turnover) else self.turnover
        return {**asdict(self), "since": str(self.since), "turned": str(self.turned), "turnover": known}

    @staticmethod
    def from_json(kept: dict[str, object]) -> Dispute:
        days = {name: date.fromisoformat(str(kept[name])) for name in ("since", "turned")}
        turnover = math.nan if kept["turnover"] is None else kept["turnover"]
        return Dispute(**{**kept, **days, "turnover": turnover})  # type: ignore[arg-type]


def follow_disputes(
    bars: pl.DataFrame,
    verdicts: pl.DataFrame,
    before: Collection[Dispute],
    *,
    calendar: Sequence[date],
    days: Collection[date],
    overrides: Sequence[Override] = (),
) -> tuple[pl.DataFrame, list[Dispute]]:
    """Follow disputes over the sessions of a week.

    Parameters
    ----------
    bars : DataFrame
        Columns of `bars.SOURCE_SCHEMA` at least: all that passed the row checks, faulty or not by the rules, of `days` and
        the sessions that they are judged by.
    verdicts : DataFrame
        Of `judge_bars` and `override_verdicts` on them.
    before : collection of Dispute
        Open at the end of the week before.
    calendar : sequence of date
        The market's sessions, ascending.
    days : collection of date
        Sessions of the week.
    overrides : sequence of Override
        A level that a person accepts is in dispute no longer.

    Returns
    -------
    warnings : DataFrame
        Columns `VERDICT_SCHEMA`, one row for each bar of `days` that lies at a level in dispute and is not refused.
    disputes : list of Dispute
        Open at the end of the week, by symbol.
    """
    of_days = verdicts.filter(pl.col("session").is_in(list(days)))
    opens = of_days.filter((pl.col("severity") == "error") & pl.col("rule").is_in(LEVEL_RULES))
    symbols = sorted({*opens["symbol"].to_list(), *(each.symbol for each in before)})
    daily = one_a_session(bars.filter(pl.col("symbol").is_in(symbols))) if symbols else bars.clear()
    if daily.is_empty():
        return pl.DataFrame(schema=VERDICT_SCHEMA), sorted(before, key=lambda each: each.symbol)
    first, last = daily["session"].min(), daily["session"].max()
    seen = [day for day in calendar if first <= day <= last]  # type: ignore[operator]
    refused = {*of_days.filter(pl.col("severity") == "error").select("symbol", "session").iter_rows()}
    opening = {*opens.select("symbol", "session").iter_rows()}
    known = {each.symbol: each for each in before}
    warnings: list[tuple[object, ...]] = []
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        history = history_of(daily, seen, symbols)
    for column, symbol in enumerate(symbols):
        for row in [row for row, day in enumerate(seen) if day in days and math.isfinite(history.close[row, column])]:
            at = (symbol, seen[row])
            dispute = known.pop(symbol, None)
            if _is_accepted(*at, overrides):
                continue
            if dispute is not None:
                dispute = _followed(dispute, history, row, column, seen)
            elif at in opening:
                dispute = _opened(symbol, history, row, column, seen[row])
            if dispute is None:
                continue
            known[symbol] = dispute
            if dispute.is_away and at not in refused:
                warnings.append((*at, DISPUTED, "warning", _told(dispute, history, row, column)))
    found = pl.DataFrame(warnings, schema=VERDICT_SCHEMA, orient="row").sort("symbol", "session")
    return found, [known[symbol] for symbol in sorted(known)]


def _opened(symbol: str, history: History, row: int, column: int, day: date) -> Dispute | None:
    expected, usual = history.expected[row, column], history.usual_price[row, column]
    level = float(expected if math.isfinite(expected) else usual)
    away = math.log(history.close[row, column] / level)
    # An open in another unit, say, beside a sound close is no level.
    if not abs(away) >= SMALL_COMPANY_JUMP:
        return None
    return Dispute(symbol, day, level, away, float(history.usual_turnover[row, column]), True, day)


def _followed(dispute: Dispute, history: History, row: int, column: int, seen: Sequence[date]) -> Dispute | None:
    """The dispute after one more bar; None once it is settled."""
    level = dispute.level * float(or_one(history.factor[row, column]))
    close = float(history.close[row, column])
    is_away = math.log(close / level) / dispute.away > AWAY
    # Sessions that the frame does not hold are long ago.
    is_long_so = row - sum(day < dispute.turned for day in seen) >= LEVEL_SESSIONS or dispute.turned < seen[0]
    if is_away != dispute.is_away:
        dispute = replace(dispute, is_away=is_away, turned=seen[row])
    elif is_long_so and not is_away:
        return None
    elif is_long_so and _has_trade_of_before(dispute, float(history.usual_turnover[row, column])):
        # A split that is missing, news: the company is the one that it was.
        return None
    return replace(dispute, level=level if is_away else close)


def _is_accepted(symbol: str, day: date, overrides: Sequence[Override]) -> bool:
    return any(
        name == symbol and since <= day <= (until or day) and verdict == "accepted"
        for name, since, until, verdict in overrides
    )


def _has_trade_of_before(dispute: Dispute, usual_turnover: float) -> bool:
    ratio = usual_turnover / dispute.turnover
    return 1.0 / COMPANY_TURNOVER <= ratio <= COMPANY_TURNOVER


def _told(dispute: Dispute, history: History, row: int, column: int) -> str:
    trade = history.turnover[row, column] / dispute.turnover
    return (
        f"close {history.close[row, column]:.6g} where {dispute.level:.6g} was believed, {trade:.2g} times the turnover of "
        f"then: bars were refused from {dispute.since} on and the level has not come back; mend the source, or name the rows "
        "in `row_overrides` of the market"
    )


def override_verdicts(verdicts: pl.DataFrame, bars: pl.DataFrame, overrides: Sequence[Override]) -> pl.DataFrame:
    """What the rules say of bars, with what a person has decided: it counts more.

    Parameters
    ----------
    verdicts : DataFrame
        Columns `VERDICT_SCHEMA`.
    bars : DataFrame
        The bars judged: `symbol`, `session`.
    overrides : sequence of Override

    Returns
    -------
    DataFrame
        Columns `VERDICT_SCHEMA`: without errors on bars that are accepted, and with one on each that is refused.
    """
    found = verdicts
    for symbol, since, until, verdict in overrides:
        inside = (pl.col("symbol") == symbol) & pl.col("session").is_between(since, until or date.max)
        if verdict == "accepted":
            found = found.filter(~(inside & (pl.col("severity") == "error")))
            continue
        rows = bars.filter(inside).select("symbol", "session").unique(maintain_order=True)
        reason = f"refused from {since} to {until}" if until else f"refused from {since} on"
        new = rows.with_columns(
            rule=pl.lit(OVERRIDDEN), severity=pl.lit("error"), reason=pl.lit(f"`row_overrides`: {reason}")
        )
        found = pl.concat([found, new.select(*VERDICT_SCHEMA).cast(VERDICT_SCHEMA)])  # type: ignore[arg-type]
    return found.sort("symbol", "session", maintain_order=True) if overrides else verdicts
