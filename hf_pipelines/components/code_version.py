"""Code versions: a hash of what an asset's content depends on besides its inputs.

Lives here: the source of registry functions, followed through all that they reach of our own code and that of a
researcher's modules, and the YAML fields an asset reads. Does not live here: which asset reads what (`market`,
`strategy`).

A function is its source, what it finds by name outside itself, its defaults, its attributes and what its closure holds;
the same for whatever these hold in turn, in a dict, a tuple, a partial, a bound method, an instance or a class. No module's
name takes part: a function that moves to another file is the same function. What is installed is pinned elsewhere and counts
by its name. What cannot be read is refused: nobody would see it change.
"""

import enum
import functools
import hashlib
import inspect
import json
import linecache
import pickle
import re
import sys
import sysconfig
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import MISSING
from datetime import date, time, timedelta, tzinfo
from importlib import import_module
from importlib.util import find_spec, resolve_name
from json.encoder import encode_basestring_ascii
from pathlib import PurePath
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GenericAlias,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    UnionType,
)
from typing import Any

from hf_pipelines.components.code_memory import Memory, Read, memory
from hf_pipelines.components.code_names import chains, imported, names

_DIGITS = 16

# Files below these are installed packages and Python itself.
_INSTALLED = tuple({sysconfig.get_path(each) for each in ("stdlib", "platstdlib", "purelib", "platlib")})

_OUR_PACKAGE = __name__.partition(".")[0]

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), date, time, timedelta, tzinfo, PurePath)

_ABSENT = object()


class CodeVersion(str):
    """16 hexadecimal digits that know which functions they were made of.

    Attributes
    ----------
    codes : frozenset of code objects
        Of every function of our own that takes part.
    """

    codes: frozenset[CodeType]


def code_version(*roots: Any, fields: Mapping[str, Any], chosen_from: Collection[Any] = ()) -> CodeVersion:
    """Hash of YAML fields and of all that functions depend on.

    Parameters
    ----------
    roots : functions, compiled functions, classes or instances
        In any order.
    fields : mapping
        JSON values.
    chosen_from : collection of registries
        Tables out of which `roots` were chosen: their other entries change nothing, unless a function of somebody else's
        module reads the table.

    Raises
    ------
    ValueError
        If something that a root reaches cannot be read: a function without a source file, an object of an unknown kind.
    """
    reader = _Reader(frozenset(id(each) for each in chosen_from))
    sources = sorted({*(reader.read(each, "a root") for each in roots), *reader.functions()})
    text = json.dumps({"fields": fields, "sources": sources}, sort_keys=True, default=str)
    version = CodeVersion(_digest(text))
    version.codes = frozenset(reader.codes)
    return version


