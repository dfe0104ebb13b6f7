"""k nearest neighbours: the mean label, or the shares of classes, of the training rows most like a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_pipelines.research.learners.learner import Estimator, Learner, Setup, TrainingRows
from hf_pipelines.research.learners.skops_bytes import skops_format
from hf_pipelines.research.params import Choice, Number


def build_neighbours(params: Mapping[str, Any], setup: Setup) -> Estimator:
    """Make an unfitted estimator that keeps the training rows; nothing in it is random."""
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    kind = KNeighborsClassifier if setup.task == "classification" else KNeighborsRegressor
    # A tree of rows helps in a few dimensions only, and could not be stored without code. The number of threads is not
    # given: it would be stored.
    return kind(**params, algorithm="brute")


def _fit_neighbours(estimator: Estimator, rows: TrainingRows, validation: TrainingRows | None) -> None:
    # scikit-learn would notice at the first prediction.
    if estimator.n_neighbors > len(rows):
        raise ValueError(
            f"`n_neighbors` must be at most the {len(rows)} training rows, was {estimator.n_neighbors}; take fewer, or widen "
            "the window of weeks."
        )
    estimator.fit(rows.X, rows.y)


NEIGHBOURS = Learner(
    name="nearest_neighbours",
    family="sklearn",
    tasks=frozenset({"regression", "classification"}),
    build=build_neighbours,
    params={
        "n_neighbors": Number(
            default=50,
            low=1,
            high=100_000,
            search=(5, 500),
            is_log=True,
            is_whole=True,
            meaning="rows that are averaged",
        ),
        "weights": Choice(
            default="uniform",
            names=("uniform", "distance"),
            is_searched=True,
            meaning="whether nearer rows count for more",
        ),
    },
    format=skops_format(
        "sklearn.neighbors._regression.KNeighborsRegressor", "sklearn.neighbors._classification.KNeighborsClassifier"
    ),
    fit=_fit_neighbours,
    takes_weights=False,
)
