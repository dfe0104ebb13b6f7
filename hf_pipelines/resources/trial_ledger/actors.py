"""Actors: by whom a trial was made.

Lives here: the name of a person, schedule, sensor or agent. Does not live here: the trials (`trials`).
"""

import getpass
import os
from collections.abc import Mapping

from hf_pipelines.resources import settings

SCHEDULE, SENSOR = "schedule", "sensor"

# Tags that Dagster sets on the runs of both.
_BY_TAG = {"dagster/schedule_name": SCHEDULE, "dagster/sensor_name": SENSOR}


def actor_of(tags: Mapping[str, str]) -> str:
    """Who makes the trials of a run with some tags: a schedule or sensor, else HF_ACTOR, else the user of the system."""
    automatic = next((actor for tag, actor in _BY_TAG.items() if tag in tags), None)
    return automatic or settings.actor() or _system_user()


def _system_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        return f"uid-{os.getuid()}"