class _Reader:
    """Reads objects into text.

    A function is read as its source and what it holds; what it finds by name is read once a function, in `functions`:
    functions that call each other are no circle then, and it does not matter which of them is met first.
    """

    def __init__(self, left_out: frozenset[int]) -> None:
        self.left_out = left_out
        self.codes: set[CodeType] = set()
        self._shared: Memory = memory(left_out)
        self._in_circles: dict[int, Read] = {}
        # Of the object that is read just now.
        self._functions: dict[int, FunctionType] = {}
        self._is_in_circle = False

    def functions(self) -> Iterator[str]:
        """What every function that was reached finds by name."""
        waiting = list(self._functions.values())
        met = {*self._functions}
        while waiting:
            function = waiting.pop()
            self.codes.add(function.__code__)
            found = self._shared.found.get(id(function)) or self._find(function)
            yield found.text
            new = [each for each in found.functions if id(each) not in met]
            met.update(map(id, new))
            waiting += new

    def _find(self, function: FunctionType) -> Read:
        read = self._read_apart(function, lambda: self._found(function))
        if not read.is_in_circle:
            self._shared.found[id(function)] = read
        return read

    def _found(self, function: FunctionType) -> str:
        name = function.__qualname__
        found = [
            f"{key}: {self._read_found(function, each, f'{key} of {name}')}" for key, each in _found_by_name(function)
        ]
        return _joined(name, [self.read(function, name), *found])

    def _read_found(self, function: FunctionType, value: Any, where: str) -> str:
        # Our own functions take out of a table what was chosen, which is a root; somebody else's may take any entry.
        if id(value) in self.left_out and (function.__module__ or "").partition(".")[0] != _OUR_PACKAGE:
            return self._read_new(value, where)
        return self.read(value, where)

    def read(self, value: Any, where: str) -> str:
        """Text that changes with everything that `value` depends on; `where` says in words what it is."""
        # Most values are of these types or known: the first question is answered without a walk over classes.
        if type(value) in _PLAIN:
            return f"{type(value).__name__} {value!r}"
        key = id(value)
        if key in self.left_out:
            return "chosen from"
        read = self._shared.read.get(key) or self._in_circles.get(key)
        if read is None:
            if isinstance(value, _PLAIN) and not isinstance(value, enum.Enum):
                return f"{type(value).__name__} {value!r}"
            itself = f"itself {type(value).__name__} {getattr(value, '__qualname__', '')}"
            self._in_circles[key] = Read(value, itself, (), is_in_circle=True)
            read = self._read_apart(value, lambda: self._read_new(value, where))
            if read.is_in_circle:
                self._in_circles[key] = read
            else:
                self._shared.read[key] = read
                del self._in_circles[key]
        self._functions.update((id(each), each) for each in read.functions)
        self._is_in_circle |= read.is_in_circle
        return read.text

    def _read_apart(self, value: Any, read: Callable[[], str]) -> Read:
        """An object, with the functions that it holds alone."""
        around = self._functions, self._is_in_circle
        self._functions, self._is_in_circle = {}, False
        text = read()
        made = Read(value, text, tuple(self._functions.values()), self._is_in_circle)
        self._functions, self._is_in_circle = around
        return made

    def _read_new(self, value: Any, where: str) -> str:
        match value:
            case FunctionType():
                return self._function(value) if _is_own(value) else _named(value)
            case type():
                return self._class(value) if _is_own(value) else _named(value)
            case MethodType():
                return self._parts("method", where, [value.__func__, value.__self__])
            case functools.partial():
                return self._parts("partial", where, [value.func, value.args, value.keywords])
            case functools.partialmethod():
                return self._parts("partialmethod", where, [value.func, value.args, value.keywords])
            case staticmethod() | classmethod():
                return self._parts(type(value).__name__, where, [value.__func__])
            case property():
                return self._parts("property", where, [value.fget, value.fset, value.fdel])
            case functools.cached_property():
                return self._parts("cached_property", where, [value.func])
            case ModuleType() | BuiltinFunctionType() | MemberDescriptorType():
                return f"{type(value).__name__} {value.__name__}"
            case dict() | MappingProxyType():
                return self._parts("mapping", where, [each for item in value.items() for each in item])
            case tuple() | list():
                return self._parts(type(value).__name__, where, [*value, *self._fields(value)])
            case set() | frozenset():
                return _joined("set", sorted(self.read(each, where) for each in value))
            case enum.Enum():
                return self._parts("member", where, [type(value), value.name, value.value])
            case re.Pattern():
                return f"pattern {value.pattern!r} {value.flags}"
            case GenericAlias() | UnionType():
                return self._parts("type", where, [getattr(value, "__origin__", "|"), *value.__args__])
        # Compiled by numba, cached, or made to look like a function: what it stands for says what it does.
        inner = (vars_of.get(name) for vars_of in [_held(value)] for name in ("py_func", "__wrapped__"))
        for each in (*inner, getattr(value, "py_func", None), getattr(value, "__wrapped__", None)):
            if isinstance(each, FunctionType):
                return self._parts(f"stands for ({type(value).__name__})", where, [each])
        if _is_own(type(value)):
            return self._instance(value, where)
        return _foreign(value, where)

    def _parts(self, kind: str, where: str, parts: list[Any]) -> str:
        return _joined(kind, [self.read(each, where) for each in parts])

    def _function(self, function: FunctionType) -> str:
        code, name = function.__code__, function.__qualname__
        self._functions[id(function)] = function
        cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
        held = {
            **{f"{each} of the closure": _content(cell) for each, cell in cells},
            "defaults": function.__defaults__,
            "keyword defaults": function.__kwdefaults__,
            **{f"attribute {each}": value for each, value in _attributes(function).items()},
        }
        parts = [f"{key}: {self.read(each, f'{key} of {name}')}" for key, each in sorted(held.items())]
        return _joined(name, [_source(code), *parts])

    def _class(self, cls: type) -> str:
        members = [f"{each.name}: {each.value!r}" for each in cls] if issubclass(cls, enum.Enum) else []
        held = {
            name: value
            for name, value in vars(cls).items()
            if not _is_of_python(cls, name, value) and not _is_generated(value) and cls not in type(value).__mro__
        }
        # A dataclass is also the names, the order and the defaults of its fields.
        fields = [
            f"{each.name} {each.init} {each.compare} "
            + " ".join(
                self.read(default, f"{each.name} of {cls.__qualname__}")
                for default in (each.default, each.default_factory)
                if default is not MISSING
            )
            for each in getattr(cls, "__dataclass_fields__", {}).values()
        ]
        bases = [self.read(each, f"a base of {cls.__qualname__}") for each in cls.__bases__ if each is not object]
        parts = [f"{key}: {self.read(each, f'{key} of {cls.__qualname__}')}" for key, each in sorted(held.items())]
        return _joined(cls.__qualname__, [*members, *fields, *bases, *parts])

    def _instance(self, value: Any, where: str) -> str:
        held = {name: each for name, each in _held(value).items() if not name.startswith("__")}
        # Computed once when it is first asked for: not part of what the instance is.
        computed = {
            name
            for each in type(value).__mro__
            for name, found in vars(each).items()
            if isinstance(found, functools.cached_property)
        }
        names = sorted({*held} - computed)
        parts = [f"{name}: {self.read(held[name], f'{name} of {where}')}" for name in names]
        return _joined("instance", [self.read(type(value), where), *parts])

    def _fields(self, value: Any) -> list[Any]:
        """The class of a named tuple."""
        return [type(value)] if type(value) not in (tuple, list) else []


