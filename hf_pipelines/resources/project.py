"""Project: the folder whose markets and strategies are run, a user's own or this checkout.

Lives here: finding it, and what its `pyproject.toml` says. Does not live here: where it keeps its data (`settings`), loading its
components (`components.component_tree`).

A project is a folder with a `pyproject.toml` that has a table `[tool.hf_pipelines]`, which may be empty, and the tables of a Dagster
project. It is the one that `HF_PROJECT` names (`hfp --project` sets it), else the nearest from the working folder upwards, as git
finds its own, else the checkout that this package is run from.
"""

import os
import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGE_ROOT = Path(__file__).resolve().parents[1]
OUR_PACKAGE = __name__.partition(".")[0]

VARIABLE = "HF_PROJECT"
FILE = "pyproject.toml"


@dataclass(frozen=True)
class ProjectRoot:
    """A project, as its `pyproject.toml` describes it.

    Attributes
    ----------
    root : Path
        Folder of the file.
    module : str
        Package of the project; its markets and strategies lie below `<module>/defs`.
    definitions : str
        Module with the Dagster definitions, named `defs` in it.
    location : str
        Name of the code location.
    """

    root: Path
    module: str
    definitions: str
    location: str

    @property
    def is_ours(self) -> bool:
        """Whether it is the checkout of this package."""
        return self.module == OUR_PACKAGE

    @property
    def package(self) -> Path:
        """Folder of its package."""
        return self.root.joinpath(*self.module.split("."))

    @property
    def defs(self) -> Path:
        """Folder of its markets and strategies."""
        return self.package / "defs"

    def use(self) -> None:
        """Make it the project of this process and of those that it starts, its package importable in them.

        Raises
        ------
        ValueError
            If the process has another one.
        """
        given = os.environ.get(VARIABLE)
        if given and Path(given).expanduser().resolve() != self.root:
            raise ValueError(
                f"`{VARIABLE}` must be the project that is loaded, {self.root}, was {given[:200]}: a process has one project; unset it."
            )
        os.environ[VARIABLE] = str(self.root)
        if self.is_ours:
            return
        root = str(self.root)
        # The working folder, as an empty text: where it is this one nothing has to be added for this process.
        if root not in sys.path and find_spec(self.module.partition(".")[0]) is None:
            sys.path.insert(0, root)
        inherited = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
        if root not in inherited:
            os.environ["PYTHONPATH"] = os.pathsep.join([root, *inherited])


def find_project() -> ProjectRoot | None:
    """The project of this process; None outside of any.

    Raises
    ------
    ValueError
        If `HF_PROJECT` names no project, or the `pyproject.toml` of the one found cannot be read.
    """
    if given := os.environ.get(VARIABLE):
        return project_at(Path(given))
    try:
        folder = Path.cwd()
    except FileNotFoundError:
        # It was removed.
        return _checkout()
    found = next((each for place in (folder, *folder.parents) if (each := _read(place)) is not None), None)
    # Of two checkouts of this package the one that is imported.
    return _checkout() if found is None or found.is_ours else found


def require_project() -> ProjectRoot:
    """The project of this process.

    Raises
    ------
    ValueError
        If there is none.
    """
    found = find_project()
    if found is None:
        raise ValueError(
            f"`project` must be found from the working folder upwards, was not in {Path.cwd()}; go to a project, name it (hfp --project "
            "PATH), or make one: hfp init NAME"
        )
    return found


def project_at(folder: Path, *, named: str = VARIABLE) -> ProjectRoot:
    """The project of a folder.

    Raises
    ------
    ValueError
        If it is none.
    """
    root = folder.expanduser().resolve()
    found = _read(root)
    if found is None:
        raise ValueError(
            f"`{named}` must be a folder whose {FILE} has a table [tool.hf_pipelines], was {str(root)[:200]}; make one: hfp init NAME"
        )
    if found.is_ours and root != PACKAGE_ROOT.parent:
        raise ValueError(
            f"`{named}` must be a project of its own or the checkout that runs, {PACKAGE_ROOT.parent}, was another checkout, "
            f"{str(root)[:200]}; run the hfp of that one."
        )
    return found


def project_of(path_within: Path) -> ProjectRoot:
    """The project that a file or folder lies in.

    Raises
    ------
    ValueError
        If it lies in none.
    """
    place = path_within.resolve()
    found = next((each for folder in (place, *place.parents) if (each := _read(folder)) is not None), None)
    if found is None:
        raise ValueError(
            f"`path_within_project` must lie below a {FILE} with a table [tool.hf_pipelines], was {str(place)[:200]}; add the table."
        )
    return found


def _checkout() -> ProjectRoot | None:
    found = _read(PACKAGE_ROOT.parent)
    return found if found is not None and found.is_ours else None


@cache
def _read(folder: Path) -> ProjectRoot | None:
    """The project that a folder is; None if it is none. Read once: a process has one project."""
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        told: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as e:
        raise ValueError(f"{file} must be a TOML file that can be read, was not ({str(e)[:200]}); correct it.") from e
    tools = told.get("tool", {})
    if "hf_pipelines" not in tools:
        return None
    try:
        project = tools["dg"]["project"]
        module, target = project["root_module"], project["code_location_target_module"]
        return ProjectRoot(folder, str(module), str(target), str(project.get("code_location_name", folder.name)))
    except (KeyError, TypeError) as e:
        raise ValueError(
            f"{file} must have a table [tool.dg.project] with `root_module` and `code_location_target_module`, was without "
            f"{str(e)[:80]}; see what hfp init writes."
        ) from e
