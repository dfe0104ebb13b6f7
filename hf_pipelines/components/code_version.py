"""Code versions: a hash of what an asset's content depends on besides its inputs.

Lives here: the source of registry functions, followed through the functions of the same package they call, and the
YAML fields an asset reads. Does not live here: which asset reads what (`market`, `strategy`).
"""

import functools
import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any


def code_version(*roots: Any, fields: Mapping[str, Any]) -> str:
    """Hash of YAML fields and of the source of functions.

    Parameters
    ----------
    roots : functions, compiled functions or classes
        Every function of the same package that they call, by name, counts too; other packages are pinned elsewhere.
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
    waiting, seen = list(roots), set()
    packages = {_package(_function(root)) for root in roots}
    while waiting:
        each = waiting.pop()
        if isinstance(each, functools.partial):
            yield json.dumps([each.args, each.keywords], sort_keys=True, default=str)
            waiting.append(each.func)
            continue
        found = _function(each)
        if found is None or id(found) in seen or _package(found) not in packages:
            continue
        seen.add(id(found))
        yield f"{found.__module__}.{found.__qualname__}\n{inspect.getsource(found)}"
        if isinstance(found, FunctionType):
            waiting.extend(_called(found))
            # What a closure holds (a kernel and its window) is part of what it computes.
            for cell in found.__closure__ or ():
                if isinstance(cell.cell_contents, int | float | str | tuple):
                    yield f"{found.__qualname__}: {cell.cell_contents!r}"
                else:
                    waiting.append(cell.cell_contents)


def _function(value: Any) -> Any:
    """The plain function or class behind `value`, None for anything else."""
    value = getattr(value, "py_func", value)
    value = getattr(value, "__wrapped__", value)
    return value if isinstance(value, FunctionType | type) else None


def _package(found: Any) -> str | None:
    return None if found is None else found.__module__.split(".")[0]


def _called(function: FunctionType) -> Iterator[Any]:
    names = set(_names(function.__code__))
    for name in sorted(names & set(function.__globals__)):
        value = function.__globals__[name]
        if isinstance(value, ModuleType):
            yield from (vars(value)[each] for each in sorted(names & set(vars(value))))
        else:
            yield value


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
