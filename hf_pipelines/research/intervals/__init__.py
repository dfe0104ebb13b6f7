"""Intervals: between which bounds an outcome lies, or among which classes, as often as is promised.

Lives here: the registry `INTERVALS`, intervals of out-of-fold predictions, what a model of a week carries of them, and intervals of its
predictions. Not here: one method (`bounds`, `class_sets`), when which threshold is known (`thresholds`), how often outcomes lay
inside (`coverage`).

All of them are conformal: the threshold is a quantile of how wrong out-of-fold predictions were. What a fold's threshold is made
from, its model could know too: labels that ended by the end of the last label that the model was trained on. An adaptive one knows at
each session the labels that ended before it. Rows count alike, whatever they weigh in a fit: intervals promise for every row.

References
----------
Angelopoulos & Bates (2023), "Conformal Prediction: A Gentle Introduction", Foundations and Trends in Machine Learning 16(4).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.intervals.bounds import (
    error_bounds,
    error_scores,
    outer_quantiles,
    quantile_bounds,
    quantile_scores,
)
from hf_pipelines.research.intervals.class_sets import aps_scores, aps_sets, lac_scores, lac_sets
from hf_pipelines.research.intervals.method import (
    CLASS_SET,
    LOWER,
    UPPER,
    ChosenIntervals,
    Floats,
    IntervalMethod,
)
from hf_pipelines.research.intervals.thresholds import Moving, conformal_threshold, move_thresholds
from hf_pipelines.research.params import Number, complete_params
from hf_pipelines.research.predictions import latest_predictions
from hf_pipelines.research.targets import HORIZON

__all__ = [
    "CLASS_SET",
    "INTERVALS",
    "LOWER",
    "UPPER",
    "ChosenIntervals",
    "IntervalMethod",
    "ServedIntervals",
    "add_intervals",
    "choose_intervals",
    "interval_functions",
    "serve_intervals",
]

COVERAGE = Number(default=0.9, low=0.5, high=0.999, meaning="share of the outcomes that intervals should hold")


@dataclass(frozen=True)
class ServedIntervals:
    """What a model of a week carries: a threshold for each horizon.

    Attributes
    ----------
    chosen : ChosenIntervals
    thresholds : mapping of horizon to float
        None stands for a target with one. NaN where out-of-fold rows were too few.
    n_scores : mapping of horizon to int
        Rows that each is made from.
    aimed : mapping of horizon to float
        Share of outcomes outside that it aims at: of an adaptive one another than the nominal.
    """

    chosen: ChosenIntervals
    thresholds: Mapping[int | None, float]
    n_scores: Mapping[int | None, int]
    aimed: Mapping[int | None, float]

    def add(self, predicted: pl.DataFrame, *, classes: Sequence[str], horizon: int | None = None) -> pl.DataFrame:
        """Predictions of the model with `lower` and `upper`, or `class_set`, at the end; null where unknown.

        Parameters
        ----------
        predicted : DataFrame
            From `predict_frame`.
        classes : sequence of str
        horizon : int, optional
            Of the predictions, where the target has several.
        """
        thresholds = np.full(predicted.height, self.thresholds[horizon])
        method = INTERVALS[self.chosen.name]
        return predicted.with_columns(**method.bounds(predicted, thresholds, self.chosen.coverage, classes))

    def report(self) -> list[dict[str, Any]]:
        """JSON values: a mapping for each horizon."""
        return [
            {
                **({} if horizon is None else {HORIZON: horizon}),
                "threshold": None if math.isnan(threshold) else threshold,
                "rows": self.n_scores[horizon],
                "aims_outside": self.aimed[horizon],
            }
            for horizon, threshold in self.thresholds.items()
        ]

    def save(self) -> bytes:
        """As bytes of JSON, for `load`."""
        return json.dumps({**self.chosen.settings(), "thresholds": self.report()}).encode()

    @classmethod
    def load(cls, data: bytes) -> ServedIntervals:
        """What `save` made; check the sha256 of the bytes first.

        Raises
        ------
        ValueError
            If it is something else.
        """
        try:
            given = json.loads(data)
            rows = {each.get(HORIZON): each for each in given["thresholds"]}
            thresholds = {
                h: math.nan if each["threshold"] is None else float(each["threshold"]) for h, each in rows.items()
            }
            if any(math.isinf(each) for each in thresholds.values()):
                raise ValueError("a threshold must be finite")
            return cls(
                choose_intervals(given["method"], coverage=given["coverage"], params=given["params"]),
                thresholds,
                {h: int(each["rows"]) for h, each in rows.items()},
                {h: float(each["aims_outside"]) for h, each in rows.items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise ValueError(f"`data` must be intervals in JSON, was {data[:60]!r}.") from e


def choose_intervals(
    method: str, *, coverage: float | None = None, params: Mapping[str, Any] | None = None
) -> ChosenIntervals:
    """Check intervals as a strategy names them, and fill in defaults.

    Raises
    ------
    ValueError
        If the method or a parameter is unknown, or a value outside of its range.
    TypeError
        If a value is of another type.
    """
    if method not in INTERVALS:
        raise ValueError(f"`intervals.method` must be among {', '.join(sorted(INTERVALS))}, was {str(method)[:40]}.")
    given = {} if coverage is None else {"coverage": coverage}
    own = complete_params("intervals", given, {"coverage": COVERAGE}, where="intervals.")["coverage"]
    return ChosenIntervals(
        method, own, complete_params(method, params, INTERVALS[method].params, where="intervals.params.")
    )


def interval_functions(chosen: ChosenIntervals) -> tuple[Callable[..., Any], ...]:
    """Every function of the method; for code versions."""
    method = INTERVALS[chosen.name]
    return (method.scores, method.bounds, method.levels)


def add_intervals(
    predictions: pl.DataFrame,
    matrix: pl.DataFrame,
    chosen: ChosenIntervals,
    *,
    classes: Sequence[str],
    label_sessions: int,
) -> pl.DataFrame:
    """Out-of-fold predictions with intervals that were known when they were made.

    Parameters
    ----------
    predictions : DataFrame
        As `CrossValidation.predictions`, by folds that were not trained on later data.
    matrix : DataFrame
        Keys and `label_end` of their rows, `horizon` where there are several.
    chosen : ChosenIntervals
    classes : sequence of str
    label_sessions : int
        Sessions that a label spans.

    Returns
    -------
    DataFrame
        In order, with `lower` and `upper`, or `class_set`, at the end. Null of a row without a prediction, of the first fold, and
        where too few outcomes were known: fewer than 1 / (1 - coverage) - 1.
    """
    method = INTERVALS[chosen.name]
    thresholds = np.full(predictions.height, np.nan)
    for _, rows, of_horizon in _by_horizon(predictions, matrix):
        known = _scored(of_horizon, chosen, classes)
        if method.is_adaptive:
            sessions, moved = _moved(known, chosen, label_sessions)
            thresholds[rows] = moved.thresholds[sessions.search_sorted(of_horizon["session"]).to_numpy()]
        else:
            thresholds[rows] = _of_folds(of_horizon, known, chosen.coverage)
    return predictions.with_columns(**method.bounds(predictions, thresholds, chosen.coverage, classes))


def serve_intervals(
    predictions: pl.DataFrame,
    matrix: pl.DataFrame,
    chosen: ChosenIntervals,
    *,
    classes: Sequence[str],
    label_sessions: int,
) -> ServedIntervals:
    """Thresholds for what comes after all out-of-fold predictions, whose labels are all known.

    An adaptive one is replayed from these predictions, never from intervals that were issued: in whatever order weeks are made, it is
    the same.

    Parameters
    ----------
    predictions, matrix, chosen, classes, label_sessions
        As in `add_intervals`.
    """
    found: dict[int | None, tuple[float, int, float]] = {}
    for horizon, _, of_horizon in _by_horizon(predictions, matrix):
        known = _scored(of_horizon, chosen, classes)
        if INTERVALS[chosen.name].is_adaptive:
            _, moved = _moved(known, chosen, label_sessions)
            found[horizon] = moved.served, moved.n_scores, moved.aimed
        else:
            scores = _finite(known["score"].to_numpy())
            found[horizon] = conformal_threshold(scores, chosen.coverage), len(scores), 1.0 - chosen.coverage
    return ServedIntervals(
        chosen,
        {horizon: each[0] for horizon, each in found.items()},
        {horizon: each[1] for horizon, each in found.items()},
        {horizon: each[2] for horizon, each in found.items()},
    )


def _by_horizon(
    predictions: pl.DataFrame, matrix: pl.DataFrame
) -> Iterator[tuple[int | None, np.ndarray, pl.DataFrame]]:
    """Places and rows of each horizon, with the ends of their labels; None where there is one."""
    keys = [*KEY_COLUMNS, *(name for name in (HORIZON,) if name in predictions.columns)]
    ends = matrix.select(*keys, "label_end")
    whole = predictions.with_row_index("place").join(ends, on=keys, how="left", maintain_order="left")
    if HORIZON not in predictions.columns:
        yield None, np.arange(predictions.height), whole
        return
    for (horizon,), part in whole.partition_by(HORIZON, as_dict=True, maintain_order=True).items():
        yield int(horizon), part["place"].to_numpy(), part.drop(HORIZON)


def _scored(predictions: pl.DataFrame, chosen: ChosenIntervals, classes: Sequence[str]) -> pl.DataFrame:
    """One prediction a row, the latest-trained, with its score; null of a row without one."""
    scores = INTERVALS[chosen.name].scores(predictions, chosen.coverage, classes)
    scored = predictions.with_columns(score=pl.Series(scores, dtype=pl.Float64))
    return latest_predictions(scored.select(*KEY_COLUMNS, "fold", "trained_until", "label_end", "score"))


def _moved(known: pl.DataFrame, chosen: ChosenIntervals, label_sessions: int) -> tuple[pl.Series, Moving]:
    """Sessions, ascending, and the thresholds of each."""
    begins = known.group_by("session").agg(pl.col("ts").min()).sort("session")
    sessions = begins["session"]
    return sessions, move_thresholds(
        sessions.search_sorted(known["session"]).to_numpy().astype(np.int64),
        known["score"].to_numpy(),
        _instants(known["label_end"]),
        _instants(begins["ts"]),
        coverage=chosen.coverage,
        step=chosen.params["step"],
        window_sessions=chosen.params["window_sessions"],
        label_sessions=label_sessions,
    )


def _of_folds(predictions: pl.DataFrame, known: pl.DataFrame, coverage: float) -> Floats:
    """The threshold of each row: that of its fold, by what earlier folds predicted and the fold's model could know."""
    fold, thresholds = predictions["fold"].to_numpy(), np.full(predictions.height, np.nan)
    ends, of_known, scores = _instants(known["label_end"]), known["fold"].to_numpy(), known["score"].to_numpy()
    until = _instants(predictions["trained_until"])
    for number in np.unique(fold):
        rows = fold == number
        is_known = (of_known < number) & (ends <= until[rows][0])
        thresholds[rows] = conformal_threshold(_finite(scores[is_known]), coverage)
    return thresholds


