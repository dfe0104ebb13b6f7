"""App: the frame of the command line.

Lives here: the Typer application and its groups, how a command is added, arguments that many commands have. Does not live here: commands
(`actions`), what an error says (`cli`).
"""

import functools
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from hf_pipelines.commands import completion, console

# Headings of the help, in their order.
PANELS = BEGIN, MAKE, LOOK, JUDGE, KEEP, SERVE = "Begin", "Make", "Look", "Judge", "Keep", "Serve"

# A pipe gets plain text. Both: what is refused is told on stderr.
IS_TERMINAL = sys.stdout.isatty() and sys.stderr.isatty()

# Exit status of a program that a closed pipe has ended, as shells give it.
BROKEN_PIPE = 128 + 13

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

app = typer.Typer(
    name="hfp",
    help="Orchestrated quant research that can be trusted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if IS_TERMINAL else None,
    context_settings=_SETTINGS,
)


def _group(name: str, panel: str, words: str) -> typer.Typer:
    group = typer.Typer(
        short_help=words,
        name=name,
        help=words,
        no_args_is_help=True,
        context_settings=_SETTINGS,
        rich_markup_mode=app.rich_markup_mode,
    )
    app.add_typer(group, rich_help_panel=panel)
    return group


ledger_group = _group("ledger", JUDGE, "The ledger of trials: every evaluated configuration.")
tuning_group = _group("tuning", LOOK, "Studies of parameters while they run.")
feature_group = _group("feature", JUDGE, "Judge one feature.")
model_group = _group("model", JUDGE, "Releases of strategies: what serves, what it is made from, what changed.")
alert_group = _group("alert", LOOK, "Channels that people are alerted by.")
incident_group = _group("incident", LOOK, "What went wrong and has not healed.")

Asset = Annotated[
    str,
    typer.Argument(
        help="Path of an asset, such as us_tech/bars, us_tech/features/technical or tech_direction/fitted_model.",
        autocompletion=completion.assets,
    ),
]
MaybeAsset = Annotated[
    str | None,
    typer.Argument(
        help="Path of an asset, such as us_tech/bars, us_tech/features/technical or tech_direction/fitted_model (default: the whole store).",
        autocompletion=completion.assets,
        show_default=False,
    ),
]
Partition = Annotated[
    str,
    typer.Argument(
        help="Key of a partition, YYYY-MM-DD: the Sunday that a week begins with, or the session of signals."
    ),
]
StrategyName = Annotated[
    str,
    typer.Argument(help="A folder of defs/strategies, such as tech_direction.", autocompletion=completion.strategies),
]
MarketName = Annotated[
    str, typer.Argument(help="A folder of defs/markets, such as us_tech.", autocompletion=completion.markets)
]
Week = Annotated[str, typer.Argument(help="Its Sunday, YYYY-MM-DD.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


def command(
    *,
    panel: str,
    writes: bool | str,
    group: typer.Typer = app,
    name: str | None = None,
    examples: tuple[str, ...] = (),
    is_of_project: bool = True,
) -> Callable[[Callable[..., int | None]], Callable[..., int | None]]:
    """Add a function as a command: its docstring is its help, its annotated parameters are its arguments.

    What it returns is the exit status, None for 0. Settings are looked at before it is called, not before its help is shown.

    Parameters
    ----------
    panel : str
        Heading of the help that it stands below.
    writes : bool or str
        Whether it writes into the project, its landing folders or its store, or the option with which alone it does. Such a command is
        refused beside a service whose overrides are others.
    group : Typer
        The group that it belongs to.
    name : str, optional
        Where a name is no good one for a function.
    examples : tuple of str
        Command lines, shown below the help.
    is_of_project : bool
        Outside of any project, and without a data folder that is named, it is refused: it would answer of the working folder.
    """

    def add(action: Callable[..., int | None]) -> Callable[..., int | None]:
        @functools.wraps(action)
        def run(*args: object, **options: object) -> None:
            _prepare(writes=bool(options[writes] if isinstance(writes, str) else writes), is_of_project=is_of_project)
            try:
                # A command with more than one outcome returns its exit status.
                status = action(*args, **options) or 0
                sys.stdout.flush()
            except BrokenPipeError:
                # The reader (`| head`) has closed the pipe: print nothing more, not at the end of the process either.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                status = BROKEN_PIPE
            raise typer.Exit(status)

        text = inspect.cleandoc(action.__doc__ or "")
        epilog = _examples(examples) if examples else None
        # Of a long help its first paragraph; Typer's own choice is cut to one line.
        short = " ".join(text.partition("\n\n")[0].split())
        group.command(
            name, help=text, short_help=short, epilog=epilog, rich_help_panel=panel if group is app else None
        )(run)
        return action

    return add


def _examples(lines: Sequence[str]) -> str:
    # Lines that are not to be joined are told to both renderers in their own way.
    return (
        "\n\n".join(["Examples:", *lines])
        if IS_TERMINAL
        else "\n".join(["\b", "Examples:", *(f"  {each}" for each in lines)])
    )


def _prepare(*, writes: bool, is_of_project: bool) -> None:
    from hf_pipelines.resources import settings
    from hf_pipelines.resources.project import require_project
    from hf_pipelines.resources.redaction import guard_process

    guard_process()
    if is_of_project and not os.environ.get("HF_DATA_DIR"):
        require_project()
    # Where the definitions notice it, Dagster makes a traceback of it.
    settings.require_sound()
    if writes:
        from hf_pipelines.resources.setting_variables import require_same_variables

        require_same_variables()


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"hf_pipelines {version('hf_pipelines')}")
        raise typer.Exit


@app.callback()
def main_options(
    project: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Folder of the project (default: found from the working folder upwards)."),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress: results, warnings and errors alone.")
    ] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Orchestrated quant research that can be trusted."""
    console.set_quiet(quiet)
    if project is not None:
        from hf_pipelines.resources.project import project_at

        os.environ["HF_PROJECT"] = str(project_at(Path(project), named="project").root)
