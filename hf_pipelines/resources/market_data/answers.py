"""Answers: a page of JSON that a market data service sent, as a frame.

Lives here: parsing it. Does not live here: asking for it (`http`), the process that runs this (`reader`).
"""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import polars as pl

from hf_pipelines.research.bars import SOURCE_SCHEMA
from hf_pipelines.research.wording import excerpt, excerpts
from hf_pipelines.resources.limits import Limits
from hf_pipelines.resources.market_data.tables import RefusedTableError

MAX_CURSOR_LENGTH = 1024
JSON_VALUE_BYTES = 50


def parse_json(payload: bytes, limits: Limits, n_page: int) -> tuple[pl.DataFrame, str | None]:
    """Rows of a page and where the next one is."""
    # A value takes at least two characters of JSON and, parsed, some 50 bytes.
    n_bytes = JSON_VALUE_BYTES * (payload.count(b",") + payload.count(b"["))
    if n_bytes > limits.decoded_bytes:
        raise RefusedTableError(f"page {n_page} holds {n_bytes:,} bytes when decoded, above {limits.decoded_bytes:,}")
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError) as e:
        where = f" at character {e.pos}" if isinstance(e, json.JSONDecodeError) else ""
        raise RefusedTableError(f"page {n_page} is no JSON{where}") from e
    if not isinstance(body, dict) or not isinstance(rows := body.get("data"), list) or "next" not in body:
        raise RefusedTableError(f'page {n_page} must be {{"data": [row, ...], "next": cursor or null}}')
    columns = {name for row in rows if isinstance(row, dict) for name in row}
    if fault := limits.shape_fault(len(rows), len(columns)):
        raise RefusedTableError(f"page {n_page} holds {fault}")
    return _frame_of(rows, n_page), checked_cursor(body["next"])


def checked_cursor(cursor: Any) -> str | None:
    """A cursor as it is sent back to the service, None where there is no next page."""
    if cursor is not None and not (isinstance(cursor, str) and 0 < len(cursor) <= MAX_CURSOR_LENGTH):
        raise RefusedTableError(f"`next` must be text of at most {MAX_CURSOR_LENGTH} characters or null")
    return cursor


def _frame_of(rows: list[Any], n_page: int) -> pl.DataFrame:
    if wrong := next((number for number, row in enumerate(rows, 1) if not isinstance(row, dict)), None):
        raise RefusedTableError(f"page {n_page}: row {wrong} must be an object")
    names = list(dict.fromkeys(name for row in rows for name in row))
    if sparse := next((number for number, row in enumerate(rows, 1) if len(row) != len(names)), None):
        lacking = sorted(set(names) - set(rows[sparse - 1]))
        raise RefusedTableError(
            f"page {n_page}: row {sparse} must have the columns of all rows, was without {excerpts(lacking)}"
        )
    return pl.DataFrame([_column_of(name, [row[name] for row in rows], n_page) for name in names])


def _column_of(name: str, values: list[Any], n_page: int) -> pl.Series:
    """A column of JSON values by the contract's name, else by what they are."""
    if name == "session":
        return pl.Series(name, _parsed(name, values, n_page, str, "a date YYYY-MM-DD", date.fromisoformat), pl.Date)
    if name in ("ts", "event_time", "available_at"):
        times = _parsed(name, values, n_page, str, "a time with an offset", _time_of)
        return pl.Series(name, times, pl.Datetime("us", "UTC"))
    if name not in SOURCE_SCHEMA and all(value is None for value in values):
        # Figures or text: another page may tell.
        return pl.Series(name, values, pl.Null)
    is_text = name == "symbol" or (name not in SOURCE_SCHEMA and any(isinstance(value, str) for value in values))
    if is_text:
        return pl.Series(name, _parsed(name, values, n_page, str, "text", str), pl.String)
    return pl.Series(name, _parsed(name, values, n_page, (int, float), "a number", float), pl.Float64)


def _parsed(
    name: str, values: list[Any], n_page: int, kind: Any, wanted: str, parse: Callable[[Any], Any]
) -> list[Any]:
    parsed = []
    for number, value in enumerate(values, 1):
        try:
            if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
                raise TypeError
            parsed.append(None if value is None else parse(value))
        except (TypeError, ValueError, OverflowError) as e:
            raise RefusedTableError(
                f"page {n_page}: row {number}: `{excerpt(name)}` must be {wanted}, was '{excerpt(value)}'"
            ) from e
    return parsed


def _time_of(text: str) -> datetime:
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        raise ValueError
    return parsed.astimezone(UTC)
