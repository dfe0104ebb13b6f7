"""Scores of any sessions drawn from a set of predictions, without reading the rows again.

Lives here: what is kept of each session (sums, counts, ranks' coefficients) and how scores are made of it. Not here: the scores of
rows (`predictions`, `ranks`, `account`), which these agree with where each session is drawn once; what is drawn (`bootstrap`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hf_pipelines.research.metrics.account import ROUNDING_VOLATILITY
from hf_pipelines.research.metrics.bootstrap import Draws
from hf_pipelines.research.metrics.predictions import class_codes, is_off
from hf_pipelines.research.metrics.ranks import coefficient_summary, newey_west_lags, without_rounding

Floats = NDArray[np.float64]
Counts = NDArray[np.floating[Any]]

# An area under a curve counts pairs of rows, of which there are too many: rows are put in cells by their probability, first
# fine ones of equal width (of few rows, one for each value), then neighbours together until each holds a share of the rows. A pair
# within a cell counts as a tie: an error of about 2 % of the standard deviation over sessions (8e-5 of 0.006 for 8,000 rows), none
# where there are no more values than cells.
SORTED_ROWS = 10_000
FINE_CELLS = 65_536
CELLS = 256

# Whole numbers up to 2 ** 24 are exact in single precision, whose products take half the time: more rows than this may add up to
# more in a resample that holds some sessions often.
SINGLE_PRECISION_ROWS = 2**22

# Probability that `log_loss` takes for none, as scikit-learn does.
LEAST_PROBABILITY = float(np.finfo(np.float64).eps)


class Part(Protocol):
    """Some scores of one set of predictions."""

    def scores(self, draws: Draws) -> dict[str, Floats]:
        """Each score of each resample, shape (n_resamples,); NaN where undefined."""


@dataclass(frozen=True, eq=False)
class SessionScores:
    """Scores of one set of predictions, of sessions as they are drawn.

    Attributes
    ----------
    n_sessions : int
    parts : sequence of Part
    """

    n_sessions: int
    parts: Sequence[Part]

    def scores(self, draws: Draws) -> dict[str, Floats]:
        """Each score of each resample, shape (n_resamples,); NaN where the sessions drawn leave it undefined.

        The last bits depend on the threads that BLAS takes: give it one.
        """
        return {name: values for part in self.parts for name, values in part.scores(draws).items()}

    def observed(self) -> dict[str, float]:
        """Each score of the sessions themselves, each once."""
        once = Draws(np.arange(self.n_sessions, dtype=np.int32)[None, :], 1)
        return {name: float(values[0]) for name, values in self.scores(once).items()}


def classification_scores(
    session: NDArray[np.int64], *, n_sessions: int, y: Floats, probability: Floats, gives_probabilities: bool = True
) -> list[Part]:
    """Parts that score class probabilities: see `classification_metrics`.

    Parameters
    ----------
    session : int array of shape (n,)
        Place of each row's session.
    n_sessions : int
    y : array of shape (n,)
        Class codes.
    probability : array of shape (n, n_classes)
    gives_probabilities : bool
        False of a predictor that names a class alone, as a probability of 1: then there is no log loss.
    """
    codes, n_classes = class_codes(y), probability.shape[1]
    predicted = probability.argmax(axis=1)
    of_code = probability[np.arange(len(codes)), codes]
    squares = (probability**2).sum(axis=1) - 2.0 * of_code + 1.0
    # Of two classes the error of one: the other's is the same.
    columns = {"brier": squares / 2.0 if n_classes == 2 else squares}
    if gives_probabilities:
        columns["log_loss"] = -np.log(np.maximum(of_code, LEAST_PROBABILITY))
    sums = _Sums.of(session, n_sessions, columns)
    cells = (session * n_classes + codes) * n_classes + predicted
    confusion = np.bincount(cells, minlength=n_sessions * n_classes**2).reshape(n_sessions, -1)
    parts: list[Part] = [
        _Means(sums),
        _Confusion(_counts(confusion), n_classes),
    ]
    if n_classes > 1:
        # Of two classes the curves are mirrored, where the two probabilities add up to 1.
        shown = range(1, 2) if n_classes == 2 else range(n_classes)
        parts.append(
            _Areas(
                [_Area.of(session, n_sessions, is_class=codes == code, value=probability[:, code]) for code in shown],
                is_binary=n_classes == 2,
            )
        )
    return parts


def regression_scores(
    session: NDArray[np.int64],
    *,
    n_sessions: int,
    y: Floats,
    prediction: Floats,
    quantiles: Mapping[str, tuple[float, Floats]] | None = None,
    neutral: float | None = 0.0,
) -> list[Part]:
    """Parts that score predicted values: see `regression_metrics` and `quantile_loss`.

    Parameters
    ----------
    session : int array of shape (n,)
        Place of each row's session.
    n_sessions : int
    y, prediction : array of shape (n,)
    quantiles : mapping of score to (level, predicted quantile), optional
    neutral : float, optional
        As in `regression_metrics`.
    """
    error = y - prediction
    # About the mean, or the squares of a series far from 0 would lose their digits.
    centred = y - y.mean()
    columns = {"mse": error**2, "mae": np.abs(error), "_y": centred, "_y2": centred**2}
    for name, (level, quantile) in (quantiles or {}).items():
        short = y - quantile
        columns[name] = np.maximum(level * short, (level - 1.0) * short)
    moved = is_off(y, 0.0)
    sizes = {"mape": np.abs(error[moved] / y[moved])}
    has_side = np.zeros(len(y), dtype=bool) if neutral is None else is_off(y, neutral)
    centre = 0.0 if neutral is None else neutral
    is_right = np.sign(y[has_side] - centre) == np.sign(prediction[has_side] - centre)
    return [
        _Errors(_Sums.of(session, n_sessions, columns)),
        _Means(_Sums.of(session[moved], n_sessions, sizes)),
        _Means(_Sums.of(session[has_side], n_sessions, {"directional_accuracy": is_right.astype(np.float64)})),
    ]


def rank_scores(of_ranks: Floats, of_values: Floats) -> list[Part]:
    """Parts that score how predictions rank the symbols of a session: see `information_coefficient`.

    Parameters
    ----------
    of_ranks, of_values : array of shape (n_sessions,)
        Coefficient of each session, NaN where undefined.
    """
    return [_Coefficients(of_ranks, of_values)]


def account_scores(
    session: NDArray[np.int64], *, n_sessions: int, returns: Floats, periods_per_year: float
) -> list[Part]:
    """Parts that score the returns of an account: see `sharpe_ratio`, `hit_rate`, `profit_factor`, `total_return`, `max_drawdown`.

    Parameters
    ----------
    session : int array of shape (n_bars,)
        Place of each bar's session, ascending.
    n_sessions : int
    returns : array of shape (n_bars,)
        One fraction a bar, finite, above -1.
    periods_per_year : float
        Bars in a year.
    """
    columns = {
        "return": returns,
        "square": (returns - returns.mean()) ** 2,
        "up": (returns > 0.0).astype(np.float64),
        "down": (returns < 0.0).astype(np.float64),
        "gain": np.maximum(returns, 0.0),
        "loss": np.maximum(-returns, 0.0),
    }
    return [
        _Returns(_Sums.of(session, n_sessions, columns), float(returns.mean()), periods_per_year),
        _Growth.of(session, n_sessions, np.log1p(returns)),
    ]


def _counts(values: NDArray[np.int64]) -> Counts:
    return values.astype(np.float32 if values.sum() <= SINGLE_PRECISION_ROWS else np.float64)


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums over the rows of each session, and how many rows they are of."""

    names: tuple[str, ...]
    values: Floats

    @classmethod
    def of(cls, session: NDArray[np.int64], n_sessions: int, columns: Mapping[str, Floats]) -> _Sums:
        counted = np.bincount(session, minlength=n_sessions).astype(np.float64)
        added = [np.bincount(session, weights=values, minlength=n_sessions) for values in columns.values()]
        return cls(tuple(columns), np.column_stack([counted, *added]))

    def means(self, draws: Draws) -> dict[str, Floats]:
        drawn = draws.counts @ self.values
        n = np.where(drawn[:, 0] > 0.0, drawn[:, 0], np.nan)
        return {name: drawn[:, 1 + at] / n for at, name in enumerate(self.names)}


