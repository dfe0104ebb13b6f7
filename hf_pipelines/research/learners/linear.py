"""Ridge regression on standardised features.

The scaler is a step of the estimator, so whoever fits a fold fits the scaler on that fold's training rows
alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hf_pipelines.research.learners.learner import Estimator, Learner, Setup, TrainingRows, sizes_by_name
from hf_pipelines.research.learners.skops_bytes import skops_format
from hf_pipelines.research.params import Flag, Number


def build_ridge(params: Mapping[str, Any], setup: Setup) -> Estimator:
    """Make an unfitted Pipeline(StandardScaler, Ridge); a direct solver, so seed and threads do nothing."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    ridge = Ridge(**params, solver="cholesky", random_state=setup.seed)
    return Pipeline([("standard_scaler", StandardScaler()), ("ridge", ridge)])


def _fit_ridge(estimator: Estimator, rows: TrainingRows, validation: TrainingRows | None) -> None:
    estimator.fit(rows.X, rows.y, ridge__sample_weight=rows.weight)


def _coefficients(estimator: Estimator, names: Sequence[str]) -> dict[str, float]:
    """Sizes of the coefficients on the standardised features."""
    return sizes_by_name(np.abs(estimator[-1].coef_), names)


RIDGE = Learner(
    name="ridge",
    family="sklearn",
    tasks=frozenset({"regression"}),
    build=build_ridge,
    params={
        # The penalty is against the sum of squares over rows: a few thousand rows need a large one to feel it.
        "alpha": Number(default=1.0, low=0.0, high=1e12, search=(1e-2, 1e5), is_log=True, meaning="penalty on squares"),
        "fit_intercept": Flag(default=True, meaning="whether the mean is fitted apart"),
    },
    format=skops_format(
        "sklearn.pipeline.Pipeline", "sklearn.preprocessing._data.StandardScaler", "sklearn.linear_model._ridge.Ridge"
    ),
    fit=_fit_ridge,
    importances=_coefficients,
)
