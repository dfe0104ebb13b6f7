"""Rotations: of one pair the test of Diebold and Mariano, of many candidates a size that blocks do not hold, and what is found."""

import numpy as np
import pytest

from hf_pipelines.research.metrics.bootstrap import draw_stationary, politis_white_block
from hf_pipelines.research.significance import (
    diebold_mariano,
    draw_rotations,
    model_confidence_set,
    reality_check,
    superior_ability,
)
from hf_pipelines_tests.research.significance.candidates import noise
from hf_pipelines_tests.significance_table import overlapping


def test_waves_are_orthonormal_and_directions_of_length_one():
    turned = draw_rotations(50, n_resamples=20)
    # 0.4 * 50 ** (2 / 3) = 5.4 cosines and the constant.
    assert turned.waves.shape == (6, 50) and turned.n_sessions == 50
    np.testing.assert_allclose(turned.waves @ turned.waves.T, np.eye(6), atol=1e-12)
    np.testing.assert_allclose((turned.weights**2).sum(axis=1), 1.0)
    np.testing.assert_array_equal(turned.weights, draw_rotations(50, n_resamples=20).weights)
    assert (turned.weights != draw_rotations(50, seed=1, n_resamples=20).weights).any()


@pytest.mark.parametrize("horizon", [1, 20])
def test_of_one_pair_they_say_what_diebold_mariano_says(horizon):
    losses = noise(8, n=200, n_candidates=2, advantages=(0.0, 0.05))
    pair = diebold_mariano(losses[:, 0] - losses[:, 1], horizon=horizon)
    assert 0.01 < pair.p < 0.5 and pair.mean > 0.0
    turned = draw_rotations(200, horizon=horizon, n_resamples=20_000)
    # A share of 20,000 is known to 0.4 % at most.
    assert model_confidence_set(losses, turned).p.min() == pytest.approx(pair.p, abs=0.01)
    assert superior_ability(losses[:, 0], losses[:, 1:], turned).upper == pytest.approx(pair.p / 2.0, abs=0.01)


def test_size_of_many_candidates_with_labels_that_overlap():
    found: dict[str, list[bool]] = {"blocks": [], "rotations": []}
    for seed in range(60):
        losses = overlapping(5)(np.random.default_rng(seed), 500, 10)
        blocks = draw_stationary(
            500, block_sessions=politis_white_block(losses, label_sessions=5), seed=seed, n_resamples=200
        )
        assert blocks is not None
        turned = draw_rotations(500, horizon=5, seed=seed, n_resamples=200)
        for name, draws in (("blocks", blocks), ("rotations", turned)):
            found[name].append(model_confidence_set(losses, draws).p.min() < 0.05)
    # The error of 5 % of 60 is 2.8 %: 9 of 60 are found once in 800 times.
    assert sum(found["rotations"]) <= 9 and sum(found["blocks"]) > sum(found["rotations"])


def test_power_planted_candidates_are_found():
    losses, turned = noise(3, n_candidates=21, advantages=(0.0, 0.15, 0.0, 0.15)), draw_rotations(250)
    assert model_confidence_set(losses, turned).members() == [1, 3]
    assert superior_ability(losses[:, 0], losses[:, 1:], turned).consistent < 0.01
    assert reality_check(losses[:, 0], losses[:, 1:], turned) < 0.05


def test_benchmark_itself_duplicates_and_constant_losses():
    losses, turned = noise(3, n_candidates=4, advantages=(0.0, 0.15)), draw_rotations(250)
    assert superior_ability(losses[:, 0], losses[:, [0, 0]], turned).consistent == 1.0
    assert model_confidence_set(losses[:, [0, 1, 1, 0]], turned).members() == [1, 2]
    constant = model_confidence_set(np.full((250, 3), [1.0, 0.5, 0.5]), turned)
    assert constant.members() == [1, 2]
    assert superior_ability(np.ones(250), np.full((250, 1), 0.5), turned).consistent < 0.01


@pytest.mark.parametrize(
    ("n", "horizon", "message"),
    [
        (39, 20, "`n_sessions` must be two horizons of 20 sessions at least, was 39; test more sessions"),
        (1, 1, "`n_sessions` must be two horizons of 1 sessions at least, was 1"),
        (50, 0, "`horizon` must be at least 1, was 0"),
    ],
    ids=["long_labels", "one_session", "horizon"],
)
def test_what_cannot_be_drawn_is_refused(n, horizon, message):
    with pytest.raises(ValueError, match=message):
        draw_rotations(n, horizon=horizon)
    with pytest.raises(ValueError, match="`draws` must be of the 250 sessions of the losses, was of 100"):
        model_confidence_set(noise(0), draw_rotations(100))
