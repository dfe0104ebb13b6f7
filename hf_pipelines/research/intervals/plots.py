"""Figure of intervals: how many outcomes lay inside, by group and over time, beside how many should, as PNG bytes.

Lives here: tables of coverage in, bytes out. Not here: the coverage (`coverage`), other figures (`plots`, `score_plots`).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from hf_pipelines.research.intervals.coverage import ALL
from hf_pipelines.research.metrics.bootstrap import LEVEL
from hf_pipelines.research.plots.style import (
    OWN_COLOUR,
    date_ticks,
    declutter,
    footer,
    new_figure,
    percent_ticks,
    png_of,
    title,
    two_below,
)

# Symbols that are drawn: those furthest from what was promised.
MAX_SYMBOLS = 8

# Sessions that a point of the curve is the mean of.
ROLLING_SESSIONS = 20

KINDS = (ALL, "fold", "year", "volatility", "symbol")


def coverage_png(groups: pl.DataFrame, sessions: pl.DataFrame, *, heading: str = "", note: str = "") -> bytes:
    """Shares of outcomes inside, by group with intervals, and over time.

    Parameters
    ----------
    groups, sessions : DataFrame
        As in `Coverage`, of one horizon.
    heading : str
        Whose intervals.
    note : str
        Above the figure.

    Returns
    -------
    bytes
        A PNG; the same tables give the same bytes.
    """
    nominal = float(groups["nominal"][0])
    furthest = groups.filter(by="symbol").sort((pl.col("coverage") - nominal).abs(), descending=True).head(MAX_SYMBOLS)
    shown = [row for kind in KINDS for row in (furthest.sort("group") if kind == "symbol" else groups.filter(by=kind)).to_dicts()]  # fmt: skip
    how = f"Dot: share of outcomes inside; bar: {LEVEL:.0%} interval of it; dotted: as many as promised"
    if furthest.height < groups.filter(by="symbol").height:
        how += f"; symbols: the {furthest.height} furthest from it"
    figure = new_figure(height=3.6 + 0.16 * max(len(shown), 10))
    kinds = {"fold": "fold ", "volatility": "market "}
    names = [f"{kinds.get(row['by'], '')}{row['group']} ({row['n_rows']:,})" for row in shown]
    left, right = two_below(figure, heights=(0.16 * max(len(shown), 10), 1.3), letters=max(14, *map(len, names)))
    for axes, draw in ((left, left.axvline), (right, right.axhline)):
        draw(nominal, color="0.4", linewidth=0.9, linestyle=":")
        declutter(axes, grid="both")
    # One call for all groups: each artist costs as much as a fold of a ridge.
    ranged = [(at, row["low"], row["high"]) for at, row in enumerate(shown) if row["low"] is not None]
    if ranged:
        places, low, high = zip(*ranged, strict=True)
        left.hlines(places, low, high, color=OWN_COLOUR, linewidth=2.2)
    left.plot([row["coverage"] for row in shown], range(len(shown)), "o", color=OWN_COLOUR, markersize=5)
    left.set_yticks(range(len(shown)), names)
    left.set_ylim(len(shown) - 0.5, -0.5)
    left.set_xlabel("Share of outcomes inside; in brackets: rows")
    percent_ticks(left.xaxis, n=5)
    days = sessions["session"].to_numpy()
    rolled = sessions.select(
        pl.col("n_inside", "n_rows").rolling_sum(ROLLING_SESSIONS, min_samples=min(ROLLING_SESSIONS, sessions.height))
    )
    share = (rolled["n_inside"] / rolled["n_rows"]).cast(pl.Float64).fill_null(np.nan).to_numpy()
    right.plot(days, share, color=OWN_COLOUR, linewidth=1.1)
    right.set_ylabel(f"Last {ROLLING_SESSIONS} sessions")
    percent_ticks(right.yaxis)
    right.set_ylim(max(min(float(np.nanmin(share)), nominal) - 0.05, -0.02), 1.02)
    date_ticks(right)
    title(figure, f"Outcomes inside their intervals{', ' * bool(heading)}{heading}", note)
    footer(figure, how)
    return png_of(figure)
