"""Explanations against exact Shapley values, models whose slopes are known, and XGBoost's own contributions."""

from itertools import permutations

import numpy as np
import pytest

from hf_pipelines.research.explanations import (
    fit_local_line,
    nearest_turns,
    percentile_of,
    permutation_contributions,
)

RANDOM = np.random.default_rng(0)
BACKGROUND = RANDOM.standard_normal((300, 4)).astype(np.float32)
SLOPES = np.array([2.0, -1.0, 0.0, 0.5])


def line(X):
    return 3.0 + X.astype(np.float64) @ SLOPES


def curved(X):
    """With an interaction and a step."""
    X = X.astype(np.float64)
    return X[:, 0] * X[:, 1] + (X[:, 2] > 0.3) + 0.2 * X[:, 3]


def exact(ask, row, others):
    """Shapley values by every order of the features, against every background row."""
    n = len(row)
    found = np.zeros(n)
    orders = list(permutations(range(n)))
    for other in others:
        for order in orders:
            walk = [other.copy()]
            for at in order:
                walk.append(walk[-1].copy())
                walk[-1][at] = row[at]
            predicted = ask(np.array(walk, dtype=np.float32))
            found[list(order)] += np.diff(predicted)
    return found / (len(orders) * len(others))


def test_contributions_add_up_to_the_prediction_whatever_the_model_and_however_few_permutations():
    for ask in (line, curved, lambda X: np.tanh(curved(X)) ** 3):
        for n in (2, 7, 300):
            found = permutation_contributions(ask, BACKGROUND[:5], BACKGROUND[5:], n_permutations=n, seed=n)
            assert found.base + found.values.sum(axis=1) == pytest.approx(ask(BACKGROUND[:5]), abs=1e-12)


def test_contributions_of_a_line_are_its_slopes_times_the_distance_from_the_background():
    # Every background row is used as often as any other: 300 of them, 300 permutations.
    found = permutation_contributions(line, BACKGROUND[:3], BACKGROUND, n_permutations=300)
    expected = SLOPES * (BACKGROUND[:3].astype(np.float64) - BACKGROUND.mean(axis=0, dtype=np.float64))
    assert found.values == pytest.approx(expected, abs=1e-9)
    assert (found.values[:, 2] == 0.0).all() and (found.standard_error[:, 2] == 0.0).all()


def test_contributions_of_a_curved_model_are_the_exact_ones_within_their_error():
    others = BACKGROUND[:8]
    row = np.array([1.5, -1.0, 0.5, 2.0], dtype=np.float32)
    truth = exact(curved, row, others)
    found = permutation_contributions(curved, row[None, :], others, n_permutations=4_000)
    assert (np.abs(found.values[0] - truth) < 4.0 * found.standard_error[0] + 1e-12).all()
    # The interaction of two features is shared by both.
    assert np.abs(found.values[0] - truth).max() < 0.05
    again = permutation_contributions(curved, row[None, :], others, n_permutations=4_000)
    assert (again.values == found.values).all()


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(
        ValueError, match=r"`background` must have rows of the 4 features of `X`, was of shape \(300, 3\)"
    ):
        permutation_contributions(line, BACKGROUND[:1], BACKGROUND[:, :3])
    with pytest.raises(ValueError, match="`background` must have rows"):
        permutation_contributions(line, BACKGROUND[:1], BACKGROUND[:0])
    with pytest.raises(ValueError, match="`n_permutations` must be at least 2, was 1"):
        permutation_contributions(line, BACKGROUND[:1], BACKGROUND, n_permutations=1)
    with pytest.raises(ValueError, match="`n_samples` must be at least 40, ten a feature, was 39"):
        fit_local_line(line, BACKGROUND[0], BACKGROUND, n_samples=39)


def test_the_local_line_of_a_line_is_that_line_and_of_noise_says_so():
    found = fit_local_line(line, BACKGROUND[0], BACKGROUND)
    assert found.slopes == pytest.approx(SLOPES, rel=0.05, abs=1e-3) and found.r2 > 0.999
    noise = np.random.default_rng(1)
    assert fit_local_line(lambda X: noise.standard_normal(len(X)), BACKGROUND[0], BACKGROUND).r2 < 0.02
    flat = fit_local_line(lambda X: np.full(len(X), 2.0), BACKGROUND[0], BACKGROUND)
    assert np.isnan(flat.r2) and flat.slopes == pytest.approx(0.0)


def test_the_local_line_of_a_bent_model_has_the_slopes_of_its_place():
    def bent(X):
        return X[:, 0].astype(np.float64) ** 2

    row = np.array([2.0, 0.0, 0.0, 0.0], dtype=np.float32)
    assert fit_local_line(bent, row, BACKGROUND).slopes[0] == pytest.approx(4.0, rel=0.05)
    # What is unknown, or never differs, is not moved.
    training = BACKGROUND.copy()
    training[:, 3] = 1.0
    row[1] = np.nan
    assert np.isnan(fit_local_line(bent, row, training).slopes).tolist() == [False, True, False, True]


def test_the_nearest_turn_is_the_value_at_which_the_sign_changes():
    row = np.array([0.5, 0.0, 0.0, 0.0], dtype=np.float32)

    def ask(X):
        # Positive while the first is above 0.1; the second can turn it alone from 1.2 on, the others cannot.
        return X[:, 0].astype(np.float64) - 0.1 - np.where(X[:, 1] > 1.2, 10.0, 0.0)

    first, second = nearest_turns(ask, row, BACKGROUND, ["a", "b", "c", "d"])
    known = np.sort(BACKGROUND[:, 0])
    # A hundredth of the rows lies between values that are tried.
    assert first.feature == "a" and first.prediction <= 0.0
    assert known[known <= 0.1][-4] <= first.value <= 0.1
    assert first.distance == pytest.approx(abs(percentile_of(BACKGROUND[:, 0], 0.5) - first.percentile))
    assert second.feature == "b" and 1.2 < second.value <= np.sort(BACKGROUND[BACKGROUND[:, 1] > 1.2, 1])[4]
    # Nothing turns what no feature moves; an unknown value is as far from every known one.
    assert nearest_turns(lambda X: np.ones(len(X)), row, BACKGROUND, ["a", "b", "c", "d"]) == []
    unknown = np.array([np.nan, 0.0, 0.0, 0.0], dtype=np.float32)
    (turn,) = nearest_turns(lambda X: np.where(X[:, 0] > 1.0, 1.0, -1.0), unknown, BACKGROUND, ["a", "b", "c", "d"])
    assert turn.distance == 1.0 and turn.value > 1.0


def test_percentiles_leave_unknown_values_out():
    values = np.array([3.0, np.nan, 1.0, 2.0], dtype=np.float32)
    assert [percentile_of(values, each) for each in (0.0, 1.0, 2.5, 9.0)] == [0.0, 1 / 6, 2 / 3, 1.0]
    assert np.isnan(percentile_of(values, float("nan"))) and np.isnan(percentile_of(values[1:2], 1.0))
