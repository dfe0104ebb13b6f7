"""Model confidence set: agreement with arch on the same sessions drawn, how often it holds the best, and degenerate candidates."""

import numpy as np
import pytest
from arch.bootstrap import MCS

from hf_pipelines.research.metrics.bootstrap import Draws
from hf_pipelines.research.significance import model_confidence_set
from hf_pipelines_tests.research.significance.candidates import draws_of_arch, noise, some_draws


@pytest.mark.parametrize("advantages", [(), (0.03,), (0.1, -0.05, 0.1)], ids=["noise", "one_better", "two_best"])
def test_agrees_with_arch_on_the_same_sessions(advantages):
    losses = noise(2, n=200, advantages=advantages)
    theirs = MCS(losses, 0.05, block_size=5, reps=300, seed=3, method="R")
    theirs.compute()
    ours = model_confidence_set(losses, draws_of_arch(theirs._bootstrap_indices, 5))
    expected = theirs.pvalues["Pvalue"].sort_index().to_numpy()
    counted = np.where(expected == 1.0, 1.0, (expected * 300 + 1) / 301)
    np.testing.assert_allclose(ours.p, counted, atol=1e-12)
    assert list(ours.removed) == theirs.pvalues.index.tolist()
    assert ours.members() == theirs.included


def test_by_hand():
    draws = Draws(np.array([[0, 1, 2, 3], [0, 0, 1, 2], [1, 2, 3, 3]], dtype=np.int32), 1)
    losses = np.array([[4.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    # The means differ by 1; of the resamples about it by 0 1 -1, of which two are as far from 0.
    found = model_confidence_set(losses, draws)
    assert found.removed == (0, 1) and found.p.tolist() == [(1 + 2) / 4, 1.0]


def test_holds_all_that_are_equally_good_as_often_as_it_says():
    draws = some_draws(250, block=2, n_resamples=300)
    lost = [len(model_confidence_set(noise(seed), draws).members()) < 5 for seed in range(150)]
    # The error of 5 % of 150 is 1.8 %.
    assert np.mean(lost) <= 0.11


def test_power_the_worse_ones_are_removed_and_the_best_two_stay():
    losses = noise(3, n_candidates=6, advantages=(0.0, 0.15, 0.0, 0.15))
    found = model_confidence_set(losses, some_draws(250))
    assert found.members() == [1, 3] and set(found.removed[:4]) == {0, 2, 4, 5}
    assert (np.diff(found.p[list(found.removed)]) >= 0.0).all()


def test_one_candidate_is_the_set():
    found = model_confidence_set(noise(0, n_candidates=1), some_draws(250))
    assert found.members() == [0] and found.p.tolist() == [1.0] and found.removed == (0,)


def test_duplicates_stay_or_go_together():
    losses = noise(3, n_candidates=4, advantages=(0.0, 0.15))
    found = model_confidence_set(losses[:, [0, 1, 1, 0]], some_draws(250))
    assert found.members() == [1, 2] and found.p[1] == found.p[2] == 1.0


def test_candidates_that_lose_the_same_in_every_session():
    losses = np.full((250, 3), [1.0, 0.5, 0.5])
    found = model_confidence_set(losses, some_draws(250))
    assert found.members() == [1, 2] and found.p[0] == pytest.approx(1 / 501)


def test_unit_and_what_all_lose_change_nothing():
    losses, draws = noise(4, advantages=(0.05,)), some_draws(250)
    moved = 1e3 * (losses + np.random.default_rng(1).normal(size=(250, 1)))
    np.testing.assert_allclose(model_confidence_set(moved, draws).p, model_confidence_set(losses, draws).p)


def test_what_cannot_be_tested_is_refused():
    losses = noise(0)
    losses[5, 1] = np.inf
    with pytest.raises(ValueError, match=r"`losses` must be finite, was not in 1 sessions, the first at \[5\]"):
        model_confidence_set(losses, some_draws(250))
    with pytest.raises(ValueError, match="`draws` must be of the 200 sessions of the losses, was of 250"):
        model_confidence_set(noise(0, n=200), some_draws(250))
