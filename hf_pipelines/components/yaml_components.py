"""YAML components: the component that the values of a file make, and its faults with their lines.

Lives here: validating the values of a file, the place of a fault. Does not live here: the rules of the file itself (`yaml_files`), what
fields mean (`market`, `strategy`), how their faults are worded (`yaml_lines`).
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from hf_pipelines.components.yaml_files import FILE_NAMES, FileValues, component_file, read_values
from hf_pipelines.components.yaml_lines import FaultyYAMLError, FieldPath, field_faults, line_of
from hf_pipelines.research.wording import LEAST_LIKENESS, with_nearest

Component = TypeVar("Component", bound=BaseModel)

# Components whose files were read already, by folder, while they are built into definitions.
_READ: ContextVar[Mapping[Path, BaseModel]] = ContextVar("components that were read", default=MappingProxyType({}))


@contextmanager
def reading_once(components: Mapping[Path, BaseModel]) -> Iterator[None]:
    """While it lasts `component_of` gives these, by their folders, and reads the files of others alone."""
    token = _READ.set(components)
    try:
        yield
    finally:
        _READ.reset(token)


def component_of(kind: type[Component], folder: Path) -> Component:
    """The component in a folder, as its file gives it.

    Dagster's own reading is not used: it evaluates every text as a template, in which "300027" becomes a number.

    Raises
    ------
    FaultyYAMLError
        A line a fault: `FILE:LINE: rule`.
    """
    if isinstance(known := _READ.get().get(folder), kind):
        return known
    path = component_file(folder) or folder / FILE_NAMES[0]
    return component_of_values(kind, path, read_values(path))


def component_of_values(
    kind: type[Component], path: Path, values: FileValues, *, is_in_place: bool = True
) -> Component:
    """As `component_of`, of a file that was read; one that is not in its place may have any name."""
    folder = path.parent
    try:
        found = kind.model_validate(values.attributes)
    except ValidationError as e:
        faults = {place: _hinted(kind, place, fault) for place, fault in field_faults(e, values.attributes).items()}
        raise FaultyYAMLError(
            "\n".join(
                f"{_line_of(path, values, place, fault)}: {fault}"
                for place, fault in sorted(faults.items(), key=lambda each: values.line_of(each[0]))
            )
        ) from e
    name = getattr(found, "name", folder.name)
    if is_in_place and name != folder.name:
        # Two of one name would be taken for one another.
        raise FaultyYAMLError(
            f"{path}:{values.line_of(('name',))}: `name` must be that of the component's folder, {folder.name}, was {name!r}; rename one."
        )
    return found


def _hinted(kind: type[BaseModel], place: FieldPath, fault: str) -> str:
    """A fault with the known name that is meant, of fields and of what they list."""
    is_stray = bool(place) and fault.endswith(("is it misspelt?", "names are easily misspelt."))
    known = _fields_below(kind, place[:-1]) if is_stray else []
    near = get_close_matches(str(place[-1]), known, n=1, cutoff=LEAST_LIKENESS) if is_stray else []
    if not near:
        return with_nearest(fault)
    return re.sub(r"(is it misspelt\?|a parameter of .* misspelt\.)$", f"did you mean {near[0]}?", fault)


def _fields_below(kind: Any, place: FieldPath) -> list[str]:
    """Names of the fields of the model at a place; none where there is no model, or several that it may be."""
    for part in place:
        field = getattr(kind, "model_fields", {}).get(part)
        inner = [] if field is None else [field.annotation, *get_args(field.annotation)]
        models = [each for each in inner if isinstance(each, type) and issubclass(each, BaseModel)]
        if len(models) != 1:
            return []
        kind = models[0]
    return [*getattr(kind, "model_fields", {})]


def _line_of(path: Path, values: FileValues, place: FieldPath, fault: str) -> str:
    """File and line of a fault: of the value that it refuses, where that stands below its field."""
    named = re.match(r"`([\w.]+)`", fault)
    parts: FieldPath = tuple(int(each) if each.isdigit() else each for each in named[1].split(".")) if named else ()
    if place and (not parts or parts == place[-len(parts) :]):
        return f"{path}:{values.line_of(place)}"
    # The whole name first: of several learners inside of one each may have such a parameter.
    of_field = [each for each in values.lines if each[1 : 1 + len(place)] == place]
    below = [each for n in (len(parts), 1) for each in of_field if parts and each[-n:] == parts[-n:]]
    return f"{path}:{values.lines[below[0]]}" if place and below else line_of(path, ".".join(map(str, place)), fault)
