"""The forms of walk-forward: blocks by hand, against a slow oracle over ragged panels, against scikit-learn."""

from datetime import date, datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from dateutil.relativedelta import relativedelta
from sklearn.model_selection import TimeSeriesSplit

from hf_pipelines.research.splitters import (
    TWO_YEARS_BY_QUARTERS,
    ExpandingWindow,
    MonteCarlo,
    RollingWindow,
    TimeSeriesWindows,
    WalkForward,
    build_splitter,
)
from hf_pipelines_tests.research.splitters.panels import daily, ragged_times


def numbers(splitter, times) -> list[tuple[list[int], list[int]]]:
    return [(train.tolist(), test.tolist()) for train, test in splitter.split(times)]


def upto(start: int, stop: int) -> list[int]:
    return list(range(start, stop))


# --- blocks by hand


def test_walk_forward_by_sessions_ends_with_the_data_and_trains_on_what_the_purge_leaves():
    # 20 sessions, labels of two: a block at 16..19 knows rows whose label ends before 15, the embargo's session.
    splitter = WalkForward(train=5, test=4, step=3, embargo_sessions=1, min_train_sessions=3)
    assert numbers(splitter, daily(20, label_days=2)) == [
        (upto(0, 4), upto(7, 11)),
        (upto(2, 7), upto(10, 14)),
        (upto(5, 10), upto(13, 17)),
        (upto(8, 13), upto(16, 20)),
    ]
    anchored = WalkForward(train=5, test=4, step=3, is_anchored=True, embargo_sessions=1, min_train_sessions=3)
    assert numbers(anchored, daily(20, label_days=2))[-1] == (upto(0, 13), upto(16, 20))


def weekdays(first: date, last: date) -> pl.DataFrame:
    days = [first + timedelta(days=at) for at in range((last - first).days + 1)]
    ts = pl.Series([datetime(day.year, day.month, day.day, 21) for day in days if day.weekday() < 5])
    return pl.DataFrame({"session": ts.dt.date(), "ts": ts, "label_start": ts, "label_end": ts})


@pytest.mark.parametrize("is_anchored", [False, True])
def test_walk_forward_by_months_counts_them_from_the_end_of_the_data(is_anchored):
    first, last = date(2019, 3, 4), date(2022, 8, 31)
    times = weekdays(first, last)
    session = times["session"].to_list()
    splitter = build_splitter("walk_forward", {**TWO_YEARS_BY_QUARTERS, "is_anchored": is_anchored})
    found = list(splitter.split(times))
    # The last half year, and three months earlier each, while two years lie before it: 2021-09, -06 and -03.
    assert [session[test[0]] for _, test in found] == [
        date(2021, 6, 1),
        date(2021, 9, 1),
        date(2021, 12, 1),
        date(2022, 3, 1),
    ]
    for train, test in found:
        begin, end = session[test[0]], session[test[-1]]
        assert (
            begin + relativedelta(months=6) - timedelta(days=4)
            < end + timedelta(days=1)
            <= begin + relativedelta(months=6)
        )
        assert session[train[0]] == (
            first if is_anchored else min(d for d in session if d >= begin - relativedelta(months=24))
        )
        # The label of the last session but one ends with it; the embargo takes one session more.
        assert train[-1] == test[0] - 2


def test_walk_forward_by_months_from_the_end_of_a_long_month_keeps_its_boundaries():
    # 31 March less one month is the end of February; less two it is 31 January again.
    times = weekdays(date(2023, 1, 2), date(2023, 3, 30))
    splitter = WalkForward(train=1, test=1, step=1, unit="months", embargo_sessions=0, min_train_sessions=1)
    ((_, test),) = splitter.split(times)
    assert (times["session"][int(test[0])], times["session"][int(test[-1])]) == (date(2023, 2, 28), date(2023, 3, 30))


