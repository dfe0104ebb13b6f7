"""What a suspension makes unknown, and for how long."""

import math
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from hf_pipelines.components.market_stages.feature_inputs import SESSIONS_PER_WEEK
from hf_pipelines.partitions import week_start
from hf_pipelines.research.features import FEATURES, compute_features
from hf_pipelines_tests.sample_bars import random_bars

DAYS_HALTED = 95


@pytest.mark.parametrize(
    ("name", "n_unknown"),
    [
        # 21 and 20 bars, out of six weeks: nothing of before the suspension is read.
        ("roc_20", 20),
        ("volume_ratio_20", 19),
        # 61 bars out of 15 weeks, which hold the last days before it for two weeks.
        ("volatility_60", None),
    ],
)
def test_after_a_suspension_a_value_is_unknown_for_its_window_and_no_longer(name, n_unknown):
    lookback = FEATURES[name].lookback_bars
    weeks = math.ceil(lookback / SESSIONS_PER_WEEK) + 1
    bars = random_bars(symbols=1, sessions=420, seed=3).filter(pl.col("role") == "member")
    halted = bars["session"].to_list()[200]
    resumed = halted + timedelta(days=DAYS_HALTED)
    left = bars.filter(~pl.col("session").is_between(halted, resumed, closed="left"))
    # As a market of daily bars reads its weeks.
    earliest = {day: week_start(day) - timedelta(weeks=weeks) for day in left["session"].to_list()}
    values = compute_features(left, [name], earliest=earliest)
    before = values.filter(pl.col("session") < halted)[name].to_numpy()
    after = values.filter(pl.col("session") >= resumed)[name].to_numpy()
    assert np.isfinite(before[lookback:]).all()
    unknown = np.flatnonzero(np.isnan(after))
    assert unknown.max() < lookback - 1
    assert n_unknown is None or unknown.tolist() == list(range(n_unknown))
