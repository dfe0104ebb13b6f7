"""The table of faults: each row's test is there, and a row that does not come out as it must is told."""

import ast

import pytest

from hf_pipelines_tests.fault_table import FAULTS, TESTS, Outcomes

pytest_plugins = "pytester"


def test_every_row_of_the_table_names_a_test_that_is_there():
    assert len(FAULTS) >= 60
    assert len({test for _, _, test in FAULTS}) == len(FAULTS)
    for _, _, test in FAULTS:
        file, _, name = test.partition("::")
        functions = {
            each.name for each in ast.walk(ast.parse((TESTS / file).read_text())) if isinstance(each, ast.FunctionDef)
        }
        assert name in functions, test


def test_outcomes_of_a_test_with_one_failed_parameter_are_a_failure(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "import pytest\n@pytest.mark.parametrize('i', range(3))\ndef test_x(i): assert i != 1\ndef test_y(): pass\n"
    )
    outcomes = Outcomes()
    pytester.inline_run("-p", "no:cacheprovider", plugins=[outcomes])
    names = {name.partition("::")[2]: seen for name, seen in outcomes.seen.items()}
    assert names["test_y"] == "as it must"
    assert names["test_x"] != "as it must"
