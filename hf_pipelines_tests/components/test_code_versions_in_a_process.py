"""Code versions are the same whatever the process has done before, and follow modules that a function goes through."""

import copy
import copyreg
import importlib
import itertools
import linecache
import pickle
import pkgutil
import sys
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import hf_pipelines.research
from hf_pipelines.components import code_version as code_versions
from hf_pipelines.components.code_memory import reading_code_once
from hf_pipelines.components.code_version import code_version
from hf_pipelines.definitions import defs

PACKAGE = {
    "__init__.py": "",
    "rows.py": "def count(panel):\n    return panel.height * 1.0\n",
    "columns.py": "def count(panel):\n    return panel.width\n",
    "entry.py": """
import dataclasses
from typing import Protocol
import planted_package

class Counts(Protocol):
    def count(self, panel): ...

@dataclasses.dataclass(frozen=True, slots=True)
class Level:
    value: float

@dataclasses.dataclass(frozen=True)
class Shift(Counts):
    by: float = 1.0

    def __eq__(self, other):
        return self.by == other.by

    def count(self, panel):
        return panel.height + Level(self.by).value

def through(panel):
    return planted_package.rows.count(panel)

def reads_an_attribute(panel):
    planted_package.limit
    return panel.columns.rows

def takes_a_module(panel):
    from planted_package import rows
    return rows.count(panel)

def takes_a_neighbour(panel):
    from . import rows
    return rows.count(panel)

def takes_of_a_neighbour(panel):
    from .rows import count
    return count(panel)

def imports_by_a_path(panel):
    import planted_package.rows
    return planted_package.rows.count(panel)
""",
}
THROUGH = ("through", "takes_a_module", "takes_a_neighbour", "takes_of_a_neighbour", "imports_by_a_path")


def _versions() -> dict[str, str]:
    graph = defs().resolve_asset_graph()
    return {key.to_user_string(): graph.get(key).code_version for key in graph.materializable_asset_keys}


def test_versions_of_all_assets_stay_when_classes_are_pickled_and_modules_are_imported(monkeypatch):
    reached: set[type] = set()
    read_class = code_versions._Reader._class

    def remembered(reader: Any, cls: type) -> str:
        reached.add(cls)
        return read_class(reader, cls)

    monkeypatch.setattr(code_versions._Reader, "_class", remembered)
    before = _versions()
    assert len(reached) > 20
    for cls in reached:
        # Python writes into the class what a pickle or a copy of an instance needs.
        copyreg._slotnames(cls)
        cls.__annotations__  # noqa: B018 - made when it is asked for
    for found in pkgutil.walk_packages(hf_pipelines.research.__path__, "hf_pipelines.research."):
        importlib.import_module(found.name)
    assert any("__slotnames__" in vars(cls) for cls in reached)
    assert _versions() == before


CIRCLES = """
class Node:
    def __init__(self, name):
        self.name, self.others = name, []

class Straight:
    LEVEL = 1.0

first, second, third = Node("first"), Node("second"), Node("third")
first.others.append(second)
second.others += [third, first]
SHARED = {"of": [Straight(), Node("apart")]}

def by_first(panel):
    return first, SHARED

def by_second(panel):
    return second, SHARED, by_first(panel)

def by_third(panel):
    return third, SHARED

def by_all(panel):
    return by_third(panel), by_second(panel)
"""
BY = ("by_first", "by_second", "by_third", "by_all")


def test_version_is_the_same_whichever_other_one_was_made_before_it_in_a_load(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = _written(tmp_path, {"__init__.py": "", "entry.py": CIRCLES})
    alone = {name: code_version(getattr(entry, name), fields={}) for name in BY}
    assert len({*alone.values()}) == len(BY)
    for order in itertools.permutations(BY):
        with reading_code_once():
            made = {name: code_version(getattr(entry, name), fields={}) for name in order}
        assert made == alone
        assert all(made[name].codes == alone[name].codes for name in BY)
    _forget()


def test_what_is_shared_in_a_load_is_read_again_in_the_next(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = _written(tmp_path, {"__init__.py": "", "entry.py": CIRCLES})
    with reading_code_once():
        before = code_version(entry.by_third, fields={})
    entry.third.name = "another"
    with reading_code_once():
        assert code_version(entry.by_third, fields={}) != before
    _forget()


@pytest.fixture
def entry(tmp_path, monkeypatch) -> Any:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield _written(tmp_path, PACKAGE)
    _forget()
    code_versions._is_own_package.cache_clear()


def _forget() -> None:
    for name in [each for each in sys.modules if each.partition(".")[0] == "planted_package"]:
        del sys.modules[name]


def _written(folder: Path, files: dict[str, str]) -> Any:
    _forget()
    code_versions._is_own_package.cache_clear()
    package = folder / "planted_package"
    package.mkdir(exist_ok=True)
    for name, text in files.items():
        (package / name).write_text(text)
    importlib.invalidate_caches()
    linecache.clearcache()
    return importlib.import_module("planted_package.entry")


def test_version_of_an_instance_stays_when_it_was_copied_compared_and_called(entry):
    shift = entry.Shift(2.0)
    before = code_version(shift, fields={})
    assert pickle.loads(pickle.dumps(shift)) == copy.deepcopy(shift) == shift
    assert "__slotnames__" in vars(entry.Shift)
    assert code_version(shift, fields={}) == before
    # A method that its author wrote between underscores takes part as before.
    entry.Shift.__eq__ = lambda self, other: True
    assert code_version(shift, fields={}) != before


def test_version_knows_no_module_that_somebody_else_has_imported(entry):
    before = code_version(entry.reads_an_attribute, fields={})
    for each in ("rows", "columns"):
        importlib.import_module(f"planted_package.{each}")
    assert sys.modules["planted_package"].rows
    assert code_version(entry.reads_an_attribute, fields={}) == before


@pytest.mark.parametrize("name", THROUGH)
def test_version_changes_with_a_function_of_a_module_that_is_gone_through(entry, tmp_path, name):
    importlib.import_module("planted_package.rows")
    before = code_version(getattr(entry, name), fields={})
    edited = {**PACKAGE, "rows.py": PACKAGE["rows.py"].replace("1.0", "1.25")}
    other = _written(tmp_path, edited)
    importlib.import_module("planted_package.rows")
    function: FunctionType = getattr(other, name)
    assert code_version(function, fields={}) != before
    assert code_version(function, fields={}) == code_version(function, fields={})


@pytest.mark.parametrize("name", THROUGH[1:])
def test_version_is_the_same_before_and_after_the_module_was_imported(entry, name):
    assert "planted_package.rows" not in sys.modules
    before = code_version(getattr(entry, name), fields={})
    importlib.import_module("planted_package.rows")
    assert code_version(getattr(entry, name), fields={}) == before
