"""Backtest engines: (target weights, bars, costs) -> `BacktestResult`.

Lives here: the registry of engines, one module each. Shared by all of them: `panel.py` (frames to aligned
arrays) and `result.py` (account to frames). Not here: how weights are made (`signals.py`), costs themselves
(`costs.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import polars as pl

from hf_pipelines.research.backtest.panel import TradingPanel, build_trading_panel
from hf_pipelines.research.backtest.reference import DEFAULT_INITIAL_CASH, run_backtest, simulate
from hf_pipelines.research.backtest.result import Account, BacktestResult, Fill, build_result
from hf_pipelines.research.costs import Costs

__all__ = [
    "ENGINES",
    "BacktestResult",
    "Engine",
    "Fill",
    "Account",
    "RunBacktest",
    "TradingPanel",
    "build_result",
    "build_trading_panel",
    "run_backtest",
    "simulate",
]


class RunBacktest(Protocol):
    """The call every engine answers; `reference.run_backtest` says what each argument means."""

    def __call__(
        self,
        weights: pl.DataFrame,
        bars: pl.DataFrame,
        costs: Costs,
        *,
        periods_per_year: float,
        initial_cash: float = DEFAULT_INITIAL_CASH,
        fill: Fill = "next_open",
    ) -> BacktestResult:
        """Simulate an account that follows `weights`."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A way to run a backtest.

    Attributes
    ----------
    name : str
        Key in `ENGINES`.
    run : RunBacktest
    summary : str
        One line for people choosing an engine.
    """

    name: str
    run: RunBacktest
    summary: str


ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (Engine(name="reference", run=run_backtest, summary="Exact cash ledger, compiled by numba."),)
}
