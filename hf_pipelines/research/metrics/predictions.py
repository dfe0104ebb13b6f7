"""Numbers that judge a set of predictions row by row: classes with their probabilities, and values.

Lives here: one function per kind of target, all quantities at once. Not here: how well predictions rank a session
(`ranks`), what positions made of them earn (`account`).

References
----------
scikit-learn's `metrics`, which are called where they mean the same. Good (1952), "Rational Decisions", J. Royal Statistical Society B 14(1): the
logarithmic loss. Brier (1950), "Verification of Forecasts Expressed in Terms of Probability", Monthly Weather Review 78(1).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Of a return: a close that comes back to its price by way of a split or a dividend.
ROUNDING = 1e-12


def classification_metrics(y: ArrayLike, probability: ArrayLike) -> dict[str, float]:
    """How good predicted class probabilities are.

    Parameters
    ----------
    y : array of shape (n,)
        Class codes 0 .. n_classes - 1.
    probability : array of shape (n, n_classes)
        One row of probabilities a sample, columns in the order of the codes.

    Returns
    -------
    dict
        `log_loss` (nats) and `brier` (mean square of the errors of the probabilities, of two classes those of one):
        lower is better. `accuracy`; `balanced_accuracy` and `recall`, the mean recall over the classes that occur in `y`;
        `precision` and `f1`, means over the same classes, 0 for one that is never predicted. `auc`: mean over the same
        classes of the area under the curve of each against the others, NaN where only one occurs. The predicted class
        is the most probable one, the first of equals.

    Raises
    ------
    ValueError
        If there are no samples, the shapes disagree, a code is no whole number or outside the columns, or a
        probability is not finite.
    """
    from sklearn import metrics as sk

    codes, p = _checked_classes(y, probability)
    predicted = p.argmax(axis=1)
    classes, present = np.arange(p.shape[1]), np.unique(codes)
    # Means over the classes present. Of recall that is scikit-learn's `balanced_accuracy_score`, which warns when a class is
    # predicted that the fold does not hold.
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        codes, predicted, labels=present, average="macro", zero_division=0.0
    )
    return {
        "log_loss": float(sk.log_loss(codes, p, labels=classes)),
        "accuracy": float(sk.accuracy_score(codes, predicted)),
        "balanced_accuracy": float(recall),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "auc": float(np.mean([sk.roc_auc_score(codes == code, p[:, code]) for code in present]))
        if len(present) > 1
        else math.nan,
        "brier": _brier(codes, p),
    }


def log_loss(y: ArrayLike, probability: ArrayLike) -> float:
    """Mean negative logarithm of the probability that was given to what occurred, in nats; as in `classification_metrics`.

    Parameters
    ----------
    y : array of shape (n,)
        Class codes, from 0.
    probability : array of shape (n, n_classes)
        Of each class, rows adding up to 1.

    Returns
    -------
    float
        Lower is better.

    Raises
    ------
    ValueError
        As `classification_metrics`.

    Examples
    --------
    >>> round(log_loss([0, 1], [[0.5, 0.5], [0.5, 0.5]]), 4)
    0.6931
    """
    from sklearn import metrics as sk

    codes, p = _checked_classes(y, probability)
    return float(sk.log_loss(codes, p, labels=np.arange(p.shape[1])))


def brier_score(y: ArrayLike, probability: ArrayLike) -> float:
    """Mean square of the errors of the probabilities, of two classes of one of them; as in `classification_metrics`."""
    return _brier(*_checked_classes(y, probability))


def _brier(codes: NDArray[np.int64], p: NDArray[np.float64]) -> float:
    from sklearn import metrics as sk

    return float(sk.brier_score_loss(codes, p, labels=np.arange(p.shape[1]))) if p.shape[1] > 1 else 0.0


def confusion_matrix(y: ArrayLike, probability: ArrayLike) -> NDArray[np.int64]:
    """How many rows of each class are predicted as each class.

    Parameters
    ----------
    y : array of shape (n,)
        Class codes, as `classification_metrics`.
    probability : array of shape (n, n_classes)
        Of each class.

    Returns
    -------
    int array of shape (n_classes, n_classes)
        Rows are the classes that occur, columns those predicted.

    Raises
    ------
    ValueError
        As `classification_metrics`.
    """
    from sklearn import metrics as sk

    codes, p = _checked_classes(y, probability)
    return np.asarray(sk.confusion_matrix(codes, p.argmax(axis=1), labels=np.arange(p.shape[1])), dtype=np.int64)


def class_codes(y: ArrayLike) -> NDArray[np.int64]:
    """Class codes as integers; they may come as floats, as labels are stored.

    Raises
    ------
    ValueError
        If a code is no whole number (a return, NaN): cut down to one it would count for a class.
    """
    values = np.asarray(y)
    bad = np.flatnonzero(~(np.isfinite(values) & (values == np.floor(values))))
    if len(bad):
        raise ValueError(f"`y` must hold whole class codes, was {values[bad[0]]} at position {bad[0]}.")
    return values.astype(np.int64)


def regression_metrics(y: ArrayLike, prediction: ArrayLike, *, neutral: float | None = 0.0) -> dict[str, float]:
    """How close predicted values are.

    Parameters
    ----------
    y, prediction : array of shape (n,)
        Realised and predicted values, same unit.
    neutral : float, optional
        Value that is neither up nor down; None of a quantity without a direction, such as a volatility.

    Returns
    -------
    dict
        `r2` (1.0 is perfect, 0.0 the mean of `y`; NaN when `y` has no variance); `mse`, `rmse` and `mae`, the mean
        square, its root and the mean size of the errors; `mape`, the mean of their sizes as fractions of `y`, over the
        rows where it is not 0 but for rounding, NaN where there are none; `directional_accuracy`, the share of the rows where `y` is not
        neutral whose side of it is predicted, NaN where there are none, and without a direction.

    Raises
    ------
    ValueError
        If there are no samples, the shapes differ, or a value is not finite.
    """
    from sklearn import metrics as sk

    actual, predicted = _checked_values(y, prediction)
    has_variance = bool((actual != actual[0]).any())
    is_moved = is_off(actual, 0.0)
    moved, of_moved = actual[is_moved], predicted[is_moved]
    return {
        "r2": float(sk.r2_score(actual, predicted)) if has_variance else math.nan,
        "rmse": float(sk.root_mean_squared_error(actual, predicted)),
        "mse": float(sk.mean_squared_error(actual, predicted)),
        "mae": float(sk.mean_absolute_error(actual, predicted)),
        "mape": float(sk.mean_absolute_percentage_error(moved, of_moved)) if len(moved) else math.nan,
        "directional_accuracy": _directional_accuracy(actual, predicted, neutral=neutral),
    }


def is_off(values: NDArray[np.float64], place: float) -> NDArray[np.bool_]:
    """Whether each value lies elsewhere than at a place by more than the rounding of a return: a flat close is no rise."""
    return np.asarray(np.abs(values - place) > ROUNDING)


def _directional_accuracy(
    actual: NDArray[np.float64], predicted: NDArray[np.float64], *, neutral: float | None
) -> float:
    if neutral is None or not (moved := is_off(actual, neutral)).any():
        return math.nan
    return float(np.mean(np.sign(actual[moved] - neutral) == np.sign(predicted[moved] - neutral)))


def quantile_loss(y: ArrayLike, prediction: ArrayLike, *, quantile: float) -> float:
    """Mean pinball loss of a predicted quantile, in the unit of `y`; lower is better.

    Parameters
    ----------
    y, prediction : array of shape (n,)
    quantile : float
        Above 0 and below 1; 0.5 is half the mean size of the errors.

    Returns
    -------
    float
        0 or more, never NaN.

    Raises
    ------
    ValueError
        As `regression_metrics`, or if `quantile` is not between 0 and 1.

    References
    ----------
    Koenker & Bassett (1978), "Regression Quantiles", Econometrica 46(1).

    Examples
    --------
    >>> quantile_loss([1.0], [0.0], quantile=0.9)
    0.9
    """
    from sklearn import metrics as sk

    if not 0.0 < quantile < 1.0:
        raise ValueError(f"`quantile` must be above 0 and below 1, was {quantile}.")
    actual, predicted = _checked_values(y, prediction)
    return float(sk.mean_pinball_loss(actual, predicted, alpha=quantile))


def _checked_values(y: ArrayLike, prediction: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    actual, predicted = (np.asarray(y, dtype=np.float64), np.asarray(prediction, dtype=np.float64))
    if actual.shape != predicted.shape or actual.ndim != 1 or not len(actual):
        raise ValueError(f"`prediction` must match a non-empty `y` {actual.shape}, was {predicted.shape}.")
    if not (np.isfinite(actual).all() and np.isfinite(predicted).all()):
        raise ValueError("`y` and `prediction` must be finite.")
    return actual, predicted


def _checked_classes(y: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    codes, probability = class_codes(y), np.asarray(probabilities, dtype=np.float64)
    if probability.ndim != 2 or codes.shape != probability.shape[:1] or not len(codes):
        raise ValueError(
            f"`probability` must be (n, n_classes) for a non-empty `y`, was {probability.shape} for {codes.shape}."
        )
    if codes.min() < 0 or codes.max() >= probability.shape[1]:
        raise ValueError(
            f"`y` must hold codes 0..{probability.shape[1] - 1}, held {codes.min()}..{codes.max()}; "
            "give `probability` a column for each class."
        )
    if not np.isfinite(probability).all():
        raise ValueError("`probability` must be finite.")
    return codes, probability
