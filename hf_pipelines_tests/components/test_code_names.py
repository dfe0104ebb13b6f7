"""Names that code finds: as the standard library's disassembler has them, and of long functions too."""

import dis
import inspect
import sys
from types import CodeType

import pytest

import hf_pipelines.definitions  # noqa: F401
from hf_pipelines.components.code_names import chains


def _disassembled(code: CodeType) -> set[tuple[str, str]]:
    found, before = set(), ""
    for each in dis.get_instructions(code):
        if each.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL"):
            found.add(("", each.argval))
            before = each.argval
        elif each.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            found.add((before, each.argval))
            before = each.argval
        elif each.opname != "EXTENDED_ARG":
            before = ""
    inner = (_disassembled(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return found.union(*inner)


def test_names_of_every_function_of_ours_are_those_of_the_disassembler():
    own = [module for name, module in sorted(sys.modules.items()) if name.startswith("hf_pipelines.components")]
    functions = {value for module in own for value in vars(module).values() if inspect.isfunction(value)}
    codes = [each.__code__ for each in functions]
    assert len(codes) > 300
    assert all(chains(code) == _disassembled(code) for code in codes)


@pytest.mark.parametrize("n", [10, 300, 70_000])
def test_a_name_behind_hundreds_of_others_is_found(n):
    lines = "\n".join(f"    first.a{place}" for place in range(n))
    held: dict = {}
    exec(f"def function():\n{lines}\n    last.step.value\n", held)
    found = chains(held["function"].__code__)
    assert {("", "last"), ("last", "step"), ("step", "value"), ("first", f"a{n - 1}")} <= found
    assert len(found) == n + 4
