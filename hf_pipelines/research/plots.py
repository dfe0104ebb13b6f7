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
import polars as pl

from hf_pipelines.research.backtest.account_baselines import AccountBaselines
from hf_pipelines.research.backtest.result import BacktestResult
from hf_pipelines.research.metrics import ANNUAL_SESSIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

EQUITY_COLOUR = "#1f4e79"
BASELINE_COLOURS = ("#8a6d3b", "#4f8a57")
DRAWDOWN_COLOUR = "#d08079"
DOTS_PER_INCH = 110
SHOWN_IMPORTANCES = 30
# As many as there are colours that can be told apart.
SHOWN_CURVES = 10

# Rows of a heat map whose labels can still be read on a screen.
SHOWN_SYMBOLS = 60
SHOWN_FEATURES = 60
NO_VALUE_COLOUR = "#c8c8c8"


def equity_png(result: BacktestResult, *, note: str = "", baselines: AccountBaselines | None = None) -> bytes:
    """Equity curve over the drawdown below it.

    Parameters
    ----------
    result : BacktestResult
    note : str
        What the account is, where it is not what could have been earned: above the numbers.
    baselines : AccountBaselines, optional
        Drawn behind the curve: lines, and a band of the random strategies.

    Returns
    -------
    bytes
        A PNG; the same result gives the same bytes.
    """
    from matplotlib.ticker import PercentFormatter, StrMethodFormatter

    session, equity = (result.equity["session"].to_numpy(), result.equity["equity"].to_numpy())
    figure = new_figure(width=8.0, height=4.8)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    if baselines is not None:
        _draw_baselines(top, baselines)
    top.plot(session, equity, color=EQUITY_COLOUR, linewidth=1.2, label="strategy")
    if baselines is not None:
        top.legend(fontsize=8, frameon=False, loc="upper left")
    top.set_ylabel("Equity")
    top.yaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
    top.set_title("\n".join(filter(None, (note, _headline(result.metrics)))), loc="left", fontsize=10)
    bottom.fill_between(session, result.equity["drawdown"].to_numpy(), color=DRAWDOWN_COLOUR, linewidth=0)
    bottom.set_ylim(bottom=0.0)
    bottom.invert_yaxis()
    bottom.set_ylabel("Drawdown")
    bottom.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0))
    for axes in (top, bottom):
        declutter(axes)
        axes.grid(axis="y", color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
    return png_of(figure)


def _draw_baselines(axes: Axes, baselines: AccountBaselines) -> None:
    band = baselines.band
    axes.fill_between(
        band["session"].to_numpy(),
        band["low"].to_numpy(),
        band["high"].to_numpy(),
        color=NO_VALUE_COLOUR,
        alpha=0.45,
        linewidth=0,
        label="random strategies, 5 to 95 %",
    )
    for (name, curve), colour in zip(baselines.curves.items(), BASELINE_COLOURS, strict=False):
        axes.plot(curve["session"].to_numpy(), curve["equity"].to_numpy(), color=colour, linewidth=0.9, label=name)


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
    figure = new_figure(width=7.0, height=0.9 + 0.24 * len(ranked))
    axes = figure.subplots()
    axes.barh([name for name, _ in ranked], [value for _, value in ranked], color=EQUITY_COLOUR, height=0.7)
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xlabel("Importance")
    hidden = len(names) - len(ranked)
    if hidden:
        axes.set_title(f"Largest {len(ranked)} of {len(names)} features", loc="left", fontsize=10)
    declutter(axes)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    return png_of(figure)


def coverage_png(coverage: pl.DataFrame) -> bytes:
    """Heat map of the share of features that have a value: symbols by sessions, the worst symbols on top.

    Parameters
    ----------
    coverage : DataFrame
        `symbol`, `session`, `coverage` in [0, 1], as `feature_coverage` gives it; a pair without a row is drawn grey.

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

    figure = new_figure(width=10.0, height=1.9 + 0.17 * max(shown.height, 9))
    axes = figure.subplots()
    image = _heat_map(axes, values, colours="viridis", low=0.0, high=1.0)
    labels = [f"{symbol}  {share:.0%}" for symbol, share in shown.rows()]
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylabel("Symbol and its mean")
    step = max(1, math.ceil(len(sessions) / 16))
    ticks = range(0, len(sessions), step)
    axes.set_xticks(list(ticks), [str(sessions[i]) for i in ticks], rotation=45, ha="right", fontsize=8)
    axes.set_xlabel("Session")
    rest = (
        f"the {shown.height} worst of {ranked.height} symbols; each of the others {_at_least(hidden['coverage'])}"
        if hidden.height
        else f"all {ranked.height} symbols, the worst on top"
    )
    axes.set_title(
        f"Features that have a value: {rest}\n(grey: not a member that session; 0%: no bar or no feature)",
        loc="left",
        fontsize=10,
    )
    bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02, format=PercentFormatter(xmax=1.0, decimals=0))
    bar.set_label("Features that are not NaN")
    return png_of(figure)


def correlations_png(correlations: pl.DataFrame, *, n_features: int, period: str) -> bytes:
    """Heat map of the correlations of features, in the order given.

    Parameters
    ----------
    correlations : DataFrame
        `feature` and one column a feature, in the same order, as `clustered` gives them; NaN is drawn grey.
    n_features : int
        How many features there are, shown or not.
    period : str
        What the correlations are of, for the title.

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
    side = 0.165 * max(len(names), 12)
    figure = new_figure(width=side + 3.4, height=side + 2.4)
    axes = figure.subplots()
    image = _heat_map(axes, correlations.select(names).to_numpy(), colours="RdBu_r", low=-1.0, high=1.0)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_xlabel("Feature")
    axes.set_ylabel("Feature")
    rest = (
        f"the {len(names)} of {n_features} features with the closest partner"
        if len(names) < n_features
        else f"all {n_features} features"
    )
    axes.set_title(f"Correlation of {rest},\nalike ones side by side; {period}", loc="left", fontsize=10)
    figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02).set_label("Rank correlation (grey: undefined)")
    return png_of(figure)