def _joined(kind: str, parts: list[str]) -> str:
    """A short text for a long one: what holds it again stays short."""
    # What `json.dumps` makes of a list of texts, without an encoder for each.
    return f"{kind} {_digest('[' + ', '.join(map(encode_basestring_ascii, parts)) + ']')}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _attributes(function: FunctionType) -> dict[str, Any]:
    """What was written to a function; what `functools.wraps` copied belongs to the function that is wrapped."""
    copied = getattr(getattr(function, "__wrapped__", None), "__dict__", {})
    return {
        name: value
        for name, value in vars(function).items()
        if not name.startswith("__") and copied.get(name, function) is not value
    }


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        # Not bound yet: a name that is never given a value.
        return None


def _held(value: Any) -> dict[str, Any]:
    """What an instance holds, in its dict and in its slots."""
    slots = {
        name: getattr(value, name)
        for cls in type(value).__mro__
        for name in _slots(cls)
        if hasattr(value, name) and name not in ("__dict__", "__weakref__")
    }
    return {**slots, **getattr(value, "__dict__", {})}


def _slots(cls: type) -> tuple[str, ...]:
    slots = vars(cls).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _is_own(value: Any) -> bool:
    """Whether a function or class is ours or a researcher's: nobody pins the version of its package."""
    return _is_own_module(getattr(value, "__module__", None) or "", getattr(value, "__code__", None))


def _is_own_module(name: str, code: CodeType | None = None) -> bool:
    if name.partition(".")[0] == _OUR_PACKAGE:
        # What makes versions is no part of one: it holds the folders of this machine.
        return name != __name__
    if name in ("builtins", "typing"):
        return False
    module = sys.modules.get(name)
    path = getattr(module, "__file__", None) or (code.co_filename if code is not None else None)
    # Without a file it was typed in: ours, and refused where its source is wanted.
    if path is None:
        return module is None or name == "__main__"
    return not _is_installed(path)


@functools.cache
def _is_own_package(name: str) -> bool:
    """Whether a package is ours or a researcher's, without importing it."""
    if name == _OUR_PACKAGE:
        return True
    found = find_spec(name)
    places = [found.origin or "", *(found.submodule_search_locations or ())] if found is not None else []
    return bool(places) and not any(each in ("built-in", "frozen") or _is_installed(each) for each in places if each)


@functools.cache
def _is_installed(path: str) -> bool:
    return path.startswith("<frozen") or path.startswith(_INSTALLED)


