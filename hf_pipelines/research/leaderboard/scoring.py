"""Scoring: what a candidate is ranked by, one number a session.

Lives here: the metrics, and the series of one of them for predictors on the same rows. Does not live here: what a score means
(`metrics`), ranks and tests (`ranking`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hf_pipelines.research.baselines import predict_baselines
from hf_pipelines.research.leaderboard.candidates import kind_of_target
from hf_pipelines.research.leaderboard.entries import BASELINE, Entry
from hf_pipelines.research.metrics.direction import is_better_higher
from hf_pipelines.research.session_values import COEFFICIENT, common_rows, prediction_values
from hf_pipelines.research.splitters.splitter import Splitter
from hf_pipelines.research.targets import Target

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """A number that candidates are ranked by.

    Attributes
    ----------
    name : str
    column : str
        Of `prediction_values`, whose mean over sessions it is made of.
    is_classification : bool or None
        The targets that have it; None: all.
    of_mean : callable
        From that mean to the number.
    """

    name: str
    column: str
    is_classification: bool | None
    of_mean: Callable[[float], float] = float

    @property
    def is_better_higher(self) -> bool:
        """Whether more of it is better."""
        return is_better_higher(self.name)

    def losses(self, values: Floats) -> Floats:
        """Values of sessions as losses."""
        return -values if self.is_better_higher else values


def root_of(mean: float) -> float:
    """The root of a mean square, also of a bound of it that lies below 0."""
    return math.sqrt(max(mean, 0.0))


METRICS: dict[str, Metric] = {
    each.name: each
    for each in (
        Metric("log_loss", "log_loss", True),
        Metric("brier", "brier", True),
        Metric("accuracy", "accuracy", True),
        Metric("rmse", "mse", False, root_of),
        Metric("mse", "mse", False),
        Metric("mae", "mae", False),
        Metric(COEFFICIENT, COEFFICIENT, None),
    )
}
"""Every metric, by name."""

DEFAULT_METRICS: Mapping[str, str] = {"classification": "log_loss", "regression": "rmse", "ranking": COEFFICIENT}


def metric_of(name: str | None, target: Target) -> Metric:
    """A metric by its name, by default that of the kind of target.

    Raises
    ------
    ValueError
        If the target has none of this name.
    """
    found = DEFAULT_METRICS[kind_of_target(target)] if name is None else name
    able = [each for each, metric in METRICS.items() if metric.is_classification in (None, target.is_classification)]
    if found not in able:
        raise ValueError(f"`metric` must be one of {', '.join(able)} for target {target.name!r}, was {found[:40]!r}.")
    return METRICS[found]


def baseline_entries(
    entries: Sequence[Entry], matrix: pl.DataFrame, *, splitter: Splitter, target: Target, seed: int
) -> list[Entry]:
    """Every baseline on the rows that candidates have predicted; none where no candidate was completed.

    Parameters
    ----------
    entries : sequence of Entry
        Of the same matrix, splitter and target.
    matrix : DataFrame
    splitter : Splitter
        Of the outer folds.
    target : Target
    seed : int
        Of the random one.
    """
    # All of them predict the test rows of the same folds, in their order.
    rows = next((each.predictions for each in entries if each.predictions is not None), None)
    if rows is None:
        return []
    rows = rows.select(pl.exclude("^probability_.*$", "^quantile_.*$", "^prediction_.*$"))
    found = []
    for name, predicted in predict_baselines(matrix, splitter.split(matrix), target=target, seed=seed).items():
        frame = rows.with_columns(prediction=pl.Series(predicted.value))
        if predicted.probability is not None:
            frame = frame.with_columns(
                pl.Series(f"probability_{each}", predicted.probability[:, at]) for at, each in enumerate(target.classes)
            )
        found.append(Entry(name, BASELINE, frame, gives_probabilities=predicted.gives_probabilities))
    return found


def session_values(predictions: Mapping[str, pl.DataFrame], metric: Metric) -> tuple[pl.Series, Floats]:
    """A metric of each predictor session by session, on the rows that all of them predict.

    A session in which a predictor gives every symbol the same, so that there is no order, has a coefficient of 0.

    Parameters
    ----------
    predictions : mapping of str to DataFrame
        Out-of-fold predictions with the same labels.
    metric : Metric

    Returns
    -------
    tuple of (Series, array of shape (n_sessions, n_predictors))
        Sessions in order of time, and the values, finite.
    """
    frames = [prediction_values(each) for each in common_rows([*predictions.values()])]
    values = np.column_stack([each[metric.column].cast(pl.Float64).fill_null(math.nan).to_numpy() for each in frames])
    if metric.column == COEFFICIENT:
        # Where no predictor has one, the labels of the session have no order.
        has_order = ~np.isnan(values).all(axis=1)
        return frames[0]["session"].filter(pl.Series(has_order)), np.nan_to_num(values[has_order], nan=0.0)
    return frames[0]["session"], values
