"""Probability of backtest overfitting: by hand, against a loop over every split, on noise, skill and a planted overfit."""

import itertools
import math

import numpy as np
import pytest
from scipy.special import ndtri

from hf_pipelines.research.overfitting import probability_of_backtest_overfitting


def test_two_blocks_by_hand() -> None:
    # First half: A earns 0.02 on average with a deviation of 0.01 * sqrt(2), B loses. Second half: the other way round.
    a, b = [0.01, 0.03, -0.01, -0.02], [-0.01, -0.02, 0.01, 0.03]
    found = probability_of_backtest_overfitting(np.array([a, b]).T, n_blocks=2)
    best, worst = 0.02 / math.sqrt(0.0002), -0.015 / math.sqrt(0.00005)
    assert found.chosen.tolist() == pytest.approx([best, best])
    assert found.tested.tolist() == pytest.approx([worst, worst])
    # The last of two: 1 of 3, whose logit is log(1 / 2).
    assert found.logits.tolist() == pytest.approx([math.log(0.5)] * 2)
    assert (found.probability, found.probability_of_loss) == (1.0, 1.0)
    assert math.isnan(found.degradation)


@pytest.mark.parametrize(("n_periods", "n_trials", "n_blocks"), [(60, 7, 6), (61, 2, 4), (45, 30, 8)])
def test_every_split_agrees_with_a_loop(n_periods: int, n_trials: int, n_blocks: int) -> None:
    rng = np.random.default_rng(n_periods)
    returns = rng.normal(0.001, 0.01, size=(n_periods, n_trials))
    # One that did nothing for most of the time.
    returns[: n_periods * 2 // 3, 0] = 0.0
    blocks = np.array_split(np.arange(n_periods), n_blocks)
    logits, tested, chosen = [], [], []
    for half in itertools.combinations(range(n_blocks), n_blocks // 2):
        rows = np.concatenate([blocks[each] for each in half])
        inside, outside = returns[rows], np.delete(returns, rows, axis=0)
        ratios = []
        for part in (inside, outside):
            deviation = part.std(axis=0, ddof=1)
            ratios.append(np.where(deviation > 0, part.mean(axis=0) / np.where(deviation > 0, deviation, 1), 0.0))
        best = int(np.argmax(ratios[0]))
        rank = (ratios[1] < ratios[1][best]).sum() + ((ratios[1] == ratios[1][best]).sum() + 1) / 2
        relative = rank / (n_trials + 1)
        logits.append(math.log(relative / (1 - relative)))
        tested.append(ratios[1][best])
        chosen.append(ratios[0][best])
    found = probability_of_backtest_overfitting(returns, n_blocks=n_blocks)
    assert found.logits.tolist() == pytest.approx(logits)
    assert found.tested.tolist() == pytest.approx(tested)
    assert found.probability == pytest.approx(np.mean(np.array(logits) <= 1e-12))
    assert found.degradation == pytest.approx(np.polyfit(chosen, tested, 1)[0])


def normals_of_r(seed: int, n: int) -> np.ndarray:
    """What `set.seed(seed); rnorm(n)` gives in R: its way of seeding the Mersenne twister, inverted with two draws a number."""
    words = []
    for _ in range(50 + 625):
        seed = (69069 * seed + 1) % 2**32
        words.append(seed)
    twister = np.random.RandomState()
    # The first word after the 50 that are thrown away is a place that R then sets to the end.
    twister.set_state(("MT19937", np.array(words[51:], dtype=np.uint32), 624))
    even = twister.randint(0, 2**32, size=2 * n, dtype=np.uint64) * 2.3283064365386963e-10
    return np.asarray(ndtri((np.floor(2**27 * even[::2]) + even[1::2]) / 2**27))


# What the R package `pbo` (M. R. Barry, 1.3) prints of trials that it draws: its vignette, with 8 blocks and with 4, and bounds that its
# tests hold. Its `slope` is the first coefficient of `lm` with the chosen half as the response: the intercept of the other line.
@pytest.mark.parametrize(
    ("seed", "shape", "is_centred", "n_blocks", "p_bo", "slope", "ar2", "p_loss"),
    [
        pytest.param(765, (2400, 100), True, 8, 1.0, (-0.0030465, -0.0030455), (0.965, 0.975), 1.0, id="vignette, 8"),
        pytest.param(765, (2400, 100), True, 4, 1.0, (-0.0059095, -0.0059085), (0.875, 0.885), 1.0, id="vignette, 4"),
        pytest.param(852, (200, 40), False, 4, 0.5, (0.19, 0.20), (-0.24, -0.22), 0.5, id="its own test"),
    ],
)
def test_published_example_is_reproduced(
    seed: int,
    shape: tuple[int, int],
    is_centred: bool,
    n_blocks: int,
    p_bo: float,
    slope: tuple[float, float],
    ar2: tuple[float, float],
    p_loss: float,
) -> None:
    assert normals_of_r(123, 3).round(8).tolist() == [-0.56047565, -0.23017749, 1.55870831]
    drawn = normals_of_r(seed, math.prod(shape))
    returns = drawn.reshape(shape)
    if is_centred:
        # By columns, each with the deviation of a session and no mean.
        returns = drawn.reshape(shape[::-1]).T
        returns = returns / returns.std(axis=0, ddof=1) / math.sqrt(252)
        returns = returns - returns.mean(axis=0)
    found = probability_of_backtest_overfitting(returns - 0.03 / 252, n_blocks=n_blocks)
    assert (found.probability, found.probability_of_loss) == (p_bo, p_loss)
    _, first = np.polyfit(found.tested, found.chosen, 1)
    n = len(found.chosen)
    adjusted = 1.0 - (1.0 - np.corrcoef(found.chosen, found.tested)[0, 1] ** 2) * (n - 1) / (n - 2)
    assert slope[0] < first < slope[1] and ar2[0] < adjusted < ar2[1]


def test_noise_is_overfitted_in_half_of_the_splits_and_skill_in_none() -> None:
    noise, skilled = [], []
    for seed in range(40):
        returns = np.random.default_rng(seed).normal(0.0, 0.01, size=(400, 30))
        noise.append(probability_of_backtest_overfitting(returns, n_blocks=8).probability)
        # One trial of 30 with a Sharpe ratio of 5 a year.
        returns[:, 3] += 0.01 * 5 / math.sqrt(252)
        skilled.append(probability_of_backtest_overfitting(returns, n_blocks=8).probability)
    # Splits of one sample hang together: it is the mean over samples that is near one half.
    assert np.mean(noise) == pytest.approx(0.5, abs=4 * np.std(noise) / math.sqrt(40))
    assert np.std(noise) < 0.3
    assert np.mean(skilled) < 0.05


def test_trials_that_each_fit_one_block_are_overfitted() -> None:
    # Each trial earns in one block alone what it loses in all others: the best of a half is below the middle in the other.
    rng = np.random.default_rng(1)
    returns = rng.normal(-0.004, 0.01, size=(320, 16))
    for block, rows in enumerate(np.array_split(np.arange(320), 16)):
        returns[rows, block] += 0.1
    found = probability_of_backtest_overfitting(returns, n_blocks=16)
    assert found.probability > 0.95
    assert found.degradation < 0.0
    assert len(found.logits) == math.comb(16, 8)


def test_order_of_trials_and_scale_of_returns_change_nothing() -> None:
    returns = np.random.default_rng(5).normal(0.0005, 0.01, size=(128, 12))
    found = probability_of_backtest_overfitting(returns, n_blocks=8)
    other = probability_of_backtest_overfitting(3.0 * returns[:, ::-1], n_blocks=8)
    assert other.probability == found.probability
    assert other.logits.tolist() == pytest.approx(found.logits.tolist())


GOOD = np.random.default_rng(0).normal(size=(40, 3))


@pytest.mark.parametrize(
    ("returns", "n_blocks", "message"),
    [
        pytest.param(
            GOOD[:31], 16, "at least 32 periods for 16 blocks, had 31; take fewer blocks", id="too few sessions"
        ),
        pytest.param(GOOD[:, :1], 4, "at least two trials, had 1", id="one trial"),
        pytest.param(GOOD[:, [0, 1, 0, 0]], 4, "equal to those of another in columns 2, 3; give each", id="identical"),
        pytest.param(GOOD * [1, 0, 1] + 0.01, 4, "were constant in column 1; leave out", id="constant"),
        pytest.param(np.where(GOOD > 2, np.nan, GOOD), 4, "must be finite", id="NaN"),
        pytest.param(GOOD, 5, "`n_blocks` must be even, from 2 to 20, was 5", id="odd"),
        pytest.param(GOOD, 22, "`n_blocks` must be even, from 2 to 20, was 22", id="many"),
        pytest.param(GOOD[:, 0], 4, "a row a period and a column a trial", id="one series"),
    ],
)
def test_returns_of_which_nothing_can_be_said_are_refused(returns: np.ndarray, n_blocks: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        probability_of_backtest_overfitting(returns, n_blocks=n_blocks)
