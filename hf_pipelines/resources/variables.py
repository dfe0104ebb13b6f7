"""Variables: one of the environment, read as a word or as a whole number.

Lives here: reading and refusing one. Does not live here: which there are (`settings`).
"""

import os
import re


def one_of(name: str, words: tuple[str, ...]) -> str:
    """A variable that must be one of some words, by default the first."""
    given = os.environ.get(name) or words[0]
    if given not in words:
        raise ValueError(f"`{name}` must be one of {', '.join(words)}, was {given[:40]!r}.")
    return given


def whole_number(name: str, default: int, *, least: int, most: int = 1_000_000_000) -> int:
    """A variable that must be a whole number within bounds."""
    text = os.environ.get(name) or str(default)
    # Digits of ASCII alone: Python reads those of other scripts too.
    if not re.fullmatch(r"[0-9]{1,12}", text) or not least <= int(text) <= most:
        raise ValueError(f"`{name}` must be a whole number from {least:,} to {most:,}, was {text[:20]!r}.")
    return int(text)
