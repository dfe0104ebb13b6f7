"""Events: splits and dividends whose own bar cannot carry them, moved to the symbol's next bar.

Lives here: which event a refused row had, on which bar it counts instead, and where that cannot be known. Does not live
here: which rows are refused (`bars.validate_bars`, `quality.judge_bars`), adjustment for events (`bars.adjust`).

A split or dividend is a fact about the symbol, not about a row: when its row is refused, missing, doubled or dated on a
day without a session, the next bar of the symbol is the first that shows it. What cannot be known is NaN in `split_ratio` or
`dividend`: every feature, label and account sees that nothing may be computed across that bar.

**Purity.** Nothing is carried over more than `CARRY_SESSIONS`, and no verdict older than `VERDICT_SESSIONS` is used: a week of
bars comes out alike whether it is made alone, out of the sessions that it reads, or with years before it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from hf_pipelines.research.bars import PRICE_COLUMNS
from hf_pipelines.research.quality import LOOKBACK_SESSIONS
from hf_pipelines.research.quality_rules import SPELL_SESSIONS
from hf_pipelines.research.symbol_history import EVENT_FLOOR, EVENT_PARTLY_SHOWN, EVENT_SHOWN

EVENTS_SCHEMA: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "session": pl.Date(),
    "split_ratio": pl.Float64(),
    "dividend": pl.Float64(),
}
CARRIED_SCHEMA: dict[str, pl.DataType] = {**EVENTS_SCHEMA, "to": pl.Date(), "outcome": pl.String()}

# A verdict of `judge_bars` on a bar so long ago is known as it was: what it looked back on is read as well.
VERDICT_SESSIONS = SPELL_SESSIONS
# Sessions before a week that its bars depend on.
CARRY_SESSIONS = LOOKBACK_SESSIONS + VERDICT_SESSIONS

# Rules that refuse a bar for its event, not for its price: the event counts only if the next bar shows it.
EVENT_RULES = frozenset({"false_event"})

# A refused bar further than this from the price before is at another level.
LEVEL_FLOOR = math.log(1.1)
# The next bar is at that level too if it is more than this share of the way there.
LEVEL_SHARE = 0.5


@dataclass(frozen=True)
class Event:
    """New shares for an old one, and cash a (new) share; NaN where unknown.

    Examples
    --------
    >>> Event(2.0, 1.0).then(Event(4.0, 0.0))  # a dollar a share before a split of 4 is a quarter of a dollar after it
    Event(split_ratio=8.0, dividend=0.25)
    """

    split_ratio: float = 1.0
    dividend: float = 0.0

    @property
    def is_none(self) -> bool:
        return self.split_ratio == 1.0 and self.dividend == 0.0

    @property
    def is_known(self) -> bool:
        return math.isfinite(self.split_ratio) and math.isfinite(self.dividend)

    def then(self, later: Event) -> Event:
        """Both, on the bar of the later one."""
        return Event(self.split_ratio * later.split_ratio, self.dividend / later.split_ratio + later.dividend)

    def log_factor(self, close: float) -> float:
        """Logarithm of what the event makes of the price before it, as `bars.price_factor`."""
        return math.log(close / (self.split_ratio * (close + self.dividend)))


NO_EVENT = Event()
UNKNOWN = Event(math.nan, 0.0)


def events_of(rows: pl.DataFrame, *, is_daily: bool) -> pl.DataFrame:
    """Events of rows that are refused.

    Parameters
    ----------
    rows : DataFrame
        Columns of `bars.SOURCE_SCHEMA`, all rows of each symbol-session; values may be missing or impossible.
    is_daily : bool
        A session has one bar: several rows are several statements about it.

    Returns
    -------
    DataFrame
        `EVENTS_SCHEMA`, one row a symbol-session with an event, sorted. NaN where the value is missing or impossible, or
        where rows contradict each other. A row without any price and event says nothing.
    """
    split, dividend = pl.col("split_ratio"), pl.col("dividend")
    says = pl.any_horizontal(pl.col(*PRICE_COLUMNS, "split_ratio", "dividend").is_finite().fill_null(False))
    stated = rows.filter(says).with_columns(
        split_ratio=pl.when(split.is_finite() & (split > 0.0)).then(split).otherwise(math.nan),
        dividend=pl.when(dividend.is_finite() & (dividend >= 0.0)).then(dividend).otherwise(math.nan),
    )
    by_bar = _agreed(stated, ["symbol", "session"] if is_daily else ["symbol", "session", "ts"])
    # Other bars of a session than the one that has the event have none: that contradicts nothing.
    happened = by_bar.filter((split != 1.0) | (dividend != 0.0))
    return _agreed(happened, ["symbol", "session"]).select(*EVENTS_SCHEMA).cast(EVENTS_SCHEMA)  # type: ignore[arg-type]


def _agreed(rows: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """One row for each key: the value of all its rows, or NaN."""
    both = ("split_ratio", "dividend")
    agreed = (pl.when(pl.col(name).n_unique() == 1).then(pl.col(name).first()).otherwise(math.nan) for name in both)
    return rows.group_by(keys, maintain_order=True).agg(*agreed).sort("symbol", "session")


def carry_events(bars: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Let events without a bar count on the symbol's first bar of their day or later.

    For sources that know an event apart from its bar; without a limit in time.

    Parameters
    ----------
    bars : DataFrame
        Columns of `bars.SOURCE_SCHEMA` at least.
    events : DataFrame
        `EVENTS_SCHEMA`.

    Returns
    -------
    DataFrame
        The bars in their order, with the events of each first bar of a session changed.
    """
    first = bars.sort("symbol", "ts").unique(["symbol", "session"], keep="first").sort("session")
    placed = events.sort("session").join_asof(
        first.select("symbol", "session", to="session"),
        on="session",
        by="symbol",
        strategy="forward",
        check_sortedness=False,
    )
    changed: dict[tuple[str, date], Event] = {}
    for symbol, _, split, dividend, to in placed.filter(pl.col("to").is_not_null()).sort("symbol", "session").rows():
        changed[symbol, to] = changed.get((symbol, to), NO_EVENT).then(Event(split, dividend))
    return _with_events(bars, changed, is_added=True)


