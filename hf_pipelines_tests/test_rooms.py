"""Rooms: which of them may know which, and that research is pure."""

import re
import subprocess
import sys
from collections.abc import Mapping, Set
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[1]
RESEARCH = ROOT / "hf_pipelines" / "research"

# What would tie a number to a disk, an environment, a clock or a global seed.
IMPURE = {
    "a file": r"\bopen\(|\.read_text\(|\.write_text\(|\bread_(csv|parquet|json)\(|\.write_(csv|parquet|json)\(|\bPath\(",
    "the environment": r"os\.environ|os\.getenv",
    "the clock": r"datetime\.now|datetime\.utcnow|date\.today|\btime\.time\(|perf_counter|\bmonotonic\(",
    "a global seed": r"np\.random\.(seed|rand|randn|random|normal|choice|shuffle|permutation)\b|random\.seed|\bimport random\b",
    "a global figure": r"import.*\bpyplot\b",
}


def test_rooms_know_only_those_below_them():
    program = Path(sys.executable).parent / "lint-imports"
    run = subprocess.run(
        [str(program), "--no-cache"], capture_output=True, text=True, cwd=ROOT, timeout=120, check=False
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    assert re.search(r"Contracts: \d+ kept, 0 broken", run.stdout)


def test_no_modules_import_each_other_in_a_circle():
    assert circles(_imports("hf_pipelines")) == []


@pytest.mark.parametrize(
    "closing",
    [
        "from planted_circle.first import x\n",
        "def late():\n    from planted_circle.first import x\n    return x\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from planted_circle.first import x\n",
    ],
    ids=["at the top", "inside a function", "for types alone"],
)
def test_circle_of_three_modules_is_found_wherever_the_last_import_stands(tmp_path, monkeypatch, closing):
    package = tmp_path / "planted_circle"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "first.py").write_text("import planted_circle.second\nx = 1\n")
    (package / "second.py").write_text("from planted_circle import third\n")
    (package / "third.py").write_text(closing)
    monkeypatch.syspath_prepend(str(tmp_path))
    of_three = [f"planted_circle.{name}" for name in ("first", "second", "third")]
    assert circles(_imports("planted_circle")) == [of_three]


def _imports(package: str) -> dict[str, set[str]]:
    """Modules that each module of a package imports, wherever the import stands in it."""
    graph = grimp.build_graph(package, cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def circles(graph: Mapping[str, Set[str]]) -> list[list[str]]:
    """Sets of modules each of which reaches all the others (strongly connected components), sorted."""
    # A module that nothing left imports, or that imports nothing left, is in no circle.
    left = dict(graph)
    while gone := {
        each
        for each in left
        if not any(name in left for name in left[each]) or not any(each in found for found in left.values())
    }:
        left = {each: found for each, found in left.items() if each not in gone}
    reached = {each: _reached(left, each) for each in left}
    found = {tuple(sorted(name for name in reached[each] if each in reached[name])) for each in left}
    return [list(each) for each in sorted(found) if each]


def _reached(graph: Mapping[str, Set[str]], start: str) -> set[str]:
    """Modules that are imported by a module, or by what it imports."""
    found, waiting = set[str](), [start]
    while waiting:
        new = {name for name in graph[waiting.pop()] if name in graph} - found
        found |= new
        waiting += new
    return found


# Longer than this a module is cut by noun.
MAX_LINES = 450

# Compiled kernels: one pass over an array is one function, and what it calls is compiled with it.
LONG_KERNELS = {
    "hf_pipelines/research/features/alpha158_kernels.py": "158 features in one pass over blocks of symbols",
}


def test_no_module_but_compiled_kernels_is_longer_than_450_lines():
    sizes = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in sorted((ROOT / "hf_pipelines").rglob("*.py"))
    }
    long = {name for name, n_lines in sizes.items() if n_lines > MAX_LINES}
    assert long == {*LONG_KERNELS}
    assert all("window_kernel" in (ROOT / name).read_text() for name in LONG_KERNELS)


@pytest.mark.parametrize("pattern", IMPURE.values(), ids=IMPURE.keys())
def test_research_touches_neither_disk_environment_clock_nor_global_seed(pattern):
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted(RESEARCH.rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if re.search(pattern, line)
    ]
    assert found == []


def test_every_module_opens_with_a_room_card():
    silent = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "hf_pipelines").rglob("*.py"))
        if path.read_text().strip() and not path.read_text().startswith('"""')
    ]
    assert silent == []
