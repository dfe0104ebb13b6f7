"""Quantile regression: for each quantile the line with that share of the training labels below it, as near as they allow.

Lives here: the solver, the learner of several quantiles and its entry.

References
----------
Koenker & Bassett (1978), "Regression Quantiles", Econometrica 46(1).
Portnoy & Koenker (1997), "The Gaussian Hare and the Laplacian Tortoise", Statistical Science 12(4): the interior point method.
scikit-learn hands the same problem to a general solver of linear programs: 20,000 rows of 60 features took it a minute or more,
this takes a second.
Chernozhukov, Fernández-Val & Galichon (2010), "Quantile and Probability Curves Without Crossing", Econometrica 78(3): predicted
quantiles are sorted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from hf_pipelines.research.learners.array_bytes import arrays_format
from hf_pipelines.research.learners.learner import (
    Learner,
    Output,
    Rows,
    Setup,
    Task,
    TrainingRows,
    sizes_by_name,
)
from hf_pipelines.research.params import Listing, Number

_MEDIAN = 0.5

# How far from the smallest loss a solution may be, as a share of the deviation of a label, and steps that are never needed.
_GAP = 1e-9
_MOST_STEPS = 100

# Share of the way to the nearest bound that a step goes: on it there is no way back.
_STEP_SHARE = 0.9995

# Where the multipliers of a row begin at least.
_LEAST_MULTIPLIER = 1e-3


def solve_quantile(X: np.ndarray, y: np.ndarray, weight: np.ndarray, *, quantile: float, penalty: float) -> np.ndarray:
    """Coefficients with the smallest weighted mean quantile loss plus `penalty` times the sum of their sizes.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
        The last column is the intercept's: its coefficient is not penalised.
    y, weight : ndarray of shape (n_rows,)
        Labels of a deviation near 1; weights above zero.
    quantile, penalty : float
        Above zero.

    Returns
    -------
    ndarray of shape (n_features,)

    Raises
    ------
    ValueError
        If no solution is found.
    """
    n_penalised = X.shape[1] - 1
    # A penalty on a coefficient is a row of its own: the median loss of a label of 0.
    X = np.vstack([X, np.eye(n_penalised, X.shape[1])])
    y = np.concatenate([y, np.zeros(n_penalised)])
    upper = np.concatenate([weight / weight.sum(), np.full(n_penalised, 2.0 * penalty)])
    share = np.concatenate([np.full(len(weight), 1.0 - quantile), np.full(n_penalised, 0.5)])
    # The dual: the largest y'a with X'a = X'(share * upper) and 0 <= a <= upper. Each row has its distances to both bounds, and
    # the multipliers of these, whose difference is what the line leaves of the label.
    low, high = share * upper, (1.0 - share) * upper
    coefficients = np.linalg.lstsq(X, y, rcond=None)[0]
    rest = y - X @ coefficients
    below, above = np.maximum(-rest, 0.0) + _LEAST_MULTIPLIER, np.maximum(rest, 0.0) + _LEAST_MULTIPLIER
    for _ in range(_MOST_STEPS):
        gap = below @ low + above @ high
        if gap < _GAP:
            return np.asarray(coefficients)
        size = 1.0 / (below / low + above / high)
        inverse = np.linalg.pinv(X.T @ (size[:, None] * X), hermitian=True)
        newton = partial(_newton, X, size, inverse, (low, high, below, above))
        # First towards the solution, then corrected by what the first step would miss (Mehrotra).
        _, d_low, d_high, d_below, d_above = newton(0.0, 0.0)
        primal, dual = _length((low, high), (d_low, d_high)), _length((below, above), (d_below, d_above))
        ahead = (below + dual * d_below) @ (low + primal * d_low) + (above + dual * d_above) @ (high + primal * d_high)
        centre = gap * (ahead / gap) ** 3 / (2.0 * len(y))
        d_coefficients, d_low, d_high, d_below, d_above = newton(centre - d_low * d_below, centre - d_high * d_above)
        primal, dual = _length((low, high), (d_low, d_high)), _length((below, above), (d_below, d_above))
        coefficients = coefficients + dual * d_coefficients
        low, high = low + primal * d_low, high + primal * d_high
        below, above = below + dual * d_below, above + dual * d_above
    raise ValueError(
        f"`alpha` must be large enough for a solution in {_MOST_STEPS} steps, was {penalty:g} with a loss {gap:.1g} above the "
        "smallest; raise it."
    )


def _newton(
    X: np.ndarray, size: np.ndarray, inverse: np.ndarray, state: tuple[np.ndarray, ...], of_low: Any, of_high: Any
) -> tuple[np.ndarray, ...]:
    """Newton's step to where the product of distance and multiplier is `of_low` and `of_high` in each row."""
    low, high, below, above = state
    wanted = above - below + of_low / low - of_high / high
    d_coefficients = inverse @ (X.T @ (size * wanted))
    d_low = size * (wanted - X @ d_coefficients)
    d_below = of_low / low - below - below / low * d_low
    d_above = of_high / high - above + above / high * d_low
    return d_coefficients, d_low, -d_low, d_below, d_above


