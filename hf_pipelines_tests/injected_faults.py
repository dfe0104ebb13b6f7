"""Faults of bars as vendors make them, each planted into the sound bars of one symbol.

Lives here: the table `FAULTS`, and `planted` that puts each of them many times into bars. Does not live here: what the
rules make of them (`quality_scorecard`), real bars (`real_bars`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
import polars as pl

from hf_pipelines.research.bars import PRICE_COLUMNS, SOURCE_SCHEMA
from hf_pipelines_tests.sample_bars import CLOSE_TIME, weekdays

# Sound sessions before a fault: more than any rule looks back on.
BEFORE = 60
# From the first faulty session to the end of the bars.
AFTER = 40

Columns = dict[str, np.ndarray]
Plant = Callable[[Columns, slice, np.random.Generator], None]

# What a fault is counted under. "price": 25 % and more, which reverts or persists. "event": off by a factor of 5 and
# more. "other": smaller ones, and those of volume, rows and feeds.
Group = Literal["price", "event", "other"]


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes
    ----------
    plant : callable
        Changes the columns of a symbol in place, at the faulty sessions.
    sessions : int or None
        How many sessions are wrong; None: from the first one on.
    is_level : bool
        The bars after the first one are right by themselves: an event is missing or false, or the level has changed.
    """

    name: str
    group: Group
    plant: Plant
    sessions: int | None = 1
    is_level: bool = False


def _scaled(price: float = 1.0, volume: float = 1.0, columns: Sequence[str] = PRICE_COLUMNS) -> Plant:
    def plant(bars: Columns, at: slice, rng: np.random.Generator) -> None:
        for name in columns:
            bars[name][at] *= price
        bars["volume"][at] *= volume

    return plant


def _set(**values: float) -> Plant:
    def plant(bars: Columns, at: slice, rng: np.random.Generator) -> None:
        for name, value in values.items():
            bars[name][at.start] = value

    return plant


def _close(factor: float) -> Plant:
    """A wrong close, with the high or low that it needs."""

    def plant(bars: Columns, at: slice, rng: np.random.Generator) -> None:
        bars["close"][at] *= factor
        bars["high"][at] = np.maximum(bars["high"][at], bars["close"][at])
        bars["low"][at] = np.minimum(bars["low"][at], bars["close"][at])

    return plant


def _busy_close(bars: Columns, at: slice, rng: np.random.Generator) -> None:
    _close(1.3)(bars, at, rng)
    bars["volume"][at] *= 4.0


def _open(factor: float) -> Plant:
    def plant(bars: Columns, at: slice, rng: np.random.Generator) -> None:
        bars["open"][at] *= factor
        bars["high"][at] = np.maximum(bars["high"][at], bars["open"][at])
        bars["low"][at] = np.minimum(bars["low"][at], bars["open"][at])

    return plant


def _split(ratio: float, *, reported: float = 1.0, reported_after: int = 0, is_volume_split: bool = True) -> Plant:
    """A split of `ratio` to 1, reported as `reported` to 1, some sessions late or (below zero) early."""

    def plant(bars: Columns, at: slice, rng: np.random.Generator) -> None:
        _scaled(1.0 / ratio, ratio if is_volume_split else 1.0)(bars, slice(at.start, None), rng)
        bars["split_ratio"][at.start + reported_after] = reported

    return plant


def _dividend(low: float, high: float, *, reported: float) -> Plant:
    """A dividend of between `low` and `high` of the price, reported as `reported` times its size."""

    def plant(bars: Columns, at: slice, rng: np.random.Generator) -> None:
        paid = rng.uniform(low, high)
        cash = paid * bars["close"][at.start - 1]
        _scaled(1.0 - paid)(bars, slice(at.start, None), rng)
        bars["dividend"][at.start] = reported * cash

    return plant


def _phantom(share: float) -> Plant:
    def plant(bars: Columns, at: slice, rng: np.random.Generator) -> None:
        bars["dividend"][at.start] = share * bars["close"][at.start - 1]

    return plant


def _repeated(columns: Sequence[str]) -> Plant:
    def plant(bars: Columns, at: slice, rng: np.random.Generator) -> None:
        for name in columns:
            bars[name][at] = bars[name][at.start]
        bars["high"][at] = np.maximum.reduce([bars[name][at] for name in PRICE_COLUMNS])
        bars["low"][at] = np.minimum.reduce([bars[name][at] for name in PRICE_COLUMNS])

    return plant


def _swapped(bars: Columns, at: slice, rng: np.random.Generator) -> None:
    high, low = bars["high"][at].copy(), bars["low"][at].copy()
    bars["high"][at], bars["low"][at] = low, high * 1.001


def _missing(bars: Columns, at: slice, rng: np.random.Generator) -> None:
    bars["is_there"][at] = 0.0


def _split_and_crash(bars: Columns, at: slice, rng: np.random.Generator) -> None:
    """A false 10:1 split on a session that opened at half its price."""
    _scaled(0.45, 6.0)(bars, slice(at.start, None), rng)
    bars["split_ratio"][at.start] = 10.0


