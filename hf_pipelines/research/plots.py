"""Figures for reports and the web UI, as PNG bytes.

Lives here: results in, bytes out. Drawn with matplotlib's object API: pyplot keeps global state and is not
safe in the threads of a run. Not here: how a figure is embedded or stored.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hf_pipelines.research.backtest.result import BacktestResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EQUITY_COLOUR = "#1f4e79"
DRAWDOWN_COLOUR = "#d08079"
DOTS_PER_INCH = 110
SHOWN_IMPORTANCES = 30


def equity_png(result: BacktestResult) -> bytes:
    """Equity curve over the drawdown below it.

    Parameters
    ----------
    result : BacktestResult

    Returns
    -------
    bytes
        A PNG; the same result gives the same bytes.
    """
    from matplotlib.ticker import PercentFormatter, StrMethodFormatter

    session, equity = (result.equity["session"].to_numpy(), result.equity["equity"].to_numpy())
    figure = _figure(width=8.0, height=4.8)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    top.plot(session, equity, color=EQUITY_COLOUR, linewidth=1.2)
    top.set_ylabel("Equity")
    top.yaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
    top.set_title(_headline(result.metrics), loc="left", fontsize=10)
    bottom.fill_between(session, result.equity["drawdown"].to_numpy(), color=DRAWDOWN_COLOUR, linewidth=0)
    bottom.set_ylim(bottom=0.0)
    bottom.invert_yaxis()
    bottom.set_ylabel("Drawdown")
    bottom.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0))
    for axes in (top, bottom):
        _declutter(axes)
        axes.grid(axis="y", color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
    return _png(figure)


def importances_png(names: Sequence[str], values: Sequence[float]) -> bytes:
    """Bars of feature importances, the largest on top; at most thirty of them.

    Parameters
    ----------
    names : sequence of str
    values : sequence of float
        Importance of each name, finite, in the same order. Equal values are ordered by name.

    Returns
    -------
    bytes
        A PNG; the same values give the same bytes.

    Raises
    ------
    ValueError
        If there are none, the lengths differ, or a value is not finite.
    """
    if len(names) != len(values) or not len(names):
        raise ValueError(f"`values` must match a non-empty `names` ({len(names)}), had {len(values)}.")
    if not np.isfinite(np.asarray(values, dtype=np.float64)).all():
        bad = sorted(name for name, value in zip(names, values, strict=True) if not np.isfinite(value))
        raise ValueError(f"`values` must be finite, was not for {bad[:5]}.")
    ranked = sorted(zip(names, values, strict=True), key=lambda pair: (-pair[1], pair[0]))[:SHOWN_IMPORTANCES]
    figure = _figure(width=7.0, height=0.9 + 0.24 * len(ranked))
    axes = figure.subplots()
    axes.barh([name for name, _ in ranked], [value for _, value in ranked], color=EQUITY_COLOUR, height=0.7)
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xlabel("Importance")
    hidden = len(names) - len(ranked)
    if hidden:
        axes.set_title(f"Largest {len(ranked)} of {len(names)} features", loc="left", fontsize=10)
    _declutter(axes)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    return _png(figure)


def _figure(*, width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")


def _declutter(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)


def _headline(metrics: Mapping[str, float]) -> str:
    return ", ".join(
        f"{label} {'undefined' if math.isnan(metrics[name]) else format(metrics[name], style)}"
        for label, name, style in (
            ("Annual return", "annual_return", ".1%"),
            ("volatility", "annual_volatility", ".1%"),
            ("Sharpe", "sharpe_ratio", ".2f"),
            ("largest drawdown", "max_drawdown", ".1%"),
        )
    )


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # Without the library's name and version in the file, equal figures are equal bytes.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
