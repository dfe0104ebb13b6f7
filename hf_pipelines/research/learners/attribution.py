"""Attribution: what each column adds to what a fitted learner gives for a row, by the learner's own exact method.

Lives here: the type, and how the answers of libraries become one. Not here: how a library computes them (a module each), learners
that have no such method (`explanations`, by permutations).

References
----------
Lundberg et al. (2020), "From local explanations to global understanding with explainable AI for trees", Nature Machine Intelligence 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hf_pipelines.research.learners.tree_boxes import Trees, tree_shapley_values

# What contributions add up to: the value that is predicted, of classes their probabilities; or the scores before the logistic function,
# of which one is that of the second of two classes, and of more each class has its own (before softmax).
Space = Literal["prediction", "log_odds"]

# Answers in float32 and sums of hundreds of trees.
_SAME = 1e-4


@dataclass(frozen=True, eq=False)
class Attribution:
    """What each column adds to each output of each row.

    Attributes
    ----------
    base : array of shape (n_rows, n_outputs)
        What the outputs are on average, whatever the row.
    values : array of shape (n_rows, n_outputs, n_columns)
        `base + values.sum(axis=2)` are the outputs, in their space.
    space : {"prediction", "log_odds"}
        An output for each class where there are more than two, or where they are probabilities.
    """

    base: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    space: Space

    def by_origin(self, shares: npt.NDArray[np.float64]) -> Attribution:
        """The same by the columns that these columns were made of.

        Parameters
        ----------
        shares : array of shape (n_columns, n_origins)
            Of each column the share that belongs to each origin; rows add up to 1.
        """
        return replace(self, values=self.values @ shares)


def with_bias_last(found: Any, *, space: Space) -> Attribution:
    """An attribution of an array of shape (n_rows, n_columns + 1), or (n_rows, n_outputs, n_columns + 1), whose last column is the base."""
    array = np.asarray(found, dtype=np.float64)
    array = array[:, None, :] if array.ndim == 2 else array
    return Attribution(array[:, :, -1], array[:, :, :-1], space)


def attribute_boxes(
    trees: Trees,
    X: npt.NDArray[np.float32],
    *,
    base: npt.NDArray[np.float64],
    scores: npt.NDArray[np.float32] | npt.NDArray[np.float64],
    space: Space,
) -> Attribution | None:
    """Of the trees of a booster, from its own tables.

    Parameters
    ----------
    trees : Trees
    X : array of shape (n_rows, n_columns)
    base : array of shape (n_outputs,)
        What the sums of the trees begin with.
    scores : array of shape (n_rows,) or (n_rows, n_outputs)
        What the library gives for the rows, in the same space.
    space : {"prediction", "log_odds"}

    Returns
    -------
    Attribution or None
        None if they do not add up to the scores: the library then reads its tables in another way.
    """
    expected, values = tree_shapley_values(trees, X, n_outputs=len(base))
    found = Attribution(np.tile(base + expected, (len(X), 1)), values, space)
    return found if adds_up(found, scores) else None


def attribute_trees(model: Any, X: npt.NDArray[np.float32], *, space: Space) -> Attribution:
    """Of trees of scikit-learn, by shap's TreeExplainer.

    Raises
    ------
    ValueError
        If shap is not installed.
    """
    try:
        from shap import TreeExplainer
    except ImportError as e:
        raise ValueError(
            "`explain` must be installed for exact contributions of trees of scikit-learn, was not; install the extra: "
            'pip install "hf_pipelines[explain]".'
        ) from e
    explainer = TreeExplainer(model)
    values = np.asarray(explainer.shap_values(X, check_additivity=False), dtype=np.float64)
    values = values[:, None, :] if values.ndim == 2 else values.transpose(0, 2, 1)
    base = np.atleast_1d(np.asarray(explainer.expected_value, dtype=np.float64))
    return Attribution(np.tile(base, (len(X), 1)), values, space)


def adds_up(found: Attribution, outputs: npt.NDArray[np.float32] | npt.NDArray[np.float64]) -> bool:
    """Whether an attribution adds up to what the learner gives: shap reads some trees otherwise than their library where features are unknown.

    Parameters
    ----------
    found : Attribution
    outputs : array of shape (n_rows,) or (n_rows, n_outputs)
        In the same space.
    """
    sums = found.base + found.values.sum(axis=2)
    given = np.asarray(outputs, dtype=np.float64).reshape(sums.shape)
    size = max(float(np.abs(given).max(initial=0.0)), 1e-12)
    return bool(np.abs(sums - given).max(initial=0.0) <= _SAME * size)


def weighted_sum(parts: Sequence[Attribution], shares: Sequence[float]) -> Attribution | None:
    """Of the weighted mean of several learners; None where it is not the outputs themselves that are averaged."""
    if any(each.space != "prediction" for each in parts):
        return None
    base = sum(share * each.base for share, each in zip(shares, parts, strict=True))
    values = sum(share * each.values for share, each in zip(shares, parts, strict=True))
    return Attribution(np.asarray(base), np.asarray(values), "prediction")