def _print_with_dividend(bars: Columns, at: slice, rng: np.random.Generator) -> None:
    """A print below a cent on an ex-date."""
    bars["dividend"][at.start] = 0.01 * bars["close"][at.start - 1]
    for name in PRICE_COLUMNS:
        bars[name][at] = 0.0001


FAULTS = (
    # One session, all four prices.
    *(
        Fault(f"prices x{factor:g}, 1 session", "price", _scaled(factor))
        for factor in (0.001, 0.01, 0.1, 0.5, 0.75, 1.25, 1.5, 2.0, 10.0, 100.0, 1000.0)
    ),
    Fault("prices x1.2, 1 session", "other", _scaled(1.2)),
    Fault("prices 0.0001, 1 session", "price", _set(open=1e-4, high=1e-4, low=1e-4, close=1e-4)),
    Fault("prices 0.0001 on an ex-date", "price", _print_with_dividend),
    # Several sessions.
    Fault("prices x0.75, 3 sessions", "price", _scaled(0.75), 3),
    Fault("prices x1.3, 3 sessions", "price", _scaled(1.3), 3),
    Fault("prices x2, 3 sessions", "price", _scaled(2.0), 3),
    Fault("prices x1.2, 3 sessions", "other", _scaled(1.2), 3),
    # A level that stays.
    *(
        Fault(f"prices x{factor:g} from here on", "price", _scaled(factor), None)
        for factor in (0.01, 0.1, 0.75, 1.3, 100.0, 1e4)
    ),
    # Another instrument.
    Fault("another instrument x0.57, 3 % of the trade, 3 sessions", "price", _scaled(0.57, 0.05), 3),
    Fault("another instrument x0.2, 1 % of the trade, 10 sessions", "price", _scaled(0.2, 0.05), 10),
    Fault("another instrument x0.2, 1 % of the trade, from here on", "price", _scaled(0.2, 0.05), None),
    Fault("another instrument x5, 25 times the trade, 10 sessions", "price", _scaled(5.0, 5.0), 10),
    # One price of the four.
    *(Fault(f"open x{factor:g}", "price", _open(factor)) for factor in (0.5, 0.7, 1.3, 2.0)),
    *(Fault(f"high x{factor:g}", "price", _scaled(factor, columns=("high",))) for factor in (1.3, 3.0, 20.0)),
    *(Fault(f"low x{factor:g}", "price", _scaled(factor, columns=("low",))) for factor in (0.75, 0.33, 0.001)),
    *(Fault(f"close x{factor:g}", "price", _close(factor)) for factor in (0.1, 0.7, 1.4, 2.0)),
    Fault("close x1.3 with 4 times the trade", "price", _busy_close),
    # Splits.
    *(
        Fault(f"split {name} missing", "price", _split(ratio), is_level=True)
        for name, ratio in (("2:1", 2.0), ("3:2", 1.5), ("4:1", 4.0), ("4:3", 4 / 3), ("20:1", 20.0), ("1:10", 0.1))
    ),
    Fault("split 1:50 missing", "price", _split(1 / 50), is_level=True),
    Fault("split 4:1 missing, volume as before", "price", _split(4.0, is_volume_split=False), is_level=True),
    Fault("bonus 1.2:1 missing", "other", _split(1.2), is_level=True),
    Fault("bonus 1.1:1 missing", "other", _split(1.1), is_level=True),
    Fault("split 2:1 false", "other", _set(split_ratio=2.0), is_level=True),
    Fault("split 5:4 false", "other", _set(split_ratio=1.25), is_level=True),
    Fault("split 1:10 false", "event", _set(split_ratio=0.1), is_level=True),
    Fault("split 1000:1 false", "event", _set(split_ratio=1000.0), is_level=True),
    Fault("split 10:1 false in a crash", "event", _split_and_crash, is_level=True),
    Fault("split 2:1 reported as 1:2", "other", _split(2.0, reported=0.5), is_level=True),
    Fault("split 10:1 reported as 2:1", "event", _split(10.0, reported=2.0), is_level=True),
    Fault("split 2:1 reported as 10:1", "event", _split(2.0, reported=10.0), is_level=True),
    Fault("split 4:1 reported as 3:1", "other", _split(4.0, reported=3.0), is_level=True),
    Fault("split 5:1 reported a session late", "event", _split(5.0, reported=5.0, reported_after=1), is_level=True),
    Fault("split 5:1 reported two sessions early", "event", _split(5.0, reported=5.0, reported_after=-2), is_level=True),
    # Dividends.
    Fault("dividend of 1 to 3 % ten times too large", "event", _dividend(0.01, 0.03, reported=10.0), is_level=True),
    Fault("dividend of 0.5 to 1 % ten times too large", "event", _dividend(0.005, 0.01, reported=10.0), is_level=True),
    Fault("dividend of 0.3 to 2 % 100 times too large", "event", _dividend(0.003, 0.02, reported=100.0), is_level=True),
    Fault("special dividend of 20 to 40 % reported as a tenth", "event", _dividend(0.2, 0.4, reported=0.1), is_level=True),
    Fault("special dividend of 15 to 25 % missing", "event", _dividend(0.15, 0.25, reported=0.0), is_level=True),
    Fault("dividend of 15 % false", "event", _phantom(0.15), is_level=True),
    Fault("dividend of 5 % false", "other", _phantom(0.05), is_level=True),
    # Volume.
    Fault("volume x100, 1 session", "other", _scaled(volume=100.0)),
    Fault("volume in lots of 100, 1 session", "other", _scaled(volume=0.01)),
    Fault("volume in lots of 100 from here on", "other", _scaled(volume=0.01), None),
    Fault("volume zero", "other", _scaled(volume=0.0)),
    # Rows and feeds.
    Fault("close NaN", "other", _set(close=np.nan)),
    Fault("low zero", "other", _set(low=0.0)),
    Fault("high and low swapped", "other", _swapped),
    Fault("close above high", "other", _scaled(1.5, columns=("close",))),
    Fault("volume negative", "other", _scaled(volume=-1.0)),
    Fault("split ratio zero", "other", _set(split_ratio=0.0)),
    Fault("same bar for 3 sessions", "other", _repeated((*PRICE_COLUMNS, "volume")), 3),
    Fault("same close for 5 sessions", "other", _repeated(("close",)), 5),
    Fault("no bar for 3 sessions", "other", _missing, 3),
)  # fmt: skip


