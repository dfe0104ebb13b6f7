"""Purged k-fold: by hand, and against an oracle that looks at every pair of rows."""

from datetime import datetime

import numpy as np
import polars as pl
import pytest
from sklearn.model_selection import KFold

from hf_pipelines.research.splitters import PurgedKFold
from hf_pipelines_tests.research.splitters.panels import daily, meets, ragged_times


def test_purged_kfold_by_hand_purges_both_sides_and_embargoes_after_the_block():
    folds = list(PurgedKFold(n_splits=3, embargo_sessions=2).split(daily(15, label_days=2)))
    # Block 5..9: 3 and 4 end on 5 and 6, its labels reach 11, and two sessions more are left out: 12 and 13.
    assert [(train.tolist(), test.tolist()) for train, test in folds] == [
        ([9, 10, 11, 12, 13, 14], [0, 1, 2, 3, 4]),
        ([0, 1, 2, 14], [5, 6, 7, 8, 9]),
        ([0, 1, 2, 3, 4, 5, 6, 7], [10, 11, 12, 13, 14]),
    ]


@pytest.mark.parametrize("n_splits", [2, 4, 7])
def test_purged_kfold_of_labels_of_no_length_agrees_with_sklearn(n_splits):
    ours = PurgedKFold(n_splits=n_splits).split(daily(30, label_days=0))
    for (train, test), (expected, tested) in zip(ours, KFold(n_splits).split(np.zeros(30)), strict=True):
        assert (train.tolist(), test.tolist()) == (expected.tolist(), tested.tolist())


@pytest.mark.parametrize("seed", range(40))
def test_purged_kfold_of_any_panel_leaves_out_what_it_must_and_no_more(seed):
    rng = np.random.default_rng(seed)
    n_splits, embargo = int(rng.integers(2, 6)), int(rng.integers(0, 4))
    times = ragged_times(sessions=60, symbols=int(rng.integers(1, 6)), longest=int(rng.integers(1, 9)), seed=seed)
    session, ts, end = (times[name].to_numpy() for name in ("session", "ts", "label_end"))
    calendar = np.unique(session)
    tested = []
    for train, test in PurgedKFold(n_splits=n_splits, embargo_sessions=embargo).split(times):
        block = np.unique(session[test])
        # The session in which the block's last label ends, of those that have rows.
        last = max(day for day in calendar if ts[session == day].min() <= end[test].max())
        after = calendar[(calendar > block.max()) & (calendar <= last)].tolist() if embargo else []
        left_out = {*after, *calendar[calendar > last][:embargo].tolist()}
        is_free = (
            ~np.isin(session, block) & ~meets(times, test) & ~np.isin(session, np.array([*left_out], dtype="M8[D]"))
        )
        assert train.tolist() == np.flatnonzero(is_free).tolist()
        tested += test.tolist()
    assert sorted(tested) == list(range(times.height))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"n_splits": 1}, "`n_splits` must be at least 2, was 1", id="one block"),
        pytest.param({"embargo_sessions": -1}, "`embargo_sessions` must not be negative", id="embargo"),
        pytest.param({"n_splits": 31}, "`n_splits` must be at most the 30 sessions given, was 31", id="many"),
        pytest.param(
            {"n_splits": 2, "min_train_sessions": 14},
            r"\(14\) must be left to train on around the block from 2024-01-01 to 2024-01-15 in fold 0, was 13",
            id="too little",
        ),
    ],
)
def test_purged_kfold_that_leaves_nothing_says_which_fold(fields, message):
    with pytest.raises(ValueError, match=message):
        list(PurgedKFold(**fields).split(daily(30, label_days=2)))


def test_embargo_begins_after_the_longest_label_of_the_block_also_that_of_its_first_session():
    day = pl.Series([datetime(2024, 1, number) for number in range(1, 11)])
    # The label of day 5, the first of the second block, ends on day 9; all others on the next day.
    end = pl.Series([datetime(2024, 1, 9 if number == 5 else number + 1) for number in range(1, 11)])
    times = pl.DataFrame({"session": day.dt.date(), "ts": day, "label_start": end, "label_end": end})
    folds = [train.tolist() for train, _ in PurgedKFold(n_splits=3, embargo_sessions=1).split(times)]
    # Of days 5 to 7: day 4 ends on 5, days 8 and 9 lie in the label of day 5, and day 10 is the embargo.
    assert folds[1] == [0, 1, 2]
