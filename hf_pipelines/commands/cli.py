"""`hfp`: thin commands over the pipeline.

Lives here: all commands together, what an error says on the command line. Does not live here: the commands (`actions`), their frame
(`app`).
"""

import errno
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import typer

# Each module adds its commands.
from hf_pipelines.commands.actions import (  # noqa: F401
    alerts,
    beginning,
    incidents,
    judging,
    keeping,
    looking,
    making,
    models,
    promoting,
    serving,
    trying,
)
from hf_pipelines.commands.app import PANELS, app
from hf_pipelines.commands.console import ignore_previews

app.registered_commands.sort(key=lambda each: PANELS.index(str(each.rich_help_panel)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    ignore_previews()
    try:
        app(arguments, prog_name="hfp")
    except SystemExit as e:
        return int(e.code or 0)
    except _expected_failures() as e:
        from hf_pipelines.research.wording import with_nearest
        from hf_pipelines.resources.redaction import redacted

        message = _message_of(e)
        if not message:
            raise
        print(f"hfp: {redacted(with_nearest(message))}", file=sys.stderr)
        return 1
    return 0


def commands() -> Iterator[tuple[str, Any]]:
    """Every command that can be run, by its words, as Typer describes it: `help`, and `params` with `opts`, `help`, `required`."""
    yield from _inner(typer.main.get_command(app), "")


def app_parameters() -> list[Any]:
    """Options of `hfp` itself, as Typer describes them."""
    return list(typer.main.get_command(app).params)


def _inner(group: Any, before: str) -> Iterator[tuple[str, Any]]:
    for name, each in group.commands.items():
        if hasattr(each, "commands"):
            yield from _inner(each, f"{before}{name} ")
        else:
            yield f"{before}{name}", each


def parse(arguments: Sequence[str]) -> None:
    """Look at a command line without running it.

    Raises
    ------
    typer.TyperException
        If it is none that can be run.
    """
    # A group: Typer's own types say less.
    command: Any = typer.main.get_command(app)
    words, name, parent = [*arguments], "hfp", None
    while True:
        if hasattr(command, "commands") and not words:
            raise typer.TyperException("Missing command.")
        context = command.make_context(name, words, parent=parent)
        if not hasattr(command, "commands"):
            return
        if not (words := [*context._protected_args, *context.args]):
            continue
        found, inner, words = command.resolve_command(context, words)
        name, command, parent = str(found), inner, context


def _expected_failures() -> tuple[type[Exception], ...]:
    """Errors that are shown as one line; imported when one happened, since the servers' supervisor needs no pipeline."""
    from hf_pipelines.commands.runs import RunFailedError
    from hf_pipelines.components.yaml_lines import LOADING_ERRORS
    from hf_pipelines.resources.storage_errors import ObjectMissingError, StorageUnavailableError
    from hf_pipelines.serving.service import ServiceFailedError

    ours = (ValueError, RunFailedError, ObjectMissingError, StorageUnavailableError, ServiceFailedError)
    return (*ours, *LOADING_ERRORS, OSError, *_database_errors())


# Errors of a disk that is full, or that the user may not write.
DISK_CODES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


def _database_errors() -> tuple[type[Exception], ...]:
    from sqlalchemy.exc import OperationalError

    return (OperationalError,)


def _message_of(error: Exception) -> str:
    """The error as one line; "" for a fault of the code, which needs its traceback."""
    from hf_pipelines.components.yaml_lines import LOADING_ERRORS, loading_fault
    from hf_pipelines.resources.project import require_project

    if isinstance(error, LOADING_ERRORS):
        return loading_fault(error, require_project().defs)
    if isinstance(error, _database_errors()):
        return f"the database of runs refused it: {getattr(error, 'orig', '')}"
    # Errors that the project raises itself have no errno.
    if isinstance(error, OSError) and error.errno is not None:
        return str(error) if error.errno in DISK_CODES else ""
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
