"""YAML lines: the words and the line of a fault in a component's YAML.

Lives here: what pydantic finds in our form, finding the line of a field, and finding a fault again among what Dagster wraps
around it. Does not live here: what is a fault (`yaml_files`, `market`, `strategy`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from dagster.components.core.component_tree import ComponentTreeException
from pydantic import ValidationError

from hf_pipelines.research.wording import with_nearest


class FaultyYAMLError(ValueError):
    """The YAML of a component is faulty: a line a fault, each with its file and line."""


# What a component's loading ends with, by Dagster or before it comes to that.
LOADING_ERRORS = (ComponentTreeException, FaultyYAMLError)

# Rules of a field by the type of pydantic's error; what is not here has a message of its own.
RULES = {
    "bool": "be true or false",
    "int": "be a whole number",
    "float": "be a number",
    "finite": "be a finite number",
    "string": "be text",
    "tuple": "be a list",
    "list": "be a list",
    "sequence": "be a list",
    "dict": "be a mapping",
    "mapping": "be a mapping",
    "model": "be a mapping",
}

# Fields that are judged by what another one brings in: while that is faulty, theirs is no fault to tell.
_MODULES = ("modules", "feature_modules")
JUDGED_BY = dict.fromkeys(
    ("features", "source", "references", "target", "cross_validation", "diagnostics", "learner", "signal", "backtest"),
    _MODULES,
)

FieldPath = tuple[str | int, ...]

# A type that a field may have: the field, and pydantic's name of the type.
Shape = tuple[FieldPath, str] | None


def field_faults(error: ValidationError, attributes: Any) -> dict[FieldPath, str]:
    """What pydantic found wrong with a component, one fault a field, in our form.

    Parameters
    ----------
    error : ValidationError
    attributes : object
        The values that were validated.

    Returns
    -------
    dict of tuple to str
        Fault by the keys and positions of its field; () for one of several fields.
    """
    by_place: dict[FieldPath, list[tuple[Shape, Any]]] = {}
    for each in error.errors(include_url=False):
        place, shape = _place_of(each["loc"], attributes, is_missing=each["type"] == "missing")
        by_place.setdefault(place, []).append((shape, each))
    # Of the types that a field may have, the one is meant that its `type` names; where it names none, that is the fault.
    refused = {
        shape for errors in by_place.values() for shape, each in errors if shape and each["type"] == "literal_error"
    }
    open_fields = {shape[0] for errors in by_place.values() for shape, _ in errors if shape and shape not in refused}
    faults = {}
    for place, errors in by_place.items():
        meant = [
            each
            for shape, each in errors
            if shape not in refused or (each["type"] == "literal_error" and shape and shape[0] not in open_fields)
        ]
        judges = JUDGED_BY.get(str(place[0]), ()) if place else ()
        if meant and {each[:1] for each in by_place}.isdisjoint((judge,) for judge in judges):
            faults[place] = _worded(place, meant, is_beside_type=_has_type(attributes, place))
    return faults


def _place_of(loc: FieldPath, attributes: Any, *, is_missing: bool) -> tuple[FieldPath, Shape]:
    """Place of a fault in the values, and which of the types that a field may have pydantic speaks of."""
    place: list[str | int] = []
    shape: Shape = None
    value = attributes
    for i, part in enumerate(loc):
        is_there = (isinstance(value, dict) and part in value) or (
            isinstance(value, list) and isinstance(part, int) and part < len(value)
        )
        if is_there:
            place.append(part)
            value = value[part]
        elif is_missing and i == len(loc) - 1:
            place.append(part)
        else:
            shape = shape or (tuple(place), str(part))
    return tuple(place), shape


def _has_type(attributes: Any, place: FieldPath) -> bool:
    """Whether a field stands in a mapping that names an entry of a registry."""
    for part in place[:-1]:
        attributes = attributes[part]
    return len(place) > 1 and isinstance(attributes, dict) and "type" in attributes


def _worded(place: FieldPath, errors: list[Any], *, is_beside_type: bool) -> str:
    """One fault out of what pydantic says of a field, once for each type that it may have."""
    name = ".".join(str(each)[:40] for each in place)
    first = errors[0]
    kind = first["type"]
    if kind == "value_error":
        rule = str(first["ctx"]["error"])
        return rule if rule.startswith("`") else f"`{name}` {rule}"
    if kind == "missing":
        return f"`{name}` must be given, was missing."
    if kind == "extra_forbidden" and is_beside_type:
        return (
            f"`{name}` must be a field that the YAML reference lists, was none of them; a parameter of the `type` stands below "
            "`params`, and names are easily misspelt."
        )
    if kind == "extra_forbidden":
        return f"`{name}` must be a field that the YAML reference lists, was none of them; is it misspelt?"
    names = [name for each in errors if each["type"] == "literal_error" for name in _expected(each)]
    rules = [f"be one of {', '.join(dict.fromkeys(names))}"] if names else []
    rules += [RULES.get(_expected_kind(each), f"be right ({each['msg']})") for each in errors if not names]
    rule = " or ".join(dict.fromkeys(rules)).replace(" or be ", " or ")
    return f"`{name or 'attributes'}` must {rule}, was {_shown(first['input'])}{_remedy(kind, first['input'])}."


def _expected_kind(error: Any) -> str:
    """Key in `RULES` of what a field must be."""
    if error["type"] == "is_instance_of":
        return str(error["ctx"]["class"]).lower()
    return str(error["type"]).split("_")[0]


def _expected(error: Any) -> list[str]:
    """Names that a field of a few may have."""
    return re.findall(r"'([^']*)'", error["ctx"]["expected"])


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return "empty" if value is None else repr(value)[:60]


def _remedy(kind: str, value: Any) -> str:
    # YAML reads 0700, 1E5 and yes as numbers and as true.
    return "; write it in quotes" if kind == "string_type" and isinstance(value, bool | int | float) else ""


def loading_fault(error: BaseException, defs: Path) -> str:
    """What is wrong with the YAML of a component that cannot be loaded: a line a fault, with its file and line.

    Parameters
    ----------
    error : BaseException
        As loading has raised it, with what it was raised from.
    defs : Path
        Folder of the components.

    Returns
    -------
    str
        "" if the fault is none of the YAML: then it is one of the code, and its traceback is needed.
    """
    folder = defs
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ComponentTreeException):
            # Its first line ends with the component: `markets/us_tech[0]:`.
            folder = defs / str(cause).splitlines()[0].split()[-1].partition("[")[0].rstrip(":")
        elif isinstance(cause, ValueError) and not isinstance(cause, ValidationError):
            is_placed = re.match(r"\S+:\d+: ", str(cause)) or not (folder / "defs.yaml").exists()
            fault = str(cause) if is_placed else f"{line_of(folder, '', str(cause))}: {cause}"
            return "\n".join(map(with_nearest, fault.splitlines()))
        cause = cause.__cause__
    return ""


def fault_of(error: Exception, defs: Path) -> str:
    """As `loading_fault`; an error that is none of the YAML is raised again.

    Raises
    ------
    Exception
        `error` itself.
    """
    if fault := loading_fault(error, defs):
        return fault
    raise error


def fault_lines(faults: Mapping[Path, str]) -> list[str]:
    """Every line of the faults of several components."""
    return [line for fault in faults.values() for line in fault.splitlines()]


def line_of(folder: Path, field: str, fault: str = "") -> str:
    """File and line of a field in a component's YAML.

    Parameters
    ----------
    folder : Path
        Of the component, or its file.
    field : str
        Dotted for a nested one; "" takes the field that `fault` names first.
    fault : str
        Message of the form "`field` must ..., was <values>": the line below the field that holds a value refused, or
        else the field's own, is returned.
    """
    path = folder / "defs.yaml" if folder.is_dir() else folder
    text = path.read_text()
    named = re.match(r"`([\w.]+)", fault)
    refused = [each.strip(".") for each in re.findall(r"[\w./-]+", fault.rpartition(", was ")[2].partition(";")[0])]
    scopes = _spans(_composed(text), field) if field else [_Span(0, 0, _composed(text))]
    inner = [span for scope in scopes for span in _spans(scope.node, named[1])] if named else []
    spans = inner or scopes
    return f"{path}:{_line_among(spans, text.splitlines(), refused) + 1}"


@dataclass(frozen=True)
class _Span:
    """Lines of a field, from its key to the end of its value, and the node of the value."""

    first: int
    last: int
    node: yaml.Node | None


def _composed(text: str) -> yaml.Node | None:
    """Tree of a document with the places of its values; None of one that cannot be parsed, which is told elsewhere."""
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return None


def _spans(node: yaml.Node | None, field: str) -> list[_Span]:
    """Where a dotted field stands below a node, in the order of the file; where it does not, the part of it that does."""
    parts = field.split(".")
    keyed = list(_keyed(node))
    for n in range(len(parts), 0, -1):
        found = [span for key, span in keyed if key == parts[0] for span in _below(span, parts[1:n])]
        if found:
            return found
    return []


def _keyed(node: yaml.Node | None) -> Iterator[tuple[str, _Span]]:
    """Every key of a node and of all below it."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield str(key.value), _Span(key.start_mark.line, _last_line(value), value)
            yield from _keyed(value)
    elif isinstance(node, yaml.SequenceNode):
        for each in node.value:
            yield from _keyed(each)


