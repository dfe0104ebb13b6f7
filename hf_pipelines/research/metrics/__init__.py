"""Numbers that judge an account or a set of predictions.

Lives here: one definition of each quantity, fractions in and out. A quantity that the data leaves undefined (no volatility,
one class only) is NaN and the docstring says when; input that makes no sense raises. Not here: tables and curves
(`backtest/result.py`), tests against luck (`overfitting`).
"""

from hf_pipelines.research.metrics.account import (
    ANNUAL_SESSIONS,
    annual_return,
    annual_volatility,
    drawdown,
    hit_rate,
    max_drawdown,
    profit_factor,
    returns_of,
    sharpe_ratio,
    total_return,
    turnover,
)
from hf_pipelines.research.metrics.predictions import (
    class_codes,
    classification_metrics,
    confusion_matrix,
    log_loss,
    quantile_loss,
    regression_metrics,
)
from hf_pipelines.research.metrics.ranks import (
    coefficient_summary,
    information_coefficient,
    mean_information_coefficient,
)

__all__ = [
    "ANNUAL_SESSIONS",
    "annual_return",
    "annual_volatility",
    "class_codes",
    "classification_metrics",
    "coefficient_summary",
    "confusion_matrix",
    "drawdown",
    "hit_rate",
    "information_coefficient",
    "log_loss",
    "max_drawdown",
    "mean_information_coefficient",
    "profit_factor",
    "quantile_loss",
    "regression_metrics",
    "returns_of",
    "sharpe_ratio",
    "total_return",
    "turnover",
]
