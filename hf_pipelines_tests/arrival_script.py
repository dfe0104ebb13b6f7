"""Arrival script: what a vendor sends over a quarter, good and bad, by a seed.

Lives here: which files arrive, in which order, with what in them, and what must have come to rest before each arrival.
Does not live here: who plays it (`baseline`, `soak`).

Two plays of a script end alike only if both have the same behind them whenever the past changes: what was issued before
a revision and what after it differ. So an arrival that changes a session at or before the newest one waits for rest, and
so does the next one after it; between them days come as fast as they like. The model of a week is asked for only while
that week is the newest: an arrival that ends it waits for its model.
"""

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from enum import Enum
from functools import cached_property
from pathlib import Path
from random import Random

import polars as pl

from hf_pipelines.partitions import MarketPartitions, shift_week, week_key
from hf_pipelines.research.bars import PRICE_COLUMNS
from hf_pipelines.resources.market_data.files import session_of_name
from hf_pipelines_tests.landing import FIRST_SESSION, HISTORY_WEEKS
from hf_pipelines_tests.pipeline import TIMEZONE, session_bars, sessions_from

# What happens to the past in a moment of trouble, and weeks that a moment stands for.
TROUBLES = ("late", "revised", "long past", "out of order", "late and broken first", "revised this week")
TROUBLES_A_MOMENT = 2
WEEKS_A_MOMENT = 3.25

# Sessions from one of these to the next, on average.
SESSIONS_A_SPLIT, SESSIONS_A_BROKEN, SESSIONS_A_DUPLICATE, SESSIONS_AN_OUTAGE = 21, 25, 12, 60

# How far back a vendor revises: most of it lies in what a model trains on.
REVISED_WEEKS = 8


class Need(Enum):
    """What must be so before an arrival."""

    NOTHING = "nothing"
    MODEL = "model"
    REST = "rest"


@dataclass(frozen=True)
class Arrival:
    """Files laid down at once.

    Attributes
    ----------
    kinds : tuple of str
    files : mapping of name to bytes
    is_noise : bool
        Broken and duplicate files, and what mends them with the very bytes of before: left out of the baseline play.
    need : Need
    """

    kinds: tuple[str, ...]
    files: Mapping[str, bytes]
    is_noise: bool = False
    need: Need = Need.NOTHING

    @property
    def sessions(self) -> list[date]:
        return sorted({day for name in self.files if (day := session_of_name(name)) is not None})

    def lay_down(self, folder: Path, *, is_new: bool = False) -> None:
        """Whole and all at once; with the time of a while ago, as files that were copied have, unless `is_new`."""
        folder.mkdir(parents=True, exist_ok=True)
        age_ns = 0 if is_new else 60_000_000_000
        for name, payload in self.files.items():
            part = folder / f".{name}.part"
            part.write_bytes(payload)
            # Nanoseconds differ: the same size and time would be the same file.
            then = part.stat().st_mtime_ns - age_ns
            os.utime(part, ns=(then, then))
        for name in self.files:
            os.replace(folder / f".{name}.part", folder / name)


