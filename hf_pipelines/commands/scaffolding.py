"""Scaffolding: a project of one's own, from the templates of the package.

Lives here: where files go, what they are called, and the pins of the versions that are installed. Does not live here: their texts
(`hf_pipelines/templates`).
"""

import json
import keyword
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, distributions
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlparse

OUR_PACKAGE = "hf_pipelines"

# What a name in a template's path or text is replaced by.
NAME, MARK = "__name__", "@@{}@@"
SUFFIX = ".tmpl"
# A file whose name begins with a dot would be left out of many listings.
DOT = "dot_"

NAME_PATTERN = r"[a-z][a-z0-9_]{0,39}"


def make_project(name: str, folder: Path) -> list[Path]:
    """Write a project of its own; returns its files, sorted.

    It is written beside its place and moved there whole: a disk that fills up leaves nothing behind that looks like one.

    Parameters
    ----------
    name : str
        Of its package: lower-case letters, digits and _.
    folder : Path
        Where it goes; it must not be there yet, or be empty.

    Raises
    ------
    ValueError
        If the name is none, or the folder holds something.
    """
    _check_name(name)
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"`name` must lead to a folder that is new or empty, was {folder}, which is not; take another name or --into."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as made:
        texts = {**dict(project_files(name)), PurePosixPath("constraints.txt"): installed_versions()}
        for path, text in texts.items():
            file = Path(made, "project", path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        # An empty folder is replaced.
        os.replace(Path(made, "project"), folder)
    return sorted(folder / path for path in texts)


def project_files(name: str) -> Iterator[tuple[PurePosixPath, str]]:
    """Every file of a new project, by its path in it, with its text."""
    values = {"name": name, "version": _own_version(), "requirement": own_requirement()}
    for path, template in _templates(files(OUR_PACKAGE) / "templates" / "project", PurePosixPath()):
        text = template.read_text(encoding="utf-8")
        for key, value in values.items():
            text = text.replace(MARK.format(key), value)
        parts = [re.sub(f"^{DOT}", ".", part.replace(NAME, name)) for part in path.parts]
        yield PurePosixPath(*parts), text


def installed_versions() -> str:
    """A constraints file: the versions of this environment, with which the project was seen to work."""
    pins = {}
    for each in distributions():
        name = re.sub(r"[-_.]+", "-", each.metadata["Name"] or "").lower()
        if name and name != "hf-pipelines" and not _direct_address(each.read_text("direct_url.json")):
            # A local version such as 2.13.0+cpu is one build of a version.
            pins[name] = each.version.partition("+")[0]
    lines = [f"{name}=={version}" for name, version in sorted(pins.items())]
    return "\n".join(
        ["# The versions that hf_pipelines was seen to work with here. After an upgrade: pip freeze.", *lines, ""]
    )


def own_requirement() -> str:
    """What pip installs this package from, as it was installed here."""
    try:
        found = distribution(OUR_PACKAGE)
    except PackageNotFoundError:
        return OUR_PACKAGE
    address = _direct_address(found.read_text("direct_url.json"))
    return address or f"{OUR_PACKAGE}=={found.version}"


def _own_version() -> str:
    try:
        return distribution(OUR_PACKAGE).version
    except PackageNotFoundError:
        return "0"


def _direct_address(told: str | None) -> str:
    """Where a package was installed from that is not of an index; "" if it is of one."""
    if not told:
        return ""
    found = json.loads(told)
    address = urlparse(found["url"])
    if address.scheme == "file":
        path = unquote(address.path)
        return f"--editable {path}" if found.get("dir_info", {}).get("editable") else path
    return str(found["url"])


def _templates(folder: Traversable, below: PurePosixPath) -> Iterator[tuple[PurePosixPath, Traversable]]:
    for each in sorted(folder.iterdir(), key=lambda each: each.name):
        if each.is_dir():
            yield from _templates(each, below / each.name)
        elif each.name.endswith(SUFFIX):
            yield below / each.name.removesuffix(SUFFIX), each


def _check_name(name: str) -> None:
    taken = keyword.iskeyword(name) or name in sys.stdlib_module_names or name == "test" or name == "tests"
    if not re.fullmatch(NAME_PATTERN, name) or taken or name == OUR_PACKAGE:
        why = " (it is taken by Python or by this package)" if taken or name == OUR_PACKAGE else ""
        raise ValueError(
            f"`name` must be lower-case letters, digits and _, and begin with a letter, was {name[:80]!r}{why}; such as myfund."
        )
