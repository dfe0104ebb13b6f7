"""Reliability: by hand, on calibrated and on planted over-confident probabilities, and what is said of it."""

import math

import numpy as np
import pytest

from hf_pipelines.research.reliability import measure_reliability, reliability_in_words


def drawn(n_sessions: int, *, sharper: float = 1.0, seed: int = 0, shared: float = 0.0):
    """Probabilities of two classes, outcomes drawn by them and sessions of ten rows, of whose outcomes some share luck."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(0.0, 1.5, n_sessions * 10)
    luck = np.repeat(rng.random(n_sessions), 10)
    uniform = np.where(rng.random(len(odds)) < shared, luck, rng.random(len(odds)))
    y = (uniform < 1.0 / (1.0 + np.exp(-odds))).astype(float)
    p = 1.0 / (1.0 + np.exp(-sharper * odds))
    return np.column_stack([1.0 - p, p]), y, np.repeat(np.arange(n_sessions), 10)


def test_by_hand():
    # Two confidences: 0.9 is right in 2 of 4 rows, 0.6 in 3 of 4.
    probability = np.array([[0.1, 0.9]] * 4 + [[0.6, 0.4]] * 4)
    y = np.array([1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    found = measure_reliability(probability, y, np.zeros(8, dtype=np.int64), label_sessions=1)
    assert found.groups["confidence"].to_list() == pytest.approx([0.6, 0.9])
    assert found.groups["share_right"].to_list() == [0.75, 0.5] and found.groups["n_rows"].to_list() == [4, 4]
    assert found.error == pytest.approx((0.15 + 0.4) / 2.0) and found.over == pytest.approx(0.75 - 0.625)
    assert math.isnan(found.by_chance) and math.isnan(found.error_deviation) and found.groups["low"].null_count() == 2
    assert reliability_in_words(found) == (
        "Confidence and hits are 0.275 apart on average; 1 sessions are too few to say what of it is chance."
    )


def test_groups_hold_as_many_rows_each_and_all_of_them():
    probability, y, session = drawn(200)
    found = measure_reliability(probability, y, session, label_sessions=1)
    assert found.groups["n_rows"].to_list() == [200] * 10 and found.n_sessions == 200
    assert found.groups["confidence"].is_sorted()
    one = measure_reliability(np.full((50, 2), 0.5), np.ones(50), np.arange(50), label_sessions=1)
    assert one.groups["n_rows"].to_list() == [50] and one.error == pytest.approx(0.5)


@pytest.mark.parametrize("shared", [0.0, 0.7], ids=["independent", "alike_in_a_session"])
def test_calibrated_probabilities_show_no_fault_and_chance_is_told(shared):
    found = [measure_reliability(*drawn(150, seed=seed, shared=shared), label_sessions=1) for seed in range(60)]
    errors, chance = np.array([each.error for each in found]), np.array([each.by_chance for each in found])
    # What chance makes is known to a tenth on average: 0.03, of sessions whose rows are alike more.
    assert chance.mean() == pytest.approx(errors.mean(), rel=0.15)
    assert sum("no fault" not in reliability_in_words(each) for each in found) <= 3
    inside = [
        low <= confidence <= high
        for each in found
        for low, high, confidence in each.groups.select("low", "high", "confidence").rows()
    ]
    assert 0.9 <= np.mean(inside) <= 0.98


def test_over_and_under_confidence_are_seen_and_named():
    sure = measure_reliability(*drawn(150, sharper=2.5), label_sessions=1)
    assert sure.error > 3.0 * sure.by_chance and "predictions are too sure, by 0.1" in reliability_in_words(sure)
    meek = measure_reliability(*drawn(150, sharper=0.3), label_sessions=1)
    assert "predictions are not sure enough, by 0.1" in reliability_in_words(meek)
    deviation = np.std(
        [measure_reliability(*drawn(150, sharper=2.5, seed=seed), label_sessions=1).error for seed in range(60)]
    )
    assert sure.error_deviation == pytest.approx(deviation, rel=0.35)


def test_rows_in_another_order_and_without_any():
    probability, y, session = drawn(50)
    order = np.random.default_rng(0).permutation(len(y))
    one = measure_reliability(probability, y, session, label_sessions=1)
    other = measure_reliability(probability[order], y[order], session[order], label_sessions=1)
    assert other.error == pytest.approx(one.error) and other.by_chance == pytest.approx(one.by_chance)
    with pytest.raises(ValueError, match="`probability` must have a row at least, was without"):
        measure_reliability(np.zeros((0, 2)), np.zeros(0), np.zeros(0, dtype=np.int64), label_sessions=1)
