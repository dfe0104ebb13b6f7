"""Account: what it earned, how deep it fell, and what it is held to.

Lives here: sections of the stored backtest. Not here: its numbers (`account_summary`), its curves of others (`backtest.account_baselines`).
"""

from __future__ import annotations

import polars as pl

from hf_pipelines.research.account_summary import ACCOUNT_METRICS, BENCHMARK, HEADLINE
from hf_pipelines.research.backtest.account_baselines import EQUAL_WEIGHT, RANDOM
from hf_pipelines.research.metrics import ANNUAL_SESSIONS
from hf_pipelines.research.report.blocks import (
    Axis,
    Block,
    Cell,
    Chart,
    Column,
    Missing,
    Role,
    Series,
    Table,
    Text,
    Unit,
    table_of,
)
from hf_pipelines.research.report.frames import before_costs, by_session, drawn, line_of, thinned
from hf_pipelines.research.report.results import WeekResults

UNITS: dict[str, Unit] = {
    "fraction": "fraction",
    "fraction a year": "fraction",
    "fraction of the initial cash": "fraction",
    "ratio": "ratio",
    "ratio a year": "ratio",
    "bars": "count",
    "count": "count",
}

# Beside a value that says itself whether it is a fraction.
SPANS = {
    "fraction": "",
    "fraction a year": "a year",
    "fraction of the initial cash": "of the initial cash",
    "ratio": "",
    "ratio a year": "a year",
    "bars": "bars",
    "count": "",
}

# A multiple of the equity, although its unit is a fraction a year.
MULTIPLES = ("turnover_per_year",)

TOO_SHORT = f"fewer than {ANNUAL_SESSIONS} sessions have no figure of a year"

MOST_DRAWDOWNS = 10

# Stages and tables, for commands that make what lacks.
CURVES = "baseline_curves"


def numbers(results: WeekResults) -> list[Block]:
    """The headline with its intervals, and what it is held to."""
    summary = results.table("backtest", "summary")
    baselines = results.table("backtest", "baselines")
    blocks: list[Block] = []
    if summary is not None:
        blocks.append(summary_table(results, results.of_middle(summary).filter(group=HEADLINE), "headline", "Headline"))
    if baselines is not None:
        blocks.append(
            table_of(
                baselines,
                {
                    "account": Column("account"),
                    "total_return": Column("return", "fraction"),
                    "annual_return": Column("return a year", "fraction"),
                    "annual_volatility": Column("volatility a year", "fraction"),
                    "sharpe_ratio": Column("Sharpe ratio a year", "ratio"),
                    "max_drawdown": Column("largest drawdown", "fraction"),
                    "turnover_per_year": Column("turnover a year", "ratio"),
                    "costs_total": Column("costs, of initial cash", "fraction"),
                },
                name="baselines",
                title="Beside accounts that take no skill",
                reason=f"not defined of this account: {TOO_SHORT}, and a quantile is of one number by itself",
                key="backtest/baselines",
            )
        )
    return blocks


def summary_table(
    results: WeekResults, rows: pl.DataFrame, name: str, title: str, *, shown_rows: int | None = None
) -> Table:
    """Numbers of the stored summary, with intervals where they have some."""
    is_short = results.account["session"].n_unique() < ANNUAL_SESSIONS
    cells = []
    for row in rows.iter_rows(named=True):
        metric = ACCOUNT_METRICS.get(row["metric"])
        unit = "ratio" if row["metric"] in MULTIPLES else UNITS[row["unit"]]
        meaning = "paid of a kind that the engine charges" if metric is None else metric.meaning
        why = (
            TOO_SHORT
            if is_short and "a year" in row["unit"]
            else f"{row['metric'].replace('_', ' ')} is not defined of this account"
        )
        if metric is not None and metric.group == BENCHMARK and row["value"] is None and not is_short:
            why = "the benchmark has no bars beside this account"
        shown = [
            Cell(row[each], unit, why, f"backtest/summary/{row['metric']}/{each}") for each in ("value", "low", "high")
        ]
        bounds = [each if each.is_defined else Cell("") for each in shown[1:]]
        cells.append(
            (Cell(row["metric"].replace("_", " ")), shown[0], *bounds, Cell(SPANS[row["unit"]]), Cell(meaning))
        )
    columns = (
        Column("number"),
        Column("value", "number"),
        Column("low", "number"),
        Column("high", "number"),
        Column("per"),
        Column("what it is"),
    )
    return Table(
        name=name,
        title=title,
        columns=columns,
        rows=tuple(cells),
        note="Low and high: an interval of 95 %, where there is one.",
        shown_rows=shown_rows,
    )


