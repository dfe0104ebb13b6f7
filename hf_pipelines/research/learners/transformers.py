"""Transformers of columns that scikit-learn lacks, or that it could not store without code.

Lives here: winsorising, scaling to ranks of the training rows, filling of unknown values, principal components. scikit-learn's
interface, state in arrays. Not here: their names and parameters (`preprocessing`), selection of columns (`selectors`). It loads
scikit-learn: import it where it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

# Ranks 0 and 1 of a normal distribution are infinite: they become those of this share, about 5.2 deviations.
_LEAST_RANK = 1e-7

# Rows that are turned into float64 at a time.
_BLOCK_ROWS = 65_536

# Shares of the variance that rounding leaves where there is none.
_NO_VARIANCE = 1e-12

# Features in the name of a component.
_NAMED_FEATURES = 3


class _TakesUnknown(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]  # Without types.
    """As many columns as before; what is unknown (NaN) stays so."""

    def _valid(self, X: Any, *, reset: bool) -> np.ndarray:
        if not reset:
            check_is_fitted(self)
        return np.asarray(
            validate_data(self, X, reset=reset, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan")
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


class Winsorising(_TakesUnknown):
    """Values beyond two quantiles of the training rows become those quantiles.

    Parameters
    ----------
    low, high : float
        Shares of the known values of a column.

    Attributes
    ----------
    limits_ : ndarray of shape (2, n_features)
        NaN of a column without a known value: it stays as it is.
    """

    def __init__(self, low: float = 0.01, high: float = 0.99) -> None:
        self.low = low
        self.high = high

    def fit(self, X: Any, y: Any = None) -> Winsorising:
        """Find the two quantiles of each column."""
        X = self._valid(X, reset=True)
        self.limits_ = quantiles_of(X, np.array([self.low, self.high]))
        return self

    def transform(self, X: Any) -> np.ndarray:
        """The values, none beyond the quantiles."""
        X = self._valid(X, reset=False)
        # fmin and fmax: the limits of a column that was never known are unknown.
        bounded = np.fmax(np.fmin(X, self.limits_[1]), self.limits_[0])
        return np.where(np.isnan(X), np.nan, bounded)


class QuantileScaling(_TakesUnknown):
    """The share of the training rows that is smaller, from 0 to 1, or the normal value of that share.

    As scikit-learn's QuantileTransformer over all rows, but for two things: a column that was constant in training becomes the
    middle, and there may be fewer rows than quantiles.

    Parameters
    ----------
    n_quantiles : int
        Places between which the share is interpolated.
    is_normal : bool

    Attributes
    ----------
    quantiles_ : ndarray of shape (n_places, n_features)
    """

    def __init__(self, n_quantiles: int = 1_000, is_normal: bool = False) -> None:
        self.n_quantiles = n_quantiles
        self.is_normal = is_normal

    def fit(self, X: Any, y: Any = None) -> QuantileScaling:
        """Find the quantiles of each column."""
        X = self._valid(X, reset=True)
        places = np.linspace(0.0, 1.0, max(min(self.n_quantiles, len(X)), 2))
        # Interpolation may round one below the one before it.
        self.quantiles_ = np.maximum.accumulate(quantiles_of(X, places))
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Shares, or their normal values."""
        from scipy.special import ndtri

        X = self._valid(X, reset=False)
        places = np.linspace(0.0, 1.0, len(self.quantiles_))
        shares = np.full(X.shape, np.nan)
        for column in range(X.shape[1]):
            known, at = ~np.isnan(X[:, column]), self.quantiles_[:, column]
            value = X[known, column]
            # Of values that occur often the middle of the shares that they span.
            below, above = np.interp(value, at, places), np.interp(-value, -at[::-1], -places[::-1])
            shares[known, column] = (below - above) / 2.0
        return np.asarray(ndtri(np.clip(shares, _LEAST_RANK, 1.0 - _LEAST_RANK))) if self.is_normal else shares


