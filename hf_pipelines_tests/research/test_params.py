"""Given parameters: completed, or refused by name with what is allowed."""

import math
from typing import Any

import pytest

from hf_pipelines.research.params import (
    Choice,
    Flag,
    Listing,
    Nested,
    Number,
    complete_params,
    describe_params,
    searched_params,
)

SPEC = {
    "depth": Number(default=6, low=1, high=30, search=(2, 8), is_whole=True, meaning="levels of a tree"),
    "rate": Number(default=0.1, low=1e-6, high=1.0, search=(0.01, 0.3), is_log=True),
    "leaves": Number(default=None, low=2, high=100, is_whole=True, is_optional=True),
    "method": Choice(default="hist", names=("hist", "exact"), is_searched=True),
    "bootstrap": Flag(default=False),
    "quantiles": Listing(item=Number(default=0.5, low=0.0, high=1.0), default=(0.1, 0.9), least=1, most=3),
    "weights": Listing(item=Number(default=1.0, low=0.0, high=10.0), default=None),
}
MEMBERS = {"members": Listing(item=Nested(), is_required=True, least=2, most=3)}


def complete(**given: Any) -> dict[str, Any]:
    return complete_params("tree", given, SPEC)


def test_complete_params_fills_defaults_in_the_order_of_the_specification():
    assert complete() == {
        "depth": 6, "rate": 0.1, "leaves": None, "method": "hist", "bootstrap": False, "quantiles": (0.1, 0.9), "weights": None
    }  # fmt: skip
    assert list(complete(weights=[1, 2], depth=3)) == list(SPEC)


def test_complete_params_takes_whole_numbers_for_floats_null_for_optional_and_lists_as_tuples():
    given = complete(rate=1, leaves=None, quantiles=[0, 1], weights=None)
    assert repr(given["rate"]) == "1.0"
    assert given["leaves"] is None and given["weights"] is None
    # To YAML 1.1 a number of this notation without a point, or without a sign of its exponent, is text.
    for text, value in (("1e-3", 0.001), ("1E-3", 0.001), ("+2.5e-1", 0.25), ("1.0e0", 1.0)):
        assert repr(complete(rate=text)["rate"]) == repr(value)
    assert complete(quantiles=["1e-1"])["quantiles"] == (0.1,)
    assert repr(given["quantiles"]) == "(0.0, 1.0)"


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"dept": 3}, ValueError, r"`params` of 'tree' must be among .*'depth'.*, was \['dept'\]"),
        ({"depth": 31}, ValueError, "`depth` of 'tree' must be from 1 to 30, was 31"),
        ({"depth": 3.0}, TypeError, "`depth` of 'tree' must be a whole number, was 3.0"),
        ({"depth": True}, TypeError, "`depth` of 'tree' must be a whole number, was True"),
        ({"depth": None}, TypeError, "`depth` of 'tree' must be a whole number, was None"),
        ({"rate": math.nan}, ValueError, "`rate` of 'tree' must be from 1e-06 to 1, was nan"),
        ({"depth": "1e1"}, TypeError, "`depth` of 'tree' must be a whole number, was '1e1'"),
        ({"rate": "1e3"}, ValueError, "`rate` of 'tree' must be from 1e-06 to 1, was 1000.0"),
        ({"rate": "1e999"}, ValueError, "`rate` of 'tree' must be from 1e-06 to 1, was inf"),
        ({"rate": " 1e-3"}, TypeError, "`rate` of 'tree' must be a number, was ' 1e-3'"),
        ({"rate": "0.1"}, TypeError, "`rate` of 'tree' must be a number, was '0.1'"),
        ({"method": "fast"}, ValueError, "`method` of 'tree' must be one of hist, exact, was 'fast'"),
        ({"method": 1}, TypeError, "`method` of 'tree' must be one of hist, exact, was 1"),
        ({"bootstrap": 1}, TypeError, "`bootstrap` of 'tree' must be true or false, was 1"),
        ({"quantiles": 0.5}, TypeError, "`quantiles` of 'tree' must be a list, was 0.5"),
        ({"quantiles": "0.5"}, TypeError, "`quantiles` of 'tree' must be a list"),
        ({"quantiles": []}, ValueError, "`quantiles` of 'tree' must have from 1 to 3 values, was with 0"),
        ({"quantiles": [0.1, 2]}, ValueError, "`quantiles.1` of 'tree' must be from 0 to 1, was 2"),
    ],
    ids=str,
)
def test_complete_params_refuses_by_name_with_what_is_allowed(given, error, told):
    with pytest.raises(error, match=told):
        complete(**given)


def test_complete_params_hands_nested_values_on_with_their_place_and_wants_those_that_are_required():
    seen: list[tuple[str, Any]] = []

    def check(value: Any, where: str) -> str:
        seen.append((where, value))
        return str(value["type"])

    filled = complete_params("voting", {"members": [{"type": "a"}, {"type": "b"}]}, MEMBERS, where="x.", nested=check)
    assert filled == {"members": ("a", "b")}
    assert seen == [("x.members.0", {"type": "a"}), ("x.members.1", {"type": "b"})]
    with pytest.raises(
        ValueError, match="`members` of 'voting' must be given .*2 to 3 times: a learner.*, was missing"
    ):
        complete_params("voting", {}, MEMBERS)


def test_one_specification_serves_the_tuner_and_the_docs():
    assert list(searched_params(SPEC)) == ["depth", "rate", "method"]
    words = {name: (default, allowed) for name, default, allowed, _ in describe_params({**SPEC, **MEMBERS})}
    assert words["depth"] == ("6", "whole, 1 to 30")
    assert words["leaves"] == ("null", "whole, 2 to 100, or null")
    assert words["bootstrap"] == ("false", "true or false")
    assert words["members"][0] == "required"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Number(default=5, low=0, high=1), "`default` must be from 0 to 1, was 5"),
        (lambda: Number(default=None, low=0, high=1), "`default` must be a number unless `is_optional`"),
        (lambda: Number(default=0, low=0, high=1, search=(0.5, 2)), "`search` must be an interval inside 0 to 1"),
        (lambda: Number(default=0, low=0, high=1, search=(0, 1), is_log=True), "`search` must begin above zero"),
        (lambda: Choice(default="c", names=("a", "b")), "`default` must be one of a, b, was 'c'"),
    ],
)
def test_a_specification_that_contradicts_itself_is_refused(make, told):
    with pytest.raises(ValueError, match=told):
        make()
