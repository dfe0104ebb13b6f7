"""YAML lines: where in a component's YAML a fault lies.

Lives here: finding the line of a field, naming it in the error of a component that cannot be loaded, and finding that
again among what Dagster wraps around it. Does not live here: what is a fault (`market`, `strategy`).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml
from dagster.components.core.component_tree import ComponentTreeException
from dagster.components.resolved.errors import ResolutionException
from dagster_shared.error import DagsterUnresolvableSymbolError
from pydantic import ValidationError


class FaultyYAMLError(ValueError):
    """The YAML of a component is faulty: a line a fault, each with its file and line."""


# What a component's loading ends with, by Dagster or before it comes to that.
LOADING_ERRORS = (
    ComponentTreeException,
    DagsterUnresolvableSymbolError,
    yaml.MarkedYAMLError,
    ValidationError,
    FaultyYAMLError,
)

# What pydantic says of a field, in our form.
WORDS = {
    "Field required": "must be given, was missing.",
    "Extra inputs are not permitted": "must be a field that the README lists, was none of them; is it misspelt?",
}

# A field of several types as Dagster names it: ``attributes.FIELD.TYPE.REST at FILE:LINE``.
SHAPED = re.compile(r"attributes\.([\w.]+?)\.(\w+SpecModel|str)((?:\.\w+)*) at (.+):\d+")

# Fields that are judged by what another one brings in: while that is faulty, theirs is no fault to tell.
JUDGED_BY = {"features": "feature_modules"}


@contextmanager
def naming_lines(folder: Path) -> Iterator[None]:
    """Turn what pydantic says of a component into one line a fault, each with its file and line.

    Raises
    ------
    ValueError
        In place of pydantic's error.
    """
    try:
        yield
    except ValidationError as e:
        faults = {".".join(map(str, each["loc"])): each["msg"].removeprefix("Value error, ") for each in e.errors()}
        told = {field: fault for field, fault in faults.items() if JUDGED_BY.get(field) not in faults}
        raise ValueError("\n".join(f"{line_of(folder, field, fault)}: {fault}" for field, fault in told.items())) from e


def require_folder_name(folder: Path, name: str) -> None:
    """Refuse a component that is not called as its folder: two of one name would be taken for one another.

    Raises
    ------
    ValueError
        With file and line.
    """
    expected = folder.name if folder.is_dir() else folder.parent.name
    if name != expected:
        raise ValueError(
            f"{line_of(folder, 'name')}: `name` must be that of the component's folder, {expected}, was {name!r}; rename one."
        )


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
        elif isinstance(cause, yaml.MarkedYAMLError):
            mark = cause.problem_mark or cause.context_mark
            return f"{f'{mark.name}:{mark.line + 1}' if mark else defs}: no YAML: {cause.problem or cause.context}"
        elif isinstance(cause, ValidationError):
            faults = [(".".join(map(str, each["loc"])), each["msg"]) for each in cause.errors()]
            return "\n".join(_placed(place, fault) for place, fault in _of_meant_types(faults))
        elif isinstance(cause, ResolutionException):
            fault = _unresolved(str(cause))
            return f"{_line_with(folder, fault)}: {fault}"
        elif isinstance(cause, DagsterUnresolvableSymbolError):
            return _unknown_type(str(cause), defs)
        elif isinstance(cause, ValueError):
            is_placed = re.match(r"\S+:\d+: ", str(cause)) or not (folder / "defs.yaml").exists()
            return str(cause) if is_placed else f"{line_of(folder, '', str(cause))}: {cause}"
        cause = cause.__cause__
    return ""


def _of_meant_types(faults: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Faults without those of the types that a field could have had and, by its `type`, has not."""
    found = []
    for place, fault in faults:
        if not (shaped := SHAPED.match(place)):
            found.append((place, fault))
            continue
        field, shape, rest, path = shaped.groups()
        given: Any = yaml.safe_load(Path(path).read_text())["attributes"]
        for part in field.split("."):
            given = given[int(part)] if part.isdigit() else given[part]
        if rest and isinstance(given, dict) and shape.lower().startswith(str(given.get("type")).lower()):
            found.append((place.replace(f".{shape}{rest}", rest), fault))
    return found or faults


