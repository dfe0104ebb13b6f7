"""Code versions: a hash of what an asset's content depends on besides its inputs.

Lives here: the source of registry functions, followed through the functions of the same package they call, and the
YAML fields an asset reads. Does not live here: which asset reads what (`market`, `strategy`).
"""

import functools
import hashlib
import inspect
import json
import linecache
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any


def code_version(*roots: Any, fields: Mapping[str, Any]) -> str:
    """Hash of YAML fields and of the source of functions.

    Parameters
    ----------
    roots : functions, compiled functions or classes
        Every function of the same package that they call and every constant they read, by name, count too; other
        packages are pinned elsewhere.
    fields : mapping
        JSON values.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    sources = sorted(set(_sources(roots)))
    text = json.dumps({"fields": fields, "sources": sources}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _sources(roots: tuple[Any, ...]) -> Iterator[str]:
    waiting: list[Any] = list(roots)
    seen: set[int] = set()
    packages = {_package(found) for root in roots if (found := _function(_unwrapped(root))) is not None}
    while waiting:
        each = waiting.pop()
        if isinstance(each, functools.partial):
            yield f"partial: {each.args!r} {sorted(each.keywords.items())!r}"
            each = _unwrapped(each)
        found = _function(each)
        if found is None or id(found) in seen or _package(found) not in packages:
            continue
        seen.add(id(found))
        yield f"{found.__module__}.{found.__qualname__}\n{_source(found)}"
        if isinstance(found, FunctionType):
            called = dict(_called(found))
            yield from (f"{name} = {value!r}" for name, value in called.items() if _is_constant(value))
            waiting.extend(called.values())
            # What a closure holds (a kernel and its window) is part of what it computes.
            for cell in found.__closure__ or ():
                if _is_constant(cell.cell_contents):
                    yield f"{found.__qualname__}: {cell.cell_contents!r}"
                else:
                    waiting.append(cell.cell_contents)


@functools.cache
def _source(found: FunctionType | type) -> str:
    if isinstance(found, type):
        return inspect.getsource(found)
    # The lines of its code: `inspect.getsource` tokenizes them, and follows `__wrapped__` away from a wrapper.
    code = found.__code__
    return "".join(linecache.getlines(code.co_filename)[code.co_firstlineno - 1 : _last_line(code)])


def _last_line(code: CodeType) -> int:
    nested = (_last_line(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return max([code.co_firstlineno, *nested, *(line for _, _, line in code.co_lines() if line is not None)])


def _is_constant(value: Any) -> bool:
    """Whether `value` is part of what a function computes and reads the same in every process."""
    if isinstance(value, tuple):
        return all(map(_is_constant, value))
    return isinstance(value, bool | int | float | str)


def _unwrapped(value: Any) -> Any:
    return value.func if isinstance(value, functools.partial) else value


def _function(value: Any) -> Any:
    """The function or class that `value` is or stands for: compiled (numba) or cached; None for anything else."""
    if isinstance(value, FunctionType | type):
        return value
    inner = (getattr(value, name, None) for name in ("py_func", "__wrapped__"))
    return next((each for each in inner if isinstance(each, FunctionType)), None)


def _package(found: FunctionType | type) -> str:
    return found.__module__.split(".")[0]


def _called(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function finds by name outside itself: functions, classes, constants."""
    names = set(_names(function.__code__))
    for name in sorted(names & set(function.__globals__)):
        value = function.__globals__[name]
        if isinstance(value, ModuleType):
            yield from ((f"{name}.{each}", vars(value)[each]) for each in sorted(names & set(vars(value))))
        else:
            yield name, value


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
