"""Combinations of blocks: by hand, against an oracle that looks at every pair of rows, and the count of paths."""

from math import comb

import numpy as np
import pytest

from hf_pipelines.research.splitters import CombinatorialPurged, PurgedKFold
from hf_pipelines_tests.research.splitters.panels import daily, meets, ragged_times


def test_combinations_by_hand_are_purged_around_each_block():
    splitter = CombinatorialPurged(n_folds=4, n_test_folds=2, embargo_sessions=1, min_train_sessions=1)
    found = [(train.tolist(), test.tolist()) for train, test in splitter.split(daily(16, label_days=1))]
    # Blocks 0..3, 4..7, 8..11, 12..15. Before a block its label's session is purged, after it that and the embargo's.
    assert found == [
        ([10, 11, 12, 13, 14, 15], [0, 1, 2, 3, 4, 5, 6, 7]),
        ([6, 14, 15], [0, 1, 2, 3, 8, 9, 10, 11]),
        ([6, 7, 8, 9, 10], [0, 1, 2, 3, 12, 13, 14, 15]),
        ([0, 1, 2, 14, 15], [4, 5, 6, 7, 8, 9, 10, 11]),
        ([0, 1, 2, 10], [4, 5, 6, 7, 12, 13, 14, 15]),
        ([0, 1, 2, 3, 4, 5, 6], [8, 9, 10, 11, 12, 13, 14, 15]),
    ]
    # The first split that tests a block is its part of path 0.
    blocks = [[0, 0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0], [2, 2, 2, 2, 0, 0, 0, 0]]
    blocks += [[1, 1, 1, 1, 1, 1, 1, 1], [2, 2, 2, 2, 1, 1, 1, 1], [2, 2, 2, 2, 2, 2, 2, 2]]
    assert [path.tolist() for path in splitter.paths(daily(16, label_days=1))] == blocks


@pytest.mark.parametrize("seed", range(12))
def test_combinations_of_any_panel_leave_out_what_they_must_and_no_more(seed):
    rng = np.random.default_rng(seed)
    n_folds = int(rng.integers(3, 7))
    n_test, embargo = int(rng.integers(1, n_folds)), int(rng.integers(0, 4))
    times = ragged_times(sessions=80, symbols=int(rng.integers(1, 5)), longest=int(rng.integers(1, 7)), seed=seed)
    session, ts, end = (times[name].to_numpy() for name in ("session", "ts", "label_end"))
    calendar = np.unique(session)
    splitter = CombinatorialPurged(n_folds=n_folds, n_test_folds=n_test, embargo_sessions=embargo, min_train_sessions=1)
    found, paths = list(splitter.split(times)), list(splitter.paths(times))
    assert len(found) == splitter.get_n_splits() == comb(n_folds, n_test)
    block_of = {day: at for at, days in enumerate(np.array_split(calendar, n_folds)) for day in days}
    for train, test in found:
        tested = sorted({block_of[day] for day in session[test]})
        assert len(tested) == n_test
        is_left = ~np.isin(session, session[test]) & ~meets(times, test)
        for block in tested:
            days = [day for day in calendar if block_of[day] == block]
            last = max(day for day in calendar if ts[session == day].min() <= end[np.isin(session, days)].max())
            after = [day for day in calendar if days[-1] < day <= last] if embargo else []
            left_out = [*after, *calendar[calendar > last][:embargo]]
            is_left &= ~np.isin(session, np.array(left_out, dtype="M8[D]"))
        assert train.tolist() == np.flatnonzero(is_left).tolist()
    # Each row once on each of C(n, k) k / n paths, and on a path each block by one fold.
    n_paths = comb(n_folds, n_test) * n_test // n_folds
    assert splitter.n_paths == n_paths
    rows = np.concatenate([test for _, test in found])
    path = np.concatenate(paths)
    assert sorted(zip(rows.tolist(), path.tolist(), strict=True)) == [
        (row, at) for row in range(times.height) for at in range(n_paths)
    ]


def test_one_block_at_a_time_is_the_purged_kfold():
    times = ragged_times(sessions=60, symbols=3, longest=5, seed=7)
    one = CombinatorialPurged(n_folds=5, n_test_folds=1, embargo_sessions=2, min_train_sessions=1).split(times)
    for (train, test), (expected, tested) in zip(
        one, PurgedKFold(n_splits=5, embargo_sessions=2).split(times), strict=True
    ):
        assert (train.tolist(), test.tolist()) == (expected.tolist(), tested.tolist())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"n_test_folds": 6}, r"`n_test_folds` must be below `n_folds` \(6\), was 6", id="all tested"),
        pytest.param({"n_folds": 1, "n_test_folds": 1}, "`n_folds` must be at least 2, was 1", id="one block"),
        pytest.param({"n_folds": 29}, "`n_folds` must be at most the 28 sessions given, was 29", id="many"),
        pytest.param(
            {"n_folds": 4, "n_test_folds": 3, "min_train_sessions": 6},
            r"\(6\) must be left .* from 2024-01-01 to 2024-01-07 and 2024-01-08 .* in fold 0, was 5",
            id="too little",
        ),
    ],
)
def test_combinations_that_leave_nothing_say_which_fold(fields, message):
    with pytest.raises(ValueError, match=message):
        list(CombinatorialPurged(**{"min_train_sessions": 1, **fields}).split(daily(28, label_days=1)))
