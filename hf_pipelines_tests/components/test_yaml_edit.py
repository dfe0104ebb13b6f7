"""One value of a YAML text set to another: the values are those wanted, and every other byte stays."""

from pathlib import Path

import pytest

import hf_pipelines
from hf_pipelines.components.yaml_edit import set_value, with_value
from hf_pipelines.components.yaml_files import component_files, plain_values

FILES = component_files(Path(hf_pipelines.__file__).parent / "defs")


def places(values, before=()):
    """Places of all values, the inner ones too."""
    inner = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, each in inner:
        yield (*before, key)
        yield from places(each, (*before, key))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_every_value_of_every_shipped_file_is_set_where_it_stands(path):
    text = path.read_text()
    values = plain_values(text)
    for place in [each for each in places(values) if len(each) > 1][:60]:
        edited, keeps = set_value(text, place, "x, y: {z}")
        assert keeps and plain_values(edited) == with_value(values, place, "x, y: {z}")
        first = next(at for at, (a, b) in enumerate(zip(text, edited, strict=False)) if a != b)
        last = next(n for n in range(1, len(text)) if text[-n] != edited[-n])
        # What lies before and behind the value is byte for byte as it was.
        assert edited.startswith(text[:first]) and edited.endswith(text[len(text) - last + 1 :])
        is_block = "\n" in text[first : len(text) - last + 1]
        assert is_block or "#" not in text[first : len(text) - last + 1]


TEXT = """\
a: 1  # one
b:
  - 2
  # between
  - c: 3
    d: {e: 4, f: [5, 6]}
empty:
words: |
  some
  text
list:
- x
- y  # last
"""


@pytest.mark.parametrize(
    ("place", "value", "changed"),
    [
        (("a",), 1.5, ("a: 1  # one", "a: 1.5  # one")),
        (("b", 0), None, ("- 2", "- null")),
        (("b", 1, "c"), [1, "2"], ("c: 3", "c: [1, '2']")),
        (("b", 1, "d", "g"), True, ("{e: 4, f: [5, 6]}", "{e: 4, f: [5, 6], g: true}")),
        (("b", 1, "d", "f", 1), "x, y", ("[5, 6]", "[5, 'x, y']")),
        (("b", 1, "new", "deep"), 7, ("f: [5, 6]}\n", "f: [5, 6]}\n    new: {deep: 7}\n")),
        (("empty",), 8, ("empty:\n", "empty: 8\n")),
        (("empty", "inner"), 8, ("empty:\n", "empty: {inner: 8}\n")),
        (("words",), "2012-01-01", ("words: |\n  some\n  text\n", "words: '2012-01-01'\n")),
        (("list",), ["z"], ("list:\n- x\n- y", "list: [z]")),
        (("last",), "on", ("- y  # last\n", "- y  # last\nlast: 'on'\n")),
    ],
    ids=lambda given: ".".join(map(str, given)) if isinstance(given, tuple) else None,
)
def test_a_value_is_set_in_the_notation_that_is_there(place, value, changed):
    assert TEXT.count(changed[0]) == 1
    assert set_value(TEXT, place, value) == (TEXT.replace(*changed), True)


def test_what_an_alias_repeats_is_written_out_so_that_one_value_changes():
    text = "a: &one {x: 1}\nb: *one\n"
    edited, keeps = set_value(text, ("b", "x"), 2)
    assert plain_values(edited) == {"a": {"x": 1}, "b": {"x": 2}} and not keeps


@pytest.mark.parametrize("place", [("a", "x"), ("b", 7), ("b", "x"), ("b", 0, "x")])
def test_a_place_that_cannot_be_is_refused(place):
    with pytest.raises(ValueError, match="must be (a mapping|followed by a position)"):
        set_value(TEXT, place, 1)
