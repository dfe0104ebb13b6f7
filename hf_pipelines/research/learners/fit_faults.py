"""Fit faults: where in a fit something was raised, in the first line of the error.

Lives here: the error, and the one place that puts a fold, a member or a step before what a library says. Not here: what is
refused before a fit (`choice`, `params`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

# Libraries tell it by types and words of their own: C++, numpy, torch, CUDA.
_OUT_OF_MEMORY = re.compile(
    r"bad_?alloc|bad allocation|out of memory|(cannot|can't|unable to|failed to) allocate", re.I
)

_LONGEST = 400


class FitError(ValueError):
    """A learner cannot be fitted or asked: the place, from the fold to the part, and what was wrong there.

    Attributes
    ----------
    places : tuple of str
        From the outermost to the innermost, such as `fold 2`, `learner voting`, `members.1 (ridge)`.
    fault : str
        One line. The library's own error with its traceback is the cause.
    is_out_of_memory : bool
    """

    def __init__(self, places: tuple[str, ...], fault: str, *, is_out_of_memory: bool = False) -> None:
        super().__init__(f"{', '.join(places)}: {fault}")
        self.places = places
        self.fault = fault
        self.is_out_of_memory = is_out_of_memory

    def with_places(self, *places: str) -> FitError:
        """The same fault at other places."""
        return FitError(places, self.fault, is_out_of_memory=self.is_out_of_memory)

    def __reduce__(self) -> tuple[object, ...]:
        """As pickle and joblib need it for an error that is made of other arguments than its message."""
        return _again, (self.places, self.fault, self.is_out_of_memory)


@contextmanager
def placed(*places: str, when_out_of_memory: str = "") -> Iterator[None]:
    """Put places before what is raised inside; what was placed already gets them before its own.

    What a disk or a server raises, where a fit keeps its progress, passes as it is: whoever waits for the server must know it.

    Parameters
    ----------
    *places : str
        The outer ones first.
    when_out_of_memory : str
        Another remedy if memory was used up.

    Raises
    ------
    FitError
        From what was raised: its message alone, or with its type if it is no ValueError.
    """
    try:
        yield
    except FitError as e:
        remedy = f" {when_out_of_memory}" if e.is_out_of_memory and when_out_of_memory else ""
        again = FitError((*places, *e.places), e.fault + remedy, is_out_of_memory=e.is_out_of_memory)
        raise again from e.__cause__
    except OSError:
        raise
    except Exception as e:  # noqa: BLE001 - libraries raise types of their own; each is named, and kept as the cause
        memory = _memory_error(e)
        fault = _line_of(e) if memory is None else _out_of_memory(memory, when_out_of_memory)
        raise FitError(places, fault, is_out_of_memory=memory is not None) from e


def _again(places: tuple[str, ...], fault: str, is_out_of_memory: bool) -> FitError:
    return FitError(places, fault, is_out_of_memory=is_out_of_memory)


def _memory_error(error: BaseException | None) -> BaseException | None:
    """The error itself, or the one that it was raised from, that is about memory."""
    found = None
    while error is not None:
        if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)):
            found = error
        error = error.__cause__
    return found


def _out_of_memory(error: BaseException, remedy: str) -> str:
    told = f"{type(error).__name__.lstrip('_')}: {_first_line(error)}".rstrip(".: ")
    fault = f"memory must suffice for the fit, was used up ({told}); train on fewer weeks, symbols or features."
    return f"{fault} {remedy}" if remedy else fault


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:_LONGEST]


def _line_of(error: BaseException) -> str:
    """What an error says, in one line: the first of several."""
    first = _first_line(error)
    # The words of a ValueError are about a value; those of others say little without their type.
    if isinstance(error, ValueError) and first:
        return first
    name = type(error).__name__.lstrip("_")
    return f"{name}: {first}" if first else name
