"""Faults: what a call raised in another process, as it is raised here.

Lives here: an exception with its causes as something that can be sent, and back. Does not live here: how it is sent.
"""

import pickle
import traceback
from dataclasses import dataclass
from typing import Any

import cloudpickle

from hf_pipelines.resources.fan_out.packing import unpack


@dataclass(frozen=True)
class Fault:
    """An exception as it crosses.

    Attributes
    ----------
    error : bytes, optional
        The exception, pickled; None if that cannot be done.
    words : str
        Its type and message.
    place : str
        Traceback of the other process, "" of a cause.
    cause, context : Fault, optional
        What it was raised from, and while what was handled.
    """

    error: bytes | None
    words: str
    place: str
    cause: "Fault | None"
    context: "Fault | None"
    hides_context: bool


def result_of(outcome: bytes) -> Any:
    """What a worker made, of what it has sent.

    Raises
    ------
    Exception
        What it raised.
    """
    is_made, made = unpack(outcome)
    if not is_made:
        raise error_of(made)
    return made


def fault_of(error: BaseException, *, is_first: bool = True) -> Fault:
    """What is sent of an exception. pickle alone drops what it was raised from."""
    cause, context = error.__cause__, error.__context__
    return Fault(
        error=_pickled(error),
        words=f"{type(error).__qualname__}: {error}",
        place="".join(traceback.format_exception(error)) if is_first else "",
        cause=None if cause is None else fault_of(cause, is_first=False),
        context=None if context is None or context is cause else fault_of(context, is_first=False),
        hides_context=error.__suppress_context__,
    )


def error_of(fault: Fault) -> BaseException:
    """The exception again: of its type, with its message and causes; a `RuntimeError` with its words if it could not be sent."""
    error: BaseException = RuntimeError(fault.words) if fault.error is None else pickle.loads(fault.error)
    error.__cause__ = None if fault.cause is None else error_of(fault.cause)
    error.__context__ = error.__cause__ if fault.context is None else error_of(fault.context)
    error.__suppress_context__ = fault.hides_context
    if fault.place:
        error.add_note(f"In the worker:\n{fault.place.rstrip()}")
    return error


def _pickled(error: BaseException) -> bytes | None:
    try:
        sent = cloudpickle.dumps(error)
        same = type(pickle.loads(sent)).__qualname__ == type(error).__qualname__
    except Exception:  # noqa: BLE001  Anything may be raised by an exception of somebody else's that is built anew.
        return None
    return sent if same else None
