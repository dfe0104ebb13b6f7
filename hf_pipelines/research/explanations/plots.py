"""Figures of importances: each feature's by fold or week, as PNG bytes.

Lives here: results in, bytes out. Not here: the results (`importance`, `evenness`), other figures (`research.plots`).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from hf_pipelines.research.explanations.evenness import LEAST_DIRECTION, Evenness
from hf_pipelines.research.plots.style import (
    BAD_COLOUR,
    MUTED_COLOUR,
    OWN_COLOUR,
    SMALL_SIZE,
    declutter,
    named,
    new_figure,
    png_of,
)
from hf_pipelines.research.plots.style import (
    title as titled,
)

SHOWN_FEATURES = 20
NEUTRAL_COLOUR = MUTED_COLOUR


def importance_png(
    rows: pl.DataFrame, found: Evenness, *, by: str, title: str, note: str = "", ways: tuple[str, str] | None = None
) -> bytes:
    """A line for each feature from its smallest to its largest importance, with a dot for each fold or week.

    Parameters
    ----------
    rows : DataFrame
        As `evenness` takes them, of one kind.
    found : Evenness
        Of these rows.
    by : str
        What a dot is: a column of `rows`.
    title, note : str
        Above the figure.
    ways : tuple of two str, optional
        What both signs of a direction mean; dots have its colour then, and its shape.

    Returns
    -------
    bytes
        A PNG; the same values give the same bytes.
    """
    table = found.table.head(SHOWN_FEATURES)
    names = table["name"].to_list()
    figure = new_figure(height=1.7 + 0.2 * len(names))
    axes = figure.subplots()
    place = {name: at for at, name in enumerate(names)}
    at = np.arange(len(names))
    axes.hlines(at, table["lowest"], table["highest"], color="0.8", linewidth=3.0, zorder=1)
    shown = rows.filter(pl.col("name").is_in(names)).with_columns(
        way=pl.coalesce("direction", pl.col("value").sign()).fill_null(0.0)
    )
    groups = {"same": (shown, OWN_COLOUR, "o", f"One {by}")}
    if ways is not None:
        up, down = pl.col("way") >= LEAST_DIRECTION, pl.col("way") <= -LEAST_DIRECTION
        groups = {
            "up": (shown.filter(up), OWN_COLOUR, "^", ways[0].capitalize()),
            "down": (shown.filter(down), BAD_COLOUR, "v", ways[1].capitalize()),
            "none": (shown.filter(~up & ~down), NEUTRAL_COLOUR, "o", "Neither"),
        }
    for frame, colour, marker, label in groups.values():
        if frame.height:
            y = [place[name] for name in frame["name"]]
            axes.scatter(frame["value"], y, color=colour, marker=marker, s=22, linewidths=0, zorder=3, label=label)
    axes.scatter(table["mean"], at, color="black", marker="|", s=90, zorder=4, label="Mean")
    axes.set_yticks(at, [named(each) for each in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.axvline(0.0, color="0.6", linewidth=0.8, zorder=0)
    hidden = found.table.height - len(names)
    heading = title[:1].upper() + title[1:] + (f"; {len(names)} of {found.table.height} features" if hidden else "")
    axes.legend(loc="lower right", frameon=False, fontsize=SMALL_SIZE)
    declutter(axes, grid="x")
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=5)
    titled(figure, heading, note)
    return png_of(figure)
