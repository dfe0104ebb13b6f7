"""Figures of a promotion: what a portfolio layer is told of a configuration, each as a number or with the reason why it has none.

Lives here: which stored number is which figure. Does not live here: the gates (`research.promotion`), where figures are sent
(`resources.promotions.outbox`).
"""

import math
from typing import Any

from hf_pipelines.components.strategy_stages.evidence import account_figures
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.research.promotion import Evidence
from hf_pipelines.research.promotion.decision import SELECTED
from hf_pipelines.research.promotion.payload import FIGURES
from hf_pipelines.resources.partition_store import PartitionStore

# Figures that `Evidence` has, by its names.
OF_EVIDENCE = {
    "confidence": "deflated_sharpe",
    "sharpe": "sharpe",
    "sharpe_low": "sharpe_low",
    "max_drawdown": "max_drawdown",
    "turnover_per_year": "turnover_per_year",
}

UNMEASURED = {
    "expected_return": "the account has too few sessions for an annual figure",
    "confidence": "the ledger of trials cannot be read whole, or has no trial of this account",
    "sharpe": "the account has too few sessions for an annual figure",
    "sharpe_low": "the account has too few sessions for an interval",
    "sharpe_high": "the account has too few sessions for an interval",
    "max_drawdown": "nothing was traded",
    "turnover_per_year": "the account has too few sessions for an annual figure",
    "capacity": "no volumes are known of what is traded, or the week has no validation",
}

UNBOUNDED = "no market impact was found at any size"


def figures_of(plan: StrategyPlan, store: PartitionStore, week: str, evidence: Evidence) -> dict[str, Any]:
    """Every figure of `research.promotion.payload.FIGURES`: `value` (None: not known) and `why` it is not known, else ""."""
    found = {
        **{name: getattr(evidence, of) for name, of in OF_EVIDENCE.items()},
        **account_figures(plan, store, week),
    }
    if evidence.capacity_multiple is not None:
        found["capacity"] = evidence.capacity_multiple * plan.backtest.execution.initial_cash
    return {name: _figure(name, found.get(name), is_selected=bool(evidence.selected)) for name in FIGURES}


def _figure(name: str, value: float | None, *, is_selected: bool) -> dict[str, Any]:
    if is_selected:
        return {"value": None, "why": SELECTED}
    if value is None or math.isnan(value):
        return {"value": None, "why": UNMEASURED[name]}
    return {"value": float(value), "why": ""} if math.isfinite(value) else {"value": None, "why": UNBOUNDED}
