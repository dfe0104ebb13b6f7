"""Deflation: a chosen trial beside copies of itself, beside others, and beside trials of which nothing is known."""

import numpy as np
import pytest

from hf_pipelines.research.overfitting import deflate, deflated_sharpe_ratio, estimate_sharpe, variance_of_trials

RNG = np.random.default_rng(4)
CHOSEN = RNG.normal(0.001, 0.01, 500)
OTHERS = RNG.normal(0.0, 0.01, (500, 30))


def judged(returns, n_trials):
    found = [estimate_sharpe(each).sharpe for each in returns.T]
    return deflate(estimate_sharpe(CHOSEN), sharpes=found, returns=returns, n_trials=n_trials)


def test_copies_of_a_trial_deflate_nothing():
    found = judged(np.repeat(CHOSEN[:, None], 8, axis=1), 8)
    assert (found.n_trials, found.n_independent) == (8, 1)
    assert found.expected_maximum == 0.0
    assert found.deflated == found.probabilistic > found.deflated_by_all


def test_others_deflate_by_the_formula_of_the_paper():
    returns = np.hstack([CHOSEN[:, None], OTHERS])
    found = judged(returns, 31)
    estimate, sharpes = estimate_sharpe(CHOSEN), [estimate_sharpe(each).sharpe for each in returns.T]
    expected = deflated_sharpe_ratio(
        estimate.sharpe, 500, estimate.skew, estimate.kurtosis,
        trials_variance=variance_of_trials(sharpes, n=500), n_trials=31,
    )  # fmt: skip
    assert found.n_independent == 31 and found.deflated == pytest.approx(expected)
    assert found.deflated < found.probabilistic


def test_trials_without_returns_count_one_each():
    assert judged(CHOSEN[:, None], 1).n_independent == 1
    assert judged(CHOSEN[:, None], 40).n_independent == 40
    with pytest.raises(ValueError, match="`n_trials` must be at least the 31 trials that are known, was 30"):
        judged(np.hstack([CHOSEN[:, None], OTHERS]), 30)
