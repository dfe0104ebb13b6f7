"""Selectors of columns: each keeps some features, by the training rows alone.

Lives here: scikit-learn's interface with a state of plain numbers, which columns stay; scikit-learn's own hold functions or whole
estimators. Not here: their names and parameters (`preprocessing`). It loads scikit-learn: import it where it is used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SelectorMixin
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

# Rows whose correlation is summed up at a time.
_BLOCK_ROWS = 65_536


class _Kept(SelectorMixin, BaseEstimator):  # type: ignore[misc]  # Without types.
    """Keeps the columns of `kept_`, in their order; at least one.

    Attributes
    ----------
    kept_ : ndarray of int
        Numbers of the columns, ascending.
    """

    def _get_support_mask(self) -> np.ndarray:
        check_is_fitted(self, "kept_")
        mask = np.zeros(self.n_features_in_, dtype=bool)
        mask[self.kept_] = True
        return mask


class _Selector(_Kept):
    """Looks at the label."""

    def _valid(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], ensure_min_samples=2)
        return X, _codes(y) if self.task == "classification" else np.asarray(y, dtype=np.float64)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


class KBest(_Selector):
    """The columns with the largest F statistic of a line on the label, or of the means of the classes.

    Parameters
    ----------
    k : int
        Columns that stay, at most.
    task : {"regression", "classification"}
    """

    def __init__(self, k: int = 10, task: str = "regression") -> None:
        self.k = k
        self.task = task

    def fit(self, X: Any, y: Any) -> KBest:
        """Score every column."""
        from sklearn.feature_selection import f_classif, f_regression

        X, y = self._valid(X, y)
        score, varied = np.full(X.shape[1], np.nan), ~_is_constant(X)
        if varied.any():
            statistic = f_classif if self.task == "classification" else f_regression
            # Of two rows, or of a label that a column says exactly, it is infinite or unknown.
            with np.errstate(all="ignore"):
                score[varied] = statistic(X[:, varied].astype(np.float64), y)[0]
        self.kept_ = _largest(score, self.k)
        return self


class MutualInformation(_Selector):
    """The columns that tell most about the label, by a curve of any shape: mutual information from nearest neighbours.

    Parameters
    ----------
    k : int
        Columns that stay, at most; one that tells nothing does not, but for the first if none tells anything.
    n_neighbors : int
    most_rows : int
        Rows that are looked at, evenly spaced over all: neighbours of many rows take long.
    task : {"regression", "classification"}
    random_state : int
        Of the noise that parts equal values.

    References
    ----------
    Kraskov, Stögbauer & Grassberger (2004), "Estimating mutual information", Physical Review E 69.
    Ross (2014), "Mutual Information between Discrete and Continuous Data Sets", PLoS ONE 9(2).
    """

    def __init__(
        self,
        k: int = 10,
        n_neighbors: int = 3,
        most_rows: int = 10_000,
        task: str = "regression",
        random_state: int | None = None,
    ) -> None:
        self.k = k
        self.n_neighbors = n_neighbors
        self.most_rows = most_rows
        self.task = task
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> MutualInformation:
        """Score every column."""
        from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

        X, y = self._valid(X, y)
        rows = np.unique(np.linspace(0, len(X) - 1, min(self.most_rows, len(X))).astype(int))
        neighbours = min(self.n_neighbors, len(rows) - 1)
        score = np.full(X.shape[1], np.nan)
        estimate = mutual_info_classif if self.task == "classification" else mutual_info_regression
        # A class of one row has no neighbours.
        is_enough = self.task != "classification" or np.unique(y[rows], return_counts=True)[1].max() > 1
        for column in np.flatnonzero(~_is_constant(X[rows])) if is_enough else ():
            # By itself: the noise of a column must not depend on its place.
            score[column] = estimate(
                X[rows, column][:, None],
                y[rows],
                discrete_features=False,
                n_neighbors=neighbours,
                random_state=self.random_state,
            )[0]
        told = np.flatnonzero(score > 0)
        self.kept_ = told[_largest(score[told], self.k)] if len(told) else np.array([0])
        return self


class RecursiveElimination(_Selector):
    """The columns that are left when a linear fit drops the one with the smallest coefficient, again and again.

    A ridge regression, of classes a logistic regression, on standardised features.

    Parameters
    ----------
    k : int
        Columns that stay, at most.
    step : float
        Share of the columns that are dropped at a time.
    task : {"regression", "classification"}

    References
    ----------
    Guyon, Weston, Barnhill & Vapnik (2002), "Gene Selection for Cancer Classification using Support Vector Machines", Machine
    Learning 46.
    """

    def __init__(self, k: int = 10, step: float = 0.1, task: str = "regression") -> None:
        self.k = k
        self.step = step
        self.task = task

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> RecursiveElimination:
        """Drop columns until `k` are left."""
        from sklearn.feature_selection import RFE
        from sklearn.linear_model import LogisticRegression, Ridge

        X, y = self._valid(X, y)
        weight = _checked_weight(sample_weight, X)
        linear = LogisticRegression(max_iter=1_000) if self.task == "classification" else Ridge(solver="cholesky")
        k = min(self.k, X.shape[1])
        if self.task == "classification" and len(np.unique(y)) < 2:
            self.kept_ = np.arange(k)
            return self
        eliminated = RFE(linear, n_features_to_select=k, step=self.step if self.step < 1 else 1)
        self.kept_ = np.flatnonzero(eliminated.fit(_standardised(X, weight), y, sample_weight=weight).support_)
        return self


class LassoSelection(_Selector):
    """The columns that a lasso on standardised features and labels does not leave out.

    Of classes: of all indicators of a class together, a column stays for each of them or for none.

    Parameters
    ----------
    strength : float
        The penalty, as a share of the smallest one that leaves out every column.
    task : {"regression", "classification"}

    References
    ----------
    Tibshirani (1996), "Regression Shrinkage and Selection via the Lasso", J. Royal Statistical Society B 58(1).
    """

    def __init__(self, strength: float = 0.2, task: str = "regression") -> None:
        self.strength = strength
        self.task = task

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LassoSelection:
        """Fit the lasso; without a column that it keeps the one that would be the first stays."""
        from sklearn.linear_model import MultiTaskLasso

        X, y = self._valid(X, y)
        labels = np.eye(int(y.max()) + 1)[y] if self.task == "classification" else y[:, None]
        weight = _checked_weight(sample_weight, X)
        root = np.sqrt(weight / weight.mean())[:, None]
        # Weighted least squares are plain ones of rows that are multiplied by the root of their weight.
        features, labels = (root * _standardised(each, weight) for each in (X, labels))
        gain = np.linalg.norm(features.T @ labels, axis=1) / len(X)
        if not gain.max() > 0:
            self.kept_ = np.array([0])
            return self
        lasso = MultiTaskLasso(alpha=self.strength * gain.max(), fit_intercept=False, max_iter=10_000)
        used = np.abs(lasso.fit(features, labels).coef_).max(axis=0)
        self.kept_ = np.flatnonzero(used > 0) if used.max() > 0 else np.array([int(gain.argmax())])
        return self


class Decorrelation(_Kept):
    """Of columns that are correlated more than a limit the first stays.

    Unknown values are left out pair by pair.

    Parameters
    ----------
    most : float
        Largest size of the correlation with a column that stays before it.
    """

    def __init__(self, most: float = 0.95) -> None:
        self.most = most

    def fit(self, X: Any, y: Any = None) -> Decorrelation:
        """Go through the columns, in their order."""
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan", ensure_min_samples=2)
        size = np.abs(correlations(X))
        kept: list[int] = []
        for column in range(X.shape[1]):
            # Of a constant column it is unknown, which is no correlation.
            if not (size[column, kept] > self.most).any():
                kept.append(column)
        self.kept_ = np.array(kept)
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def correlations(X: np.ndarray) -> np.ndarray:
    """Correlation of each two columns, over the rows in which both are known; NaN where one is constant there.

    Returns
    -------
    ndarray of shape (n_features, n_features)
    """
    width = X.shape[1]
    n, sums, squares, products = (np.zeros((width, width)) for _ in range(4))
    mean = np.array(
        [column[~np.isnan(column)].mean(dtype=np.float64) if (~np.isnan(column)).any() else 0.0 for column in X.T]
    )
    for begin in range(0, len(X), _BLOCK_ROWS):
        # Centred first: sums of squares of large numbers would lose the small differences.
        block = X[begin : begin + _BLOCK_ROWS] - mean
        known = (~np.isnan(block)).astype(np.float64)
        value = np.where(known > 0, block, 0.0)
        n += known.T @ known
        sums += value.T @ known
        squares += (value**2).T @ known
        products += value.T @ value
    with np.errstate(divide="ignore", invalid="ignore"):
        covariance = products - sums * sums.T / n
        variance = squares - sums**2 / n
        # What rounding leaves of a constant.
        variance = np.where(variance > 1e-12 * squares, variance, np.nan)
        return np.asarray(covariance / np.sqrt(variance * variance.T))


def _codes(y: Any) -> np.ndarray:
    """Classes as 0, 1, ..."""
    return np.unique(np.asarray(y), return_inverse=True)[1]


def _checked_weight(weight: Any, X: np.ndarray) -> np.ndarray:
    return np.asarray(_check_sample_weight(weight, X, dtype=np.float64, allow_all_zero_weights=False))


def _is_constant(X: np.ndarray) -> np.ndarray:
    return np.asarray(X.max(axis=0) == X.min(axis=0))


def _largest(score: np.ndarray, k: int) -> np.ndarray:
    """Numbers of the k columns with the largest scores, ascending; of equal ones the first; unknown scores are last."""
    order = np.argsort(-np.where(np.isnan(score), -np.inf, score), kind="stable")
    return np.sort(order[:k])


def _standardised(X: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and deviation 1, of a constant one 0."""
    X = X.astype(np.float64)
    X = X - np.average(X, axis=0, weights=weight)
    deviation = np.sqrt(np.average(X**2, axis=0, weights=weight))
    is_varied = deviation > 0
    return np.asarray(np.where(is_varied, X / np.where(is_varied, deviation, 1.0), 0.0))