@dataclass(frozen=True, eq=False)
class _Means:
    sums: _Sums

    def scores(self, draws: Draws) -> dict[str, Floats]:
        return self.sums.means(draws)


@dataclass(frozen=True, eq=False)
class _Errors:
    sums: _Sums

    def scores(self, draws: Draws) -> dict[str, Floats]:
        means = self.sums.means(draws)
        first, second = means.pop("_y"), means.pop("_y2")
        variance = second - first**2
        # What is left of a variance of equal values is rounding.
        has_variance = variance > 1e-12 * second
        r2 = 1.0 - means["mse"] / np.where(has_variance, variance, np.nan)
        return {"r2": r2, "rmse": np.sqrt(means["mse"]), **means}


@dataclass(frozen=True, eq=False)
class _Confusion:
    """Rows of each session by the class that occurred and the one predicted."""

    counts: Counts
    n_classes: int

    def scores(self, draws: Draws) -> dict[str, Floats]:
        drawn = (draws.counts @ self.counts).astype(np.float64).reshape(-1, self.n_classes, self.n_classes)
        right = np.diagonal(drawn, axis1=1, axis2=2)
        occurred, predicted = drawn.sum(axis=2), drawn.sum(axis=1)
        is_present = occurred > 0.0
        n_present = np.where(is_present.any(axis=1), is_present.sum(axis=1), np.nan)

        def mean_of(parts: Floats, wholes: Floats) -> Floats:
            shares = np.divide(parts, wholes, out=np.zeros_like(wholes), where=wholes > 0.0)
            return np.asarray(np.where(is_present, shares, 0.0).sum(axis=1) / n_present)

        recall = mean_of(right, occurred)
        return {
            "accuracy": right.sum(axis=1) / np.where(occurred.sum(axis=1) > 0.0, occurred.sum(axis=1), np.nan),
            "balanced_accuracy": recall,
            "precision": mean_of(right, predicted),
            "recall": recall,
            "f1": mean_of(2.0 * right, occurred + predicted),
        }


