"""Windows: the bars of a symbol that end at a row, cut without a copy.

Lives here: which rows have a whole window, and where it lies. Not here: networks (`sequence_modules`), their training
(`sequence_training`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hf_pipelines.research.learners.learner import Rows


@dataclass(frozen=True, eq=False)
class Windows:
    """Scaled features of bars, one after the other by symbol: a window is a slice of them.

    Attributes
    ----------
    bars : ndarray of shape (n_bars, n_features), float32
        Sorted by symbol and time; rows of several horizons share one.
    end : ndarray of shape (n_rows,), int64
        Of each row given the place of its bar, at which its window ends.
    is_whole : ndarray of shape (n_rows,), bool
        Whether the bars before it are all there: no window reaches over a gap or before the first bar of a symbol.
    length : int
        Bars of a window, the row's own among them.
    """

    bars: np.ndarray
    end: np.ndarray
    is_whole: np.ndarray
    length: int


@dataclass(frozen=True, eq=False)
class Scaling:
    """Mean and deviation of each feature in the training rows.

    Attributes
    ----------
    mean, deviation : ndarray of shape (n_features,), float64
        The deviation of a constant is 1.
    """

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, X: np.ndarray, weight: np.ndarray) -> Scaling:
        """Estimate from rows by their weights.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features)
        weight : ndarray of shape (n_rows,)
        """
        found = [_mean_and_deviation(column, weight) for column in X.T]
        mean, deviation = np.array(found, dtype=np.float64).reshape(-1, 2).T
        return cls(mean, deviation)

    def column(self, values: np.ndarray, at: int) -> np.ndarray:
        """Scaled values of one feature, in float64: the mean of a price in float32 has few digits left."""
        return np.asarray((values.astype(np.float64) - self.mean[at]) / self.deviation[at])


def _mean_and_deviation(column: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    values = column.astype(np.float64)
    mean = np.average(values, weights=weight)
    deviation = np.sqrt(np.average((values - mean) ** 2, weights=weight))
    # What rounding leaves of equal values is no difference.
    is_varied = deviation > np.finfo(column.dtype).eps * abs(mean)
    return float(mean), float(deviation) if is_varied else 1.0


def cut_windows(rows: Rows, *, length: int, scaling: Scaling) -> Windows:
    """Place rows by symbol and bar, and see which have a whole window.

    Parameters
    ----------
    rows : Rows
        In any order; `bar` numbers of neighbouring bars of a symbol differ by one.
    length : int
        Bars of a window.
    scaling : Scaling
        Applied to the features.
    """
    symbol = rows.keys["symbol"].rank("dense").to_numpy().astype(np.int64)
    bar = rows.keys["bar"].to_numpy().astype(np.int64)
    order = np.lexsort((bar, symbol))
    symbol, bar = symbol[order], bar[order]
    # Rows of another horizon are the same bar again.
    is_new = np.ones(len(order), dtype=bool)
    is_new[1:] = (symbol[1:] != symbol[:-1]) | (bar[1:] != bar[:-1])
    place = np.cumsum(is_new) - 1
    first, symbol, bar = order[is_new], symbol[is_new], bar[is_new]
    is_whole = np.zeros(len(first), dtype=bool)
    back = length - 1
    if len(first) > back:
        # As many bars later by number as by place: none is missing between.
        is_whole[back:] = (symbol[back:] == symbol[: len(first) - back]) & (
            bar[back:] - bar[: len(first) - back] == back
        )
    end = np.empty(len(order), dtype=np.int64)
    end[order] = place
    bars = np.empty((len(first), rows.X.shape[1]), dtype=np.float32)
    for at in range(bars.shape[1]):
        bars[:, at] = scaling.column(rows.X[first, at], at)
    return Windows(bars, end, is_whole[end] if len(end) else is_whole, length)


def labels_by_window(
    windows: Windows, rows: Rows, y: np.ndarray, weight: np.ndarray, *, horizons: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of every whole window, a column for each horizon.

    Parameters
    ----------
    windows : Windows
        Of the rows.
    y, weight : ndarray of shape (n_rows,)
    horizons : sequence of int
        Those that are predicted, whose rows tell it in their key `horizon`; none: one label a row.

    Returns
    -------
    end : ndarray of shape (n_windows,), int64
        Windows with a label of weight above 0, ascending.
    labels, weights : ndarray of shape (n_windows, n_columns)
        0 where there is no such label.
    """
    used = windows.is_whole & (weight > 0.0)
    end, at = np.unique(windows.end[used], return_inverse=True)
    column = np.zeros(int(used.sum()), dtype=np.int64)
    if horizons:
        column = np.searchsorted(horizons, rows.keys["horizon"].to_numpy()[used])
    labels = np.zeros((len(end), max(len(horizons), 1)))
    weights = np.zeros_like(labels)
    labels[at, column], weights[at, column] = y[used], weight[used]
    return end, labels, weights
