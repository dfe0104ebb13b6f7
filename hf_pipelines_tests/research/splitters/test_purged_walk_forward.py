"""Folds by hand, against scikit-learn, and the two properties that keep labels out of their test."""

from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyRegressor
from sklearn.model_selection import TimeSeriesSplit, cross_val_score

from hf_pipelines.research.splitters import PurgedWalkForward

MIDNIGHT = datetime(2024, 1, 1)


def times_of(days: list[int], *, label_days: int = 0, hours: list[int] | None = None) -> pl.DataFrame:
    """One row per entry of `days`; its label covers the `label_days` days after it."""
    ts = [MIDNIGHT + timedelta(days=day, hours=hour) for day, hour in zip(days, hours or [21] * len(days), strict=True)]
    return pl.DataFrame(
        {
            "session": [moment.date() for moment in ts],
            "ts": ts,
            "label_start": [moment + timedelta(days=min(label_days, 1)) for moment in ts],
            "label_end": [moment + timedelta(days=label_days) for moment in ts],
        }
    )


def folds(splitter: PurgedWalkForward, times: pl.DataFrame) -> list[tuple[list[int], list[int]]]:
    return [(train.tolist(), test.tolist()) for train, test in splitter.split(times)]


def test_walk_forward_ten_sessions_purges_by_label_interval():
    # A label of 2 days made on day 4 ends with the first test bar (day 6), too late: day 3 is the last.
    splitter = PurgedWalkForward(n_splits=2, test_sessions=2)
    assert folds(splitter, times_of(list(range(10)), label_days=2)) == [
        ([0, 1, 2, 3], [6, 7]),
        ([0, 1, 2, 3, 4, 5], [8, 9]),
    ]


def test_walk_forward_with_embargo_leaves_gap_beyond_the_purge():
    splitter = PurgedWalkForward(n_splits=2, test_sessions=2, embargo_sessions=1)
    assert folds(splitter, times_of(list(range(10)), label_days=2)) == [
        ([0, 1, 2], [6, 7]),
        ([0, 1, 2, 3, 4], [8, 9]),
    ]


def test_walk_forward_with_as_many_sessions_as_it_needs_and_none_more_splits():
    splitter = PurgedWalkForward(n_splits=2, test_sessions=2, min_train_sessions=2, embargo_sessions=1)
    assert folds(splitter, times_of(list(range(7)))) == [([0, 1], [3, 4]), ([0, 1, 2, 3], [5, 6])]
    with pytest.raises(ValueError, match="was 2 with 6 sessions"):
        list(splitter.split(times_of(list(range(6)))))


def test_walk_forward_rolling_keeps_the_last_sessions_left_by_the_purge():
    splitter = PurgedWalkForward(n_splits=2, test_sessions=2, max_train_sessions=3)
    assert folds(splitter, times_of(list(range(10)), label_days=2)) == [
        ([1, 2, 3], [6, 7]),
        ([3, 4, 5], [8, 9]),
    ]


def test_walk_forward_rolling_beside_purged_sessions_counts_those_that_are_left():
    # The labels of days 2 and 3 reach into the test block.
    times = times_of(list(range(7))).with_columns(
        label_end=pl.when(pl.int_range(7).is_in([2, 3])).then(pl.col("ts").max()).otherwise(pl.col("label_end"))
    )
    assert folds(PurgedWalkForward(n_splits=1, test_sessions=2), times) == [([0, 1, 4], [5, 6])]
    for most, kept in ((1, [4]), (2, [1, 4]), (3, [0, 1, 4]), (9, [0, 1, 4])):
        splitter = PurgedWalkForward(n_splits=1, test_sessions=2, max_train_sessions=most)
        assert folds(splitter, times) == [(kept, [5, 6])]


def test_walk_forward_smaller_step_makes_test_blocks_overlap():
    splitter = PurgedWalkForward(n_splits=3, test_sessions=3, step_sessions=1)
    assert [test for _, test in folds(splitter, times_of(list(range(8))))] == [
        [3, 4, 5],
        [4, 5, 6],
        [5, 6, 7],
    ]


def test_walk_forward_long_label_of_a_halted_symbol_is_purged():
    times = times_of(list(range(10)))
    halted = times[:1].with_columns(label_end=pl.lit(MIDNIGHT + timedelta(days=8, hours=21)))
    splitter = PurgedWalkForward(n_splits=1, test_sessions=2)
    ((train, test),) = folds(splitter, pl.concat([halted, times[1:]]))
    assert (train, test) == ([1, 2, 3, 4, 5, 6, 7], [8, 9])


def test_walk_forward_intraday_rows_of_a_session_stay_together():
    # Three sessions of three bars; the last label of session 1 ends with the last bar of that session.
    times = times_of([0, 0, 0, 1, 1, 1, 2, 2, 2], hours=[10, 14, 18] * 3)
    ((train, test),) = folds(PurgedWalkForward(n_splits=1, test_sessions=1), times)
    assert (train, test) == ([0, 1, 2, 3, 4, 5], [6, 7, 8])


def test_walk_forward_unsorted_rows_give_ascending_row_numbers():
    shuffled = [3, 0, 2, 1, 5, 4]
    ((train, test),) = folds(PurgedWalkForward(n_splits=1, test_sessions=2), times_of(shuffled))
    assert (train, test) == ([0, 1, 2, 3], [4, 5])


