"""Overview: all strategies side by side, how alike their returns are, and the book of them together.

Lives here: sections of a page about several strategies. Not here: one strategy (`registry`), its tests against another (`comparison`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import combinations

import numpy as np
import polars as pl

from hf_pipelines.research.comparison import probability_of_higher_sharpe
from hf_pipelines.research.metrics import ANNUAL_SESSIONS
from hf_pipelines.research.promotion import Decision
from hf_pipelines.research.report.account import TOO_SHORT
from hf_pipelines.research.report.blocks import (
    Axis,
    Block,
    Cell,
    Chart,
    Column,
    Heatmap,
    Missing,
    Table,
    Text,
    Unit,
    table_of,
)
from hf_pipelines.research.report.frames import line_of
from hf_pipelines.research.report.page import PageFiles, Shown, render
from hf_pipelines.research.signal_quality import book_of

# Of each account, in the table: name of the stored number, heading, unit.
NUMBERS: tuple[tuple[str, str, Unit], ...] = (
    ("total_return", "return", "fraction"),
    ("annual_return", "return a year", "fraction"),
    ("sharpe_ratio", "Sharpe ratio a year", "ratio"),
    ("max_drawdown", "largest drawdown", "fraction"),
    ("turnover_per_year", "turnover a year", "ratio"),
    ("costs_total", "costs, of initial cash", "fraction"),
    ("n_sessions", "sessions", "count"),
)

FEW = f"fewer than {ANNUAL_SESSIONS} sessions in common"


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """A strategy of the overview: its latest week with a backtest.

    Attributes
    ----------
    name, week : str
    decision : Decision
    metrics : mapping of str to float
    returns : mapping of date to float
        Net returns of its account by session.
    sessions_per_year : float
    """

    name: str
    week: str
    decision: Decision
    metrics: Mapping[str, float]
    returns: Mapping[date, float]
    sessions_per_year: float


def make_overview(strategies: Sequence[Strategy], without: Sequence[str], files: PageFiles, *, until: date) -> bytes:
    """The page of several strategies.

    Parameters
    ----------
    strategies : sequence of Strategy
        At least one.
    without : sequence of str
        Names of those without a backtest.
    files : PageFiles
    until : date
        When it was made.
    """
    passed = [each.name for each in strategies if each.decision.is_passed]
    n = len(strategies)
    if passed:
        lead = f"{len(passed)} of {n} strategies pass{'es' * (len(passed) == 1)} every gate: {', '.join(passed)}."
    else:
        lead = f"None of {n} strategies passes its gates." if n > 1 else "The one strategy does not pass its gates."
    shown = (
        Shown("verdicts", "Verdicts", _verdicts(strategies, without)),
        Shown("growth", "Equity", _growth(strategies)),
        Shown("alike", "Correlation", _alike(strategies)),
        Shown("book", "Book", _book(strategies)),
        Shown("pairs", "Two by two", _pairs(strategies)),
    )
    return render(
        "page.html",
        shown,
        files,
        title="All strategies",
        lead=lead,
        tone="good" if passed else "bad",
        under=[
            "Accounts of out-of-fold predictions, simulated after costs; each strategy's latest week with a backtest."
        ],
        foot=f"Made of what was stored until {until}; every number is that of the stored table.",
    )


def _verdicts(strategies: Sequence[Strategy], without: Sequence[str]) -> list[Block]:
    rows = []
    for each in strategies:
        failed = len(each.decision.failed)
        verdict = "passes" if each.decision.is_passed else f"{failed} of {len(each.decision.gates)} gates fail"
        deflated = next((gate for gate in each.decision.gates if gate.gate == "deflated_sharpe"), None)
        value = deflated.value if deflated is not None and isinstance(deflated.value, float) else None
        why = "the ledger has no returns of it, or too few sessions"
        rows.append(
            (
                Cell(each.name),
                Cell(each.week, "date"),
                Cell(verdict),
                Cell(value, "fraction", why, f"{each.name}/gates/deflated_sharpe"),
                *(
                    Cell(each.metrics.get(name), unit, TOO_SHORT, f"{each.name}/backtest/summary/{name}/value")
                    for name, _, unit in NUMBERS
                ),
            )
        )
    columns = (
        *(Column("strategy"), Column("week", "date"), Column("verdict"), Column("deflated Sharpe ratio", "fraction")),
        *(Column(title, unit) for _, title, unit in NUMBERS),
    )
    missing = [
        Missing(f"{name} has no backtest.", f"hfp retrain {name} --week SUNDAY --with-inputs") for name in without
    ]
    note = "Deflated: probability that the Sharpe ratio is above 0, given every trial that counts."
    return [Table(name="strategies", title="", columns=columns, rows=tuple(rows), note=note), *missing]


def _growth(strategies: Sequence[Strategy]) -> list[Block]:
    """A small figure each, on one axis of time and one of growth."""
    found: list[Block] = []
    for at, each in enumerate(strategies):
        sessions = sorted(each.returns)
        if not sessions:
            found.append(Text((f"{each.name} has no return by session.",)))
            continue
        grown = np.cumprod([1.0 + each.returns[day] for day in sessions])
        found.append(
            Chart(
                name=f"growth-{at}",
                title=each.name,
                about=f"A line: growth of 1 by {each.name} after costs.",
                x=Axis("session", "date"),
                y=Axis("growth of 1", "ratio"),
                series=(line_of(each.name, pl.Series(sessions), pl.Series(grown), most=400),),
                height=160,
                level=1.0,
            )
        )
    return found


def _alike(strategies: Sequence[Strategy]) -> list[Block]:
    names = tuple(each.name for each in strategies)
    if len(names) < 2:
        return [Text(("One strategy is beside no other.",))]
    values = tuple(
        tuple(1.0 if one is other else _correlation(one, other) for other in strategies) for one in strategies
    )
    return [
        Heatmap(
            name="correlations",
            title="Correlation of returns, on sessions that both have",
            about="A grid of strategies: the correlation of the returns of each two.",
            columns=names,
            rows=names,
            values=tuple(tuple(None if each is None else float(f"{each:.6g}") for each in row) for row in values),
            unit="ratio",
        )
    ]


def _book(strategies: Sequence[Strategy]) -> list[Block]:
    """Each strategy beside all the others together."""
    series: dict[str, Mapping[object, float]] = {
        each.name: {day: value for day, value in each.returns.items()} for each in strategies
    }
    rows = [
        book_of(series, each.name, sessions_per_year=each.sessions_per_year)
        .with_columns(strategy=pl.lit(each.name))
        .tail(1)
        for each in strategies
    ]
    found = pl.concat(rows)
    if found.is_empty():
        return [Text(("One strategy makes no book.",))]
    columns = {
        "strategy": Column("strategy"),
        "n_sessions": Column("sessions in common", "count"),
        "correlation": Column("correlation with all others", "ratio"),
        "sharpe_without": Column("Sharpe ratio of the others a year", "ratio"),
        "sharpe_with": Column("with it", "ratio"),
    }
    return [
        table_of(
            found,
            columns,
            name="book-table",
            title="The book of all, each at the same volatility, without and with each",
            reason=FEW,
            key="book",
        )
    ]


def _pairs(strategies: Sequence[Strategy]) -> list[Block]:
    rows = []
    for one, other in combinations(strategies, 2):
        common = sorted({*one.returns} & {*other.returns})
        a, b = (np.array([each.returns[day] for day in common]) for each in (one, other))
        is_known = len(common) >= ANNUAL_SESSIONS
        better = probability_of_higher_sharpe(a, b, sessions_per_year=one.sessions_per_year) if is_known else None
        key = f"pairs/{one.name}/{other.name}"
        rows.append(
            (
                Cell(one.name),
                Cell(other.name),
                Cell(len(common), "count", "", f"{key}/n_sessions"),
                Cell(_correlation(one, other), "ratio", FEW, f"{key}/correlation"),
                Cell(better, "fraction", FEW, f"{key}/better"),
                Cell(f"`hfp compare {one.name} {other.name}`"),
            )
        )
    if not rows:
        return [Text(("One strategy is compared with no other.",))]
    columns = (
        Column("one"),
        Column("other"),
        Column("sessions in common", "count"),
        Column("correlation", "ratio"),
        Column("probability that the one's Sharpe ratio is higher", "fraction"),
        Column("in full"),
    )
    return [Table(name="pairs-table", title="", columns=columns, rows=tuple(rows), shown_rows=20)]


def _correlation(one: Strategy, other: Strategy) -> float | None:
    common = sorted({*one.returns} & {*other.returns})
    table = np.array([[each.returns[day] for day in common] for each in (one, other)])
    if len(common) < ANNUAL_SESSIONS or not (table.std(axis=1) > 0.0).all():
        return None
    return float(np.corrcoef(table)[0, 1])
