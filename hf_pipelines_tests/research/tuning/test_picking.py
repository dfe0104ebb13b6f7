"""Which trial of a study is used."""

import numpy as np
import optuna
import pytest

from hf_pipelines.research.tuning import Goal, Outcome, Pick, Trial
from hf_pipelines.research.tuning.picking import front_of, pick_trial

SCORE, COST = Goal("score", True), Goal("cost", False)


def trials_of(values, excesses=()):
    return [
        Trial(
            slot, {"x": slot}, Outcome("completed", tuple(map(float, each)), excesses=tuple(excesses[slot : slot + 1]))
        )
        for slot, each in enumerate(values)
    ]


# score up, cost down: 2 is dominated by 1, 4 by 3.
VALUES = [(10.0, 9.0), (9.8, 5.0), (9.5, 6.0), (6.0, 1.0), (5.0, 2.0)]


def test_front_of_hand_made_trials():
    assert [each.slot for each in front_of(trials_of(VALUES), [SCORE, COST])] == [0, 1, 3]
    # Of equal trials the first stands.
    assert [each.slot for each in front_of(trials_of([(1, 1), (1, 1)]), [SCORE, COST])] == [0]


@pytest.mark.parametrize(
    "pick, slot",
    [
        (Pick("best_first"), 0),
        (Pick("nearest_ideal"), 1),
        (Pick("near_best", 0.1), 1),
        (Pick("near_best", 0.0), 0),
        (Pick("near_best", 1.0), 3),
    ],
)
def test_pick_of_hand_made_front(pick, slot):
    # Scaled: (1, 0), (0.95, 0.5), (0, 1).
    assert pick_trial(trials_of(VALUES), [SCORE, COST], pick).slot == slot


def test_front_equals_optunas_on_random_values():
    values = np.random.default_rng(0).normal(size=(60, 3)).round(1)
    goals = [Goal("a", True), Goal("b", False), Goal("c", True)]
    study = optuna.create_study(directions=["maximize", "minimize", "maximize"])
    study.add_trials([optuna.trial.create_trial(values=each.tolist(), params={}, distributions={}) for each in values])

    ours = front_of(trials_of(values.tolist()), goals)

    assert {each.outcome.values for each in ours} == {tuple(each.values) for each in study.best_trials}


def test_trial_beyond_a_constraint_is_never_used():
    trials = trials_of([(3.0,), (2.0,), (1.0,)], [("max_drawdown", 0.1), ("max_drawdown", 0.0), ("max_drawdown", -0.2)])
    assert pick_trial(trials, [SCORE], Pick()).slot == 1


def test_no_feasible_trial_names_the_nearest_one():
    trials = trials_of([(3.0,), (2.0,)], [("max_drawdown", 0.3), ("max_drawdown", 0.1)])
    with pytest.raises(ValueError, match="by none of 2; slot 1 comes nearest and exceeds max_drawdown by 0.1"):
        pick_trial(trials, [SCORE], Pick())


def test_no_completed_trial_says_why_the_first_failed():
    trials = [Trial(0, {}, Outcome("failed", error="alpha is too large"))]
    with pytest.raises(ValueError, match="completed none of 1; the first, slot 0, says: alpha is too large"):
        pick_trial(trials, [SCORE], Pick())


def test_unknown_rule_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="`pick` must be one of best_first, near_best, nearest_ideal, was 'luck'"):
        Pick("luck")
