"""Cause: the error of the first failed step of a run, for the command line and the notifications.

Lives here: finding it among the events of a run. Does not live here: the messages (`resources.notifier`).
"""

from collections.abc import Iterable

import dagster as dg

from hf_pipelines.resources.failure_events import root_of, words_of

NO_STEP = "the run failed before its first step; see its logs in the web UI"


def first_failure(events: Iterable[dg.DagsterEvent]) -> tuple[str | None, str]:
    """Key of the first failed step and its error; without one, the message of the run's end.

    Dagster wraps what a step raised; the error itself is returned, its traceback is in the web UI.
    """
    ending = NO_STEP
    for event in events:
        if event.is_step_failure and (error := event.step_failure_data.error) is not None:
            return event.step_key, words_of(root_of(error))
        if event.is_run_failure and event.message:
            ending = event.message.strip()
    return None, ending
