"""Temporal features: agreement with pandas' calendar, and month ends by hand."""

from datetime import date

import numpy as np
import pandas as pd

from hf_pipelines.research.features import compute_features, group_names
from hf_pipelines_tests.sample_bars import bars_of, random_bars, weekdays


def test_temporal_agrees_with_pandas_over_leap_years_and_before_1970():
    days = weekdays(1300, start=date(2019, 12, 30)) + weekdays(5, start=date(2030, 12, 30))
    days = weekdays(300, start=date(1968, 1, 1)) + days
    bars = bars_of("A", [1.0] * len(days), days=days)
    features = compute_features(bars, ["day_of_week", "month", "quarter", "day_of_year"])
    expected = pd.DatetimeIndex(pd.to_datetime(days))
    for name in ("day_of_week", "month", "quarter", "day_of_year"):
        np.testing.assert_array_equal(features[name], getattr(expected, name), err_msg=name)


def test_is_month_end_follows_the_calendar_over_a_holiday_by_hand():
    # Good Friday, 29 March 2024: the month's last session is Thursday the 28th.
    days = [date(2024, 3, 27), date(2024, 3, 28), date(2024, 4, 1)]
    features = compute_features(
        bars_of("A", [1.0] * 3, days=days), ["is_month_end"], sessions=[*days, date(2024, 4, 2)]
    )
    assert features["is_month_end"].to_list() == [0.0, 1.0, 0.0]


def test_is_month_end_counts_december_against_january():
    days = [date(2024, 12, 31)]
    features = compute_features(bars_of("A", [1.0], days=days), ["is_month_end"], sessions=[*days, date(2025, 1, 2)])
    assert features["is_month_end"].to_list() == [1.0]


def test_temporal_is_known_from_the_first_bar():
    names = group_names("temporal")
    features = compute_features(random_bars(sessions=3), names, sessions=weekdays(4))
    assert not any(features[name].is_nan().any() for name in names)
