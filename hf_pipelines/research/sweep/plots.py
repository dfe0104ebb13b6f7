"""Map of a sweep: the Sharpe ratio over two dimensions, the chosen point and the plateau around it.

Lives here: a sweep in, PNG bytes out. Not here: how figures look in general (`research.plots.style`), where it is shown (`components`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from hf_pipelines.research.plots.style import (
    NO_VALUE_COLOUR,
    OWN_COLOUR,
    SMALL_SIZE,
    declutter,
    footer,
    named,
    new_figure,
    png_of,
    title,
)
from hf_pipelines.research.sweep.ranking import Ranked
from hf_pipelines.research.tuning.space import Space

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Cells that still hold a number that can be read.
MOST_WRITTEN = 60


def sweep_png(found: Ranked, space: Space, *, heading: str, is_grid: bool) -> bytes:
    """A heat map of a grid over the two dimensions with most values, the others as the chosen point has them; else points.

    Parameters
    ----------
    found : Ranked
        With a chosen point.
    space : Space
    heading : str
    is_grid : bool
    """
    counts = {each: found.table[each].drop_nulls().n_unique() for each in space.names}
    x, *rest = sorted(counts, key=lambda each: -counts[each])
    y = rest[0] if rest and counts[rest[0]] > 1 else None
    figure = new_figure(height=3.6 if y else 2.8)
    axes = figure.subplots()
    chosen: dict[str, Any] = found.chosen or {}
    fixed = [each for each in rest if each != y and counts[each] > 1]
    note = ""
    if is_grid:
        shown = found.table.filter(
            [pl.lit(True), *(pl.col(each).eq_missing(pl.lit(chosen.get(each))) for each in fixed)]
        )
        note = ", ".join(f"{_short(each)} {chosen.get(each)}" for each in fixed)
        _draw_line(axes, shown, x, chosen) if y is None else _draw_grid(axes, shown, x, y, chosen, figure)
    else:
        _draw_points(axes, found.table, x, y, chosen, figure)
    axes.set_xlabel(_short(x))
    axes.set_ylabel("Sharpe ratio a year" if y is None else _short(y))
    declutter(axes)
    title(figure, f"Sweep of {heading}", found.verdict)
    marked = "Framed: the chosen point; dashed: its neighbours." if is_grid and y else "Ring: the chosen point."
    footer(
        figure,
        "Colour: Sharpe ratio a year; grey: none." if y else "",
        marked,
        f"Others as chosen: {note}." if note else "",
    )
    return png_of(figure)


def _short(name: str) -> str:
    return named(name.removeprefix("rule."), 34)


def _values(table: pl.DataFrame, name: str) -> list[Any]:
    return sorted(table[name].drop_nulls().unique().to_list())


def _draw_grid(axes: Axes, table: pl.DataFrame, x: str, y: str, chosen: dict[str, Any], figure: Any) -> None:
    columns, rows = _values(table, x), _values(table, y)
    cells = np.full((len(rows), len(columns)), np.nan)
    for row in table.select(x, y, "sharpe_ratio").drop_nulls().rows():
        cells[rows.index(row[1]), columns.index(row[0])] = row[2]
    axes.set_facecolor(NO_VALUE_COLOUR)
    drawn = axes.imshow(cells, origin="lower", aspect="auto", cmap="viridis", interpolation="nearest")
    figure.colorbar(drawn, ax=axes, fraction=0.05, pad=0.02)
    axes.set_xticks(range(len(columns)), [_tick(each) for each in columns], fontsize=SMALL_SIZE)
    axes.set_yticks(range(len(rows)), [_tick(each) for each in rows], fontsize=SMALL_SIZE)
    _thin(axes.xaxis, 8)
    _thin(axes.yaxis, 10)
    if cells.size <= MOST_WRITTEN:
        middle = np.nanmean([np.nanmin(cells), np.nanmax(cells)]) if np.isfinite(cells).any() else 0.0
        for (i, j), value in np.ndenumerate(cells):
            if np.isfinite(value):
                colour = "white" if value < middle else "black"
                axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=6.5, color=colour)
    if chosen:
        j, i = columns.index(chosen[x]), rows.index(chosen[y])
        _frame(axes, j, i, half=0.5, style="-")
        _frame(axes, j, i, half=1.5, style="--")


def _frame(axes: Axes, j: int, i: int, *, half: float, style: str) -> None:
    x = [j - half, j + half, j + half, j - half, j - half]
    y = [i - half, i - half, i + half, i + half, i - half]
    axes.plot(x, y, color="red", linewidth=1.4, linestyle=style, clip_on=True, scalex=False, scaley=False)


def _draw_line(axes: Axes, table: pl.DataFrame, x: str, chosen: dict[str, Any]) -> None:
    ordered = table.drop_nulls(["sharpe_ratio", x]).sort(x)
    places = [_tick(each) for each in ordered[x]] if ordered.schema[x] == pl.String else ordered[x].to_numpy()
    axes.plot(places, ordered["sharpe_ratio"].to_numpy(), "o-", color=OWN_COLOUR, markersize=3.5, linewidth=1.1)
    if chosen and chosen["sharpe_ratio"] is not None:
        axes.plot([chosen[x]], [chosen["sharpe_ratio"]], "o", color="red", markersize=10, markerfacecolor="none")


def _draw_points(axes: Axes, table: pl.DataFrame, x: str, y: str | None, chosen: dict[str, Any], figure: Any) -> None:
    shown = table.drop_nulls(["sharpe_ratio", x, *([y] if y else [])]).with_columns(
        pl.col(pl.String, pl.Boolean).cast(pl.String)
    )
    across = shown[x].to_list()
    up = shown["sharpe_ratio"].to_list() if y is None else shown[y].to_list()
    if y is None:
        axes.plot(across, up, "o", color=OWN_COLOUR, markersize=3.5)
    else:
        drawn = axes.scatter(across, up, c=shown["sharpe_ratio"].to_numpy(), cmap="viridis", s=18)
        figure.colorbar(drawn, ax=axes, fraction=0.05, pad=0.02)
    if chosen and chosen["sharpe_ratio"] is not None:
        at = chosen["sharpe_ratio"] if y is None else chosen[y]
        axes.plot([chosen[x]], [at], "o", color="red", markersize=11, markerfacecolor="none")


def _tick(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _thin(axis: Any, most: int) -> None:
    """Leave out labels where they would lie on each other."""
    labels = axis.get_ticklabels()
    step = -(-len(labels) // most)
    for place, label in enumerate(labels):
        label.set_visible(place % step == 0)
