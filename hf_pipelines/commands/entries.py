"""Entries: what a market or a strategy may name, with every parameter; what `hfp list` prints.

Lives here: entries of the registries and features in words, from the specifications that also check the YAML; markets and strategies in
those of their YAML. Does not live here: arguments (`actions`).
"""

import difflib
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from hf_pipelines.commands.literature import source_of
from hf_pipelines.commands.runs import stored_features
from hf_pipelines.components import Market, Strategy
from hf_pipelines.components.modules import REGISTRIES
from hf_pipelines.components.yaml_lines import fault_lines
from hf_pipelines.definitions import sound_defs
from hf_pipelines.research.backtest import Engine
from hf_pipelines.research.features import FEATURES, Feature
from hf_pipelines.research.learners import ALIASES, Learner
from hf_pipelines.research.learners.registry import SUMMARIES
from hf_pipelines.research.params import describe_params, search_space
from hf_pipelines.research.signals import ALIASES as RULE_ALIASES
from hf_pipelines.research.signals import RULES
from hf_pipelines.research.wording import NAMES_SHOWN
from hf_pipelines.resources.market_data.source_entry import SourceEntry

# What else than entries of registries can be listed; a registry is listed by the plural of what its YAML field names.
MARKETS, STRATEGIES, FEATURES_KIND = "markets", "strategies", "features"
PLURALS = {
    "LEARNERS": "learners", "TARGETS": "targets", "SPLITTERS": "splitters", "RULES": "rules", "ENGINES": "engines",
    "SOURCES": "sources", "PREPROCESSING": "preprocessing", "CALIBRATIONS": "calibrations", "INTERVALS": "intervals",
    "WEIGHTINGS": "weightings", "SIZINGS": "sizings", "LIMITS": "limits",
}  # fmt: skip
KINDS = (MARKETS, STRATEGIES, FEATURES_KIND, *PLURALS.values())


@dataclass(frozen=True)
class Listed:
    """What was found: for a person, and for programs."""

    lines: Sequence[str]
    rows: Sequence[Mapping[str, Any]]


