"""Label intervals: what a row knows about, and whether the rows of one set know about the rows of another.

Lives here: the interval of a row, the overlap of sets of intervals, and the intervals of a fold's training rows in short.
Not here: which rows make a fold (one module a splitter).

The interval of a row runs from its own bar (`ts`, the price that its label starts from) to `label_end`, both included: two
rows whose intervals share no instant share no price. It is symmetric: a training row must end before a test row begins, or
begin after the test row has ended.

References
----------
López de Prado (2018), "Advances in Financial Machine Learning", ch. 7.4.1 (purging).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

TIME_COLUMNS = ["session", "ts", "label_start", "label_end"]

Times = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Intervals:
    """Closed intervals of time, in any order: microseconds since 1970.

    Attributes
    ----------
    start, end : array of shape (n,)
        `start <= end` in each.
    """

    start: Times
    end: Times

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> Intervals:
        """Return those of some rows."""
        return Intervals(self.start[rows], self.end[rows])


def label_intervals(times: pl.DataFrame) -> Intervals:
    """Interval of each row: from its bar to the end of its label.

    Parameters
    ----------
    times : DataFrame
        `ts` and `label_end`, of one type.
    """
    return Intervals(as_times(times["ts"]), as_times(times["label_end"]))


def as_times(values: pl.Series) -> Times:
    """Microseconds since 1970 of a column of times."""
    return values.cast(pl.Datetime("us", getattr(values.dtype, "time_zone", None))).to_physical().to_numpy()


def overlaps(intervals: Intervals, others: Intervals) -> npt.NDArray[np.bool_]:
    """Whether each interval shares an instant with any of the others.

    Sorted and searched: n log n + m log m, never n times m.

    Returns
    -------
    bool array of shape (n,)
    """
    if not len(others.start):
        return np.zeros(len(intervals.start), dtype=np.bool_)
    order = np.argsort(others.start, kind="stable")
    start = others.start[order]
    # The latest end of all that begin so early: if it ends before the interval begins, so do all of them.
    latest_end = np.maximum.accumulate(others.end[order])
    n_begun = np.searchsorted(start, intervals.end, side="right")
    return np.asarray((n_begun > 0) & (latest_end[np.maximum(n_begun, 1) - 1] >= intervals.start))


def training_intervals(rows: Intervals, train: npt.NDArray[np.int64], test: npt.NDArray[np.int64]) -> Intervals:
    """Intervals of a fold's training rows, those without a test row between them joined.

    They overlap a test row if and only if one of the training rows does, and there are no more of them than runs of test rows,
    plus one: they can be stored beside the predictions.

    Parameters
    ----------
    rows : Intervals
        Of all rows.
    train, test : array of int64
        Row numbers.
    """
    if not len(train):
        return Intervals(np.empty(0, np.int64), np.empty(0, np.int64))
    # How many distinct test times lie at or before each training row: equal numbers, nothing between.
    run = np.searchsorted(np.unique(rows.start[test]), rows.start[train], side="right")
    _, code = np.unique(run, return_inverse=True)
    n_runs = int(code.max()) + 1
    start = np.full(n_runs, np.iinfo(np.int64).max)
    end = np.full(n_runs, np.iinfo(np.int64).min)
    np.minimum.at(start, code, rows.start[train])
    np.maximum.at(end, code, rows.end[train])
    return Intervals(start, end)


def check_times(times: object) -> pl.DataFrame:
    """Return the time columns of a matrix, checked.

    Raises
    ------
    TypeError
        If it is no polars frame.
    ValueError
        If a column is missing, or a label ends before it starts or starts before its bar closes.
    """
    if not isinstance(times, pl.DataFrame):
        raise TypeError(
            f"`groups` must be a polars DataFrame with {TIME_COLUMNS} unless `X` is one, was {type(times).__name__}."
        )
    missing = sorted(set(TIME_COLUMNS) - set(times.columns))
    if missing:
        raise ValueError(f"`groups` must have the columns {TIME_COLUMNS}, was without {missing}.")
    label_start = pl.col("label_start")
    is_ordered = (pl.col("ts") <= label_start) & (label_start <= pl.col("label_end"))
    n_broken = times.height - int(times.select(is_ordered.sum()).item())
    if n_broken:
        raise ValueError(f"`groups` must satisfy ts <= label_start <= label_end, was not so in {n_broken} rows.")
    return times.select(TIME_COLUMNS)
