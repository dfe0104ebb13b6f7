"""Entries: what a point came out as, as a plain value that can be sent to another process and kept.

Lives here: the value, and making it of accounts. Not here: keeping the accounts (`backtest`), ranks (`ranking`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Literal, TypeAlias

import numpy as np

from hf_pipelines.research import metrics
from hf_pipelines.research.backtest.grid import Floats
from hf_pipelines.research.backtest.many import can_keep_many, simulate_many
from hf_pipelines.research.backtest.panel import TradingPanel
from hf_pipelines.research.backtest.reference import simulate_panel
from hf_pipelines.research.backtest.result import BacktestResult, Execution, require_solvent
from hf_pipelines.research.costs import Costs

State: TypeAlias = Literal["completed", "failed", "ended", "not run"]
COMPLETED: State = "completed"
FAILED: State = "failed"
ENDED: State = "ended"
NOT_RUN: State = "not run"

# Numbers of an account that a sweep tells of each point.
SCORES = ("sharpe_ratio", "total_return", "max_drawdown", "turnover_per_year", "costs_total")


@dataclass(frozen=True, eq=False)
class PointEntry:
    """A point as it came out.

    Attributes
    ----------
    state : {"completed", "failed", "ended", "not run"}
        `ended`: the deadline came while it ran; `not run`: before it began.
    reason : str
        Why it has no scores.
    scores : mapping of str to float
        Keys of `SCORES`, NaN where undefined, as of `backtest`.
    sessions, returns : sequence
        Of the account, one return a session.
    """

    state: State
    reason: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    sessions: Sequence[date] = ()
    returns: Sequence[float] = ()


def score_accounts(
    panels: Sequence[TradingPanel], costs: Sequence[Costs], execution: Execution, *, periods_per_year: float
) -> list[PointEntry]:
    """The account of each pair of decisions and costs, kept by the reference.

    Parameters
    ----------
    panels : sequence of TradingPanel
        Of the same bars; they may differ in their weights.
    costs : sequence of Costs
        One for each panel.
    execution : Execution
    periods_per_year : float
        Bars in a year.

    Returns
    -------
    list of PointEntry
        The same numbers whether accounts are kept side by side or one by one. A ruined account is `failed`.
    """
    found: list[PointEntry | None] = [None] * len(panels)
    together: dict[tuple[int, ...], list[int]] = {}
    for at, (panel, own) in enumerate(zip(panels, costs, strict=True)):
        if can_keep_many(own, execution):
            # Side by side stand those of one grid and the same times of decision.
            same = next(
                (key for key, places in together.items() if is_one_grid(panels[places[0]], panel)), (len(together),)
            )
            together.setdefault(same, []).append(at)
        else:
            account = simulate_panel(panel, own, execution)
            result = BacktestResult(account=account, panel=panel, periods_per_year=periods_per_year)
            found[at] = entry_of_result(result) if (account.equity > 0.0).all() else PointEntry(FAILED)
    for places in together.values():
        first = panels[places[0]]
        weights = np.stack([panels[at].weights for at in places], axis=-1)
        many = simulate_many(first, weights, [costs[at] for at in places], execution)
        for column, at in enumerate(places):
            found[at] = _entry(
                first,
                np.ascontiguousarray(many.equity[:, column]),
                float(many.turnover[column]),
                float(many.costs[column]),
                periods_per_year,
            )
    return [_named(each, panel, own, execution) for each, panel, own in zip(found, panels, costs, strict=True)]


def entry_of_result(result: BacktestResult) -> PointEntry:
    """An account that another engine has kept, as an entry."""
    equity = result.account.equity
    turnover = float(metrics.turnover(result.account.traded_value, equity).sum())
    paid = float(sum(each.sum() for each in result.account.costs.values()))
    return _entry(result.panel, equity, turnover, paid, result.periods_per_year)


def _named(entry: PointEntry | None, panel: TradingPanel, costs: Costs, execution: Execution) -> PointEntry:
    """An entry, with the words of the engine where the account was ruined."""
    assert entry is not None
    if entry.state != FAILED:
        return entry
    try:
        require_solvent(simulate_panel(panel, costs, execution), panel)
    except ValueError as e:
        return replace(entry, reason=str(e))
    return entry


def is_one_grid(one: TradingPanel, other: TradingPanel) -> bool:
    """Whether two panels of the same bars have the same symbols, times and times of decision."""
    return one is other or (
        one.weights.shape == other.weights.shape
        and one.symbols.equals(other.symbols)
        and one.ts.equals(other.ts)
        and bool((one.is_decision == other.is_decision).all())
    )


def _entry(panel: TradingPanel, equity: Floats, turnover: float, paid: float, periods_per_year: float) -> PointEntry:
    if not (equity > 0.0).all():
        return PointEntry(FAILED, reason="the account was ruined")
    bars = metrics.returns_of(equity)
    days = panel.session.to_physical().to_numpy()
    # The last bar of each session.
    last = np.flatnonzero(np.append(np.diff(days) != 0, True))
    is_short = len(last) < metrics.ANNUAL_SESSIONS
    annual = {
        "sharpe_ratio": metrics.sharpe_ratio(bars, periods_per_year=periods_per_year),
        "turnover_per_year": turnover / max(len(bars), 1) * periods_per_year,
    }
    scores = {
        "total_return": metrics.total_return(equity),
        "max_drawdown": metrics.max_drawdown(equity),
        "costs_total": paid / equity[0],
        **(dict.fromkeys(annual, float("nan")) if is_short else annual),
    }
    returns = metrics.returns_of(equity[last]).tolist() if len(last) > 1 else []
    return PointEntry(
        COMPLETED,
        scores={name: float(scores[name]) for name in SCORES},
        sessions=tuple(panel.session.gather(last[1:]).to_list()),
        returns=tuple(returns),
    )