@dataclass(frozen=True)
class ArrivalScript:
    """Arrivals of `weeks` weeks after a history, drawn by `seed`."""

    weeks: int
    seed: int
    symbols: int = 4

    @cached_property
    def bars(self) -> pl.DataFrame:
        """What the vendor has: with a halt, a delisting, and events on rows that are refused."""
        bars = session_bars(self.all_sessions, seed=self.seed, symbols=self.symbols)
        of, day = pl.col("symbol"), pl.col("session")
        is_halted = (of == self.members[1]) & day.is_in(self.halted)
        is_delisted = (of == self.members[-1]) & (day > self.last_of_delisted)
        split, paid = self.faulty_days
        is_after = (of == self.members[0]) & (day >= split)
        is_split, is_paid = (of == self.members[0]) & (day == split), (of == self.members[2]) & (day == paid)
        prices = (pl.when(is_after).then(pl.col(name) / 2.0).otherwise(name).alias(name) for name in PRICE_COLUMNS)
        return bars.filter(~is_halted & ~is_delisted).with_columns(
            *prices,
            split_ratio=pl.when(is_split).then(2.0).otherwise("split_ratio"),
            dividend=pl.when(is_paid).then(1.5).otherwise("dividend"),
            volume=pl.when(is_split | is_paid).then(-1.0).otherwise("volume"),
        )

    @property
    def halted(self) -> list[date]:
        """Sessions without a bar of the second member."""
        return self.days[6:9]

    @property
    def last_of_delisted(self) -> date:
        """Last session of the last member."""
        return self.days[round(0.6 * len(self.days))]

    @property
    def faulty_days(self) -> tuple[date, date]:
        """Sessions with a refused row that has an event: a split of the first member, and a dividend at a week's end."""
        week = shift_week(week_key(self.first_day), -3)
        return self.days[4], self.partitions.sessions_of_week(week)[-1]

    @property
    def universe(self) -> list[dict[str, str]]:
        """As a market's YAML has it."""
        until = {self.members[-1]: {"until": str(self.last_of_delisted)}}
        return [{"symbol": each, **until.get(each, {})} for each in self.members]

    @cached_property
    def members(self) -> list[str]:
        return [f"S{number:03d}" for number in range(self.symbols)]

    @cached_property
    def all_sessions(self) -> list[date]:
        return sessions_from(FIRST_SESSION, HISTORY_WEEKS + self.weeks)

    @cached_property
    def partitions(self) -> MarketPartitions:
        return MarketPartitions("XNYS", TIMEZONE, self.all_sessions[0], self.all_sessions[-1])

    @cached_property
    def first_day(self) -> date:
        """First session after the history."""
        week = shift_week(week_key(self.all_sessions[0]), HISTORY_WEEKS)
        return self.partitions.sessions_of_week(week)[0]

    @cached_property
    def days(self) -> list[date]:
        """Sessions after the history."""
        return [day for day in self.all_sessions if day >= self.first_day]

    @cached_property
    def missing_from_history(self) -> list[date]:
        """Sessions of weeks long past that the vendor sends much later."""
        weeks = self.partitions.weeks_between(self.all_sessions[0], self.first_day)
        n_moments = len(self._moments)
        number = max(1, -(-n_moments * TROUBLES_A_MOMENT // len(TROUBLES)))
        chosen = Random(f"{self.seed} history").sample(range(1, HISTORY_WEEKS - REVISED_WEEKS - 2), number)
        return [self.partitions.sessions_of_week(weeks[each])[2] for each in sorted(chosen)]

    @cached_property
    def history(self) -> Arrival:
        """What lies there before the first day."""
        missing = set(self.missing_from_history)
        days = [day for day in self.all_sessions if day < self.first_day and day not in missing]
        return Arrival(("history",), {f"{day}.parquet": self.payload(day) for day in days})

    def payload(self, day: date, *, revision: int = 0, symbols: Sequence[str] | None = None) -> bytes:
        """Bytes of a session; each revision moves the prices of one symbol by another cent of a dollar."""
        of_day = self.bars.filter(pl.col("session") == day)
        if symbols is not None:
            of_day = of_day.filter(pl.col("symbol").is_in(symbols))
        first = of_day["symbol"][0]
        factor = pl.when(pl.col("symbol") == first).then(1.0 + 0.01 * revision).otherwise(1.0)
        return _bytes(of_day.with_columns(*(pl.col(name) * factor for name in ("open", "high", "low", "close"))))

    def broken(self, day: date, rng: Random) -> bytes:
        """Bytes of a session that no market can be made from."""
        sound = self.payload(day)
        faulty = self.bars.filter(pl.col("session") == day).with_columns(close=-pl.col("close"))
        other = self.payload(self.all_sessions[self.all_sessions.index(day) - 1])
        return rng.choice([sound[: len(sound) // 2], b"<html>503 Service Unavailable</html>", _bytes(faulty), other])

    @cached_property
    def _moments(self) -> list[int]:
        """Numbers of the days after which the past changes; half of them end a week."""
        rng = Random(f"{self.seed} moments")
        count = max(1, round(self.weeks / WEEKS_A_MOMENT))
        weeks = sorted(rng.sample(range(1, self.weeks), min(count, self.weeks - 1)))
        found = []
        for number, week in enumerate(weeks):
            numbers = [self.days.index(day) for day in self._sessions_of(week)]
            found.append(numbers[-1] if number % 2 == 0 else rng.choice(numbers[1:-1]))
        return found

    def _sessions_of(self, week: int) -> list[date]:
        return self.partitions.sessions_of_week(shift_week(week_key(self.first_day), week))

    @cached_property
    def arrivals(self) -> list[Arrival]:
        """All of it, in order."""
        return _Writer(self).write()


def _bytes(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


@dataclass
class _Writer:
    """Writes a script: first what happens to which session, then the arrivals in order with their needs."""

    script: ArrivalScript
    # Sessions that come later than on their day.
    held: set[date] = field(default_factory=set)
    entries: list[tuple[float, Arrival]] = field(default_factory=list)
    # Weeks in which a broken file lies: nothing else may come for them, it would not be taken before the file is mended.
    blocked: list[tuple[str, float, float]] = field(default_factory=list)
    revisions: dict[date, int] = field(default_factory=dict)
    # Sessions with more than one file, or with one that others count on.
    special: set[date] = field(default_factory=set)

    def __post_init__(self) -> None:
        # A part of such a session, or a file with another faulty row, would have too many of them.
        self.special |= set(self.script.faulty_days)
        self.rng = Random(f"{self.script.seed} arrivals")
        self.days = self.script.days

    def write(self) -> list[Arrival]:
        self._trouble()
        self._daily()
        self._broken_past()
        self._duplicates()
        self._strays()
        ordered = [arrival for _, arrival in sorted(self.entries, key=lambda each: each[0])]
        return self._with_needs(ordered)

    def _trouble(self) -> None:
        missing = list(self.script.missing_from_history)
        kinds: list[str] = []
        for number in self.script._moments:
            files: dict[str, bytes] = {}
            done: list[str] = []
            unfit: list[str] = []
            while len(done) < TROUBLES_A_MOMENT:
                if not kinds:
                    kinds = self.rng.sample(TROUBLES, len(TROUBLES))
                kind = kinds.pop()
                made = self._make_trouble(kind, number, missing)
                if not made or set(made) & set(files):
                    unfit.append(kind)
                    continue
                files |= made
                done.append(kind)
            # What did not fit here comes first the next time.
            kinds += unfit
            self.entries.append((number + 0.5, Arrival(tuple(sorted(done)), files)))

    def _make_trouble(self, kind: str, number: int, missing: list[date]) -> dict[str, bytes]:
        """Files that change the past after day `number`; none if the kind does not fit there."""
        script, rng, today = self.script, self.rng, self.days[number]
        if kind == "long past":
            day = missing.pop() if missing else None
            return {f"{day}.parquet": script.payload(day)} if day else {}
        if kind in ("late", "late and broken first", "out of order"):
            back = 1 if kind == "out of order" else rng.randint(2, 7)
            day = self.days[max(number - back, 0)]
            if day in self.special or day >= today:
                return {}
            if kind == "late and broken first":
                # It holds up its week: all others of it must have come, and been taken.
                start = self.days.index(script.partitions.sessions_of_week(week_key(day))[-1]) + 0.4
                if start > number or not self._is_free(week_key(day), start, number + 0.6):
                    return {}
                self._lay_broken(day, start, number + 0.5, need=Need.REST)
            self.held.add(day)
            self.special.add(day)
            return {f"{day}.parquet": script.payload(day)}
        if kind == "revised this week":
            first = script.partitions.sessions_of_week(week_key(today))[0]
            choice = [each for each in self.days if first <= each <= today and each not in self.special]
        else:
            start = script.all_sessions.index(today)
            past = script.all_sessions[start - 5 * REVISED_WEEKS : start]
            choice = [each for each in past if week_key(each) < week_key(today) and each not in self.special]
        choice = [each for each in choice if each not in script.missing_from_history]
        if not choice:
            return {}
        day = rng.choice(choice)
        self.special.add(day)
        self.revisions[day] = self.revisions.get(day, 0) + 1
        return {f"{day}.parquet": script.payload(day, revision=self.revisions[day])}

    def _lay_broken(self, day: date, start: float, end: float, *, need: Need = Need.NOTHING) -> None:
        """A broken file from `start` on; what mends it comes at `end`."""
        self.blocked.append((week_key(day), start, end))
        files = {f"{day}.parquet": self.script.broken(day, self.rng)}
        self.entries.append((start, Arrival(("broken",), files, is_noise=True, need=need)))

    def _is_free(self, week: str, start: float, end: float) -> bool:
        """Whether nothing else comes for a week in a stretch of time."""
        is_touched = any(
            start <= at <= end and any(week_key(day) == week for day in entry.sessions) for at, entry in self.entries
        )
        return not is_touched and not self._is_blocked(week, start, end)

    def _daily(self) -> None:
        rng = self.rng
        outage: list[date] = []
        for number, day in enumerate(self.days):
            if day in self.held:
                continue
            if not outage and rng.random() < 1 / SESSIONS_AN_OUTAGE and number + 8 < len(self.days):
                until = number + rng.randint(3, 7)
                # An outage in which the past changes is a matter of what comes first: both at once.
                if not any(number <= each <= until for each in self.script._moments):
                    outage = [each for each in self.days[number:until] if each not in self.held]
                    files = {f"{each}.parquet": self.script.payload(each) for each in outage}
                    self.special |= set(outage)
                    self.entries.append((until - 1.0, Arrival(("after an outage",), files)))
            if day in outage:
                continue
            outage = []
            if rng.random() < 1 / SESSIONS_A_SPLIT and day not in self.special:
                self.special.add(day)
                symbols = self.script.bars["symbol"].unique().sort().to_list()
                parts = {"a": symbols[:2], "b": symbols[2:]}
                files = {
                    f"{day}-{name}.parquet": self.script.payload(day, symbols=of_part)
                    for name, of_part in parts.items()
                }
                self.entries.append((float(number), Arrival(("in two parts",), files)))
                continue
            if rng.random() < 1 / SESSIONS_A_BROKEN and not self._is_blocked(week_key(day), number - 0.1, number):
                self._lay_broken(day, number - 0.1, float(number))
            self.entries.append((float(number), Arrival(("daily",), {f"{day}.parquet": self.script.payload(day)})))

    def _is_blocked(self, week: str, start: float, end: float) -> bool:
        return any(each == week and first <= end and start <= last for each, first, last in self.blocked)

    def _broken_past(self) -> None:
        """Files of past weeks overwritten by broken ones, and days later by what they were."""
        rng, script = self.rng, self.script
        for number in range(5, len(self.days) - 6):
            if rng.random() >= 1 / SESSIONS_A_BROKEN:
                continue
            start, end = number + 0.2, number + rng.randint(1, 5) + 0.3
            # Two weeks back all is taken: the model of the last week was waited for.
            day = script.all_sessions[script.all_sessions.index(self.days[number]) - rng.randint(11, 45)]
            if day in self.special or day in script.missing_from_history:
                continue
            if not self._is_free(week_key(day), start, end):
                continue
            self._lay_broken(day, start, end)
            sound = script.payload(day, revision=0)
            self.entries.append((end, Arrival(("mended",), {f"{day}.parquet": sound}, is_noise=True)))

    def _duplicates(self) -> None:
        """The same bytes again, under the same or another name, some days later."""
        rng = self.rng
        arrived = [(at, entry) for at, entry in self.entries if not entry.is_noise]
        for at, entry in arrived:
            for name, payload in entry.files.items():
                if rng.random() >= 1 / SESSIONS_A_DUPLICATE:
                    continue
                later = at + rng.choice([0.05, 1.4, 4.4])
                day = session_of_name(name)
                assert day is not None
                if self._is_blocked(week_key(day), at, later) or any(
                    name in other.files for when, other in self.entries if at < when <= later
                ):
                    continue
                # Under another name only where no revision follows: the old bytes would then be a second file.
                is_renamed = day not in self.revisions and rng.random() < 0.5
                copy = name.replace(".parquet", "-again.parquet") if is_renamed else name
                self.entries.append((later, Arrival(("duplicate",), {copy: payload}, is_noise=True)))

    def _strays(self) -> None:
        """Files that are none of a session: a note, and one of a day without a session, once a week."""
        for number, day in enumerate(self.days):
            if week_key(day) != week_key(self.days[max(number - 1, 0)]):
                saturday = f"{day - timedelta(days=day.weekday() + 2)}.parquet"
                files = {f"notes-{number}.txt": b"closed on Saturday", saturday: self.script.payload(day)}
                self.entries.append((number + 0.7, Arrival(("stray",), files, is_noise=True)))

    def _with_needs(self, ordered: Sequence[Arrival]) -> list[Arrival]:
        partitions = self.script.partitions
        there = set(self.script.history.sessions)
        was_past_changed = False
        found = []
        for arrival in ordered:
            if arrival.is_noise:
                found.append(arrival)
                continue
            newest = max(there)
            changed = [day for day in arrival.sessions if day <= newest]
            before = _newest_week(partitions, there)
            there |= set(arrival.sessions)
            if changed or was_past_changed:
                need = Need.REST
            elif _newest_week(partitions, there) != before:
                need = Need.MODEL
            else:
                need = Need.NOTHING
            # Within the week under way the next day and the change may be taken together: no model is made of them.
            was_past_changed = any(week_key(day) < _newest_week(partitions, there) for day in changed)
            found.append(replace(arrival, need=need))
        return found


def _newest_week(partitions: MarketPartitions, there: set[date]) -> str:
    """Week whose model is asked for once these sessions are there."""
    week = week_key(max(there))
    return shift_week(week, 1) if partitions.sessions_of_week(week)[-1] in there else week
