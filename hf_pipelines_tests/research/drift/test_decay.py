"""Decay of a score: the stated run length, and a fall that is found."""

from datetime import timedelta

import numpy as np
import pytest

from hf_pipelines.research.drift import decayed, threshold_for
from hf_pipelines_tests.drift_series import FIRST

DAYS = [FIRST + timedelta(days=place) for place in range(5_000)]


def test_threshold_is_the_textbooks():
    # Montgomery, "Introduction to Statistical Quality Control": h = 5 and k = 0.5 have a run of 465 both-sided, 930 one-sided.
    assert threshold_for(930.0, 0.5) == pytest.approx(5.0, abs=0.05)
    assert threshold_for(335.0, 0.5) == pytest.approx(4.0, abs=0.05)
    with pytest.raises(ValueError, match="`run_length` must be above 2"):
        threshold_for(1.0)


@pytest.mark.parametrize("block", [5, 10])
def test_run_between_false_alarms_is_at_least_the_stated_one(block):
    rng = np.random.default_rng(1)
    # Labels of five sessions overlap: scores of sessions next to each other are alike, and so are blocks as long as a label.
    runs = []

    def scores(n: int) -> np.ndarray:
        return np.convolve(rng.standard_normal(n + 4), np.ones(5) / np.sqrt(5.0), "valid") * 0.2 + 0.03

    for _ in range(60):
        past, live = scores(600), scores(250 * block)
        found = decayed(past, live, DAYS[: 250 * block], block_sessions=block, run_length=100.0)
        above = [place for place, value in enumerate(found.path) if value > found.threshold]
        runs.append(above[0] + 1 if above else found.n_blocks)
    assert np.mean(runs) >= 100.0


def test_score_that_falls_to_nothing_is_found_and_dated():
    rng = np.random.default_rng(2)
    waited, dated = [], []
    for _ in range(40):
        past = rng.normal(0.06, 0.1, 500)
        live = np.concatenate([rng.normal(0.06, 0.1, 60), rng.normal(-0.02, 0.1, 200)])
        for n in range(60, len(live), 5):
            found = decayed(past, live[:n], DAYS[:n], block_sessions=5)
            if found.is_decayed:
                waited.append(n - 60)
                dated.append((found.since - DAYS[60]).days)
                break
    assert len(waited) == 40
    assert np.median(waited) <= 40
    assert abs(np.median(dated)) <= 10


def test_by_hand():
    # Ten blocks of 0 and ten of 2 out of fold: mean 1, deviation sqrt(20 / 19); forgiven 0.5 + 1 / sqrt(20).
    past = [0.0, 2.0] * 10
    deviation, forgiven = np.sqrt(20 / 19), 0.5 + 1 / np.sqrt(20)
    found = decayed(past, [1.0, -1.0, float("nan"), -1.0], DAYS[:4], block_sessions=1)
    step = 2.0 / deviation - forgiven
    assert found.path == pytest.approx([0.0, step, 2 * step])
    assert (found.n_blocks, found.expected, found.since) == (3, 1.0, DAYS[1])
    assert not found.is_decayed


def test_nothing_is_said_of_too_little():
    assert decayed([0.1, 0.2] * 9, [0.0] * 20, DAYS[:20], block_sessions=1) is None
    assert decayed([0.1] * 40, [0.0] * 20, DAYS[:20], block_sessions=1) is None
    assert decayed([0.1, 0.2] * 20, [float("nan")] * 20, DAYS[:20], block_sessions=1) is None
    assert decayed([0.1, 0.2] * 20, [0.0] * 4, DAYS[:4], block_sessions=5) is None
    with pytest.raises(ValueError, match="`sessions` must be as many"):
        decayed([0.1, 0.2] * 20, [0.0] * 4, DAYS[:3], block_sessions=5)
    with pytest.raises(ValueError, match="`block_sessions` must be at least 1"):
        decayed([0.1, 0.2] * 20, [0.0] * 4, DAYS[:4], block_sessions=0)
