"""Setting values: one field of a strategy and its value, as `--set` and the environment give them.

Lives here: reading them, and saying which of them a fault is of. Does not live here: the strategy that they make
(`setting_overrides`, `environment_overrides`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from hf_pipelines.components.yaml_files import MAX_DEPTH, MAX_TEXT, plain_values
from hf_pipelines.components.yaml_lines import FieldPath
from hf_pipelines.research.wording import excerpt, printable

NAME = re.compile(r"[A-Za-z0-9_./-]{1,200}")

LOCATION = re.compile(r"^\S+:\d+: ")

# Of an override in messages: its own words, cut.
MOST_SHOWN = 100


@dataclass(frozen=True)
class SettingOverride:
    """A value for one field of a strategy.

    Attributes
    ----------
    place : tuple of str and int
        Keys and positions from `attributes` on.
    value : object
        Mappings, lists and scalars, as YAML reads them.
    origin : str
        Where it was given, in words of the command line or the environment.
    """

    place: FieldPath
    value: Any
    origin: str

    @property
    def field(self) -> str:
        return ".".join(map(str, self.place))


def parse_override(word: str) -> SettingOverride:
    """An override as `--set` gives it, `field.of.the.yaml=value`, the value in YAML's notation.

    Raises
    ------
    ValueError
        If it is none.
    """
    field, equals, value = word.partition("=")
    parts = field.strip().split(".")
    if not equals or not all(map(NAME.fullmatch, parts)) or len(parts) > MAX_DEPTH:
        raise ValueError(
            f"`--set` must be FIELD=VALUE, such as learner.params.max_depth=4, was {excerpt(word)!r}; fields are those of the YAML, "
            "with points between."
        )
    place = tuple(int(each) if each.isdigit() else each for each in parts)
    if place[0] == "name":
        raise ValueError(
            f"`--set` must set another field than `name`, was {excerpt(word)!r}: a try is one of its strategy; write a file with another name."
        )
    return SettingOverride(place, read_value(value, f"--set {field.strip()}"), f"--set {shown_word(word)}")


def read_value(text: str, origin: str) -> Any:
    """A value in YAML's notation: 4, 0.5, true, null, text, [a, b], {a: 1}.

    Raises
    ------
    ValueError
        If it is none, has tags or names of its own, or is too long.
    """
    if len(text) > MAX_TEXT or not text.strip() or re.search(r"[^\t\x20-\x7e\xa0-\ud7ff\ue000-\ufffd]", text):
        raise ValueError(
            f"`{origin}` must be given a value on one line, of at most {MAX_TEXT:,} characters, was given {excerpt(text)!r}; write null "
            "or '' for nothing."
        )
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
                raise ValueError(
                    f"`{origin}` must be a plain value, was {excerpt(text)!r}; write it without &, * and !."
                )
        if twice := _given_twice(yaml.compose(text, Loader=yaml.SafeLoader)):
            raise ValueError(f"`{origin}` must give each name once, was with {twice[:40]} twice; remove one of them.")
        return plain_values(text)
    except yaml.YAMLError as e:
        raise ValueError(
            f"`{origin}` must be a value in YAML's notation, was {excerpt(text)!r}; put text in quotes."
        ) from e


def _given_twice(node: yaml.Node | None) -> str:
    """A key that a mapping has twice, of which YAML's reading would take the last; "" where none has."""
    if isinstance(node, yaml.MappingNode):
        keys = [str(key.value) for key, _ in node.value]
        twice = [each for each in keys if keys.count(each) > 1]
        return twice[0] if twice else next(filter(None, (_given_twice(each) for _, each in node.value)), "")
    if isinstance(node, yaml.SequenceNode):
        return next(filter(None, map(_given_twice, node.value)), "")
    return ""


def at_overrides(faults: str, overrides: Sequence[SettingOverride]) -> str:
    """Faults of a YAML that is sound without some overrides, a line a fault, at the override that gives what is refused."""
    lines = [LOCATION.sub("", each) for each in faults.splitlines()]
    return "\n".join(f"{culprits(each, overrides)}: {each}" for each in lines)


def culprits(fault: str, overrides: Sequence[SettingOverride]) -> str:
    """Those whose field is named by a fault; all of them where none is."""
    # The longest name first: `params` is one of many.
    for n in range(max((len(each.place) for each in overrides), default=0), 0, -1):
        for length in (slice(-n, None), slice(n)):
            named = [
                each.origin
                for each in overrides
                if len(each.place) >= n
                and re.search(rf"(?<![\w.]){re.escape('.'.join(map(str, each.place[length])))}\b", fault)
            ]
            if named:
                return ", ".join(named)
    return ", ".join(each.origin for each in overrides)


def shown_word(word: str) -> str:
    """An override in a message: its own words, cut."""
    text = printable(word)
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 3]}..."
