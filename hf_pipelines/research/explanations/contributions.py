"""Contributions of features to predictions, by permutations (Shapley values by sampling).

References
----------
Strumbelj & Kononenko (2014), "Explaining prediction models and individual predictions with feature contributions", Knowledge and
Information Systems 41(3).
Mitchell, Cooper, Frank & Holmes (2022), "Sampling Permutations for Shapley Value Estimation", J. Machine Learning Research 23(43):
antithetic permutations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ask: TypeAlias = Callable[[npt.NDArray[np.float32]], Floats]

# Rows that are asked for at once, so that memory does not grow with the number of permutations.
_ROWS_AT_ONCE = 100_000


@dataclass(frozen=True, eq=False)
class Contributions:
    """What each feature adds to the prediction of each row.

    Attributes
    ----------
    base : array of shape (n_rows,)
        Mean prediction of the background.
    values : array of shape (n_rows, n_features)
        `base + values.sum(axis=1)` is the prediction of the row.
    standard_error : array of shape (n_rows, n_features)
        Of the sampling of permutations and background rows.
    """

    base: Floats
    values: Floats
    standard_error: Floats


def permutation_contributions(
    ask: Ask,
    X: npt.NDArray[np.float32],
    background: npt.NDArray[np.float32],
    *,
    n_permutations: int = 200,
    seed: int = 0,
) -> Contributions:
    """Contributions of features against a background: what a prediction changes by as features of the row replace those of other rows.

    For each of the permutations, features of a background row are replaced by those of the row, one after the other, in the order
    of the permutation and in the reverse one; a contribution is the mean of the changes. Every permutation adds up to the prediction
    of the row less that of the background row, so that the mean adds up exactly, however few permutations there are.

    Parameters
    ----------
    ask : callable
        `(X of shape (n, n_features)) -> predictions of shape (n,)`.
    X : float32 array of shape (n_rows, n_features)
        Rows to explain; NaN where unknown, if `ask` takes that.
    background : float32 array of shape (n_background, n_features)
        Rows that a feature is unknown against, such as the training rows. The same rows, in the same order, explain every row of `X`.
    n_permutations : int
        At least 2; each is used in both directions, with a background row of its own.
    seed : int

    Returns
    -------
    Contributions

    Raises
    ------
    ValueError
        If the shapes do not fit, or there is nothing to compare with.
    """
    X, background = np.asarray(X, dtype=np.float32), np.asarray(background, dtype=np.float32)
    if X.ndim != 2 or background.ndim != 2 or X.shape[1] != background.shape[1] or not len(background):
        raise ValueError(
            f"`background` must have rows of the {X.shape[-1]} features of `X`, was of shape {background.shape}; take training rows."
        )
    if n_permutations < 2:
        raise ValueError(f"`n_permutations` must be at least 2, was {n_permutations}; 200 are usual.")
    n_features, random = X.shape[1], np.random.default_rng(seed)
    orders = np.array([random.permutation(n_features) for _ in range(n_permutations)])
    chosen = background[random.permutation(np.resize(np.arange(len(background)), n_permutations))]
    base, values, errors = [], [], []
    for row in X:
        changes = np.empty((n_permutations, n_features))
        begins = np.empty(n_permutations)
        step = max(_ROWS_AT_ONCE // (2 * (n_features + 1)), 1)
        for at in range(0, n_permutations, step):
            part = slice(at, at + step)
            changes[part], begins[part] = _changes(ask, row, chosen[part], orders[part])
        base.append(begins.mean())
        values.append(changes.mean(axis=0))
        errors.append(changes.std(axis=0, ddof=1) / np.sqrt(n_permutations))
    shape = (len(X), n_features)
    return Contributions(np.array(base), np.array(values).reshape(shape), np.array(errors).reshape(shape))


def _changes(
    ask: Ask, row: npt.NDArray[np.float32], others: npt.NDArray[np.float32], orders: npt.NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Mean change of each feature over both directions, (n, n_features), and the predictions of the background rows."""
    n, n_features = orders.shape
    places = np.argsort(orders, axis=1)
    # Rows 0 .. n_features of a walk: how many features of the row there are already.
    n_taken = np.arange(n_features + 1)[None, :, None]
    forwards = np.where(n_taken > places[:, None, :], row, others[:, None, :])
    backwards = np.where(n_taken > (n_features - 1 - places)[:, None, :], row, others[:, None, :])
    walks = np.concatenate([forwards, backwards]).reshape(-1, n_features)
    predicted = np.asarray(ask(walks), dtype=np.float64).reshape(2, n, n_features + 1)
    steps = np.diff(predicted, axis=2)
    forward = np.take_along_axis(steps[0], places, axis=1)
    backward = np.take_along_axis(steps[1], n_features - 1 - places, axis=1)
    return (forward + backward) / 2.0, predicted[0, :, 0]