@dataclass(frozen=True, eq=False)
class _Area:
    """Rows of each session by cells of a class's probability, those of the class and all others."""

    of_class: Counts
    of_others: Counts

    @classmethod
    def of(cls, session: NDArray[np.int64], n_sessions: int, *, is_class: NDArray[np.bool_], value: Floats) -> _Area:
        fine, n_fine = _fine_cells(value)
        everything = np.bincount(fine, minlength=n_fine).astype(np.float64)
        below = np.cumsum(everything) - everything
        group = np.floor(below * CELLS / max(len(value), 1))
        used = np.flatnonzero(everything)
        cell = np.zeros(n_fine, dtype=np.int64)
        cell[used] = np.cumsum(np.diff(group[used], prepend=group[used[0]]) > 0.0)
        n_cells = int(cell.max()) + 1
        at = session * n_cells + cell[fine]
        counts = [
            _counts(np.bincount(at[part], minlength=n_sessions * n_cells).reshape(n_sessions, n_cells))
            for part in (is_class, ~is_class)
        ]
        return cls(counts[0], counts[1])

    def areas(self, draws: Draws) -> tuple[Floats, NDArray[np.bool_]]:
        """The area of each resample, NaN where undefined, and whether the class occurs."""
        of_class, of_others = ((draws.counts @ each).astype(np.float64) for each in (self.of_class, self.of_others))
        return _area(of_class, of_others), np.asarray(of_class.any(axis=1))


@dataclass(frozen=True, eq=False)
class _Areas:
    each: Sequence[_Area]
    is_binary: bool

    def scores(self, draws: Draws) -> dict[str, Floats]:
        found = [area.areas(draws) for area in self.each]
        areas = np.array([np.where(is_present, area, 0.0) for area, is_present in found])
        n_present = np.array([is_present for _, is_present in found]).sum(axis=0)
        if self.is_binary:
            return {"auc": found[0][0]}
        # A class that alone occurs has no others to be told from: its area is NaN, and so is the mean.
        return {"auc": areas.sum(axis=0) / np.where(n_present > 1, n_present, np.nan)}


def _fine_cells(value: Floats) -> tuple[NDArray[np.int64], int]:
    """The cell of each value, in their order, and how many cells there are."""
    if len(value) <= SORTED_ROWS:
        distinct, fine = np.unique(value, return_inverse=True)
        return fine, len(distinct)
    low, high = float(value.min()), float(value.max())
    scale = (FINE_CELLS - 1) / (high - low) if high > low else 0.0
    return ((value - low) * scale).astype(np.int64), FINE_CELLS


def _area(of_class: Floats, of_others: Floats) -> Floats:
    """Share of the pairs of a row of the class and another in which the former has the higher cell, ties half."""
    below = np.cumsum(of_others, axis=1) - of_others
    pairs = of_class.sum(axis=1) * of_others.sum(axis=1)
    return np.asarray((of_class * (below + of_others / 2.0)).sum(axis=1) / np.where(pairs > 0.0, pairs, np.nan))