def _placed(place: str, fault: str) -> str:
    """What Dagster says of a field, ``attributes.nam at FILE:LINE``, in our form."""
    field, _, where = place.strip("`").partition(" at ")
    name = re.sub(r"^attributes\.|\w+\[[\w., ]+\]\.", "", field)
    return f"{where}: {_worded(name, fault)}" if where else _worded(name, fault)


def _worded(field: str, fault: str) -> str:
    return f"`{field}` {WORDS[fault]}" if fault in WORDS else f"`{field}`: {fault}"


def _unresolved(told: str) -> str:
    """What is wrong with a field of which no shape fits, out of what Dagster says of each shape it may have."""
    shapes = [each.split("\n\n")[0] for each in told.split("validation error")[1:]]
    types = re.findall(r"Input should be '(\w+)' \[type=literal_error, input_value=(.+?), input_type", told)
    # That of the type meant: the others are refused for their type.
    meant = next((each for each in shapes if "type=literal_error" not in each), "")
    faults = re.findall(r"^ *([\w.]+)\n +(.+?) \[type=", meant, re.MULTILINE)
    if faults:
        return "; ".join(_worded(field, fault) for field, fault in faults)
    if types:
        return f"`type` must be one of {', '.join(name for name, _ in types)}, was {types[0][1]}."
    return told.splitlines()[0]


def _line_with(folder: Path, fault: str) -> str:
    """File of a component, and its first line that has the value refused as a value."""
    path = folder / "defs.yaml"
    refused = fault.rpartition(", was ")[2].strip(".'")
    lines = path.read_text().splitlines() if path.exists() else []
    found = [i for i, line in enumerate(lines, start=1) if re.search(rf":\s*['\"]?{re.escape(refused)}\b", line)]
    return f"{path}:{found[0]}" if found and ", was " in fault else str(path)


def _unknown_type(told: str, defs: Path) -> str:
    """Which YAML names a component that there is not; Dagster says its module and name only."""
    module, *name = re.findall(r"`([\w.]+)`", told)
    for path in sorted(defs.rglob("defs.yaml")):
        for i, line in enumerate(path.read_text().splitlines(), start=1):
            given = re.match(r"type:\s*['\"]?([\w.]+)", line)
            if given and (given[1] == ".".join((module, *name)) or (not name and given[1].startswith(f"{module}."))):
                return (
                    f"{path}:{i}: `type` must be hf_pipelines.components.Market, hf_pipelines.components.Strategy or another "
                    f"component that can be imported, was {given[1]!r}."
                )
    return told


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
    lines = path.read_text().splitlines()
    if not field and (named := re.match(r"`([\w.]+)", fault)):
        field = named[1]
    at = 0
    for part in field.split("."):
        at = next((i for i in range(at, len(lines)) if lines[i].strip().startswith(f"{part}:")), at)
    refused = [each.strip(".") for each in re.findall(r"[\w./-]+", fault.rpartition(", was ")[2].partition(";")[0])]
    for i in [at, *_block(lines, at)]:
        if any(value and re.search(rf"(?<![\w./-]){re.escape(value)}(?![\w./-])", lines[i]) for value in refused):
            at = i
            break
    return f"{path}:{at + 1}"


def _block(lines: list[str], at: int) -> list[int]:
    """Numbers of the lines that belong to the field in line `at`: those indented below it."""

    def indent(i: int) -> int:
        return len(lines[i]) - len(lines[i].lstrip())

    return list(takewhile(lambda i: not lines[i].strip() or indent(i) > indent(at), range(at + 1, len(lines))))
