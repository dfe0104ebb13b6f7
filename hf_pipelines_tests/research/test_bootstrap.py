"""Block bootstrap over sessions: agreement with `arch`, coverage on noise whose labels overlap, the same draws for a seed."""

import math

import numpy as np
import pytest
from arch.bootstrap import CircularBlockBootstrap, StationaryBootstrap, optimal_block_length

from hf_pipelines.research.metrics.bootstrap import (
    MIN_BLOCKS,
    Draws,
    default_block,
    draw_sessions,
    draw_stationary,
    interval,
    politis_white_block,
    probability_above_zero,
)


def some_draws(n_sessions: int, block: int, *, seed: int = 0, n_resamples: int = 1000) -> Draws:
    draws = draw_sessions(n_sessions, block_sessions=block, seed=seed, n_resamples=n_resamples)
    assert draws is not None
    return draws


def overlapping(rng: np.random.Generator, *, n: int, horizon: int) -> np.ndarray:
    """Sums of `horizon` neighbours of noise: scores of sessions whose labels overlap."""
    return np.convolve(rng.normal(size=n + horizon - 1), np.ones(horizon), "valid")


def test_draw_sessions_are_blocks_of_neighbours_around_the_end():
    draws = some_draws(26, 3, n_resamples=200)
    assert draws.order.shape == (200, 26)
    # 9 blocks, the last of two sessions.
    inside = np.diff(draws.order, axis=1)[:, [at for at in range(25) if at % 3 != 2]]
    assert set(np.unique(inside)) == {1, -25}
    assert set(np.unique(draws.order)) == set(range(26))
    assert (draws.counts.sum(axis=1) == 26).all()
    assert draws.counts[7, 5] == (draws.order[7] == 5).sum()


def test_draw_sessions_same_seed_same_draws():
    np.testing.assert_array_equal(some_draws(100, 5).order, some_draws(100, 5).order)
    assert (some_draws(100, 5).order != some_draws(100, 5, seed=1).order).any()


def test_draw_sessions_of_too_few_blocks_gives_none():
    assert draw_sessions(8 * 5 - 1, block_sessions=5, seed=0) is None
    assert draw_sessions(8 * 5, block_sessions=5, seed=0) is not None
    assert draw_sessions(1, block_sessions=1, seed=0) is None and MIN_BLOCKS == 8


@pytest.mark.parametrize("wrong", ["block_sessions", "n_resamples"])
def test_draw_sessions_below_one_raises(wrong):
    with pytest.raises(ValueError, match=f"`{wrong}` must be at least 1, was 0"):
        draw_sessions(10, **{"block_sessions": 2, "n_resamples": 2, "seed": 0, wrong: 0})


def test_default_block_spans_a_label_and_grows_with_the_sessions():
    assert default_block(1, label_sessions=1) == 1
    assert default_block(10, label_sessions=20) == 20
    # (25 * 480 / 6) ** (1 / 3) = 12.6.
    assert default_block(480, label_sessions=5) == 13


@pytest.mark.parametrize("block", [1, 4, 10])
def test_resampled_means_spread_as_arch_says(block):
    values = overlapping(np.random.default_rng(3), n=200, horizon=4)
    draws = some_draws(200, block, n_resamples=4000)
    ours = (draws.counts @ values / 200).std()
    circular = CircularBlockBootstrap(block, values, seed=1).apply(np.mean, 4000).std()
    stationary = StationaryBootstrap(block, values, seed=1).apply(np.mean, 4000).std()
    # A standard deviation of 4,000 draws is known to 1.1 %; of blocks of random length it is a little smaller.
    assert ours == pytest.approx(circular, rel=0.05)
    assert ours == pytest.approx(stationary, rel=0.15)


@pytest.mark.parametrize(("horizon", "n"), [(1, 250), (5, 250), (5, 60)], ids=["no_overlap", "overlap", "few_blocks"])
def test_interval_holds_the_truth_as_often_as_it_says(horizon, n):
    rng = np.random.default_rng(11)
    draws = some_draws(n, default_block(n, label_sessions=horizon), n_resamples=500)
    samples = np.column_stack([overlapping(rng, n=n, horizon=horizon) for _ in range(1000)])
    bounds = [interval(means, draws) for means in (draws.counts @ samples / n).T]
    covered = np.mean([low <= 0.0 <= high for low, high in bounds])
    # The error of a share of 1,000 is 0.8 %.
    assert 0.88 <= covered <= 0.975


def test_interval_of_rows_as_if_independent_would_be_too_narrow():
    # What blocks are for: with 5-session labels, single sessions cover the truth in two of three samples alone.
    rng = np.random.default_rng(11)
    draws = some_draws(250, 1, n_resamples=500)
    bounds = [interval(draws.counts @ overlapping(rng, n=250, horizon=5) / 250, draws) for _ in range(200)]
    assert np.mean([low <= 0.0 <= high for low, high in bounds]) < 0.75


