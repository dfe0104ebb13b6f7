"""Seeded training matrices in which one feature tells something about the return, for tests of learning."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import polars as pl

from hf_pipelines.research.matrix import build_matrix
from hf_pipelines.research.targets import Target


def plain_bars(closes: dict[str, list[float]], *, start: date = date(2024, 1, 1)) -> pl.DataFrame:
    """Member bars without events, one a calendar day at 21:00 UTC, from the closes of each symbol."""
    return pl.concat(
        pl.DataFrame(
            {
                "symbol": symbol,
                "session": [start + timedelta(days=day) for day in range(len(values))],
                "close": np.asarray(values, dtype=np.float64),
                "split_ratio": 1.0,
                "dividend": 0.0,
                "role": "member",
            }
        ).with_columns(ts=pl.col("session").dt.combine(time(21)).dt.replace_time_zone("UTC"))
        for symbol, values in closes.items()
    )


def close_of(day: int, *, month: int = 1, year: int = 2024) -> datetime:
    """Close time of a session of `plain_bars`."""
    return datetime(year, month, day, 21, tzinfo=UTC)


def random_matrix(
    target: Target,
    *,
    symbols: int = 4,
    sessions: int = 90,
    n_features: int = 5,
    skill: float = 0.5,
    seed: int = 0,
) -> pl.DataFrame:
    """Matrix of random walks whose `feature_0` mixes the coming bar's return (share `skill`) with noise."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0.0, 0.02, size=(symbols, sessions))
    closes = 100.0 * np.exp(np.cumsum(steps, axis=1))
    bars = plain_bars({f"S{number}": closes[number].tolist() for number in range(symbols)})
    values = rng.normal(size=(symbols * sessions, n_features)).astype(np.float32)
    coming = np.roll(steps, -1, axis=1).ravel() / 0.02
    values[:, 0] = skill * coming + (1.0 - skill) * values[:, 0]
    # Different scales, so that a scaler has work to do.
    values *= 10.0 ** np.arange(n_features, dtype=np.float32)
    columns = [pl.Series(f"feature_{number}", values[:, number]) for number in range(n_features)]
    features = bars.select("symbol", "session", "ts", *columns)
    return build_matrix(features, bars=bars, target=target, cutoff=None, minimum_rows=1)
