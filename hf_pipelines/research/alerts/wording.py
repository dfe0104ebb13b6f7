"""Wording: a message as a person reads it at two in the morning, on a phone.

Lives here: title and text within what a channel takes, and names that can do no harm there. Does not live here: what is in a message
(`desk`), the markup of a service (apprise's).
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from zoneinfo import ZoneInfo

from hf_pipelines.research.alerts.desk import ENDED, MOST_CAUSE, NEW, NOTED, PASSED, STILL, WORSE, Due, Item
from hf_pipelines.research.alerts.kinds import KINDS

# Of one message: more is read on a screen, by the command that the last line names.
MOST_CHARACTERS = 3500
MOST_SHOWN = 25
MOST_IN_DETAIL = 5
MOST_TITLE = 150
MOST_LINE = 200
# What a service puts around title and text.
MARGIN = 60

HEADINGS = {
    NEW: "New:",
    WORSE: "More serious than before:",
    NOTED: "Happened:",
    STILL: "Still open:",
    ENDED: "Resolved:",
    PASSED: "Came and went before you could be told:",
}
COUNTED = {
    NEW: "new",
    WORSE: "worse",
    NOTED: "happened",
    STILL: "still open",
    ENDED: "resolved",
    PASSED: "came and went",
}


@dataclass(frozen=True)
class Message:
    """What is sent, as plain text.

    Attributes
    ----------
    is_critical : bool
        Whether anything in it is.
    """

    title: str
    body: str
    is_critical: bool


def message_of(due: Due, *, zone: ZoneInfo, limit: int = MOST_CHARACTERS) -> Message:
    """Title and text.

    Parameters
    ----------
    zone : ZoneInfo
        Of the times that are shown.
    limit : int
        Characters that a channel takes, title and text together, after `&`, `<` and `>` were written as in HTML.
    """
    title = _cut(harmless(_title(due)), MOST_TITLE)
    room = min(limit, MOST_CHARACTERS) - MARGIN - cost(title)
    return Message(title, _body(due.items, zone, room), due.is_critical)


def harmless(text: str) -> str:
    """One line that calls nobody, hides no link and moves no cursor.

    Examples
    --------
    >>> harmless("@everyone [read me](http://x)").replace(chr(0x200b), "~")
    '@~everyone [read me]~(http://x)'
    """
    line = "".join(each if each.isprintable() else " " for each in text)
    line = re.sub(r"@(?=\S)", "@\u200b", " ".join(line.split()))
    return line.replace("](", "]\u200b(")


def cost(text: str) -> int:
    """Characters as services count them: UTF-16, with `&`, `<` and `>` written as in HTML."""
    return len(escape(text, quote=False).encode("utf-16-le", "replace")) // 2


def _title(due: Due) -> str:
    counts = Counter(each.event for each in due.items)
    if len(due.items) == 1:
        return _single_title(due.items[0])
    n_critical = sum(each.event in (NEW, WORSE) and each.alert.is_critical for each in due.items)
    told = ", ".join(f"{counts[event]} {COUNTED[event]}" for event in HEADINGS if counts[event])
    critical = f", {n_critical} CRITICAL" if n_critical else ""
    return f"{'Digest of the quiet hours: ' if due.is_digest else ''}{told}{critical}"


def _single_title(item: Item) -> str:
    alert = item.alert
    words = {
        NEW: alert.severity.upper(),
        WORSE: f"NOW {alert.severity.upper()}",
        NOTED: "",
        STILL: "STILL OPEN",
        ENDED: "RESOLVED",
    }
    before = words.get(item.event, "CAME AND WENT")
    return f"{before}: {_what(item)}" if before else _what(item)


def _what(item: Item) -> str:
    """What it is, and how often."""
    times = f" ({item.alert.n_incidents} times)" if item.alert.n_incidents > 1 else ""
    kind = KINDS.get(item.alert.kind)
    return f"{kind.words if kind else item.alert.kind}: {item.alert.what}{times}"


def _body(items: Sequence[Item], zone: ZoneInfo, room: int) -> str:
    lines, shown = list[str](), 0
    # Room for the line that says how many are left out.
    left = room - MOST_LINE
    for at, item in enumerate(items):
        block = list(_lines(item, zone, in_detail=shown < MOST_IN_DETAIL, is_alone=len(items) == 1))
        if len(items) > 1 and (at == 0 or items[at - 1].event != item.event):
            block = [*([""] if lines else []), HEADINGS[item.event], *block]
        price = sum(cost(line) + 1 for line in block)
        if price > left or shown >= MOST_SHOWN:
            break
        lines += block
        left -= price
        shown += 1
    return "\n".join([*lines, *_rest(items[shown:])])


def _lines(item: Item, zone: ZoneInfo, *, in_detail: bool, is_alone: bool) -> Iterator[str]:
    alert = item.alert
    if not is_alone:
        severity = f"{alert.severity.upper()} " if item.event in (NEW, WORSE, STILL) else ""
        yield f"- {severity}{_cut(harmless(_what(item)), MOST_LINE)}"
    indent = "" if is_alone else "  "
    if not in_detail:
        return
    if item.event in (ENDED, PASSED):
        yield f"{indent}{_cut(harmless(alert.ending), MOST_LINE)}"
        ended = "" if alert.ended_at is None else f" to {_shown(alert.ended_at, zone)}"
        yield f"{indent}From {_shown(alert.noted_at, zone)}{ended}."
        return
    cause = harmless(alert.cause)
    yield f"{indent}{_cut(cause, MOST_CAUSE if is_alone else MOST_LINE)}"
    if alert.remedy:
        yield f"{indent}Do: {_cut(harmless(alert.remedy), 2 * MOST_LINE)}"
    if alert.url:
        yield f"{indent}{_cut(harmless(alert.url), 2 * MOST_LINE)}"
    if not alert.moment:
        yield f"{indent}Since {_shown(alert.noted_at, zone)}."


def _rest(items: Sequence[Item]) -> list[str]:
    if not items:
        return []
    kinds = Counter(each.alert.kind for each in items)
    told = ", ".join(f"{n} {KINDS[kind].words if kind in KINDS else kind}" for kind, n in kinds.most_common(4))
    return [f"and {len(items)} more ({told}): hfp incident list"]


def _shown(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M} {zone.key}"


def _cut(text: str, most: int) -> str:
    """A text of at most so many characters as services count them."""
    if cost(text) <= most:
        return text
    shown, left = "", most - 3
    for each in text:
        left -= cost(each)
        if left < 0:
            break
        shown += each
    return f"{shown}..."
