"""Narrowing the space around the best of the week before."""

from functools import partial

import numpy as np
import pytest

from hf_pipelines.research.tuning import Budget, Design, Goal, Outcome, read_space, run_study
from hf_pipelines.research.tuning.narrowing import narrow

WHOLE = read_space(
    {
        "x": {"type": "float", "low": 0.0, "high": 16.0},
        "rate": {"type": "float", "low": 0.0001, "high": 1.0, "log": True},
        "n": {"type": "int", "low": 1, "high": 101},
        "kind": {"type": "categorical", "choices": ["a", "b"]},
        "step": {"type": "int", "low": 0, "high": 10, "step": 5},
    }
)
BEST = {"x": 4.0, "rate": 0.01, "n": 51, "kind": "a", "step": 5}


def ranges(space):
    return {name: (each["low"], each["high"]) for name, each in space.to_json().items() if "low" in each}


def test_ranges_halve_around_the_best_in_their_own_scale():
    found = ranges(narrow(WHOLE, WHOLE, BEST))
    assert found["x"] == (0.0, 8.0)
    assert found["rate"] == pytest.approx((0.001, 0.1))
    assert found["n"] == (26, 76)
    assert found["step"] == (0, 10)
    assert narrow(WHOLE, WHOLE, BEST).to_json()["kind"] == WHOLE.to_json()["kind"]


def test_best_at_an_edge_widens_and_never_beyond_the_whole():
    once = narrow(WHOLE, WHOLE, BEST)
    at_edge = narrow(WHOLE, once, {**BEST, "x": 7.5})
    assert ranges(at_edge)["x"] == (0.0, 16.0)
    # An end of the whole range is no edge: there is nothing beyond it.
    assert ranges(narrow(WHOLE, once, {**BEST, "x": 0.1}))["x"] == (0.0, 4.0)


def test_range_never_falls_below_a_tenth_and_always_holds_the_best():
    space = WHOLE
    for _ in range(12):
        space = narrow(WHOLE, space, BEST)
        space.require(BEST)
    low, high = ranges(space)["x"]
    assert high - low == pytest.approx(1.6)


def test_dimension_that_the_best_does_not_have_is_whole():
    found = narrow(WHOLE, narrow(WHOLE, WHOLE, BEST), {"kind": "a"})
    assert ranges(found) == ranges(WHOLE)


def test_adaptive_studies_need_at_most_three_fifths_of_the_cold_trials_on_a_planted_optimum():
    """The optimum drifts a little from week to week; a study ends when it is near enough. Sums over twenty seeds."""
    near = 0.02
    space = read_space({name: {"type": "float", "low": 0.0, "high": 1.0} for name in "abc"})
    needed = {"cold": 0, "adaptive": 0}

    def n_until_near(where, best, design):
        def evaluate(task):
            return Outcome("completed", (sum((task.point[name] - best[name]) ** 2 for name in "abc"),))

        study = run_study(design(where), evaluate)
        values = [each.outcome.values[0] for each in study.trials]
        first = next((at for at, value in enumerate(values, 1) if value <= near), len(values))
        return first, study.best.point

    for seed in range(20):
        rng = np.random.default_rng(seed)
        best = dict(zip("abc", rng.uniform(0.2, 0.8, 3), strict=True))
        searched, warm = space, ()
        for week in range(2):
            best = {name: float(np.clip(value + rng.normal(0, 0.03), 0, 1)) for name, value in best.items()}

            def design(where, week=week, seed=seed, first=()):
                goals, budget = (Goal("loss", False),), Budget(trials=60)
                return Design(
                    space=where, goals=goals, budget=budget, sampler="random", seed=1000 * seed + week, first=first
                )

            if week == 0:
                found = n_until_near(space, best, design)[1]
            else:
                needed["cold"] += n_until_near(space, best, design)[0]
                n, found = n_until_near(searched, best, partial(design, first=warm))
                needed["adaptive"] += n
            searched, warm = narrow(space, searched, found), (found,)
    assert needed["adaptive"] <= 0.6 * needed["cold"], needed
