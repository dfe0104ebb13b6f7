"""Diebold-Mariano: by hand, against statsmodels, its size on noise of every kind, and what it finds."""

import math

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from hf_pipelines.research.significance import COSINE, TRUNCATED, diebold_mariano


def autoregressive(rng: np.random.Generator, *, n: int, persistence: float, n_series: int) -> np.ndarray:
    """Noise of which each session keeps a share of the one before."""
    from scipy.signal import lfilter

    return lfilter([1.0], [1.0, -persistence], rng.normal(size=(n + 200, n_series)), axis=0)[200:]


def overlapping(rng: np.random.Generator, *, n: int, horizon: int, n_series: int) -> np.ndarray:
    """Sums of neighbours, as of labels that overlap."""
    total = np.cumsum(rng.normal(size=(n + horizon, n_series)), axis=0)
    return total[horizon:] - total[:-horizon]


def share_found(series: np.ndarray, **options) -> float:
    return float(np.mean([diebold_mariano(each, **options).p < 0.05 for each in series.T]))


def test_truncated_by_hand():
    # Mean 2, deviations -1 0 1 0: variance 2 / 4, of the mean 1 / 8; corrected by (4 + 1 - 2) / 4 it is 1 / 6.
    found = diebold_mariano([1.0, 2.0, 3.0, 2.0], variance=TRUNCATED)
    assert found.mean == 2.0 and found.degrees == 3.0
    assert found.error == pytest.approx(math.sqrt(1.0 / 6.0))
    assert found.statistic == pytest.approx(2.0 * math.sqrt(6.0))
    assert found.p == pytest.approx(2.0 * stats.t.sf(2.0 * math.sqrt(6.0), 3))


def test_truncated_with_a_horizon_by_hand():
    # Deviations 1 1 0 -1 -1 0 (mean 0 added to 1): covariance 4 / 6 at lag 0, 2 / 6 at 1; variance 4 / 3, of the mean 2 / 9;
    # corrected by (6 + 1 - 4 + 2 / 6) / 6 = 5 / 9 it is 2 / 5.
    found = diebold_mariano([2.0, 2.0, 1.0, 0.0, 0.0, 1.0], horizon=2, variance=TRUNCATED)
    assert found.error == pytest.approx(math.sqrt(0.4)) and found.degrees == 5.0


def test_truncated_of_alternating_differences_takes_bartletts_weights():
    # Covariances 1 and -7 / 8 add up to a negative variance; half of the second leaves 1 - 7 / 8 = 1 / 8.
    found = diebold_mariano([2.0, 0.0] * 4, horizon=2, variance=TRUNCATED)
    corrected = (8.0 + 1.0 - 4.0 + 2.0 / 8.0) / 8.0
    assert found.error == pytest.approx(math.sqrt(0.125 / 8.0 / corrected))


def test_truncated_of_one_session_is_students_t_test():
    values = np.random.default_rng(0).normal(0.1, 1.0, 40)
    found = diebold_mariano(values, variance=TRUNCATED)
    theirs = stats.ttest_1samp(values, 0.0)
    assert found.statistic == pytest.approx(theirs.statistic) and found.p == pytest.approx(theirs.pvalue)
    theirs_interval = theirs.confidence_interval(0.95)
    assert found.interval() == pytest.approx((theirs_interval.low, theirs_interval.high))


def test_bartletts_error_is_that_of_statsmodels():
    values = np.array([2.0, 0.0] * 10)
    theirs = sm.OLS(values, np.ones(20)).fit(cov_type="HAC", cov_kwds={"maxlags": 1}).bse[0]
    corrected = (20.0 + 1.0 - 4.0 + 2.0 / 20.0) / 20.0
    assert diebold_mariano(values, horizon=2, variance=TRUNCATED).error == pytest.approx(theirs / math.sqrt(corrected))


def test_cosine_by_hand():
    # Of four values the cosines leave three: a whole basis, which holds the sum of squares, 10 of -2 1 0 1 about 1.
    found = diebold_mariano([-1.0, 2.0, 1.0, 2.0])
    assert found.degrees == 3.0 and found.mean == 1.0
    assert found.error == pytest.approx(math.sqrt(6.0 / 3.0 / 4.0))


