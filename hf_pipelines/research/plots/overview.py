"""Figure of several runs beside each other: accounts, scores, agreement of predictions, parameters that differ.

Lives here: tables in, PNG bytes out. Not here: the tables (`overview`).
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from hf_pipelines.research.overview_words import score_row
from hf_pipelines.research.plots.style import (
    CYCLE,
    MUTED_COLOUR,
    SMALL_SIZE,
    TEXT_COLOUR,
    TEXT_SIZE,
    WIDTH,
    date_ticks,
    declutter,
    footer,
    named,
    new_figure,
    png_of,
    title,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Beyond the colours that all readers tell apart, dashes.
DASHES = ("-", "--", ":")

# Inches of a line of a table, of its first column and of one of the others.
LINE, FIRST, COLUMN = 0.185, 1.45, 0.85

# Left of the axes: their labels and ticks.
LABELS = 0.6

MOST_FIELDS = 12


def overview_png(
    names: Sequence[str],
    *,
    equity: Sequence[pl.DataFrame | None],
    scores: pl.DataFrame,
    agreement: pl.DataFrame,
    settings: Mapping[str, Sequence[str]],
    note: str = "",
) -> bytes:
    """Runs beside each other, each by a letter.

    Parameters
    ----------
    equity : sequence of DataFrame or None
        From `indexed_equity`.
    scores, agreement : DataFrame
        From `score_overview` and `prediction_agreement`.
    settings : mapping of field to sequence of str
        Fields that differ, with the value of each run in words.
    note : str
        Below everything.

    Returns
    -------
    bytes
        A PNG; the same runs give the same bytes.
    """
    letters = string.ascii_uppercase[: len(names)]
    judged = 0.95 if len(names) == 2 else 1.3
    width = max(WIDTH, LABELS + FIRST + COLUMN * len(names) + judged)
    shown = dict([*settings.items()][:MOST_FIELDS])
    tall = {
        "equity": 2.5 + 0.16 * -(-len(names) // 2),
        "scores": LINE * (scores.height + 1.5),
        "agreement": 0.55 + max(0.24 * len(names), 0.6),
        "settings": LINE * (len(shown) + 1.5),
    }
    figure = new_figure(height=sum(tall.values()) + 0.9, width=width)
    account, table, matrix, fields = figure.subplots(4, 1, height_ratios=[*tall.values()])
    _draw_accounts(account, names, letters, equity)
    rows = [score_row(letters, _by_letter(row, names, letters)) for row in scores.to_dicts()]
    _draw_table(
        table,
        [("Score", *letters, "p by Holm" if len(names) == 2 else "may be best"), *rows],
        width=width,
        wide_last=judged,
    )
    _draw_agreement(matrix, names, letters, agreement)
    _draw_table(fields, [("Parameters that differ", *letters), *((named(name, 32), *map(_short, told)) for name, told in shown.items())], width=width)  # fmt: skip
    title(figure, f"{len(names)} runs beside each other", "" if any(each is not None for each in equity) else "; ".join(f"{a} {name}" for a, name in zip(letters, names, strict=True)))  # fmt: skip
    more = len(settings) - len(shown)
    footer(figure, note, f"and {more} parameters more that differ" if more else "")
    return png_of(figure)


def _draw_accounts(axes: Axes, names: Sequence[str], letters: str, equity: Sequence[pl.DataFrame | None]) -> None:
    drawn = False
    for at, (letter, name, curve) in enumerate(zip(letters, names, equity, strict=True)):
        if curve is None:
            continue
        axes.plot(
            curve["session"].to_numpy(),
            curve["equity"].to_numpy(),
            color=CYCLE[at % len(CYCLE)],
            linestyle=DASHES[at // len(CYCLE)],
            linewidth=1.2,
            label=f"{letter} {named(name, 30)}",
        )
        drawn = True
    if not drawn:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "No accounts to show", ha="center", va="center", fontsize=TEXT_SIZE, color=MUTED_COLOUR)
        return
    axes.axhline(1.0, color=MUTED_COLOUR, linewidth=0.6)
    axes.set_ylabel("Equity, 1 where all begin")
    declutter(axes, grid="y")
    date_ticks(axes)
    axes.legend(fontsize=SMALL_SIZE, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)


def _draw_table(axes: Axes, rows: Sequence[Sequence[str]], *, width: float, wide_last: float = 0.0) -> None:
    """Rows of text, the first in bold; a value that begins with * too."""
    axes.set_axis_off()
    n_columns = len(rows[0]) - 1 - bool(wide_last)
    places = [0.0, *((FIRST + COLUMN * (at + 0.95)) / (width - LABELS) for at in range(n_columns))]
    places += [1.0] if wide_last else []
    for at, row in enumerate(rows):
        y = 1.0 - (at + 0.5) / (len(rows) + 0.5)
        for place, cell in zip(places, row, strict=True):
            axes.text(
                place,
                y,
                cell,
                transform=axes.transAxes,
                ha="left" if place == 0.0 else "right",
                va="center",
                fontsize=SMALL_SIZE,
                fontweight="bold" if at == 0 or cell.startswith("*") else "normal",
                color=TEXT_COLOUR,
            )


def _draw_agreement(axes: Axes, names: Sequence[str], letters: str, agreement: pl.DataFrame) -> None:
    n = len(names)
    place = {name: at for at, name in enumerate(names)}
    values = np.full((n, n), np.nan)
    for row in agreement.to_dicts():
        a, b = place[row["one"]], place[row["other"]]
        values[b, a] = np.nan if row["rank_correlation"] is None else row["rank_correlation"]
        values[a, b] = np.nan if row["same_sign"] is None else row["same_sign"]
    is_low = np.tri(n, k=-1, dtype=bool)
    axes.imshow(np.where(is_low, values, np.nan), cmap="RdBu", vmin=-1.0, vmax=1.0, aspect="auto")
    for a, b in np.ndindex(n, n):
        if a == b or np.isnan(values[a, b]):
            continue
        told = f"{values[a, b]:.2f}" if is_low[a, b] else f"{values[a, b]:.0%}"
        is_dark = is_low[a, b] and abs(values[a, b]) > 0.6
        axes.text(b, a, told, ha="center", va="center", fontsize=SMALL_SIZE, color="white" if is_dark else TEXT_COLOUR)
    axes.set_xticks(range(n), letters)
    axes.set_yticks(range(n), letters)
    declutter(axes)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0, labelsize=SMALL_SIZE)
    axes.set_title(
        "Predictions: rank correlation (below), same sign (above)", fontsize=SMALL_SIZE, loc="left", color=TEXT_COLOUR
    )


def _by_letter(row: Mapping[str, object], names: Sequence[str], letters: str) -> dict[str, object]:
    key = dict(zip(names, letters, strict=True))
    members, best = row["members"], row["best"]
    return {
        **row,
        "best": [key[each] for each in best] if isinstance(best, list) else [],
        "members": None if not isinstance(members, list) else [key[each] for each in members],
    }


def _short(text: str) -> str:
    return named(text, 9)
