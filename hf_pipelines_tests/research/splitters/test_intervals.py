"""Overlap of label intervals, against every pair, by hand, and on as many rows as a large panel has."""

from datetime import datetime

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.splitters import WalkForward
from hf_pipelines.research.splitters.intervals import Intervals, label_intervals, overlaps, training_intervals
from hf_pipelines_tests.research.splitters.panels import meets, ragged_times


def intervals(*pairs: tuple[int, int]) -> Intervals:
    start, end = (np.array(side, dtype=np.int64) for side in zip(*pairs, strict=True))
    return Intervals(start, end)


def test_overlaps_by_hand():
    others = intervals((10, 12), (20, 40), (25, 26))
    asked = intervals((1, 9), (9, 10), (12, 15), (13, 19), (30, 30), (41, 50), (1, 99))
    assert overlaps(asked, others).tolist() == [False, True, True, False, True, False, True]
    assert overlaps(asked, Intervals(np.empty(0, np.int64), np.empty(0, np.int64))).tolist() == [False] * 7


@pytest.mark.parametrize("seed", range(20))
def test_overlaps_of_random_folds_agree_with_every_pair(seed):
    times = ragged_times(sessions=40, symbols=4, longest=9, seed=seed)
    rows = label_intervals(times)
    rng = np.random.default_rng(seed)
    test = np.flatnonzero(np.isin(times["session"].to_numpy(), rng.choice(times["session"].unique(), size=9)))
    expected = meets(times, test)
    assert overlaps(rows, rows[test]).tolist() == expected.tolist()

    # In short: the same test rows are met, by as few intervals as there are runs of test rows, and one.
    train = np.setdiff1d(np.flatnonzero(rng.random(times.height) < 0.7), test)
    for learned in (train, train[~expected[train]]):
        short = training_intervals(rows, learned, test)
        assert overlaps(rows[test], short).tolist() == meets(times, learned)[test].tolist()
        assert len(short.start) <= len(np.unique(times["session"].to_numpy()[test])) + 1
    assert not overlaps(rows[test], training_intervals(rows, train[~expected[train]], test)).any()


@pytest.mark.parametrize(
    "days", [(2, 1, 3), (1, 3, 2), (3, 2, 1)], ids=["starts before its bar", "ends before it starts", "both"]
)
def test_times_in_the_wrong_order_are_refused(days):
    ts, start, end = (datetime(2024, 1, day) for day in days)
    times = pl.DataFrame({"session": [ts.date()], "ts": [ts], "label_start": [start], "label_end": [end]})
    with pytest.raises(ValueError, match="`groups` must satisfy ts <= label_start <= label_end, was not so in 1 rows"):
        list(WalkForward().split(times))


def test_training_intervals_of_a_row_of_the_same_bar_as_a_test_row_meet_it():
    rows = intervals((1, 3), (5, 6), (5, 7), (9, 9))
    short = training_intervals(rows, np.array([0, 2]), np.array([1, 3]))
    assert (short.start.tolist(), short.end.tolist()) == ([1, 5], [3, 7])
    assert overlaps(rows[np.array([1, 3])], short).tolist() == [True, False]


def test_overlaps_of_two_million_intervals_are_found_without_looking_at_every_pair():
    start = np.arange(1_000_000, dtype=np.int64) * 10
    rows = Intervals(start, start + 4)
    assert not overlaps(rows, Intervals(start + 5, start + 9)).any()
    assert overlaps(rows, Intervals(start + 4, start + 9)).all()