def _is_of_python(cls: type, name: str, value: Any) -> bool:
    """Whether Python keeps an attribute of a class for itself; some come when the class is used.

    Names of slots come when an instance is pickled or copied, annotations when they are asked for, an `__init__` of a base
    when a class that follows a protocol is first called: a version that knew them would change with what the process has done.
    """
    if name == "_abc_impl":
        return True
    is_inherited = any(vars(base).get(name, _ABSENT) is value for base in cls.__mro__[1:])
    return name.startswith("__") and name.endswith("__") and (is_inherited or not _is_code(value))


def _is_code(value: Any) -> bool:
    return isinstance(value, (FunctionType, staticmethod, classmethod, property)) or callable(value)


def _is_generated(value: Any) -> bool:
    """Whether a method was written by a dataclass or a named tuple: its fields say what it does."""
    function = value.fget if isinstance(value, property) else value
    code = getattr(getattr(function, "__wrapped__", function), "__code__", None)
    return code is not None and code.co_filename.startswith("<string>")


@functools.cache
def _source(code: CodeType) -> str:
    # The lines of its code: `inspect.getsource` tokenizes them, and follows `__wrapped__` away from a wrapper.
    lines = linecache.getlines(code.co_filename)[code.co_firstlineno - 1 : _last_line(code)]
    if not lines:
        raise ValueError(
            f"`source` of {code.co_qualname} must be readable, was in {code.co_filename!r}, which is no file; define it in a "
            "module, or nobody can see that it changed."
        )
    return inspect.cleandoc("\n" + "".join(lines))


def _last_line(code: CodeType) -> int:
    nested = (_last_line(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return max([code.co_firstlineno, *nested, *(line for _, _, line in code.co_lines() if line is not None)])


def _named(value: Any) -> str:
    """Something installed, whose version is pinned elsewhere."""
    return f"{type(value).__name__} {value.__module__}.{value.__qualname__}"


def _foreign(value: Any, where: str) -> str:
    """An object of an installed package: by its name if it is a function, else by what it would be stored as."""
    cls = type(value)
    if callable(value) and (name := getattr(value, "__qualname__", getattr(value, "__name__", None))):
        return f"{cls.__name__} {getattr(value, '__module__', '')}.{name}"
    if cls.__module__ == "typing":
        return f"typing {re.sub(r'[A-Za-z_0-9.]+[.]', '', repr(value))}"
    # What they hold belongs to a moment, not to the code; a `ContextVar` is a variable of the call under way.
    if cls.__module__ in ("logging", "_thread", "threading", "_contextvars"):
        return f"{cls.__module__}.{cls.__qualname__}"
    try:
        stored = pickle.dumps(value, protocol=4)
    except (pickle.PicklingError, TypeError, AttributeError) as e:
        raise ValueError(
            f"`{where}` must be something whose change can be seen (numbers, texts, tables of them, functions, instances of our "
            f"own classes), was {cls.__module__}.{cls.__qualname__}, which cannot be stored: {e}; make it inside the function."
        ) from e
    return f"{cls.__module__}.{cls.__qualname__} {hashlib.sha256(stored).hexdigest()}"


def _found_by_name(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function finds by name outside itself: functions, classes, constants, and what it imports where it runs."""
    code = function.__code__
    for name in sorted(names(code) & function.__globals__.keys()):
        found = function.__globals__[name]
        if not isinstance(found, ModuleType) or _is_read(code, "", name):
            yield from _resolved(name, found, code)
    for level, name, taken in sorted(imported(code)):
        full = resolve_name("." * level + name, function.__globals__.get("__package__")) if level else name
        if _is_own_package(full.partition(".")[0]):
            module = import_module(full)
            yield from _resolved(full.rpartition(".")[2], module, code)
            for each in taken:
                if hasattr(module, "__path__") and find_spec(f"{full}.{each}"):
                    yield from _resolved(each, import_module(f"{full}.{each}"), code)


def _resolved(name: str, value: Any, code: CodeType) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, ModuleType):
        yield name, value
    elif _is_own_module(value.__name__):
        for each in sorted(names(code) & vars(value).keys()):
            found = vars(value)[each]
            if not isinstance(found, ModuleType) or _is_read(code, name.rpartition(".")[2], each):
                yield from _resolved(f"{name}.{each}", found, code)


def _is_read(code: CodeType, before: str, name: str) -> bool:
    """Whether code reads `name` of what `before` names, or of its globals for "".

    A package knows a module when anybody has imported it: it takes part where the code goes through it, not where an
    attribute of something else has its name.
    """
    return (before, name) in chains(code)
