"""The contract of intervals: what a method is, and a method as a strategy chooses it.

Lives here: the form of a registry entry, the choice, and the columns that intervals are stored in. Not here: any particular method
(`bounds`, `class_sets`), when which threshold is known (`thresholds`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hf_pipelines.research.learners.learner import Task
from hf_pipelines.research.params import Param

Floats = NDArray[np.float64]

LOWER, UPPER, CLASS_SET = "lower", "upper", "class_set"

# Between the names of the classes in a set.
SEPARATOR = "|"


@dataclass(frozen=True, kw_only=True)
class IntervalMethod:
    """A way to say how sure a prediction is, calibrated by how wrong earlier ones were.

    Attributes
    ----------
    name : str
        Key in `INTERVALS`.
    task : {"regression", "classification"}
    scores : callable
        `(predictions, coverage, classes) -> scores` of shape (n_rows,): how badly the outcome `y` of each row agrees with its
        prediction, larger is worse; NaN where there is no prediction.
    bounds : callable
        `(predictions, thresholds, coverage, classes) -> columns`: what agrees better than each row's threshold. `lower` and `upper`
        of a regression, `class_set` of classes.
    levels : callable
        `coverage -> quantiles` that the learner has to predict; () for none.
    params : mapping of str to Param
    is_adaptive : bool
        Whether thresholds move from session to session; then `params` hold `step` and `window_sessions`.
    summary : str
        For people.
    """

    name: str
    task: Task
    scores: Callable[[pl.DataFrame, float, Sequence[str]], Floats]
    bounds: Callable[[pl.DataFrame, Floats, float, Sequence[str]], dict[str, pl.Series]]
    levels: Callable[[float], tuple[float, ...]] = lambda coverage: ()
    params: Mapping[str, Param]
    is_adaptive: bool = False
    summary: str


@dataclass(frozen=True)
class ChosenIntervals:
    """A method, the share of outcomes that intervals should hold, and every parameter; made by `choose_intervals`."""

    name: str
    coverage: float
    params: Mapping[str, Any]

    def settings(self) -> dict[str, Any]:
        """As JSON values; `choose_intervals` takes them back."""
        return {"method": self.name, "coverage": self.coverage, "params": dict(self.params)}
