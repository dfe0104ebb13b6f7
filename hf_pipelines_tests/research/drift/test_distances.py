"""Bins and distances: by hand, and as scipy has them."""

from datetime import date

import numpy as np
import polars as pl
import pytest
from scipy import stats

from hf_pipelines.research.drift import changed_since, distances, reference_bins, session_histograms
from hf_pipelines.research.drift.histograms import N_BINS
from hf_pipelines_tests.drift_series import drawn_columns

DAYS = [date(2020, 1, 1), date(2020, 1, 2), date(2020, 1, 3)]


def _counts(values, reference) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    frames = [pl.DataFrame({"session": [DAYS[0]] * len(each), "x": each}) for each in (values, reference)]
    bins = reference_bins(frames[1], ["x"])
    window, whole = (session_histograms(frame, bins).counts.sum(axis=0) for frame in frames)
    return window, whole, bins.centres


def test_few_values_have_a_bin_each_and_so_does_what_was_never_there():
    frame = pl.DataFrame(
        {"session": [DAYS[0]] * 4 + [DAYS[2]] * 4, "x": [-1.0, 0.0, 0.0, None, 1.0, 0.5, float("nan"), float("inf")]}
    )
    bins = reference_bins(pl.DataFrame({"x": [-1.0, 0.0, 1.0, 0.0]}), ["x"])
    found = session_histograms(frame, bins, sessions=DAYS)
    # Below -1, -1, between, 0, between, 1, above 1.
    assert found.counts[:, 0, :7].tolist() == [[0, 1, 0, 2, 0, 0, 0], [0] * 7, [0, 0, 0, 0, 1, 1, 0]]
    assert found.counts[:, 0, N_BINS].tolist() == [1, 0, 2]
    assert found.last(1).sessions == (DAYS[2],)
    assert found.between(DAYS[1], DAYS[1]).counts.sum() == 0


def test_stability_index_is_that_of_the_book_but_for_one_row():
    # Shares 0.5 and 0.5 against 0.8 and 0.2: 0.3 * ln(1.6) + 0.3 * ln(2.5) = 0.4159; one row of 65 % more makes little of a thousand.
    window, whole, centres = _counts([0.0] * 500 + [1.0] * 500, [0.0] * 800 + [1.0] * 200)
    assert distances(window, whole, centres).stability[0] == pytest.approx(0.4159, abs=0.002)
    # By hand with the row: pooled 0.65 and 0.35, window 500.65 and 500.35 of 1001, reference 800.65 and 200.35.
    here, there = np.array([500.65, 500.35]) / 1001, np.array([800.65, 200.35]) / 1001
    assert distances(window, whole, centres).stability[0] == pytest.approx(
        ((here - there) * np.log(here / there)).sum(), abs=1e-14
    )


def test_gap_and_transport_of_few_values_are_those_of_scipy():
    rng = np.random.default_rng(1)
    window, reference = rng.integers(0, 6, 80).astype(float), rng.integers(1, 8, 300).astype(float)
    found = distances(*_counts(window, reference))
    assert found.largest_gap[0] == pytest.approx(stats.ks_2samp(window, reference).statistic, abs=1e-12)
    # Mass below the least value of the reference lies at it: here none does but the zeros.
    clipped = np.maximum(window, 1.0)
    expected = stats.wasserstein_distance(clipped, reference) / reference.std()
    assert found.transport[0] == pytest.approx(expected, abs=1e-12)


def test_gap_and_transport_of_many_values_are_near_those_of_scipy():
    rng = np.random.default_rng(2)
    window, reference = rng.normal(0.4, 1.0, 4_000), rng.normal(0.0, 1.0, 40_000)
    found = distances(*_counts(window, reference))
    assert found.largest_gap[0] == pytest.approx(stats.ks_2samp(window, reference).statistic, abs=0.02)
    assert found.transport[0] == pytest.approx(stats.wasserstein_distance(window, reference), rel=0.15)


def test_distances_without_rows_or_values_are_undefined_and_equal_ones_are_zero():
    window, whole, centres = _counts([0.0, 1.0], [0.0, 1.0])
    same = distances(window, whole, centres)
    assert (same.stability[0], same.largest_gap[0], same.transport[0]) == pytest.approx((0.0, 0.0, 0.0), abs=1e-15)
    none = distances(np.zeros_like(window), whole, centres)
    assert np.isnan([none.stability[0], none.largest_gap[0], none.transport[0]]).all()
    missing = distances(*_counts([None, None], [0.0, 1.0]))
    assert missing.stability[0] > 0.5
    assert np.isnan([missing.largest_gap[0], missing.transport[0]]).all()


def test_columns_of_text_and_rows_of_other_sessions_are_refused():
    with pytest.raises(ValueError, match="`x` must be a column of numbers, was of String"):
        reference_bins(pl.DataFrame({"x": ["a"]}), ["x"])
    with pytest.raises(ValueError, match="must have the column y"):
        reference_bins(pl.DataFrame({"x": [1.0]}), ["y"])
    bins = reference_bins(pl.DataFrame({"x": [1.0]}), ["x"])
    with pytest.raises(ValueError, match="column session"):
        session_histograms(pl.DataFrame({"x": [1.0]}), bins)
    with pytest.raises(ValueError, match="rows of 2020-01-02"):
        session_histograms(pl.DataFrame({"session": [DAYS[1]], "x": [1.0]}), bins, sessions=DAYS[:1])


@pytest.mark.parametrize("change", ["level", "spread", "dead"])
def test_change_is_dated_within_a_few_sessions(change):
    found = []
    for seed in range(20):
        frame = drawn_columns(np.random.default_rng(seed), ["iid", "AR 0.5"], 600, n_symbols=5)
        sessions = frame["session"].unique().sort()
        at = sessions[560]
        values = {"level": pl.col("x0") + 1.5, "spread": pl.col("x0") * 3.0, "dead": pl.lit(None, pl.Float64)}[change]
        frame = frame.with_columns(x0=pl.when(pl.col("session") >= at).then(values).otherwise("x0"))
        training = frame.filter(pl.col("session") < sessions[500])
        bins = reference_bins(training, ["x0", "x1"])
        later = session_histograms(frame.filter(pl.col("session") >= sessions[500]), bins)
        since = changed_since(session_histograms(training, bins), later, "x0")
        found.append((since - at).days)
    assert np.median(np.abs(found)) <= 1
    assert sum(abs(each) <= 5 for each in found) >= 16


def test_change_is_sought_in_sessions_enough_and_in_columns_that_are_there():
    frame = drawn_columns(np.random.default_rng(1), ["iid"], 40)
    bins = reference_bins(frame, ["x0"])
    whole = session_histograms(frame, bins)
    assert changed_since(whole, whole.last(4), "x0") is None
    assert changed_since(whole, whole.last(5), "x0") == whole.sessions[-5]
    with pytest.raises(ValueError, match="`column` must be one of"):
        changed_since(whole, whole, "y")
