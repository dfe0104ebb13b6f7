"""The public API: what the reference lists is documented whole, typed for strict projects, and all that templates use."""

import ast
import tomllib
from importlib.resources import files

import pytest

from hf_pipelines.commands.public_api import API
from hf_pipelines.commands.scaffolding import MODULE_KINDS
from hf_pipelines.components.scaffolders import entry_text
from hf_pipelines.resources.project import PACKAGE_ROOT
from hf_pipelines_tests.api_docs import _judged, documented, figures

# What was reached: figures may rise, and are then raised here.
AT_LEAST = {"lacks nothing": 1.0, "parameters": 1.0, "shapes or units": 0.94, "examples": 0.22}


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
    assert set(_judged("it", badly_documented, is_method=True).lacking) == {
        "a summary that is a sentence",
        "parameters periods_per_year",
        "no such parameters as years",
        "types of returns",
        "Returns",
        "Raises",
        "what NaN means",
        "a source (References, of its own or of its module)",
    }


def _imported(text: str) -> set[tuple[str, str]]:
    """Module and name of everything that a program takes from us."""
    nodes = [each for each in ast.walk(ast.parse(text)) if isinstance(each, ast.ImportFrom)]
    ours = [each for each in nodes if (each.module or "").startswith("hf_pipelines.")]
    # Constants, tables of entries among them, have no page: they are public where their module's list has them.
    return {(str(each.module), name.name) for each in ours for name in each.names if not name.name.isupper()}


ROOT = PACKAGE_ROOT.parent
PUBLIC = {(module, name) for modules in API.values() for module, names in modules.items() for name in names}


@pytest.mark.parametrize("kind", MODULE_KINDS)
def test_what_a_new_module_imports_is_public(kind):
    values = {"entry": "own_entry", "class": "OwnEntry", "group": "own", "module": "own"}
    assert _imported(entry_text(f"{kind}.py", values)) <= PUBLIC


def test_a_strict_project_uses_public_names_alone_and_is_checked_by_make_lint():
    project = ROOT / "hf_pipelines_tests" / "typed_project" / "desk.py"
    assert (files("hf_pipelines") / "py.typed").is_file()
    assert _imported(project.read_text()) <= PUBLIC
    mypy = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert "hf_pipelines_tests.typed_project" in mypy["packages"]
    assert {"module": "hf_pipelines_tests.typed_project.*", "strict": True} in mypy["overrides"]
