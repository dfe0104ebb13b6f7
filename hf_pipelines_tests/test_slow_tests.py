"""The list of slow tests: what makes a test slow, and that each of them is there."""

from pathlib import Path

import pytest

from hf_pipelines_tests.slow_tests import SLOW_CPU_S, slow_among, slow_tests, without_case

ROOT = Path(__file__).resolve().parents[1]


def test_mean_of_the_cases_of_a_test_decides_whatever_worker_ran_them():
    cases = {
        "a.py::test_even[1]": SLOW_CPU_S,
        "a.py::test_even[x@y]@of_a_group": SLOW_CPU_S,
        "a.py::test_one_is_dear[1]": SLOW_CPU_S,
        "a.py::test_one_is_dear[2]": 1.01 * SLOW_CPU_S,
        "b.py::Class::test_alone@of_a_group": 9.0,
    }
    assert slow_among(cases) == ["a.py::test_one_is_dear", "b.py::Class::test_alone"]


def test_every_slow_test_is_still_there():
    for test in slow_tests():
        path, _, name = test.partition("::")
        function = name.rpartition("::")[2].rpartition(".")[2]
        assert f"def {function}(" in (ROOT / path).read_text(), f"{test} is gone; run `make slow-tests`"


def test_slow_tests_are_marked_and_others_are_not(request: pytest.FixtureRequest) -> None:
    marked = {without_case(item.nodeid) for item in request.session.items if item.get_closest_marker("slow")}
    assert marked == slow_tests() & {without_case(item.nodeid) for item in request.session.items}
