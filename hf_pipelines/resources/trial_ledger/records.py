"""Records: one line of JSON each, which begins with the SHA-256 of the rest.

Lives here: writing a record as bytes, reading one back from bytes that anybody may have written, the keys of the objects. Does not
live here: what a trial is (`trials`), the order of records (`writers`, `chains`).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import polars as pl

RECORDS = "_trials/records"
SEGMENTS = "_trials/segments"
RETURNS = "_trials/returns"

# The hash before the first record of a chain.
ORIGIN = "0" * 64

BEGUN, ENDED = "begun", "ended"
EVENTS = (BEGUN, ENDED)

# What is read of records at once; the rest is read of single ones.
COLUMNS = pl.Schema(
    {
        **dict.fromkeys(("writer", "at", "event", "trial", "kind", "source", "strategy", "market"), pl.String()),
        **dict.fromkeys(("week", "actor", "configuration", "data_hash", "code_version", "parent"), pl.String()),
        **dict.fromkeys(("outcome", "returns", "sha256"), pl.String()),
        "n": pl.Int64(),
        "seed": pl.Int64(),
        "descends_from": pl.List(pl.String()),
        "estimate": pl.Struct(dict.fromkeys(("sharpe", "n", "skew", "kurtosis"), pl.Float64())),
    }
)

# Longer is no record of ours: the settings of a strategy take some kilobytes.
MOST_RECORD_BYTES = 256 * 1024

DIGEST_PATTERN = re.compile("[0-9a-f]{64}")
WRITER_PATTERN = re.compile("[0-9a-f]{16}")
TRIAL_PATTERN = re.compile("[0-9a-f]{32}")

# A line is `{"sha256":"<64 digits>","at":...}`: the digest is of the JSON without it.
_BEFORE, _AFTER = b'{"sha256":"', b'",'
_DIGEST_AT = len(_BEFORE)
_REST_AT = _DIGEST_AT + 64 + len(_AFTER)


class RecordError(ValueError):
    """Bytes that are no record; the message says what they are instead."""


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the ledger.

    Attributes
    ----------
    line : bytes
        As stored, without the end of the line.
    fields : mapping
        `writer`, `n`, `prev`, `at`, `event`, `trial`, and what the event says.
    """

    line: bytes
    fields: Mapping[str, Any]

    @property
    def hash(self) -> str:
        """SHA-256 of the record: what the next one holds as `prev`."""
        return self.line[_DIGEST_AT : _DIGEST_AT + 64].decode("ascii")

    @property
    def writer(self) -> str:
        return str(self.fields["writer"])

    @property
    def n(self) -> int:
        return int(self.fields["n"])


def write_record(fields: Mapping[str, Any]) -> Record:
    """A record of some fields.

    Raises
    ------
    ValueError
        If they are no JSON values (NaN is none), or too many bytes.
    """
    text = canonical(fields)
    if len(text) > MOST_RECORD_BYTES - _REST_AT:
        raise ValueError(
            f"`record` must be at most {MOST_RECORD_BYTES:,} bytes, was {len(text):,}; store large results apart and name their hash."
        )
    return Record(_BEFORE + sha256(text).hexdigest().encode() + _AFTER + text[1:], dict(fields))


def canonical(value: Any) -> bytes:
    """JSON with one form of each value: the same values are the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def read_record(line: bytes) -> Record:
    """A record out of bytes.

    Raises
    ------
    RecordError
        If the bytes are none.
    """
    fields = read_line(line)
    if not _is_record(fields):
        raise RecordError("JSON without the fields of a record")
    return Record(line, fields)


def read_line(line: bytes) -> dict[str, Any]:
    """Fields of a line that begins with its SHA-256, whatever they are, the SHA-256 left out.

    Raises
    ------
    RecordError
        If the bytes are no such line.
    """
    if len(line) > MOST_RECORD_BYTES:
        raise RecordError(f"of {len(line):,} bytes")
    if not line.startswith(_BEFORE) or line[_REST_AT - len(_AFTER) : _REST_AT] != _AFTER:
        raise RecordError("no JSON that begins with its SHA-256")
    text = b"{" + line[_REST_AT:]
    if sha256(text).hexdigest().encode() != line[_DIGEST_AT : _DIGEST_AT + 64]:
        raise RecordError("of another SHA-256 than it says")
    try:
        fields = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as e:
        raise RecordError("no JSON") from e
    if not isinstance(fields, dict):
        raise RecordError("JSON without the fields of a record")
    return fields


def record_key(writer: str, n: int) -> str:
    """Key of a single record."""
    return f"{RECORDS}/{writer}/{n:08d}"


def parse_record_key(key: str) -> tuple[str, int] | None:
    """Writer and number of a key, None of another name."""
    writer, _, number = key.removeprefix(f"{RECORDS}/").partition("/")
    is_ours = WRITER_PATTERN.fullmatch(writer) and re.fullmatch("[0-9]{8,12}", number)
    return (writer, int(number)) if is_ours else None


def _is_record(fields: Mapping[str, Any]) -> bool:
    n, writer, trial = fields.get("n"), fields.get("writer"), fields.get("trial")
    return bool(
        type(n) is int
        and 0 <= n < 10**12
        and isinstance(writer, str)
        and WRITER_PATTERN.fullmatch(writer)
        and isinstance(trial, str)
        and TRIAL_PATTERN.fullmatch(trial)
        and fields.get("event") in EVENTS
        and isinstance(fields.get("prev"), str)
        and isinstance(fields.get("at"), str)
    )


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON.")
