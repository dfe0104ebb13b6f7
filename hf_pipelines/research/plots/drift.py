"""Figures of drift: shifts over weeks, predictions beside those of training, and accuracy beside what was expected.

Lives here: tables in, PNG bytes out. Not here: the judgement (`drift`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from hf_pipelines.research.drift.day import ACCURACY_BAND
from hf_pipelines.research.drift.judgement import DRIFTED, NOT_JUDGED
from hf_pipelines.research.plots.style import (
    BAD_COLOUR,
    MUTED_COLOUR,
    NO_VALUE_COLOUR,
    OTHER_COLOUR,
    OWN_COLOUR,
    SMALL_SIZE,
    date_ticks,
    declutter,
    footer,
    named,
    new_figure,
    percent_ticks,
    png_of,
    title,
)

if TYPE_CHECKING:
    pass

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

# Columns of a heat map; of more those that ever drifted, or shifted the most.
MOST_COLUMNS = 24

# Multiples of the usual shift at which the colour is full.
FULL_SHIFT = 12.0


def shifts_png(weeks: pl.DataFrame, *, heading: str = "") -> bytes:
    """Heat map of shifts, a column of the model a row and a week a column; what cannot be judged is hatched.

    Parameters
    ----------
    weeks : DataFrame
        `session`, the last one of each week, and `column`, `verdict`, `shift` of it.
    heading : str
    """
    from matplotlib.patches import Rectangle

    days = weeks["session"].unique().sort().to_list()
    ranked = (
        weeks.group_by("column", maintain_order=True)
        .agg(drifted=(pl.col("verdict") == DRIFTED).sum(), shift=pl.col("shift").max())
        .sort("drifted", "shift", descending=True, nulls_last=True, maintain_order=True)
    )
    names = ranked["column"].to_list()[:MOST_COLUMNS]
    figure = new_figure(height=1.7 + 0.24 * len(names))
    axes = figure.subplots()
    place = {(row["column"], row["session"]): row for row in weeks.to_dicts()}
    values = np.full((len(names), len(days)), np.nan)
    for y, name in enumerate(names):
        for x, day in enumerate(days):
            row = place.get((name, day))
            if row is None:
                continue
            if row["verdict"] == NOT_JUDGED:
                axes.add_patch(
                    Rectangle((x - 0.5, y - 0.5), 1, 1, hatch="////", fill=False, edgecolor=MUTED_COLOUR, linewidth=0.0)
                )
                continue
            values[y, x] = row["shift"]
            if row["verdict"] == DRIFTED:
                axes.plot([x], [y], marker="o", markersize=4, color="black")
    image = axes.imshow(
        np.ma.masked_invalid(values), cmap=_colours(), vmin=0.0, vmax=FULL_SHIFT, aspect="auto", interpolation="nearest"
    )
    axes.set_yticks(range(len(names)), [named(each) for each in names], fontsize=SMALL_SIZE)
    step = max(len(days) // 6, 1)
    axes.set_xticks(range(0, len(days), step), [f"{day:%m-%d}" for day in days[::step]], fontsize=SMALL_SIZE)
    bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02, extend="max")
    bar.ax.tick_params(labelsize=SMALL_SIZE)
    bar.set_label("times the usual", fontsize=SMALL_SIZE)
    more = f", the first {MOST_COLUMNS} of {ranked.height}" if ranked.height > MOST_COLUMNS else ""
    title(
        figure,
        f"Shift of each column{', ' * bool(heading)}{heading}",
        f"Last session of each week, {days[0]} to {days[-1]}{more}",
    )
    footer(figure, "Dot: drifted. Hatched: cannot be judged. White: as windows of training are, or nothing stored.")
    return png_of(figure)


def _colours() -> Colormap:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("shift", ["#ffffff", OTHER_COLOUR, BAD_COLOUR])


def outputs_png(
    out_of_fold: Sequence[float], issued: Sequence[float], *, heading: str = "", sessions: int = 0
) -> bytes:
    """Predictions as they were issued, beside those out of fold.

    Parameters
    ----------
    out_of_fold, issued : sequence of float
        Predictions; what is not finite is left out.
    heading : str
    sessions : int
        That were issued.
    """
    before, now = (np.asarray(each, dtype=np.float64) for each in (out_of_fold, issued))
    before, now = before[np.isfinite(before)], now[np.isfinite(now)]
    figure = new_figure(height=3.0)
    axes = figure.subplots()
    if len(before) and len(now):
        low, high = np.quantile(np.concatenate([before, now]), [0.002, 0.998])
        edges = np.linspace(low, high if high > low else low + 1.0, 41)
        for values, colour, label in ((before, NO_VALUE_COLOUR, "out of fold"), (now, OWN_COLOUR, "as issued")):
            n, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
            if label == "as issued":
                axes.stairs(n / len(values), edges, color=colour, linewidth=1.5, label=label)
            else:
                axes.stairs(n / len(values), edges, color=colour, fill=True, label=label)
        axes.legend(loc="upper right", fontsize=SMALL_SIZE, frameon=False)
    axes.set_xlabel("prediction")
    axes.set_ylabel("share of rows")
    declutter(axes, grid="y")
    percent_ticks(axes.yaxis)
    title(
        figure,
        f"Predictions{', ' * bool(heading)}{heading}",
        f"{len(now):,} rows of {sessions} sessions as issued, {len(before):,} out of fold; ends hold what is beyond",
    )
    return png_of(figure)


def accuracy_png(measured: pl.DataFrame, *, heading: str = "") -> bytes:
    """Accuracy of the last matured predictions beside the accuracy that their confidence promised.

    Parameters
    ----------
    measured : DataFrame
        `session`, `value`, `low`, `high`, `expected`, sorted by session; null where unknown.
    heading : str
    """
    figure = new_figure(height=3.0)
    axes = figure.subplots()
    days = np.array(measured["session"].to_list(), dtype="datetime64[D]")
    value, low, high, expected = (
        measured[name].cast(pl.Float64).to_numpy() for name in ("value", "low", "high", "expected")
    )
    axes.fill_between(days, low, high, color=OWN_COLOUR, alpha=0.2, linewidth=0.0, label="interval of 95 %")
    axes.plot(days, value, color=OWN_COLOUR, linewidth=1.5, marker="." if len(days) < 15 else "", label="matured")
    if np.isfinite(expected).any():
        axes.plot(days, expected, color=OTHER_COLOUR, linewidth=1.3, linestyle="--", label="expected by confidence")
    # Where nothing has matured the dates are there all the same.
    axes.plot(days, np.full(len(days), ACCURACY_BAND), alpha=0.0)
    axes.axhline(ACCURACY_BAND, color=BAD_COLOUR, linewidth=0.9, linestyle=":", label="band of the field")
    axes.legend(loc="upper left", fontsize=SMALL_SIZE, frameon=False, ncols=2)
    axes.set_ylim(*_limits(value, low, high, expected))
    axes.set_ylabel("share that was right")
    declutter(axes, grid="y")
    percent_ticks(axes.yaxis)
    date_ticks(axes)
    last = _last(days, value)
    title(figure, f"Accuracy of the last matured predictions{', ' * bool(heading)}{heading}", last)
    return png_of(figure)


def _limits(*series: np.ndarray) -> tuple[float, float]:
    known = np.concatenate([each[np.isfinite(each)] for each in series] + [np.array([ACCURACY_BAND])])
    low, high = float(known.min()), float(known.max())
    room = max(high - low, 0.1)
    return max(low - 0.1 * room, 0.0), min(high + 0.45 * room, 1.2)


def _last(days: np.ndarray, value: np.ndarray) -> str:
    known = np.isfinite(value)
    return (
        f"{value[known][-1]:.1%} on {date.fromisoformat(str(days[known][-1]))}" if known.any() else "none has matured"
    )
