"""Failure events: what the page of a failed run shows first.

Lives here: putting what went wrong, and what cures it, before Dagster's own words. Does not live here: the words, which are those of
the error, and storing the event (`run_ends`).

Dagster wraps what a step raises: its page begins with "Error occurred while executing op" and a stack of Dagster's own calls, and
ends with the line that helps. The event of the run begins with the names of its steps.
"""

from dagster import DagsterEvent, DagsterEventType, EventLogEntry

from hf_pipelines.resources.dagster_internals import JobFailureData, SerializableErrorInfo, StepFailureData

# Errors whose words say all; the kind of any other is part of what is to be known.
PLAIN = frozenset({"ValueError", "Failure"})
OWN_PACKAGE = "hf_pipelines."


def root_of(error: SerializableErrorInfo) -> SerializableErrorInfo:
    """The error that was raised, out of those in which Dagster wraps it."""
    while (error.cls_name or "").startswith("Dagster") and error.cause is not None:
        error = error.cause
    return error


def words_of(error: SerializableErrorInfo) -> str:
    """What an error says, without the name of its class."""
    name, separator, text = error.message.partition(": ")
    # The event log holds what `remedy_first` has made of it.
    is_named = separator and name.rpartition(".")[2] == error.cls_name
    return (text if is_named else error.message).strip()


def remedy_first(entry: EventLogEntry) -> EventLogEntry:
    """An event of a failure whose first line is that of the error that was raised; any other event as it is.

    The stack is that of the error alone, in the event of the step.
    """
    event = entry.dagster_event
    if event is None or event.event_type not in (DagsterEventType.STEP_FAILURE, DagsterEventType.RUN_FAILURE):
        return entry
    data = event.event_specific_data
    if not isinstance(data, StepFailureData | JobFailureData) or data.error is None:
        return entry
    shown = _shown(data.error)
    if isinstance(data, JobFailureData) and (first := data.first_step_failure_event) is not None:
        said = event._replace(message=_of_run(shown, first, event), event_specific_data=data._replace(error=None))
    else:
        said = event._replace(event_specific_data=data._replace(error=shown))
    return entry._replace(dagster_event=said)


def _shown(error: SerializableErrorInfo) -> SerializableErrorInfo:
    root = root_of(error)
    is_plain = root.cls_name in PLAIN or root.message.startswith(OWN_PACKAGE)
    return SerializableErrorInfo(
        message=f"{words_of(root)}\n" if is_plain else root.message,
        stack=root.stack,
        cls_name=root.cls_name,
        cause=root.cause,
        context=root.context,
    )


def _of_run(error: SerializableErrorInfo, first: DagsterEvent, event: DagsterEvent) -> str:
    _, _, steps = (event.message or "").rpartition("Steps failed: ")
    return f"{error.message.strip()}\nFailed steps: {steps.strip('[].') or first.step_key}; where: see the event of the step."
