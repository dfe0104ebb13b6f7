"""Trying: a configuration evaluated beside what is current, the tries there are, and taking one."""

import re
from typing import Annotated

import typer

from hf_pipelines.commands.app import LOOK, MAKE, AsJson, command
from hf_pipelines.commands.completion import strategies
from hf_pipelines.commands.console import progress, say, say_json


@command(
    panel=MAKE,
    writes=True,
    name="try",
    examples=(
        "hfp try tech_ranking --set learner.params.alpha=10",
        "hfp try tech_direction --set learner.params.max_depth=4 --set learner.params.n_estimators=100 --weeks 2013-02-24",
        "hfp try tech_ranking --set learner.params.alpha=10 --json | jq .compared",
    ),
)
def try_out(
    strategy: Annotated[
        str,
        typer.Argument(
            metavar="STRATEGY",
            help="A folder of defs/strategies, or the path of a YAML file like those in them.",
            autocompletion=strategies,
        ),
    ],
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="A field of the YAML with points between, and its value as YAML has it; may be given several times.",
        ),
    ] = None,
    weeks: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SUNDAY",
            help="Weeks by their Sundays, with commas between or an option each (default: the latest that the strategy has results of).",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate one configuration in this process, and compare it with the strategy as it is; nothing that is current is touched.

    Features that are stored are read, those that are not are computed. What comes out is kept apart, and counts as a trial of the
    strategy.
    """
    from hf_pipelines.commands.runs import Pipeline
    from hf_pipelines.commands.tries import candidate, make_try, try_json, try_lines, weeks_of

    pipeline = Pipeline.open()
    chosen = candidate(pipeline, strategy, sets or ())
    wanted = weeks_of(pipeline, chosen, [key for each in weeks or () for key in re.split(r"[,\s]+", each) if key])
    with progress(f"try of {chosen.plan.name}", 3 * len(wanted)) as shown:
        # A stage is told of as it begins; one that is read as it is stored is none that ends.
        tried = make_try(pipeline, chosen, wanted, lambda line: shown.advance(line, n=int(line.endswith(" s"))))
    if as_json:
        say_json(try_json(pipeline, chosen, tried))
    else:
        say(try_lines(pipeline, chosen, tried))


@command(panel=LOOK, writes=False, examples=("hfp tries", "hfp tries tech_ranking --json"))
def tries(
    strategy: Annotated[
        str | None,
        typer.Argument(help="Those of one strategy (default: all).", autocompletion=strategies, show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the tries that there are: what differs from the strategy, and what came out."""
    from hf_pipelines.commands.tries import tries_lines
    from hf_pipelines.resources.parquet_io_manager import open_store
    from hf_pipelines.resources.tries import list_tries

    store = open_store()
    if as_json:
        say_json([each.to_json() for each in list_tries(store, strategy)])
    else:
        say(tries_lines(store, strategy))


@command(panel=MAKE, writes=True, examples=("hfp accept tech_ranking~04edb2b6",))
def accept(
    name: Annotated[str, typer.Argument(metavar="TRY", help="A try as hfp tries shows it, STRATEGY~ID.")],
) -> None:
    """Write the YAML of a try into the project, and say what becomes out of date.

    Refused where the strategy's YAML has changed since the try was made. Comments are kept.
    """
    from hf_pipelines.commands.accepting import accept_lines
    from hf_pipelines.commands.runs import Pipeline

    say(accept_lines(Pipeline.open(), name))
