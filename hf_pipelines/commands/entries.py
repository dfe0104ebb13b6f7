"""Entries: what a strategy may name, with every parameter; the lines of `hfp entries`.

Lives here: entries of the registries in words, from the specification that also checks the YAML. Does not live here: features,
which have a command of their own (`store`), parsing of arguments (`cli`).
"""

import difflib
import re
import sys
from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import Any

from hf_pipelines.components.modules import REGISTRIES
from hf_pipelines.research.backtest import Engine
from hf_pipelines.research.learners import ALIASES, Learner
from hf_pipelines.research.learners.registry import SUMMARIES
from hf_pipelines.research.params import describe_params
from hf_pipelines.research.signals import ALIASES as RULE_ALIASES
from hf_pipelines.research.signals import RULES
from hf_pipelines.resources.market_data.source_entry import SourceEntry


def entries_lines(pattern: str | None) -> Iterator[str]:
    """Entries whose field, registry or name matches, each with its parameters: default, allowed values, meaning.

    Raises
    ------
    ValueError
        If none matches, or the pattern is no regular expression.
    """
    try:
        wanted = re.compile(pattern or "", re.IGNORECASE)
    except re.error as e:
        raise ValueError(f"`pattern` must be a word or a regular expression, was {pattern!r} ({e}).") from e
    found = [
        (registry.field, name, entry)
        for table, registry in REGISTRIES.items()
        for name, entry in registry.entries.items()
        if any(wanted.search(text) for text in (f"{registry.field}: {name}", table))
    ]
    if not found:
        names = [name for registry in REGISTRIES.values() for name in registry.entries]
        near = difflib.get_close_matches(pattern or "", names, cutoff=0.4)
        hint = f" (near it: {', '.join(near)})" if near else ""
        raise ValueError(f"`pattern` must match an entry{hint}, was {pattern!r}.")
    for field, name, entry in found:
        yield f"{field}: {name}{_line(entry)}"
        params: Any = getattr(entry, "params", {})
        rows = describe_params(params) if isinstance(params, Mapping) else []
        for row in rows:
            yield f"  {row[0]} = {row[1]} ({row[2]}){': ' if row[3] else ''}{row[3]}"


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
