"""Pictures: the same charts as SVG, for paper and for a browser without JavaScript.

Lives here: drawing with matplotlib, in the house style of the figures on assets. Not here: what is drawn (`blocks`).
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_pipelines.research.plots.style import (
    BLUE,
    GREEN,
    MUTED_COLOUR,
    NO_VALUE_COLOUR,
    ORANGE,
    PURPLE,
    SMALL_SIZE,
    TEXT_COLOUR,
    VERMILION,
    date_ticks,
    declutter,
    money_ticks,
    named,
    percent_ticks,
)
from hf_pipelines.research.report.blocks import Chart, Heatmap, Series, written

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What lines stand for; the page's style sheet has the same colours, and lighter ones for the dark.
COLOURS = {
    "own": BLUE,
    "before": BLUE,
    "benchmark": ORANGE,
    "equal": GREEN,
    "random": NO_VALUE_COLOUR,
    "bad": VERMILION,
    "other": PURPLE,
    "muted": MUTED_COLOUR,
}

# Inches; the width of a letter of a tick, and how far down a slanted one goes for each.
WIDTH = 7.2
LETTER, SLOPE = 0.062, 0.5
PIXELS_PER_INCH = 100.0

# Series that a legend of one line has room for.
MOST_NAMED = 5

# Categories whose names stand upright beside each other.
MOST_UPRIGHT = 8

# Values of a cell that the colour behind them would hide are written in white.
DARK_CELL = 0.6

# Of decimals that no eye sees.
_LONG = re.compile(rb"(\d+\.\d{2})\d+")


def svg(chart: Chart | Heatmap) -> bytes:
    """A chart as SVG; equal charts are equal bytes."""
    return _heatmap(chart) if isinstance(chart, Heatmap) else _chart(chart)


def _chart(chart: Chart) -> bytes:
    figure = _figure(chart.height / PIXELS_PER_INCH)
    axes = figure.subplots()
    categories = (
        list(dict.fromkeys(str(x) for each in chart.series for x in each.x)) if chart.x.unit == "category" else []
    )
    bars = [each for each in chart.series if each.mark == "bar"]
    for each in chart.series:
        _draw(axes, each, categories, (bars.index(each), len(bars)) if each in bars else (0, 1))
    if chart.level is not None:
        axes.axhline(chart.level, color=TEXT_COLOUR, linewidth=0.8, linestyle=":")
    declutter(axes, grid="y")
    axes.set_xlabel(chart.x.title, fontsize=SMALL_SIZE)
    axes.set_ylabel(chart.y.title, fontsize=SMALL_SIZE)
    if chart.y.is_log:
        axes.set_yscale("log")
    if chart.x.is_log:
        axes.set_xscale("log")
    if chart.x.unit == "date":
        date_ticks(axes)
    elif chart.x.unit == "category":
        is_slanted = len(categories) > MOST_UPRIGHT
        axes.set_xticks(
            range(len(categories)),
            [_letters(named(each)) for each in categories],
            rotation=30 if is_slanted else 0,
            ha="right" if is_slanted else "center",
        )
    elif chart.x.unit == "fraction":
        percent_ticks(axes.xaxis)
    if chart.y.unit == "fraction":
        percent_ticks(axes.yaxis)
    elif chart.y.unit == "amount":
        money_ticks(axes.yaxis)
    if 1 < len(chart.series) <= MOST_NAMED:
        place = (-0.06, 1.0 + 0.28 / (chart.height / PIXELS_PER_INCH))
        narrow = {"handlelength": 1.3, "handletextpad": 0.4, "columnspacing": 0.9}
        axes.legend(
            fontsize=SMALL_SIZE, frameon=False, ncols=MOST_NAMED, loc="upper left", bbox_to_anchor=place, **narrow
        )
    _frame(figure, below=[named(each) for each in categories], is_slanted=len(categories) > MOST_UPRIGHT)
    return _bytes(figure)


def _draw(axes: Axes, series: Series, categories: list[str], place: tuple[int, int]) -> None:
    colour = COLOURS[series.role]
    if categories:
        x: Any = np.array([float(categories.index(str(each))) for each in series.x])
    else:
        x = np.array(series.x, dtype="datetime64[D]" if series.x and isinstance(series.x[0], date) else np.float64)
    y = _numbers(series.y)
    style: dict[str, Any] = {"color": colour, "linestyle": "--" if series.is_dashed else "-"}
    low = None if series.low is None else _numbers(series.low)
    high = None if series.high is None else _numbers(series.high)
    if series.mark in ("line", "area"):
        if low is not None and high is not None:
            axes.fill_between(
                x,
                low,
                high,
                color=colour,
                alpha=0.4,
                linewidth=0,
                label=_letters(series.name) if np.isnan(y).all() else None,
            )
        if not np.isnan(y).all():
            axes.plot(x, y, linewidth=1.2, label=_letters(series.name), **style)
        if series.mark == "area":
            axes.fill_between(x, y, 0.0, color=colour, alpha=0.25, linewidth=0)
        return
    error = None if low is None or high is None else np.nan_to_num(np.array([y - low, high - y])).clip(min=0.0)
    at, n = place
    if series.mark == "bar":
        width = (0.8 / n) * (np.diff(np.sort(np.unique(x))).min() if not categories and len(np.unique(x)) > 1 else 1.0)
        shift = (at - (n - 1) / 2) * width
        axes.bar(
            x + shift,
            y,
            width=width,
            color=colour,
            label=_letters(series.name),
            yerr=error,
            error_kw={"linewidth": 0.8},
        )
    else:
        axes.errorbar(x, y, yerr=error, fmt="o", markersize=3, linewidth=0.8, color=colour, label=_letters(series.name))


def _heatmap(chart: Heatmap) -> bytes:
    from matplotlib.colors import LinearSegmentedColormap

    values = np.array([[np.nan if each is None else each for each in row] for row in chart.values], dtype=np.float64)
    figure = _figure(0.7 + 0.26 * max(len(chart.rows), 2))
    axes = figure.subplots()
    most = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 1.0
    colours = (VERMILION, "#ffffff", BLUE) if chart.is_diverging else ("#ffffff", BLUE)
    shades = LinearSegmentedColormap.from_list("report", colours)
    axes.imshow(values, cmap=shades, vmin=-most if chart.is_diverging else 0.0, vmax=most, aspect="auto")
    for at, row in enumerate(chart.values):
        for column, each in enumerate(row):
            if each is not None:
                is_dark = abs(each) > DARK_CELL * most
                axes.text(
                    column,
                    at,
                    written(each, chart.unit),
                    ha="center",
                    va="center",
                    fontsize=6.5,
                    color="white" if is_dark else TEXT_COLOUR,
                )
    axes.set_xticks(range(len(chart.columns)), [_letters(each) for each in chart.columns], fontsize=SMALL_SIZE)
    axes.set_yticks(range(len(chart.rows)), [_letters(each) for each in chart.rows], fontsize=SMALL_SIZE)
    axes.set_xlabel(chart.x_title, fontsize=SMALL_SIZE)
    axes.set_ylabel(chart.y_title, fontsize=SMALL_SIZE)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _frame(figure, left=[named(each) for each in chart.rows])
    return _bytes(figure)


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height))


def _frame(figure: Figure, *, below: Sequence[str] = (), left: Sequence[str] = (), is_slanted: bool = False) -> None:
    """Room for ticks and titles around the axes; to have it found by the library would draw everything twice."""
    height = float(figure.get_size_inches()[1])
    slanted = LETTER * max((len(each) for each in below), default=0) * SLOPE if is_slanted else 0.0
    beside = LETTER * max((len(each) for each in left), default=0)
    figure.subplots_adjust(
        left=(0.85 + beside) / WIDTH,
        right=1.0 - 0.12 / WIDTH,
        top=1.0 - (0.6 if left else 0.32) / height,
        bottom=((0.1 if left else 0.5) + slanted) / height,
    )


def _numbers(values: Any) -> Any:
    return np.array([np.nan if each is None else each for each in values], dtype=np.float64)


def _bytes(figure: Figure) -> bytes:
    from matplotlib import rc_context

    buffer = io.BytesIO()
    # Letters stay letters: small, and found by who searches the page.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "report"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return _LONG.sub(rb"\1", buffer.getvalue())


def _letters(text: str) -> str:
    """A text from outside: a pair of dollars would be a formula."""
    return text.replace("$", r"\$")
