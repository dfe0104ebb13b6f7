"""Words of a comparison: what `hfp compare` says of it.

Lives here: verdicts in plain sentences, the table as text. Not here: the numbers (`comparison`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hf_pipelines.research.comparison import SHARPE, Comparison
from hf_pipelines.research.metrics.bootstrap import LEVEL
from hf_pipelines.research.session_values import RETURN

# More probable than this a difference may be chance.
FOUND_BELOW = 1.0 - LEVEL


# Of a run above its numbers.
_LONGEST_NAME = 20


def comparison_lines(found: Comparison) -> Iterator[str]:
    """Verdicts, table and notes, line by line."""
    first = found.names[0]
    for other in found.names[1:]:
        rows = found.scores.filter(other=other).to_dicts()
        if not rows:
            yield f"{first} and {other}: nothing of them can be compared."
            continue
        yield from _verdict(first, other, rows, n_tests=found.scores["p"].count())
    yield from _verdicts_together(first, found)
    for other in found.names[1:]:
        rows = found.scores.filter(other=other).to_dicts()
        if rows:
            yield ""
            yield f"{first} against {other}"
            yield from text_table(_shown(rows, first, other))
    yield ""
    yield (
        "better by: above 0 the first is better; interval: of 95 %; p: how often chance alone makes a difference as large, by Holm: "
        "of all tests here together; found from: what would have been found four times in five."
    )
    yield from found.notes


def _verdict(first: str, other: str, rows: list[dict[str, Any]], *, n_tests: int) -> Iterator[str]:
    tested = [row for row in rows if row["p_holm"] is not None]
    found = [row for row in tested if row["p_holm"] < FOUND_BELOW]
    for row in found:
        better, worse = (first, other) if row["better_by"] > 0.0 else (other, first)
        yield (
            f"{better} is better than {worse} in {row['score']} by {abs(row['better_by']):.4g}: p {say_p(row['p'])}, by Holm over "
            f"{n_tests} tests {say_p(row['p_holm'])}."
        )
    if not tested and not any(row["better_by"] for row in rows):
        yield f"{first} and {other} score the same in every session."
    if found or not tested:
        return
    least = min(tested, key=lambda row: row["p"])
    line = (
        f"No difference between {first} and {other} is more than chance makes: the smallest p is {say_p(least['p'])} ({least['score']}), by Holm "
        f"over {n_tests} tests {say_p(least['p_holm'])}."
    )
    named = {row["score"]: row for row in tested}
    missed = named.get(SHARPE) or named.get(RETURN) or least
    if missed["found_from"] is not None:
        line += (
            f" That is not to say that there is none: in {missed['n_sessions']} sessions a difference in {missed['score']} is found four times in five "
            f"from {missed['found_from']:.3g} on."
        )
    yield line


def _verdicts_together(first: str, found: Comparison) -> Iterator[str]:
    for row in found.together.to_dicts():
        p = f"p {say_p(row['p'])}, by Holm {say_p(row['p_holm'])}"
        beaten = (
            f"{row['best']} beats {first}, also as the best of all others ({p})"
            if row["p_holm"] < FOUND_BELOW
            else f"none of the others is shown to beat {first} ({p})"
        )
        yield f"{row['score']}: {beaten}; the best may be, with 95 % confidence: {', '.join(row['members'])}."


def _shown(rows: list[dict[str, Any]], first: str, other: str) -> list[tuple[str, ...]]:
    # Long names take more room than their numbers.
    names = (first, other) if max(len(first), len(other)) <= _LONGEST_NAME else ("first", "other")
    head = ("score", *names, "better by", "interval", "p", "by Holm", "found from", "sessions")
    return [
        head,
        *(
            (
                row["score"],
                number(row["first_value"]),
                number(row["other_value"]),
                number(row["better_by"]),
                "" if row["low"] is None else f"{row['low']:.4g} to {row['high']:.4g}",
                say_p(row["p"]),
                say_p(row["p_holm"]),
                number(row["found_from"]),
                str(row["n_sessions"]),
            )
            for row in rows
        ),
    ]


def text_table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Rows of text in columns: the first to the left, the others to the right."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        yield "  ".join(cells).rstrip()


def say_p(p: float | None) -> str:
    """A p-value as text, empty where there is none."""
    if p is None:
        return ""
    return "under 0.001" if p < 0.001 else f"{p:.3f}"


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
