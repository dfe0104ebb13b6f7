"""YAML components: the component that the values of a file make, and its faults with their lines.

Lives here: validating the values of a file, the place of a fault. Does not live here: the rules of the file itself (`yaml_files`), what
fields mean (`market`, `strategy`), how their faults are worded (`yaml_lines`).
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar, get_args, runtime_checkable

from pydantic import BaseModel, ValidationError

from hf_pipelines.components.environment_overrides import STRATEGY_TYPE, environment_overrides
from hf_pipelines.components.setting_values import SettingOverride, culprits
from hf_pipelines.components.yaml_edit import with_value
from hf_pipelines.components.yaml_files import FILE_NAMES, FileValues, component_file, read_values
from hf_pipelines.components.yaml_lines import FaultyYAMLError, FieldPath, field_faults, line_of
from hf_pipelines.research.wording import LEAST_LIKENESS, with_nearest
from hf_pipelines.resources.setting_variables import setting_variables

Component = TypeVar("Component", bound=BaseModel)


@runtime_checkable
class Overridable(Protocol):
    """A component that knows what the environment sets of it."""

    def take_overrides(self, overrides: Sequence[SettingOverride]) -> None: ...


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
    """As `component_of`, of a file that was read; one that is not in its place may have any name.

    What the environment sets of a strategy is set in it, and is known to it as its `overrides`.
    """
    folder = path.parent
    found = _validated(kind, path, values)
    name = getattr(found, "name", folder.name)
    if is_in_place and name != folder.name:
        # Two of one name would be taken for one another.
        raise FaultyYAMLError(
            f"{path}:{values.line_of(('name',))}: `name` must be that of the component's folder, {folder.name}, was {name!r}; rename one."
        )
    return _overridden(kind, path, values, found, {name, *_siblings(folder)} if is_in_place else {name})


def _overridden(
    kind: type[Component], path: Path, values: FileValues, found: Component, names: Collection[str]
) -> Component:
    """The component as the environment sets it."""
    if values.type != STRATEGY_TYPE or not setting_variables():
        return found
    attributes = values.attributes
    try:
        overrides = environment_overrides(
            str(attributes["name"]), names, attributes, lambda place: _fields_below(kind, place)
        )
        for each in overrides:
            attributes = with_value(attributes, each.place, each.value)
    except ValueError as e:
        raise FaultyYAMLError(f"{path}:1: {e}") from e
    if not overrides:
        return found
    try:
        found = _validated(kind, path, replace(values, attributes=attributes))
    except FaultyYAMLError as e:
        lines = [f"{each} It is of {culprits(each, overrides)} in the environment." for each in str(e).splitlines()]
        raise FaultyYAMLError("\n".join(lines)) from e
    if isinstance(found, Overridable):
        found.take_overrides(overrides)
    return found


def _siblings(folder: Path) -> list[str]:
    """Names of the components beside a folder."""
    return [each.name for each in folder.parent.iterdir() if component_file(each) is not None]


def _validated(kind: type[Component], path: Path, values: FileValues) -> Component:
    try:
        return kind.model_validate(values.attributes)
    except ValidationError as e:
        faults = {place: _hinted(kind, place, fault) for place, fault in field_faults(e, values.attributes).items()}
        raise FaultyYAMLError(
            "\n".join(
                f"{_line_of(path, values, place, fault)}: {fault}"
                for place, fault in sorted(faults.items(), key=lambda each: values.line_of(each[0]))
            )
        ) from e


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
        field = _written_fields(kind).get(str(part))
        inner = [] if field is None else [field.annotation, *get_args(field.annotation)]
        models = [each for each in inner if isinstance(each, type) and issubclass(each, BaseModel)]
        if len(models) != 1:
            return []
        kind = models[0]
    return [*_written_fields(kind)]


def _written_fields(kind: Any) -> dict[str, Any]:
    """Fields of a model by the names that a YAML writes."""
    return {field.alias or name: field for name, field in getattr(kind, "model_fields", {}).items()}


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
