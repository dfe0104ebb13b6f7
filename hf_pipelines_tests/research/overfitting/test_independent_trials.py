"""Independent trials: planted clusters are found again, noise stays apart, copies are one."""

import numpy as np
import pytest
from numpy.typing import NDArray

from hf_pipelines.research.overfitting import count_independent_trials, independent_trials
from hf_pipelines.research.overfitting.independent_trials import correlations


def planted(n_clusters: int, n_each: int, *, share: float, market: float = 0.0, seed: int = 0) -> NDArray[np.float64]:
    """Series of clusters, within which `share` of the variance is common, on top of a factor of all of them."""
    rng = np.random.default_rng([seed, n_clusters])
    factors = np.repeat(rng.normal(size=(500, n_clusters)), n_each, axis=1)
    own = rng.normal(size=factors.shape)
    return np.sqrt(share) * factors + np.sqrt(1.0 - share) * own + market * rng.normal(size=(500, 1))


@pytest.mark.parametrize("market", [0.0, 0.65], ids=["alone", "beside a factor of all"])
@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize(("n_clusters", "n_each"), [(5, 20), (20, 8), (100, 4)])
def test_planted_clusters_are_recovered(n_clusters, n_each, share, market):
    found = count_independent_trials(planted(n_clusters, n_each, share=share, market=market))
    assert abs(found - n_clusters) <= 0.2 * n_clusters


@pytest.mark.parametrize("market", [0.0, 0.6], ids=["alone", "beside a factor of all"])
def test_noise_is_as_many_trials_as_series(market):
    assert count_independent_trials(planted(150, 1, share=0.0, market=market)) >= 135


def test_clusters_beside_single_bets_are_counted_together():
    rng = np.random.default_rng(0)
    found = count_independent_trials(np.hstack([planted(5, 20, share=0.7), rng.normal(size=(500, 50))]))
    assert abs(found - 55) <= 11


def test_copies_are_one_trial():
    one = np.random.default_rng(1).normal(size=(300, 1))
    assert count_independent_trials(np.repeat(one, 12, axis=1)) == 1
    nearly = one + 0.1 * np.random.default_rng(2).normal(size=(300, 12))
    assert count_independent_trials(nearly) == count_independent_trials(nearly[:, :2]) == 1


@pytest.mark.parametrize(("n", "expected"), [(0, 0), (1, 1)])
def test_no_trial_and_one_trial(n, expected):
    assert count_independent_trials(np.zeros((50, n))) == expected


def test_what_cannot_be_compared_counts_as_one_each(monkeypatch):
    values = planted(3, 10, share=0.9)
    # Half of them end where the other half begins: no pair across has a correlation.
    values[250:, ::2] = np.nan
    values[:250, 1::2] = np.nan
    assert count_independent_trials(values) == 6
    monkeypatch.setattr(independent_trials, "MOST_SERIES", 20)
    assert count_independent_trials(planted(2, 15, share=0.9)) == 2 + 10


def test_correlations_are_those_of_common_periods():
    values = planted(2, 3, share=0.5) + 1e3
    values[:100, 0] = np.nan
    values[450:, 1] = np.nan
    values[:, 5] = 7.0
    found = correlations(values)
    both = np.isfinite(values[:, 0]) & np.isfinite(values[:, 1])
    assert found[0, 1] == pytest.approx(np.corrcoef(values[both, 0], values[both, 1])[0, 1])
    assert found[2, 3] == pytest.approx(np.corrcoef(values[:, 2], values[:, 3])[0, 1])
    assert (found[5, :5] == 0.0).all()


def test_infinite_returns_are_refused():
    with pytest.raises(ValueError, match="`returns` must be finite or NaN"):
        count_independent_trials(np.full((10, 3), np.inf))