class Imputation(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # Without types.
    """Unknown values become a number of the training rows; columns that had some get a second one that says where.

    As scikit-learn's SimpleImputer with `keep_empty_features`: a column without a known value becomes 0.

    Parameters
    ----------
    strategy : {"mean", "median", "zero"}
    indicator : bool

    Attributes
    ----------
    fill_ : ndarray of shape (n_features,)
    indicated_ : ndarray of int
        Columns that had unknown values in training, if `indicator`.
    """

    def __init__(self, strategy: str = "median", indicator: bool = True) -> None:
        self.strategy = strategy
        self.indicator = indicator

    def fit(self, X: Any, y: Any = None) -> Imputation:
        """Find what each column is filled with."""
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan")
        known = ~np.isnan(X)
        self.fill_ = np.array([self._average(column[~np.isnan(column)]) for column in X.T])
        self.indicated_ = np.flatnonzero(~known.all(axis=0)) if self.indicator else np.empty(0, dtype=np.int64)
        return self

    def _average(self, known: np.ndarray) -> float:
        if self.strategy == "zero" or not len(known):
            return 0.0
        return float((np.mean if self.strategy == "mean" else np.median)(known.astype(np.float64)))

    def transform(self, X: Any) -> np.ndarray:
        """The values without an unknown one, and the columns that say where there was one."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan")
        unknown = np.isnan(X)
        return np.hstack([np.where(unknown, self.fill_, X), unknown[:, self.indicated_].astype(X.dtype)])

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the features, then `<feature>_is_unknown`."""
        check_is_fitted(self, "fill_")
        names = _check_feature_names_in(self, input_features)
        return np.array([*names, *(f"{names[at]}_is_unknown" for at in self.indicated_)], dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


class Components(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # Without types.
    """Principal components, of features with mean 0 and, if asked, deviation 1.

    Parameters
    ----------
    variance_share : float
        As many components as explain this share of the variance.
    most : int
        No more than these.
    standardise : bool
        Features of larger numbers would be the first components.

    Attributes
    ----------
    mean_, scale_ : ndarray of shape (n_features,)
    components_ : ndarray of shape (n_components, n_features)
        The largest weight of each is above zero.
    explained_ : ndarray of shape (n_components,)
        Share of the variance.
    """

    def __init__(self, variance_share: float = 0.95, most: int = 100, standardise: bool = True) -> None:
        self.variance_share = variance_share
        self.most = most
        self.standardise = standardise

    def fit(self, X: Any, y: Any = None) -> Components:
        """Find the directions of the largest variance.

        The covariance is summed up in blocks of rows: no second matrix in float64.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        n, width = X.shape
        self.mean_ = X.mean(axis=0, dtype=np.float64)
        covariance = np.zeros((width, width))
        for begin in range(0, n, _BLOCK_ROWS):
            centred = X[begin : begin + _BLOCK_ROWS] - self.mean_
            covariance += centred.T @ centred / n
        deviation = np.sqrt(np.diag(covariance))
        is_varied = deviation > np.finfo(X.dtype).eps * np.abs(self.mean_)
        self.scale_ = np.where(is_varied, deviation, 1.0) if self.standardise else np.ones(width)
        size, vectors = np.linalg.eigh(covariance / np.outer(self.scale_, self.scale_))
        size, vectors = np.maximum(size[::-1], 0.0), vectors[:, ::-1].T
        shares = size / size.sum() if size.sum() > 0 else np.zeros(width)
        # The last rounding of a sum of shares must not ask for one component more.
        enough = int(np.searchsorted(np.cumsum(shares), self.variance_share - _NO_VARIANCE)) + 1
        kept = max(min(enough, self.most, int((shares > _NO_VARIANCE).sum())), 1)
        self.explained_ = shares[:kept]
        self.components_ = _signed(vectors[:kept])
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Components of each row; a row's do not depend on the others, not in their last bit."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        found = np.zeros((len(X), len(self.components_)))
        # One feature at a time: a product of matrices rounds by their shapes.
        for column, weights in enumerate(self.components_.T):
            centred = (X[:, column] - self.mean_[column]) / self.scale_[column]
            found += centred[:, None] * weights
        return found

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """`component_1(volatility_20, rsi_14, momentum_5)`: with the features that weigh most in it."""
        check_is_fitted(self, "components_")
        names = _check_feature_names_in(self, input_features)
        return np.array(
            [f"component_{at + 1}({', '.join(heaviest(each, names))})" for at, each in enumerate(self.components_)],
            dtype=object,
        )


def heaviest(weights: np.ndarray, names: Sequence[str]) -> list[str]:
    """Names of the features with the largest weights, at most three, the largest first; a minus before those below zero."""
    order = np.argsort(-np.abs(weights), kind="stable")[:_NAMED_FEATURES]
    return [f"{'-' if weights[at] < 0 else ''}{names[at]}" for at in order]


def quantiles_of(X: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Quantiles of the known values of each column; shape (n_shares, n_features), NaN of a column without one."""
    found = np.full((len(shares), X.shape[1]), np.nan)
    # Column by column: no second matrix in float64.
    for at, column in enumerate(X.T):
        known = column[~np.isnan(column)].astype(np.float64)
        if len(known):
            found[:, at] = np.quantile(known, shares)
    return found


def _signed(components: np.ndarray) -> np.ndarray:
    largest = np.abs(components).argmax(axis=1)
    signs = np.sign(components[np.arange(len(components)), largest])
    return np.asarray(components * signs[:, None])
