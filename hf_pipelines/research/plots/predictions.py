"""Figures of out-of-fold predictions: what they are worth by session, by quantile and by fold.

Lives here: tables of `frames` in, PNG bytes out. Not here: scores with their intervals and what was predicted as what (`score_plots`).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from hf_pipelines.research.plots.frames import FIFTHS, ROLLING_SESSIONS
from hf_pipelines.research.plots.style import (
    MUTED_COLOUR,
    NO_VALUE_COLOUR,
    OTHER_COLOUR,
    OWN_COLOUR,
    SMALL_SIZE,
    date_ticks,
    declutter,
    footer,
    new_figure,
    percent_ticks,
    png_of,
    title,
)

# Folds whose first session can be read below their bars.
SHOWN_FOLDS = 6


def coefficients_png(coefficients: pl.DataFrame, *, heading: str = "") -> bytes:
    """Information coefficient by session with its rolling mean, above its sum so far: a steady rise is a steady skill.

    Parameters
    ----------
    coefficients : DataFrame
        From `frames.coefficients_by_session`, of at least one session.
    heading : str
        Whose predictions.

    Returns
    -------
    bytes
        A PNG; the same values give the same bytes.
    """
    days, values = coefficients["session"].to_numpy(), coefficients["coefficient"].to_numpy()
    figure = new_figure(height=3.9)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[1.4, 1.0])
    top.plot(days, values, ".", color=NO_VALUE_COLOUR, markersize=2.5, label="a session")
    top.plot(
        days, coefficients["rolling"].to_numpy(), color=OWN_COLOUR, linewidth=1.4, label=f"mean of {ROLLING_SESSIONS}"
    )
    top.axhline(
        float(values.mean()), color=OTHER_COLOUR, linewidth=1.1, linestyle="--", label=f"mean {values.mean():+.3f}"
    )
    top.set_ylim(-1.05, 1.5)
    top.set_yticks([-1.0, -0.5, 0.0, 0.5, 1.0])
    top.legend(fontsize=SMALL_SIZE, frameon=False, loc="upper center", ncols=3)
    top.set_ylabel("IC")
    bottom.plot(days, coefficients["so_far"].to_numpy(), color=OWN_COLOUR, linewidth=1.4)
    bottom.axhline(0.0, color=MUTED_COLOUR, linewidth=0.8)
    bottom.set_ylabel("Sum so far")
    bottom.locator_params(axis="y", nbins=4)
    for axes in (top, bottom):
        declutter(axes, grid="y")
    date_ticks(bottom)
    figure.align_ylabels()
    title(
        figure,
        f"Information coefficient{', ' * bool(heading)}{heading}",
        f"Rank correlation of predictions and outcomes across symbols, {coefficients['session'][0]} to "
        f"{coefficients['session'][-1]}, {coefficients.height:,} sessions out of fold",
    )
    return png_of(figure)


def quantiles_png(
    quantiles: pl.DataFrame, *, heading: str = "", outcome: str = "outcome", is_return: bool = True
) -> bytes:
    """Mean outcome by quantile of the prediction, with two standard errors: what predicts rises from left to right.

    Parameters
    ----------
    quantiles : DataFrame
        From `frames.outcomes_by_quantile`, of at least one group.
    heading : str
        Whose predictions.
    outcome : str
        What was predicted, for the axis.
    is_return : bool
        Whether outcomes are fractions.

    Returns
    -------
    bytes
        A PNG; the same values give the same bytes.
    """
    figure = new_figure(height=2.9)
    axes = figure.subplots()
    at = np.arange(quantiles.height)
    axes.bar(at, quantiles["outcome"].to_numpy(), width=0.62, color=OWN_COLOUR)
    axes.errorbar(
        at,
        quantiles["outcome"].to_numpy(),
        yerr=2.0 * quantiles["error"].fill_null(0.0).fill_nan(0.0).to_numpy(),
        fmt="none",
        ecolor="0.25",
        elinewidth=1.0,
        capsize=3,
    )
    axes.axhline(0.0, color="0.3", linewidth=0.8)
    words = {0: "lowest", quantiles.height - 1: "highest"}
    # Of ten the numbers of rows would lie over each other.
    is_wide = quantiles.height <= FIFTHS
    shown = [
        f"{row['quantile']} {words.get(i, '')}" + (f"\n{row['n_rows']:,} rows" if is_wide else "")
        for i, row in enumerate(quantiles.to_dicts())
    ]
    axes.set_xticks(at, shown)
    axes.set_xlabel("Quantile of the prediction")
    axes.set_ylabel(f"Mean {outcome}")
    if is_return:
        percent_ticks(axes.yaxis)
    else:
        axes.locator_params(axis="y", nbins=5)
    declutter(axes, grid="y")
    axes.tick_params(axis="x", length=0)
    title(figure, f"Outcome by quantile of the prediction{', ' * bool(heading)}{heading}")
    footer(
        figure,
        "Whiskers: two standard errors, as if rows were independent; labels that overlap make them too short.",
        "" if is_wide else f"About {quantiles['n_rows'].sum() // quantiles.height:,} rows each.",
    )
    return png_of(figure)


def hits_png(hits: pl.DataFrame, *, heading: str = "") -> bytes:
    """Hit rate by fold, beside that of a coin.

    Parameters
    ----------
    hits : DataFrame
        From `frames.hits_by_fold`, of at least one fold.
    heading : str
        Whose predictions.

    Returns
    -------
    bytes
        A PNG; the same values give the same bytes.
    """
    figure = new_figure(height=2.7)
    axes = figure.subplots()
    at, rates = np.arange(hits.height), hits["hit_rate"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    axes.bar(at, rates, width=0.62, color=OWN_COLOUR)
    axes.axhline(0.5, color=OTHER_COLOUR, linewidth=1.2, linestyle="--", label="a coin")
    known = hits.drop_nulls("hit_rate")
    rows = known["n_rows"].to_numpy()
    pooled = float(np.average(known["hit_rate"].to_numpy(), weights=rows)) if rows.sum() else np.nan
    axes.axhline(pooled, color="0.25", linewidth=1.0, linestyle=":", label=f"all folds {pooled:.1%}")
    step = max(1, -(-hits.height // SHOWN_FOLDS))
    axes.set_xticks(
        at[::step], [f"{hits['fold'][int(i)]}\n{hits['first_session'][int(i)]:%Y-%m-%d}" for i in at[::step]]
    )
    axes.set_xlabel("Fold and the first session that it tests")
    axes.set_ylabel("Hit rate")
    axes.set_ylim(0.0, max(0.75, 1.15 * float(np.nanmax(rates, initial=0.0))))
    percent_ticks(axes.yaxis)
    axes.legend(fontsize=SMALL_SIZE, frameon=False, loc="upper left", ncols=2)
    declutter(axes, grid="y")
    title(figure, f"Hit rate by fold{', ' * bool(heading)}{heading}", "Share of predictions on the side of the outcome")
    return png_of(figure)
