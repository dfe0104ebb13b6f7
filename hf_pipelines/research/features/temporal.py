"""Temporal features: what the calendar says about a row's session, known before the session opens.

Here: whole-column functions of a panel's `session` and `next_session`. Not here: anything read from prices.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hf_pipelines.research.features.feature import Feature, Input
from hf_pipelines.research.features.panel import DateArray, FloatArray, Panel

# 1970-01-01, day 0 of datetime64[D], was a Thursday: weekday 3 counted from Monday.
_EPOCH_WEEKDAY = 3


def day_of_week(panel: Panel) -> FloatArray:
    """Weekday of the session, 0 (Monday) to 6 (Sunday)."""
    return ((panel.session.astype(np.int64) + _EPOCH_WEEKDAY) % 7).astype(np.float64)


def month(panel: Panel) -> FloatArray:
    """Month of the session, 1 to 12."""
    return (_months(panel.session) % 12 + 1).astype(np.float64)


def quarter(panel: Panel) -> FloatArray:
    """Quarter of the session, 1 to 4."""
    return (_months(panel.session) % 12 // 3 + 1).astype(np.float64)


def day_of_year(panel: Panel) -> FloatArray:
    """Day of the session in its year, 1 (1 January) to 366."""
    new_year = panel.session.astype("datetime64[Y]").astype("datetime64[D]")
    return np.asarray((panel.session - new_year).astype(np.int64) + 1, dtype=np.float64)


def is_month_end(panel: Panel) -> FloatArray:
    """1 if the calendar's next session lies in another month, else 0; NaN if the panel has no calendar."""
    is_last = np.asarray(_months(panel.session) != _months(panel.next_session), dtype=np.float64)
    is_last[np.isnat(panel.next_session)] = np.nan
    return is_last


def _months(days: DateArray) -> npt.NDArray[np.int64]:
    """Months since January 1970."""
    return np.asarray(days.astype("datetime64[M]"), dtype=np.int64)


def _feature(name: str, compute: Callable[[Panel], FloatArray], *, inputs: tuple[Input, ...], formula: str) -> Feature:
    return Feature(name, "temporal", compute, 1, inputs, formula)


FEATURES = (
    _feature("day_of_week", day_of_week, inputs=("session",),
              formula="0 Monday to 6 Sunday"),
    _feature("month", month, inputs=("session",),
              formula="1 to 12"),
    _feature("quarter", quarter, inputs=("session",),
              formula="1 to 4"),
    _feature("is_month_end", is_month_end, inputs=("session", "next_session"),
              formula="1 if the next session is in another month"),
    _feature("day_of_year", day_of_year, inputs=("session",),
              formula="1 to 366"),
)  # fmt: skip
