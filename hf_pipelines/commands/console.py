"""Console: what a person sees of a command while it runs and when it ends.

Lives here: lines, in colour on a terminal and plain in a pipe, and progress with the time that is left. Does not live here:
what they say.
"""

import json
import math
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from time import monotonic
from typing import Any

# Seconds between two lines of progress in a pipe, and until the first on a terminal.
LINE_EVERY_S, SHOWN_AFTER_S = 10.0, 2.0

# Words that a person looks for, by the colour in which a terminal shows them.
_COLOURS = {
    "bold red": r"(?<!othing is )(?<!o )\b(?:FAILED|ERROR|MISSING|OTHER|MISMATCH|failed|refused|lost|stopped|damaged|late)\b",
    "yellow": r"(?<!o )\b(?:WARN|WARNING|missing|out of date|dead runs?|dismissed)\b|^hfp: ",
    "green": r"\b(?:passed|is current|are current|healthy|up to date)\b",
    "cyan": r"\b\d{4}-\d{2}-\d{2}\b",
}

_state = {"is_quiet": False}


def set_quiet(is_quiet: bool) -> None:
    """Whether progress is left out, for the rest of the process."""
    _state["is_quiet"] = is_quiet


def is_quiet() -> bool:
    """Whether progress is left out."""
    return _state["is_quiet"]


def ignore_previews() -> None:
    """Leave out Dagster's warnings of what it calls beta or preview, in this process."""
    warnings.filterwarnings("ignore", message=".*currently in (beta|preview).*")


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out progress while it is open."""
    before = is_quiet()
    set_quiet(True)
    try:
        yield
    finally:
        set_quiet(before)


def say(lines: Iterable[str]) -> None:
    """Print lines; on a terminal with the words in colour that a person looks for."""
    for line in lines:
        if sys.stdout.isatty():
            _terminal().print(line, markup=False, emoji=False, soft_wrap=True)
        else:
            print(line, flush=True)


def say_json(told: Any) -> None:
    """Print what a program reads: days and times in ISO 8601, a number that is not finite as null, which JSON has no word for."""
    print(json.dumps(_plain(told), indent=1, allow_nan=False))


def _plain(told: Any) -> Any:
    if isinstance(told, dict):
        return {name: _plain(each) for name, each in told.items()}
    if isinstance(told, list | tuple):
        return [_plain(each) for each in told]
    if isinstance(told, float) and not math.isfinite(told):
        return None
    return told.isoformat() if isinstance(told, date) else told


@dataclass
class Progress:
    """How far something is: shown on stderr, on a terminal in place, in a pipe by a line now and then.

    Attributes
    ----------
    label : str
        What is being done.
    total : int
        How many steps that has.
    """

    label: str
    total: int
    done: int = 0
    _began: float = field(default_factory=monotonic)
    _told: float = field(default_factory=monotonic)

    def advance(self, what: str = "", n: int = 1) -> None:
        """Some steps are done; `what` names the last one."""
        self.done = min(self.done + n, self.total)
        now = monotonic()
        if is_quiet() or not (n or what):
            return
        if sys.stderr.isatty():
            if now - self._began >= SHOWN_AFTER_S:
                print(f"\r\x1b[K{self.words(what, now)}", end="", file=sys.stderr, flush=True)
        elif now - self._told >= LINE_EVERY_S and self.done < self.total:
            self._told = now
            print(self.words(what, now), file=sys.stderr, flush=True)

    def words(self, what: str, now: float) -> str:
        """Such as `us_tech/bars: 12 of 40, 2012-03-04, about 30 s left`."""
        parts = [f"{self.label}: {self.done:,} of {self.total:,}", what]
        if 0 < self.done < self.total:
            parts.append(f"about {time_words((now - self._began) * (self.total - self.done) / self.done)} left")
        return ", ".join(part for part in parts if part)

    def end(self) -> None:
        """Take the line of a terminal away."""
        if sys.stderr.isatty() and not is_quiet():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


@contextmanager
def progress(label: str, total: int) -> Iterator[Progress]:
    """Show how far something is while it goes on."""
    shown = Progress(label, total)
    try:
        yield shown
    finally:
        shown.end()


def time_words(seconds: float) -> str:
    """Seconds as a person says them.

    Examples
    --------
    >>> time_words(4.2), time_words(90), time_words(5000)
    ('4 s', '2 min', '1 h 23 min')
    """
    if seconds < 60:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@cache
def _terminal() -> Any:
    from rich.console import Console
    from rich.highlighter import RegexHighlighter
    from rich.theme import Theme

    class Words(RegexHighlighter):
        base_style = "hfp."
        highlights = [f"(?P<{name}>{pattern})" for name, pattern in zip("abcd", _COLOURS.values(), strict=True)]

    styles = {f"hfp.{name}": style for name, style in zip("abcd", _COLOURS, strict=True)}
    return Console(highlighter=Words(), theme=Theme(styles))
