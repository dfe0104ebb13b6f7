"""The public API: what the reference lists is documented whole, typed for strict projects, and all that templates use."""

import ast
import re
import subprocess
import sys
from importlib.resources import files

import pytest

from hf_pipelines.commands.public_api import API
from hf_pipelines.commands.scaffolding import MODULE_KINDS
from hf_pipelines.components.modules import TABLES
from hf_pipelines.components.scaffolders import entry_text
from hf_pipelines.resources.project import PACKAGE_ROOT
from hf_pipelines_tests.api_docs import _judged, documented, figures

# What was reached: figures may rise, and are then raised here.
AT_LEAST = {"lacks nothing": 1.0, "parameters": 1.0, "shapes or units": 0.94, "examples": 0.11}


def test_every_public_object_has_what_its_signature_and_code_ask_for():
    found = documented()
    assert len(found) > 140
    assert [f"{each.name} lacks {words}" for each in found for words in each.lacking] == []


@pytest.mark.parametrize("figure", AT_LEAST)
def test_documentation_does_not_fall_behind_what_was_reached(figure):
    assert figures()[figure] >= AT_LEAST[figure]


def badly_documented(returns: list[float], periods_per_year: float) -> float:
    """Some volatility

    Parameters
    ----------
    returns
        Fractions.
    years : int
        None.
    """
    if not returns:
        raise ValueError("`returns` must not be empty, was empty.")
    return float("nan") if periods_per_year < 1 else returns[0]


def test_what_lacks_is_named():
    assert set(_judged("it", badly_documented).lacking) == {
        "a summary that is a sentence",
        "parameters periods_per_year",
        "no such parameters as years",
        "types of returns",
        "Returns",
        "Raises",
        "what NaN means",
    }


def _imported(text: str) -> set[tuple[str, str]]:
    """Module and name of everything that a program takes from us."""
    nodes = [each for each in ast.walk(ast.parse(text)) if isinstance(each, ast.ImportFrom)]
    ours = [each for each in nodes if (each.module or "").startswith("hf_pipelines.")]
    return {(str(each.module), name.name) for each in ours for name in each.names}


ROOT = PACKAGE_ROOT.parent
PUBLIC = {(module, name) for modules in API.values() for module, names in modules.items() for name in names}


@pytest.mark.parametrize("kind", MODULE_KINDS)
def test_what_a_new_module_imports_is_public(kind):
    values = {"entry": "own_entry", "class": "OwnEntry", "group": "own", "module": "own"}
    # Tables of entries are public by their names.
    assert {each for each in _imported(entry_text(f"{kind}.py", values)) if each[1] not in TABLES} <= PUBLIC


def test_a_strict_project_sees_types_everywhere(tmp_path):
    project = ROOT / "hf_pipelines_tests" / "typed_project" / "desk.py"
    assert (files("hf_pipelines") / "py.typed").is_file()
    assert {each for each in _imported(project.read_text()) if each[1] not in TABLES} <= PUBLIC
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--ignore-missing-imports"]
        + ["--config-file", "/dev/null", "--cache-dir", str(ROOT / ".mypy_cache" / "typed_project"), str(project)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert re.fullmatch(r"Success: no issues found in 1 source file\n", done.stdout), done.stdout + done.stderr
