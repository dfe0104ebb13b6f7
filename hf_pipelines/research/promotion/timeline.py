"""Timeline: who served when, and which configuration stood in which stage, as the history of a strategy has them.

Lives here: spells out of records. Does not live here: what a decision does (`lifecycle`), drawing (`plots`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hf_pipelines.research.promotion.lifecycle import Lifecycle, Release, states_of
from hf_pipelines.research.wording import some_of


@dataclass(frozen=True, kw_only=True)
class Spell:
    """A time in which a release served.

    Attributes
    ----------
    release : Release
    since, until : str
        ISO 8601, UTC; `until` is "" while it serves.
    began_by, ended_by : str
        Kinds of the decisions; `ended_by` is "" while it serves.
    """

    release: Release
    since: str
    until: str
    began_by: str
    ended_by: str


@dataclass(frozen=True, kw_only=True)
class StageSpell:
    """A time in which a configuration stood in a stage; `until` is "" while it stands there."""

    configuration: str
    stage: str
    since: str
    until: str


@dataclass(frozen=True)
class Timeline:
    """Spells in order.

    Attributes
    ----------
    served : tuple of Spell
    stages : tuple of StageSpell
        By configuration, in the order in which these were first judged.
    """

    served: tuple[Spell, ...]
    stages: tuple[StageSpell, ...]


def timeline_of(records: Sequence[Mapping[str, Any]]) -> Timeline:
    """Who served when, and every stage of every configuration, out of all records of a strategy.

    Returns
    -------
    Timeline
        Times are those that the records tell: a clock that was set back may give a spell that ends before it begins.
    """
    states = states_of(records)
    return Timeline(_served(records, states), _stages(records, states))


def out_of_time(records: Sequence[Mapping[str, Any]]) -> str:
    """Decisions that tell an earlier time than one before them, in words; "" where there are none."""
    found, latest = [], ""
    for record in records:
        if record["at"] < latest:
            found.append(str(record["n"]))
        latest = max(latest, record["at"])
    if not found:
        return ""
    return f"dated before a decision that came first: {some_of(found)}; a clock was wrong, they hold in the order of their numbers"


def _served(records: Sequence[Mapping[str, Any]], states: Sequence[Lifecycle]) -> tuple[Spell, ...]:
    found: list[Spell] = []
    release, since, began_by = None, "", ""
    for record, state in zip(records, states[1:], strict=True):
        now = state.champion
        if (now and now.number) == (release and release.number):
            continue
        if release is not None:
            found.append(
                Spell(release=release, since=since, until=record["at"], began_by=began_by, ended_by=record["kind"])
            )
        release, since, began_by = now, record["at"], record["kind"]
    if release is not None:
        found.append(Spell(release=release, since=since, until="", began_by=began_by, ended_by=""))
    return tuple(found)


def _stages(records: Sequence[Mapping[str, Any]], states: Sequence[Lifecycle]) -> tuple[StageSpell, ...]:
    open_: dict[str, tuple[str, str]] = {}
    found: dict[str, list[StageSpell]] = {}
    for record, state in zip(records, states[1:], strict=True):
        for configuration, stage in state.stages.items():
            before, since = open_.get(configuration, ("", ""))
            if before == stage:
                continue
            spells = found.setdefault(configuration, [])
            if before:
                spells.append(
                    StageSpell(configuration=configuration, stage=before, since=since, until=record["at"])
                )  # fmt: skip
            open_[configuration] = (stage, record["at"])
    for configuration, (stage, since) in open_.items():
        found[configuration].append(StageSpell(configuration=configuration, stage=stage, since=since, until=""))
    return tuple(each for spells in found.values() for each in spells)
