"""Setting variables: overrides of strategies' YAML in the environment, of this process and of the servers that run.

Lives here: which variables there are, what a service began with, and refusing to write beside one that has others. Does not live here:
what they mean (`components.environment_overrides`).
"""

import json
import os
import shlex
from collections.abc import Mapping

import psutil

from hf_pipelines.research.wording import printable, some_of
from hf_pipelines.resources import settings

PREFIX = "HF_SET__"

# Key of the state that a supervisor writes as it begins.
NOTED = "overrides"

# Who makes assets; a viewer makes none.
OPERATOR = "operator"

# A clock and a file's time may part by so much.
SLACK_S = 2.0


def setting_variables() -> dict[str, str]:
    """Overrides in the environment of this process, by name."""
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(PREFIX)}


def variables_of_service() -> tuple[str, dict[str, str]] | None:
    """The command of the running service that makes assets of this data folder, and the overrides that it began with; None without one."""
    state = settings.data_dir() / "stack" / f"{OPERATOR}.json"
    try:
        told = json.loads(state.read_text())
        written, process = state.stat().st_mtime, psutil.Process(int(told["pid"]))
        # Of a supervisor that was killed the number may be another process's by now.
        if not process.is_running() or process.create_time() > written + SLACK_S:
            return None
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
    noted = told.get(NOTED)
    if not isinstance(noted, Mapping):
        return None
    return f"{told.get('command', 'hfp')} (pid {told['pid']})", {str(name): str(value) for name, value in noted.items()}


def differing_variables() -> list[str]:
    """Overrides that this process and the running service do not share, in words; none without a service."""
    service = variables_of_service()
    return [] if service is None else _differences(setting_variables(), service[1])


def require_same_variables() -> None:
    """Refuse to write beside a service whose overrides are others: it would make the same again by its own.

    Raises
    ------
    ValueError
        Naming the service, what differs, and what to type.
    """
    service = variables_of_service()
    if service is None:
        return
    (name, there), here = service, setting_variables()
    if differences := _differences(here, there):
        raise ValueError(
            f"`{PREFIX}...` must be the overrides of the running {name} for a command that writes: {some_of(differences)}; take those of the "
            f"service here: {_line_of_shell(here, there)}; or stop the service and start it from this shell."
        )


def _differences(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    return [
        printable(f"{name} is {here.get(name, 'not set')} here, {there.get(name, 'not set')} there")
        for name in _differing(here, there)
    ]


def _differing(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    return [name for name in sorted({*here, *there}) if here.get(name) != there.get(name)]


def _line_of_shell(here: Mapping[str, str], there: Mapping[str, str]) -> str:
    """What to type so that this shell has the overrides of the service."""
    names = _differing(here, there)
    given = [f"{name}={shlex.quote(there[name])}" for name in names if name in there]
    gone = [name for name in names if name not in there]
    return printable(
        "; ".join(f"{word} {' '.join(each)}" for word, each in (("export", given), ("unset", gone)) if each)
    )
