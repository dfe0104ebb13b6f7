"""Figure of a week of bars: what is there, what is suspect, what was quarantined, what is missing.

Lives here: a table of `frames.bar_states` in, PNG bytes out. Not here: judging bars (`quality`).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from hf_pipelines.research.plots.frames import BAR_STATES
from hf_pipelines.research.plots.style import (
    BLUE,
    NO_VALUE_COLOUR,
    ORANGE,
    SMALL_SIZE,
    VERMILION,
    declutter,
    new_figure,
    png_of,
    title,
)

STATE_COLOURS = {"there": BLUE, "suspect": ORANGE, "quarantined": VERMILION, "missing": NO_VALUE_COLOUR}

# Of a large universe those with most that is wrong.
SHOWN_SYMBOLS = 40


def bars_png(states: pl.DataFrame, *, heading: str) -> bytes:
    """A square for each symbol and session in the colour, and with the first letter, of what became of its bar.

    Parameters
    ----------
    states : DataFrame
        From `frames.bar_states`, of at least one row.
    heading : str
        Market and week.

    Returns
    -------
    bytes
        A PNG; the same states give the same bytes.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    code = states["state"].replace_strict({name: at for at, name in enumerate(BAR_STATES)}, return_dtype=pl.Int32)
    coded = states.with_columns(code=code)
    ranked = coded.group_by("symbol").agg(worst=pl.col("code").sum()).sort("worst", "symbol", descending=[True, False])
    shown = ranked.head(SHOWN_SYMBOLS)
    sessions = states["session"].unique().sort().to_list()
    table = coded.pivot("session", index="symbol", values="code", sort_columns=True)
    rows = shown.select("symbol").join(table, on="symbol", maintain_order="left")
    values = rows.select(pl.col(str(day)) for day in sessions).cast(pl.Float64).fill_null(float("nan")).to_numpy()

    figure = new_figure(height=1.6 + 0.2 * max(shown.height, 4))
    axes = figure.subplots()
    colours = ListedColormap([STATE_COLOURS[each] for each in BAR_STATES]).with_extremes(bad="white")
    axes.imshow(
        np.ma.masked_invalid(values),
        cmap=colours,
        vmin=-0.5,
        vmax=len(BAR_STATES) - 0.5,
        aspect="auto",
        interpolation="nearest",
    )
    for row, column in np.argwhere(values > 0.0):
        axes.text(column, row, BAR_STATES[int(values[row, column])][0], ha="center", va="center", fontsize=SMALL_SIZE)
    declutter(axes)
    axes.set_yticks(range(shown.height), shown["symbol"].to_list())
    axes.set_xticks(range(len(sessions)), [f"{day:%a}\n{day:%m-%d}" for day in sessions])
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(-0.5, len(sessions)), minor=True)
    axes.set_yticks(np.arange(-0.5, shown.height), minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    counts = dict(states.group_by("state").len().iter_rows())
    handles = [Patch(color=STATE_COLOURS[each], label=f"{each} {counts.get(each, 0):,}") for each in BAR_STATES]
    axes.legend(
        handles=handles, fontsize=SMALL_SIZE, frameon=False, ncols=4, loc="upper left", bbox_to_anchor=(0.0, -0.32 if shown.height < 6 else -0.16),
        columnspacing=1.0, handlelength=1.0,
    )  # fmt: skip
    hidden = ranked.height - shown.height
    title(
        figure,
        heading,
        f"{counts.get('there', 0) + counts.get('suspect', 0):,} of {states.height:,} symbol-sessions that should be there are",
        f"The {shown.height} symbols with most that is wrong, of {ranked.height}" if hidden else "",
    )
    return png_of(figure)
