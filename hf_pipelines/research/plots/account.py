"""Figure of an account: equity beside the benchmark, drawdown, exposure and costs.

Lives here: a result in, PNG bytes out. Not here: the result (`backtest`), the table beside the figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from hf_pipelines.research.backtest.account_baselines import AccountBaselines
from hf_pipelines.research.backtest.result import COSTS_OF_BARS, BacktestResult
from hf_pipelines.research.cost_kinds import COST_KINDS
from hf_pipelines.research.metrics import ANNUAL_SESSIONS
from hf_pipelines.research.plots.style import (
    BAD_COLOUR,
    GREEN,
    MUTED_COLOUR,
    NO_VALUE_COLOUR,
    ORANGE,
    OWN_COLOUR,
    SMALL_SIZE,
    date_ticks,
    declutter,
    footer,
    money_ticks,
    new_figure,
    percent_ticks,
    png_of,
    title,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BASELINE_COLOURS = (ORANGE, GREEN)
KIND_COLOURS = (OWN_COLOUR, ORANGE, GREEN, "0.2")

# Columns of an account's equity that are no costs: an engine may know kinds of its own.
NO_COSTS = ("session", "ts", "equity", "cash", "gross_exposure", "net_exposure", "turnover", "dividends", "drawdown")

# An account that never lost anything has an axis all the same.
LEAST_DRAWDOWN = 0.01


@dataclass(frozen=True, kw_only=True)
class AccountLabel:
    """What an account is of.

    Attributes
    ----------
    name : str
        The strategy, and the week whose partition holds the account.
    currency : str
        Of the prices; "" where it is not known.
    kind : str
        How the account came to be: "simulated", "issued live".
    """

    name: str = ""
    currency: str = ""
    kind: str = "simulated"


def equity_png(
    result: BacktestResult,
    *,
    label: AccountLabel | None = None,
    note: str = "",
    baselines: AccountBaselines | None = None,
    benchmark: tuple[str, pl.DataFrame] | None = None,
) -> bytes:
    """Equity curve over drawdown, exposure and the costs paid so far.

    Parameters
    ----------
    result : BacktestResult
    label : AccountLabel, optional
        For the title.
    note : str
        What the account is, where it is not what could have been earned: above the numbers.
    baselines : AccountBaselines, optional
        Drawn behind the curve: lines, and a band of the random strategies.
    benchmark : (str, DataFrame), optional
        Name, and `ts`, `value` as of `benchmark_index`, where there are no baselines.

    Returns
    -------
    bytes
        A PNG; the same result gives the same bytes.
    """
    label = label or AccountLabel()
    equity = result.equity
    session = equity["session"].to_numpy()
    figure = new_figure(height=6.2)
    top, drawdown, exposure, costs = figure.subplots(4, 1, sharex=True, height_ratios=[3.0, 1.0, 0.9, 0.8])
    others = _others(equity, baselines, benchmark)
    if baselines is not None:
        _draw_band(top, baselines)
    for (name, curve), colour in zip(others.items(), BASELINE_COLOURS, strict=False):
        top.plot(curve["session"].to_numpy(), curve["equity"].to_numpy(), color=colour, linewidth=1.0, label=name)
    top.plot(session, equity["equity"].to_numpy(), color=OWN_COLOUR, linewidth=1.4, label="strategy")
    if others or baselines is not None:
        top.legend(fontsize=SMALL_SIZE, frameon=False, loc="upper left", ncols=2)
        # Room for the legend above the curves.
        low, high = top.get_ylim()
        top.set_ylim(low, high + 0.22 * (high - low))
    top.set_ylabel(f"Equity, {label.currency}" if label.currency else "Equity")
    money_ticks(top.yaxis)

    fall = equity["drawdown"].to_numpy()
    drawdown.fill_between(session, fall, color=BAD_COLOUR, linewidth=0)
    drawdown.set_ylim(1.05 * max(float(fall.max(initial=0.0)), LEAST_DRAWDOWN), 0.0)
    drawdown.set_ylabel("Drawdown")
    exposure.fill_between(session, equity["gross_exposure"].to_numpy(), color=NO_VALUE_COLOUR, linewidth=0, step="post")
    exposure.plot(session, equity["net_exposure"].to_numpy(), color="0.2", linewidth=0.9, drawstyle="steps-post")
    exposure.set_ylabel("Exposure")
    by_kind = _costs_so_far(equity)
    paid = np.sum([*by_kind.values()], axis=0)
    if len(by_kind) > 1:
        for (kind, values), colour in zip(_largest(by_kind).items(), KIND_COLOURS, strict=False):
            costs.plot(session, values, color=colour, linewidth=0.9, label=kind.replace("_", " "))
    costs.plot(session, paid, color=MUTED_COLOUR, linewidth=1.1, label="all")
    if len(by_kind) > 1:
        # Above the axes: the lines begin at their lower left and fill the rest.
        costs.legend(
            fontsize=SMALL_SIZE, frameon=False, loc="lower left", bbox_to_anchor=(0.0, 0.92), ncols=5, handlelength=1.0
        )
    # Below zero where interest is received.
    lowest = min(float(each.min(initial=0.0)) for each in (paid, *_largest(by_kind).values()))
    costs.set_ylim(bottom=1.1 * lowest, top=max(1.1 * float(paid.max(initial=0.0)), 1e-4))
    costs.set_ylabel("Costs")
    for axes in (drawdown, exposure, costs):
        percent_ticks(axes.yaxis, n=3)
    for axes in (top, drawdown, exposure, costs):
        declutter(axes, grid="y")
    date_ticks(costs)
    figure.align_ylabels()
    period = f"{equity['session'][0]} to {equity['session'][-1]}"
    title(figure, ", ".join(filter(None, (label.name, label.kind))), period, note, headline(result.metrics))
    footer(
        figure,
        "Exposure: gross (grey) and net (line), of the equity. Costs: paid so far, of the initial cash.",
        account_costs(result.metrics),
    )
    return png_of(figure)


def headline(metrics: Mapping[str, float]) -> str:
    """What an account did, in a line: nothing annualised of fewer than `ANNUAL_SESSIONS` sessions."""
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


def account_costs(metrics: Mapping[str, float]) -> str:
    """What an account paid and held, in a line."""
    totals = dict.fromkeys(f"{kind}_total" for kind in (*COSTS_OF_BARS, *COST_KINDS))
    kinds = [
        f"{name.removesuffix('_total').replace('_', ' ')} {metrics[name]:.2%}" for name in totals if metrics.get(name)
    ]
    told = f"Costs {metrics['costs_total']:.2%} of the initial cash" + (f" ({', '.join(kinds)})" if kinds else "")
    return f"{told}; mean gross exposure {metrics['mean_gross_exposure']:.0%}."


def _others(
    equity: pl.DataFrame, baselines: AccountBaselines | None, benchmark: tuple[str, pl.DataFrame] | None
) -> Mapping[str, pl.DataFrame]:
    """What the account is drawn beside, each with `session` and `equity`."""
    if baselines is not None:
        return baselines.curves
    if benchmark is None:
        return {}
    name, index = benchmark
    beside = equity.select("session", "ts").join(index, on="ts", how="inner").sort("ts")
    grown = pl.col("value") / pl.col("value").first() * float(equity["equity"][0])
    return {f"{name}, held (no costs)": beside.select("session", equity=grown)} if beside.height else {}


def _costs_so_far(equity: pl.DataFrame) -> dict[str, np.ndarray]:
    """Paid from the first bar to each, over the equity of the first, by kind; those of which nothing was paid are left out."""
    paid = {each.name: each.to_numpy() for each in equity.select(pl.exclude(NO_COSTS))}
    so_far = {kind: np.cumsum(values) / equity["equity"][0] for kind, values in paid.items() if values.any()}
    return so_far or {"fees": np.zeros(equity.height)}


def _largest(by_kind: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The kinds of which most was paid in the end, and all others as one."""
    order = sorted(by_kind, key=lambda kind: -abs(by_kind[kind][-1]))
    shown, others = order[: len(KIND_COLOURS) - 1], order[len(KIND_COLOURS) - 1 :]
    if len(others) == 1:
        shown, others = order, []
    return {kind: by_kind[kind] for kind in shown} | (
        {"others": np.sum([by_kind[kind] for kind in others], axis=0)} if others else {}
    )


def _draw_band(axes: Axes, baselines: AccountBaselines) -> None:
    band = baselines.band
    axes.fill_between(
        band["session"].to_numpy(),
        band["low"].to_numpy(),
        band["high"].to_numpy(),
        color=NO_VALUE_COLOUR,
        alpha=0.5,
        linewidth=0,
        label="random, 5 to 95 %",
    )