def settle_events(
    bars: pl.DataFrame,
    refused: pl.DataFrame,
    *,
    errors: pl.DataFrame | None = None,
    calendar: Sequence[date],
    is_daily: bool,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Leave out bars that were judged faulty, and carry the events of all that was refused.

    Parameters
    ----------
    bars : DataFrame
        Contract `BARS_SCHEMA`, passed by `validate_bars`, with the events that each row came with.
    refused : DataFrame
        Rows that `validate_bars` refused, with the columns of `SOURCE_SCHEMA`.
    errors : DataFrame, optional
        Verdicts of severity "error" of `judge_bars`: `symbol`, `session`, `rule`. Default none.
    calendar : sequence of date
        The market's sessions, ascending, all of those from the first to the last row among them.
    is_daily : bool
        As in `events_of`.

    Returns
    -------
    bars : DataFrame
        The accepted bars, in the order given. NaN in `split_ratio` or `dividend`: what lies between this bar and the one
        before cannot be known.
    carried : DataFrame
        `CARRIED_SCHEMA`, one row an event that was not on an accepted bar, or an unknown one: `session` it came with, `to`
        the next session with an accepted bar (null: none within `CARRY_SESSIONS`) and `outcome`: "carried" (it counts
        there), "unknown" (NaN there), "false" (refused for the event, which that bar does not show either: left out) or
        "waits" (no bar yet, or too late).
    """
    judged = (
        pl.DataFrame(schema={"symbol": pl.String, "session": pl.Date, "rule": pl.String}) if errors is None else errors
    )
    keys = ["symbol", "session"]
    # Another source has a sound row of that session: its event is the one that counts.
    refused = refused.join(bars, on=keys, how="anti")
    accepted = bars.join(judged, on=keys, how="anti", maintain_order="left")
    if refused.is_empty() and judged.is_empty():
        return accepted, pl.DataFrame(schema=CARRIED_SCHEMA)
    rows_refused = bars.join(judged, on=keys, how="semi")
    gone = pl.concat([refused.select(keys), rows_refused.select(keys)]).unique()
    history = _History(
        accepted=_by_session(_beside(accepted, gone)),
        judged=_by_session(rows_refused),
        doubted={(s, d) for s, d, rule in judged.select(*keys, "rule").rows() if rule in EVENT_RULES},
        refused=_of_symbol(refused.select(keys).unique().sort(keys).rows()),
        events={
            (symbol, day): Event(split, dividend)
            for symbol, day, split, dividend in events_of(
                pl.concat([each.select(*_EVENT_COLUMNS) for each in (refused, rows_refused)]), is_daily=is_daily
            ).rows()
        },
        calendar=calendar,
    )
    changed: dict[tuple[str, date], Event] = {}
    carried: list[tuple[object, ...]] = []
    for symbol in gone["symbol"].unique().sort().to_list():
        for day, event, lines in history.settle(symbol):
            if day is not None and event is not None:
                changed[symbol, day] = event
            carried.extend((symbol, *line) for line in lines)
    return _with_events(accepted, changed), pl.DataFrame(carried, schema=CARRIED_SCHEMA, orient="row")


def describe_carried(carried: pl.DataFrame, week: Collection[date]) -> list[str]:
    """What became of events that are not on a bar of their own, in words, for those that concern a week.

    The same whatever weeks were settled with it: of an event whose next bar lies in a later week it only says that it waits.
    """
    lines = []
    for symbol, day, split, dividend, to, outcome in carried.sort("symbol", "session").rows():
        event = f"{symbol} {day} split {split:g} dividend {dividend:g}"
        if to in week:
            lines.append(f"{event}: {_TOLD[outcome].format(to=to)}")
        elif day in week:
            lines.append(f"{event}: waits for the symbol's next bar")
    return lines


_TOLD = {
    "carried": "counts on {to}",
    "unknown": "what spans {to} is unknown",
    "false": "left out, {to} does not show it either",
}

_EVENT_COLUMNS = ("symbol", "session", "ts", *PRICE_COLUMNS, "split_ratio", "dividend")

_Day = tuple[date, float, float, Event]
_Line = tuple[date, float, float, date | None, str]


@dataclass(frozen=True)
class _History:
    """What is known of the symbols that lack rows; sessions ascending.

    Attributes
    ----------
    accepted, judged : mapping of symbol to (session, open, close, event)
        Bars that stay, and bars that were judged faulty.
    doubted : set of (symbol, session)
        Judged faulty for the event.
    refused : mapping of symbol to sessions
        With rows that `validate_bars` refused.
    events : mapping of (symbol, session) to Event
        Of rows that do not stay.
    """

    accepted: Mapping[str, Sequence[_Day]]
    judged: Mapping[str, Sequence[_Day]]
    doubted: set[tuple[str, date]]
    refused: Mapping[str, Sequence[date]]
    events: Mapping[tuple[str, date], Event]
    calendar: Sequence[date]

    def settle(self, symbol: str) -> Iterable[tuple[date | None, Event | None, list[_Line]]]:
        """For each bar after refused rows: its session, its event now (None: as it was), and what to say of it."""
        bars = self.accepted.get(symbol, [])
        days = [day for day, *_ in bars]
        judged = {each[0]: each for each in self.judged.get(symbol, [])}
        gone = sorted({*judged, *self.refused.get(symbol, [])})
        by_next: dict[int, list[date]] = {}
        for day in gone:
            by_next.setdefault(bisect_left(days, day), []).append(day)
        for place, refused in by_next.items():
            if place == len(bars):
                yield (
                    None,
                    None,
                    [self._line(symbol, day, None, "waits") for day in refused if (symbol, day) in self.events],
                )
            else:
                before = bars[place - 1] if place else None
                yield self._settle_bar(symbol, bars[place], before, refused, judged)

    def _settle_bar(
        self, symbol: str, bar: _Day, before: _Day | None, refused: list[date], judged: Mapping[date, _Day]
    ) -> tuple[date | None, Event | None, list[_Line]]:
        day, _, _, own = bar
        near = [each for each in refused if self._sessions(each, day) <= CARRY_SESSIONS]
        lines = [
            self._line(symbol, each, None, "waits")
            for each in refused
            if each not in near and (symbol, each) in self.events
        ]
        events = [each for each in near if (symbol, each) in self.events]
        since = math.inf if before is None else self._sessions(before[0], day)
        is_judged = any(each in judged for each in near)
        # Only rows that were refused in all that is read: an event before them would be out of sight.
        is_endless = since > CARRY_SESSIONS and any(self._sessions(each, day) > LOOKBACK_SESSIONS for each in near)
        if is_endless or (is_judged and since > VERDICT_SESSIONS):
            return day, UNKNOWN, [*lines, (day, *_values(UNKNOWN), day, "unknown")]
        doubted = {each for each in events if (symbol, each) in self.doubted}
        kept, outcome = events, "carried"
        if before is not None and not self._is_shown(symbol, kept, bar, before):
            kept = [each for each in events if each not in doubted]
            if len(kept) == len(events) or not self._is_shown(symbol, kept, bar, before):
                outcome = "unknown"
        event = UNKNOWN if outcome == "unknown" else self._combined(symbol, kept).then(own)
        lines += [self._line(symbol, each, day, outcome) for each in kept]
        lines += [self._line(symbol, each, day, "false") for each in events if each not in kept]
        if event.is_known and before is not None and self._stays(symbol, bar, before, event, near, judged):
            return day, UNKNOWN, [*lines, (day, *_values(UNKNOWN), day, "unknown")]
        return day, event, lines

    def _stays(
        self, symbol: str, bar: _Day, before: _Day, event: Event, near: list[date], judged: Mapping[date, _Day]
    ) -> bool:
        """Whether the bar lies where a faulty one before it lay: what took the price there is not known."""
        day, opened, close, _ = bar
        moved = math.log(opened / before[2]) - event.log_factor(close)
        for each in near:
            if each not in judged:
                continue
            _, faulty_open, faulty_close, _ = judged[each]
            # A doubted event is none of what took the price there.
            events = [e for e in near if e <= each and (symbol, e) in self.events and (symbol, e) not in self.doubted]
            known = self._combined(symbol, events)
            since = known.log_factor(faulty_close) if known.is_known else 0.0
            away = max((math.log(price / before[2]) - since for price in (faulty_open, faulty_close)), key=abs)
            if abs(away) > LEVEL_FLOOR and moved / away > LEVEL_SHARE:
                return True
        return False

    def _is_shown(self, symbol: str, events: list[date], bar: _Day, before: _Day) -> bool:
        """Whether a large event is in the price; a small one cannot be told."""
        _, opened, close, own = bar
        carried = self._combined(symbol, events)
        if not (carried.is_known and own.is_known):
            return True
        size = carried.log_factor(close)
        moved = math.log(opened / before[2]) - own.log_factor(close)
        if any((symbol, each) in self.doubted for each in events):
            # However small it is: its own bar did not show it, or showed an event of another size.
            return size == 0.0 or moved / size >= EVENT_PARTLY_SHOWN
        return abs(size) < EVENT_FLOOR or moved / size >= EVENT_SHOWN

    def _combined(self, symbol: str, days: Iterable[date]) -> Event:
        combined = NO_EVENT
        for day in days:
            combined = combined.then(self.events[symbol, day])
        return combined

    def _sessions(self, first: date, last: date) -> int:
        return bisect_left(self.calendar, last) - bisect_left(self.calendar, first)

    def _line(self, symbol: str, day: date, to: date | None, outcome: str) -> _Line:
        event = self.events[symbol, day]
        known = "unknown" if outcome == "carried" and not event.is_known else outcome
        return (day, *_values(event), to, known)


def _beside(bars: pl.DataFrame, gone: pl.DataFrame) -> pl.DataFrame:
    """Bars of the sessions before and after those that are gone: of years of bars of a market a few."""
    sessions = bars.select("symbol", "session").unique().with_columns(beside="session").sort("session")
    found = [
        gone.sort("session").join_asof(sessions, on="session", by="symbol", strategy=side, check_sortedness=False)
        for side in ("backward", "forward")
    ]
    wanted = pl.concat(found).select("symbol", session="beside").drop_nulls().unique()
    return bars.join(wanted, on=["symbol", "session"], how="semi")


def _values(event: Event) -> tuple[float, float]:
    return event.split_ratio, event.dividend


def _by_session(bars: pl.DataFrame) -> dict[str, list[_Day]]:
    """Session, first open, last close and event of each symbol-session; the first bar of a session has its event."""
    days = (
        bars.sort("symbol", "ts")
        .group_by("symbol", "session", maintain_order=True)
        .agg(pl.col("open").first(), pl.col("close").last(), pl.col("split_ratio", "dividend").first())
    )
    found: dict[str, list[_Day]] = {}
    for symbol, day, opened, close, split, dividend in days.rows():
        found.setdefault(symbol, []).append((day, opened, close, Event(split, dividend)))
    return found


def _of_symbol(rows: Iterable[tuple[str, date]]) -> dict[str, list[date]]:
    found: dict[str, list[date]] = {}
    for symbol, day in rows:
        found.setdefault(symbol, []).append(day)
    return found


def _with_events(
    bars: pl.DataFrame, changed: Mapping[tuple[str, date], Event], *, is_added: bool = False
) -> pl.DataFrame:
    """Bars with other events on the first bars of some symbol-sessions; `is_added`: before those that they have."""
    if not changed:
        return bars
    rows = [(symbol, day, *_values(event)) for (symbol, day), event in changed.items()]
    table = pl.DataFrame(rows, schema=EVENTS_SCHEMA, orient="row").rename(
        {"split_ratio": "_split", "dividend": "_cash"}
    )
    is_first = pl.col("ts") == pl.col("ts").min().over("symbol", "session")
    is_changed = is_first & pl.col("_split").is_not_null()
    split, cash = pl.col("_split"), pl.col("_cash")
    if is_added:
        split, cash = split * pl.col("split_ratio"), cash / pl.col("split_ratio") + pl.col("dividend")
    joined = bars.join(table, on=["symbol", "session"], how="left", maintain_order="left")
    return joined.with_columns(
        split_ratio=pl.when(is_changed).then(split).otherwise("split_ratio"),
        dividend=pl.when(is_changed).then(cash).otherwise("dividend"),
    ).drop("_split", "_cash")
