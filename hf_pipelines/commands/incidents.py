"""Incidents: those that are open, and putting one aside; the lines of `hfp incident list`.

Lives here: finding one by how its id begins, who dismisses it. Does not live here: when one opens and heals (`resources.incidents`).
"""

from collections.abc import Sequence
from dataclasses import asdict

import dagster as dg

from hf_pipelines.research.wording import excerpt
from hf_pipelines.resources import settings
from hf_pipelines.resources.incidents import Incident, ask_dismissal, live_incidents
from hf_pipelines.resources.notifier import KIND_WORDS
from hf_pipelines.resources.trial_ledger.actors import actor_of


def open_incidents() -> list[Incident]:
    """Open incidents, the oldest first."""
    settings.prepare_dagster_home()
    return live_incidents(dg.DagsterInstance.get())


def rows_of(incidents: Sequence[Incident]) -> list[dict[str, str]]:
    """A row for each incident, for programs."""
    return [
        {name: str(value) for name, value in asdict(each).items() if name not in ("waiting", "dismissed")}
        | {"kind": KIND_WORDS.get(each.kind, each.kind)}
        for each in incidents
    ]


def incident_lines(incidents: Sequence[Incident]) -> list[str]:
    """A few lines for each incident, for people: causes have several lines, and an id must be read in whole on any terminal."""
    if not incidents:
        return ["No incident is open."]
    return [line for at, each in enumerate(incidents) for line in [*([""] if at else []), *each.lines()]]


def dismiss_lines(begins: str, why: str) -> list[str]:
    """Put an incident aside, and say so.

    Raises
    ------
    ValueError
        If it is none or not one alone that is open, or without a reason.
    """
    settings.prepare_dagster_home()
    instance = dg.DagsterInstance.get()
    live = live_incidents(instance)
    found = [each for each in live if begins and each.id.startswith(begins)]
    if len(found) != 1:
        many = f"one of {len(found)} ({', '.join(each.id for each in found[:5])})" if found else "that of none"
        raise ValueError(
            f"`id` must be that of one open incident, was {many}: {excerpt(begins)}; see hfp incident list."
        )
    if not why.strip():
        raise ValueError(
            '`why` must say why it is put aside, was empty; say it: --why "the vendor is away until Monday".'
        )
    (incident,) = found
    ask_dismissal(instance, incident, f"by {actor_of({})}: {why.strip()}")
    return [
        f"{incident.id} is dismissed: {KIND_WORDS.get(incident.kind, incident.kind)}, {incident.asset} {incident.partition}".rstrip(),
        "It is told as dismissed when the daemon looks next, and the same partitions open no other one; what it was about is as it was.",
    ]
