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
    brier_score,
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
from hf_pipelines.research.metrics.relative import (
    alpha,
    beta,
    down_capture,
    information_ratio,
    up_capture,
)
from hf_pipelines.research.metrics.sharpe_error import (
    sharpe_interval,
    sharpe_standard_error,
)
from hf_pipelines.research.metrics.tails import (
    average_loss,
    average_win,
    cornish_fisher_expected_shortfall,
    cornish_fisher_value_at_risk,
    expectancy,
    expected_shortfall,
    kurtosis,
    omega_ratio,
    payoff_ratio,
    skewness,
    sortino_ratio,
    tail_ratio,
    value_at_risk,
)
from hf_pipelines.research.metrics.underwater import (
    calmar_ratio,
    longest_drawdown,
    recovery_of_max_drawdown,
    time_under_water,
    ulcer_index,
)

__all__ = [
    "ANNUAL_SESSIONS",
    "alpha",
    "annual_return",
    "annual_volatility",
    "average_loss",
    "average_win",
    "beta",
    "calmar_ratio",
    "brier_score",
    "class_codes",
    "classification_metrics",
    "coefficient_summary",
    "confusion_matrix",
    "cornish_fisher_expected_shortfall",
    "cornish_fisher_value_at_risk",
    "down_capture",
    "drawdown",
    "expectancy",
    "expected_shortfall",
    "hit_rate",
    "information_coefficient",
    "information_ratio",
    "kurtosis",
    "log_loss",
    "longest_drawdown",
    "max_drawdown",
    "mean_information_coefficient",
    "omega_ratio",
    "payoff_ratio",
    "profit_factor",
    "quantile_loss",
    "recovery_of_max_drawdown",
    "regression_metrics",
    "returns_of",
    "sharpe_interval",
    "sharpe_ratio",
    "sharpe_standard_error",
    "skewness",
    "sortino_ratio",
    "tail_ratio",
    "time_under_water",
    "total_return",
    "turnover",
    "ulcer_index",
    "up_capture",
    "value_at_risk",
]