@dataclass(frozen=True)
class Planted:
    """Bars with faults, a symbol each, and where the faults are.

    Attributes
    ----------
    bars : DataFrame
        Contract `SOURCE_SCHEMA`, sorted by symbol; names say nothing.
    calendar : list of date
    cases : DataFrame
        Columns symbol, fault, group, first, last (the faulty sessions), is_level.
    """

    bars: pl.DataFrame
    calendar: list[date]
    cases: pl.DataFrame


def planted(sound: pl.DataFrame, *, seeds: Sequence[int], faults: Sequence[Fault] = FAULTS) -> Planted:
    """Every fault once for each seed, in a stretch of a symbol without events that the seed chooses.

    Stretches are laid onto one calendar of `BEFORE` + `AFTER` weekdays; sessions that a stretch lacks are left out.
    """
    calendar = weekdays(BEFORE + AFTER)
    stretches = _stretches(sound)
    numbers = [*PRICE_COLUMNS, "volume", "split_ratio", "dividend"]
    matrix = sound.select(numbers).to_numpy()
    parts: list[dict[str, np.ndarray]] = []
    cases = []
    for number, fault in enumerate(faults):
        for seed in seeds:
            rng = np.random.default_rng((seed, number))
            start = int(stretches[rng.integers(len(stretches))])
            bars = dict(zip(numbers, matrix[start : start + len(calendar)].T.copy(), strict=True))
            bars["is_there"] = np.ones(len(calendar))
            at = slice(BEFORE, None if fault.sessions is None else BEFORE + fault.sessions)
            fault.plant(bars, at, rng)
            symbol = f"F{number:03d}S{seed:03d}"
            last = calendar[-1] if fault.sessions is None else calendar[BEFORE + fault.sessions - 1]
            cases.append((symbol, fault.name, fault.group, calendar[BEFORE], last, fault.is_level))
            parts.append({"symbol": np.full(len(calendar), symbol), **bars})
    frame = pl.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    sessions = pl.Series("session", calendar * len(parts), dtype=pl.Date)
    ts = pl.col("session").dt.combine(CLOSE_TIME.replace(tzinfo=None)).dt.replace_time_zone("UTC")
    frame = frame.with_columns(sessions).filter(pl.col("is_there") == 1.0).with_columns(ts=ts)
    columns = ["symbol", "fault", "group", "first", "last", "is_level"]
    return Planted(
        bars=frame.select(pl.col(name).cast(dtype) for name, dtype in SOURCE_SCHEMA.items()),
        calendar=calendar,
        cases=pl.DataFrame(cases, schema=columns, orient="row"),
    )


def _stretches(sound: pl.DataFrame) -> np.ndarray:
    """Rows at which a stretch of one symbol without splits begins, sessions apart by at most a long weekend."""
    n = BEFORE + AFTER
    rows = sound.select(
        same=pl.col("symbol") == pl.col("symbol").shift(-(n - 1)),
        dense=(pl.col("session").shift(-(n - 1)) - pl.col("session")).dt.total_days() < 1.6 * n,
        events=((pl.col("split_ratio") != 1.0).cast(pl.Int32).reverse().rolling_sum(n, min_samples=1).reverse()),
    )
    usable = rows.select((pl.col("same") & pl.col("dense") & (pl.col("events") == 0)).fill_null(False)).to_series()
    starts = np.flatnonzero(usable.to_numpy())
    if not len(starts):
        raise ValueError(f"`sound` must have a symbol with {n} sessions in a row without splits, had none.")
    return starts