def _length(values: tuple[np.ndarray, ...], steps: tuple[np.ndarray, ...]) -> float:
    """Share of a step after which no value is below zero, at most 1."""
    nearest = (
        float((value[step < 0] / -step[step < 0]).min(initial=np.inf))
        for value, step in zip(values, steps, strict=True)
    )
    return min(1.0, _STEP_SHARE * min(nearest))


class LinearQuantiles:
    """A line for the median and one for each quantile.

    Parameters
    ----------
    params : mapping
    setup : Setup

    Attributes
    ----------
    coef_ : ndarray of shape (1 + n_quantiles, n_features)
        The median's first.
    intercept_ : ndarray of shape (1 + n_quantiles,)
    scale_ : ndarray of shape (n_features,)
        Deviations of the training rows.
    """

    def __init__(self, params: Mapping[str, Any], setup: Setup) -> None:
        self.params = params
        self.setup = setup

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """As scikit-learn's, so that it can be cloned."""
        return {"params": self.params, "setup": self.setup}

    def fit(self, rows: TrainingRows, validation: TrainingRows | None) -> LinearQuantiles:
        """Solve for each quantile.

        Raises
        ------
        ValueError
            If a feature is unknown (NaN).
        """
        if np.isnan(rows.X).any():
            raise ValueError(
                "`X` must not hold unknown features (NaN) for quantile regression, was with some; fill them by the preprocessing "
                "imputation."
            )
        mean, self.scale_ = _mean_and_deviation(rows.X, rows.weight)
        middle, size = (each[0] for each in _mean_and_deviation(rows.y[:, None], rows.weight))
        X = np.column_stack([(rows.X - mean) / self.scale_, np.ones(len(rows))])
        found = np.array(
            [
                solve_quantile(
                    X, (rows.y - middle) / size, rows.weight, quantile=quantile, penalty=self.params["alpha"]
                )
                for quantile in (_MEDIAN, *self.params["quantiles"])
            ]
        )
        self.coef_ = found[:, :-1] * size / self.scale_
        self.intercept_ = middle + found[:, -1] * size - self.coef_ @ mean
        return self

    def predict(self, rows: Rows, wanted: np.ndarray) -> np.ndarray:
        """Medians of the rows that are wanted."""
        return self._lines(rows, wanted)[:, 0]

    def predict_quantiles(self, rows: Rows, wanted: np.ndarray) -> np.ndarray:
        """Quantiles, a column each, never crossing."""
        return np.sort(self._lines(rows, wanted)[:, 1:], axis=1)

    def _lines(self, rows: Rows, wanted: np.ndarray) -> np.ndarray:
        X = rows.X if wanted.all() else rows.X[wanted]
        found = np.tile(self.intercept_, (len(X), 1))
        # One feature at a time: a product of matrices rounds by their shapes, and a day alone must predict as in a range.
        for column, of_lines in enumerate(self.coef_.T):
            found += X[:, column, None] * of_lines
        return found


def _mean_and_deviation(X: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each column; the deviation of a constant is 1."""
    mean = np.average(X, axis=0, weights=weight)
    deviation = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weight))
    return mean, np.where(deviation > np.finfo(X.dtype).eps * np.abs(mean), deviation, 1.0)


def build_quantile(params: Mapping[str, Any], setup: Setup) -> LinearQuantiles:
    """Make unfitted lines; nothing in them is random."""
    return LinearQuantiles(params, setup)


def _outputs(params: Mapping[str, Any], task: Task) -> tuple[Output, ...]:
    return ("point", "quantiles") if params["quantiles"] else ("point",)


def _check(params: Mapping[str, Any]) -> None:
    levels = list(params["quantiles"])
    if levels != sorted(set(levels)):
        raise ValueError(f"`quantiles` must be ascending and without repetition, was {levels[:5]}.")


def _coefficients(estimator: LinearQuantiles, names: Sequence[str]) -> dict[str, float]:
    """Sizes of the median's coefficients on the standardised features."""
    return sizes_by_name(np.abs(estimator.coef_[0] * estimator.scale_), names)


QUANTILE = Learner(
    name="quantile",
    family="linear",
    tasks=frozenset({"regression"}),
    build=build_quantile,
    params={
        "alpha": Number(
            default=1e-3,
            low=1e-6,
            high=1e3,
            search=(1e-5, 0.1),
            is_log=True,
            meaning="penalty on sizes of coefficients, for features and labels of deviation 1",
        ),
        "quantiles": Listing(
            item=Number(default=_MEDIAN, low=0.001, high=0.999),
            default=(0.1, 0.5, 0.9),
            most=20,
            meaning="quantiles that are predicted beside the median, ascending",
        ),
    },
    format=arrays_format("coef_", "intercept_", "scale_"),
    check=_check,
    outputs=_outputs,
    is_keyed=True,
    importances=_coefficients,
)
