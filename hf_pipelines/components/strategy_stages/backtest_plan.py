"""Backtest plan: the account that a strategy asks for.

Lives here: its part of the plan. Does not live here: the YAML (`strategy_fields`), the asset (`backtest`).
"""

from dataclasses import dataclass
from typing import Any

from hf_pipelines.research.backtest import ENGINES, Execution
from hf_pipelines.research.bars import BARS_SCHEMA
from hf_pipelines.research.cost_kinds import COST_KINDS
from hf_pipelines.research.costs import Costs


@dataclass(frozen=True)
class BacktestPlan:
    """A key of `ENGINES` and the account that it simulates."""

    engine: str
    execution: Execution
    costs: Costs

    @property
    def functions(self) -> tuple[Any, ...]:
        """What keeps the account; for code versions."""
        return (ENGINES[self.engine].run, *self.cost_functions)

    @property
    def cost_functions(self) -> tuple[Any, ...]:
        """What costs are made by, whatever engine keeps the account."""
        return tuple(COST_KINDS[name].build for name, _ in self.costs.kinds)

    @property
    def features(self) -> tuple[str, ...]:
        """Features of the strategy that the costs read."""
        return tuple(name for name in self.costs.columns if name not in BARS_SCHEMA)
