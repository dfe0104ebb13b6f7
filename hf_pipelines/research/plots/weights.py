"""Figure of an issue: its weights, and how they changed.

Lives here: a table of `frames.weight_changes` in, PNG bytes out. Not here: the weights (`signals`).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from hf_pipelines.research.plots.frames import turned_over
from hf_pipelines.research.plots.style import (
    OTHER_COLOUR,
    OWN_COLOUR,
    SMALL_SIZE,
    declutter,
    footer,
    named,
    new_figure,
    percent_ticks,
    png_of,
    title,
)

# Of a large universe those that are held or traded most.
SHOWN_SYMBOLS = 40


def weights_png(changes: pl.DataFrame, *, heading: str, note: str = "", before: str = "") -> bytes:
    """A bar for each symbol's weight, and where it stood the session before.

    Parameters
    ----------
    changes : DataFrame
        From `frames.weight_changes`, of at least one symbol.
    heading : str
        Strategy and session.
    note : str
        Whether the issue is live, and its model.
    before : str
        Session of the issue before; "" where there is none.

    Returns
    -------
    bytes
        A PNG; the same values give the same bytes.
    """
    size = pl.max_horizontal(pl.col("weight").abs(), pl.col("change").abs().fill_null(0.0))
    shown = (
        changes.sort(size, "symbol", descending=[True, False])
        .head(SHOWN_SYMBOLS)
        .sort("weight", "symbol", descending=[True, False])
    )
    figure = new_figure(height=1.5 + 0.19 * max(shown.height, 4))
    axes = figure.subplots()
    at = np.arange(shown.height)
    weights = shown["weight"].to_numpy()
    axes.barh(at, weights, height=0.66, color=OWN_COLOUR, label="weight")
    if before:
        axes.plot(
            shown["before"].to_numpy(),
            at,
            "|",
            color=OTHER_COLOUR,
            markersize=10,
            markeredgewidth=2.4,
            label=f"weight of {before}",
        )
    axes.axvline(0.0, color="0.3", linewidth=0.8)
    changed = [f"{change:+.1%}" if change else "" for change in shown["change"].fill_null(0.0)]
    axes.set_yticks(
        at, [f"{named(symbol, 12)}  {change:>6}" for symbol, change in zip(shown["symbol"], changed, strict=True)]
    )
    axes.set_ylim(shown.height - 0.4, -0.6)
    axes.margins(x=0.06)
    axes.use_sticky_edges = False
    axes.set_xlabel("Weight, of the equity; beside the symbol its change" if before else "Weight, of the equity")
    percent_ticks(axes.xaxis, n=5)
    declutter(axes, grid="x")
    axes.tick_params(axis="y", length=0)
    if before:
        axes.legend(fontsize=SMALL_SIZE, frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)
    hidden = changes.height - shown.height
    title(figure, heading, note, f"The {shown.height} largest of {changes.height} symbols" if hidden else "")
    turned = turned_over(changes) if before else None
    gross, net = float(changes["weight"].abs().sum()), float(changes["weight"].sum())
    footer(
        figure,
        f"Gross {gross:.0%}, net {net:+.0%}"
        + ("" if turned is None else f", turned over since {before}: {turned:.0%} (one way)."),
    )
    return png_of(figure)