def test_expanding_and_rolling_windows_by_hand():
    times = daily(20, label_days=1)
    # Three blocks of a fifth: 8..11, 12..15, 16..19. A label of one session and an embargo of one take two.
    expanding = ExpandingWindow(n_splits=3, test_share=0.2, embargo_sessions=1, min_train_sessions=5)
    assert numbers(expanding, times) == [
        (upto(0, 6), upto(8, 12)),
        (upto(0, 10), upto(12, 16)),
        (upto(0, 14), upto(16, 20)),
    ]
    # Seven sessions before the first block and its embargo: the purge leaves six of them, and seven later.
    rolling = RollingWindow(n_splits=3, test_share=0.2, embargo_sessions=1, min_train_sessions=5)
    assert numbers(rolling, times) == [
        (upto(0, 6), upto(8, 12)),
        (upto(3, 10), upto(12, 16)),
        (upto(7, 14), upto(16, 20)),
    ]


def test_windows_by_share_test_a_tenth_of_the_sessions_unless_told_otherwise():
    for splitter in (
        ExpandingWindow(n_splits=2, min_train_sessions=5),
        RollingWindow(n_splits=2, min_train_sessions=5),
    ):
        assert [len(test) for _, test in splitter.split(daily(50, label_days=1))] == [5, 5]


def test_time_series_windows_by_hand():
    times = daily(20, label_days=0)
    splitter = TimeSeriesWindows(initial_train=6, horizon=5, embargo_sessions=0, min_train_sessions=4)
    assert numbers(splitter, times) == [(upto(0, 6), upto(6, 11)), (upto(0, 11), upto(11, 16))]
    splitter = TimeSeriesWindows(
        initial_train=6, horizon=5, step=4, max_train=4, embargo_sessions=0, min_train_sessions=4
    )
    assert numbers(splitter, times) == [
        (upto(2, 6), upto(6, 11)),
        (upto(6, 10), upto(10, 15)),
        (upto(10, 14), upto(14, 19)),
    ]


def test_monte_carlo_places_hang_on_the_seed_alone_and_are_spread_over_all():
    times = daily(40, label_days=1)
    fields = {"train_sessions": 8, "test_sessions": 5, "embargo_sessions": 1, "min_train_sessions": 4}
    once, again = (numbers(MonteCarlo(n_splits=6, seed=3, **fields), times) for _ in range(2))
    assert once == again != numbers(MonteCarlo(n_splits=6, seed=4, **fields), times)
    starts = [test[0] for _, test in once]
    assert all(a < b for a, b in pairwise(starts))
    assert all(
        test == upto(test[0], test[0] + 5) and train == upto(max(test[0] - 10, 0), test[0] - 2) for train, test in once
    )
    # With a fold for each place every one of them is taken: 9 before the first, 5 after the last.
    assert [test[0] for _, test in numbers(MonteCarlo(n_splits=27, **fields), times)] == upto(9, 36)


@pytest.mark.parametrize("n_splits", [2, 4])
@pytest.mark.parametrize("gap", [0, 3])
def test_expanding_window_of_labels_of_no_length_agrees_with_sklearn(n_splits, gap):
    ours = ExpandingWindow(n_splits=n_splits, test_share=0.1, embargo_sessions=gap, min_train_sessions=1)
    theirs = TimeSeriesSplit(n_splits=n_splits, test_size=5, gap=gap)
    expected = [(train.tolist(), test.tolist()) for train, test in theirs.split(np.zeros(50))]
    assert numbers(ours, daily(50, label_days=0)) == expected


# --- what every one of them must do


SMALL = {
    "walk_forward": {"train": 20, "test": 7, "step": 5},
    "walk_forward anchored": {"train": 20, "test": 7, "step": 9, "is_anchored": True},
    "walk_forward months": {"train": 2, "test": 1, "step": 1, "unit": "months"},
    "expanding_window": {"n_splits": 3, "test_share": 0.15},
    "rolling_window": {"n_splits": 3, "test_share": 0.15},
    "time_series_windows": {"initial_train": 25, "horizon": 6, "step": 4, "max_train": 15},
    "monte_carlo": {"n_splits": 6, "train_sessions": 20, "test_sessions": 6},
    "purged_walk_forward": {"n_splits": 4, "max_train_sessions": 18},
}
# How many sessions each may train on; None: all before its block.
MOST = {"walk_forward": 20, "time_series_windows": 15, "monte_carlo": 20, "purged_walk_forward": 18}