def losses_png(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> bytes:
    """Losses of fits by epoch: dotted of the training rows, solid of the validation rows with a mark at the best epoch.

    Parameters
    ----------
    curves : mapping of str to (training, validation)
        By the name of each fit; at most ten are drawn.

    Returns
    -------
    bytes
        A PNG; the same losses give the same bytes.
    """
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(width=8.0, height=4.0)
    axes = figure.subplots()
    shown = list(curves.items())[:SHOWN_CURVES]
    for at, (name, (training, validation)) in enumerate(shown):
        epochs = np.arange(1, len(validation) + 1)
        best = int(np.argmin(validation))
        colour = f"C{at}"
        axes.plot(epochs, training, color=colour, linewidth=0.9, linestyle=":")
        axes.plot(
            epochs, validation, color=colour, linewidth=1.4, label=f"{name}: {validation[best]:.4g} in epoch {best + 1}"
        )
        axes.plot([best + 1], [validation[best]], color=colour, marker="o", markersize=5)
    axes.set_xlabel("Epoch")
    axes.set_ylabel("Loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    rest = f" ({len(shown)} of {len(curves)} fits)" if len(shown) < len(curves) else ""
    axes.set_title(f"Losses of validation rows (dotted: of training rows){rest}", loc="left", fontsize=10)
    axes.legend(fontsize=8, frameon=False)
    declutter(axes)
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


def new_figure(*, width: float, height: float) -> Figure:
    """An empty figure in the house style; inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")


def declutter(axes: Axes) -> None:
    """Take away the lines above and at the right of axes, which say nothing."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)


def _headline(metrics: Mapping[str, float]) -> str:
    if metrics["n_sessions"] < ANNUAL_SESSIONS:
        return (
            f"Return {metrics['total_return']:.1%}, largest drawdown {metrics['max_drawdown']:.1%} "
            f"({metrics['n_sessions']:.0f} sessions: too few to annualise)"
        )
    return ", ".join(
        f"{label} {'undefined' if math.isnan(metrics[name]) else format(metrics[name], style)}"
        for label, name, style in (
            ("Annual return", "annual_return", ".1%"),
            ("volatility", "annual_volatility", ".1%"),
            ("Sharpe", "sharpe_ratio", ".2f"),
            ("largest drawdown", "max_drawdown", ".1%"),
        )
    )


def png_of(figure: Figure) -> bytes:
    """A figure as a PNG; equal figures are equal bytes."""
    buffer = io.BytesIO()
    # Without the library's name and version in the file, equal figures are equal bytes.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
