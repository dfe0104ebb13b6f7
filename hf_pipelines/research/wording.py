"""Wording: how a message names many things.

Lives here: the first few of many names. Does not live here: any message. The validators of bars and references keep words
of their own: what they call is part of the code version of what is stored.
"""

from collections.abc import Collection

NAMES_SHOWN = 5


def some_of(names: Collection[str]) -> str:
    """The first five names, and how many more there are.

    Examples
    --------
    >>> some_of(["a", "b"])
    'a, b'
    >>> some_of("abcdefg")
    'a, b, c, d, e and 2 more'
    """
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join([*names][:NAMES_SHOWN]) + more