@pytest.mark.parametrize("n_splits", [2, 3, 5])
@pytest.mark.parametrize("gap", [0, 2])
@pytest.mark.parametrize("max_train", [None, 4])
@pytest.mark.parametrize("test_size", [None, 3])
def test_walk_forward_labels_of_no_length_agrees_with_sklearn(n_splits, gap, max_train, test_size):
    ours = PurgedWalkForward(
        n_splits=n_splits, test_sessions=test_size, embargo_sessions=gap, max_train_sessions=max_train
    )
    theirs = TimeSeriesSplit(n_splits=n_splits, test_size=test_size, gap=gap, max_train_size=max_train)
    expected = [(train.tolist(), test.tolist()) for train, test in theirs.split(np.zeros(25))]
    assert folds(ours, times_of(list(range(25)))) == expected


@st.composite
def panels(draw):
    n_sessions = draw(st.integers(12, 40))
    n_rows = draw(st.integers(n_sessions, 3 * n_sessions))
    extra = draw(st.lists(st.integers(0, n_sessions - 1), min_size=n_rows - n_sessions, max_size=n_rows - n_sessions))
    days = draw(st.permutations(list(range(n_sessions)) + extra))
    label_days = draw(st.lists(st.integers(1, 6), min_size=n_rows, max_size=n_rows))
    times = times_of(list(days))
    return times.with_columns(
        label_start=pl.col("ts") + timedelta(days=1),
        label_end=pl.col("ts") + pl.Series(label_days).cast(pl.Int64) * timedelta(days=1),
    )


@settings(max_examples=150, deadline=None)
@given(
    times=panels(),
    n_splits=st.integers(1, 4),
    test_sessions=st.integers(1, 3),
    step_sessions=st.integers(1, 4),
    embargo=st.integers(0, 3),
    max_train=st.one_of(st.none(), st.integers(1, 8)),
)
def test_walk_forward_any_panel_keeps_labels_out_of_test(
    times, n_splits, test_sessions, step_sessions, embargo, max_train
):
    splitter = PurgedWalkForward(
        n_splits=n_splits,
        test_sessions=test_sessions,
        step_sessions=step_sessions,
        embargo_sessions=embargo,
        max_train_sessions=max_train,
    )
    try:
        found = list(splitter.split(times))
    except ValueError as e:
        assert "; raise `training.weeks`, load more history where bars do not fill them, or ask for fewer" in str(e)
        return
    assert len(found) == n_splits
    ts, label_end, session = (
        times["ts"].to_numpy(),
        times["label_end"].to_numpy(),
        times["session"].to_numpy(),
    )
    for train, test in found:
        assert len(train) and len(test)
        assert (np.diff(train) > 0).all() and (np.diff(test) > 0).all()
        assert not set(session[train]) & set(session[test])
        # Days of these panels are sessions, so the embargo is that many days.
        assert label_end[train].max() < ts[test].min() - np.timedelta64(embargo, "D")
        assert len(np.unique(session[test])) == test_sessions
        whole = np.flatnonzero(
            (session < session[test].min()) & (label_end < ts[test].min() - np.timedelta64(embargo, "D"))
        )
        left = np.unique(session[whole])
        assert np.unique(session[train]).tolist() == left[-(max_train or len(left)) :].tolist()


def test_walk_forward_within_sklearn_takes_times_as_groups():
    times = times_of(list(range(12)), label_days=1)
    scores = cross_val_score(
        DummyRegressor(),
        np.zeros((12, 1)),
        np.arange(12.0),
        groups=times,
        cv=PurgedWalkForward(n_splits=3, test_sessions=2),
        scoring="neg_mean_absolute_error",
    )
    # Means of days 0..4, 0..6 and 0..8 (the last day before a block is purged) against the block's days.
    assert scores.tolist() == pytest.approx([-(6.5 - 2.0), -(8.5 - 3.0), -(10.5 - 4.0)])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"n_splits": 0}, "`n_splits` must be at least 1, was 0", id="no folds"),
        pytest.param({"test_sessions": 0}, "`test_sessions` must be at least 1", id="empty block"),
        pytest.param({"step_sessions": -1}, "`step_sessions` must be at least 1", id="backwards"),
        pytest.param({"embargo_sessions": -1}, "`embargo_sessions` must not be negative", id="embargo"),
        pytest.param(
            {"min_train_sessions": 9, "max_train_sessions": 3},
            "`max_train_sessions` must be at least",
            id="crossed",
        ),
    ],
)
def test_walk_forward_bad_field_raises(fields, message):
    with pytest.raises(ValueError, match=message):
        PurgedWalkForward(**fields)


def test_walk_forward_too_few_sessions_raises_with_the_numbers():
    splitter = PurgedWalkForward(n_splits=3, test_sessions=3, embargo_sessions=2)
    with pytest.raises(ValueError, match="must leave 1 to train on and 2 of embargo, was 3 with 11 sessions"):
        list(splitter.split(times_of(list(range(11)))))


def test_walk_forward_purge_leaving_too_little_names_the_fold():
    splitter = PurgedWalkForward(n_splits=1, test_sessions=2, min_train_sessions=5)
    with pytest.raises(ValueError, match=r"\(5\) must be left to train on before 2024-01-09 in fold 0, was 4"):
        list(splitter.split(times_of(list(range(10)), label_days=4)))


@pytest.mark.parametrize(
    ("times", "error", "message"),
    [
        pytest.param(np.zeros((9, 2)), TypeError, "must be a polars DataFrame.*was ndarray", id="array"),
        pytest.param(times_of([0, 1]).drop("ts"), ValueError, r"was without \['ts'\]", id="column"),
        pytest.param(
            times_of([0, 1]).with_columns(label_end=pl.lit(date(2020, 1, 1)).cast(pl.Datetime)),
            ValueError,
            "ts <= label_start <= label_end, was not so in 2 rows",
            id="label before its bar",
        ),
    ],
)
def test_walk_forward_bad_times_raise(times, error, message):
    with pytest.raises(error, match=message):
        list(PurgedWalkForward().split(times))
