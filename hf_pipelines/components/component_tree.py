"""Component tree: the project's components, loaded all or not at all, or those alone that can be.

Lives here: loading the YAML of `defs/` and naming what of it cannot be loaded. Does not live here: the rules of a file
(`yaml_files`), of its fields (`market`, `strategy`), and the words of their errors (`yaml_lines`).
"""

import gc
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
from dagster.components.core.context import ComponentDeclLoadContext
from dagster.components.core.decl import ComponentDecl, DefsFolderDecl, build_filesystem_component_decl_from_context
from dagster.components.core.defs_module import ComponentPath

from hf_pipelines.components.code_memory import reading_code_once
from hf_pipelines.components.environment_overrides import require_owners
from hf_pipelines.components.market import Market
from hf_pipelines.components.strategy import Strategy
from hf_pipelines.components.yaml_components import component_of_values, reading_once
from hf_pipelines.components.yaml_files import component_files, read_values
from hf_pipelines.components.yaml_lines import LOADING_ERRORS, FaultyYAMLError, fault_of, line_of

# Judged before Dagster reads them: its words for a faulty field are many.
OWN_TYPES: dict[str, type[Market] | type[Strategy]] = {
    "hf_pipelines.components.Market": Market,
    "hf_pipelines.components.Strategy": Strategy,
}


@dataclass(frozen=True)
class LoadedComponents:
    """Components that could be loaded, and what is wrong with the others.

    Attributes
    ----------
    definitions : dg.Definitions
    tree : dg.ComponentTree
        Holds the sound components alone.
    faults : mapping of Path to str
        A line a fault, `FILE:LINE: rule`, by the folder of the component.
    """

    definitions: dg.Definitions
    tree: dg.ComponentTree
    faults: dict[Path, str] = field(default_factory=dict)


def load_components(path_within_project: Path) -> LoadedComponents:
    """Load every component of a project.

    Raises
    ------
    FaultyYAMLError
        If one cannot be loaded: a line a fault, with its file and line.
    """
    # `dg.load_from_defs_folder` would also import every installed component library to list it: a second.
    tree = dg.ComponentTree.for_project(path_within_project)
    components, faults = read_components(tree.defs_module_path)
    if faults:
        raise FaultyYAMLError("\n".join(faults.values()))
    try:
        with reading_once(components), reading_code_once(), _without_collections():
            return LoadedComponents(tree.build_defs(tree.defs_module_path), tree)
    except LOADING_ERRORS as e:
        # The web UI shows the last error first: the fault, not what Dagster wraps around it.
        raise FaultyYAMLError(fault_of(e, tree.defs_module_path)) from e


@contextmanager
def _without_collections() -> Iterator[None]:
    """Load without looking for garbage: what is loaded stays, and looking takes a tenth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def load_sound_components(path_within_project: Path) -> LoadedComponents:
    """Load the components of a project that can be loaded: a fault of one must not stop work on the others."""
    defs = dg.ComponentTree.for_project(path_within_project).defs_module_path
    components, faults = read_components(defs)
    while True:
        faults |= _faults_by_market(components, faults, defs)
        tree = _tree_without(path_within_project, faults.keys())
        new = _faults_of_loading(
            tree, [each.parent for each in component_files(defs) if each.parent not in faults], defs
        )
        if not new:
            return LoadedComponents(tree.build_defs(defs), tree, faults)
        faults |= new


def _faults_by_market(
    components: Mapping[Path, Market | Strategy], faults: Mapping[Path, str], defs: Path
) -> dict[Path, str]:
    """Faults of the strategies that are sound and whose market is not: they cannot be loaded without it."""
    return {
        folder: f"{line_of(folder, 'market')}: `market` must be one that can be loaded, was {each.market}; correct its file."
        for folder, each in components.items()
        if isinstance(each, Strategy) and folder not in faults and defs / "markets" / each.market in faults
    }


def _faults_of_loading(tree: dg.ComponentTree, folders: Sequence[Path], defs: Path) -> dict[Path, str]:
    """Faults of the components of a tree that cannot be built, by their folders."""
    found = {}
    for folder in folders:
        try:
            tree.build_defs_at_path(folder)
        except LOADING_ERRORS as e:
            found[folder] = fault_of(e, defs)
    return found


def tree_of_sound_files(path_within_project: Path) -> tuple[dg.ComponentTree, dict[Path, str]]:
    """The tree of the components whose files can be read, none of them loaded yet, and the faults of the other files."""
    defs = dg.ComponentTree.for_project(path_within_project).defs_module_path
    components, faults = read_components(defs)
    faults |= _faults_by_market(components, faults, defs)
    return _tree_without(path_within_project, faults.keys()), faults


def _tree_without(path_within_project: Path, left_out: Set[Path]) -> dg.ComponentTree:
    """The tree of a project without the components in some folders, whose files are not read."""
    tree = dg.ComponentTree.for_project(path_within_project)
    root = ComponentPath.from_path(tree.defs_module_path)
    context = tree.decl_load_context.for_component_loc(root)
    tree.state_tracker.set_cache_data(root, component_decl=_sound_decl(context, left_out))
    return tree


def _sound_decl(context: ComponentDeclLoadContext, left_out: Set[Path]) -> ComponentDecl[Any] | None:
    if not any(context.path in folder.parents for folder in left_out):
        return build_filesystem_component_decl_from_context(context)
    found = {}
    for path in sorted(context.path.iterdir()):
        inner = context.for_component_loc(ComponentPath.from_path(path))
        if path not in left_out and (decl := _sound_decl(inner, left_out)):
            found[path] = decl
    loc = ComponentPath.from_path(context.path)
    return DefsFolderDecl(context=context, loc=loc, children=found, source_tree=None, component_file_model=None)


def read_components(defs: Path) -> tuple[dict[Path, Market | Strategy], dict[Path, str]]:
    """Our own components below a folder, and what their files alone show to be wrong with the others, a line a fault: both by
    their folders."""
    found: dict[Path, Market | Strategy] = {}
    faults = {}
    for path in component_files(defs):
        try:
            values = read_values(path)
            if kind := OWN_TYPES.get(values.type):
                found[path.parent] = component_of_values(kind, path, values)
        except FaultyYAMLError as e:
            faults[path.parent] = str(e)
    # A faulty one may be meant, too.
    require_owners({each.name for each in [*found, *faults] if not isinstance(found.get(each), Market)})
    return found, faults
