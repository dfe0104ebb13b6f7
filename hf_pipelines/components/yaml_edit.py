"""YAML edit: one value of a YAML text set to another, all else left as it is written.

Lives here: the place of a value in a text, and the text with another value there. Does not live here: what the file may be
(`yaml_files`), which values are meant (`setting_overrides`).
"""

from collections.abc import Sequence
from typing import Any

import yaml

from hf_pipelines.components.yaml_files import plain_values
from hf_pipelines.components.yaml_lines import FieldPath


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which names nothing and repeats nothing by a name."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def set_value(text: str, place: FieldPath, value: Any) -> tuple[str, bool]:
    """A text with a value at a place, be it there already or not.

    Parameters
    ----------
    text : str
        A YAML document that can be read.
    place : tuple of str and int
        Keys and positions from the top. What is missing of it is made; positions must be there.
    value : object
        Mappings, lists and scalars.

    Returns
    -------
    (str, bool)
        The text, and whether all of the rest, comments among it, is as it was. It is not where the value cannot be set without
        changing another one, such as through an alias.

    Raises
    ------
    ValueError
        If what stands on the way to the place is no mapping or list, or has no such position.
    """
    wanted = with_value(plain_values(text), place, value)
    edited = _edited(text, yaml.compose(text, Loader=yaml.SafeLoader), place, value)
    try:
        if edited is not None and plain_values(edited) == wanted:
            return edited, True
    except yaml.YAMLError:
        # Of a value in an unusual notation: then the file is written anew.
        pass
    return yaml.dump(wanted, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120), False


def with_value(values: Any, place: FieldPath, value: Any) -> Any:
    """Values with another one at a place; those given stay as they are.

    Raises
    ------
    ValueError
        As `set_value`.
    """
    found = _copied(values)
    inner: Any = found
    for at, part in enumerate(place):
        is_last = at == len(place) - 1
        if isinstance(inner, list):
            if not (isinstance(part, int) and 0 <= part < len(inner)):
                raise ValueError(
                    f"`{_dotted(place[:at])}` must be followed by a position from 0 to {len(inner) - 1}, was followed by {part!r:.40}."
                )
        elif not isinstance(inner, dict):
            raise ValueError(
                f"`{_dotted(place[:at])}` must be a mapping for {part!r:.40} to be set in it, was {inner!r:.40}; set it as a whole."
            )
        if is_last:
            inner[part] = value
        else:
            if isinstance(inner, dict) and inner.get(part) is None:
                inner[part] = {}
            inner = inner[part]
    return found


def _copied(values: Any) -> Any:
    """The same values, none of them shared: what an alias repeats is there twice."""
    if isinstance(values, dict):
        return {key: _copied(each) for key, each in values.items()}
    return [_copied(each) for each in values] if isinstance(values, list) else values


def _edited(text: str, root: yaml.Node | None, place: FieldPath, value: Any) -> str | None:
    """The text with the value put where it stands; None where it cannot be."""
    node, key = root, None
    for at, part in enumerate(place):
        found = _child(node, part)
        if found is None:
            return _inserted(text, node, key, place[at:], value)
        key, node = found
    return _replaced(text, node, key, value)


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node | None, yaml.Node] | None:
    """Key and value below a node; the key is None in a list."""
    if isinstance(node, yaml.MappingNode):
        return next(((key, each) for key, each in node.value if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return None, node.value[part]
    return None


def _replaced(text: str, node: yaml.Node | None, key: yaml.Node | None, value: Any) -> str | None:
    if node is None:
        return None
    end = _end(node)
    if key is None:
        return text[: node.start_mark.index] + _flow(value) + text[end:]
    # From behind the colon: a list may begin in the column of its key, where no other value may.
    begin = text.index(":", key.end_mark.index) + 1
    if (
        isinstance(node, yaml.ScalarNode)
        and node.start_mark.line == key.start_mark.line
        and node.start_mark.index > begin
    ):
        begin = node.start_mark.index
        return text[:begin] + _flow(value) + text[end:]
    return f"{text[:begin]} {_flow(value)}{text[max(end, begin) :]}"


def _inserted(text: str, node: yaml.Node | None, key: yaml.Node | None, rest: FieldPath, value: Any) -> str | None:
    """The text with a new entry of a mapping."""
    for part in reversed(rest[1:]):
        value = {part: value}
    if isinstance(node, yaml.ScalarNode) and not node.value:
        return _replaced(text, node, key, {rest[0]: value})
    if not isinstance(node, yaml.MappingNode):
        return None
    entry = f"{_flow(rest[0])}: {_flow(value)}"
    if node.flow_style:
        at = _end(node.value[-1][1]) if node.value else node.start_mark.index + 1
        return f"{text[:at]}{', ' if node.value else ''}{entry}{text[at:]}"
    line_end = text.find("\n", _end(node.value[-1][1]))
    at = len(text) if line_end < 0 else line_end
    return f"{text[:at]}\n{' ' * node.start_mark.column}{entry}{text[at:]}"


def _end(node: yaml.Node) -> int:
    """Where a value ends: a block ends for the parser where the next value begins."""
    if isinstance(node, yaml.ScalarNode):
        if node.style in ("|", ">"):
            return int(node.end_mark.index) - 1
        return int(node.end_mark.index)
    if not isinstance(node, yaml.CollectionNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)


def _flow(value: Any) -> str:
    """A value on one line, as it may stand inside of another."""
    dumped = yaml.dump(
        [value], Dumper=_Dumper, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**9
    )
    return dumped.strip().removeprefix("[").removesuffix("]")


def _dotted(place: Sequence[str | int]) -> str:
    return ".".join(str(each)[:40] for each in place).removeprefix("attributes.") or "the file"
