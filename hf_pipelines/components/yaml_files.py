"""YAML files: what a component's file must be before anything is loaded from it, and the values it gives.

Lives here: the rules of the file itself (size, text, one document, no key twice, a known type, templates of environment
variables only), named with their lines. Does not live here: the component that they make (`yaml_components`), what its fields mean
(`market`, `strategy`), and how their faults are worded (`yaml_lines`).
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from hf_pipelines.components.yaml_lines import FaultyYAMLError, FieldPath

FILE_NAMES = ("defs.yaml", "defs.yml", "component.yaml")

# A universe of 10,000 members with spells and sectors takes 1 MB.
MAX_BYTES = 4_000_000
# The fields of our components nest five deep.
MAX_DEPTH = 20
# Values of a file, with those that an alias (*name) repeats: 5,000 members with spells and sectors are 50,000.
MAX_VALUES = 1_000_000
# Of one text, such as a description.
MAX_TEXT = 10_000

OWN_TYPES = ("hf_pipelines.components.Market", "hf_pipelines.components.Strategy")
TOP_KEYS = ("type", "attributes", "requirements", "post_processing")

# `{{ env.NAME }}`, `{{ env('NAME') }}` or `{{ env('NAME', 'default') }}`. Dagster evaluates any Jinja template in a
# value, loops without end among them.
VARIABLE = re.compile(
    r"""\{\{\s*env(?:\.(?P<name>[A-Za-z_]\w{0,99})
    |\(\s*(['"])(?P<called>[A-Za-z_]\w{0,99})\2\s*(?P<default>,\s*(?:(['"])[^'"{}\\\n]{0,200}\5|-?[\d.]{1,20}|true|false))?\s*\))
    \s*\}\}""",
    re.VERBOSE,
)
TEMPLATE = re.compile(r"\{[{%#]")


def component_file(folder: Path) -> Path | None:
    """File of the component in a folder; None if there is none."""
    return next((each for name in FILE_NAMES if (each := folder / name).exists() or each.is_symlink()), None)


def component_files(defs: Path) -> list[Path]:
    """Files of the components below a folder, sorted."""
    found = (component_file(Path(folder)) for folder, _, _ in os.walk(defs))
    return sorted(path for path in found if path)


@dataclass(frozen=True)
class FileValues:
    """What a component's file says.

    Attributes
    ----------
    type : str
        Dotted name of the component.
    attributes : object
        Mappings, lists and scalars as written: dates are text, and text stays text. Variables of the environment are filled in.
    lines : mapping of tuple to int
        Line of each value, by its keys and positions from `attributes` on; of a mapping or list: that of its key.
    """

    type: str
    attributes: Any
    lines: Mapping[FieldPath, int]

    def line_of(self, place: FieldPath) -> int:
        """Line of a value, or of the nearest that holds it."""
        known = (("attributes", *place[:n]) for n in range(len(place), -1, -1))
        return next((self.lines[each] for each in known if each in self.lines), 1)


def read_values(path: Path) -> FileValues:
    """The values of a component's file.

    Raises
    ------
    FaultyYAMLError
        A line a fault: `FILE:LINE: rule`.
    """
    return values_of_text(read_text(path), path)


def read_text(path: Path) -> str:
    """Text of a component's file.

    Raises
    ------
    FaultyYAMLError
        If it is no text that may be parsed.
    """
    try:
        return _text_of(path)
    except _FaultyTextError as e:
        raise FaultyYAMLError(f"{path}:{e.line}: {e}") from e


def values_of_text(text: str, path: Path) -> FileValues:
    """The values of a text, as if it were a component's file.

    Raises
    ------
    FaultyYAMLError
        A line a fault: `FILE:LINE: rule`.
    """
    try:
        reader = _Reader(yaml.parse(text, Loader=_Loader))
        if faults := [f"{path}:{line}: {fault}" for line, fault in reader.faults()]:
            raise FaultyYAMLError("\n".join(faults))
        values = plain_values(text)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        line = mark.line + 1 if mark else 1
        raise FaultyYAMLError(f"{path}:{line}: the file must be YAML, was not: {e.problem or e.context}.") from e
    except ValueError as e:
        if isinstance(e, FaultyYAMLError):
            raise
        # A number of thousands of digits, a date that is none: PyYAML leaves them to Python.
        raise FaultyYAMLError(
            f"{path}:1: the file must hold numbers that can be read, was with one that cannot: {e}."
        ) from e
    return FileValues(values["type"], _filled_in(values.get("attributes")), reader.lines)


def plain_values(text: str) -> Any:
    """Mappings, lists and scalars of a text: dates are text, and variables of the environment are as they are written."""
    return yaml.load(text, Loader=_Loader)


class _Loader(yaml.CSafeLoader):
    """PyYAML's safe loader, which leaves dates as text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def _filled_in(value: Any) -> Any:
    """A value with the variables of the environment in its texts."""
    if isinstance(value, dict):
        return {key: _filled_in(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_filled_in(each) for each in value]
    return VARIABLE.sub(_value_of, value) if isinstance(value, str) else value


def _value_of(variable: re.Match[str]) -> str:
    default = (variable["default"] or "").lstrip(", \t").strip("'\"")
    return os.environ.get(variable["name"] or variable["called"], default)


class _FaultyTextError(Exception):
    """The bytes of a file are no text to parse."""

    def __init__(self, fault: str, line: int = 1):
        super().__init__(fault)
        self.line = line


def _text_of(path: Path) -> str:
    """Text of a file that may be parsed."""
    try:
        if not path.is_file():
            raise _FaultyTextError("the file must be a regular file, was none; replace it by a YAML file.")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _FaultyTextError(f"the file must have at most {MAX_BYTES} bytes, was of {size}; split the market.")
        data = path.read_bytes()
    except OSError as e:
        raise _FaultyTextError(f"the file must be readable, was not: {e.strerror}; check its permissions.") from e
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise _FaultyTextError("the file must be UTF-8 text, was not; save it as UTF-8.", line) from e
    if found := re.search(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text):
        line = text.count("\n", 0, found.start()) + 1
        raise _FaultyTextError(f"the file must be text, was with the character {found[0]!r}; remove it.", line)
    if not text.strip():
        raise _FaultyTextError(
            "the file must have `type` and `attributes`, was empty; write them or remove the folder."
        )
    return text


@dataclass
class _Level:
    """A mapping or list that is being read."""

    is_mapping: bool
    place: FieldPath
    keys: dict[str, int] = field(default_factory=dict)
    # Of a mapping: the key whose value comes next; None where a key comes next.
    key: str | None = None
    # Of a list: how many values have come.
    n_values: int = 0
    anchor: str | None = None
    # Values below it, and how deep they nest, with those of aliases.
    size: int = 1
    depth: int = 1

    @property
    def awaits_key(self) -> bool:
        return self.is_mapping and self.key is None

    @property
    def next_place(self) -> FieldPath:
        """Place of the value that comes next."""
        if not self.is_mapping:
            return (*self.place, self.n_values)
        return self.place if self.key is None else (*self.place, self.key)


@dataclass
class _Reader:
    """Judges the events of one YAML stream: no value is built, so that nothing can grow.

    Attributes
    ----------
    lines : dict of tuple to int
        Line of each value read so far, by its keys and positions.
    """

    events: Iterator[yaml.Event]
    lines: dict[FieldPath, int] = field(default_factory=dict)
    _levels: list[_Level] = field(default_factory=list)
    # Size and depth of what an alias repeats.
    _anchored: dict[str, tuple[int, int]] = field(default_factory=dict)

    def faults(self) -> Iterator[tuple[int, str]]:
        """Line and words of each fault; ends at one after which the rest would be misread."""
        n_documents = 0
        for event in self.events:
            line = event.start_mark.line + 1 if event.start_mark else 1
            match event:
                case yaml.DocumentStartEvent():
                    n_documents += 1
                    if n_documents > 1:
                        yield (
                            line,
                            "the file must hold one document, was with another after `---`; give each component a folder of its own.",
                        )
                        return
                case yaml.ScalarEvent() | yaml.SequenceStartEvent() if not self._levels:
                    yield line, "the file must be a mapping with `type` and `attributes`, was none."
                    return
                case yaml.AliasEvent() if event.anchor not in self._anchored or self._levels[-1].awaits_key:
                    yield (
                        line,
                        f"{self._named()} must be a value of its own or one that has ended, was *{(event.anchor or '')[:40]}.",
                    )
                    return
                case yaml.AliasEvent():
                    self._value_ends(line, *self._anchored[str(event.anchor)])
                case yaml.ScalarEvent():
                    yield from self._marked(event, line)
                    if event.anchor:
                        self._anchored[event.anchor] = (1, 0)
                    yield from (
                        self._key(event.value, line) if self._levels[-1].awaits_key else self._value(event.value, line)
                    )
                case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                    yield from self._marked(event, line)
                    if self._levels and self._levels[-1].awaits_key:
                        yield line, f"the keys of {self._named()} must be names, was a list or mapping."
                        return
                    if len(self._levels) == MAX_DEPTH:
                        yield line, f"the file must nest at most {MAX_DEPTH} deep, was deeper."
                        return
                    if self._place() == ("type",):
                        yield line, "`type` must be the name of a component, was a list or mapping."
                    is_mapping = isinstance(event, yaml.MappingStartEvent)
                    self._levels.append(_Level(is_mapping, self._place(), anchor=event.anchor))
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    ended = self._levels.pop()
                    if ended.anchor:
                        self._anchored[ended.anchor] = (ended.size, ended.depth)
                    self._value_ends(self.lines.get(ended.place, line), ended.size, ended.depth)
                    if ended.size > MAX_VALUES or len(self._levels) + ended.depth > MAX_DEPTH:
                        yield (
                            line,
                            f"the file must hold at most {MAX_VALUES:,} values and nest at most {MAX_DEPTH} deep, was with more by its aliases.",
                        )
                        return
        if not n_documents:
            yield 1, "the file must have `type` and `attributes`, was empty; write them or remove the folder."
        elif ("type",) not in self.lines:
            yield 1, f"`type` must be given, was missing; write type: {OWN_TYPES[0]} or {OWN_TYPES[1]}."

    def _key(self, key: str, line: int) -> Iterator[tuple[int, str]]:
        level = self._levels[-1]
        if key in level.keys:
            name = _dotted((*level.place, key))
            yield line, f"`{name}` must be given once, was given on line {level.keys[key]} too; remove one of them."
        if TEMPLATE.search(key):
            yield line, f"the keys of {self._named()} must be names, was {key[:40]!r}."
        if not level.place and key not in TOP_KEYS:
            yield line, f"`{key[:40]}` must be among {', '.join(TOP_KEYS)}, was none of them; is it misspelt?"
        level.keys.setdefault(key, line)
        level.key = key
        self.lines.setdefault(level.next_place, line)

    def _value(self, text: str, line: int) -> Iterator[tuple[int, str]]:
        if len(text) > MAX_TEXT:
            yield line, f"{self._named()} must have at most {MAX_TEXT} characters, was of {len(text)}."
        elif self._place() == ("type",):
            yield from ((line, fault) for fault in _type_faults(text))
        else:
            yield from ((line, f"{self._named()} {fault}") for fault in _template_faults(text))
        self._value_ends(line)

    def _marked(self, event: yaml.NodeEvent, line: int) -> Iterator[tuple[int, str]]:
        tag = getattr(event, "tag", None)
        if tag and tag not in ("!", "tag:yaml.org,2002:str"):
            yield line, f"{self._named()} must be plain YAML, was with the tag {tag[:80]!r}; remove the tag."

    def _value_ends(self, line: int, size: int = 1, depth: int = 0) -> None:
        if not self._levels:
            return
        level = self._levels[-1]
        level.size += size
        level.depth = max(level.depth, depth + 1)
        self.lines.setdefault(level.next_place, line)
        level.key = None
        level.n_values += 1

    def _place(self) -> FieldPath:
        return self._levels[-1].next_place if self._levels else ()

    def _named(self) -> str:
        return f"`{_dotted(self._place())}`" if self._place() else "the file"


def _dotted(place: FieldPath) -> str:
    """Name of a field as messages have it: `universe.0.symbol`."""
    return ".".join(str(each)[:40] for each in place).removeprefix("attributes.")


def _template_faults(text: str) -> Iterator[str]:
    """What is wrong with the templates of a value: only variables of the environment that are set are filled in."""
    if not TEMPLATE.search(text):
        return
    if TEMPLATE.search(VARIABLE.sub("", text)):
        yield (
            "must be a plain value or hold {{ env.NAME }} or {{ env('NAME', 'default') }}, was "
            f"{text[:60]!r}; other templates are not evaluated."
        )
        return
    for each in VARIABLE.finditer(text):
        name = each["name"] or each["called"]
        if not each["default"] and name not in os.environ:
            yield (
                f"must name a variable that is set, was {name} of the environment, which is not; set it, or write "
                f"{{{{ env('{name}', 'default') }}}}."
            )


def _type_faults(name: str) -> Iterator[str]:
    """What is wrong with the `type` of a component: it must be a component that can be imported."""
    if name in OWN_TYPES:
        return
    found = None
    if re.fullmatch(r"[A-Za-z_][\w.]*\.[A-Za-z_]\w*", name):
        module, _, attribute = name.rpartition(".")
        with suppress(ImportError, ValueError):
            found = getattr(import_module(module), attribute, None)
    if not (isinstance(found, type) and issubclass(found, dg.Component)):
        yield f"`type` must be {', '.join(OWN_TYPES)} or another component that can be imported, was {name[:80]!r}."
