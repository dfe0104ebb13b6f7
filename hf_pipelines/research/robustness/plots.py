"""Pictures of the tests of an account: the Sharpe ratio of each with its interval, and a fan of paths.

Lives here: a table in, PNG bytes out. Does not live here: how figures look in general (`research.plots.style`), where it is shown
(`components`).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from hf_pipelines.research.plots.style import (
    BAD_COLOUR,
    MUTED_COLOUR,
    NO_VALUE_COLOUR,
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

ROW_HEIGHT, MOST_ROWS = 0.18, 48

# What has few sessions has an interval that would press all others together: its ends are cut there, in medians of all widths.
WIDEST = 2.5


def robustness_png(table: pl.DataFrame, *, heading: str, told: str) -> bytes:
    """Sharpe ratio a year of each test with its bounds, those of one kind beside each other, the account as traded as a line.

    Parameters
    ----------
    table : DataFrame
        Of `robustness_table`.
    heading : str
        What the account is of.
    told : str
        What its signs say, see `judge_signs`.
    """
    known = table.filter(pl.col("sharpe").is_not_null())
    shown = known.head(MOST_ROWS)
    figure = new_figure(height=1.6 + ROW_HEIGHT * max(shown.height, 3))
    axes = figure.subplots()
    title(figure, f"Tests of {heading} (simulated, after costs)", f"{told[:1].upper()}{told[1:]}.")
    n_without = table.height - known.height
    notes = [
        *([f"{n_without} of fewer than 60 sessions, or of moves, have no ratio."] if n_without else []),
        *([f"{known.height - shown.height} more are in the table."] if known.height > shown.height else []),
    ]
    if shown.is_empty():
        axes.axis("off")
        axes.text(0.5, 0.5, "No test has 60 sessions.", ha="center", va="center", fontsize=SMALL_SIZE)
        footer(figure, " ".join(notes))
        return png_of(figure)
    places = np.arange(shown.height)
    low, high = _ends(shown)
    for place, row in zip(places, shown.to_dicts(), strict=True):
        colour = BAD_COLOUR if row["high"] < 0.0 else OWN_COLOUR
        axes.plot(np.clip([row["low"], row["high"]], low, high), [place, place], color=colour, linewidth=1.3, alpha=0.6)
        is_above = row["low"] > 0.0 or row["high"] < 0.0
        axes.plot(
            np.clip(row["sharpe"], low, high), place, "o", color=colour, markersize=4, markerfacecolor=colour if is_above else "white"
        )  # fmt: skip
    tests = shown["test"].to_list()
    for place in places[::-1]:
        if place and tests[place] != tests[place - 1]:
            axes.axhline(place - 0.5, color=NO_VALUE_COLOUR, linewidth=0.5, zorder=0)
    axes.axvline(0.0, color=MUTED_COLOUR, linewidth=0.8, zorder=0)
    axes.axvline(float(shown["sharpe"][0]), color=MUTED_COLOUR, linewidth=0.8, linestyle="--", zorder=0)
    axes.set_yticks(places, [named(_label(row), 38) for row in shown.to_dicts()], fontsize=SMALL_SIZE - 1.5)
    axes.set_ylim(shown.height - 0.5, -0.5)
    axes.set_xlim(low, high)
    axes.set_xlabel("Sharpe ratio a year")
    declutter(axes, grid="x")
    footer(
        figure,
        "Lines: bounds of 95 %, cut at the axis. Filled: zero lies outside of them. Orange: below zero. Dashed: as traded.",
        " ".join(notes),
    )
    return png_of(figure)


def paths_png(accounts: pl.DataFrame, *, heading: str) -> bytes:
    """A fan of the accounts of all paths of cross-validation, the middle one drawn over the others.

    Parameters
    ----------
    accounts : DataFrame
        `path`, `session`, `equity`: what 1 has become.
    heading : str
        What the accounts are of.
    """
    figure = new_figure(height=3.0)
    axes = figure.subplots()
    last = accounts.group_by("path").agg(pl.col("equity").last()).sort("equity", "path")
    middle = last["path"][(last.height - 1) // 2]
    for path in last["path"]:
        of_path = accounts.filter(path=path)
        is_middle = path == middle
        axes.plot(
            of_path["session"].to_numpy(),
            of_path["equity"].to_numpy() - 1.0,
            color=OWN_COLOUR if is_middle else MUTED_COLOUR,
            linewidth=1.6 if is_middle else 0.8,
            alpha=1.0 if is_middle else 0.7,
            zorder=3 if is_middle else 2,
        )
    axes.axhline(0.0, color=NO_VALUE_COLOUR, linewidth=0.8, zorder=1)
    date_ticks(axes)
    percent_ticks(axes.yaxis)
    declutter(axes, grid="y")
    ends = last["equity"].to_numpy() - 1.0
    title(
        figure,
        f"{last.height} paths of {heading} (simulated, after costs)",
        f"Combinatorial cross-validation: {(ends > 0.0).sum()} of {last.height} earned something, {ends.min():+.1%} to {ends.max():+.1%}.",
    )
    footer(
        figure,
        "Models were trained on later data too: paths show how much hangs on chance, not what could have been earned.",
    )
    return png_of(figure)


def _label(row: dict[str, object]) -> str:
    test, name = str(row["test"]), str(row["name"])
    return f"{test} {name}" if test in ("year", "sector", "symbol") else name


def _ends(shown: pl.DataFrame) -> tuple[float, float]:
    """Ends of the axis: every ratio lies within, bounds as far as they are not much wider than most."""
    width = WIDEST * float(np.median((shown["high"] - shown["low"]).to_numpy())) / 2.0
    ratios = shown["sharpe"].to_numpy()
    low = max(float(shown["low"].to_numpy().min()), float(ratios.min()) - width)
    high = min(float(shown["high"].to_numpy().max()), float(ratios.max()) + width)
    margin = 0.03 * (high - low) or 1.0
    return min(low, 0.0) - margin, max(high, 0.0) + margin
