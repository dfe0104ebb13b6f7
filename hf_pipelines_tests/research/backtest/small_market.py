"""Markets small enough to book by hand: frames from a few written-out numbers, and seeded random ones."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import polars as pl

# A Thursday: the second step crosses a weekend.
FIRST_SESSION = date(2024, 1, 4)


def sessions(n: int) -> list[date]:
    """First `n` weekdays from FIRST_SESSION on."""
    days = (FIRST_SESSION + timedelta(days=i) for i in range(2 * n + 5))
    return [day for day in days if day.weekday() < 5][:n]


def close_time(session: date) -> datetime:
    return datetime.combine(session, time(21), tzinfo=UTC)


def symbol_bars(
    symbol: str,
    *,
    open: Sequence[float | None],
    close: Sequence[float | None],
    split_ratio: Mapping[int, float] | None = None,
    dividend: Mapping[int, float] | None = None,
    volume: float = 1e9,
) -> pl.DataFrame:
    """Bars of one symbol; a None close is a session without a bar, events are keyed by position.

    High is 1 above the larger of open and close, low 1 below the smaller.
    """
    days = sessions(len(close))
    frame = pl.DataFrame(
        {
            "symbol": [symbol] * len(days),
            "session": days,
            "ts": [close_time(day) for day in days],
            "open": pl.Series(open, dtype=pl.Float64),
            "close": pl.Series(close, dtype=pl.Float64),
            "split_ratio": [(split_ratio or {}).get(i, 1.0) for i in range(len(days))],
            "dividend": [(dividend or {}).get(i, 0.0) for i in range(len(days))],
            "role": ["member"] * len(days),
        },
        schema_overrides={"ts": pl.Datetime("us", "UTC")},
    )
    frame = frame.with_columns(
        high=pl.max_horizontal("open", "close") + 1.0, low=pl.min_horizontal("open", "close") - 1.0, volume=volume
    )
    return frame.drop_nulls("close")


def decisions(targets: Mapping[int, Mapping[str, float]]) -> pl.DataFrame:
    """Weights frame: position of the session -> symbol -> weight."""
    days = sessions(max(targets) + 1)
    rows = [
        (symbol, days[i], close_time(days[i]), weight)
        for i, target in targets.items()
        for symbol, weight in target.items()
    ]
    schema: dict[str, pl.DataType | type[pl.DataType]] = {
        "symbol": pl.String,
        "session": pl.Date,
        "ts": pl.Datetime("us", "UTC"),
        "weight": pl.Float64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def random_market(
    *, seed: int, n_sessions: int = 60, n_symbols: int = 4, missing: float = 0.0, events: bool = True
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Bars and weights, seeded: gaps overnight, splits, dividends, halts, sessions without a decision."""
    rng = np.random.default_rng(seed)
    frames = []
    for j in range(n_symbols):
        close = 50.0 * np.exp(np.cumsum(rng.normal(0, 0.02, n_sessions)))
        open = np.roll(close, 1) * np.exp(rng.normal(0, 0.01, n_sessions))
        open[0] = close[0]
        halted = rng.random(n_sessions) < missing
        halted[0] = False
        split_at = {int(rng.integers(5, n_sessions)): float(rng.choice([2.0, 0.5, 1.5]))} if events else {}
        pays_at = {int(i): 0.4 for i in rng.choice(n_sessions, 3, replace=False)} if events else {}
        frames.append(
            symbol_bars(
                f"S{j}",
                open=[None if h else float(v) for h, v in zip(halted, open, strict=True)],
                close=[None if h else float(v) for h, v in zip(halted, close, strict=True)],
                split_ratio=split_at,
                dividend=pays_at,
            )
        )
    bars = pl.concat(frames).sort("symbol", "ts")
    days = bars.select("session", "ts").unique().sort("ts")
    decided = days.filter(pl.Series(rng.random(days.height) < 0.6) | (pl.int_range(pl.len()) == 0))
    rows = bars.join(decided, on=["session", "ts"], how="semi").select("symbol", "session", "ts")
    scale = 0.3 / math.sqrt(n_symbols)
    return rows.with_columns(weight=pl.Series(rng.normal(0.0, scale, size=rows.height))), bars
