"""Contributions by a learner's own exact method: Shapley values of trees, coefficients of lines, the mean of those of a vote.

Lives here: outputs of a learner brought to the one number that is explained. Not here: the methods (`learners.attribution` and the
learners' modules), contributions of any other function of rows (`contributions`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from hf_pipelines.research.explanations.contributions import Contributions
from hf_pipelines.research.learners import Pipeline, Rows, feature_array, keyed
from hf_pipelines.research.learners.attribution import Space


@dataclass(frozen=True, eq=False)
class OwnContributions:
    """Contributions that are exact, and what they add up to.

    Attributes
    ----------
    contributions : Contributions
        `standard_error` is 0.
    is_known : array of bool of shape (n_rows,)
        Rows of the frame that they are of.
    space : {"prediction", "log_odds"}
        "prediction": they add up to the prediction, of classes to that of the probabilities before any calibration. "log_odds": to the
        logarithm of how many times as probable the last class is as the first, before any calibration.
    """

    contributions: Contributions
    is_known: np.ndarray
    space: Space


def own_contributions(
    pipeline: Pipeline, frame: pl.DataFrame, *, features: Sequence[str], classes: Sequence[str], missing: str
) -> OwnContributions | None:
    """Contributions of the features to predictions of rows, by the learner's own method.

    They are those of the columns that the preprocessing makes, and belong to the features that a column was made of: a scaled or ranked
    column to its feature; a column that says where a feature is unknown to that feature; a feature that a selector drops has 0; a
    principal component is divided among the features by the squares of their weights.

    Parameters
    ----------
    pipeline : fitted Pipeline
    frame : DataFrame
        Keys and features; whole sessions, where the preprocessing compares the rows of one.
    features, classes, missing
        As for `predict_frame`.

    Returns
    -------
    OwnContributions or None
        None of a learner, or of rows, without such a method: see `permutation_contributions`.

    Raises
    ------
    ValueError
        If that needs a library which is not installed.

    References
    ----------
    Lundberg & Lee (2017), "A Unified Approach to Interpreting Model Predictions", NeurIPS.
    """
    X = feature_array(frame, features)
    is_known = ~(np.isnan(X).all(axis=1) if missing == "keep" else np.isnan(X).any(axis=1))
    rows = Rows(keyed(frame), X, tuple(features)).take(is_known)
    found = pipeline.contributions(rows) if len(rows) else None
    if found is None:
        return None
    n_outputs = found.base.shape[1]
    if not classes:
        weights = np.ones(1)
    elif found.space == "prediction":
        # As predictions are made of probabilities.
        weights = np.linspace(-1.0, 1.0, n_outputs)
    else:
        weights = np.array([1.0]) if n_outputs == 1 else np.r_[-1.0, np.zeros(n_outputs - 2), 1.0]
    values = np.einsum("rof,o->rf", found.values, weights)
    return OwnContributions(Contributions(found.base @ weights, values, np.zeros_like(values)), is_known, found.space)
