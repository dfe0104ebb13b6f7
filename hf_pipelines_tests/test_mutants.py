"""Mutants: what is planted, and that a test which misses one is told of."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from hf_pipelines_tests.mutants import TESTS_OF, draw, mutants_of, planted, report

pytestmark = pytest.mark.pipeline

ROOT = Path(__file__).resolve().parents[1]

SOURCE = '''
def clipped(value: int | None = 2, *, is_low: bool = True) -> int:
    """Text with 1 + 1 in it."""
    if value is None or value < 0:
        raise ValueError(f"`value` must be {1 + 1}, was {value + 3}.")
    check(value)
    total = -value
    total += min(value, 5) if not is_low else value**2
    return total
'''

PLANTED = [
    "2: 2  ->  3",
    "2: True  ->  False",
    "4: value is None or value < 0  ->  not (value is None or value < 0)",
    "4: value is None or value < 0  ->  value is None and value < 0",
    "4: value is None  ->  value is not None",
    "4: value < 0  ->  value <= 0",
    "4: value < 0  ->  value >= 0",
    "4: 0  ->  1",
    "6: check(value)  ->  None",
    "7: -value  ->  +value",
    "8: total += min(value, 5) if not is_low else value ** 2  ->  total -= min(value, 5) if not is_low else value ** 2",
    "8: not is_low  ->  not not is_low",
    "8: not is_low  ->  not not is_low",
    "8: min(value, 5)  ->  max(value, 5)",
    "8: 5  ->  6",
    "8: value ** 2  ->  value * 2",
    "8: 2  ->  3",
]


def test_mutants_of_a_function_are_those_listed_and_none_of_texts_annotations_and_errors():
    assert sorted(str(mutant).removeprefix(":") for mutant in mutants_of(SOURCE)) == sorted(PLANTED)


@pytest.mark.parametrize("number", range(len(PLANTED)))
def test_planted_source_differs_in_the_line_of_the_mutant_alone(number):
    mutant = mutants_of(SOURCE)[number]
    plain, changed = (ast.unparse(tree).splitlines() for tree in (ast.parse(SOURCE), planted(SOURCE, number)))
    (pair,) = [(line, other) for line, other in zip(plain, changed, strict=True) if line != other]
    assert pair[1].replace(mutant.after, mutant.before, 1).replace("(not is_low)", "not is_low") == pair[0]


def test_every_operator_of_the_modules_is_known_and_a_product_of_matrices_is_left_alone():
    assert {each.module for each in draw(2 * len(TESTS_OF), 0, list(TESTS_OF))} == {*TESTS_OF}
    assert mutants_of("def product(left, right):\n    return left @ right") == []


def test_sample_takes_the_same_mutants_for_a_seed_and_as_many_of_each_module():
    first, again, other = (draw(20, seed, ["splitters.walk_forward", "metrics.account"]) for seed in (3, 3, 4))
    assert [str(each) for each in first] == [str(each) for each in again] != [str(each) for each in other]
    assert [
        sum(each.module == module for each in first) for module in ("splitters.walk_forward", "metrics.account")
    ] == [
        10,
        10,
    ]


@pytest.mark.parametrize(("n_survivors", "is_enough"), [(0, True), (2, True), (3, False)])
def test_report_names_survivors_and_refuses_more_than_a_tenth(capsys, n_survivors, is_enough):
    mutants = draw(20, 0, ["splitters.walk_forward"])
    assert report(mutants, [place >= n_survivors for place in range(20)], ["splitters.walk_forward"]) == is_enough
    said = capsys.readouterr().out
    assert f"{20 - n_survivors} of  20 killed" in said
    # Two mutants of a line may read alike, and one may end as another does.
    assert [line.strip() for line in said.splitlines() if "not noticed" in line] == [
        f"{mutant}: not noticed by any test" for mutant in mutants[:n_survivors]
    ]


def test_command_kills_mutants_of_costs():
    run = subprocess.run(
        [sys.executable, "-m", "hf_pipelines_tests.mutants", "--sample", "2", "--jobs", "1", "costs"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 of   2 killed (100%)" in run.stdout
