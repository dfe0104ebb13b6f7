"""Figures of features: which have values, and which say the same.

Lives here: tables in, PNG bytes out. Not here: the tables (`features_report`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from hf_pipelines.research.plots.style import (
    NO_VALUE_COLOUR,
    SMALL_SIZE,
    declutter,
    footer,
    named,
    new_figure,
    png_of,
    title,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

# Rows of a heat map whose labels can still be read on a screen.
SHOWN_SYMBOLS = 60
SHOWN_FEATURES = 60
SHOWN_SESSIONS = 8

# Letters of the names beside the map of correlations: as small as they can be read in a window, for sixty of them.
NAME_SIZE = 6.0


def coverage_png(coverage: pl.DataFrame, *, heading: str = "") -> bytes:
    """Heat map of the share of features that have a value: symbols by sessions, the worst symbols on top.

    Parameters
    ----------
    coverage : DataFrame
        `symbol`, `session`, `coverage` in [0, 1], as `feature_coverage` gives it; a pair without a row is drawn grey.
    heading : str
        Whose features.

    Returns
    -------
    bytes
        A PNG of at most `SHOWN_SYMBOLS` symbols; the same values give the same bytes.

    Raises
    ------
    ValueError
        If there are no rows.
    """
    from matplotlib.ticker import PercentFormatter

    if coverage.is_empty():
        raise ValueError("`coverage` must have rows, had none.")
    ranked = coverage.group_by("symbol").agg(pl.col("coverage").mean()).sort("coverage", "symbol")
    shown, hidden = ranked.head(SHOWN_SYMBOLS), ranked.tail(-SHOWN_SYMBOLS)
    sessions = coverage["session"].unique().sort().to_list()
    table = coverage.pivot("session", index="symbol", values="coverage")
    rows = shown.select("symbol").join(table, on="symbol", maintain_order="left")
    values = rows.select(pl.col(str(day)) for day in sessions).fill_null(float("nan")).to_numpy()

    figure = new_figure(height=1.9 + 0.15 * max(shown.height, 9))
    axes = figure.subplots()
    image = _heat_map(axes, values, colours="viridis", low=0.0, high=1.0)
    declutter(axes)
    axes.set_yticks(range(shown.height), [f"{symbol}  {share:.0%}" for symbol, share in shown.rows()])
    axes.set_ylabel("Symbol and its mean")
    step = max(1, math.ceil(len(sessions) / SHOWN_SESSIONS))
    ticks = range(0, len(sessions), step)
    axes.set_xticks(list(ticks), [str(sessions[i]) for i in ticks], rotation=45, ha="right")
    rest = (
        f"The {shown.height} worst of {ranked.height} symbols; each of the others {_at_least(hidden['coverage'])}"
        if hidden.height
        else f"All {ranked.height} symbols, the worst on top"
    )
    bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02, format=PercentFormatter(xmax=1.0, decimals=0))
    bar.ax.tick_params(labelsize=SMALL_SIZE)
    title(
        figure, f"Features that have a value{', ' * bool(heading)}{heading}", rest, f"{sessions[0]} to {sessions[-1]}"
    )
    footer(figure, "Grey: not a member that session; 0%: no bar or no feature.")
    return png_of(figure)


def correlations_png(correlations: pl.DataFrame, *, n_features: int, period: str, heading: str = "") -> bytes:
    """Heat map of the correlations of features, in the order given.

    Parameters
    ----------
    correlations : DataFrame
        `feature` and one column a feature, in the same order, as `clustered` gives them; NaN is drawn grey.
    n_features : int
        How many features there are, shown or not.
    period : str
        What the correlations are of, for the title.
    heading : str
        Whose features.

    Returns
    -------
    bytes
        A PNG; the same values give the same bytes.

    Raises
    ------
    ValueError
        If there are no features, or more than `SHOWN_FEATURES`.
    """
    names = correlations["feature"].to_list()
    if not 1 <= len(names) <= SHOWN_FEATURES:
        raise ValueError(f"`correlations` must be of 1 to {SHOWN_FEATURES} features, was of {len(names)}.")
    # Wider than others where there are many: each name needs its line.
    side = 0.1 * max(len(names), 30)
    figure = new_figure(width=side + 2.0, height=side + 1.9)
    axes = figure.subplots()
    image = _heat_map(axes, correlations.select(names).to_numpy(), colours="RdBu_r", low=-1.0, high=1.0)
    declutter(axes)
    size = SMALL_SIZE if len(names) <= 20 else NAME_SIZE
    axes.set_yticks(range(len(names)), [named(each) for each in names], fontsize=size)
    axes.set_xticks(range(len(names)), [named(each) for each in names], rotation=90, fontsize=size)
    rest = (
        f"The {len(names)} of {n_features} features with the closest partner"
        if len(names) < n_features
        else f"All {n_features} features"
    )
    bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02)
    bar.ax.tick_params(labelsize=SMALL_SIZE)
    title(
        figure,
        f"Rank correlation of features{', ' * bool(heading)}{heading}",
        f"{rest}, alike ones side by side; {period}",
    )
    footer(figure, "Grey: undefined.")
    return png_of(figure)


def _heat_map(axes: Axes, values: np.ndarray, *, colours: str, low: float, high: float) -> AxesImage:
    from matplotlib import colormaps

    image = axes.imshow(
        np.ma.masked_invalid(values),
        cmap=colormaps[colours].with_extremes(bad=NO_VALUE_COLOUR),
        vmin=low,
        vmax=high,
        aspect="auto",
        interpolation="nearest",
    )
    axes.tick_params(length=2)
    return image


def _at_least(shares: pl.Series) -> str:
    """The least of some shares in words, rounded down: 99.97 % are not all."""
    least = float(shares.min())  # type: ignore[arg-type]
    return "100%" if least == 1.0 else f"at least {math.floor(1000 * least) / 1000:.1%}"