def equity(results: WeekResults) -> list[Block]:
    """Equity after and before costs, beside the benchmark, equal weights and random strategies."""
    account = by_session(results.account.with_columns(before=before_costs(results.account)))
    curves = results.table("backtest", CURVES)
    first = float(account["equity"][0])
    series = [
        _line("after costs", account, "equity", first, "own"),
        _line("before costs", account, "before", first, "before", is_dashed=True),
    ]
    blocks: list[Block] = []
    if curves is None:
        blocks.append(
            Missing(
                "Curves of the benchmark, equal weights and random strategies are not stored with this backtest.",
                f"hfp materialise {results.strategy}/backtest --from {results.week}",
            )
        )
    else:
        series = [*_others(curves, first), *series]
    chart = Chart(
        name="equity",
        title="Growth of 1, after and before costs",
        about="Lines of the account after and before costs, of the benchmark and of equal weights; a band of random strategies from 5 to 95 %.",
        x=Axis("session", "date"),
        y=Axis("growth of 1", "ratio"),
        series=tuple(series),
        height=360,
    )
    told = "Before costs: what was paid is added back as it was, without what it would have earned since."
    return [*blocks, chart, Text((told,), "plain")]


def drawdown(results: WeekResults) -> list[Block]:
    """How far below its peak it was, and its worst falls."""
    account = by_session(results.account)
    chart = Chart(
        name="underwater",
        title="Below the last peak",
        about="An area below zero: how far the account was below its highest value so far.",
        x=Axis("session", "date"),
        y=Axis("below the peak", "fraction"),
        series=(line_of("drawdown", account["session"], -account["drawdown"], mark="area", role="bad"),),
        height=200,
    )
    found = results.table("backtest", "drawdowns")
    if found is None:
        return [chart]
    rows = found.with_row_index("stored_row")
    worst = results.of_middle(rows).sort("depth", descending=True).head(MOST_DRAWDOWNS)
    columns = {
        "start": Column("peak", "date"),
        "trough": Column("bottom", "date"),
        "end": Column("recovered", "date"),
        "depth": Column("depth", "fraction"),
        "sessions": Column("sessions", "count"),
    }
    return [
        chart,
        table_of(
            worst,
            columns,
            name="drawdowns",
            title="Worst drawdowns",
            reason="not recovered by the last session",
            key="backtest/drawdowns",
            at=worst["stored_row"].to_list(),
        ),
    ]


def _line(name: str, frame: pl.DataFrame, column: str, first: float, role: Role, *, is_dashed: bool = False) -> Series:
    return line_of(name, frame["session"], frame[column] / first, role=role, is_dashed=is_dashed)


def _others(curves: pl.DataFrame, first: float) -> list[Series]:
    found = []
    band = curves.filter(account=RANDOM).sort("session")
    if band.height:
        x, low, high = thinned(band["session"], band["low"] / first, band["high"] / first)
        found.append(
            Series(
                name="random, 5 to 95 %",
                x=tuple(x.to_list()),
                y=(None,) * len(x),
                low=drawn(low),
                high=drawn(high),
                role="random",
            )
        )
    for (name,), curve in (
        curves.filter(pl.col("account") != RANDOM).partition_by("account", as_dict=True, maintain_order=True).items()
    ):
        role: Role = "equal" if name == EQUAL_WEIGHT else "benchmark"
        frame = by_session(curve.with_columns(ts=pl.col("session")))
        found.append(_line(str(name), frame, "equity", float(frame["equity"][0]), role))
    return found
