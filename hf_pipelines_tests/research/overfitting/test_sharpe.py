"""Sharpe ratios beside luck: the papers' worked examples to the digits printed, and noise that was tried often."""

import math

import numpy as np
import pytest
from scipy import stats

from hf_pipelines.research.overfitting import (
    deflated_sharpe_ratio,
    estimate_sharpe,
    expected_maximum_sharpe,
    minimum_track_record_length,
    probabilistic_sharpe_ratio,
    variance_of_trials,
)

# Sharpe ratio of 2.5 a year over 1,250 days of 250 a year; the variance of the trials' annual ratios is 1/2 (2014, section
# "A numerical example").
CHOSEN = {"sharpe": 2.5 / math.sqrt(250), "n": 1250}
TRIALS_VARIANCE = 0.5 / 250


@pytest.mark.parametrize(
    ("n_trials", "skew", "kurtosis", "printed"),
    [(100, -3, 10, 0.9004), (46, -3, 10, 0.9505), (88, 0, 3, 0.9505)],
    ids=["100 trials", "46 trials", "88 trials of normal returns"],
)
def test_deflated_sharpe_ratio_of_the_paper_of_2014(n_trials, skew, kurtosis, printed):
    found = deflated_sharpe_ratio(
        **CHOSEN, skew=skew, kurtosis=kurtosis, trials_variance=TRIALS_VARIANCE, n_trials=n_trials
    )
    assert round(found, 4) == printed


def test_expected_maximum_of_the_paper_of_2014():
    assert round(expected_maximum_sharpe(TRIALS_VARIANCE, 100), 4) == 0.1132


@pytest.mark.parametrize(
    ("skew", "kurtosis", "printed"), [(0, 3, 0.982), (-2.448, 10.164, 0.913)], ids=["taken as normal", "as they are"]
)
def test_probabilistic_sharpe_ratio_of_the_paper_of_2012(skew, kurtosis, printed):
    # A hedge fund with 24 monthly returns.
    assert round(probabilistic_sharpe_ratio(0.458, 24, skew, kurtosis), 3) == printed


@pytest.mark.parametrize(
    ("periods", "skew", "kurtosis", "printed"),
    [(250, 0, 3, 2.73), (52, 0, 3, 2.83), (12, 0, 3, 3.24), (12, -0.72, 5.78, 4.99)],
    ids=["daily", "weekly", "monthly", "monthly hedge funds"],
)
def test_minimum_track_record_of_the_paper_of_2012(periods, skew, kurtosis, printed):
    # Years until a ratio of 2 a year is known to be above 1.
    scale = math.sqrt(periods)
    found = minimum_track_record_length(2 / scale, skew, kurtosis, benchmark=1 / scale)
    assert round(found / periods, 2) == printed


def test_track_record_of_minimum_length_has_the_confidence():
    length = minimum_track_record_length(0.1, -0.5, 4.0, benchmark=0.02, confidence=0.9)
    assert probabilistic_sharpe_ratio(0.1, length, -0.5, 4.0, benchmark=0.02) == pytest.approx(0.9)
    assert minimum_track_record_length(0.1, 0, 3, benchmark=0.1) == math.inf
    assert math.isnan(minimum_track_record_length(math.nan, 0, 3))


@pytest.mark.parametrize("n_trials", [10, 100, 1000])
def test_expected_maximum_is_that_of_drawn_normal_values(n_trials):
    drawn = np.random.default_rng(n_trials).normal(0.0, 0.3, size=(2_000, n_trials)).max(axis=1).mean()
    assert expected_maximum_sharpe(0.09, n_trials) == pytest.approx(drawn, rel=0.04)


def test_expected_maximum_of_one_trial_is_nothing():
    found = expected_maximum_sharpe(1.0, np.array([1.0, 1.05, 2.0]))
    assert found[0] == found[1] == 0.0 and found[2] > 0.5


def test_estimate_agrees_with_scipy():
    returns = np.random.default_rng(3).standard_t(4, size=400) / 100 + 0.001
    found = estimate_sharpe(returns)
    assert found.sharpe == pytest.approx(returns.mean() / returns.std(ddof=1))
    assert (found.n, found.skew, found.kurtosis) == (
        400,
        pytest.approx(stats.skew(returns)),
        pytest.approx(stats.kurtosis(returns, fisher=False)),
    )


@pytest.mark.parametrize("returns", [[], [0.01], [0.01, 0.01, 0.01]], ids=["none", "one", "constant"])
def test_estimate_without_risk_is_undefined_and_stays_so(returns):
    found = estimate_sharpe(returns)
    assert math.isnan(found.sharpe)
    assert math.isnan(probabilistic_sharpe_ratio(found.sharpe, 10, found.skew, found.kurtosis))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: estimate_sharpe([0.1, math.nan]), "`returns` must be one finite fraction"),
        (lambda: probabilistic_sharpe_ratio(0.1, 1, 0, 3), "`n` must be at least 2 returns, was 1"),
        (lambda: probabilistic_sharpe_ratio(0.1, 100, 0, 0.2), "give it, not its excess"),
        (lambda: minimum_track_record_length(0.1, 0, 3, confidence=0.5), "`confidence` must be above 0.5"),
        (lambda: expected_maximum_sharpe(-0.1, 10), "`trials_variance` must be finite and at least 0"),
        (lambda: expected_maximum_sharpe(0.1, 0), "`n_trials` must be at least 1, was 0.0"),
        (lambda: variance_of_trials([0.1], n=1), "`n` must be at least 2 returns, was 1"),
    ],
    ids=["NaN", "one return", "excess kurtosis", "confidence", "variance", "no trials", "variance of one return"],
)
def test_senseless_arguments_are_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_variance_of_trials_is_no_less_than_chance():
    assert variance_of_trials([0.0, 0.2, math.nan], n=500) == pytest.approx(0.02)
    assert variance_of_trials([0.1, 0.1, 0.1], n=501) == pytest.approx(1 / 500)
    assert variance_of_trials([], n=501) == pytest.approx(1 / 500)


def test_noise_that_was_tried_often_is_not_believed():
    # 1,000 strategies without skill over two years, all counted before any is judged.
    n, n_trials = 500, 1_000
    returns = np.random.default_rng(20).standard_t(5, size=(n_trials, n)) / 100
    found = [estimate_sharpe(each) for each in returns]
    moments = {name: np.array([getattr(each, name) for each in found]) for name in ("sharpe", "n", "skew", "kurtosis")}
    variance = variance_of_trials(moments["sharpe"], n=n)
    alone = float((probabilistic_sharpe_ratio(**moments) > 0.95).mean())
    believed = int((deflated_sharpe_ratio(**moments, trials_variance=variance, n_trials=n_trials) > 0.95).sum())
    print(f"of {n_trials} noise strategies {alone:.1%} pass judged alone, {believed} judged by the number of trials")
    assert believed <= 1
    assert 0.03 < alone < 0.07
    # The best one looks good, as the best of so many does.
    assert moments["sharpe"].max() * math.sqrt(250) > 1.8