def _below(span: _Span, parts: Sequence[str]) -> list[_Span]:
    """The span of a path below another one, by keys and positions."""
    for part in parts:
        node, inner = span.node, None
        if isinstance(node, yaml.MappingNode):
            inner = next(
                (
                    _Span(key.start_mark.line, _last_line(value), value)
                    for key, value in node.value
                    if key.value == part
                ),
                None,
            )
        elif isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            value = node.value[int(part)]
            inner = _Span(value.start_mark.line, _last_line(value), value)
        if inner is None:
            return []
        span = inner
    return [span]


def _last_line(node: yaml.Node) -> int:
    """Last line of a value: a mapping ends for the parser where the next one begins."""
    if isinstance(node, yaml.ScalarNode):
        return int(node.end_mark.line)
    values = [each for pair in node.value for each in (pair if isinstance(pair, tuple) else [pair])]
    return max([int(node.start_mark.line), *map(_last_line, values)])


def _line_among(spans: Sequence[_Span], lines: Sequence[str], refused: Sequence[str]) -> int:
    """The first line of some fields that holds a value refused; else that of the first field."""
    words = [re.compile(rf"(?<![\w./-]){re.escape(each)}(?![\w./-])") for each in refused if each]
    for span in spans:
        for at in range(span.first, span.last + 1):
            if any(word.search(lines[at]) for word in words):
                return at
    return spans[0].first if spans else 0
