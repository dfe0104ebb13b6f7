"""The two drawings of the architecture page: `python docs/drawings.py` writes them to docs/pictures.

Each has a ground of its own, so that it reads the same on a light and on a dark page.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

PICTURES = Path(__file__).resolve().parent / "pictures"

GROUND, FRAME, INK, SOFT, ARROW = "#fbfcfd", "#c9d1d9", "#1b2733", "#52616f", "#3b6ea5"
PURE, OUTSIDE, FRAME_FILL, INSTANCE = "#e4f0e6", "#fdeede", "#e5ecf6", "#f0e8f5"
FONT = "font-family='-apple-system, Segoe UI, Helvetica, Arial, sans-serif'"


def text(
    x: float, y: float, words: str, *, size: int = 15, colour: str = INK, anchor: str = "start", bold: bool = False
) -> str:
    weight = " font-weight='600'" if bold else ""
    return f"<text x='{x}' y='{y}' font-size='{size}' fill='{colour}' text-anchor='{anchor}'{weight}>{escape(words)}</text>"


def box(x: float, y: float, width: float, height: float, fill: str) -> str:
    return f"<rect x='{x}' y='{y}' width='{width}' height='{height}' rx='8' fill='{fill}' stroke='{FRAME}'/>"


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    return f"<line x1='{x1}' y1='{y1}' x2='{x2}' y2='{y2}' stroke='{ARROW}' stroke-width='2' marker-end='url(#head)'/>"


def card(x: float, y: float, width: float, title: str, lines: Sequence[str], fill: str, *, line: int = 21) -> str:
    height = 40 + line * len(lines)
    rows = "".join(text(x + 16, y + 48 + line * n, each, size=14, colour=SOFT) for n, each in enumerate(lines))
    return box(x, y, width, height, fill) + text(x + 16, y + 26, title, size=17, bold=True) + rows


def drawing(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' role='img' aria-label='{escape(title)}' {FONT}>"
        f"<title>{escape(title)}</title><defs><marker id='head' viewBox='0 0 10 10' refX='9' refY='5' markerWidth='7' "
        f"markerHeight='7' orient='auto'><path d='M0 0L10 5L0 10z' fill='{ARROW}'/></marker></defs>"
        f"<rect width='{width}' height='{height}' rx='12' fill='{GROUND}'/>"
    )
    return head + "".join(parts) + "</svg>\n"


def rooms() -> str:
    """The rooms, the lowest first; an arrow points to what is known."""
    cards = [
        ("definitions.py", ["what Dagster loads"], FRAME_FILL),
        ("defs", ["instances: markets and strategies as YAML"], INSTANCE),
        (
            "components",
            ["Market, Strategy: YAML to assets, checks, sensors", "the only room with Dagster objects that are reused"],
            FRAME_FILL,
        ),
        (
            "resources",
            [
                "store, sources, MLflow, ledger, notifier, settings",
                "the only room that touches disk, network or a server",
            ],
            OUTSIDE,
        ),
        (
            "research",
            [
                "features, targets, splitters, learners, rules, engines, metrics",
                "pure: frames in, frames out; time and seeds are arguments",
            ],
            PURE,
        ),
    ]
    parts, y = [], 24
    for n, (name, lines, fill) in enumerate(cards):
        height = 40 + 21 * len(lines)
        parts.append(card(24, y, 530, name, lines, fill))
        if n < len(cards) - 1:
            parts.append(arrow(289, y + height + 2, 289, y + height + 26))
        y += height + 30
    parts.append(card(590, 24, 226, "commands", ["hfp: thin commands", "over all of it"], FRAME_FILL))
    parts.append(card(590, 150, 226, "serving", ["web server with its", "guard, supervisor"], FRAME_FILL))
    parts.append(card(590, 276, 226, "partitions.py", ["weeks and days:", "the only place"], INSTANCE))
    parts.append(card(590, 402, 226, "calendars.py", ["sessions of exchanges"], INSTANCE))
    parts.append(text(24, y + 6, "An arrow points to what a room may know.", size=14, colour=SOFT))
    parts.append(
        text(
            24,
            y + 28,
            "Nothing points back, and no modules import each other in a circle: tested.",
            size=14,
            colour=SOFT,
        )
    )
    return drawing(840, y + 50, "The rooms of hf_pipelines", parts)


def week() -> str:
    """What becomes of the sessions of a week."""
    parts = []
    rows = [
        (
            24,
            [
                ("files land", ["one a session"], OUTSIDE),
                ("bars", ["week W, checked,", "faulty rows apart"], INSTANCE),
                ("features", ["week W, replayed", "before publishing"], PURE),
            ],
        ),
        (
            176,
            [
                ("training_matrix", ["weeks before W + 1,", "labels ended, purged"], PURE),
                ("cv_results", ["folds, baselines,", "a trial in the ledger"], PURE),
                ("fitted_model", ["of week W + 1,", "a file without code"], PURE),
            ],
        ),
        (
            328,
            [
                ("backtest", ["next-bar fills,", "costs"], PURE),
                ("signals", ["each session of W + 1,", "never rewritten"], INSTANCE),
                ("track_record", ["live and backfilled", "told apart"], INSTANCE),
            ],
        ),
    ]
    for y, cards in rows:
        for n, (name, lines, fill) in enumerate(cards):
            x = 24 + 272 * n
            parts.append(card(x, y, 226, name, lines, fill))
    height = 82
    for n in range(2):
        parts.append(arrow(252 + 272 * n, 24 + 41, 294 + 272 * n, 24 + 41))
        parts.append(arrow(252 + 272 * n, 176 + 41, 294 + 272 * n, 176 + 41))
    # Features of the weeks before become the matrix.
    parts.append(
        f"<path d='M681 {24 + height + 2} V141 H137 V172' fill='none' stroke='{ARROW}' stroke-width='2' marker-end='url(#head)'/>"
    )
    parts.append(
        text(
            409,
            135,
            "on the Sunday after, or as soon as the week's last features are there",
            size=13,
            colour=SOFT,
            anchor="middle",
        )
    )
    # Out-of-fold predictions become an account, the model serves.
    parts.append(
        f"<path d='M381 {176 + height + 2} V282 H137 V324' fill='none' stroke='{ARROW}' stroke-width='2' marker-end='url(#head)'/>"
    )
    parts.append(
        f"<path d='M681 {176 + height + 2} V301 H409 V324' fill='none' stroke='{ARROW}' stroke-width='2' marker-end='url(#head)'/>"
    )
    parts.append(arrow(524, 328 + 41, 566, 328 + 41))
    for n, words in enumerate(
        (
            "latest.json names the newest issue: it is what the portfolio system reads.",
            "A revised file makes new versions of everything but issued signals.",
        )
    ):
        parts.append(text(24, 444 + 22 * n, words, size=14, colour=SOFT))
    return drawing(818, 486, "A week's way from files to signals", parts)


if __name__ == "__main__":
    (PICTURES / "rooms.svg").write_text(rooms())
    (PICTURES / "week.svg").write_text(week())