@pytest.mark.parametrize("form", SMALL)
@pytest.mark.parametrize("seed", range(8))
def test_walk_forward_of_any_panel_leaves_out_what_it_must_and_no_more(form, seed):
    embargo = seed % 4
    params = {**SMALL[form], "embargo_sessions": embargo, "min_train_sessions": 1}
    times = ragged_times(sessions=80, symbols=1 + seed % 5, longest=1 + seed, seed=seed)
    session, ts, end = (times[name].to_numpy() for name in ("session", "ts", "label_end"))
    calendar = np.unique(session)
    found = list(build_splitter(form.split()[0], params).split(times))
    assert found
    most = MOST.get(form)
    if form == "rolling_window":
        most = int(np.searchsorted(calendar, session[found[0][1]].min())) - embargo
    for train, test in found:
        block = np.unique(session[test])
        assert test.tolist() == np.flatnonzero((session >= block.min()) & (session <= block.max())).tolist()
        start = int(np.searchsorted(calendar, block.min()))
        begins = ts[session == calendar[start - embargo]].min()
        is_known = (session < block.min()) & (end < begins)
        if form.endswith("months"):
            last = calendar[-1].astype(object) + timedelta(days=1)
            # Which of the months it is: the block begins on the first session of one.
            (back,) = [
                months
                for months in range(1, 60)
                if block.min() == min(calendar[calendar >= np.datetime64(last - relativedelta(months=months))])
                and block.max() < np.datetime64(last - relativedelta(months=months - 1))
            ]
            is_known &= session >= np.datetime64(last - relativedelta(months=back + 2))
        left = np.unique(session[is_known])
        is_known &= np.isin(session, left[-(most or len(left)) :])
        assert train.tolist() == np.flatnonzero(is_known).tolist()


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        pytest.param(
            "walk_forward", {"train": 30}, r"`train` must be at least `min_train_sessions` \(40\), was 30", id="train"
        ),
        pytest.param(
            "walk_forward",
            {"train": 100, "test": 30},
            r"`train` \+ `test` must fit into the 120 sessions given, was 100 \+ 30",
            id="too long",
        ),
        pytest.param(
            "walk_forward",
            {**TWO_YEARS_BY_QUARTERS},
            r"must fit into the 120 sessions given, was 24 \+ 6 months",
            id="months",
        ),
        pytest.param(
            "expanding_window", {"test_share": 0.3}, "`test_share` must be .* in 5 folds, was 0.3", id="shares"
        ),
        pytest.param(
            "rolling_window",
            {"min_train_sessions": 70},
            "must leave 70 to train on and 1 of embargo, was 5 with 120",
            id="least",
        ),
        pytest.param(
            "expanding_window",
            {"min_train_sessions": 59},
            r"\(59\) must be left to train on before .* in fold 0, was 57",
            id="purge",
        ),
        pytest.param("time_series_windows", {}, r"`initial_train` \+ `horizon` must fit into the 120", id="windows"),
        pytest.param(
            "time_series_windows",
            {"max_train": 10},
            r"`max_train` must be at least `min_train_sessions` \(40\), was 10",
            id="most",
        ),
        pytest.param(
            "monte_carlo",
            {},
            r"`n_splits` must be at most the places .* among the 120 given \(0\), was 10",
            id="places",
        ),
    ],
)
def test_walk_forward_that_leaves_nothing_says_what_to_change(name, params, message):
    with pytest.raises(ValueError, match=message):
        list(build_splitter(name, params).split(daily(120, label_days=2)))


def test_walk_forward_by_months_without_a_session_in_one_names_the_fold():
    # March to June are tested, July holds nothing.
    times = pl.concat([weekdays(date(2021, 1, 1), date(2021, 6, 30)), weekdays(date(2021, 9, 1), date(2021, 9, 30))])
    splitter = WalkForward(train=2, test=1, step=1, unit="months", min_train_sessions=1)
    with pytest.raises(ValueError, match="`test` must be long enough for a session in each block, was not in fold 4"):
        list(splitter.split(times))
