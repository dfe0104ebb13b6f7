"""Modules of one's own: entries that live outside of the project, added to its registries.

Lives here: reading the tables of a module, each named like the registry that it adds to, and refusing a clash of names. Does
not live here: the registries (`research`, `resources.market_data`), the YAML field `modules` (`market`, `strategy`).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

from hf_pipelines.research.backtest import ENGINES, Engine
from hf_pipelines.research.cost_kinds import COST_KINDS
from hf_pipelines.research.features.feature import Feature
from hf_pipelines.research.features.registry import register
from hf_pipelines.research.intervals import INTERVALS, IntervalMethod
from hf_pipelines.research.learners import (
    ALIASES,
    CALIBRATIONS,
    LEARNERS,
    PREPROCESSING,
    Calibration,
    Learner,
    Step,
)
from hf_pipelines.research.signals import ALIASES as RULE_ALIASES
from hf_pipelines.research.signals import LIMITS, RULES, SIZINGS, Limit, Rule, Sizing
from hf_pipelines.research.splitters import SPLITTERS, SplitterKind
from hf_pipelines.research.targets import TARGETS, TargetKind
from hf_pipelines.research.weights import NONE, WEIGHTINGS, Weighting
from hf_pipelines.resources.market_data.registry import SOURCES
from hf_pipelines.resources.market_data.source_entry import SourceEntry


class _Registry(NamedTuple):
    # Field of the YAML that names an entry.
    field: str
    entries: dict[str, Any]
    kind: type
    # Names that lead to an entry too.
    others: Mapping[str, Any] = {}


# By the names of their tables. Features have a check of their own, `register`.
REGISTRIES: dict[str, _Registry] = {
    "SOURCES": _Registry("source.type", SOURCES, SourceEntry),
    "TARGETS": _Registry("target.type", TARGETS, TargetKind),
    "WEIGHTINGS": _Registry("training.weighting", WEIGHTINGS, Weighting, {NONE: None}),
    "SPLITTERS": _Registry("cross_validation.type", SPLITTERS, SplitterKind),
    "PREPROCESSING": _Registry("learner.preprocessing", PREPROCESSING, Step),
    "LEARNERS": _Registry("learner.type", LEARNERS, Learner, ALIASES),
    "CALIBRATIONS": _Registry("learner.calibration", CALIBRATIONS, Calibration),
    "INTERVALS": _Registry("intervals.method", INTERVALS, IntervalMethod),
    "RULES": _Registry("signal.type", RULES, Rule, RULE_ALIASES),
    "SIZINGS": _Registry("signal.sizing", SIZINGS, Sizing),
    "LIMITS": _Registry("signal.limits", LIMITS, Limit),
    "ENGINES": _Registry("backtest.engine", ENGINES, Engine),
}
TABLES = ("FEATURES", *REGISTRIES)

# What a strategy chooses from: its stages' versions hold what it chose, not the rest.
CHOSEN_FROM = (*(each.entries for name, each in REGISTRIES.items() if name != "SOURCES"), ALIASES, COST_KINDS)

# Module that an entry came from, by table and name: the same module may be imported anew, its functions are then others.
_origins: dict[tuple[str, str], str] = {}

# The same of features, by their names (`gap`), and of their groups (`own/`).
_feature_origins: dict[str, str] = {}


def register_modules(names: Sequence[str], field: str) -> None:
    """Import modules and add the entries of their tables to the registries.

    Parameters
    ----------
    names : sequence of str
        Such as `desk_entries`, or dotted.
    field : str
        Of the YAML, for messages.

    Raises
    ------
    ValueError
        If a module cannot be imported, has no table, or one with something else than entries; or if a name, or the group of a
        feature, is taken by an entry of the project or of another module.
    """
    for name in names:
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", name):
            raise ValueError(f"`{field}` must name modules such as desk_features, was {name[:80]!r}.")
        try:
            _register(import_module(name))
        except ValueError as e:
            raise ValueError(
                f"`{field}` must name modules whose entries can be registered, was {name[:80]!r}: {e}"
            ) from e
        except Exception as e:  # noqa: BLE001  A module of somebody else's may raise anything when it is imported.
            raise ValueError(
                f"`{field}` must name importable modules, was {name[:80]!r} ({e}); install its package into this environment or "
                "put its folder on PYTHONPATH, or mend the module."
            ) from e


def registering() -> Callable[[], None]:
    """What a worker process calls first to know the entries that this one has been given."""
    return partial(register_modules, sorted({*_origins.values()}), "modules")


def feature_modules(names: Sequence[str]) -> tuple[str, ...]:
    """Those of the registered modules that bring features."""
    return tuple(name for name in names if hasattr(import_module(name), "FEATURES"))


def _register(module: ModuleType) -> None:
    tables = {name: vars(module)[name] for name in TABLES if name in vars(module)}
    if not tables:
        raise ValueError(f"it must have a table named {', '.join(TABLES[:-1])} or {TABLES[-1]}, had none.")
    for table, entries in tables.items():
        _check_table(module.__name__, table, entries)
    for table, entries in tables.items():
        if table == "FEATURES":
            register(entries)
            _feature_origins.update(dict.fromkeys(_names_of_features(entries), module.__name__))
            continue
        for name, entry in entries.items():
            REGISTRIES[table].entries[name] = entry
            _origins[table, name] = module.__name__


def _check_table(module: str, table: str, entries: Any) -> None:
    if table == "FEATURES":
        if not all(isinstance(each, Feature) for each in entries):
            raise ValueError(f"`FEATURES` of {module} must hold features only, was {entries!r:.200}.")
        _check_features(module, entries)
        return
    registry = REGISTRIES[table]
    if not isinstance(entries, Mapping):
        raise ValueError(f"`{table}` of {module} must map names to entries, was {entries!r:.200}.")
    for name, entry in entries.items():
        if not isinstance(entry, registry.kind) or getattr(entry, "name", name) != name:
            raise ValueError(
                f"`{table}` of {module} must map the name of each {registry.kind.__name__} to it, was {name!r}: {entry!r:.200}."
            )
        taken, origin = registry.entries.get(name), _origins.get((table, name), "the project")
        if name in registry.others or (taken is not None and taken is not entry and origin != module):
            raise ValueError(
                f"`{table}` of {module} must have names of its own, was {name!r}, which {origin} has too; choose another name."
            )


def _check_features(module: str, features: Sequence[Feature]) -> None:
    """Refuse what another module has: a market that stores a group would compute, and store, what that module says."""
    for name in _names_of_features(features):
        if (origin := _feature_origins.get(name, module)) != module:
            what, remedy = ("groups", "`group`") if name.endswith("/") else ("features", "name")
            raise ValueError(
                f"`FEATURES` of {module} must have {what} of its own, was {name.rstrip('/')!r}, which {origin} has too; choose "
                f"another {remedy}."
            )


def _names_of_features(features: Sequence[Feature]) -> list[str]:
    """Names, then groups with a stroke."""
    return [*(each.name for each in features), *dict.fromkeys(f"{each.group}/" for each in features)]
