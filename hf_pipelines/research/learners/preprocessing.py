"""Preprocessing: steps between the features and a learner, fitted inside the fold and stored with the model.

Lives here: the contract, the steps and their registry `PREPROCESSING`. To add a step: write its build function and one
entry in the table. Not here: in which order they are fitted (`pipeline`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from hf_pipelines.research.learners.learner import Estimator, ModelFormat, Rows, Setup, TrainingRows
from hf_pipelines.research.learners.skops_bytes import skops_format
from hf_pipelines.research.params import Flag, Param

AnyRows = TypeVar("AnyRows", bound=Rows)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A transformer of features.

    Attributes
    ----------
    name : str
        Key in `PREPROCESSING`.
    build : callable
        `(every parameter, Setup) -> scikit-learn transformer`, not fitted.
    params : mapping of str to Param
    format : ModelFormat
    is_keyed : bool
        It reads the symbol or the time: `fit(rows)` and `transform(rows)` get `TrainingRows` and `Rows`; `transform`
        returns an array. What it makes of a row may depend on rows of the same `ts`, and on nothing later.
    takes_weights : bool
        `fit` takes `sample_weight`.
    keeps_columns : bool
        As many columns come out as go in, under the same names. Otherwise `get_feature_names_out` names them.
    handles_missing, fills_missing : bool
        It takes unknown features (NaN); it leaves none.
    """

    name: str
    build: Callable[[Mapping[str, Any], Setup], Estimator]
    params: Mapping[str, Param]
    format: ModelFormat
    is_keyed: bool = False
    takes_weights: bool = False
    keeps_columns: bool = True
    handles_missing: bool = False
    fills_missing: bool = False


def fit_step(step: Step, transformer: Estimator, rows: TrainingRows) -> None:
    """Fit a transformer as its entry says."""
    if step.is_keyed:
        transformer.fit(rows)
    elif step.takes_weights:
        transformer.fit(rows.X, rows.y, sample_weight=rows.weight)
    else:
        transformer.fit(rows.X, rows.y)


def apply_step(step: Step, transformer: Estimator, rows: AnyRows) -> AnyRows:
    """The rows as a fitted transformer makes them."""
    X = transformer.transform(rows if step.is_keyed else rows.X)
    names = rows.names
    if not step.keeps_columns:
        names = tuple(map(str, transformer.get_feature_names_out(np.array(rows.names, dtype=object))))
    return rows.with_features(X, names)


def build_standard_scaling(params: Mapping[str, Any], setup: Setup) -> Estimator:
    """Make an unfitted scaler to mean 0 and standard deviation 1, of the known values."""
    from sklearn.preprocessing import StandardScaler

    return StandardScaler(**params)


PREPROCESSING: dict[str, Step] = {
    "standard_scaling": Step(
        name="standard_scaling",
        build=build_standard_scaling,
        params={
            "with_mean": Flag(default=True, meaning="whether the mean is taken off"),
            "with_std": Flag(default=True, meaning="whether it is divided by the standard deviation"),
        },
        format=skops_format("sklearn.preprocessing._data.StandardScaler"),
        handles_missing=True,
    ),
}
