"""How well the public API is documented: `python -m hf_pipelines_tests.api_docs` prints figures and what lacks.

Lives here: reading docstrings and comparing them with signatures and code. Does not live here: the list of what is public
(`hf_pipelines.commands.public_api`), the least that is asked for (`test_public_api`).
"""

import ast
import dataclasses
import inspect
import re
import textwrap
import warnings
from collections.abc import Iterator
from importlib import import_module
from typing import Any, NamedTuple

from numpydoc.docscrape import ClassDoc, FunctionDoc

from hf_pipelines.commands.public_api import API

# What says how large an array is, or in what a number is counted.
SHAPE_OR_UNIT = re.compile(
    r"\bof shape\b|\bshape \(|\bfractions?\b|\bcurrency\b|\b(basis points|sessions|bars|weeks|days|seconds|periods|nats|bytes)\b|"
    r"\bper (period|year)\b|\bof length\b|\bcodes?\b|\bratios? (?:per|of)\b|\bshares? of\b|\bUTC\b|\bNaN\b",
)
# Pages of the API whose functions are methods of the field, as splitters are: each cites what it follows, itself or in its module.
METHODS = ("metrics", "overfitting", "significance", "explanations")
# A part of numpydoc's that names where a method comes from.
SOURCE = re.compile(r"^References\n-{10}\n\S", re.MULTILINE)
# Types of values that have a shape or a unit; of the rest nothing of the kind can be told.
MEASURED = re.compile(
    r"\b(int|float|DataFrame|ndarray|array|Series|ArrayLike|NDArray|Floats|datetime|date|LazyFrame)\b"
)


class Documented(NamedTuple):
    """What the docstring of one public object has.

    Attributes
    ----------
    lacking : tuple of str
        In words, what it should have and has not; empty if none.
    has_parameters : bool
        Every parameter or field is there, or it has none.
    is_measured : bool
        Whether it takes or gives numbers or tables.
    has_measures : bool
        It says shapes or units.
    has_example : bool
    """

    name: str
    lacking: tuple[str, ...]
    has_parameters: bool
    is_measured: bool
    has_measures: bool
    has_example: bool


def documented() -> list[Documented]:
    """Every public object, in the order of the reference."""
    return [
        _judged(
            f"{module}.{name}", value, is_method=_is_splitter(value) or (page in METHODS and not inspect.isclass(value))
        )
        for page, modules in API.items()
        for module, names in modules.items()
        for name in names
        for value in [getattr(import_module(module), name)]
    ]


def _judged(name: str, value: Any, *, is_method: bool = False) -> Documented:
    text = inspect.getdoc(value) or ""
    is_class = inspect.isclass(value)
    with warnings.catch_warnings():
        # numpydoc warns of sections that it does not know: that is a fault.
        warnings.simplefilter("error")
        parsed = ClassDoc(value, config={"show_class_members": False}) if is_class else FunctionDoc(value)
    told = {
        part.strip().lstrip("*")
        for section in ("Parameters", "Attributes")
        for each in parsed[section]
        for part in each.name.split(",")
    }
    missing = sorted({*_arguments(value)} - told)
    stale = sorted(told - {*_arguments(value)} - {*_members(value)}) if not _is_protocol(value) else []
    untyped = sorted(each.name for each in parsed["Parameters"] if not each.type)
    lacking = {
        "a summary that is a sentence": not text.partition("\n")[0].endswith((".", ":"))
        and not text.partition("\n\n")[0].endswith("."),
        f"parameters {', '.join(missing)}": bool(missing),
        f"no such parameters as {', '.join(stale)}": bool(stale),
        f"types of {', '.join(untyped)}": bool(untyped),
        "Returns": not is_class and _gives(value) and not parsed["Returns"] and not parsed["Yields"],
        "Raises": not is_class and _raises(value) and not parsed["Raises"],
        "what NaN means": not is_class and _makes_nan(value) and "NaN" not in text,
        "a source (References, of its own or of its module)": is_method
        and not any(SOURCE.search(each) for each in (text, inspect.getdoc(inspect.getmodule(value)) or "")),
    }
    source = " ".join([str(inspect.signature(value)) if not _is_protocol(value) else "", text])
    return Documented(
        name=name,
        lacking=tuple(words for words, is_so in lacking.items() if is_so),
        has_parameters=not missing,
        is_measured=bool(MEASURED.search(source)),
        has_measures=bool(SHAPE_OR_UNIT.search(text)),
        has_example=">>>" in text,
    )


def _is_protocol(value: Any) -> bool:
    return bool(getattr(value, "_is_protocol", False))


def _is_splitter(value: Any) -> bool:
    return inspect.isclass(value) and hasattr(value, "get_n_splits") and not _is_protocol(value)


def _arguments(value: Any) -> Iterator[str]:
    """Parameters of a function, fields of a class."""
    if not inspect.isclass(value):
        yield from inspect.signature(value).parameters
    elif dataclasses.is_dataclass(value):
        yield from (each.name for each in dataclasses.fields(value) if each.init and not each.name.startswith("_"))
    elif hasattr(value, "model_fields"):
        yield from value.model_fields
    elif not _is_protocol(value) and "__init__" in vars(value):
        yield from [each for each in inspect.signature(value.__init__).parameters if each != "self"]
    elif hasattr(value, "_fields"):
        yield from value._fields


def _members(value: Any) -> Iterator[str]:
    """What else a class has that its docstring may tell."""
    if inspect.isclass(value):
        yield from (name for each in value.__mro__ for name in (*vars(each), *getattr(each, "__annotations__", {})))


def _gives(function: Any) -> bool:
    return inspect.signature(function).return_annotation not in (None, "None", inspect.Signature.empty)


def _raises(function: Any) -> bool:
    return "raise ValueError" in _source(function)


def _makes_nan(function: Any) -> bool:
    return bool(re.search(r"\bnan\b", _source(function))) and "nan_to_num" not in _source(function)


def _source(function: Any) -> str:
    """Code of a function, without its docstring."""
    tree: Any = ast.parse(textwrap.dedent(inspect.getsource(function)))
    body = tree.body[0].body
    return "\n".join(ast.unparse(each) for each in body[1:])


def figures() -> dict[str, float]:
    """Shares of the public objects, 0 to 1."""
    found = documented()
    measured = [each for each in found if each.is_measured]
    return {
        "lacks nothing": sum(not each.lacking for each in found) / len(found),
        "parameters": sum(each.has_parameters for each in found) / len(found),
        "shapes or units": sum(each.has_measures for each in measured) / len(measured),
        "examples": sum(each.has_example for each in found) / len(found),
    }


def main() -> None:
    found = documented()
    for each in found:
        for words in each.lacking:
            print(f"{each.name} lacks: {words}")
    for each in found:
        if each.is_measured and not each.has_measures:
            print(f"{each.name} says no shape or unit")
    print(f"{len(found)} public objects:", ", ".join(f"{name} {share:.1%}" for name, share in figures().items()))


if __name__ == "__main__":
    main()
