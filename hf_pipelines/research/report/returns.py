"""Returns: by month and year, over rolling windows, and how they are spread.

Lives here: sections of the account's returns. Not here: the account itself (`account`).
"""

from __future__ import annotations

import polars as pl

from hf_pipelines.research.account_summary import BARS, HEADLINE, LOSSES
from hf_pipelines.research.backtest.account_baselines import EQUAL_WEIGHT, RANDOM
from hf_pipelines.research.metrics import ANNUAL_SESSIONS
from hf_pipelines.research.report.account import CURVES, summary_table
from hf_pipelines.research.report.blocks import Axis, Block, Cell, Chart, Column, Heatmap, Series, Table, Text
from hf_pipelines.research.report.frames import (
    drawn,
    histogram,
    line_of,
    period_returns,
    rolling,
    session_returns,
)
from hf_pipelines.research.report.results import WeekResults

# A quarter: above the least that a figure of a year may be made of.
WINDOW = 63
assert WINDOW >= ANNUAL_SESSIONS

NO_RETURNS = "The account has one session, and no return."

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def calendar(results: WeekResults) -> list[Block]:
    """Months as a map, years as bars and numbers."""
    months, years = (period_returns(results.account, each) for each in ("1mo", "1y"))
    if months.is_empty():
        return [Text((NO_RETURNS,))]
    by_month = {(day.year, day.month): value for day, value in months.select("period", "value").rows()}
    names = [day.year for day in years["period"]]
    grid = Heatmap(
        name="months",
        title="Return of each month",
        about="A row a year, a column a month; losses in one colour, gains in another.",
        columns=MONTHS,
        rows=tuple(str(each) for each in names),
        values=tuple(
            tuple(drawn([by_month.get((year, at), float("nan"))])[0] for at in range(1, 13)) for year in names
        ),
    )
    bars = Chart(
        name="years",
        title="Return of each year",
        about="A bar a calendar year; the first and the last may be parts of one.",
        x=Axis("year", "category"),
        y=Axis("return", "fraction"),
        series=(Series(name="return", x=tuple(str(each) for each in names), y=drawn(years["value"]), mark="bar"),),
        height=220,
        level=0.0,
    )
    held = _benchmark_curve(results)
    beside = (
        {}
        if held is None
        else dict(
            period_returns(held.filter(pl.col("session") >= results.account["session"][0]), "1y")
            .select("period", "value")
            .iter_rows()
        )
    )
    rows = tuple(
        (
            Cell(str(day.year)),
            Cell(value, "fraction", "", f"account/year/{day.year}"),
            Cell(
                beside.get(day), "fraction", "the backtest stores no curve of a benchmark", f"benchmark/year/{day.year}"
            ),
            Cell(n, "count"),
        )
        for day, value, n in years.rows()
    )
    columns = (
        Column("year"),
        Column("return", "fraction"),
        Column("benchmark", "fraction"),
        Column("sessions", "count"),
    )
    return [grid, bars, Table(name="by-year", title="", columns=columns, rows=rows)]


def windows(results: WeekResults) -> list[Block]:
    """Sharpe ratio, volatility and beta over a quarter, as of each session."""
    returns = session_returns(results.account)
    if returns.height < WINDOW:
        return [Text((f"The account has {returns.height} returns; a window has {WINDOW}.",))]
    held = _benchmark(results)
    found = rolling(returns, held, sessions=WINDOW, a_year=results.sessions_per_year)
    charts: list[Block] = []
    for name, title, unit in (
        ("sharpe", "Sharpe ratio a year", "ratio"),
        ("volatility", "Volatility a year", "fraction"),
        ("beta", "Beta to the benchmark", "ratio"),
    ):
        if found[name].is_null().all():
            continue
        charts.append(
            Chart(
                name=f"rolling-{name}",
                title=f"{title}, last {WINDOW} sessions",
                about=f"A line: {title.lower()} over the {WINDOW} sessions that end with each session.",
                x=Axis("session", "date"),
                y=Axis(title.lower(), "fraction" if unit == "fraction" else "ratio"),
                series=(line_of(title, found["session"], found[name]),),
                height=200,
                level=0.0 if name != "volatility" else None,
            )
        )
    traded = results.account.group_by("session", maintain_order=True).agg(pl.col("turnover").sum()).sort("session")
    mean = traded["turnover"].rolling_mean(WINDOW)[WINDOW - 1 :]
    charts.append(
        Chart(
            name="rolling-turnover",
            title=f"Turnover of a session, mean of the last {WINDOW}",
            about=f"A line: the part of the equity that is traded in a session, on average over the {WINDOW} that end with each.",
            x=Axis("session", "date"),
            y=Axis("of the equity", "fraction"),
            series=(line_of("turnover", traded["session"][WINDOW - 1 :], mean),),
            height=200,
        )
    )
    if held is None:
        charts.append(Text(("No beta: the backtest stores no curve of a benchmark.",), "note"))
    return charts


def spread(results: WeekResults) -> list[Block]:
    """How returns of sessions are spread, and what the tails are."""
    returns = session_returns(results.account)
    if returns.is_empty():
        return [Text((NO_RETURNS,))]
    x, y = histogram(returns["value"])
    chart = Chart(
        name="spread",
        title="Returns of sessions",
        about="Bars: how many sessions had a return of that size.",
        x=Axis("return of a session", "fraction"),
        y=Axis("sessions", "count"),
        series=(Series(name="sessions", x=drawn(x), y=y, mark="bar"),),  # type: ignore[arg-type]
        height=240,
    )
    summary = results.table("backtest", "summary")
    if summary is None:
        return [chart]
    rows = results.of_middle(summary)
    tails = rows.filter(pl.col("group").is_in([LOSSES, BARS]))
    others = rows.filter(~pl.col("group").is_in([HEADLINE, LOSSES, BARS]))
    return [
        chart,
        summary_table(results, tails, "tails", "Losses and gains of bars"),
        summary_table(results, others, "others", "All other numbers of the account", shown_rows=8),
    ]


def _benchmark(results: WeekResults) -> pl.DataFrame | None:
    held = _benchmark_curve(results)
    return None if held is None else session_returns(held)


def _benchmark_curve(results: WeekResults) -> pl.DataFrame | None:
    curves = results.table("backtest", CURVES)
    if curves is None:
        return None
    held = curves.filter(~pl.col("account").is_in([EQUAL_WEIGHT, RANDOM]))
    return None if held.is_empty() else held.with_columns(ts=pl.col("session"))
