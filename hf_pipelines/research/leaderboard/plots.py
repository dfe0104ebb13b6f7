"""Picture of a leaderboard: every candidate and baseline with its interval, the best at the top.

Lives here: a leaderboard in, PNG bytes out. Does not live here: how figures look in general (`research.plots.style`), where it is shown
(`components`).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from hf_pipelines.research.leaderboard.entries import BASELINE
from hf_pipelines.research.leaderboard.ranking import Leaderboard
from hf_pipelines.research.plots.style import (
    MUTED_COLOUR,
    NO_VALUE_COLOUR,
    OTHER_COLOUR,
    OWN_COLOUR,
    SMALL_SIZE,
    declutter,
    footer,
    named,
    new_figure,
    png_of,
    title,
)

# Rows that a page shows; the best baseline is always among them.
MOST_ROWS = 25

ROW_HEIGHT = 0.22

# An axis that ends there shows what differs: a baseline far behind would press all others together.
WIDEST = 3.0


def leaderboard_png(found: Leaderboard, *, heading: str) -> bytes:
    """Values with their intervals; filled: those that may be the best."""
    ranked = found.table.filter(pl.col("rank").is_not_null())
    shown = ranked.head(MOST_ROWS)
    if BASELINE not in shown["state"] and found.best_baseline:
        first = ranked.filter(pl.col("state") == BASELINE).head(1)
        shown = pl.concat([ranked.head(MOST_ROWS - 1), first])
    figure = new_figure(height=1.5 + ROW_HEIGHT * shown.height)
    axes = figure.subplots()
    places = np.arange(shown.height)
    for place, row in zip(places, shown.to_dicts(), strict=True):
        colour = OTHER_COLOUR if row["state"] == BASELINE else OWN_COLOUR
        if row["low"] is not None:
            axes.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=1.4, alpha=0.6)
        is_full = row["may_be_best"] is not False
        axes.plot(row["value"], place, "o", color=colour, markersize=5, markerfacecolor=colour if is_full else "white")
        if row["is_chosen"]:
            axes.axhspan(place - 0.5, place + 0.5, color=NO_VALUE_COLOUR, alpha=0.35, zorder=0)
    axes.set_yticks(places, [named(each, 34) for each in shown["candidate"]], fontsize=SMALL_SIZE)
    for label, state in zip(axes.get_yticklabels(), shown["state"], strict=True):
        label.set_fontstyle("italic" if state == BASELINE else "normal")
    axes.set_ylim(shown.height - 0.5, -0.5)
    low, high = _limits(shown)
    axes.set_xlim(low, high)
    best = ranked.filter(pl.col("state") == BASELINE)["value"]
    if len(best):
        axes.axvline(float(best[0]), color=MUTED_COLOUR, linewidth=0.8, linestyle="--", zorder=0)
    way = "more is better" if found.metric.is_better_higher else "less is better"
    axes.set_xlabel(f"{found.metric.name} ({way})")
    declutter(axes, grid="x")
    title(figure, f"Leaderboard of {heading}", found.verdict)
    n_left = ranked.height - shown.height
    n_without = found.table.height - ranked.height
    beyond = sum(not low <= each <= high for each in shown["value"])
    footer(
        figure,
        "Lines: intervals of 95 %. Filled: may be the best (model confidence set). Orange: baselines, dashed the best of them. Shaded: "
        "chosen.",
        " ".join(
            [
                *([f"{beyond} far behind lie beyond the axis."] if beyond else []),
                *([f"{n_left} more are ranked below."] if n_left > 0 else []),
                *([f"{n_without} without a score."] if n_without else []),
            ]
        ),
    )
    return png_of(figure)


def _limits(shown: pl.DataFrame) -> tuple[float, float]:
    """Ends of the axis: around the candidates and the best baseline."""
    kept = shown.filter((pl.col("state") != BASELINE) | (pl.col("state") == BASELINE).cum_sum().eq(1))
    columns = [pl.col("value"), pl.col("low"), pl.col("high")]
    values = np.concatenate([kept.select(each).to_series().drop_nulls().to_numpy() for each in columns])
    middle = float(np.median(kept["value"].to_numpy()))
    spread = float(np.quantile(np.abs(values - middle), 0.8))
    near = values[np.abs(values - middle) <= WIDEST * spread] if spread > 0.0 else values
    low, high = float(near.min()), float(near.max())
    margin = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    return low - margin, high + margin
