"""Seeded reference tables for tests: filings, insider trades, short interest and scored news of random companies."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.research.references import REFERENCES, end_of_day

ZONE = "America/New_York"
OPEN_TIME = time(14, 30, tzinfo=UTC)


def session_opens(days: Iterable[date]) -> dict[date, datetime]:
    """The sample market opens at 14:30 UTC every session; its bars close at 21:00."""
    return {day: datetime.combine(day, OPEN_TIME) for day in days}


def table_of(name: str, rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """A table by hand: dates of `event_time` and `available_at` are ends of days, figures left out are NaN."""
    contract = REFERENCES[name]
    times: dict[str, Any] = {}
    for column in ("event_time", "available_at"):
        given = [row[column] for row in rows]
        days = pl.DataFrame({"day": [None if isinstance(value, datetime) else value for value in given]},
                            schema={"day": pl.Date})  # fmt: skip
        ends = days.select(end_of_day(pl.col("day"), ZONE)).to_series()
        times[column] = [value if end is None else end for end, value in zip(ends, given, strict=True)]
    columns = {
        column: times.get(column, [row.get(column, float("nan") if column in contract.figures else "") for row in rows])
        for column in contract.schema
    }
    return pl.DataFrame(columns, schema=contract.schema, strict=False)


def random_references(
    symbols: Sequence[str], *, start: date, end: date, seed: int = 0, has_gaps: bool = False
) -> dict[str, pl.DataFrame]:
    """All four tables for `symbols` such that every feature has a value on every session from `start` to `end`.

    With `has_gaps` one figure in ten is NaN, one row in five is missing, and signs vary.
    """
    rng = np.random.default_rng(seed)
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in REFERENCES}
    for symbol in symbols:
        tables["fundamentals"] += _filings(symbol, rng, start=start - timedelta(days=1000), end=end)
        tables["insider_trades"] += _trades(symbol, rng, start=start - timedelta(days=120), end=end)
        tables["short_interest"] += _settlements(symbol, rng, start=start - timedelta(days=200), end=end)
        tables["news"] += _articles(symbol, rng, start=start - timedelta(days=10), end=end)
    frames = {name: table_of(name, rows) for name, rows in tables.items()}
    if has_gaps:
        frames = {name: _damaged(frame, rng, REFERENCES[name].signed) for name, frame in frames.items()}
    return frames


def _damaged(frame: pl.DataFrame, rng: np.random.Generator, signed: Sequence[str]) -> pl.DataFrame:
    kept = frame.filter(pl.Series(rng.random(frame.height) > 0.2))
    scores = {"positive", "negative", "neutral"}
    return kept.with_columns(
        pl.when(pl.Series(rng.random(kept.height) < 0.1))
        .then(-pl.col(name) if name in signed else (pl.lit(0.0) if rng.random() < 0.5 else pl.lit(float("nan"))))
        .otherwise(pl.col(name))
        .alias(name)
        for name, dtype in kept.schema.items()
        if dtype == pl.Float64 and name not in scores
    )


def _filings(symbol: str, rng: np.random.Generator, *, start: date, end: date) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    size = float(rng.uniform(1e9, 1e11))
    # Some file shares, others only what the eps imply.
    has_shares = rng.random() < 0.5
    to_date = 0.0
    for number, first in enumerate(_quarter_starts(start, end)):
        ends = first - timedelta(days=1)
        quarter = number % 4
        revenue = size * float(rng.uniform(0.8, 1.2)) * 1.01**number
        to_date = (0.0 if quarter == 0 else to_date) + revenue
        amount = to_date if quarter == 3 else revenue
        shares = size / 50.0 * float(rng.uniform(0.98, 1.02))
        row: dict[str, Any] = {
            "symbol": symbol, "event_time": ends, "available_at": ends + timedelta(days=int(rng.integers(25, 60))),
            "period": ("Q1", "Q2", "Q3", "FY")[quarter], "doc_type": "10-K" if quarter == 3 else "10-Q",
            "revenue": amount, "gross_profit": 0.4 * amount, "operating_income": 0.2 * amount,
            "depreciation": 0.05 * amount, "net_income": 0.1 * amount, "eps": 0.1 * amount / shares,
            "dividend": 0.02 * amount / shares, "assets": 9.0 * size, "current_assets": 3.0 * size,
            "current_liabilities": 2.0 * size, "equity": 4.0 * size, "cash": 0.5 * size, "debt": size,
            "shares": shares if has_shares else float("nan"), "operating_cash_flow": 0.15 * to_date,
        }  # fmt: skip
        rows.append(row)
        if rng.random() < 0.2:
            later = row["available_at"] + timedelta(days=int(rng.integers(1, 120)))
            rows.append(row | {"available_at": later, "net_income": 0.9 * row["net_income"], "eps": 0.9 * row["eps"]})
    return rows


def _quarter_starts(start: date, end: date) -> list[date]:
    months = [(year, month) for year in range(start.year, end.year + 1) for month in (4, 7, 10, 13)]
    firsts = [date(year, month, 1) if month < 13 else date(year + 1, 1, 1) for year, month in months]
    return [first for first in firsts if date(start.year, 1, 1) < first <= end]


def _trades(symbol: str, rng: np.random.Generator, *, start: date, end: date) -> list[dict[str, Any]]:
    rows = []
    for number, offset in enumerate(np.sort(rng.integers(0, (end - start).days, (end - start).days // 12)).tolist()):
        traded = start + timedelta(days=offset)
        shares, price = float(rng.integers(-5000, 5000)), float(rng.uniform(20.0, 200.0))
        row = {
            "symbol": symbol, "event_time": traded, "available_at": traded + timedelta(days=int(rng.integers(0, 5))),
            "trade_id": f"{symbol}-{number}", "shares": shares, "price": price, "value": shares * price,
        }  # fmt: skip
        rows.append(row)
        if rng.random() < 0.1:
            later = row["available_at"] + timedelta(days=int(rng.integers(1, 60)))
            rows.append(row | {"available_at": later, "shares": 2.0 * shares, "value": 2.0 * shares * price})
    return rows


def _settlements(symbol: str, rng: np.random.Generator, *, start: date, end: date) -> list[dict[str, Any]]:
    days = [start + timedelta(days=offset) for offset in range((end - start).days)]
    return [
        {
            "symbol": symbol, "event_time": day, "available_at": day + timedelta(days=int(rng.integers(8, 12))),
            "shares_short": float(rng.uniform(1e6, 9e6)), "average_daily_volume": float(rng.uniform(1e6, 2e6)),
            "shares_outstanding": 1e8,
        }
        for day in days
        if day.day in (15, 28)
    ]  # fmt: skip


def _articles(symbol: str, rng: np.random.Generator, *, start: date, end: date) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for offset in range((end - start).days + 1):
        midnight = datetime.combine(start + timedelta(days=offset), time(0, tzinfo=UTC))
        # One before every open, and others at any time.
        for second in [43_200, *rng.integers(0, 86_400, int(rng.integers(0, 3))).tolist()]:
            at = midnight + timedelta(seconds=second)
            scores = dict(zip(("positive", "negative", "neutral"), rng.dirichlet(np.ones(3)).tolist(), strict=True))
            rows.append({"symbol": symbol, "event_time": at, "available_at": at + timedelta(minutes=1),
                         "article_id": f"{symbol}-{len(rows)}", "text": "An article.", **scores})  # fmt: skip
    return rows


# What counts shares or is counted per share: another unit of share or of volume changes these together.
_UNITS: dict[str, dict[str, tuple[tuple[str, int], ...]]] = {
    "prices": {
        "fundamentals": (("eps", 1), ("dividend", 1), ("shares", -1)),
        "insider_trades": (("price", 1), ("value", 1)),
    },
    "volumes": {
        "insider_trades": (("shares", 1), ("value", 1)),
        "short_interest": (("shares_short", 1), ("average_daily_volume", 1), ("shares_outstanding", 1)),
    },
}


def scaled_references(
    references: dict[str, pl.DataFrame], what: str, *, symbol: str, factor: float
) -> dict[str, pl.DataFrame]:
    """The tables after a symbol's prices (per share) or volumes (in shares) were multiplied with `factor`."""
    return {
        name: frame.with_columns(
            pl.when(pl.col("symbol") == symbol).then(pl.col(column) * factor**power).otherwise(pl.col(column))
            for column, power in _UNITS[what].get(name, ())
        )
        for name, frame in references.items()
    }
