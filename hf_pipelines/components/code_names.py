"""Code names: what compiled code finds by name, reads of it and imports, without running it.

Lives here: the reading of instructions, each code object once. Does not live here: what becomes of the names (`code_version`).
"""

import dis
import functools
from types import CodeType

_IMPORT_NAME = dis.opmap["IMPORT_NAME"]

# Instructions that look a name up among globals, those that read an attribute of what was just loaded, and how far left of
# its lowest bits the number of the name is: below it a flag of the interpreter.
_LOOKS_UP = frozenset(dis.opmap[each] for each in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL"))
_READS = frozenset(dis.opmap[each] for each in ("LOAD_ATTR", "LOAD_METHOD"))
_NAME_SHIFTS = {each: int(each == dis.opmap["LOAD_GLOBAL"]) for each in _LOOKS_UP | _READS}
_CACHE = dis.opmap["CACHE"]


@functools.cache
def names(code: CodeType) -> frozenset[str]:
    inner = (names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return frozenset(code.co_names).union(*inner)


@functools.cache
def chains(code: CodeType) -> frozenset[tuple[str, str]]:
    """Every name that is looked up among globals, after "", and every attribute, after the name it is read of."""
    inner = (chains(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    found, before, high = [], "", 0
    # `dis.get_instructions` says it too, and four times as slowly: it also finds lines, jumps and words for each.
    for operation, low in zip(code.co_code[::2], code.co_code[1::2], strict=True):
        if operation == dis.EXTENDED_ARG:
            high = (high | low) << 8
        elif operation != _CACHE:
            shift = _NAME_SHIFTS.get(operation)
            name = "" if shift is None else code.co_names[(high | low) >> shift]
            if operation in _LOOKS_UP:
                found.append(("", name))
            elif operation in _READS:
                found.append((before, name))
            before, high = name, 0
    return frozenset(found).union(*inner)


@functools.cache
def imported(code: CodeType) -> frozenset[tuple[int, str, tuple[str, ...]]]:
    """Modules that a function imports where it runs: how many packages up, the name, and what is taken out of it."""
    inner = (imported(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    if _IMPORT_NAME not in code.co_code[::2]:
        return frozenset().union(*inner)
    steps = [each for each in dis.get_instructions(code) if each.opname != "EXTENDED_ARG"]
    found = [
        (level.argval, each.argval, taken.argval or ())
        for level, taken, each in zip(steps, steps[1:], steps[2:], strict=False)
        if each.opcode == _IMPORT_NAME
    ]
    return frozenset(found).union(*inner)
