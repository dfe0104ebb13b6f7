"""Spaces: what may be tried, and what of it is refused."""

import math

import numpy as np
import pytest

from hf_pipelines.research.learners import LEARNERS
from hf_pipelines.research.learners.registry import ALIASES
from hf_pipelines.research.params import complete_params, searched_params
from hf_pipelines.research.tuning import SAMPLERS, default_space, read_space
from hf_pipelines.research.tuning.samplers import draw_ahead

TUNABLE = sorted(name for name, entry in LEARNERS.items() if searched_params(entry.params))


@pytest.mark.parametrize("name", TUNABLE)
def test_default_space_of_a_learner_draws_fifty_points_that_its_specification_takes(name):
    entry = LEARNERS[name]
    space = default_space(entry.params)

    points = draw_ahead(SAMPLERS["random"], space, seed=1, batch=8, trials=50)

    assert len(points) == 50
    # What has no default, such as the members of an ensemble, is not searched.
    spec = {each: param for each, param in entry.params.items() if each in space.names}
    for point in points:
        assert complete_params(name, point, spec) == pytest.approx(point)
    for each in space.dimensions:
        drawn = [point[each.name] for point in points]
        assert len({*drawn}) > 1, f"{each.name} is drawn, but never changes"


def test_every_learner_with_a_search_range_is_named_once():
    assert len(TUNABLE) == len({*TUNABLE}) > 10
    assert not {*ALIASES} & {*TUNABLE}


def test_conditional_dimension_is_drawn_only_where_its_condition_holds():
    space = read_space(
        {
            "kind": {"type": "categorical", "choices": ["trees", "linear", "none"]},
            "depth": {"type": "int", "low": 2, "high": 4, "when": {"kind": ["trees"]}},
            "alpha": {"type": "float", "low": 0.0, "high": 1.0, "step": 0.5, "when": {"kind": "linear"}},
        }
    )

    points = list(space.points())

    assert points == [
        *({"kind": "trees", "depth": depth} for depth in (2, 3, 4)),
        *({"kind": "linear", "alpha": alpha} for alpha in (0.0, 0.5, 1.0)),
        {"kind": "none"},
    ]
    assert space.n_points == 7
    for point in draw_ahead(SAMPLERS["random"], space, seed=3, batch=8, trials=40):
        space.require(point)
        assert {*point} == {"trees": {"kind", "depth"}, "linear": {"kind", "alpha"}, "none": {"kind"}}[point["kind"]]


def test_condition_on_a_condition_holds_only_if_both_do():
    space = read_space(
        {
            "a": {"type": "categorical", "choices": [True, False]},
            "b": {"type": "int", "low": 1, "high": 2, "when": {"a": True}},
            "c": {"type": "int", "low": 5, "high": 6, "when": {"b": 2}},
        }
    )
    assert [*space.points()] == [
        {"a": True, "b": 1},
        {"a": True, "b": 2, "c": 5},
        {"a": True, "b": 2, "c": 6},
        {"a": False},
    ]


def test_logarithmic_range_is_drawn_evenly_in_the_logarithm():
    space = read_space({"x": {"type": "float", "low": 1e-4, "high": 1.0, "log": True}})
    points = draw_ahead(SAMPLERS["random"], space, seed=5, batch=8, trials=2_000)
    below = np.mean([math.log10(each["x"]) < -2 for each in points])
    # Half of them; four standard deviations of a mean of 2,000.
    assert abs(below - 0.5) < 4 * 0.5 / math.sqrt(2_000)


def test_space_read_from_its_own_json_is_equal():
    given = {
        "x": {"type": "float", "low": 0.1, "high": 1.0, "log": True},
        "s": {"type": "float", "low": 0.0, "high": 1.0, "step": 0.25},
        "n": {"type": "int", "low": 2, "high": 10, "step": 2},
        "l": {"type": "int", "low": 2, "high": 10, "log": True},
        "c": {"type": "categorical", "choices": ["a", None, 1.5, True]},
        "d": {"type": "int", "low": 1, "high": 3, "when": {"c": ["a", None]}},
    }
    space = read_space(given)
    assert read_space(space.to_json()) == space
    # 5 steps, 5 steps, 9 values; of four choices two have 3 values of d, and the first is a range of floats.
    assert space.n_points is None
    assert read_space({name: each for name, each in given.items() if name != "x"}).n_points == 5 * 5 * 9 * (2 * 3 + 2)


FAULTS = {
    "no type": ({"x": {"low": 0, "high": 1}}, r"`space\.x\.type` must be one of float, int, categorical"),
    "no mapping": ({"x": [0, 1]}, r"`space\.x` must be a mapping"),
    "no high": ({"x": {"type": "float", "low": 0}}, r"`space\.x` must give high"),
    "upside down": (
        {"x": {"type": "float", "low": 2, "high": 1}},
        r"`space\.x\.low` must be a number that does not exceed",
    ),
    "nan": ({"x": {"type": "float", "low": float("nan"), "high": 1}}, r"`space\.x\.low` must be a number"),
    "log of zero": ({"x": {"type": "float", "low": 0, "high": 1, "log": True}}, r"`space\.x\.low` must be above zero"),
    "log and step": (
        {"x": {"type": "int", "low": 1, "high": 9, "log": True, "step": 2}},
        r"`space\.x\.step` must be left out",
    ),
    "step does not divide": ({"x": {"type": "int", "low": 1, "high": 10, "step": 4}}, r"`space\.x\.step` must divide"),
    "zero step": ({"x": {"type": "float", "low": 1, "high": 10, "step": 0}}, r"`space\.x\.step` must be above zero"),
    "text for a number": ({"x": {"type": "int", "low": "1", "high": 10}}, r"`space\.x\.low` must be a whole number"),
    "fraction for a whole number": (
        {"x": {"type": "int", "low": 1.5, "high": 10}},
        r"`space\.x\.low` must be a whole number",
    ),
    "no choices": ({"x": {"type": "categorical", "choices": []}}, r"`space\.x\.choices` must have at least one"),
    "choices no list": ({"x": {"type": "categorical", "choices": "ab"}}, r"`space\.x\.choices` must be a list"),
    "choice twice": (
        {"x": {"type": "categorical", "choices": [1, 1]}},
        r"`space\.x\.choices` must name each value once",
    ),
    "stray field": (
        {"x": {"type": "int", "low": 1, "high": 2, "stpe": 1}},
        r"`space\.x` of type int must have .* \['stpe'\]",
    ),
    "condition on nothing": (
        {"x": {"type": "int", "low": 1, "high": 2, "when": {"y": 1}}},
        r"`x\.when` must name dimensions that stand before it",
    ),
    "condition on no value": (
        {"y": {"type": "int", "low": 1, "high": 2}, "x": {"type": "int", "low": 1, "high": 2, "when": {"y": 3}}},
        r"`x\.when\.y` must be values of y",
    ),
}


@pytest.mark.parametrize("given, message", FAULTS.values(), ids=FAULTS)
def test_space_that_leaves_nothing_to_draw_is_refused_by_its_field(given, message):
    with pytest.raises((TypeError, ValueError), match=message):
        read_space(given)
