"""Memory of code versions: what was read for one is not read again for the next.

Lives here: what is kept, and for how long. Does not live here: how anything is read (`code_version`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FunctionType
from typing import Any, NamedTuple


class Read(NamedTuple):
    """An object that was read.

    Attributes
    ----------
    value : object
        Kept with its text: an id belongs to another one when its object is gone.
    functions : tuple of functions
        That it holds, not those which they find by name.
    is_in_circle : bool
        Whether it reaches an object that holds itself: its text then depends on which of them was met first.
    """

    value: Any
    text: str
    functions: tuple[FunctionType, ...]
    is_in_circle: bool


class Memory(NamedTuple):
    """What versions with the same tables left out have read: objects by id, and functions with what they find by name."""

    read: dict[int, Read]
    found: dict[int, Read]


_kept: ContextVar[dict[frozenset[int], Memory] | None] = ContextVar("kept", default=None)


@contextmanager
def reading_code_once() -> Iterator[None]:
    """While what assets are made of stays as it is (a load): what several versions reach is read for the first of them."""
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


def memory(left_out: frozenset[int]) -> Memory:
    """Memory of versions that leave out the same tables, by their ids; a new one where nothing is kept."""
    kept = _kept.get()
    return Memory({}, {}) if kept is None else kept.setdefault(left_out, Memory({}, {}))
