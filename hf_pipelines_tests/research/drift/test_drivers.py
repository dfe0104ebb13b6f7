"""Drivers: shares of a shift, and since when."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.drift import judge_drift, reference_bins, session_histograms
from hf_pipelines.research.drift.drivers import add_drivers
from hf_pipelines_tests.drift_series import FIRST, REFERENCE, drawn_columns


@pytest.fixture(scope="module")
def drivers() -> pl.DataFrame:
    frame = drawn_columns(np.random.default_rng(3), ["iid"] * 4, REFERENCE + 63)
    begins = FIRST + timedelta(days=REFERENCE + 13)
    moved = pl.when(pl.col("session") >= begins).then(3.0).otherwise(0.0)
    frame = frame.with_columns(x0=pl.col("x0") + moved, x1=pl.col("x1") + moved)
    is_newest = pl.col("session") >= FIRST + timedelta(days=REFERENCE)
    bins = reference_bins(frame.filter(~is_newest), ["x0", "x1", "x2", "x3"])
    reference, newest = (session_histograms(frame.filter(each), bins) for each in (~is_newest, is_newest))
    return add_drivers(judge_drift(reference, newest).columns, reference, newest, {"x0": 0.75, "x1": 0.25})


def test_shares_are_weighted_by_importance_and_add_up_to_one(drivers):
    share, shift = drivers["share"].to_list(), drivers["shift"].to_list()
    assert sum(share) == pytest.approx(1.0)
    assert share[0] / share[1] == pytest.approx(3.0 * (shift[0] - 1.0) / (shift[1] - 1.0))
    assert share[2] == share[3] == 0.0 and drivers["importance"].to_list() == [0.75, 0.25, None, None]


def test_change_is_dated_of_what_drifted_alone(drivers):
    assert drivers["since"].to_list() == [FIRST + timedelta(days=REFERENCE + 13)] * 2 + [None] * 2
