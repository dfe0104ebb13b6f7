"""Trades: positions from flat to flat, by symbol, and how long they were held.

Lives here: sections of the stored round trips. Not here: how trips are made of fills (`backtest.round_trips`).
"""

from __future__ import annotations

import polars as pl

from hf_pipelines.research.report.blocks import MOST_ROWS, Axis, Block, Chart, Column, Series, Text, table_of
from hf_pipelines.research.report.frames import drawn, extremes, histogram
from hf_pipelines.research.report.results import WeekResults


def trades(results: WeekResults) -> list[Block]:
    """Wins and losses of trades, by symbol."""
    found = results.table("backtest", "round_trips")
    trips = None if found is None else results.of_middle(found)
    if trips is None or trips.is_empty():
        return [Text(("It made no trade from flat to flat.",))]
    x, y = histogram(trips["return"])
    hold, n = histogram(trips["holding_bars"].cast(pl.Float64), n_bins=30)
    gained, lost = ((pl.col("pnl") > 0.0), (pl.col("pnl") < 0.0))
    by_symbol = (
        trips.group_by("symbol")
        .agg(
            n=pl.len(),
            won=pl.when((gained | lost).sum() > 0).then(gained.sum() / (gained | lost).sum()),
            mean_win=pl.col("return").filter(gained).mean(),
            mean_loss=pl.col("return").filter(lost).mean(),
            pnl=pl.col("pnl").sum(),
            costs=pl.col("costs").sum(),
            holding=pl.col("holding_bars").mean(),
        )
        .sort("pnl", "symbol", descending=[True, False])
    )
    shown, left_out = extremes(by_symbol, "pnl", most=MOST_ROWS)
    money = f", {results.currency}" if results.currency else ""
    columns = {
        "symbol": Column("symbol"),
        "n": Column("trades", "count"),
        "won": Column("won", "fraction"),
        "mean_win": Column("mean win", "fraction"),
        "mean_loss": Column("mean loss", "fraction"),
        "pnl": Column(f"profit after costs{money}", "amount"),
        "costs": Column(f"costs{money}", "amount"),
        "holding": Column("bars held", "ratio"),
    }
    return [
        _bars("trade-returns", "Return of each trade", "trades", "return over the entry's value", "fraction", x, y),
        _bars("holding", "How long trades are held", "trades", "bars", "number", hold, n),
        table_of(
            shown,
            columns,
            name="by-symbol",
            title="By symbol",
            reason="no trade of this symbol won, or none lost",
            key="by_symbol",
            note=left_out,
            shown_rows=12,
        ),
    ]


def _bars(
    name: str, title: str, y_title: str, x_title: str, unit: str, x: tuple[float, ...], y: tuple[float, ...]
) -> Chart:
    return Chart(
        name=name,
        title=title,
        about=f"Bars: how many {y_title} have that value.",
        x=Axis(x_title, "fraction" if unit == "fraction" else "number"),
        y=Axis(y_title, "count"),
        series=(Series(name=y_title, x=drawn(x), y=y, mark="bar"),),  # type: ignore[arg-type]
        height=220,
    )
