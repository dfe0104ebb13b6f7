"""Cross-sections: each feature compared among the rows of the same time.

Lives here: rank and z-score over the symbols of a time, a pure function of that time's rows: nothing is fitted. Which rows these
are: in training those that have a label, at prediction all that are predicted. Not here: their names (`preprocessing`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.research.learners.learner import Rows, TrainingRows

_FEATURES_AT_A_TIME = 8

# Columns that say which rows belong together: rows of another horizon are the same symbols again.
_TOGETHER = ("ts", "horizon")


class CrossSection:
    """Compares rows of the same time; fits nothing."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """As scikit-learn's, so that it can be cloned."""
        return {}

    def fit(self, rows: TrainingRows) -> CrossSection:
        """Nothing to learn."""
        return self


class CrossSectionalRank(CrossSection):
    """Ranks from -1 to 1, their mean 0; equal values share theirs, unknown ones stay so, a symbol alone is 0."""

    def transform(self, rows: Rows) -> np.ndarray:
        """Ranks, of n known values of a time from -(n - 1) / n to (n - 1) / n."""
        names = [str(at) for at in range(rows.X.shape[1])]
        value = pl.col(names).fill_nan(None)
        place, n = value.rank("average"), value.count().cast(pl.Float64)
        columns = pl.DataFrame(dict(zip(names, rows.X.T, strict=True))).with_columns(_together(rows))
        ranks = columns.select(((place * 2.0 - n - 1.0) / n).over("together"))
        return ranks.fill_null(float("nan")).to_numpy()


class CrossSectionalScore(CrossSection):
    """Distance from the mean of the time in deviations; unknown values stay so, equal values and a symbol alone are 0."""

    def transform(self, rows: Rows) -> np.ndarray:
        """Scores, of mean 0 and deviation 1 over the known values of a time."""
        by = _together(rows).to_numpy()
        order = np.argsort(by, kind="stable")
        _, begins, of_time = np.unique(by[order], return_index=True, return_inverse=True)
        found = np.empty(rows.X.shape, dtype=np.float32)
        # A few features at a time: in float64 the whole would be there several times.
        for at in range(0, rows.X.shape[1], _FEATURES_AT_A_TIME):
            columns = slice(at, at + _FEATURES_AT_A_TIME)
            found[order, columns] = _scores(rows.X[order, columns].astype(np.float64), begins, of_time)
        return found


def _scores(X: np.ndarray, begins: np.ndarray, of_time: np.ndarray) -> np.ndarray:
    """Scores of rows in the order of their times, which begin at these rows."""
    known = ~np.isnan(X)
    # Sums over the rows of a time alone, in their order: the bits do not depend on other times.
    with np.errstate(invalid="ignore", divide="ignore"):
        n = np.add.reduceat(known, begins, axis=0, dtype=np.float64)
        mean = np.add.reduceat(np.where(known, X, 0.0), begins, axis=0) / n
        centred = X - mean[of_time]
        deviation = np.sqrt(np.add.reduceat(np.where(known, centred, 0.0) ** 2, begins, axis=0) / n)
        # What float32 leaves of equal values is no difference.
        is_varied = deviation > np.finfo(np.float32).eps * np.abs(mean)
        return np.where(is_varied[of_time], centred / deviation[of_time], np.where(known, 0.0, np.nan))


def _together(rows: Rows) -> pl.Series:
    """A number for each row, the same for rows that are compared, in the order in which they first come."""
    names = [name for name in _TOGETHER if name in rows.keys.columns]
    return rows.keys.select(pl.struct(names).rank("dense").alias("together")).to_series()
