"""Incidents: what has gone wrong and has not healed, and those that a person puts aside."""

from typing import Annotated

import typer

from hf_pipelines.commands.app import LOOK, AsJson, command, incident_group
from hf_pipelines.commands.console import say, say_json


@command(panel=LOOK, group=incident_group, writes=False, name="list", examples=("hfp incident list",))
def incident_list(as_json: AsJson = False) -> None:
    """List open incidents: what went wrong, since when, and what cures it."""
    from hf_pipelines.commands.incidents import incident_lines, open_incidents, rows_of

    incidents = open_incidents()
    if as_json:
        say_json(rows_of(incidents))
    else:
        say(incident_lines(incidents))


@command(
    panel=LOOK,
    writes=True,
    group=incident_group,
    name="dismiss",
    examples=('hfp incident dismiss 3f2a --why "the vendor has no file for the holiday"',),
)
def incident_dismiss(
    incident: Annotated[str, typer.Argument(metavar="ID", help="Of an open incident, or how it begins.")],
    why: Annotated[str, typer.Option(help="Said where the incident was told, and kept.")],
) -> None:
    """Put an incident aside that will not heal or does not matter: it is told as closed, and not opened again for the same partitions."""
    from hf_pipelines.commands.incidents import dismiss_lines

    say(dismiss_lines(incident, why))
