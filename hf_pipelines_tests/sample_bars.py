"""Seeded bars for tests: random walks under the bars contract, with splits, dividends and a reference."""

from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import polars as pl

from hf_pipelines.research.bars import BARS_SCHEMA

REFERENCE = "^INDEX"
CLOSE_TIME = time(21, 0, tzinfo=UTC)


def weekdays(n: int, *, start: date = date(2020, 1, 6)) -> list[date]:
    """The first `n` days from Monday to Friday, from `start` on."""
    days = (start + timedelta(days=offset) for offset in range(2 * n + 7))
    return [day for day in days if day.weekday() < 5][:n]


def random_bars(
    *,
    symbols: int = 3,
    sessions: int = 300,
    seed: int = 0,
    start: date = date(2020, 1, 6),
    has_events: bool = True,
    has_reference: bool = True,
    late_bars: int = 0,
) -> pl.DataFrame:
    """Bars of `symbols` members (S000, S001, ...) and one reference, sorted by (symbol, ts).

    Prices are rounded to cents. With `has_events` a member pays a dividend about once a quarter and splits
    2:1 about once in 200 sessions. Member i starts `i * late_bars` sessions after the first.
    """
    rng = np.random.default_rng(seed)
    days = weekdays(sessions, start=start)
    names = [f"S{index:03d}" for index in range(symbols)] + [REFERENCE] * has_reference
    market = rng.normal(0.0002, 0.008, sessions)
    frames = []
    for index, name in enumerate(names):
        is_member = name != REFERENCE
        returns = market + rng.normal(0.0, 0.015, sessions) * is_member
        frame = _walk(returns, rng, has_events=has_events and is_member).with_columns(
            symbol=pl.lit(name),
            session=pl.Series(days, dtype=pl.Date),
            ts=pl.Series([datetime.combine(day, CLOSE_TIME) for day in days], dtype=pl.Datetime("us", "UTC")),
            role=pl.lit("member" if is_member else "reference"),
        )
        frames.append(frame[min(index * late_bars, sessions - 1) * is_member :])
    return pl.concat(frames).select(*BARS_SCHEMA).sort("symbol", "ts")


def _walk(returns: np.ndarray, rng: np.random.Generator, *, has_events: bool) -> pl.DataFrame:
    n = returns.size
    split_ratio = np.where(rng.random(n) < 0.005 * has_events, 2.0, 1.0)
    pays = rng.random(n) < 0.016 * has_events
    close, dividend = np.empty(n), np.zeros(n)
    price = rng.uniform(40.0, 400.0)
    for bar in range(n):
        value = price * (1.0 + returns[bar]) / split_ratio[bar]
        dividend[bar] = round(0.01 * value, 2) * pays[bar]
        price = close[bar] = max(round(value - dividend[bar], 2), 0.01)
    # The open follows the night's part of the return, after the split and without the dividend.
    open_ = np.maximum(np.round(close / (1.0 + returns * rng.uniform(0.2, 0.8, n)), 2), 0.01)
    high = np.round(np.maximum(open_, close) * (1.0 + rng.exponential(0.004, n)), 2)
    low = np.maximum(np.round(np.minimum(open_, close) * (1.0 - rng.exponential(0.004, n)), 2), 0.01)
    columns = {"open": open_, "high": np.maximum(high, np.maximum(open_, close)), "low": low, "close": close}
    volume = np.round(rng.lognormal(13.0, 0.4, n)) * np.cumprod(split_ratio)
    return pl.DataFrame({**columns, "volume": volume, "split_ratio": split_ratio, "dividend": dividend})


def bars_of(
    symbol: str,
    close: list[float],
    *,
    role: str = "member",
    days: list[date] | None = None,
    **columns: list[float],
) -> pl.DataFrame:
    """Bars of one symbol by hand: open, high and low are the close unless given, volume is 1, no events."""
    n = len(close)
    days = days or weekdays(n)
    defaults = {name: close for name in ("open", "high", "low", "close")}
    defaults |= {"volume": [1.0] * n, "split_ratio": [1.0] * n, "dividend": [0.0] * n}
    return pl.DataFrame(
        {
            **{name: pl.Series(values, dtype=pl.Float64) for name, values in (defaults | columns).items()},
            "symbol": [symbol] * n,
            "session": pl.Series(days, dtype=pl.Date),
            "ts": pl.Series([datetime.combine(day, CLOSE_TIME) for day in days], dtype=pl.Datetime("us", "UTC")),
            "role": [role] * n,
        }
    ).select(*BARS_SCHEMA)
