"""Scaffolding: a project of one's own, and what is added to one, from the templates of the package.

Lives here: where files go, what they are called, and the pins of the versions that are installed. Does not live here: their texts
(`hf_pipelines/templates`), scaffolding by Dagster's `dg` (`components.scaffolders`).
"""

import json
import keyword
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution, distributions
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlparse

from hf_pipelines.components.scaffolders import (
    OUR_PACKAGE,
    PLURALS,
    SUFFIX,
    TRAINING_WEEKS,
    component_text,
    entry_text,
    filled_in,
    market_of_strategy,
    templates,
)
from hf_pipelines.resources.project import ProjectRoot

# What a name in the path of a template is replaced by.
NAME = "__name__"
# A file whose name begins with a dot would be left out of many listings.
DOT = "dot_"

# Of the strategy on the sample, which ends in March 2013: a quarter of weeks, and the first that can be had.
SAMPLE_START, SAMPLE_TRAINABLE = "2012-12-02", "2002-02-24"

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
    for path, template in _templates(templates() / "project", PurePosixPath()):
        parts = [re.sub(f"^{DOT}", ".", part.replace(NAME, name)) for part in path.parts]
        yield PurePosixPath(*parts), filled_in(template, values)
    first = {
        "name": name,
        "feature": "features",
        "group": "own",
        "market": "sample_tech",
        "features": "technical, cross_asset, own",
        "weeks": str(TRAINING_WEEKS),
        "first": SAMPLE_TRAINABLE,
        "start": SAMPLE_START,
    }
    package = PurePosixPath(name)
    for kind, entry, path in (
        ("market.yaml", "sample_tech", package / "defs" / "markets" / "sample_tech" / "defs.yaml"),
        ("strategy.yaml", "first_ranking", package / "defs" / "strategies" / "first_ranking" / "defs.yaml"),
        ("feature.py", "pullback_10", package / "features.py"),
        ("test_feature.py", "pullback_10", PurePosixPath("tests", "test_features.py")),
    ):
        yield path, entry_text(kind, {**first, "entry": entry, "module": "features"})


# What a module of one's own may hold, with the field of the YAML that names an entry of it.
MODULE_KINDS = {
    "feature": "features: [{group}/{entry}] of the market",
    "learner": "learner: {{type: {entry}}} of the strategy",
    "target": "target: {{type: {entry}}} of the strategy",
    "splitter": "cross_validation: {{type: {entry}}} of the strategy",
    "rule": "signal: {{type: {entry}}} of the strategy",
    "sizing": "signal: {{sizing: [{entry}], ...}} of the strategy",
    "limit": "signal: {{limits: [{entry}], ...}} of the strategy",
    "engine": "backtest: {{engine: {entry}}} of the strategy",
    "source": "source: {{type: {entry}, ...}} of the market",
}
KINDS = ("market", "strategy", *MODULE_KINDS)


def add_entry(kind: str, name: str, project: ProjectRoot, *, market: str | None = None) -> list[str]:
    """Write a new entry into a project of one's own; returns what was done and what comes next, in lines.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    name : str
        Of the entry, and of its folder or module.
    project : ProjectRoot
    market : str, optional
        That a new strategy trades; of a project with one market that one.

    Raises
    ------
    ValueError
        If the project is this package, the name is none or taken, or no market is named where there are several.
    """
    if project.is_ours:
        raise ValueError(
            "`project` must be one of your own, was the checkout of hf_pipelines, whose own entries are added by hand (CONTRIBUTING.md); make "
            "one: hfp init NAME"
        )
    _check_name(name)
    values = {
        "name": project.module,
        "entry": name,
        "module": name,
        "group": f"{name}_group",
        "class": _class_name(name),
    }
    if kind not in MODULE_KINDS:
        return _add_component(kind, name, project, market=market)
    texts = {
        project.package / f"{name}.py": entry_text(f"{kind}.py", values),
        project.root / "tests" / f"test_{name}.py": entry_text(f"test_{kind}.py", values),
    }
    _write_new(texts)
    field, _, owner = MODULE_KINDS[kind].format(**values).partition(" of the ")
    wrote = [f"wrote {path}" for path in texts]
    return [*wrote, f"Name it in the YAML of the {owner}:", f"  modules: [{project.module}.{name}]", f"  {field}"]


def _add_component(kind: str, name: str, project: ProjectRoot, *, market: str | None) -> list[str]:
    of = market_of_strategy(project.defs, market) if kind == "strategy" else None
    path = project.defs / PLURALS[kind] / name / "defs.yaml"
    _write_new({path: component_text(kind, name, market=of, defs=project.defs)})
    nexts = {
        "market": f"Its bars: hfp materialise {name}/bars --from SUNDAY --to SUNDAY",
        "strategy": f"Train it: hfp retrain {name} --week SUNDAY --with-inputs",
    }
    return [f"wrote {path}", "A web UI that runs loads it by Reload, under Deployment.", nexts[kind]]


def _write_new(texts: Mapping[Path, str]) -> None:
    """Write files, none of which may be there; a failure in the middle removes those that were written."""
    if there := [str(path) for path in texts if path.exists()]:
        raise ValueError(f"`name` must be new, was one whose file is there: {', '.join(there)}; take another name.")
    written: list[Path] = []
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not over what somebody else has made in the meantime.
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
    except OSError:
        for path in written:
            path.unlink()
        raise


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


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
