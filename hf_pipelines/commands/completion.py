"""Completion: what a shell offers for the names on a command line.

Lives here: names of markets, strategies and assets of the project. Does not live here: the shells' scripts (`hfp
--install-completion`, which Typer writes).
"""

from collections.abc import Callable
from pathlib import Path


def strategies(incomplete: str) -> list[str]:
    """Folders of defs/strategies that begin so."""
    return _folders("strategies", incomplete)


def markets(incomplete: str) -> list[str]:
    """Folders of defs/markets that begin so."""
    return _folders("markets", incomplete)


def assets(incomplete: str) -> list[str]:
    """Assets of the project that begin so. Takes as long as loading it: two seconds."""
    return _quietly(_assets, incomplete)


def kinds(incomplete: str) -> list[str]:
    """What `hfp list` lists."""
    from hf_pipelines.commands.entries import KINDS

    return [each for each in KINDS if each.startswith(incomplete)]


def _folders(kind: str, incomplete: str) -> list[str]:
    def found() -> list[str]:
        from hf_pipelines.resources.project import require_project

        return sorted(path.parent.name for path in Path(require_project().defs / kind).glob("*/defs.yaml"))

    return _quietly(found, incomplete)


def _assets() -> list[str]:
    from hf_pipelines.definitions import sound_defs

    definitions, _ = sound_defs()
    return sorted("/".join(key.path) for key in definitions.resolve_asset_graph().materializable_asset_keys)


def _quietly(find: Callable[[], list[str]], incomplete: str) -> list[str]:
    """Where there is no project, or none that can be loaded, a shell offers nothing: a message would stand in the line being typed."""
    try:
        return [each for each in find() if each.startswith(incomplete)]
    except (ValueError, OSError):
        return []
