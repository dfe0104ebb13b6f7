"""Return series of trials: stored once by their content, and laid side by side.

Lives here: taking them from an account, their bytes. Does not live here: what is made of them (`research.overfitting`).
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date
from hashlib import sha256
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hf_pipelines.research.metrics import returns_of
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.storage_errors import ObjectExistsError, ObjectMissingError, ObjectRefusedError
from hf_pipelines.resources.trial_ledger.records import DIGEST_PATTERN, RETURNS

# A return of each of some days since 1970.
_ROW = np.dtype([("day", "<i4"), ("return", "<f8")])
# Fact of an account: by what ratios of a session become those of a year.
SESSIONS_PER_YEAR = "sessions_per_year"

MOST_BYTES = 16 * 1024 * 1024


def session_returns(equity: pl.DataFrame, facts: Mapping[str, Any]) -> tuple[list[date], list[float]] | None:
    """Returns of an account by session, as `backtest` stores it; None of fewer than two sessions.

    Of several paths those of the middle one, whose numbers are shown.
    """
    if "path" in equity.columns:
        paths: Mapping[str, Mapping[str, float]] = facts["paths"]
        ordered = sorted(paths, key=lambda each: paths[each]["total_return"])
        equity = equity.filter(path=int(ordered[(len(ordered) - 1) // 2]))
    daily = equity.group_by("session", maintain_order=True).agg(pl.col("equity").last())
    if daily.height < 2:
        return None
    return daily["session"][1:].to_list(), returns_of(daily["equity"].to_numpy()).tolist()


def put_returns(objects: ObjectStore, sessions: Sequence[date], returns: Sequence[float] | NDArray[np.float64]) -> str:
    """Store a series of one return a session, ascending; returns its SHA-256.

    Raises
    ------
    ValueError
        If the lengths differ, sessions are not ascending, or a return is not finite.
    """
    rows = np.empty(len(sessions), dtype=_ROW)
    if len(sessions) != len(returns):
        raise ValueError(f"`returns` must be one for each of {len(sessions)} sessions, was {len(returns)}.")
    rows["day"] = np.asarray(sessions, dtype="datetime64[D]").astype(np.int32)
    rows["return"] = returns
    if not (np.diff(rows["day"]) > 0).all() or not np.isfinite(rows["return"]).all():
        raise ValueError(
            "`returns` must be finite, of ascending sessions, were not; leave out sessions without a return."
        )
    payload = rows.tobytes()
    digest = sha256(payload).hexdigest()
    with suppress(ObjectExistsError):
        objects.put_durably(f"{RETURNS}/{digest}", payload)
    return digest


def read_returns(objects: ObjectStore, digest: str) -> tuple[NDArray[np.int32], NDArray[np.float64]] | None:
    """Days since 1970 and returns of a series; None of one that is gone or not what it is named by."""
    if not DIGEST_PATTERN.fullmatch(digest):
        return None
    try:
        payload = objects.get(f"{RETURNS}/{digest}", max_bytes=MOST_BYTES, follows_links=False)
    except (ObjectMissingError, ObjectRefusedError):
        return None
    if sha256(payload).hexdigest() != digest or len(payload) % _ROW.itemsize:
        return None
    rows = np.frombuffer(payload, dtype=_ROW)
    return rows["day"].copy(), rows["return"].copy()


def side_by_side(series: Iterable[tuple[NDArray[np.int32], NDArray[np.float64]]]) -> NDArray[np.float64]:
    """A row for each day that any series has, a column for each series, NaN where it has none."""
    found = list(series)
    days = np.unique(np.concatenate([days for days, _ in found])) if found else np.empty(0, np.int32)
    table = np.full((len(days), len(found)), np.nan)
    for column, (of, returns) in enumerate(found):
        table[np.searchsorted(days, of), column] = returns
    return table


def missing_returns(objects: ObjectStore, named: Mapping[str, str]) -> dict[str, str]:
    """Of series by their SHA-256, with what names each, those that are not there as they were stored, and what is wrong."""
    there = {key.rpartition("/")[2] for key in objects.keys(RETURNS)}
    faults = {}
    for digest, name in named.items():
        if digest not in there:
            faults[digest] = f"the return series {digest[:12]} of {name} is gone"
        elif read_returns(objects, digest) is None:
            faults[digest] = f"the return series {digest[:12]} of {name} is not what was stored"
    return faults
