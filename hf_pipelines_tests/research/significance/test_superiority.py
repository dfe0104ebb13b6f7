"""Superior ability and reality check: agreement with arch on the same sessions drawn, size, power, and degenerate candidates."""

import numpy as np
import pytest
from arch.bootstrap import SPA, RealityCheck

from hf_pipelines.research.metrics.bootstrap import Draws
from hf_pipelines.research.significance import reality_check, superior_ability
from hf_pipelines_tests.research.significance.candidates import draws_of_arch, noise, some_draws


def arch_spa(benchmark: np.ndarray, losses: np.ndarray, *, block: int = 5) -> tuple[np.ndarray, Draws]:
    """p-values of arch, and the sessions that it drew."""
    theirs = SPA(benchmark, losses, block_size=block, reps=300, seed=3)
    theirs.compute()
    theirs.bootstrap.reset()
    indices = [np.asarray(theirs.bootstrap.index).copy() for _ in theirs.bootstrap.bootstrap(300)]
    return theirs.pvalues.to_numpy(), draws_of_arch(indices, block)


@pytest.mark.parametrize("advantages", [(), (0.03,), (-0.5, -0.02, 0.02)], ids=["noise", "one_better", "some_worse"])
def test_agrees_with_arch_on_the_same_sessions(advantages):
    losses = noise(1, n=200, advantages=(0.0, *advantages))
    theirs, draws = arch_spa(losses[:, 0], losses[:, 1:])
    ours = superior_ability(losses[:, 0], losses[:, 1:], draws, is_studentised=False)
    # We count what was observed as a resample, too.
    expected = (theirs * 300 + 1) / 301
    np.testing.assert_allclose([ours.lower, ours.consistent, ours.upper], expected, atol=1e-12)
    check = RealityCheck(losses[:, 0], losses[:, 1:], block_size=5, reps=300, seed=3)
    check.compute()
    assert reality_check(losses[:, 0], losses[:, 1:], draws) == pytest.approx((check.pvalues["upper"] * 300 + 1) / 301)


def test_by_hand():
    # Of four sessions, each drawn as it is, the first twice, and the last twice.
    draws = Draws(np.array([[0, 1, 2, 3], [0, 0, 1, 2], [1, 2, 3, 3]], dtype=np.int32), 1)
    benchmark, losses = np.full(4, 5.0), np.array([[1.0], [5.0], [5.0], [5.0]])
    # The advantage is 4 0 0 0, its mean 1, of the resamples 1 2 0: about their mean 0 1 -1, which is below 1 twice.
    assert reality_check(benchmark, losses, draws) == (1 + 1) / 4
    found = superior_ability(benchmark, losses, draws)
    assert found.statistic == pytest.approx(1.0 / np.sqrt(2.0 / 3.0)) and found.best == 0
    assert (found.lower, found.consistent, found.upper) == (0.5, 0.5, 0.5)


def test_size_of_the_best_of_twenty_is_nominal_and_of_the_naive_test_is_not():
    draws = some_draws(250, block=2, n_resamples=300)
    p, naive = [], []
    for seed in range(150):
        losses = noise(seed, n_candidates=21)
        p.append(superior_ability(losses[:, 0], losses[:, 1:], draws).consistent)
        each = losses[:, [0]] - losses[:, 1:]
        naive.append((each.mean(axis=0) / each.std(axis=0)).max() * np.sqrt(250) > 1.645)
    # The error of 5 % of 150 is 1.8 %. A test of the best one alone finds something in every second sample of noise.
    assert np.mean(np.array(p) < 0.05) <= 0.11 and np.mean(naive) > 0.3


def test_power_a_planted_candidate_is_found():
    draws = some_draws(250)
    losses = noise(3, n_candidates=21, advantages=(0.0, 0.0, 0.1))
    found = superior_ability(losses[:, 0], losses[:, 1:], draws)
    assert found.best == 1 and found.consistent < 0.01
    assert found.lower <= found.consistent <= found.upper


def test_a_wild_poor_candidate_hides_no_other():
    draws = some_draws(250)
    losses = noise(3, n_candidates=3, advantages=(0.0, 0.1))
    wild = np.random.default_rng(0).normal(11.0, 40.0, (250, 1))
    given = (losses[:, 0], np.hstack([losses[:, 1:], wild]), draws)
    assert superior_ability(*given).consistent < 0.01
    # White's test, and Hansen's as arch has it.
    assert reality_check(*given) > 0.3 and superior_ability(*given, is_studentised=False).upper > 0.3


@pytest.mark.parametrize("copies", [1, 4], ids=["one_candidate", "duplicates"])
def test_the_benchmark_itself_is_not_better_than_itself(copies):
    losses = noise(0)
    given = (losses[:, 0], np.repeat(losses[:, [0]], copies, axis=1), some_draws(250))
    found = superior_ability(*given)
    assert (found.statistic, found.lower, found.consistent, found.upper) == (0.0, 1.0, 1.0, 1.0)
    assert reality_check(*given) == 1.0
    # Up to rounding, as of losses added up in another order.
    near = superior_ability(losses[:, 0], losses[:, [0]] * (1.0 + 1e-15), given[2])
    assert near.consistent == 1.0


def test_duplicates_of_a_candidate_change_nothing():
    losses, draws = noise(4, advantages=(0.0, 0.02)), some_draws(250)
    once = superior_ability(losses[:, 0], losses[:, 1:], draws)
    twice = superior_ability(losses[:, 0], losses[:, [1, 2, 3, 4, 1, 2]], draws)
    assert (twice.best, twice.consistent, twice.upper) == (once.best, once.consistent, once.upper)


def test_candidates_that_lose_the_same_in_every_session():
    benchmark, draws = np.full(250, 1.0), some_draws(250)
    better = superior_ability(benchmark, np.full((250, 2), [2.0, 0.5]), draws)
    assert better.best == 1 and better.consistent == pytest.approx(1 / 501)
    worse = superior_ability(benchmark, np.full((250, 1), 2.0), draws)
    assert worse.statistic == 0.0 and worse.consistent == 1.0


def test_unit_changes_nothing():
    losses, draws = noise(4), some_draws(250)
    one = superior_ability(losses[:, 0], losses[:, 1:], draws)
    other = superior_ability(1e-6 * losses[:, 0], 1e-6 * losses[:, 1:], draws)
    assert other.consistent == one.consistent and other.statistic == pytest.approx(one.statistic)


def test_what_cannot_be_tested_is_refused():
    losses, draws = noise(0), some_draws(250)
    unknown = losses.copy()
    unknown[[3, 7], 2] = np.nan
    with pytest.raises(ValueError, match=r"`losses` must be finite, was not in 2 sessions, the first at \[3, 7\]"):
        superior_ability(losses[:, 0], unknown, draws)
    with pytest.raises(ValueError, match="`losses` must be of the 249 sessions of the benchmark, were of 250"):
        reality_check(losses[1:, 0], losses, draws)
    with pytest.raises(ValueError, match="`draws` must be of the 249 sessions of the losses, was of 250"):
        superior_ability(losses[1:, 0], losses[1:], draws)
    with pytest.raises(ValueError, match=r"`losses` must be of shape \(n_sessions, n_candidates\)"):
        superior_ability(losses[:, 0], losses[:, :0], draws)