def listed(kind: str | None, pattern: str | None, *, tell: Callable[[str], None]) -> Listed:
    """Entries of a kind whose name matches; without a kind the kinds, and how many of each there are.

    Parameters
    ----------
    kind : str, optional
        One of KINDS.
    pattern : str, optional
        A word or a regular expression.
    tell : function of a line
        Told what is not listed, since its file cannot be loaded.

    Raises
    ------
    ValueError
        If there is no such kind, nothing matches, or the pattern is no regular expression.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"`kind` must be one of {', '.join(KINDS)}, was {kind[:40]!r}.")
    if kind == FEATURES_KIND:
        # A user who has mistyped a feature looks its name up here.
        stored, faults = stored_features()
        for line in fault_lines(faults):
            tell(f"hfp: not shown, the market cannot be loaded: {line}")
        return Listed([*features_lines(pattern, stored=stored)], feature_rows(pattern, stored))
    # Modules of one's own are registered where a market or a strategy that names them is loaded.
    definitions, faults = sound_defs()
    for line in fault_lines(faults):
        tell(f"hfp: not shown, what it names cannot be loaded: {line}")
    rows: list[dict[str, Any]]
    if kind in (MARKETS, STRATEGIES):
        tree = definitions.component_tree
        found: Sequence[Market | Strategy] = []
        if tree is not None:
            found = (
                tree.get_all_components(of_type=Market)
                if kind == MARKETS
                else tree.get_all_components(of_type=Strategy)
            )
        rows = sorted((component_row(each) for each in found), key=lambda row: str(row["name"]))
    elif kind is not None:
        (table,) = (table for table, plural in PLURALS.items() if plural == kind)
        rows = [entry_row(table, name) for name in REGISTRIES[table].entries]
    else:
        counts = {plural: len(REGISTRIES[table].entries) for table, plural in PLURALS.items()}
        rows = [{"name": each, "entries": counts.get(each)} for each in KINDS]
    rows = _matching(rows, pattern, kind or "kinds")
    return Listed([line for row in rows for line in _lines_of(row)], rows)


def component_row(component: Market | Strategy) -> dict[str, Any]:
    """A market or a strategy in the words of its YAML."""
    if isinstance(component, Strategy):
        told = {
            "market": component.market,
            "learner": component.learner.type,
            "target": f"{component.target.type} over {component.target.horizon_bars} bars",
            "rule": component.signal.type,
        }
    else:
        last = component.plan.partitions.end_sunday
        told = {
            "calendar": component.calendar,
            "weeks": f"{component.plan.partitions.first_week} to {last or 'now'}",
            "features": ", ".join(component.plan.feature_groups) or "none",
        }
    return {"name": component.name, "summary": component.description or "", **told}


def entry_row(table: str, name: str) -> dict[str, Any]:
    """An entry of a registry, with every parameter: default, allowed values, search space, meaning."""
    entry = REGISTRIES[table].entries[name]
    params: Any = getattr(entry, "params", {})
    rows = describe_params(params) if isinstance(params, Mapping) else []
    return {
        "name": name,
        "field": REGISTRIES[table].field,
        "summary": _line(entry),
        "source": source_of(table, name),
        "params": [
            {
                "name": row[0],
                "default": row[1],
                "allowed": row[2],
                "search": search_space(params[row[0]]),
                "meaning": row[3],
            }
            for row in rows
        ],
    }


def _matching(rows: Sequence[dict[str, Any]], pattern: str | None, kind: str) -> list[dict[str, Any]]:
    wanted = _expression(pattern)
    found = [row for row in rows if wanted.search(str(row["name"]))]
    if not found and pattern:
        near = difflib.get_close_matches(pattern, [str(row["name"]) for row in rows], cutoff=0.4)
        hint = f" (near it: {', '.join(near)})" if near else ""
        raise ValueError(f"`pattern` must match one of the {kind}{hint}, was {pattern!r}.")
    return found


def _lines_of(row: Mapping[str, Any]) -> Iterator[str]:
    if "entries" in row:
        yield f"hfp list {row['name']:<14}" + ("" if row["entries"] is None else f" {row['entries']:>4}")
    elif "field" in row:
        yield f"{row['field']}: {row['name']}{row['summary']}"
        for each in row["params"]:
            search = f"; searched {each['search']}" if each["search"] else ""
            yield f"  {each['name']} = {each['default']} ({each['allowed']}{search}){': ' if each['meaning'] else ''}{each['meaning']}"
        if row["source"]:
            yield f"  source: {row['source']}"
    else:
        yield f"{row['name']}: {row['summary']}".rstrip(": ")
        yield "  " + ", ".join(f"{key}: {value}" for key, value in row.items() if key not in ("name", "summary"))


def features_lines(
    pattern: str | None, width: int | None = None, *, stored: Mapping[str, Sequence[str]] | None = None
) -> Iterator[str]:
    """Registered features of which group, name, formula, inputs or source match.

    Parameters
    ----------
    stored : mapping of name to sequence of str, optional
        Markets that store a feature; None where they are not known.

    Raises
    ------
    ValueError
        If none matches, or the pattern is no regular expression.
    """
    width = max(width or shutil.get_terminal_size().columns, 24)
    found = _matching_features(pattern)
    for each in found:
        yield from textwrap.wrap(f"{each.group}/{each.name}  {each.window}", width, subsequent_indent="  ")
        lines = [
            ("formula", each.formula),
            ("inputs", ", ".join(each.inputs)),
            ("source", source_of("FEATURES", each.name)),
        ]
        if stored is not None:
            lines.append(("stored by", ", ".join(stored.get(each.name, ())) or "no market"))
        for label, text in lines:
            if text:
                yield from textwrap.wrap(f"{label}: {text}", width, initial_indent="    ", subsequent_indent="      ")
    yield f"{len(found)} of {len(FEATURES)} features"


def feature_rows(pattern: str | None, stored: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [
        {
            "name": f"{each.group}/{each.name}",
            "formula": each.formula,
            "reads": each.window,
            "inputs": list(each.inputs),
            "source": source_of("FEATURES", each.name),
            "stored_by": list(stored.get(each.name, ())),
        }
        for each in _matching_features(pattern)
    ]


def _matching_features(pattern: str | None) -> list[Feature]:
    wanted = _expression(pattern)
    found = [
        each
        for each in FEATURES.values()
        if any(
            wanted.search(text)
            for text in (
                f"{each.group}/{each.name}",
                each.formula,
                ", ".join(each.inputs),
                source_of("FEATURES", each.name),
            )
        )
    ]
    if not found:
        near = difflib.get_close_matches(pattern or "", list(FEATURES), n=NAMES_SHOWN, cutoff=0.4)
        hint = f" (near it: {', '.join(near)})" if near else ""
        raise ValueError(f"`pattern` must match a feature{hint}, was {pattern!r}.")
    return found


def _expression(pattern: str | None) -> re.Pattern[str]:
    try:
        return re.compile(pattern or "", re.IGNORECASE)
    except re.error as e:
        raise ValueError(f"`pattern` must be a word or a regular expression, was {pattern!r} ({e}).") from e


def summary_of(entry: Any) -> str:
    """What an entry is, in one line for people."""
    if isinstance(entry, Engine):
        return f"{entry.summary} Simulates {', '.join(sorted(entry.capabilities))}."
    if isinstance(entry, Learner) and (words := SUMMARIES.get(entry.name)):
        return words
    if isinstance(entry, SourceEntry):
        # Of a source its module tells, which begins with its name.
        told = (sys.modules[entry.build.__module__].__doc__ or "").splitlines()[:1]
        return told[0].partition(": ")[2] if told else ""
    words = next((each for name in ("formula", "summary") if (each := getattr(entry, name, ""))), "")
    # An object without a docstring of its own has that of its class.
    build = getattr(entry, "build", None)
    told = (build.__doc__ or "").splitlines()[:1] if isinstance(build, FunctionType) else []
    words = words or "".join(told)
    if not getattr(entry, "is_directional", True):
        words += "; for a rule of your own, which takes no higher prediction for a higher return"
    return words


def abilities_of(learner: Learner) -> list[str]:
    """What a learner predicts, and what it needs or takes."""
    can = {
        "takes unknown features": learner.handles_missing,
        "needs validation rows": learner.needs_validation,
        "reads earlier bars": learner.is_sequence,
        "reads no weights": not learner.takes_weights,
    }
    return [" or ".join(sorted(learner.tasks)), *(name for name, is_so in can.items() if is_so)]


def _line(entry: Any) -> str:
    """An entry in one line, behind its name."""
    words = summary_of(entry)
    if isinstance(entry, Learner):
        others = [alias for alias, each in ALIASES.items() if each.name == entry.name]
        words = f" ({entry.family}): {', '.join(abilities_of(entry))}{f'. {words}' if words else ''}".removesuffix(".")
    else:
        others = [alias for alias, each in RULE_ALIASES.items() if RULES.get(each) is entry]
        words = f": {words}" if words else ""
    return words + (f"; also {', '.join(others)}" if others else "")