def test_interval_where_many_resamples_are_undefined_is_undefined():
    draws = some_draws(100, 1, n_resamples=100)
    values = np.arange(100.0)
    values[:5] = np.nan
    assert not math.isnan(interval(values, draws)[0])
    values[:6] = np.nan
    assert all(map(math.isnan, interval(values, draws))) and math.isnan(probability_above_zero(values, draws))


def test_probability_above_zero_is_even_for_ties_and_never_certain():
    draws = some_draws(100, 5)
    assert probability_above_zero(np.zeros(1000), draws) == pytest.approx(0.5)
    sure = probability_above_zero(np.ones(1000), draws)
    assert 0.98 < sure < 1.0
    assert probability_above_zero(-np.ones(1000), draws) == pytest.approx(1.0 - sure)


@pytest.mark.parametrize(("horizon", "n"), [(1, 250), (5, 250), (5, 60)], ids=["no_overlap", "overlap", "few_blocks"])
def test_probability_above_zero_of_noise_is_high_as_seldom_as_it_says(horizon, n):
    rng = np.random.default_rng(5)
    draws = some_draws(n, default_block(n, label_sessions=horizon), n_resamples=500)
    samples = np.column_stack([overlapping(rng, n=n, horizon=horizon) for _ in range(1000)])
    sure = np.array([probability_above_zero(means, draws) for means in (draws.counts @ samples / n).T])
    assert 0.02 <= np.mean(sure > 0.95) <= 0.085 and 0.02 <= np.mean(sure < 0.05) <= 0.085
    assert np.mean(sure) == pytest.approx(0.5, abs=0.04)


def test_draw_stationary_blocks_are_as_long_as_asked_on_average_and_go_around_the_end():
    draws = draw_stationary(97, block_sessions=4, seed=0, n_resamples=2000)
    assert draws is not None and draws.order.shape == (2000, 97)
    steps = np.diff(draws.order, axis=1) % 97
    # A new block begins in a quarter of the places, and follows the one before by chance once in 97.
    assert np.mean(steps != 1) == pytest.approx(0.25 * 96 / 97, abs=0.005)
    assert (np.diff(draws.order, axis=1)[steps == 1] == -96).any()
    shares = draws.counts.mean(axis=0)
    assert shares == pytest.approx(np.ones(97), abs=0.15) and (draws.counts.sum(axis=1) == 97).all()


@pytest.mark.parametrize("block", [1, 4, 10])
def test_draw_stationary_means_spread_as_arch_says(block):
    values = overlapping(np.random.default_rng(3), n=200, horizon=4)
    draws = draw_stationary(200, block_sessions=block, seed=0, n_resamples=4000)
    assert draws is not None
    theirs = StationaryBootstrap(block, values, seed=1).apply(np.mean, 4000).std()
    assert (draws.counts @ values / 200).std() == pytest.approx(theirs, rel=0.05)


def test_draw_stationary_same_seed_same_draws_and_too_few_blocks_none():
    one, same, other = (draw_stationary(100, block_sessions=5, seed=seed) for seed in (0, 0, 1))
    assert one is not None and same is not None and other is not None
    np.testing.assert_array_equal(one.order, same.order)
    assert (one.order != other.order).any()
    assert draw_stationary(8 * 5 - 1, block_sessions=5, seed=0) is None
    with pytest.raises(ValueError, match="`block_sessions` must be at least 1, was 0"):
        draw_stationary(10, block_sessions=0, seed=0)


def test_politis_white_block_is_the_median_that_arch_asks_for():
    rng = np.random.default_rng(0)
    series = np.column_stack([rng.normal(size=500), *(overlapping(rng, n=500, horizon=h) for h in (5, 20))])
    theirs = optimal_block_length(series)["stationary"]
    assert theirs[2] > theirs[1] > theirs[0]
    assert politis_white_block(series) == math.ceil(theirs[1])
    assert politis_white_block(1e-9 * series[:, 2]) == math.ceil(theirs[2])
    assert politis_white_block(series[:, 0], label_sessions=30) == 30
    # Not so long that fewer than eight blocks are left.
    assert politis_white_block(series[:60, 2]) == 7 < optimal_block_length(series[:60, 2])["stationary"][0]


def test_politis_white_block_of_constants_and_of_few_sessions_is_that_of_the_labels():
    assert politis_white_block(np.full(100, 0.1), label_sessions=3) == 3
    assert politis_white_block(np.zeros((100, 2))) == 1
    assert politis_white_block([1.0, 2.0, 1.0], label_sessions=2) == 2
    mixed = np.column_stack([np.full(500, 0.1), overlapping(np.random.default_rng(0), n=500, horizon=20)])
    assert politis_white_block(mixed) == politis_white_block(mixed[:, 1])
