"""Entries: what a candidate or a baseline came out as, as a plain value that can be sent to another process and stored.

Lives here: the value. Does not live here: making one (`evaluating`, `scoring`), ranks (`ranking`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import polars as pl

State: TypeAlias = Literal["completed", "failed", "ended", "not run", "baseline"]
COMPLETED: State = "completed"
FAILED: State = "failed"
ENDED: State = "ended"
NOT_RUN: State = "not run"
BASELINE: State = "baseline"


@dataclass(frozen=True, eq=False)
class Entry:
    """A candidate, or a baseline, as it came out.

    Attributes
    ----------
    name : str
    state : {"completed", "failed", "ended", "not run", "baseline"}
        `ended`: the deadline came while it ran; `not run`: before it began.
    predictions : DataFrame or None
        Out-of-fold predictions on the outer folds.
    reason : str
        Why it is not ranked.
    artifact_bytes : int or None
        Of a model of all rows, as it is stored.
    fit_seconds, predict_seconds : float or None
        To fit that model, and to predict all rows by it.
    gives_probabilities : bool
        False of one that names a class alone.
    scores : mapping of str to float
        What cross-validation tells of it.
    """

    name: str
    state: State
    predictions: pl.DataFrame | None = None
    reason: str = ""
    artifact_bytes: int | None = None
    fit_seconds: float | None = None
    predict_seconds: float | None = None
    gives_probabilities: bool = True
    scores: Mapping[str, float] = field(default_factory=dict)