def _finite(scores: Floats) -> Floats:
    return scores[np.isfinite(scores)]


def _instants(times: pl.Series) -> np.ndarray:
    return times.cast(pl.Datetime("us", "UTC")).to_physical().to_numpy()


INTERVALS: dict[str, IntervalMethod] = {
    each.name: each
    for each in (
        IntervalMethod(
            name="split",
            task="regression",
            scores=error_scores,
            bounds=error_bounds,
            params={},
            summary="prediction less and plus a quantile of earlier errors; as wide for every row",
        ),
        IntervalMethod(
            name="quantile",
            task="regression",
            scores=quantile_scores,
            bounds=quantile_bounds,
            levels=outer_quantiles,
            params={},
            summary="two quantiles that the learner predicts, moved by what earlier outcomes were outside of them (CQR)",
        ),
        IntervalMethod(
            name="adaptive",
            task="regression",
            scores=error_scores,
            bounds=error_bounds,
            params={
                "step": Number(
                    default=0.05,
                    low=0.0001,
                    high=1.0,
                    is_log=True,
                    meaning="how far the share aimed at moves for all outcomes of a session outside",
                ),
                "window_sessions": Number(
                    default=60, low=20, high=5_000, is_whole=True, meaning="sessions back that errors count"
                ),
            },
            is_adaptive=True,
            summary="as split, of the latest errors, wider after sessions with more outcomes outside than promised (ACI)",
        ),
        IntervalMethod(
            name="lac",
            task="classification",
            scores=lac_scores,
            bounds=lac_sets,
            params={},
            summary="classes whose probability is not below a threshold: the smallest sets, some of them empty",
        ),
        IntervalMethod(
            name="aps",
            task="classification",
            scores=aps_scores,
            bounds=aps_sets,
            params={},
            summary="the likeliest classes until their probabilities together reach a threshold: larger sets where rows are hard, none empty",
        ),
    )
}
