"""Beginning: a project of one's own, what is added to it, and the demo."""

from pathlib import Path
from typing import Annotated

import typer

from hf_pipelines.commands.app import BEGIN, command
from hf_pipelines.commands.completion import markets
from hf_pipelines.commands.console import say


@command(panel=BEGIN, writes=True, examples=("hfp demo", "hfp demo --full"))
def demo(
    full: Annotated[
        bool, typer.Option("--full", help="Four weekly models of each strategy instead of one or two.")
    ] = False,
) -> None:
    """Run the whole pipeline on real bars and print the result."""
    from hf_pipelines.commands.demo import Demo
    from hf_pipelines.commands.runs import Pipeline

    Demo(Pipeline.open(), is_full=full).run()


@command(
    panel=BEGIN,
    writes=False,
    examples=("hfp init myfund", "hfp init myfund --into /srv/research"),
    is_of_project=False,
)
def init(
    name: Annotated[str, typer.Argument(help="Of its folder and Python package, such as myfund.")],
    into: Annotated[
        str | None, typer.Option(metavar="PATH", help="Another folder for it (default: NAME in the working folder).")
    ] = None,
) -> None:
    """Make a project of your own, with a market and a strategy on the sample."""
    from hf_pipelines.commands.scaffolding import make_project

    folder = Path(into or name)
    made = make_project(name, folder)
    say(
        [
            f"{name}: {len(made)} files in {folder.absolute()}. Next:",
            f"  cd {folder}",
            "  make demo    # or, in this environment: hfp demo",
            "  make test",
        ]
    )


@command(
    panel=BEGIN,
    writes=True,
    examples=("hfp new market asia", "hfp new strategy momentum --market asia", "hfp new feature gap"),
)
def new(
    kind: Annotated[
        str,
        typer.Argument(
            help="market, strategy, feature, learner, target, splitter, rule, sizing, limit, engine or source."
        ),
    ],
    name: Annotated[str, typer.Argument(help="Of the entry, and of its folder or module.")],
    market: Annotated[
        str | None, typer.Option(help="That a new strategy trades (default: the only one).", autocompletion=markets)
    ] = None,
) -> None:
    """Add a market, strategy, feature, learner... to the project, with its test."""
    from hf_pipelines.commands.scaffolding import KINDS, add_entry
    from hf_pipelines.resources.project import require_project

    if kind not in KINDS:
        raise ValueError(f"`kind` must be one of {', '.join(KINDS)}, was {kind[:40]!r}.")
    say(add_entry(kind, name, require_project(), market=market))
