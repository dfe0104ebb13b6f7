"""The assets of a strategy, one module each, in flow order.

Lives here: which inputs each asset reads, the one research function it calls, its checks and what it shows. Does not
live here: maths (`research`), the YAML (`strategy`), storage (`resources`).
"""

from hf_pipelines.components.stage import Stage
from hf_pipelines.components.strategy_stages.backtest import backtest
from hf_pipelines.components.strategy_stages.cv_results import cv_results
from hf_pipelines.components.strategy_stages.fitted_model import fitted_model
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.components.strategy_stages.signals import SIGNALS_SCHEMA_VERSION, issue_kind, signals
from hf_pipelines.components.strategy_stages.track_record import track_record
from hf_pipelines.components.strategy_stages.training_matrix import training_matrix

__all__ = ["RETRAINED", "SIGNALS_SCHEMA_VERSION", "StrategyPlan", "build_stages", "issue_kind"]

# What the weekly retrain job makes, in order.
RETRAINED = ("training_matrix", "cv_results", "fitted_model", "backtest")


def build_stages(plan: StrategyPlan) -> list[Stage]:
    """Every asset of a strategy, in flow order."""
    return [
        training_matrix(plan),
        cv_results(plan),
        fitted_model(plan),
        backtest(plan),
        signals(plan),
        track_record(plan),
    ]