@dataclass(frozen=True, eq=False)
class _Coefficients:
    """Information coefficient of each session, NaN where undefined: of the ranks, and of the values."""

    of_ranks: Floats
    of_values: Floats

    def scores(self, draws: Draws) -> dict[str, Floats]:
        mean, ratio, t = _summaries(self.of_ranks, draws)
        known = ~np.isnan(self.of_values)
        n, total = (draws.counts @ np.column_stack([known, np.where(known, self.of_values, 0.0)])).T
        return {
            "information_coefficient": mean,
            "information_coefficient_ratio": ratio,
            "information_coefficient_t": t,
            "linear_information_coefficient": without_rounding(total / np.where(n > 0.0, n, np.nan)),
        }


def _summaries(values: Floats, draws: Draws) -> Floats:
    """`coefficient_summary` of each resample, shape (3, n_resamples)."""
    known = ~np.isnan(values)
    if not known.all():
        # What is undefined is left out: the series are of different lengths.
        found = [coefficient_summary(values[order]) for order in draws.order] if known.any() else []
        return np.array(
            [[each[name] for each in found] or [np.nan] * len(draws.order) for name in ("mean", "ratio", "t")]
        )
    drawn = values[draws.order]
    n = drawn.shape[1]
    mean = drawn.mean(axis=1)
    drawn -= mean[:, None]
    variance = np.einsum("ij,ij->i", drawn, drawn) / n
    varies = (values[draws.order[:, :1]] != values[draws.order]).any(axis=1) & (n > 1)
    deviation = np.where(varies, np.sqrt(variance * n / max(n - 1, 1)), np.nan)
    lags = min(newey_west_lags(n), n - 1)
    for lag in range(1, lags + 1):
        products = np.einsum("ij,ij->i", drawn[:, lag:], drawn[:, :-lag])
        variance = variance + 2.0 * (1.0 - lag / (lags + 1.0)) * products / n
    error = np.sqrt(np.where(varies & (variance > 0.0), variance / n, np.nan))
    mean = without_rounding(mean)
    return np.array([mean, mean / deviation, mean / error])


@dataclass(frozen=True, eq=False)
class _Returns:
    sums: _Sums
    centre: float
    periods_per_year: float

    def scores(self, draws: Draws) -> dict[str, Floats]:
        n, total, squares, up, down, gain, loss = (draws.counts @ self.sums.values).T
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(n > 0.0, total / n, np.nan)
            variance = np.where(n > 1.0, np.maximum(squares - n * (mean - self.centre) ** 2, 0.0) / (n - 1.0), np.nan)
            deviation = np.sqrt(variance)
            is_moving = deviation > ROUNDING_VOLATILITY * (1.0 + np.abs(mean))
            return {
                "sharpe_ratio": np.where(is_moving, mean / deviation * np.sqrt(self.periods_per_year), np.nan),
                "hit_rate": np.where(up + down > 0.0, up / (up + down), np.nan),
                "profit_factor": np.where(loss > 0.0, gain / loss, np.nan),
            }


@dataclass(frozen=True, eq=False)
class _Growth:
    """What the return and the drawdown of sessions after each other are made of, in logarithms.

    Attributes
    ----------
    growth : array of shape (n_sessions,)
        Of the whole session.
    top, bottom : array of shape (n_sessions,)
        Its highest and lowest point since the close before it.
    fall : array of shape (n_sessions,)
        Largest fall from a peak within it.
    """

    growth: Floats
    top: Floats
    bottom: Floats
    fall: Floats

    @classmethod
    def of(cls, session: NDArray[np.int64], n_sessions: int, growth: Floats) -> _Growth:
        parts = np.zeros((4, n_sessions))
        starts = np.flatnonzero(np.diff(session, prepend=-1))
        for start, of_session in zip(starts, np.split(growth, starts[1:]), strict=True):
            level = np.concatenate([[0.0], np.cumsum(of_session)])
            fall = (np.maximum.accumulate(level) - level).max()
            parts[:, session[start]] = level[-1], level.max(), level.min(), fall
        return cls(*parts)

    def scores(self, draws: Draws) -> dict[str, Floats]:
        growth = self.growth[draws.order]
        before = np.cumsum(growth, axis=1) - growth
        # The peak before each session: of nothing yet it is where the account began.
        peak = np.maximum.accumulate(before + self.top[draws.order], axis=1)
        peak = np.concatenate([np.zeros((len(peak), 1)), peak[:, :-1]], axis=1)
        peak = np.maximum(peak, 0.0)
        fall = np.maximum(peak - (before + self.bottom[draws.order]), self.fall[draws.order])
        return {
            "total_return": np.expm1(growth.sum(axis=1)),
            "max_drawdown": -np.expm1(-np.maximum(fall.max(axis=1), 0.0)),
        }
