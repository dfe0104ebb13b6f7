"""From target weights and bars to a result, whoever keeps the account.

Lives here: the steps that all engines of the contract share. Not here: keeping the account (`reference.py` and the other engines).
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from hf_pipelines.research.backtest.account import Account
from hf_pipelines.research.backtest.limited import require_small_lots
from hf_pipelines.research.backtest.panel import TradingPanel, build_trading_panel
from hf_pipelines.research.backtest.result import BacktestResult, Execution, build_result, columns_of
from hf_pipelines.research.costs import Costs

Keep = Callable[[TradingPanel, Costs, Execution], Account]


def run_kept(
    keep: Keep, weights: pl.DataFrame, bars: pl.DataFrame, costs: Costs, execution: Execution, periods_per_year: float
) -> BacktestResult:
    """Align the frames, have the account kept, and refuse what is none.

    Raises
    ------
    ValueError
        As `run_backtest`.
    """
    panel = build_trading_panel(weights, bars, extra=columns_of(execution, costs))
    account = keep(panel, costs, execution)
    require_small_lots(account, panel, execution)
    return build_result(account, panel, periods_per_year=periods_per_year)
