"""Figures of scores: the model beside the baselines, what was predicted as what, and an account's scores by fold, as PNG bytes.

Lives here: tables of scores in, bytes out. Not here: the scores (`score_table`, `account_table`), other figures (`plots`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from hf_pipelines.research.metrics.bootstrap import LEVEL
from hf_pipelines.research.metrics.direction import QUANTILE_LOSS, is_better_higher
from hf_pipelines.research.plots.style import (
    MUTED_COLOUR,
    OWN_COLOUR,
    SMALL_SIZE,
    declutter,
    footer,
    new_figure,
    png_of,
    title,
)
from hf_pipelines.research.targets import HORIZON

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BASELINE_COLOUR = MUTED_COLOUR

# Scores of the figure, those that say most first; the rest say the same again or have no scale that folds share.
SHOWN = (
    *("accuracy", "balanced_accuracy", "auc", "log_loss", "brier"),
    *("rmse", "mae", "r2", "directional_accuracy"),
    "information_coefficient",
    *("sharpe_ratio", "hit_rate", "profit_factor", "total_return", "max_drawdown"),
)

COLUMNS = 2

# Letters that fit above a panel.
PANEL_LETTERS = 32

# Scores whose value says nothing by itself where it is this one.
NEUTRAL = {"auc": 0.5, "r2": 0.0, "information_coefficient": 0.0, "sharpe_ratio": 0.0, "hit_rate": 0.5, "profit_factor": 1.0,
           "total_return": 0.0, "directional_accuracy": 0.5}  # fmt: skip


def scores_png(scores: pl.DataFrame, *, heading: str = "", note: str = "") -> bytes:
    """A panel a score: each predictor's value over all folds with its interval, and its values in the folds as dots.

    Parameters
    ----------
    scores : DataFrame
        As `ScoreTable.scores` of one horizon, or `AccountTable.scores`.
    heading, note : str
        Above the figure: whose scores, and what they say.

    Returns
    -------
    bytes
        A PNG; the same scores give the same bytes.

    Raises
    ------
    ValueError
        If there are no scores.
    """
    # A panel without any value says less than none: the words say that it is undefined.
    defined = scores.filter(pl.col("value").is_not_null())["score"].unique().sort().to_list()
    shown = [name for name in SHOWN if name in defined]
    shown += [name for name in defined if name.startswith(QUANTILE_LOSS)]
    if not shown:
        raise ValueError("`scores` must hold a score that is defined, was without.")
    predictors = scores["predictor"].unique(maintain_order=True).to_list()
    n_rows, n_columns = -(-len(shown) // COLUMNS), min(COLUMNS, len(shown))
    how = f"Bar: {LEVEL:.0%} interval; large dot: all folds pooled; small dots below: single folds; dotted: no skill"
    # Each panel repeats the names: beside one of two columns a reader of a telephone would lose them.
    figure = new_figure(height=0.9 + n_rows * (0.62 + 0.17 * max(len(predictors), 2)))
    grid = figure.subplots(n_rows, n_columns, squeeze=False, sharey=True)
    for place, axes in enumerate(grid.ravel()):
        if place < len(shown):
            _draw_score(axes, scores.filter(score=shown[place]), predictors, score=shown[place])
        else:
            axes.set_visible(False)
    title(figure, heading, note)
    footer(figure, how)
    return png_of(figure)


def confusion_png(fold_metrics: pl.DataFrame, *, classes: Sequence[str], heading: str = "") -> bytes:
    """How many rows of each class are predicted as each, of all folds together.

    Parameters
    ----------
    fold_metrics : DataFrame
        As `ScoreTable.fold_metrics` of a classification.
    classes : sequence of str
    heading : str
        Whose predictions.

    Returns
    -------
    bytes
        A PNG; the same counts give the same bytes.
    """
    from matplotlib import colormaps

    counts = np.array([[fold_metrics[f"{a}_as_{b}"].sum() for b in classes] for a in classes], dtype=np.float64)
    occurred = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, occurred, out=np.zeros_like(counts), where=occurred > 0.0)
    figure = new_figure(height=1.4 + 0.75 * max(len(classes), 2))
    axes = figure.subplots()
    axes.imshow(shares, cmap=colormaps["Blues"], vmin=0.0, vmax=1.0, aspect="auto")
    for row, column in np.ndindex(counts.shape):
        axes.text(
            column,
            row,
            f"{shares[row, column]:.0%}\n{counts[row, column]:,.0f}",
            ha="center",
            va="center",
            fontsize=9,
            color="white" if shares[row, column] > 0.6 else "black",
        )
    axes.set_xticks(range(len(classes)), classes)
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("Predicted")
    axes.set_ylabel("Occurred")
    declutter(axes)
    axes.tick_params(length=0)
    title(figure, heading, "Share and number of the rows of each class by what was predicted; test rows of all folds")
    return png_of(figure)


def reliability_png(groups: pl.DataFrame, *, heading: str = "", note: str = "") -> bytes:
    """Share of hits by how sure predictions were, with intervals, beside the line on which both are equal.

    Parameters
    ----------
    groups : DataFrame
        As `Reliability.groups`.
    heading, note : str
        Above the figure.

    Returns
    -------
    bytes
        A PNG; the same groups give the same bytes.
    """
    figure = new_figure(height=4.0)
    axes = figure.subplots()
    low, high = float(groups["confidence"].min()), float(groups["confidence"].max())  # type: ignore[arg-type]  # floats
    axes.plot([low, high], [low, high], color="0.4", linewidth=0.8, linestyle=":")
    for row in groups.to_dicts():
        at = row["confidence"]
        if row["low"] is not None:
            axes.plot([at, at], [row["low"], row["high"]], color=OWN_COLOUR, linewidth=2.2, solid_capstyle="butt")
        axes.plot([at], [row["share_right"]], "o", color=OWN_COLOUR, markersize=6)
        axes.annotate(
            f"{row['n_rows']:,}",
            (at, row["share_right"]),
            xytext=(6, 4),
            textcoords="offset points",
            fontsize=SMALL_SIZE,
        )
    axes.set_xlabel("Confidence: probability of the predicted class")
    axes.set_ylabel("Share of predictions that were right")
    how = f"Dot: a group of rows, their number beside it; bar: {LEVEL:.0%} interval; dotted: right as often as said"
    declutter(axes, grid="both")
    title(figure, heading, note)
    footer(figure, how)
    return png_of(figure)


def _draw_score(axes: Axes, rows: pl.DataFrame, predictors: Sequence[str], *, score: str) -> None:
    if score in NEUTRAL:
        axes.axvline(NEUTRAL[score], color="0.4", linewidth=0.8, linestyle=":")
    for place, name in enumerate(predictors):
        of_one = rows.filter(predictor=name)
        colour = BASELINE_COLOUR if place else OWN_COLOUR
        folds = of_one.filter(pl.col("fold").is_not_null())["value"].drop_nulls().to_numpy()
        axes.plot(folds, np.full(len(folds), place + 0.24), "o", color=colour, markersize=2.8, alpha=0.7)
        pooled = of_one.filter(pl.col("fold").is_null() & pl.col("value").is_not_null())
        if pooled.is_empty():
            axes.text(
                0.02,
                place,
                "undefined",
                transform=axes.get_yaxis_transform(),
                va="center",
                fontsize=SMALL_SIZE,
                color="0.5",
            )
        for value, low, high in pooled.select("value", "low", "high").rows():
            if low is not None:
                axes.plot([low, high], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt")
            axes.plot([value], [place], "o", color=colour, markersize=6)
    axes.set_yticks(range(len(predictors)), predictors)
    axes.set_ylim(len(predictors) - 0.5, -0.5)
    name, way = score.replace("_", " "), f"({'more' if is_better_higher(score) else 'less'} is better)"
    fits = len(name) + len(way) < PANEL_LETTERS
    axes.set_title(f"{name} {way}" if fits else f"{name}\n{way}", loc="left", fontsize=SMALL_SIZE)
    axes.locator_params(axis="x", nbins=4)
    declutter(axes, grid="x")
    axes.tick_params(axis="y", length=0)


def horizons_of(scores: pl.DataFrame) -> dict[int | None, pl.DataFrame]:
    """The scores of each horizon, without the column; {None: all} where there is none."""
    if HORIZON not in scores.columns:
        return {None: scores}
    parts = scores.partition_by(HORIZON, as_dict=True, include_key=False, maintain_order=True)
    return {int(horizon): part for (horizon,), part in parts.items()}