def test_cosine_of_long_labels_takes_fewer():
    values = np.random.default_rng(0).normal(size=500)
    degrees = [diebold_mariano(values, horizon=horizon).degrees for horizon in (1, 10, 20, 100)]
    # 0.4 * 500 ** (2 / 3) = 25.2, 500 / 20, 500 / 40, and never below 4.
    assert degrees == [25.0, 25.0, 12.0, 4.0]


@pytest.mark.parametrize(
    ("series", "n", "horizon"),
    [
        ({"persistence": 0.0}, 60, 1),
        ({"persistence": 0.5}, 500, 1),
        ({"horizon": 5}, 250, 5),
        ({"horizon": 20}, 500, 20),
    ],
    ids=["noise_of_60", "persistent", "labels_of_5", "labels_of_20"],
)
def test_size_is_nominal_where_neighbours_are_alike(series, n, horizon):
    rng = np.random.default_rng(7)
    make = autoregressive if "persistence" in series else overlapping
    found = share_found(make(rng, n=n, n_series=400, **series), horizon=horizon)
    # The error of 5 % of 400 is 1.1 %.
    assert 0.02 <= found <= 0.085


def test_size_of_the_naive_test_is_many_times_its_nominal():
    rng = np.random.default_rng(7)
    labels, persistent = (
        overlapping(rng, n=250, horizon=5, n_series=300),
        autoregressive(rng, n=500, persistence=0.5, n_series=300),
    )
    naive = {"horizon": 1, "variance": TRUNCATED}
    assert share_found(labels, **naive) > 0.3 and share_found(persistent, **naive) > 0.15
    # The textbook's test knows of the labels, not of what persists beyond them.
    assert share_found(labels, horizon=5, variance=TRUNCATED) < 0.1


def test_p_of_equally_good_predictors_is_uniform():
    series = autoregressive(np.random.default_rng(3), n=300, persistence=0.3, n_series=500)
    p = [diebold_mariano(each).p for each in series.T]
    assert stats.kstest(p, "uniform").pvalue > 0.01


@pytest.mark.parametrize("variance", [COSINE, TRUNCATED])
def test_power_a_planted_difference_is_found(variance):
    # Three errors of the mean away: Student's t finds 85 %.
    series = np.random.default_rng(5).normal(3.0 / math.sqrt(500.0), 1.0, (500, 300))
    assert 0.78 <= share_found(series, variance=variance) <= 0.92


@pytest.mark.parametrize("variance", [COSINE, TRUNCATED])
def test_sign_and_unit_change_nothing_but_themselves(variance):
    values = np.random.default_rng(1).normal(0.2, 1.0, 100)
    one, other = (diebold_mariano(sign * values, horizon=3, variance=variance) for sign in (1.0, -1000.0))
    assert other.p == pytest.approx(one.p) and other.statistic == pytest.approx(-one.statistic)


@pytest.mark.parametrize("variance", [COSINE, TRUNCATED])
def test_no_difference_at_all_is_no_finding(variance):
    found = diebold_mariano(np.zeros(60), variance=variance)
    assert (found.p, found.statistic, found.interval()) == (1.0, 0.0, (0.0, 0.0))


def test_difference_that_never_varies_is_not_tested():
    found = diebold_mariano(np.full(60, 0.1))
    assert math.isnan(found.p) and math.isnan(found.statistic) and math.isnan(found.interval()[0])
    assert found.mean == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (([1.0, math.nan, 2.0],), r"`difference` must be finite, was not in 1 sessions, the first at \[1\]; leave"),
        (([1.0],), r"`difference` must be of shape \(n_sessions,\) with two sessions at least, was of shape \(1,\)"),
        (([[1.0], [2.0]],), r"was of shape \(2, 1\)"),
        (([1.0, 2.0, 3.0], 2), "`difference` must span two horizons of 2 sessions at least, was of 3; test more"),
        (([1.0, 2.0, 3.0], 0), "`horizon` must be at least 1, was 0"),
        (([1.0, 2.0, 3.0], 1, "hac"), "`variance` must be 'cosine' or 'truncated', was 'hac'"),
    ],
    ids=["nan", "one_session", "table", "short", "horizon", "variance"],
)
def test_what_cannot_be_tested_is_refused(given, message):
    difference, *rest = given
    options = dict(zip(("horizon", "variance"), rest, strict=False))
    with pytest.raises(ValueError, match=message):
        diebold_mariano(difference, **options)
