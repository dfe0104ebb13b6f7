"""Words of gates and of times in which something served, as tables show them.

Lives here: cells. Does not live here: the tables themselves, which each place lays out.
"""

from __future__ import annotations

from hf_pipelines.research.promotion.decision import Judged
from hf_pipelines.research.promotion.gate import Threshold
from hf_pipelines.research.promotion.timeline import Spell

GATE_COLUMNS = ("gate", "value", "threshold", "verdict", "why")
SERVED_COLUMNS = ("version", "since", "until", "week", "configuration", "began by", "ended by")

# Digits of a configuration's hash that are shown.
DIGITS_SHOWN = 12


def gate_cells(judged: Judged) -> tuple[str, ...]:
    """Gate, value, threshold and verdict."""
    asked = value_in_words(judged.threshold)
    weaker = f"{asked} (weaker than {value_in_words(judged.default)})" if judged.is_weaker else asked
    return (judged.gate, value_in_words(judged.value), weaker, judged.verdict)


def value_in_words(value: Threshold | str) -> str:
    """A number, an answer or nothing.

    Examples
    --------
    >>> value_in_words(0.95), value_in_words(1_234_567.0), value_in_words(True), value_in_words(None)
    ('0.95', '1,234,567', 'yes', '-')
    """
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def served_cells(spell: Spell) -> tuple[str, ...]:
    """Cells of `SERVED_COLUMNS`, times to the minute; of what still serves no end."""
    return (
        str(spell.release.version),
        minute(spell.since),
        minute(spell.until),
        spell.release.week,
        spell.release.configuration[:DIGITS_SHOWN],
        spell.began_by.replace("_", " "),
        spell.ended_by.replace("_", " "),
    )


def minute(at: str) -> str:
    """An instant to the minute.

    Examples
    --------
    >>> minute("2026-01-02T03:04:05+00:00")
    '2026-01-02 03:04'
    """
    return at[:16].replace("T", " ")
