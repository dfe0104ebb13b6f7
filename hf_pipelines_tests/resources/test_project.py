"""Projects: which folder is run, from the environment, from the working folder upwards, or this checkout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hf_pipelines.resources import settings
from hf_pipelines.resources.project import PACKAGE_ROOT, find_project, project_at, project_of

TOLD = """[tool.hf_pipelines]
[tool.dg.project]
root_module = "{name}"
code_location_name = "{name}_location"
code_location_target_module = "{name}.definitions"
"""


def make(folder: Path, name: str) -> Path:
    (folder / name / name / "defs").mkdir(parents=True)
    (folder / name / "pyproject.toml").write_text(TOLD.format(name=name))
    return folder / name


@pytest.fixture(autouse=True)
def outside(monkeypatch, tmp_path):
    monkeypatch.delenv("HF_PROJECT", raising=False)
    monkeypatch.delenv("HF_DATA_DIR", raising=False)
    monkeypatch.chdir(tmp_path)


def test_a_project_is_found_upwards_and_keeps_its_data(tmp_path, monkeypatch):
    mine = make(tmp_path, "mine")
    monkeypatch.chdir(mine / "mine" / "defs")
    found = find_project()
    assert (found.root, found.module, found.definitions, found.location) == (
        mine,
        "mine",
        "mine.definitions",
        "mine_location",
    )
    assert found.defs == mine / "mine" / "defs" and not found.is_ours
    assert settings.data_dir() == mine / "data"
    # A Python package of its own inside of it is none.
    (mine / "inner").mkdir()
    (mine / "inner" / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    monkeypatch.chdir(mine / "inner")
    assert find_project() == found


def test_outside_of_any_project_it_is_the_checkout_that_runs(tmp_path):
    assert find_project().root == PACKAGE_ROOT.parent and find_project().is_ours
    assert settings.data_dir() == PACKAGE_ROOT.parent / "data"


def test_in_another_checkout_of_the_package_it_is_the_one_that_is_imported(tmp_path, monkeypatch):
    other = make(tmp_path, "hf_pipelines")
    monkeypatch.chdir(other)
    assert find_project().root == PACKAGE_ROOT.parent
    with pytest.raises(ValueError, match="was another checkout"):
        project_at(other)


def test_the_named_project_comes_before_the_working_folder(tmp_path, monkeypatch):
    one, two = make(tmp_path, "one"), make(tmp_path, "two")
    monkeypatch.chdir(one)
    monkeypatch.setenv("HF_PROJECT", str(two))
    assert find_project().root == two and settings.data_dir() == two / "data"
    # What loads the definitions of another one is refused: they would share data.
    with pytest.raises(ValueError, match=f"`HF_PROJECT` must be the project that is loaded, {one}, was {two}"):
        project_of(one / "one").use()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, r"`HF_PROJECT` must be a folder whose pyproject.toml has a table \[tool.hf_pipelines\], was .*; make one: hfp init NAME"),
        ("[project]\nname = 'x'\n", r"`HF_PROJECT` must be a folder whose pyproject.toml has a table"),
        ("[tool.hf_pipelines\n", r"pyproject.toml must be a TOML file that can be read, was not \(.*line 1"),
        ("[tool.hf_pipelines]\n", r"must have a table \[tool.dg.project\] with `root_module`"),
        ("[tool.hf_pipelines]\n[tool.dg]\nproject = 3\n", r"must have a table \[tool.dg.project\] with `root_module`"),
    ],
)  # fmt: skip
def test_what_is_no_project_is_said_with_what_it_lacks(tmp_path, monkeypatch, text, said):
    folder = tmp_path / "folder"
    folder.mkdir()
    if text is not None:
        (folder / "pyproject.toml").write_text(text)
    monkeypatch.setenv("HF_PROJECT", str(folder))
    with pytest.raises(ValueError, match=said):
        find_project()


def test_a_working_folder_that_was_removed_stops_no_command(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert find_project().is_ours


def test_the_package_of_a_project_can_be_imported_by_what_it_starts(tmp_path):
    mine = make(tmp_path, "mine_to_import")
    (mine / "mine_to_import" / "__init__.py").write_text("WHERE = __file__\n")
    program = "from hf_pipelines.resources.project import find_project as f; f().use(); import os, subprocess, sys; "
    program += (
        "subprocess.run([sys.executable, '-c', 'import mine_to_import as m; print(m.WHERE)'], cwd='/', check=True)"
    )
    env = {**os.environ, "PYTHONPATH": str(PACKAGE_ROOT.parent)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=mine, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(mine / "mine_to_import" / "__init__.py")
