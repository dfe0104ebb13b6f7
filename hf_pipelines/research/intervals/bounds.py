"""Bounds of regressions: by the size of errors, or by quantiles that the learner predicts.

Lives here: scores and bounds of rows. Not here: thresholds (`thresholds`).

References
----------
Vovk, Gammerman & Shafer (2005), "Algorithmic Learning in a Random World": split conformal prediction. Romano, Patterson & Candès (2019),
"Conformalized Quantile Regression", NeurIPS.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from hf_pipelines.research.intervals.method import LOWER, UPPER, Floats


def error_scores(predictions: pl.DataFrame, coverage: float, classes: Sequence[str]) -> Floats:
    """Distance of outcome and prediction."""
    return np.abs(_floats(predictions, "y") - _floats(predictions, "prediction"))


def error_bounds(
    predictions: pl.DataFrame, thresholds: Floats, coverage: float, classes: Sequence[str]
) -> dict[str, pl.Series]:
    """The prediction less and plus the threshold."""
    centre = _floats(predictions, "prediction")
    return _columns(centre - thresholds, centre + thresholds)


def outer_quantiles(coverage: float) -> tuple[float, float]:
    """Levels of the two quantiles that as much lies between.

    Examples
    --------
    >>> outer_quantiles(0.9)
    (0.05, 0.95)
    """
    below = (1.0 - coverage) / 2.0
    # As they are written: 1 - 0.9 is not 0.1.
    return round(below, 10), round(1.0 - below, 10)


def quantile_scores(predictions: pl.DataFrame, coverage: float, classes: Sequence[str]) -> Floats:
    """How far the outcome is outside of the two quantiles, below zero inside."""
    low, high = _quantiles(predictions, coverage)
    y = _floats(predictions, "y")
    return np.asarray(np.maximum(low - y, y - high))


def quantile_bounds(
    predictions: pl.DataFrame, thresholds: Floats, coverage: float, classes: Sequence[str]
) -> dict[str, pl.Series]:
    """The lower quantile less and the upper one plus the threshold; where they would cross, the middle of both."""
    low, high = _quantiles(predictions, coverage)
    lower, upper = low - thresholds, high + thresholds
    middle = (lower + upper) / 2.0
    return _columns(np.minimum(lower, middle), np.maximum(upper, middle))


def _quantiles(predictions: pl.DataFrame, coverage: float) -> tuple[Floats, Floats]:
    low, high = (_floats(predictions, f"quantile_{level:g}") for level in outer_quantiles(coverage))
    return low, high


def _floats(frame: pl.DataFrame, name: str) -> Floats:
    return frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _columns(lower: Floats, upper: Floats) -> dict[str, pl.Series]:
    return {LOWER: pl.Series(LOWER, lower).fill_nan(None), UPPER: pl.Series(UPPER, upper).fill_nan(None)}
