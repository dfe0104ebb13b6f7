"""Validation rows: the latest sessions, and no label that reaches into them."""

from datetime import UTC, date, datetime

import polars as pl
import pytest

from hf_pipelines.research.validation_rows import cut_validation


def times_of(days: list[int], label_days: int) -> pl.DataFrame:
    at = [datetime(2024, 1, day, 21, tzinfo=UTC) for day in days]
    ends = [datetime(2024, 1, day + label_days, 21, tzinfo=UTC) for day in days]
    return pl.DataFrame({"session": [date(2024, 1, day) for day in days], "ts": at, "label_end": ends})


def test_cut_validation_takes_the_latest_sessions_and_purges_labels_that_end_in_them():
    # Ten sessions, two rows each, in disorder; labels of two days: rows of the 8th and 9th end on the 10th and 11th.
    days = [day for day in range(1, 11) for _ in range(2)]
    times = times_of(days, label_days=2)[::-1]
    fit, validation = cut_validation(times, share=0.2)
    assert sorted(times["session"].dt.day()[validation].to_list()) == [9, 9, 10, 10]
    # A label that ends exactly at the first bar of the validation rows is not known before it.
    assert sorted(times["session"].dt.day()[fit].unique().to_list()) == [1, 2, 3, 4, 5, 6]
    assert fit.tolist() == sorted(fit.tolist()) and not {*fit.tolist()} & {*validation.tolist()}


def test_cut_validation_takes_at_least_one_session():
    _, validation = cut_validation(times_of([1, 2, 3], label_days=0), share=0.01)
    assert validation.tolist() == [2]


@pytest.mark.parametrize(
    ("days", "label_days", "share", "told"),
    [
        ([1, 2, 3], 5, 0.3, "must leave rows to fit on .*, was 0.3 of 3 sessions"),
        ([1], 0, 0.3, "must leave rows to fit on .*, was 0.3 of 1 sessions"),
        ([], 0, 0.3, "must leave rows to fit on .*, was 0.3 of 0 sessions"),
        ([1, 2], 0, 1.0, "must be above 0 and below 1, was 1.0"),
        ([1, 2], 0, float("nan"), "must be above 0 and below 1, was nan"),
    ],
)
def test_cut_validation_that_leaves_nothing_is_refused(days, label_days, share, told):
    with pytest.raises(ValueError, match=f"`validation_share` {told}"):
        cut_validation(times_of(days, label_days), share=share)
